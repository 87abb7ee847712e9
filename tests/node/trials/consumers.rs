//! Pods that use a token while it is refreshed again and again.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    consumer, node,
    oauth_server::OldToken,
    operator,
    place::{Namespace, PATIENCE},
    provider::{Provider, ask},
    wait::within,
};

/// How many refreshes a consumer has to live through.
const REFRESHES: usize = 20;

pub async fn who_mounts_the_secret_has_no_refused_call_where_old_tokens_survive() {
    operator::runs(1).await;
    let provider = Provider::start(OldToken::Survives).await;
    let namespace = Namespace::new("mounting");
    provider.describe(&namespace, "Survives");
    provider.authorize(&namespace, "alice");
    consumer::mounting(&namespace.name, "alice", &provider.oauth.resource_url());
    assert_eq!(plain_mount(&namespace).await, "Safe");
    refreshed_while_used(&provider, &namespace).await;
}

pub async fn under_a_lock_no_call_is_refused_where_old_tokens_die() {
    operator::runs(1).await;
    let provider = Provider::start(OldToken::Dies).await;
    let namespace = Namespace::new("locking");
    provider.describe(&namespace, "Invalidated");
    provider.authorize(&namespace, "alice");
    consumer::locking(&namespace.name, "alice", &provider.oauth.resource_url());
    refreshed_while_used(&provider, &namespace).await;
}

pub async fn who_mounts_the_secret_where_old_tokens_die_is_told_so_and_refused_at_a_refresh() {
    operator::runs(1).await;
    let provider = Provider::start(OldToken::Dies).await;
    let namespace = Namespace::new("unsafe");
    provider.describe(&namespace, "Invalidated");
    provider.authorize(&namespace, "alice");
    consumer::mounting(&namespace.name, "alice", &provider.oauth.resource_url());
    let token = provider.next(&namespace, "alice", "").await;
    assert_eq!(plain_mount(&namespace).await, "Unsafe");
    within(PATIENCE, "a call with the token", async || {
        provider.was_used(&token).then_some(())
    })
    .await;
    assert_eq!(provider.refused(), 0);
    // The kubelet may be so quick that no call comes in between: then again.
    let mut token = token;
    for refresh in 0..REFRESHES {
        ask(&namespace, "alice", &refresh.to_string());
        token = provider.next(&namespace, "alice", &token).await;
        within(PATIENCE, "a call with the new token", async || {
            provider.was_used(&token).then_some(())
        })
        .await;
        if provider.refused() > 0 {
            return;
        }
    }
    panic!("no call was refused over {REFRESHES} refreshes");
}

/// What the status says of mounting the Secret.
async fn plain_mount(namespace: &Namespace) -> String {
    let told = |object: &Value| {
        Some(
            object["status"]["target"]["plainMount"]
                .as_str()?
                .to_owned(),
        )
    };
    namespace
        .until("integrationcredential", "alice", "plainMount", told)
        .await
}

/// Refreshes the credential again whenever its consumer has used the token, and sees that no call is refused.
async fn refreshed_while_used(provider: &Provider, namespace: &Namespace) {
    let mut token = provider.next(namespace, "alice", "").await;
    for refresh in 0..=REFRESHES {
        within(PATIENCE, "a call with the token", async || {
            provider.was_used(&token).then_some(())
        })
        .await;
        assert_eq!(provider.refused(), 0, "after {refresh} refreshes");
        if refresh < REFRESHES {
            ask(namespace, "alice", &refresh.to_string());
            token = provider.next(namespace, "alice", &token).await;
        }
    }
    assert_eq!(provider.oauth.max_presentations(), 1);
    println!(
        "{} calls, none refused, over {REFRESHES} refreshes",
        provider.oauth.resource_calls().0
    );
}

pub async fn a_sidecar_has_the_file_sooner_than_the_kubelet() {
    operator::runs(1).await;
    let provider = Provider::start(OldToken::Survives).await;
    let namespace = Namespace::new("files");
    provider.describe(&namespace, "Survives");
    provider.authorize(&namespace, "alice");
    let url = provider.oauth.resource_url();
    consumer::mounting(&namespace.name, "alice", &url);
    consumer::with_sidecar(&namespace.name, "alice", &url);
    let mut token = provider.next(&namespace, "alice", "").await;
    let files = [("mounting", "secret"), ("sidecar", "empty-dir")];
    let mut places = Vec::new();
    for (deployment, plugin) in files {
        let pod = namespace.pod(deployment).await;
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        places.push(node::volume(&uid, plugin, "credential").join("access_token"));
    }
    let mut gaps = [Vec::new(), Vec::new()];
    for refresh in 0..REFRESHES {
        // The files are looked at while it goes on, for the sidecar may be as fast as the API server's answer.
        let looking = tokio::task::spawn_blocking({
            let (places, old) = (places.clone(), token.clone());
            move || changes(&places, &old)
        });
        ask(&namespace, "alice", &refresh.to_string());
        token = provider.next(&namespace, "alice", &token).await;
        let exchanged = provider.oauth.requests().last().expect("an exchange").at;
        for (gap, (content, at)) in gaps
            .iter_mut()
            .zip(looking.await.expect("files that change"))
        {
            assert_eq!(content, token);
            gap.push(at.duration_since(exchanged).as_secs_f64());
        }
    }
    for ((deployment, _), gaps) in files.iter().zip(&mut gaps) {
        gaps.sort_by(f64::total_cmp);
        println!(
            "from the exchange to the file, {deployment}: median {:.3} s, longest {:.3} s",
            gaps[gaps.len() / 2],
            gaps[gaps.len() - 1]
        );
    }
    assert_eq!(provider.refused(), 0);
}

/// What each file has after `old`, and since when.
fn changes(places: &[PathBuf], old: &str) -> Vec<(String, jiff::Timestamp)> {
    let mut found: Vec<Option<(String, jiff::Timestamp)>> = vec![None; places.len()];
    let start = Instant::now();
    while found.iter().any(Option::is_none) {
        assert!(
            start.elapsed() < PATIENCE,
            "files with another token: {found:?}"
        );
        for (place, found) in places.iter().zip(&mut found) {
            if found.is_none()
                && let Ok(content) = fs::read_to_string(place)
                && content != old
            {
                *found = Some((content, jiff::Timestamp::now()));
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    found.into_iter().flatten().collect()
}
