//! The end of a credential with `revocationPolicy: OnDelete`: holders let go, the provider revokes, and the finalizers
//! come off, whatever came of it. [`next`] decides; here it is done.

mod guard;
mod present;

use std::{sync::Arc, time::Duration};

use futures::future::join;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::present::Present;
use crate::{
    api::{CredentialStatus, IntegrationCredential, RevocationOutcome, RevocationStatus},
    clock::{self, Moment},
    context::{Context, SOON, retry},
    explain,
    finalizer::{self, Beside, Change},
    lock::gate::{Drained, Entered, Gate},
    oauth::revocation::Verdict,
    plan::end::{Behind, Facts, LONGEST_ATTEMPT, Step, Tokens, Way, next},
    refresh::wish_to_end,
    request::RequestError,
    status::{self, Transition},
};

/// How soon a credential is looked at again whose gate could not be asked for.
const UNCLEAR: Duration = Duration::from_secs(2);

/// What is known at the end of one credential, and what is worked with.
struct End<'a> {
    context: &'a Context,
    credential: Arc<IntegrationCredential>,
    ends: CancellationToken,
    begun: Moment,
    gate: Behind,
    tokens: Tokens,
    way: Way,
    last: Option<Verdict>,
    present: Present,
}

/// How the work came out of the gate.
enum Left {
    /// There is nothing to do any more but to let it go.
    Release,
    /// The process is about to end.
    Interrupted,
    /// The gate is to be closed, after a pause.
    Outside(Duration),
}

impl Context {
    /// Brings a credential to its end. Only for one that is being deleted and carries the finalizer.
    pub async fn end(self: Arc<Self>, credential: Arc<IntegrationCredential>) -> Action {
        // Somebody may have taken the finalizer off, or another replica have done the work.
        let credential = match self.current(&credential).await {
            Ok(Some(current)) if finalizer::is_on(&current.metadata) => current,
            Ok(_) => {
                self.forget(&credential);
                return Action::await_change();
            }
            Err(error) => return Action::requeue(retry(&error, "get the credential")),
        };
        let mut end = End {
            context: &self,
            ends: self.ends(&credential),
            begun: Moment::now(),
            gate: Behind::Unknown,
            tokens: Tokens::Unknown,
            way: Way::Unknown,
            last: None,
            present: Present::default(),
            credential,
        };
        if Box::pin(end.run()).await {
            let credential = Arc::clone(&end.credential);
            return self.release(&credential).await;
        }
        Action::requeue(UNCLEAR)
    }

    /// Takes the finalizers off; the credential's last.
    async fn release(&self, credential: &IntegrationCredential) -> Action {
        let namespace = credential.namespace().unwrap_or_default();
        let uid = credential.uid().unwrap_or_default();
        for beside in Beside::ALL {
            let name = beside.name(&credential.name_any());
            let removed = beside.change(&self.client, &namespace, &name, &uid, Change::Remove);
            match removed.await {
                Ok(_) => {}
                // It will be refused again: what is left is told, and nobody waits for it.
                Err(RequestError::Refused(error)) => {
                    tracing::warn!(%error, kind = beside.kind(), object = name, "not removed at the end of its credential");
                }
                Err(error) => return Action::requeue(retry(&error, "remove what is left")),
            }
        }
        let api: Api<IntegrationCredential> = Api::namespaced(self.client.clone(), &namespace);
        match finalizer::change(&api, &credential.name_any(), &uid, Change::Release).await {
            Ok(_) => {
                tracing::info!(reason = "Released", "the finalizer is taken off");
                self.forget(credential);
                Action::await_change()
            }
            Err(error) => Action::requeue(retry(&error, "take the finalizer off")),
        }
    }
}

