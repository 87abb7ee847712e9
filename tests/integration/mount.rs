//! `tokenward mount`: a credential's Secret as files that follow it.

mod example;
mod faults;
mod files;
mod hold;
mod refused;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::BASE64;
use kube::{
    ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::support::{Account, Deployed, Fixture, Running, documents, eventually};

const HOUR: Duration = Duration::from_secs(3600);

/// A credential `alice` that no operator serves: its target is written by the test.
struct Alice {
    fixture: Fixture,
    uid: String,
    folder: tempfile::TempDir,
}

/// A running `tokenward mount`.
struct Mounted {
    running: Running,
    dir: PathBuf,
}

impl Alice {
    async fn new(test: &str) -> Self {
        let fixture = Fixture::bare(test, HOUR).await;
        let alice = fixture.machine("alice", json!({})).await;
        Self {
            fixture,
            uid: alice.uid().unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("alice")
    }

    /// The account of the documented example, with its Role.
    async fn account(&self) -> Account {
        let namespace = self.fixture.namespace.as_str();
        let mut objects = documents("mount.yaml", &[("my-team", namespace)]);
        objects.retain(|object| object["kind"] != "Deployment");
        Deployed::objects(&self.fixture, objects).await;
        let account = Account::of(&self.fixture, "my-app").await;
        let (group, resource) = ("tokenward.dev", "integrationcredentials/alice");
        account.until_it_may(true, "get", group, resource).await;
        account
            .until_it_may(true, "watch", "", "secrets/alice")
            .await;
        account
    }

    /// Writes the target as the operator does, with this generation and these other keys.
    async fn publish(&self, generation: u64, keys: &[(&str, &str)]) {
        let generation = generation.to_string();
        let counted = [("token_generation", generation.as_str())];
        let keys = keys.iter().copied().chain(counted);
        // Not stringData, which takes no key away.
        let encoded = keys.map(|(key, value)| (key, BASE64.encode(value.as_bytes())));
        let data: BTreeMap<_, _> = encoded.collect();
        self.write(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": "alice",
                "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "target"},
                "annotations": {"tokenward.dev/issued-at": jiff::Timestamp::now().to_string()},
                "ownerReferences": [{
                    "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
                    "name": "alice", "uid": self.uid, "controller": true,
                }],
            },
            "data": data,
        }))
        .await;
    }

    async fn write(&self, secret: Value) {
        let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
        let params = PatchParams::apply("test").force();
        let secrets = self.fixture.secrets();
        secrets
            .patch(&name, &params, &Patch::Apply(secret))
            .await
            .unwrap();
    }

    /// Starts it as whoever this kubeconfig is for.
    fn mount(&self, kubeconfig: &Path, more: &[&str]) -> Mounted {
        mount(&self.fixture, &self.dir(), kubeconfig, more)
    }
}

fn mount(fixture: &Fixture, dir: &Path, kubeconfig: &Path, more: &[&str]) -> Mounted {
    let place = dir.to_str().unwrap();
    let mut arguments = vec!["mount", "alice", "--dir", place];
    arguments.extend(["--health-address", "127.0.0.1:0"]);
    arguments.extend(more);
    let call = fixture.tokenward(&arguments).by(kubeconfig);
    Mounted {
        running: call.start(),
        dir: dir.to_owned(),
    }
}

impl Mounted {
    /// Its log lines.
    fn log(&self) -> Vec<Value> {
        let err = self.running.err();
        let lines = err.split_inclusive('\n').filter(|l| l.ends_with('\n'));
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The first log line that says this.
    async fn said(&self, what: &str) -> Value {
        let says = |line: &Value| line.to_string().contains(what);
        eventually(&format!("a log line {what:?}"), async || {
            self.log().into_iter().find(says)
        })
        .await
    }

    /// What a probe answers.
    async fn probe(&self, path: &str) -> (u16, String) {
        let started = self.said("starting").await;
        let address = started["health_address"].as_str().unwrap();
        let answer = reqwest::get(format!("http://{address}{path}"))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn ready(&self) {
        eventually("readiness", async || {
            (self.probe("/readyz").await.0 == 200).then_some(())
        })
        .await;
    }

    /// The content of a file, if there is one.
    fn file(&self, key: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.join(key)).ok()
    }

    /// Waits for a file with this content.
    async fn shows(&self, key: &str, content: &str) {
        eventually(&format!("{key}: {content}"), async || {
            (self.file(key).as_deref() == Some(content)).then_some(())
        })
        .await;
    }

    /// What a program sees in the directory.
    fn keys(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut keys: Vec<_> = names.filter(|name| !name.starts_with("..")).collect();
        keys.sort();
        keys
    }
}
