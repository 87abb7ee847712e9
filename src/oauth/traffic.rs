//! Who may send a token request, and when: a lane for each client and host.
//!
//! A [`Lane`] keeps the budget that a provider states, the pause and the pace that it asks for by 429, and a
//! circuit breaker for when it does not answer at all. It is a pure machine: what happens comes in with its
//! time, and out comes whether a credential may go now, or when it is to ask again. Those who must wait
//! have a place in a queue, in the order in which their tokens expire, so that they come one by one.
//!
//! [`Lanes`] holds all lanes of a process, and a [`Turn`] is the way of one attempt through its lanes.

mod breaker;
mod lane;
mod lanes;
mod pace;
mod queue;
mod window;

use std::{sync::Arc, time::Duration};

pub use self::{
    lane::Lane,
    lanes::{Lanes, Place, Turn},
    window::Limit,
};
use super::error::{Answer, Spends, classify};
use crate::failure::Reason;

/// A reading of a clock that never jumps, since its arbitrary beginning.
pub type Instant = Duration;

/// The UID of a credential.
pub type Uid = Arc<str>;

/// Who asks for a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The credential.
    pub uid: Uid,
    /// When its token expires; who has none, or one that has expired, says when it asks.
    pub needed_by: Instant,
    /// Whether a person asks: first of all, and now and then in spite of a pause.
    pub by_person: bool,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may send one request. Until that is sent, or given up, the place is kept.
    Go,
    /// Not yet.
    Wait(Wait),
}

/// Until when to wait, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When to ask again: the turn itself, or sooner where it may come sooner than it seems now.
    pub until: Instant,
    /// Why.
    pub why: Why,
}

/// Why somebody has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The provider allows only so many requests.
    Budget,
    /// The provider asked for a pause, and after it comes one at a time.
    RateLimited,
    /// The provider does not answer, and one at a time finds out whether it does again.
    CircuitOpen,
}

/// What a request came to, as far as it concerns others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The provider answered this request, well or ill.
    Answered,
    /// It asked for a pause.
    Limited(Option<Duration>),
    /// It could not be reached, gave no answer in time, or cannot serve anybody.
    Failing,
}

/// What an answer means for others; `None`: nothing.
#[must_use]
pub fn effect(answer: &Answer, spends: Spends) -> Option<Effect> {
    match answer {
        // A certificate that is not trusted, an address that is not allowed, or a request that cannot be made, is for
        // people to mend.
        Answer::NotTrusted | Answer::NotAllowed(_) | Answer::NotMade(_) => None,
        Answer::NoRefreshToken => Some(Effect::Answered),
        Answer::NotSent | Answer::Lost => Some(Effect::Failing),
        Answer::Answered {
            status,
            retry_after,
            ..
        } => {
            let reason = classify(answer, spends);
            // Whether or not a refresh token may be spent by it, others had better wait.
            let pause = *status == 503 && retry_after.is_some();
            Some(if reason == Reason::RateLimited || pause {
                Effect::Limited(*retry_after)
            } else if reason == Reason::ProviderError || matches!(status, 408 | 500..=599) {
                Effect::Failing
            } else {
                Effect::Answered
            })
        }
    }
}

#[cfg(test)]
mod tests;
