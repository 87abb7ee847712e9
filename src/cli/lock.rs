//! `tokenward lock`: acquire, run a command, release.

mod child;
mod delivery;
mod inner;
mod signals;

use std::{ffi::OsString, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rustix::process::Signal;

use self::{
    child::Child,
    signals::{Signals, drain_signal},
};
pub(super) use self::{
    delivery::Delivery,
    inner::{INNER, InnerArguments, inner},
};
use super::{
    complain,
    connect::Connect,
    credential,
    exit::{self, SIGNALLED},
    timeout,
};
use crate::{
    clock,
    lock::protocol::Mode,
    manager::{AcquireOptions, CredentialManager, Credentials, Error, Hold},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward lock alice -- ./sync.sh                  finds the token in $TOKENWARD_ACCESS_TOKEN
  tokenward lock alice --token-env GH_TOKEN -- gh api user
  tokenward lock alice --token-fd 3 -- sh -c 'my-program --token-file /dev/fd/3'
  tokenward lock alice --timeout 10s --when-closed proceed -- ./urgent.sh

The exit code is the command's, or 128+N where signal N ended it. 75: not acquired within --timeout.
76: the credential was lost, and the command was killed. See tokenward --help for all of them.";

/// How long is waited for the release of the hold. One that is not released ends by itself.
const RELEASE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Arguments {
    /// The IntegrationCredential.
    #[arg(value_name = "NAME", value_parser = credential)]
    name: String,

    /// How long to wait for the credential.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = timeout)]
    timeout: Duration,

    /// Fail where the credential's mode is another one.
    #[arg(long, value_enum)]
    mode: Option<ModeArgument>,

    /// What to do when the gate stays closed for the time of --timeout: fail, or run the command with the
    /// token as it is, which may be replaced under it.
    #[arg(long, value_enum, default_value_t = WhenClosed::Wait)]
    when_closed: WhenClosed,

    /// The variable that holds the token for the command; by default TOKENWARD_ACCESS_TOKEN, for an API key
    /// TOKENWARD_API_KEY, for a password TOKENWARD_PASSWORD.
    #[arg(long, value_name = "NAME", value_parser = delivery::variable)]
    token_env: Option<String>,

    /// Hand over the token on this file descriptor of the command instead (3 or more): the token, and
    /// nothing after it.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "token_env",
        value_parser = clap::value_parser!(i32).range(3..1024)
    )]
    token_fd: Option<i32>,

    /// The signal that tells the command that a refresh waits for it; none: do not tell.
    #[arg(long, default_value = "TERM", value_name = "SIGNAL", value_parser = drain_signal)]
    drain_signal: DrainSignal,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArgument {
    /// Any number of programs hold it at a time.
    Shared,
    /// One does.
    Exclusive,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WhenClosed {
    /// Fail with exit code 75.
    Wait,
    /// Run the command unprotected.
    Proceed,
}

/// The signal that is sent when a refresh waits; `None`: none is.
#[derive(Clone, Copy)]
struct DrainSignal(Option<Signal>);

impl Arguments {
    fn options(&self) -> AcquireOptions {
        AcquireOptions {
            timeout: self.timeout,
            mode: self.mode.map(|mode| match mode {
                ModeArgument::Shared => Mode::Shared,
                ModeArgument::Exclusive => Mode::Exclusive,
            }),
            ..AcquireOptions::default()
        }
    }
}

pub(super) async fn run(connect: Connect, arguments: Arguments, delivery: Delivery) -> Result<u8> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let manager = connect.manager().await?;
    let place = format!("{}/{}", manager.namespace(), arguments.name);
    let options = arguments.options();
    let acquired = tokio::select! {
        acquired = manager.acquire_with(&arguments.name, &options) => acquired,
        signal = signals.next() => {
            // Whatever was on its way to be held.
            release(&manager, &mut signals).await;
            return Ok(ended_by(signal));
        }
    };
    let result = match acquired {
        Ok(hold) => held(&place, &arguments, delivery, hold, &mut signals).await,
        Err(Error::Timeout {
            closed: true, hint, ..
        }) if arguments.when_closed == WhenClosed::Proceed => {
            unprotected(&manager, &arguments, delivery, &hint, &mut signals).await
        }
        Err(error) => Err(error.into()),
    };
    release(&manager, &mut signals).await;
    result
}

/// Runs the command under the hold.
async fn held(
    place: &str,
    arguments: &Arguments,
    delivery: Delivery,
    hold: Hold,
    signals: &mut Signals,
) -> Result<u8> {
    // The last look at the hold before the token leaves this process.
    let mut child = match start(arguments, delivery, hold.credentials().await?) {
        Ok(child) => child,
        Err(refused) => return Ok(refused),
    };
    let mut told = false;
    let code = loop {
        tokio::select! {
            biased;
            code = child.ended() => break code?,
            () = hold.lost() => {
                child.kill().await;
                complain(&format!(
                    "{place} was lost, and the command was killed: the hold could not be renewed in time, or a refresh could not wait any longer"
                ));
                return Ok(exit::LOST);
            }
            () = hold.draining(), if !told => {
                told = true;
                if let DrainSignal(Some(signal)) = arguments.drain_signal {
                    child.send(signal);
                    complain(&format!(
                        "a refresh of {place} waits: the command was sent {}",
                        signals::name(signal)
                    ));
                }
            }
            signal = signals.next() => child.forward(signal),
        }
    };
    child.leave(hold.lost()).await;
    if tokio::time::timeout(RELEASE_WITHIN, hold.release())
        .await
        .is_err()
    {
        complain(&format!(
            "{place} could not be released; it is free when the hold times out"
        ));
    }
    Ok(code)
}

/// Runs the command without a hold: nobody could give one.
async fn unprotected(
    manager: &CredentialManager,
    arguments: &Arguments,
    delivery: Delivery,
    hint: &str,
    signals: &mut Signals,
) -> Result<u8> {
    let name = &arguments.name;
    let place = format!("{}/{name}", manager.namespace());
    let token = manager.current(name).await?;
    let is_valid = |token: &Credentials| token.is_valid_for(Duration::ZERO, clock::now());
    let Some(token) = token.filter(is_valid) else {
        anyhow::bail!("{place}: not acquired, and there is no valid token to go on with; {hint}");
    };
    complain(&format!(
        "WARNING: {place} was not acquired; going on UNPROTECTED, as --when-closed=proceed says: the token may be replaced at any time; {hint}"
    ));
    let mut child = match start(arguments, delivery, &token) {
        Ok(child) => child,
        Err(refused) => return Ok(refused),
    };
    let code = loop {
        tokio::select! {
            biased;
            code = child.ended() => break code?,
            signal = signals.next() => child.forward(signal),
        }
    };
    child.leave(std::future::pending()).await;
    Ok(code)
}

/// Starts the command; what cannot be started is told, and is the exit code.
fn start(arguments: &Arguments, delivery: Delivery, token: &Credentials) -> Result<Child, u8> {
    let mut command = child::command(&arguments.command);
    let started = delivery
        .equip(&mut command, token)
        .and_then(|()| Child::start(command));
    match started {
        Ok(child) => {
            delivery.send(token);
            Ok(child)
        }
        Err(error) => Err(inner::refused(arguments.command.first(), &error)),
    }
}

/// Lets go of what is held or wanted. A signal ends the waiting.
async fn release(manager: &CredentialManager, signals: &mut Signals) {
    tokio::select! {
        () = manager.release_all_locks() => {}
        _ = signals.next() => {}
    }
}

fn ended_by(signal: Signal) -> u8 {
    SIGNALLED.saturating_add(u8::try_from(signal.as_raw()).unwrap_or_default())
}
