//! Holds and wants as Leases of the one who makes them.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};

use super::{
    GENERATION, HOLD, OWNER, OWNER_POD_UID, WANT, WANT_DURATION, hold_name, holder_identity,
    labels, want_name, whole_i32,
};
use crate::lock::protocol::HoldIdentity;

/// Who asks: what is written into holds and wants, for people and for the admission policy.
#[derive(Clone, Debug, Default)]
pub struct Claimant {
    /// `pod/container` or `host/process`.
    pub who: String,
    /// The user name, where the API server told it.
    pub user: Option<String>,
    /// The pod's UID, where the API server knows one.
    pub pod_uid: Option<String>,
}

impl Claimant {
    fn holder(&self, nonce: &str) -> String {
        format!("{}/{nonce}", self.who)
    }

    fn notes(&self, generation: u64) -> BTreeMap<String, String> {
        let mut notes = BTreeMap::from([(GENERATION.to_owned(), generation.to_string())]);
        if let Some(user) = &self.user {
            notes.insert(OWNER.to_owned(), user.clone());
        }
        if let Some(uid) = &self.pod_uid {
            notes.insert(OWNER_POD_UID.to_owned(), uid.clone());
        }
        notes
    }

    /// The Lease of a hold.
    #[must_use]
    pub fn hold(
        &self,
        credential: &str,
        identity: &HoldIdentity,
        duration: Duration,
        generation: u64,
        now: Timestamp,
    ) -> Lease {
        let name = hold_name(credential, identity);
        self.lease(
            credential,
            HOLD,
            name,
            &identity.nonce,
            generation,
            duration,
            now,
        )
    }

    /// The Lease of a want: generation `generation` does not work, or is about to expire.
    #[must_use]
    pub fn want(&self, credential: &str, nonce: &str, generation: u64, now: Timestamp) -> Lease {
        let name = want_name(credential, nonce);
        self.lease(
            credential,
            WANT,
            name,
            nonce,
            generation,
            WANT_DURATION,
            now,
        )
    }

    #[expect(clippy::too_many_arguments, reason = "each is a field of the Lease")]
    fn lease(
        &self,
        credential: &str,
        role: &str,
        name: String,
        nonce: &str,
        generation: u64,
        duration: Duration,
        now: Timestamp,
    ) -> Lease {
        let mut lease = Lease::default();
        lease.metadata.name = Some(name);
        lease.metadata.labels = Some(labels(credential, role));
        lease.metadata.annotations = Some(self.notes(generation));
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.holder(nonce)),
            lease_duration_seconds: Some(whole_i32(duration)),
            acquire_time: Some(MicroTime(now)),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        });
        lease
    }

    /// Whether a hold was made by the try with this identity.
    #[must_use]
    pub fn made(&self, lease: &Lease, identity: &HoldIdentity) -> bool {
        holder_identity(lease) == self.holder(&identity.nonce)
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;

    use super::*;
    use crate::{
        api::ROLE_LABEL,
        lock::{
            protocol::Seat,
            wire::{generation, is_exclusive, seen_hold},
        },
    };

    #[test]
    fn holds_and_wants_are_named_after_their_credential_and_their_maker() {
        let claimant = Claimant {
            who: "web-0/app".to_owned(),
            user: Some("system:serviceaccount:a:web".to_owned()),
            pod_uid: Some("u1".to_owned()),
        };
        let shared = HoldIdentity {
            seat: Seat::Shared,
            nonce: "0a1b".to_owned(),
        };
        let now = Timestamp::UNIX_EPOCH;
        let hold = claimant.hold("alice", &shared, Duration::from_secs(20), 7, now);
        assert_eq!(hold.name_any(), "alice.hold.0a1b");
        assert_eq!(holder_identity(&hold), "web-0/app/0a1b");
        assert_eq!(hold.labels()[ROLE_LABEL], "hold");
        assert_eq!(hold.annotations()[OWNER], "system:serviceaccount:a:web");
        assert_eq!(hold.annotations()[OWNER_POD_UID], "u1");
        assert!(hold.owner_references().is_empty());
        assert_eq!(generation(&hold), Some(7));
        assert_eq!(seen_hold(&hold).duration, Duration::from_secs(20));
        assert!(claimant.made(&hold, &shared));
        assert!(!is_exclusive(&hold.name_any()));

        let exclusive = HoldIdentity {
            seat: Seat::Exclusive,
            nonce: "0a1b".to_owned(),
        };
        assert_eq!(hold_name("alice", &exclusive), "alice.hold.exclusive");
        assert!(is_exclusive("alice.hold.exclusive"));
        let other = HoldIdentity {
            nonce: "ffff".to_owned(),
            ..exclusive
        };
        assert!(!claimant.made(&hold, &other));
        assert_eq!(
            claimant.want("alice", "00", 3, now).name_any(),
            "alice.want.00"
        );
    }
}
