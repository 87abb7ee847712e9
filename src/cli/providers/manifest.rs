//! The provider object that makes use of an entry, as YAML with comments.

use std::{collections::BTreeMap, fmt::Write};

use serde_json::json;

use crate::{
    api::{ClientAuthentication, GrantType, Parameter},
    oauth::catalog::Entry,
};

/// What is given already.
#[derive(Default)]
pub(super) struct Given<'a> {
    /// The object's name; the entry's where there is none.
    pub(super) name: Option<&'a str>,
    /// The client's identifier.
    pub(super) client_id: Option<&'a str>,
    /// The issuer, for an entry that states no token endpoint.
    pub(super) issuer: Option<&'a str>,
    /// The values of variables.
    pub(super) variables: BTreeMap<String, String>,
}

/// An object to apply.
pub(super) struct Manifest {
    /// The object.
    pub(super) yaml: String,
    /// The fields that are empty and must not be: the API server refuses the object until then.
    pub(super) to_fill: Vec<String>,
}

/// What proves that a client is the one: the key in its Secret. `None`: nothing does.
pub(super) fn secret_key(entry: &Entry) -> Option<&'static str> {
    let description = &entry.description;
    let only = |grant| description.grants.as_deref() == Some(&[grant]);
    match description.client_auth() {
        ClientAuthentication::PrivateKeyJwt => Some("private_key"),
        // The signed token is all the authentication there is.
        ClientAuthentication::None if only(GrantType::GitHubAppInstallation) => Some("private_key"),
        ClientAuthentication::None => None,
        _ => Some("client_secret"),
    }
}

/// Whether tokens are got without a client: the assertion says who asks.
fn needs_no_client(entry: &Entry) -> bool {
    let description = &entry.description;
    description.grants.as_deref() == Some(&[GrantType::JwtBearer])
        && description.client_auth() == ClientAuthentication::None
}

/// The name of the Secret with what proves that the client is the one.
pub(super) fn secret_name(preset: &str, given: &Given<'_>) -> String {
    format!("{}-client", given.name.unwrap_or(preset))
}

/// Writes the object.
pub(super) fn manifest(preset: &str, entry: &Entry, given: &Given<'_>) -> Manifest {
    let description = &entry.description;
    let mut to_fill = Vec::new();
    let mut fill = |field: &str, value: Option<&str>, why: &str| {
        if value.is_none() {
            to_fill.push(field.to_owned());
        }
        let value = quoted(value.unwrap_or_default());
        format!("{value}   # {why}\n").replacen("   # \n", "\n", 1)
    };
    let name = given.name.map_or_else(|| preset.to_owned(), quoted);
    let mut yaml = format!(
        "apiVersion: tokenward.dev/v1alpha1\nkind: OAuthProvider\nmetadata:\n  name: {name}\nspec:\n  preset: {preset}\n"
    );
    if description.token_url.is_none() && description.issuer.is_none() {
        let why = "the server's issuer; or state tokenUrl instead";
        yaml += "  issuer: ";
        yaml += &fill("spec.issuer", given.issuer, why);
    }
    if !description.parameters.is_empty() {
        let all_have_values = description
            .parameters
            .iter()
            .all(|(name, p)| p.default_value.is_some() && !given.variables.contains_key(name));
        // A mapping of comments alone would be null.
        yaml += if all_have_values {
            "  # variables:\n"
        } else {
            "  variables:\n"
        };
        for (name, parameter) in &description.parameters {
            let value = given.variables.get(name).map(String::as_str);
            let why = explained(parameter);
            match (&parameter.default_value, value) {
                (Some(default), None) => {
                    let _ = writeln!(
                        yaml,
                        "  #   {name}: {}   # the default. {why}",
                        quoted(default)
                    );
                }
                _ => {
                    let _ = write!(yaml, "    {name}: ");
                    yaml += &fill(&format!("spec.variables.{name}"), value, &why);
                }
            }
        }
    }
    if !needs_no_client(entry) {
        yaml += "  client:\n    id: ";
        yaml += &fill("spec.client.id", given.client_id, "the client's identifier");
        if let Some(key) = secret_key(entry) {
            let secret = secret_name(preset, given);
            let _ = writeln!(
                yaml,
                "    secretKeyRefs:\n      - name: {secret}\n        key: {key}"
            );
        }
    }
    Manifest { yaml, to_fill }
}

