//! The writer's side of the lock on real Leases. What to do is decided in [`protocol`]; this module
//! makes the requests, and reads back whenever an answer does not tell what happened.
//!
//! [`protocol`]: super::protocol

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::protocol::{
    CLOCK_DRIFT, Durations, Entry, GateState, Holder, Phase, Priority, Unresolved, enter,
    own_validity_left,
};
use crate::{
    api::{CREDENTIAL_LABEL, IntegrationCredential, ROLE_LABEL},
    clock::Moment,
    request::{RequestError, bounded, optional},
};

/// How often a compare-and-swap that lost is tried again before the credential is queued anew.
const TRIES: u32 = 5;

/// How long opening a gate is tried. After that a takeover has to open it.
const OPENING: Duration = Duration::from_secs(120);

/// The gates as this process sees and writes them.
pub struct Gates {
    client: Client,
    incarnation: String,
    running: Arc<Mutex<HashSet<String>>>,
    seen: Mutex<HashMap<String, Seen>>,
}

/// A version of somebody else's gate, and since when it has been seen unchanged.
struct Seen {
    uid: Option<String>,
    resource_version: Option<String>,
    since: Moment,
}

/// The answer to a writer that wants in.
pub enum Entered {
    /// The gate is closed, by the caller.
    Mine(Box<Gate>),
    /// Somebody else writes: look again after this long.
    Busy(Duration),
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
    api: Api<Lease>,
    lease: Lease,
    state: GateState,
    durations: Durations,
    written: Moment,
    lost: bool,
    settle: Option<Duration>,
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

impl Gates {
    /// The gates for a process called `process` (the pod's name and UID); a nonce makes each start
    /// of it another writer.
    #[must_use]
    pub fn new(client: Client, process: &str) -> Self {
        let nonce = Uuid::new_v4().simple().to_string();
        Self {
            client,
            incarnation: format!("{process}_{}", &nonce[..8]),
            running: Arc::default(),
            seen: Mutex::default(),
        }
    }

    /// Forgets what was seen of a gate whose credential is gone.
    pub fn forget(&self, namespace: &str, gate: &str) {
        lock(&self.seen).remove(&format!("{namespace}/{gate}"));
    }

