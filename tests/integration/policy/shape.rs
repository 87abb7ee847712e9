//! What holds and wants must look like.

use serde_json::{Value, json};

use super::{Guarded, create, create_with, dry_run, lease, merge, refused, renew, with};

/// Where, what, and what is said of it.
fn faults() -> Vec<(&'static str, Value, &'static str)> {
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "app-1", "uid": "0"}]);
    let collected = "garbage collection would delete it";
    let seconds = "from 1 to 600";
    let (credential, role) = (
        "/metadata/labels/tokenward.dev~1credential",
        "/metadata/labels/tokenward.dev~1role",
    );
    vec![
        ("/metadata/ownerReferences", owner, collected),
        (
            "/metadata/finalizers",
            json!(["example.com/stay"]),
            "no finalizers",
        ),
        ("/spec/leaseDurationSeconds", json!(null), seconds),
        ("/spec/leaseDurationSeconds", json!(601), seconds),
        (credential, json!("bob"), "credential=alice"),
        (credential, json!(null), "credential=alice"),
        (role, json!("gate"), "the verb \"gate\""),
        (role, json!("other"), "tokenward.dev/role="),
        (role, json!(null), "tokenward.dev/role="),
        ("/metadata/labels", json!(null), "must have the labels"),
    ]
}

/// As a merge patch.
fn patch(place: &str, value: Value) -> Value {
    place
        .rsplit('/')
        .filter(|key| !key.is_empty())
        .fold(value, |inner, key| json!({key.replace("~1", "/"): inner}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_or_want_is_what_the_protocol_says_or_refused() {
    let guarded = Guarded::new("shape").await;
    let app = guarded.consumer("app").await;
    for name in [
        "alice.hold.0123456789ab",
        "alice.hold.exclusive",
        "alice.want.0123456789ab",
    ] {
        let good = lease(name, &app);
        let made = create(&app, &good).await.unwrap();
        let again = with(
            good.clone(),
            "/metadata/name",
            json!(name.replace("0123", "4567")),
        );
        for (place, fault, words) in faults() {
            let new = with(again.clone(), place, fault.clone());
            refused(create_with(&app, &new, &dry_run()).await, &[words]);
            refused(renew(&app, &made, patch(place, fault)).await, &[words]);
        }
        // The API server itself has the lower bound.
        let none = with(again, "/spec/leaseDurationSeconds", json!(0));
        create_with(&app, &none, &dry_run()).await.unwrap_err();
        // Nothing of it came of a fault in the test.
        let mut all = json!({"spec": {"leaseDurationSeconds": 600}});
        merge(&mut all, patch("/metadata/labels/app", json!("mail")));
        let renewed = renew(&app, &made, all).await.unwrap();
        assert_eq!(renewed.spec.unwrap().lease_duration_seconds, Some(600));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_holds_and_wants_tell_what_they_are() {
    let guarded = Guarded::new("names").await;
    let app = guarded.consumer("app").await;
    for name in [
        "alice.hold.0123456789a",
        "alice.hold.0123-456789ab",
        "alice.hold.0123456789ab.c",
        "alice.hold.exclusively",
        "alice.want.exclusive",
        "alice.want.0123456789a",
    ] {
        let answer = create_with(&app, &lease(name, &app), &dry_run()).await;
        refused(answer, &["none of its objects", "CREDENTIAL.hold.NONCE"]);
    }
    for name in [
        "alice.hold.0123456789abcdefghijklmnopqrstuvwxyz",
        "alice.want.0123456789ab",
    ] {
        create_with(&app, &lease(name, &app), &dry_run())
            .await
            .unwrap();
    }
    // A name that is generated has five letters after what was asked for.
    let generated = with(lease("alice.hold.x", &app), "/metadata/name", json!(null));
    let short = with(
        generated.clone(),
        "/metadata/generateName",
        json!("alice.hold.0123"),
    );
    refused(
        create_with(&app, &short, &dry_run()).await,
        &["none of its objects"],
    );
    let long = with(
        generated,
        "/metadata/generateName",
        json!("alice.hold.0123456"),
    );
    create_with(&app, &long, &dry_run()).await.unwrap();
    let unlabelled = with(long, "/metadata/labels", json!(null));
    refused(
        create_with(&app, &unlabelled, &dry_run()).await,
        &["must have the labels"],
    );
    let other = with(lease("bob.hold.x", &app), "/metadata/name", json!(null));
    let other = with(other, "/metadata/generateName", json!("bob.hold.0123456"));
    refused(create_with(&app, &other, &dry_run()).await, &["\"hold\""]);
}
