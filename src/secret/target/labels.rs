//! Labels and annotations of a target that its credential asks for.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::{contents::invalid, spec};
use crate::{
    api::{GROUP, IntegrationCredential, TemplateMetadata},
    failure::Failure,
};

/// On a target: the labels and annotations that the template gave it, so that they go where it gives them no more.
const GIVEN: &str = "tokenward.dev/template-metadata";

/// Whose keys mean something to the cluster or to us.
const RESERVED: [&str; 3] = ["kubernetes.io", "k8s.io", GROUP];

/// The keys that a template gave a target.
#[derive(Default, Deserialize, Serialize)]
struct Given {
    #[serde(default)]
    labels: BTreeSet<String>,
    #[serde(default)]
    annotations: BTreeSet<String>,
}

/// Gives a target the labels and annotations of the template, takes back those that it gave before, and leaves those
/// of others.
pub(super) fn set(secret: &mut Secret, credential: &IntegrationCredential) {
    let TemplateMetadata {
        labels,
        annotations,
    } = wanted(credential);
    let before = secret.annotations().get(GIVEN);
    let before = before.and_then(|json| serde_json::from_str::<Given>(json).ok());
    let before = before.unwrap_or_default();
    let given = Given {
        labels: swap(secret.labels_mut(), &before.labels, labels),
        annotations: swap(secret.annotations_mut(), &before.annotations, annotations),
    };
    let annotations = secret.annotations_mut();
    if given.labels.is_empty() && given.annotations.is_empty() {
        annotations.remove(GIVEN);
    } else if let Ok(json) = serde_json::to_string(&given) {
        annotations.insert(GIVEN.to_owned(), json);
    }
}

fn swap(
    on: &mut BTreeMap<String, String>,
    before: &BTreeSet<String>,
    mut wanted: BTreeMap<String, String>,
) -> BTreeSet<String> {
    wanted.retain(|key, _| !is_reserved(key));
    // The note may have been edited: what is not ours to give is not ours to take.
    on.retain(|key, _| wanted.contains_key(key) || !before.contains(key) || is_reserved(key));
    let given = wanted.keys().cloned().collect();
    on.extend(wanted);
    given
}

/// The keys of the template's labels and annotations that are left out.
#[must_use]
pub fn left_out(credential: &IntegrationCredential) -> Vec<String> {
    let wanted = wanted(credential);
    let keys = wanted
        .labels
        .into_keys()
        .chain(wanted.annotations.into_keys());
    keys.filter(|key| is_reserved(key)).collect()
}

/// What the definition of the credential does not look at: the API server would refuse all of the Secret.
pub(super) fn check(credential: &IntegrationCredential) -> Result<(), Failure> {
    let wanted = wanted(credential);
    for (place, map) in [
        ("labels", &wanted.labels),
        ("annotations", &wanted.annotations),
    ] {
        if let Some(key) = map.keys().find(|key| !is_qualified(key)) {
            let what = format!(
                "{key:?} in spec.target.template.metadata.{place} cannot be the key of one: it is a name of at most 63 letters, digits, '-', '_' and '.', after a DNS name and '/' where there is one"
            );
            return Err(invalid(credential, &what));
        }
    }
    match wanted.labels.iter().find(|(_, value)| !is_label(value)) {
        Some((key, _)) => {
            let what = format!(
                "the value of {key:?} in spec.target.template.metadata.labels cannot be that of a label: at most 63 letters, digits, '-', '_' and '.'"
            );
            Err(invalid(credential, &what))
        }
        None => Ok(()),
    }
}

fn wanted(credential: &IntegrationCredential) -> TemplateMetadata {
    let template = spec(credential).template.unwrap_or_default();
    template.metadata.unwrap_or_default()
}

fn is_reserved(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else {
        return false;
    };
    RESERVED.iter().any(|domain| {
        let below = prefix.strip_suffix(domain);
        below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
    })
}

/// A qualified name of Kubernetes.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_prefix = prefix.is_none_or(|prefix| {
        let is_word = |word: &str| {
            !word.is_empty()
                && !word.starts_with('-')
                && !word.ends_with('-')
                && word
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        prefix.len() <= 253 && prefix.split('.').all(is_word)
    });
    is_prefix && !name.is_empty() && is_label(name)
}

/// The value of a label.
fn is_label(value: &str) -> bool {
    let is_end = |byte: Option<u8>| byte.is_none_or(|b| b.is_ascii_alphanumeric());
    value.len() <= 63
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && is_end(value.bytes().next())
        && is_end(value.bytes().last())
}
