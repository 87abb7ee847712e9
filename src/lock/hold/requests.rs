//! One request of a consumer, and its answer.

use std::time::Duration;

use futures::future::join;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

use super::{Driver, Refusal};
use crate::{
    lock::{
        protocol::{Answer, ConsumerAsk, Durations, HoldIdentity, Version},
        wire,
    },
    manager::Credentials,
    request::{RequestError, answer, bounded},
};

impl Driver {
    /// Makes a request, and does not wait for its answer beyond the hold's own deadline, or so long that
    /// there would be no time for another one.
    pub(super) async fn request_in_time(&mut self, ask: ConsumerAsk) -> Result<(), Refusal> {
        if !self.consumer.is_using() {
            return self.request(ask).await;
        }
        let limit = self.consumer.valid_for().min(self.consumer.duration() / 3);
        let renews = matches!(ask, ConsumerAsk::RenewHold { .. });
        if let Ok(done) = tokio::time::timeout(limit, self.request(ask)).await {
            return done;
        }
        self.tell_time();
        if renews {
            self.consumer.on_renewed(Answer::Unclear);
        }
        Ok(())
    }

    /// When the API server stored the hold, by its clock.
    fn note_time(&mut self, found: &Answer<Lease>) {
        if let Answer::Done(lease) = found
            && self.consumer.is_creating()
        {
            let created = lease.creation_timestamp();
            self.created = created.map(|created| (self.told, created.0));
        }
    }

    pub(super) async fn request(&mut self, ask: ConsumerAsk) -> Result<(), Refusal> {
        let claim = &self.claim;
        let name = |identity: &HoldIdentity| wire::hold_name(&claim.credential, identity);
        let refused = |verb: &'static str| move |error| Refusal::Lease(verb, error);
        let mut is_unclear = false;
        match ask {
            ConsumerAsk::ReadGate => is_unclear = self.read_gate().await?,
            ConsumerAsk::CreateHold {
                identity,
                duration,
                generation,
            } => {
                let lease = claim.claimant.hold(
                    &claim.credential,
                    &identity,
                    duration,
                    generation,
                    Timestamp::now(),
                );
                self.consumer.sent();
                let created = self.leases.create(&lease).await;
                self.tell_time();
                let created = answer(created).map_err(refused("create"))?;
                self.note_time(&created);
                // Without the namespace there is nothing to find.
                is_unclear = matches!(created, Answer::Unclear | Answer::NotFound);
                self.consumer.on_created(versioned(created));
            }
            ConsumerAsk::ReadHold(identity) => {
                let found = self.leases.get(&name(&identity)).await;
                let found = found.and_then(|found| found.ok_or(RequestError::NotFound));
                let found = answer(found).map_err(refused("get"))?;
                is_unclear = found == Answer::Unclear;
                let is_mine =
                    matches!(&found, Answer::Done(lease) if claim.claimant.made(lease, &identity));
                self.tell_time();
                self.note_time(&found);
                self.consumer.on_hold(versioned(found), is_mine);
            }
            ConsumerAsk::RenewHold { identity, version } => {
                self.consumer.sent();
                let renewed = self.leases.renew(&name(&identity), &version).await;
                self.tell_time();
                let renewed = match answer(renewed) {
                    Ok(renewed) => renewed,
                    Err(error) => {
                        self.consumer.on_renewed(Answer::Unclear);
                        return Err(Refusal::Lease("patch", error));
                    }
                };
                is_unclear = renewed == Answer::Unclear;
                self.consumer.on_renewed(versioned(renewed));
            }
            ConsumerAsk::DeleteHold { identity, uid } => {
                let deleted = self.leases.release(&name(&identity), uid).await;
                let deleted = answer(deleted).map_err(refused("delete"))?;
                is_unclear = deleted == Answer::Unclear;
                self.consumer.on_deleted(&deleted);
            }
            _ => {}
        }
        if is_unclear {
            self.pause().await;
        } else {
            self.pause = Duration::ZERO;
            self.failures = 0;
        }
        Ok(())
    }

    /// Reads the gate, and the target with it where that may be needed next. Whether there was no answer.
    async fn read_gate(&mut self) -> Result<bool, Refusal> {
        let claim = &self.claim;
        let gate = wire::gate_name(&claim.credential);
        let checking = self.consumer.is_checking();
        let (found, target) = if checking {
            let target = bounded(self.secrets.get(&claim.target.secret));
            let (found, target) = join(self.leases.get(&gate), target).await;
            (found, target.ok())
        } else {
            (self.leases.get(&gate).await, None)
        };
        let of = |secret: &_| Credentials::of(secret, &claim.target);
        self.prefetched = target.as_ref().and_then(of);
        let found = found.and_then(|found| found.ok_or(RequestError::NotFound));
        let found = answer(found).map_err(|error| Refusal::Lease("get", error))?;
        let is_unclear = found == Answer::Unclear;
        let durations = Durations::scaled(None, Duration::MAX);
        let found = match found {
            Answer::Done(lease) if !wire::is_gate_of(&lease, &claim.target.uid) => {
                if !self.consumer.is_using() {
                    return Err(Refusal::Another);
                }
                // The credential that is held is gone, and so is its gate.
                Answer::NotFound
            }
            Answer::Done(lease) => Answer::Done(wire::read_gate(&lease, &durations)),
            Answer::NotFound => Answer::NotFound,
            Answer::Conflict | Answer::Unclear => Answer::Unclear,
        };
        self.tell_time();
        if let Answer::Done(gate) = &found {
            self.gate = Some(gate.clone());
            self.gate_read = Some(self.told);
        }
        self.consumer.on_gate(found);
        Ok(is_unclear)
    }

    /// The token in the target, where there is one.
    pub(super) async fn read_target(&mut self) -> Result<Option<Credentials>, RequestError> {
        if let Some(read) = self.prefetched.take() {
            return Ok(Some(read));
        }
        match bounded(self.secrets.get(&self.claim.target.secret)).await {
            Ok(secret) => Ok(Credentials::of(&secret, &self.claim.target)),
            Err(RequestError::Refused(error)) => Err(RequestError::Refused(error)),
            Err(_) => Ok(None),
        }
    }
}

fn versioned(found: Answer<Lease>) -> Answer<Version> {
    match found {
        Answer::Done(lease) => Answer::Done(wire::version(&lease)),
        Answer::NotFound => Answer::NotFound,
        Answer::Conflict => Answer::Conflict,
        Answer::Unclear => Answer::Unclear,
    }
}
