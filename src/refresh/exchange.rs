//! The exchange with the token endpoint: what is presented, by which client, once.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use secrecy::SecretString;
use uuid::Uuid;

use super::{Subject, Tools};
use crate::{
    api::{AccessTokenOnRefresh, ClientAuthentication, GrantType},
    clock::{self, Moment},
    failure::{Class, Failure, Reason},
    oauth::{
        assertion::{self, AssertionError},
        error::{Answer, Spends, classify},
        grant::{ClientIdentity, Presented, Proof, TokenRequest, Wanted, request},
        response::TokenResponse,
        traffic::{Effect, effect},
    },
    secret::seed::Authorization,
    telemetry::span::Came,
};

/// How soon a request is made again whose answer was lost within the grace period; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is presented.
#[derive(Clone, Copy)]
pub(super) enum Offer<'a> {
    /// A refresh token of the grant.
    RefreshToken(&'a SecretString),
    /// The seed's authorization.
    Seed(&'a Authorization),
    /// The client itself.
    Client,
}

impl Offer<'_> {
    /// Whether it is an authorization code: whatever the provider does with refresh tokens, it takes a code once.
    pub(super) fn is_code(self) -> bool {
        matches!(self, Self::Seed(authorization) if authorization.is_code())
    }
}

/// Sends the request, with the next client secret where the provider refuses one: such a refusal
/// spends nothing. All of it within `timeout`.
pub(super) async fn exchange(
    tools: &Tools,
    subject: &Subject,
    offer: Offer<'_>,
    spends: Spends,
    timeout: Duration,
) -> (Timestamp, Result<TokenResponse, Answer>) {
    let resolved = &subject.resolved;
    let authorities = resolved.authorities.as_ref();
    let start = Moment::now();
    let mut secrets = resolved.client_secrets.iter();
    let mut secret = secrets.next();
    let url = match offer {
        Offer::RefreshToken(_) | Offer::Seed(Authorization::RefreshToken(_)) => {
            &resolved.refresh_url
        }
        Offer::Seed(_) | Offer::Client => &resolved.url,
    };
    let spent = match offer {
        Offer::RefreshToken(token) | Offer::Seed(Authorization::RefreshToken(token)) => Some(token),
        Offer::Seed(_) | Offer::Client => None,
    };
    loop {
        let request = match compose(subject, offer, secret) {
            Ok(request) => request,
            Err(failure) => {
                return (clock::now(), Err(Answer::NotMade(Box::new(failure))));
            }
        };
        let left = timeout.saturating_sub(Moment::now().own_elapsed(start));
        let presented = (spends, spent);
        let sending = tools.endpoint.exchange(
            url,
            &request,
            presented,
            &resolved.description,
            authorities,
            left,
        );
        subject.turn.sent();
        let began = Moment::now();
        let (sent, answer) = Box::pin(sending).await;
        count(tools, subject, &answer, Moment::now().elapsed(began));
        let effect = match &answer {
            Ok(_) => Some(Effect::Answered),
            Err(answer) => effect(answer, spends),
        };
        if let Some(effect) = effect {
            subject.turn.came_to(effect);
        }
        let next = match &answer {
            Err(answer) if classify(answer, spends) == Reason::InvalidClient => secrets.next(),
            _ => None,
        };
        if next.is_none() {
            return (sent, answer);
        }
        secret = next;
    }
}

/// What an exchange came to, as the outcome of its span.
pub(super) fn came(answer: &Result<TokenResponse, Answer>, spends: Spends) -> Came {
    match answer {
        Ok(_) => Came::Success(None),
        Err(answer) => Came::Failure(classify(answer, spends)),
    }
}

/// Counts a request that was sent, by its answer.
fn count(tools: &Tools, subject: &Subject, answer: &Result<TokenResponse, Answer>, took: Duration) {
    let status = match answer {
        Ok(_) | Err(Answer::NoRefreshToken) => Some(200),
        Err(Answer::Answered { status, .. }) => Some(*status),
        Err(Answer::Lost | Answer::NotSent | Answer::NotTrusted) => None,
        Err(Answer::NotAllowed(_) | Answer::NotMade(_)) => return,
    };
    tools.metrics.answered(&subject.credential, status, took);
}

