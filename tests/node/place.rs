//! The cluster of the node, and a namespace of it.

use std::{
    io::Write as _,
    process::{Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{cluster::Cluster, wait::within};

/// How long something may take that involves pods, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(120);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::connect_or_start().expect("the cluster of the node"))
}

/// Runs kubectl, which must succeed. Its output.
pub fn kubectl(arguments: &[&str]) -> String {
    done("kubectl", arguments, cluster().kubectl(arguments).output())
}

/// Runs kubectl; whether it succeeded.
pub fn try_kubectl(arguments: &[&str]) -> bool {
    let output = cluster().kubectl(arguments).output().expect("kubectl");
    output.status.success()
}

/// Prints what is going on in the cluster.
pub fn show() {
    let commands: [&[&str]; 4] = [
        &["get", "pods,integrationcredentials", "-A", "-o", "wide"],
        &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        &[
            "logs",
            "-A",
            "-l",
            "app",
            "--all-containers",
            "--tail=30",
            "--prefix",
        ],
        &[
            "logs",
            "-A",
            "-l",
            "app.kubernetes.io/name=tokenward",
            "--tail=60",
            "--prefix",
        ],
    ];
    for arguments in commands {
        let output = cluster().kubectl(arguments).output().expect("kubectl");
        println!("$ kubectl {}", arguments.join(" "));
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs Helm, which must succeed. Its output.
pub fn helm(arguments: &[&str]) -> String {
    done("helm", arguments, cluster().helm(arguments).output())
}

fn done(program: &str, arguments: &[&str], output: std::io::Result<Output>) -> String {
    let output = output.expect(program);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Creates or replaces objects of a namespace.
pub fn apply(namespace: &str, objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    apply_text(namespace, &list.to_string());
}

/// The same, with objects as they stand in a file.
pub fn apply_text(namespace: &str, text: &str) {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-n",
        namespace,
        "-f",
        "-",
    ];
    let mut child = cluster()
        .kubectl(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(text.as_bytes()).expect("kubectl reads");
    drop(stdin);
    let output = child.wait_with_output().expect("kubectl ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An object, unless there is none.
pub fn get(namespace: &str, kind: &str, name: &str) -> Option<Value> {
    let arguments = [
        "get",
        kind,
        name,
        "-n",
        namespace,
        "-o",
        "json",
        "--ignore-not-found",
    ];
    let output = kubectl(&arguments);
    (!output.trim().is_empty()).then(|| serde_json::from_str(&output).expect("an object"))
}

/// The objects that a selector names.
pub fn list(namespace: &str, kind: &str, selector: &str) -> Vec<Value> {
    let output = kubectl(&["get", kind, "-n", namespace, "-l", selector, "-o", "json"]);
    let list: Value = serde_json::from_str(&output).expect("a list");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// A namespace that admits nothing but what the restricted Pod Security standard does. It goes with this value.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(name: &str) -> Self {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        apply("default", &[object]);
        Self {
            name: name.to_owned(),
        }
    }

    /// A value of an object, once it is there.
    pub async fn until<T>(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        value: impl Fn(&Value) -> Option<T>,
    ) -> T {
        within(PATIENCE, &format!("{kind} {name}: {what}"), async || {
            get(&self.name, kind, name).as_ref().and_then(&value)
        })
        .await
    }

    /// The pod of a Deployment, once one is ready and no other is left.
    pub async fn pod(&self, deployment: &str) -> Value {
        let selector = format!("app={deployment}");
        within(PATIENCE, &format!("the pod of {deployment}"), async || {
            let pods = list(&self.name, "pods", &selector);
            match &pods[..] {
                [pod] if is_ready(pod) => Some(pod.clone()),
                _ => None,
            }
        })
        .await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nobody waits for its end, which the end of the node would cut short anyway.
        let arguments = [
            "delete",
            "namespace",
            &self.name,
            "--wait=false",
            "--ignore-not-found",
        ];
        try_kubectl(&arguments);
    }
}

/// Whether a pod is ready, and not about to go.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    ready && pod["metadata"]["deletionTimestamp"].is_null()
}
