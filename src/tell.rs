//! Telling people of transitions, in events.

use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{context::MANAGER, request::bounded, status::Transition};

/// The longest note of an event; the API server refuses more than 1,024 bytes.
const LONGEST_NOTE: usize = 1024;

/// How many events one recorder publishes. It keeps each for six minutes, to count the same one instead of telling it again, and
/// goes through all of them at each: of 10,000 new credentials that is 50 MiB.
const EVENTS: u32 = 250;

/// Publishes events.
pub struct Teller {
    client: Client,
    reporter: Reporter,
    /// With how many events it has published.
    recorder: Mutex<(Recorder, u32)>,
}

impl Teller {
    /// In the name of this process.
    #[must_use]
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(identity.to_owned()),
        };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self {
            client,
            reporter,
            recorder: Mutex::new((recorder, 0)),
        }
    }

    /// The one that publishes the next event.
    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 == EVENTS {
            *recorder = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
    }

    /// Tells of a transition that came of `action`. An event that cannot be published is only logged: nothing waits for it.
    pub async fn tell(&self, about: &ObjectReference, action: &str, transition: &Transition) {
        let event = Event {
            type_: if transition.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: transition.reason.to_owned(),
            note: Some(note(&transition.message)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = bounded(self.recorder().publish(&event, about)).await {
            tracing::warn!(%error, reason = transition.reason, "event not published");
        }
    }
}

fn note(message: &str) -> String {
    let ends = message
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8());
    let end = ends.take_while(|end| *end <= LONGEST_NOTE).last();
    message[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::{Router, http::Method};

    use super::*;

    #[tokio::test]
    async fn the_same_is_counted_and_what_was_told_long_ago_is_not_kept() {
        let requests = Arc::<Mutex<Vec<Method>>>::default();
        let seen = Arc::clone(&requests);
        let server = Router::new().fallback(move |method: Method, event: String| {
            seen.lock().unwrap().push(method);
            async { event }
        });
        let teller = Teller::new(Client::new(server, "ns"), "me");
        let tell = async |name: String| {
            let about = ObjectReference {
                name: Some(name),
                namespace: Some("ns".to_owned()),
                ..ObjectReference::default()
            };
            let transition = Transition {
                warning: false,
                reason: "Refreshed",
                message: "x".to_owned(),
            };
            teller.tell(&about, "Refresh", &transition).await;
            requests.lock().unwrap().last().cloned().unwrap()
        };
        assert_eq!(tell("alice".to_owned()).await, Method::POST);
        assert_eq!(tell("alice".to_owned()).await, Method::PATCH);
        for other in 2..EVENTS {
            assert_eq!(tell(other.to_string()).await, Method::POST);
        }
        assert_eq!(tell("alice".to_owned()).await, Method::POST);
        assert_eq!(tell("alice".to_owned()).await, Method::PATCH);
    }

    #[test]
    fn a_note_is_as_long_as_the_api_server_takes_and_ends_with_a_whole_letter() {
        assert_eq!(note("short"), "short");
        let long = note(&format!("x{}", "ö".repeat(1000)));
        assert_eq!(long.len(), 1023);
        assert!(long.ends_with('ö'));
    }
}
