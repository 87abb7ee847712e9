//! Ways to a gate: creating one, and closing it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, Resource, ResourceExt};
use uuid::Uuid;

use super::{Gate, Running, lock};
use crate::{
    api::IntegrationCredential,
    clock::Moment,
    finalizer,
    lock::{
        lease::Leases,
        observer::Observer,
        protocol::{
            Attempt, Drains, Durations, End, GateState, Holder, Mode, Priority, Version, Writer,
            WriterAsk,
        },
        wire::{self, GATE},
    },
    request::{RequestError, optional},
};

/// The gates as this process sees and writes them.
pub struct Gates {
    client: Client,
    incarnation: String,
    running: Arc<Mutex<HashSet<String>>>,
    looks: Mutex<HashMap<String, Look>>,
    opened: Arc<Mutex<HashMap<String, Moment>>>,
    /// Gates that this process has created and not looked at since.
    created: Mutex<HashMap<String, Lease>>,
    /// The holds and wants.
    pub observer: Arc<Observer>,
}

/// A gate that somebody else holds, as it was looked at.
struct Look {
    version: Version,
    /// Since when it has been so.
    since: Moment,
    /// When it was looked at last.
    last: Moment,
}

/// How far apart two looks at a gate may be at least, on a busy machine.
const UNSEEN: Duration = Duration::from_secs(5);

/// What a writer wants of a gate.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Why.
    pub priority: Priority,
    /// The durations to publish.
    pub durations: Durations,
    /// Who may hold the credential at a time.
    pub mode: Mode,
    /// Whether holders must have stopped before the token is exchanged.
    pub drains: Drains,
    /// For how long holders are waited for.
    pub patience: Duration,
    /// Whether it cannot leave the gate open for a moment first.
    pub urgent: bool,
}

