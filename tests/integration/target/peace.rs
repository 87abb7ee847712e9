//! Others who write the same objects.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokenward::api::IntegrationCredential;

use super::{HOUR, version};
use crate::support::{Fixture, condition, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn tools_that_apply_the_credential_and_label_its_target_do_not_fight_with_the_operator() {
    let fixture = Fixture::new("peace", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let applied = |n: u32| {
        json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "metadata": {"name": "alice", "annotations": {"gitops": n.to_string()}},
            "spec": {
                "oauth2": {
                    "providerRef": {"name": "provider"}, "grantType": "RefreshToken",
                    "seedSecretRef": {"name": "alice-seed"},
                },
                "target": {
                    "deletionPolicy": "Retain",
                    "template": {
                        "data": {"x.json": "{\"token\": \"{{ access_token }}\"}"},
                        "metadata": {"labels": {"team": "blue"}},
                    },
                },
            },
        })
    };
    let apply = async |n| -> IntegrationCredential {
        let params = PatchParams::apply("gitops");
        let credentials = fixture.credentials();
        credentials
            .patch("alice", &params, &Patch::Apply(applied(n)))
            .await
            .unwrap()
    };
    apply(0).await;
    fixture.ready("alice").await;
    let label = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "alice", "labels": {"theirs": "1"}, "annotations": {"theirs": "2"}},
    });
    let apply_label = async || -> Secret {
        let params = PatchParams::apply("labeller");
        let secrets = fixture.secrets();
        let label = Patch::Apply(label.clone());
        secrets.patch("alice", &params, &label).await.unwrap()
    };
    let labelled = apply_label().await;
    let before = fixture.audit();
    for n in 1..=100 {
        apply(n).await;
        if n % 10 == 0 {
            assert_eq!(version(&apply_label().await), version(&labelled));
        }
    }
    // What comes after all of them has been seen says that they were.
    fixture.ask("alice", "1").await;
    let refreshed = fixture.generation("alice", 2).await;
    assert_eq!(condition(&refreshed, "Ready").unwrap().0, "True");
    let target = eventually("the second token", async || {
        let target = fixture.find_secret("alice").await?;
        (version(&target) != version(&labelled)).then_some(target)
    })
    .await;
    assert_eq!(target.labels()["theirs"], "1");
    assert_eq!(target.labels()["team"], "blue");
    eventually("the writes of one refresh alone", async || {
        let writes = before.writes();
        let secrets = |name: &str| {
            let wanted = format!("update secrets {name}");
            writes.iter().filter(|w| **w == wanted).count()
        };
        (secrets("alice") == 1 && secrets("alice.grant") == 1).then_some(())
    })
    .await;
    let writes = before.writes();
    assert!(writes.len() <= 8, "{writes:?}");
}