/// A text that YAML reads as this text, whatever it is.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

fn explained(parameter: &Parameter) -> String {
    let mut why = parameter.description.clone().unwrap_or_default();
    if !parameter.allowed.is_empty() {
        let _ = write!(why, " One of {}", parameter.allowed.join(", "));
    }
    why.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{api::OAuthProvider, oauth::catalog};

    fn of(preset: &str, given: &Given<'_>) -> (Value, Vec<String>) {
        let made = manifest(preset, &catalog::entries()[preset], given);
        let read: Value = serde_saphyr::from_str(&made.yaml)
            .unwrap_or_else(|error| panic!("{preset}: {error}\n{}", made.yaml));
        serde_json::from_value::<OAuthProvider>(read.clone())
            .unwrap_or_else(|error| panic!("{preset}: {error}\n{}", made.yaml));
        (read, made.to_fill)
    }

    #[test]
    fn every_manifest_reads_as_an_object_whose_empty_fields_are_named() {
        for preset in catalog::entries().keys() {
            let (read, to_fill) = of(preset, &Given::default());
            assert_eq!(read["spec"]["preset"], *preset);
            let mut empty = Vec::new();
            collect_empty("spec", &read["spec"], &mut empty);
            empty.sort();
            let mut to_fill = to_fill;
            to_fill.sort();
            assert_eq!(empty, to_fill, "{preset}");
        }
    }

    fn collect_empty(at: &str, value: &Value, empty: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    collect_empty(&format!("{at}.{name}"), value, empty);
                }
            }
            Value::String(text) if text.is_empty() => empty.push(at.to_owned()),
            Value::Null => panic!("{at} is null"),
            _ => {}
        }
    }

    #[test]
    fn what_is_given_stands_in_its_place_and_nothing_is_left_to_fill_in() {
        let given = Given {
            name: Some("true"),
            client_id: Some("a: b # c"),
            variables: [("tenant".to_owned(), "123".to_owned())].into(),
            ..Given::default()
        };
        let (read, to_fill) = of("microsoft-entra", &given);
        assert!(to_fill.is_empty(), "{to_fill:?}");
        assert_eq!(read["metadata"]["name"], "true");
        assert_eq!(read["spec"]["client"]["id"], "a: b # c");
        assert_eq!(read["spec"]["variables"]["tenant"], "123");
        assert_eq!(
            read["spec"]["client"]["secretKeyRefs"][0]["name"],
            "true-client"
        );
    }

    /// By taking away "# ", as editors do.
    #[test]
    fn a_default_that_is_a_comment_can_be_made_a_value() {
        for (preset, entry) in catalog::entries() {
            let yaml = manifest(preset, entry, &Given::default()).yaml;
            let yaml = yaml.replace("\n  # ", "\n  ");
            let read: Value = serde_saphyr::from_str(&yaml)
                .unwrap_or_else(|error| panic!("{preset}: {error}\n{yaml}"));
            for (name, parameter) in &entry.description.parameters {
                let wanted = parameter.default_value.clone().unwrap_or_default();
                assert_eq!(read["spec"]["variables"][name], wanted, "{preset}\n{yaml}");
            }
        }
    }

    #[test]
    fn a_client_has_what_its_provider_asks_for() {
        let spec = |preset| of(preset, &Given::default()).0["spec"].clone();
        assert_eq!(spec("google-service-account")["client"], Value::Null);
        let key = |preset| spec(preset)["client"]["secretKeyRefs"][0]["key"].clone();
        assert_eq!(key("github-app-installation"), "private_key");
        assert_eq!(key("google"), "client_secret");
        assert_eq!(key("etsy"), Value::Null);
    }
}
