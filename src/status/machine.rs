//! The state machine as it really is: every status that can be reached, by everything that can happen. Each must keep
//! the rules of kstatus, and the diagram in docs/concepts.md is the one that comes out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{tests::credential, *};
use crate::{failure::Class, secret::grant};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

/// What can happen to a credential.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// A token is obtained and published.
    Obtained,
    /// An attempt fails; the token in the target is known to be dead, or not.
    Fails(Reason, bool),
    /// The target is written again, whatever is wrong otherwise.
    Repaired,
    /// A refresh waits for holders.
    Drains,
    /// It waits for its turn.
    Waits,
    /// The token's time is over.
    Expires,
}

impl Happens {
    fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Obtained,
            Self::Repaired,
            Self::Drains,
            Self::Waits,
            Self::Expires,
            Self::Fails(Reason::TargetNotPublished, true),
            Self::Fails(Reason::RotationLost, true),
        ];
        all.extend(Reason::ALL.map(|reason| Self::Fails(reason, false)));
        all
    }

    /// As the diagram says it.
    fn said(self) -> &'static str {
        match self {
            Self::Obtained => "a token is obtained",
            Self::Repaired => "the target is repaired",
            Self::Drains => "holders are waited for",
            Self::Waits => "its turn is waited for",
            Self::Expires => "the token expires",
            Self::Fails(_, true) => "the token is replaced and the new one cannot be had",
            Self::Fails(Reason::TargetConflict, _) => "the target's name is taken",
            Self::Fails(reason, _) => match reason.class() {
                Class::Transient | Class::RateLimited | Class::Ambiguous => "an attempt fails",
                Class::NeedsReauthorization | Class::GrantUnusable => {
                    "a new authorization is needed"
                }
                Class::Misconfiguration => "a change of an object is needed",
            },
        }
    }
}

/// From one state to another, and what leads there.
type Edges = BTreeMap<(String, String), BTreeSet<&'static str>>;

/// A status, and the time.
#[derive(Clone)]
struct Node {
    status: CredentialStatus,
    now: i64,
}

impl Node {
    /// What tells it from others: times do not.
    fn key(&self) -> String {
        let conditions = self.status.conditions.iter();
        let conditions = conditions.map(|c| format!("{} {} {}", c.type_, c.status, c.reason));
        let refresh = self.status.refresh.as_ref();
        let last = refresh.and_then(|r| r.last_error.as_ref());
        format!(
            "{:?} {:?} {}",
            conditions.collect::<BTreeSet<_>>(),
            last.map(|l| l.reason.clone()),
            is_alive(&self.status, at(self.now)),
        )
    }

    fn state(&self) -> String {
        condition(&self.status, READY).unwrap().reason.clone()
    }

    fn credential(&self) -> IntegrationCredential {
        credential(Some(self.status.clone()))
    }

    /// What comes of it; `None`: nothing, or it cannot happen.
    fn after(&self, event: Happens) -> Option<Self> {
        let credential = self.credential();
        let mut now = self.now + 1;
        let token = || {
            let generation = plan::known_generation(Some(&self.status)) + 1;
            Some(grant::sample(generation, "rt", at(now)).token)
        };
        let status = match event {
            Happens::Obtained => {
                let report = Report {
                    token: token(),
                    refreshed: true,
                    ..Report::default()
                };
                Some(after(&credential, &report, at(now)))
            }
            Happens::Fails(reason, target_is_dead) => {
                let report = Report {
                    failure: Some(Failure::new(reason, "what to do")),
                    target_is_dead,
                    ..Report::unchanged(&credential)
                };
                Some(after(&credential, &report, at(now)))
            }
            Happens::Repaired => {
                self.status.token.as_ref()?;
                let report = Report {
                    aside: true,
                    target_version: Some("7".to_owned()),
                    ..Report::unchanged(&credential)
                };
                Some(after(&credential, &report, at(now)))
            }
            Happens::Drains => draining(&credential, &["somebody".to_owned()], at(now)),
            Happens::Waits => waiting(&credential, Some("others come first"), at(now)),
            Happens::Expires => {
                let token = self.status.token.as_ref()?;
                let end = token.expiration_time.as_ref()?.0;
                now = end.duration_since(at(0)).as_secs().max(now);
                super::at(&credential, at(now))
            }
        };
        status.map(|status| Self { status, now })
    }
}

