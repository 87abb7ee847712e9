//! Whose work comes next: so much at a time, each kind in the order in which it came, and what somebody waits for
//! before what is merely due.
//!
//! The queue of the `kube` crate takes any that is ready: of many, some would wait until all others are done.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    iter::Sum,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// How much is worked on at a time.
pub const AT_A_TIME: u16 = 64;

/// How much of one kind, while the other kind waits too.
const SHARE: u16 = 48;

/// What kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody waits for it.
    Urgent,
    /// It is time for it, and there is time for it.
    Due,
}

/// Whose turn it is.
pub struct Queue<K> {
    state: Arc<Mutex<State<K>>>,
}

struct State<K> {
    /// How much is worked on, of each kind.
    working: [u16; 2],
    /// Who waits, of each kind, by ticket.
    waiting: [BTreeMap<u64, K>; 2],
    places: HashMap<K, Place>,
    next_ticket: u64,
    calls: UnboundedSender<K>,
}

#[derive(Clone, Copy)]
enum Place {
    Waiting(Kind, u64),
    /// It was called, and a place is kept for it.
    Called(Kind),
}

/// The right to work, for as long as it lives.
pub struct Turn<K: Hash + Eq + Clone> {
    kind: Kind,
    state: Arc<Mutex<State<K>>>,
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Who waits because somebody waits for it.
    pub urgent: usize,
    /// Who waits and is merely due.
    pub due: usize,
    /// Who is worked on.
    pub under_way: usize,
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, load| Self {
            urgent: sum.urgent + load.urgent,
            due: sum.due + load.due,
            under_way: sum.under_way + load.under_way,
        })
    }
}

impl<K: Hash + Eq + Clone> Queue<K> {
    /// An empty one, and where it tells whom it calls: each is to come again, for its turn.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<K>) {
        let (calls, called) = unbounded_channel();
        let state = State {
            working: [0; 2],
            waiting: [BTreeMap::new(), BTreeMap::new()],
            places: HashMap::new(),
            next_ticket: 0,
            calls,
        };
        let state = Arc::new(Mutex::new(state));
        (Self { state }, called)
    }

    /// The turn of `key`; `None`: it waits now, at the place that it had already, and is called.
    #[must_use]
    pub fn take(&self, key: &K, kind: Kind) -> Option<Turn<K>> {
        let mut state = lock(&self.state);
        match state.places.get(key).copied() {
            Some(Place::Called(called)) => {
                state.places.remove(key);
                return Some(self.turn(called));
            }
            Some(Place::Waiting(Kind::Due, ticket)) if kind == Kind::Urgent => {
                state.waiting[Kind::Due as usize].remove(&ticket);
                state.wait(key, kind);
                state.call();
                return None;
            }
            Some(Place::Waiting(..)) => return None,
            None => {}
        }
        if state.waiting[kind as usize].is_empty() && state.has_room(kind) {
            state.working[kind as usize] += 1;
            return Some(self.turn(kind));
        }
        state.wait(key, kind);
        None
    }

    /// The turn of `key`, if it was called. Who does not use it lets the next have it.
    #[must_use]
    pub fn called(&self, key: &K) -> Option<Turn<K>> {
        let mut state = lock(&self.state);
        let Some(Place::Called(kind)) = state.places.get(key).copied() else {
            return None;
        };
        state.places.remove(key);
        Some(self.turn(kind))
    }

    /// It has no work any more.
    pub fn leave(&self, key: &K) {
        let mut state = lock(&self.state);
        match state.places.remove(key) {
            Some(Place::Waiting(kind, ticket)) => {
                state.waiting[kind as usize].remove(&ticket);
            }
            Some(Place::Called(kind)) => state.done(kind),
            None => {}
        }
    }

    /// Tells how much there is to do, as often as it is asked.
    pub fn load(&self) -> impl Fn() -> Load + use<K> {
        let state = Arc::clone(&self.state);
        move || {
            let state = lock(&state);
            let [urgent, due] = [Kind::Urgent, Kind::Due].map(|k| state.waiting[k as usize].len());
            Load {
                urgent,
                due,
                under_way: state.working.iter().copied().map(usize::from).sum(),
            }
        }
    }

    fn turn(&self, kind: Kind) -> Turn<K> {
        Turn {
            kind,
            state: Arc::clone(&self.state),
        }
    }
}

impl<K: Hash + Eq + Clone> State<K> {
    fn has_room(&self, kind: Kind) -> bool {
        let has_share = self.working[kind as usize] < SHARE;
        let takes_all = kind == Kind::Urgent && self.waiting[Kind::Due as usize].is_empty();
        self.working.iter().sum::<u16>() < AT_A_TIME && (has_share || takes_all)
    }

