//! One credential whose operator meets one fault, and what must be true of it afterwards.

use std::{os::unix::process::ExitStatusExt, time::Duration};

use kube::{
    api::{DeleteParams, Patch, PatchParams},
    runtime::wait::await_condition,
};
use serde_json::json;
use tokenward::api::IntegrationCredential;
use tokio::time::{sleep, timeout};

use crate::{
    oauth_server::{Config, OAuthServer},
    support::{Fixture, Operator, Proxy, condition, eventually, soon, text},
};

/// How long the tokens of a trial live: so short that every exchange is soon followed by another, and no
/// shorter, because many trials share a small machine.
pub const LIFETIME: Duration = Duration::from_secs(4);

/// How long the slowest way back may take, with many trials on few cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// A credential, its provider, and the way of its operators to the API server.
pub struct Trial {
    pub fixture: Fixture,
    pub proxy: Proxy,
    /// The credential.
    pub name: String,
    seed: String,
}

/// What is stored of a credential.
pub struct Stored {
    /// The refresh token to present next: the grant's, or the seed's if there is no grant.
    pub refresh_token: String,
    /// The generation in the grant, 0 without one.
    pub generation: usize,
    in_target: usize,
    on_gate: usize,
    /// Who holds the gate; empty: nobody.
    pub holder: String,
}

impl Trial {
    /// A namespace for trials, with a seed, and no operator and no credential yet.
    pub async fn new(name: &str) -> Self {
        let fixture = Fixture::new(name, LIFETIME).await;
        let proxy = fixture.proxy().await;
        let mut trial = Self {
            fixture,
            proxy,
            name: name.to_owned(),
            seed: String::new(),
        };
        trial.seed = trial.fixture.seed(name).await;
        trial
    }

    /// Another one in the same namespace, with everything else of its own. A namespace is much work for
    /// a cluster.
    pub async fn another(mut self, name: &str) -> Self {
        let params = DeleteParams::default();
        let credentials = self.fixture.credentials();
        credentials.delete(&self.name, &params).await.unwrap();
        self.fixture.oauth = OAuthServer::start(Config::default()).await.unwrap();
        let lives = |behaviour: &mut crate::oauth_server::Behaviour| behaviour.lifetime = LIFETIME;
        self.fixture.oauth.configure(lives);
        self.fixture.provider_unread("provider", json!({})).await;
        self.proxy = self.fixture.proxy().await;
        name.clone_into(&mut self.name);
        self.seed = self.fixture.seed(name).await;
        self
    }

    /// An operator that reaches the API server through the proxy.
    pub fn operator(&self) -> Operator {
        self.fixture.operator_through(&self.proxy, &[])
    }

    /// Lets the credential come into being.
    pub async fn begin(&self) {
        self.fixture.user(&self.name, json!({})).await;
    }

