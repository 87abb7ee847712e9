//! Bad input: each with its condition, reason and message, and how it ends. Here: objects that are
//! missing or make no sense.

mod addresses;
mod answers;
mod lifetimes;
pub mod told;

use std::time::Duration;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokenward::api::ClusterOAuthProvider;

use self::told::{Told, mended, obey, recovers, recovers_at_once};
use crate::support::{Fixture, condition};

const HOUR: Duration = Duration::from_secs(3600);

/// Creates a Secret with bytes that need not be text.
async fn create_secret(fixture: &Fixture, name: &str, labels: Value, key: &str, value: &[u8]) {
    let mut secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
    secret.data = Some([(key.to_owned(), ByteString(value.to_vec()))].into());
    let created = fixture
        .secrets()
        .create(&PostParams::default(), &secret)
        .await;
    created.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_yet_is_named_and_its_creation_acts_at_once() {
    let fixture = Fixture::bare("missing", HOUR).await;
    let seed = fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    let namespace = format!("in namespace {}", fixture.namespace);
    let unknown = Told {
        reason: "UnknownProvider",
        event: Some("UnknownProvider"),
        words: &["no OAuthProvider provider", &namespace, "create it"],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;

    // The provider's creation is noticed at once, and so is what it lacks.
    let create = fixture.provider(json!({}));
    let noticed = |c: &_| condition(c, "Stalled").is_some_and(|c| c.1 == "ProviderNotConfigured");
    let (_, planned) = mended(&fixture, &unknown, create, "what it lacks", noticed).await;
    let client = format!("Secret {}/client", fixture.namespace);
    let mut lacks = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &["OAuthProvider provider", &client, "does not exist"],
        ..Told::STALLED
    };
    let failed = lacks.of(&fixture, "alice").await;
    let last = failed.status.unwrap().refresh.unwrap().last_error.unwrap();
    assert!(last.time.0 < planned, "not at once");

    fixture
        .secret("client", &[("client-secret", "demo-secret")])
        .await;
    lacks.words = &["OAuthProvider provider", "has no key client_secret"];
    lacks.event = None;
    fixture
        .until("alice", "another message", |c| {
            condition(c, "Ready").is_some_and(|c| c.2.contains("no key"))
        })
        .await;
    let failed = lacks.of(&fixture, "alice").await;
    let right = [("client_secret", "demo-secret")];
    recovers_at_once(&fixture, &failed, fixture.secret("client", &right)).await;
    assert_eq!(fixture.oauth.request_count(), 1);
    let secrets = [seed, "demo-secret".to_owned()];
    fixture.assert_nowhere(&secrets, &[&operator]).await;
}

/// Key and value in a seed Secret; none: there is no Secret.
type Seed = Option<(&'static str, &'static [u8])>;

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_cannot_be_used_is_told_without_its_value_and_mended_at_once() {
    let fixture = Fixture::new("seeds", HOUR).await;
    let operator = fixture.operator();
    // name, key and value of the seed, reason, why
    let cases: [(&str, Seed, &str, &str); 6] = [
        ("absent", None, "SeedNotFound", "does not exist"),
        (
            "keyless",
            Some(("refreshToken", b"misplaced-token")),
            "SeedNotFound",
            "has no key refresh_token",
        ),
        (
            "empty",
            Some(("refresh_token", b"")),
            "SeedInvalid",
            "has an empty value at key refresh_token",
        ),
        (
            "blank",
            Some(("refresh_token", b" \n")),
            "SeedInvalid",
            "has an empty value at key refresh_token",
        ),
        (
            "binary",
            Some(("refresh_token", b"binary-token\xff\xfe")),
            "SeedInvalid",
            "has a value that is not UTF-8 text at key refresh_token",
        ),
        (
            "lines",
            Some(("refresh_token", b"first-token\nsecond-token")),
            "SeedInvalid",
            "has a value with control characters",
        ),
    ];
    for (name, seed, reason, why) in cases {
        if let Some((key, value)) = seed {
            let watched = json!({"tokenward.dev/watch": "true"});
            create_secret(&fixture, &format!("{name}-seed"), watched, key, value).await;
        }
        fixture.user(name, json!({})).await;
        let named = format!("the seed Secret {}/{name}-seed", fixture.namespace);
        let verb = if seed.is_some() {
            format!("patch secret {name}-seed")
        } else {
            format!("create secret generic {name}-seed")
        };
        let command = format!("kubectl -n {} {verb}", fixture.namespace);
        let failed = Told {
            reason,
            words: &[&named, why, &command],
            ..Told::STALLED
        }
        .of(&fixture, name)
        .await;
        let token = fixture.oauth.issue_refresh_token("read");
        let (_, _, message) = condition(&failed, "Stalled").unwrap();
        let mend = async {
            if seed.is_some() {
                obey(&message, &token).await;
            } else {
                fixture.reseed(name, &token).await;
            }
        };
        recovers_at_once(&fixture, &failed, mend).await;
        assert_eq!(fixture.oauth.redemptions(&token), 1, "{name}");
    }
    assert_eq!(fixture.oauth.request_count(), cases.len());
    let values = ["misplaced-token", "binary-token", "second-token"].map(str::to_owned);
    fixture.assert_nowhere(&values, &[&operator]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_not_ours_is_never_touched_and_nothing_is_spent_for_it() {
    let fixture = Fixture::new("taken", HOUR).await;
    let seed = fixture.seed("alice").await;
    create_secret(&fixture, "alice", json!({}), "access_token", b"theirs").await;
    // Watched, and with our labels: neither makes it ours.
    let labels = json!({"tokenward.dev/watch": "true", "tokenward.dev/credential": "ci"});
    create_secret(&fixture, "mounted", labels, "password", b"theirs too").await;
    let before = (
        fixture.find_secret("alice").await,
        fixture.find_secret("mounted").await,
    );
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture
        .machine("ci", json!({"target": {"name": "mounted"}}))
        .await;

    for (name, target) in [("alice", "alice"), ("ci", "mounted")] {
        let named = format!("Secret {}/{target} exists", fixture.namespace);
        let command = format!("kubectl -n {} delete secret {target}", fixture.namespace);
        let failed = Told {
            ready: ("False", "Invalid"),
            reason: "TargetConflict",
            event: Some("TargetConflict"),
            words: &[&named, &command, "another spec.target.name"],
            ..Told::STALLED
        }
        .of(&fixture, name)
        .await;
        assert!(failed.status.unwrap().token.is_none());
    }
    let after = (
        fixture.find_secret("alice").await,
        fixture.find_secret("mounted").await,
    );
    assert_eq!(before, after);
    assert!(fixture.find_secret("alice.grant").await.is_none());
    assert_eq!(fixture.oauth.request_count(), 0, "a token was spent");

    for name in ["alice", "ci"] {
        let (_, _, message) = condition(&fixture.get(name).await, "Stalled").unwrap();
        let remedy = message.split_once("or delete it: ").unwrap().1;
        obey(remedy, "").await;
    }
    for (name, target) in [("alice", "alice"), ("ci", "mounted")] {
        let credential = recovers(&fixture, &fixture.get(name).await).await;
        let secret = fixture.find_secret(target).await.unwrap();
        assert_eq!(secret.owner_references()[0].uid, credential.uid().unwrap());
    }
    assert_eq!(fixture.oauth.redemptions(&seed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_provider_is_used_only_where_its_owner_admits_it() {
    let fixture = Fixture::bare("cluster", HOUR).await;
    let name = &fixture.namespace;
    create_secret(&fixture, "shared", json!({}), "key", b"demo-secret").await;
    let providers: Api<ClusterOAuthProvider> = Api::all(fixture.client.clone());
    let apply = async |allowed: Value| {
        let mut spec = json!({
            "tokenUrl": fixture.oauth.token_url(),
            "client": {"id": "demo", "secretKeyRefs": [{"name": "shared", "key": "key"}]},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(allowed.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        let object = Patch::Apply(object);
        providers.patch(name, &params, &object).await.unwrap();
    };
    apply(json!({})).await;
    let reference =
        json!({"oauth2": {"providerRef": {"kind": "ClusterOAuthProvider", "name": name}}});
    fixture.seed("alice").await;
    let operator = fixture.operator_with(&["--operator-namespace", name]);
    fixture.user("alice", reference.clone()).await;
    fixture.machine("ci", reference).await;

    let provider = format!("ClusterOAuthProvider {name}");
    let place = format!("does not admit namespace {name}");
    let refused = Told {
        reason: "ProviderNotAllowed",
        words: &[&provider, &place, "spec.allowedNamespaces"],
        ..Told::STALLED
    };
    refused.of(&fixture, "alice").await;
    refused.of(&fixture, "ci").await;

    // The namespace is admitted: a user's own authorization may be used, the client itself may not.
    let labels = json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
    apply(json!({"allowedNamespaces": labels})).await;
    fixture
        .until("ci", "another message", |c| {
            condition(c, "Ready").is_some_and(|c| !c.2.contains(&place))
        })
        .await;
    Told {
        reason: "ProviderNotAllowed",
        words: &[&provider, "ClientCredentials", "spec.allowedGrantTypes"],
        event: None,
        ..Told::STALLED
    }
    .of(&fixture, "ci")
    .await;
    // Not every Secret in the operator's namespace is a client's.
    let secret = format!("Secret {name}/shared");
    let unlabelled = Told {
        reason: "ProviderNotConfigured",
        event: Some("ProviderNotConfigured"),
        words: &[&provider, &secret, "tokenward.dev/client=true"],
        ..Told::STALLED
    }
    .of(&fixture, "alice")
    .await;
    assert_eq!(fixture.oauth.request_count(), 0);

    let (_, _, message) = condition(&unlabelled, "Stalled").unwrap();
    let all = json!({
        "allowedNamespaces": labels, "allowedScopes": ["read"],
        "allowedGrantTypes": ["RefreshToken", "ClientCredentials"],
    });
    let mend = async {
        obey(&message, "").await;
        apply(all).await;
    };
    recovers_at_once(&fixture, &unlabelled, mend).await;
    recovers(&fixture, &fixture.get("ci").await).await;
    fixture
        .assert_nowhere(&["demo-secret".to_owned()], &[&operator])
        .await;
    let params = DeleteParams::default();
    providers.delete(name, &params).await.unwrap();
}
