//! What of a Secret may be written into files.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use crate::secret::{
    TOKEN_GENERATION,
    target::{is_grant, is_target_of},
    text,
};

/// What is written.
pub struct Shown<'a> {
    /// The generation of what the Secret holds.
    pub generation: u64,
    /// Names of files, and what is in them.
    pub data: &'a BTreeMap<String, ByteString>,
}

/// Why nothing of a Secret is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It holds a refresh token, which no program is to see.
    #[error("it holds the refresh token of a credential, which is never written into files")]
    Grant,
    /// It is of another credential, or of nobody.
    #[error("it was not made for the credential {0}")]
    Foreign(String),
    /// The operator has not written it yet, or somebody has edited it.
    #[error("it has no {TOKEN_GENERATION}, so it is not as the operator writes it")]
    Unwritten,
    /// A key that is no name of a file.
    #[error("its key {0:?} cannot be the name of a file")]
    Key(String),
}

/// What of `secret` is written for the credential of this name.
///
/// # Errors
/// Says why nothing is.
pub fn shown<'a>(secret: &'a Secret, credential: &str) -> Result<Shown<'a>, Obstacle> {
    if is_grant(secret) {
        return Err(Obstacle::Grant);
    }
    if !is_target_of(secret, credential) {
        return Err(Obstacle::Foreign(credential.to_owned()));
    }
    let generation = text(secret, TOKEN_GENERATION).ok();
    let generation = generation.and_then(|text| text.parse().ok());
    let (Some(generation), Some(data)) = (generation, &secret.data) else {
        return Err(Obstacle::Unwritten);
    };
    match data.keys().find(|key| !is_file_name(key)) {
        Some(key) => Err(Obstacle::Key(key.clone())),
        None => Ok(Shown { generation, data }),
    }
}

/// Whether a key is one that a Secret may have, as the API server checks it. What begins with two dots is ours.
fn is_file_name(key: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=253).contains(&key.len()) && key.bytes().all(fits) && key != "." && !key.starts_with("..")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(change: &Value) -> Secret {
        let mut object = json!({
            "metadata": {
                "name": "alice",
                "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "target"},
                "ownerReferences": [{
                    "apiVersion": "tokenward.dev/v1alpha1", "kind": "IntegrationCredential",
                    "name": "alice", "uid": "1", "controller": true,
                }],
            },
            "type": "Opaque",
            // "7" and "t".
            "data": {"token_generation": "Nw==", "access_token": "dA=="},
        });
        for (path, value) in change.as_object().unwrap() {
            *object.pointer_mut(path).unwrap() = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn refused(change: &Value) -> Option<Obstacle> {
        shown(&secret(change), "alice").err()
    }

    #[test]
    fn a_target_is_shown_whole() {
        let target = secret(&json!({}));
        let shown = shown(&target, "alice").ok().unwrap();
        assert_eq!(shown.generation, 7);
        let keys: Vec<_> = shown.data.keys().collect();
        assert_eq!(keys, ["access_token", "token_generation"]);
    }

    #[test]
    fn a_target_that_outlives_its_credential_is_known_by_its_notes() {
        let retained = json!({"/metadata": {
            "labels": {"tokenward.dev/credential": "alice", "tokenward.dev/role": "target"},
            "annotations": {"tokenward.dev/owner-uid": "1"},
        }});
        assert_eq!(refused(&retained), None);
        for (label, other) in [("credential", "bob"), ("role", "seed")] {
            let mut other_one = retained.clone();
            other_one["/metadata"]["labels"][format!("tokenward.dev/{label}")] = json!(other);
            assert_eq!(refused(&other_one), Some(Obstacle::Foreign("alice".into())));
        }
    }

    #[test]
    fn nothing_else_is_shown() {
        let foreign = || Some(Obstacle::Foreign("alice".into()));
        let owner = "/metadata/ownerReferences/0";
        for (change, why) in [
            (
                json!({"/type": "tokenward.dev/grant"}),
                Some(Obstacle::Grant),
            ),
            (json!({"/metadata": {"name": "alice"}}), foreign()),
            (json!({format!("{owner}/name"): "bob"}), foreign()),
            (json!({format!("{owner}/kind"): "Deployment"}), foreign()),
            (
                json!({format!("{owner}/apiVersion"): "example.com/v1"}),
                foreign(),
            ),
            (json!({format!("{owner}/controller"): false}), foreign()),
            (json!({"/data": {}}), Some(Obstacle::Unwritten)),
            (json!({"/data": null}), Some(Obstacle::Unwritten)),
            (
                json!({"/data/token_generation": "eA=="}),
                Some(Obstacle::Unwritten),
            ),
        ] {
            assert_eq!(refused(&change), why, "{change}");
        }
    }

    #[test]
    fn a_key_that_leads_out_of_the_directory_is_no_name_of_a_file() {
        for key in [
            "",
            ".",
            "..",
            "..data",
            "../x",
            "a/b",
            "a\0b",
            "/etc/passwd",
            "ä",
        ] {
            let data = json!({"/data": {"token_generation": "Nw==", key: "dA=="}});
            assert_eq!(refused(&data), Some(Obstacle::Key(key.into())), "{key:?}");
        }
        for key in [
            "a",
            ".dockerconfigjson",
            "X-Org",
            "config.json",
            "a..b",
            "_",
        ] {
            let data = json!({"/data": {"token_generation": "Nw==", key: "dA=="}});
            assert_eq!(refused(&data), None, "{key:?}");
        }
    }
}
