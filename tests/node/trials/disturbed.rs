//! An operator that is taken away in the middle of its work.

use serde_json::Value;

use crate::{
    node,
    oauth_server::OldToken,
    operator::{self, NAMESPACE, RELEASE},
    place::{Namespace, PATIENCE, kubectl, try_kubectl},
    provider::{Provider, ask},
    wait::within,
};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];

/// Three credentials whose authorization is lost when a refresh token is presented twice.
struct Scene {
    provider: Provider,
    namespace: Namespace,
    tokens: [String; 3],
    refreshes: usize,
}

impl Scene {
    async fn new(name: &str, replicas: usize) -> Self {
        operator::runs(replicas).await;
        let provider = Provider::start(OldToken::Survives).await;
        let namespace = Namespace::new(name);
        provider.describe(&namespace, "Survives");
        let mut tokens = [const { String::new() }; 3];
        for (name, token) in NAMES.into_iter().zip(&mut tokens) {
            provider.authorize(&namespace, name);
            *token = provider.next(&namespace, name, "").await;
        }
        Self {
            provider,
            namespace,
            tokens,
            refreshes: 0,
        }
    }

    /// Has each refreshed, and something happen while the exchanges are under way: the provider has taken the refresh
    /// tokens and does not answer yet.
    async fn refreshed_during(&mut self, what: impl FnOnce()) {
        let provider = &self.provider;
        let before = provider.oauth.request_count();
        provider.oauth.hold_exchanges();
        self.refreshes += 1;
        for name in NAMES {
            ask(&self.namespace, name, &self.refreshes.to_string());
        }
        within(PATIENCE, "exchanges under way", async || {
            (provider.oauth.request_count() > before).then_some(())
        })
        .await;
        what();
        provider.oauth.release_exchanges();
        for (name, token) in NAMES.into_iter().zip(&mut self.tokens) {
            *token = provider.next(&self.namespace, name, token).await;
        }
    }

    /// Sees that nothing was lost: each goes on by itself, with a refresh token that was presented once.
    async fn goes_on(&mut self) {
        self.refreshed_during(|| {}).await;
        for name in NAMES {
            let ready = |object: &Value| {
                let conditions = object["status"]["conditions"].as_array()?;
                let ready = conditions.iter().find(|c| c["type"] == "Ready")?;
                (ready["status"] == "True").then_some(())
            };
            self.namespace
                .until("integrationcredential", name, "Ready", ready)
                .await;
        }
        assert_eq!(self.provider.oauth.max_presentations(), 1);
    }
}

pub async fn a_pod_that_is_deleted_or_evicted_loses_nothing() {
    let mut scene = Scene::new("deleted", 1).await;
    let name = |pods: &[Value]| {
        pods[0]["metadata"]["name"]
            .as_str()
            .expect("a name")
            .to_owned()
    };
    let pod = name(&operator::pods(1).await);
    scene
        .refreshed_during(|| {
            kubectl(&["delete", "pod", &pod, "-n", NAMESPACE, "--wait=false"]);
        })
        .await;
    let pod = name(&operator::pods(1).await);
    scene
        .refreshed_during(|| {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction");
            evict(&path, &pod);
        })
        .await;
    operator::pods(1).await;
    scene.goes_on().await;
}

fn evict(path: &str, pod: &str) {
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE},
    });
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), eviction.to_string()).expect("a file that can be written");
    kubectl(&[
        "create",
        "--raw",
        path,
        "-f",
        &file.path().display().to_string(),
    ]);
}

pub async fn a_node_whose_programs_are_killed_loses_nothing() {
    let mut scene = Scene::new("killed", 1).await;
    for program in ["kubelet", "containerd"] {
        scene.refreshed_during(|| node::kill(program)).await;
    }
    // The node comes back, and so does a pod that is taken away then.
    within(PATIENCE, "a node that is ready", async || {
        try_kubectl(&[
            "wait",
            "--for=condition=Ready",
            "node",
            "--all",
            "--timeout=1s",
        ])
        .then_some(())
    })
    .await;
    let pods = operator::pods(1).await;
    let pod = pods[0]["metadata"]["name"].as_str().expect("a name");
    kubectl(&["delete", "pod", pod, "-n", NAMESPACE, "--wait=false"]);
    within(PATIENCE, "another pod", async || {
        let now = operator::pods(1).await;
        (now[0]["metadata"]["uid"] != pods[0]["metadata"]["uid"]).then_some(())
    })
    .await;
    scene.goes_on().await;
}

pub async fn two_replicas_that_are_rolled_lose_nothing() {
    let mut scene = Scene::new("rolled", 2).await;
    for _ in 0..2 {
        scene
            .refreshed_during(|| {
                kubectl(&["rollout", "restart", "deployment", RELEASE, "-n", NAMESPACE]);
            })
            .await;
        kubectl(&[
            "rollout",
            "status",
            "deployment",
            RELEASE,
            "-n",
            NAMESPACE,
            "--timeout=180s",
        ]);
    }
    scene.goes_on().await;
}
