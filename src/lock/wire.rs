//! Gates, holds and wants as Lease objects: names, labels and annotations. `docs/locking.md` documents
//! them for clients in other languages; what is written here is what stands there.

mod claimant;
mod gate;

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::ResourceExt;

pub use self::{
    claimant::Claimant,
    gate::{read_gate, write_gate},
};
use super::protocol::{HoldIdentity, Seat, SeenHold, Version};
use crate::api::{CREDENTIAL_LABEL, ROLE_LABEL};

/// [`ROLE_LABEL`] of gates.
pub const GATE: &str = "gate";
/// [`ROLE_LABEL`] of holds.
pub const HOLD: &str = "hold";
/// [`ROLE_LABEL`] of wants.
pub const WANT: &str = "want";

/// On holds and wants: the user name that made it. Checked by the admission policy.
pub const OWNER: &str = "tokenward.dev/owner";
/// On holds and wants: the UID of the pod that made it, where the API server knows one.
pub const OWNER_POD_UID: &str = "tokenward.dev/owner-pod-uid";

/// The name of the one hold in mode Exclusive, after `NAME.hold.`.
const EXCLUSIVE: &str = "exclusive";

/// On a hold that is not in use: the generation of the token that was refused.
const REJECTED: &str = "tokenward.dev/rejected";

const GENERATION: &str = "tokenward.dev/generation";

/// The version of an object that the API server gave.
#[must_use]
pub fn version(lease: &Lease) -> Version {
    Version {
        uid: lease.uid().unwrap_or_default(),
        resource_version: lease.resource_version().unwrap_or_default(),
    }
}

/// The gate of a credential.
#[must_use]
pub fn gate_name(credential: &str) -> String {
    format!("{credential}.{GATE}")
}

/// The hold of a credential with this identity.
#[must_use]
pub fn hold_name(credential: &str, identity: &HoldIdentity) -> String {
    let last = match identity.seat {
        Seat::Shared => &identity.nonce,
        Seat::Exclusive => EXCLUSIVE,
    };
    format!("{credential}.{HOLD}.{last}")
}

/// The want of a credential with this nonce.
#[must_use]
pub fn want_name(credential: &str, nonce: &str) -> String {
    format!("{credential}.{WANT}.{nonce}")
}

/// The label selector of one credential's Leases of one role.
#[must_use]
pub fn selector(credential: &str, role: &str) -> String {
    format!("{CREDENTIAL_LABEL}={credential},{ROLE_LABEL}={role}")
}

/// The labels of one credential's Leases of one role.
#[must_use]
pub fn labels(credential: &str, role: &str) -> BTreeMap<String, String> {
    [
        (CREDENTIAL_LABEL.to_owned(), credential.to_owned()),
        (ROLE_LABEL.to_owned(), role.to_owned()),
    ]
    .into()
}

fn seconds(recorded: Option<u64>, fallback: Duration) -> Duration {
    recorded.map_or(fallback, |s| Duration::from_secs(s.clamp(1, 86_400)))
}

fn whole_i32(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// The longest that a hold may last without renewal. The admission policy refuses longer ones.
pub const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// How long a want stands before it counts as forgotten by the one who made it.
pub const WANT_DURATION: Duration = Duration::from_secs(600);

/// Whether a gate is that of the credential with this UID, as far as it says whose it is.
#[must_use]
pub fn is_gate_of(lease: &Lease, credential_uid: &str) -> bool {
    let owners = lease.owner_references();
    owners.is_empty() || owners.iter().any(|owner| owner.uid == credential_uid)
}

/// `holderIdentity`, or nothing.
#[must_use]
pub fn holder_identity(lease: &Lease) -> &str {
    let spec = lease.spec.as_ref();
    spec.and_then(|s| s.holder_identity.as_deref())
        .unwrap_or_default()
}

/// The generation that a hold or a want names.
#[must_use]
pub fn generation(lease: &Lease) -> Option<u64> {
    lease.annotations().get(GENERATION)?.parse().ok()
}

/// A hold as the operator sees it. One whose duration an edit has made unreadable lasts as long as any.
#[must_use]
pub fn seen_hold(lease: &Lease) -> SeenHold {
    let spec = lease.spec.as_ref();
    let recorded = spec.and_then(|s| s.lease_duration_seconds);
    let recorded = recorded.and_then(|s| u64::try_from(s).ok());
    SeenHold {
        name: lease.name_any(),
        version: version(lease),
        holder: holder_identity(lease).to_owned(),
        duration: seconds(recorded, LONGEST_HOLD).min(LONGEST_HOLD),
    }
}

/// Whether a hold is marked as not in use: its holder has found the token refused, and looks at the gate
/// again before it uses another.
#[must_use]
pub fn is_rejected(lease: &Lease) -> bool {
    lease.annotations().contains_key(REJECTED)
}

/// Whether an object is a hold, by its role.
#[must_use]
pub fn is_hold(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(ROLE_LABEL))
        .is_some_and(|role| role == HOLD)
}

/// Whether this is the name of a want.
#[must_use]
pub fn is_want(name: &str) -> bool {
    name.contains(&format!(".{WANT}."))
}

/// Whether a hold takes the only place there is.
#[must_use]
pub fn is_exclusive(name: &str) -> bool {
    name.ends_with(&format!(".{HOLD}.{EXCLUSIVE}"))
}
