//! The files of `deploy/` as people apply them, but with names of the test's own, and with policies bound
//! to its namespace only.

use std::path::Path;

use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Fixture, fixture::cluster};

/// What was applied. Objects that belong to no namespace are deleted with it, also after a failure.
pub struct Deployed {
    cluster_wide: Vec<String>,
}

impl Deployed {
    /// Applies a file. `names` are values to replace by others, wherever they stand in it.
    pub async fn apply(fixture: &Fixture, file: &str, names: &[(&str, &str)]) -> Self {
        Self::objects(fixture, documents(file, names)).await
    }

    /// Applies objects.
    pub async fn objects(fixture: &Fixture, objects: Vec<Value>) -> Self {
        let mut deployed = Self {
            cluster_wide: Vec::new(),
        };
        for mut object in objects {
            if object["kind"] == "ValidatingAdmissionPolicyBinding" {
                // A label that every namespace has, and each with its own value.
                let selector =
                    &mut object["spec"]["matchResources"]["namespaceSelector"]["matchLabels"];
                selector["kubernetes.io/metadata.name"] = json!(fixture.namespace);
            }
            deployed.apply_one(fixture, &object).await;
        }
        deployed
    }

    async fn apply_one(&mut self, fixture: &Fixture, document: &Value) {
        let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
        let types = object.types.clone().unwrap();
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(&types).unwrap());
        let client = fixture.client.clone();
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client, &namespace, &resource),
            None => {
                // The namespace is the test's, and goes with that.
                if types.kind != "Namespace" {
                    let id = format!("{}/{}", types.kind.to_lowercase(), object.name_any());
                    self.cluster_wide.push(id);
                }
                Api::all_with(client, &resource)
            }
        };
        let params = PatchParams::apply("test").force();
        api.patch(&object.name_any(), &params, &Patch::Apply(document))
            .await
            .unwrap_or_else(|error| panic!("{}: {error}", object.name_any()));
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if self.cluster_wide.is_empty() {
            return;
        }
        let mut arguments = vec!["delete", "--ignore-not-found", "--wait=false"];
        arguments.extend(self.cluster_wide.iter().map(String::as_str));
        let _ = cluster().kubectl(&arguments).output();
    }
}

/// The objects of a file of `deploy/`, with other names.
pub fn documents(file: &str, names: &[(&str, &str)]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    for (from, to) in names {
        let replaced = documents.iter_mut().map(|d| rename(d, from, to));
        assert!(replaced.sum::<usize>() > 0, "no {from} in {file}");
    }
    documents
}

/// Replaces strings that are `from` as a whole, and counts them.
fn rename(value: &mut Value, from: &str, to: &str) -> usize {
    match value {
        Value::String(text) if text == from => {
            to.clone_into(text);
            1
        }
        Value::Array(items) => items.iter_mut().map(|item| rename(item, from, to)).sum(),
        Value::Object(fields) => fields.values_mut().map(|item| rename(item, from, to)).sum(),
        _ => 0,
    }
}
