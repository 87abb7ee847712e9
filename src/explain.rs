//! What people are told: messages that name the object, the cause and the next command. Of a provider's
//! words only OAuth's own error codes are repeated.

pub mod source;

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    api::{CONFIRM_ORIGIN, Description, IntegrationCredential, ProviderReference},
    failure::{Failure, Reason},
    oauth::{
        endpoint::Refused,
        error::{Answer, Spends, classify, known_code},
        response::{Lifetime, TokenResponse},
    },
    secret::grant::{Grant, Verdict},
    words,
};

fn seed_name(credential: &IntegrationCredential) -> &str {
    let seed = credential.oauth2().seed_secret_ref.as_ref();
    seed.map_or("", |s| s.name.as_str())
}

/// The command by which people hand over a new authorization.
#[must_use]
pub fn reseed(credential: &IntegrationCredential) -> String {
    format!(
        "authorize again and put the new refresh token into the seed: kubectl -n {} patch secret {} -p '{{\"stringData\":{{\"refresh_token\":\"…\"}}}}'",
        credential.namespace().unwrap_or_default(),
        seed_name(credential)
    )
}

/// The grant Secret is gone.
#[must_use]
pub fn grant_lost(credential: &IntegrationCredential) -> Failure {
    Failure::new(
        Reason::GrantLost,
        format!(
            "Secret {}/{} with the current refresh token is gone, and the seed's is spent. Restore that Secret, or {}",
            credential.namespace().unwrap_or_default(),
            credential.grant_name(),
            reseed(credential)
        ),
    )
}

/// The refresh token in the seed belongs to another credential.
#[must_use]
pub fn seed_in_use(credential: &IntegrationCredential, owner: &IntegrationCredential) -> String {
    let namespace = credential.namespace().unwrap_or_default();
    let seed = seed_name(credential);
    // What is put into a Secret that both name, the other one takes.
    let both = owner.namespace() == credential.namespace() && seed_name(owner) == seed;
    let mend = if both {
        format!(
            "put another authorization into a Secret of its own, and name that: kubectl -n {namespace} patch icred {} --type merge -p '{{\"spec\":{{\"oauth2\":{{\"seedSecretRef\":{{\"name\":\"…\"}}}}}}}}'",
            credential.name_any()
        )
    } else {
        reseed(credential)
    };
    format!(
        "the refresh token in the seed Secret {namespace}/{seed} is that of IntegrationCredential {}/{}, and the provider replaces refresh tokens: two that refresh with one end each other's. Use that credential's Secret, or {mend}",
        owner.namespace().unwrap_or_default(),
        owner.name_any(),
    )
}

/// An authorization code that was presented, and brought nothing that was kept.
#[must_use]
pub fn code_spent(credential: &IntegrationCredential) -> Failure {
    Failure::new(
        Reason::ReauthorizationRequired,
        format!(
            "the authorization code was sent to {} and no tokens came back that could be kept; a code is taken once, so it is not sent again. Now {}",
            credential.oauth2().provider_ref,
            reseed(credential)
        ),
    )
}

/// An authorization code brought nothing to refresh with.
fn no_refresh_token(credential: &IntegrationCredential) -> Failure {
    Failure::new(
        Reason::ReauthorizationRequired,
        format!(
            "{} gave no refresh token for the authorization code, so there would be nothing to refresh with. Authorize again and ask for offline access (the scope offline_access, or what the provider calls it), and put the new code into the seed: kubectl -n {} patch secret {} -p '{{\"stringData\":{{\"authorization_code\":\"…\"}}}}'",
            credential.oauth2().provider_ref,
            credential.namespace().unwrap_or_default(),
            seed_name(credential)
        ),
    )
}

/// The grant is an older one.
#[must_use]
pub fn grant_restored(credential: &IntegrationCredential, grant: &Grant, known: u64) -> Failure {
    Failure::new(
        Reason::GrantRestored,
        format!(
            "Secret {}/{} holds the grant of generation {}, and this credential was at {known} already: its refresh token is spent and is not presented. Restore the latest, or {}",
            credential.namespace().unwrap_or_default(),
            credential.grant_name(),
            grant.token.generation,
            reseed(credential)
        ),
    )
}

