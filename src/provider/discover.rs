//! What issuers publish of themselves, asked for once in a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use secrecy::ExposeSecret;
use url::Url;

use super::incomplete;
use crate::{
    api::{Description, ProviderReference},
    clock::Moment,
    explain,
    failure::{Failure, Reason},
    oauth::{
        discovery::{Metadata, MetadataError, addresses, read},
        endpoint::{Authorities, Endpoint, Unanswered},
    },
};

/// How long a document is good. Issuers move their endpoints rarely, and never at once.
const GOOD: Duration = Duration::from_secs(3600);

/// How long a document may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// So many issuers are remembered.
const CAPACITY: usize = 256;

/// The documents that were read, by issuer and by who is trusted to speak for it: a provider object with certificate
/// authorities of its own must not decide where another one's tokens go.
#[derive(Default)]
pub struct Discovery {
    known: Mutex<HashMap<Key, Known>>,
}

/// The issuer, and the certificate authorities beside the system's.
type Key = (String, Option<String>);

#[derive(Clone)]
struct Known {
    metadata: Arc<Metadata>,
    at: Moment,
}

/// Where to ask, and on whose word.
pub(super) struct Asked<'a> {
    pub provider: &'a ProviderReference,
    pub endpoint: &'a Endpoint,
    pub issuer: &'a Url,
    /// The issuer as people wrote it: the document must name this very one.
    pub name: &'a str,
    pub ca_bundle: Option<&'a str>,
    pub authorities: Option<&'a Authorities>,
}

impl Discovery {
    /// Puts what the issuer publishes into the places of `description` that are empty.
    ///
    /// # Errors
    /// `ProviderUnreachable`, `EndpointNotAllowed`, `CertificateNotTrusted`, or `ProviderNotConfigured` where there is
    /// no document, or one of another issuer.
    pub(super) async fn complete(
        &self,
        description: &mut Description,
        asked: &Asked<'_>,
    ) -> Result<(), Failure> {
        let found = self.metadata(asked).await?;
        let found = Metadata::clone(&found);
        for (place, endpoint) in [
            (&mut description.token_url, found.token_endpoint),
            (&mut description.revoke_url, found.revocation_endpoint),
            (
                &mut description.introspect_url,
                found.introspection_endpoint,
            ),
            (&mut description.authorize_url, found.authorization_endpoint),
            (
                &mut description.device_url,
                found.device_authorization_endpoint,
            ),
            (&mut description.userinfo_url, found.userinfo_endpoint),
        ] {
            if place.is_none() {
                *place = endpoint;
            }
        }
        Ok(())
    }

    async fn metadata(&self, asked: &Asked<'_>) -> Result<Arc<Metadata>, Failure> {
        let key = (asked.name.to_owned(), asked.ca_bundle.map(str::to_owned));
        let known = self.lock().get(&key).cloned();
        if let Some(known) = &known
            && Moment::now().elapsed(known.at) < GOOD
        {
            return Ok(Arc::clone(&known.metadata));
        }
        match (ask(asked).await, known) {
            (Ok(metadata), _) => {
                let metadata = Arc::new(metadata);
                self.keep(key, Arc::clone(&metadata));
                Ok(metadata)
            }
            // Where it cannot be asked now, what it said before is good enough.
            (Err(failure), Some(known)) => {
                let reason = failure.reason.as_str();
                let error = failure.message;
                tracing::warn!(reason, error, issuer = asked.name, "issuer not asked again");
                Ok(known.metadata)
            }
            (Err(failure), None) => Err(failure),
        }
    }

    fn keep(&self, key: Key, metadata: Arc<Metadata>) {
        let now = Moment::now();
        let mut known = self.lock();
        if known.len() >= CAPACITY && !known.contains_key(&key) {
            let oldest = known.iter().max_by_key(|(_, known)| now.elapsed(known.at));
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                known.remove(&oldest);
            }
        }
        known.insert(key, Known { metadata, at: now });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks in each of the places where the document may be.
async fn ask(asked: &Asked<'_>) -> Result<Metadata, Failure> {
    let provider = asked.provider;
    let origin = asked.issuer.origin().ascii_serialization();
    let mut refused = None;
    for address in addresses(asked.issuer) {
        let answer = asked.endpoint.fetch(&address, asked.authorities, TIMEOUT);
        let answer = Box::pin(answer).await;
        let document = match answer {
            Ok(answer) if answer.status == 200 => answer.body,
            Ok(answer) if (400..500).contains(&answer.status) && answer.status != 429 => continue,
            Ok(answer) => {
                return Err(Failure::new(
                    Reason::ProviderError,
                    format!(
                        "{address} ({provider}) with the issuer's endpoints cannot be read now ({}); trying again",
                        answer.status
                    ),
                ));
            }
            Err(Unanswered::Refused(rule)) => {
                return Err(explain::endpoint_not_allowed(provider, &origin, rule));
            }
            Err(Unanswered::NotTrusted) => {
                return Err(Failure::new(
                    Reason::CertificateNotTrusted,
                    format!(
                        "the certificate of {origin}, the issuer of {provider}, is not trusted; check spec.issuer and spec.caBundle"
                    ),
                ));
            }
            Err(Unanswered::NotSent | Unanswered::Lost) => {
                return Err(Failure::new(
                    Reason::ProviderUnreachable,
                    format!(
                        "no answer of {origin}, the issuer of {provider}; trying again. If this lasts, check spec.issuer, DNS and network policies, or state spec.tokenUrl"
                    ),
                ));
            }
        };
        match read(document.expose_secret(), asked.name) {
            Ok(metadata) if metadata.token_endpoint.is_some() => return Ok(metadata),
            Ok(_) => {}
            Err(error) => refused = refused.or(Some((address, error))),
        }
    }
    Err(incomplete(provider, &nowhere(asked.name, refused)))
}

fn nowhere(issuer: &str, refused: Option<(Url, MetadataError)>) -> String {
    match refused {
        Some((address, error)) => format!(
            "the document {address} cannot be used: {error}; set spec.issuer to the issuer as the provider writes it, or state spec.tokenUrl"
        ),
        None => format!(
            "its issuer {issuer} publishes no document with a token endpoint (RFC 8414, OpenID Connect Discovery); check spec.issuer, or state spec.tokenUrl"
        ),
    }
}
