//! Two credentials with one refresh token: at a provider that replaces refresh tokens, the refresh of one spends the
//! token of the other. The one that came later does not present it.

use std::borrow::Borrow;

use kube::ResourceExt;

use crate::{
    api::{Description, GrantType, IntegrationCredential, Rotation},
    explain,
    failure::{Failure, Reason},
    secret::seed::Seed,
};

/// Whether `seed` may be presented for `credential`, in the face of all others that are known.
///
/// # Errors
/// `SeedInUse`, with the credential whose refresh token it is.
pub fn check<O: Borrow<IntegrationCredential>>(
    credential: &IntegrationCredential,
    seed: &Seed,
    description: &Description,
    others: impl FnOnce() -> Vec<O>,
) -> Result<(), Failure> {
    // A code is taken once, whatever becomes of refresh tokens.
    let can_be_shared = description.rotation() == Rotation::Never && !seed.authorization.is_code();
    if can_be_shared || has_presented(credential, seed) {
        return Ok(());
    }
    let others = others();
    let mut others = others.iter().map(Borrow::borrow);
    match others.find(|other| comes_first(other, credential, seed)) {
        Some(owner) => Err(Failure::new(
            Reason::SeedInUse,
            explain::seed_in_use(credential, owner),
        )),
        None => Ok(()),
    }
}

/// Whether two credentials are known to have the refresh token of one authorization, and the other stays and has tokens of
/// it: one that was refused has presented it, too.
#[must_use]
pub fn share(credential: &IntegrationCredential, other: &IntegrationCredential) -> bool {
    let of = |credential: &IntegrationCredential| {
        let grant = credential.status.as_ref().and_then(|s| s.grant.as_ref());
        grant.and_then(|g| g.seed_fingerprint.clone())
    };
    let status = other.status.as_ref();
    let has_token = status.is_some_and(|s| s.token.is_some());
    let last = status.and_then(|s| s.refresh.as_ref()?.last_error.as_ref());
    let is_refused = last.is_some_and(|error| Reason::ends_the_grant(&error.reason));
    let stays = other.metadata.deletion_timestamp.is_none();
    stays
        && has_token
        && !is_refused
        && credential.uid() != other.uid()
        && of(credential).is_some_and(|own| of(other) == Some(own))
}

fn has_presented(credential: &IntegrationCredential, seed: &Seed) -> bool {
    let grant = credential.status.as_ref().and_then(|s| s.grant.as_ref());
    grant.and_then(|g| g.seed_fingerprint.as_ref()) == Some(&seed.fingerprint)
}

