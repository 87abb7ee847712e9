//! What can happen to a call on its way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{process::Command, sync::watch};

use super::{Call, Calls};
use crate::support::wait::in_time;

/// How long a client may take to come to the call in question, with many of them on few cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The API server never sees it, and is said to have answered with this status.
    Answer(u16),
    /// The API server never sees it, and the connection breaks.
    DropBefore,
    /// The API server does what was asked, and the connection breaks.
    DropAfter,
    /// The API server sees it when it is released, even if nobody waits for the answer any more.
    HoldBefore,
    /// The API server does what was asked, and the answer is withheld until it is released.
    HoldAfter,
    /// The API server sees it this much later.
    Delay(Duration),
    /// The caller is killed, and the API server never sees the call.
    CrashBefore(Victim),
    /// The API server does what was asked, and the caller is killed before it knows.
    CrashAfter(Victim),
}

impl Fault {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::DropBefore => "drop before",
            Self::DropAfter => "drop after",
            Self::HoldBefore => "hold before",
            Self::HoldAfter => "hold after",
            Self::Delay(_) => "delay",
            Self::CrashBefore(_) => "crash before",
            Self::CrashAfter(_) => "crash after",
        }
    }
}

/// A process that is to die in the middle of a call. It is named after it was started, because its
/// very first call may be the one.
#[derive(Clone, Debug)]
pub struct Victim(Arc<watch::Sender<Option<u32>>>);

impl Default for Victim {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Victim {
    /// Names it. It must not have been waited for, so that its number is nobody else's.
    pub fn is(&self, pid: u32) {
        self.0.send_replace(Some(pid));
    }

    /// SIGKILL, as soon as it is known whom.
    pub(super) async fn kill(&self) {
        let mut pid = self.0.subscribe();
        // The sender is `self`.
        let Ok(pid) = pid.wait_for(Option::is_some).await.map(|pid| *pid) else {
            return;
        };
        let pid = pid.unwrap_or_default().to_string();
        let killed = Command::new("kill").args(["-s", "KILL", &pid]).status();
        assert!(killed.await.unwrap().success(), "no process {pid} to kill");
    }
}

/// A fault and the calls that meet it.
#[derive(Debug)]
pub(super) struct Rule {
    calls: Calls,
    pub(super) fault: Fault,
    seen: AtomicUsize,
    hits: watch::Sender<usize>,
    over: watch::Sender<usize>,
    released: watch::Sender<bool>,
    removed: AtomicBool,
}

impl Rule {
    pub(super) fn new(calls: Calls, fault: Fault) -> Self {
        Self {
            calls,
            fault,
            seen: AtomicUsize::new(0),
            hits: watch::Sender::new(0),
            over: watch::Sender::new(0),
            released: watch::Sender::new(false),
            removed: AtomicBool::new(false),
        }
    }

    /// Whether this call meets the fault; if so, it is counted.
    pub(super) fn meets(&self, call: &Call) -> bool {
        if self.removed.load(Ordering::SeqCst) || !self.calls.include(call) {
            return false;
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        let hits = *self.hits.borrow();
        let meets = seen >= self.calls.skip && self.calls.at_most.is_none_or(|most| hits < most);
        if meets {
            self.hits.send_modify(|hits| *hits += 1);
        }
        meets
    }

    /// Notes that the fault has had its whole effect on one call.
    pub(super) fn finish(&self) {
        self.over.send_modify(|over| *over += 1);
    }

    pub(super) async fn released(&self) {
        // The sender is `self`.
        let _ = self
            .released
            .subscribe()
            .wait_for(|released| *released)
            .await;
    }
}

/// A fault that lies in wait.
#[derive(Debug)]
pub struct Injected(pub(super) Arc<Rule>);

impl Injected {
    /// How many calls have met it.
    pub fn hits(&self) -> usize {
        *self.0.hits.borrow()
    }

    /// Waits until so many calls have met it.
    pub async fn met(&self, times: usize) {
        reached(&self.0.hits, times, &format!("met {times} times"), &self.0).await;
    }

    /// Waits until it has had its whole effect on so many calls: what was held has been done.
    pub async fn over(&self, times: usize) {
        reached(&self.0.over, times, &format!("over {times} times"), &self.0).await;
    }

    /// Lets go of what is held, and holds nothing any more.
    pub fn release(&self) {
        self.remove();
        self.0.released.send_replace(true);
    }

    /// No other call meets it. What is held stays so.
    pub fn remove(&self) {
        self.0.removed.store(true, Ordering::SeqCst);
    }
}

async fn reached(count: &watch::Sender<usize>, wanted: usize, what: &str, rule: &Rule) {
    let mut count = count.subscribe();
    let reached = count.wait_for(|&seen| seen >= wanted);
    let what = format!("{} of {:?} {what}", rule.fault.name(), rule.calls);
    let _ = in_time(PATIENCE, &what, reached).await;
}
