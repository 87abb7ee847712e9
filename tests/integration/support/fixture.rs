//! A namespace, an OAuth server, and the objects of a test.

use std::{
    path::PathBuf,
    process::Output,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Secret},
    events::v1::Event,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokenward::api::{IntegrationCredential, OAuthProvider};
use uuid::Uuid;

use super::{Audit, Operator, Proxy, audit::OPERATOR, eventually};
use crate::{
    cluster::Cluster,
    oauth_server::{Config as OAuthConfig, OAuthServer},
};

const NO_AUDIT_LOG: &str = "this test counts requests in the audit log of `make cluster`";

/// The label that has a Secret watched.
const WATCHED: &str = "tokenward.dev/watch";

/// The cluster that the tests run on.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        crate::control_plane().unwrap_or_else(|error| panic!("no cluster: {error:#}"))
    })
}

/// The way to the cluster, with every right there.
async fn administrator() -> Config {
    let kubeconfig = Kubeconfig::read_from(&cluster().kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap()
}

/// What a test works with. The namespace goes with it.
pub struct Fixture {
    pub namespace: String,
    pub client: Client,
    pub oauth: OAuthServer,
    /// The operators' requests since the namespace was made.
    from_the_start: Option<Audit>,
    /// Whether an operator was started for it.
    operated: AtomicBool,
}

impl Fixture {
    /// A namespace named after the test, a strict OAuth server whose tokens live for `lifetime`, a
    /// provider object `provider` for it, and its client's Secret.
    pub async fn new(test: &str, lifetime: Duration) -> Self {
        let fixture = Self::bare(test, lifetime).await;
        fixture
            .secret("client", &[("client_secret", "demo-secret")])
            .await;
        fixture.provider(json!({})).await;
        fixture
    }

    /// Without a provider object.
    pub async fn bare(test: &str, lifetime: Duration) -> Self {
        let cluster = tokio::task::spawn_blocking(cluster).await.unwrap();
        let client = Client::try_from(administrator().await).unwrap();
        let nonce = Uuid::new_v4().simple().to_string();
        let namespace = format!("{test}-{}", &nonce[..6]);
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let oauth = OAuthServer::start(OAuthConfig::default()).await.unwrap();
        oauth.configure(|behaviour| behaviour.lifetime = lifetime);
        let log = cluster.audit_log.clone();
        Self {
            from_the_start: log.map(|log| Audit::start(log, &namespace, OPERATOR)),
            namespace,
            client,
            oauth,
            operated: AtomicBool::new(false),
        }
    }

    /// An operator for this namespace.
    pub fn operator(&self) -> Operator {
        self.operator_with(&[])
    }

    /// An operator for this namespace, with more arguments.
    pub fn operator_with(&self, arguments: &[&str]) -> Operator {
        self.operated.store(true, Ordering::Relaxed);
        Operator::start(&cluster().kubeconfig, &self.namespace, arguments)
    }

    /// An operator for this namespace with these environment variables.
    pub fn operator_in(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Operator {
        self.operated.store(true, Ordering::Relaxed);
        let kubeconfig = &cluster().kubeconfig;
        Operator::start_in(variables, kubeconfig, &self.namespace, arguments)
    }

    /// An operator for this namespace whose wall clock is ahead by so many seconds.
    #[allow(dead_code, reason = "for the benches")]
    pub fn operator_ahead(&self, seconds: i64, arguments: &[&str]) -> Operator {
        self.operated.store(true, Ordering::Relaxed);
        Operator::start_ahead(seconds, &cluster().kubeconfig, &self.namespace, arguments)
    }

    /// A proxy before the API server.
    pub async fn proxy(&self) -> Proxy {
        Proxy::start(administrator().await)
    }

    /// An operator for this namespace that reaches the API server through a proxy.
    pub fn operator_through(&self, proxy: &Proxy, arguments: &[&str]) -> Operator {
        self.operated.store(true, Ordering::Relaxed);
        Operator::start(&proxy.kubeconfig(), &self.namespace, arguments)
    }

    /// As [`Self::operator_through`], with a wall clock that is ahead by so many seconds.
    #[allow(dead_code, reason = "for the benches")]
    pub fn operator_ahead_through(
        &self,
        seconds: i64,
        proxy: &Proxy,
        arguments: &[&str],
    ) -> Operator {
        self.operated.store(true, Ordering::Relaxed);
        Operator::start_ahead(seconds, &proxy.kubeconfig(), &self.namespace, arguments)
    }

    /// The operators' requests in this namespace from now on.
    pub fn audit(&self) -> Audit {
        self.audit_of(OPERATOR)
    }

    /// The requests in this namespace, from now on, of programs whose user agent begins like this.
    pub fn audit_of(&self, agent: &'static str) -> Audit {
        let log = cluster().audit_log.clone().expect(NO_AUDIT_LOG);
        Audit::start(log, &self.namespace, agent)
    }

    /// Waits until the operators have published so many events, and the audit log says so too: an event
    /// can be seen before its line is written.
    pub async fn told(&self, events: usize) {
        let audit = self.from_the_start.as_ref().expect(NO_AUDIT_LOG);
        eventually(&format!("{events} events"), async || {
            let writes = audit.writes();
            let logged = writes.iter().filter(|w| w.starts_with("create events"));
            (logged.count() >= events).then_some(())
        })
        .await;
    }

    /// Waits until the operator has said what it thinks of `provider`, and the audit log says so too.
    pub async fn provider_told(&self) {
        let audit = self.from_the_start.as_ref().expect(NO_AUDIT_LOG);
        eventually("the provider's status", async || {
            let writes = audit.writes();
            let told = |write: &String| write == "patch oauthproviders/status provider";
            writes.iter().any(told).then_some(())
        })
        .await;
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn credentials(&self) -> Api<IntegrationCredential> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates or replaces a watched Secret.
    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let data: serde_json::Map<_, _> = data
            .iter()
            .map(|(k, v)| ((*k).to_owned(), json!(v)))
            .collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "labels": {WATCHED: "true"}},
            "stringData": data,
        });
        let params = PatchParams::apply("test").force();
        self.secrets()
            .patch(name, &params, &Patch::Apply(secret))
            .await
            .unwrap();
    }

    /// Creates or replaces the provider object `provider`; `change` overrides what it says.
    pub async fn provider(&self, change: Value) {
        self.provider_named("provider", change).await;
    }

    /// Creates or replaces a provider object, and waits until an operator that was started has read it: what is
    /// created next may be seen sooner than this change, for each kind is watched for itself.
    pub async fn provider_named(&self, name: &str, change: Value) {
        let written = Box::pin(self.provider_unread(name, change)).await;
        if self.operated.load(Ordering::Relaxed) {
            let api: Api<OAuthProvider> = Api::namespaced(self.client.clone(), &self.namespace);
            let read = async || {
                let status = api.get(name).await.unwrap().status?;
                (status.observed_generation == written.metadata.generation).then_some(())
            };
            Box::pin(eventually(&format!("an operator that read {name}"), read)).await;
        }
    }

    /// Creates or replaces a provider object, also where no operator runs any more.
    pub async fn provider_unread(&self, name: &str, change: Value) -> OAuthProvider {
        let mut spec = json!({
            "tokenUrl": self.oauth.token_url(),
            "client": {"id": "demo", "secretKeyRefs": [{"name": "client", "key": "client_secret"}]},
        });
        merge(&mut spec, change);
        let provider = json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "OAuthProvider",
            "metadata": {"name": name}, "spec": spec,
        });
        let api: Api<OAuthProvider> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = PatchParams::apply("test").force();
        api.patch(name, &params, &Patch::Apply(provider))
            .await
            .unwrap()
    }

    /// Writes a new authorization into the seed Secret `NAME-seed` and returns its refresh token.
    pub async fn seed(&self, credential: &str) -> String {
        let token = self.oauth.issue_refresh_token("read");
        self.reseed(credential, &token).await;
        token
    }

    /// Writes this refresh token into the seed Secret.
    pub async fn reseed(&self, credential: &str, token: &str) {
        let name = format!("{credential}-seed");
        self.secret(&name, &[("refresh_token", token)]).await;
    }

    /// Creates a credential with grant RefreshToken, without its seed; `change` overrides its spec.
    pub async fn user(&self, name: &str, change: Value) -> IntegrationCredential {
        let mut spec = json!({"oauth2": {
            "providerRef": {"name": "provider"}, "grantType": "RefreshToken",
            "seedSecretRef": {"name": format!("{name}-seed")},
        }});
        merge(&mut spec, change);
        self.create(name, spec).await
    }

    /// Creates a credential with grant ClientCredentials; `change` overrides its spec.
    pub async fn machine(&self, name: &str, change: Value) -> IntegrationCredential {
        let mut spec = json!({"oauth2": {
            "providerRef": {"name": "provider"}, "grantType": "ClientCredentials", "scopes": ["read"],
        }});
        merge(&mut spec, change);
        self.create(name, spec).await
    }

    /// Creates a credential of this spec.
    pub async fn create(&self, name: &str, spec: Value) -> IntegrationCredential {
        let object = serde_json::from_value(json!({
            "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
            "metadata": {"name": name}, "spec": spec,
        }));
        let object: IntegrationCredential = object.unwrap();
        self.credentials()
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
    }

    /// The credential as it is now.
    pub async fn get(&self, name: &str) -> IntegrationCredential {
        self.credentials().get(name).await.unwrap()
    }

    /// The credential, once it is as `wanted`.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&IntegrationCredential) -> bool,
    ) -> IntegrationCredential {
        let mut last = None;
        let what = format!("{name}: {what}");
        let found = eventually(&what, async || {
            let found = match self.credentials().get(name).await {
                Ok(found) => found,
                Err(kube::Error::Api(status)) if status.code == 404 => panic!("no {name}: {what}"),
                // A server that stood still has its reasons to say no.
                Err(_) => return None,
            };
            let is_wanted = wanted(&found);
            last = Some(found.clone());
            is_wanted.then_some(found)
        });
        found.await
    }

    /// The credential, once it is Ready.
    pub async fn ready(&self, name: &str) -> IntegrationCredential {
        self.until(name, "Ready", |c| {
            condition(c, "Ready").is_some_and(|c| c.0 == "True")
        })
        .await
    }

    /// The credential, once its last attempt went well.
    pub async fn untroubled(&self, name: &str) -> IntegrationCredential {
        self.until(name, "no failure", |c| {
            let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
            refresh.is_some_and(|r| (r.failures, r.last_error.is_none()) == (0, true))
        })
        .await
    }

    /// The credential, once its token has at least this generation.
    pub async fn generation(&self, name: &str, at_least: i64) -> IntegrationCredential {
        let what = format!("generation {at_least}");
        self.until(name, &what, |c| generation(c) >= at_least).await
    }

    /// The credential, once it is Stalled for this reason.
    pub async fn stalled(&self, name: &str, why: &str) -> IntegrationCredential {
        let wanted = ("True".to_owned(), why.to_owned());
        self.until(name, &format!("Stalled, {why}"), |c| {
            condition(c, "Stalled").is_some_and(|(status, reason, _)| (status, reason) == wanted)
        })
        .await
    }

    /// Has a person ask for a refresh; each `value` acts once.
    pub async fn ask(&self, name: &str, value: &str) {
        let request =
            json!({"metadata": {"annotations": {"tokenward.dev/refresh-requested": value}}});
        let (params, request) = (PatchParams::default(), Patch::Merge(request));
        let asked = self.credentials().patch(name, &params, &request).await;
        asked.unwrap();
    }

    /// Lets tokens live for an hour from now on. The credential, once it has such a one: nothing is due then.
    pub async fn at_rest(&self, name: &str) -> IntegrationCredential {
        self.oauth
            .configure(|behaviour| behaviour.lifetime = Duration::from_secs(3600));
        self.until(name, "a token of an hour", |c| {
            let lifetime = c.status.as_ref().and_then(|status| {
                let token = status.token.as_ref()?;
                let from = token.last_refresh_time.as_ref()?.0;
                Some(token.expiration_time.as_ref()?.0.duration_since(from))
            });
            lifetime.is_some_and(|lifetime| lifetime.as_secs() > 1800)
        })
        .await
    }

    /// Whether programs that use tokens all the time had a pause of so many seconds: the machine stood still,
    /// and they may lose their holds.
    pub fn paused_for(&self, seconds: i64) -> bool {
        let pause = jiff::SignedDuration::from_secs(seconds);
        let mut calls = self.oauth.resource_log();
        calls.retain(|call| call.accepted);
        let mut pairs = calls.windows(2);
        pairs.any(|pair| pair[1].at.duration_since(pair[0].at) > pause)
    }

    /// A Secret, if it exists.
    pub async fn find_secret(&self, name: &str) -> Option<Secret> {
        self.secrets().get_opt(name).await.unwrap()
    }

    pub async fn delete_secret(&self, name: &str) {
        self.secrets()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// The events of this namespace: `reason: note`.
    pub async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let events = api.list(&ListParams::default()).await.unwrap();
        let line = |e: Event| {
            format!(
                "{}: {}",
                e.reason.unwrap_or_default(),
                e.note.unwrap_or_default()
            )
        };
        events.into_iter().map(line).collect()
    }

    /// Fails if one of these tokens can be read anywhere but in the Secrets made for it.
    pub async fn assert_nowhere(&self, tokens: &[String], operators: &[&Operator]) {
        let mut places = vec![("events", self.events().await.join("\n"))];
        let credentials = self
            .credentials()
            .list(&ListParams::default())
            .await
            .unwrap();
        places.push((
            "credentials",
            serde_json::to_string(&credentials.items).unwrap(),
        ));
        let leases = self.leases().list(&ListParams::default()).await.unwrap();
        places.push(("leases", serde_json::to_string(&leases.items).unwrap()));
        for operator in operators {
            places.push(("the log", operator.log()));
        }
        for secret in self.secrets().list(&ListParams::default()).await.unwrap() {
            let metadata = serde_json::to_string(&secret.metadata).unwrap();
            places.push(("a Secret's metadata", metadata));
        }
        assert!(!tokens.is_empty());
        for (place, content) in places {
            for token in tokens {
                assert!(!content.contains(token.as_str()), "{token} is in {place}");
            }
        }
    }
}

