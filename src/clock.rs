//! Time as a value: read here, passed to everything that decides.

use std::time::Duration;

use jiff::Timestamp;

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

    /// How long ago `earlier` was, for judging **one's own** right to act: the longer of what the two
    /// clocks say, because a machine that was paused or restored must not take its lease for valid.
    #[must_use]
    pub fn own_elapsed(self, earlier: Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall);
        let wall = Duration::try_from(wall).unwrap_or_default();
        self.elapsed(earlier).max(wall)
    }

    /// How long ago `earlier` was, for judging **others**: only the clock that never jumps, so that
    /// a wall clock set forward expires nobody's lease.
    #[must_use]
    pub fn elapsed(self, earlier: Self) -> Duration {
        self.boot.saturating_sub(earlier.boot)
    }
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
}
