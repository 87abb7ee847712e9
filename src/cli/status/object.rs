//! A credential for programs: the same as the text, in names that stay.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    look::{Claim, Found, Seen, is_ready, state},
    next,
};
use crate::{
    api::{IntegrationCredential, Kind},
    lock::protocol::{Mode, Phase},
};

/// The object.
pub(super) fn of(seen: &Seen, now: Timestamp) -> Value {
    let mut object = brief(&seen.credential);
    let more = json!({
        "provider": seen.provider.as_ref().map(|found| {
            let reference = &seen.credential.oauth2().provider_ref;
            shown(found, |found| json!({
                "kind": reference.kind, "name": reference.name, "exists": found.is_some(),
                "at": found.as_ref().and_then(|p| p.at.clone()),
                "trouble": found.as_ref().and_then(|p| p.trouble.clone()).map(|(reason, _)| reason),
            }))
        }),
        "target": shown(&seen.target, |keys| json!({
            "name": seen.credential.target_name(), "exists": keys.is_some(), "keys": keys,
        })),
        "gate": shown(&seen.gate, |gate| json!(gate.as_ref().map(|gate| json!({
            "phase": match gate.state.phase {
                Phase::Open => "Open",
                Phase::Draining => "Draining",
                Phase::Refreshing => "Refreshing",
            },
            "mode": match gate.state.mode {
                Mode::Shared => "Shared",
                Mode::Exclusive => "Exclusive",
            },
            "holder": gate.state.holder.as_ref().map(|h| h.incarnation.clone()),
            "closed_at": gate.state.closed_at,
            "generation": gate.state.generation,
            "outcome_unknown": gate.state.unresolved.is_some(),
            "renewed_at": gate.renewed,
        })))),
        "holders": shown(&seen.holds, |claims| claims.iter().map(claim).collect()),
        "wants": shown(&seen.wants, |claims| claims.iter().map(claim).collect()),
        "events": shown(&seen.events, |events| events.iter().map(|event| json!({
            "time": event.time, "type": event.type_, "reason": event.reason, "message": event.message,
        })).collect()),
        "next": next::step(&seen.credential, now),
    });
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

/// What its own object tells.
pub(super) fn brief(credential: &IntegrationCredential) -> Value {
    let status = credential.status.clone().unwrap_or_default();
    json!({
        "namespace": credential.namespace(),
        "name": credential.name_any(),
        "kind": match credential.spec.kind() {
            Some(Kind::OAuth2(_)) => "oauth2",
            Some(Kind::ApiKey(_)) => "apiKey",
            Some(Kind::UserPassword(_)) => "userPassword",
            Some(Kind::HostScoped(_)) => "hostScoped",
            None => "none",
        },
        "user": credential.spec.user,
        "ready": is_ready(credential),
        "state": state(credential),
        "suspended": credential.spec.suspend,
        "up_to_date": status.observed_generation == credential.metadata.generation,
        "status": status,
    })
}

fn claim(claim: &Claim) -> Value {
    json!({
        "name": claim.name,
        "holder": claim.who,
        "since": claim.since,
        "renewed_at": claim.renewed,
        "generation": claim.generation,
        "mode": if claim.is_exclusive { "Exclusive" } else { "Shared" },
    })
}

/// What was found, or an object that says why it is not shown.
fn shown<T>(found: &Found<T>, shown: impl FnOnce(&T) -> Value) -> Value {
    match found {
        Ok(found) => shown(found),
        Err(why) => json!({"not_shown": why}),
    }
}