/// The answer to a writer that wants in.
pub enum Entered {
    /// The gate is closed, by the caller.
    Mine(Box<Gate>),
    /// Somebody else writes: look again after this long.
    Busy(Duration),
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
            looks: Mutex::default(),
            opened: Arc::default(),
            created: Mutex::default(),
            observer: Arc::default(),
        }
    }

    /// Forgets what was seen of the gate of a credential that is gone.
    pub fn forget(&self, credential: &IntegrationCredential) {
        lock(&self.looks).remove(&credential.full_name());
        lock(&self.created).remove(&credential.full_name());
        let namespace = credential.namespace().unwrap_or_default();
        self.observer.forget(&namespace, &credential.name_any());
    }

    /// Creates the gate of a credential that has never been refreshed, open. Only for a credential
    /// that has neither a status nor a grant: for any other, a missing gate means that somebody
    /// deleted it, maybe under a writer. Returns it if it was created by this very call.
    pub async fn create(
        &self,
        credential: &IntegrationCredential,
        mode: Mode,
        durations: &Durations,
    ) -> Result<Option<Lease>, RequestError> {
        let leases = self.leases(credential);
        let mut lease = new_lease(credential);
        let open = GateState::open(0, mode, durations);
        wire::write_gate(&open, &mut lease, Timestamp::now());
        match leases.create(&lease).await {
            Ok(created) => {
                lock(&self.created).insert(credential.full_name(), created.clone());
                Ok(Some(created))
            }
            Err(RequestError::Conflict) => {
                let found = leases.get(&credential.gate_name()).await?;
                match found {
                    Some(found) if !is_of(&found, credential) => {
                        leases.withdraw(&found).await;
                        Err(RequestError::Conflict)
                    }
                    Some(_) => Ok(None),
                    // It has just gone.
                    None => Err(RequestError::Conflict),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a gate back that was created for a credential which turned out not to be new: it may
    /// stand where another one was deleted under a writer.
    pub async fn withdraw(&self, credential: &IntegrationCredential, created: &Lease) {
        self.leases(credential).withdraw(created).await;
    }

    /// Deletes a hold or a want of this version, which its maker seems to have left behind.
    ///
    /// # Errors
    /// `Conflict` where it is of another by now; that one is seen from now on.
    pub async fn remove(
        &self,
        namespace: &str,
        name: &str,
        version: &Version,
    ) -> Result<(), RequestError> {
        let leases = Leases::new(&self.client, namespace);
        let removed = leases.delete(name, version).await;
        match &removed {
            Ok(()) | Err(RequestError::NotFound) => self.observer.correct(namespace, name, None),
            // What was seen of it is older than what a watch has brought, and forgotten, since.
            Err(RequestError::Conflict) => {
                let found = leases.get(name).await?;
                self.observer.correct(namespace, name, found.as_ref());
            }
            Err(_) => {}
        }
        removed
    }

    /// Closes the gate, or says how long to wait for the one who holds it. What is behind it may be
    /// touched only after [`Gate::drain`].
    pub async fn enter(
        &self,
        credential: &Arc<IntegrationCredential>,
        wish: Wish,
    ) -> Result<Entered, RequestError> {
        let attempt = Uuid::new_v4().simple().to_string()[..12].to_owned();
        lock(&self.running).insert(attempt.clone());
        let open_for = lock(&self.opened).get(&credential.full_name()).copied();
        let now = Moment::now();
        let writer = Writer::new(Attempt {
            holder: Holder {
                incarnation: self.incarnation.clone(),
                attempt: attempt.clone(),
            },
            priority: wish.priority,
            durations: wish.durations,
            mode: wish.mode,
            drains: wish.drains,
            patience: wish.patience,
            open_for: open_for.filter(|_| !wish.urgent).map(|at| now.elapsed(at)),
            now: now.wall,
        });
        let mut gate = Box::new(Gate {
            leases: self
                .leases(credential)
                .patient_for(wish.durations.writer_lease),
            credential: Arc::clone(credential),
            writer,
            durations: wish.durations,
            lease: None,
            told: now,
            pause: Duration::ZERO,
            observer: Arc::clone(&self.observer),
            opened: Arc::clone(&self.opened),
            _running: Running {
                attempt,
                table: Arc::clone(&self.running),
            },
        });
        let mut tries = 0;
        while !gate.writer.is_closed() {
            match gate.ask() {
                WriterAsk::End(End::Busy(pause)) => return Ok(Entered::Busy(pause)),
                WriterAsk::ReadGate => {
                    tries += 1;
                    // As it was created is as good as a look: where it has changed since, it is not closed, and
                    // looked at again.
                    let created = lock(&self.created).remove(&credential.full_name());
                    let found = match created {
                        Some(created) => Ok(Some(created)),
                        None => gate.leases.get(&credential.gate_name()).await,
                    };
                    let found = match found {
                        Ok(found) => found,
                        // A close that may have been stored must not be left behind unnoticed.
                        Err(RequestError::Unclear(_)) if gate.writer.may_have_closed() => {
                            gate.pause().await;
                            continue;
                        }
                        Err(error) => return Err(error),
                    };
                    if let Some(found) = &found
                        && !is_of(found, credential)
                    {
                        // Of a credential of the same name that is gone, and soon to be collected; unless it is this one
                        // that is gone.
                        if self.is_living(credential).await? {
                            gate.leases.withdraw(found).await;
                        }
                        return Ok(Entered::Busy(wish.durations.writer_lease / 3));
                    }
                    let unchanged_for = found
                        .as_ref()
                        .map_or(Duration::ZERO, |lease| self.observe(credential, lease));
                    let answer = gate.keep(found);
                    gate.tell_time();
                    let mut running = lock(&self.running).clone();
                    running.remove(gate.attempt());
                    let is_running = |other: &str| running.contains(other);
                    gate.writer.on_gate(answer, unchanged_for, is_running);
                }
                _ => {
                    gate.step().await?;
                }
            }
            if tries > 20 {
                return Ok(Entered::Busy(wish.durations.writer_lease / 3));
            }
        }
        lock(&self.looks).remove(&credential.full_name());
        Ok(Entered::Mine(gate))
    }

    /// How long this version of somebody else's gate has been seen. Each look is a quorum read, so an
    /// equal `resourceVersion` proves that nothing happened in between. It says nothing of the time in which
    /// nobody could look: the writer could not renew then either, and may hold a token that it cannot store.
    fn observe(&self, credential: &IntegrationCredential, lease: &Lease) -> Duration {
        let now = Moment::now();
        let version = wire::version(lease);
        let gate = wire::read_gate(lease, &Durations::scaled(None, Duration::MAX));
        let mut looks = lock(&self.looks);
        let look = looks.entry(credential.full_name()).or_insert_with(|| Look {
            version: version.clone(),
            since: now,
            last: now,
        });
        let blind = now.elapsed(look.last) > gate.writer_lease.max(UNSEEN);
        if look.version != version || blind {
            look.version = version;
            look.since = now;
        }
        look.last = now;
        now.elapsed(look.since)
    }

    /// Whether this very credential is there, and no other of its name.
    async fn is_living(&self, credential: &IntegrationCredential) -> Result<bool, RequestError> {
        let namespace = credential.namespace().unwrap_or_default();
        let api: Api<IntegrationCredential> = Api::namespaced(self.client.clone(), &namespace);
        let found = optional(api.get_metadata(&credential.name_any())).await?;
        Ok(found.is_some_and(|found| found.uid() == credential.uid()))
    }

    fn leases(&self, credential: &IntegrationCredential) -> Leases {
        Leases::new(&self.client, &credential.namespace().unwrap_or_default())
    }
}

/// Whether a gate was made for this very credential, and not for another of the same name.
fn is_of(lease: &Lease, credential: &IntegrationCredential) -> bool {
    finalizer::is_of(&lease.metadata, &credential.uid().unwrap_or_default())
}

pub(super) fn new_lease(credential: &IntegrationCredential) -> Lease {
    let mut lease = Lease::default();
    lease.metadata.name = Some(credential.gate_name());
    lease.metadata.namespace = credential.namespace();
    lease.metadata.owner_references = credential.controller_owner_ref(&()).map(|o| vec![o]);
    lease.metadata.labels = Some(wire::labels(&credential.name_any(), GATE));
    finalizer::guard(&mut lease.metadata, credential);
    lease
}
