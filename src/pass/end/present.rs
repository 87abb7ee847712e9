//! What is presented for revocation, where, and how the answer is read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use uuid::Uuid;

use super::{End, Interrupted, UNCLEAR};
use crate::{
    api::{ClientAuthentication, RevokedToken},
    clock::{self, Moment},
    explain,
    failure::{Class, Failure, Reason},
    finalizer,
    oauth::{
        assertion,
        error::{Answer, Spends},
        grant::{ClientIdentity, Proof, revocation},
        revocation::{Verdict, verdict},
        traffic::{Effect, effect},
    },
    plan::{
        end::{Tokens, Way},
        is_confirmed,
    },
    provider::{self, Resolved},
    refresh::turn::revocation_turn,
    secret::{
        grant::Grant,
        target::{self, Held},
    },
    shared,
};

/// How long a turn is waited for: the end of a credential takes its place in the lane, and does not wait there for long.
const TURN: Duration = Duration::from_secs(30);

/// What is presented, and where.
#[derive(Default)]
pub(super) struct Present {
    refresh_token: Option<SecretString>,
    access_token: Option<SecretString>,
    /// Where the grant was authorized, and as which client: its refresh token goes to no other.
    authorized: Option<(String, String)>,
    resolved: Option<(Resolved, Url)>,
    /// The origin of the revocation endpoint, for people.
    pub(super) origin: String,
    /// Whether it ends what other credentials of the same user and client have.
    pub(super) ends_consent: bool,
}

impl End<'_> {
    /// Reads what there is to revoke, uncached: a refresh may have ended a moment ago.
    pub(super) async fn read(&mut self) -> Result<(), Interrupted> {
        let credential = &self.credential;
        let namespace = credential.namespace().unwrap_or_default();
        let is_machine = credential.oauth2().grant_type.is_machine();
        let name = if is_machine {
            credential.target_name()
        } else {
            credential.grant_name()
        };
        let began = Moment::now();
        let found = loop {
            match self.context.tools.secrets.get(&namespace, &name).await {
                Ok(found) => break found,
                Err(failure) if Moment::now().elapsed(began) > TURN => {
                    self.tokens = Tokens::Lost(failure.message);
                    return Ok(());
                }
                Err(_) if self.sleep(UNCLEAR).await => {}
                Err(_) => return Err(Interrupted),
            }
        };
        let uid = credential.uid().unwrap_or_default();
        // A target that outlives its credential has no owner, and says whose it is.
        let found = found.filter(|found| {
            finalizer::is_of(&found.metadata, &uid) || target::is_ours(found, &uid)
        });
        let had_token = credential
            .status
            .as_ref()
            .is_some_and(|s| s.token.is_some());
        self.tokens = match found {
            None if had_token => Tokens::Lost(format!("Secret {namespace}/{name} is gone already")),
            None => Tokens::None,
            Some(found) if is_machine => self.present.take_target(&found),
            Some(found) => self.present.take_grant(&found, &namespace),
        };
        Ok(())
    }

    /// Finds out where it is revoked, and as which client.
    pub(super) async fn resolve(&mut self) -> Way {
        let credential = &self.credential;
        let others = self.context.caches.credentials.state();
        if let Some(other) = others.iter().find(|other| shared::share(credential, other)) {
            let namespace = other.namespace().unwrap_or_default();
            return Way::Shared(format!("{namespace}/{}", other.name_any()));
        }
        let Some(found) = self.context.caches.provider(credential) else {
            return Way::Refused(provider::missing(credential));
        };
        let endpoint = &self.context.tools.endpoint;
        let resolver = &self.context.resolver;
        let resolved = match Box::pin(resolver.resolve(found, credential, endpoint)).await {
            Ok(resolved) => resolved,
            Err(failure) => return unresolved(failure),
        };
        let Some(point) = &resolved.revocation else {
            return Way::NotSupported(format!(
                "{} has no revocation endpoint",
                credential.oauth2().provider_ref
            ));
        };
        let url = match &point.url {
            Ok(url) => url.clone(),
            Err(failure) => return Way::Refused(failure.message.clone()),
        };
        let origin = url.origin().ascii_serialization();
        if let Some((authorized, client)) = &self.present.authorized {
            let is_same = *authorized == resolved.origin && *client == resolved.client_id;
            if !is_same && !is_confirmed(credential, &resolved.origin) {
                return Way::Refused(explain::authorized_elsewhere(credential));
            }
            // Who may change a provider object must not get refresh tokens sent to a host of theirs by it.
            let is_known = origin == resolved.origin || point.is_of_preset;
            if !is_known && !is_confirmed(credential, &origin) {
                return Way::Refused(explain::revocation_elsewhere(credential, &origin));
            }
        }
        let revocation = resolved.description.revocation.clone().unwrap_or_default();
        self.present.ends_consent = revocation.ends_consent.unwrap_or(false);
        self.present.origin = origin;
        self.present.resolved = Some((resolved, url));
        Way::Known
    }

    /// Presents it once; all of it within `timeout`.
    pub(super) async fn present(&self, timeout: Duration) -> Verdict {
        let Some((resolved, url)) = &self.present.resolved else {
            return Verdict::Refused("nobody knows where".to_owned());
        };
        let turn = revocation_turn(&self.context.tools, &self.credential, resolved, url);
        let began = Moment::now();
        while let Err((pause, _)) = turn.take() {
            if Moment::now().elapsed(began) > TURN || self.ends.is_cancelled() {
                let why = "others who ask the provider come first".to_owned();
                return Verdict::Passing(why, None);
            }
            self.sleep(pause.min(UNCLEAR)).await;
        }
        let began = Moment::now();
        for (token, hint) in self.present.tokens(resolved) {
            let mut secrets = resolved.client_secrets.iter();
            let mut secret = secrets.next();
            let last = loop {
                let left = timeout.saturating_sub(Moment::now().own_elapsed(began));
                turn.sent();
                let answer = Box::pin(self.post(resolved, url, (token, hint), secret, left)).await;
                let told = match &answer {
                    Ok(()) => Some(Effect::Answered),
                    Err(answer) => effect(answer, Spends::Nothing),
                };
                if let Some(told) = told {
                    turn.came_to(told);
                }
                let verdict = answer.map_or_else(|answer| verdict(&answer), |()| Verdict::Revoked);
                match (&verdict, secrets.next()) {
                    (Verdict::InvalidClient(_), Some(next)) => secret = Some(next),
                    _ => break verdict,
                }
            };
            if last != Verdict::Revoked {
                return last;
            }
        }
        Verdict::Revoked
    }

    async fn post(
        &self,
        resolved: &Resolved,
        url: &Url,
        (token, hint): (&SecretString, &str),
        secret: Option<&SecretString>,
        timeout: Duration,
    ) -> Result<(), Answer> {
        let description = &resolved.description;
        let id = Uuid::new_v4().to_string();
        let moment = assertion::Moment {
            now: clock::now(),
            id: &id,
        };
        let signed;
        let proof = match (secret, description.client_auth()) {
            (None, _) | (_, ClientAuthentication::None) => Proof::None,
            (Some(key), ClientAuthentication::PrivateKeyJwt) => {
                // The audience is the token endpoint here too (RFC 7523 section 3).
                let (client, audience) = (&resolved.client_id, resolved.url.as_str());
                signed = assertion::of_client(description, key, client, audience, moment)
                    .map_err(|error| self.cannot_sign(&error.to_string()))?;
                Proof::Assertion(&signed)
            }
            (Some(secret), _) => Proof::Secret(secret),
        };
        let client = ClientIdentity {
            id: &resolved.client_id,
            proof,
        };
        let request = revocation(token, hint, &client, description);
        let endpoint = &self.context.tools.endpoint;
        let authorities = resolved.authorities.as_ref();
        let presented = (Spends::Nothing, None);
        let sending =
            endpoint.exchange(url, &request, presented, description, authorities, timeout);
        let (_, answer) = sending.await;
        answer.map(drop)
    }

    fn cannot_sign(&self, error: &str) -> Answer {
        let provider = &self.credential.oauth2().provider_ref;
        Answer::NotMade(Box::new(Failure::new(
            Reason::ProviderNotConfigured,
            format!("the key of the client of {provider} cannot sign: {error}"),
        )))
    }
}

