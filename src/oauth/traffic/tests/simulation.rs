//! Many credentials and a provider, in time that only the test passes.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet},
    time::Duration,
};

use super::super::{Admission, Asking, Effect, Instant, Lane, Limit, Uid};

/// A credential of this name.
pub fn of(name: &str, needed_by: Instant) -> Asking {
    Asking {
        uid: Uid::from(name),
        needed_by,
        by_person: false,
    }
}

/// The most that happened in any window of this length.
pub fn most_in(sent: &[Instant], per: Duration) -> usize {
    let begin = |(last, at): (usize, &Instant)| {
        let first = sent[..=last].partition_point(|earlier| *earlier + per <= *at);
        last + 1 - first
    };
    sent.iter().enumerate().map(begin).max().unwrap_or(0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Asks,
    Hears { sent: Instant },
}

type Answers = Box<dyn FnMut(Instant, usize) -> Effect>;

/// Credentials that all want one token each, and try until they have it.
pub struct Simulation {
    lane: Lane,
    limit: Option<Limit>,
    events: BinaryHeap<Reverse<(Instant, Event, usize)>>,
    failures: Vec<u32>,
    /// What the provider answers to a request that was sent then, by whom.
    pub answers: Answers,
    /// How long an answer takes.
    pub latency: Duration,
    /// When requests were sent.
    pub sent: Vec<Instant>,
    /// Who has a token.
    pub served: HashSet<usize>,
}

impl Simulation {
    /// All of them ask within a second and a half.
    pub fn new(credentials: usize, limit: Option<Limit>) -> Self {
        let asks = |who: usize| {
            let after = Duration::from_micros(1500 * u64::try_from(who).unwrap());
            Reverse((Duration::from_secs(1) + after, Event::Asks, who))
        };
        Self {
            lane: Lane::default(),
            limit,
            events: (0..credentials).map(asks).collect(),
            failures: vec![0; credentials],
            answers: Box::new(|_, _| Effect::Answered),
            latency: Duration::from_millis(80),
            sent: Vec::new(),
            served: HashSet::new(),
        }
    }

    /// Until everybody is served, or this time has come.
    pub fn run(&mut self, end: Instant) {
        while let Some(Reverse((now, event, who))) = self.events.pop()
            && now < end
        {
            let uid = Uid::from(who.to_string());
            match event {
                Event::Asks => {
                    let asking = of(&uid, Duration::from_secs(300));
                    match self.lane.ask(&asking, self.limit, now) {
                        Admission::Go => {
                            self.lane.sent(&uid, self.limit, now);
                            self.sent.push(now);
                            let at = now + self.latency;
                            self.events
                                .push(Reverse((at, Event::Hears { sent: now }, who)));
                        }
                        Admission::Wait(wait) => {
                            assert!(wait.until > now, "told to ask at once");
                            // Timers are not exact.
                            let late = Duration::from_micros(u64::try_from(who % 7).unwrap() * 300);
                            self.events
                                .push(Reverse((wait.until + late, Event::Asks, who)));
                        }
                    }
                }
                Event::Hears { sent } => {
                    let effect = (self.answers)(sent, who);
                    self.lane.came_to(&uid, sent, effect, now);
                    self.lane.release(&uid);
                    // Its own retries, as any failed credential has them.
                    self.failures[who] += 1;
                    let own = Duration::from_secs(1 << self.failures[who].min(6));
                    match effect {
                        Effect::Answered => {
                            self.served.insert(who);
                        }
                        Effect::Limited(pause) => {
                            let pause = pause.unwrap_or_default().max(own);
                            self.events.push(Reverse((now + pause, Event::Asks, who)));
                        }
                        Effect::Failing => {
                            self.events.push(Reverse((now + own, Event::Asks, who)));
                        }
                    }
                }
            }
        }
    }
}
