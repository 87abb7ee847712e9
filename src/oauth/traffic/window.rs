//! So many requests in so much time: a log of what was sent.

use std::{collections::VecDeque, time::Duration};

use super::Instant;
use crate::api::RateLimit;

/// A limit that a provider states, with a safety share taken off: other programs of the same client and
/// the next secret of a client ask too, and requests do not arrive as evenly as they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The requests that are sent at most, 9 of 10 that are allowed, and at least one.
    pub requests: u32,
    /// In any window of this length.
    pub per: Duration,
}

impl From<RateLimit> for Limit {
    fn from(stated: RateLimit) -> Self {
        let share = u64::from(stated.requests) * 9 / 10;
        Self {
            requests: u32::try_from(share).unwrap_or(u32::MAX).max(1),
            per: Duration::from(stated.per).max(Duration::from_secs(1)),
        }
    }
}

impl Limit {
    /// The time between two requests that use the limit up evenly.
    #[must_use]
    pub fn gap(self) -> Duration {
        self.per / self.requests
    }
}

/// Requests that were sent close to each other; they leave the window together, with the last of them.
#[derive(Clone, Copy, Debug)]
struct Mark {
    first: Instant,
    last: Instant,
    count: u32,
}

/// What was sent in the last window, of a large limit in at most some hundred marks.
#[derive(Debug, Default)]
pub(super) struct Window {
    sent: VecDeque<Mark>,
}

impl Window {
    /// Counts a request.
    pub(super) fn note(&mut self, limit: Limit, at: Instant) {
        let grain = limit.per / 512;
        match self.sent.back_mut() {
            Some(mark) if limit.requests > 512 && mark.first <= at && at < mark.first + grain => {
                mark.last = mark.last.max(at);
                mark.count += 1;
            }
            _ => {
                // In order also where it is learned of late.
                let place = self.sent.partition_point(|mark| mark.last <= at);
                let mark = Mark {
                    first: at,
                    last: at,
                    count: 1,
                };
                self.sent.insert(place, mark);
            }
        }
    }

    /// Forgets what has left the window.
    pub(super) fn prune(&mut self, limit: Limit, now: Instant) {
        while self.sent.front().is_some_and(|m| m.last + limit.per <= now) {
            self.sent.pop_front();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// When each of the next requests may be sent, the soonest first, none before `from` and each `gap` after the
    /// one before, where `under_way` more may be sent at any time. Without end.
    pub(super) fn slots(
        &self,
        limit: Limit,
        under_way: usize,
        from: Instant,
        gap: Duration,
    ) -> impl Iterator<Item = Instant> {
        let requests = usize::try_from(limit.requests).unwrap_or(usize::MAX);
        // When each of those that count now, and then each of those that will be sent, leaves the window.
        let mut leaving: VecDeque<(Instant, usize)> = self
            .sent
            .iter()
            .map(|m| (m.last + limit.per, m.count as usize))
            .collect();
        leaving.push_back((from + limit.per, under_way));
        let mut occupied: usize = leaving.iter().map(|(_, count)| count).sum();
        let mut next = from;
        std::iter::from_fn(move || {
            let mut at = next;
            while occupied >= requests
                && let Some((left, count)) = leaving.pop_front()
            {
                occupied -= count;
                at = at.max(left);
            }
            occupied += 1;
            leaving.push_back((at + limit.per, 1));
            next = at + gap;
            Some(at)
        })
    }
}
