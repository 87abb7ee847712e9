//! Clients of the API server.

use std::path::Path;

use axum::http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// The user agent of the programs that are measured: the audit log tells their requests by it.
pub const MEASURED: &str = "bench-measured/1";

/// The user agent of the plain requests that they are compared with.
pub const PLAIN: &str = "bench-plain/1";

/// A client with connections of its own.
pub async fn connect(kubeconfig: &Path, agent: &'static str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .unwrap();
    config.default_retry = false;
    let agent = HeaderValue::from_static(agent);
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config).unwrap()
}
