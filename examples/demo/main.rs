//! `make demo`: two credentials with tokens that live 20 seconds, a client that uses them all the time,
//! and what the operator does about it, as it happens.

#[path = "../../tests/cluster/client.rs"]
mod cluster;
#[path = "../oauth-server/server.rs"]
mod oauth_server;
mod output;
mod stage;
mod usage;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;

use self::{
    output::{Output, table},
    stage::{CREDENTIALS, Stage},
    usage::{Usage, use_token},
};

/// How long the tokens live.
const LIFETIME: Duration = Duration::from_secs(20);

/// How often each credential is refreshed before the demo ends.
const REFRESHES: u64 = 3;

/// When something must be wrong.
const DEADLINE: Duration = Duration::from_secs(120);

/// Shows the operator at work on a real control plane.
#[derive(Parser)]
struct Arguments {
    /// Stay up until Ctrl-C, to try things.
    #[arg(long)]
    keep: bool,

    /// Use the cluster of the current kubectl context, after asking.
    #[arg(long, value_enum)]
    cluster: Option<Which>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// The current kubectl context.
    Current,
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let arguments = Arguments::parse();
    let output = Output::new();
    let result = tokio::select! {
        result = run(&arguments, &output) => result,
        _ = tokio::signal::ctrl_c() => {
            output.say("\nstopped");
            return ExitCode::from(130);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output.failed(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Sets the stage, watches, and sums up. Whether every call was accepted.
async fn run(arguments: &Arguments, output: &Output) -> Result<bool> {
    let current = arguments.cluster == Some(Which::Current);
    let Some(stage) = Stage::set(current, LIFETIME, output).await? else {
        return Ok(false);
    };
    let mut operator = stage.operator(output).await?;
    output.step("A client calls the resource with the token from each Secret, four times a second");
    output.say(&format!(
        "      tokens live {} s; {REFRESHES} refreshes of each are shown, then it ends\n",
        LIFETIME.as_secs()
    ));
    let start = Instant::now();
    let trouble = tokio::select! {
        usages = watch(&stage, output, start) => Ok(usages?),
        () = tokio::time::sleep(DEADLINE) => Err(format!(
            "not {REFRESHES} refreshes of each within {} s", DEADLINE.as_secs()
        )),
        ended = operator.ended() => Err(format!("the operator ended ({ended})")),
    };
    let usages = match trouble {
        Ok(usages) => usages,
        Err(what) => bail!("{what}; its last words:\n{}", operator.last_words()),
    };
    output.say("");
    output.say(&stage.kubectl(&["get", "integrationcredentials"]).await?);
    let good = sum_up(&stage, output, &usages);
    if arguments.keep {
        output.say(&stage.things_to_try(&operator.log));
        output.say("\nIt stays up; Ctrl-C stops it.");
        std::future::pending::<()>().await;
    } else if !current {
        output.say("\nThis control plane is gone now. To have one that stays and try things: make demo KEEP=1");
    }
    stage.clear().await?;
    Ok(good)
}

async fn watch(stage: &Stage, output: &Output, start: Instant) -> Result<Vec<Usage>> {
    let uses = CREDENTIALS.map(|name| use_token(stage, output, name, REFRESHES, start));
    let table = async {
        let mut ticks = tokio::time::interval(Duration::from_secs(10));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if let Ok(columns) = stage.kubectl(&["get", "integrationcredentials"]).await {
                output.say(&table(&columns));
            }
        }
    };
    tokio::select! {
        usages = try_join_all(uses) => usages.context("a client could not go on"),
        () = table => bail!("unreachable: the table is shown for ever"),
    }
}

fn sum_up(stage: &Stage, output: &Output, usages: &[Usage]) -> bool {
    for usage in usages {
        output.say(&format!(
            "{:8} {} refreshes, {} calls, {} refused; never less than {:.0} s left on the token",
            usage.name,
            usage.refreshes,
            usage.calls,
            usage.refused,
            usage.least_left.as_secs_f64()
        ));
    }
    let presented = stage.oauth.max_presentations();
    let redeemed = if presented == 1 {
        "once".to_owned()
    } else {
        format!("up to {presented} times")
    };
    output.say(&format!(
        "each refresh token was presented {redeemed}, as the OAuth server saw it"
    ));
    let good = presented == 1 && usages.iter().all(|usage| usage.refused == 0);
    if good {
        output.good("every call was accepted");
    } else {
        output.failed("a call was refused, or a refresh token was presented twice");
    }
    good
}