impl End<'_> {
    /// Works until the credential can be let go; false: the process is about to end, or something has to be done again.
    async fn run(&mut self) -> bool {
        loop {
            match self.next() {
                Step::Release => return true,
                Step::Close(pause) => {
                    // Whoever kept the gate may have been another replica, which has brought it to its end.
                    let waited = !pause.is_zero();
                    if !self.sleep(pause).await || (waited && self.is_over().await) {
                        return false;
                    }
                    match self.close().await {
                        Ok(Some(mut gate)) => match self.behind(&mut gate).await {
                            Left::Release => return true,
                            Left::Interrupted => {
                                let (generation, unresolved) =
                                    (gate.generation(), gate.unresolved().cloned());
                                gate.open(generation, unresolved, None).await;
                                return false;
                            }
                            Left::Outside(pause) => self.gate = self.busy(pause),
                        },
                        Ok(None) => {}
                        Err(Interrupted) => return false,
                    }
                }
                // Beside the gate, or without one.
                step => match Box::pin(self.act(step)).await {
                    Ok(()) => {}
                    Err(Interrupted) => return false,
                },
            }
        }
    }

    fn next(&self) -> Step {
        let progress = self.credential.status.as_ref();
        let progress = progress.and_then(|status| status.revocation.as_ref());
        next(&Facts {
            is_wanted: self.is_wanted(),
            has_status: self.credential.status.is_some(),
            progress,
            gate: self.gate,
            tokens: &self.tokens,
            way: &self.way,
            last: self.last.as_ref(),
            uid: self.credential.metadata.uid.as_deref().unwrap_or_default(),
            now: clock::now(),
        })
    }

    /// Whether it is to be revoked still.
    fn is_wanted(&self) -> bool {
        let namespace = self.credential.namespace().unwrap_or_default();
        let key = ObjectRef::new(&self.credential.name_any()).within(&namespace);
        let cached = self.context.caches.credentials.get(&key);
        finalizer::is_wanted_still(&self.credential, cached.as_deref())
    }

    /// Whether somebody else has ended it: it is gone, or carries the finalizer no more.
    async fn is_over(&self) -> bool {
        let current = self.context.current(&self.credential).await;
        current.is_ok_and(|current| current.is_none_or(|now| !finalizer::is_on(&now.metadata)))
    }

    /// False: the process is about to end.
    async fn sleep(&self, pause: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(pause) => !self.ends.is_cancelled(),
            () = self.ends.cancelled() => false,
        }
    }

    fn busy(&self, pause: Duration) -> Behind {
        Behind::Busy {
            pause,
            since: Moment::now().elapsed(self.begun),
        }
    }

    /// Closes the gate and waits for holders. Nothing: it is not ours, as `self.gate` says.
    async fn close(&mut self) -> Result<Option<Box<Gate>>, Interrupted> {
        let tools = &self.context.tools;
        let wish = wish_to_end(&self.credential, tools.exchange_timeout, clock::now());
        let mut gate = match tools.gates.enter(&self.credential, wish).await {
            Ok(Entered::Mine(gate)) => gate,
            Ok(Entered::Busy(pause)) => {
                self.gate = self.busy(pause);
                return Ok(None);
            }
            Err(error) => {
                self.cannot_close(&error);
                return Ok(None);
            }
        };
        tracing::Span::current().record("attempt", gate.attempt());
        let (drained, told) = self.drain(&mut gate).await;
        if let Some(told) = told {
            self.credential = told;
        }
        match drained {
            Ok(Drained::Behind) => self.gate = Behind::Closed,
            Ok(Drained::Superseded) => {
                self.gate = self.busy(SOON);
                return Ok(None);
            }
            Ok(Drained::Interrupted { safe }) => {
                if safe {
                    let (generation, unresolved) = (gate.generation(), gate.unresolved().cloned());
                    gate.open(generation, unresolved, None).await;
                }
                return Err(Interrupted);
            }
            Err(error) => self.cannot_close(&error),
        }
        let forced = gate.forced();
        if !forced.is_empty() {
            let message = explain::forced_at_end(&forced);
            self.tell(true, "ForcedRevocation", message).await;
        }
        Ok(Some(gate))
    }

    fn cannot_close(&mut self, error: &RequestError) {
        let failure = error.failure("close the gate");
        let reason = failure.reason.as_str();
        tracing::warn!(reason, error = failure.message, "gate not closed");
        self.gate = match error {
            // Forbidden, or its namespace takes no new objects: trying again is of no use.
            RequestError::Refused(_) => Behind::Without,
            _ => self.busy(UNCLEAR),
        };
    }

    /// Waits for holders, and tells people for whom where that takes long.
    async fn drain(
        &self,
        gate: &mut Gate,
    ) -> (
        Result<Drained, RequestError>,
        Option<Arc<IntegrationCredential>>,
    ) {
        let (sender, mut waits_for) = watch::channel(Vec::new());
        let done = CancellationToken::new();
        let drained = async {
            let drained = gate.drain(&self.ends, &sender).await;
            done.cancel();
            drained
        };
        let told = async {
            let holders = tokio::select! {
                holders = waits_for.wait_for(|holders| !holders.is_empty()) => holders.ok()?.clone(),
                () = done.cancelled() => return None,
            };
            let status = status::draining(&self.credential, &holders, clock::now())?;
            self.write(status).await.ok()
        };
        join(Box::pin(drained), Box::pin(told)).await
    }

    /// Works behind the closed gate, whose lease is renewed meanwhile.
    async fn behind(&mut self, gate: &mut Gate) -> Left {
        let work = async {
            loop {
                match self.next() {
                    Step::Release => return Left::Release,
                    Step::Close(pause) => return Left::Outside(pause),
                    step => {
                        if let Err(Interrupted) = Box::pin(self.act(step)).await {
                            return Left::Interrupted;
                        }
                    }
                }
            }
        };
        gate.renewed_while(work).await
    }

    async fn act(&mut self, step: Step) -> Result<(), Interrupted> {
        match step {
            Step::Read => self.read().await?,
            Step::Resolve(pause) => {
                if !pause.is_zero() {
                    self.wait_and_count(pause).await?;
                }
                self.way = self.resolve().await;
            }
            Step::Present(pause) => {
                self.wait_and_count(pause).await?;
                let timeout = self.context.tools.exchange_timeout.min(LONGEST_ATTEMPT);
                self.last = Some(Box::pin(self.present(timeout)).await);
            }
            Step::Conclude(outcome, why) => self.conclude(outcome, &why).await?,
            Step::Close(_) | Step::Release => {}
        }
        Ok(())
    }

    /// Waits, and notes another attempt before it is made: whoever comes after counts it.
    async fn wait_and_count(&mut self, pause: Duration) -> Result<(), Interrupted> {
        if !self.sleep(pause).await {
            return Err(Interrupted);
        }
        self.note(|progress, now| {
            progress.attempts = progress.attempts.saturating_add(1);
            progress.start_time.get_or_insert(Time(now));
        })
        .await
    }

    async fn conclude(&mut self, outcome: RevocationOutcome, why: &str) -> Result<(), Interrupted> {
        let (warning, reason, message) = match outcome {
            RevocationOutcome::Revoked => (
                self.present.ends_consent,
                "Revoked",
                explain::revoked(
                    &self.credential,
                    &self.present.origin,
                    self.present.ends_consent,
                ),
            ),
            RevocationOutcome::RevocationFailed => (
                true,
                "RevocationFailed",
                explain::revocation_failed(&self.credential, why),
            ),
            RevocationOutcome::RevocationNotSupported => (
                true,
                "RevocationNotSupported",
                explain::revocation_not_supported(&self.credential, why),
            ),
            RevocationOutcome::RevocationSkipped => {
                (false, "RevocationSkipped", explain::revocation_skipped(why))
            }
        };
        tracing::info!(reason, "the credential comes to its end");
        self.note(|progress, _| progress.outcome = Some(outcome))
            .await?;
        self.tell(warning, reason, message).await;
        Ok(())
    }

    async fn tell(&self, warning: bool, reason: &'static str, message: String) {
        let transition = Transition {
            warning,
            reason,
            message,
        };
        let context = self.context;
        context
            .tell_of("Revoke", &self.credential, &transition)
            .await;
    }

    /// Notes how far it has come. Where the API server does not take it, it is tried until it does: attempts that
    /// nobody counts could go on without end.
    async fn note(
        &mut self,
        change: impl FnOnce(&mut RevocationStatus, Timestamp),
    ) -> Result<(), Interrupted> {
        let mut status = self.credential.status.clone().unwrap_or_default();
        change(status.revocation.get_or_insert_default(), clock::now());
        loop {
            match self.write(status.clone()).await {
                Ok(credential) => {
                    self.credential = credential;
                    return Ok(());
                }
                Err(()) => {
                    // Without it, there is nothing to count for.
                    if self.is_over().await || !self.sleep(UNCLEAR).await {
                        return Err(Interrupted);
                    }
                }
            }
        }
    }

    async fn write(&self, status: CredentialStatus) -> Result<Arc<IntegrationCredential>, ()> {
        let written = self.context.write_status(&self.credential, &status, false);
        written.await.map_err(drop)?;
        let mut credential = IntegrationCredential::clone(&self.credential);
        credential.status = Some(status);
        Ok(Arc::new(credential))
    }
}

/// The process is about to end, or somebody else has ended the credential.
struct Interrupted;
