//! Many credentials at one provider: its limits are kept, and its failures are its own.

use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use serde_json::json;

use crate::{
    oauth_server::{Answer, Config, Fault, OAuthServer, Outcome},
    support::{Fixture, condition, eventually, soon, within},
};

const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(120);

/// When each request arrived, and whether it was granted.
fn arrivals(server: &OAuthServer) -> Vec<(Timestamp, bool)> {
    let is_granted = |outcome: &Outcome| matches!(outcome, Outcome::Granted { .. });
    let requests = server.requests();
    requests
        .iter()
        .map(|r| (r.at, is_granted(&r.outcome)))
        .collect()
}

fn seconds(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(seconds.cast_signed())
}

/// The most that arrived in any window of this length.
fn most_in(arrivals: &[Timestamp], per: SignedDuration) -> usize {
    let since = |begin: &Timestamp| {
        let within = |at: &&Timestamp| **at >= *begin && at.duration_since(*begin) < per;
        arrivals.iter().filter(within).count()
    };
    arrivals.iter().map(since).max().unwrap_or(0)
}

/// Whether three came one by one, and not sooner than a probe that is not answered is given up.
fn is_probed(hanging: &OAuthServer) -> bool {
    let arrivals: Vec<_> = arrivals(hanging).into_iter().map(|(at, _)| at).collect();
    let apart = |pair: &[Timestamp]| pair[1].duration_since(pair[0]) >= seconds(5);
    arrivals.windows(3).any(|three| three.windows(2).all(apart))
}