/// Fails unless a status keeps the rules.
fn check(node: &Node, what: &str) {
    let Node { status, now } = node;
    let of = |type_| condition(status, type_);
    let is_true = |type_| of(type_).is_some_and(|c| c.status == "True");
    let shown = || format!("{what}: {:#?}", status.conditions);
    let types: BTreeSet<_> = status.conditions.iter().map(|c| &c.type_).collect();
    assert_eq!(types.len(), status.conditions.len(), "{}", shown());
    for condition in &status.conditions {
        assert_eq!(condition.observed_generation, Some(2), "{}", shown());
        assert!(!condition.reason.is_empty(), "{}", shown());
    }
    let ready = of(READY).unwrap_or_else(|| panic!("{}", shown()));
    let states: &[&str] = match ready.status.as_str() {
        "True" => &["Valid", "Refreshing"],
        "False" => &["Pending", "Expired", "Invalid"],
        _ => &["Pending"],
    };
    assert!(states.contains(&ready.reason.as_str()), "{}", shown());
    assert!(!ready.message.is_empty(), "{}", shown());
    if ready.status == "True" {
        assert!(is_alive(status, at(*now)), "{}", shown());
    }
    // Present only while true, all but these two.
    for condition in &status.conditions {
        let may_be_false = [READY, STALLED].contains(&condition.type_.as_str());
        assert!(may_be_false || condition.status == "True", "{}", shown());
    }
    if is_true(SUSPENDED) {
        assert!(
            of(RECONCILING).is_none() && of(STALLED).is_none(),
            "{}",
            shown()
        );
        return;
    }
    let stalled = of(STALLED).unwrap_or_else(|| panic!("{}", shown()));
    assert!(!(is_true(STALLED) && is_true(RECONCILING)), "{}", shown());
    if stalled.status == "True" {
        let last = status.refresh.as_ref().and_then(|r| r.last_error.as_ref());
        let reason = Reason::ALL
            .into_iter()
            .find(|r| r.as_str() == stalled.reason);
        assert!(reason.unwrap().class().consequence().stalled, "{}", shown());
        assert_eq!(last.unwrap().reason, stalled.reason, "{}", shown());
        assert!(!stalled.message.is_empty(), "{}", shown());
    } else if ready.status != "True" {
        assert!(is_true(RECONCILING), "nobody is at it. {}", shown());
    }
    if ready.reason == "Invalid" && of(RECONCILING).is_none_or(|c| c.reason != "Draining") {
        assert!(is_true(STALLED), "{}", shown());
    }
    if ready.reason == "Refreshing" {
        assert!(is_true(RECONCILING), "{}", shown());
    }
}

/// Everything that can be reached, and what leads from state to state.
fn explore() -> (Vec<Node>, Edges) {
    let first = Node {
        status: first(&credential(None), at(0)),
        now: 0,
    };
    let mut edges = Edges::new();
    let mut seen = BTreeSet::from([first.key()]);
    let mut found = vec![first];
    let mut next = 0;
    while let Some(node) = found.get(next).cloned() {
        next += 1;
        for event in Happens::all() {
            let Some(after) = node.after(event) else {
                continue;
            };
            check(&after, &format!("{event:?} after {}", node.key()));
            let edge = (node.state(), after.state());
            if edge.0 != edge.1 {
                edges.entry(edge).or_default().insert(event.said());
            }
            if seen.insert(after.key()) {
                found.push(after);
            }
        }
    }
    (found, edges)
}

#[test]
fn whatever_happens_in_whatever_state_the_conditions_keep_the_rules_of_kstatus() {
    let (found, _) = explore();
    let reached: BTreeSet<_> = found.iter().map(Node::state).collect();
    let states = ["Expired", "Invalid", "Pending", "Refreshing", "Valid"];
    assert_eq!(
        reached.iter().map(String::as_str).collect::<Vec<_>>(),
        states
    );
    // Each reason in each state in which it can be found.
    assert!(found.len() > 2 * Reason::ALL.len(), "{}", found.len());
}

#[test]
fn the_diagram_in_the_documentation_is_the_machine() {
    let (_, edges) = explore();
    let mut lines = vec![
        "stateDiagram-v2".to_owned(),
        "    [*] --> Pending".to_owned(),
    ];
    for ((from, to), events) in edges {
        let events: Vec<_> = events.into_iter().collect();
        lines.push(format!("    {from} --> {to}: {}", events.join(" / ")));
    }
    let wanted = format!("```mermaid\n{}\n```", lines.join("\n"));
    let concepts = include_str!("../../docs/concepts.md");
    assert!(
        concepts.contains(&wanted),
        "docs/concepts.md has another diagram than:\n{wanted}"
    );
}