impl Present {
    fn take_target(&mut self, found: &Secret) -> Tokens {
        match target::held(found) {
            Some(Held::Readable(token)) => {
                self.access_token = Some(token.access_token);
                Tokens::Found
            }
            Some(Held::Templated { .. }) => Tokens::Lost(format!(
                "the access token is only where the templates of Secret {} have written it",
                found.name_any()
            )),
            None => Tokens::Lost(format!("Secret {} was edited", found.name_any())),
        }
    }

    fn take_grant(&mut self, found: &Secret, namespace: &str) -> Tokens {
        match Grant::read_stored(found) {
            Ok(grant) => {
                self.authorized = Some((grant.origin, grant.client_id));
                self.refresh_token = Some(grant.refresh_token);
                self.access_token = Some(grant.token.access_token);
                Tokens::Found
            }
            Err(error) => Tokens::Lost(format!("Secret {namespace}/{} {error}", found.name_any())),
        }
    }

    /// What is presented, with its hint (RFC 7009 section 2.1).
    fn tokens(&self, resolved: &Resolved) -> Vec<(&SecretString, &'static str)> {
        let described = resolved.description.revocation.as_ref();
        let which = described
            .and_then(|revocation| revocation.token)
            .unwrap_or_default();
        let refresh_token = self
            .refresh_token
            .as_ref()
            .map(|token| (token, "refresh_token"));
        let access_token = self
            .access_token
            .as_ref()
            .map(|token| (token, "access_token"));
        let some = match which {
            // A credential without a grant has no other.
            RevokedToken::RefreshToken => [refresh_token.or(access_token), None],
            RevokedToken::AccessToken => [access_token, None],
            RevokedToken::Both => [refresh_token, access_token],
        };
        let is_token = |(token, _): &(&SecretString, _)| !token.expose_secret().is_empty();
        some.into_iter().flatten().filter(is_token).collect()
    }
}

fn unresolved(failure: Failure) -> Way {
    match failure.reason.class() {
        Class::NeedsReauthorization | Class::GrantUnusable | Class::Misconfiguration => {
            Way::Refused(failure.message)
        }
        _ => Way::Passing(failure.message),
    }
}
