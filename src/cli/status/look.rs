//! All there is to see of a credential. What its reader may not see is said, and the rest is shown.

use futures::join;
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret, events::v1::Event};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};

use crate::{
    api::{IntegrationCredential, Kind, ProviderKind, ProviderReference},
    lock::{
        protocol::{Durations, GateState},
        wire,
    },
    request::{RequestError, bounded, optional},
    status::{READY, condition},
};

/// How many events are shown.
const EVENTS: usize = 5;

/// What was found, or why it cannot be told.
pub(super) type Found<T> = Result<T, String>;

/// A credential and what is around it.
pub(super) struct Seen {
    pub(super) credential: IntegrationCredential,
    /// The keys of the target; `None`: there is none.
    pub(super) target: Found<Option<Vec<String>>>,
    /// The provider object; `None` inside: it does not exist. `None` outside: this kind has none.
    pub(super) provider: Option<Found<Option<Provider>>>,
    pub(super) gate: Found<Option<Gate>>,
    pub(super) holds: Found<Vec<Claim>>,
    pub(super) wants: Found<Vec<Claim>>,
    /// The newest, the latest first.
    pub(super) events: Found<Vec<Told>>,
}

/// What a provider object says.
pub(super) struct Provider {
    /// Where tokens are obtained: its token URL, its issuer or its preset.
    pub(super) at: Option<String>,
    /// Reason and message where it says that it is not ready.
    pub(super) trouble: Option<(String, String)>,
}

pub(super) struct Gate {
    pub(super) state: GateState,
    /// When it was written last.
    pub(super) renewed: Option<Timestamp>,
}

/// A hold or a want.
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) who: String,
    pub(super) since: Option<Timestamp>,
    pub(super) renewed: Option<Timestamp>,
    pub(super) generation: Option<u64>,
    pub(super) is_exclusive: bool,
}

/// An event.
pub(super) struct Told {
    pub(super) time: Option<Timestamp>,
    pub(super) type_: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Looks at everything at once.
pub(super) async fn look(client: &Client, credential: IntegrationCredential) -> Seen {
    let namespace = credential.namespace().unwrap_or_default();
    let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
    let name = credential.name_any();
    let reference = match credential.spec.kind() {
        Some(Kind::OAuth2(oauth2)) => Some(oauth2.provider_ref.clone()),
        _ => None,
    };
    let provider = async {
        match &reference {
            Some(reference) => Some(provider(client, &namespace, reference).await),
            None => None,
        }
    };
    let (target, provider, gate, holds, wants, events) = join!(
        target(client, &namespace, &credential),
        provider,
        gate(&leases, &credential),
        claims(&leases, &name, wire::HOLD),
        claims(&leases, &name, wire::WANT),
        events(client, &namespace, &credential),
    );
    Seen {
        credential,
        target,
        provider,
        gate,
        holds,
        wants,
        events,
    }
}

async fn target(
    client: &Client,
    namespace: &str,
    credential: &IntegrationCredential,
) -> Found<Option<Vec<String>>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = credential.target_name();
    let found = optional(api.get(&name)).await;
    let found = found.map_err(|error| unseen("get", "secrets", &error))?;
    Ok(found.map(|secret| secret.data.unwrap_or_default().into_keys().collect()))
}

async fn provider(
    client: &Client,
    namespace: &str,
    reference: &ProviderReference,
) -> Found<Option<Provider>> {
    let (kind, plural) = match reference.kind {
        ProviderKind::OAuthProvider => ("OAuthProvider", "oauthproviders"),
        ProviderKind::ClusterOAuthProvider => ("ClusterOAuthProvider", "clusteroauthproviders"),
    };
    let gvk = GroupVersionKind::gvk(crate::api::GROUP, "v1alpha1", kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let api: Api<DynamicObject> = match reference.kind {
        ProviderKind::OAuthProvider => Api::namespaced_with(client.clone(), namespace, &resource),
        ProviderKind::ClusterOAuthProvider => Api::all_with(client.clone(), &resource),
    };
    let found = optional(api.get(&reference.name)).await;
    let found = found.map_err(|error| unseen("get", plural, &error))?;
    Ok(found.map(|object| {
        let text = |path: &str| object.data.pointer(path)?.as_str().map(str::to_owned);
        let at = text("/spec/tokenUrl").or_else(|| text("/spec/issuer"));
        let preset = || text("/spec/preset").map(|preset| format!("preset {preset}"));
        let conditions = object.data.pointer("/status/conditions");
        let conditions = conditions.and_then(|c| c.as_array());
        let not_ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == READY && condition["status"] == "False");
        let trouble = not_ready.map(|condition| {
            let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
            (text("reason"), text("message"))
        });
        Provider {
            at: at.or_else(preset),
            trouble,
        }
    }))
}