async fn machines(fixture: &Fixture, prefix: &str, count: usize, provider: &str) -> Vec<String> {
    let names: Vec<_> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    let change = json!({"oauth2": {"providerRef": {"name": provider}}});
    join_all(
        names
            .iter()
            .map(|name| fixture.machine(name, change.clone())),
    )
    .await;
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_429_nobody_is_sent_before_its_pause_is_over_and_then_one_by_one() {
    const PAUSE: u64 = 8;
    const MANY: usize = 30;
    let fixture = Fixture::new("stampede", HOUR).await;
    let limited = Answer::new(429).header("retry-after", &PAUSE.to_string());
    fixture.oauth.fail_always(Fault::Answer(limited));
    let _operator = fixture.operator();
    machines(&fixture, "first", 1, "provider").await;
    soon("the pause", fixture.oauth.wait_for_outcomes(1)).await;
    fixture.oauth.clear_faults();
    let names = machines(&fixture, "c", MANY, "provider").await;

    // They say what they wait for, and are not failed.
    let waiting = eventually("somebody says that it waits", async || {
        let found = fixture.credentials().list(&ListParams::default()).await;
        let mut found = found.unwrap().items.into_iter();
        found.find(|c| condition(c, "Reconciling").is_some_and(|c| c.1 == "WaitingForTurn"))
    })
    .await;
    let (_, _, message) = condition(&waiting, "Reconciling").unwrap();
    for word in [
        &fixture.oauth.url(),
        "OAuthProvider provider",
        "asked for a pause",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(
        waiting.status.unwrap().refresh.unwrap_or_default().failures,
        0
    );

    within(PATIENCE, "everybody has a token", async || {
        (fixture.oauth.granted() > MANY).then_some(())
    })
    .await;
    for name in &names {
        let ready = fixture.ready(name).await;
        assert_eq!(condition(&ready, "Reconciling"), None);
    }
    let arrivals = arrivals(&fixture.oauth);
    let pause_ends = arrivals[0].0 + seconds(PAUSE);
    let after: Vec<_> = arrivals[1..].iter().map(|(at, _)| *at).collect();
    assert!(after.iter().all(|at| *at >= pause_ends), "{arrivals:?}");
    assert_eq!(after.len(), MANY + 1, "nobody asks in vain");
    let all = after[MANY].duration_since(after[0]);
    assert!(all >= seconds(8), "{all:?}: {after:?}");
    let most = most_in(&after, seconds(1));
    assert!(most <= MANY / 2, "{most} in a second: {after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_provider_holds_up_nobody_else_and_is_asked_by_few() {
    const MANY: usize = 20;
    let mut fixture = Fixture::new("dead", HOUR).await;
    fixture.oauth.stop().await.unwrap();
    let hanging = OAuthServer::start(Config::default()).await.unwrap();
    hanging.fail_always(Fault::Hang(HOUR));
    let url = json!({"tokenUrl": hanging.token_url()});
    fixture.provider_named("hanging", url).await;
    let alive = OAuthServer::start(Config::default()).await.unwrap();
    // Short enough that tokens are refreshed again and again.
    alive.configure(|behaviour| behaviour.lifetime = Duration::from_secs(4));
    let url = json!({"tokenUrl": alive.token_url()});
    fixture.provider_named("alive", url).await;

    let operator = fixture.operator_with(&["--request-timeout", "5s"]);
    let refused = machines(&fixture, "refused", MANY, "provider").await;
    machines(&fixture, "hanging", MANY, "hanging").await;
    let served = machines(&fixture, "served", 5, "alive").await;
    for name in &served {
        fixture.generation(name, 4).await;
        fixture.untroubled(name).await;
    }
    within(PATIENCE, "an open breaker", async || {
        operator.log().contains("CircuitOpen").then_some(())
    })
    .await;
    within(PATIENCE, "probes", async || {
        is_probed(&hanging).then_some(())
    })
    .await;

    fixture.oauth.restart().await.unwrap();
    within(PATIENCE, "everybody has a token", async || {
        (fixture.oauth.granted() >= MANY).then_some(())
    })
    .await;
    for name in &refused {
        fixture.ready(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_the_provider_object_states_is_kept() {
    let fixture = Fixture::new("budget", HOUR).await;
    let limit = json!({"refresh": {"rateLimit": {"requests": 4, "per": "6s"}}});
    fixture.provider(limit).await;
    let _operator = fixture.operator();
    let names = machines(&fixture, "c", 12, "provider").await;
    within(PATIENCE, "everybody has a token", async || {
        (fixture.oauth.granted() >= names.len()).then_some(())
    })
    .await;
    for name in &names {
        fixture.ready(name).await;
    }
    let arrivals: Vec<_> = arrivals(&fixture.oauth).iter().map(|(at, _)| *at).collect();
    assert_eq!(arrivals.len(), names.len());
    let most = most_in(&arrivals, seconds(6));
    assert!(most <= 4, "{most}: {arrivals:?}");
    // Three of four: the rest is for others, and for what is late on its way.
    let all = arrivals[names.len() - 1].duration_since(arrivals[0]);
    assert!(all >= seconds(15), "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_somebody_deletes_is_back_at_once_whatever_its_credential_waits_for() {
    let fixture = Fixture::new("meanwhile", Duration::from_secs(40)).await;
    let token = fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let limited = Answer::new(429).header("retry-after", "600");
    fixture.oauth.fail_always(Fault::Answer(limited));
    fixture.machine("ci", json!({})).await;
    soon("the pause", fixture.oauth.wait_for_outcomes(2)).await;

    fixture
        .until("alice", "waiting", |c| {
            condition(c, "Reconciling").is_some_and(|c| c.1 == "WaitingForTurn")
        })
        .await;
    let before = fixture.find_secret("alice").await.unwrap();
    fixture.delete_secret("alice").await;
    let again = eventually("the target", async || fixture.find_secret("alice").await).await;
    assert_eq!(again.data, before.data);
    // When it expires, that is told, though nobody was asked.
    let expired = fixture
        .until("alice", "Expired", |c| {
            condition(c, "Ready")
                .is_some_and(|c| (c.0.as_str(), c.1.as_str()) == ("False", "Expired"))
        })
        .await;
    assert_eq!(
        condition(&expired, "Reconciling").unwrap().1,
        "WaitingForTurn"
    );
    assert_eq!(fixture.oauth.request_count(), 2);
    assert_eq!(fixture.oauth.redemptions(&token), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_not_refreshed_sooner_than_the_provider_wants_but_for_a_person() {
    let fixture = Fixture::new("interval", Duration::from_secs(10)).await;
    let interval = json!({"refresh": {"minInterval": "1h"}});
    fixture.provider(interval).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    // Its token is due after 5 s at the latest, and is used up instead, to the second.
    fixture.generation("ci", 3).await;
    let arrivals: Vec<_> = arrivals(&fixture.oauth).iter().map(|(at, _)| *at).collect();
    for pair in arrivals.windows(2) {
        assert!(
            pair[1].duration_since(pair[0]) >= seconds(7),
            "{arrivals:?}"
        );
    }
    let before = fixture.get("ci").await.status.unwrap().token.unwrap();
    let ended = fixture.tokenward(&["refresh", "ci"]).end().await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let after = fixture.get("ci").await.status.unwrap().token.unwrap();
    assert!(after.generation > before.generation);
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_provider_that_changes_each_waits_for_its_turn_in_front_of_its_gate() {
    const MANY: usize = 12;
    let fixture = Fixture::new("changes", HOUR).await;
    let limit = json!({"rateLimit": {"requests": 5, "per": "6s"}});
    fixture.provider(json!({"refresh": limit.clone()})).await;
    let _operator = fixture.operator();
    for name in machines(&fixture, "c", MANY, "provider").await {
        fixture.ready(&name).await;
    }
    fixture.told(MANY).await;
    let audit = fixture.audit();
    let changed = json!({"refresh": limit, "params": {"audience": "changed"}});
    fixture.provider(changed).await;
    let obtained = async || (fixture.oauth.granted() == 2 * MANY).then_some(());
    within(PATIENCE, "a new token for each", obtained).await;
    for n in 0..MANY {
        fixture.generation(&format!("c-{n}"), 2).await;
    }
    let arrivals: Vec<_> = arrivals(&fixture.oauth).into_iter().collect();
    let times: Vec<_> = arrivals.iter().map(|(at, _)| *at).collect();
    assert!(most_in(&times, seconds(6)) <= 5, "{times:?}");
    // Closed and opened once for each: nobody who holds one is told to let go before it is its turn.
    let gates = async || {
        let writes = audit.writes();
        let gates = writes.iter().filter(|w| w.starts_with("update leases"));
        (gates.count() >= 2 * MANY).then_some(writes)
    };
    let writes = eventually("the gates open", gates).await;
    let gates = writes.iter().filter(|w| w.starts_with("update leases"));
    assert_eq!(gates.count(), 2 * MANY, "{writes:#?}");
}
