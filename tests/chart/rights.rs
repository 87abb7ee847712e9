//! What a release may do is what its operator does, no more and no less, in each scope: by the API server's own log of who
//! was allowed what, and by which binding.

mod life;
mod refused;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::api::DeleteParams;
use serde_json::Value;

use crate::{
    CLUSTER_WIDE,
    release::{CHART, Release, helm_does},
    support::{Account, Calls, Fault, Fixture, cluster},
};
use life::{HOUR, Shared, live};
use refused::refused_beside;

/// Rights by where they are given: the namespace of a Role, or nothing for a ClusterRole.
type Rights = BTreeMap<String, BTreeSet<String>>;

/// A right in words.
fn right(verb: &str, resource: &str, group: &str) -> String {
    format!("{verb} {resource}.{group}")
}

/// What the roles say that are bound to the release's account.
fn rendered(release: &Release<'_>) -> Rights {
    let place = release.fixture.namespace.as_str();
    let manifest = helm_does(&["get", "manifest", &release.name, "--namespace", place]);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
    let mut rights = Rights::new();
    let texts = |list: &Value| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        let texts = items.map(|item| item.as_str().unwrap().to_owned());
        texts.collect()
    };
    for binding in &objects {
        let kind = binding["kind"].as_str().unwrap_or_default();
        if !["ClusterRoleBinding", "RoleBinding"].contains(&kind) {
            continue;
        }
        let (reference, place) = (&binding["roleRef"], &binding["metadata"]["namespace"]);
        let role = objects.iter().find(|object| {
            object["kind"] == reference["kind"]
                && object["metadata"]["name"] == reference["name"]
                && object["metadata"]["namespace"] == *place
        });
        let given = rights
            .entry(place.as_str().unwrap_or_default().to_owned())
            .or_default();
        for rule in role.unwrap()["rules"].as_array().unwrap() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    let verbs = texts(&rule["verbs"]).into_iter();
                    given.extend(verbs.map(|verb| right(&verb, &resource, &group)));
                }
            }
        }
    }
    rights
}

/// What the log says of an account.
#[derive(Default)]
struct Log {
    /// What a binding of the release had it do.
    used: Rights,
    /// What it was not allowed.
    forbidden: BTreeSet<String>,
}

impl Log {
    fn read(account: &Account, bound: &str) -> Self {
        let path = cluster().audit_log.as_ref().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let mut log = Self::default();
        // The last line may be half written.
        for event in text
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        {
            if event["user"]["username"] != account.user() || event["objectRef"].is_null() {
                continue;
            }
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let object = &event["objectRef"];
            let mut resource = word(&object["resource"]);
            if let Some(sub) = object["subresource"].as_str() {
                resource = format!("{resource}/{sub}");
            }
            let right = right(&word(&event["verb"]), &resource, &word(&object["apiGroup"]));
            let annotations = &event["annotations"];
            if annotations["authorization.k8s.io/decision"] == "forbid" {
                log.forbidden.insert(right);
                continue;
            }
            let reason = word(&annotations["authorization.k8s.io/reason"]);
            let binding = reason.split('"').nth(1).unwrap_or_default();
            let (name, place) = binding.split_once('/').unwrap_or((binding, ""));
            // By other bindings everybody may look at what API there is.
            if name == bound {
                log.used.entry(place.to_owned()).or_default().insert(right);
            }
        }
        log
    }
}

/// The verb that the admission policy asks RBAC for, and that is in no request. With the policy in force, no gate is
/// written without it.
fn is_asked_by_policy(right: &str) -> bool {
    right == "gate integrationcredentials.tokenward.dev"
}

/// How many of the rights are to watch something.
fn watches(rights: &Rights) -> usize {
    let all = rights.values().flatten();
    all.filter(|right| right.starts_with("watch ")).count()
}

/// Has the operator of the release live through all that there is, in each of these namespaces, and compares.
async fn uses_what_it_has(release: &Release<'_>, served: &[&Fixture]) {
    let mut given = rendered(release);
    let shared = Shared::create(release.fixture, served).await;
    let account = release.account().await;
    // Somebody may have deleted it.
    let params = DeleteParams::default();
    let leases = release.fixture.leases();
    leases.delete(&release.name, &params).await.unwrap();
    // An API server that does not send what is there with a watch has to be asked for it, by a right of its own.
    let proxy = release.fixture.proxy().await;
    proxy.inject(Calls::streams(), Fault::Answer(422));
    let kubeconfig = account.kubeconfig_through(&proxy);
    let mut operator = release.operator(&kubeconfig).await;
    operator.logged("leading").await;
    live(served, &shared).await;
    operator.signal("TERM");
    assert!(operator.end().await.success());
    for rights in given.values_mut() {
        rights.retain(|right| !is_asked_by_policy(right));
    }
    // A watch is in the log when it has ended.
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        while watches(&Log::read(&account, &release.role()).used) < watches(&given) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let _ = ended.await;
    let log = Log::read(&account, &release.role());
    assert_eq!(log.forbidden, BTreeSet::new(), "missing rights");
    for (place, given) in &given {
        let used = log.used.get(place).cloned().unwrap_or_default();
        let unused: Vec<_> = given.difference(&used).collect();
        assert!(unused.is_empty(), "unused in {place:?}: {unused:#?}");
        let unknown: Vec<_> = used.difference(given).collect();
        assert!(unknown.is_empty(), "{place:?}: {unknown:#?}");
    }
    let places = |rights: &Rights| rights.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(places(&log.used), places(&given));
}

const NO_DEFINITIONS: &str = r#"crds={"enabled":false}"#;

#[tokio::test(flavor = "multi_thread")]
async fn for_all_namespaces_each_right_is_used_and_none_is_missing() {
    let _only = CLUSTER_WIDE.lock().await;
    let fixture = Fixture::bare("chart-all", HOUR).await;
    let served = Fixture::new("chart-all-served", HOUR).await;
    let release = Release::install(&fixture, "tokenward-all", CHART, &[NO_DEFINITIONS]);
    uses_what_it_has(&release, &[&served]).await;
    let account = release.account().await;
    refused_beside(&account, &served.namespace, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_some_namespaces_each_right_is_used_and_none_is_missing() {
    let _only = CLUSTER_WIDE.lock().await;
    let fixture = Fixture::bare("chart-some", HOUR).await;
    let (a, b) = (
        Fixture::new("chart-some-a", HOUR).await,
        Fixture::new("chart-some-b", HOUR).await,
    );
    let scope = format!(
        r#"scope={{"mode":"Namespaces","namespaces":["{}","{}"],"clusterProviderStatus":true}}"#,
        a.namespace, b.namespace
    );
    let release = Release::install(&fixture, "tokenward-some", CHART, &[NO_DEFINITIONS, &scope]);
    uses_what_it_has(&release, &[&a, &b]).await;
    let account = release.account().await;
    let others = [fixture.namespace.as_str(), "kube-system"];
    refused_beside(&account, &a.namespace, &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_its_own_namespace_each_right_is_used_and_none_is_missing() {
    let _only = CLUSTER_WIDE.lock().await;
    let fixture = Fixture::new("chart-own", HOUR).await;
    let scope = r#"scope={"mode":"Own","clusterProviderStatus":true}"#;
    let release = Release::install(&fixture, "tokenward-own", CHART, &[NO_DEFINITIONS, scope]);
    uses_what_it_has(&release, &[&fixture]).await;
    let account = release.account().await;
    refused_beside(&account, &fixture.namespace, &["default", "kube-system"]).await;
}
