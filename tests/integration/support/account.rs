//! ServiceAccounts with real tokens, and what they may do.

use std::path::{Path, PathBuf};

use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    authorization::v1::SelfSubjectAccessReview,
    coordination::v1::Lease,
    core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::PostParams,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use super::{Fixture, Proxy, eventually, kubeconfig};

/// A ServiceAccount of a test's namespace, by one of its tokens.
pub struct Account {
    namespace: String,
    name: String,
    /// The uid of the pod that the token is bound to.
    pub pod: Option<String>,
    /// What its token may do.
    pub client: Client,
    #[allow(dead_code, reason = "for the chart")]
    token: String,
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
}

impl Account {
    /// A new ServiceAccount without any right.
    pub async fn create(fixture: &Fixture, name: &str) -> Self {
        let api: Api<ServiceAccount> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
        let object = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
        Self::of(fixture, name).await
    }

    /// One that exists.
    pub async fn of(fixture: &Fixture, name: &str) -> Self {
        Self::with_token(fixture, name, None).await
    }

    /// The same account in a pod, as the kubelet would give it its token.
    pub async fn in_pod(&self, fixture: &Fixture, pod: &str) -> Self {
        let api: Api<Pod> = Api::namespaced(fixture.client.clone(), &self.namespace);
        let object = serde_json::from_value(json!({
            "metadata": {"name": pod},
            "spec": {
                "serviceAccountName": self.name,
                "containers": [{"name": "app", "image": "none.example/none"}],
            },
        }));
        let pod = api.create(&PostParams::default(), &object.unwrap()).await;
        Self::with_token(fixture, &self.name, Some(pod.unwrap())).await
    }

    async fn with_token(fixture: &Fixture, name: &str, pod: Option<Pod>) -> Self {
        let api: Api<ServiceAccount> = Api::namespaced(fixture.client.clone(), &fixture.namespace);
        let bound = pod.as_ref().map(|pod| {
            json!({"apiVersion": "v1", "kind": "Pod", "name": pod.name_any(), "uid": pod.uid()})
        });
        let request = json!({"spec": {"audiences": [], "boundObjectRef": bound}});
        let request: TokenRequest = serde_json::from_value(request).unwrap();
        let params = PostParams::default();
        let answer = api.create_token_request(name, &params, &request).await;
        let token = answer.unwrap().status.unwrap().token;

        let mut config = Kubeconfig::read_from(kubeconfig()).unwrap();
        config.auth_infos[0].auth_info = Some(AuthInfo {
            token: Some(token.clone().into()),
            ..AuthInfo::default()
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, serde_json::to_string(&config).unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(config, &options).await;
        Self {
            namespace: fixture.namespace.clone(),
            name: name.to_owned(),
            pod: pod.and_then(|pod| pod.uid()),
            client: Client::try_from(config.unwrap()).unwrap(),
            token,
            kubeconfig: path,
            _folder: folder,
        }
    }

    /// The name by which the API server knows it.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// A file for programs that run as it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    #[allow(dead_code, reason = "for the chart")]
    /// A file for programs that run as it and reach the API server through a proxy.
    pub fn kubeconfig_through(&self, proxy: &Proxy) -> PathBuf {
        proxy.kubeconfig_of(&self.name, &self.token)
    }

    /// The Leases of its namespace, as far as it may see them.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until RBAC lets it do this, or no longer lets it: a binding takes a moment to be in force.
    pub async fn until_it_may(&self, allowed: bool, verb: &str, group: &str, resource: &str) {
        let (resource, name) = resource.split_once('/').unwrap_or((resource, ""));
        let review: SelfSubjectAccessReview = serde_json::from_value(json!({
            "spec": {"resourceAttributes": {
                "namespace": self.namespace, "verb": verb, "group": group,
                "resource": resource, "name": name,
            }},
        }))
        .unwrap();
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let what = format!("{} may {verb} {resource}: {allowed}", self.user());
        eventually(&what, async || {
            let answer = api.create(&PostParams::default(), &review).await.unwrap();
            (answer.status.unwrap().allowed == allowed).then_some(())
        })
        .await;
    }
}
