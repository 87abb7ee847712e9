//! What ends the supervisor.

use std::fmt;
use std::io;
use std::thread;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// Why it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StopReason {
    Interrupt,
    Terminate,
    HangUp,
    Quit,
    StdinClosed,
}

impl StopReason {
    /// The exit status that shells give to a program that such a signal ended.
    pub(crate) const fn status(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
            Self::HangUp => 129,
            Self::Quit => 131,
            Self::StdinClosed => 1,
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Quit => "SIGQUIT",
            Self::StdinClosed => "the end of stdin",
        })
    }
}

/// Listens for all of them.
pub(crate) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    quit: Signal,
    stdin: Option<oneshot::Receiver<()>>,
}

impl Stop {
    /// From here on these signals do not end the program any more; [`Stop::wait`] has to.
    pub(crate) fn listen(stdin: bool) -> Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
            quit: on(SignalKind::quit())?,
            stdin: stdin.then(end_of_stdin),
        })
    }

    /// Waits for the first of them.
    pub(crate) async fn wait(&mut self) -> StopReason {
        let stdin = async {
            match &mut self.stdin {
                Some(end) => {
                    let _ = end.await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => StopReason::Interrupt,
            _ = self.terminate.recv() => StopReason::Terminate,
            _ = self.hang_up.recv() => StopReason::HangUp,
            _ = self.quit.recv() => StopReason::Quit,
            () = stdin => StopReason::StdinClosed,
        }
    }
}

/// On a thread of its own, which the end of the program ends: the runtime's own stdin would keep
/// the program from ending until a line arrives.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        // An error is an end as well.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}
