//! Reads what a provider object refers to: Secrets, variables, endpoints.

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::BASE64;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use secrecy::SecretString;
use url::Url;

use super::{
    Discovery, Found,
    admit::admit,
    client::{Clients, Seen},
    discover::Asked,
    incomplete,
    known::{self, KnownClients},
    offers, request_hash, unknown_preset,
};
use crate::{
    api::{
        ClientAuthentication, Description, GrantType, IntegrationCredential, OAuthClient, Provider,
        ProviderReference,
    },
    explain,
    failure::Failure,
    oauth::{
        catalog,
        endpoint::{Authorities, BundleError, Endpoint, UrlError},
        grant::PROTOCOL,
        template::{self, TemplateError},
    },
    platform::Labels,
    request::bounded,
    secret::store::Secrets,
};

/// Everything that a request needs.
pub struct Resolved {
    /// What is known of the provider.
    pub description: Description,
    /// The values of its variables.
    pub variables: BTreeMap<String, String>,
    /// Who is trusted beside the system's certificate authorities.
    pub authorities: Option<Authorities>,
    /// The token endpoint.
    pub url: Url,
    /// Where refresh tokens are presented.
    pub refresh_url: Url,
    /// Where tokens are revoked; `None`: nobody says so. One that cannot be used is no reason not to refresh.
    pub revocation: Option<RevocationPoint>,
    /// The scheme, host and port of where refresh tokens are presented.
    pub origin: String,
    /// The client's identifier; empty where there is no client.
    pub client_id: String,
    /// The client's secrets or keys, in the order in which they are tried; empty for a public client.
    pub client_secrets: Vec<SecretString>,
    /// [`request_hash`].
    pub request_hash: String,
}

/// The revocation endpoint (RFC 7009).
pub struct RevocationPoint {
    /// Where it is, or why that cannot be used.
    pub url: Result<Url, Failure>,
    /// Whether the preset says so, and not the provider object or an issuer's document.
    pub is_of_preset: bool,
}

/// Reads what the provider object refers to.
pub struct Resolver {
    /// The API server.
    pub client: Client,
    /// The Secrets.
    pub secrets: Secrets,
    /// The namespace that holds the client Secrets of cluster providers.
    pub operator_namespace: String,
    /// What issuers publish.
    pub discovery: Arc<Discovery>,
    /// Told of the labels that are read.
    pub labels: Arc<Labels>,
    /// The clients that need not be read again.
    pub clients: KnownClients,
}

