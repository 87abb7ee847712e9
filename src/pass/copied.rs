//! A pass over a credential that is copied.

use std::{sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::sync::watch;

use super::Pass;
use crate::{
    api::IntegrationCredential,
    asked::Asked,
    cache::Memory,
    clock::{self, Moment},
    context::Context,
    failure::Failure,
    lock::observer::GateSight,
    plan::{copied::interval, known_generation},
    refresh::{Copying, Work, look},
    secret::{copy::Wanted, target::is_ours},
    status::Report,
};

impl Context {
    /// Looks at the source and at the target, and goes behind the gate where they do not agree.
    ///
    /// # Errors
    /// How long to wait where somebody else is at it.
    pub(super) async fn copy(
        &self,
        credential: &Arc<IntegrationCredential>,
        asked: Asked,
    ) -> Result<Pass, Duration> {
        let credential = self.first_sight(credential).await?;
        let done = |mut report: Report| {
            report.handled_request.clone_from(&asked.request);
            Pass {
                credential: Arc::clone(&credential),
                report,
                again: false,
            }
        };
        if !asked.only_open {
            match self.agree(&credential).await {
                // A gate that nobody keeps is opened all the same, and one is told what the spec says of the lock.
                Ok(Some(report))
                    if self.gate(&credential) != GateSight::Stuck && is_acted_upon(&credential) =>
                {
                    return Ok(done(report));
                }
                Ok(_) => {}
                Err(failure) => {
                    return Ok(done(Report {
                        failure: Some(failure),
                        ..Report::default()
                    }));
                }
            }
        }
        let copying = Copying {
            credential: Arc::clone(&credential),
            asked,
            waits_for: watch::Sender::default(),
        };
        self.behind_the_gate(&Work::Copy(&copying)).await
    }

    /// What is to be told where nothing is to be written: the target holds what the source does, or there is nothing to
    /// copy.
    async fn agree(&self, credential: &IntegrationCredential) -> Result<Option<Report>, Failure> {
        let look = look(&self.tools, credential).await?;
        let source = match &look.source {
            Ok(source) => source,
            Err(failure) => return Ok(Some(look.failed(failure))),
        };
        let known = known_generation(credential.status.as_ref());
        let uid = credential.uid().unwrap_or_default();
        let ours = look.target.as_ref().filter(|found| is_ours(found, &uid));
        let wanted = match Wanted::new(credential, source, ours, known, clock::now()) {
            Ok(wanted) => wanted,
            Err(failure) => return Ok(Some(look.failed(&failure))),
        };
        // Without a status of it, the gate may know of a later one.
        let agrees = wanted.is_there && known > 0 && wanted.copy.generation == known;
        Ok(agrees.then(|| look.report(&wanted)))
    }

    /// How long until an unwatched source is read again.
    pub(super) fn until_reread(&self, credential: &IntegrationCredential) -> Duration {
        let interval = interval(&credential.uid().unwrap_or_default());
        let read = self.recall(credential).checked;
        read.map_or(interval, |at| {
            interval.saturating_sub(Moment::now().elapsed(at))
        })
    }
}

/// Whether this spec was carried out before.
fn is_acted_upon(credential: &IntegrationCredential) -> bool {
    let observed = credential.status.as_ref().map(|s| s.observed_generation);
    observed == Some(credential.metadata.generation)
}

/// How long what was read of a source answers those who ask for something newer.
const FRESH: Duration = Duration::from_secs(2);

/// Whether the source was read so recently that there is nothing newer.
#[must_use]
pub fn is_fresh(memory: &Memory) -> bool {
    let read = memory.checked;
    read.is_some_and(|at| Moment::now().elapsed(at) < FRESH)
}
