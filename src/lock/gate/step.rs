//! One request of a writer, and its answer.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;

use super::{Gate, entry::new_lease};
use crate::{
    lock::{
        protocol::{Answer, GateState, SeenHold, Version, WriterAsk},
        wire,
    },
    request::{RequestError, answer},
};

impl Gate {
    /// Makes the request that the writer asks for and tells it the answer.
    pub(super) async fn step(&mut self) -> Result<(), RequestError> {
        let name = self.credential.gate_name();
        let namespace = self.credential.namespace().unwrap_or_default();
        let mut is_unclear = false;
        match self.ask() {
            WriterAsk::ReadGate => match self.leases.get(&name).await {
                Ok(found) => {
                    let answer = self.keep(found);
                    self.tell_time();
                    self.writer.on_gate(answer, Duration::ZERO, |_| false);
                }
                Err(RequestError::Unclear(_)) => is_unclear = true,
                Err(error) => return Err(error),
            },
            WriterAsk::WriteGate { over, state } => {
                let mut lease = self.lease.clone().filter(|_| over.is_some());
                let lease = lease.get_or_insert_with(|| new_lease(&self.credential));
                wire::write_gate(&state, lease, Timestamp::now());
                self.writer.sent();
                let answer = match over {
                    Some(_) => self.leases.replace(lease).await,
                    None => self.leases.create(lease).await,
                };
                self.tell_time();
                let answer = match answer {
                    Ok(stored) => Answer::Done(self.remember(stored)),
                    Err(error) => {
                        let refused = matches!(error, RequestError::Refused(_));
                        is_unclear = matches!(error, RequestError::Unclear(_));
                        self.writer.on_written(Answer::Conflict);
                        if refused {
                            return Err(error);
                        }
                        self.breathe(is_unclear).await;
                        return Ok(());
                    }
                };
                self.writer.on_written(answer);
            }
            WriterAsk::ListHolds => {
                let listed = match self.list_holds(&namespace).await {
                    Ok(listed) => Some(listed),
                    Err(RequestError::Refused(error)) => return Err(RequestError::Refused(error)),
                    Err(_) => None,
                };
                is_unclear = listed.is_none();
                self.tell_time();
                self.observer.with_stopwatches(&namespace, |watches| {
                    self.writer.on_holds(listed, watches);
                });
            }
            WriterAsk::DeleteHold(hold) => {
                let deleted = self.leases.delete(&hold.name, &hold.version).await;
                let deleted = answer(deleted)?;
                is_unclear = deleted == Answer::Unclear;
                self.tell_time();
                tracing::info!(
                    reason = "HoldDeleted",
                    lease = hold.name,
                    answer = ?deleted,
                    "a hold that has expired, or was still held at the deadline, is deleted"
                );
                self.observer.with_stopwatches(&namespace, |watches| {
                    self.writer.on_hold_deleted(&hold, &deleted, watches);
                });
            }
            WriterAsk::Wait(_) | WriterAsk::End(_) => {}
        }
        self.breathe(is_unclear).await;
        Ok(())
    }

    /// The holds as they were when the gate had been closed, or later.
    async fn list_holds(&self, namespace: &str) -> Result<Vec<SeenHold>, RequestError> {
        let credential = self.credential.name_any();
        if let Some(gate) = self.lease.as_ref().map(wire::version)
            && self
                .observer
                .shows_no_hold_behind(namespace, &credential, &gate)
                .await
        {
            return Ok(Vec::new());
        }
        self.leases.holds(&credential).await
    }

    /// An API server that does not answer is not asked all the time.
    async fn breathe(&mut self, is_unclear: bool) {
        if is_unclear {
            self.pause().await;
        } else {
            self.pause = Duration::ZERO;
        }
    }

    pub(super) async fn pause(&mut self) {
        const FIRST: Duration = Duration::from_millis(50);
        self.pause = (self.pause * 2).clamp(FIRST, self.durations.writer_lease / 6);
        tokio::time::sleep(self.pause).await;
    }

    pub(super) fn keep(&mut self, found: Option<Lease>) -> Answer<(Version, GateState)> {
        let Some(lease) = found else {
            self.lease = None;
            return Answer::NotFound;
        };
        let state = wire::read_gate(&lease, &self.durations);
        Answer::Done((self.remember(lease), state))
    }

    /// The Lease as it is stored, without what the API server keeps anyway.
    fn remember(&mut self, mut lease: Lease) -> Version {
        lease.metadata.managed_fields = None;
        let version = wire::version(&lease);
        self.lease = Some(lease);
        version
    }
}
