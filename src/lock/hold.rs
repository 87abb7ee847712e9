//! The consumer's side of the lock on real Leases. What to do is decided by [`Consumer`]; the task here
//! makes the requests, tells it the answers, and lives until the hold is gone.

mod requests;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{Api, Client};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    lease::Leases,
    protocol::{Consumer, ConsumerAsk, GateState, Mode, Phase, Terms},
    wire::{self, Claimant},
};
use crate::{
    clock::{self, Moment},
    manager::{Changes, Credentials, Target},
    request::RequestError,
};

/// How long a holder keeps its hold before it is worth a watch of the gate.
const WORTH_A_WATCH: Duration = Duration::from_millis(500);

/// How many requests without an answer the end of a hold is worth.
const PATIENCE: u32 = 60;

/// How long a consumer waits for a change before it looks all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What one wants to hold, and how.
pub(crate) struct Claim {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) credential: String,
    pub(crate) target: Target,
    pub(crate) claimant: Claimant,
    pub(crate) mode: Option<Mode>,
    /// For how long the token must be valid; `None`: half of the hold's duration, at most 30 s.
    pub(crate) min_validity: Option<Duration>,
    /// The gate as it was passed last, by this process and not long ago.
    pub(crate) memory: Option<GateState>,
}

/// What the holder is told.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// Whether the gate was seen closed.
    pub(crate) draining: bool,
    /// Whether the hold is gone without having been released.
    pub(crate) lost: bool,
    /// Until when the token may be used.
    pub(crate) valid: Option<(Moment, Duration)>,
}

impl Standing {
    /// Whether the token may be used now.
    pub(crate) fn may_use(&self) -> bool {
        !self.lost
            && self
                .valid
                .is_some_and(|(since, valid_for)| Moment::now().own_elapsed(since) < valid_for)
    }
}

/// What came of a claim.
pub(crate) struct Granted {
    pub(crate) token: Credentials,
    pub(crate) standing: watch::Receiver<Standing>,
    /// Has it looked at the clock at once.
    pub(crate) look: Arc<Notify>,
    /// The gate as it was passed.
    pub(crate) gate: Option<GateState>,
}

/// Why a claim came to nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The API server refused a request for a Lease: the verb.
    Lease(&'static str, RequestError),
    /// The API server refused to show the Secret of this name.
    Secret(String, RequestError),
    /// The gate is that of another credential of its name.
    Another,
    /// The gate has another mode than was asked for.
    WrongMode(Mode),
    /// The token is about to expire, and has this generation: ask for another one, without a hold.
    Expiring(u64),
}

/// Tries to hold until it is told to let go: [`oneshot::Sender`] gets the grant, or the refusal.
pub(crate) async fn hold(
    claim: Claim,
    let_go: CancellationToken,
    granted: oneshot::Sender<Result<Granted, Refusal>>,
) {
    let terms = Terms {
        mode: claim.mode,
        min_use: Duration::from_millis(500),
        nonce: Uuid::new_v4().simple().to_string()[..16].to_owned(),
    };
    let consumer = match &claim.memory {
        Some(gate) => Consumer::with_memory(terms, gate),
        None => Consumer::new(terms),
    };
    let secrets = Api::namespaced(claim.client.clone(), &claim.namespace);
    let (tell, standing) = watch::channel(Standing {
        draining: false,
        lost: false,
        valid: None,
    });
    let driver = Driver {
        leases: Leases::new(&claim.client, &claim.namespace),
        secrets,
        consumer,
        told: Moment::now(),
        tell,
        let_go,
        look: Arc::default(),
        gate: claim.memory.clone(),
        gate_read: None,
        prefetched: None,
        changes: None,
        target_changes: None,
        created: None,
        since_use: None,
        pause: Duration::ZERO,
        failures: 0,
        claim,
    };
    driver.run(granted, standing).await;
}

