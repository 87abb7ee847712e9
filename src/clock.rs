//! Time as a value: read here, passed to everything that decides.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use crate::lock::protocol::Elapsed;

/// A point in time on two clocks: the wall clock, which people and expiry times use, and one that
/// never jumps and goes on while the machine is suspended.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    boot: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        Self {
            boot: boottime(),
            wall: Timestamp::now(),
        }
    }

    /// The reading of the clock that never jumps, since an arbitrary beginning.
    #[must_use]
    pub fn boot(self) -> Duration {
        self.boot
    }

    /// What has passed since `earlier`, on both clocks.
    #[must_use]
    pub fn since(self, earlier: Self) -> Elapsed {
        let wall = self.wall.duration_since(earlier.wall);
        Elapsed {
            boot: self.boot.saturating_sub(earlier.boot),
            wall: Duration::try_from(wall).unwrap_or_default(),
        }
    }

    /// How long ago `earlier` was, for judging **one's own** right to act: the longer of what the two
    /// clocks say, because a machine that was paused or restored must not take its lease for valid.
    #[must_use]
    pub fn own_elapsed(self, earlier: Self) -> Duration {
        self.since(earlier).of_mine()
    }

    /// How long ago `earlier` was, for judging **others**: only the clock that never jumps, so that
    /// a wall clock set forward expires nobody's lease.
    #[must_use]
    pub fn elapsed(self, earlier: Self) -> Duration {
        self.since(earlier).of_others()
    }
}

/// The time of day, for schedules and expiries: it goes on steadily whatever happens to the wall clock. One
/// that is set back changes nothing, or tokens would be refreshed late. One that is set forward counts as
/// time that passed, because a machine that was paused looks the same: tokens are refreshed early then.
#[must_use]
pub fn now() -> Timestamp {
    static ANCHOR: Mutex<Option<Moment>> = Mutex::new(None);
    let now = Moment::now();
    let mut anchor = ANCHOR.lock().unwrap_or_else(PoisonError::into_inner);
    let since = *anchor.get_or_insert(now);
    let (time, moved) = steady(since, now);
    if moved {
        *anchor = Some(now);
    }
    time
}

/// The steady time at `now`, where it was `anchor.wall` at `anchor`, and whether the wall clock is ahead.
fn steady(anchor: Moment, now: Moment) -> (Timestamp, bool) {
    if now.since(anchor).may_hide_a_pause() {
        return (now.wall, true);
    }
    let steady = anchor.wall.checked_add(now.elapsed(anchor));
    (steady.unwrap_or(now.wall), false)
}

/// `CLOCK_BOOTTIME`: monotonic, and it counts suspended time.
#[cfg(target_os = "linux")]
fn boottime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// Elsewhere (a developer's machine): the monotonic clock.
#[cfg(not(target_os = "linux"))]
fn boottime() -> Duration {
    use std::{sync::LazyLock, time::Instant};
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_ends_ones_own_right_but_expires_nobody_else() {
        let start = Moment::now();
        let day = Duration::from_secs(86_400);
        let forward = Moment {
            boot: start.boot + Duration::from_secs(1),
            wall: start.wall + day,
        };
        assert_eq!(forward.own_elapsed(start), day);
        assert_eq!(forward.elapsed(start), Duration::from_secs(1));

        let back = Moment {
            wall: start.wall - day,
            ..forward
        };
        assert_eq!(back.own_elapsed(start), Duration::from_secs(1));
    }

    #[test]
    fn the_time_of_day_never_goes_back_and_never_stands_still() {
        let second = Duration::from_secs(1);
        let start = Moment::now();
        let later = |boot: u32, wall: i64| Moment {
            boot: start.boot + second * boot,
            wall: start.wall + jiff::SignedDuration::from_secs(wall),
        };
        let of = |now: Moment| {
            let (time, moved) = steady(start, now);
            (time.duration_since(start.wall).as_secs(), moved)
        };
        assert_eq!(of(later(10, 10)), (10, false));
        // Set back by a day.
        assert_eq!(of(later(10, 10 - 86_400)), (10, false));
        // Set forward by a day, or paused for one.
        assert_eq!(of(later(10, 10 + 86_400)), (86_410, true));
    }
}
