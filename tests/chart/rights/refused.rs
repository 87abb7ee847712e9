//! What an operator must not be able to do: asked for with its own token, and tried.

use axum::http::{Method, Request};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::{Api, Client, api::PostParams};
use serde_json::json;

use crate::support::Account;

/// A request that is not to be allowed.
struct Attempt<'a> {
    verb: &'a str,
    group: &'a str,
    /// With its subresource.
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
}

/// By group, resource with subresource, and name, for each of these verbs: what no operator may do where it works.
const NOWHERE: [(&str, &str, &str, &[&str]); 18] = [
    ("", "pods", "", &["create", "list", "deletecollection"]),
    ("", "pods/exec", "a-pod", &["create"]),
    ("", "pods/ephemeralcontainers", "a-pod", &["patch"]),
    ("", "serviceaccounts", "", &["create", "list"]),
    ("", "serviceaccounts/token", "default", &["create"]),
    ("", "configmaps", "", &["create", "list"]),
    ("", "events", "", &["list", "deletecollection"]),
    ("", "secrets", "", &["deletecollection"]),
    ("apps", "deployments", "", &["create", "list"]),
    ("batch", "jobs", "", &["create"]),
    ("coordination.k8s.io", "leases", "", &["deletecollection"]),
    ("rbac.authorization.k8s.io", "roles", "", &["create"]),
    ("rbac.authorization.k8s.io", "rolebindings", "", &["create"]),
    ("tokenward.dev", "integrationcredentials", "", &["create"]),
    (
        "tokenward.dev",
        "integrationcredentials",
        "alice",
        &["update", "delete"],
    ),
    ("tokenward.dev", "oauthproviders", "", &["create"]),
    (
        "tokenward.dev",
        "oauthproviders",
        "provider",
        &["update", "patch", "delete"],
    ),
    (
        "tokenward.dev",
        "integrationcredentials/status",
        "alice",
        &["update"],
    ),
];

/// What belongs to the whole cluster.
const CLUSTER_WIDE: [(&str, &str, &str, &[&str]); 12] = [
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "integrationcredentials.tokenward.dev",
        &["get", "update", "patch", "delete"],
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "",
        &["create"],
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "",
        &["create"],
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "",
        &["create"],
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        "leases.tokenward.dev",
        &["patch", "delete"],
    ),
    (
        "rbac.authorization.k8s.io",
        "clusterroles",
        "",
        &["create", "deletecollection"],
    ),
    (
        "rbac.authorization.k8s.io",
        "clusterroles",
        "view",
        &["patch"],
    ),
    (
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        "",
        &["create"],
    ),
    (
        "tokenward.dev",
        "clusteroauthproviders",
        "any",
        &["update", "patch", "delete"],
    ),
    ("", "nodes", "", &["list"]),
    ("", "nodes/proxy", "a-node", &["get"]),
    ("", "namespaces", "default", &["patch", "delete"]),
];

/// What only an operator of that namespace may do there.
const ELSEWHERE: [(&str, &str, &str, &[&str]); 6] = [
    ("", "secrets", "", &["create"]),
    ("", "secrets", "any", &["update", "patch", "delete"]),
    (
        "coordination.k8s.io",
        "leases",
        "any.gate",
        &["get", "update", "patch", "delete"],
    ),
    ("coordination.k8s.io", "leases", "", &["list"]),
    (
        "tokenward.dev",
        "integrationcredentials",
        "",
        &["list", "watch"],
    ),
    (
        "tokenward.dev",
        "integrationcredentials",
        "any",
        &["get", "patch", "gate"],
    ),
];

/// What only an operator of all namespaces may do.
const OF_ALL: [(&str, &str, &str, &[&str]); 4] = [
    ("", "secrets", "", &["list", "watch"]),
    ("", "namespaces", "", &["list", "watch"]),
    ("coordination.k8s.io", "leases", "", &["list"]),
    ("tokenward.dev", "integrationcredentials", "", &["list"]),
];

