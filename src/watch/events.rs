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
use tokio::time::{Instant, timeout};

/// How long an API server may take to begin an answer: where nothing comes, the connection is dead.
const BEGINS: Duration = Duration::from_secs(60);

/// When a watch is silent: an API server ends it after 290 s, as kube asks it to, and says so unless the connection is dead.
const SILENT: Duration = Duration::from_secs(295);

/// A watch that brought nothing for so short a time is no watch: who asks again at once would do nothing else.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// How often what is there may fail to come as a whole before pages are asked for. One without what this needs of its etcd
/// says so in an error, one that is busy may end what takes long.
const TRIES: u32 = 2;

/// What marks the bookmark after all that were there.
const ALL_SENT: &str = "k8s.io/initial-events-end";

type Raw<K> = BoxStream<'static, kube::Result<WatchEvent<K>>>;

/// How far a watch has come.
enum State<K> {
    /// Nothing is known, or not any more. So often it has failed to come since.
    Begin(u32),
    /// What is there comes.
    Filling(u32, Raw<K>),
    /// All is known up to this `resourceVersion`.
    Known(String),
    /// And what changes after it comes.
    Watching(Course<K>),
    /// The API server sends no lists this way, and is asked for pages.
    InPages(BoxStream<'static, Result<Event<K>, Error>>),
}

/// A watch under way.
struct Course<K> {
    /// All is known up to this `resourceVersion`.
    version: String,
    stream: Raw<K>,
    begun: Instant,
    /// Whether anything has come.
    is_alive: bool,
}

impl<K> Course<K> {
    fn begin(version: String, stream: Raw<K>) -> Self {
        Self {
            version,
            stream,
            begun: Instant::now(),
            is_alive: false,
        }
    }

    /// What came says that all is known up to this version.
    fn at(self, version: Option<String>) -> Self {
        Self {
            version: version.unwrap_or(self.version),
            is_alive: true,
            ..self
        }
    }
}

/// What came of a step, if anything, and the next state.
type Step<K> = (Option<Result<Event<K>, Error>>, State<K>);

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
    let begun = (api, of_interest, State::Begin(0));
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

async fn step<K>(api: &Api<K>, of_interest: &WatchParams, state: State<K>) -> Step<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    match state {
        State::Begin(TRIES..) => (None, State::InPages(in_pages(api, of_interest))),
        State::Begin(failures) => {
            let params = of_interest.clone().initial_events();
            // No version: the one that is newest when this is asked.
            match begin(api, &params, "").await {
                Ok(stream) => (Some(Ok(Event::Init)), State::Filling(failures, stream)),
                Err(error) => unbegun(error, failures),
            }
        }
        State::Filling(failures, mut stream) => match next(&mut stream).await {
            Some(event) => filling(event, failures, stream),
            None => again(incomplete("it ended early"), failures),
        },
        State::Known(version) => match begin(api, of_interest, &version).await {
            Ok(stream) => (None, State::Watching(Course::begin(version, stream))),
            Err(error) => {
                let next = match code(&error) {
                    Some(410) => State::Begin(0),
                    _ => State::Known(version),
                };
                (Some(Err(Error::WatchStartFailed(error))), next)
            }
        },
        State::Watching(mut course) => match next(&mut course.stream).await {
            Some(event) => watching(event, course),
            None if !course.is_alive && course.begun.elapsed() < TOO_SHORT => {
                let error = failure("the watch ended at once");
                (Some(Err(error)), State::Known(course.version))
            }
            None => (None, State::Known(course.version)),
        },
        State::InPages(mut stream) => (stream.next().await, State::InPages(stream)),
    }
}

/// The state after what is there was refused.
fn unbegun<K>(error: kube::Error, failures: u32) -> Step<K> {
    match code(&error) {
        // What an API server answers that knows no streaming lists, or must not do them.
        Some(422) => (None, State::Begin(TRIES)),
        // It is not there, or would say the same of a list.
        None | Some(401 | 403 | 429) => (
            Some(Err(Error::WatchStartFailed(error))),
            State::Begin(failures),
        ),
        Some(_) => again(Error::WatchStartFailed(error), failures),
    }
}

/// The state after something came before all that are there had come.
fn filling<K>(event: kube::Result<WatchEvent<K>>, failures: u32, stream: Raw<K>) -> Step<K> {
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (
            Some(Ok(Event::InitApply(object))),
            State::Filling(failures, stream),
        ),
        // What has come cannot be taken back.
        Ok(WatchEvent::Deleted(_)) => {
            again(incomplete("an object was deleted meanwhile"), failures)
        }
        Ok(WatchEvent::Bookmark(mark)) if mark.metadata.annotations.contains_key(ALL_SENT) => {
            let course = Course::begin(mark.metadata.resource_version, stream).at(None);
            (Some(Ok(Event::InitDone)), State::Watching(course))
        }
        Ok(WatchEvent::Bookmark(_)) => (None, State::Filling(failures, stream)),
        Ok(WatchEvent::Error(status)) => again(Error::WatchError(status), failures),
        // One that cannot be read would be missing.
        Err(error) => again(Error::WatchFailed(error), failures),
    }
}

/// The state after something came of what has changed.
fn watching<K: Resource>(event: kube::Result<WatchEvent<K>>, course: Course<K>) -> Step<K> {
    match event {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
            let course = course.at(object.resource_version());
            (Some(Ok(Event::Apply(object))), State::Watching(course))
        }
        Ok(WatchEvent::Deleted(object)) => {
            let course = course.at(object.resource_version());
            (Some(Ok(Event::Delete(object))), State::Watching(course))
        }
        Ok(WatchEvent::Bookmark(mark)) => {
            let course = course.at(Some(mark.metadata.resource_version));
            (None, State::Watching(course))
        }
        Ok(WatchEvent::Error(status)) => {
            let next = match status.code {
                410 => State::Begin(0),
                _ => State::Known(course.version),
            };
            (Some(Err(Error::WatchError(status))), next)
        }
        // The rest of the stream may be readable; if it is not, it ends.
        Err(error) => (
            Some(Err(Error::WatchFailed(error))),
            State::Watching(course),
        ),
    }
}

/// What is there did not come as a whole.
fn again<K>(error: Error, failures: u32) -> Step<K> {
    (Some(Err(error)), State::Begin(failures + 1))
}

fn in_pages<K>(
    api: &Api<K>,
    of_interest: &WatchParams,
) -> BoxStream<'static, Result<Event<K>, Error>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    tracing::info!(path = api.resource_url(), "read in pages");
    let config = watcher::Config {
        label_selector: of_interest.label_selector.clone(),
        ..watcher::Config::default()
    };
    watcher(api.clone(), config).boxed()
}

async fn begin<K>(api: &Api<K>, params: &WatchParams, version: &str) -> kube::Result<Raw<K>>
where
    K: Clone + Debug + DeserializeOwned + Send + 'static,
{
    match timeout(BEGINS, api.watch(params, version)).await {
        Ok(begun) => begun.map(StreamExt::boxed),
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

async fn next<T>(stream: &mut BoxStream<'static, T>) -> Option<T> {
    timeout(SILENT, stream.next()).await.ok().flatten()
}

/// The HTTP status of an API server's refusal.
fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn incomplete(why: &str) -> Error {
    failure(&format!("the objects came in part: {why}"))
}

fn failure(what: &str) -> Error {
    Error::WatchError(Status::failure(what, "Incomplete").boxed())
}

#[cfg(test)]
mod tests;
