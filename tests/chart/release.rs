//! Releases of the chart, and their operators.

use std::{path::Path, process::Output};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use crate::support::{Account, Fixture, Operator, cluster};

/// The chart of this repository.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/tokenward");

/// What lets the rendered arguments run beside others on one machine, and reach the OAuth server of a test.
const HERE: &str = r#"operator={"logLevel":"info,tokenward=debug","extraArgs":["--allow-http-loopback","--health-address=127.0.0.1:0"]}"#;

/// Runs Helm.
pub fn helm(arguments: &[&str]) -> Output {
    cluster().helm(arguments).output().unwrap()
}

/// Runs Helm, which has to succeed. What it said.
pub fn helm_does(arguments: &[&str]) -> String {
    let output = helm(arguments);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {arguments:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

/// A release in the namespace of a fixture.
pub struct Release<'a> {
    pub fixture: &'a Fixture,
    /// Also the name of its objects, where it contains the name of the chart.
    pub name: String,
}

impl<'a> Release<'a> {
    /// Installs this chart with these values, each `NAME=JSON`.
    pub fn install(fixture: &'a Fixture, name: &str, chart: &str, values: &[&str]) -> Self {
        Self::try_install(fixture, name, chart, values).unwrap_or_else(|err| panic!("{err}"))
    }

    /// As [`Self::install`]; what Helm says where it refuses.
    pub fn try_install(
        fixture: &'a Fixture,
        name: &str,
        chart: &str,
        values: &[&str],
    ) -> Result<Self, String> {
        let place = fixture.namespace.as_str();
        let mut arguments = vec!["install", name, chart, "--namespace", place];
        for value in [HERE].iter().chain(values) {
            // An option stands for itself.
            if !value.starts_with("--") {
                arguments.push("--set-json");
            }
            arguments.push(value);
        }
        let output = helm(&arguments);
        if output.status.success() {
            let name = name.to_owned();
            return Ok(Self { fixture, name });
        }
        Err(String::from_utf8(output.stderr).unwrap())
    }

    /// Runs another command of Helm for it.
    pub fn helm(&self, command: &str, arguments: &[&str]) -> String {
        let place = self.fixture.namespace.as_str();
        let mut all = vec![command, self.name.as_str()];
        all.extend(arguments);
        all.extend(["--namespace", place]);
        helm_does(&all)
    }

    /// The name of its roles and bindings.
    pub fn role(&self) -> String {
        format!("{}:{}", self.name, self.fixture.namespace)
    }

    /// The account under which its pods run.
    pub async fn account(&self) -> Account {
        let account = Account::of(self.fixture, &self.account_name().await).await;
        account
            .until_it_may(true, "list", "tokenward.dev", "clusteroauthproviders")
            .await;
        account
            .until_it_may(true, "create", "coordination.k8s.io", "leases")
            .await;
        account
    }

    /// What a pod of it would run, under the account that this file is for.
    pub async fn operator(&self, kubeconfig: &Path) -> Operator {
        let deployment = self.deployment().await;
        let container = &deployment.spec.unwrap().template.spec.unwrap().containers[0];
        let arguments = container.args.as_ref().unwrap();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let place = self.fixture.namespace.as_str();
        let named = container.env.iter().flatten();
        let variables = named.map(|variable| {
            let source = variable.value_from.as_ref().unwrap();
            let path = &source.field_ref.as_ref().unwrap().field_path;
            let value = match path.as_str() {
                "metadata.name" => "a-pod",
                "metadata.namespace" => place,
                other => panic!("{other}"),
            };
            (variable.name.as_str(), value.into())
        });
        Operator::run(kubeconfig, &arguments, variables.collect())
    }

    /// Its Deployment.
    pub async fn deployment(&self) -> Deployment {
        let client = self.fixture.client.clone();
        let api: Api<Deployment> = Api::namespaced(client, &self.fixture.namespace);
        api.get(&self.name).await.unwrap()
    }

    async fn account_name(&self) -> String {
        let pod = self.deployment().await.spec.unwrap().template.spec.unwrap();
        pod.service_account_name.unwrap()
    }
}

impl Drop for Release<'_> {
    /// Removes what is left of it, also after a failure.
    fn drop(&mut self) {
        let place = self.fixture.namespace.as_str();
        let uninstall = ["uninstall", self.name.as_str(), "--ignore-not-found"];
        helm(&[uninstall.as_slice(), &["--namespace", place, "--wait"]].concat());
    }
}
