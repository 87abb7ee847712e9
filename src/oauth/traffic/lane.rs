//! One client at one host: who goes, who waits, and what answers mean for the others.

use std::{collections::HashMap, time::Duration};

use super::{
    Admission, Asking, Effect, Instant, Limit, Uid, Wait, Why, breaker::Breaker, pace::Pace,
    queue::Queue, window::Window,
};

/// How often a person's request goes in spite of a pause or an open breaker.
const BY_PERSON: Duration = Duration::from_secs(5);
/// How soon it is asked again where things may get better faster than it looks.
const SOON: Duration = Duration::from_secs(30);
/// How soon otherwise.
const LATER: Duration = Duration::from_secs(300);
/// While a probe is under way.
const PROBING: Duration = Duration::from_secs(2);
/// Between two who come after the breaker has been open, where they are few.
const AFTER_OUTAGE: Duration = Duration::from_millis(50);
/// For how long a place within a stated limit is kept for who was let go and does not send: holders of the credential may
/// be waited for, and others could send meanwhile.
const KEPT: Duration = Duration::from_secs(15);
/// A lane in which nothing has happened for so long is of no use.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// One lane. All times are readings of one clock and do not go back.
#[derive(Debug, Default)]
pub struct Lane {
    window: Window,
    pace: Pace,
    breaker: Breaker,
    queue: Queue,
    /// Who may send and has not sent yet.
    under_way: HashMap<Uid, LetGo>,
    /// When somebody was let go last.
    last: Option<Instant>,
    /// When the last request of each that counts was sent, by whatever process.
    counted: HashMap<Uid, Instant>,
    /// When it was last looked what others have sent.
    caught_up: Option<Instant>,
    /// When a person's request went in spite of everything.
    overridden: Option<Instant>,
}

/// Somebody who may send.
#[derive(Debug)]
struct LetGo {
    at: Instant,
    /// When somebody was let go before it.
    after: Option<Instant>,
    /// Whether in spite of a pause or an open breaker.
    in_spite: bool,
}

impl Lane {
    /// Whether `asking` may send now, where the provider states `limit`. Who must wait keeps a place, also
    /// when it asks before it was told to.
    pub fn ask(&mut self, asking: &Asking, limit: Option<Limit>, now: Instant) -> Admission {
        let uid = &asking.uid;
        if self.under_way.contains_key(uid) {
            return Admission::Go;
        }
        if let Some(limit) = limit {
            self.window.prune(limit, now);
            let late = self
                .under_way
                .iter()
                .filter(|(_, let_go)| now >= let_go.at + KEPT);
            let late: Vec<Uid> = late.map(|(uid, _)| Uid::clone(uid)).collect();
            for uid in late {
                self.release(&uid);
            }
        }
        self.queue.prune(now);
        if self.queue.len() == 0 {
            self.pace.settle(now);
            if limit.is_none() && self.pace.is_free() && !self.breaker.is_open() {
                return self.go(asking, false, now);
            }
        }
        let is_due = self.queue.is_due(uid, now);
        let waits = self.queue.has(uid);
        self.queue
            .enter(uid, asking.needed_by, asking.by_person, now);
        let rank = if is_due { 0 } else { self.queue.rank(uid) };
        if asking.by_person && self.goes_in_spite(uid, limit, now) {
            self.overridden = Some(now);
            return self.go(asking, true, now);
        }
        if let Some(until) = self.breaker.closed_to(uid, now) {
            return self.wait_for_probe(uid, rank, until, now);
        }
        let pause = self.pace.pause(now);
        let spacing = self.pace.spacing();
        let even = limit.filter(|_| waits || self.queue.len() > 1);
        let gap = spacing.max(even.map(Limit::gap)).unwrap_or_default();
        let after_last = self.last.map(|last| last + gap).unwrap_or_default();
        let start = pause.unwrap_or(now);
        let from = start.max(after_last);
        let turn = match limit {
            Some(limit) => {
                let under_way = self.under_way.len();
                let mut slots = self.window.slots(limit, under_way, from, gap);
                slots.nth(rank).unwrap_or(Instant::MAX)
            }
            None => {
                let rank = u32::try_from(rank).unwrap_or(u32::MAX);
                from.saturating_add(gap.saturating_mul(rank))
            }
        };
        if turn <= now {
            return self.go(asking, false, now);
        }
        let (why, longest) = if pause.is_some() || spacing.is_some() {
            (Why::RateLimited, SOON)
        } else {
            (Why::Budget, LATER)
        };
        let until = turn.min(start + longest);
        self.queue.tell(uid, turn, until);
        Admission::Wait(Wait { until, why })
    }

