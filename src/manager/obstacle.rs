//! Why a call gets nothing, as far as its caller can see: what is stalled, who holds the gate, what goes wrong
//! meanwhile.

use std::time::Duration;

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::Condition};

use super::{CredentialManager, Error};
use crate::{
    api::{CREDENTIAL_LABEL, CredentialStatus},
    lock::{
        lease::Leases,
        protocol::{Durations, GateState, HoldIdentity, Mode, Phase, Seat},
        wire,
    },
    status::{READY, STALLED, condition},
};

impl CredentialManager {
    /// What stands in the way of a credential, where its status tells; a caller without the right to read
    /// that is told nothing.
    ///
    /// `any_token`: whether the token that stands there will do, so that a credential that is stalled and
    /// has a valid one is no obstacle.
    pub(super) async fn obstacle(&self, name: &str, any_token: bool) -> Option<Error> {
        let found = match self.find(name).await {
            Ok(Some(found)) => found,
            Ok(None) => return Some(self.not_found(name)),
            Err(_) => return None,
        };
        let is_suspended = found.spec.suspend;
        let Some(status) = found.status else {
            return is_suspended.then(|| self.suspended(name));
        };
        let is_ready = condition(&status, READY).is_some_and(|c| c.status == "True");
        if any_token && is_ready {
            return None;
        }
        if is_suspended {
            return Some(self.suspended(name));
        }
        self.stalled(name, &status)
    }

    pub(super) fn suspended(&self, name: &str) -> Error {
        Error::Suspended {
            namespace: self.inner.namespace.clone(),
            name: name.to_owned(),
        }
    }

    /// What stands in the way by this status.
    pub(super) fn stalled(&self, name: &str, status: &CredentialStatus) -> Option<Error> {
        let stalled = condition(status, STALLED).filter(|c| c.status == "True")?;
        let message = stalled.message.clone();
        Some(match stalled.reason.as_str() {
            "UnknownProvider" => Error::UnknownProvider(message),
            "ProviderNotConfigured" => Error::ProviderNotConfigured(message),
            reason => Error::Stalled {
                namespace: self.inner.namespace.clone(),
                name: name.to_owned(),
                reason: reason.to_owned(),
                message,
            },
        })
    }

    /// The error of a call that waited in vain: what stands in the way, or who.
    pub(super) async fn waited_in_vain(
        &self,
        name: &str,
        what: &'static str,
        waited: Duration,
    ) -> Error {
        const LONGEST: Duration = Duration::from_secs(5);
        let look = async {
            match self.obstacle(name, true).await {
                Some(obstacle) => obstacle,
                None => self.timeout(name, what, waited).await,
            }
        };
        // Whoever has waited in vain does not wait for long to hear why.
        match tokio::time::timeout(LONGEST, look).await {
            Ok(error) => error,
            Err(_) => Error::Timeout {
                namespace: self.inner.namespace.clone(),
                name: name.to_owned(),
                what,
                waited,
                gate_holder: None,
                closed: false,
                hint: "the API server does not answer".into(),
            },
        }
    }

    /// The error of a call that waited in vain, with what can be seen of the gate.
    pub(super) async fn timeout(&self, name: &str, what: &'static str, waited: Duration) -> Error {
        let namespace = self.inner.namespace.clone();
        let leases = Leases::new(&self.inner.client, &namespace);
        let lease = leases.get(&wire::gate_name(name)).await;
        let fallback = Durations::scaled(None, Duration::MAX);
        let read = |lease: &Lease| wire::read_gate(lease, &fallback);
        let gate = lease.as_ref().ok().and_then(Option::as_ref).map(read);
        let holder = gate.as_ref().and_then(|gate| gate.holder.clone());
        let holder = holder.map(|h| format!("{}/{}", h.incarnation, h.attempt));
        let hint = match (&lease, &gate) {
            (Err(_), _) => "and its gate cannot be read".to_owned(),
            (Ok(_), None) => format!(
                "it has no gate, so it may be that no operator serves this namespace: kubectl -n {namespace} describe icred {name}"
            ),
            (_, Some(gate)) if gate.phase == Phase::Open => {
                self.hint_at_open(name, gate, &leases).await
            }
            (_, Some(gate)) => format!(
                "the gate is held by {} ({}). See who holds the credential: kubectl -n {namespace} get leases -l {CREDENTIAL_LABEL}={name}",
                holder.as_deref().unwrap_or("nobody"),
                match gate.phase {
                    Phase::Draining => "Draining: it waits for holders of the credential",
                    _ => "Refreshing",
                },
            ),
        };
        let is_open = |gate: &GateState| gate.phase == Phase::Open;
        Error::Timeout {
            closed: lease.is_ok() && !gate.as_ref().is_some_and(is_open),
            namespace,
            name: name.to_owned(),
            what,
            waited,
            gate_holder: holder,
            hint: hint.into(),
        }
    }

    /// What keeps one waiting whose gate is open.
    async fn hint_at_open(&self, name: &str, gate: &GateState, leases: &Leases) -> String {
        let namespace = &self.inner.namespace;
        if gate.mode == Mode::Exclusive {
            let only = HoldIdentity {
                seat: Seat::Exclusive,
                nonce: String::new(),
            };
            let hold = leases.get(&wire::hold_name(name, &only)).await;
            if let Ok(Some(hold)) = hold {
                let who = wire::holder_identity(&hold);
                return format!("its mode is Exclusive, and {who} holds it");
            }
        }
        let found = self.find(name).await.ok().flatten();
        let status = found.and_then(|found| found.status).unwrap_or_default();
        match trouble(&status) {
            Some(trouble) => format!("the last attempt failed: {}", trouble.message),
            None => format!(
                "its gate is open. If this lasts, see whether an operator serves this namespace: kubectl -n {namespace} describe icred {name}"
            ),
        }
    }
}

/// What is being retried, where the last attempt failed.
pub(super) fn trouble(status: &CredentialStatus) -> Option<&Condition> {
    let last = status.refresh.as_ref()?.last_error.as_ref();
    last.and(condition(status, READY))
}
