//! One process of several that works: the one that holds a Lease. That saves the others their work and the API server
//! their requests; that two at work harm nobody is what the gates of credentials are for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{clock::Moment, lock::lease::Leases, request::RequestError};

/// For how long a Lease that nobody renews keeps others out.
const DURATION: Duration = Duration::from_secs(10);

/// A leader that could not renew for so long takes itself for none: before others may.
const RENEWED_WITHIN: Duration = Duration::from_secs(7);

/// How often it is renewed, and looked at by others.
const EVERY: Duration = Duration::from_secs(2);

/// How this process takes part.
#[derive(Clone)]
pub struct Election {
    leases: Leases,
    namespace: String,
    name: String,
    me: String,
}

/// What a look at the Lease came to.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// There is none: make it.
    Create,
    /// It is free, its holder has not renewed it in time, or it is ours: write it.
    Write,
    /// Another leads.
    Wait,
}

/// A Lease of another, and since when it has been seen unchanged.
struct Sight {
    version: Option<String>,
    since: Moment,
}

/// Whose turn it is, by a Lease that has been seen unchanged for `unchanged`.
fn next(found: Option<&Lease>, me: &str, unchanged: Duration) -> Step {
    let Some(found) = found else {
        return Step::Create;
    };
    let spec = found.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|s| u64::try_from(s).ok());
    let lasts = seconds.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || holder == me || unchanged >= lasts {
        Step::Write
    } else {
        Step::Wait
    }
}

/// The Lease as it says that `me` leads, or that nobody does.
fn led_by(mut lease: Lease, me: Option<&str>, now: Timestamp) -> Lease {
    let before = lease.spec.take().unwrap_or_default();
    let is_new = before.holder_identity.as_deref() != me;
    let transitions = before.lease_transitions.unwrap_or(0);
    lease.metadata.managed_fields = None;
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.unwrap_or_default().to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: if is_new {
            Some(MicroTime(now))
        } else {
            before.acquire_time
        },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if is_new && me.is_some() {
            transitions.saturating_add(1)
        } else {
            transitions
        }),
        ..before
    });
    lease
}

impl Election {
    /// By the Lease of this name. `process` is the name of this process; each start of it is another candidate.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, process: &str) -> Self {
        let nonce = Uuid::new_v4().simple().to_string();
        Self {
            leases: Leases::new(client, namespace).patient_for(RENEWED_WITHIN),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            me: format!("{process}_{}", &nonce[..8]),
        }
    }

    /// Waits until this process leads; `None`: it is about to end. A Lease that cannot be read or written is waited for
    /// like one that another holds, and that is told.
    pub async fn lead(self, shutdown: &CancellationToken) -> Option<Leadership> {
        let mut sight: Option<Sight> = None;
        let mut told = None;
        loop {
            let began = Moment::now();
            let looked = match self.leases.get(&self.name).await {
                Ok(found) => self.enter(found, &mut sight).await,
                Err(error) => Err(error),
            };
            match looked {
                Ok(Ok(lease)) => {
                    tracing::info!(lease = self.name, identity = self.me, "leading");
                    return Some(Leadership {
                        election: self,
                        lease,
                        renewed: began,
                    });
                }
                Ok(Err(leader)) => {
                    if told.as_ref() != Some(&leader) {
                        tracing::info!(lease = self.name, leader, "another leads; standing by");
                        told = Some(leader);
                    }
                }
                Err(RequestError::Conflict) => {}
                Err(error) => {
                    let what = format!("lead by Lease {}/{}", self.namespace, self.name);
                    let failure = error.failure(&what);
                    let reason = failure.reason.as_str();
                    tracing::warn!(reason, error = failure.message, "cannot lead");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = shutdown.cancelled() => return None,
            }
        }
    }

    /// Takes the Lease where it may be taken; else says who holds it.
    async fn enter(
        &self,
        found: Option<Lease>,
        sight: &mut Option<Sight>,
    ) -> Result<Result<Lease, String>, RequestError> {
        let now = Moment::now();
        let version = found.as_ref().and_then(ResourceExt::resource_version);
        let seen = sight.take().filter(|sight| sight.version == version);
        let since = seen.map_or(now, |sight| sight.since);
        *sight = Some(Sight { version, since });
        match next(found.as_ref(), &self.me, now.elapsed(since)) {
            Step::Create => {
                let mut lease = Lease::default();
                lease.metadata.name = Some(self.name.clone());
                lease.metadata.namespace = Some(self.namespace.clone());
                let lease = led_by(lease, Some(&self.me), now.wall);
                self.leases.create(&lease).await.map(Ok)
            }
            Step::Write => {
                let lease = led_by(found.unwrap_or_default(), Some(&self.me), now.wall);
                self.leases.replace(&lease).await.map(Ok)
            }
            Step::Wait => {
                let spec = found.and_then(|lease| lease.spec).unwrap_or_default();
                Ok(Err(spec.holder_identity.unwrap_or_default()))
            }
        }
    }
}

