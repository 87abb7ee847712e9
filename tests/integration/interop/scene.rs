//! A server of others, a user who authorizes a client there, and the operator that keeps the credential.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokenward::api::IntegrationCredential;

use crate::support::{
    Consent, Fixture, Operator, Server, TokenRequest, condition, eventually, reason, soon, text,
};

/// The client. Its secret is one that must be encoded before it is Basic (RFC 6749 section 2.3.1).
pub const CLIENT: &str = "web app";
pub const SECRET: &str = "a+b/c:d 100%";

/// Short enough for several refreshes in a test.
pub const SHORT: u64 = 4;
/// Long enough for none.
pub const LONG: u64 = 3600;

/// A server, and an operator for the credentials of its users.
pub struct Scene {
    pub fixture: Fixture,
    pub server: Server,
    /// What the provider object says of the server's conduct.
    pub facts: Value,
}

impl Scene {
    /// Access tokens live for `seconds`.
    pub async fn new(
        test: &str,
        server: impl Future<Output = Server>,
        facts: Value,
        seconds: u64,
    ) -> Self {
        let fixture = Fixture::bare(test, Duration::from_secs(LONG)).await;
        let server = server.await;
        server.client(CLIENT, SECRET).await;
        let scene = Self {
            fixture,
            server,
            facts,
        };
        scene.lives(seconds).await;
        scene.secret(SECRET).await;
        let refs = json!([{"name": "client", "key": "client_secret"}]);
        scene
            .provider(json!({"id": CLIENT, "secretKeyRefs": refs}))
            .await;
        scene
    }

    /// What access tokens live from now on.
    pub async fn lives(&self, seconds: u64) {
        let settings = json!({"accessTokenSeconds": seconds});
        self.server.control("settings", settings).await;
    }

    /// The client secret that the operator knows.
    pub async fn secret(&self, secret: &str) {
        let data = [("client_secret", secret)];
        self.fixture.secret("client", &data).await;
    }

    pub async fn provider(&self, client: Value) {
        let mut description = self.facts.clone();
        // Where the issuer is known, nothing else needs to be.
        let is_found = description.get("issuer").is_some();
        description["tokenUrl"] = json!((!is_found).then(|| self.server.token_url()));
        description["client"] = client;
        self.fixture.provider(description).await;
    }

    /// Has alice authorize the client, and writes the refresh token into her seed.
    pub async fn seed(&self) -> String {
        let token = self.authorize().await;
        self.fixture.reseed("alice", &token).await;
        token
    }

    /// Has alice authorize the client.
    pub async fn authorize(&self) -> String {
        let consent = self.server.authorize(CLIENT, "alice").await;
        let tokens = self.server.redeem([CLIENT, SECRET], &consent).await;
        assert!(self.server.accepts(&tokens.access_token).await);
        tokens.refresh_token
    }

    /// Writes what her consent brought into her seed.
    pub async fn hand_over(&self, consent: &Consent) {
        let data = [
            ("authorization_code", consent.code.as_str()),
            ("redirect_uri", &consent.redirect_uri),
            ("code_verifier", &consent.verifier),
        ];
        self.fixture.secret("alice-seed", &data).await;
    }

    /// Her credential with a first token, kept by an operator.
    pub async fn alice(&self) -> (String, Operator) {
        let seed = self.seed().await;
        let operator = self.fixture.operator();
        self.fixture.user("alice", json!({})).await;
        self.fixture.ready("alice").await;
        (seed, operator)
    }

    /// The access token that pods see.
    pub async fn target(&self, name: &str) -> String {
        let target = self.fixture.find_secret(name).await.expect("the target");
        text(&target, "access_token")
    }

    /// The refresh token that is stored.
    pub async fn stored(&self) -> String {
        let grant = self.fixture.find_secret("alice.grant").await;
        text(&grant.expect("the grant"), "refresh_token")
    }

    /// The generation that is stored.
    pub async fn generation(&self) -> i64 {
        let grant = self.fixture.find_secret("alice.grant").await;
        text(&grant.expect("the grant"), "token_generation")
            .parse()
            .unwrap()
    }