/// The grant was authorized elsewhere than where it would be presented now.
#[must_use]
pub fn provider_changed(
    credential: &IntegrationCredential,
    grant: &Grant,
    origin: &str,
) -> Failure {
    let provider = &credential.oauth2().provider_ref;
    let change = if grant.origin == origin {
        format!("the client of {provider} is another one than when this credential was authorized")
    } else {
        let was = &grant.origin;
        format!(
            "{provider} was at {was} when this credential was authorized and is at {origin} now"
        )
    };
    Failure::new(
        Reason::ProviderChanged,
        format!(
            "{change}; its refresh token is not sent there. Undo the change; or, if the token belongs there: kubectl -n {} annotate icred {} {CONFIRM_ORIGIN}={}; or {}",
            credential.namespace().unwrap_or_default(),
            credential.name_any(),
            origin.split_once("://").map_or(origin, |(_, host)| host),
            reseed(credential)
        ),
    )
}

/// Why a seed is not used, for people.
#[must_use]
pub fn rejected(credential: &IntegrationCredential, verdict: Verdict) -> Option<String> {
    let why = match verdict {
        Verdict::Current | Verdict::New => return None,
        Verdict::Refused => "the provider refused the refresh token in the seed",
        Verdict::Superseded => {
            "the refresh token in the seed was used before and has been replaced by a newer one"
        }
    };
    Some(format!(
        "{why}; the grant that is in use goes on. To replace it, {}",
        reseed(credential)
    ))
}

/// One new token after the other is said not to work.
pub const TOKEN_REJECTED: &str = "programs have said of several new tokens in a row, soon after each was obtained, that it does not work: another one will not help, so what they say is believed only when the token is older. Look at the answers of the API behind it: a missing scope is answered with 401 by some";

/// The token lacks scopes. `user`: a user has to grant them.
#[must_use]
pub fn scopes_missing(
    credential: &IntegrationCredential,
    missing: &[String],
    user: bool,
) -> String {
    let names = some(missing);
    if user {
        format!(
            "the token is used without these scopes of spec.oauth2.scopes, which the authorization does not have: {names}. A refresh cannot add any: to have them, {}",
            reseed(credential)
        )
    } else {
        format!(
            "the token is used without these scopes of spec.oauth2.scopes, which {} did not grant: {names}. Grant them to the client there, or remove them from spec.oauth2.scopes",
            credential.oauth2().provider_ref
        )
    }
}

/// The authorization ends, whatever is refreshed.
#[must_use]
pub fn authorization_ends(credential: &IntegrationCredential, at: Timestamp) -> String {
    format!(
        "{} ends this authorization at {at:.0}, and no refresh puts that off. Before then, {}",
        credential.oauth2().provider_ref,
        reseed(credential)
    )
}

/// Nothing is done for it, because its author wants that.
#[must_use]
pub fn suspended(credential: &IntegrationCredential) -> String {
    format!(
        "suspended by spec.suspend: nothing is refreshed or written, and the token may expire. To resume: {}",
        resume(
            &credential.namespace().unwrap_or_default(),
            &credential.name_any()
        )
    )
}

/// The command by which people resume a credential.
#[must_use]
pub fn resume(namespace: &str, name: &str) -> String {
    format!(
        "kubectl -n {namespace} patch icred {name} --type=merge -p '{{\"spec\":{{\"suspend\":false}}}}'"
    )
}

/// A refresh did not wait for these holders any longer.
#[must_use]
pub fn forced(holders: &[String]) -> String {
    format!(
        "the token had to be refreshed, and these holders had not let go: {}. Their holds were deleted; they learn it at their next renewal",
        some(holders)
    )
}

/// Holders that had not let go when a credential that is deleted had to be revoked.
#[must_use]
pub fn forced_at_end(holders: &[String]) -> String {
    format!(
        "the credential is deleted and its token is revoked now, and these holders had not let go: {}. Their holds were deleted; they learn it at their next renewal",
        some(holders)
    )
}

/// The provider has revoked the token of a deleted credential.
#[must_use]
pub fn revoked(credential: &IntegrationCredential, origin: &str, ends_consent: bool) -> String {
    let provider = &credential.oauth2().provider_ref;
    let more = if ends_consent {
        ". This provider also ends what other credentials of the same user and client have"
    } else {
        ""
    };
    format!("{origin} ({provider}) has revoked the token of the deleted credential{more}")
}

/// What people do about a token that could not be revoked.
const BY_HAND: &str = "the credential is let go all the same; if the token must not live on, end the authorization at the provider by hand";

/// The token of a deleted credential could not be revoked.
#[must_use]
pub fn revocation_failed(credential: &IntegrationCredential, why: &str) -> String {
    let provider = &credential.oauth2().provider_ref;
    format!("the token could not be revoked at {provider}: {why}; {BY_HAND}")
}

