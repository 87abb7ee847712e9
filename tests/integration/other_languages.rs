//! Programs in different languages share a credential with a real operator. The one in Python knows of
//! the lock what docs/locking.md says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use kube::api::ListParams;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokenward::manager::CredentialManager;
use tokio_util::sync::CancellationToken;

use crate::support::{Fixture, Operator, Python, eventually, kubectl, notes, within};

const HOUR: Duration = Duration::from_secs(3600);

/// Uses the token until it is asked to end, and then a little longer; says how many of its calls were
/// accepted and how many refused.
const USER: &str = "
import os, signal, sys, time, urllib.error, urllib.request
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(time.monotonic()))
headers = {'Authorization': 'Bearer ' + os.environ['TOKENWARD_ACCESS_TOKEN']}
accepted = refused = 0
print('using', os.environ['TOKENWARD_TOKEN_GENERATION'], flush=True)
while not asked or time.monotonic() < asked[0] + 0.5:
    try:
        urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers=headers)).close()
        accepted += 1
    except urllib.error.HTTPError:
        refused += 1
    time.sleep(0.02)
print('used', accepted > 10, refused, flush=True)
";

/// Acquires and uses again and again, as long as the file is there, and says how it went.
const WORKER: &str = "
import json, os, sys, urllib.error, urllib.request, time
from hold import Credential, from_kubeconfig
kubeconfig, namespace, resource, wait = sys.argv[1:]
with open(kubeconfig) as file:
    alice = Credential(from_kubeconfig(json.load(file)), 'alice', namespace)
seen, turns, accepted, refused = set(), [], 0, 0
while os.path.exists(wait):
    with alice.acquire() as hold:
        seen.add(hold.generation)
        begun, end = time.time(), time.monotonic() + 1
        while time.monotonic() < end and not hold.draining:
            headers = {'Authorization': 'Bearer ' + hold.token}
            try:
                request = urllib.request.Request(resource, headers=headers)
                urllib.request.urlopen(request, timeout=hold.remaining()).close()
                accepted += 1
            except urllib.error.HTTPError:
                refused += 1
            time.sleep(0.02)
        turns.append([begun, time.time()])
    time.sleep(0.5)
found = {'seen': sorted(seen), 'turns': turns, 'accepted': accepted, 'refused': refused}
print('worked', json.dumps(found), flush=True)
";

/// An operator and the credential `alice`, whose old token dies with each refresh.
async fn alice(test: &str, lifetime: Duration, lock: Value) -> (Fixture, Operator) {
    let fixture = Fixture::new(test, lifetime).await;
    fixture.seed("alice").await;
    let operator = fixture.operator();
    fixture.user("alice", json!({"lock": lock})).await;
    fixture.ready("alice").await;
    (fixture, operator)
}

/// The kubeconfig as the client wants it.
async fn as_json(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let view = ["config", "view", "--raw", "--flatten", "-o", "json"];
    let file = folder.path().join("kubeconfig.json");
    std::fs::write(&file, kubectl(&view).await.stdout).unwrap();
    file
}

