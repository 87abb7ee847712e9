//! What a gate says, and whether a writer may close it.

use std::time::Duration;

use jiff::Timestamp;

use super::{Durations, observed_expiry};

/// [`Unresolved::attempt`] where the attempt is not known, because the gate was deleted under it.
pub const UNKNOWN_ATTEMPT: &str = "unknown";

/// How long a gate stays open between writers that have time, so that those who wait to use the token
/// get to it.
const FAIRNESS: Duration = Duration::from_secs(1);

/// What goes on behind the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Consumers may pass.
    Open,
    /// The writer waits until nobody uses the credential.
    Draining,
    /// The writer exchanges the token.
    Refreshing,
}

/// Why the gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Priority {
    /// A refresh that is due, or asked for.
    Refresh,
    /// A new authorization.
    Update,
    /// The credential's end.
    Delete,
}

/// Who may hold a credential at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Any number.
    #[default]
    Shared,
    /// One.
    Exclusive,
}

/// A writer: one attempt of one process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The process: no two processes ever have the same, restarts included.
    pub incarnation: String,
    /// The attempt.
    pub attempt: String,
}

/// An attempt that may have presented a refresh token, and whose outcome nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unresolved {
    /// The attempt, or [`UNKNOWN_ATTEMPT`].
    pub attempt: String,
    /// When it can have presented the token at the earliest; a provider's grace period counts from
    /// then. The epoch where that is not known.
    pub since: Timestamp,
    /// Whether the token has been presented once more since, as the rule allows.
    pub retried: bool,
}

impl Unresolved {
    /// An attempt of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            attempt: UNKNOWN_ATTEMPT.to_owned(),
            since: Timestamp::UNIX_EPOCH,
            retried: false,
        }
    }

    /// Whether nothing is known of the attempt, so that no grant can prove that it was stored.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.attempt == UNKNOWN_ATTEMPT
    }
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GateState {
    /// Who writes; `None`: nobody.
    pub holder: Option<Holder>,
    /// What goes on. Consumers look at this alone.
    pub phase: Phase,
    /// Why it was closed last.
    pub priority: Priority,
    /// The generation of the token when the gate was opened last; `None`: an edit has taken it away.
    pub generation: Option<u64>,
    /// When the holder closed it.
    pub closed_at: Option<Timestamp>,
    /// The attempt whose exchange has an unknown outcome, until that is settled.
    pub unresolved: Option<Unresolved>,
    /// Whether the last refresh deleted holds that were alive, because its deadline had come.
    pub forced: bool,
    /// Who may hold the credential at a time.
    pub mode: Mode,
    /// The writer's lease duration, as recorded.
    pub writer_lease: Duration,
    /// The recorded delay before a takeover from Refreshing.
    pub takeover_delay: Duration,
    /// How long holds last.
    pub hold: Duration,
    /// How long a holder renews on beside a closed gate.
    pub drain_grace: Duration,
}

impl GateState {
    /// The gate of a credential that has never been refreshed.
    #[must_use]
    pub fn open(generation: u64, mode: Mode, durations: &Durations) -> Self {
        Self {
            holder: None,
            phase: Phase::Open,
            priority: Priority::Refresh,
            generation: Some(generation),
            closed_at: None,
            unresolved: None,
            forced: false,
            mode,
            writer_lease: durations.writer_lease,
            takeover_delay: durations.takeover_delay(),
            hold: durations.hold,
            drain_grace: durations.drain_grace,
        }
    }

    /// How long a successor must have seen this gate unchanged before it may take over.
    #[must_use]
    pub fn expires_after(&self) -> Duration {
        let delay = match self.phase {
            Phase::Draining => Duration::ZERO,
            Phase::Open | Phase::Refreshing => self.takeover_delay,
        };
        observed_expiry(self.writer_lease + delay)
    }
}

/// What a writer that wants to close the gate may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Close it, by compare-and-swap, with this attempt marked as unresolved.
    Close {
        /// The attempt whose outcome is unknown.
        unresolved: Option<Unresolved>,
        /// Whether another writer's attempt may have been in the middle of an exchange.
        takes_over_an_exchange: bool,
    },
    /// Somebody holds it: look again after this.
    Wait(Duration),
    /// An attempt of this very process holds it and runs.
    Running,
}