/// The provider of a deleted credential does not revoke.
#[must_use]
pub fn revocation_not_supported(credential: &IntegrationCredential, why: &str) -> String {
    let provider = &credential.oauth2().provider_ref;
    format!(
        "the token was not revoked: {why}. If it can be revoked (RFC 7009), set spec.revokeUrl of {provider}; {BY_HAND}"
    )
}

/// Another credential has the same refresh token.
#[must_use]
pub fn revocation_skipped(other: &str) -> String {
    format!(
        "the token was not revoked: credential {other} has the same refresh token, and goes on with it. It is revoked with the last of them whose revocationPolicy is OnDelete"
    )
}

/// The grant was authorized elsewhere than where it would be revoked.
#[must_use]
pub fn authorized_elsewhere(credential: &IntegrationCredential) -> String {
    let provider = &credential.oauth2().provider_ref;
    format!(
        "the endpoint or the client of {provider} is another one than when this credential was authorized, and the refresh token is not sent there"
    )
}

/// The revocation endpoint is at another host than the token endpoint.
#[must_use]
pub fn revocation_elsewhere(credential: &IntegrationCredential, origin: &str) -> String {
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    format!(
        "its revocation endpoint is at {origin}, and the refresh token is sent to no other host than that of the token endpoint. If it belongs there, say so before you delete a credential: kubectl -n {} annotate icred {} {CONFIRM_ORIGIN}={host}",
        credential.namespace().unwrap_or_default(),
        credential.name_any()
    )
}

/// The provider ends more than one credential by revoking it.
#[must_use]
pub fn ends_consent(credential: &IntegrationCredential) -> String {
    format!(
        "when this credential is deleted, {} ends what other credentials of the same user and client have, too; set spec.revocationPolicy: Never if they are to go on",
        credential.oauth2().provider_ref
    )
}

/// A refresh waits for these holders.
#[must_use]
pub fn draining(holders: &[String]) -> String {
    format!(
        "a refresh waits for those who use the token to let go: {}",
        some(holders)
    )
}

