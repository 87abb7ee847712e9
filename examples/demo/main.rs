//! `make demo`: two credentials with tokens that live 20 seconds, a client that uses them all the time,
//! and what the operator does about it, as it happens.

#[path = "../../tests/cluster/client.rs"]
mod cluster;
mod current;
#[path = "../oauth-server/server.rs"]
mod oauth_server;
mod operator;
mod output;
mod place;
#[path = "../../tests/cluster/processes.rs"]
#[allow(
    dead_code,
    reason = "written for the control plane, which uses all of it"
)]
mod processes;
mod stage;
#[path = "../../tests/cluster/stop.rs"]
mod stop;
mod summary;
mod usage;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Parser, ValueEnum};
use tokio::time::timeout;

use self::current::Current;
use self::output::Output;
use self::place::{Place, Wanted};
use self::stage::Stage;
use self::stop::{Stop, StopReason};
use self::watch::{Until, Watch};

/// How long the tokens live.
const LIFETIME: Duration = Duration::from_secs(20);

/// How often each credential is refreshed before the demo ends.
const REFRESHES: u64 = 3;

/// From the control plane being there to the last refresh. It needs a third of that.
const DEADLINE: Duration = Duration::from_secs(120);

/// Shows the operator at work: a control plane, an OAuth server, and two credentials with tokens that
/// live 20 seconds.
#[derive(Debug, Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Stay up until Ctrl-C, to try things.
    #[arg(long)]
    keep: bool,

    /// Use this cluster instead of a control plane of the demo's own, after asking.
    #[arg(long, value_enum)]
    cluster: Option<Which>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    /// The one of the current kubectl context.
    Current,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new();
    play(&arguments, output).unwrap_or_else(|error| {
        output.error(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn play(arguments: &Arguments, output: Output) -> Result<ExitCode> {
    output.title("tokenward: tokens that live 20 seconds, refreshed before they expire");
    // Asked before anything runs: here Ctrl-C simply ends the program.
    let wanted = match arguments.cluster {
        Some(Which::Current) => match Current::ask(output)? {
            Some(current) => Wanted::Current(current),
            None => return Ok(ExitCode::FAILURE),
        },
        None => Wanted::Rig,
    };
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow!("there is a TLS provider already"))?;
    // One thread, the main one: see `processes::guarded`.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let result = runtime.block_on(run(arguments, wanted, output));
    // A thread may still be waiting for a control plane to start, for minutes the first time. The
    // control plane stops when this process ends.
    runtime.shutdown_background();
    result
}

/// Whatever ends the play, what was started is stopped in order.
async fn run(arguments: &Arguments, wanted: Wanted, output: Output) -> Result<ExitCode> {
    let mut stop = Stop::listen(false)?;
    let place = tokio::select! {
        reason = stop.wait() => return Ok(interrupted(reason, output)),
        place = Place::open(wanted, output) => place?,
    };
    let mut stage = Stage::new(place, LIFETIME).await?;
    let result = tokio::select! {
        reason = stop.wait() => Ok(interrupted(reason, output)),
        result = perform(arguments, &mut stage, output) => result,
    };
    let result = result.or_else(|error| {
        output.error(&format!("{error:#}"));
        if stage.operator.is_some() {
            output.say(&format!("The operator's log: {}", stage.keep_log()));
        }
        Ok(ExitCode::FAILURE)
    });
    tokio::select! {
        _ = stop.wait() => bail!("stopped before everything was removed: {}", stage.left_behind()),
        cleared = stage.clear(output) => cleared?,
    }
    result
}

async fn perform(arguments: &Arguments, stage: &mut Stage, output: Output) -> Result<ExitCode> {
    let shown = timeout(DEADLINE, async {
        stage.set(output).await?;
        let mut watch = Watch::start(stage, output)?;
        watch.run(stage, Until::Refreshed(REFRESHES)).await?;
        anyhow::Ok(watch)
    });
    let mut watch = match shown.await {
        Ok(watch) => watch?,
        Err(_) => {
            let late = format!(
                "each credential should have been refreshed {REFRESHES} times within {} s",
                DEADLINE.as_secs()
            );
            bail!("{late}\n{}", stage.state_of_things().await);
        }
    };
    let good = summary::show(&watch, stage, REFRESHES, output);
    if arguments.keep {
        output.say(&summary::things_to_try(stage));
        watch.run(stage, Until::Stopped).await?;
    }
    if !good {
        bail!(
            "not every call was accepted, or a refresh token was presented twice\n{}",
            stage.state_of_things().await
        );
    }
    output.say(&summary::next(stage));
    Ok(ExitCode::SUCCESS)
}

fn interrupted(reason: StopReason, output: Output) -> ExitCode {
    output.say(&format!("\nstopped by {reason}"));
    ExitCode::from(reason.status())
}
