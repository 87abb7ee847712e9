//! The circuit breaker: while a provider answers nobody, one at a time finds out whether it does again.

use std::time::Duration;

use super::{Instant, Uid};

/// After so many failures in a row, of at least two credentials, it opens. One credential alone is paced
/// by its own retries.
const FAILURES: u32 = 5;
/// For how long, at first; doubled each time that a probe fails.
const SHORTEST: Duration = Duration::from_secs(5);
/// For how long at most.
const LONGEST: Duration = Duration::from_secs(60);
/// A probe that has come to nothing by then, because it waits for holders, is followed by another.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// The breaker of one lane.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    /// Who failed first, and whether somebody else did too.
    first: Option<Uid>,
    several: bool,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    until: Instant,
    doubled: u32,
    probe: Option<(Uid, Instant)>,
}

impl Breaker {
    /// Until when nobody else may send; `None`: `uid` may.
    pub(super) fn closed_to(&self, uid: &Uid, now: Instant) -> Option<Instant> {
        let open = self.open.as_ref()?;
        match &open.probe {
            _ if now < open.until => Some(open.until),
            Some((other, since)) if other != uid && now < *since + PROBE_PATIENCE => {
                Some(*since + PROBE_PATIENCE)
            }
            _ => None,
        }
    }

    /// `uid` is about to send.
    pub(super) fn enters(&mut self, uid: &Uid, now: Instant) {
        if let Some(open) = &mut self.open {
            open.probe = Some((Uid::clone(uid), now));
        }
    }

    /// `uid` sends nothing any more.
    pub(super) fn leaves(&mut self, uid: &Uid) {
        if let Some(open) = &mut self.open
            && open.probe.as_ref().is_some_and(|(probe, _)| probe == uid)
        {
            open.probe = None;
        }
    }

    /// Whether somebody is finding out.
    pub(super) fn is_probed(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.probe.is_some())
    }

    /// A request of `uid` that was sent at `sent` failed.
    pub(super) fn failed(&mut self, uid: &Uid, sent: Instant, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let first = self.first.get_or_insert_with(|| Uid::clone(uid));
        self.several |= first != uid;
        let doubled = match &self.open {
            // It was under way when the breaker opened.
            Some(open) if sent <= open.since => return,
            Some(open) => open.doubled.saturating_add(1),
            None if self.failures >= FAILURES && self.several => 0,
            None => return,
        };
        let pause = SHORTEST * (1 << doubled.min(4));
        self.open = Some(Open {
            since: now,
            until: now + pause.min(LONGEST),
            doubled,
            probe: None,
        });
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn is_free(&self) -> bool {
        self.failures == 0
    }
}