    /// The credential, once it is as `wanted`. Watched: many trials that ask again and again are too
    /// much for a small machine.
    async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&IntegrationCredential) -> bool,
    ) -> IntegrationCredential {
        let is_wanted = |found: Option<&IntegrationCredential>| found.is_some_and(&wanted);
        let reached = await_condition(self.fixture.credentials(), &self.name, is_wanted);
        match timeout(PATIENCE, reached).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => {
                let found = self.fixture.get(&self.name).await;
                panic!("not within {PATIENCE:?}: {what}; {:?}", found.status)
            }
        }
    }

    /// The credential, once its token has at least this generation.
    pub async fn generation(&self, at_least: usize) -> IntegrationCredential {
        let what = format!("generation {at_least}");
        let wanted = i64::try_from(at_least).unwrap();
        let reached = |c: &IntegrationCredential| {
            let token = c.status.as_ref().and_then(|s| s.token.as_ref());
            token.is_some_and(|t| t.generation >= wanted)
        };
        self.until(&what, reached).await
    }

    /// What is stored now. Read in an order in which nothing can seem to be ahead that is not.
    pub async fn stored(&self) -> Stored {
        let leases = self.fixture.leases();
        let gate = leases
            .get_opt(&format!("{}.gate", self.name))
            .await
            .unwrap();
        let target = self.fixture.find_secret(&self.name).await;
        let grant = format!("{}.grant", self.name);
        let grant = self.fixture.find_secret(&grant).await;
        let generation = |secret| text(secret, "token_generation").parse().unwrap();
        let gate = gate.unwrap_or_default();
        let notes = gate.metadata.annotations.unwrap_or_default();
        let on_gate = notes.get("tokenward.dev/generation");
        let seed = || self.seed.clone();
        Stored {
            refresh_token: grant
                .as_ref()
                .map_or_else(seed, |g| text(g, "refresh_token")),
            generation: grant.as_ref().map_or(0, generation),
            in_target: target.as_ref().map_or(0, generation),
            on_gate: on_gate.map_or(0, |generation| generation.parse().unwrap()),
            holder: gate
                .spec
                .and_then(|spec| spec.holder_identity)
                .unwrap_or_default(),
        }
    }

    /// Waits for the operator's death, and returns what was stored then.
    pub async fn dead(&self, operator: &mut Operator) -> Stored {
        assert_eq!(operator.end().await.signal(), Some(9));
        let oauth = &self.fixture.oauth;
        let arrived = oauth.request_count();
        soon("outcomes", oauth.wait_for_outcomes(arrived)).await;
        let stored = self.stored().await;
        stored.assert_order();
        stored
    }

    /// Shortens what the gate of a dead writer says of its durations, which make a successor wait for up to
    /// some minutes.
    pub async fn hasten_takeover(&self) {
        if self.stored().await.holder.is_empty() {
            return;
        }
        let change = Patch::Merge(json!({
            "metadata": {"annotations": {"tokenward.dev/takeover-delay-seconds": "1"}},
            "spec": {"leaseDurationSeconds": 1},
        }));
        let (leases, params) = (self.fixture.leases(), PatchParams::default());
        let gate = format!("{}.gate", self.name);
        leases.patch(&gate, &params, &change).await.unwrap();
    }

    /// Goes on until another token has come, and ends: nothing was lost, nothing is left behind.
    pub async fn goes_on(&self, mut operator: Operator) {
        let now = self.stored().await.generation;
        let credential = tokio::select! {
            credential = self.generation(now + 1) => credential,
            // One that cannot start says so and ends, and is started again.
            () = ended(&mut operator) => {
                assert!(operator.log().contains("the API server does not answer"));
                operator = self.operator();
                self.generation(now + 1).await
            }
        };
        assert_eq!(condition(&credential, "Stalled").unwrap().0, "False");
        operator.signal("TERM");
        assert!(operator.end().await.success());
        self.assert_nothing_lost().await;
    }

    /// Of a credential at which nobody is at work.
    pub async fn assert_nothing_lost(&self) {
        let stored = self.stored().await;
        stored.assert_order();
        assert_eq!(stored.in_target, stored.generation, "the target");
        assert_eq!(stored.on_gate, stored.generation, "the gate");
        assert_eq!(stored.holder, "", "the gate's holder");
        let oauth = &self.fixture.oauth;
        assert!(oauth.is_redeemable(&stored.refresh_token));
        assert_eq!(oauth.granted(), stored.generation, "tokens granted");
    }

    /// Says that the refresh token is lost, having presented it once more at most, and leaves the gate
    /// open for a new authorization, which mends it.
    pub async fn is_told_as_lost(&self, operator: Operator) {
        self.until("Stalled, RotationLost", |credential| {
            condition(credential, "Stalled").is_some_and(|c| c.0 == "True" && c.1 == "RotationLost")
        })
        .await;
        assert!(self.fixture.oauth.max_presentations() <= 2);
        eventually("the open gate", async || {
            self.stored().await.holder.is_empty().then_some(())
        })
        .await;
        let now = self.stored().await.generation;
        self.fixture.seed(&self.name).await;
        self.generation(now + 1).await;
        drop(operator);
        assert!(self.fixture.oauth.max_presentations() <= 2);
    }
}

impl Stored {
    /// Nothing went back.
    pub fn assert_not_before(&self, earlier: &Self) {
        assert!(self.generation >= earlier.generation, "the grant went back");
        assert!(self.in_target >= earlier.in_target, "the target went back");
        assert!(self.on_gate >= earlier.on_gate, "the gate went back");
    }

    /// Nothing is ahead of the grant.
    fn assert_order(&self) {
        assert!(self.in_target <= self.generation, "the target is ahead");
        assert!(self.on_gate <= self.generation, "the gate is ahead");
    }
}

async fn ended(operator: &mut Operator) {
    while operator.has_ended().is_none() {
        sleep(Duration::from_millis(100)).await;
    }
}
