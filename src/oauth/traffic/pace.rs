//! The pause that a provider asks for, and the pace after it.

use std::time::Duration;

use super::Instant;

/// After a first 429 that names no pause; doubled with each that follows.
const DEFAULT_PAUSE: Duration = Duration::from_secs(5);
/// The longest of those.
const LONGEST_DEFAULT_PAUSE: Duration = Duration::from_secs(300);
/// No pause is shorter: `Retry-After: 0` of somebody who has just refused.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The time between two requests after a pause, at first.
const SLOW: Duration = Duration::from_secs(1);
/// The longest time between two requests.
const SLOWEST: Duration = Duration::from_secs(60);
/// The shortest time between two requests while somebody waits; below it there is no pace.
const FAST: Duration = Duration::from_millis(20);

/// The pause and the pace of one lane.
#[derive(Debug, Default)]
pub(super) struct Pace {
    pause_until: Option<Instant>,
    /// When a 429 was counted last. One for a request that was sent before is the same news again.
    limited_at: Option<Instant>,
    /// How many were counted since the last success.
    strikes: u32,
    spacing: Option<Duration>,
}

impl Pace {
    /// The end of the pause, where there is one.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        self.pause_until.filter(|until| now < *until)
    }

    /// The time between two requests, where it is held to one.
    pub(super) fn spacing(&self) -> Option<Duration> {
        self.spacing
    }

    /// A request that was sent at `sent` met a limit.
    pub(super) fn limited(&mut self, sent: Instant, now: Instant, retry_after: Option<Duration>) {
        let is_news = self.limited_at.is_none_or(|at| sent > at);
        if is_news {
            self.limited_at = Some(now);
            self.strikes = self.strikes.saturating_add(1);
            let slower = self.spacing.map_or(SLOW, |spacing| spacing * 2);
            self.spacing = Some(slower.clamp(SLOW, SLOWEST));
        }
        let doubled = 1 << self.strikes.saturating_sub(1).min(10);
        let pause = retry_after
            .unwrap_or((DEFAULT_PAUSE * doubled).min(LONGEST_DEFAULT_PAUSE))
            .max(SHORTEST_PAUSE);
        self.pause_until = self.pause_until.max(Some(now + pause));
    }

    /// A request that was sent at `sent` was answered.
    pub(super) fn answered(&mut self, sent: Instant) {
        if self.limited_at.is_some_and(|at| sent <= at) {
            return;
        }
        self.strikes = 0;
        if let Some(spacing) = self.spacing {
            self.spacing = Some(spacing.mul_f64(0.95).max(FAST));
        }
    }

    /// Nobody waits: at full speed, or after a long time, the limit is forgotten.
    pub(super) fn settle(&mut self, now: Instant) {
        const LONG: Duration = Duration::from_secs(600);
        let fast = self.spacing.is_some_and(|spacing| spacing <= FAST);
        let over = self.pause_until.is_some_and(|until| until + LONG <= now);
        if fast || over {
            *self = Self::default();
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.pause_until.is_none() && self.spacing.is_none()
    }
}
