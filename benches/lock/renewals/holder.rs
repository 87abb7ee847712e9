//! The process that holds.

use std::path::PathBuf;

use futures::{StreamExt, stream};
use serde_json::json;
use tokenward::manager::{CredentialManager, Hold};
use tokio::signal::unix::{SignalKind, signal};

use super::{COUNT, HELD, credentials::name};
use crate::connect::{MEASURED, connect};

/// How many are acquired at a time.
const AT_A_TIME: usize = 32;

/// Holds all credentials of a namespace until SIGTERM, and says then how many it holds still.
pub async fn hold_all(namespace: &str) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG").unwrap());
    let client = connect(&kubeconfig, MEASURED).await;
    let manager = CredentialManager::new(client, namespace);
    let acquired = stream::iter(0..COUNT).map(|number| {
        let manager = manager.clone();
        async move { manager.acquire(&name(number)).await.unwrap() }
    });
    let holds: Vec<Hold> = acquired.buffer_unordered(AT_A_TIME).collect().await;
    eprintln!("{HELD}");
    terminate.recv().await;
    let held = holds.iter().filter(|hold| hold.is_valid()).count();
    manager.release_all_locks().await;
    println!("{}", json!({"held": held}));
}