impl Resolver {
    /// Everything that a request for `credential` needs.
    ///
    /// # Errors
    /// `UnknownProvider`, `ProviderNotConfigured`, `ProviderNotAllowed`, or the API server's refusal.
    pub async fn resolve(
        &self,
        found: Found,
        credential: &IntegrationCredential,
        endpoint: &Endpoint,
    ) -> Result<Resolved, Failure> {
        let oauth2 = credential.oauth2();
        let reference = &oauth2.provider_ref;
        let request_hash = request_hash(&found, credential);
        let Found {
            provider,
            description,
            cluster,
            version,
        } = found;
        let mut description = description.ok_or_else(|| {
            unknown_preset(reference, provider.preset.as_deref().unwrap_or_default())
        })?;
        let namespace = credential.namespace().unwrap_or_default();
        let place = if let Some(cluster) = &cluster {
            let api: Api<Namespace> = Api::all(self.client.clone());
            let object = bounded(api.get(&namespace))
                .await
                .map_err(|error| error.failure(&format!("get Namespace {namespace}")))?;
            self.labels.note(&namespace, object.labels());
            admit(cluster, credential, object.labels())?;
            &self.operator_namespace
        } else {
            &namespace
        };
        offers(&description, credential)?;
        let variables = template::variables(
            &description.parameters,
            &provider.variables,
            &oauth2.variables,
            &provider.credential_variables,
        )
        .map_err(|error| unusable_variables(reference, &error))?;
        check_parameters(&description, &provider, credential)?;
        check_hosts(&description, credential)?;
        let checked = |url: &str, field: &str| {
            let filled = template::fill_url(url, &variables).map_err(|error| error.to_string());
            usable(endpoint, reference, filled, field)
        };
        let authorities = authorities(provider.ca_bundle.as_deref())
            .map_err(|error| incomplete(reference, &format!("its spec.caBundle: {error}")))?;
        if let (None, Some(name)) = (&description.token_url, description.issuer.clone()) {
            let issuer = checked(&name, "issuer")?;
            let asked = Asked {
                provider: reference,
                endpoint,
                name: &template::fill(&name, &variables).unwrap_or_else(|_| name.clone()),
                issuer: &issuer,
                ca_bundle: provider.ca_bundle.as_deref(),
                authorities: authorities.as_ref(),
            };
            Box::pin(self.discovery.complete(&mut description, &asked)).await?;
            check_discovered(&name, &issuer, &description, credential)?;
        }
        let Some(token_url) = &description.token_url else {
            return Err(incomplete(
                reference,
                "it has no spec.tokenUrl; state it, or spec.issuer",
            ));
        };
        let url = checked(token_url, "tokenUrl")?;
        let refresh_url = match &description.refresh_url {
            Some(refresh_url) => checked(refresh_url, "refreshUrl")?,
            None => url.clone(),
        };
        let revocation = description.revoke_url.as_ref().map(|url| RevocationPoint {
            url: check_host(url, &description, credential).and_then(|()| checked(url, "revokeUrl")),
            is_of_preset: is_of_preset(&provider, url),
        });
        let clients = Clients {
            secrets: &self.secrets,
            provider: reference,
            place,
        };
        let (client_id, client_secrets) = match &provider.client {
            Some(client) => {
                let described = (client, version.as_deref(), description.client_auth());
                self.client(&clients, credential, described).await?
            }
            None if oauth2.grant_type == GrantType::JwtBearer => Default::default(),
            None => {
                return Err(incomplete(reference, "it names no client; set spec.client"));
            }
        };
        Ok(Resolved {
            origin: refresh_url.origin().ascii_serialization(),
            request_hash,
            url,
            refresh_url,
            revocation,
            client_id,
            client_secrets,
            variables,
            authorities,
            description,
        })
    }
}

impl Resolver {
    /// The client of a credential's provider, as its object of this version describes it.
    async fn client(
        &self,
        clients: &Clients<'_>,
        credential: &IntegrationCredential,
        (client, version, authentication): (&OAuthClient, Option<&str>, ClientAuthentication),
    ) -> Result<known::Client, Failure> {
        let is_app = credential.oauth2().grant_type == GrantType::GitHubAppInstallation;
        if let Some(known) = self.clients.find(credential, version, is_app) {
            return Ok(known);
        }
        let mut seen = Seen::default();
        let id = clients.id(client, &mut seen).await?;
        let secrets = clients.secrets(client, authentication, is_app, &mut seen);
        let read = (id, secrets.await?);
        let described = (client, seen);
        self.clients
            .note(credential, version, is_app, described, &read);
        Ok(read)
    }
}

/// Whether what the description and the credential add to requests may be added.
fn check_parameters(
    description: &Description,
    provider: &Provider,
    credential: &IntegrationCredential,
) -> Result<(), Failure> {
    let oauth2 = credential.oauth2();
    let convention = description.convention(oauth2.grant_type, false);
    let described = description
        .params
        .keys()
        .chain(convention.into_iter().flat_map(|c| c.params.keys()))
        .chain(oauth2.extra_parameters.keys());
    for name in described {
        if PROTOCOL.contains(&name.as_str()) {
            return Err(incomplete(
                &oauth2.provider_ref,
                &format!("{name} is a parameter of the protocol itself and cannot be set"),
            ));
        }
    }
    let refused = |name: &&String| !provider.credential_parameters.contains(name);
    if let Some(name) = oauth2.extra_parameters.keys().find(refused) {
        return Err(incomplete(
            &oauth2.provider_ref,
            &format!(
                "it does not let credentials set the parameter {name}; add it to its spec.credentialParameters, or remove it from spec.oauth2.extraParameters"
            ),
        ));
    }
    Ok(())
}

/// Whether the preset alone says at which host tokens are revoked.
fn is_of_preset(provider: &Provider, url: &str) -> bool {
    let preset = provider.preset.as_deref();
    let preset = preset.and_then(|name| catalog::entries().get(name));
    let stated = preset.and_then(|entry| entry.description.revoke_url.as_deref());
    stated == Some(url) && !template::has_variable_host(url)
}

