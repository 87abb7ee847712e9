//! What the demo plays with: the OAuth server, the objects, the operator.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use tempfile::TempDir;

use crate::oauth_server::{Config, OAuthServer, OldToken};
use crate::operator::Operator;
use crate::output::Output;
use crate::place::{NAMESPACE, Place};

/// The objects.
const FILE: &str = "examples/demo/credentials.yaml";
const MANIFEST: &str = include_str!("credentials.yaml");

/// The credentials among them.
pub(crate) const CREDENTIALS: [&str; 2] = ["alice", "reports"];

/// Everything that lives as long as the demo.
pub(crate) struct Stage {
    pub(crate) place: Place,
    pub(crate) oauth: OAuthServer,
    pub(crate) operator: Option<Operator>,
    secrets: Api<Secret>,
    lifetime: Duration,
    /// For the operator's log. None: it is kept.
    folder: Option<TempDir>,
    log: PathBuf,
}

impl Stage {
    /// The OAuth server, and nothing else yet.
    pub(crate) async fn new(place: Place, lifetime: Duration) -> Result<Self> {
        let oauth = OAuthServer::start(Config::default());
        let oauth = oauth.await.context("cannot start the OAuth server")?;
        oauth.configure(|behaviour| {
            behaviour.lifetime = lifetime;
            // Whoever has read the Secret just before a refresh still holds the old token, and nothing
            // in this version holds the refresh back for them.
            behaviour.on_refresh = OldToken::Survives;
            behaviour.on_client_credentials = OldToken::Survives;
        });
        let folder = TempDir::with_prefix("tokenward-demo-").context("no temporary folder")?;
        Ok(Self {
            secrets: Api::namespaced(place.client().await?, NAMESPACE),
            log: folder.path().join("operator.log"),
            folder: Some(folder),
            operator: None,
            place,
            oauth,
            lifetime,
        })
    }

    /// The other steps, until the operator runs.
    pub(crate) async fn set(&mut self, output: Output) -> Result<()> {
        output.step(
            2,
            "An OAuth server, whose refresh tokens can be redeemed once",
        );
        output.detail(&format!(
            "{}: tokens live {} s; a refresh token that is presented again ends everything.\n\
             An old access token lives on until it expires, so a client that read the Secret just before\n\
             a refresh is not refused. Where a provider ends it at once, clients hold the credential while they\n\
             use it (tokenward lock), and a refresh waits for them.",
            self.oauth.url(),
            self.lifetime.as_secs()
        ));
        output.step(3, "The definitions");
        // First of all: one that is there belongs to somebody else, and then nothing was touched.
        self.place.make_namespace().await?;
        self.place.define(output).await?;
        output.step(4, "A provider, and two credentials, one of each grant");
        let manifest = MANIFEST
            .replace("${TOKEN_URL}", &self.oauth.token_url())
            .replace("${REFRESH_TOKEN}", &self.oauth.issue_refresh_token("read"));
        let apply = ["-n", NAMESPACE, "apply", "--server-side", "-f", "-"];
        let applied = self.place.kubectl(&apply, &manifest).await?;
        output.command(
            &format!(
                "kubectl -n {NAMESPACE} apply --server-side -f {FILE}   (placeholders filled in)"
            ),
            &applied,
        );
        output.step(5, "The operator");
        let operator = Operator::start(self.place.kubeconfig(), NAMESPACE, &self.log)?;
        self.operator = Some(operator);
        let arguments = Operator::arguments(NAMESPACE).join(" ");
        output.command(&format!("tokenward {arguments}"), "");
        output.detail(&format!("its log, while it runs: {}", self.log.display()));
        Ok(())
    }

    /// The Secrets of the namespace.
    pub(crate) fn secrets(&self) -> Api<Secret> {
        self.secrets.clone()
    }

    /// How long the tokens live.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// What there is to know when something went wrong.
    pub(crate) async fn state_of_things(&self) -> String {
        let get = ["-n", NAMESPACE, "get", "icred", "-o", "wide"];
        let table = match self.place.kubectl(&get, "").await {
            Ok(table) => format!("The credentials:\n{table}\n"),
            Err(error) => format!("{error:#}\n"),
        };
        let words = self.operator.as_ref().map(Operator::last_words);
        let words = words.unwrap_or_else(|| "    (it was not started)".to_owned());
        format!("{table}The end of the operator's log:\n{words}")
    }

    /// Leaves the log where it is, and says where that is.
    pub(crate) fn keep_log(&mut self) -> String {
        self.folder.take().map(TempDir::keep);
        self.log.display().to_string()
    }

    /// What is to be removed by hand if this program cannot.
    pub(crate) fn left_behind(&self) -> String {
        self.place.left_behind()
    }

    /// Stops the operator, and removes what was put into somebody's cluster.
    pub(crate) async fn clear(&mut self, output: Output) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.stop().await?;
        }
        self.place.clear(output).await
    }
}
