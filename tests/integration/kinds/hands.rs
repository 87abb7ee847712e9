//! The library and the command line with what is copied.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokenward::manager::{CredentialManager, Error, NewCredential, NewKind, Seed};

use super::{HOUR, data};
use crate::support::{Fixture, TOKENWARD, call, eventually};

fn headers() -> BTreeMap<String, SecretString> {
    let header = |name: &str, value: &str| (name.to_owned(), value.into());
    [header("X-Org", "7"), header("Authorization", "Bearer it's")].into()
}

/// One of each kind that is copied.
fn all() -> [NewCredential; 3] {
    let new = |name: &str, kind| NewCredential {
        name: name.to_owned(),
        user: Some("alice".to_owned()),
        title: None,
        kind,
    };
    let until = "2099-01-01T00:00:00Z".parse().ok();
    [
        new(
            "key",
            NewKind::ApiKey {
                key: "k-1".into(),
                expires_at: until,
            },
        ),
        new(
            "login",
            NewKind::UserPassword {
                username: "alice".to_owned(),
                password: "p w".into(),
                expires_at: None,
            },
        ),
        new(
            "scoped",
            NewKind::HostScoped {
                host: "api.example.com".to_owned(),
                headers: headers(),
                expires_at: None,
            },
        ),
    ]
}

