//! What people are told: messages that name the object, the cause and the next command. Of a provider's
//! words only OAuth's own error codes are repeated.

use kube::ResourceExt;

use crate::{
    api::{IntegrationCredential, Provider},
    failure::{Failure, Reason},
    oauth::{
        error::{Answer, Spends, classify, known_code},
        response::{Lifetime, TokenResponse},
    },
    secret::grant::{Grant, Verdict},
};

fn seed_name(credential: &IntegrationCredential) -> &str {
    let seed = credential.spec.oauth2.seed_secret_ref.as_ref();
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
    let provider = &credential.spec.oauth2.provider_ref;
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
            "{change}; its refresh token is not sent there. Undo the change, or {}",
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

/// A seed could not be tried, and the grant in use goes on.
#[must_use]
pub fn seed_untried(failure: &Failure) -> String {
    format!(
        "the refresh token in the seed could not be tried ({}); the grant that is in use goes on, and it is tried again at the next refresh: {}",
        failure.reason.as_str(),
        failure.message
    )
}

/// A refresh token may be spent.
#[must_use]
pub fn outcome_unknown(credential: &IntegrationCredential) -> Failure {
    Failure::new(
        Reason::RefreshOutcomeUnknown,
        format!(
            "a refresh was sent to {} and its outcome is not known; the refresh token may be spent. It is presented again only when that costs least. If that fails, {}",
            credential.spec.oauth2.provider_ref,
            reseed(credential)
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
    let reason = classify(answer, spends);
    let provider = &credential.spec.oauth2.provider_ref;
    let (code, retry_after) = match answer {
        Answer::Answered {
            status,
            error,
            retry_after,
        } => {
            let code = error.as_deref().and_then(known_code);
            let code = code.map_or_else(|| status.to_string(), str::to_owned);
            (Some(code), *retry_after)
        }
        Answer::NotSent | Answer::NotTrusted | Answer::Lost => (None, None),
    };
    let answered = code.as_deref().unwrap_or("no answer");
    let message = match reason {
        Reason::RefreshOutcomeUnknown => outcome_unknown(credential).message,
        Reason::ProviderUnreachable => {
            format!(
                "no connection to {origin} ({provider}); trying again. If this lasts, check spec.tokenUrl, DNS and network policies"
            )
        }
        Reason::CertificateNotTrusted => {
            format!(
                "the certificate of {origin} ({provider}) is not trusted; check spec.tokenUrl and the certificate authorities in the operator's image"
            )
        }
        Reason::ProviderError => {
            format!("{origin} ({provider}) cannot serve now ({answered}); trying again")
        }
        Reason::UnreadableResponse => {
            format!(
                "{origin} ({provider}) answered something that is no token response ({answered}); check that spec.tokenUrl is the token endpoint"
            )
        }
        Reason::RateLimited => {
            format!("{origin} ({provider}) asked for a pause ({answered}); trying again after it")
        }
        Reason::InvalidClient => {
            format!(
                "{origin} refused the client of {provider} ({answered}); check spec.client, its Secret and spec.clientAuth"
            )
        }
        Reason::InvalidScope => {
            format!(
                "{origin} ({provider}) refused the scopes ({answered}); change spec.oauth2.scopes"
            )
        }
        Reason::EndpointNotFound => {
            format!(
                "{origin} ({provider}) has no token endpoint at spec.tokenUrl ({answered}); redirects are not followed"
            )
        }
        Reason::ReauthorizationRequired => format!(
            "{origin} ({provider}) refused the refresh token ({answered}): it has expired or was revoked. Now {}",
            reseed(credential)
        ),
        _ => format!(
            "{origin} ({provider}) refused the request ({answered}); check the provider object against the provider's documentation"
        ),
    };
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
    description: &Provider,
) -> Option<String> {
    let why = match tokens.lifetime {
        Lifetime::Stated(_) => return None,
        Lifetime::NotStated => "the provider states no lifetime (expires_in)",
        Lifetime::Unusable => "the provider states a lifetime that is none (expires_in)",
    };
    let provider = &credential.spec.oauth2.provider_ref;
    Some(if description.default_lifetime.is_some() {
        format!("the token is valid; {why}, so spec.defaultLifetime of {provider} is used")
    } else {
        no_expiry(credential, why)
    })
}

/// What is said of a valid token, where nothing is known but the token.
#[must_use]
pub fn valid(credential: &IntegrationCredential, has_expiry: bool) -> String {
    if has_expiry {
        "the token is valid".to_owned()
    } else {
        no_expiry(
            credential,
            "the provider states no usable lifetime (expires_in)",
        )
    }
}

fn no_expiry(credential: &IntegrationCredential, why: &str) -> String {
    format!(
        "the token is valid; {why}, so nobody knows when it expires and it is not refreshed. Set spec.defaultLifetime of {} to have it refreshed",
        credential.spec.oauth2.provider_ref
    )
}
