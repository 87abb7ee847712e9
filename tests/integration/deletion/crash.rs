//! An operator that is killed at the end of a credential.

use std::time::Duration;

use serde_json::json;

use super::{HOUR, delete, event, fixture, gone, note, revocable};
use crate::{oauth_server::Fault, support::eventually};

/// The gate that a dead process has left closed is taken over soon, and nothing is due before.
const SHORT: Duration = Duration::from_secs(50);

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_between_the_revocation_and_its_answer_the_next_one_ends_it() {
    let fixture = fixture("sigkill", SHORT).await;
    let arguments = ["--request-timeout", "5s"];
    let mut operator = fixture.operator_with(&arguments);
    let tokens = revocable(&fixture, "alice").await;
    fixture
        .oauth
        .fail_revocations([Fault::HangAfterCommit(HOUR)]);
    delete(&fixture, "alice").await;
    eventually("the revocation", async || {
        (!fixture.oauth.is_redeemable(&tokens.refresh)).then_some(())
    })
    .await;
    operator.kill();
    assert!(
        fixture
            .get("alice")
            .await
            .metadata
            .deletion_timestamp
            .is_some()
    );
    let _operator = fixture.operator_with(&arguments);
    gone(&fixture, "alice").await;
    event(&fixture, "Revoked").await;
    assert_eq!(fixture.oauth.revocations().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_noted_is_not_asked_for_again() {
    let fixture = fixture("noted", HOUR).await;
    let mut operator = fixture.operator();
    revocable(&fixture, "alice").await;
    operator.kill();
    let noted = json!({"attempts": 1, "outcome": "Revoked"});
    note(&fixture, "alice", noted).await;
    delete(&fixture, "alice").await;
    let _operator = fixture.operator();
    gone(&fixture, "alice").await;
    assert!(fixture.oauth.revocations().is_empty());
}
