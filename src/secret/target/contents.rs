//! What stands in a target: the default keys, templates, and what the Secret's type asks for.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::ResourceExt;
use secrecy::ExposeSecret;

use super::{EXPIRES_AT, ID_TOKEN, TOKEN_GENERATION, Token, labels, spec};
use crate::{
    api::{IntegrationCredential, TargetType, TemplateMode},
    failure::{Failure, Reason},
    secret::{bytes, template},
};

/// The longest data of a Secret in bytes, all values together (Kubernetes' own limit).
const LARGEST: usize = 1024 * 1024;

/// In every target, whatever its templates say: by these the token is known.
const ALWAYS: [&str; 2] = [TOKEN_GENERATION, EXPIRES_AT];

/// The keys of a token's target, unless a template says otherwise.
#[must_use]
pub fn default_keys(token: &Token) -> BTreeMap<String, ByteString> {
    let access_token = token.access_token.expose_secret();
    let mut data = vec![
        ("access_token", access_token.to_owned()),
        ("token_type", token.token_type.clone()),
        ("scope", token.scopes.join(" ")),
        (TOKEN_GENERATION, token.generation.to_string()),
    ];
    if let Some(expires_at) = token.expires_at {
        data.push((EXPIRES_AT, format!("{expires_at:.0}")));
    }
    // Other token types (DPoP, MAC) need more than a fixed header.
    if token.token_type.eq_ignore_ascii_case("bearer") {
        data.push(("authorization", format!("Bearer {access_token}")));
    }
    if let Some(id_token) = &token.id_token {
        data.push((ID_TOKEN, id_token.expose_secret().to_owned()));
    }
    let mut data: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, value)| (key.to_owned(), bytes(&value)))
        .collect();
    for (key, value) in &token.metadata {
        data.entry(key.clone()).or_insert_with(|| bytes(value));
    }
    data
}

/// What a target contains by `spec.target`, where these are its default keys.
///
/// # Errors
/// `TemplateInvalid`: a template, or what comes of it, cannot be written.
pub fn contents(
    credential: &IntegrationCredential,
    defaults: BTreeMap<String, ByteString>,
) -> Result<BTreeMap<String, ByteString>, Failure> {
    let target = spec(credential);
    let templates = target.template.unwrap_or_default().data;
    let data = if templates.is_empty() {
        defaults
    } else {
        check_keys(credential, &templates)?;
        let rendered = template::render(&templates, &defaults)
            .map_err(|error| in_template(credential, &error))?;
        let mut data = defaults;
        if target.template_mode == TemplateMode::Replace {
            data.retain(|key, _| ALWAYS.contains(&key.as_str()));
        }
        data.extend(rendered);
        data
    };
    labels::check(credential)?;
    check_type(credential, target.type_, &data)?;
    let size: usize = data.values().map(|ByteString(value)| value.len()).sum();
    if size > LARGEST {
        let what = format!(
            "its values have {size} bytes together, and a Secret can hold {LARGEST}; write less by spec.target.template.data"
        );
        return Err(invalid(credential, &what));
    }
    Ok(data)
}

/// Whether a target can be written, as far as that does not depend on what is written into it.
///
/// # Errors
/// `TemplateInvalid`.
pub fn check(credential: &IntegrationCredential) -> Result<(), Failure> {
    let templates = spec(credential).template.unwrap_or_default().data;
    check_keys(credential, &templates)?;
    template::check(&templates).map_err(|error| in_template(credential, &error))?;
    labels::check(credential)
}

/// Keys that the definition of the credential refuses, unless it is an old one.
fn check_keys(
    credential: &IntegrationCredential,
    templates: &BTreeMap<String, String>,
) -> Result<(), Failure> {
    for key in templates.keys() {
        let is_key = (1..=253).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !key.starts_with("..")
            && key != ".";
        if !is_key {
            let what = format!(
                "{key:?} in spec.target.template.data cannot be a key of a Secret: it takes letters, digits, '-', '_' and '.'"
            );
            return Err(invalid(credential, &what));
        }
        if ALWAYS.contains(&key.as_str()) {
            let what = format!(
                "{key} in spec.target.template.data is always written by tokenward; use another key"
            );
            return Err(invalid(credential, &what));
        }
    }
    Ok(())
}

/// Whether these are keys of a Secret of this type.
fn check_type(
    credential: &IntegrationCredential,
    type_: TargetType,
    data: &BTreeMap<String, ByteString>,
) -> Result<(), Failure> {
    let needed: &[&str] = match type_ {
        TargetType::Opaque => &[],
        TargetType::BasicAuth => &["username", "password"],
        TargetType::DockerConfigJson => &[".dockerconfigjson"],
    };
    for key in needed {
        if !data.contains_key(*key) {
            let what = format!(
                "a Secret of type {} needs the key {key}; write it in spec.target.template.data",
                type_.as_str()
            );
            return Err(invalid(credential, &what));
        }
    }
    Ok(())
}

fn in_template(credential: &IntegrationCredential, error: &template::TemplateError) -> Failure {
    invalid(credential, &format!("spec.target.template.data, {error}"))
}

/// The failure to write a target because of what `spec.target` says.
pub(super) fn invalid(credential: &IntegrationCredential, what: &str) -> Failure {
    let namespace = credential.namespace().unwrap_or_default();
    let name = credential.name_any();
    Failure::new(
        Reason::TemplateInvalid,
        format!(
            "Secret {namespace}/{} is not written: {what}. Mend it: kubectl -n {namespace} edit icred {name}",
            credential.target_name()
        ),
    )
}
