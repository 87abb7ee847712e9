//! Whose a target is. Ours is known by its credential's UID: in the reference to its controller, which has it deleted
//! with the credential, or, where it is to stay, in an annotation.

use k8s_openapi::api::core::v1::Secret;
use kube::{Resource, ResourceExt};

use super::spec;
use crate::{
    api::{CREDENTIAL_LABEL, DeletionPolicy, GROUP, IntegrationCredential, ROLE_LABEL},
    failure::{Failure, Reason},
    secret::{grant, is_owned},
};

/// On a target that outlives its credential: the credential's UID. Whoever can write it can write the Secret.
pub const OWNER_UID: &str = "tokenward.dev/owner-uid";

/// On a Secret that nobody owns: the name of the credential whose target it may become.
pub const ADOPT: &str = "tokenward.dev/adopt";

/// The role of targets.
const ROLE: &str = "target";

/// What a Secret that stands where a target belongs is to a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is its target.
    Ours,
    /// It is offered, unless this credential, by name and UID, is still there: then it is that one's target.
    Offered {
        /// The credential that it was made for.
        unless: Option<(String, String)>,
    },
}

/// Whether `secret` is the target of the credential with this UID.
#[must_use]
pub fn is_ours(secret: &Secret, credential_uid: &str) -> bool {
    if controller(secret).is_some() {
        return is_owned(secret, credential_uid);
    }
    let noted = secret.annotations().get(OWNER_UID);
    let role = secret.labels().get(ROLE_LABEL);
    noted.is_some_and(|uid| uid == credential_uid) && role.is_some_and(|role| role == ROLE)
}

/// Whether `secret` is the target of a credential of this name, for those who may not read the credential itself and so
/// do not know its UID.
#[must_use]
pub fn is_target_of(secret: &Secret, credential: &str) -> bool {
    if is_grant(secret) {
        return false;
    }
    if let Some(owner) = controller(secret) {
        let group = owner.api_version.split('/').next();
        return group == Some(GROUP)
            && owner.kind == IntegrationCredential::kind(&())
            && owner.name == credential;
    }
    let label = |key: &str| secret.labels().get(key).map(String::as_str);
    secret.annotations().contains_key(OWNER_UID)
        && label(ROLE_LABEL) == Some(ROLE)
        && label(CREDENTIAL_LABEL) == Some(credential)
}

/// What `secret` is to a credential.
///
/// # Errors
/// `TargetConflict`: it is somebody else's.
pub fn claim(secret: &Secret, credential: &IntegrationCredential) -> Result<Claim, Failure> {
    if is_ours(secret, &credential.uid().unwrap_or_default()) {
        return Ok(Claim::Ours);
    }
    let offered = secret.annotations().get(ADOPT);
    let is_offered = offered.is_some_and(|name| *name == credential.name_any());
    if !is_offered || is_grant(secret) || controller(secret).is_some() {
        return Err(conflict(secret, credential));
    }
    let name = secret.labels().get(CREDENTIAL_LABEL).cloned();
    let uid = secret.annotations().get(OWNER_UID).cloned();
    Ok(Claim::Offered {
        unless: name.zip(uid),
    })
}

/// Whether a Secret that stands where a target belongs can be written at all.
///
/// # Errors
/// `TargetConflict`: its type is another one, which nobody can change, or it is immutable.
pub fn check_writable(secret: &Secret, credential: &IntegrationCredential) -> Result<(), Failure> {
    let wanted = spec(credential).type_.as_str();
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    if type_ != wanted {
        let why = format!("is of type {type_} and not {wanted}, as spec.target.type says");
        return Err(unwritable(credential, &why));
    }
    if secret.immutable == Some(true) {
        return Err(unwritable(credential, "is immutable"));
    }
    Ok(())
}

/// The failure to use a name that somebody else's Secret has.
#[must_use]
pub fn conflict(secret: &Secret, credential: &IntegrationCredential) -> Failure {
    let namespace = credential.namespace().unwrap_or_default();
    let name = credential.target_name();
    let mine = credential.name_any();
    let delete = format!("kubectl -n {namespace} delete secret {name}");
    let advice = if let Some(owner) = controller(secret) {
        format!(
            "It belongs to {} {}, and cannot be adopted. Create a credential with another spec.target.name",
            owner.kind, owner.name
        )
    } else if is_grant(secret) {
        "It holds the refresh token of a credential. Create a credential with another spec.target.name"
            .to_owned()
    } else {
        format!(
            "Have it adopted and overwritten: kubectl -n {namespace} annotate --overwrite secret {name} {ADOPT}={mine}; or create a credential with another spec.target.name; or delete it: {delete}"
        )
    };
    Failure::new(
        Reason::TargetConflict,
        format!(
            "Secret {namespace}/{name} exists and was not made for this credential; it is left as it is, and looked at again within 10 minutes, or at once after: tokenward refresh {mine} -n {namespace}. {advice}"
        ),
    )
}

fn unwritable(credential: &IntegrationCredential, why: &str) -> Failure {
    let namespace = credential.namespace().unwrap_or_default();
    let name = credential.target_name();
    Failure::new(
        Reason::TargetConflict,
        format!(
            "Secret {namespace}/{name} {why}, so that it cannot be written. It is made anew when you delete it: kubectl -n {namespace} delete secret {name}"
        ),
    )
}

/// Makes `secret` the target of a credential, and keeps whatever other metadata it has.
pub(in crate::secret) fn own(secret: &mut Secret, credential: &IntegrationCredential) {
    let uid = credential.uid().unwrap_or_default();
    let retained = spec(credential).deletion_policy == DeletionPolicy::Retain;
    let was_ours = is_ours(secret, &uid);
    let mut owners = secret.metadata.owner_references.take().unwrap_or_default();
    let has_ours = owners
        .iter()
        .any(|owner| owner.uid == uid && owner.controller == Some(true));
    if retained {
        owners.retain(|owner| owner.uid != uid);
    } else if !has_ours {
        owners.retain(|owner| owner.uid != uid);
        owners.extend(credential.controller_owner_ref(&()));
    }
    grant::own(secret, credential, &credential.target_name(), ROLE);
    secret.metadata.owner_references = (!owners.is_empty()).then_some(owners);
    let annotations = secret.annotations_mut();
    if retained {
        annotations.insert(OWNER_UID.to_owned(), uid);
    } else {
        annotations.remove(OWNER_UID);
    }
    // Once it has served, it must not hand the Secret to a later credential of this name. On one that is ours it is
    // somebody's who keeps it there.
    if !was_ours {
        annotations.remove(ADOPT);
    }
}

/// Whether `secret` holds the refresh token of a credential.
#[must_use]
pub fn is_grant(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(grant::TYPE)
}

fn controller(
    secret: &Secret,
) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    let owners = secret.owner_references().iter();
    owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
}
