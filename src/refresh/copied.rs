//! Kinds that are copied from a Secret of their user, behind the gate. The target is the store.
//!
//! The old value goes on working as far as we know, so that no holder is waited for.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::watch;

use super::{Opening, Tools, durations, kept, known_generation, mode};
use crate::{
    api::IntegrationCredential,
    asked::Asked,
    clock, explain,
    failure::{Failure, Reason},
    lock::{
        gate::{Gate, Wish},
        protocol::{Drains, Priority},
    },
    provider,
    request::RequestError,
    secret::{copy::Wanted, referenced::Purpose, source::Source, target::Claim},
    status::Report,
    telemetry::span::{self, Came},
};

/// A credential that is copied.
pub struct Copying {
    /// The credential.
    pub credential: Arc<IntegrationCredential>,
    /// What is asked for beyond the schedule.
    pub asked: Asked,
    /// Told who holds the credential, where somebody is waited for.
    pub waits_for: watch::Sender<Vec<String>>,
}

/// What a credential is copied from, and what is there.
pub struct Look {
    /// The target.
    pub target: Option<Secret>,
    /// Whether that was somebody's until now, and is handed over.
    adopts: bool,
    /// What it is to hold, or what is wrong with that.
    pub source: Result<Source, Failure>,
    /// The version of the Secret that it is from.
    source_version: Option<String>,
}

/// Reads both: the target first, so that a write over it fails where somebody has published something of a later
/// look at the source.
///
/// # Errors
/// What keeps one of them from being read, and the target from being written.
pub async fn look(tools: &Tools, credential: &IntegrationCredential) -> Result<Look, Failure> {
    let namespace = credential.namespace().unwrap_or_default();
    let secrets = &tools.secrets;
    let kind = credential.copied();
    let kind = kind.ok_or_else(|| provider::unknown(credential))?;
    let target = secrets.get(&namespace, &credential.target_name()).await?;
    let claim = match &target {
        Some(found) => Some(secrets.claim(found, credential).await?),
        None => None,
    };
    let name = kind.source().unwrap_or_default();
    let found = secrets.get(&namespace, name).await?;
    // Nothing is said of what must not be read.
    let allowed = found
        .as_ref()
        .map(|found| secrets.check_referenced(found, Purpose::Source));
    let source = allowed
        .transpose()
        .and_then(|_| Source::read(credential, kind, found.as_ref()));
    Ok(Look {
        adopts: matches!(claim, Some(Claim::Offered { .. })),
        target,
        source,
        source_version: found.and_then(|found| found.resource_version()),
    })
}

impl Look {
    /// What it came to, where it is as `wanted`.
    #[must_use]
    pub fn report(&self, wanted: &Wanted) -> Report {
        Report {
            copied: Some(wanted.copy),
            source_version: self.source_version.clone(),
            target_version: wanted.secret.resource_version(),
            ..Report::default()
        }
    }

    /// What it came to, where there is nothing to copy.
    #[must_use]
    pub fn failed(&self, failure: &Failure) -> Report {
        Report {
            source_version: self.source_version.clone(),
            ..Report::failed(failure.clone())
        }
    }
}

/// What a copy wants of the gate.
pub(super) fn wish(credential: &IntegrationCredential, exchange_timeout: Duration) -> Wish {
    let durations = durations(credential, None, exchange_timeout);
    Wish {
        priority: Priority::Update,
        durations,
        mode: mode(credential),
        drains: Drains::WhereUnsure,
        patience: durations.longest_drain(),
        urgent: true,
    }
}

/// Copies. `None`: begin again.
pub(super) async fn copied(tools: &Tools, copying: &Copying, gate: &mut Gate) -> Option<Opening> {
    let credential = &copying.credential;
    if copying.asked.only_open {
        return Some(Opening {
            report: Report::unchanged(credential),
            generation: gate.generation(),
            unresolved: None,
        });
    }
    let look = match look(tools, credential).await {
        Ok(look) => look,
        Err(failure) => return Some(kept(gate, failure)),
    };
    let known = known_generation(credential, gate);
    let found = look.target.as_ref();
    let source = match &look.source {
        Ok(source) => source,
        Err(failure) => {
            return Some(Opening {
                report: look.failed(failure),
                generation: gate.generation(),
                unresolved: None,
            });
        }
    };
    let mut wanted = match Wanted::new(credential, source, found, known, clock::now()) {
        Ok(wanted) => wanted,
        Err(failure) => {
            return Some(Opening {
                report: look.failed(&failure),
                generation: gate.generation(),
                unresolved: None,
            });
        }
    };
    if wanted.is_there {
        return Some(Opening {
            report: look.report(&wanted),
            generation: Some(wanted.copy.generation),
            unresolved: None,
        });
    }
    let writing = tools.secrets.put_target(credential, &wanted.secret, found);
    let generation = wanted.copy.generation;
    let written = span::persist(credential, gate.attempt())
        .run(writing, |written| came(written, generation))
        .await;
    match written {
        Ok(Ok(stored)) => {
            tracing::info!(generation, "copied");
            wanted.secret = stored;
            let mut report = look.report(&wanted);
            report.refreshed = wanted.is_new;
            report.target_adopted = look.adopts;
            Some(Opening {
                report,
                generation: Some(generation),
                unresolved: None,
            })
        }
        // Somebody else was there: what was read may be old by now.
        Ok(Err(RequestError::Conflict)) => None,
        Ok(Err(error)) => {
            let name = credential.target_name();
            let why = error.failure(&format!("write Secret {name}")).message;
            Some(kept(gate, explain::source::not_published(credential, &why)))
        }
        Err(failure) => Some(kept(gate, failure)),
    }
}

/// What the write of the target came to, as the outcome of its span.
fn came(written: &Result<Result<Secret, RequestError>, Failure>, generation: u64) -> Came {
    match written {
        Ok(Ok(_)) => Came::Success(Some(generation)),
        Ok(Err(RequestError::Conflict)) => Came::Nothing("superseded"),
        Ok(Err(_)) => Came::Failure(Reason::TargetNotPublished),
        Err(failure) => Came::Failure(failure.reason),
    }
}
