//! The gate as a state machine: what a gate Lease says, and what a writer may do next. No client and
//! no clock: observations and times come in as values, decisions go out.
//!
//! The rules it keeps: a gate is Open, or held by one writer's attempt; a writer that finds it held
//! waits until it has **seen** the Lease unchanged for as long as the Lease itself records, counted
//! on its own clock; taking over from a writer that may have been in the middle of an exchange marks
//! the outcome of that exchange as unknown.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

/// The bound on how much faster or slower than true time any clock involved may run.
pub const CLOCK_DRIFT: f64 = 0.05;

/// [`GateState::unresolved`] where the attempt is not known, because the gate was deleted under it.
pub const UNKNOWN_ATTEMPT: &str = "unknown";

const PHASE: &str = "tokenward.dev/phase";
const GENERATION: &str = "tokenward.dev/generation";
const PRIORITY: &str = "tokenward.dev/priority";
const ATTEMPT: &str = "tokenward.dev/attempt";
const TAKEOVER_DELAY: &str = "tokenward.dev/takeover-delay-seconds";
const UNRESOLVED: &str = "tokenward.dev/unresolved";
const UNRESOLVED_SINCE: &str = "tokenward.dev/unresolved-since";
const RETRIED: &str = "tokenward.dev/unresolved-retried";
const CLOSED_AT: &str = "tokenward.dev/closed-at";

/// What goes on behind the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody writes.
    Open,
    /// The writer waits until nobody uses the credential.
    Draining,
    /// The writer exchanges the token.
    Refreshing,
}

/// Why the gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// A refresh that is due.
    Refresh,
    /// A new authorization.
    Update,
}

/// How long the steps behind a gate may take. Published on the gate, so that a successor counts with
/// the durations of the writer it succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How long a writer's lease lasts without renewal.
    pub writer_lease: Duration,
    /// How long one exchange may take in all.
    pub exchange: Duration,
    /// How long it may take to store what the exchange gave.
    pub persist: Duration,
}

impl Durations {
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
}

/// Rounded up.
fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

/// A writer: one attempt of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process: no two processes ever have the same, restarts included.
    pub incarnation: String,
    /// The attempt.
    pub attempt: String,
}

/// An attempt that may have presented a refresh token, and whose outcome nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What a gate Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateState {
    /// Who writes; `None`: nobody.
    pub holder: Option<Holder>,
    /// What goes on.
    pub phase: Phase,
    /// Why it was closed last.
    pub priority: Priority,
    /// The generation of the token when the gate was opened last; `None`: an edit has taken it away.
    pub generation: Option<u64>,
    /// When the holder closed it.
    pub closed_at: Option<Timestamp>,
    /// The attempt whose exchange has an unknown outcome, until that is settled.
    pub unresolved: Option<Unresolved>,
    /// The writer's lease duration, as recorded.
    pub writer_lease: Duration,
    /// The recorded delay before a takeover from Refreshing.
    pub takeover_delay: Duration,
}

impl GateState {
    /// The gate of a credential that has never been refreshed.
    #[must_use]
    pub fn open(generation: u64, durations: &Durations) -> Self {
        Self {
            holder: None,
            phase: Phase::Open,
            priority: Priority::Refresh,
            generation: Some(generation),
            closed_at: None,
            unresolved: None,
            writer_lease: durations.writer_lease,
            takeover_delay: durations.takeover_delay(),
        }
    }

