//! Every entry of the catalogue, held against the schema of the API, and against answers of the shape that the
//! provider gives (`tests/catalog/NAME.yaml`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokenward::{
    api::{GrantType, OAuthProvider, Rotation},
    oauth::{
        catalog::{Entry, entries, source},
        error::{Answer, Spends, classify},
        response::{Reading, TokenResponse, read},
        template,
    },
    plan,
};

/// What the refresh token was that each refresh presented.
const SPENT: &str = "spent-refresh-token";

/// One recorded answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    grant: GrantType,
    status: u16,
    #[serde(default)]
    retry_after: Option<String>,
    #[serde(default)]
    body: String,
    expect: Expected,
}

/// What the reader is to make of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    reason: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    id_token: Option<String>,
    token_type: Option<String>,
    lifetime: Option<u64>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

fn cases(name: &str) -> Vec<Case> {
    let path = format!("{}/tests/catalog/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name} has no answers: {path}"));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn spends(entry: &Entry, grant: GrantType) -> Spends {
    match (grant.is_machine(), entry.description.rotation()) {
        (true, _) => Spends::Nothing,
        (false, Rotation::Never) => Spends::LastingToken,
        (false, Rotation::Sometimes | Rotation::Always) => Spends::RotatingToken,
    }
}

fn check_tokens(of: &str, entry: &Entry, tokens: &TokenResponse, expected: &Expected) {
    assert_eq!(expected.reason, None, "{of}: it was read as tokens");
    let shown =
        |secret: &Option<SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
    assert_eq!(shown(&tokens.access_token), expected.access_token, "{of}");
    assert_eq!(shown(&tokens.refresh_token), expected.refresh_token, "{of}");
    assert_eq!(shown(&tokens.id_token), expected.id_token, "{of}");
    if let Some(token_type) = &expected.token_type {
        assert_eq!(&tokens.token_type, token_type, "{of}");
    }
    if expected.scopes.is_some() {
        assert_eq!(tokens.scopes, expected.scopes, "{of}");
    }
    assert_eq!(tokens.metadata, expected.metadata, "{of}");
    if let Some(lifetime) = expected.lifetime {
        let sent = Timestamp::now();
        let expires_at = plan::expires_at(sent, tokens.lifetime, &entry.description)
            .unwrap_or_else(|| panic!("{of}: no expiry"));
        let span = Duration::try_from(expires_at.duration_since(sent)).unwrap_or_default();
        assert_eq!(span.as_secs(), lifetime, "{of}");
    }
}

#[test]
fn every_provider_is_understood_in_what_it_answers() {
    let mut wrong = Vec::new();
    for (name, entry) in entries() {
        for case in cases(name) {
            let of = format!("{name}: {}", case.name);
            let checked = std::panic::catch_unwind(|| check(&of, entry, &case));
            wrong.extend(checked.err().map(|_| of));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn check(of: &str, entry: &Entry, case: &Case) {
    let spends = spends(entry, case.grant);
    let spent = SecretString::from(SPENT);
    let spent = (spends != Spends::Nothing).then_some(&spent);
    let description = &entry.description;
    let error = match read(case.status, case.body.as_bytes(), description, spent) {
        Reading::Tokens(tokens) => return check_tokens(of, entry, &tokens, &case.expect),
        Reading::Error(code) => code,
        Reading::Unreadable => None,
    };
    let answer = Answer::Answered {
        status: case.status,
        meaning: error
            .as_ref()
            .and_then(|code| description.error_map.get(code).copied()),
        error,
        retry_after: case.retry_after.as_ref().map(|_| Duration::from_secs(1)),
    };
    let reason = classify(&answer, spends);
    assert_eq!(
        Some(reason.as_str()),
        case.expect.reason.as_deref(),
        "{of}: {answer:?}"
    );
}

#[test]
fn there_are_at_least_forty_and_each_has_a_success_and_a_failure() {
    assert!(entries().len() >= 40, "{}", entries().len());
    for (name, entry) in entries() {
        let cases = cases(name);
        let (failures, successes): (Vec<_>, Vec<_>) =
            cases.iter().partition(|case| case.expect.reason.is_some());
        assert!(!successes.is_empty(), "{name}");
        assert!(
            failures
                .iter()
                .any(|c| c.expect.reason.as_deref() == Some("RateLimited")),
            "{name}"
        );
        assert!(
            failures.len() >= 2,
            "{name}: a dead grant or client, and a rate limit"
        );
        let refreshes = entry
            .description
            .grants
            .iter()
            .flatten()
            .any(|g| !g.is_machine());
        if refreshes {
            let keeps = successes.iter().any(|c| c.expect.refresh_token.is_none());
            assert!(keeps, "{name}: a refresh without a new refresh token");
        }
    }
}

#[test]
fn each_fact_names_its_source_or_says_that_it_is_the_careful_default() {
    for name in entries().keys() {
        let text = source(name).unwrap();
        let description = text.split_once("\ndescription:").unwrap().1;
        assert!(text.starts_with('#'), "{name} names no document");
        assert!(
            description.contains('#'),
            "{name} has facts without a source"
        );
    }
}

#[test]
fn each_file_of_answers_is_of_an_entry() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/catalog");
    let files: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let names: BTreeSet<String> = entries().keys().map(|&name| name.to_owned()).collect();
    assert_eq!(files, names);
}

/// What the schema of a provider object has no field for would be dropped without a word.
#[test]
fn every_entry_is_what_a_provider_object_may_say() {
    use kube::CustomResourceExt;
    let definition = serde_json::to_value(OAuthProvider::crd()).unwrap();
    let schema =
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for name in entries().keys() {
        let file: Value = serde_saphyr::from_str(source(name).unwrap()).unwrap();
        known_fields(name, &file["description"], schema);
    }
}

fn known_fields(at: &str, value: &Value, schema: &Value) {
    if let (Value::Object(fields), Some(properties)) = (value, schema["properties"].as_object()) {
        for (key, value) in fields {
            let schema = properties
                .get(key)
                .unwrap_or_else(|| panic!("{at} has {key}, which is no field"));
            known_fields(&format!("{at}.{key}"), value, schema);
        }
    }
}

#[test]
fn the_variables_of_every_template_are_defined() {
    for (name, entry) in entries() {
        let description = &entry.description;
        let values: BTreeMap<String, String> = description
            .parameters
            .iter()
            .map(|(key, parameter)| {
                let first = parameter.allowed.first().cloned();
                let value = parameter.default_value.clone().or(first);
                (key.clone(), value.unwrap_or_else(|| "a".to_owned()))
            })
            .collect();
        let urls = [
            &description.token_url,
            &description.refresh_url,
            &description.revoke_url,
            &description.introspect_url,
            &description.device_url,
            &description.authorize_url,
            &description.userinfo_url,
        ];
        for url in urls.into_iter().flatten() {
            let filled = template::fill_url(url, &values);
            assert!(filled.is_ok(), "{name}: {url}: {:?}", filled.err());
            assert!(url.starts_with("https://"), "{name}: {url}");
        }
        for value in description.params.values() {
            assert!(template::fill(value, &values).is_ok(), "{name}: {value}");
        }
        let given = description.parameters.iter();
        for (key, default) in given.filter_map(|(k, p)| Some((k, p.default_value.as_ref()?))) {
            let own = [(key.clone(), default.clone())].into();
            let checked = template::variables(&description.parameters, &own, &BTreeMap::new(), &[]);
            assert!(checked.is_ok(), "{name}: {:?}", checked.err());
        }
    }
}
