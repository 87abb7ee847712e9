//! `docs/api.md`: every field of every kind, from the schemas. `make generate` writes it.

use std::fmt::Write;

use serde_json::Value;

use super::definitions;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/api.md");

const HEAD: &str = "# API reference

Group `tokenward.dev`, version `v1alpha1`. Written by `make generate` from the definitions in `crds/`; `kubectl explain`
shows the same. What the fields do together is told in [concepts.md](concepts.md), how to use them in
[guide.md](guide.md), and provider objects in [providers.md](providers.md).
";

/// Types of Kubernetes, which are described there.
const ELSEWHERE: [(&str, &str); 2] = [
    ("allowedNamespaces", "LabelSelector"),
    ("conditions", "list of Condition"),
];

fn reference() -> String {
    let mut text = HEAD.to_owned();
    for definition in definitions() {
        let definition = serde_json::to_value(definition).unwrap();
        let names = &definition["spec"]["names"];
        let version = &definition["spec"]["versions"][0];
        let schema = &version["schema"]["openAPIV3Schema"];
        let kind = words(&names["kind"]);
        let scope = words(&definition["spec"]["scope"]);
        let short = names["shortNames"].as_array().into_iter().flatten();
        let short = short.fold(String::new(), |all, n| all + ", short `" + words(n) + "`");
        write!(
            text,
            "\n## {kind}\n\n{scope}{short}, plural `{}`. {}\n",
            words(&names["plural"]),
            words(&schema["description"])
        )
        .unwrap();
        text.push_str(&rules(schema));
        for part in ["spec", "status"] {
            let schema = &schema["properties"][part];
            if schema.is_object() {
                write!(
                    text,
                    "\n### {kind}.{part}\n\n| field | type | meaning |\n|---|---|---|\n"
                )
                .unwrap();
                rows(&mut text, "", schema);
                text.push_str(&rules(schema));
            }
        }
    }
    text
}

fn rows(text: &mut String, at: &str, schema: &Value) {
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}{name}");
        let elsewhere = ELSEWHERE.iter().find(|(field, _)| *field == name.as_str());
        let kind = elsewhere.map_or_else(|| kind(field), |(_, kind)| (*kind).to_owned());
        let required = if required.iter().any(|r| *r == name) {
            "; required"
        } else {
            ""
        };
        let default = match &field["default"] {
            Value::Null | Value::Object(_) => String::new(),
            value => format!("; default `{}`", shown(value)),
        };
        let values = [
            &field["enum"],
            &field["items"]["enum"],
            &field["additionalProperties"]["enum"],
        ];
        let values: Vec<_> = values
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .filter(|value| !value.is_null())
            .map(|value| format!("`{}`", shown(value)))
            .collect();
        let values = if values.is_empty() {
            String::new()
        } else {
            format!(" One of {}.", values.join(", "))
        };
        let meaning = words(&field["description"]).replace('|', "\\|");
        writeln!(
            text,
            "| `{path}` | {kind}{required}{default} | {meaning}{values} |"
        )
        .unwrap();
        if elsewhere.is_none() {
            rows(text, &format!("{path}."), field);
            rows(text, &format!("{path}[]."), &field["items"]);
            rows(
                text,
                &format!("{path}.NAME."),
                &field["additionalProperties"],
            );
        }
    }
}

/// What the API server refuses, and the fields that it is about.
fn rules(schema: &Value) -> String {
    fn collect(at: &str, schema: &Value, found: &mut Vec<String>) {
        let here = schema["x-kubernetes-validations"].as_array();
        for rule in here.into_iter().flatten() {
            let about = if at.is_empty() {
                String::new()
            } else {
                format!("`{}`: ", at.trim_end_matches('.'))
            };
            found.push(format!("- {about}{}", words(&rule["message"])));
        }
        let is_top = schema["properties"]["spec"].is_object();
        if !is_top {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                collect(&format!("{at}{name}."), field, found);
            }
        }
    }
    let mut found = Vec::new();
    collect("", schema, &mut found);
    if found.is_empty() {
        return String::new();
    }
    format!(
        "\nRefused by the API server unless it holds:\n\n{}\n",
        found.join("\n")
    )
}

fn kind(schema: &Value) -> String {
    let items = &schema["items"];
    let values = &schema["additionalProperties"];
    match (words(&schema["type"]), words(&schema["format"])) {
        ("array", _) if schema["x-kubernetes-list-type"] == "set" => {
            format!("set of {}", kind(items))
        }
        ("array", _) => format!("list of {}", kind(items)),
        ("object", _) if values.is_object() => format!("map to {}", kind(values)),
        ("string", "date-time") => "time".to_owned(),
        ("string", "byte") => "base64".to_owned(),
        (kind, _) => kind.to_owned(),
    }
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default().trim()
}

fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn the_reference_is_what_the_schemas_say() {
    let wanted = reference();
    assert!(
        wanted.contains("| `oauth2.providerRef.name` | string; required |"),
        "{wanted}"
    );
    assert!(
        wanted.contains("| `token.expirationTime` | time |"),
        "{wanted}"
    );
    if std::env::var_os("TOKENWARD_GENERATE").is_some() {
        std::fs::write(DOCUMENT, wanted).unwrap();
        return;
    }
    let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        written == wanted,
        "docs/api.md is not up to date; run: make generate"
    );
}

/// A field without a description is one that `kubectl explain` says nothing of.
#[test]
fn every_field_is_described() {
    let is_described = |row: &&str| row.matches(" | ").count() >= 2 && !row.ends_with(" |  |");
    let reference = reference();
    let fields = reference.lines().filter(|line| line.starts_with("| `"));
    let bare: Vec<_> = fields.filter(|row| !is_described(row)).collect();
    assert!(bare.is_empty(), "{bare:#?}");
}
