//! docs/locking.md is right: what it lets people type is typed here, with the rights that it lists.

use std::{os::unix::fs::symlink, process::Command, time::Duration};

use serde_json::json;

use crate::support::{Account, ByHand, Fixture, Python, kubectl, kubectl_program, notes};

use super::{Guarded, HOUR};

const DOCUMENT: &str = include_str!("../../../docs/locking.md");

/// The contents of the code blocks in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("\n```{language}\n");
    let found = DOCUMENT.split(&*start).skip(1);
    found
        .map(|rest| rest.split("\n```").next().unwrap())
        .collect()
}

/// Somebody with the Role of the document, and kubectl as they would use it.
struct Consumer {
    account: Account,
    folder: tempfile::TempDir,
}

impl Consumer {
    async fn new(guarded: &Guarded, pod: Option<&str>) -> Self {
        let (fixture, folder) = (&guarded.fixture, tempfile::tempdir().unwrap());
        let namespace = fixture.namespace.as_str();
        let account = Account::create(fixture, "worker").await;
        let file = folder.path().join("role.yaml");
        let yaml = blocks("yaml");
        let role = yaml.iter().find(|block| block.contains("kind: Role"));
        std::fs::write(&file, role.unwrap()).unwrap();
        let role = ["apply", "-f", file.to_str().unwrap()];
        let worker = format!("--serviceaccount={namespace}:worker");
        let binding = [
            "create",
            "rolebinding",
            "worker",
            "--role=alice-consumer",
            &worker,
        ];
        for arguments in [&role[..], &binding] {
            let output = kubectl(&[&["-n", namespace], arguments].concat()).await;
            assert!(output.status.success(), "{output:?}");
        }
        let alice = "integrationcredentials/alice";
        account
            .until_it_may(true, "hold", "tokenward.dev", alice)
            .await;
        let account = match pod {
            Some(pod) => account.in_pod(fixture, pod).await,
            None => account,
        };
        symlink(kubectl_program(), folder.path().join("kubectl")).unwrap();
        let consumer = Self { account, folder };
        let context = format!("kubectl config set-context --current --namespace={namespace}");
        consumer.shell(&context).await;
        consumer
    }

    /// What a shell prints that runs this; it must succeed.
    async fn shell(&self, script: &str) -> String {
        let mut command = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        command
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("KUBECONFIG", self.account.kubeconfig())
            .env("KUBECACHEDIR", self.folder.path().join("cache"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_document_works_as_it_stands_with_the_rights_of_the_document() {
    let guarded = Guarded::new("document").await;
    let alice = ByHand::new(&guarded.fixture, 60).await;
    let consumer = Consumer::new(&guarded, None).await;
    let steps = blocks("sh");
    let [hold @ .., release, want] = steps.as_slice() else {
        panic!("no steps");
    };
    let look = "kubectl get lease -o name alice.hold.$NONCE; echo \"$TOKEN\"";
    let script = [&hold.join("\n"), look, release, want].join("\n");
    let printed = consumer.shell(&script).await;
    let mut rest = printed.as_str();
    for wanted in [
        "Open",
        "created",
        "held",
        "Open",
        "patched",
        "alice.hold.",
        "at-1",
        "Success",
        "created",
    ] {
        let found = rest.split_once(wanted);
        rest = found
            .unwrap_or_else(|| panic!("no {wanted} in {printed}"))
            .1;
    }
    assert!(alice.holds().await.is_empty());
    let notes = notes(&alice.wants().await[0]);
    assert_eq!(notes["generation"], "1");
    assert_eq!(notes["owner"], consumer.account.user());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_example_of_the_document_a_refresh_is_seen_to_wait() {
    let guarded = Guarded::around(Fixture::new("document-drain", HOUR).await).await;
    let fixture = &guarded.fixture;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let consumer = Consumer::new(&guarded, None).await;
    let steps = blocks("sh");
    let [look, create, check, .., release, want] = steps.as_slice() else {
        panic!("no steps");
    };
    let until =
        |wanted: &str| format!("until [ \"$(gate phase)\" = {wanted} ]; do sleep 0.1; done");
    let (drains, opens) = (until("Draining"), until("Open"));
    let held = "secret access_token";
    // It is answered when the gate is open.
    let answered = "for n in $(seq 300); do kubectl get leases alice.want.$WANT >/dev/null 2>&1 || break; sleep 0.1; done";
    let after = "echo; gate generation; echo; kubectl get leases alice.want.$WANT 2>&1 || true";
    let script = [
        look,
        create,
        check,
        want,
        drains.as_str(),
        held,
        release,
        opens.as_str(),
        answered,
        after,
    ];
    let printed = consumer.shell(&script.join("\n")).await;
    assert!(printed.contains("held"), "{printed}");
    let last: Vec<_> = printed.lines().rev().take(2).collect();
    assert_eq!(last[1], "2", "{printed}");
    assert!(last[0].contains("NotFound"), "the want: {printed}");
    assert_eq!(fixture.oauth.granted(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_the_rights_of_the_document_holds_and_asks_as_itself() {
    let guarded = Guarded::new("document-pod").await;
    let alice = ByHand::new(&guarded.fixture, 12).await;
    let consumer = Consumer::new(&guarded, Some("worker-0")).await;
    let namespace = guarded.fixture.namespace.as_str();
    let flat = consumer.folder.path().join("kubeconfig.json");
    let view = "kubectl config view --raw --flatten -o json";
    consumer.shell(&format!("{view} >{}", flat.display())).await;

    let script = "echo token $TOKENWARD_ACCESS_TOKEN; sleep 600";
    let hold = || Python::hold(&flat, namespace, "alice", &[], script);
    let mut client = hold();
    assert_eq!(client.printed("token").await, "at-1");
    let (made, pod) = (alice.hold().await, consumer.account.pod.as_ref());
    assert_eq!(notes(&made)["owner"], consumer.account.user());
    assert_eq!(notes(&made).get("owner-pod-uid"), pod);
    // It is renewed, and then released.
    alice.changed(&made).await;
    client.signal("TERM");
    assert_eq!(client.end().await.code(), Some(128 + 15));
    assert!(alice.holds().await.is_empty());

    // It asks for a refresh, and takes that back.
    alice.publish(1, Duration::from_secs(1)).await;
    let mut client = hold();
    let want = alice.want().await;
    assert_eq!(notes(&want).get("owner-pod-uid"), pod);
    client.signal("TERM");
    assert_eq!(client.end().await.code(), Some(128 + 15));
    assert!(alice.wants().await.is_empty());
}
