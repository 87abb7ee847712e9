//! What a program sees.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::Alice;
use crate::support::{eventually, signal};

#[tokio::test(flavor = "multi_thread")]
async fn files_follow_the_secret_under_the_documented_role() {
    let alice = Alice::new("mount-files").await;
    let account = alice.account().await;
    let mounted = alice.mount(account.kubeconfig(), &[]);
    let missing = format!("there is no Secret {}/alice", alice.fixture.namespace);
    mounted.said(&missing).await;
    let (code, why) = mounted.probe("/readyz").await;
    assert_eq!(code, 503);
    assert!(why.contains(&missing), "{why}");
    assert_eq!(mounted.probe("/livez").await.0, 200);
    assert!(mounted.keys().is_empty());

    let first = [("access_token", "canary-1"), ("scope", "read")];
    alice.publish(1, &first).await;
    mounted.ready().await;
    assert_eq!(
        mounted.keys(),
        ["access_token", "scope", "token_generation"]
    );
    assert_eq!(mounted.file("access_token").unwrap(), "canary-1");
    let token = mounted.dir.join("access_token");
    let mode = fs::metadata(&token).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o440);
    assert_eq!(
        fs::read_link(token).unwrap(),
        Path::new("..data/access_token")
    );

    alice.publish(2, &[("access_token", "canary-2")]).await;
    mounted.shows("access_token", "canary-2").await;
    eventually("one key less", async || {
        (mounted.keys() == ["access_token", "token_generation"]).then_some(())
    })
    .await;
    let swapped = mounted.said(r#""generation":2"#).await;
    let secret = alice.fixture.find_secret("alice").await.unwrap();
    assert_eq!(
        swapped["resource_version"].as_str(),
        secret.metadata.resource_version.as_deref()
    );
    assert_eq!(swapped["credential"], "alice");
    assert!(
        swapped["since_issued_ms"].is_i64() && swapped["swap_us"].is_u64(),
        "{swapped}"
    );

    signal(mounted.running.pid(), "TERM");
    let (dir, ended) = (mounted.dir, mounted.running.end().await);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(!ended.err.contains("canary"), "{}", ended.err);
    assert_eq!(
        fs::read_to_string(dir.join("access_token")).unwrap(),
        "canary-2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_one_token_whole_at_any_time() {
    const CHANGES: u64 = 60;
    let alice = Alice::new("mount-atomic").await;
    let account = alice.account().await;
    let publish = async |generation: u64| {
        // Long enough that a file that is written in place would be seen half.
        let token = format!("{generation} ").repeat(20_000);
        alice.publish(generation, &[("access_token", &token)]).await;
    };
    publish(1).await;
    let mounted = alice.mount(account.kubeconfig(), &["--secret", "alice"]);
    mounted.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let reader = tokio::task::spawn_blocking({
        let (stop, dir) = (Arc::clone(&stop), mounted.dir.clone());
        move || {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                // By the links, as most programs do it.
                fs::read(dir.join("access_token")).expect("always there");
                // Two that belong together.
                let data = dir.join(fs::read_link(dir.join("..data")).unwrap());
                let generation = fs::read_to_string(data.join("token_generation")).unwrap();
                let token = fs::read_to_string(data.join("access_token")).unwrap();
                assert_eq!(token, format!("{generation} ").repeat(20_000));
                if seen.last() != Some(&generation) {
                    seen.push(generation);
                }
            }
            seen
        }
    });
    // As often as possible, for a link that is away for some microseconds.
    let looker = tokio::task::spawn_blocking({
        let (stop, link) = (Arc::clone(&stop), mounted.dir.join("..data"));
        move || {
            while !stop.load(Ordering::Relaxed) {
                fs::read_link(&link).expect("always there");
            }
        }
    });
    let mut latencies = Vec::new();
    for generation in 2..=CHANGES {
        publish(generation).await;
        let written = Instant::now();
        mounted
            .shows("token_generation", &generation.to_string())
            .await;
        latencies.push(written.elapsed());
    }
    stop.store(true, Ordering::Relaxed);
    looker.await.unwrap();
    let seen = reader.await.unwrap();
    assert!(seen.len() > 2, "it read beside the changes: {seen:?}");
    // Polled each 25 ms.
    latencies.sort();
    let of = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_millis();
    eprintln!(
        "from the answer to a write until the file is new, in ms: median {}, p90 {}, most {}",
        of(50),
        of(90),
        of(100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_secret_that_is_deleted_stay_until_it_is_there_again() {
    let alice = Alice::new("mount-deleted").await;
    let account = alice.account().await;
    alice.publish(1, &[("access_token", "first")]).await;
    let mounted = alice.mount(account.kubeconfig(), &[]);
    mounted.ready().await;
    alice.fixture.delete_secret("alice").await;
    let told = mounted.said("the files stay as they are").await;
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .contains("there is no Secret"),
        "{told}"
    );
    assert_eq!(mounted.file("access_token").unwrap(), "first");
    assert_eq!(mounted.probe("/readyz").await.0, 200);
    alice.publish(1, &[("access_token", "second")]).await;
    mounted.shows("access_token", "second").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_started_anew_goes_on_with_the_files_of_the_one_before() {
    let alice = Alice::new("mount-restart").await;
    let account = alice.account().await;
    alice.publish(1, &[("access_token", "first")]).await;
    let mounted = alice.mount(account.kubeconfig(), &[]);
    mounted.ready().await;
    signal(mounted.running.pid(), "KILL");
    mounted.running.end().await;
    let again = alice.mount(account.kubeconfig(), &[]);
    again.ready().await;
    assert_eq!(again.file("access_token").unwrap(), "first");
    let swaps = again
        .log()
        .iter()
        .filter(|l| l["message"] == "files swapped")
        .count();
    assert_eq!(swaps, 0, "the files were as they should be");
    signal(again.running.pid(), "KILL");
    again.running.end().await;
    alice
        .publish(2, &[("access_token", "second"), ("scope", "read")])
        .await;
    let third = alice.mount(account.kubeconfig(), &["--file-mode", "0400"]);
    third.ready().await;
    assert_eq!(third.file("access_token").unwrap(), "second");
    let file = fs::metadata(third.dir.join("scope")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o400);
    // What was replaced goes by itself.
    let folders = || {
        let entries = fs::read_dir(&third.dir).unwrap().map(|e| e.unwrap());
        entries.filter(|e| e.file_type().unwrap().is_dir()).count()
    };
    crate::support::within(Duration::from_secs(60), "one folder", async || {
        (folders() == 1).then_some(())
    })
    .await;
    assert_eq!(third.file("access_token").unwrap(), "second");
}