/// That this process leads.
pub struct Leadership {
    election: Election,
    lease: Lease,
    /// When the last renewal that succeeded was sent.
    renewed: Moment,
}

impl Leadership {
    /// Renews the Lease until `done`, and lets it go then. Whether it was held to the end; if not, another may lead by now.
    pub async fn keep(mut self, done: &CancellationToken) -> bool {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = done.cancelled() => {
                    self.release().await;
                    return true;
                }
            }
            if !self.renew().await {
                return false;
            }
        }
    }

    /// False: it is lost.
    async fn renew(&mut self) -> bool {
        let began = Moment::now();
        // A process that was stopped finds out by the clock, before it asks.
        if began.own_elapsed(self.renewed) > RENEWED_WITHIN {
            return false;
        }
        let Election {
            leases, name, me, ..
        } = &self.election;
        let renewed = led_by(self.lease.clone(), Some(me), began.wall);
        match leases.replace(&renewed).await {
            Ok(stored) => {
                self.lease = stored;
                self.renewed = began;
            }
            // Somebody else wrote it, or our own last write was stored without an answer.
            Err(RequestError::Conflict) => match leases.get(name).await {
                Ok(Some(found)) if next(Some(&found), me, Duration::ZERO) == Step::Write => {
                    self.lease = found;
                }
                Ok(_) => return false,
                Err(_) => {}
            },
            Err(RequestError::NotFound) => return false,
            Err(error) => tracing::debug!(%error, "Lease not renewed"),
        }
        Moment::now().own_elapsed(self.renewed) <= RENEWED_WITHIN
    }

    /// So that the next one need not wait until it has run out.
    async fn release(self) {
        let free = led_by(self.lease, None, Timestamp::now());
        match self.election.leases.replace(&free).await {
            Ok(_) => tracing::info!(lease = self.election.name, "not leading any more"),
            Err(error) => tracing::debug!(%error, "Lease not let go"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: &str) -> Lease {
        led_by(Lease::default(), Some(by), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn one_leads_until_it_lets_go_or_does_not_renew() {
        let just_before = DURATION.saturating_sub(Duration::from_millis(1));
        assert_eq!(next(None, "a", Duration::ZERO), Step::Create);
        assert_eq!(next(Some(&held("a")), "a", Duration::ZERO), Step::Write);
        assert_eq!(next(Some(&held("b")), "a", just_before), Step::Wait);
        assert_eq!(next(Some(&held("b")), "a", DURATION), Step::Write);
        let free = led_by(held("b"), None, Timestamp::UNIX_EPOCH);
        assert_eq!(next(Some(&free), "a", Duration::ZERO), Step::Write);
        // As others write them: the duration counts that stands there.
        let mut long = held("b");
        long.spec.as_mut().unwrap().lease_duration_seconds = Some(60);
        assert_eq!(next(Some(&long), "a", DURATION), Step::Wait);
    }

    #[test]
    fn a_lease_says_since_when_who_leads_and_how_often_that_changed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let spec = |lease: &Lease| lease.spec.clone().unwrap();
        let first = led_by(Lease::default(), Some("a"), at(1));
        let renewed = led_by(first.clone(), Some("a"), at(3));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(at(1))));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(at(3))));
        let free = led_by(renewed, None, at(5));
        let second = led_by(free, Some("b"), at(6));
        assert_eq!(spec(&first).lease_transitions, Some(1));
        assert_eq!(spec(&second).lease_transitions, Some(2));
        assert_eq!(spec(&second).acquire_time, Some(MicroTime(at(6))));
    }
}