struct Driver {
    claim: Claim,
    leases: Leases,
    secrets: Api<Secret>,
    consumer: Consumer,
    /// When the consumer was told the time last.
    told: Moment,
    tell: watch::Sender<Standing>,
    let_go: CancellationToken,
    /// Notified when the holder finds its clock in disorder.
    look: Arc<Notify>,
    /// The gate as it was read last.
    gate: Option<GateState>,
    /// When that was.
    gate_read: Option<Moment>,
    /// The target, where it was read together with the gate.
    prefetched: Option<Credentials>,
    changes: Option<Changes<Lease>>,
    target_changes: Option<Changes<Secret>>,
    /// When the hold was stored, by one's own clock and by the API server's.
    created: Option<(Moment, Timestamp)>,
    /// When the token was handed over.
    since_use: Option<Moment>,
    /// How long to wait after an answer that did not tell.
    pause: Duration,
    /// How many of those there were in a row.
    failures: u32,
}

impl Driver {
    async fn run(
        mut self,
        granted: oneshot::Sender<Result<Granted, Refusal>>,
        standing: watch::Receiver<Standing>,
    ) {
        let mut granted = Some(granted);
        let mut token = None;
        loop {
            let ask = self.ask();
            if granted.is_some() && self.consumer.is_using() {
                let Some(token) = token.take() else { return };
                self.since_use = Some(self.told);
                self.publish();
                let grant = Granted {
                    token,
                    standing: standing.clone(),
                    look: Arc::clone(&self.look),
                    gate: self.gate.clone(),
                };
                if let Some(granted) = granted.take()
                    && granted.send(Ok(grant)).is_err()
                {
                    self.let_go.cancel();
                    continue;
                }
            }
            self.publish();
            let refusal = match ask {
                ConsumerAsk::End { .. } => return,
                // It times out by itself.
                ConsumerAsk::DeleteHold { .. } if self.failures > PATIENCE => return,
                ConsumerAsk::WaitForGate => {
                    if let Some(wanted) = self.wrong_mode() {
                        Some(Refusal::WrongMode(wanted))
                    } else {
                        self.wait_for_gate().await;
                        None
                    }
                }
                ConsumerAsk::ReadTarget => match self.read_target().await {
                    Ok(Some(read)) if self.is_expiring(&read) => {
                        Some(Refusal::Expiring(read.generation()))
                    }
                    Ok(read) => {
                        self.tell_time();
                        self.consumer
                            .on_target(read.as_ref().map(Credentials::generation));
                        token = read;
                        None
                    }
                    Err(error) => Some(Refusal::Secret(self.claim.target.secret.clone(), error)),
                },
                ConsumerAsk::WaitForTarget(at_most) => {
                    self.wait_for_target(at_most).await;
                    None
                }
                ConsumerAsk::Use(at_most) => {
                    self.keep(at_most).await;
                    None
                }
                request => self.request_in_time(request).await.err(),
            };
            if let Some(refusal) = refusal {
                if let Some(granted) = granted.take() {
                    self.release().await;
                    let _ = granted.send(Err(refusal));
                    return;
                }
                // Not this time: the hold goes on until its own deadline.
                self.pause().await;
            }
        }
    }

    fn publish(&mut self) {
        let now = Standing {
            draining: self.consumer.is_draining(),
            lost: self.consumer.is_lost(),
            valid: self
                .consumer
                .may_use()
                .then(|| (self.told, self.consumer.valid_for())),
        };
        self.tell.send_if_modified(|before| {
            let changed = before.draining != now.draining
                || before.lost != now.lost
                || before.valid.is_some() != now.valid.is_some()
                || before.valid.map(until) != now.valid.map(until);
            *before = now;
            changed
        });
    }

    fn tell_time(&mut self) {
        let now = Moment::now();
        self.consumer.advance(now.since(self.told));
        self.told = now;
    }

    fn ask(&mut self) -> ConsumerAsk {
        // By the time of now: what was told last may be as old as the last renewal.
        let is_fresh = |at: Moment| Moment::now().elapsed(at) < self.consumer.duration();
        let watched = self.changes.as_ref().is_some_and(Changes::is_alive)
            && self.gate_read.is_some_and(is_fresh);
        self.consumer.watched(watched);
        self.tell_time();
        if self.let_go.is_cancelled() {
            self.consumer.release();
        }
        self.consumer.ask()
    }

    /// The mode of an open gate that is not the one asked for.
    fn wrong_mode(&self) -> Option<Mode> {
        let wanted = self.claim.mode?;
        self.gate_read?;
        let gate = self.gate.as_ref().filter(|g| g.phase == Phase::Open)?;
        (gate.mode != wanted).then_some(gate.mode)
    }

