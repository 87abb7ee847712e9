//! What is never logged, and how a test runs in a process of its own.

use std::{
    env,
    process::{Output, Stdio},
};

use tokio::process::Command;

use super::*;
use crate::telemetry::{self, LogFormat};

/// Set in the process that logs.
const LOGS: &str = "TOKENWARD_TEST_LOGS";

/// Runs one test of this program with these variables, and gives what it wrote.
pub async fn run_alone<'a>(
    test: &str,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Output {
    let ran = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .envs(variables)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(out.contains("1 passed"), "{out}{:?}", ran.status);
    ran
}

async fn exchanges() {
    let authority = Authority::new();
    let trusted = Authorities::parse(authority.pem().as_bytes()).unwrap();
    for protocols in [&["http/1.1"][..], &["h2"]] {
        let server = Server::tls(&authority, protocols, Reply::json(TOKENS)).await;
        let url = format!("https://provider.test:{}/token", server.port);
        for spends in [Spends::RotatingToken, Spends::Nothing] {
            let answer = send(&endpoint(), &url, spends, Some(&trusted)).await;
            assert_eq!(answer.unwrap().status, 200);
        }
    }
    let server = Server::tls(&authority, &["h2"], Reply::json(TOKENS)).await;
    let proxy = Server::proxy(server.port).await;
    let tunnelled = Endpoint::new(super::way::through(&proxy)).unwrap();
    let url = "https://provider.test/token";
    let answer = send(&tunnelled, url, Spends::Nothing, Some(&trusted)).await;
    assert_eq!(answer.unwrap().status, 200);
    let server = Server::plain(Reply::json(TOKENS)).await;
    let url = format!("http://127.0.0.1:{}/token", server.port);
    let answer = send(&for_trying_out(), &url, Spends::Nothing, None).await;
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test]
async fn nothing_secret_is_logged_at_any_level() {
    if env::var_os(LOGS).is_some() {
        // Everything, by every way to say it.
        let filter = "trace,hyper=trace,hyper_util=trace,h2=trace,reqwest=trace,rustls=trace";
        telemetry::start(filter, LogFormat::Text, None).unwrap();
        tracing::trace!("logs are on");
        exchanges().await;
        return;
    }
    let ran = run_alone(
        "oauth::endpoint::tests::quiet::nothing_secret_is_logged_at_any_level",
        [(LOGS, "1")],
    )
    .await;
    let log = String::from_utf8_lossy(&ran.stderr);
    assert!(log.contains("logs are on"), "{log}");
    // The libraries have nothing to say below a warning, whatever they would print one day.
    for line in log.lines().filter(|line| !line.contains(" WARN ")) {
        for library in ["h2::", "hyper", "reqwest", "rustls"] {
            assert!(!line.contains(library), "{line}");
        }
    }
    for secret in [
        "dXNlcjpzZWNyZXQ",
        "secret-body",
        "c2VjcmV0LWhlYWRlcg",
        "secret-header",
        "at-1",
        "rt-2",
    ] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}
