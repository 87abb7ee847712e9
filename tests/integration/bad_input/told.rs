//! What a failed credential tells people, and how it recovers.

use std::cell::Cell;

use jiff::Timestamp;
use kube::ResourceExt;
use tokenward::api::IntegrationCredential;

use crate::support::{Fixture, condition, eventually, kubectl, reason, text};

/// What people are told of a failure.
pub struct Told<'a> {
    /// Status and reason of Ready.
    pub ready: (&'a str, &'a str),
    /// The reason of Stalled, or of Reconciling where it passes by itself.
    pub reason: &'a str,
    pub stalled: bool,
    /// The reason of the event; `None`: the same failure was told before, with another message.
    pub event: Option<&'a str>,
    /// The OAuth error code or the HTTP status in `status.refresh.lastError`.
    pub code: Option<&'a str>,
    /// What the message must name: the object, the cause, the remedy.
    pub words: &'a [&'a str],
}

impl Told<'_> {
    /// Something that somebody must mend before the first token.
    pub const STALLED: Told<'static> = Told {
        ready: ("False", "Pending"),
        reason: "",
        stalled: true,
        event: Some("RefreshFailed"),
        code: None,
        words: &[],
    };

    /// Something that passes by itself, before the first token.
    pub const PASSING: Told<'static> = Told {
        stalled: false,
        ..Self::STALLED
    };

    /// Waits until the credential has failed like this, and checks all that is said of it.
    pub async fn of(&self, fixture: &Fixture, name: &str) -> IntegrationCredential {
        let (told, other) = if self.stalled {
            ("Stalled", "Reconciling")
        } else {
            ("Reconciling", "Stalled")
        };
        let what = format!("{told}, {}", self.reason);
        let credential = fixture
            .until(name, &what, |c| {
                condition(c, told).is_some_and(|c| c.0 == "True" && c.1 == self.reason)
            })
            .await;
        let other = condition(&credential, other).map_or("False".to_owned(), |c| c.0);
        assert_eq!(other, "False", "{name}");
        let (_, _, message) = condition(&credential, told).unwrap();
        let (status, state, same) = condition(&credential, "Ready").unwrap();
        assert_eq!((status.as_str(), state.as_str()), self.ready, "{name}");
        assert_eq!(message, same, "{name}");
        for word in self.words {
            assert!(message.contains(word), "{name}: no {word:?} in {message:?}");
        }
        let status = credential.status.as_ref().unwrap();
        assert_eq!(status.observed_generation, credential.metadata.generation);
        let refresh = status.refresh.as_ref().unwrap();
        let last = refresh.last_error.as_ref().unwrap();
        assert_eq!(
            (last.reason.as_str(), last.code.as_deref()),
            (self.reason, self.code),
            "{name}"
        );
        assert!(refresh.failures > 0, "{name}");
        if let Some(event) = self.event {
            let event = format!("{event}: {message}");
            eventually(&event, async || {
                fixture.events().await.contains(&event).then_some(())
            })
            .await;
        }
        credential
    }
}

/// When the next attempt of a failed credential is due.
pub fn next_attempt(credential: &IntegrationCredential) -> Timestamp {
    let refresh = credential.status.as_ref().unwrap().refresh.as_ref();
    let next = refresh.unwrap().next_attempt_time.as_ref();
    next.expect("a next attempt").0
}

/// When the token of the credential expires.
pub fn expiry(credential: &IntegrationCredential) -> Option<Timestamp> {
    let token = credential.status.as_ref()?.token.as_ref()?;
    Some(token.expiration_time.as_ref()?.0)
}

/// The refresh token in the grant.
pub async fn refresh_token(fixture: &Fixture, name: &str) -> String {
    let grant = fixture.find_secret(&format!("{name}.grant")).await;
    text(&grant.expect("the grant"), "refresh_token")
}

/// Does what mends a failed credential. The credential, once it is as `wanted`, and the last attempt that
/// was seen to be planned before that.
pub async fn mended(
    fixture: &Fixture,
    failed: &IntegrationCredential,
    mend: impl Future<Output = ()>,
    what: &str,
    wanted: impl Fn(&IntegrationCredential) -> bool,
) -> (IntegrationCredential, Timestamp) {
    let name = failed.name_any();
    let planned = Cell::new(next_attempt(failed));
    let wanted = fixture.until(&name, what, |c| {
        if wanted(c) {
            return true;
        }
        // A slow machine may come to more attempts before it is mended.
        let refresh = c.status.as_ref().and_then(|s| s.refresh.as_ref());
        if let Some(next) = refresh.and_then(|r| r.next_attempt_time.as_ref()) {
            planned.set(planned.get().max(next.0));
        }
        false
    });
    let (credential, ()) = tokio::join!(wanted, mend);
    (credential, planned.get())
}

/// Does what mends a failed credential. The credential, once it is Ready and nothing of the failure is left.
/// It must not have waited for the next attempt that was planned in any case.
pub async fn recovers_at_once(
    fixture: &Fixture,
    failed: &IntegrationCredential,
    mend: impl Future<Output = ()>,
) -> IntegrationCredential {
    let (credential, planned) = mended(fixture, failed, mend, "Valid", is_valid).await;
    assert_recovered(&credential);
    let token = credential.status.as_ref().unwrap().token.as_ref().unwrap();
    let obtained = token.last_refresh_time.as_ref().unwrap().0;
    let name = failed.name_any();
    assert!(
        obtained < planned,
        "{name}: {obtained}, as planned for {planned}"
    );
    credential
}

/// The credential, once it is Ready and nothing of the failure is left.
pub async fn recovers(fixture: &Fixture, failed: &IntegrationCredential) -> IntegrationCredential {
    let credential = fixture.until(&failed.name_any(), "Valid", is_valid).await;
    assert_recovered(&credential);
    credential
}

fn is_valid(credential: &IntegrationCredential) -> bool {
    reason(credential) == "Valid"
}

fn assert_recovered(credential: &IntegrationCredential) {
    assert_eq!(condition(credential, "Ready").unwrap().0, "True");
    assert_eq!(condition(credential, "Stalled").unwrap().0, "False");
    assert_eq!(condition(credential, "Reconciling"), None);
    let refresh = credential.status.as_ref().unwrap().refresh.clone().unwrap();
    assert_eq!((refresh.failures, refresh.last_error), (0, None));
    assert_eq!(refresh.next_attempt_time, None);
}

/// Does what a message says: the one kubectl command in it, with `value` in the place of `…`, and what belongs to it.
pub async fn obey(message: &str, value: &str) {
    let commands = message.split_once("kubectl ").expect("a command").1;
    let (command, label) = match commands.split_once("; and label it, ") {
        Some((command, label)) => (command, label.split_once("kubectl ").map(|l| l.1)),
        None => (commands, None),
    };
    for command in [Some(command), label].into_iter().flatten() {
        let command = command.trim_end_matches(')').replace('…', value);
        let words = command.split(' ').map(|word| word.trim_matches('\''));
        let output = kubectl(&words.collect::<Vec<_>>()).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {command}: {error}");
    }
}
