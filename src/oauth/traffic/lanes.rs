//! All lanes of a process, and the way of one attempt through them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Admission, Asking, Effect, Instant, Lane, Limit, Uid, Wait, Why};
use crate::{
    api::{RateLimit, RateLimitScope},
    clock::Moment,
};

/// Beyond so many lanes, those of no use are dropped.
const FEW: usize = 64;

/// Where requests go, and what the provider says of their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The client: the namespace of the provider object that names it, empty for the whole cluster, and its identifier.
    pub client: String,
    /// The host and port of the token endpoint.
    pub host: String,
    /// The limit that the provider states.
    pub limit: Option<RateLimit>,
}

/// What a lane is for: a client at a host, or one credential of it.
type Key = (String, String, Option<Uid>);

/// All lanes of a process.
#[derive(Debug, Default)]
pub struct Lanes {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lanes: HashMap<Key, Lane>,
    /// Who waits, and what it was told.
    told: HashMap<Uid, Told>,
    /// How many lanes may be there before those of no use are looked for.
    sweep_at: usize,
}

#[derive(Debug)]
struct Told {
    until: Instant,
    /// What the request would be; another one may go elsewhere.
    about: String,
    key: Key,
}

/// The way of one attempt: through the lane of its credential, where the provider limits each authorization, and
/// the lane of its client. What it holds there is given back when it is dropped.
#[derive(Debug)]
pub struct Turn {
    lanes: Arc<Lanes>,
    asking: Asking,
    /// What it would request.
    about: String,
    client: (Key, Option<Limit>),
    own: Option<(Key, Limit)>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It may not send, as far as it knows; where it has asked, until when.
    Waits(Option<Instant>),
    /// It may send.
    Granted,
    /// It has sent its last request at this time.
    Sent(Instant),
}

fn now() -> Instant {
    Moment::now().boot()
}

impl Lanes {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of one attempt; `about` tells its request from others of the same credential.
    #[must_use]
    pub fn turn(self: &Arc<Self>, asking: Asking, place: Place, about: String) -> Turn {
        let key = (place.client, place.host, None);
        let limit = place.limit;
        let of = |scope| limit.filter(|limit| limit.scope == scope).map(Limit::from);
        let own = of(RateLimitScope::Authorization).map(|limit| {
            let uid = Some(Uid::clone(&asking.uid));
            ((key.0.clone(), key.1.clone(), uid), limit)
        });
        Turn {
            lanes: Arc::clone(self),
            client: (key, of(RateLimitScope::Client)),
            own,
            asking,
            about,
            state: Mutex::new(State::Waits(None)),
        }
    }

    /// How long `uid` still waits for what it was told, where it would ask for the same. Costs nothing where
    /// nobody waits.
    #[must_use]
    pub fn waits(&self, uid: &str, about: impl FnOnce() -> String) -> Option<Duration> {
        let told_about = {
            let inner = self.inner();
            let told = inner.told.get(uid)?;
            let left = told.until.checked_sub(now()).filter(|l| !l.is_zero())?;
            (left, told.about.clone())
        };
        let (left, told) = told_about;
        (told == about()).then_some(left)
    }

    /// Whether `uid` was told to wait and has not had its turn since.
    #[must_use]
    pub fn is_waiting(&self, uid: &str) -> bool {
        self.inner().told.contains_key(uid)
    }

    /// `uid` has nothing to send any more.
    pub fn leave(&self, uid: &str) {
        let mut inner = self.inner();
        if let Some((uid, told)) = inner.told.remove_entry(uid)
            && let Some(lane) = inner.lanes.get_mut(&told.key)
        {
            lane.leave(&uid);
        }
    }
}

impl Inner {
    fn lane(&mut self, key: &Key, now: Instant) -> &mut Lane {
        if !self.lanes.contains_key(key) && self.lanes.len() >= self.sweep_at.max(FEW) {
            self.lanes.retain(|_, lane| !lane.is_idle(now));
            self.told
                .retain(|_, told| self.lanes.contains_key(&told.key));
            self.sweep_at = self.lanes.len() * 2;
        }
        self.lanes.entry(key.clone()).or_default()
    }
}

