//! The lock as state machines: what a [`Writer`] (the operator) and a [`Consumer`] (a program that uses
//! a token) ask of the API server, and what they conclude from its answers. No client, no clock, nothing
//! asynchronous: answers and the time that passed come in as values, requests and decisions go out. The
//! same machines run in production and under the model checker (`tests/lock_model`).
//!
//! The rules, of which each is needed:
//!
//! 1. The gate is Open, Draining or Refreshing, and its writer renews it while it holds it.
//! 2. A hold belongs to nobody but its holder; else only the operator deletes it, after it has timed it
//!    out, and only in the version that it timed.
//! 3. A writer closes the gate first and looks for holds after; a consumer creates its hold first and
//!    looks at the gate after.
//! 4. A holder whose own deadline has passed has lost its hold for good, whatever answer arrives later.
//! 5. A request for a refresh (a want) is an object of its own, never a hold.
//! 6. Who takes over from a writer that may have been in the middle of an exchange marks that exchange
//!    as unresolved, and drains; the mark stays until the outcome is settled.
//! 7. A missing gate beside a credential that has had one counts as Refreshing by an unknown attempt.
//! 8. The grant is written by compare-and-swap before the target; neither ever goes backwards.
//! 9. A deadline overrides holds, never another writer's gate.

mod consumer;
mod durations;
mod gate_state;
mod outcome;
mod stopwatch;
mod writer;

use std::time::Duration;

pub use self::{
    consumer::{Consumer, ConsumerAsk, HoldIdentity, Seat, Terms},
    durations::Durations,
    gate_state::{
        Entry, GateState, Holder, Mode, Phase, Priority, UNKNOWN_ATTEMPT, Unresolved, enter,
    },
    outcome::{Merge, Rival, is_settled, merge},
    stopwatch::Stopwatches,
    writer::{Attempt, Drains, End, Writer, WriterAsk},
};

/// The bound on how much faster or slower than true time any clock involved may run.
pub const CLOCK_DRIFT: f64 = 0.05;

/// How much further the wall clock may go than the clock that never jumps, before that means that the
/// machine was paused.
const PAUSE: Duration = Duration::from_secs(1);

/// A version of one object: equal versions are the same content, and nothing happened in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// Tells an object from another one of the same name.
    pub uid: String,
    /// The object's `resourceVersion`; opaque.
    pub resource_version: String,
}

/// The time that passed on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elapsed {
    /// On the clock that never jumps and goes on while the machine is suspended.
    pub boot: Duration,
    /// On the wall clock; zero where that was set back.
    pub wall: Duration,
}

impl Elapsed {
    /// For judging **others**: a wall clock that is set expires nobody's lease.
    #[must_use]
    pub fn of_others(self) -> Duration {
        self.boot
    }

    /// For judging **one's own** right to act: whichever clock went further.
    #[must_use]
    pub fn of_mine(self) -> Duration {
        self.boot.max(self.wall)
    }

    /// Whether the wall clock ran ahead: it was set, or the machine was paused while the other clock
    /// stood still, and nobody can tell which.
    #[must_use]
    pub fn may_hide_a_pause(self) -> bool {
        self.wall > self.boot + PAUSE
    }
}

/// An answer to a request, as far as it tells what happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer<T> {
    /// It was done.
    Done(T),
    /// There is no such object.
    NotFound,
    /// The object is not as the request wants it: changed, or there already.
    Conflict,
    /// Nobody knows whether it was done, or will be.
    Unclear,
}

/// A hold as an observer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenHold {
    /// The Lease's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Who has it, for people.
    pub holder: String,
    /// Its recorded duration.
    pub duration: Duration,
}

/// How long an observer waits before it takes a lease of `recorded` for dead.
#[must_use]
pub fn observed_expiry(recorded: Duration) -> Duration {
    recorded.mul_f64(1.0 + CLOCK_DRIFT)
}

/// How long the owner of a lease of `recorded` may act after it sent its last successful write.
#[must_use]
pub fn own_validity(recorded: Duration) -> Duration {
    recorded.mul_f64(1.0 - CLOCK_DRIFT)
}
