//! `tokenward status`.

use serde_json::{Value, json};

use super::HOUR;
use crate::{
    oauth_server::Fault,
    support::{Fixture, condition, eventually, text},
};

/// A text with every time, duration, and name of this run taken out.
fn normalized(fixture: &Fixture, text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.replace(&fixture.namespace, "NAMESPACE").lines() {
        let mut words: Vec<String> = Vec::new();
        for word in line.split(' ') {
            let bare = word.trim_matches(|c: char| "(),;".contains(c));
            if bare.parse::<jiff::Timestamp>().is_ok() {
                words.push(word.replace(bare, "TIME"));
            } else if let (true, Some(number)) = (
                ["s", "min", "h", "d"].contains(&bare),
                words.last().filter(|w| w.parse::<u64>().is_ok()),
            ) {
                let _ = number;
                words.pop();
                if words.last().is_some_and(|w| w == "SPAN") {
                    words.pop();
                }
                words.push(word.replace(bare, "SPAN"));
            } else if word.starts_with("(http://127.0.0.1") {
                words.push("(URL)".to_owned());
            } else {
                words.push(word.to_owned());
            }
        }
        lines.push(words.join(" "));
    }
    lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_screen_says_how_a_credential_is_and_that_nothing_is_to_be_done() {
    let fixture = Fixture::new("status", HOUR).await;
    fixture.seed("alice").await;
    let _operator = fixture.operator();
    let spec = json!({"user": "alice@example.com", "title": "Alice’s calendar", "target": {"name": "mounted"}});
    fixture.user("alice", spec).await;
    fixture.ready("alice").await;
    fixture.told(2).await;
    let lock = fixture.tokenward(&[
        "lock",
        "alice",
        "--",
        "sh",
        "-c",
        "echo held; exec sleep 60",
    ]);
    let lock = lock.start();
    lock.shown("held").await;

    let shown = fixture.tokenward(&["status", "alice"]).end().await;
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    let holder = shown
        .out
        .lines()
        .find(|l| l.starts_with("Holders"))
        .unwrap();
    let holder = holder.split_whitespace().nth(1).unwrap();
    let text = normalized(&fixture, &shown.out.replace(holder, "HOLDER"));
    // Two events of one moment come in either order.
    let wanted = "NAMESPACE/alice: Valid
  the token is valid

Kind            OAuth token, grant RefreshToken
Title           Alice’s calendar
User            alice@example.com
Provider        OAuthProvider provider (URL)
Token           generation 1, expires in SPAN (TIME), obtained SPAN ago (TIME)
Scopes          read
Refresh         due in SPAN (TIME)
Target          Secret mounted: access_token, authorization, expires_at, scope, token_generation, token_type
Mounting        unsafe: at a refresh the old token may end before the file is new; use tokenward lock
Gate            open
Holders         HOLDER since SPAN
Wants           none

Conditions
  Ready     True    Valid   since SPAN
  Stalled   False   Valid   since SPAN

Events
";
    let wanted = wanted.replace("            ", "     ");
    let squeezed = |text: &str| {
        let lines = text.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.join(" ")
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let (head, rest) = text.split_at(text.find("Events\n").unwrap());
    assert_eq!(
        squeezed(head),
        squeezed(wanted.trim_end_matches("Events\n"))
    );
    for line in [
        "SPAN ago  Authorized (Normal)",
        "SPAN ago  Refreshed (Normal)",
        "a token was obtained; it has generation 1",
        "Next step\n  nothing to do",
    ] {
        assert!(rest.contains(line), "{line} in {rest}");
    }
    // Columns stand below each other.
    let facts: Vec<_> = shown.out.lines().skip(3).take(11).collect();
    let column = facts[0].find("OAuth token").unwrap();
    assert!(
        facts
            .iter()
            .all(|l| !l[..column].ends_with(|c: char| c != ' ')),
        "{facts:?}"
    );
    assert!(
        !shown
            .out
            .contains(&text_of(&fixture, "mounted", "access_token").await)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_shown_by_its_source_and_without_its_value() {
    let fixture = Fixture::bare("statuskinds", HOUR).await;
    let _operator = fixture.operator();
    fixture
        .secret(
            "in",
            &[
                ("k", "v4lue-of-it"),
                ("username", "ann"),
                ("password", "v4lue-too"),
            ],
        )
        .await;
    let key = json!({"apiKey": {"secretKeyRef": {"name": "in", "key": "k"}}});
    let user = json!({"userPassword": {"secretRef": {"name": "in"}}});
    for (name, spec, kind) in [
        ("key", key, "API key"),
        ("user", user, "user name and password"),
    ] {
        fixture.create(name, spec).await;
        fixture.ready(name).await;
        let shown = fixture.tokenward(&["status", name]).end().await;
        assert_eq!((shown.code, shown.err.as_str()), (0, ""));
        for part in [": Valid", kind, "Secret in", "Gate", "nothing to do"] {
            assert!(shown.out.contains(part), "{part}: {}", shown.out);
        }
        assert!(!shown.out.contains("v4lue"), "{}", shown.out);
    }
}

async fn text_of(fixture: &Fixture, secret: &str, key: &str) -> String {
    text(&fixture.find_secret(secret).await.unwrap(), key)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_done_is_the_last_thing_and_its_command_stands_alone() {
    let fixture = Fixture::new("status-next", HOUR).await;
    let operator = fixture.operator();
    fixture.user("alice", json!({})).await;
    fixture.stalled("alice", "SeedNotFound").await;
    let shown = fixture.tokenward(&["status", "alice"]).end().await;
    assert_eq!(shown.code, 1);
    let named = format!(
        "tokenward: {}/alice is not ready (Pending)",
        fixture.namespace
    );
    assert_eq!(shown.complaint(), named);
    let kubectl = format!("    kubectl -n {}", fixture.namespace);
    let next = shown.out.split_once("Next step").unwrap().1;
    let commands: Vec<_> = next.lines().filter(|l| l.starts_with(&kubectl)).collect();
    let wanted = [
        format!("{kubectl} create secret generic alice-seed --from-literal=refresh_token=…"),
        format!("{kubectl} label secret alice-seed tokenward.dev/watch=true"),
    ];
    assert_eq!(commands, wanted);
    assert_eq!(next.lines().last(), Some(wanted[1].as_str()));
    assert!(
        shown.out.contains("Secret alice, which does not exist"),
        "{}",
        shown.out
    );

    fixture.oauth.fail_always(Fault::json(503, &json!({})));
    fixture.machine("ci", json!({})).await;
    fixture
        .until("ci", "an attempt", |c| {
            condition(c, "Reconciling").is_some_and(|c| c.1 == "ProviderError")
        })
        .await;
    let shown = fixture.tokenward(&["status", "ci"]).end().await;
    let last = shown.out.lines().last().unwrap();
    assert!(last.starts_with("  wait: it is "), "{last}");

    drop(operator);
    fixture.machine("unseen", json!({"suspend": true})).await;
    let shown = fixture.tokenward(&["status", "unseen"]).end().await;
    assert!(
        shown
            .out
            .contains("see whether an operator serves namespace"),
        "{}",
        shown.out
    );
    let all = fixture.tokenward(&["status"]).end().await;
    assert_eq!(all.code, 1);
    assert_eq!(all.complaint(), "tokenward: 3 of 3 are not ready");
    let lines: Vec<_> = all.out.lines().collect();
    assert_eq!(lines.len(), 4, "{}", all.out);
    assert!(
        lines[1].starts_with("alice") && lines[1].ends_with("SeedNotFound"),
        "{}",
        all.out
    );
    assert!(
        lines[3].starts_with("unseen") && lines[3].ends_with("suspended"),
        "{}",
        all.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_little_is_shown_that_and_told_what_is_missing() {
    let fixture = Fixture::new("status-rights", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    let reader = json!([{"apiGroups": ["tokenward.dev"], "resources": ["integrationcredentials"], "verbs": ["get"]}]);
    let reader = fixture.account("reader", reader).await;
    reader
        .until_it_may(true, "get", "tokenward.dev", "integrationcredentials")
        .await;
    let by = async |arguments: &[&str]| {
        fixture
            .tokenward(arguments)
            .by(reader.kubeconfig())
            .end()
            .await
    };
    let shown = by(&["status", "ci"]).await;
    assert_eq!(shown.code, 0, "{}", shown.err);
    for line in [
        "OAuthProvider provider (not shown: you may not get oauthproviders)",
        "Secret ci (not shown: you may not get secrets)",
        "not shown: you may not get leases",
        "not shown: you may not list leases",
        "not shown: you may not list events.events.k8s.io",
    ] {
        assert!(shown.out.contains(line), "{line} in {}", shown.out);
    }
    let object = by(&["status", "ci", "-o", "json"]).await;
    let object: Value = serde_json::from_str(&object.out).unwrap();
    assert_eq!(
        object["target"],
        json!({"not_shown": "not shown: you may not get secrets"})
    );
    let all = by(&["status"]).await;
    assert_eq!(all.code, 77, "{}", all.err);
    let missing = by(&["status", "nobody"]).await;
    assert_eq!(missing.code, 66, "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_an_object_and_yaml_says_the_same() {
    let fixture = Fixture::new("status-object", HOUR).await;
    let _operator = fixture.operator();
    fixture.machine("ci", json!({})).await;
    fixture.ready("ci").await;
    fixture.told(1).await;
    super::close_gate_of(&fixture, "ci").await;
    eventually("a closed gate", async || {
        let shown = fixture
            .tokenward(&["status", "ci", "-o", "json"])
            .end()
            .await;
        let object: Value = serde_json::from_str(&shown.out).unwrap();
        assert_eq!(object["ready"], true);
        (object["gate"]["phase"] == "Refreshing").then_some(object)
    })
    .await;
    let json = fixture
        .tokenward(&["status", "ci", "-o", "json"])
        .end()
        .await;
    let object: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&object["name"], &object["kind"], &object["state"]),
        (&json!("ci"), &json!("oauth2"), &json!("Valid"))
    );
    assert_eq!(object["gate"]["holder"], "operator-1");
    assert_eq!(object["target"]["keys"][0], "access_token");
    assert_eq!(object["provider"]["exists"], true);
    assert_eq!(object["events"][0]["reason"], "Refreshed");
    assert_eq!(object["next"], json!(["nothing to do"]));
    let yaml = fixture
        .tokenward(&["status", "ci", "-o", "yaml"])
        .end()
        .await;
    let same: Value = serde_saphyr::from_str(&yaml.out).unwrap();
    assert_eq!(same["status"], object["status"]);
    let list = fixture.tokenward(&["status", "-o", "json"]).end().await;
    let list: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(list[0]["status"], object["status"]);
}
