//! The command as a process, or as a group of processes.

use std::{ffi::OsString, fs::File, io, os::unix::process::ExitStatusExt, time::Duration};

use anyhow::{Context, Result};
use rustix::{
    process::{Pid, Signal, getpgrp, kill_process, kill_process_group, test_kill_process_group},
    termios::tcgetpgrp,
};
use tokio::{process::Command, time::sleep};

use super::{INNER, ended_by, inner};
use crate::cli::exit;

/// How long what the command has left behind may take to end, when it was told to.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// A command that was started.
pub(super) struct Child {
    process: tokio::process::Child,
    pid: Pid,
    /// Whether it has a group of its own.
    grouped: bool,
    /// What it was sent last.
    told: Option<Signal>,
}

/// The command of these words, before it is started. Where there is a terminal it stays in our process group,
/// so that it can use that; else it gets a group of its own, so that no part of it outlives the hold.
pub(super) fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(inner::program());
    command
        .arg(INNER)
        .arg(std::process::id().to_string())
        .arg("--")
        .args(words)
        .kill_on_drop(true);
    if terminal().is_none() {
        command.process_group(0);
    }
    command
}

impl Child {
    /// Starts it. On the main thread: the command dies with the thread that started it.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let process = command.spawn()?;
        let pid = process.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        Ok(Self {
            process,
            pid: pid.ok_or_else(|| io::Error::other("it has no process number"))?,
            grouped: terminal().is_none(),
            told: None,
        })
    }

    /// Waits for its end: its exit code, as shells have it.
    pub(super) async fn ended(&mut self) -> Result<u8> {
        let status = self
            .process
            .wait()
            .await
            .context("cannot wait for the command")?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        let signal = status.signal().and_then(Signal::from_named_raw);
        Ok(match (code, signal) {
            (Some(code), _) => code,
            (None, Some(signal)) => ended_by(signal),
            // A real-time signal.
            (None, None) => exit::SIGNALLED,
        })
    }

    /// Sends it a signal: itself, as a container's first process is sent one, so that a script can let what it
    /// runs come to its end.
    pub(super) fn send(&mut self, signal: Signal) {
        self.told = Some(signal);
        // It may have ended just now.
        let _ = kill_process(self.pid, signal);
    }

    /// Sends a signal to all of it.
    fn send_all(&self, signal: Signal) {
        let _ = if self.grouped {
            kill_process_group(self.pid, signal)
        } else {
            kill_process(self.pid, signal)
        };
    }

    /// Passes on a signal that we were sent. What the keyboard sends, it sends to the whole foreground group,
    /// and many programs take the second Ctrl-C for impatience.
    pub(super) fn forward(&mut self, signal: Signal) {
        let of_keyboard = signal == Signal::INT || signal == Signal::QUIT;
        if !(of_keyboard && !self.grouped && is_foreground()) {
            self.send(signal);
        }
    }

    /// Kills it, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.send_all(Signal::KILL);
        let _ = self.process.wait().await;
    }

    /// After its end: ends what it has left behind in its group. Where it was told to end, that is told the
    /// same, and may take a moment, but not once the token is `lost`.
    pub(super) async fn leave(&self, lost: impl Future<Output = ()>) {
        const AGAIN: Duration = Duration::from_millis(50);
        if !self.grouped {
            return;
        }
        if let Some(signal) = self.told {
            self.send_all(signal);
            let gone = async {
                while test_kill_process_group(self.pid).is_ok() {
                    sleep(AGAIN).await;
                }
            };
            tokio::select! {
                () = gone => return,
                () = sleep(LEFT_BEHIND) => {}
                () = lost => {}
            }
        }
        self.send_all(Signal::KILL);
    }
}

/// The terminal that controls this process.
fn terminal() -> Option<File> {
    File::open("/dev/tty").ok()
}

fn is_foreground() -> bool {
    terminal().is_some_and(|terminal| tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp()))
}
