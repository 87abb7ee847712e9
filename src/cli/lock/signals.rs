//! Signals by number and name, and those that this process is sent.

use std::io;

use futures::{StreamExt, stream, stream::SelectAll};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::DrainSignal;

/// What is caught while a command is waited for, and passed on.
const CAUGHT: [Signal; 6] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::TERM,
    Signal::USR1,
    Signal::USR2,
];

type Arrivals = std::pin::Pin<Box<dyn futures::Stream<Item = Signal> + Send>>;

/// The signals that arrive.
pub(super) struct Signals(SelectAll<Arrivals>);

impl Signals {
    /// From now on. What whoever started this process wants ignored (nohup, a shell's background) stays
    /// ignored, by the command too.
    pub(super) fn catch() -> io::Result<Self> {
        let ignored = ignored();
        let mut all = SelectAll::new();
        for number in CAUGHT {
            if ignored & bit(number) != 0 {
                continue;
            }
            let arrivals = signal(SignalKind::from_raw(number.as_raw()))?;
            let arrivals = stream::unfold(arrivals, move |mut arrivals| async move {
                arrivals.recv().await.map(|()| (number, arrivals))
            });
            all.push(arrivals.boxed());
        }
        Ok(Self(all))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.next().await {
            Some(signal) => signal,
            // All are ignored.
            None => std::future::pending().await,
        }
    }
}

/// The signals that this process was started to ignore, as bits, where the system tells.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn bit(signal: Signal) -> u64 {
    u32::try_from(signal.as_raw() - 1)
        .ok()
        .and_then(|shift| 1_u64.checked_shl(shift))
        .unwrap_or(0)
}

/// The signals that a command can be told by.
const NAMES: [(&str, Signal); 8] = [
    ("TERM", Signal::TERM),
    ("INT", Signal::INT),
    ("HUP", Signal::HUP),
    ("QUIT", Signal::QUIT),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("ALRM", Signal::ALARM),
    ("KILL", Signal::KILL),
];

/// A drain signal of the arguments: a name, with or without SIG.
pub(super) fn drain_signal(text: &str) -> Result<DrainSignal, String> {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if name == "NONE" {
        return Ok(DrainSignal(None));
    }
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, signal)| DrainSignal(Some(*signal)))
        .ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("it is one of {}, none", names.join(", "))
        })
}

/// A signal's name, for people.
pub(super) fn name(signal: Signal) -> String {
    let known = NAMES.iter().find(|(_, known)| *known == signal);
    known.map_or_else(
        || format!("signal {}", signal.as_raw()),
        |(name, _)| format!("SIG{name}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_signal_is_named_as_kill_names_it() {
        for text in ["TERM", "SIGTERM", "term"] {
            let DrainSignal(signal) = drain_signal(text).unwrap();
            assert_eq!(signal, Some(Signal::TERM));
        }
        assert!(drain_signal("none").unwrap().0.is_none());
        let Err(refused) = drain_signal("STOP") else {
            panic!("accepted");
        };
        assert!(refused.contains("TERM, INT"), "{refused}");
    }
}