/// Sends the request, and where its answer is lost within the provider's grace period, the same again: within that time
/// a spent refresh token gives the same answer; `repeats` is false where the grace is over, or may be. All of it within
/// `timeout`. The time of the first sending comes back. What was unclear once stays so, whatever a repetition that
/// spent nothing came to.
pub(super) async fn exchange_in_grace(
    tools: &Tools,
    subject: &Subject,
    offer: Offer<'_>,
    spends: Spends,
    repeats: bool,
    timeout: Duration,
) -> (Timestamp, Result<TokenResponse, Answer>) {
    let grace = subject.resolved.description.reuse_grace();
    let repeats = repeats && matches!(spends, Spends::RotatingToken) && !offer.is_code();
    let start = Moment::now();
    let left = || timeout.saturating_sub(Moment::now().own_elapsed(start));
    // One that hangs must leave time to be asked again.
    let most = if repeats && !grace.is_zero() {
        timeout / 2
    } else {
        timeout
    };
    let mut pause = FIRST_PAUSE;
    let (first, answer) = exchange(tools, subject, offer, spends, most.min(left())).await;
    while let Err(lost) = &answer {
        let is_unclear = classify(lost, spends).class() == Class::Ambiguous;
        let in_grace = Moment::now().own_elapsed(start) + pause < grace;
        if !(repeats && is_unclear && in_grace && pause < left()) || tools.shutdown.is_cancelled() {
            break;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        tracing::info!("the answer was lost; asking again within the provider's grace period");
        let (_, again) = exchange(tools, subject, offer, spends, most.min(left())).await;
        match again
            .as_ref()
            .map_err(|other| classify(other, spends).class())
        {
            Ok(_) | Err(Class::NeedsReauthorization) => return (first, again),
            Err(Class::RateLimited) => break,
            Err(_) => {}
        }
    }
    (first, answer)
}

/// Whether a request can be made at all: a key that cannot sign is found out before holders are drained.
///
/// # Errors
/// What people have to mend.
pub fn check(subject: &Subject) -> Result<(), Failure> {
    let nothing = SecretString::default();
    let offer = match &subject.seed {
        Ok(seed) => Offer::Seed(&seed.authorization),
        Err(_) if subject.credential.oauth2().grant_type.is_machine() => Offer::Client,
        Err(_) => Offer::RefreshToken(&nothing),
    };
    compose(subject, offer, subject.resolved.client_secrets.first()).map(drop)
}

/// The request that presents `offer`, with this one of the client's secrets.
fn compose(
    subject: &Subject,
    offer: Offer<'_>,
    secret: Option<&SecretString>,
) -> Result<TokenRequest, Failure> {
    let resolved = &subject.resolved;
    let description = &resolved.description;
    let oauth2 = subject.credential.oauth2();
    let provider = &oauth2.provider_ref;
    let id = Uuid::new_v4().to_string();
    let moment = assertion::Moment {
        now: clock::now(),
        id: &id,
    };
    let client_key = |error: AssertionError| {
        Failure::new(
            Reason::ProviderNotConfigured,
            format!(
                "{provider} is not usable: the key of its client cannot sign: {error}; check spec.client, its Secret and spec.assertion"
            ),
        )
    };
    let seed_key = |error: AssertionError| {
        let seed = oauth2.seed_secret_ref.as_ref();
        Failure::new(
            Reason::SeedInvalid,
            format!(
                "the key in the seed Secret {}/{} cannot sign: {error}; replace it, or check spec.assertion of {provider}",
                subject.credential.namespace().unwrap_or_default(),
                seed.map_or("", |seed| seed.name.as_str())
            ),
        )
    };
    let key = secret.ok_or(AssertionError::NoKey);
    let signed;
    let presented = match (offer, oauth2.grant_type) {
        (Offer::RefreshToken(token) | Offer::Seed(Authorization::RefreshToken(token)), _) => {
            Presented::RefreshToken(token)
        }
        (
            Offer::Seed(Authorization::Code {
                code,
                redirect_uri,
                verifier,
            }),
            _,
        ) => Presented::Code {
            code,
            redirect_uri: redirect_uri.as_deref(),
            verifier: verifier.as_ref(),
        },
        (Offer::Seed(seed), _) => {
            let subject = oauth2.subject.as_deref();
            let url = resolved.url.as_str();
            signed = assertion::of_seed(description, seed, subject, &oauth2.scopes, url, moment)
                .map_err(seed_key)?;
            Presented::Assertion(&signed)
        }
        (Offer::Client, GrantType::GitHubAppInstallation) => {
            signed = key
                .and_then(|key| assertion::of_app(key, &resolved.client_id, moment))
                .map_err(client_key)?;
            Presented::App(&signed)
        }
        (Offer::Client, _) => Presented::Client,
    };
    let client_assertion;
    let proof = match (secret, description.client_auth()) {
        (None, _) | (_, ClientAuthentication::None) => Proof::None,
        (Some(key), ClientAuthentication::PrivateKeyJwt) => {
            let (id, url) = (&resolved.client_id, resolved.url.as_str());
            client_assertion =
                assertion::of_client(description, key, id, url, moment).map_err(client_key)?;
            Proof::Assertion(&client_assertion)
        }
        (Some(secret), _) => Proof::Secret(secret),
    };
    let client = ClientIdentity {
        id: &resolved.client_id,
        proof,
    };
    let wanted = Wanted {
        scopes: &oauth2.scopes,
        resources: &oauth2.resources,
        extra: &oauth2.extra_parameters,
    };
    request(
        &presented,
        &client,
        wanted,
        description,
        &resolved.variables,
    )
    .map_err(|error| {
        Failure::new(
            Reason::ProviderNotConfigured,
            format!("{provider} is not usable: in its spec.params, {error}"),
        )
    })
}

/// After an answer that was lost on its way: keeps the gate closed for as long as the exchange may still be
/// carried out, since `start`, where that would end the token that others are about to take.
pub(super) async fn outlast(subject: &Subject, answer: &Answer, start: Moment, timeout: Duration) {
    let description = &subject.resolved.description;
    let survives = description.access_token_on_refresh() == AccessTokenOnRefresh::Survives;
    let status = subject.credential.status.as_ref();
    let has_token = status.is_some_and(|s| s.token.is_some());
    // A gateway that answers for the provider does not end what it is at.
    let may_go_on = match answer {
        Answer::Lost => true,
        Answer::Answered { status, error, .. } => {
            error.is_none() && matches!(status, 408 | 502 | 504)
        }
        _ => false,
    };
    if may_go_on && has_token && !survives {
        tokio::time::sleep(timeout.saturating_sub(Moment::now().own_elapsed(start))).await;
    }
}