    /// Reads a Lease. Whatever an edit by hand has made unreadable is taken for the worst it can
    /// mean, never for "open".
    #[must_use]
    pub fn read(lease: &Lease, fallback: &Durations) -> Self {
        let empty = BTreeMap::new();
        let notes = lease.metadata.annotations.as_ref().unwrap_or(&empty);
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = |value: Option<u64>, fallback: Duration| {
            value.map_or(fallback, |s| Duration::from_secs(s.clamp(1, 86_400)))
        };
        let mut holder = spec.holder_identity.filter(|h| !h.is_empty()).map(|h| {
            let (incarnation, attempt) =
                h.rsplit_once('/').unwrap_or((h.as_str(), UNKNOWN_ATTEMPT));
            Holder {
                incarnation: incarnation.to_owned(),
                attempt: attempt.to_owned(),
            }
        });
        let phase = match notes.get(PHASE).map(String::as_str) {
            Some("Open") => Phase::Open,
            Some("Draining") => Phase::Draining,
            _ => Phase::Refreshing,
        };
        let time = |key: &str| notes.get(key).and_then(|at| at.parse::<Timestamp>().ok());
        let attempt = notes.get(UNRESOLVED).filter(|u| !u.is_empty());
        let mut unresolved = attempt.map(|attempt| Unresolved {
            attempt: attempt.clone(),
            since: time(UNRESOLVED_SINCE).unwrap_or(Timestamp::UNIX_EPOCH),
            retried: notes.contains_key(RETRIED),
        });
        if holder.is_none() && phase != Phase::Open {
            // Somebody took the holder's name away; the holder may be at work all the same.
            holder = Some(Holder {
                incarnation: String::new(),
                attempt: UNKNOWN_ATTEMPT.to_owned(),
            });
            unresolved.get_or_insert_with(Unresolved::unknown);
        }
        Self {
            holder,
            phase,
            priority: match notes.get(PRIORITY).map(String::as_str) {
                Some("update") => Priority::Update,
                _ => Priority::Refresh,
            },
            generation: notes.get(GENERATION).and_then(|g| g.parse().ok()),
            closed_at: time(CLOSED_AT),
            unresolved,
            writer_lease: seconds(
                spec.lease_duration_seconds
                    .and_then(|s| u64::try_from(s).ok()),
                fallback.writer_lease,
            ),
            takeover_delay: seconds(
                notes.get(TAKEOVER_DELAY).and_then(|s| s.parse().ok()),
                fallback.takeover_delay(),
            ),
        }
    }

    /// Writes this state into a Lease, keeping what is not ours in it. `now` becomes `renewTime`, which
    /// is for people: nothing is ever decided by it.
    pub fn write(&self, lease: &mut Lease, now: Timestamp) {
        let notes = lease.metadata.annotations.get_or_insert_default();
        let mut note = |key: &str, value: Option<String>| match value {
            Some(value) => notes.insert(key.to_owned(), value),
            None => notes.remove(key),
        };
        let phase = match self.phase {
            Phase::Open => "Open",
            Phase::Draining => "Draining",
            Phase::Refreshing => "Refreshing",
        };
        let priority = match self.priority {
            Priority::Refresh => "refresh",
            Priority::Update => "update",
        };
        let attempt = self.holder.as_ref().map(|h| h.attempt.clone());
        note(PHASE, Some(phase.to_owned()));
        note(GENERATION, self.generation.map(|g| g.to_string()));
        note(PRIORITY, attempt.is_some().then(|| priority.to_owned()));
        note(
            TAKEOVER_DELAY,
            Some(self.takeover_delay.as_secs().to_string()),
        );
        let unresolved = self.unresolved.as_ref();
        note(UNRESOLVED, unresolved.map(|u| u.attempt.clone()));
        note(UNRESOLVED_SINCE, unresolved.map(|u| u.since.to_string()));
        let retried = unresolved.is_some_and(|u| u.retried);
        note(RETRIED, retried.then(|| "true".to_owned()));
        note(CLOSED_AT, self.closed_at.map(|at| at.to_string()));
        note(ATTEMPT, attempt);
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        spec.holder_identity = Some(
            self.holder
                .as_ref()
                .map(|h| format!("{}/{}", h.incarnation, h.attempt))
                .unwrap_or_default(),
        );
        spec.lease_duration_seconds =
            Some(i32::try_from(self.writer_lease.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(now));
    }

    /// This gate closed for `holder`, straight to Refreshing.
    #[must_use]
    pub fn closed(
        &self,
        holder: Holder,
        priority: Priority,
        unresolved: Option<Unresolved>,
        durations: &Durations,
        now: Timestamp,
    ) -> Self {
        Self {
            holder: Some(holder),
            phase: Phase::Refreshing,
            priority,
            generation: self.generation,
            closed_at: Some(now),
            unresolved,
            writer_lease: durations.writer_lease,
            takeover_delay: durations.takeover_delay(),
        }
    }

    /// How long a successor must have seen this gate unchanged before it may take over.
    #[must_use]
    pub fn expires_after(&self) -> Duration {
        let delay = match self.phase {
            Phase::Draining => Duration::ZERO,
            Phase::Open | Phase::Refreshing => self.takeover_delay,
        };
        (self.writer_lease + delay).mul_f64(1.0 + CLOCK_DRIFT)
    }
}

/// What a writer that wants to close the gate may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Close it, by compare-and-swap, with this attempt marked as unresolved.
    Close {
        /// The attempt whose outcome is unknown.
        unresolved: Option<Unresolved>,
    },
    /// Somebody holds it: look again after this.
    Wait(Duration),
    /// An attempt of this very process holds it and runs.
    Running,
}

