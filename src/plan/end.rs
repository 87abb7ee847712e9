//! What is done next at the end of a credential that is to be revoked. Whatever is in the way, the end comes: a deletion
//! that hangs helps nobody.

use std::time::Duration;

use jiff::Timestamp;

use super::backoff;
use crate::{
    api::{RevocationOutcome, RevocationStatus},
    oauth::revocation::Verdict,
};

/// How many requests for revocation are made at most.
pub const ATTEMPTS: i32 = 5;

/// How long one may take at most.
pub const LONGEST_ATTEMPT: Duration = Duration::from_secs(20);

/// After this long no further one is begun, whatever the provider asks for.
pub const LONGEST: Duration = Duration::from_secs(150);

/// For how long it is tried to close the gate; then it is revoked beside it. Longer than a gate is waited for that a
/// writer has left closed when it died.
pub const GATE_PATIENCE: Duration = Duration::from_secs(300);

/// What is known of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It was not asked for yet.
    Unknown,
    /// It is closed, and nobody holds the credential.
    Closed,
    /// Somebody writes behind it: look again after this long. It was tried for `since`.
    Busy {
        /// The pause.
        pause: Duration,
        /// How long it has been tried.
        since: Duration,
    },
    /// It cannot be closed: it is gone with its namespace, or a right is missing.
    Without,
}

/// What there is to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// It was not looked for yet.
    Unknown,
    /// Nothing was ever obtained.
    None,
    /// It is gone, or unreadable. With why.
    Lost(String),
    /// It can be presented.
    Found,
}

/// Where it can be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It was not looked for yet.
    Unknown,
    /// There is a revocation endpoint, and a client for it.
    Known,
    /// The provider has no revocation endpoint.
    NotSupported(String),
    /// Another credential has the same refresh token. With which.
    Shared(String),
    /// The provider object, or what it names, is gone or unusable. With why.
    Refused(String),
    /// It cannot be found out now. With why.
    Passing(String),
}

/// What is known at the end of a credential.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Whether it is revoked at all.
    pub is_wanted: bool,
    /// Whether it was ever looked at: before, it has neither a gate nor a token.
    pub has_status: bool,
    /// How far it has come.
    pub progress: Option<&'a RevocationStatus>,
    /// The gate.
    pub gate: Behind,
    /// The tokens, as read behind the gate.
    pub tokens: &'a Tokens,
    /// The provider.
    pub way: &'a Way,
    /// What the last attempt of this process came to.
    pub last: Option<&'a Verdict>,
    /// The credential's UID.
    pub uid: &'a str,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Close the gate, now or after a pause, and wait for holders.
    Close(Duration),
    /// Read what there is to revoke.
    Read,
    /// Find out where, after a pause.
    Resolve(Duration),
    /// Present it, after a pause, and note the attempt before.
    Present(Duration),
    /// Tell people what came of it, and note it.
    Conclude(RevocationOutcome, String),
    /// Let it go: take the finalizers off.
    Release,
}

