//! Gates are the operator's alone.

use kube::{
    Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Guarded, HOUR, create, lease, refused, renew, verb, with};
use crate::support::{Account, Fixture};

/// As the operator makes it, but without an owner that could be collected.
async fn gate(guarded: &Guarded) -> k8s_openapi::api::coordination::v1::Lease {
    let mut object = lease("alice.gate", &guarded.editor);
    object["metadata"]["annotations"] = json!({"tokenward.dev/phase": "Open"});
    let object = serde_json::from_value(object).unwrap();
    let leases = guarded.fixture.leases();
    leases
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_operator_writes_a_gate() {
    let guarded = Guarded::new("gate").await;
    let app = guarded.consumer("app").await;
    let open = gate(&guarded).await;
    for account in [&app, &guarded.editor] {
        let who = format!("{} is not", account.user());
        let words = ["the gate of a credential", &who, &verb("gate", "alice")];
        let close = json!({"metadata": {"annotations": {"tokenward.dev/phase": "Draining"}}});
        refused(renew(account, &open, close).await, &words);
        refused(
            renew(account, &open, json!({"metadata": {"labels": null}})).await,
            &words[2..],
        );
        let deleted = account
            .leases()
            .delete("alice.gate", &DeleteParams::default())
            .await;
        refused(deleted.map(|_| ()), &words);

        // One that is missing: an open one would let consumers in while a writer is at work.
        let missing = lease("bob.gate", account);
        refused(create(account, &missing).await, &[&verb("gate", "bob")]);
        let params = PatchParams::apply("app");
        let applied = account
            .leases()
            .patch("bob.gate", &params, &Patch::Apply(&missing))
            .await;
        refused(applied, &[&verb("gate", "bob")]);
    }

    // What the built-in role may do besides.
    let editor = guarded.editor.leases();
    let params = PostParams::default();
    let mut changed = open.clone();
    changed.meta_mut().annotations = None;
    let gate = verb("gate", "alice");
    refused(
        editor.replace("alice.gate", &params, &changed).await,
        &[&gate],
    );
    for selector in ["tokenward.dev/role=gate", ""] {
        let list = ListParams::default().labels(selector);
        let all = editor
            .delete_collection(&DeleteParams::default(), &list)
            .await;
        refused(all.map(|_| ()), &[&gate]);
    }
    let now = guarded.fixture.leases().get("alice.gate").await.unwrap();
    assert_eq!(now, open);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_that_looks_like_a_gate_can_be_made() {
    let guarded = Guarded::new("fake").await;
    let app = guarded.consumer("app").await;
    let refuse = async |account: &Account, object: Value| {
        let answer = create(account, &object).await;
        refused(
            answer,
            &["belongs to tokenward, and is none of its objects"],
        );
    };
    for account in [&app, &guarded.editor] {
        for prefix in ["alice.g", "alice.gate", "alice.gate.x", "free"] {
            let generated = with(lease("alice.gate", account), "/metadata/name", json!(null));
            refuse(
                account,
                with(generated, "/metadata/generateName", json!(prefix)),
            )
            .await;
        }
        for name in ["free", "alice.gates", "alice.b.gate", "alice.gate.x"] {
            refuse(
                account,
                with(lease("alice.gate", account), "/metadata/name", json!(name)),
            )
            .await;
        }
        // By its name without the labels, and by the label without the name.
        let bare = with(lease("bob.gate", account), "/metadata/labels", json!(null));
        refused(create(account, &bare).await, &[&verb("gate", "bob")]);
        let role = "/metadata/labels/tokenward.dev~1role";
        let hold = with(lease("bob.gate", account), role, json!("hold"));
        refused(create(account, &hold).await, &[&verb("gate", "bob")]);
        let gate = with(
            lease("alice.hold.0123456789ab", account),
            role,
            json!("gate"),
        );
        refused(create(account, &gate).await, &[&verb("gate", "alice")]);

        // A Lease of their own does not become one.
        let name = format!("free-{}", account.user().rsplit(':').next().unwrap());
        let plain = json!({"metadata": {"name": name}});
        let plain = create(account, &plain).await.unwrap();
        let labels =
            json!({"metadata": {"labels": lease("alice.gate", account)["metadata"]["labels"]}});
        refused(
            renew(account, &plain, labels).await,
            &["belongs to tokenward"],
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_lost_its_labels_before_the_policy_came_is_a_gate_all_the_same() {
    let fixture = Fixture::bare("bare", HOUR).await;
    let object = serde_json::from_value(json!({"metadata": {"name": "alice.gate"}})).unwrap();
    let (params, leases) = (PostParams::default(), fixture.leases());
    let bare = leases.create(&params, &object).await.unwrap();
    let guarded = Guarded::around(fixture).await;

    let editor = guarded.editor.leases();
    let (delete, everything) = (DeleteParams::default(), ListParams::default());
    let all = editor.delete_collection(&delete, &everything).await;
    refused(all.map(|_| ()), &[&verb("gate", "alice")]);
    let renewed = renew(&guarded.editor, &bare, json!({})).await;
    refused(renewed, &[&verb("gate", "alice")]);
    // Who writes gates may write it as it is, and mend it.
    let renewed = leases.replace("alice.gate", &params, &bare).await.unwrap();
    let mut mended = renewed.clone();
    let labels = lease("alice.gate", &guarded.editor)["metadata"]["labels"].clone();
    mended.meta_mut().labels = serde_json::from_value(labels).unwrap();
    leases
        .replace("alice.gate", &params, &mended)
        .await
        .unwrap();
}
