//! A release from its installation to its end, and what it leaves.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::{
    CLUSTER_WIDE,
    definitions::Definitions,
    release::{CHART, Release, helm_does},
    support::{Fixture, cluster, eventually, text, within},
};

const HOUR: Duration = Duration::from_secs(3600);

/// The garbage collector looks for new kinds only twice a minute.
const GARBAGE: Duration = Duration::from_secs(180);

const CREDENTIALS: &str = "integrationcredentials.tokenward.dev";

/// The chart of an earlier version: its number, and no field `suspend` in its definitions.
fn previous(folder: &Path) -> PathBuf {
    let chart = folder.join("tokenward");
    let copied = Command::new("cp").arg("-r").arg(CHART).arg(&chart).status();
    assert!(copied.unwrap().success());
    let change = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = chart.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut value: Value = serde_saphyr::from_str(&text).unwrap();
        change(&mut value);
        std::fs::write(&path, value.to_string()).unwrap();
    };
    change("Chart.yaml", &|chart| {
        chart["version"] = json!("0.0.9");
        chart["appVersion"] = json!("0.0.9");
    });
    change(&format!("files/crds/{CREDENTIALS}.yaml"), &|crd| {
        let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let fields = schema["properties"]["spec"]["properties"].as_object_mut();
        assert!(fields.unwrap().remove("suspend").is_some());
    });
    chart
}

