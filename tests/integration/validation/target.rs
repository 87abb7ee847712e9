//! The rows of `spec.target`.

use serde_json::json;

use super::{CREDENTIAL, HOUR, machine, refuses, takes, user, verdict, with};
use crate::support::Fixture;

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_written_is_refused_and_the_message_says_how_to_mend_it() {
    let fixture = Fixture::bare("target-rows", HOUR).await;
    let base = with(user(), "target", json!({"template": {"data": {}}}));
    let long = format!(r#"{{"k": "{}"}}"#, "x".repeat(65_537));
    let many = serde_json::to_string(
        &(0..65)
            .map(|n| (format!("k{n}"), ""))
            .collect::<std::collections::BTreeMap<_, _>>(),
    )
    .unwrap();
    refuses(
        &fixture,
        CREDENTIAL,
        &base,
        &format!(
            r#"
        target.type | "kubernetes.io/tls" | Unsupported value: "kubernetes.io/tls"
        target.type | "kubernetes.io/service-account-token" | supported values: "Opaque", "kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson"
        target.templateMode | "Append" | Unsupported value: "Append"
        target.deletionPolicy | "Orphan" | Unsupported value: "Orphan"
        target.template.data | {{"a b": "x"}} | target.template | the keys of spec.target.template.data must be keys of a Secret: at most 253 letters, digits, '-', '_' and '.'
        target.template.data | {{"ä": "x"}} | target.template | the keys of spec.target.template.data must be keys of a Secret
        target.template.data | {{"..": "x"}} | target.template | the keys of spec.target.template.data must be keys of a Secret
        target.template.data | {{"": "x"}} | target.template | the keys of spec.target.template.data must be keys of a Secret
        target.template.data | {{"token_generation": "1"}} | target.template | token_generation and expires_at are always written by tokenward: use other keys in spec.target.template.data
        target.template.data | {{"expires_at": "1"}} | target.template | token_generation and expires_at are always written by tokenward
        target.template.data | {{"a": 1}} | target.template.data.a | must be of type string
        target.template.data | {long} | target.template.data.k | may not be more than 65536
        target.template.data | {many} | target.template.data | must have at most 64 items
        target.template.metadata | {{"labels": {{"a": "b c"}}}} | target.template.metadata.labels.a | should match
        "#
        ),
    )
    .await;
    for (type_, says) in [
        (
            "basic-auth",
            "needs the keys username and password: with kind userPassword they are there unless a template replaces them; otherwise write both in spec.target.template.data",
        ),
        (
            "dockerconfigjson",
            "needs the key .dockerconfigjson in spec.target.template.data",
        ),
    ] {
        let type_ = format!("kubernetes.io/{type_}");
        let spec = with(base.clone(), "target.type", json!(type_));
        let message = verdict(&fixture, CREDENTIAL, "x", spec).await.unwrap();
        assert!(
            message.contains(&format!("spec.target.type {type_} {says}")),
            "{message}"
        );
    }
    takes(
        &fixture,
        CREDENTIAL,
        &with(machine(), "target", json!({"template": {"data": {}}})),
        r#"
        target.type | "Opaque"
        target.templateMode | "Merge"
        target.deletionPolicy | "Retain"
        target.template.data | {".netrc": "x", "A-b_c.1": "{{ access_token }}", "ca.crt": "ä"}
        target.template.metadata | {"labels": {"a": "", "app.kubernetes.io/name": "left-out"}, "annotations": {"b": "c d"}}
        target | {"type": "kubernetes.io/basic-auth", "template": {"data": {"username": "u", "password": "p"}}}
        target | {"type": "kubernetes.io/dockerconfigjson", "template": {"data": {".dockerconfigjson": "{}"}}}
        "#,
    )
    .await;
}