/// Decides for a gate seen unchanged for `unchanged_for`, on the clock that never jumps. `running` tells
/// whether an attempt of this process is under way; `open_for`, for how long this process knows the gate
/// to be open, where its writer has time to leave it so for a moment.
#[must_use]
pub fn enter(
    gate: &GateState,
    unchanged_for: Duration,
    incarnation: &str,
    running: impl Fn(&str) -> bool,
    open_for: Option<Duration>,
) -> Entry {
    let Some(holder) = &gate.holder else {
        return match open_for.and_then(|open| FAIRNESS.checked_sub(open)) {
            Some(left) if !left.is_zero() => Entry::Wait(left),
            _ => Entry::Close {
                unresolved: gate.unresolved.clone(),
                takes_over_an_exchange: false,
            },
        };
    };
    if holder.incarnation == incarnation && running(&holder.attempt) {
        return Entry::Running;
    }
    // Also for a dead attempt of one's own: what it sent may still be carried out.
    if let Some(left) = gate.expires_after().checked_sub(unchanged_for)
        && !left.is_zero()
    {
        return Entry::Wait(left);
    }
    match gate.phase {
        Phase::Draining => Entry::Close {
            unresolved: gate.unresolved.clone(),
            takes_over_an_exchange: false,
        },
        // A non-empty holder with phase Open is a writer that drains nobody: it exchanges too.
        Phase::Open | Phase::Refreshing => Entry::Close {
            unresolved: Some(gate.unresolved.clone().unwrap_or(Unresolved {
                attempt: holder.attempt.clone(),
                since: gate.closed_at.unwrap_or(Timestamp::UNIX_EPOCH),
                retried: false,
            })),
            takes_over_an_exchange: true,
        },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const ME: &str = "me";
    const CLOSED: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn attempt(attempt: &str) -> Unresolved {
        Unresolved {
            attempt: attempt.to_owned(),
            since: CLOSED,
            retried: false,
        }
    }

    fn durations() -> Durations {
        Durations::scaled(Some(Duration::from_secs(3600)), Duration::from_secs(60))
    }

    fn closed_by(incarnation: &str, phase: Phase) -> GateState {
        GateState {
            holder: Some(Holder {
                incarnation: incarnation.to_owned(),
                attempt: "a1".to_owned(),
            }),
            phase,
            closed_at: Some(CLOSED),
            ..GateState::open(3, Mode::Shared, &durations())
        }
    }

    fn close(unresolved: Option<&str>, takes_over_an_exchange: bool) -> Entry {
        Entry::Close {
            unresolved: unresolved.map(attempt),
            takes_over_an_exchange,
        }
    }

    fn decide(gate: &GateState, unchanged_for: Duration) -> Entry {
        enter(gate, unchanged_for, ME, |_| false, None)
    }

    #[test]
    fn an_open_gate_is_closed_and_what_was_unresolved_stays_so() {
        let mut gate = GateState::open(3, Mode::Shared, &durations());
        assert_eq!(decide(&gate, Duration::ZERO), close(None, false));
        gate.unresolved = Some(attempt("a0"));
        assert_eq!(decide(&gate, Duration::ZERO), close(Some("a0"), false));
    }

    #[test]
    fn a_writer_that_has_time_leaves_the_gate_open_for_a_moment() {
        let gate = GateState::open(3, Mode::Shared, &durations());
        let after = |millis| {
            let open_for = Some(Duration::from_millis(millis));
            enter(&gate, Duration::ZERO, ME, |_| false, open_for)
        };
        assert_eq!(after(300), Entry::Wait(Duration::from_millis(700)));
        assert_eq!(after(1000), close(None, false));
    }

    #[test]
    fn a_gate_held_by_another_is_waited_for_until_its_recorded_durations_have_passed() {
        let gate = closed_by("other", Phase::Refreshing);
        // (30 + 1.1 * (60 + 30)) * 1.05
        assert_eq!(gate.expires_after(), Duration::from_secs_f64(129.0 * 1.05));
        let almost = gate
            .expires_after()
            .saturating_sub(Duration::from_millis(1));
        assert_eq!(decide(&gate, almost), Entry::Wait(Duration::from_millis(1)));
        assert_eq!(decide(&gate, gate.expires_after()), close(Some("a1"), true));
    }

    #[test]
    fn draining_is_taken_over_sooner_and_leaves_nothing_unresolved() {
        let gate = closed_by("other", Phase::Draining);
        assert_eq!(gate.expires_after(), Duration::from_secs_f64(31.5));
        assert_eq!(decide(&gate, gate.expires_after()), close(None, false));
    }

    #[test]
    fn a_held_gate_that_reads_open_still_has_an_exchange_behind_it() {
        let gate = closed_by("other", Phase::Open);
        assert_eq!(decide(&gate, gate.expires_after()), close(Some("a1"), true));
    }

    #[test]
    fn an_attempt_of_this_process_is_joined_while_it_runs_and_waited_out_when_it_died() {
        let gate = closed_by(ME, Phase::Refreshing);
        let joined = enter(&gate, Duration::ZERO, ME, |a| a == "a1", None);
        assert_eq!(joined, Entry::Running);
        // It may have died in the middle of an exchange, which goes on.
        let wait = Entry::Wait(gate.expires_after());
        assert_eq!(decide(&gate, Duration::ZERO), wait);
        assert_eq!(decide(&gate, gate.expires_after()), close(Some("a1"), true));
    }

    #[test]
    fn the_first_unresolved_attempt_is_kept_over_several_takeovers() {
        let mut gate = closed_by("other", Phase::Refreshing);
        gate.unresolved = Some(attempt("a0"));
        assert_eq!(decide(&gate, gate.expires_after()), close(Some("a0"), true));
    }
}
