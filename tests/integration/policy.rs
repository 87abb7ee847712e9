//! What the files of `deploy/` let people do, tried with real tokens: the roles, and the policies for Leases.

mod cleaners;
mod consumer;
mod document;
mod gate;
mod library;
mod operator;
mod others;
mod shape;

use std::{fmt::Debug, time::Duration};

use k8s_openapi::api::{coordination::v1::Lease, rbac::v1::RoleBinding};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};

use crate::support::{Account, Deployed, Fixture, eventually};

/// Tokens that are not refreshed while a test lasts.
const HOUR: Duration = Duration::from_secs(3600);

/// A nonce as consumers make them.
const NONCE: &str = "0123456789ab";

/// A namespace in which the policy is in force.
struct Guarded {
    fixture: Fixture,
    /// Somebody with the built-in role `edit`, which includes every verb on Leases.
    editor: Account,
    _policy: Deployed,
}

impl Guarded {
    async fn new(test: &str) -> Self {
        Self::around(Fixture::bare(test, HOUR).await).await
    }

    async fn around(fixture: Fixture) -> Self {
        let editor = Account::create(&fixture, "editor").await;
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "editor"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [{"kind": "ServiceAccount", "name": "editor", "namespace": fixture.namespace}],
        }))
        .unwrap();
        let bindings: Api<RoleBinding> =
            Api::namespaced(fixture.client.clone(), &fixture.namespace);
        let params = PostParams::default();
        bindings.create(&params, &binding).await.unwrap();
        let policy = enforce(&fixture, "lease-policy.yaml", "leases.tokenward.dev").await;
        let probe = lease("probe.gate", &editor);
        until_refused(&editor, &probe, "'leases.tokenward.dev-").await;
        Self {
            fixture,
            editor,
            _policy: policy,
        }
    }

    /// A ServiceAccount with `consumer-role.yaml` for the credential alice.
    async fn consumer(&self, name: &str) -> Account {
        let account = Account::create(&self.fixture, name).await;
        let role = format!("alice-{name}");
        let names = [
            ("my-team", self.fixture.namespace.as_str()),
            ("my-app", name),
            ("alice-consumer", role.as_str()),
        ];
        Deployed::apply(&self.fixture, "consumer-role.yaml", &names).await;
        let (group, resource) = ("tokenward.dev", "integrationcredentials/alice");
        account.until_it_may(true, "hold", group, resource).await;
        account
    }
}

/// Applies a policy under a name of its own.
async fn enforce(fixture: &Fixture, file: &str, name: &str) -> Deployed {
    let own = format!("{name}-{}", fixture.namespace);
    Deployed::apply(fixture, file, &[(name, &own)]).await
}

/// Waits until a policy is in force: until it refuses what it must refuse.
async fn until_refused(account: &Account, probe: &Value, policy: &str) {
    let probe: Lease = serde_json::from_value(probe.clone()).unwrap();
    eventually(policy, async || {
        let answer = account.leases().create(&dry_run(), &probe).await;
        let text = format!("{:?}", answer.err()?);
        text.contains(policy).then_some(())
    })
    .await;
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

/// A Lease of tokenward as its owner would make it, from its name.
fn lease(name: &str, owner: &Account) -> Value {
    let mut parts = name.split('.');
    let (credential, role) = (parts.next().unwrap(), parts.next().unwrap_or_default());
    let mut notes = json!({"tokenward.dev/generation": "1", "tokenward.dev/owner": owner.user()});
    if let Some(pod) = &owner.pod {
        notes["tokenward.dev/owner-pod-uid"] = json!(pod);
    }
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": {"tokenward.dev/credential": credential, "tokenward.dev/role": role},
            "annotations": notes,
        },
        "spec": {
            "holderIdentity": format!("app-1/main/{NONCE}"),
            "leaseDurationSeconds": 60,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        },
    })
}

/// With a value put somewhere into it, or, with null, taken away.
fn with(mut object: Value, place: &str, value: Value) -> Value {
    let (parent, key) = place.rsplit_once('/').unwrap();
    // A slash in a key is "~1", as in JSON patches.
    let key = key.replace("~1", "/");
    let fields = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => fields.remove(&key),
        value => fields.insert(key, value),
    };
    object
}

async fn create(account: &Account, object: &Value) -> kube::Result<Lease> {
    create_with(account, object, &PostParams::default()).await
}

async fn create_with(
    account: &Account,
    object: &Value,
    params: &PostParams,
) -> kube::Result<Lease> {
    let object = serde_json::from_value(object.clone()).unwrap();
    account.leases().create(params, &object).await
}

/// A renewal, as the protocol has it, with more changes.
async fn renew(account: &Account, lease: &Lease, more: Value) -> kube::Result<Lease> {
    let mut patch = json!({
        "metadata": {"uid": lease.uid(), "resourceVersion": lease.resource_version()},
        "spec": {"renewTime": "2026-01-01T00:00:20.000000Z"},
    });
    merge(&mut patch, more);
    let params = PatchParams::default();
    let patch = Patch::Merge(patch);
    account
        .leases()
        .patch(&lease.name_any(), &params, &patch)
        .await
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// A release, as the protocol has it.
async fn release(account: &Account, lease: &Lease) -> kube::Result<()> {
    let preconditions = Preconditions {
        uid: lease.uid(),
        resource_version: None,
    };
    let params = DeleteParams::default().preconditions(preconditions);
    let name = lease.name_any();
    account.leases().delete(&name, &params).await.map(drop)
}

/// It was the policy that refused this, and it said these things.
#[track_caller]
fn refused<T: Debug>(answer: kube::Result<T>, words: &[&str]) {
    match answer {
        Err(kube::Error::Api(status)) => {
            let message = &status.message;
            let policy = "denied request: ";
            assert!(message.contains(policy), "not by a policy: {message}");
            // A client can tell a missing right from an object that nobody may write.
            let code = if message.contains("the verb \"") {
                403
            } else {
                422
            };
            assert_eq!(status.code, code, "{message}");
            for word in words {
                assert!(message.contains(word), "no {word:?} in {message}");
            }
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// What the policy says of a missing virtual verb.
fn verb(verb: &str, credential: &str) -> String {
    format!(
        "the verb \"{verb}\" on integrationcredentials.tokenward.dev, resourceNames [{credential}], in namespace "
    )
}