/// Whether the API server knows the field that the earlier version had not.
async fn knows_suspend(fixture: &Fixture) -> bool {
    let api: Api<CustomResourceDefinition> = Api::all(fixture.client.clone());
    let crd = serde_json::to_value(api.get(CREDENTIALS).await.unwrap()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"]["properties"]["suspend"].is_object()
}

/// Every object of the cluster but events, of every kind that can be listed: kind, namespace and name.
fn objects() -> BTreeSet<String> {
    let all = |arguments: &[&str]| {
        let output = cluster().kubectl(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let kinds = all(&[
        "api-resources",
        "--verbs=list",
        "--output=name",
        "--cached=false",
    ]);
    let kinds: Vec<_> = kinds.lines().filter(|k| !k.starts_with("events")).collect();
    let list = all(&["get", &kinds.join(","), "-A", "--output=json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let items = list["items"].as_array().unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let named = items.iter().map(|item| {
        let meta = &item["metadata"];
        format!(
            "{} {}/{}",
            word(&item["kind"]),
            word(&meta["namespace"]),
            word(&meta["name"])
        )
    });
    named.collect()
}

/// Every object, once the new namespace has what each namespace gets.
async fn settled(fixture: &Fixture) -> BTreeSet<String> {
    let place = &fixture.namespace;
    eventually("a namespace with its own objects", async || {
        let all = objects();
        let account = all.contains(&format!("ServiceAccount {place}/default"));
        let authority = all.contains(&format!("ConfigMap {place}/kube-root-ca.crt"));
        (account && authority).then_some(all)
    })
    .await
}

/// What is there that was not there before.
fn since(before: &BTreeSet<String>) -> BTreeSet<String> {
    objects().difference(before).cloned().collect()
}

/// What comes with definitions: they, and what the API server says of their group.
fn of_definitions() -> BTreeSet<String> {
    let names = [
        "clusteroauthproviders",
        "integrationcredentials",
        "oauthproviders",
    ];
    let all = names.map(|name| format!("CustomResourceDefinition /{name}.tokenward.dev"));
    let mut all = BTreeSet::from(all);
    all.insert("APIService /v1alpha1.tokenward.dev".to_owned());
    all
}

/// What the operator makes for a credential.
fn of_credential(fixture: &Fixture, name: &str, has_grant: bool) -> BTreeSet<String> {
    let place = &fixture.namespace;
    let mut all = BTreeSet::from([
        format!("IntegrationCredential {place}/{name}"),
        format!("Secret {place}/{name}"),
        format!("Lease {place}/{name}.gate"),
    ]);
    if has_grant {
        all.insert(format!("Secret {place}/{name}.grant"));
    }
    all
}

/// A provider object and its client, a credential with a grant and one without.
async fn describe(fixture: &Fixture) -> BTreeSet<String> {
    Definitions::served();
    let client = [("client_secret", "demo-secret")];
    fixture.secret("client", &client).await;
    fixture.provider(json!({})).await;
    fixture.seed("alice").await;
    fixture.user("alice", json!({})).await;
    fixture.machine("ci", json!({})).await;
    let place = &fixture.namespace;
    BTreeSet::from([
        format!("Secret {place}/client"),
        format!("Secret {place}/alice-seed"),
        format!("OAuthProvider {place}/provider"),
    ])
}

/// Has the operator of a release refresh both credentials up to this generation, and stops it.
async fn refreshes(release: &Release<'_>, generation: i64) {
    let fixture = release.fixture;
    let account = release.account().await;
    let mut operator = release.operator(account.kubeconfig()).await;
    operator.ready().await;
    for name in ["alice", "ci"] {
        if generation > 1 {
            fixture.ask(name, &format!("generation {generation}")).await;
        }
        fixture.generation(name, generation).await;
    }
    operator.signal("TERM");
    assert!(operator.end().await.success());
    assert_eq!(fixture.oauth.max_presentations(), 1);
}

/// Who the objects are that must not be lost, by their UIDs.
async fn identities(fixture: &Fixture) -> Vec<Option<String>> {
    let mut all = Vec::new();
    for name in ["alice", "ci"] {
        all.push(fixture.get(name).await.uid());
        all.push(fixture.find_secret(name).await.unwrap().uid());
    }
    all.push(fixture.find_secret("alice.grant").await.unwrap().uid());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_is_lost_by_an_upgrade_a_rollback_or_a_new_installation() {
    let _only = CLUSTER_WIDE.lock().await;
    let _definitions = Definitions::away();
    let fixture = Fixture::bare("chart-life", HOUR).await;
    let folder = tempfile::tempdir().unwrap();
    let previous = previous(folder.path());
    let before = settled(&fixture).await;
    let values = [
        "operator.metricsPerCredential=true",
        r#"podLabels={"team":"a"}"#,
    ];
    let release = Release::install(&fixture, "tokenward", previous.to_str().unwrap(), &values);
    let of_people = describe(&fixture).await;
    assert!(!knows_suspend(&fixture).await);
    refreshes(&release, 1).await;
    let first = identities(&fixture).await;
    let said = given_values(&release);

    release.helm("upgrade", &[CHART]);
    assert!(knows_suspend(&fixture).await);
    let deployment = serde_json::to_string(&release.deployment().await).unwrap();
    for kept in ["--metrics-per-credential", r#""team":"a""#] {
        assert!(deployment.contains(kept), "{kept}: {deployment}");
    }
    assert!(!deployment.contains("tokenward-0.0.9"), "{deployment}");
    assert_eq!(given_values(&release), said);
    refreshes(&release, 2).await;
    assert_eq!(identities(&fixture).await, first);

    release.helm("rollback", &["1"]);
    assert!(!knows_suspend(&fixture).await);
    let deployment = serde_json::to_string(&release.deployment().await).unwrap();
    assert!(deployment.contains("tokenward-0.0.9"), "{deployment}");
    refreshes(&release, 3).await;
    assert_eq!(identities(&fixture).await, first);

    drop(release);
    let mut left = of_definitions();
    left.extend(of_people);
    left.extend(of_credential(&fixture, "alice", true));
    left.extend(of_credential(&fixture, "ci", false));
    within(GARBAGE, "only what is to be kept", async || {
        (since(&before) == left).then_some(())
    })
    .await;
    assert_eq!(identities(&fixture).await, first);
    let token = text(&fixture.find_secret("alice").await.unwrap(), "access_token");
    assert!(fixture.oauth.is_live(&token));

    let release = Release::install(&fixture, "tokenward", CHART, &[]);
    refreshes(&release, 4).await;
    assert_eq!(identities(&fixture).await, first);
}

fn given_values(release: &Release<'_>) -> String {
    helm_does(&[
        "get",
        "values",
        &release.name,
        "-n",
        &release.fixture.namespace,
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_not_kept_go_with_all_that_was_made_for_credentials() {
    let _only = CLUSTER_WIDE.lock().await;
    let _definitions = Definitions::away();
    let fixture = Fixture::bare("chart-all-gone", HOUR).await;
    let before = settled(&fixture).await;
    let values = [r#"crds={"keep":false}"#];
    let release = Release::install(&fixture, "tokenward", CHART, &values);
    let of_people = describe(&fixture).await;
    refreshes(&release, 1).await;
    drop(release);
    let secrets = of_people.into_iter().filter(|o| o.starts_with("Secret "));
    let left: BTreeSet<_> = secrets.collect();
    within(GARBAGE, "only what people made", async || {
        (since(&before) == left).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_kubectl_applied_are_taken_over_when_helm_is_told_to() {
    let _only = CLUSTER_WIDE.lock().await;
    let _definitions = Definitions::applied();
    let fixture = Fixture::new("chart-over", HOUR).await;
    fixture.machine("ci", json!({})).await;
    let first = fixture.get("ci").await.uid();
    let refused = Release::try_install(&fixture, "tokenward", CHART, &[]);
    let err = refused.err().expect("two owners of the definitions");
    assert!(err.contains("invalid ownership metadata"), "{err}");
    let release = Release::install(&fixture, "tokenward", CHART, &["--take-ownership"]);
    let account = release.account().await;
    let _operator = release.operator(account.kubeconfig()).await;
    let ready = fixture.ready("ci").await;
    assert_eq!(ready.uid(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_releases_of_one_name_serve_one_cluster() {
    let _only = CLUSTER_WIDE.lock().await;
    let _definitions = Definitions::away();
    let (one, other) = (
        Fixture::bare("chart-one", HOUR).await,
        Fixture::bare("chart-other", HOUR).await,
    );
    let scope = |fixture: &Fixture| {
        let places = json!([one.namespace, fixture.namespace]);
        format!(r#"scope={{"mode":"Namespaces","namespaces":{places}}}"#)
    };
    let first = Release::install(&one, "tokenward", CHART, &[&scope(&one)]);
    for (values, once) in [
        (
            vec![r#"crds={"enabled":false}"#],
            "leasePolicies.enabled=false",
        ),
        (
            vec![r#"leasePolicies={"enabled":false}"#],
            "crds.enabled=false",
        ),
    ] {
        let refused = Release::try_install(&other, "tokenward", CHART, &values);
        let err = refused.err().expect(once);
        for word in [once, "release tokenward in namespace", &one.namespace] {
            assert!(err.contains(word), "{err}");
        }
    }
    let values = [
        r#"crds={"enabled":false}"#,
        r#"leasePolicies={"enabled":false}"#,
        &scope(&other),
    ];
    let second = Release::install(&other, "tokenward", CHART, &values);
    describe(&other).await;
    refreshes(&second, 1).await;
    drop(second);
    // What the first one has is all there.
    describe(&one).await;
    refreshes(&first, 1).await;
}
