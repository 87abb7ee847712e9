//! Programs that use a credential, in pods as anybody would write them.

use serde_json::{Value, json};

use crate::{
    node::BUSYBOX,
    operator::IMAGE,
    place::{apply, apply_text},
};

/// Where a pod finds the files of its credential.
pub const FILES: &str = "/var/run/credential";

/// Calls the resource with the file's content, read anew for each call.
fn calls(url: &str) -> String {
    format!(
        "while :; do \
         wget -q -O /dev/null --header \"Authorization: Bearer $(cat {FILES}/access_token)\" {url}; \
         sleep 0.1; done"
    )
}

/// A Deployment that mounts the Secret of a credential, and uses it.
pub fn mounting(namespace: &str, credential: &str, url: &str) {
    let mounts = json!([{"name": "credential", "mountPath": FILES, "readOnly": true}]);
    let container = container(
        "app",
        BUSYBOX,
        &json!(["/bin/sh", "-c", calls(url)]),
        &mounts,
    );
    let volumes = json!([{"name": "credential", "secret": {"secretName": credential}}]);
    apply(
        namespace,
        &[deployment(
            "mounting",
            &json!({
                "automountServiceAccountToken": false, "containers": [container], "volumes": volumes,
            }),
        )],
    );
}

/// A Deployment whose program runs under `tokenward lock`. The image of tokenward has no shell and no cp: it copies
/// itself.
pub fn locking(namespace: &str, credential: &str, url: &str) {
    let once = "for n in 1 2 3 4 5; do wget -q -O /dev/null --header \
                \"Authorization: Bearer $TOKENWARD_ACCESS_TOKEN\" $URL; done";
    let script =
        format!("while :; do /tools/tokenward lock {credential} -- /bin/sh -c '{once}'; done");
    let tools =
        |read_only: bool| json!([{"name": "tools", "mountPath": "/tools", "readOnly": read_only}]);
    let install = container(
        "tokenward",
        IMAGE,
        &json!(["/tokenward", "install", "/tools"]),
        &tools(false),
    );
    let mut app = container(
        "app",
        BUSYBOX,
        &json!(["/bin/sh", "-c", script]),
        &tools(true),
    );
    app["env"] = json!([{"name": "URL", "value": url}]);
    let role = include_str!("../../deploy/consumer-role.yaml")
        .replace("alice", credential)
        .replace("my-team", namespace)
        .replace("my-app", "consumer");
    apply_text(namespace, &role);
    apply(
        namespace,
        &[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "consumer"}})],
    );
    apply(
        namespace,
        &[deployment(
            "locking",
            &json!({
                "serviceAccountName": "consumer", "initContainers": [install], "containers": [app],
                "volumes": [{"name": "tools", "emptyDir": {}}],
            }),
        )],
    );
}

/// A Deployment whose files are written by `tokenward mount`.
pub fn with_sidecar(namespace: &str, credential: &str, url: &str) {
    let mounts = |read_only: bool| json!([{"name": "credential", "mountPath": FILES, "readOnly": read_only}]);
    let command = json!(["/tokenward", "mount", credential, "--dir", FILES]);
    let mut sidecar = container("tokenward", IMAGE, &command, &mounts(false));
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({
        "httpGet": {"path": "/readyz", "port": 8099}, "periodSeconds": 1, "failureThreshold": 60,
    });
    let app = container(
        "app",
        BUSYBOX,
        &json!(["/bin/sh", "-c", calls(url)]),
        &mounts(true),
    );
    let account = account(
        credential,
        &[
            json!({"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"],
               "resourceNames": [credential], "verbs": ["get"]}),
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [credential],
               "verbs": ["get", "list", "watch"]}),
        ],
    );
    apply(namespace, &account);
    apply(
        namespace,
        &[deployment(
            "sidecar",
            &json!({
                "serviceAccountName": "consumer", "initContainers": [sidecar], "containers": [app],
                "volumes": [{"name": "credential", "emptyDir": {"medium": "Memory"}}],
            }),
        )],
    );
}

fn account(credential: &str, rules: &[Value]) -> [Value; 3] {
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "consumer"}}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
               "metadata": {"name": credential}, "rules": rules}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": credential},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": credential},
               "subjects": [{"kind": "ServiceAccount", "name": "consumer"}]}),
    ]
}

fn container(name: &str, image: &str, command: &Value, mounts: &Value) -> Value {
    json!({
        "name": name, "image": image, "imagePullPolicy": "Never", "command": command, "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
    })
}

fn deployment(name: &str, pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 65534, "fsGroup": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    // The loop of a shell does not end by itself, and nobody waits for it.
    pod["terminationGracePeriodSeconds"] = json!(1);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    })
}
