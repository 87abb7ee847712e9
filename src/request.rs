//! Requests to the API server that must not be repeated behind our back: bounded in time, and with
//! every answer sorted into what it means for the one who asked.

use std::time::Duration;

use crate::{failure::Failure, lock::protocol::Answer};

/// How long one request to the API server may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The object does not exist.
    #[error("not found")]
    NotFound,
    /// The object changed since it was read, or exists already.
    #[error("conflict")]
    Conflict,
    /// The server said no, and nothing was done.
    #[error(transparent)]
    Refused(kube::Error),
    /// Nobody knows whether it was done: no answer, or one that does not tell. Read back.
    #[error("no clear answer")]
    Unclear(Option<kube::Error>),
}

impl RequestError {
    /// As a failure of what was being done.
    #[must_use]
    pub fn failure(&self, what: &str) -> Failure {
        use crate::failure::Reason::APIServerError;
        match self {
            Self::Refused(error) | Self::Unclear(Some(error)) => Failure::api_server(what, error),
            Self::NotFound => Failure::new(
                APIServerError,
                format!("the API server found no object when asked to {what}; trying again"),
            ),
            Self::Conflict => Failure::new(
                APIServerError,
                format!(
                    "somebody else kept changing the object when asked to {what}; trying again"
                ),
            ),
            Self::Unclear(None) => Failure::new(
                APIServerError,
                format!(
                    "the API server gave no answer within {}s when asked to {what}; trying again",
                    TIMEOUT.as_secs()
                ),
            ),
        }
    }
}

/// Runs one request within its time limit and sorts its answer.
pub fn bounded<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, RequestError>> {
    bounded_by(TIMEOUT, request)
}

/// Like [`bounded`], with a shorter limit: a lease that is to be renewed cannot wait for long.
pub fn bounded_by<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<T, RequestError>> {
    let limit = limit.min(TIMEOUT);
    // Boxed before anything is awaited: the futures of requests are large, and would make every
    // future around them so.
    let request = Box::pin(request);
    async move {
        match tokio::time::timeout(limit, request).await {
            Err(_) => Err(RequestError::Unclear(None)),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(sort(error)),
        }
    }
}

/// What an answer tells a state machine of the lock.
///
/// # Errors
/// A refusal: it will be the same next time.
pub fn answer<T>(answer: Result<T, RequestError>) -> Result<Answer<T>, RequestError> {
    match answer {
        Ok(value) => Ok(Answer::Done(value)),
        Err(RequestError::NotFound) => Ok(Answer::NotFound),
        Err(RequestError::Conflict) => Ok(Answer::Conflict),
        Err(RequestError::Unclear(_)) => Ok(Answer::Unclear),
        Err(refused @ RequestError::Refused(_)) => Err(refused),
    }
}

/// Like [`bounded`], with a missing object as `None`.
pub fn optional<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> impl Future<Output = Result<Option<T>, RequestError>> {
    let request = bounded(request);
    async {
        match request.await {
            Ok(value) => Ok(Some(value)),
            Err(RequestError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn sort(error: kube::Error) -> RequestError {
    match &error {
        kube::Error::Api(status) => match status.code {
            404 => RequestError::NotFound,
            409 => RequestError::Conflict,
            // Passing: a token of ours that is being renewed, a server that is busy.
            401 | 429 => RequestError::Unclear(Some(error)),
            400..=499 => RequestError::Refused(error),
            // May come from a proxy on the way.
            _ => RequestError::Unclear(Some(error)),
        },
        _ => RequestError::Unclear(Some(error)),
    }
}
