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
    status::Transition,
};

/// How long until it is written again: at first, and at most. Definitions that are older than the operator refuse every
/// status, of thousands of credentials perhaps.
const PAUSE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

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
    /// How long until it is written again, or until `due`, where that is sooner.
    #[must_use]
    pub fn rest(&self, due: Option<Timestamp>) -> Duration {
        let rest = self.pause.saturating_sub(Moment::now().elapsed(self.tried));
        let until = due.map(|due| Duration::try_from(due.duration_since(clock::now())));
        rest.min(until.map_or(Duration::MAX, Result::unwrap_or_default))
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
        if unsaid.stored != credential.status {
            self.remember(&credential, memory.clone());
            // It was taken, and the answer got lost.
            if credential.status.as_ref() == Some(&unsaid.status) {
                self.tell_all(&credential, &unsaid.transitions).await;
            }
            return credential;
        }
        let mut known = IntegrationCredential::clone(&credential);
        known.status = Some(unsaid.status.clone());
        if unsaid.rest(None).is_zero() {
            unsaid.pause = (unsaid.pause * 2).min(PAUSE.1);
            // What comes of it is in the recollection.
            let _ = self.try_to_say(&known, memory, *unsaid).await;
        } else {
            memory.unsaid = Some(unsaid);
        }
        Arc::new(known)
    }

    /// Writes a status and tells people of transitions; later, where the API server does not take it.
    ///
    /// # Errors
    /// When to look again, where it was not taken.
    pub async fn say(
        &self,
        credential: &IntegrationCredential,
        mut memory: Memory,
        status: CredentialStatus,
        transitions: impl IntoIterator<Item = Transition>,
    ) -> Result<(), Action> {
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
        let pause = unsaid.pause;
        let said = self.try_to_say(credential, &mut memory, unsaid).await;
        said.map_err(|()| Action::requeue(pause))
    }

    async fn try_to_say(
        &self,
        credential: &IntegrationCredential,
        memory: &mut Memory,
        mut unsaid: Unsaid,
    ) -> Result<(), ()> {
        let written = self.write_status(credential, &unsaid.status, false).await;
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

    async fn tell_all(&self, credential: &IntegrationCredential, transitions: &[Transition]) {
        for transition in transitions {
            self.tell(credential, transition).await;
        }
    }
}
