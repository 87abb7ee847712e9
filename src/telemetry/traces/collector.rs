//! The HTTP client for the collector: the library's own would be a second one, with settings of its own.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::{Client, redirect};
use tokio::runtime::Handle;

use crate::clock::Moment;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);

/// How often it is said that the collector takes nothing.
const SAID_EVERY: Duration = Duration::from_secs(300);

/// Of an answer, at most this many bytes are of interest.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Sends requests to the collector.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    /// The thread that sends spans has no reactor.
    runtime: Handle,
    /// When it was said last that it takes nothing, where it does not take anything now.
    said: Mutex<Option<Moment>>,
}

impl Collector {
    /// Sends by the runtime that this is called in.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .user_agent(concat!("tokenward/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self {
            client,
            runtime: Handle::current(),
            said: Mutex::default(),
        })
    }

    /// Says once in a while that the collector takes nothing, and that it does again.
    fn note(&self, trouble: Option<String>) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match (trouble, *said) {
            (None, None) => {}
            (None, Some(_)) => {
                *said = None;
                tracing::info!("the collector takes traces again");
            }
            (Some(_), Some(at)) if Moment::now().elapsed(at) < SAID_EVERY => {}
            (Some(error), _) => {
                *said = Some(Moment::now());
                tracing::warn!(
                    error,
                    "the collector does not take traces; spans are lost, and nothing else"
                );
            }
        }
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let sent = self.runtime.spawn(send(self.client.clone(), request));
        let answer = sent.await?;
        self.note(match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status().as_u16())),
            Err(error) => Some(why(error).to_owned()),
        });
        Ok(answer?)
    }
}

async fn send(
    client: Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, reqwest::Error> {
    let mut received = client.execute(request).await?;
    let mut body = Vec::new();
    while let Some(chunk) = received.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(Bytes::from(body));
    *answer.status_mut() = received.status();
    *answer.headers_mut() = std::mem::take(received.headers_mut());
    Ok(answer)
}

/// Without its URL, which says nothing new.
fn why(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    }
}