/// Whether a credential says where requests go: it would have the client's secret sent there.
fn check_hosts(
    description: &Description,
    credential: &IntegrationCredential,
) -> Result<(), Failure> {
    let urls = [
        &description.token_url,
        &description.refresh_url,
        &description.issuer,
    ];
    let mut urls = urls.into_iter().flatten();
    urls.try_for_each(|url| check_host(url, description, credential))
}

/// Whether an issuer that a credential chooses sends requests elsewhere: whoever administers one tenant of it would have
/// the client's secret sent there.
fn check_discovered(
    name: &str,
    issuer: &Url,
    description: &Description,
    credential: &IntegrationCredential,
) -> Result<(), Failure> {
    let oauth2 = credential.oauth2();
    let mut variables = template::names(name).into_iter();
    if !variables.any(|name| oauth2.variables.contains_key(name)) {
        return Ok(());
    }
    let urls = [&description.token_url, &description.refresh_url];
    for url in urls.into_iter().flatten() {
        let is_there = Url::parse(url).is_ok_and(|url| url.origin() == issuer.origin());
        if !is_there {
            return Err(incomplete(
                &oauth2.provider_ref,
                &format!(
                    "the issuer {issuer}, which the credential's variables choose, names an endpoint at another host; set spec.tokenUrl in the provider object"
                ),
            ));
        }
    }
    Ok(())
}

fn check_host(
    url: &str,
    description: &Description,
    credential: &IntegrationCredential,
) -> Result<(), Failure> {
    let oauth2 = credential.oauth2();
    let mut deciding = deciding(url, description);
    match deciding.find(|&name| oauth2.variables.contains_key(name)) {
        None => Ok(()),
        Some(name) => Err(incomplete(&oauth2.provider_ref, &decides_the_host(name))),
    }
}

/// The variables that decide whose host requests go to.
pub(super) fn hosts(description: &Description) -> impl Iterator<Item = &str> {
    let urls = [
        &description.token_url,
        &description.refresh_url,
        &description.revoke_url,
        &description.introspect_url,
        &description.device_url,
        &description.userinfo_url,
        &description.issuer,
    ];
    let all = urls.into_iter().flatten();
    all.flat_map(|url| deciding(url, description))
}

/// The variables that decide whose host a URL is at: the whole of it, or its last two labels. Where one can only be
/// one of a few that the description lists, it is the description that decides.
fn deciding<'a>(
    url: &'a str,
    description: &'a Description,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let is_listed = |name: &&str| {
        let parameter = description.parameters.get(*name);
        parameter.is_some_and(|parameter| !parameter.allowed.is_empty())
    };
    let names = template::deciding(url).into_iter();
    names.filter(move |name| !is_listed(name))
}

/// Why no credential may give this variable.
pub(super) fn decides_the_host(name: &str) -> String {
    format!(
        "the variable {name} is a whole host, or the part of one that says whose it is, which no credential may give; set it in the provider object's spec.variables"
    )
}

/// The certificate authorities of a bundle: PEM in base64, as Kubernetes writes bundles.
pub(super) fn authorities(bundle: Option<&str>) -> Result<Option<Authorities>, BundleError> {
    let Some(bundle) = bundle else {
        return Ok(None);
    };
    let text: String = bundle.split_whitespace().collect();
    let pem = BASE64
        .decode(text.as_bytes())
        .map_err(|_| BundleError::NotPem)?;
    Authorities::parse(&pem).map(Some)
}

/// The URL of a field with its variables filled in, if requests may go there.
pub(super) fn usable(
    endpoint: &Endpoint,
    provider: &ProviderReference,
    filled: Result<String, String>,
    field: &str,
) -> Result<Url, Failure> {
    let cannot = |why: String| {
        let what = format!("its spec.{field} cannot be used: {why}");
        incomplete(provider, &what)
    };
    let filled = filled.map_err(cannot)?;
    endpoint.check(&filled).map_err(|error| match error {
        UrlError::NotAllowed { origin, rule } => {
            explain::endpoint_not_allowed(provider, &origin, rule)
        }
        _ => cannot(error.to_string()),
    })
}

pub(super) fn unusable_variables(provider: &ProviderReference, error: &TemplateError) -> Failure {
    incomplete(provider, &format!("of its variables: {error}"))
}