    fn wait(&mut self, key: &K, kind: Kind) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting[kind as usize].insert(ticket, key.clone());
        self.places
            .insert(key.clone(), Place::Waiting(kind, ticket));
    }

    fn done(&mut self, kind: Kind) {
        self.working[kind as usize] -= 1;
        self.call();
    }

    fn call(&mut self) {
        for kind in [Kind::Urgent, Kind::Due] {
            while self.has_room(kind)
                && let Some((_, key)) = self.waiting[kind as usize].pop_first()
            {
                self.working[kind as usize] += 1;
                self.places.insert(key.clone(), Place::Called(kind));
                // Nobody listens any more when the process ends.
                let _ = self.calls.send(key);
            }
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Turn<K> {
    fn drop(&mut self) {
        lock(&self.state).done(self.kind);
    }
}

/// It is never left half changed, so a panic elsewhere does not make it unusable.
fn lock<K>(state: &Mutex<State<K>>) -> MutexGuard<'_, State<K>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Queue<usize>;

    const ALL: usize = AT_A_TIME as usize;
    const DUE: usize = SHARE as usize;

    fn fill(queue: &Numbers, keys: std::ops::Range<usize>, kind: Kind) -> Vec<Turn<usize>> {
        keys.map_while(|key| queue.take(&key, kind)).collect()
    }

    fn all(calls: &mut UnboundedReceiver<usize>) -> Vec<usize> {
        std::iter::from_fn(|| calls.try_recv().ok()).collect()
    }

    #[test]
    fn who_came_first_is_called_first() {
        let (queue, mut calls) = Numbers::new();
        let mut turns = fill(&queue, 0..200, Kind::Urgent);
        assert_eq!(turns.len(), ALL);
        for key in [300, 100, 200] {
            assert!(queue.take(&key, Kind::Urgent).is_none());
        }
        // The one that did not get in came before them, and asking twice changes no place.
        assert!(queue.take(&100, Kind::Urgent).is_none());
        turns.truncate(ALL - 3);
        assert_eq!(all(&mut calls), [ALL, 300, 100]);
        assert!(queue.take(&200, Kind::Urgent).is_none());
        let turn = queue.take(&100, Kind::Urgent).unwrap();
        assert!(queue.called(&200).is_none());
        drop(turn);
        assert_eq!(all(&mut calls), [200]);
        assert!(queue.called(&200).is_some());
    }

    #[test]
    fn what_is_due_leaves_room_for_what_somebody_waits_for() {
        let (queue, mut calls) = Numbers::new();
        let mut due = fill(&queue, 0..200, Kind::Due);
        assert_eq!(due.len(), DUE);
        assert!(queue.take(&500, Kind::Due).is_none());
        let urgent = queue.take(&1000, Kind::Urgent);
        assert!(urgent.is_some());
        let load = Load {
            urgent: 0,
            due: 2,
            under_way: DUE + 1,
        };
        assert_eq!(queue.load()(), load);
        // A place that was kept for an urgent one is not given to others.
        due.pop();
        assert_eq!(all(&mut calls), [DUE]);
    }

    #[test]
    fn what_somebody_waits_for_keeps_what_is_due_from_nothing() {
        let (queue, mut calls) = Numbers::new();
        let mut urgent = fill(&queue, 0..200, Kind::Urgent);
        assert!(queue.take(&1000, Kind::Due).is_none());
        for key in 300..400 {
            assert!(queue.take(&key, Kind::Urgent).is_none());
        }
        // While something waits that is due, no more than their share: the next turn is not one of theirs.
        urgent.pop();
        assert_eq!(all(&mut calls), [1000]);
        assert!(queue.called(&1000).is_some());
    }

    #[test]
    fn what_becomes_urgent_goes_ahead_of_what_is_due() {
        let (queue, mut calls) = Numbers::new();
        let mut due = fill(&queue, 0..200, Kind::Due);
        let rest = fill(&queue, 1000..1000 + ALL - DUE, Kind::Urgent);
        assert!(queue.take(&500, Kind::Due).is_none());
        assert!(queue.take(&500, Kind::Urgent).is_none());
        assert!(all(&mut calls).is_empty());
        due.pop();
        assert_eq!(all(&mut calls), [500]);
        drop(rest);
    }

    #[test]
    fn who_leaves_or_does_not_use_a_turn_holds_up_nobody() {
        let (queue, mut calls) = Numbers::new();
        let mut turns = fill(&queue, 0..ALL, Kind::Urgent);
        for key in [500, 501, 502, 503] {
            assert!(queue.take(&key, Kind::Urgent).is_none());
        }
        queue.leave(&500);
        turns.pop();
        assert_eq!(all(&mut calls), [501]);
        queue.leave(&501);
        assert_eq!(all(&mut calls), [502]);
        drop(queue.called(&502));
        assert_eq!(all(&mut calls), [503]);
        queue.leave(&503);
        drop(turns);
        let state = lock(&queue.state);
        assert_eq!(state.working, [0; 2]);
        assert!(state.places.is_empty());
    }
}
