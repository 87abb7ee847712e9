//! Whether `docs/providers.md` has every field of provider objects, and of credentials what concerns providers.

mod reference;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::definitions;

const DOCUMENT: &str = include_str!("../../docs/providers.md");

/// A field, as the document names it, with the values that it may have.
struct Field {
    path: String,
    values: Vec<String>,
}

fn schema(kind: &str) -> Value {
    let all = definitions();
    let definition = all.iter().find(|d| d.spec.names.kind == kind).unwrap();
    let definition = serde_json::to_value(definition).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

fn fields(at: &str, schema: &Value, found: &mut Vec<Field>) {
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let grants = [
            "RefreshToken",
            "AuthorizationCode",
            "ClientCredentials",
            "JwtBearer",
            "GitHubAppInstallation",
        ];
        let is_grant = at == "perGrant." && grants.contains(&name.as_str());
        let path = format!("{at}{}", if is_grant { "GRANT" } else { name });
        if !is_grant {
            let values = [
                &schema["enum"],
                &schema["items"]["enum"],
                &schema["additionalProperties"]["enum"],
            ];
            let values = values.into_iter().filter_map(Value::as_array).flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned);
            found.push(Field {
                path: path.clone(),
                values: values.collect(),
            });
        }
        // A type of Kubernetes, described there.
        if name != "allowedNamespaces" {
            fields(&format!("{path}."), schema, found);
            fields(&format!("{path}[]."), &schema["items"], found);
            fields(
                &format!("{path}.NAME."),
                &schema["additionalProperties"],
                found,
            );
        }
    }
}

fn documented() -> Vec<Field> {
    let mut found = Vec::new();
    fields("", &schema("OAuthProvider"), &mut found);
    fields("", &schema("ClusterOAuthProvider"), &mut found);
    let oauth2 = schema("IntegrationCredential")["properties"]["oauth2"].clone();
    fields("spec.oauth2.", &oauth2, &mut found);
    assert!(found.iter().any(|f| f.path == "perGrant.GRANT.headers"));
    assert!(found.iter().any(|f| f.path == "parameters.NAME.pattern"));
    assert!(found.len() > 100, "{}", found.len());
    found
}

#[test]
fn every_field_of_a_provider_object_is_in_a_table() {
    let rows = || DOCUMENT.lines().filter(|line| line.starts_with('|'));
    let missing: BTreeSet<_> = documented()
        .into_iter()
        .filter(|field| !rows().any(|row| row.contains(&format!("`{}`", field.path))))
        .map(|field| field.path)
        .collect();
    assert!(missing.is_empty(), "docs/providers.md lacks {missing:?}");
}

#[test]
fn every_value_that_a_field_may_have_is_in_the_document() {
    for Field { path, values } in documented() {
        for value in values {
            assert!(DOCUMENT.contains(&format!("`{value}`")), "{path}: {value}");
        }
    }
}

/// The other way round: what has been taken out of the schema is not documented any more.
#[test]
fn every_row_of_a_table_of_fields_is_a_field() {
    let known: BTreeSet<_> = documented().into_iter().map(|field| field.path).collect();
    let mut in_table = false;
    let mut rows = 0;
    for line in DOCUMENT.lines() {
        in_table = line.starts_with("| field |") || in_table && line.starts_with('|');
        let Some(rest) = line.strip_prefix("| `").filter(|_| in_table) else {
            continue;
        };
        let field = rest.split_once('`').unwrap().0;
        assert!(known.contains(field), "{field} is no field");
        rows += 1;
    }
    assert!(rows > 80, "{rows}");
}

/// Every default of the schema itself stands in the row of its field.
#[test]
fn defaults_are_those_of_the_schema() {
    let cluster = schema("ClusterOAuthProvider");
    let grants = &cluster["properties"]["allowedGrantTypes"]["default"];
    assert_eq!(grants, &json!(["RefreshToken"]));
    let scope = &cluster["properties"]["refresh"]["properties"]["rateLimit"]["properties"]["scope"];
    assert_eq!(scope["default"], "Client");
    for row in [
        "| `[RefreshToken]` | `[ClientCredentials]` |",
        "| `Client` | `Authorization` |",
    ] {
        assert!(DOCUMENT.contains(row), "{row}");
    }
}
