//! What Argo CD and Flux make of a credential: the script and the expressions of `deploy/`, on objects that an operator
//! has really produced.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use mlua::{Lua, LuaSerdeExt};
use serde_json::{Value, json};
use tokenward::{api::IntegrationCredential, manager::CredentialManager};

use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, reason},
};

const HOUR: Duration = Duration::from_secs(3600);
const SCRIPT: &str = include_str!("../../deploy/argocd/health.lua");
const FLUX: &str = include_str!("../../deploy/flux/health-checks.yaml");

/// Status and message by the script.
fn argo(object: &Value) -> (String, String) {
    let lua = Lua::new();
    let globals = lua.globals();
    // Argo CD gives it the object as Kubernetes has it: what is not there is nil.
    let options = mlua::serde::ser::Options::new().serialize_none_to_null(false);
    let options = options.serialize_unit_to_null(false);
    let object = lua.to_value_with(object, options).unwrap();
    globals.set("obj", object).unwrap();
    let health: mlua::Table = lua.load(SCRIPT).eval().unwrap();
    (
        health.get("status").unwrap(),
        health.get("message").unwrap(),
    )
}

/// The expressions of `deploy/flux`, evaluated by the API server itself on what it has stored.
struct Flux<'a> {
    fixture: &'a Fixture,
}

