//! Those who wait, in the order in which they need their turn.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{Instant, Uid};

/// Nobody is ordered by an expiry that is further away, so that nobody is overtaken for longer.
const FURTHEST: Duration = Duration::from_secs(3600);
/// Who does not ask again so long after it should have has gone elsewhere.
const LATE: Duration = Duration::from_secs(60);

/// The key of the order: when it is needed, then who came first.
type Key = (Instant, u64);

#[derive(Debug)]
struct Waiter {
    key: Key,
    /// Its turn, as it was told last.
    turn: Instant,
    /// When it was told to ask again.
    back: Instant,
}

/// The queue of one lane.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeSet<Key>,
    waiters: HashMap<Uid, Waiter>,
    arrivals: u64,
    /// When those who do not come any more were taken out last.
    pruned: Instant,
}

impl Queue {
    /// Gives `uid` a place, or keeps the one that it has. Who comes later never goes before somebody whose
    /// token has expired already, however long ago its own did: so nobody is overtaken for ever.
    pub(super) fn enter(&mut self, uid: &Uid, needed_by: Instant, by_person: bool, now: Instant) {
        let wanted = if by_person {
            Instant::ZERO
        } else {
            needed_by.clamp(now, now + FURTHEST)
        };
        let arrival = self.arrivals;
        let waiter = self.waiters.entry(Uid::clone(uid)).or_insert_with(|| {
            self.arrivals += 1;
            self.order.insert((wanted, arrival));
            Waiter {
                key: (wanted, arrival),
                turn: Instant::MAX,
                back: now,
            }
        });
        if wanted < waiter.key.0 {
            self.order.remove(&waiter.key);
            waiter.key.0 = wanted;
            self.order.insert(waiter.key);
        }
    }

    /// How many are before `uid`.
    pub(super) fn rank(&self, uid: &Uid) -> usize {
        let key = self.waiters.get(uid).map(|waiter| waiter.key);
        key.map_or(self.order.len(), |key| self.order.range(..key).count())
    }

    /// Whether `uid` was told to come now.
    pub(super) fn is_due(&self, uid: &Uid, now: Instant) -> bool {
        self.waiters.get(uid).is_some_and(|w| w.turn <= now)
    }

    /// Notes what `uid` is told.
    pub(super) fn tell(&mut self, uid: &Uid, turn: Instant, back: Instant) {
        if let Some(waiter) = self.waiters.get_mut(uid) {
            waiter.turn = turn;
            waiter.back = back;
        }
    }

    /// Takes `uid` out.
    pub(super) fn leave(&mut self, uid: &Uid) {
        if let Some(waiter) = self.waiters.remove(uid) {
            self.order.remove(&waiter.key);
        }
    }

    /// Takes out who does not come any more.
    pub(super) fn prune(&mut self, now: Instant) {
        const EVERY: Duration = Duration::from_secs(1);
        if now < self.pruned + EVERY {
            return;
        }
        self.pruned = now;
        let order = &mut self.order;
        self.waiters.retain(|_, waiter| {
            let stays = now <= waiter.back + LATE;
            if !stays {
                order.remove(&waiter.key);
            }
            stays
        });
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn has(&self, uid: &Uid) -> bool {
        self.waiters.contains_key(uid)
    }
}