impl Turn {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what other processes have sent within a limit that the provider states: `refreshed` says whose tokens were
    /// obtained how long ago, of this credential or of all of the client's.
    pub fn catch_up(&self, refreshed: impl Fn(RateLimitScope) -> Vec<(Uid, Duration)>) {
        let now = now();
        let mut inner = self.lanes.inner();
        let (client, limit) = &self.client;
        let own = self.own.as_ref().map(|(key, limit)| (key, *limit));
        let client = limit.map(|limit| (client, limit));
        for (key, limit) in own.into_iter().chain(client) {
            let scope = match key.2 {
                Some(_) => RateLimitScope::Authorization,
                None => RateLimitScope::Client,
            };
            inner.lane(key, now).catch_up(limit, now, || {
                let ago = |(uid, ago): (Uid, Duration)| (uid, now.saturating_sub(ago));
                refreshed(scope).into_iter().map(ago)
            });
        }
    }

    /// Asks for the right to send, or makes sure of it: a pause may have begun since it was given.
    ///
    /// # Errors
    /// For how long to wait before asking again, and why.
    pub fn take(&self) -> Result<(), (Duration, Why)> {
        let now = now();
        let mut state = self.state();
        let mut inner = self.lanes.inner();
        let uid = &self.asking.uid;
        if matches!(*state, State::Granted) {
            let mut keys = self.own.iter().map(|(key, _)| key).chain([&self.client.0]);
            if keys.all(|key| inner.lane(key, now).may_send(uid, now)) {
                return Ok(());
            }
        }
        match self.ask(&mut inner, now) {
            None => {
                *state = State::Granted;
                Ok(())
            }
            Some(wait) => {
                *state = State::Waits(Some(wait.until));
                Err((wait.until.saturating_sub(now), wait.why))
            }
        }
    }

    fn ask(&self, inner: &mut Inner, now: Instant) -> Option<Wait> {
        let uid = &self.asking.uid;
        let own = self.own.iter().map(|(key, limit)| (key, Some(*limit)));
        let lanes: Vec<_> = own.chain([(&self.client.0, self.client.1)]).collect();
        for (key, _) in &lanes {
            inner.lane(key, now).release(uid);
        }
        for (key, limit) in &lanes {
            let Admission::Wait(wait) = inner.lane(key, now).ask(&self.asking, *limit, now) else {
                continue;
            };
            for (key, _) in &lanes {
                inner.lane(key, now).release(uid);
            }
            let told = Told {
                until: wait.until,
                about: self.about.clone(),
                key: Key::clone(key),
            };
            inner.told.insert(Uid::clone(uid), told);
            return Some(wait);
        }
        inner.told.remove(uid);
        None
    }

    /// How long it waits, where it was told to.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        match *self.state() {
            State::Waits(Some(until)) => Some(until.saturating_sub(now())),
            _ => None,
        }
    }

    /// A request is sent now.
    pub fn sent(&self) {
        let now = now();
        *self.state() = State::Sent(now);
        let mut inner = self.lanes.inner();
        let uid = &self.asking.uid;
        if let Some((key, limit)) = &self.own {
            inner.lane(key, now).sent(uid, Some(*limit), now);
        }
        let (key, limit) = &self.client;
        inner.lane(key, now).sent(uid, *limit, now);
    }

    /// What came of the last request that was sent. Where the provider limits each authorization, a limit
    /// that was met concerns nobody else.
    pub fn came_to(&self, effect: Effect) {
        let State::Sent(sent) = *self.state() else {
            return;
        };
        let now = now();
        let mut inner = self.lanes.inner();
        let uid = &self.asking.uid;
        let for_all = match (&self.own, effect) {
            (Some((key, _)), Effect::Limited(_)) => {
                inner.lane(key, now).came_to(uid, sent, effect, now);
                Effect::Answered
            }
            (Some((key, _)), Effect::Answered) => {
                inner.lane(key, now).came_to(uid, sent, effect, now);
                effect
            }
            _ => effect,
        };
        let lane = inner.lane(&self.client.0, now);
        lane.came_to(uid, sent, for_all, now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if matches!(*self.state(), State::Waits(_)) {
            return;
        }
        let mut inner = self.lanes.inner();
        let keys = self.own.iter().map(|(key, _)| key).chain([&self.client.0]);
        for key in keys {
            if let Some(lane) = inner.lanes.get_mut(key) {
                lane.release(&self.asking.uid);
            }
        }
    }
}
