//! Against an API server that answers as it is told to.

use std::{
    collections::VecDeque,
    future,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{StatusCode, Uri},
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;

/// Its kind, and a version: of an object `a` that the version is part of, or of a bookmark.
fn line(kind: &str, version: u32) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": format!("a{version}"), "namespace": "ns", "resourceVersion": version.to_string(),
    }});
    match kind {
        "ALL_SENT" => {
            object["metadata"]["annotations"] = json!({ALL_SENT: "true"});
            json!({"type": "BOOKMARK", "object": object})
        }
        "ERROR" => json!({"type": kind, "object": failure(version)}),
        _ => json!({"type": kind, "object": object}),
    }
}

fn failure(code: u32) -> Value {
    json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "No", "code": code})
}

/// A watch that ends after these.
fn watch(lines: &[(&str, u32)]) -> (u16, String) {
    let lines = lines
        .iter()
        .map(|(kind, of)| format!("{}\n", line(kind, *of)));
    (200, lines.collect())
}

fn refusal(code: u16) -> (u16, String) {
    (code, failure(code.into()).to_string())
}

/// The only page of a list at version 4.
fn page(versions: &[u32]) -> Value {
    let one = |version: &u32| line("ADDED", *version)["object"].take();
    let items: Vec<_> = versions.iter().map(one).collect();
    json!({"metadata": {"resourceVersion": "4"}, "items": items})
}

/// The parameters of a request that differ between those that are made here.
fn asked(uri: &Uri) -> String {
    let of_interest = [
        "resourceVersion",
        "sendInitialEvents",
        "resourceVersionMatch",
        "limit",
    ];
    let parameters = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|parameter| {
            let name = parameter.split('=').next();
            name.is_some_and(|name| of_interest.contains(&name))
        });
    parameters.collect::<Vec<_>>().join(" ")
}

/// What is asked of an API server that answers like this, and what comes of it. At the end it is asked in vain.
async fn course(answers: &[(u16, String)]) -> (Vec<String>, Vec<String>) {
    let requests = Arc::<Mutex<Vec<String>>>::default();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let (seen, (end, mut ended)) = (Arc::clone(&requests), mpsc::channel(1));
    let server = Router::new().fallback(move |uri: Uri| {
        let answer = answers.lock().unwrap().pop_front();
        let end = end.clone();
        seen.lock().unwrap().push(asked(&uri));
        async move {
            let Some((status, body)) = answer else {
                end.send(()).await.unwrap();
                return future::pending().await;
            };
            (StatusCode::from_u16(status).unwrap(), body)
        }
    });
    let api = Api::<ConfigMap>::namespaced(Client::new(server, "ns"), "ns");
    let came = events(api, Some("x=true".to_owned())).map(|event| match event {
        Ok(event) => event.to_string(),
        Err(error) => {
            let text = error.to_string();
            text.split(':').next().unwrap_or_default().to_owned()
        }
    });
    let came = came.take_until(ended.recv()).collect::<Vec<_>>().await;
    (requests.lock().unwrap().clone(), came)
}

const ALL: &str = "sendInitialEvents=true resourceVersionMatch=NotOlderThan resourceVersion=";

#[tokio::test]
async fn what_is_there_comes_then_what_changes() {
    let answers = [
        watch(&[("ADDED", 1), ("ADDED", 2), ("ALL_SENT", 3), ("ADDED", 4)]),
        watch(&[("MODIFIED", 5), ("DELETED", 6)]),
        watch(&[("BOOKMARK", 7), ("BOOKMARK", 8)]),
        refusal(500),
        watch(&[("MODIFIED", 9), ("ERROR", 500), ("MODIFIED", 10)]),
    ];
    let (asked, came) = course(&answers).await;
    let since = [4, 6, 8, 8, 9].map(|version| format!("resourceVersion={version}"));
    assert_eq!(asked[0], ALL);
    assert_eq!(asked[1..], since);
    assert_eq!(
        came,
        [
            "Init",
            "InitApply(a1)",
            "InitApply(a2)",
            "InitDone",
            "Apply(a4)",
            "Apply(a5)",
            "Delete(a6)",
            "failed to start watching object",
            "Apply(a9)",
            "error returned by apiserver during watch",
        ]
    );
}