    fn is_expiring(&self, token: &Credentials) -> bool {
        const LONGEST: Duration = Duration::from_secs(30);
        // Nobody replaces in time what is copied.
        let copied = self.claim.target.form.is_copied().then_some(Duration::ZERO);
        let enough = copied.or(self.claim.min_validity);
        let enough = enough.unwrap_or_else(|| (self.consumer.duration() / 2).min(LONGEST));
        // What the gate does not know yet is waited for, not replaced.
        token.generation() >= self.consumer.generation()
            && !token.is_valid_for(enough, self.server_time())
    }

    /// The time of the API server, by the hold that it has stored: one's own clock may be wrong.
    fn server_time(&self) -> Timestamp {
        let by_server = self.created.and_then(|(at, created)| {
            let since = Moment::now().elapsed(at);
            created.checked_add(since).ok()
        });
        by_server.unwrap_or_else(clock::now)
    }

    /// An API server that does not answer is not asked all the time, and one that was told to let go does
    /// not wait.
    async fn pause(&mut self) {
        const FIRST: Duration = Duration::from_millis(50);
        self.failures += 1;
        self.pause = (self.pause * 2).clamp(FIRST, Duration::from_secs(1));
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = self.let_go.cancelled(), if !self.let_go.is_cancelled() => {}
        }
    }

    async fn wait_for_gate(&mut self) {
        let (client, namespace) = (&self.claim.client, &self.claim.namespace);
        let changes = self.changes.get_or_insert_with(|| {
            Changes::new(client, namespace, &wire::gate_name(&self.claim.credential))
        });
        // Not all at once.
        let jitter = Duration::from_millis(random(250));
        let look_again = if self.gate.as_ref().is_some_and(|g| g.phase == Phase::Open) {
            // Somebody else's exclusive hold: the gate tells nothing of its end.
            Duration::from_millis(500)
        } else {
            LOOK_AGAIN
        };
        tokio::select! {
            () = async {
                changes.within(look_again).await;
                tokio::time::sleep(jitter).await;
            } => {}
            () = self.let_go.cancelled() => {}
        }
        self.tell_time();
        self.consumer.hint();
    }

    async fn wait_for_target(&mut self, at_most: Duration) {
        let (client, namespace) = (&self.claim.client, &self.claim.namespace);
        let changes = self
            .target_changes
            .get_or_insert_with(|| Changes::new(client, namespace, &self.claim.target.secret));
        tokio::select! {
            () = changes.within(at_most.min(LOOK_AGAIN)) => {}
            () = self.let_go.cancelled() => {}
        }
        self.tell_time();
        self.consumer.hint();
    }

    /// Nothing to do while the token is used, until the gate changes.
    async fn keep(&mut self, at_most: Duration) {
        let used_for = self.since_use.map(|at| self.told.elapsed(at));
        let until_watch = used_for.map(|used| WORTH_A_WATCH.saturating_sub(used));
        if self.changes.is_none() && until_watch == Some(Duration::ZERO) {
            let gate = wire::gate_name(&self.claim.credential);
            let (client, namespace) = (&self.claim.client, &self.claim.namespace);
            self.changes = Some(Changes::new(client, namespace, &gate));
        }
        let at_most = match &self.changes {
            None => at_most.min(until_watch.unwrap_or(at_most)),
            Some(_) => at_most,
        };
        let changes = &mut self.changes;
        let changed = async {
            match changes {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tokio::time::sleep(at_most) => {}
            () = changed => {
                self.tell_time();
                self.consumer.hint();
            }
            () = self.look.notified() => {}
            () = self.let_go.cancelled() => {}
        }
    }

    /// Deletes the hold, if there may be one, whatever else is under way.
    async fn release(&mut self) {
        const TRIES: u32 = 20;
        self.consumer.release();
        for _ in 0..TRIES {
            match self.consumer.ask() {
                ConsumerAsk::End { .. } => return,
                ask => {
                    if self.request(ask).await.is_err() {
                        // It times out.
                        return;
                    }
                }
            }
        }
    }
}

fn until((since, valid_for): (Moment, Duration)) -> Duration {
    since.boot() + valid_for
}

/// Below this number.
fn random(bound: u64) -> u64 {
    let (high, _) = Uuid::new_v4().as_u64_pair();
    (high >> 32) % bound
}
