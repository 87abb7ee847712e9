//! Each way in which somebody who may create credentials and provider objects could reach a client's secret, a refresh
//! token or a Secret of somebody else: it is refused, and nothing is sent anywhere.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    bad_input::told::{Told, obey, recovers_at_once},
    oauth_server::{Config, OAuthServer},
    provider_objects::{ForAll, client_secret},
    support::{Fixture, Key, condition},
};

const HOUR: Duration = Duration::from_secs(3600);

/// Whose things they are after: alice's, and the platform's client.
struct Victim {
    fixture: Fixture,
    /// Where whoever attacks wants things sent.
    theirs: OAuthServer,
}

impl Victim {
    async fn new(test: &str) -> Self {
        let fixture = Fixture::new(test, HOUR).await;
        fixture.seed("alice").await;
        let theirs = OAuthServer::start(Config::default()).await.unwrap();
        Self { fixture, theirs }
    }

    /// A provider object of the attacker's, at a server of the attacker's.
    async fn provider(&self, name: &str, client: Value) {
        let spec = json!({"tokenUrl": self.theirs.token_url(), "client": client});
        self.fixture.provider_named(name, spec).await;
    }

    /// What the credential is told; it never had a token.
    async fn refused(&self, name: &str, reason: &str, words: &[&str]) {
        let refused = self.fixture.stalled(name, reason).await;
        let (_, _, message) = condition(&refused, "Stalled").unwrap();
        for word in words {
            assert!(message.contains(word), "{name}: no {word:?} in {message}");
        }
        assert!(refused.status.unwrap().token.is_none(), "{name}");
    }
}

fn keys(secret: &str, key: &str) -> Value {
    json!({"id": "demo", "secretKeyRefs": [{"name": secret, "key": key}]})
}