/// Whether the refresh token in the seed belongs to `other`: it has presented it, or it names the same Secret and has
/// presented something of it before, or is the older one.
fn comes_first(
    other: &IntegrationCredential,
    credential: &IntegrationCredential,
    seed: &Seed,
) -> bool {
    if other.uid() == credential.uid() || other.oauth2().grant_type != GrantType::RefreshToken {
        return false;
    }
    let named = |credential: &IntegrationCredential| {
        let seed = credential.oauth2().seed_secret_ref.as_ref();
        (credential.namespace(), seed.map(|seed| seed.name.clone()))
    };
    let place = |credential: &IntegrationCredential| {
        let grant = credential.status.as_ref().and_then(|s| s.grant.as_ref());
        let is_new = grant.and_then(|g| g.seed_fingerprint.as_ref()).is_none();
        let created = credential.creation_timestamp().map(|at| at.0);
        (is_new, created, credential.uid())
    };
    // Whoever asks another provider does not present it there.
    let asks_the_same = other.oauth2().provider_ref == credential.oauth2().provider_ref;
    has_presented(other, seed)
        || (asks_the_same && named(other) == named(credential) && place(other) < place(credential))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    use super::*;
    use crate::secret::seed::Authorization;

    fn credential(
        name: &str,
        seed: &str,
        created: i64,
        fingerprint: Option<&str>,
    ) -> IntegrationCredential {
        let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "RefreshToken",
            "seedSecretRef": {"name": seed}}});
        let mut credential =
            IntegrationCredential::new(name, serde_json::from_value(spec).unwrap());
        credential.metadata.uid = Some(format!("uid-{name}"));
        credential.metadata.namespace = Some("ns".to_owned());
        let created = jiff::Timestamp::from_second(created).unwrap();
        credential.metadata.creation_timestamp = Some(Time(created));
        let status = json!({"conditions": [], "grant": {"seedFingerprint": fingerprint}});
        credential.status = serde_json::from_value(status).unwrap();
        credential
    }

    fn verdict(
        credential: &IntegrationCredential,
        others: &[IntegrationCredential],
        provider: Value,
    ) -> Option<String> {
        let seed = Seed {
            authorization: Authorization::RefreshToken("rt".into()),
            fingerprint: "f1".to_owned(),
            resource_version: None,
        };
        let description = serde_json::from_value(provider).unwrap();
        check(credential, &seed, &description, || others.iter().collect())
            .err()
            .map(|f| f.message)
    }

    #[test]
    fn a_refresh_token_is_shared_by_those_who_have_tokens_of_it_and_stay() {
        let with = |name: &str, fingerprint: Option<&str>, error: Option<&str>| {
            let mut credential = credential(name, "s", 1, fingerprint);
            let status = credential.status.as_mut().unwrap();
            status.token = Some(serde_json::from_value(json!({"generation": 1})).unwrap());
            let error = error.map(|reason| {
                json!({"reason": reason, "message": "",
                "time": "2026-01-01T00:00:00Z"})
            });
            let refresh = json!({"failures": i32::from(error.is_some()), "lastError": error});
            status.refresh = serde_json::from_value(refresh).unwrap();
            credential
        };
        let alice = with("alice", Some("f1"), None);
        let mut bob = with("bob", Some("f1"), None);
        assert!(share(&alice, &bob) && share(&bob, &alice));
        assert!(!share(&alice, &alice));
        assert!(!share(&alice, &with("other", Some("f2"), None)));
        assert!(!share(&with("new", None, None), &with("too", None, None)));
        // One that has presented it and has nothing of it.
        assert!(!share(&alice, &credential("tried", "s", 1, Some("f1"))));
        let refused = with("refused", Some("f1"), Some("ReauthorizationRequired"));
        assert!(!share(&alice, &refused));
        assert!(share(
            &alice,
            &with("away", Some("f1"), Some("ProviderError"))
        ));
        bob.metadata.deletion_timestamp = bob.metadata.creation_timestamp.clone();
        assert!(!share(&alice, &bob));
    }

    #[test]
    fn a_refresh_token_belongs_to_the_one_that_presented_it() {
        let rotates = || json!({"rotation": "Sometimes"});
        let bob = credential("bob", "b", 1, None);
        let alice = credential("alice", "a", 2, Some("f1"));
        let message = verdict(&bob, std::slice::from_ref(&alice), rotates()).unwrap();
        assert!(message.contains("ns/alice"), "{message}");
        // She goes on, whoever else has it.
        assert_eq!(verdict(&alice, std::slice::from_ref(&bob), rotates()), None);
        let other = credential("carol", "c", 0, Some("f2"));
        assert_eq!(verdict(&bob, &[other, bob.clone()], rotates()), None);
        // Where it stays the same, it can be shared.
        assert_eq!(verdict(&bob, &[alice], json!({"rotation": "Never"})), None);
    }

    #[test]
    fn a_code_is_never_shared() {
        let code = Authorization::Code {
            code: "c".into(),
            redirect_uri: None,
            verifier: None,
        };
        let seed = Seed {
            fingerprint: code.fingerprint(),
            authorization: code,
            resource_version: None,
        };
        let (older, younger) = (
            credential("a", "seed", 1, None),
            credential("b", "seed", 2, None),
        );
        let never = serde_json::from_value(json!({"rotation": "Never"})).unwrap();
        assert!(check(&younger, &seed, &never, || vec![&older]).is_err());
        assert!(check(&older, &seed, &never, || vec![&younger]).is_ok());
    }

    #[test]
    fn of_two_that_name_one_seed_the_older_has_it() {
        let (older, younger) = (
            credential("z", "seed", 1, None),
            credential("a", "seed", 2, None),
        );
        assert!(verdict(&younger, std::slice::from_ref(&older), json!({})).is_some());
        assert_eq!(
            verdict(&older, std::slice::from_ref(&younger), json!({})),
            None
        );
        // One that came earlier and never had anything of it is not first.
        let (early, user) = (
            credential("e", "seed", 0, None),
            credential("u", "seed", 3, Some("f0")),
        );
        assert_eq!(
            verdict(&user, std::slice::from_ref(&early), json!({})),
            None
        );
        assert!(verdict(&early, std::slice::from_ref(&user), json!({})).is_some());
        let twins = [
            credential("a", "seed", 1, None),
            credential("b", "seed", 1, None),
        ];
        let refused = twins
            .iter()
            .filter(|one| verdict(one, &twins, json!({})).is_some());
        assert_eq!(refused.count(), 1);
    }
}
