//! The operator, installed by Helm from the image that is shipped.

use std::{env, path::Path, sync::Once};

use serde_json::Value;

use crate::{
    node::{self, NETWORK},
    place::{Namespace, PATIENCE, get, helm, is_ready, kubectl, list},
    wait::within,
};

/// The name that the image has on the node.
pub const IMAGE: &str = concat!("docker.io/library/tokenward:", env!("CARGO_PKG_VERSION"));

/// The release, and its namespace.
pub const RELEASE: &str = "tokenward";
pub const NAMESPACE: &str = "tokenward-system";

pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tokenward");
const PODS: &str = "app.kubernetes.io/name=tokenward";

/// Gives the image to the node.
pub fn import() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let archive = env::var_os("TOKENWARD_IMAGE_ARCHIVE");
        let archive = archive.expect("TOKENWARD_IMAGE_ARCHIVE: the file that `make image` writes");
        node::import(Path::new(&archive));
    });
}

/// Installs the chart or upgrades it, with more arguments.
pub fn install(more: &[&str]) {
    import();
    restricted();
    let networks = format!("operator.allowProviderNetworks={{{NETWORK}}}");
    let mut arguments = vec![
        "upgrade",
        "--install",
        RELEASE,
        CHART,
        "--namespace",
        NAMESPACE,
    ];
    arguments.extend([
        "--take-ownership",
        "--set",
        "image.pullPolicy=Never",
        "--set",
        &networks,
    ]);
    arguments.extend(more);
    helm(&arguments);
}

/// Makes the operator's namespace, which admits restricted pods only. It stays as long as the node.
fn restricted() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::mem::forget(Namespace::new(NAMESPACE)));
}

/// Installs it if that was not done, and waits for `replicas` of it.
pub async fn runs(replicas: usize) -> Vec<Value> {
    if get(NAMESPACE, "deployment", RELEASE).is_none() {
        install(&[]);
    }
    let current = format!("--replicas={replicas}");
    kubectl(&["scale", "deployment", RELEASE, "-n", NAMESPACE, &current]);
    pods(replicas).await
}

/// Its pods, once there are so many, all ready, and no other.
pub async fn pods(replicas: usize) -> Vec<Value> {
    within(PATIENCE, "the operator's pods", async || {
        let pods = list(NAMESPACE, "pods", PODS);
        (pods.len() == replicas && pods.iter().all(is_ready)).then_some(pods)
    })
    .await
}
