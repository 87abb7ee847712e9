//! The writer's side of the lock on real Leases. What to do is decided by [`Writer`]; here and below the
//! requests are made and it is told the answers.

mod entry;
mod step;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::entry::{Entered, Gates, Wish};
use super::{
    lease::Leases,
    observer::Observer,
    protocol::{Durations, End, SeenHold, Unresolved, Writer, WriterAsk},
};
use crate::{
    api::IntegrationCredential,
    clock::Moment,
    failure::Reason,
    request::RequestError,
    telemetry::span::{self, Came},
};

/// How long opening a gate is tried. After that a takeover has to open it.
const OPENING: Duration = Duration::from_secs(120);

/// How long holders are waited for before people are told.
const LONG: Duration = Duration::from_secs(5);

/// How the wait for holders ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nobody who must be gone is there.
    Behind,
    /// The process is about to end. `safe`: the gate may be opened.
    Interrupted {
        /// Not before nobody else can be at work behind a gate that was missing.
        safe: bool,
    },
    /// Another writer holds the gate.
    Superseded,
}

/// What became of a gate that its writer wanted to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is open.
    Open,
    /// Somebody deleted it meanwhile.
    Missing,
    /// Another writer holds it.
    Superseded,
}

/// A gate that this attempt holds closed. One task owns it, so that renewals and changes of phase
/// never race each other for its `resourceVersion`.
pub struct Gate {
    leases: Leases,
    credential: Arc<IntegrationCredential>,
    writer: Writer,
    durations: Durations,
    /// The Lease as it was stored last: what is not ours in it is kept.
    lease: Option<Lease>,
    /// When the writer was told the time last.
    told: Moment,
    /// How long to wait after an answer that did not tell.
    pause: Duration,
    observer: Arc<Observer>,
    opened: Arc<Mutex<HashMap<String, Moment>>>,
    _running: Running,
}

/// Marks an attempt as under way for as long as it lives.
struct Running {
    attempt: String,
    table: Arc<Mutex<HashSet<String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        lock(&self.table).remove(&self.attempt);
    }
}