#[test]
fn in_every_state_a_credential_can_be_suspended_and_resumed_and_is_told_of_once() {
    let (found, _) = explore();
    for node in found {
        let before = node.credential();
        let mut suspended = before.clone();
        suspended.spec.suspend = true;
        suspended.metadata.generation = Some(3);
        let now = at(node.now + 1);
        let status = super::at(&suspended, now).expect("says so");
        let ready = |status: &CredentialStatus| condition(status, READY).unwrap().clone();
        let (was, is) = (ready(&node.status), ready(&status));
        let is_alive = is_alive(&status, now);
        if was.status != "True" || is_alive {
            assert_eq!(
                (was.status, was.reason),
                (is.status, is.reason),
                "Ready keeps its truth"
            );
        } else {
            assert_eq!(is.status, "False");
        }
        for type_ in [STALLED, RECONCILING] {
            assert!(condition(&status, type_).is_none());
        }
        assert!(
            status
                .conditions
                .iter()
                .all(|c| c.observed_generation == Some(3))
        );
        assert_eq!(status.observed_generation, Some(3));
        let message = &condition(&status, SUSPENDED).unwrap().message;
        assert!(
            message.contains(r#"-p '{"spec":{"suspend":false}}'"#),
            "{message}"
        );
        let told = noticed(&suspended, Some(&node.status), &status);
        assert_eq!(
            told.iter().map(|t| t.reason).collect::<Vec<_>>(),
            ["Suspended"]
        );

        // Nothing changes any more but that the token expires.
        suspended.status = Some(status.clone());
        assert_eq!(super::at(&suspended, now), None);
        let end = status
            .token
            .as_ref()
            .and_then(|t| t.expiration_time.clone());
        if let Some(end) = end.filter(|end| end.0 > now) {
            assert_eq!(wake(&suspended, &status, now), Wake::OnChange(Some(end.0)));
            if ready(&status).status == "False" {
                continue;
            }
            let expired = super::at(&suspended, end.0).expect("the token has expired");
            assert_eq!(ready(&expired).status, "False");
            assert!(condition(&expired, RECONCILING).is_none());
        } else {
            assert_eq!(wake(&suspended, &status, now), Wake::OnChange(None));
        }

        let mut resumed = before;
        resumed.status = Some(status.clone());
        let report = Report {
            token: Some(grant::sample(9, "rt", now).token),
            refreshed: true,
            ..Report::unchanged(&resumed)
        };
        let after = after(&resumed, &report, now);
        check(
            &Node {
                status: after.clone(),
                now: node.now + 1,
            },
            "resumed",
        );
        let told = transitions(&resumed, Some(&status), &after, &report);
        assert!(told.iter().any(|t| t.reason == "Resumed"), "{told:?}");
    }
}

#[test]
fn a_credential_that_is_suspended_from_the_start_says_so() {
    let mut suspended = credential(None);
    suspended.spec.suspend = true;
    let status = first(&suspended, at(0));
    check(
        &Node {
            status: status.clone(),
            now: 0,
        },
        "the first",
    );
    let ready = condition(&status, READY).unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("Unknown", "Pending")
    );
    assert!(condition(&status, SUSPENDED).is_some());
    assert_eq!(wake(&suspended, &status, at(0)), Wake::OnChange(None));
}

#[test]
fn what_a_provider_answers_is_told_by_codes_that_are_known_and_by_nothing_else() {
    use crate::oauth::error::{Answer, Spends};
    let code = |error: Option<&str>| {
        let answer = Answer::Answered {
            status: 400,
            error: error.map(str::to_owned),
            meaning: None,
            retry_after: None,
        };
        let failure = explain::failure(&answer, Spends::Nothing, &credential(None), "https://x");
        let report = Report {
            failure: Some(failure),
            ..Report::default()
        };
        let status = after(&credential(None), &report, at(0));
        let shown = json!(status).to_string();
        assert!(!shown.contains("canary"), "{shown}");
        status.refresh.unwrap().last_error.unwrap().code
    };
    assert_eq!(
        code(Some("invalid_grant")).as_deref(),
        Some("invalid_grant")
    );
    for unknown in [None, Some("canary"), Some("invalid_grant canary"), Some("")] {
        assert_eq!(code(unknown).as_deref(), Some("400"), "{unknown:?}");
    }
}