/// Decides for a gate seen unchanged for `unchanged_for`, on the clock that never jumps. `running`
/// tells whether an attempt of this process is under way.
#[must_use]
pub fn enter(
    gate: &GateState,
    unchanged_for: Duration,
    incarnation: &str,
    running: impl Fn(&str) -> bool,
) -> Entry {
    let Some(holder) = &gate.holder else {
        return Entry::Close {
            unresolved: gate.unresolved.clone(),
        };
    };
    if holder.incarnation == incarnation {
        if running(&holder.attempt) {
            return Entry::Running;
        }
    } else if let Some(left) = gate.expires_after().checked_sub(unchanged_for)
        && !left.is_zero()
    {
        return Entry::Wait(left);
    }
    let unresolved = match gate.phase {
        Phase::Draining => gate.unresolved.clone(),
        // A non-empty holder with phase Open is a writer that drains nobody: it exchanges too.
        Phase::Open | Phase::Refreshing => Some(gate.unresolved.clone().unwrap_or(Unresolved {
            attempt: holder.attempt.clone(),
            since: gate.closed_at.unwrap_or(Timestamp::UNIX_EPOCH),
            retried: false,
        })),
    };
    Entry::Close { unresolved }
}

/// How long the holder of a lease last written at a request sent `since_write` ago may still act.
#[must_use]
pub fn own_validity_left(writer_lease: Duration, since_write: Duration) -> Duration {
    writer_lease
        .mul_f64(1.0 - CLOCK_DRIFT)
        .saturating_sub(since_write)
}

