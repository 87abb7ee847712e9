//! The way to the cluster: the same options as kubectl's, for every command.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use axum::http::{HeaderValue, header::USER_AGENT};
use clap::Args;
use kube::{
    Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::namespace;
use crate::{
    api::IntegrationCredential,
    manager::CredentialManager,
    request::{RequestError, bounded},
};

/// Which cluster, as whom, and which namespace.
#[derive(Args, Clone)]
#[command(next_help_heading = "Cluster")]
pub(super) struct Connect {
    /// The namespace; by default that of the context, or of the pod. Of controller: serve only this one
    /// (repeatable); by default all are served.
    #[arg(
        short,
        long = "namespace",
        global = true,
        value_name = "NAMESPACE",
        value_parser = namespace
    )]
    pub(super) namespaces: Vec<String>,

    /// The context of the kubeconfig; by default the current one.
    #[arg(long, global = true, value_name = "CONTEXT")]
    context: Option<String>,

    /// The kubeconfig; by default those of KUBECONFIG, else ~/.kube/config, else what a pod has.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A client, and the namespace where none was named.
pub(super) struct Connection {
    /// The client.
    pub(super) client: Client,
    /// The namespace of the context, or of the pod.
    pub(super) default_namespace: String,
}

impl Connect {
    /// Makes a client. No request is made yet.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let mut config = self.config().await?;
        // Repeated behind our back, a write could be done twice.
        config.default_retry = false;
        // So that the API server's audit log tells whose requests these are.
        let user_agent = HeaderValue::from_static(concat!("tokenward/", env!("CARGO_PKG_VERSION")));
        config.headers.push((USER_AGENT, user_agent));
        let default_namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("no client for the cluster")?;
        Ok(Connection {
            client,
            default_namespace,
        })
    }

    /// What to do where the API server knows none of our kinds, so that nothing of them can be found; `None`: it knows
    /// them, or does not say.
    pub(super) async fn missing_definitions(&self) -> Option<String> {
        let client = self.connect().await.ok()?.client;
        let version = IntegrationCredential::api_version(&());
        match bounded(client.list_api_group_resources(&version)).await {
            Err(RequestError::NotFound) => Some(format!(
                "the API server does not know {version}; install the definitions: tokenward crd | kubectl apply --server-side -f -"
            )),
            _ => None,
        }
    }

    async fn config(&self) -> Result<Config> {
        // Each error has its causes in its own text.
        if self.kubeconfig.is_none() && self.context.is_none() {
            return Config::infer().await.map_err(|error| {
                anyhow!(
                    "no cluster: neither in a pod nor a usable kubeconfig (see KUBECONFIG): {error}"
                )
            });
        }
        let kubeconfig = match &self.kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let kubeconfig = kubeconfig.map_err(|error| anyhow!("no usable kubeconfig: {error}"))?;
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        config.map_err(|error| {
            anyhow!("the kubeconfig leads to no cluster: {error}; see: kubectl config get-contexts")
        })
    }

    /// The namespace that was named last.
    pub(super) fn namespace(&self, connection: &Connection) -> String {
        let named = self.namespaces.last();
        named.unwrap_or(&connection.default_namespace).clone()
    }

    /// The credentials of the namespace.
    pub(super) async fn manager(&self) -> Result<CredentialManager> {
        let connection = self.connect().await?;
        let namespace = self.namespace(&connection);
        Ok(CredentialManager::new(connection.client, namespace))
    }
}
