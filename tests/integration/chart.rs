//! The Helm chart: what it renders, what it refuses, and that the API server takes it.

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokenward::failure::Reason;

use crate::support::{Fixture, TOKENWARD, cluster, documents};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tokenward");
const OPERATE: &str = include_str!("../../docs/operate.md");

fn helm(arguments: &[&str]) -> Output {
    cluster().helm(arguments).output().unwrap()
}

/// What is rendered with these `--set` arguments, for the release `release` in this namespace.
fn rendered(namespace: &str, sets: &[&str]) -> Result<Vec<Value>, String> {
    let mut arguments = vec!["template", "release", CHART, "--namespace", namespace];
    for set in sets {
        arguments.extend(["--set-json", set]);
    }
    let output = helm(&arguments);
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

fn of_kind<'a>(all: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |object| object["kind"] == kind)
}

/// Everything but kinds of other operators, which the API server does not know.
fn known(all: Vec<Value>) -> Vec<Value> {
    let known = |object: &Value| {
        let version = object["apiVersion"].as_str().unwrap();
        !version.starts_with("monitoring.coreos.com/")
    };
    all.into_iter().filter(known).collect()
}

/// Has the API server look at objects without storing them.
fn tried(objects: &[Value]) {
    // Of a List, kubectl itself would judge the objects, and it does not know all that the server knows.
    let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        "-",
    ];
    let mut kubectl = cluster().kubectl(&arguments);
    let kubectl = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut running = kubectl.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    input
        .write_all(documents.join("\n---\n").as_bytes())
        .unwrap();
    drop(input);
    let output = running.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_what_is_rendered_in_every_variant() {
    let fixture = Fixture::bare("chart", Duration::from_secs(3600)).await;
    let namespace = fixture.namespace.as_str();
    let lint = helm(&["lint", "--strict", CHART]);
    assert!(lint.status.success(), "{lint:?}");
    let namespaces =
        format!(r#"scope={{"mode":"Namespaces","namespaces":["{namespace}","default"]}}"#);
    let elsewhere =
        r#"scope={"mode":"Namespaces","namespaces":["default"],"clusterProviderStatus":true}"#;
    let consumers = format!(
        r#"consumers=[{{"namespace":"{namespace}","serviceAccount":"app","hold":true,"credentials":[{{"name":"a"}},{{"name":"b","secret":"c"}}]}}]"#
    );
    let variants: [&[&str]; 10] = [
        &[],
        &["replicaCount=2", r#"podDisruptionBudget={"enabled":true}"#],
        &[&namespaces],
        &[elsewhere],
        &[r#"scope={"mode":"Own","clusterProviderStatus":true}"#],
        &[
            r#"crds={"keep":false}"#,
            r#"leasePolicies={"strict":true}"#,
            &consumers,
        ],
        &[
            r#"crds={"enabled":false}"#,
            r#"leasePolicies={"enabled":false}"#,
            r#"leaderElection={"enabled":false}"#,
            r#"metrics={"service":{"enabled":false}}"#,
        ],
        &[
            r#"operator={"requireAllowLabel":true,"allowProviderNetworks":["10.20.0.0/16","fd00:1::/32"],"metricsPerCredential":true,"logLevel":"info,tokenward=debug","requestTimeout":"20s","extraArgs":["--allow-http-loopback"],"providerProxySecretKeyRef":{"name":"proxy","key":"url"}}"#,
            r#"telemetry={"traces":{"endpoint":"http://collector:4318","sampleRatio":0.1,"headersSecretKeyRef":{"name":"collector","key":"headers"}}}"#,
            r#"networkPolicy={"enabled":true,"metricsFrom":[{"namespaceSelector":{}}]}"#,
            r#"rbac={"aggregateToEdit":true}"#,
            r#"serviceAccount={"annotations":{"a":"b"}}"#,
        ],
        &[
            r#"nodeSelector={"a":"b"}"#,
            r#"tolerations=[{"operator":"Exists"}]"#,
            r#"affinity={"nodeAffinity":{}}"#,
            r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]"#,
            r#"priorityClassName="system-cluster-critical""#,
            r#"podLabels={"x":"y"}"#,
            r#"podAnnotations={"x":"y"}"#,
            r#"imagePullSecrets=[{"name":"pull"}]"#,
            r#"extraObjects=[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .Release.Name }}-more"}}]"#,
        ],
        &[
            r#"serviceAccount={"create":false,"name":"mine"}"#,
            r#"rbac={"create":false}"#,
        ],
    ];
    for sets in variants {
        let all = rendered(namespace, sets).unwrap_or_else(|err| panic!("{sets:?}: {err}"));
        // The program takes the arguments, too.
        let deployment = of_kind(&all, "Deployment").next().unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        let arguments = arguments.iter().map(|argument| argument.as_str().unwrap());
        let taken = Command::new(TOKENWARD)
            .args(arguments)
            .arg("--help")
            .output();
        let taken = taken.unwrap();
        assert!(taken.status.success(), "{taken:?}");
        tried(&known(all));
    }
}

#[test]
fn two_replicas_are_rendered_from_the_values_for_them() {
    let values = format!("{CHART}/values-ha.yaml");
    let output = helm(&["template", "release", CHART, "--values", &values]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "replicas: 2",
        "kind: PodDisruptionBudget",
        "topologyKey: kubernetes.io/hostname",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// The paths that a suite sets, whether it writes them with dots or as objects.
fn set(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    if let Value::Object(fields) = value {
        for (name, field) in fields {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            set(field, &path, paths);
            paths.insert(path);
        }
    }
}

#[test]
fn every_value_is_in_a_test_of_the_chart() {
    let mut tested = BTreeSet::new();
    for entry in std::fs::read_dir(format!("{CHART}/tests")).unwrap() {
        let path = entry.unwrap().path();
        // helm-unittest makes a folder for snapshots.
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let suite: Value = serde_saphyr::from_str(&text).unwrap();
        for test in suite["tests"].as_array().unwrap() {
            set(&test["set"], "", &mut tested);
        }
    }
    let values: Value =
        serde_saphyr::from_str(include_str!("../../charts/tokenward/values.yaml")).unwrap();
    let mut paths = Vec::new();
    leaves(&values, "", &mut paths);
    paths.retain(|(path, _)| !tested.contains(path));
    assert!(paths.is_empty(), "not in charts/tokenward/tests: {paths:?}");
}

/// Every part of the schema that is about an object says what its fields are.
fn open_objects(schema: &Value, path: &str, open: &mut Vec<String>) {
    if let Value::Object(fields) = schema {
        if fields.get("type").is_some_and(|kind| kind == "object")
            && !fields.contains_key("additionalProperties")
        {
            open.push(path.to_owned());
        }
        for (name, field) in fields {
            open_objects(field, &format!("{path}/{name}"), open);
        }
    }
}

#[test]
fn the_schema_knows_every_field() {
    let schema: Value =
        serde_json::from_str(include_str!("../../charts/tokenward/values.schema.json")).unwrap();
    let mut open = Vec::new();
    open_objects(&schema, "", &mut open);
    // Kubernetes' own, which are many; and what belongs to charts around this one.
    assert_eq!(
        open,
        [
            "/properties/affinity/properties/nodeAffinity",
            "/properties/affinity/properties/podAffinity",
            "/properties/affinity/properties/podAntiAffinity",
            "/properties/global",
        ]
    );
}

#[test]
fn the_catalogue_of_charts_is_told_of_every_definition() {
    let chart: Value =
        serde_saphyr::from_str(include_str!("../../charts/tokenward/Chart.yaml")).unwrap();
    let told = chart["annotations"]["artifacthub.io/crds"]
        .as_str()
        .unwrap();
    let told: Value = serde_saphyr::from_str(told).unwrap();
    let told = told.as_array().unwrap().iter();
    let told: BTreeSet<_> = told
        .map(|crd| crd["name"].as_str().unwrap().to_owned())
        .collect();
    let all = rendered("ns", &[]).unwrap();
    let there = of_kind(&all, "CustomResourceDefinition");
    let there: BTreeSet<_> = there
        .map(|crd| crd["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, there);
    let examples = chart["annotations"]["artifacthub.io/crdsExamples"]
        .as_str()
        .unwrap();
    let mut examples: Value = serde_saphyr::from_str(examples).unwrap();
    for example in examples.as_array_mut().unwrap() {
        example["metadata"]["namespace"] = json!("default");
    }
    tried(examples.as_array().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_as_restricted_as_a_namespace_can_ask_for() {
    let fixture = Fixture::bare("chartpods", Duration::from_secs(3600)).await;
    let namespace = fixture.namespace.as_str();
    let all = rendered(namespace, &[]).unwrap();
    let mut pod = of_kind(&all, "Deployment").next().unwrap()["spec"]["template"].clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("pod");
    pod["metadata"]["namespace"] = json!(namespace);
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    let account = "release-tokenward";
    for arguments in [
        ["label", "namespace", namespace, restricted, "--overwrite"],
        [
            "create",
            "serviceaccount",
            account,
            "--namespace",
            namespace,
        ],
    ] {
        let done = cluster().kubectl(&arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    tried(&[pod]);
}

#[test]
fn a_value_of_the_wrong_type_or_name_is_refused() {
    let values: Value =
        serde_saphyr::from_str(include_str!("../../charts/tokenward/values.yaml")).unwrap();
    let mut paths = Vec::new();
    leaves(&values, "", &mut paths);
    assert!(paths.len() > 40, "{paths:?}");
    for (path, value) in paths {
        let wrong = if value.is_array() { "7" } else { "[[7]]" };
        let refused = rendered("ns", &[&format!("{path}={wrong}")]);
        let err = refused.expect_err(&path);
        let last = path.rsplit('.').next().unwrap();
        assert!(
            err.contains("schema") && err.contains(last),
            "{path}: {err}"
        );
    }
    for (value, word) in [
        (r#"operator.logLevel="loud""#, "logLevel"),
        (r#"operator.logLevel="info,tokenward=loud""#, "logLevel"),
        (r#"operator.requestTimeout="61s""#, "requestTimeout"),
        (
            r#"operator.allowProviderNetworks=["internal"]"#,
            "allowProviderNetworks",
        ),
        (r#"image.digest="sha256:abc""#, "digest"),
        (r#"scope={"mode":"Everywhere"}"#, "mode"),
        (r#"tolerations=[{"nothing":1}]"#, "nothing"),
        (
            r#"topologySpreadConstraints=[{"maxSkew":1}]"#,
            "topologyKey",
        ),
        (r#"podDisruptionBudget.minAvailable="half""#, "minAvailable"),
        (
            r#"consumers=[{"namespace":"a","serviceAccount":"b"}]"#,
            "credentials",
        ),
        (
            r#"consumers=[{"namespace":"a","serviceAccount":"b","credentials":["alice"]}]"#,
            "credentials",
        ),
    ] {
        let err = rendered("ns", &[value]).expect_err(value);
        assert!(
            err.contains("schema") && err.contains(word),
            "{value}: {err}"
        );
    }
    for path in ["nothing", "image.nothing", "metrics.serviceMonitor.nothing"] {
        let err = rendered("ns", &[&format!("{path}=1")]).expect_err(path);
        assert!(err.contains("nothing"), "{err}");
    }
}

/// The paths of all values that hold no others.
fn leaves(value: &Value, path: &str, paths: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, field) in fields {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                leaves(field, &path, paths);
            }
        }
        _ => paths.push((path.to_owned(), value.clone())),
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_what_to_do() {
    for (sets, words) in [
        (
            vec!["replicaCount=2", r#"leaderElection={"enabled":false}"#],
            "enable it",
        ),
        (
            vec![r#"podDisruptionBudget={"enabled":true}"#],
            "set replicaCount=2",
        ),
        (
            vec![r#"scope={"mode":"Namespaces"}"#],
            "needs scope.namespaces",
        ),
        (
            vec![r#"scope={"namespaces":["a"]}"#],
            "is for scope.mode=Namespaces",
        ),
        (
            vec![r#"serviceAccount={"create":false}"#],
            "name the ServiceAccount",
        ),
        (vec!["terminationGracePeriodSeconds=30"], "raise it"),
        (
            vec![r#"networkPolicy={"metricsFrom":[{"podSelector":{}}]}"#],
            "is for networkPolicy.enabled",
        ),
        (
            vec![
                r#"scope={"mode":"Own"}"#,
                r#"consumers=[{"namespace":"a","serviceAccount":"b","credentials":[{"name":"c"}]}]"#,
            ],
            "is not served",
        ),
        (
            vec![r#"leasePolicies={"enabled":false,"strict":true}"#],
            "set leasePolicies.enabled",
        ),
        (
            vec![r#"metrics={"serviceMonitor":{"enabled":true},"podMonitor":{"enabled":true}}"#],
            "enable one",
        ),
        (
            vec![r#"metrics={"serviceMonitor":{"enabled":true},"service":{"enabled":false}}"#],
            "needs metrics.service.enabled",
        ),
    ] {
        let err = rendered("ns", &sets).expect_err(words);
        assert!(err.contains(words), "{sets:?}: {err}");
    }
}

/// Each right of a list of rules, one by one.
fn rights<'a>(roles: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    let texts = |list: &Value| -> Vec<String> {
        let items = list.as_array().unwrap().iter();
        items
            .map(|item| item.as_str().unwrap().to_owned())
            .collect()
    };
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    rights.insert(format!("{verb} {resource}.{group}"));
                }
            }
        }
    }
    rights
}

#[test]
fn the_rights_are_those_of_the_role_and_in_namespaces_no_more() {
    let deployed = documents("operator-role.yaml", &[]);
    let wanted = rights(of_kind(&deployed, "ClusterRole"));
    let only = |all: &[Value], kind: &str| {
        let roles: Vec<_> = of_kind(all, kind).cloned().collect();
        let named = roles
            .into_iter()
            .filter(|r| r["metadata"]["name"] == "release-tokenward:ns");
        named.collect::<Vec<_>>()
    };
    let all = rendered("ns", &[]).unwrap();
    assert_eq!(rights(only(&all, "ClusterRole").iter()), wanted);
    assert_eq!(of_kind(&all, "Role").count(), 0);

    let scope = r#"scope={"mode":"Namespaces","namespaces":["a","b"]}"#;
    let all = rendered("ns", &[scope]).unwrap();
    let cluster_wide = rights(only(&all, "ClusterRole").iter());
    let wide = [
        "list clusteroauthproviders.tokenward.dev",
        "watch clusteroauthproviders.tokenward.dev",
    ];
    assert_eq!(cluster_wide, wide.map(str::to_owned).into());
    let roles = only(&all, "Role");
    let places: Vec<_> = roles
        .iter()
        .map(|r| r["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["a", "b", "ns"]);
    let missing: BTreeSet<_> = wanted
        .difference(&rights(roles[..1].iter()))
        .cloned()
        .collect();
    let not_given = [
        "list clusteroauthproviders.tokenward.dev",
        "list namespaces.",
        "patch clusteroauthproviders/status.tokenward.dev",
        "watch clusteroauthproviders.tokenward.dev",
        "watch namespaces.",
    ];
    assert_eq!(missing, not_given.map(str::to_owned).into());
    let of_release = rights(roles[2..].iter());
    assert!(
        !of_release
            .iter()
            .any(|right| right.starts_with("delete") || right.starts_with("patch"))
    );
    assert!(!of_release.contains("create secrets."));
}

/// Each right of a Role with the names that it is limited to.
fn named_rights(role: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let one = json!({"rules": [rule]});
        let names = rule["resourceNames"].to_string();
        let these = rights(std::iter::once(&one));
        all.extend(these.iter().map(|right| format!("{right} {names}")));
    }
    all
}

#[test]
fn a_consumer_gets_the_role_that_is_there_to_be_copied() {
    let deployed = documents("consumer-role.yaml", &[]);
    let consumers = r#"consumers=[{"namespace":"my-team","serviceAccount":"my-app","hold":true,"credentials":[{"name":"alice"}]}]"#;
    let all = rendered("ns", &[consumers]).unwrap();
    let (wanted, role) = (
        of_kind(&deployed, "Role").next().unwrap(),
        of_kind(&all, "Role").next().unwrap(),
    );
    assert_eq!(named_rights(role), named_rights(wanted));
    let (wanted, binding) = (
        of_kind(&deployed, "RoleBinding").next().unwrap(),
        of_kind(&all, "RoleBinding").next().unwrap(),
    );
    assert_eq!(binding["subjects"], wanted["subjects"]);
    assert_eq!(
        binding["metadata"]["namespace"],
        wanted["metadata"]["namespace"]
    );
}

#[test]
fn definitions_stay_unless_that_is_not_wanted() {
    let kept = |all: &[Value]| -> Vec<bool> {
        let policy =
            |crd: &Value| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        of_kind(all, "CustomResourceDefinition")
            .map(policy)
            .collect()
    };
    assert_eq!(kept(&rendered("ns", &[]).unwrap()), [true; 3]);
    assert_eq!(
        kept(&rendered("ns", &[r#"crds={"keep":false}"#]).unwrap()),
        [false; 3]
    );
    assert!(kept(&rendered("ns", &[r#"crds={"enabled":false}"#]).unwrap()).is_empty());
}

#[test]
fn every_alert_is_about_metrics_and_reasons_that_exist_and_is_in_the_document() {
    let on = r#"metrics={"prometheusRule":{"enabled":true},"serviceMonitor":{"enabled":true}}"#;
    let all = rendered("ns", &[on]).unwrap();
    assert_eq!(of_kind(&all, "ServiceMonitor").count(), 1);
    let rule = of_kind(&all, "PrometheusRule").next().unwrap();
    let alerts = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    assert!(alerts.len() > 5);
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(OPERATE.contains(&format!("### {name}\n")), "{name}");
        let expression = alert["expr"].as_str().unwrap();
        let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for metric in words.filter(|word| word.starts_with("tokenward_")) {
            assert!(OPERATE.contains(&format!("`{metric}")), "{name}: {metric}");
        }
    }
    let text = rule.to_string();
    let reasons = text.split("reason=~").nth(1).unwrap();
    let reasons = reasons.trim_start_matches(['\\', '"']);
    let reasons = reasons.split(['\\', '"']).next().unwrap();
    for reason in reasons.split('|') {
        assert!(Reason::ends_the_grant(reason), "{reason}");
    }
}
