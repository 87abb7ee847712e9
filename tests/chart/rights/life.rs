//! Everything that happens in the life of an operator, once.

use std::time::Duration;

use futures::future::join_all;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokenward::api::{ClusterOAuthProvider, OAuthProvider, ProviderStatus};

use crate::support::{Deployed, Fixture, eventually, text};

/// Nothing is due but what is asked for.
pub const HOUR: Duration = Duration::from_secs(3600);

/// A ClusterOAuthProvider with its client's Secret in the release's namespace.
pub struct Shared<'a> {
    home: &'a Fixture,
    _objects: Deployed,
}

impl<'a> Shared<'a> {
    /// For credentials of these namespaces; named like the release's.
    pub async fn create(home: &'a Fixture, served: &[&Fixture]) -> Self {
        let names: Vec<_> = served.iter().map(|f| f.namespace.as_str()).collect();
        let provider = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "ClusterOAuthProvider",
            "metadata": {"name": home.namespace},
            "spec": {
                "tokenUrl": home.oauth.token_url(),
                "client": {"id": "demo", "secretKeyRefs": [{"name": "shared", "key": "key"}]},
                "allowedNamespaces": {"matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names},
                ]},
                "allowedGrantTypes": ["ClientCredentials"],
                "allowedScopes": ["read"],
            },
        });
        Self {
            home,
            _objects: Deployed::objects(home, vec![client(&home.namespace), provider]).await,
        }
    }

    /// How a credential names it.
    fn reference(&self) -> Value {
        json!({"oauth2": {"providerRef": {
            "kind": "ClusterOAuthProvider", "name": self.home.namespace,
        }}})
    }

    async fn status(&self) -> Option<ProviderStatus> {
        let api: Api<ClusterOAuthProvider> = Api::all(self.home.client.clone());
        api.get(&self.home.namespace).await.unwrap().status
    }

    /// Its client's Secret goes and comes again: what is said of it is said in the namespace `default`.
    async fn loses_its_client(&self) {
        self.home.delete_secret("shared").await;
        eventually("a cluster provider without client", async || {
            is_ready(self.status().await.as_ref(), false)
        })
        .await;
        let params = PatchParams::apply("test").force();
        let (api, client) = (
            self.home.secrets(),
            Patch::Apply(client(&self.home.namespace)),
        );
        api.patch("shared", &params, &client).await.unwrap();
        eventually("a cluster provider with its client", async || {
            is_ready(self.status().await.as_ref(), true)
        })
        .await;
    }
}

fn client(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {
            "name": "shared", "namespace": namespace,
            "labels": {"tokenward.dev/client": "true"},
        },
        "stringData": {"key": "demo-secret"},
    })
}

fn is_ready(status: Option<&ProviderStatus>, wanted: bool) -> Option<()> {
    let mut conditions = status?.conditions.iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    (ready.status == if wanted { "True" } else { "False" }).then_some(())
}

/// Lives through it in each of these namespaces at the same time. What happens for the second time is counted in the
/// event that there is.
pub async fn live(served: &[&Fixture], shared: &Shared<'_>) {
    join_all(served.iter().map(|fixture| credentials(fixture, shared))).await;
    for _ in 0..2 {
        shared.loses_its_client().await;
    }
}

async fn credentials(fixture: &Fixture, shared: &Shared<'_>) {
    fixture
        .provider(json!({"revokeUrl": fixture.oauth.revoke_url()}))
        .await;
    fixture.seed("alice").await;
    let revoked = json!({"revocationPolicy": "OnDelete"});
    fixture.user("alice", revoked).await;
    fixture.machine("ci", json!({})).await;
    fixture.machine("common", shared.reference()).await;
    fixture
        .secret("in", &[("k", "1"), ("username", "u"), ("password", "p")])
        .await;
    let copied = [
        (
            "shop",
            json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}}),
        ),
        (
            "login",
            json!({"userPassword": {"secretRef": {"name": "in"}}}),
        ),
        (
            "scoped",
            json!({"hostScoped": {"host": "api.example.com", "headersSecretRef": {"name": "in"}}}),
        ),
    ];
    for (name, spec) in copied {
        fixture.create(name, spec).await;
    }
    for name in ["alice", "ci", "common", "shop", "login", "scoped"] {
        fixture.ready(name).await;
    }

    for name in ["alice", "ci", "common"] {
        fixture.ask(name, "again").await;
        fixture.generation(name, 2).await;
    }
    fixture
        .secret("in", &[("k", "2"), ("username", "u"), ("password", "p")])
        .await;
    eventually("the new value", async || {
        let target = fixture.find_secret("shop").await?;
        (text(&target, "api_key") == "2").then_some(())
    })
    .await;

    for _ in 0..2 {
        loses_its_client(fixture).await;
    }

    let params = DeleteParams::default();
    let api = fixture.credentials();
    for name in ["alice", "ci", "common", "shop", "login", "scoped"] {
        api.delete(name, &params).await.unwrap();
    }
    eventually("the end of alice", async || {
        let credential = api.get_opt("alice").await.unwrap();
        let grant = fixture.find_secret("alice.grant").await;
        let gate = fixture.leases().get_opt("alice.gate").await.unwrap();
        (credential.is_none() && grant.is_none() && gate.is_none()).then_some(())
    })
    .await;
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

async fn loses_its_client(fixture: &Fixture) {
    let api: Api<OAuthProvider> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
    fixture.delete_secret("client").await;
    let said = async |wanted| {
        eventually("what is said of a provider", async || {
            let provider = api.get("provider").await.unwrap();
            is_ready(provider.status.as_ref(), wanted)
        })
        .await;
    };
    said(false).await;
    let client = [("client_secret", "demo-secret")];
    fixture.secret("client", &client).await;
    said(true).await;
}
