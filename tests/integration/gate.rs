//! Gates that nobody keeps, and tokens that are reported dead.

use std::time::Duration;

use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use tokenward::manager::CredentialManager;

use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, within},
};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

async fn is_open(fixture: &Fixture) -> Option<()> {
    let gate = fixture.leases().get_opt("alice.gate").await.unwrap()?;
    (gate.annotations()["tokenward.dev/phase"] == "Open").then_some(())
}

/// A token that lives for an hour, so that nothing is due, and durations of a test.
async fn at_rest(test: &str) -> Fixture {
    let fixture = Fixture::new(test, HOUR).await;
    fixture.seed("alice").await;
    fixture
}

/// Closes the gate in the name of a writer that does not live.
pub async fn close(fixture: &Fixture) {
    let notes = json!({
        "tokenward.dev/phase": "Draining", "tokenward.dev/attempt": "dead",
        "tokenward.dev/takeover-delay-seconds": "1",
    });
    let gate = json!({
        "metadata": {"annotations": notes},
        "spec": {"holderIdentity": "somebody/dead", "leaseDurationSeconds": 1},
    });
    let (params, patch) = (PatchParams::default(), Patch::Merge(gate));
    let closed = fixture.leases().patch("alice.gate", &params, &patch).await;
    closed.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_writer_died_is_opened_although_nothing_is_due() {
    let fixture = at_rest("stuck-gate").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    eventually("an open gate", async || is_open(&fixture).await).await;
    close(&fixture).await;
    within(MINUTE, "an open gate", async || is_open(&fixture).await).await;
    assert_eq!(fixture.oauth.granted(), 1, "nothing was due");
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    assert_eq!(manager.acquire("alice").await.unwrap().generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_writer_died_is_opened_beside_a_dead_grant_too() {
    let fixture = at_rest("stuck-dead").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    let token = crate::support::text(&grant, "refresh_token");
    fixture.oauth.revoke_family_of(&token);
    fixture.ask("alice", "1").await;
    fixture.stalled("alice", "ReauthorizationRequired").await;
    eventually("an open gate", async || is_open(&fixture).await).await;
    let requests = fixture.oauth.request_count();
    close(&fixture).await;
    within(MINUTE, "an open gate", async || is_open(&fixture).await).await;
    // The dead token was not presented for that, and what was said stands.
    assert_eq!(fixture.oauth.request_count(), requests);
    fixture.stalled("alice", "ReauthorizationRequired").await;
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_gate_that_is_deleted_is_made_anew() {
    let fixture = Fixture::new("idle-gate", MINUTE * 4).await;
    let _operator = fixture.operator_with(&["--request-timeout", "1s"]);
    fixture.machine("alice", json!({})).await;
    fixture.ready("alice").await;
    eventually("an open gate", async || is_open(&fixture).await).await;
    let gates = fixture.leases();
    let deleted = gates.delete("alice.gate", &DeleteParams::default()).await;
    deleted.unwrap();
    // Closed for as long as a writer could last, here 1.05 * (6 s + 7 s), and 5 s before that is noticed.
    within(MINUTE, "an open gate", async || is_open(&fixture).await).await;
    let token = fixture.get("alice").await.status.unwrap().token.unwrap();
    assert_eq!(token.generation, 1, "nothing was due");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_reported_dead_is_replaced_although_a_refresh_has_an_unknown_outcome() {
    // The provider may end the old token at a refresh, or not; nobody has said.
    let fixture = at_rest("reported").await;
    // After a lost answer the gate stays closed for as long as the exchange may still be carried out.
    let _operator = fixture.operator_with(&["--request-timeout", "5s"]);
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    // A refresh is asked for, and what becomes of it is not known: here, nothing.
    fixture.oauth.fail_next(Fault::DropBeforeCommit);
    let hold = manager.acquire("alice").await.unwrap();
    manager.report_rejected(hold).await.unwrap();
    eventually("the next token", async || {
        let credential = fixture.get("alice").await;
        let token = credential.status.as_ref()?.token.as_ref()?;
        (token.generation == 2).then_some(())
    })
    .await;
    let credential = fixture.get("alice").await;
    let (ready, why, _) = condition(&credential, "Ready").unwrap();
    assert_eq!((ready.as_str(), why.as_str()), ("True", "Valid"));
}
