//! What can be found out about a provider object without a credential.

use std::collections::BTreeMap;

use kube::core::Selector;
use url::Url;

use super::{
    Found, Resolver,
    client::{Clients, Seen},
    discover::Asked,
    incomplete,
    resolve::{authorities, decides_the_host, hosts, unusable_variables, usable},
    unknown_preset,
};
use crate::{
    api::{
        ClusterOAuthProviderSpec, Description, GrantType, Provider, ProviderEndpoints,
        ProviderReference,
    },
    failure::Failure,
    oauth::{
        endpoint::Endpoint,
        grant::PROTOCOL,
        template::{self, TemplateError},
    },
};

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Inspection {
    /// Where requests go.
    pub endpoints: ProviderEndpoints,
    /// The client's identifier.
    pub client_id: Option<String>,
    /// The version of each Secret that was read, by its name.
    pub secrets: BTreeMap<String, String>,
    /// What is wrong.
    pub failures: Vec<Failure>,
    /// What people should know although it is not wrong.
    pub remark: Option<String>,
    /// Whether it depends on something of which nobody tells when it changes.
    pub asked_elsewhere: bool,
}

impl Inspection {
    fn check<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.failures.push(failure)).ok()
    }
}

impl Resolver {
    /// Looks at a provider object; `namespace` is its own, none for a cluster provider.
    pub async fn inspect(
        &self,
        found: &Found,
        reference: &ProviderReference,
        namespace: Option<&str>,
        endpoint: &Endpoint,
    ) -> Inspection {
        let mut seen = Inspection::default();
        let provider = &found.provider;
        let Some(description) = &found.description else {
            let preset = provider.preset.as_deref().unwrap_or_default();
            seen.failures.push(unknown_preset(reference, preset));
            return seen;
        };
        let mut description = description.clone();
        let values = Values::of(provider, &description, reference, &mut seen);
        parameters(&description, &values, reference, &mut seen);
        if let Some(cluster) = &found.cluster {
            conditions_of_use(cluster, &description, reference, &mut seen);
        }
        let bundle = authorities(provider.ca_bundle.as_deref())
            .map_err(|error| incomplete(reference, &format!("its spec.caBundle: {error}")));
        let bundle = seen.check(bundle);
        let stated = description.clone();
        let url = |seen: &mut Inspection, template: &str, field: &str| {
            let filled = template::fill_url(template, &values.sample);
            let filled = filled.map_err(|error| error.to_string());
            seen.check(usable(endpoint, reference, filled, field))
        };
        let issuer = description.issuer.clone();
        let issuer_url = issuer
            .as_ref()
            .and_then(|name| url(&mut seen, name, "issuer"));
        if let (None, Some(name), Some(issuer), Some(authorities)) =
            (&description.token_url, &issuer, &issuer_url, &bundle)
            && !values.is_open(name)
            && seen.failures.is_empty()
        {
            let asked = Asked {
                provider: reference,
                endpoint,
                name: &values.shown(name),
                issuer,
                ca_bundle: provider.ca_bundle.as_deref(),
                authorities: authorities.as_ref(),
            };
            seen.asked_elsewhere = true;
            let completed = Box::pin(self.discovery.complete(&mut description, &asked)).await;
            seen.check(completed);
        }
        for (template, of_object, field) in [
            (&description.token_url, &stated.token_url, "tokenUrl"),
            (&description.refresh_url, &stated.refresh_url, "refreshUrl"),
            (&description.revoke_url, &stated.revoke_url, "revokeUrl"),
            (
                &description.introspect_url,
                &stated.introspect_url,
                "introspectUrl",
            ),
            (&description.device_url, &stated.device_url, "deviceUrl"),
            (
                &description.userinfo_url,
                &stated.userinfo_url,
                "userinfoUrl",
            ),
        ] {
            // What an issuer publishes beyond the token endpoint may be of no use to anybody here.
            if let Some(template) = template
                && (of_object.is_some() || field == "tokenUrl")
            {
                url(&mut seen, template, field);
            }
        }
        if let Some(template) = &stated.authorize_url {
            // A browser goes there, not the operator.
            let filled = template::fill_url(template, &values.sample);
            let filled = filled.map_err(|error| error.to_string());
            let parsed = filled.and_then(|url| Url::parse(&url).map_err(|e| e.to_string()));
            let parsed = parsed.map_err(|why| {
                incomplete(
                    reference,
                    &format!("its spec.authorizeUrl cannot be used: {why}"),
                )
            });
            seen.check(parsed);
        }
        seen.endpoints = values.endpoints(&description);
        if seen.endpoints.token.is_none() && issuer.is_none() {
            let why = "it has no spec.tokenUrl; state it, or spec.issuer";
            seen.failures.push(incomplete(reference, why));
        }
        self.client_of(found, &description, (reference, namespace), &mut seen)
            .await;
        seen
    }

    async fn client_of(
        &self,
        found: &Found,
        description: &Description,
        (reference, namespace): (&ProviderReference, Option<&str>),
        seen: &mut Inspection,
    ) {
        let grants = description.grants.as_deref();
        let has = |grant| grants.is_none_or(|grants| grants.contains(&grant));
        let Some(client) = &found.provider.client else {
            let of_cluster = found.cluster.as_ref();
            let admits =
                of_cluster.is_none_or(|c| c.allowed_grant_types.contains(&GrantType::JwtBearer));
            // With a key of the credential's own, the client may be nobody.
            if !(has(GrantType::JwtBearer) && admits) {
                let why = "it names no client; set spec.client";
                seen.failures.push(incomplete(reference, why));
            }
            return;
        };
        let clients = Clients {
            secrets: &self.secrets,
            provider: reference,
            place: namespace.unwrap_or(&self.operator_namespace),
        };
        let mut read = Seen::default();
        let id = clients.id(client, &mut read).await;
        // One from a Secret is for those to see who may read that Secret: whatever key is named stands there.
        let is_public = client.id_secret_key_ref.is_none();
        seen.client_id = seen.check(id).filter(|_| is_public);
        let is_app = grants == Some(&[GrantType::GitHubAppInstallation]);
        let authentication = description.client_auth();
        let (_, missing) = clients
            .each(client, authentication, is_app, &mut read)
            .await;
        seen.failures.extend(missing);
        seen.secrets = read;
    }
}

