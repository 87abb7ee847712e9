//! The grant that an answer makes, and what is said of one that is not enough for one.

use jiff::Timestamp;

use super::{
    super::{Subject, exchange::Offer, new_token},
    Presenting,
};
use crate::{
    explain,
    failure::Failure,
    oauth::{
        error::{Answer, Spends},
        response::TokenResponse,
    },
    plan,
    secret::grant::Grant,
};

/// The grant that an answer makes; `None`: nothing can be stored of it.
pub(super) fn new_grant(
    subject: &Subject,
    presenting: &Presenting<'_>,
    attempt: String,
    sent: Timestamp,
    mut tokens: TokenResponse,
) -> Option<Grant> {
    let Presenting {
        base,
        offer,
        spent,
        as_seed,
    } = *presenting;
    // A code that brings no refresh token leaves nothing to refresh with.
    let refresh_token = match tokens.refresh_token.take() {
        Some(refresh_token) => refresh_token,
        None if offer.is_code() => return None,
        None => spent.clone(),
    };
    let old = base.grant.as_ref().filter(|_| as_seed.is_none());
    let authorized_at = old.map_or(sent, |grant| grant.authorized_at);
    let stated = tokens.refresh_lifetime;
    // A refresh token that came alone is kept beside whatever token there is.
    let beside = if tokens.access_token.is_none() {
        base.grant.as_ref()
    } else {
        old
    };
    let previous = beside.map(|grant| &grant.token);
    let asked = match (&base.grant, as_seed) {
        (Some(grant), None) => grant.token.scopes.as_slice(),
        _ => &subject.credential.oauth2().scopes,
    };
    let mut ours = Grant {
        token: new_token(subject, 0, sent, tokens, asked, previous)?,
        refresh_token,
        seeds: base.seeds(&subject.credential),
        origin: subject.resolved.origin.clone(),
        client_id: subject.resolved.client_id.clone(),
        attempt,
        authorized_at,
        refresh_expires_at: plan::refresh_expires_at(
            sent,
            authorized_at,
            stated,
            &subject.resolved.description,
        ),
    };
    if let Some(fingerprint) = as_seed {
        ours.remember(fingerprint, true);
    }
    Some(ours)
}

/// The answer brought too little for a grant.
pub(super) fn nothing_to_keep(offer: Offer<'_>) -> Answer {
    if offer.is_code() {
        Answer::NoRefreshToken
    } else {
        Answer::without_tokens()
    }
}

/// A new refresh token came without an access token. It is kept; asking at once for what did not come would go on
/// for ever.
pub(super) fn came_alone(subject: &Subject) -> Failure {
    let answer = Answer::without_tokens();
    let origin = &subject.resolved.origin;
    explain::failure(&answer, Spends::LastingToken, &subject.credential, origin)
}
