//! What a consumer may do with its own holds and wants, and what not with those of others.

use k8s_openapi::api::rbac::v1::Role;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

use super::{Guarded, NONCE, create, lease, refused, release, renew, verb, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_takes_renews_and_releases_holds_and_wants_of_its_own() {
    let guarded = Guarded::new("consumer").await;
    let app = guarded.consumer("app").await;
    for name in [
        "alice.hold.0123456789ab",
        "alice.hold.exclusive",
        "alice.want.0123456789ab",
    ] {
        let made = create(&app, &lease(name, &app)).await.unwrap();
        let renewed = renew(&app, &made, json!({})).await.unwrap();
        let renewal = renewed.spec.as_ref().unwrap().renew_time.as_ref();
        assert_eq!(renewal.unwrap().0.to_string(), "2026-01-01T00:00:20Z");
        // Not in use: the mark is put on and taken away.
        let mark = |mark| json!({"metadata": {"annotations": {"tokenward.dev/rejected": mark}}});
        let marked = renew(&app, &renewed, mark(json!("1"))).await.unwrap();
        let unmarked = renew(&app, &marked, mark(json!(null))).await.unwrap();
        // Somebody has changed it meanwhile: that is a conflict and no question of rights.
        let kube::Error::Api(late) = renew(&app, &made, json!({})).await.unwrap_err() else {
            panic!("no answer");
        };
        assert_eq!(late.code, 409, "{late:?}");
        app.leases().get(name).await.unwrap();
        release(&app, &unmarked).await.unwrap();
        assert!(app.leases().get_opt(name).await.unwrap().is_none());
    }
    // What else the role is for.
    let secrets = ("", "secrets/alice");
    let gate = ("coordination.k8s.io", "leases/alice.gate");
    for (group, resource) in [secrets, gate] {
        for verb in ["get", "list", "watch"] {
            app.until_it_may(true, verb, group, resource).await;
        }
    }
    let (group, alice) = ("tokenward.dev", "integrationcredentials/alice");
    app.until_it_may(true, "get", group, alice).await;
    for (verb, group, resource) in [
        ("gate", group, alice),
        ("hold", group, "integrationcredentials/bob"),
        ("patch", group, alice),
        ("get", "", "secrets/alice.grant"),
        ("get", "", "secrets/bob"),
        ("update", "coordination.k8s.io", "leases/alice.gate"),
    ] {
        app.until_it_may(false, verb, group, resource).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_cannot_hold_another_credential() {
    let guarded = Guarded::new("another").await;
    let app = guarded.consumer("app").await;
    let who = format!("{} may not hold the credential bob", app.user());
    for name in [
        "bob.hold.0123456789ab",
        "bob.hold.exclusive",
        "bob.want.0123456789ab",
    ] {
        let made = create(&app, &lease(name, &app)).await;
        refused(
            made,
            &[&who, &verb("hold", "bob"), &guarded.fixture.namespace],
        );
    }
    // Neither under a name that is its own, nor under a label.
    let label = "/metadata/labels/tokenward.dev~1credential";
    let own_name = lease("alice.hold.0123456789ab", &app);
    refused(
        create(&app, &with(own_name, label, json!("bob"))).await,
        &["credential=alice"],
    );
    let own_label = lease("bob.hold.0123456789ab", &app);
    refused(
        create(&app, &with(own_label, label, json!("alice"))).await,
        &["credential=bob"],
    );
    let unlabelled = with(
        lease("bob.hold.0123456789ab", &app),
        "/metadata/labels",
        json!(null),
    );
    refused(create(&app, &unlabelled).await, &["must have the labels"]);
    // A patch that creates is a creation.
    let params = PatchParams::apply("app");
    let apply = Patch::Apply(lease("bob.hold.0123456789ab", &app));
    let applied = app
        .leases()
        .patch("bob.hold.0123456789ab", &params, &apply)
        .await;
    refused(applied, &[&who]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_renews_releases_or_forges_the_hold_of_another() {
    let guarded = Guarded::new("forge").await;
    let app = guarded.consumer("app").await;
    let rival = guarded.consumer("rival").await;
    let hold = create(&app, &lease("alice.hold.0123456789ab", &app))
        .await
        .unwrap();
    let want = create(&app, &lease("alice.want.0123456789ab", &app))
        .await
        .unwrap();
    let belongs = format!("belongs to {}", app.user());
    for made in [&hold, &want] {
        for (other, right) in [(&rival, belongs.as_str()), (&guarded.editor, "\"hold\"")] {
            refused(renew(other, made, json!({})).await, &[right]);
            refused(
                release(other, made).await,
                &[&belongs, &verb("gate", "alice")],
            );
        }
        // To take it over is to change it.
        let owner = json!({"metadata": {"annotations": {"tokenward.dev/owner": rival.user()}}});
        refused(renew(&rival, made, owner).await, &[&belongs]);
    }
    let (params, everything) = (DeleteParams::default(), ListParams::default());
    let all = guarded.editor.leases();
    let deleted = all.delete_collection(&params, &everything).await;
    refused(deleted.map(|_| ()), &[&belongs]);
    let left = app.leases();
    for (name, uid) in [
        ("alice.hold.0123456789ab", &hold),
        ("alice.want.0123456789ab", &want),
    ] {
        assert_eq!(left.get(name).await.unwrap().metadata, uid.metadata);
    }

    // In the name of another, or of nobody.
    let owner = "/metadata/annotations/tokenward.dev~1owner";
    for forged in [
        json!(app.user()),
        json!("system:admin"),
        json!(""),
        json!(null),
    ] {
        let object = with(lease("alice.hold.fedcba987654", &rival), owner, forged);
        let must = format!("tokenward.dev/owner={}", rival.user());
        refused(create(&rival, &object).await, &[&must]);
    }
    // Not even its owner gives it away.
    let given = json!({"metadata": {"annotations": {"tokenward.dev/owner": rival.user()}}});
    refused(renew(&app, &hold, given).await, &["can never change"]);
    release(&app, &hold).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_belongs_to_the_pod_that_made_it() {
    let guarded = Guarded::new("pods").await;
    let account = guarded.consumer("app").await;
    let first = account.in_pod(&guarded.fixture, "first").await;
    let second = account.in_pod(&guarded.fixture, "second").await;
    let name = "alice.hold.0123456789ab";
    let hold = create(&first, &lease(name, &first)).await.unwrap();
    let belongs = format!("in the pod with uid {}", first.pod.as_ref().unwrap());
    for other in [&second, &account] {
        refused(renew(other, &hold, json!({})).await, &[&belongs]);
        refused(release(other, &hold).await, &[&belongs]);
    }
    let renewed = renew(&first, &hold, json!({})).await.unwrap();
    let pod = "tokenward.dev/owner-pod-uid";
    let moved = json!({"metadata": {"annotations": {pod: second.pod}}});
    refused(renew(&first, &renewed, moved).await, &["can never change"]);
    let hidden = json!({"metadata": {"annotations": {pod: null}}});
    refused(renew(&first, &renewed, hidden).await, &["can never change"]);
    release(&first, &renewed).await.unwrap();

    let place = "/metadata/annotations/tokenward.dev~1owner-pod-uid";
    let uid = |account: &crate::support::Account| json!(account.pod);
    for (maker, forged) in [
        (&second, uid(&first)),
        (&second, json!(null)),
        (&account, uid(&first)),
    ] {
        let object = with(lease(name, maker), place, forged);
        refused(
            create(maker, &object).await,
            &["tokenward.dev/owner-pod-uid"],
        );
    }
    // Made without a pod, it is the account's, wherever that runs.
    let hold = create(&account, &lease(name, &account)).await.unwrap();
    let renewed = renew(&first, &hold, json!({})).await.unwrap();
    release(&second, &renewed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_the_right_to_hold_can_only_release() {
    let guarded = Guarded::new("revoked").await;
    let app = guarded.consumer("app").await;
    let hold = create(&app, &lease("alice.hold.0123456789ab", &app))
        .await
        .unwrap();
    let roles: Api<Role> =
        Api::namespaced(guarded.fixture.client.clone(), &guarded.fixture.namespace);
    let first = json!([{"op": "test", "path": "/rules/0/verbs", "value": ["hold"]},
        {"op": "remove", "path": "/rules/0"}]);
    let without: Patch<()> = Patch::Json(serde_json::from_value(first).unwrap());
    roles
        .patch("alice-app", &PatchParams::default(), &without)
        .await
        .unwrap();
    let (group, alice) = ("tokenward.dev", "integrationcredentials/alice");
    app.until_it_may(false, "hold", group, alice).await;

    refused(
        renew(&app, &hold, json!({})).await,
        &[&verb("hold", "alice")],
    );
    let again = lease(&format!("alice.want.{NONCE}"), &app);
    refused(create(&app, &again).await, &[&verb("hold", "alice")]);
    release(&app, &hold).await.unwrap();
}
