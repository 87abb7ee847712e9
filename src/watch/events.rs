//! The changes of objects, after all that are there: [streaming
//! lists](https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists).
//!
//! Not those of kube 5.0, which begin at any version that an API server has (`resourceVersion=0`): after another
//! operator was the leader, that may be from before what it wrote last. These begin no earlier than they are asked for.

use std::{fmt::Debug, time::Duration};

use futures::{Stream, StreamExt, stream, stream::BoxStream};
use kube::{
    Api, Resource, ResourceExt,
    api::WatchParams,
    core::{Status, WatchEvent},
    runtime::watcher::{self, Error, Event, watcher},
};
use serde::de::DeserializeOwned;

/// When a watch is silent: an API server ends it after 290 s, as kube asks it to, and says so unless the connection is dead.
const SILENT: Duration = Duration::from_secs(295);

/// What marks the bookmark after all that were there.
const ALL_SENT: &str = "k8s.io/initial-events-end";

type Raw<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// How far a watch has come.
enum State<K> {
    /// Nothing is known, or not any more.
    Begin,
    /// What is there comes.
    Filling(Raw<K>),
    /// All is known up to this `resourceVersion`.
    Known(String),
    /// And what changes after it comes.
    Watching(String, Raw<K>),
    /// The API server sends no lists this way, and is asked for pages.
    InPages(BoxStream<'static, Result<Event<K>, Error>>),
}

/// All objects that a label selector takes in, between [`Event::Init`] and [`Event::InitDone`], then their changes in
/// the order in which they were made, without end. After each error it goes on when it is polled again.
pub(super) fn events<K>(
    api: Api<K>,
    labels: Option<String>,
) -> impl Stream<Item = Result<Event<K>, Error>> + Send + 'static
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let of_interest = WatchParams {
        label_selector: labels,
        ..WatchParams::default()
    };
    let begun = (api, of_interest, State::Begin);
    stream::unfold(begun, async |(api, of_interest, mut state)| {
        loop {
            let (event, next) = step(&api, &of_interest, state).await;
            state = next;
            if let Some(event) = event {
                return Some((event, (api, of_interest, state)));
            }
        }
    })
}

async fn step<K>(
    api: &Api<K>,
    of_interest: &WatchParams,
    state: State<K>,
) -> (Option<Result<Event<K>, Error>>, State<K>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    match state {
        State::Begin => {
            let params = of_interest.clone().initial_events();
            // No version: the one that is newest when this is asked.
            match api.watch(&params, "").await {
                Ok(stream) => (Some(Ok(Event::Init)), State::Filling(stream.boxed())),
                Err(kube::Error::Api(refused)) if refused.code == 422 => {
                    tracing::debug!(%refused, "lists are read in pages");
                    (None, State::InPages(in_pages(api, of_interest)))
                }
                Err(error) => (Some(Err(Error::WatchStartFailed(error))), State::Begin),
            }
        }
        State::Filling(mut stream) => match next(&mut stream).await {
            Some(event) => filling(event, stream),
            None => (Some(Err(incomplete("it ended early"))), State::Begin),
        },
        State::Known(version) => match api.watch(of_interest, &version).await {
            Ok(stream) => (None, State::Watching(version, stream.boxed())),
            Err(error) if is_expired(&error) => {
                (Some(Err(Error::WatchStartFailed(error))), State::Begin)
            }
            Err(error) => (
                Some(Err(Error::WatchStartFailed(error))),
                State::Known(version),
            ),
        },
        State::Watching(version, mut stream) => match next(&mut stream).await {
            Some(event) => watching(event, version, stream),
            None => (None, State::Known(version)),
        },
        State::InPages(mut stream) => (stream.next().await, State::InPages(stream)),
    }
}

/// The state after something came before all that are there had come.
fn filling<K>(
    event: kube::Result<WatchEvent<K>>,
    stream: Raw<K>,
) -> (Option<Result<Event<K>, Error>>, State<K>) {
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            (Some(Ok(Event::InitApply(object))), State::Filling(stream))
        }
        // What has come cannot be taken back.
        Ok(WatchEvent::Deleted(_)) => {
            let error = incomplete("an object was deleted while they came");
            (Some(Err(error)), State::Begin)
        }
        Ok(WatchEvent::Bookmark(mark)) if mark.metadata.annotations.contains_key(ALL_SENT) => {
            let version = mark.metadata.resource_version;
            (Some(Ok(Event::InitDone)), State::Watching(version, stream))
        }
        Ok(WatchEvent::Bookmark(_)) => (None, State::Filling(stream)),
        Ok(WatchEvent::Error(status)) => (Some(Err(Error::WatchError(status))), State::Begin),
        // The rest may be readable; if it is not, it ends early.
        Err(error) => (Some(Err(Error::WatchFailed(error))), State::Filling(stream)),
    }
}

/// The state after something came of what has changed since `version`.
fn watching<K: Resource>(
    event: kube::Result<WatchEvent<K>>,
    version: String,
    stream: Raw<K>,
) -> (Option<Result<Event<K>, Error>>, State<K>) {
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            let version = object.resource_version().unwrap_or(version);
            (
                Some(Ok(Event::Apply(object))),
                State::Watching(version, stream),
            )
        }
        Ok(WatchEvent::Deleted(object)) => {
            let version = object.resource_version().unwrap_or(version);
            (
                Some(Ok(Event::Delete(object))),
                State::Watching(version, stream),
            )
        }
        Ok(WatchEvent::Bookmark(mark)) => (
            None,
            State::Watching(mark.metadata.resource_version, stream),
        ),
        Ok(WatchEvent::Error(status)) => {
            let next = match status.code {
                410 => State::Begin,
                _ => State::Known(version),
            };
            (Some(Err(Error::WatchError(status))), next)
        }
        // The rest of the stream may be readable; if it is not, it ends.
        Err(error) => (
            Some(Err(Error::WatchFailed(error))),
            State::Watching(version, stream),
        ),
    }
}

fn in_pages<K>(
    api: &Api<K>,
    of_interest: &WatchParams,
) -> BoxStream<'static, Result<Event<K>, Error>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config {
        label_selector: of_interest.label_selector.clone(),
        ..watcher::Config::default()
    };
    watcher(api.clone(), config).boxed()
}

async fn next<T>(stream: &mut BoxStream<'static, T>) -> Option<T> {
    tokio::time::timeout(SILENT, stream.next())
        .await
        .ok()
        .flatten()
}

fn is_expired(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

fn incomplete(why: &str) -> Error {
    let status = Status::failure(&format!("the objects came in part: {why}"), "Incomplete");
    Error::WatchError(status.boxed())
}

#[cfg(test)]
mod tests {
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
        let one = line("ADDED", 1)["object"].take();
        let page = json!({"metadata": {"resourceVersion": "4"}, "items": [one]});
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
}
