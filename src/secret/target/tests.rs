use jiff::Timestamp;

use super::*;
use crate::{
    api::IntegrationCredentialSpec,
    secret::{bytes, grant, text},
};

fn credential() -> IntegrationCredential {
    let spec: IntegrationCredentialSpec = serde_json::from_value(serde_json::json!({
        "oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"},
        "target": {"name": "mounted"},
    }))
    .unwrap();
    let mut credential = IntegrationCredential::new("ci", spec);
    credential.metadata.uid = Some("uid-1".to_owned());
    credential
}

fn text_of(secret: &Secret, key: &str) -> String {
    text(secret, key).unwrap().to_owned()
}

#[test]
fn the_default_keys() {
    let token = grant::sample(3, "rt", "2026-01-01T00:00:00.7Z".parse().unwrap()).token;
    let secret = render(&token, "hash", &credential(), None).unwrap();
    assert_eq!(secret.name_any(), "mounted");
    let keys: Vec<_> = secret.data.as_ref().unwrap().keys().cloned().collect();
    assert_eq!(
        keys,
        [
            "access_token",
            "authorization",
            "expires_at",
            "scope",
            "token_generation",
            "token_type"
        ]
    );
    assert_eq!(text_of(&secret, "authorization"), "Bearer at-3");
    assert_eq!(text_of(&secret, "expires_at"), "2026-01-01T01:00:00Z");
    assert_eq!(text_of(&secret, "token_generation"), "3");
    let read = held(&secret).unwrap();
    let read = read.facts();
    assert_eq!(read.generation, 3);
    assert_eq!(read.issued_at, token.issued_at);
}

#[test]
fn an_edited_target_holds_no_token_but_keeps_its_generation() {
    let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
    let mut secret = render(&token, "hash", &credential(), None).unwrap();
    let data = secret.data.as_mut().unwrap();
    data.insert("access_token".to_owned(), bytes("edited"));
    assert!(held(&secret).is_none());
    assert_eq!(generation(&secret), 3);
}

#[test]
fn other_token_types_get_no_ready_header() {
    let mut token = grant::sample(1, "rt", Timestamp::UNIX_EPOCH).token;
    token.token_type = "DPoP".to_owned();
    token.expires_at = None;
    let secret = render(&token, "hash", &credential(), None).unwrap();
    let data = secret.data.unwrap();
    assert!(!data.contains_key("authorization") && !data.contains_key("expires_at"));
}

#[test]
fn metadata_of_others_is_kept() {
    let token = grant::sample(1, "rt", Timestamp::UNIX_EPOCH).token;
    let mut first = render(&token, "hash", &credential(), None).unwrap();
    first
        .annotations_mut()
        .insert("team".to_owned(), "blue".to_owned());
    first
        .data
        .as_mut()
        .unwrap()
        .insert("extra".to_owned(), bytes("x"));
    let second = render(&token, "hash", &credential(), Some(&first)).unwrap();
    assert_eq!(second.annotations().get("team").unwrap(), "blue");
    assert!(!second.data.as_ref().unwrap().contains_key("extra"));
    assert!(!is_same(&second, &first));
    assert!(is_same(
        &second,
        &render(&token, "hash", &credential(), Some(&second)).unwrap()
    ));
}

mod documented {
    use serde_json::{Value, json};

    use super::*;

