//! A status that the API server did not take.
//!
//! What a status says that was acted upon (a request of a person, a token) counts although it could not be written:
//! what was done would be done again otherwise, without a pause. This process remembers it, decides from it, and writes
//! it again.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::runtime::controller::Action;

use crate::{
    api::{CredentialStatus, IntegrationCredential},
    cache::Memory,
    clock::{self, Moment},
    context::Context,
    status::{Transition, is_same},
};

/// How long until it is written again: at first, and at most. Definitions that are older than the operator refuse every
/// status, of thousands of credentials perhaps.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The pause where something is overdue.
const OVERDUE: Duration = Duration::from_secs(1);

/// How many events are kept for later: the newest.
const TOLD: usize = 16;

/// A status that the API server did not take, and what people were to be told with it.
#[derive(Clone)]
pub struct Unsaid {
    /// What the API server has in its place.
    stored: Option<CredentialStatus>,
    status: CredentialStatus,
    transitions: Vec<Transition>,
    tried: Moment,
    pause: Duration,
}

impl Unsaid {
    /// When there is something to do, by the status.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        let refresh = self.status.refresh.as_ref()?;
        let due = refresh.next_attempt_time.as_ref();
        due.or(refresh.next_time.as_ref()).map(|at| at.0)
    }

    /// Whether the API server still has what it had when it did not take this one.
    fn is_still_to_be_said(&self, now: Option<&CredentialStatus>) -> bool {
        match &self.stored {
            Some(stored) => is_same(now, stored),
            None => now.is_none(),
        }
    }

    /// How long until it is written again, or until `due`, where that is sooner. What is overdue is no reason to look
    /// again without a pause: it may stay so.
    #[must_use]
    pub fn rest(&self, due: Option<Timestamp>) -> Duration {
        let rest = self.pause.saturating_sub(Moment::now().elapsed(self.tried));
        let until = due.map(|due| Duration::try_from(due.duration_since(clock::now())));
        let until = until.map(|until| until.unwrap_or_default().max(OVERDUE));
        rest.min(until.unwrap_or(Duration::MAX))
    }
}

impl Context {
    /// The credential with the status that counts: one that the API server did not take, unless there is another one
    /// since. It is written again where its pause is over.
    pub async fn known(
        &self,
        credential: Arc<IntegrationCredential>,
        memory: &mut Memory,
    ) -> Arc<IntegrationCredential> {
        let Some(mut unsaid) = memory.unsaid.take() else {
            return credential;
        };
        if !unsaid.is_still_to_be_said(credential.status.as_ref()) {
            self.remember(&credential, memory.clone());
            // It was taken, and the answer got lost.
            if is_same(credential.status.as_ref(), &unsaid.status) {
                self.tell_all(&credential, &unsaid.transitions).await;
            }
            return credential;
        }
        let mut known = IntegrationCredential::clone(&credential);
        known.status = Some(unsaid.status.clone());
        if unsaid.rest(None).is_zero() {
            unsaid.pause = (unsaid.pause * 2).min(PAUSE.1);
            // By its version: another replica may have written since, which the watch has not shown yet.
            let _ = self.try_to_say(&known, memory, *unsaid, true).await;
        } else {
            memory.unsaid = Some(unsaid);
        }
        Arc::new(known)
    }

    /// Writes a status and tells people of transitions; later, where the API server does not take it. Unless it `counts`, it
    /// is forgotten then.
    ///
    /// # Errors
    /// When to look again, where it was not taken.
    pub async fn say(
        &self,
        credential: &IntegrationCredential,
        mut memory: Memory,
        status: CredentialStatus,
        transitions: impl IntoIterator<Item = Transition>,
        counts: bool,
    ) -> Result<(), Action> {
        if !counts {
            self.write_status(credential, &status, false).await?;
            self.tell_unsaid(credential, &mut memory).await;
            let transitions: Vec<_> = transitions.into_iter().collect();
            self.tell_all(credential, &transitions).await;
            return Ok(());
        }
        let before = memory.unsaid.take().map(|unsaid| *unsaid);
        let mut unsaid = before.unwrap_or_else(|| Unsaid {
            stored: credential.status.clone(),
            status: CredentialStatus::default(),
            transitions: Vec::new(),
            tried: Moment::now(),
            pause: PAUSE.0,
        });
        unsaid.status = status;
        unsaid.transitions.extend(transitions);
        let too_many = unsaid.transitions.len().saturating_sub(TOLD);
        unsaid.transitions.drain(..too_many);
        let said = self.try_to_say(credential, &mut memory, unsaid, false);
        said.await.map_err(|()| {
            let rest = memory.unsaid.map(|unsaid| unsaid.rest(unsaid.due()));
            Action::requeue(rest.unwrap_or(PAUSE.0))
        })
    }

    async fn try_to_say(
        &self,
        credential: &IntegrationCredential,
        memory: &mut Memory,
        mut unsaid: Unsaid,
        only_this_version: bool,
    ) -> Result<(), ()> {
        let written = self
            .write_status(credential, &unsaid.status, only_this_version)
            .await;
        // The version of what was written is in the recollection.
        let recalled = self.recall(credential);
        memory.status_version = recalled.status_version.or(memory.status_version.take());
        memory.status_written = recalled.status_written.or(memory.status_written);
        if written.is_err() {
            unsaid.tried = Moment::now();
            memory.unsaid = Some(Box::new(unsaid));
            self.remember(credential, memory.clone());
            return Err(());
        }
        self.remember(credential, memory.clone());
        self.tell_all(credential, &unsaid.transitions).await;
        Ok(())
    }

    /// Tells what was to be told with a status that was not taken, now that one was which builds on it.
    pub async fn tell_unsaid(&self, credential: &IntegrationCredential, memory: &mut Memory) {
        if let Some(unsaid) = memory.unsaid.take() {
            self.remember(credential, memory.clone());
            self.tell_all(credential, &unsaid.transitions).await;
        }
    }

    async fn tell_all(&self, credential: &IntegrationCredential, transitions: &[Transition]) {
        for transition in transitions {
            self.tell(credential, transition).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_overdue_shortens_the_pause_and_does_not_take_it_away() {
        let unsaid = Unsaid {
            stored: None,
            status: CredentialStatus::default(),
            transitions: Vec::new(),
            tried: Moment::now(),
            pause: PAUSE.1,
        };
        let now = clock::now();
        assert_eq!(unsaid.rest(Some(now - PAUSE.1)), OVERDUE);
        let soon = unsaid.rest(Some(now + 10 * OVERDUE));
        assert!(soon > OVERDUE && soon <= 10 * OVERDUE, "{soon:?}");
        assert!(unsaid.rest(None) > 10 * OVERDUE);
    }
}
