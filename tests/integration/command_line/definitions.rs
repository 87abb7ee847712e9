//! A cluster without the definitions.

use axum::{Router, http::StatusCode};
use serde_json::json;

use crate::support::{TOKENWARD, call};

/// An API server that knows nothing, as one answers to what it does not know.
async fn empty() -> tempfile::NamedTempFile {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let nothing = Router::new().fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"));
    tokio::spawn(async { axum::serve(listener, nothing).await.unwrap() });
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "empty",
        "clusters": [{"name": "empty", "cluster": {"server": server}}],
        "users": [{"name": "empty", "user": {}}],
        "contexts": [{"name": "empty", "context": {"cluster": "empty", "user": "empty"}}],
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), kubeconfig.to_string()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_definitions_are_missing_every_command_says_so_and_how_to_install_them() {
    let kubeconfig = empty().await;
    for arguments in [
        &["get", "alice"] as &[&str],
        &["lock", "alice", "--", "true"],
        &["refresh", "alice"],
        &["refresh", "--all"],
        &["status", "alice"],
        &["status"],
    ] {
        let mut all = vec!["-n", "default"];
        all.extend(arguments);
        let ended = call(TOKENWARD, &all).by(kubeconfig.path()).end().await;
        assert_ne!(ended.code, 0, "{arguments:?}");
        let wanted = "the API server does not know tokenward.dev/v1alpha1; install the definitions: tokenward crd | kubectl apply --server-side -f -";
        assert!(
            ended.complaint().ends_with(wanted),
            "{arguments:?}: {}",
            ended.err
        );
    }
}