    /// The contents of the code blocks of a document, with their languages.
    fn blocks(document: &str) -> Vec<(String, String)> {
        let mut blocks = Vec::new();
        let mut lines = document.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let content: Vec<_> = lines.by_ref().take_while(|l| *l != "```").collect();
                blocks.push((language.to_owned(), content.join("\n")));
            }
        }
        blocks
    }

    #[test]
    fn every_example_of_a_template_renders_to_what_stands_below_it() {
        let blocks = blocks(include_str!("../../../docs/templates.md"));
        let mut token = grant::sample(3, "rt", "2026-01-01T00:00:00Z".parse().unwrap()).token;
        token.scopes = vec!["read".to_owned(), "write".to_owned()];
        let mut checked = 0;
        for pair in blocks.windows(2) {
            let [(yaml, example), (text, wanted)] = pair else {
                unreachable!()
            };
            if (yaml.as_str(), text.as_str()) != ("yaml", "text") {
                continue;
            }
            let mut spec: Value = serde_saphyr::from_str(example).unwrap();
            let key = spec["target"]["template"]["data"].as_object().unwrap();
            let key = key.keys().next().unwrap().clone();
            spec["oauth2"] =
                json!({"providerRef": {"name": "p"}, "grantType": "ClientCredentials"});
            let spec = serde_json::from_value(spec).unwrap();
            let mut credential = IntegrationCredential::new("ci", spec);
            credential.metadata.uid = Some("uid-1".to_owned());
            let secret = render(&token, "hash", &credential, None).unwrap();
            assert_eq!(text_of(&secret, &key).trim_end(), wanted, "{example}");
            check(&credential).unwrap();
            checked += 1;
        }
        assert_eq!(checked, 6);
    }

    #[test]
    fn every_function_is_documented() {
        let document = include_str!("../../../docs/templates.md");
        for name in crate::secret::template::names() {
            assert!(document.contains(name), "docs/templates.md lacks {name}");
        }
    }
}

/// The credential with this `spec.target`.
fn with_target(target: serde_json::Value) -> IntegrationCredential {
    let mut credential = credential();
    credential.spec.target = serde_json::from_value(target).unwrap();
    credential
}

fn message(target: serde_json::Value) -> String {
    let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
    let failure = render(&token, "hash", &with_target(target), None).unwrap_err();
    assert_eq!(failure.reason, crate::failure::Reason::TemplateInvalid);
    assert!(!failure.message.contains("at-3"), "{}", failure.message);
    failure.message
}

#[test]
fn what_only_an_older_definition_lets_pass_is_a_clear_failure() {
    use serde_json::json;
    for (target, says) in [
        (
            json!({"template": {"data": {"a b": "x"}}}),
            "\"a b\" in spec.target.template.data cannot be a key",
        ),
        (
            json!({"template": {"data": {"..x": "x"}}}),
            "cannot be a key of a Secret",
        ),
        (
            json!({"template": {"data": {"expires_at": "x"}}}),
            "expires_at in spec.target.template.data is always written",
        ),
        (
            json!({"type": "kubernetes.io/basic-auth"}),
            "a Secret of type kubernetes.io/basic-auth needs the key username",
        ),
        (
            json!({"type": "kubernetes.io/dockerconfigjson", "template": {"data": {"a": "x"}}}),
            "needs the key .dockerconfigjson",
        ),
        (
            json!({"template": {"metadata": {"labels": {"a/b/c": "x"}}}}),
            "\"a/b/c\" in spec.target.template.metadata.labels cannot be the key",
        ),
        (
            json!({"template": {"metadata": {"annotations": {"": "x"}}}}),
            "spec.target.template.metadata.annotations",
        ),
        (
            json!({"template": {"metadata": {"labels": {"a": "b c"}}}}),
            "the value of \"a\"",
        ),
    ] {
        let told = message(target);
        assert!(told.contains(says), "{told}");
        assert!(told.contains("edit icred ci"), "{told}");
    }
    // Other types are not even read.
    let other = serde_json::from_value::<Target>(json!({"type": "kubernetes.io/tls"}));
    assert!(other.is_err());
}

#[test]
fn no_template_sets_generation_or_expiry_in_either_mode() {
    let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
    for (mode, more) in [("Replace", 0), ("Merge", 4)] {
        let credential = with_target(
            serde_json::json!({"templateMode": mode, "template": {"data": {"a": "{{ scope }}"}}}),
        );
        let secret = render(&token, "hash", &credential, None).unwrap();
        assert_eq!(text_of(&secret, "token_generation"), "3");
        assert_eq!(text_of(&secret, "expires_at"), "1970-01-01T01:00:00Z");
        assert_eq!(secret.data.unwrap().len(), 3 + more);
    }
}