#[cfg(test)]
mod tests {
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
        let holder = Holder {
            incarnation: incarnation.to_owned(),
            attempt: "a1".to_owned(),
        };
        let gate = GateState::open(3, &durations());
        GateState {
            phase,
            ..gate.closed(holder, Priority::Refresh, None, &durations(), CLOSED)
        }
    }

    fn close(unresolved: Option<&str>) -> Entry {
        Entry::Close {
            unresolved: unresolved.map(attempt),
        }
    }

    #[test]
    fn an_open_gate_is_closed_and_what_was_unresolved_stays_so() {
        let mut gate = GateState::open(3, &durations());
        assert_eq!(enter(&gate, Duration::ZERO, ME, |_| false), close(None));
        gate.unresolved = Some(attempt("a0"));
        assert_eq!(
            enter(&gate, Duration::ZERO, ME, |_| false),
            close(Some("a0"))
        );
    }

    #[test]
    fn a_gate_held_by_another_is_waited_for_until_its_recorded_durations_have_passed() {
        let gate = closed_by("other", Phase::Refreshing);
        // (30 + 1.1 * (60 + 30)) * 1.05
        assert_eq!(gate.expires_after(), Duration::from_secs_f64(129.0 * 1.05));
        let almost = gate
            .expires_after()
            .saturating_sub(Duration::from_millis(1));
        assert_eq!(
            enter(&gate, almost, ME, |_| false),
            Entry::Wait(Duration::from_millis(1))
        );
        assert_eq!(
            enter(&gate, gate.expires_after(), ME, |_| false),
            close(Some("a1"))
        );
    }

    #[test]
    fn draining_is_taken_over_sooner_and_leaves_nothing_unresolved() {
        let gate = closed_by("other", Phase::Draining);
        assert_eq!(gate.expires_after(), Duration::from_secs_f64(31.5));
        assert_eq!(
            enter(&gate, gate.expires_after(), ME, |_| false),
            close(None)
        );
    }

    #[test]
    fn a_held_gate_that_reads_open_still_has_an_exchange_behind_it() {
        let gate = closed_by("other", Phase::Open);
        assert_eq!(
            enter(&gate, gate.expires_after(), ME, |_| false),
            close(Some("a1"))
        );
    }

    #[test]
    fn an_attempt_of_this_process_is_joined_while_it_runs_and_taken_over_when_it_died() {
        let gate = closed_by(ME, Phase::Refreshing);
        assert_eq!(
            enter(&gate, Duration::ZERO, ME, |a| a == "a1"),
            Entry::Running
        );
        assert_eq!(
            enter(&gate, Duration::ZERO, ME, |_| false),
            close(Some("a1"))
        );
    }

    #[test]
    fn the_first_unresolved_attempt_is_kept_over_several_takeovers() {
        let mut gate = closed_by("other", Phase::Refreshing);
        gate.unresolved = Some(attempt("a0"));
        assert_eq!(
            enter(&gate, gate.expires_after(), ME, |_| false),
            close(Some("a0"))
        );
    }

    #[test]
    fn durations_shrink_with_the_lifetime_and_never_vanish() {
        let short = Durations::scaled(Some(Duration::from_secs(20)), Duration::from_secs(60));
        assert_eq!(short.writer_lease, Duration::from_secs(3));
        assert_eq!(short.exchange, Duration::from_secs(5));
        assert_eq!(short.persist, Duration::from_millis(2500));
        assert_eq!(short.takeover_delay(), Duration::from_secs(9));
        let tiny = Durations::scaled(Some(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(
            tiny,
            Durations {
                exchange: Duration::from_secs(1),
                ..short
            }
        );
        let unknown = Durations::scaled(None, Duration::from_secs(60));
        assert_eq!(unknown, durations());
    }

    #[test]
    fn a_state_survives_being_written_and_read() {
        for gate in [
            GateState::open(7, &durations()),
            closed_by("other", Phase::Draining),
            GateState {
                unresolved: Some(Unresolved {
                    retried: true,
                    ..attempt("a0")
                }),
                priority: Priority::Update,
                ..closed_by("pod-1", Phase::Refreshing)
            },
        ] {
            let mut lease = Lease::default();
            gate.write(&mut lease, Timestamp::UNIX_EPOCH);
            assert_eq!(GateState::read(&lease, &durations()), gate);
        }
    }

    #[test]
    fn an_unreadable_gate_is_never_taken_for_open() {
        let gate = GateState::read(&Lease::default(), &durations());
        assert_eq!(gate.phase, Phase::Refreshing);
        assert_eq!(gate.generation, None);
        assert_eq!(gate.unresolved, Some(Unresolved::unknown()));
        let waited = enter(&gate, Duration::ZERO, ME, |_| false);
        assert_eq!(waited, Entry::Wait(gate.expires_after()));
        let mut lease = Lease::default();
        closed_by("other", Phase::Refreshing).write(&mut lease, Timestamp::UNIX_EPOCH);
        lease.spec.as_mut().unwrap().holder_identity = Some("garbage".to_owned());
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(-5);
        lease.metadata.annotations = None;
        let gate = GateState::read(&lease, &durations());
        assert_eq!(gate.holder.as_ref().unwrap().attempt, UNKNOWN_ATTEMPT);
        assert_eq!(gate.writer_lease, durations().writer_lease);
        assert_eq!(gate.takeover_delay, durations().takeover_delay());
    }

    #[test]
    fn ones_own_lease_ends_early_by_the_drift_of_the_clocks() {
        let lease = Duration::from_secs(30);
        assert_eq!(
            own_validity_left(lease, Duration::ZERO),
            Duration::from_secs_f64(28.5)
        );
        assert_eq!(
            own_validity_left(lease, Duration::from_secs(29)),
            Duration::ZERO
        );
    }
}