fn manager(fixture: &Fixture) -> CredentialManager {
    CredentialManager::new(fixture.client.clone(), fixture.namespace.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_created_used_updated_and_deleted() {
    let fixture = Fixture::bare("kindslibrary", HOUR).await;
    let _operator = fixture.operator();
    let manager = manager(&fixture);
    for new in all() {
        manager.create(&new).await.unwrap();
    }
    let got = async |name: &str| manager.get(name).await.unwrap().expect(name);
    let key = got("key").await;
    assert_eq!(
        key.values().unwrap().api_key().unwrap().expose_secret(),
        "k-1"
    );
    assert!(key.is_valid_for(HOUR, Timestamp::now()) && key.token().is_none());
    let login = got("login").await;
    let (username, password) = login.values().unwrap().user_password().unwrap();
    assert_eq!(
        (username.expose_secret(), password.expose_secret()),
        ("alice", "p w")
    );
    let scoped = got("scoped").await;
    let values = scoped.values().unwrap();
    assert_eq!(values.host().unwrap().expose_secret(), "api.example.com");
    assert_eq!(values.headers().count(), 2);

    let getter = manager.cached_getter("alice").await.unwrap();
    manager
        .update("key", &Seed::ApiKey("k-2".into()))
        .await
        .unwrap();
    assert_eq!(data(&fixture, "key").await["api_key"], "k-2");
    eventually("the next one in the cache", async || {
        let cached = getter.get("key")?;
        (cached.generation() == 2).then_some(())
    })
    .await;
    // The same again is no error, and nothing newer.
    manager
        .update("key", &Seed::ApiKey("k-2".into()))
        .await
        .unwrap();
    assert_eq!(got("key").await.generation(), 2);
    let until = "2098-01-01T00:00:00Z".parse().ok();
    manager
        .update_until("key", &Seed::ApiKey("k-3".into()), until)
        .await
        .unwrap();
    let copy = data(&fixture, "key").await;
    assert_eq!(
        (copy["api_key"].as_str(), copy["expires_at"].as_str()),
        ("k-3", "2098-01-01T00:00:00Z")
    );
    // Headers are replaced as a whole.
    let one: BTreeMap<String, SecretString> = [("X-New".to_owned(), "n".into())].into();
    manager.update("scoped", &Seed::Headers(one)).await.unwrap();
    let copy = data(&fixture, "scoped").await;
    assert!(
        copy.contains_key("X-New") && !copy.contains_key("X-Org"),
        "{:?}",
        copy.keys()
    );
    // What is wrong is told, and what is of another kind not written.
    let bad = manager
        .update("key", &Seed::ApiKey("a\nb".into()))
        .await
        .err();
    let is_told = matches!(&bad, Some(Error::Stalled { reason, .. }) if reason == "SourceInvalid");
    assert!(is_told, "{bad:?}");
    let other = manager
        .update("login", &Seed::ApiKey("x".into()))
        .await
        .err();
    assert!(matches!(&other, Some(Error::Refused(_))), "{other:?}");
    assert_eq!(data(&fixture, "login").await["password"], "p w");

    assert!(manager.delete("key").await.unwrap());
    for secret in ["key", "key-source"] {
        eventually(&format!("no {secret}"), async || {
            fixture.find_secret(secret).await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_prints_what_each_kind_has() {
    let fixture = Fixture::bare("kindsget", HOUR).await;
    let _operator = fixture.operator();
    for new in all() {
        manager(&fixture).create(&new).await.unwrap();
        fixture.ready(&new.name).await;
    }
    let get = async |arguments: &[&str]| {
        let all = [&["get"], arguments].concat();
        fixture.tokenward(&all).end().await
    };
    let lines = "Authorization: Bearer it's\nX-Org: 7\n";
    for (arguments, out) in [
        (&["key"][..], "k-1\n"),
        (&["login"], "p w\n"),
        (&["scoped"], lines),
        (&["scoped", "-o", "header"], lines),
        (
            &["login", "-o", "header"],
            "Authorization: Basic YWxpY2U6cCB3\n",
        ),
        (
            &["key", "-o", "env"],
            "TOKENWARD_API_KEY=k-1\nTOKENWARD_TOKEN_GENERATION=1\nTOKENWARD_EXPIRES_AT=2099-01-01T00:00:00Z\n",
        ),
    ] {
        let printed = get(arguments).await;
        assert_eq!(
            (printed.code, printed.out.as_str()),
            (0, out),
            "{arguments:?} {}",
            printed.err
        );
    }
    let refused = get(&["key", "-o", "header"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    let object = get(&["scoped", "-o", "json"]).await;
    let object: Value = serde_json::from_str(&object.out).unwrap();
    let wanted = json!({"generation": 1, "expires_at": null, "host": "api.example.com",
        "headers": {"Authorization": "Bearer it's", "X-Org": "7"}});
    assert_eq!(object, wanted);
    let object = get(&["login", "-o", "json"]).await;
    let object: Value = serde_json::from_str(&object.out).unwrap();
    let wanted =
        json!({"generation": 1, "expires_at": null, "username": "alice", "password": "p w"});
    assert_eq!(object, wanted);
    let script = r#"eval "$("$0" -n "$2" get scoped -o env)"
        echo "$TOKENWARD_HOST $TOKENWARD_HEADER_X_ORG $TOKENWARD_HEADER_AUTHORIZATION""#;
    let shell = call("sh", &["-c", script, TOKENWARD, "-n", &fixture.namespace]);
    assert_eq!(shell.end().await.out, "api.example.com 7 Bearer it's\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_under_lock_has_what_each_kind_has() {
    let fixture = Fixture::bare("kindslock", HOUR).await;
    let _operator = fixture.operator();
    for new in all() {
        manager(&fixture).create(&new).await.unwrap();
        fixture.ready(&new.name).await;
    }
    let lock = async |arguments: &[&str], script: &str| {
        let all = [&["lock"], arguments, &["--", "sh", "-c", script]].concat();
        let ended = fixture.tokenward(&all).end().await;
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.out
    };
    assert_eq!(lock(&["key"], "echo $TOKENWARD_API_KEY").await, "k-1\n");
    let named = ["key", "--token-env", "STRIPE_KEY"];
    assert_eq!(
        lock(&named, "echo $STRIPE_KEY:$TOKENWARD_API_KEY").await,
        "k-1:\n"
    );
    let both = "echo $TOKENWARD_USERNAME $TOKENWARD_PASSWORD";
    assert_eq!(lock(&["login"], both).await, "alice p w\n");
    let piped = ["login", "--token-fd", "3"];
    let script = "cat <&3; echo ,$TOKENWARD_USERNAME,$TOKENWARD_PASSWORD";
    assert_eq!(lock(&piped, script).await, "p w,alice,\n");
    let scoped = lock(&["scoped"], "echo $TOKENWARD_HOST $TOKENWARD_HEADER_X_ORG").await;
    assert_eq!(scoped, "api.example.com 7\n");
    let piped = lock(
        &["scoped", "--token-fd", "3"],
        "cat <&3; env | grep -c HEADER_; true",
    )
    .await;
    assert_eq!(piped, "Authorization: Bearer it's\nX-Org: 70\n");
}
