//! What a suspended credential says of itself: Ready stays as true as it is, nothing is being worked on, and nobody
//! must act.

use jiff::Timestamp;

use super::{RECONCILING, STALLED, SUSPENDED, Setter};
use crate::{
    api::{CredentialStatus, IntegrationCredential},
    explain,
};

/// Sets the condition and takes away those that say what the operator does; or takes it away.
pub(super) fn set_conditions(
    status: &mut CredentialStatus,
    credential: &IntegrationCredential,
    now: Timestamp,
) {
    if !credential.spec.suspend {
        Setter::new(status, now).remove(SUSPENDED);
        return;
    }
    // That it is suspended is all there is to know of this version.
    status.observed_generation = credential.metadata.generation;
    let mut set = Setter::new(status, now);
    set.remove(RECONCILING);
    set.remove(STALLED);
    let message = explain::suspended(credential);
    set.set(SUSPENDED, "True", SUSPENDED, &message);
    for condition in &mut status.conditions {
        condition.observed_generation = status.observed_generation;
    }
}