async fn gate(leases: &Api<Lease>, credential: &IntegrationCredential) -> Found<Option<Gate>> {
    let found = optional(leases.get(&credential.gate_name())).await;
    let found = found.map_err(|error| unseen("get", "leases", &error))?;
    Ok(found.map(|lease| {
        let fallback = Durations::scaled(None, std::time::Duration::MAX);
        Gate {
            state: wire::read_gate(&lease, &fallback),
            renewed: lease.spec.and_then(|s| s.renew_time).map(|t| t.0),
        }
    }))
}

async fn claims(leases: &Api<Lease>, credential: &str, role: &str) -> Found<Vec<Claim>> {
    let params = ListParams::default().labels(&wire::selector(credential, role));
    let found = bounded(leases.list(&params)).await;
    let found = found.map_err(|error| unseen("list", "leases", &error))?;
    let claim = |lease: Lease| {
        let spec = lease.spec.clone().unwrap_or_default();
        Claim {
            who: wire::holder_identity(&lease).to_owned(),
            since: spec.acquire_time.map(|t| t.0),
            renewed: spec.renew_time.map(|t| t.0),
            generation: wire::generation(&lease),
            is_exclusive: wire::is_exclusive(&lease.name_any()),
            name: lease.name_any(),
        }
    };
    let mut claims: Vec<_> = found.items.into_iter().map(claim).collect();
    claims.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
    Ok(claims)
}

async fn events(
    client: &Client,
    namespace: &str,
    credential: &IntegrationCredential,
) -> Found<Vec<Told>> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut of = format!(
        "regarding.kind=IntegrationCredential,regarding.name={}",
        credential.name_any()
    );
    if let Some(uid) = credential.uid() {
        of.push_str(",regarding.uid=");
        of.push_str(&uid);
    }
    let found = bounded(api.list(&ListParams::default().fields(&of))).await;
    let found = found.map_err(|error| unseen("list", "events.events.k8s.io", &error))?;
    let told = |event: Event| {
        let last = event.series.map(|series| series.last_observed_time.0);
        let last = last.or(event.event_time.map(|t| t.0));
        Told {
            time: last.or(event.deprecated_last_timestamp.map(|t| t.0)),
            type_: event.type_.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.note.unwrap_or_default(),
        }
    };
    let mut events: Vec<_> = found.items.into_iter().map(told).collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.time));
    events.truncate(EVENTS);
    Ok(events)
}

/// Why something is not shown.
fn unseen(verb: &str, resource: &str, error: &RequestError) -> String {
    match error {
        RequestError::Refused(kube::Error::Api(status)) if status.code == 403 => {
            format!("not shown: you may not {verb} {resource}")
        }
        _ => format!("not shown: the API server did not {verb} {resource} ({error})"),
    }
}

/// Whether its Secret holds a usable token.
pub(super) fn is_ready(credential: &IntegrationCredential) -> bool {
    let status = credential.status.as_ref();
    status.is_some_and(|s| condition(s, READY).is_some_and(|c| c.status == "True"))
}

/// The state: the reason of Ready.
pub(super) fn state(credential: &IntegrationCredential) -> &str {
    let status = credential.status.as_ref();
    let ready = status.and_then(|s| condition(s, READY));
    ready.map_or("not seen by an operator", |c| c.reason.as_str())
}