impl Drop for Fixture {
    /// Lets the namespace go; with the rig all of it is thrown away at the end.
    fn drop(&mut self) {
        let arguments = ["delete", "namespace", &self.namespace, "--wait=false"];
        let _ = cluster().kubectl(&arguments).output();
    }
}

/// The file of the cluster that the tests run on.
pub fn kubeconfig() -> PathBuf {
    cluster().kubeconfig.clone()
}

/// The kubectl that goes with it.
pub fn kubectl_program() -> PathBuf {
    cluster().kubectl.clone()
}

/// Runs kubectl.
pub async fn kubectl(arguments: &[&str]) -> Output {
    let mut command = cluster().kubectl(arguments);
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

/// Status, reason and message of a condition.
pub fn condition(
    credential: &IntegrationCredential,
    type_: &str,
) -> Option<(String, String, String)> {
    let status = credential.status.as_ref()?;
    let condition = status.conditions.iter().find(|c| c.type_ == type_)?;
    Some((
        condition.status.clone(),
        condition.reason.clone(),
        condition.message.clone(),
    ))
}

/// The state: the reason of Ready.
pub fn reason(credential: &IntegrationCredential) -> String {
    condition(credential, "Ready").unwrap_or_default().1
}

/// A value of a Secret as text.
pub fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().expect("data");
    let value = data
        .get(key)
        .unwrap_or_else(|| panic!("{} has no {key}", secret.name_any()));
    String::from_utf8(value.0.clone()).unwrap()
}

fn generation(credential: &IntegrationCredential) -> i64 {
    let token = credential.status.as_ref().and_then(|s| s.token.as_ref());
    token.map_or(0, |t| t.generation)
}

fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}