impl<'a> Flux<'a> {
    /// A policy that refuses every change of a credential in this namespace, and says what the expressions say.
    async fn new(fixture: &'a Fixture) -> Self {
        let checks: Value = serde_saphyr::from_str(FLUX).unwrap();
        let checks = checks["spec"]["healthCheckExprs"].as_array().unwrap();
        let kinds: Vec<_> = checks.iter().map(|c| c["kind"].as_str().unwrap()).collect();
        let all = [
            "IntegrationCredential",
            "OAuthProvider",
            "ClusterOAuthProvider",
        ];
        assert_eq!(kinds, all);
        let text = |name: &str| checks[0][name].as_str().unwrap().to_owned();
        // In the order in which Flux asks.
        let verdict = format!(
            "({}) ? 'InProgress' : ({}) ? 'Failed' : ({}) ? 'Current' : 'InProgress'",
            text("inProgress"),
            text("failed"),
            text("current")
        );
        let bound = format!(
            "[object.metadata].map(metadata, [object.status].map(status, 'verdict=' + ({verdict})))[0][0]"
        );
        let flux = Self { fixture };
        let namespace = fixture.namespace.as_str();
        // It goes with the namespace.
        let api: Api<Namespace> = Api::all(fixture.client.clone());
        let uid = api.get(namespace).await.unwrap().uid();
        let metadata = json!({"name": namespace, "ownerReferences": [
            {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": uid}]});
        let rules = json!([{"apiGroups": ["tokenward.dev"], "apiVersions": ["v1alpha1"],
            "operations": ["UPDATE"], "resources": ["integrationcredentials"]}]);
        let labels = json!({"kubernetes.io/metadata.name": namespace});
        flux.create("ValidatingAdmissionPolicy", "validatingadmissionpolicies", json!({
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": rules, "namespaceSelector": {"matchLabels": labels}},
                "validations": [{"expression": "false", "messageExpression": bound}],
            },
        }))
        .await;
        flux.create(
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            json!({
                "metadata": metadata,
                "spec": {"policyName": namespace, "validationActions": ["Deny"]},
            }),
        )
        .await;
        flux
    }

    async fn create(&self, kind: &str, plural: &str, mut object: Value) {
        let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        object["apiVersion"] = json!("admissionregistration.k8s.io/v1");
        object["kind"] = json!(kind);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let api: Api<DynamicObject> = Api::all_with(self.fixture.client.clone(), &resource);
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    async fn of(&self, name: &str) -> String {
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"metadata": {"labels": {"asked": "true"}}}));
        // A policy takes a moment to be in force.
        eventually("the policy's verdict", async || {
            match self
                .fixture
                .credentials()
                .patch(name, &params, &patch)
                .await
            {
                Ok(_) => None,
                Err(kube::Error::Api(status)) => {
                    let verdict = status.message.split_once("verdict=");
                    let verdict = verdict.unwrap_or_else(|| panic!("{}", status.message));
                    Some(verdict.1.trim().to_owned())
                }
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }
}

async fn patch(fixture: &Fixture, name: &str, patch: Value) {
    let params = PatchParams::default();
    let (credentials, patch) = (fixture.credentials(), Patch::Merge(patch));
    credentials.patch(name, &params, &patch).await.unwrap();
}

fn is(credential: &IntegrationCredential, state: &str, type_: &str) -> bool {
    reason(credential) == state && condition(credential, type_).is_some_and(|c| c.0 == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_and_flux_understand_what_an_operator_says_of_its_credentials() {
    let fixture = Fixture::new("health", HOUR).await;
    let nowhere = json!({"tokenUrl": "http://127.0.0.1:1/token"});
    fixture.provider_named("nowhere", nowhere).await;
    fixture.machine("stale", json!({})).await;
    let unseen = argo(&serde_json::to_value(fixture.get("stale").await).unwrap());
    let said = "waiting for the operator of tokenward".to_owned();
    assert_eq!(unseen, ("Progressing".to_owned(), said));

    // By the operator.
    let mut operator = fixture.operator();
    fixture.seed("draining").await;
    fixture.user("draining", json!({})).await;
    fixture.ready("draining").await;
    let manager = CredentialManager::new(fixture.client.clone(), fixture.namespace.clone());
    let hold = manager.acquire("draining").await.unwrap();
    for name in ["valid", "refreshing", "suspended", "stalled-but-valid"] {
        fixture.machine(name, json!({})).await;
    }
    let elsewhere = json!({"oauth2": {"providerRef": {"name": "nowhere"}}});
    fixture.machine("pending", elsewhere).await;
    fixture.user("stalled", json!({})).await;
    for name in [
        "valid",
        "refreshing",
        "suspended",
        "stalled-but-valid",
        "stale",
    ] {
        fixture.ready(name).await;
    }
    // The last that is obtained, and only short ones after it: however late the server begins to fail, it expires.
    fixture.seed("expired").await;
    fixture
        .oauth
        .configure(|behaviour| behaviour.lifetime = Duration::from_secs(2));
    fixture.user("expired", json!({})).await;
    fixture.ready("expired").await;
    fixture.oauth.fail_always(Fault::json(503, &json!({})));
    fixture.ask("refreshing", "1").await;
    fixture.ask("draining", "1").await;
    let gone = json!({"spec": {"oauth2": {"providerRef": {"name": "gone"}}}});
    patch(&fixture, "stalled-but-valid", gone).await;
    patch(&fixture, "suspended", json!({"spec": {"suspend": true}})).await;
    let wanted = async |name: &str, state: &str, type_: &str| {
        fixture.until(name, state, |c| is(c, state, type_)).await;
    };
    wanted("refreshing", "Refreshing", "Reconciling").await;
    wanted("draining", "Refreshing", "Reconciling").await;
    wanted("stalled-but-valid", "Valid", "Stalled").await;
    wanted("suspended", "Valid", "Suspended").await;
    wanted("pending", "Pending", "Reconciling").await;
    wanted("stalled", "Pending", "Stalled").await;
    wanted("expired", "Expired", "Reconciling").await;
    operator.kill();
    hold.release().await;
    patch(&fixture, "stale", json!({"spec": {"title": "changed"}})).await;

    let flux = Flux::new(&fixture).await;
    let repair = format!(
        "kubectl -n {} create secret generic stalled-seed",
        fixture.namespace
    );
    for (name, by_argo, by_flux, words) in [
        ("valid", "Healthy", "Current", "the token is valid"),
        ("refreshing", "Healthy", "Current", "trying again"),
        (
            "draining",
            "Healthy",
            "Current",
            "waits for those who use the token",
        ),
        ("suspended", "Suspended", "Current", "To resume: kubectl"),
        ("pending", "Progressing", "InProgress", "no connection"),
        (
            "expired",
            "Progressing",
            "InProgress",
            "the token has expired",
        ),
        ("stalled", "Degraded", "Failed", &repair),
        (
            "stalled-but-valid",
            "Degraded",
            "Failed",
            "there is no OAuthProvider gone",
        ),
        (
            "stale",
            "Progressing",
            "InProgress",
            "waiting for the operator",
        ),
    ] {
        let object = serde_json::to_value(fixture.get(name).await).unwrap();
        let (status, message) = argo(&object);
        assert_eq!(status, by_argo, "{name}: {object:#}");
        assert!(
            message.contains(words) || name == "expired",
            "{name}: {message}"
        );
        assert_eq!(flux.of(name).await, by_flux, "{name}: {object:#}");
    }
}

#[test]
fn a_provider_is_healthy_degraded_or_not_looked_at_yet() {
    let provider = |observed: i64, ready: &str, more: Value| {
        let mut conditions = vec![json!({"type": "Ready", "status": ready, "message": "words",
            "reason": "R", "observedGeneration": observed})];
        conditions.extend(more.as_array().unwrap().clone());
        let object = json!({"kind": "OAuthProvider", "metadata": {"name": "p", "generation": 2},
            "spec": {}, "status": {"conditions": conditions}});
        argo(&object).0
    };
    let also =
        |type_: &str| json!([{"type": type_, "status": "True", "message": "more", "reason": "R"}]);
    assert_eq!(provider(2, "True", json!([])), "Healthy");
    assert_eq!(provider(1, "True", json!([])), "Progressing");
    assert_eq!(provider(2, "False", json!([])), "Degraded");
    assert_eq!(provider(2, "False", also("Reconciling")), "Progressing");
    assert_eq!(provider(2, "True", also("Stalled")), "Degraded");
    assert_eq!(provider(2, "Unknown", json!([])), "Progressing");
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert_eq!(argo(&deleted).0, "Progressing");
}
