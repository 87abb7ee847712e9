//! Writing a status: all of it, in the place of the one before.
//!
//! By a JSON patch (RFC 6902). Server-side apply would keep what others write into a status, which nobody has reason to,
//! and costs the API server about a third more.

use kube::{
    Client, Resource, ResourceExt,
    api::{Patch, PatchParams, Request, ValidationDirective},
    core::ObjectMeta,
};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    context::MANAGER,
    request::{RequestError, bounded},
};

/// Who wrote it is all that is of interest of the answer.
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

const JSON_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json");

#[derive(Clone, Debug, Deserialize)]
struct Stored {
    metadata: ObjectMeta,
}

/// Writes the status of this very object, and of no other of its name; with `only_this_version`, only if nobody has changed it
/// since. Returns the object's version.
///
/// # Errors
/// `Conflict`, where it is another object or another version; `Refused`, where the API server knows a field not.
pub async fn write<K: Resource<DynamicType = ()>>(
    client: &Client,
    object: &K,
    status: &impl Serialize,
    only_this_version: bool,
) -> Result<Option<String>, RequestError> {
    let mut changes = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": object.uid()}),
        json!({"op": "add", "path": "/status", "value": status}),
    ];
    if only_this_version {
        let version = object.resource_version();
        changes
            .push(json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version}));
    }
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        // What a definition that is older does not know would be dropped in silence.
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let path = K::url_path(&(), object.namespace().as_deref());
    let request = Request::new(path);
    let patch = Patch::Merge(changes);
    let request = request.patch_subresource("status", &object.name_any(), &params, &patch);
    let mut request =
        request.map_err(|error| RequestError::Refused(kube::Error::BuildRequest(error)))?;
    request.headers_mut().insert(ACCEPT, METADATA);
    request.headers_mut().insert(CONTENT_TYPE, JSON_PATCH);
    match bounded(client.request::<Stored>(request)).await {
        Ok(stored) => Ok(stored.metadata.resource_version),
        Err(RequestError::Refused(error)) if is_of_another(&error) => Err(RequestError::Conflict),
        Err(error) => Err(error),
    }
}

/// Whether it was the test of the UID that failed: such an answer names nothing that would be wrong with the status.
fn is_of_another(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let details = status.details.as_ref();
    status.code == 422 && details.is_none_or(|d| d.name.is_empty() && d.causes.is_empty())
}
