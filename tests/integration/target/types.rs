//! Types of Secrets, and Secrets that cannot be written.

use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

use super::{HOUR, change, edit, version};
use crate::support::{Fixture, condition, eventually, reason, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_has_the_type_that_is_asked_for() {
    let fixture = Fixture::new("types", HOUR).await;
    for name in ["basic", "docker"] {
        fixture.seed(name).await;
    }
    let _operator = fixture.operator();
    let data = json!({"username": "oauth2accesstoken", "password": "{{ access_token }}"});
    let target = json!({"type": "kubernetes.io/basic-auth", "template": {"data": data}});
    fixture.user("basic", json!({"target": target})).await;
    let config = r#"{"auths": {"registry.example.com": {"auth": "{{ basicAuth('oauth2', access_token) }}"}}}"#;
    let target = json!({"type": "kubernetes.io/dockerconfigjson", "template": {"data": {".dockerconfigjson": config}}});
    fixture.user("docker", json!({"target": target})).await;

    fixture.ready("basic").await;
    let basic = fixture.find_secret("basic").await.unwrap();
    assert_eq!(basic.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    let grant = fixture.find_secret("basic.grant").await.unwrap();
    assert_eq!(text(&basic, "password"), text(&grant, "access_token"));

    fixture.ready("docker").await;
    let docker = fixture.find_secret("docker").await.unwrap();
    assert_eq!(
        docker.type_.as_deref(),
        Some("kubernetes.io/dockerconfigjson")
    );
    let grant = fixture.find_secret("docker.grant").await.unwrap();
    let pair = format!("oauth2:{}", text(&grant, "access_token"));
    let auth = data_encoding::BASE64.encode(pair.as_bytes());
    let config: serde_json::Value =
        serde_json::from_str(&text(&docker, ".dockerconfigjson")).unwrap();
    assert_eq!(config["auths"]["registry.example.com"]["auth"], auth);

    // What the API server would refuse is told before it is asked.
    change(
        &fixture,
        "docker",
        json!({"template": {"data": {".dockerconfigjson": "{\"auths\": {}"}}}),
    )
    .await;
    let stalled = fixture.stalled("docker", "TemplateInvalid").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("no JSON document from line 1, column 12"),
        "{message}"
    );
    assert_eq!(reason(&stalled), "Valid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_immutable_or_of_another_type_is_made_anew_when_it_is_deleted() {
    let fixture = Fixture::new("immutable", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.ready("alice").await;
    let delete = format!("kubectl -n {} delete secret alice", fixture.namespace);

    edit(&fixture, "alice", json!({"immutable": true})).await;
    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"a": "{{ access_token }}"}}}),
    )
    .await;
    let stalled = fixture.stalled("alice", "TargetConflict").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("is immutable") && message.contains(&delete),
        "{message}"
    );
    fixture.delete_secret("alice").await;
    fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(target.immutable, None);

    // Put back by hand, with its owner, as another type.
    fixture.credentials().get("alice").await.unwrap();
    let mut other = target.clone();
    other.metadata.resource_version = None;
    other.metadata.uid = None;
    other.type_ = Some("example.com/other".to_owned());
    let params = DeleteParams::default();
    fixture.secrets().delete("alice", &params).await.unwrap();
    eventually("the other one", async || {
        let created = fixture
            .secrets()
            .create(&PostParams::default(), &other)
            .await;
        if created.is_err() {
            let _ = fixture.secrets().delete("alice", &params).await;
        }
        created.ok()
    })
    .await;
    change(&fixture, "alice", json!({"template": {"data": {"a": "b"}}})).await;
    let stalled = fixture.stalled("alice", "TargetConflict").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    let why = "is of type example.com/other and not Opaque";
    assert!(
        message.contains(why) && message.contains(&delete),
        "{message}"
    );
    fixture.delete_secret("alice").await;
    fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    assert_eq!(
        (target.type_.as_deref(), text(&target, "a").as_str()),
        (Some("Opaque"), "b")
    );
    assert_eq!(fixture.oauth.request_count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_as_large_as_a_secret_can_be_is_written_and_a_larger_one_is_not_tried() {
    let fixture = Fixture::new("large", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let part = |chars: usize| {
        format!(
            "{{% for n in '1234' %}}{}{{% endfor %}}",
            "é".repeat(chars / 2)
        )
    };
    // Four times 4 * 65,500 bytes are a little less than 1 MiB.
    let data: serde_json::Map<_, _> = (0..4)
        .map(|n| (format!("part-{n}"), json!(part(65_400))))
        .collect();
    fixture
        .user("alice", json!({"target": {"template": {"data": data}}}))
        .await;
    fixture.ready("alice").await;
    let target = fixture.find_secret("alice").await.unwrap();
    let size: usize = target
        .data
        .iter()
        .flatten()
        .map(|(_, value)| value.0.len())
        .sum();
    assert!(size > 1_046_000, "{size}");

    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"part-4": part(2_000)}}}),
    )
    .await;
    let stalled = fixture.stalled("alice", "TemplateInvalid").await;
    let message = condition(&stalled, "Stalled").unwrap().2;
    assert!(
        message.contains("and a Secret can hold 1048576"),
        "{message}"
    );
    let unchanged = fixture.find_secret("alice").await.unwrap();
    assert_eq!(version(&unchanged), version(&target));

    change(
        &fixture,
        "alice",
        json!({"template": {"data": {"part-4": format!("{}{}", part(65_400), part(654))}}}),
    )
    .await;
    fixture
        .until("alice", "too long", |c| {
            let message = condition(c, "Stalled").unwrap_or_default().2;
            message.contains("key \"part-4\"") && message.contains("longer than 256 KiB")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_names_fit() {
    let fixture = Fixture::new("longest", HOUR).await;
    let name = "n".repeat(52);
    let secret = format!("{}.{}", "s".repeat(200), "t".repeat(52));
    let key = "k".repeat(253);
    fixture.seed(&name).await;
    let _operator = fixture.operator();
    let label = format!("{}/{}", ["d"; 127].join("."), "l".repeat(63));
    let template = json!({
        "data": {key.as_str(): "{{ access_token }}"},
        "metadata": {"labels": {label.as_str(): "v".repeat(63)}},
    });
    fixture
        .user(
            &name,
            json!({"target": {"name": secret, "template": template}}),
        )
        .await;
    fixture.ready(&name).await;
    let target = fixture.find_secret(&secret).await.unwrap();
    assert!(!text(&target, &key).is_empty());
    assert_eq!(target.labels()[&label].len(), 63);
}