/// Tries all that in the namespace that is `served`, in the whole cluster, and in the `others`, which are not served.
pub async fn refused_beside(account: &Account, served: &str, others: &[&str]) {
    let mut tables: Vec<(&str, &[_])> = vec![(served, &NOWHERE), ("", &CLUSTER_WIDE)];
    for other in others {
        tables.extend([(*other, NOWHERE.as_slice()), (*other, &ELSEWHERE)]);
    }
    if !others.is_empty() {
        tables.push(("", &OF_ALL));
    }
    for (namespace, table) in tables {
        for (group, resource, name, verbs) in table {
            for verb in *verbs {
                let attempt = Attempt {
                    verb,
                    group,
                    resource,
                    namespace,
                    name,
                };
                attempt.is_refused(&account.client).await;
            }
        }
    }
    // Of the operator's own namespace, other Secrets than those of clients are read only where it is served.
    if others.contains(&"kube-system") {
        for verb in ["get", "list", "watch"] {
            let attempt = Attempt {
                verb,
                group: "",
                resource: "secrets",
                namespace: "kube-system",
                name: if verb == "get" { "any" } else { "" },
            };
            attempt.is_refused(&account.client).await;
        }
    }
    // In the place of somebody else, or more than it has.
    for (verb, group, resource) in [
        ("impersonate", "", "users"),
        ("impersonate", "", "serviceaccounts"),
        ("escalate", "rbac.authorization.k8s.io", "roles"),
        ("bind", "rbac.authorization.k8s.io", "roles"),
        ("escalate", "rbac.authorization.k8s.io", "clusterroles"),
        ("bind", "rbac.authorization.k8s.io", "clusterroles"),
        ("hold", "tokenward.dev", "integrationcredentials"),
        ("*", "*", "*"),
    ] {
        let attempt = Attempt {
            verb,
            group,
            resource,
            namespace: served,
            name: "",
        };
        assert!(
            !attempt.is_allowed(&account.client).await,
            "{verb} {resource}"
        );
    }
    let other = Request::get("/api/v1/namespaces/default")
        .header("Impersonate-User", "administrator")
        .header("Impersonate-Group", "system:masters");
    let answer = account.client.request_text(other.body(vec![]).unwrap());
    forbidden(answer.await, "impersonation");
}

impl Attempt<'_> {
    async fn is_refused(&self, client: &Client) {
        assert!(!self.is_allowed(client).await, "{}", self.in_words());
        // No request has that verb.
        if self.verb != "gate" {
            let answer = client.request_text(self.request()).await;
            forbidden(answer, &self.in_words());
        }
    }

    fn in_words(&self) -> String {
        let Self {
            verb,
            resource,
            namespace,
            name,
            ..
        } = self;
        format!("{verb} {resource} {name} in namespace {namespace:?}")
    }

    async fn is_allowed(&self, client: &Client) -> bool {
        let (resource, sub) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let review: SelfSubjectAccessReview = serde_json::from_value(json!({
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": self.verb, "group": self.group,
                "resource": resource, "subresource": sub, "name": self.name,
            }},
        }))
        .unwrap();
        let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
        let answer = api.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed
    }

    fn request(&self) -> Request<Vec<u8>> {
        let (resource, sub) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let mut path = match self.group {
            "" => "/api/v1".to_owned(),
            "tokenward.dev" => "/apis/tokenward.dev/v1alpha1".to_owned(),
            group => format!("/apis/{group}/v1"),
        };
        let namespace = if self.namespace.is_empty() {
            None
        } else {
            Some(["namespaces", self.namespace])
        };
        let parts = namespace.into_iter().flatten();
        for part in parts.chain([resource, self.name, sub]) {
            if !part.is_empty() {
                path = format!("{path}/{part}");
            }
        }
        let method = match self.verb {
            "create" => Method::POST,
            "update" => Method::PUT,
            "patch" => Method::PATCH,
            "delete" | "deletecollection" => Method::DELETE,
            "get" | "list" => Method::GET,
            "watch" => {
                path += "?watch=true";
                Method::GET
            }
            other => panic!("{other}"),
        };
        let kind = if method == Method::PATCH {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        Request::builder()
            .method(method)
            .uri(path)
            .header("Content-Type", kind)
            .body(b"{}".to_vec())
            .unwrap()
    }
}

fn forbidden(answer: kube::Result<String>, what: &str) {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => panic!("{what}: {other:?}"),
    }
}
