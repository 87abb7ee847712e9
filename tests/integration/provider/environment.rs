//! Clients whose secrets are in the operator's environment.

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenward::api::{ClusterOAuthProvider, OAuthProvider};

use super::HOUR;
use crate::{
    bad_input::told::{Told, recovers},
    oauth_server::Client,
    support::Fixture,
};

async fn platform(fixture: &Fixture, client: Value) -> kube::Result<ClusterOAuthProvider> {
    let api: Api<ClusterOAuthProvider> = Api::all(fixture.client.clone());
    let name = &fixture.namespace;
    let object = json!({
        "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
        "metadata": {"name": name},
        "spec": {
            "tokenUrl": fixture.oauth.token_url(), "client": client,
            "allowedNamespaces": {"matchLabels": {"kubernetes.io/metadata.name": name}},
        },
    });
    let params = PatchParams::apply("test").force();
    api.patch(name, &params, &Patch::Apply(object)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platforms_client_is_read_from_the_environment_of_the_operator() {
    let fixture = Fixture::bare("environment", HOUR).await;
    fixture
        .oauth
        .set_client(Client::new("platform", &["s3cret-of-the-platform"]));
    let client = json!({
        "idFromEnv": "TOKENWARD_CLIENT_ID",
        "secretsFromEnv": ["TOKENWARD_CLIENT_OLD", "TOKENWARD_CLIENT_SECRET"],
    });
    platform(&fixture, client).await.unwrap();
    let reference = json!({"oauth2": {"providerRef": {
        "kind": "ClusterOAuthProvider", "name": fixture.namespace,
    }}});
    let token = fixture.oauth.issue_refresh_token_to("platform", "read");
    fixture.reseed("alice", &token).await;
    let some = [
        ("TOKENWARD_CLIENT_ID", "platform"),
        ("TOKENWARD_CLIENT_OLD", "an-older-s3cret"),
    ];
    let mut operator = fixture.operator_in(&some, &["--operator-namespace", &fixture.namespace]);
    fixture.user("alice", reference).await;
    let provider = format!("ClusterOAuthProvider {}", fixture.namespace);
    Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[&provider, "TOKENWARD_CLIENT_SECRET", "Deployment"],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);
    operator.kill();

    // The first is refused, and the second is tried.
    let all = [
        some[0],
        some[1],
        ("TOKENWARD_CLIENT_SECRET", "s3cret-of-the-platform\n"),
    ];
    let next = fixture.operator_in(&all, &["--operator-namespace", &fixture.namespace]);
    recovers(&fixture, &fixture.get("alice").await).await;
    assert_eq!(fixture.oauth.request_count(), 2);
    let secrets = ["s3cret-of-the-platform", "an-older-s3cret"].map(str::to_owned);
    fixture.assert_nowhere(&secrets, &[&operator, &next]).await;
    let api: Api<ClusterOAuthProvider> = Api::all(fixture.client.clone());
    let params = DeleteParams::default();
    api.delete(&fixture.namespace, &params).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_not_for_the_objects_of_a_namespace_nor_for_any_variable() {
    let fixture = Fixture::bare("noenv", HOUR).await;
    let api: Api<OAuthProvider> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    for client in [
        json!({"id": "demo", "secretsFromEnv": ["TOKENWARD_CLIENT_SECRET"]}),
        json!({"idFromEnv": "TOKENWARD_CLIENT_ID"}),
    ] {
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "OAuthProvider",
            "metadata": {"name": "provider"},
            "spec": {"tokenUrl": fixture.oauth.token_url(), "client": client},
        });
        let params = PatchParams::apply("test").force();
        let refused = api.patch("provider", &params, &Patch::Apply(object)).await;
        let told = refused.expect_err("it was taken").to_string();
        assert!(told.contains("are for a ClusterOAuthProvider"), "{told}");
    }
    for name in [
        "HOME",
        "KUBECONFIG",
        "TOKENWARD_CLIENT_",
        "XTOKENWARD_CLIENT_A",
    ] {
        let client = json!({"id": "demo", "secretsFromEnv": [name]});
        let told = platform(&fixture, client).await.expect_err("it was taken");
        assert!(told.to_string().contains("secretsFromEnv"), "{told}");
    }
}
