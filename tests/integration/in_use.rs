//! Many programs that use credentials while these are refreshed by a server that ends the old token.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Fixture, Program, kubeconfig, within};

/// Tokens that live this long are refreshed after about 13 s.
const LIFETIME: Duration = Duration::from_secs(30);

const PROGRAMS: usize = 8;
const CREDENTIALS: usize = 16;
const REFRESHES: usize = 60;

/// The refreshes of credentials as they are seen: each generation, and when its token was obtained.
#[derive(Default)]
struct Refreshes(BTreeMap<String, BTreeMap<i64, Timestamp>>);

impl Refreshes {
    async fn look(&mut self, fixture: &Fixture, names: &[String]) {
        for name in names {
            let Some(token) = fixture.get(name).await.status.and_then(|s| s.token) else {
                continue;
            };
            if let Some(at) = token.last_refresh_time {
                let seen = self.0.entry(name.clone()).or_default();
                seen.insert(token.generation, at.0);
            }
        }
    }

    fn count(&self) -> usize {
        self.0.values().map(|seen| seen.len() - 1).sum()
    }

    /// Each token was obtained before the one before it expired.
    fn assert_in_time(&self) {
        for (name, seen) in &self.0 {
            let steps = seen.iter().zip(seen.iter().skip(1));
            for ((from, before), (to, after)) in steps {
                assert_eq!(from + 1, *to, "{name} was not looked at often enough");
                let took = after.duration_since(*before).as_secs_f64();
                assert!(
                    took < LIFETIME.as_secs_f64(),
                    "{name}: generation {to} came {took} s after {from}"
                );
            }
        }
    }
}

async fn are_never_refused(test: &str, lock: Value) {
    let fixture = Fixture::new(test, LIFETIME).await;
    let operator = fixture.operator();
    let names: Vec<_> = (0..CREDENTIALS).map(|n| format!("c{n}")).collect();
    for name in &names {
        fixture.seed(name).await;
        fixture.user(name, json!({"lock": lock})).await;
    }
    for name in &names {
        fixture.ready(name).await;
    }
    let (kubeconfig, resource) = (kubeconfig(), fixture.oauth.resource_url());
    let programs: Vec<_> = (0..PROGRAMS)
        .map(|n| {
            let first = (n * CREDENTIALS / PROGRAMS).to_string();
            let mut arguments = vec!["--namespace", &fixture.namespace, "--resource", &resource];
            arguments.extend(["--first", &first]);
            arguments.extend(names.iter().map(String::as_str));
            Program::example("consumer", &kubeconfig, &arguments)
        })
        .collect();

    let mut refreshes = Refreshes::default();
    let start = Instant::now();
    while refreshes.count() < REFRESHES {
        refreshes.look(&fixture, &names).await;
        assert!(
            start.elapsed() < Duration::from_secs(180),
            "{}",
            refreshes.count()
        );
        // One look a second or so; a token lives for 30.
        within(LIFETIME, "a second", async || {
            (start.elapsed().subsec_millis() < 200).then_some(())
        })
        .await;
    }
    let told: Vec<Value> = programs.into_iter().map(Program::finish).collect();
    refreshes.assert_in_time();
    let sum = |what: &str| told.iter().map(|t| t[what].as_u64().unwrap()).sum::<u64>();
    let (accepted, refused) = fixture.oauth.resource_calls();
    assert_eq!(refused, 0, "{told:?}");
    assert_eq!((sum("refused"), sum("errors")), (0, 0), "{told:?}");
    assert!(sum("lost") == 0 || fixture.paused_for(3), "{told:?}");
    assert!(sum("acquired") > 100 && accepted > 100, "{told:?}");
    assert_eq!(fixture.oauth.max_presentations(), 1);
    assert!(
        operator.log().contains("Draining"),
        "no refresh ever waited"
    );
    eprintln!(
        "{} refreshes, {accepted} calls, {told:?}",
        refreshes.count()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_programs_that_share_credentials_are_never_refused_over_sixty_refreshes() {
    are_never_refused("shared", json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_programs_that_take_turns_are_never_refused_over_sixty_refreshes() {
    are_never_refused("turns", json!({"mode": "Exclusive"})).await;
}