#[test]
fn a_templated_target_tells_of_its_token_until_it_is_edited_or_the_templates_change() {
    let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
    let credential =
        with_target(serde_json::json!({"template": {"data": {"a": "{{ access_token }}"}}}));
    let mut secret = render(&token, "hash", &credential, None).unwrap();
    let told = held(&secret).unwrap();
    assert!(told.serves(&credential));
    assert_eq!(
        (told.facts().generation, &told.facts().scopes),
        (3, &token.scopes)
    );
    assert_eq!(told.facts().expires_at, token.expires_at);
    let other = with_target(serde_json::json!({"template": {"data": {"a": "x"}}}));
    assert!(!held(&secret).unwrap().serves(&other));
    assert!(
        !held(&secret)
            .unwrap()
            .serves(&with_target(serde_json::json!({})))
    );
    // Beside its data it can be changed without the token.
    let labelled = with_target(serde_json::json!({
        "template": {"data": {"a": "{{ access_token }}"}, "metadata": {"labels": {"b": "c"}}},
    }));
    assert!(held(&secret).unwrap().serves(&labelled));
    let refitted = redress(&labelled, &secret);
    assert_eq!(
        (&refitted.data, &refitted.labels()["b"]),
        (&secret.data, &"c".to_owned())
    );
    assert_eq!(held(&refitted).unwrap().facts().generation, 3);
    assert!(is_same(&redress(&labelled, &refitted), &refitted));
    secret
        .data
        .as_mut()
        .unwrap()
        .insert("a".to_owned(), bytes("edited"));
    assert!(held(&secret).is_none());
}

#[test]
fn a_target_is_owned_by_reference_or_by_annotation_as_its_policy_says() {
    let token = grant::sample(3, "rt", Timestamp::UNIX_EPOCH).token;
    let retain = with_target(serde_json::json!({"deletionPolicy": "Retain"}));
    let delete = with_target(serde_json::json!({}));
    let owned = render(&token, "hash", &delete, None).unwrap();
    assert_eq!(owned.owner_references().len(), 1);
    let mut kept = render(&token, "hash", &retain, Some(&owned)).unwrap();
    assert!(kept.owner_references().is_empty());
    assert!(is_ours(&kept, "uid-1") && !is_ours(&kept, "uid-2"));
    let again = render(&token, "hash", &delete, Some(&kept)).unwrap();
    assert_eq!(again.owner_references(), owned.owner_references());
    assert!(is_ours(&again, "uid-1") && !again.annotations().contains_key(OWNER_UID));
    // Who controls it owns it, whatever is noted.
    let mut theirs = owned.owner_references().to_vec();
    theirs[0].uid = "uid-2".to_owned();
    kept.metadata.owner_references = Some(theirs);
    assert!(!is_ours(&kept, "uid-1") && is_ours(&kept, "uid-2"));
}

#[test]
fn the_hash_of_a_target_changes_with_whatever_is_written_and_is_missing_by_default() {
    use serde_json::json;
    let targets = [
        json!({"deletionPolicy": "Retain"}),
        json!({"template": {"data": {"a": "b"}}}),
        json!({"template": {"data": {"ab": ""}}}),
        json!({"template": {"data": {"a": "b"}}, "templateMode": "Merge"}),
        json!({"template": {"metadata": {"labels": {"a": "b"}}}}),
        json!({"template": {"metadata": {"annotations": {"a": "b"}}}}),
    ];
    let hashes: std::collections::BTreeSet<_> = targets
        .iter()
        .map(|target| target_hash(&with_target(target.clone())).unwrap())
        .collect();
    assert_eq!(hashes.len(), targets.len());
    for target in [
        json!({}),
        json!({"templateMode": "Merge", "template": {"metadata": {}}}),
    ] {
        assert_eq!(target_hash(&with_target(target)), None);
    }
}