/// The first few of a list.
fn some(all: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// A seed could not be tried, and the grant in use goes on.
#[must_use]
pub fn seed_untried(failure: &Failure) -> String {
    format!(
        "the refresh token in the seed could not be tried ({}); the grant that is in use goes on, and it is tried again at the next refresh: {}",
        failure.reason.as_str(),
        failure.message
    )
}

/// What the table of reasons says, about this credential.
fn advice(
    reason: Reason,
    credential: &IntegrationCredential,
    origin: &str,
    answered: &str,
) -> String {
    let provider = credential.oauth2().provider_ref.to_string();
    let about = [
        ("{origin}", origin),
        ("{provider}", &provider),
        ("{answered}", answered),
        ("{reseed}", &reseed(credential)),
    ];
    let whole = reason.advice().to_owned();
    about
        .into_iter()
        .fold(whole, |text, (place, what)| text.replace(place, what))
}

/// A refresh token may be spent.
#[must_use]
pub fn outcome_unknown(credential: &IntegrationCredential) -> Failure {
    let reason = Reason::RefreshOutcomeUnknown;
    Failure::new(reason, advice(reason, credential, "", ""))
}

/// The provider had replaced a refresh token, and its answer was lost.
#[must_use]
pub fn rotation_lost(credential: &IntegrationCredential) -> String {
    advice(Reason::RotationLost, credential, "", "")
}

/// The operator does not connect to an address. Not the address itself: whoever may write a provider object
/// would read out of it what the names of the operator's network mean.
#[must_use]
pub fn endpoint_not_allowed(provider: &ProviderReference, origin: &str, rule: Refused) -> Failure {
    let way_out = match rule {
        Refused::Metadata => "",
        _ => {
            "; if it is right, the operator must be started with --allow-provider-network and the network of that address"
        }
    };
    Failure::new(
        Reason::EndpointNotAllowed,
        format!(
            "{origin} ({provider}) is at {rule}, and nothing was sent: no provider is looked for there. Check the URL in its spec{way_out}"
        ),
    )
}

/// The failure that an answer means.
#[must_use]
pub fn failure(
    answer: &Answer,
    spends: Spends,
    credential: &IntegrationCredential,
    origin: &str,
) -> Failure {
    if let Answer::NotMade(failure) = answer {
        return Failure::clone(failure);
    }
    if let Answer::NotAllowed(rule) = answer {
        return endpoint_not_allowed(&credential.oauth2().provider_ref, origin, *rule);
    }
    if matches!(answer, Answer::NoRefreshToken) {
        return no_refresh_token(credential);
    }
    let reason = classify(answer, spends);
    let (code, retry_after) = match answer {
        Answer::Answered {
            status,
            error,
            retry_after,
            ..
        } => {
            let code = error.as_deref().and_then(known_code);
            let code = code.map_or_else(|| status.to_string(), str::to_owned);
            (Some(code), *retry_after)
        }
        Answer::NotSent
        | Answer::NotTrusted
        | Answer::NotAllowed(_)
        | Answer::NotMade(_)
        | Answer::NoRefreshToken
        | Answer::Lost => (None, None),
    };
    let answered = code.as_deref().unwrap_or("no answer");
    let message = advice(reason, credential, origin, answered);
    Failure {
        code,
        retry_after,
        ..Failure::new(reason, message)
    }
}

/// What people should know of a token that was obtained all the same.
#[must_use]
pub fn remark(
    tokens: &TokenResponse,
    credential: &IntegrationCredential,
    description: &Description,
) -> Option<String> {
    let why = match tokens.lifetime {
        Lifetime::Stated(_) | Lifetime::Until(_) => return None,
        Lifetime::NotStated => "the provider states no lifetime (expires_in)",
        Lifetime::Unusable => "the provider states a lifetime that is none (expires_in)",
    };
    let provider = &credential.oauth2().provider_ref;
    Some(if description.default_lifetime.is_some() {
        format!("the token is valid; {why}, so spec.defaultLifetime of {provider} is used")
    } else {
        no_expiry(credential, why)
    })
}

/// What is said of a valid token.
const VALID: &str = "the token is valid";

/// What is said of a valid token that lives so shortly that a crash in the middle of a refresh, or of a
/// program that holds the credential, may outlast it.
#[must_use]
pub fn short_lived(needed: Duration) -> String {
    format!(
        "{VALID}; it lives shorter than the {}s that it can take to overcome a crash during a refresh, so a crash may leave it expired for a while",
        needed.as_secs()
    )
}

/// What is said of a valid token, where nothing is known but the token.
#[must_use]
pub fn valid(credential: &IntegrationCredential, has_expiry: bool) -> String {
    if has_expiry {
        VALID.to_owned()
    } else {
        no_expiry(
            credential,
            "the provider states no usable lifetime (expires_in)",
        )
    }
}

fn no_expiry(credential: &IntegrationCredential, why: &str) -> String {
    if let Some(assumed) = credential.assumed_lifetime() {
        let assumed = words::duration(assumed);
        return format!(
            "{VALID}; {why}, so it is taken to live for {assumed} (spec.refresh.assumedLifetime)"
        );
    }
    format!(
        "{VALID}; {why}, so nobody knows when it expires and it is not refreshed. Set spec.defaultLifetime of {} to have it refreshed",
        credential.oauth2().provider_ref
    )
}

/// `spec.refresh.before` is more than the token's life has room for.
#[must_use]
pub fn before_too_long(before: Duration) -> String {
    format!(
        "spec.refresh.before ({}) is longer than half of the token's life, so half is used",
        words::duration(before)
    )
}

/// `spec.refresh.keepAlive` keeps nothing alive.
#[must_use]
pub fn keep_alive_too_long(keep_alive: Duration, idle: Duration) -> String {
    format!(
        "spec.refresh.keepAlive ({}) is not shorter than the {} after which the provider takes the refresh token for abandoned, so a third of that is used",
        words::duration(keep_alive),
        words::duration(idle)
    )
}

/// A token was dead before it was taken to be.
#[must_use]
pub fn assumed_too_long(assumed: Duration, lived: Duration) -> String {
    format!(
        "programs said of the token before it that it does not work, {} after it was obtained: spec.refresh.assumedLifetime ({}) may be too long",
        words::duration(lived),
        words::duration(assumed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ProviderKind;

    #[test]
    fn an_address_that_is_not_allowed_is_told_by_host_rule_and_flag_and_not_by_itself() {
        let provider = ProviderReference {
            kind: ProviderKind::OAuthProvider,
            name: "example".to_owned(),
        };
        let told = |rule| endpoint_not_allowed(&provider, "https://sso.example.com", rule).message;
        let private = told(Refused::Private);
        for word in [
            "https://sso.example.com",
            "OAuthProvider example",
            "a private address",
            "--allow-provider-network",
        ] {
            assert!(private.contains(word), "{word} in {private}");
        }
        // No flag allows these.
        assert!(!told(Refused::Metadata).contains("--allow"));
    }
}
