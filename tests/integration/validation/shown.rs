//! What kubectl shows of the kinds and their objects.

use serde_json::{Value, json};

use super::HOUR;
use crate::support::{Fixture, kubectl};

/// The properties below a schema that have no description.
fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let description = property["description"].as_str().unwrap_or_default();
        if description.trim().is_empty() {
            found.push(path.clone());
        }
        undescribed(property, &path, found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            undescribed(&schema[inner], path, found);
        }
    }
}

#[test]
fn every_field_of_every_kind_is_described() {
    for definition in tokenward::api::definitions() {
        let kind = definition.spec.names.kind;
        for version in definition.spec.versions {
            let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            assert!(schema["properties"]["spec"]["properties"].is_object());
            let mut found = Vec::new();
            undescribed(&schema, &kind, &mut found);
            assert_eq!(found, Vec::<String>::new(), "without a description");
            let described = schema["description"].as_str().unwrap_or_default();
            assert!(described.len() > 40, "{kind}: {described:?}");
        }
    }
}

/// kubectl, with what it remembers of the server's kinds in a folder of its own: what others have
/// there may be older than our definitions.
struct Kubectl {
    cache: String,
    namespace: String,
}

impl Kubectl {
    /// What it printed, with single spaces; it must have succeeded.
    async fn says(&self, command: &str) -> String {
        let mut arguments = vec!["--cache-dir", &self.cache, "--namespace", &self.namespace];
        arguments.extend(command.split(' '));
        let output = kubectl(&arguments).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {command}: {stderr}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let stdout = String::from_utf8_lossy(&output.stdout);
        stdout.lines().map(words).collect::<Vec<_>>().join("\n")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_waits_lists_and_selects() {
    let fixture = Fixture::new("kubectl", HOUR).await;
    let folder = tempfile::tempdir().unwrap();
    let kubectl = Kubectl {
        cache: folder.path().to_str().unwrap().to_owned(),
        namespace: fixture.namespace.clone(),
    };
    let explained = kubectl.says("explain icred.spec.oauth2").await;
    let explained = explained.replace('\n', " ");
    for sentence in [
        "An OAuth 2.0 token (RFC 6749).",
        "providerRef <Object> -required- The provider object that describes the token endpoint and the client.",
        "grantType <string> -required- enum: RefreshToken, ClientCredentials, JwtBearer, GitHubAppInstallation The grant by which tokens are obtained: `RefreshToken` (RFC 6749 section 6: a user has authorized the client, and the seed Secret holds the first refresh token or the authorization code), `ClientCredentials`",
    ] {
        assert!(
            explained.contains(sentence),
            "no {sentence:?} in {explained}"
        );
    }

    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let named = json!({"user": "alice", "target": {"name": "mounted"}});
    fixture.user("alice", named).await;
    fixture.machine("ci", json!({})).await;
    let wait = "wait --for=condition=Ready icred/alice icred/ci --timeout=30s";
    let waited = kubectl.says(wait).await;
    assert_eq!(waited.matches("condition met").count(), 2, "{waited}");

    let table = kubectl.says("get icred").await;
    let lines: Vec<&str> = table.lines().collect();
    let header = "NAME READY STATE PROVIDER TARGET EXPIRES LAST REFRESH AGE";
    assert_eq!((lines.len(), lines[0]), (3, header));
    let expiry = "get icred alice -o jsonpath={.status.token.expirationTime}";
    let expiry = kubectl.says(expiry).await;
    let alice = format!("alice True Valid provider mounted {expiry} ");
    assert!(lines[1].starts_with(&alice), "{table}");
    assert!(
        lines[2].starts_with("ci True Valid provider ci 2"),
        "{table}"
    );
    let wide = kubectl.says("get icred -o wide").await;
    assert_eq!(
        wide.lines().next(),
        Some(&*format!("{header} MESSAGE NEXT REFRESH"))
    );
    assert_eq!(wide.matches("the token is valid").count(), 2, "{wide}");

    let one = "get icred --field-selector spec.user=alice -o name";
    let one = kubectl.says(one).await;
    assert_eq!(one, "integrationcredential.tokenward.dev/alice");
    let all = kubectl.says("get tokenward -o name").await;
    for name in [
        "integrationcredential.tokenward.dev/ci",
        "oauthprovider.tokenward.dev/provider",
    ] {
        assert!(all.lines().any(|line| line == name), "{all}");
    }
    let providers = kubectl.says("get oauthproviders").await;
    let header = "NAME READY REASON PRESET TOKEN URL CLIENT AGE\n";
    assert!(
        providers.starts_with(header) && providers.contains("http://127.0.0.1:"),
        "{providers}"
    );
    let events = kubectl.says("events --for icred/alice").await;
    assert!(
        events.contains("Normal Refreshed IntegrationCredential/alice"),
        "{events}"
    );
}