    /// Creates the gate of a credential that has never been refreshed, open. Only for a credential
    /// that has neither a status nor a grant: for any other, a missing gate means that somebody
    /// deleted it, maybe under a writer. Returns it if it was created by this very call.
    pub async fn create(
        &self,
        credential: &IntegrationCredential,
        durations: &Durations,
    ) -> Result<Option<Lease>, RequestError> {
        let mut lease = new_lease(credential);
        GateState::open(0, durations).write(&mut lease, Moment::now().wall);
        match bounded(self.api(credential).create(&PostParams::default(), &lease)).await {
            Ok(created) => Ok(Some(created)),
            Err(RequestError::Conflict) => {
                let found = optional(self.api(credential).get(&credential.gate_name())).await?;
                match found {
                    Some(found) if !is_of(&found, credential) => {
                        self.withdraw(credential, &found).await;
                        Err(RequestError::Conflict)
                    }
                    _ => Ok(None),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a gate back that was created for a credential which turned out not to be new: it may
    /// stand where another one was deleted under a writer.
    pub async fn withdraw(&self, credential: &IntegrationCredential, created: &Lease) {
        let preconditions = Preconditions {
            uid: created.uid(),
            resource_version: created.resource_version(),
        };
        let params = DeleteParams::default().preconditions(preconditions);
        let name = credential.gate_name();
        if let Err(error) = bounded(self.api(credential).delete(&name, &params)).await {
            tracing::debug!(%error, "gate not taken back");
        }
    }

    /// Closes the gate straight to Refreshing, or says how long to wait for the one who holds it.
    pub async fn enter(
        &self,
        credential: &IntegrationCredential,
        priority: Priority,
        durations: Durations,
    ) -> Result<Entered, RequestError> {
        let api = self.api(credential);
        let name = credential.gate_name();
        let attempt = Uuid::new_v4().simple().to_string()[..12].to_owned();
        let holder = Holder {
            incarnation: self.incarnation.clone(),
            attempt: attempt.clone(),
        };
        lock(&self.running).insert(attempt.clone());
        let running = Running {
            attempt,
            table: Arc::clone(&self.running),
        };
        let mut first_sent = None;
        let mut settle = None;
        for _ in 0..TRIES {
            let found = optional(api.get(&name)).await?;
            if let Some(found) = &found
                && !is_of(found, credential)
            {
                // Of a credential of the same name that is gone, and soon to be collected.
                self.withdraw(credential, found).await;
                return Ok(Entered::Busy(durations.writer_lease / 3));
            }
            let sent = *first_sent.get_or_insert_with(Moment::now);
            let (lease, state) = if let Some(lease) = found {
                let gate = GateState::read(&lease, &durations);
                if gate.holder.as_ref() == Some(&holder) {
                    // A close of ours that was answered too late, or not at all, has been stored.
                    return Ok(Entered::Mine(Box::new(Gate {
                        api,
                        lease,
                        state: gate,
                        durations,
                        written: sent,
                        lost: false,
                        settle,
                        _running: running,
                    })));
                }
                let unchanged_for = self.observe(credential, &lease);
                let is_running = |attempt: &str| lock(&self.running).contains(attempt);
                match enter(&gate, unchanged_for, &self.incarnation, is_running) {
                    Entry::Close { unresolved } => {
                        let holder = holder.clone();
                        let state =
                            gate.closed(holder, priority, unresolved, &durations, sent.wall);
                        (lease, state)
                    }
                    Entry::Wait(left) => {
                        return Ok(Entered::Busy(left.min(gate.writer_lease / 3)));
                    }
                    Entry::Running => return Ok(Entered::Busy(gate.writer_lease / 3)),
                }
            } else {
                // A gate that existed and is gone counts as Refreshing with an unknown attempt: its
                // writer may be at work still, so nothing happens for as long as that could last.
                let state = GateState::open(0, &durations).closed(
                    holder.clone(),
                    priority,
                    Some(Unresolved::unknown()),
                    &durations,
                    sent.wall,
                );
                let longest = durations.writer_lease + durations.takeover_delay();
                settle = Some(longest.mul_f64(1.0 + CLOCK_DRIFT));
                (new_lease(credential), state)
            };
            let mut wanted = lease;
            state.write(&mut wanted, sent.wall);
            // Only this writer's own request can have put this attempt there, so a gate that is found
            // to be ours was written by it, and counts from when that was sent.
            if let Written::Stored(lease) | Written::Found(lease) =
                write(&api, &name, &wanted, &state).await?
            {
                self.forget(&credential.namespace().unwrap_or_default(), &name);
                return Ok(Entered::Mine(Box::new(Gate {
                    api,
                    lease,
                    state,
                    durations,
                    written: sent,
                    lost: false,
                    settle,
                    _running: running,
                })));
            }
        }
        Ok(Entered::Busy(durations.writer_lease / 3))
    }

    /// How long this version of somebody else's gate has been seen. Each look is a quorum read, so an
    /// equal `resourceVersion` proves that nothing happened in between.
    fn observe(&self, credential: &IntegrationCredential, lease: &Lease) -> Duration {
        let key = format!(
            "{}/{}",
            credential.namespace().unwrap_or_default(),
            lease.name_any()
        );
        let now = Moment::now();
        let mut seen = lock(&self.seen);
        let entry = seen.entry(key).or_insert_with(|| Seen {
            uid: None,
            resource_version: None,
            since: now,
        });
        let version = lease.resource_version();
        if entry.uid != lease.uid() || entry.resource_version != version {
            *entry = Seen {
                uid: lease.uid(),
                resource_version: version,
                since: now,
            };
        }
        now.elapsed(entry.since)
    }

    fn api(&self, credential: &IntegrationCredential) -> Api<Lease> {
        Api::namespaced(
            self.client.clone(),
            &credential.namespace().unwrap_or_default(),
        )
    }
}

impl Gate {
    /// The attempt's identifier, for logs and for the grant.
    #[must_use]
    pub fn attempt(&self) -> &str {
        self.state.holder.as_ref().map_or("", |h| &h.attempt)
    }

    /// The generation of the token when the gate was opened last, where the gate still says so.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.state.generation
    }

    /// Notes that the token of the unresolved attempt is presented once more, before that is done.
    /// Whether the note is on the gate.
    pub async fn note_retried(&mut self) -> bool {
        let Some(unresolved) = &mut self.state.unresolved else {
            return true;
        };
        unresolved.retried = true;
        let sent = Moment::now();
        let mut wanted = self.lease.clone();
        self.state.write(&mut wanted, sent.wall);
        match write(&self.api, &self.lease.name_any(), &wanted, &self.state).await {
            Ok(Written::Stored(lease)) => {
                self.lease = lease;
                self.written = sent;
                true
            }
            Ok(Written::Found(lease)) => {
                let found = GateState::read(&lease, &self.durations);
                self.lease = lease;
                found.unresolved.is_some_and(|u| u.retried)
            }
            Ok(Written::Lost) => {
                self.lost = true;
                false
            }
            Err(error) => {
                tracing::debug!(%error, "retry not noted on the gate");
                false
            }
        }
    }

    /// The attempt whose outcome is unknown, if there is one.
    #[must_use]
    pub fn unresolved(&self) -> Option<&Unresolved> {
        self.state.unresolved.as_ref()
    }

    /// How long the caller must keep this gate closed before it may do anything: set where the gate
    /// was missing and another writer may be at work still.
    #[must_use]
    pub fn settle(&self) -> Option<Duration> {
        self.settle
    }

    /// How long one exchange behind this gate may take.
    #[must_use]
    pub fn exchange_timeout(&self) -> Duration {
        self.durations.exchange
    }

    /// Whether the lease still entitles to start an exchange.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let elapsed = Moment::now().own_elapsed(self.written);
        !self.lost && !own_validity_left(self.durations.writer_lease, elapsed).is_zero()
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
        while !self.lost {
            tokio::select! {
                () = done.cancelled() => return,
                () = tokio::time::sleep(self.durations.writer_lease / 3) => self.renew().await,
            }
        }
    }

    async fn renew(&mut self) {
        let sent = Moment::now();
        let mut wanted = self.lease.clone();
        wanted.spec.get_or_insert_default().renew_time = Some(MicroTime(sent.wall));
        match write(&self.api, &self.lease.name_any(), &wanted, &self.state).await {
            Ok(Written::Stored(lease)) => {
                self.lease = lease;
                self.written = sent;
            }
            // Somebody edited it, or the answer was lost: a look never prolongs a lease.
            Ok(Written::Found(lease)) => self.lease = lease,
            // Another one's, or gone: this lease is over for good.
            Ok(Written::Lost) => self.lost = true,
            // Not this time: the lease goes on until its own deadline.
            Err(error) => tracing::debug!(%error, "gate not renewed"),
        }
    }

    /// Opens the gate at `generation`, with what is still `unresolved`.
    pub async fn open(mut self, generation: Option<u64>, unresolved: Option<Unresolved>) -> Opened {
        let name = self.lease.name_any();
        let mine = self.state.holder.take();
        self.state.phase = Phase::Open;
        self.state.closed_at = None;
        // Never below what it has said before.
        self.state.generation = self.state.generation.max(generation);
        self.state.unresolved = unresolved;
        let start = Moment::now();
        let mut pause = Duration::from_millis(50);
        loop {
            self.state.write(&mut self.lease, Moment::now().wall);
            match bounded(self.api.replace(&name, &PostParams::default(), &self.lease)).await {
                Ok(_) => return Opened::Open,
                Err(RequestError::NotFound) => return Opened::Missing,
                Err(RequestError::Conflict) => {}
                Err(error) => tracing::debug!(%error, "gate not opened"),
            }
            match optional(self.api.get(&name)).await {
                Ok(None) => return Opened::Missing,
                Ok(Some(lease)) => {
                    let found = GateState::read(&lease, &self.durations);
                    if found.holder == mine {
                        self.lease = lease;
                    } else if found == self.state {
                        return Opened::Open;
                    } else {
                        return Opened::Superseded;
                    }
                }
                Err(error) => tracing::debug!(%error, "gate not read"),
            }
            if Moment::now().elapsed(start) > OPENING {
                return Opened::Superseded;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// What became of a write to a gate.
enum Written {
    /// It was stored.
    Stored(Lease),
    /// It may or may not have been stored; the gate is this attempt's.
    Found(Lease),
    /// The gate is another attempt's, or gone.
    Lost,
}

/// Writes a gate by compare-and-swap, or creates it where `wanted` has no `resourceVersion`. An
/// unclear answer is settled by reading back.
async fn write(
    api: &Api<Lease>,
    name: &str,
    wanted: &Lease,
    state: &GateState,
) -> Result<Written, RequestError> {
    let params = PostParams::default();
    let answer = if wanted.resource_version().is_some() {
        bounded(api.replace(name, &params, wanted)).await
    } else {
        bounded(api.create(&params, wanted)).await
    };
    match answer {
        Ok(lease) => Ok(Written::Stored(lease)),
        Err(RequestError::Refused(error)) => Err(RequestError::Refused(error)),
        Err(RequestError::NotFound) => Ok(Written::Lost),
        Err(RequestError::Conflict | RequestError::Unclear(_)) => {
            let Some(lease) = optional(api.get(name)).await? else {
                return Ok(Written::Lost);
            };
            let holder = GateState::read(&lease, &Durations::scaled(None, Duration::MAX)).holder;
            if holder.is_some() && holder == state.holder {
                Ok(Written::Found(lease))
            } else {
                Ok(Written::Lost)
            }
        }
    }
}

/// Whether a gate was made for this very credential, and not for another of the same name.
fn is_of(lease: &Lease, credential: &IntegrationCredential) -> bool {
    let uid = credential.uid().unwrap_or_default();
    lease
        .owner_references()
        .iter()
        .any(|owner| owner.uid == uid)
}

fn new_lease(credential: &IntegrationCredential) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.name = Some(credential.gate_name());
    lease.metadata.namespace = credential.namespace();
    lease.metadata.owner_references = credential.controller_owner_ref(&()).map(|o| vec![o]);
    lease.metadata.labels = Some(
        [
            (CREDENTIAL_LABEL.to_owned(), credential.name_any()),
            (ROLE_LABEL.to_owned(), "gate".to_owned()),
        ]
        .into(),
    );
    lease
}