    /// Whether a person's request goes although nobody else may. A stated limit stands.
    fn goes_in_spite(&self, uid: &Uid, limit: Option<Limit>, now: Instant) -> bool {
        let is_held = self.pace.pause(now).is_some() || self.breaker.closed_to(uid, now).is_some();
        let recently = self.overridden.is_some_and(|at| now < at + BY_PERSON);
        let within = limit.is_none_or(|limit| {
            let under_way = self.under_way.len();
            let mut slots = self.window.slots(limit, under_way, now, Duration::ZERO);
            slots.next().is_some_and(|at| at <= now)
        });
        is_held && !recently && within
    }

    fn wait_for_probe(
        &mut self,
        uid: &Uid,
        rank: usize,
        until: Instant,
        now: Instant,
    ) -> Admission {
        let waiting = u32::try_from(self.queue.len()).unwrap_or(u32::MAX).max(1);
        let gap = AFTER_OUTAGE.min(SOON / waiting);
        let rank = u32::try_from(rank).unwrap_or(u32::MAX);
        let until = if self.breaker.is_probed() {
            until.min(now + PROBING)
        } else {
            until
        };
        let until = until + gap.saturating_mul(rank).min(SOON);
        self.queue.tell(uid, until, until);
        Admission::Wait(Wait {
            until,
            why: Why::CircuitOpen,
        })
    }

    fn go(&mut self, asking: &Asking, in_spite: bool, now: Instant) -> Admission {
        let uid = &asking.uid;
        self.queue.leave(uid);
        self.breaker.enters(uid, now);
        let let_go = LetGo {
            at: now,
            after: self.last.replace(now),
            in_spite,
        };
        self.under_way.insert(Uid::clone(uid), let_go);
        Admission::Go
    }

    /// Whether `uid`, which was let go and has not sent yet, still may: a pause may have begun meanwhile.
    #[must_use]
    pub fn may_send(&self, uid: &Uid, now: Instant) -> bool {
        match self.under_way.get(uid) {
            None => false,
            Some(let_go) => {
                let is_held =
                    self.pace.pause(now).is_some() || self.breaker.closed_to(uid, now).is_some();
                let_go.in_spite || !is_held
            }
        }
    }

    /// `uid` sends a request now. One that it was not let go for, with another secret of its client, counts too.
    pub fn sent(&mut self, uid: &Uid, limit: Option<Limit>, now: Instant) {
        self.under_way.remove(uid);
        if let Some(limit) = limit {
            self.window.note(limit, now);
            self.counted.insert(Uid::clone(uid), now);
        }
    }

    /// Counts what other processes have sent, this one before it was restarted among them, as far as tokens tell: `refreshed`
    /// says whose were obtained when. Looked at once in a while only.
    pub fn catch_up<I>(&mut self, limit: Limit, now: Instant, refreshed: impl FnOnce() -> I)
    where
        I: IntoIterator<Item = (Uid, Instant)>,
    {
        const EVERY: Duration = Duration::from_secs(1);
        /// What is told of a time may be rounded down.
        const EXACT: Duration = Duration::from_secs(2);
        if self.caught_up.is_some_and(|at| now < at + EVERY) {
            return;
        }
        self.caught_up = Some(now);
        for (uid, at) in refreshed() {
            let is_known = self
                .counted
                .get(&uid)
                .is_some_and(|counted| at <= *counted + EXACT);
            if !is_known && now < at + limit.per {
                self.window.note(limit, at);
                self.counted.insert(uid, at);
            }
        }
        self.counted.retain(|_, at| now < *at + limit.per);
    }

    /// What came of a request that `uid` sent at `sent`.
    pub fn came_to(&mut self, uid: &Uid, sent: Instant, effect: Effect, now: Instant) {
        match effect {
            Effect::Answered => {
                self.pace.answered(sent);
                self.breaker.answered();
            }
            Effect::Limited(retry_after) => {
                self.pace.limited(sent, now, retry_after);
                self.breaker.answered();
            }
            Effect::Failing => self.breaker.failed(uid, sent, now),
        }
    }

    /// `uid` does not send what it was let go for, or has done with it.
    pub fn release(&mut self, uid: &Uid) {
        if let Some(let_go) = self.under_way.remove(uid)
            && self.last == Some(let_go.at)
        {
            self.last = let_go.after;
        }
        self.breaker.leaves(uid);
    }

    /// `uid` waits no longer.
    pub fn leave(&mut self, uid: &Uid) {
        self.queue.leave(uid);
    }

    /// Whether nothing is lost with it.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        let nobody = self.queue.len() == 0 && self.under_way.is_empty();
        let free = self.window.is_empty() && self.pace.is_free() && self.breaker.is_free();
        let old = self.last.is_none_or(|last| last + FORGOTTEN <= now);
        nobody && (free || (old && self.pace.pause(now).is_none()))
    }
}
