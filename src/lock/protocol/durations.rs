//! How long everything may take: published on the gate, so that all go by the same numbers.

use std::time::Duration;

use super::observed_expiry;

/// How long the steps behind a gate, and holds, may take. Published on the gate, so that a successor
/// counts with the durations of the writer it succeeds, and a consumer with those of the gate it passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Durations {
    /// How long a writer's lease lasts without renewal.
    pub writer_lease: Duration,
    /// How long one exchange may take in all.
    pub exchange: Duration,
    /// How long it may take to store what the exchange gave.
    pub persist: Duration,
    /// How long a hold lasts without renewal.
    pub hold: Duration,
    /// How long a holder renews on after it has seen that the gate is closed.
    pub drain_grace: Duration,
}

impl Durations {
    /// What people may set for holds, at most and by default.
    pub const DEFAULT_HOLD: Duration = Duration::from_secs(60);
    /// The default for [`Self::drain_grace`].
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

    /// The durations for a token of `lifetime` (unknown before the first one), with at most
    /// `exchange` for the exchange. They shrink with the lifetime, so that a crash is overcome before
    /// a short token expires; what a Lease records is rounded up to whole seconds.
    #[must_use]
    pub fn scaled(lifetime: Option<Duration>, exchange: Duration) -> Self {
        const HOLD: (f64, f64) = (5.0, 60.0);
        let hold = lifetime.map_or(HOLD.1, |l| (l.as_secs_f64() / 10.0).clamp(HOLD.0, HOLD.1));
        let scaled = |seconds: u64| Duration::from_secs(seconds).mul_f64(hold / HOLD.1);
        Self {
            writer_lease: whole_seconds(scaled(30)),
            exchange: scaled(60).min(exchange),
            persist: scaled(30),
            hold: whole_seconds(scaled(60)),
            drain_grace: whole_seconds(scaled(30)),
        }
    }

    /// With what people set for holds. The token's lifetime still bounds both, or a stuck holder would
    /// keep its refresh waiting beyond its expiry: a hold lasts at most a tenth of it, a grace half of that.
    #[must_use]
    pub fn with_holds(
        self,
        hold: Option<Duration>,
        drain_grace: Option<Duration>,
        lifetime: Option<Duration>,
    ) -> Self {
        let whole = |set: Option<Duration>, scaled: Duration, longest: Option<Duration>| {
            let longest = longest.map_or(scaled, |longest| longest.max(scaled));
            let at_most = |set| whole_seconds(set).min(whole_seconds(longest));
            set.map_or(scaled, at_most).max(Duration::from_secs(1))
        };
        Self {
            hold: whole(hold, self.hold, lifetime.map(|l| l / 10)),
            drain_grace: whole(drain_grace, self.drain_grace, lifetime.map(|l| l / 20)),
            ..self
        }
    }

    /// How much longer than the lease a successor waits before it takes over a gate behind which an
    /// exchange may be under way.
    #[must_use]
    pub fn takeover_delay(&self) -> Duration {
        // A tenth more, by division: 1.1 is no number that a float holds.
        let longest = self.exchange + self.persist;
        whole_seconds(longest + longest / 10)
    }

    /// How long a holder that follows the rules can last after a gate was closed: until its next
    /// renewal it may not know, then its grace runs, then its hold.
    #[must_use]
    pub fn longest_drain(&self) -> Duration {
        self.hold / 3 + self.drain_grace + observed_expiry(self.hold)
    }

    /// The lifetime that a token needs so that a crash, of a writer in an exchange or of a holder, is
    /// overcome before the token expires: about twice the longest takeover and hold.
    #[must_use]
    pub fn needed_lifetime(&self) -> Duration {
        let crash = observed_expiry(self.writer_lease + self.hold) + self.takeover_delay();
        crash * 2
    }
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn durations_shrink_with_the_lifetime_and_never_vanish() {
        let short = Durations::scaled(Some(Duration::from_secs(20)), MINUTE);
        assert_eq!(short.writer_lease, Duration::from_secs(3));
        assert_eq!(short.exchange, Duration::from_secs(5));
        assert_eq!(short.persist, Duration::from_millis(2500));
        assert_eq!(short.hold, Duration::from_secs(5));
        assert_eq!(short.drain_grace, Duration::from_secs(3));
        assert_eq!(short.takeover_delay(), Duration::from_secs(9));
        let tiny = Durations::scaled(Some(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(
            tiny,
            Durations {
                exchange: Duration::from_secs(1),
                ..short
            }
        );
        let unknown = Durations::scaled(None, MINUTE);
        assert_eq!(
            unknown,
            Durations::scaled(Some(Duration::from_secs(3600)), MINUTE)
        );
        assert_eq!(unknown.hold, Durations::DEFAULT_HOLD);
        assert_eq!(unknown.drain_grace, Durations::DEFAULT_GRACE);
    }

    #[test]
    fn what_people_set_for_holds_shortens_them_and_never_beyond_reason() {
        let scaled = Durations::scaled(None, MINUTE);
        let short = (Some(Duration::from_secs(20)), Some(Duration::from_secs(7)));
        let set = scaled.with_holds(short.0, short.1, None);
        assert_eq!(set.hold, Duration::from_secs(20));
        assert_eq!(set.drain_grace, Duration::from_secs(7));
        let long = Some(MINUTE * 10);
        assert_eq!(scaled.with_holds(long, long, None), scaled);
        let of_an_hour = scaled.with_holds(long, long, Some(MINUTE * 60));
        assert_eq!(of_an_hour.hold, MINUTE * 6);
        assert_eq!(of_an_hour.drain_grace, MINUTE * 3);
        let none = scaled.with_holds(Some(Duration::ZERO), None, None);
        assert_eq!(none.hold, Duration::from_secs(1));
        assert_eq!(scaled.with_holds(None, None, None), scaled);
    }
}