    /// The refresh whose answer was lost, once there is one.
    pub async fn lost(&self) -> (String, TokenRequest) {
        eventually("a lost answer", async || {
            let mut refreshes = self.server.refreshes().await.into_iter();
            refreshes.find(|(_, request)| request.lost)
        })
        .await
    }

    /// Waits until the token that pods see opens something.
    pub async fn works(&self, name: &str) {
        eventually("a token that the server accepts", async || {
            let token = self.target(name).await;
            self.server.accepts(&token).await.then_some(())
        })
        .await;
    }

    /// Waits until alice is well, and her token opens something.
    pub async fn is_well(&self) {
        self.fixture
            .until("alice", "Ready, not Stalled", well)
            .await;
        self.works("alice").await;
    }

    /// From now on, every token that is published under this name. What comes back waits for the one of
    /// that generation, and gives all of them, by their generations, without a gap.
    pub fn published(&self, name: &str) -> impl AsyncFnOnce(i64) -> BTreeMap<i64, String> {
        let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let versions = watcher(self.fixture.secrets(), only).default_backoff();
        let mut versions = Box::pin(versions.applied_objects());
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(version) = versions.next().await {
                // One that was interrupted begins anew.
                let Ok(version) = version else { continue };
                let generation: i64 = text(&version, "token_generation").parse().unwrap();
                let _ = sender.send((generation, text(&version, "access_token")));
            }
        });
        async move |last| {
            let mut published = BTreeMap::new();
            while !published.contains_key(&last) {
                let (generation, token) = soon("the next", receiver.recv()).await.unwrap();
                published.insert(generation, token);
            }
            let all: Vec<_> = published.keys().copied().collect();
            assert_eq!(all, (all[0]..=last).collect::<Vec<_>>());
            published
        }
    }

    /// Asks for a refresh now.
    pub async fn refresh(&self) {
        let arguments = ["refresh", "alice", "--wait=false"];
        let asked = self.fixture.tokenward(&arguments).end().await;
        assert_eq!(asked.code, 0, "{}", asked.err);
    }

    /// Whether the server accepts the access tokens of before and after a refresh.
    pub async fn old_and_new(&self) -> (bool, bool) {
        let (_, _operator) = self.alice().await;
        let old = self.target("alice").await;
        assert!(self.server.accepts(&old).await);
        self.refresh().await;
        self.fixture.generation("alice", 2).await;
        let new = self.target("alice").await;
        (
            self.server.accepts(&old).await,
            self.server.accepts(&new).await,
        )
    }

    /// Waits until alice needs a new authorization for this reason and is told the command.
    pub async fn is_told(&self, why: &str) -> String {
        let credential = self.fixture.stalled("alice", why).await;
        let (_, _, message) = condition(&credential, "Stalled").unwrap();
        let namespace = &self.fixture.namespace;
        let command = format!("kubectl -n {namespace} patch secret alice-seed");
        assert!(message.contains(&command), "{message}");
        eventually("the event", async || {
            let events = self.fixture.events().await;
            events.iter().any(|e| e.starts_with(why)).then_some(())
        })
        .await;
        message
    }

    /// Waits until her last token has expired; what is dead is not presented again until then.
    pub async fn stays_dead(&self) {
        let presented = self.server.refreshes().await.len();
        self.fixture
            .until("alice", "Invalid", |c| reason(c) == "Invalid")
            .await;
        assert_eq!(self.server.refreshes().await.len(), presented);
    }

    /// Does what she was told.
    pub async fn mends(&self) {
        self.lives(LONG).await;
        self.seed().await;
        self.is_well().await;
    }
}

pub fn well(credential: &IntegrationCredential) -> bool {
    let is =
        |type_: &str, status: &str| condition(credential, type_).is_some_and(|c| c.0 == status);
    is("Ready", "True") && is("Stalled", "False")
}

/// Why the last attempt came to nothing.
pub fn last_error(credential: &IntegrationCredential) -> String {
    let refresh = credential.status.as_ref().and_then(|s| s.refresh.clone());
    let last = refresh.and_then(|refresh| refresh.last_error);
    last.map(|error| error.reason).unwrap_or_default()
}
