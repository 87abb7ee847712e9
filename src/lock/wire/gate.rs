//! A gate as a Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::ResourceExt;

use super::{GENERATION, LONGEST_HOLD, seconds, whole_i32};
use crate::lock::protocol::{
    Durations, GateState, Holder, Mode, Phase, Priority, UNKNOWN_ATTEMPT, Unresolved,
};

const PHASE: &str = "tokenward.dev/phase";
const PRIORITY: &str = "tokenward.dev/priority";
const ATTEMPT: &str = "tokenward.dev/attempt";
const MODE: &str = "tokenward.dev/mode";
const FORCED: &str = "tokenward.dev/forced";
const HOLD_DURATION: &str = "tokenward.dev/hold-duration-seconds";
const DRAIN_GRACE: &str = "tokenward.dev/drain-grace-seconds";
const TAKEOVER_DELAY: &str = "tokenward.dev/takeover-delay-seconds";
const UNRESOLVED: &str = "tokenward.dev/unresolved";
const UNRESOLVED_SINCE: &str = "tokenward.dev/unresolved-since";
const RETRIED: &str = "tokenward.dev/unresolved-retried";
const CLOSED_AT: &str = "tokenward.dev/closed-at";

/// Reads a gate. Whatever an edit by hand has made unreadable is taken for the worst it can mean, never
/// for "open".
#[must_use]
pub fn read_gate(lease: &Lease, fallback: &Durations) -> GateState {
    let notes = lease.annotations();
    let spec = lease.spec.clone().unwrap_or_default();
    let mut holder = spec.holder_identity.filter(|h| !h.is_empty()).map(|h| {
        let (incarnation, attempt) = h.rsplit_once('/').unwrap_or((h.as_str(), UNKNOWN_ATTEMPT));
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
    let noted = |key: &str| notes.get(key).and_then(|s| s.parse().ok());
    let lease_seconds = spec
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok());
    GateState {
        holder,
        phase,
        priority: match notes.get(PRIORITY).map(String::as_str) {
            Some("update") => Priority::Update,
            Some("delete") => Priority::Delete,
            _ => Priority::Refresh,
        },
        generation: notes.get(GENERATION).and_then(|g| g.parse().ok()),
        closed_at: time(CLOSED_AT),
        unresolved,
        forced: notes.contains_key(FORCED),
        mode: match notes.get(MODE).map(String::as_str) {
            Some("Exclusive") => Mode::Exclusive,
            _ => Mode::Shared,
        },
        writer_lease: seconds(lease_seconds, fallback.writer_lease),
        takeover_delay: seconds(noted(TAKEOVER_DELAY), fallback.takeover_delay()),
        // No observer counts with more.
        hold: seconds(noted(HOLD_DURATION), fallback.hold).min(LONGEST_HOLD),
        drain_grace: seconds(noted(DRAIN_GRACE), fallback.drain_grace),
    }
}

/// Writes a gate into a Lease, keeping what is not ours in it. `now` becomes `renewTime`, which is for
/// people: nothing is ever decided by it.
pub fn write_gate(gate: &GateState, lease: &mut Lease, now: Timestamp) {
    let notes = lease.annotations_mut();
    let mut note = |key: &str, value: Option<String>| match value {
        Some(value) => notes.insert(key.to_owned(), value),
        None => notes.remove(key),
    };
    let phase = match gate.phase {
        Phase::Open => "Open",
        Phase::Draining => "Draining",
        Phase::Refreshing => "Refreshing",
    };
    let priority = match gate.priority {
        Priority::Refresh => "refresh",
        Priority::Update => "update",
        Priority::Delete => "delete",
    };
    let mode = match gate.mode {
        Mode::Shared => "Shared",
        Mode::Exclusive => "Exclusive",
    };
    let set = |is_set: bool| is_set.then(|| "true".to_owned());
    let whole = |duration: Duration| Some(duration.as_secs().to_string());
    let attempt = gate.holder.as_ref().map(|h| h.attempt.clone());
    let unresolved = gate.unresolved.as_ref();
    note(PHASE, Some(phase.to_owned()));
    note(GENERATION, gate.generation.map(|g| g.to_string()));
    note(PRIORITY, attempt.is_some().then(|| priority.to_owned()));
    note(MODE, Some(mode.to_owned()));
    note(FORCED, set(gate.forced));
    note(TAKEOVER_DELAY, whole(gate.takeover_delay));
    note(HOLD_DURATION, whole(gate.hold));
    note(DRAIN_GRACE, whole(gate.drain_grace));
    note(UNRESOLVED, unresolved.map(|u| u.attempt.clone()));
    note(UNRESOLVED_SINCE, unresolved.map(|u| u.since.to_string()));
    note(RETRIED, set(unresolved.is_some_and(|u| u.retried)));
    note(CLOSED_AT, gate.closed_at.map(|at| at.to_string()));
    note(ATTEMPT, attempt);
    let holder = gate.holder.as_ref();
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(
        holder
            .map(|h| format!("{}/{}", h.incarnation, h.attempt))
            .unwrap_or_default(),
    );
    spec.lease_duration_seconds = Some(whole_i32(gate.writer_lease));
    spec.renew_time = Some(MicroTime(now));
}

#[cfg(test)]
mod tests {
    use super::*;

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
            closed_at: Some(Timestamp::constant(1_700_000_000, 0)),
            ..GateState::open(3, Mode::Shared, &durations())
        }
    }

    #[test]
    fn a_gate_survives_being_written_and_read() {
        for gate in [
            GateState::open(7, Mode::Exclusive, &durations()),
            closed_by("other", Phase::Draining),
            GateState {
                unresolved: Some(Unresolved {
                    attempt: "a0".to_owned(),
                    since: Timestamp::constant(1_600_000_000, 0),
                    retried: true,
                }),
                priority: Priority::Update,
                forced: true,
                ..closed_by("pod-1", Phase::Refreshing)
            },
        ] {
            let mut lease = Lease::default();
            write_gate(&gate, &mut lease, Timestamp::UNIX_EPOCH);
            let unknown = Durations::scaled(Some(Duration::ZERO), Duration::from_secs(1));
            assert_eq!(read_gate(&lease, &unknown), gate);
        }
    }

    #[test]
    fn an_unreadable_gate_is_never_taken_for_open() {
        let gate = read_gate(&Lease::default(), &durations());
        assert_eq!(gate.phase, Phase::Refreshing);
        assert_eq!(gate.generation, None);
        assert_eq!(gate.unresolved, Some(Unresolved::unknown()));
        assert!(gate.holder.is_some());
        let mut lease = Lease::default();
        let closed = closed_by("other", Phase::Refreshing);
        write_gate(&closed, &mut lease, Timestamp::UNIX_EPOCH);
        lease.spec.as_mut().unwrap().holder_identity = Some("garbage".to_owned());
        lease.spec.as_mut().unwrap().lease_duration_seconds = Some(-5);
        lease.metadata.annotations = None;
        let gate = read_gate(&lease, &durations());
        assert_eq!(gate.holder.as_ref().unwrap().attempt, UNKNOWN_ATTEMPT);
        assert_eq!(gate.writer_lease, durations().writer_lease);
        assert_eq!(gate.takeover_delay, durations().takeover_delay());
        assert_eq!(gate.hold, durations().hold);
    }
}