/// The values of variables, for people and for checks.
struct Values {
    /// With `{name}` in the place of what credentials give.
    shown: BTreeMap<String, String>,
    /// With something in that place.
    sample: BTreeMap<String, String>,
    /// What credentials give.
    open: Vec<String>,
}

impl Values {
    fn of(
        provider: &Provider,
        description: &Description,
        reference: &ProviderReference,
        seen: &mut Inspection,
    ) -> Self {
        let open = &provider.credential_variables;
        let parameters = &description.parameters;
        let values = template::variables(parameters, &provider.variables, &BTreeMap::new(), open)
            .map_err(|error| unusable_variables(reference, &error));
        let values = seen.check(values).unwrap_or_default();
        let (mut shown, mut sample) = (values.clone(), values);
        for name in open {
            let Some(parameter) = parameters.get(name) else {
                let error = TemplateError::Undefined(name.clone());
                seen.failures.push(unusable_variables(reference, &error));
                continue;
            };
            shown.insert(name.clone(), format!("{{{name}}}"));
            let something = parameter.allowed.first().cloned();
            sample
                .entry(name.clone())
                .or_insert_with(|| something.unwrap_or_else(|| "x".to_owned()));
        }
        if let Some(name) = hosts(description).find(|name| open.iter().any(|open| open == name)) {
            seen.failures
                .push(incomplete(reference, &decides_the_host(name)));
        }
        Self {
            shown,
            sample,
            open: open.clone(),
        }
    }

    fn is_open(&self, template: &str) -> bool {
        let names = template::names(template);
        names
            .iter()
            .any(|name| self.open.iter().any(|open| open == name))
    }

    fn shown(&self, template: &str) -> String {
        template::fill(template, &self.shown).unwrap_or_else(|_| template.to_owned())
    }

    fn endpoints(&self, description: &Description) -> ProviderEndpoints {
        let shown = |url: &Option<String>| url.as_deref().map(|url| self.shown(url));
        let token = shown(&description.token_url);
        ProviderEndpoints {
            refresh: shown(&description.refresh_url).filter(|url| Some(url) != token.as_ref()),
            token,
            revoke: shown(&description.revoke_url),
            introspect: shown(&description.introspect_url),
            authorize: shown(&description.authorize_url),
            device: shown(&description.device_url),
            userinfo: shown(&description.userinfo_url),
        }
    }
}

/// Whether what it adds to requests may be added.
fn parameters(
    description: &Description,
    values: &Values,
    reference: &ProviderReference,
    seen: &mut Inspection,
) {
    let per_grant = [
        GrantType::RefreshToken,
        GrantType::ClientCredentials,
        GrantType::JwtBearer,
        GrantType::GitHubAppInstallation,
    ]
    .map(|grant| description.convention(grant, false));
    let own = per_grant.into_iter().flatten().flat_map(|c| &c.params);
    for (name, template) in description.params.iter().chain(own) {
        let why = if PROTOCOL.contains(&name.as_str()) {
            format!("{name} is a parameter of the protocol itself and cannot be set")
        } else if let Err(error) = template::fill(template, &values.sample) {
            format!("in its spec.params, {error}")
        } else {
            continue;
        };
        seen.failures.push(incomplete(reference, &why));
        return;
    }
}

/// Whether anybody can use a cluster provider on these conditions.
fn conditions_of_use(
    cluster: &ClusterOAuthProviderSpec,
    description: &Description,
    reference: &ProviderReference,
    seen: &mut Inspection,
) {
    let mut wrong = |why: &str| seen.failures.push(incomplete(reference, why));
    let granted = &cluster.allowed_grant_types;
    if let Some(offered) = &description.grants
        && let Some(grant) = granted.iter().find(|grant| !offered.contains(grant))
    {
        // The default stands in objects that say nothing of it.
        let is_default = granted.as_slice() == [GrantType::RefreshToken];
        let offered: Vec<_> = offered.iter().map(|grant| grant.as_str()).collect();
        let said = if is_default {
            "its spec.allowedGrantTypes is the default, RefreshToken"
        } else {
            "its spec.allowedGrantTypes admits what the provider does not offer"
        };
        wrong(&format!(
            "{said} ({}); its spec.grants, or its preset, lists {}",
            grant.as_str(),
            offered.join(", ")
        ));
    }
    if granted.contains(&GrantType::ClientCredentials) && cluster.allowed_scopes.is_empty() {
        wrong(
            "its spec.allowedGrantTypes admits ClientCredentials, and without spec.allowedScopes no credential may use that; name the scopes, or remove the grant",
        );
    }
    match cluster.allowed_namespaces.clone().map(Selector::try_from) {
        Some(Ok(_)) => {}
        Some(Err(error)) => wrong(&format!("its spec.allowedNamespaces: {error}")),
        None => {
            let none =
                "no credential may use it, because spec.allowedNamespaces selects no namespace";
            seen.remark = Some(none.to_owned());
        }
    }
}