/// These tables are never left half changed, so a panic elsewhere does not make them unusable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    /// The attempt's identifier, for logs and for the grant.
    #[must_use]
    pub fn attempt(&self) -> &str {
        self.writer.attempt()
    }

    /// The generation of the token when the gate was opened last, where the gate still says so.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.writer.gate().generation
    }

    /// The attempt whose outcome is unknown, if there is one.
    #[must_use]
    pub fn unresolved(&self) -> Option<&Unresolved> {
        self.writer.gate().unresolved.as_ref()
    }

    /// The holds that were deleted alive, because the deadline had come: who held them.
    #[must_use]
    pub fn forced(&self) -> Vec<String> {
        self.writer.forced().iter().map(said).collect()
    }

    /// How long one exchange behind this gate may take.
    #[must_use]
    pub fn exchange_timeout(&self) -> Duration {
        self.durations.exchange
    }

    /// Whether an exchange may be begun now.
    pub fn may_exchange(&mut self) -> bool {
        self.tell_time();
        self.writer.may_exchange()
    }

    /// Waits until nobody who must be gone uses the credential, by the rules of the gate. Where that takes
    /// long, `long` is told who is waited for.
    ///
    /// # Errors
    /// The API server's refusal to list or to delete holds.
    pub async fn drain(
        &mut self,
        shutdown: &CancellationToken,
        long: &watch::Sender<Vec<String>>,
    ) -> Result<Drained, RequestError> {
        let step = span::lock_wait(&self.credential, self.attempt());
        step.run(self.wait_for_holders(shutdown, long), came).await
    }

    async fn wait_for_holders(
        &mut self,
        shutdown: &CancellationToken,
        long: &watch::Sender<Vec<String>>,
    ) -> Result<Drained, RequestError> {
        let start = Moment::now();
        let observer = Arc::clone(&self.observer);
        let namespace = self.credential.namespace().unwrap_or_default();
        let listener = observer.listen(&namespace, &self.credential.name_any());
        let mut told = false;
        loop {
            let ask = self.ask();
            if self.writer.is_behind() {
                return Ok(Drained::Behind);
            }
            let safe = !self.writer.is_settling();
            if shutdown.is_cancelled() {
                return Ok(Drained::Interrupted { safe });
            }
            match ask {
                WriterAsk::End(_) => return Ok(Drained::Superseded),
                WriterAsk::Wait(at_most) => {
                    if !told {
                        told = true;
                        self.log_wait();
                    }
                    let at_most = match LONG.checked_sub(Moment::now().elapsed(start)) {
                        Some(left) if !left.is_zero() => at_most.min(left),
                        _ => {
                            let holders = self.writer.waits_for().iter().map(said).collect();
                            long.send_if_modified(|told| {
                                let news = told.is_empty();
                                *told = holders;
                                news && !told.is_empty()
                            });
                            at_most
                        }
                    };
                    tokio::select! {
                        () = tokio::time::sleep(at_most) => {}
                        () = listener.changed() => self.writer.hint(),
                        () = shutdown.cancelled() => {}
                    }
                }
                _ => self.step().await?,
            }
        }
    }

    fn log_wait(&self) {
        if self.writer.is_settling() {
            tracing::warn!(
                reason = "GateMissing",
                "the gate was deleted; waiting until no writer can be at work"
            );
        } else {
            let holds = self.writer.waits_for();
            tracing::info!(
                reason = "Draining",
                holds = holds.len(),
                lease = holds.first().map(|hold| hold.name.as_str()),
                "waiting for holders to let go"
            );
        }
    }

    /// Notes that the token of the unresolved attempt is presented once more, before that is done.
    /// Whether the note is on the gate.
    pub async fn note_retried(&mut self) -> bool {
        self.writer.note_retried();
        for _ in 0..5 {
            if let WriterAsk::Wait(_) | WriterAsk::End(_) = self.ask() {
                break;
            }
            if let Err(error) = self.step().await {
                tracing::debug!(%error, "retry not noted on the gate");
                return false;
            }
        }
        self.writer.is_stored()
    }

    /// Runs `work` and renews the lease meanwhile. A lease that lapses does not stop the work: what
    /// was exchanged must be stored whoever holds the gate by then.
    pub async fn renewed_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let done = CancellationToken::new();
        let work = async {
            let output = work.await;
            done.cancel();
            output
        };
        // Joined, not selected: a renewal under way is finished, so that its answer is not lost.
        let (output, ()) = join(Box::pin(work), Box::pin(self.renew_until(&done))).await;
        output
    }

    async fn renew_until(&mut self, done: &CancellationToken) {
        while !done.is_cancelled() {
            match self.ask() {
                WriterAsk::End(_) => return,
                WriterAsk::Wait(at_most) => {
                    tokio::select! {
                        () = done.cancelled() => return,
                        () = tokio::time::sleep(at_most) => {}
                    }
                }
                _ => {
                    if let Err(error) = self.step().await {
                        // Not this time: the lease goes on until its own deadline.
                        tracing::debug!(%error, "gate not renewed");
                        tokio::time::sleep(self.durations.writer_lease / 3).await;
                    }
                }
            }
        }
    }

    /// Opens the gate at `generation`, with what is still `unresolved`; `holds`: the durations for the token
    /// that stands behind it, where that is a new one.
    pub async fn open(
        mut self,
        generation: Option<u64>,
        unresolved: Option<Unresolved>,
        holds: Option<Durations>,
    ) -> Opened {
        let holds = holds.unwrap_or(self.durations);
        self.writer.open(generation, unresolved, &holds);
        let start = Moment::now();
        loop {
            match self.ask() {
                WriterAsk::End(End::Open) => {
                    self.note_opened();
                    return Opened::Open;
                }
                WriterAsk::End(End::Missing) => return Opened::Missing,
                WriterAsk::End(_) => return Opened::Superseded,
                _ if Moment::now().elapsed(start) > OPENING => return Opened::Superseded,
                _ => {
                    if let Err(error) = self.step().await {
                        tracing::debug!(%error, "gate not opened");
                        self.pause().await;
                    }
                }
            }
        }
    }

    fn note_opened(&self) {
        let now = Moment::now();
        let mut opened = lock(&self.opened);
        // What was opened long ago tells nothing.
        opened.retain(|_, at| now.elapsed(*at) < Duration::from_secs(2));
        opened.insert(self.credential.full_name(), now);
    }

    fn tell_time(&mut self) {
        let now = Moment::now();
        self.writer.advance(now.since(self.told));
        self.told = now;
    }

    fn ask(&mut self) -> WriterAsk {
        self.tell_time();
        let namespace = self.credential.namespace().unwrap_or_default();
        self.observer
            .with_stopwatches(&namespace, |watches| self.writer.ask(watches))
    }
}

/// What a wait for holders came to, as the outcome of its span.
fn came(drained: &Result<Drained, RequestError>) -> Came {
    match drained {
        Ok(Drained::Behind) => Came::Success(None),
        Ok(Drained::Interrupted { .. }) => Came::Nothing("interrupted"),
        Ok(Drained::Superseded) => Came::Nothing("superseded"),
        Err(_) => Came::Failure(Reason::APIServerError),
    }
}

/// A holder, for people.
fn said(hold: &SeenHold) -> String {
    format!("{} (Lease {})", hold.holder, hold.name)
}