fn with_provider(name: &str) -> Value {
    json!({"oauth2": {"providerRef": {"name": name}}})
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn no_secret_of_somebody_else_is_read_for_those_who_name_it() {
    let victim = Victim::new("attacks").await;
    let fixture = &victim.fixture;
    let name = &fixture.namespace;
    // The operator's own namespace is the one in which the most can be reached.
    client_secret(fixture, "platform", "key", "s3cret-of-the-platform").await;
    let account: Secret = serde_json::from_value(json!({
        "metadata": {"name": "identity", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    }))
    .unwrap();
    let operator = fixture.operator_with(&["--operator-namespace", name]);
    fixture.user("alice", json!({})).await;
    let alice = fixture.ready("alice").await;
    crate::support::eventually("an account", async || {
        let params = PostParams::default();
        fixture.secrets().create(&params, &account).await.ok()
    })
    .await;
    let sent = fixture.oauth.request_count();

    // As the client of a provider object of their own: key of the Secret, as what.
    for (attack, client) in [
        ("grant-as-secret", keys("alice.grant", "refresh_token")),
        ("target-as-secret", keys("alice", "access_token")),
        ("identity-as-secret", keys("identity", "token")),
        ("platform-as-secret", keys("platform", "key")),
        (
            "grant-as-id",
            json!({"id": null, "idSecretKeyRef": {"name": "alice.grant", "key": "refresh_token"}}),
        ),
        (
            "platform-as-id",
            json!({"id": null, "idSecretKeyRef": {"name": "platform", "key": "key"}}),
        ),
    ] {
        victim.provider(attack, client).await;
        fixture.machine(attack, with_provider(attack)).await;
        let about = format!("OAuthProvider {attack} is not usable: Secret {name}/");
        victim.refused(attack, "SecretNotAllowed", &[&about]).await;
    }
    // As the seed of a credential of their own, at a provider of their own.
    victim
        .provider(
            "own",
            json!({"id": "own", "secretKeyRefs": [{"name": "client", "key": "client_secret"}]}),
        )
        .await;
    for (attack, seed, grant) in [
        ("target-as-seed", "alice", "RefreshToken"),
        ("identity-as-seed", "identity", "RefreshToken"),
        ("platform-as-seed", "platform", "RefreshToken"),
        ("platform-as-key", "platform", "JwtBearer"),
    ] {
        let change = json!({"oauth2": {
            "providerRef": {"name": "own"}, "seedSecretRef": {"name": seed}, "grantType": grant,
        }});
        fixture.user(attack, change).await;
        let about = format!("Secret {name}/{seed}");
        victim.refused(attack, "SecretNotAllowed", &[&about]).await;
    }
    // As the source of a key that they may read.
    for (attack, source, key) in [
        ("target-as-source", "alice", "access_token"),
        ("identity-as-source", "identity", "token"),
        ("platform-as-source", "platform", "key"),
    ] {
        let spec = json!({"apiKey": {"secretKeyRef": {"name": source, "key": key}}});
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "metadata": {"name": attack}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        let params = PostParams::default();
        fixture
            .credentials()
            .create(&params, &object)
            .await
            .unwrap();
        let about = format!("Secret {name}/{source}");
        victim.refused(attack, "SecretNotAllowed", &[&about]).await;
        assert!(fixture.find_secret(attack).await.is_none());
    }
    // As a grant under another name: a copy keeps its type.
    let grant = fixture.find_secret("alice.grant").await.unwrap();
    let copy = Secret {
        metadata: serde_json::from_value(json!({"name": "copy"})).unwrap(),
        ..grant.clone()
    };
    let params = PostParams::default();
    fixture.secrets().create(&params, &copy).await.unwrap();
    let change =
        json!({"oauth2": {"providerRef": {"name": "own"}, "seedSecretRef": {"name": "copy"}}});
    fixture.user("copied", change).await;
    victim
        .refused("copied", "SecretNotAllowed", &["made by tokenward"])
        .await;

    // As the target: it would be overwritten.
    for target in ["platform", "alice-seed", "alice"] {
        let attack = format!("over-{target}");
        let change = json!({"target": {"name": target}});
        fixture.machine(&attack, change).await;
        victim.refused(&attack, "TargetConflict", &[target]).await;
    }
    let again = fixture.find_secret("alice.grant").await.unwrap();
    assert_eq!(
        (again.resource_version(), again.data),
        (grant.resource_version(), grant.data)
    );
    assert_eq!(fixture.get("alice").await.status, alice.status);
    assert_eq!(victim.theirs.request_count(), 0, "{}", operator.log());
    assert_eq!(fixture.oauth.request_count(), sent);
    fixture
        .assert_nowhere(&["s3cret-of-the-platform".to_owned()], &[&operator])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn a_platforms_client_is_used_for_nothing_that_its_owner_does_not_admit() {
    let victim = Victim::new("platform").await;
    let fixture = &victim.fixture;
    client_secret(fixture, "shared", "key", "demo-secret").await;
    let shared = ForAll::new(fixture, json!({})).await;
    let url = fixture.oauth.url() + "/{tenant}/token";
    let admitted = json!({
        "tokenUrl": url, "parameters": {"tenant": {}, "region": {}}, "variables": {"tenant": "contoso"},
        "allowedNamespaces": shared.here(), "allowedGrantTypes": ["ClientCredentials", "JwtBearer"],
        "allowedScopes": ["read"], "credentialParameters": ["audience"],
    });
    shared.apply(admitted.clone()).await;
    let outside = Fixture::bare("outside", HOUR).await;
    let arguments = [
        "--operator-namespace",
        &shared.name,
        "-n",
        &outside.namespace,
    ];
    let operator = fixture.operator_with(&arguments);
    let key = Key::rsa();
    fixture
        .secret("key", &[("private_key", &key.pem()), ("issuer", "me")])
        .await;
    let reference = shared.reference();
    let with = |change: Value| {
        let mut whole = reference.clone();
        let fields = change.as_object().unwrap().clone();
        whole["oauth2"].as_object_mut().unwrap().extend(fields);
        whole
    };
    let signed =
        json!({"grantType": "JwtBearer", "seedSecretRef": {"name": "key"}, "scopes": ["write"]});
    // name, what the credential asks for, why it is refused
    for (attack, change, reason, word) in [
        (
            "scope",
            json!({"scopes": ["read", "write"]}),
            "ProviderNotAllowed",
            "scope write",
        ),
        (
            "two-in-one",
            json!({"scopes": ["read,write"]}),
            "ProviderNotAllowed",
            "scope read,write",
        ),
        (
            "no-scope",
            json!({"scopes": []}),
            "ProviderNotAllowed",
            "needs scopes",
        ),
        (
            "resource",
            json!({"resources": ["https://admin.example"]}),
            "ProviderNotAllowed",
            "allowedResources",
        ),
        ("signed", signed, "ProviderNotAllowed", "scope write"),
        (
            "parameter",
            json!({"extraParameters": {"tenant": "x"}}),
            "ProviderNotConfigured",
            "credentialParameters",
        ),
        (
            "variable",
            json!({"variables": {"tenant": "x"}}),
            "ProviderNotConfigured",
            "credentialVariables",
        ),
    ] {
        fixture.machine(attack, with(change)).await;
        victim
            .refused(
                attack,
                reason,
                &[&format!("ClusterOAuthProvider {}", shared.name), word],
            )
            .await;
    }
    // A user's grant is not admitted here.
    fixture.seed("user").await;
    fixture.user("user", reference.clone()).await;
    victim
        .refused("user", "ProviderNotAllowed", &["grantType RefreshToken"])
        .await;
    // From another namespace neither this object nor those of the first namespace can be used.
    outside.machine("other", reference.clone()).await;
    let refused = outside.stalled("other", "ProviderNotAllowed").await;
    let place = format!("does not admit namespace {}", outside.namespace);
    assert!(condition(&refused, "Stalled").unwrap().2.contains(&place));
    outside.machine("near", json!({})).await;
    outside.stalled("near", "UnknownProvider").await;

    // The protocol's own parameters are refused before anything is stored.
    let params = PatchParams::apply("attacker").force();
    for parameter in ["scope", "client_id", "grant_type", "assertion", "resource"] {
        let object = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential", "metadata": {"name": "p"},
            "spec": with(json!({
                "grantType": "ClientCredentials", "extraParameters": {parameter: "x"},
            })),
        });
        let taken = fixture
            .credentials()
            .patch("p", &params, &Patch::Apply(object))
            .await;
        let told = taken.expect_err("it was taken").to_string();
        assert!(
            told.contains("must not name a parameter of the protocol"),
            "{told}"
        );
    }
    // A variable that says whose host it is, where the owner has left it to credentials by mistake.
    for (attack, host) in [
        ("whole", "{region}"),
        ("last", "login.{region}"),
        ("label", "{region}.example"),
    ] {
        let mut open = admitted.clone();
        open["tokenUrl"] = json!(format!("https://{host}/token"));
        open["credentialVariables"] = json!(["region"]);
        shared.apply(open).await;
        fixture
            .machine(attack, with(json!({"variables": {"region": "evil"}})))
            .await;
        victim
            .refused(
                attack,
                "ProviderNotConfigured",
                &["region", "no credential may give"],
            )
            .await;
    }
    assert_eq!(fixture.oauth.request_count(), 0, "{}", operator.log());
    assert_eq!(victim.theirs.request_count(), 0);
    // And what is admitted works.
    shared.apply(admitted).await;
    fixture.machine("good", reference).await;
    fixture.ready("good").await;
    shared.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_strict_mode_a_secret_is_read_only_where_its_owner_says_so() {
    let victim = Victim::new("strict").await;
    let fixture = &victim.fixture;
    let operator = fixture.operator_with(&["--require-allow-label"]);
    fixture.user("alice", json!({})).await;
    let about = format!("Secret {}/", fixture.namespace);
    let mut last: Option<(_, String)> = None;
    // The client first, then the seed: what the message says is what is missing.
    for (object, secret) in [
        ("OAuthProvider provider is not usable", "client"),
        ("", "alice-seed"),
    ] {
        if let Some((_, message)) = &last {
            obey(message, "").await;
        }
        let words = format!("{about}{secret} lacks the label tokenward.dev/allow=true");
        fixture
            .until("alice", &words, |c| {
                condition(c, "Stalled").is_some_and(|c| c.2.contains(&words))
            })
            .await;
        let failed = Told {
            reason: "SecretNotAllowed",
            event: None,
            words: &[object, &words, "--require-allow-label"],
            ..Told::STALLED
        }
        .of(fixture, "alice")
        .await;
        let (_, _, message) = condition(&failed, "Stalled").unwrap();
        last = Some((failed, message));
    }
    let (failed, message) = last.unwrap();
    recovers_at_once(fixture, &failed, obey(&message, "")).await;
    assert_eq!(fixture.oauth.request_count(), 1, "{}", operator.log());

    // Without the label again, what works goes on until it needs the Secret.
    let bare = Patch::Merge(json!({"metadata": {"labels": {"tokenward.dev/allow": null}}}));
    let params = PatchParams::default();
    fixture
        .secrets()
        .patch("client", &params, &bare)
        .await
        .unwrap();
    let ended = fixture.tokenward(&["refresh", "alice"]).end().await;
    assert!(ended.err.contains("SecretNotAllowed"), "{}", ended.err);
    assert_eq!(
        condition(&fixture.get("alice").await, "Ready").unwrap().0,
        "True"
    );
    let params = DeleteParams::default();
    fixture
        .credentials()
        .delete("alice", &params)
        .await
        .unwrap();
}