/// Decides.
#[must_use]
pub fn next(facts: &Facts<'_>) -> Step {
    let progress = facts.progress.cloned().unwrap_or_default();
    if !facts.is_wanted || progress.outcome.is_some() {
        return Step::Release;
    }
    match facts.gate {
        _ if !facts.has_status => {}
        Behind::Unknown => return Step::Close(Duration::ZERO),
        Behind::Busy { pause, since } if since < GATE_PATIENCE => return Step::Close(pause),
        Behind::Busy { .. } | Behind::Closed | Behind::Without => {}
    }
    match facts.tokens {
        Tokens::Unknown => return Step::Read,
        Tokens::None => return Step::Release,
        Tokens::Lost(why) => return failed(why),
        Tokens::Found => {}
    }
    let (passing, asked) = match (facts.way, facts.last) {
        (Way::Unknown, _) => return Step::Resolve(Duration::ZERO),
        (Way::Known, None) if progress.attempts < ATTEMPTS => return Step::Present(Duration::ZERO),
        (Way::Known, None) => {
            return given_up(&progress, "the operator ended during the last one");
        }
        (Way::Known, Some(Verdict::Revoked)) => {
            return Step::Conclude(RevocationOutcome::Revoked, String::new());
        }
        (Way::NotSupported(why), _) | (Way::Known, Some(Verdict::NotSupported(why))) => {
            return Step::Conclude(RevocationOutcome::RevocationNotSupported, why.clone());
        }
        (Way::Shared(why), _) => {
            return Step::Conclude(RevocationOutcome::RevocationSkipped, why.clone());
        }
        (Way::Refused(why), _)
        | (Way::Known, Some(Verdict::Refused(why) | Verdict::InvalidClient(why))) => {
            return failed(why);
        }
        (Way::Passing(why), _) => (why, None),
        (Way::Known, Some(Verdict::Passing(why, asked))) => (why, *asked),
    };
    match pause(facts, &progress, asked) {
        Some(pause) if *facts.way == Way::Known => Step::Present(pause),
        Some(pause) => Step::Resolve(pause),
        None => given_up(&progress, passing),
    }
}

/// The pause before another attempt; `None`: there is none.
fn pause(
    facts: &Facts<'_>,
    progress: &RevocationStatus,
    asked: Option<Duration>,
) -> Option<Duration> {
    const FIRST: Duration = Duration::from_secs(2);
    let made = u32::try_from(progress.attempts).unwrap_or(1).max(1);
    let own = backoff(FIRST, LONGEST, made, facts.uid);
    let pause = own.max(asked.unwrap_or_default());
    let start = progress.start_time.as_ref().map_or(facts.now, |at| at.0);
    let elapsed = Duration::try_from(facts.now.duration_since(start)).unwrap_or_default();
    (progress.attempts < ATTEMPTS && elapsed.saturating_add(pause) < LONGEST).then_some(pause)
}

fn failed(why: &str) -> Step {
    Step::Conclude(RevocationOutcome::RevocationFailed, why.to_owned())
}

