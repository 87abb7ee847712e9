//! The species of providers, and what happens to an exchange.

use std::time::Duration;

use serde_json::{Value, json};

use crate::oauth_server::{Answer, Behaviour, Fault, OldToken, Reuse};

/// How long an exchange may take.
const EXCHANGE: Duration = Duration::from_secs(10);

/// A kind of provider: what it does, and what is said of it.
#[derive(Debug)]
pub struct Species {
    pub name: &'static str,
    rotation: &'static str,
    reuse: &'static str,
    on_refresh: &'static str,
    /// The old access token lives on after a refresh, whatever is known of it.
    pub survives: bool,
    /// Every so-manyth refresh replaces the refresh token. The second one of an authorization is the one
    /// that something happens to.
    turn: usize,
    grace: Duration,
}

const STRICT: Species = Species {
    name: "",
    rotation: "Always",
    reuse: "RevokesFamily",
    on_refresh: "Survives",
    survives: true,
    turn: 1,
    grace: Duration::ZERO,
};

const DIES: Species = Species {
    on_refresh: "Invalidated",
    survives: false,
    ..STRICT
};

const UNKNOWN: &str = "Unknown";
const REJECTS: &str = "RejectOnly";
const NOW_AND_THEN: &str = "Sometimes";
const GRACE: Duration = Duration::from_secs(120);

#[rustfmt::skip]
pub const SPECIES: [Species; 14] = [
    Species { name: "never", rotation: "Never", ..STRICT },
    Species { name: "always, revokes, survives", ..STRICT },
    Species { name: "always, revokes, invalidated", ..DIES },
    Species { name: "always, revokes, unknown: lives", on_refresh: UNKNOWN, ..STRICT },
    Species { name: "always, revokes, unknown: dies", on_refresh: UNKNOWN, ..DIES },
    Species { name: "always, rejects, survives", reuse: REJECTS, ..STRICT },
    Species { name: "always, rejects, invalidated", reuse: REJECTS, ..DIES },
    Species { name: "always, rejects, unknown: dies", reuse: REJECTS, on_refresh: UNKNOWN, ..DIES },
    Species { name: "always, grace, survives", grace: GRACE, ..STRICT },
    Species { name: "always, grace, invalidated", grace: GRACE, ..DIES },
    Species { name: "sometimes, now, survives", rotation: NOW_AND_THEN, turn: 2, ..STRICT },
    Species { name: "sometimes, now, invalidated", rotation: NOW_AND_THEN, turn: 2, ..DIES },
    Species { name: "sometimes, not now, survives", rotation: NOW_AND_THEN, turn: 3, ..STRICT },
    Species { name: "sometimes, not now, invalidated", rotation: NOW_AND_THEN, turn: 3, ..DIES },
];

impl Species {
    /// The one of this name.
    pub fn named(name: &str) -> &'static Self {
        let found = SPECIES.iter().find(|species| species.name == name);
        found.unwrap_or_else(|| panic!("no species {name:?}"))
    }

    /// Has a server behave so.
    pub fn configure(&self, behaviour: &mut Behaviour) {
        behaviour.rotation = self.rotation != "Never";
        behaviour.rotates_every = self.turn;
        behaviour.grace = self.grace;
        behaviour.reuse = match self.reuse {
            REJECTS => Reuse::RejectOnly,
            _ => Reuse::RevokesFamily,
        };
        behaviour.on_refresh = if self.survives {
            OldToken::Survives
        } else {
            OldToken::Dies
        };
    }

    /// What its provider object says.
    pub fn description(&self) -> Value {
        json!({
            "rotation": self.rotation, "reuseDetection": self.reuse,
            "accessTokenOnRefresh": self.on_refresh,
            "reuseGrace": format!("{}s", self.grace.as_secs()),
        })
    }
}

/// What happens to an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    KilledBeforeTheRequest,
    KilledAfterTheCommit,
    KilledBeforeItWasStored,
    AnswerLost,
    RequestLost,
    AnswerTooLate,
    ErrorAfterTheCommit,
    UnreadableAfterTheCommit,
    PauseAskedFor,
}

pub const EVENTS: [Event; 9] = [
    Event::KilledBeforeTheRequest,
    Event::KilledAfterTheCommit,
    Event::KilledBeforeItWasStored,
    Event::AnswerLost,
    Event::RequestLost,
    Event::AnswerTooLate,
    Event::ErrorAfterTheCommit,
    Event::UnreadableAfterTheCommit,
    Event::PauseAskedFor,
];

impl Event {
    /// What the server does with the request; `None`: it is the operator that something happens to.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::KilledBeforeTheRequest
            | Self::KilledAfterTheCommit
            | Self::KilledBeforeItWasStored => None,
            Self::AnswerLost => Some(Fault::DropAfterCommit),
            Self::RequestLost => Some(Fault::DropBeforeCommit),
            Self::AnswerTooLate => Some(Fault::HangAfterCommit(2 * EXCHANGE)),
            Self::ErrorAfterTheCommit => Some(Fault::AnswerAfterCommit(Answer::html(500))),
            Self::UnreadableAfterTheCommit => Some(Fault::AnswerAfterCommit(Answer::html(200))),
            Self::PauseAskedFor => {
                let answer = Answer::new(429).header("retry-after", "1");
                Some(Fault::Answer(answer))
            }
        }
    }

    /// How long an exchange may take, as the operator is told. Where it is to be killed within one, longer
    /// than it takes until it is within one of each credential.
    pub fn exchange_timeout(self) -> Duration {
        match self.fault() {
            Some(_) => EXCHANGE,
            None => Duration::from_secs(60),
        }
    }

    /// A name for a namespace.
    pub fn short(self) -> &'static str {
        match self {
            Self::KilledBeforeTheRequest => "unsent",
            Self::KilledAfterTheCommit => "taken",
            Self::KilledBeforeItWasStored => "unstored",
            Self::AnswerLost => "answer",
            Self::RequestLost => "request",
            Self::AnswerTooLate => "late",
            Self::ErrorAfterTheCommit => "error",
            Self::UnreadableAfterTheCommit => "unreadable",
            Self::PauseAskedFor => "pause",
        }
    }
}