async fn phase(fixture: &Fixture, wanted: &str) {
    eventually(&format!("phase {wanted}"), async || {
        let gate = fixture.leases().get("alice.gate").await.unwrap();
        let notes = gate.metadata.annotations.unwrap();
        (notes["tokenward.dev/phase"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_waits_for_a_command_that_python_holds_the_credential_for() {
    let (fixture, _operator) = alice("languages", HOUR, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = as_json(&folder).await;
    let user = folder.path().join("user.py");
    std::fs::write(&user, USER).unwrap();
    let script = format!(
        "exec python3 {} {}",
        user.display(),
        fixture.oauth.resource_url()
    );
    let hold = || Python::hold(&kubeconfig, &fixture.namespace, "alice", &[], &script);
    let mut first = hold();
    assert_eq!(first.printed("using").await, "1");

    fixture.ask("alice", "1").await;
    phase(&fixture, "Draining").await;
    // Who comes while the refresh waits does not get in before it.
    let second = hold();
    assert_eq!(first.printed("used").await, "True 0");
    assert!(first.end().await.success());
    assert_eq!(second.printed("using").await, "2");
    fixture.generation("alice", 2).await;
    assert_eq!(fixture.oauth.granted(), 2);
    assert_eq!(fixture.oauth.resource_calls().1, 0, "a refused call");
    let events = fixture.events().await;
    assert!(!events.iter().any(|e| e.contains("Forced")), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_does_not_end_is_killed_before_the_refresh() {
    let lock = json!({"holdDuration": "12s", "drainGrace": "1s"});
    let (fixture, _operator) = alice("stubborn", HOUR, lock).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = as_json(&folder).await;
    let user = folder.path().join("user.py");
    // That long after it was asked to.
    std::fs::write(&user, USER.replace("+ 0.5", "+ 600")).unwrap();
    let resource = fixture.oauth.resource_url();
    let script = format!("exec python3 {} {resource}", user.display());
    let mut client = Python::hold(&kubeconfig, &fixture.namespace, "alice", &[], &script);
    client.printed("using").await;
    fixture.ask("alice", "1").await;
    assert_eq!(client.end().await.code(), Some(76));
    fixture.generation("alice", 2).await;
    let (accepted, refused) = fixture.oauth.resource_calls();
    assert!(accepted > 10 && refused == 0, "{accepted} {refused}");
    let events = fixture.events().await;
    assert!(!events.iter().any(|e| e.contains("Forced")), "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_python_reports_is_replaced_once() {
    const PROGRAM: &str = "
import json, sys
from hold import Credential, from_kubeconfig
kubeconfig, namespace = sys.argv[1:]
with open(kubeconfig) as file:
    alice = Credential(from_kubeconfig(json.load(file)), 'alice', namespace)
for _ in range(2):
    with alice.acquire() as hold:
        print('got', hold.generation, hold.token, flush=True)
        if hold.generation == 1:
            hold.report_rejected()
";
    let (fixture, _operator) = alice("reported", HOUR, json!({})).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = as_json(&folder).await;
    let arguments = [kubeconfig.to_str().unwrap(), &fixture.namespace];
    let mut program = Python::run(PROGRAM, &arguments);
    let token = program.printed("got 2").await;
    assert!(fixture.oauth.is_live(&token));
    assert!(program.end().await.success(), "{}", program.errors());
    assert_eq!(fixture.oauth.granted(), 2);
    eventually("no hold and no want", async || {
        let leases = fixture.leases().list(&ListParams::default()).await.unwrap();
        (leases.items.len() == 1).then_some(())
    })
    .await;
}

/// What a worker tells.
#[derive(Debug, Default, Deserialize)]
struct Told {
    /// The generations of the tokens that it used.
    seen: BTreeSet<u64>,
    /// From when to when it used them, by the wall clock.
    turns: Vec<(f64, f64)>,
    accepted: usize,
    refused: usize,
}

fn wall() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

/// A worker in Rust: the same as [`WORKER`].
async fn work(fixture: &Fixture, stop: &CancellationToken) -> Told {
    let client = fixture.client.clone();
    let manager = CredentialManager::new(client, fixture.namespace.clone());
    let api = reqwest::Client::new();
    let mut told = Told::default();
    while !stop.is_cancelled() {
        let hold = manager.acquire("alice").await.unwrap();
        told.seen.insert(hold.generation());
        let (begun, start) = (wall(), Instant::now());
        while start.elapsed() < Duration::from_secs(1) {
            let token = hold.token().await.unwrap();
            let call = api
                .get(fixture.oauth.resource_url())
                .bearer_auth(token.secret().expose_secret())
                .send();
            if call.await.unwrap().status().is_success() {
                told.accepted += 1;
            } else {
                told.refused += 1;
            }
            tokio::select! {
                () = hold.draining() => break,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        told.turns.push((begun, wall()));
        hold.release().await;
        // Others take their turns.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    told
}

/// Waits until two programs have used the token of this generation for a turn, and have begun another.
async fn used_by_both(fixture: &Fixture, generation: i64) {
    let mut users = BTreeMap::<_, BTreeSet<_>>::new();
    let minute = Duration::from_secs(60);
    within(minute, "holds of both", async || {
        let holds = ListParams::default().labels("tokenward.dev/role=hold");
        for hold in fixture.leases().list(&holds).await.unwrap() {
            if notes(&hold)["generation"] == generation.to_string() {
                let holder = hold.spec.unwrap().holder_identity.unwrap();
                let (user, turn) = holder.rsplit_once('/').unwrap();
                users
                    .entry(user.to_owned())
                    .or_default()
                    .insert(turn.to_owned());
            }
        }
        (users.len() == 2 && users.values().all(|turns| turns.len() >= 2)).then_some(())
    })
    .await;
}

/// Works in both languages until there were three refreshes, and shows that no call was refused.
async fn share(test: &str, lock: Value) -> [Told; 2] {
    let (fixture, _operator) = alice(test, HOUR, lock).await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = as_json(&folder).await;
    let wait = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let resource = fixture.oauth.resource_url();
    let arguments = [
        kubeconfig.to_str().unwrap(),
        &fixture.namespace,
        &resource,
        wait.to_str().unwrap(),
    ];
    let mut python = Python::run(WORKER, &arguments);
    let stop = CancellationToken::new();
    let refreshed = async {
        for generation in 1..=3 {
            used_by_both(&fixture, generation).await;
            fixture.ask("alice", &generation.to_string()).await;
            fixture.generation("alice", generation + 1).await;
        }
        stop.cancel();
        std::fs::remove_file(&wait).unwrap();
    };
    let (rust, ()) = tokio::join!(work(&fixture, &stop), refreshed);
    let told = python.printed("worked").await;
    assert!(python.end().await.success());
    let told = [rust, serde_json::from_str(&told).unwrap()];
    for one in &told {
        assert_eq!(one.refused, 0, "{told:?}");
        assert!(one.accepted > 20 && one.seen.len() >= 3, "{told:?}");
    }
    assert_eq!(fixture.oauth.resource_calls().1, 0);
    assert_eq!(fixture.oauth.max_presentations(), 1);
    let events = fixture.events().await;
    assert!(!events.iter().any(|e| e.contains("Forced")), "{events:?}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_rust_share_a_credential_over_its_refreshes_and_no_call_is_refused() {
    let [rust, python] = share("shared-by", json!({})).await;
    let is_during = |a: &(f64, f64), b: &(f64, f64)| a.0 < b.1 && b.0 < a.1;
    let mut turns = rust.turns.iter();
    let together = turns.any(|a| python.turns.iter().any(|b| is_during(a, b)));
    assert!(together, "they might as well have taken turns");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_and_rust_take_turns_with_an_exclusive_credential() {
    let told = share("turns-by", json!({"mode": "Exclusive"})).await;
    let mut turns: Vec<_> = told.into_iter().flat_map(|one| one.turns).collect();
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    for pair in turns.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two at a time: {pair:?}");
    }
}