fn given_up(progress: &RevocationStatus, why: &str) -> Step {
    failed(&format!(
        "given up after attempt {}: {why}",
        progress.attempts
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn progress(attempts: i32, began_ago: i64) -> RevocationStatus {
        RevocationStatus {
            attempts,
            start_time: Some(Time(Timestamp::from_second(NOW - began_ago).unwrap())),
            outcome: None,
        }
    }

    fn facts<'a>() -> Facts<'a> {
        Facts {
            is_wanted: true,
            has_status: true,
            progress: None,
            gate: Behind::Closed,
            tokens: &Tokens::Found,
            way: &Way::Known,
            last: None,
            uid: "u",
            now: Timestamp::from_second(NOW).unwrap(),
        }
    }

    fn outcome(step: &Step) -> Option<RevocationOutcome> {
        match step {
            Step::Conclude(outcome, _) => Some(*outcome),
            _ => None,
        }
    }

    #[test]
    fn what_has_nothing_to_revoke_is_let_go_at_once() {
        let not_wanted = Facts {
            is_wanted: false,
            gate: Behind::Unknown,
            ..facts()
        };
        assert_eq!(next(&not_wanted), Step::Release);
        let never_seen = Facts {
            has_status: false,
            gate: Behind::Unknown,
            tokens: &Tokens::None,
            ..facts()
        };
        assert_eq!(next(&never_seen), Step::Release);
        let done = RevocationStatus {
            outcome: Some(RevocationOutcome::RevocationFailed),
            ..progress(1, 0)
        };
        let done = Facts {
            progress: Some(&done),
            gate: Behind::Unknown,
            ..facts()
        };
        assert_eq!(next(&done), Step::Release);
    }

    #[test]
    fn the_gate_comes_first_and_is_not_waited_for_without_end() {
        let gate = |gate| {
            next(&Facts {
                gate,
                tokens: &Tokens::Unknown,
                ..facts()
            })
        };
        let pause = Duration::from_secs(3);
        let busy = |since| gate(Behind::Busy { pause, since });
        assert_eq!(gate(Behind::Unknown), Step::Close(Duration::ZERO));
        assert_eq!(busy(Duration::ZERO), Step::Close(pause));
        assert_eq!(busy(GATE_PATIENCE), Step::Read);
        assert_eq!(gate(Behind::Without), Step::Read);
        assert_eq!(gate(Behind::Closed), Step::Read);
    }

    #[test]
    fn what_is_gone_or_not_offered_is_told_and_not_tried() {
        let lost = Tokens::Lost("gone".to_owned());
        let step = next(&Facts {
            tokens: &lost,
            ..facts()
        });
        assert_eq!(outcome(&step), Some(RevocationOutcome::RevocationFailed));
        for (way, expected) in [
            (
                Way::NotSupported("none".to_owned()),
                RevocationOutcome::RevocationNotSupported,
            ),
            (
                Way::Refused("no provider".to_owned()),
                RevocationOutcome::RevocationFailed,
            ),
        ] {
            let step = next(&Facts {
                way: &way,
                ..facts()
            });
            assert_eq!(outcome(&step), Some(expected));
        }
    }

    #[test]
    fn attempts_are_bounded_in_number_and_time_also_over_restarts() {
        let passing = Verdict::Passing("answered 500".to_owned(), None);
        let after = |attempts, ago, last| {
            let progress = progress(attempts, ago);
            next(&Facts {
                progress: Some(&progress),
                last,
                ..facts()
            })
        };
        let mut pauses = Duration::ZERO;
        for attempts in 1..ATTEMPTS {
            let Step::Present(pause) = after(attempts, 0, Some(&passing)) else {
                panic!("{attempts}");
            };
            pauses += pause;
        }
        assert!(pauses > Duration::from_secs(20) && pauses <= Duration::from_secs(30));
        let end = after(ATTEMPTS, 10, Some(&passing));
        assert_eq!(outcome(&end), Some(RevocationOutcome::RevocationFailed));
        let long = after(2, 149, Some(&passing));
        assert_eq!(outcome(&long), Some(RevocationOutcome::RevocationFailed));
        // An operator that was down for an hour still has the attempts that were not made.
        assert_eq!(after(1, 3600, None), Step::Present(Duration::ZERO));
        let last = after(ATTEMPTS, 3600, None);
        assert_eq!(outcome(&last), Some(RevocationOutcome::RevocationFailed));
        let patient = Verdict::Passing("answered 503".to_owned(), Some(Duration::from_secs(30)));
        assert_eq!(
            after(1, 0, Some(&patient)),
            Step::Present(Duration::from_secs(30))
        );
        let too_long = Verdict::Passing("answered 503".to_owned(), Some(Duration::from_secs(900)));
        let end = after(1, 0, Some(&too_long));
        assert_eq!(outcome(&end), Some(RevocationOutcome::RevocationFailed));
        let unclear = Way::Passing("no answer of the issuer".to_owned());
        let progress = progress(ATTEMPTS, 20);
        let end = next(&Facts {
            progress: Some(&progress),
            way: &unclear,
            ..facts()
        });
        assert_eq!(outcome(&end), Some(RevocationOutcome::RevocationFailed));
    }

    #[test]
    fn a_refusal_is_final() {
        let progress = progress(1, 0);
        for (last, expected) in [
            (Verdict::Revoked, RevocationOutcome::Revoked),
            (
                Verdict::Refused("answered 403".to_owned()),
                RevocationOutcome::RevocationFailed,
            ),
            (
                Verdict::InvalidClient("answered 401".to_owned()),
                RevocationOutcome::RevocationFailed,
            ),
            (
                Verdict::NotSupported("answered 404".to_owned()),
                RevocationOutcome::RevocationNotSupported,
            ),
        ] {
            let step = next(&Facts {
                progress: Some(&progress),
                last: Some(&last),
                ..facts()
            });
            assert_eq!(outcome(&step), Some(expected));
        }
    }
}