#[tokio::test]
async fn what_did_not_come_as_a_whole_begins_anew() {
    for incomplete in [
        watch(&[("ADDED", 1)]),
        watch(&[("ADDED", 1), ("BOOKMARK", 2)]),
        watch(&[("ADDED", 1), ("DELETED", 1), ("ALL_SENT", 2)]),
        watch(&[("ADDED", 1), ("ERROR", 500), ("ALL_SENT", 2)]),
    ] {
        let (asked, came) = course(&[incomplete, watch(&[("ALL_SENT", 3)])]).await;
        assert_eq!(asked, [ALL, ALL, "resourceVersion=3"]);
        assert_eq!(came[..2], ["Init", "InitApply(a1)"]);
        // An error, after which one waits a little.
        assert_eq!(came[2], "error returned by apiserver during watch");
        assert_eq!(came[3..], ["Init", "InitDone"]);
    }
}

#[tokio::test]
async fn what_never_comes_as_a_whole_is_read_in_pages() {
    let unreadable = (200, "{\"type\": \"ADDED\", \"object\": 7}\n".to_owned());
    for (failure, is_begun) in [
        (watch(&[]), true),
        // As without what it needs of etcd.
        (watch(&[("ERROR", 500)]), true),
        (unreadable, true),
        (refusal(504), false),
    ] {
        let page = (200, page(&[]).to_string());
        let (asked, came) = course(&[failure.clone(), failure, page]).await;
        assert_eq!(asked, [ALL, ALL, "limit=500", "resourceVersion=4"]);
        let came: Vec<_> = came.iter().map(|event| event.starts_with("Init")).collect();
        let each = if is_begun {
            vec![true, false]
        } else {
            vec![false]
        };
        assert_eq!(came, [each.repeat(2), vec![true, true]].concat());
    }
}

#[tokio::test]
async fn a_refusal_that_pages_would_meet_too_is_waited_out() {
    for refused in [refusal(401), refusal(403), refusal(429)] {
        let three = vec![refused; 3];
        let (asked, came) = course(&[three, vec![watch(&[("ALL_SENT", 3)])]].concat()).await;
        assert_eq!(asked, [ALL, ALL, ALL, ALL, "resourceVersion=3"]);
        assert_eq!(came[3..], ["Init", "InitDone"]);
    }
}

#[tokio::test]
async fn a_watch_that_brings_nothing_is_not_begun_again_without_a_pause() {
    let answers = [watch(&[("ALL_SENT", 3)]), watch(&[]), watch(&[])];
    let (asked, came) = course(&answers).await;
    assert_eq!(asked[1..], ["resourceVersion=3"; 3]);
    // After an error one waits a little.
    assert_eq!(came[2..], ["error returned by apiserver during watch"; 2]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_come_is_not_waited_for_without_end() {
    let server = Router::new().fallback(future::pending::<String>);
    let api = Api::<ConfigMap>::namespaced(Client::new(server, "ns"), "ns");
    let came = events(api, None).take(1).collect::<Vec<_>>().await;
    assert!(
        matches!(came[..], [Err(Error::WatchStartFailed(_))]),
        "{came:?}"
    );
}

#[tokio::test]
async fn what_is_too_long_ago_to_be_told_begins_anew() {
    for expired in [watch(&[("ERROR", 410)]), refusal(410)] {
        let first = watch(&[("ALL_SENT", 3)]);
        let (asked, came) = course(&[first, expired, watch(&[("ALL_SENT", 9)])]).await;
        assert_eq!(asked, [ALL, "resourceVersion=3", ALL, "resourceVersion=9"]);
        assert_eq!(came.len(), 5, "{came:?}");
        assert_eq!(came[3..], ["Init", "InitDone"]);
    }
}

#[tokio::test]
async fn an_api_server_that_does_not_send_what_is_there_is_asked_for_pages() {
    let page = page(&[1]);
    let answers = [
        refusal(422),
        (200, page.to_string()),
        watch(&[("ADDED", 5), ("ERROR", 410)]),
        (200, page.to_string()),
    ];
    let (asked, came) = course(&answers).await;
    assert_eq!(
        asked,
        [
            ALL,
            "limit=500",
            "resourceVersion=4",
            "limit=500",
            "resourceVersion=4"
        ]
    );
    assert_eq!(
        came[..4],
        ["Init", "InitApply(a1)", "InitDone", "Apply(a5)"]
    );
    assert_eq!(came[5..], ["Init", "InitApply(a1)", "InitDone"]);
}
