//! The steps of a refresh as spans of a trace. Their fields are on the lines of the log, too; what they came to is on
//! the spans alone.

use opentelemetry::trace::Status;
use tracing::{Instrument, Span, debug_span, error_span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::{api::IntegrationCredential, failure::Reason, plan::Decision};

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub enum Came {
    /// It is done. The generation that stands after it, where it has to do with one.
    Success(Option<u64>),
    /// It came to nothing, for this reason in a word, and is no failure.
    Nothing(&'static str),
    /// It failed.
    Failure(Reason),
}

/// One look at a credential, with the work that comes of it. Enabled at every level of the log, so that each line about
/// a credential names it.
#[must_use]
pub fn reconcile(credential: &IntegrationCredential) -> Span {
    error_span!(
        "reconcile",
        credential = credential.full_name(),
        provider = credential.provider_name(),
        attempt = Empty,
    )
}

/// One look at the provider object of this name.
#[must_use]
pub fn inspect(provider: &str) -> Span {
    error_span!("inspect", provider)
}

/// The wait for holders behind a closed gate.
#[must_use]
pub fn lock_wait(credential: &IntegrationCredential, attempt: &str) -> Step {
    Step(debug_span!(
        "lock_wait",
        credential = credential.full_name(),
        provider = credential.provider_name(),
        attempt,
    ))
}

/// The exchange with the token endpoint, with its repetitions.
#[must_use]
pub fn exchange(credential: &IntegrationCredential, attempt: &str) -> Step {
    Step(debug_span!(
        "exchange",
        credential = credential.full_name(),
        provider = credential.provider_name(),
        attempt,
    ))
}

/// The write of what must not be lost: into the grant, or into the target, where that is the store.
#[must_use]
pub fn persist(credential: &IntegrationCredential, attempt: &str) -> Step {
    Step(debug_span!(
        "persist",
        credential = credential.full_name(),
        provider = credential.provider_name(),
        attempt,
    ))
}

/// A part of the work that has a span of its own.
pub struct Step(Span);

impl Step {
    /// Does `work` as this step; `came` says what it came to.
    pub async fn run<T>(self, work: impl Future<Output = T>, came: impl FnOnce(&T) -> Came) -> T {
        let output = work.instrument(self.0.clone()).await;
        came_to(&self.0, came(&output));
        output
    }
}

/// Says what was decided for the credential of the current span.
pub fn decided(decision: Decision) {
    Span::current().set_attribute("decision", decision.word());
}

/// Says what a span came to. Nothing happens where no traces are sent.
pub fn came_to(span: &Span, came: Came) {
    match came {
        Came::Success(generation) => {
            span.set_attribute("outcome", "success");
            if let Some(generation) = generation {
                // They count from 1.
                span.set_attribute("generation", i64::try_from(generation).unwrap_or(i64::MAX));
            }
        }
        Came::Nothing(why) => span.set_attribute("outcome", why),
        Came::Failure(reason) => {
            failed(span, reason.class().consequence().label, reason.as_str());
        }
    }
}

/// Says of a span that it failed.
pub fn failed(span: &Span, outcome: &'static str, reason: &'static str) {
    span.set_attribute("outcome", outcome);
    span.set_attribute("reason", reason);
    span.set_status(Status::error(reason));
}
