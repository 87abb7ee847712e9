//! A real Prometheus with the chart's rules, as they are, and an operator to which things happen. Alerts that wait for
//! minutes are seen to begin and to end here; that they fire after that is shown in [`super::rules`].

use std::time::Duration;

use serde_json::{Value, json};
use tokenward::manager::CredentialManager;

use super::{dashboard, shipped_rules};
use crate::{
    oauth_server::Fault as ProviderFault,
    support::{Calls, Fault, Fixture, Operator, Prometheus, text, within},
};

/// Tokens that live this long are refreshed after about 9 s.
const LIFETIME: Duration = Duration::from_secs(20);

/// Long enough for a token to expire and for retries.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until this alert is there, with these labels among its own.
async fn begins(prometheus: &Prometheus, name: &str, state: &str, labels: Value) {
    let mut last = Vec::new();
    within(
        PATIENCE,
        &format!("{name} is {state}: {labels}"),
        async || {
            last = prometheus.alerts(name).await;
            let is_it = |alert: &Value| {
                let mut wanted = labels.as_object().unwrap().iter();
                alert["state"] == state
                    && wanted.all(|(name, value)| alert["labels"][name] == *value)
            };
            last.iter().any(is_it).then_some(())
        },
    )
    .await;
}

/// Waits until no alert of this name is there.
async fn ends(prometheus: &Prometheus, name: &str) {
    within(PATIENCE, &format!("{name} is over"), async || {
        prometheus.alerts(name).await.is_empty().then_some(())
    })
    .await;
}

async fn metrics(operator: &Operator) -> String {
    let address = format!("http://{}/metrics", operator.health().await);
    reqwest::get(address).await.unwrap().text().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_breaks_is_alerted_of_until_it_is_repaired_and_the_dashboard_shows_it() {
    let fixture = Fixture::new("alerts", LIFETIME).await;
    let prometheus = Prometheus::start(&shipped_rules().await).await;
    let operator = fixture.operator_with(&["--metrics-per-credential"]);
    prometheus.scrape(&[("a", &operator.health().await)]);
    let provider = format!("{}/provider", fixture.namespace);
    let of_provider = json!({"namespace": "system", "job": "tokenward", "provider": provider});
    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    // The counters are there before anything happens to them.
    let calm = format!(
        r#"tokenward_token_endpoint_requests_total{{provider="{provider}",code_class="5xx"}} == 0 and on ()
        tokenward_forced_refresh_total{{provider="{provider}"}} == 0"#
    );
    prometheus.until(&calm).await;
    for alert in ["TokenwardNoLeader", "TokenwardNotReady"] {
        ends(&prometheus, alert).await;
    }

    // The authorization is taken back.
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    assert!(
        fixture
            .oauth
            .revoke_family_of(&text(&grant, "refresh_token"))
    );
    fixture.ask("alice", "1").await;
    let stalled = json!({"namespace": "system", "reason": "ReauthorizationRequired"});
    let system = json!({"namespace": "system", "severity": "warning"});
    begins(
        &prometheus,
        "TokenwardReauthorizationRequired",
        "firing",
        system,
    )
    .await;
    begins(
        &prometheus,
        "TokenwardCredentialsStalled",
        "pending",
        stalled,
    )
    .await;

    // Somebody does not let go.
    let stubborn = json!({"lock": {"drainGrace": "1s"}});
    fixture.machine("held", stubborn).await;
    fixture.ready("held").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("held").await.unwrap();
    begins(&prometheus, "TokenwardForcedRefresh", "firing", of_provider).await;

    dashboard::shows_something_everywhere(&prometheus, &metrics(&operator).await).await;

    // The user authorizes again.
    fixture.seed("alice").await;
    for alert in [
        "TokenwardReauthorizationRequired",
        "TokenwardCredentialsStalled",
        "TokenwardCredentialsExpired",
        "TokenwardCredentialsLate",
    ] {
        ends(&prometheus, alert).await;
    }

    // The provider cannot serve, until tokens have expired.
    fixture.provider_named("fragile", json!({})).await;
    fixture.oauth.fail_always(ProviderFault::html(500));
    // At this provider nothing has gone well before, so that it does not matter how much has elsewhere.
    let at_fragile = json!({"oauth2": {"providerRef": {"name": "fragile"}}});
    fixture.machine("frail", at_fragile.clone()).await;
    let of_fragile =
        json!({"namespace": "system", "provider": format!("{}/fragile", fixture.namespace)});
    begins(
        &prometheus,
        "TokenwardRefreshFailing",
        "pending",
        of_fragile,
    )
    .await;
    let system = json!({"namespace": "system"});
    begins(
        &prometheus,
        "TokenwardCredentialsLate",
        "pending",
        system.clone(),
    )
    .await;
    begins(
        &prometheus,
        "TokenwardCredentialsExpired",
        "pending",
        system,
    )
    .await;

    // It serves again.
    hold.release().await;
    fixture.oauth.clear_faults();
    fixture
        .oauth
        .configure(|behaviour| behaviour.lifetime = Duration::from_secs(3600));
    for alert in ["TokenwardCredentialsLate", "TokenwardCredentialsExpired"] {
        ends(&prometheus, alert).await;
    }
    // Half of the requests of a quarter of an hour have to go well again.
    for number in 0..=fixture.oauth.request_count() {
        let name = format!("more-{number}");
        fixture.machine(&name, at_fragile.clone()).await;
    }
    ends(&prometheus, "TokenwardRefreshFailing").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_is_gone_or_knows_nothing_is_alerted_of_until_one_works() {
    let fixture = Fixture::new("noleader", Duration::from_secs(3600)).await;
    let prometheus = Prometheus::start(&shipped_rules().await).await;
    begins(&prometheus, "TokenwardNoLeader", "pending", json!({})).await;
    let mut operator = fixture.operator();
    operator.ready().await;
    prometheus.scrape(&[("a", &operator.health().await)]);
    ends(&prometheus, "TokenwardNoLeader").await;

    operator.kill();
    let gone = json!({"namespace": "system", "job": "tokenward"});
    begins(&prometheus, "TokenwardNoLeader", "pending", gone.clone()).await;

    let proxy = fixture.proxy().await;
    let refused = proxy.inject(Calls::watches("secrets"), Fault::Answer(403));
    let operator = fixture.operator_through(&proxy, &[]);
    prometheus.scrape(&[("b", &operator.health().await)]);
    begins(&prometheus, "TokenwardNotReady", "pending", gone).await;
    ends(&prometheus, "TokenwardNoLeader").await;

    refused.remove();
    ends(&prometheus, "TokenwardNotReady").await;
}
