//! One credential of one species, its provider, and a program that holds it.

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokenward::manager::{CredentialManager, Hold};

use super::kinds::Species;
use crate::{
    oauth_server::{Config, OAuthServer, Outcome as Answered, TokenRequest},
    support::{Fixture, text},
};

/// A credential and its provider.
pub struct Cell {
    pub species: &'static Species,
    pub name: String,
    pub oauth: OAuthServer,
}

impl Cell {
    /// One in the namespace of `fixture`, with a seed, and no credential yet.
    pub async fn new(fixture: &Fixture, name: &str, species: &'static Species) -> Self {
        let oauth = OAuthServer::start(Config::default()).await.unwrap();
        oauth.configure(|behaviour| species.configure(behaviour));
        let mut provider = species.description();
        provider["tokenUrl"] = json!(oauth.token_url());
        fixture.provider_named(name, provider).await;
        let cell = Self {
            species,
            name: name.to_owned(),
            oauth,
        };
        cell.reseed(fixture).await;
        cell
    }

    /// Writes a new authorization into the seed, and returns its refresh token.
    pub async fn reseed(&self, fixture: &Fixture) -> String {
        let token = self.oauth.issue_refresh_token("read");
        fixture.reseed(&self.name, &token).await;
        token
    }

    /// Lets the credential come into being.
    pub async fn begin(&self, fixture: &Fixture) {
        fixture
            .user(
                &self.name,
                json!({"oauth2": {"providerRef": {"name": self.name}}}),
            )
            .await;
    }

    /// Asks for a refresh, as a person does.
    pub async fn ask(&self, fixture: &Fixture) {
        self.annotate(fixture, "tokenward.dev/refresh-requested", "now")
            .await;
    }

    /// Sets an annotation: the operator looks at the credential.
    pub async fn annotate(&self, fixture: &Fixture, key: &str, value: &str) {
        let change = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        let (credentials, params) = (fixture.credentials(), PatchParams::default());
        credentials
            .patch(&self.name, &params, &change)
            .await
            .unwrap();
    }

    /// The refresh token that is stored.
    pub async fn refresh_token(&self, fixture: &Fixture) -> String {
        let grant = fixture.find_secret(&format!("{}.grant", self.name)).await;
        text(&grant.expect("the grant"), "refresh_token")
    }

    /// The access token that programs are given.
    pub async fn access_token(&self, fixture: &Fixture) -> String {
        let target = fixture.find_secret(&self.name).await;
        text(&target.expect("the target"), "access_token")
    }

    /// The refresh token that the provider has issued last, in the authorization that it granted last.
    pub fn newest(&self) -> Option<String> {
        let requests = self.oauth.requests();
        let issued = |request: &TokenRequest| match &request.outcome {
            Answered::Granted { refresh_token, .. } => refresh_token.clone(),
            _ => None,
        };
        requests.iter().rev().find_map(issued)
    }

    /// When each request arrived that presented this refresh token.
    pub fn presented(&self, token: &str) -> Vec<Timestamp> {
        let mut requests = self.oauth.requests();
        requests.retain(|r| r.refresh_token.as_deref() == Some(token));
        requests.iter().map(|r| r.at).collect()
    }

    /// Fails if a refresh token was presented after one that the provider had issued later: a client that
    /// has stored a newer one never goes back.
    pub fn assert_never_back(&self, seed: &str) {
        let mut issued = vec![seed.to_owned()];
        let mut latest = 0;
        for request in self.oauth.requests() {
            let presented = request.refresh_token.unwrap();
            let place = issued.iter().position(|token| *token == presented);
            let place = place.expect("a refresh token of this authorization");
            assert!(
                place >= latest,
                "{}: an older refresh token was presented",
                self.name
            );
            latest = place;
            if let Answered::Granted {
                refresh_token: Some(next),
                ..
            } = request.outcome
                && !issued.contains(&next)
            {
                issued.push(next);
            }
        }
    }
}

/// A program that holds a credential until a refresh waits for it, and uses the token all the time.
pub struct Program {
    hold: Hold,
    /// Its token.
    token: String,
}

impl Program {
    /// Once it holds the credential.
    pub async fn holding(cell: &Cell, fixture: &Fixture, manager: &CredentialManager) -> Self {
        let hold = manager.acquire(&cell.name).await.unwrap();
        let token = cell.access_token(fixture).await;
        Self { hold, token }
    }

    /// Whether its token works.
    pub fn is_well(&self, cell: &Cell) -> bool {
        cell.oauth.is_live(&self.token)
    }

    /// Uses its token until a refresh waits for it or `end` comes, and lets go. How often the token was dead.
    pub async fn uses_it_until(self, cell: &Cell, end: impl Future<Output = ()>) -> usize {
        tokio::select! {
            () = self.hold.draining() => {}
            () = end => {}
        }
        let dead = usize::from(!self.is_well(cell));
        self.hold.release().await;
        dead
    }

    /// Says that its token is dead.
    pub async fn reports_it(self, manager: &CredentialManager) {
        manager.report_rejected(self.hold).await.unwrap();
    }
}
