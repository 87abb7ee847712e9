//! The target: the Secret that pods mount. Derived from the grant, or, for grants that store nothing
//! that could be lost, the store of the token itself.

mod contents;
mod held;
mod labels;
mod owner;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;

pub(super) use self::owner::own;
pub use self::{
    contents::{check, contents, default_keys},
    held::{Held, generation, held, request_hash},
    labels::left_out,
    owner::{
        ADOPT, Claim, OWNER_UID, check_writable, claim, conflict, is_grant, is_ours, is_target_of,
    },
};
use super::{EXPIRES_AT, TOKEN_GENERATION, Token, keyed_hash};
use crate::{
    api::{DeletionPolicy, IntegrationCredential, Target, TemplateMetadata},
    failure::Failure,
};

/// On a target: when what it holds was obtained or copied.
pub(super) const ISSUED_AT: &str = "tokenward.dev/issued-at";
/// On a target: a hash of its data as written.
pub(super) const DIGEST: &str = "tokenward.dev/digest";
const SCOPE: &str = "tokenward.dev/scope";
const ID_TOKEN: &str = "id_token";

/// On a target: a hash of what its token was asked for (endpoint, client, grant, scopes).
pub const REQUEST_HASH: &str = "tokenward.dev/request-hash";

/// On a target that is not written in the default way: a hash of how it is.
pub const TARGET_HASH: &str = "tokenward.dev/target-hash";

/// On a target whose keys come of templates: a hash of those. Its token is known by its annotations alone.
const TEMPLATE_HASH: &str = "tokenward.dev/template-hash";

/// What is noted on the target of a token.
#[must_use]
pub fn notes(
    token: &Token,
    request_hash: &str,
    credential: &IntegrationCredential,
) -> Vec<(&'static str, String)> {
    let mut notes = vec![
        (ISSUED_AT, token.issued_at.to_string()),
        (REQUEST_HASH, request_hash.to_owned()),
    ];
    if template_hash(credential).is_some() {
        notes.push((SCOPE, token.scopes.join(" ")));
    }
    notes
}

/// The Secret to store for `token`, with the metadata of the one that it replaces.
///
/// # Errors
/// `TemplateInvalid`.
pub fn render(
    token: &Token,
    request_hash: &str,
    credential: &IntegrationCredential,
    replaces: Option<&Secret>,
) -> Result<Secret, Failure> {
    let notes = notes(token, request_hash, credential);
    assemble(credential, default_keys(token), notes, replaces)
}

/// The Secret to store for these keys, written as `spec.target` says, with the metadata of the one that it replaces, and
/// these annotations of ours.
///
/// # Errors
/// `TemplateInvalid`.
pub fn assemble(
    credential: &IntegrationCredential,
    defaults: BTreeMap<String, ByteString>,
    notes: impl IntoIterator<Item = (&'static str, String)>,
    replaces: Option<&Secret>,
) -> Result<Secret, Failure> {
    let data = contents(credential, defaults)?;
    Ok(dress(credential, data, notes, replaces))
}

/// The Secret to store for what it is to contain, with the metadata of the one that it replaces, and these annotations
/// of ours.
#[must_use]
pub fn dress(
    credential: &IntegrationCredential,
    data: BTreeMap<String, ByteString>,
    notes: impl IntoIterator<Item = (&'static str, String)>,
    replaces: Option<&Secret>,
) -> Secret {
    let type_ = spec(credential).type_.as_str();
    let mut secret = Secret {
        metadata: replaces.map(|r| r.metadata.clone()).unwrap_or_default(),
        type_: Some(type_.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    labels::set(&mut secret, credential);
    owner::own(&mut secret, credential);
    let hashes = [
        (TARGET_HASH, target_hash(credential)),
        (TEMPLATE_HASH, template_hash(credential)),
    ];
    let digest = digest(&secret);
    let annotations = secret.annotations_mut();
    annotations.remove(SCOPE);
    for (key, hash) in hashes {
        match hash {
            Some(hash) => annotations.insert(key.to_owned(), hash),
            None => annotations.remove(key),
        };
    }
    annotations.extend(notes.into_iter().map(|(key, note)| (key.to_owned(), note)));
    annotations.insert(DIGEST.to_owned(), digest);
    secret
}

/// The Secret to store over `found`, of which only what is beside the data may have to change.
#[must_use]
pub fn redress(credential: &IntegrationCredential, found: &Secret) -> Secret {
    let data = found.data.clone().unwrap_or_default();
    let noted = |key: &'static str| Some((key, found.annotations().get(key)?.clone()));
    let notes = [ISSUED_AT, REQUEST_HASH, SCOPE]
        .into_iter()
        .filter_map(noted);
    dress(credential, data, notes, Some(found))
}

/// When what a target holds was obtained or copied, by the operator's clock.
#[must_use]
pub fn issued_at(secret: &Secret) -> Option<Timestamp> {
    secret.annotations().get(ISSUED_AT)?.parse().ok()
}

/// Whether storing `wanted` over `stored` would change anything.
#[must_use]
pub fn is_same(wanted: &Secret, stored: &Secret) -> bool {
    wanted.data == stored.data
        && wanted.type_ == stored.type_
        && wanted.annotations() == stored.annotations()
        && wanted.labels() == stored.labels()
        && wanted.owner_references() == stored.owner_references()
}

/// A hash of how a target is written, where that is not the default way.
#[must_use]
pub fn target_hash(credential: &IntegrationCredential) -> Option<String> {
    let target = credential.spec.target.as_ref()?;
    let metadata = target.template.as_ref().and_then(|t| t.metadata.as_ref());
    let metadata = metadata.filter(|m| **m != TemplateMetadata::default());
    let template = template_hash(credential);
    let retained = target.deletion_policy == DeletionPolicy::Retain;
    if metadata.is_none() && template.is_none() && !retained {
        return None;
    }
    let maps = metadata.map(|m| [&m.labels, &m.annotations]);
    let pairs = maps.into_iter().flatten().flat_map(|map| {
        let pairs = map.iter().flat_map(|(key, value)| [key.as_str(), value]);
        // Where one map ends and the other begins.
        pairs.chain([""])
    });
    let head = [
        template.as_deref().unwrap_or_default(),
        if retained { "Retain" } else { "Delete" },
    ];
    let parts = head.into_iter().chain(pairs).map(str::as_bytes);
    Some(keyed_hash("tokenward.dev/target-spec/v1", parts))
}

/// A hash of the templates of a target, where it has any.
fn template_hash(credential: &IntegrationCredential) -> Option<String> {
    let target = credential.spec.target.as_ref()?;
    let data = target.template.as_ref().map(|t| &t.data)?;
    if data.is_empty() {
        return None;
    }
    let mode = format!("{:?}", target.template_mode);
    let pairs = data.iter().flat_map(|(key, text)| [key.as_str(), text]);
    let parts = [mode.as_str()].into_iter().chain(pairs);
    let parts = parts.map(str::as_bytes);
    Some(keyed_hash("tokenward.dev/template/v1", parts))
}

/// How the target of a credential is to be written.
fn spec(credential: &IntegrationCredential) -> Target {
    credential
        .spec
        .target
        .as_deref()
        .cloned()
        .unwrap_or_default()
}

fn digest(secret: &Secret) -> String {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    keyed_hash(
        "tokenward.dev/target/v1",
        data.iter()
            .flat_map(|(key, ByteString(value))| [key.as_bytes(), value.as_slice()]),
    )
}

#[cfg(test)]
mod tests;
