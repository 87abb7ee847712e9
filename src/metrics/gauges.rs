//! What is read from the credentials when somebody asks, and kept nowhere.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    api::IntegrationCredential,
    queue::Load,
    status::{READY, STALLED, condition},
};

/// The state of a credential without a status.
const NOT_LOOKED_AT: &str = "None";

/// What is counted even where it is 0, so that a line ends at 0 instead of nowhere.
const STATES: [&str; 6] = [
    "Pending",
    "Valid",
    "Refreshing",
    "Expired",
    "Invalid",
    NOT_LOOKED_AT,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    state: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ForReason {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Each {
    namespace: String,
    credential: String,
}

/// The gauges of credentials.
pub(super) struct Gauges {
    states: Family<InState, Gauge>,
    stalled: Family<ForReason, Gauge>,
    late: Gauge,
    holders: Gauge,
    waiting: Family<OfKind, Gauge>,
    under_way: Gauge,
    each: Option<OfEach>,
}

#[derive(Default)]
struct OfEach {
    ready: Family<Each, Gauge>,
    expiry: Family<Each, Gauge>,
    next_refresh: Family<Each, Gauge>,
}

impl Gauges {
    /// In `registry`; those of each credential where they are asked for.
    pub(super) fn new(each: bool, registry: &mut Registry) -> Self {
        let gauges = Self {
            states: Family::default(),
            stalled: Family::default(),
            late: Gauge::default(),
            holders: Gauge::default(),
            waiting: Family::default(),
            under_way: Gauge::default(),
            each: each.then(OfEach::default),
        };
        registry.register(
            "credentials",
            "Credentials by their state, the reason of the condition Ready; None: not looked at yet",
            gauges.states.clone(),
        );
        registry.register(
            "credentials_stalled",
            "Credentials for which somebody must act, by the reason",
            gauges.stalled.clone(),
        );
        registry.register(
            "credentials_late",
            "Credentials whose token lives on for less than half of the time in which it was to be refreshed",
            gauges.late.clone(),
        );
        registry.register(
            "lock_holders",
            "Holds of all credentials",
            gauges.holders.clone(),
        );
        registry.register(
            "work_waiting",
            "Credentials that wait for their turn, by kind: urgent, where somebody waits for it, or due",
            gauges.waiting.clone(),
        );
        registry.register(
            "work_under_way",
            "Credentials that are worked on",
            gauges.under_way.clone(),
        );
        if let Some(each) = &gauges.each {
            registry.register(
                "credential_ready",
                "Whether Ready is True",
                each.ready.clone(),
            );
            registry.register_with_unit(
                "credential_expiry_timestamp",
                "When the token expires, where that is known",
                Unit::Seconds,
                each.expiry.clone(),
            );
            registry.register_with_unit(
                "credential_next_refresh_timestamp",
                "When the next refresh is due, where one is",
                Unit::Seconds,
                each.next_refresh.clone(),
            );
        }
        gauges
    }

    /// As they are now.
    pub(super) fn set(
        &self,
        credentials: impl Iterator<Item = Arc<IntegrationCredential>>,
        (holds, load): (usize, Load),
        now: Timestamp,
    ) {
        self.states.clear();
        for state in STATES.map(str::to_owned) {
            drop(self.states.get_or_create(&InState { state }));
        }
        self.stalled.clear();
        if let Some(each) = &self.each {
            each.clear();
        }
        let mut late = 0;
        for credential in credentials {
            let status = credential.status.as_ref();
            let ready = status.and_then(|s| condition(s, READY));
            let state = ready.map_or(NOT_LOOKED_AT, |ready| ready.reason.as_str());
            let state = state.to_owned();
            self.states.get_or_create(&InState { state }).inc();
            let stalled = status.and_then(|s| condition(s, STALLED));
            if let Some(stalled) = stalled.filter(|c| c.status == "True") {
                let reason = stalled.reason.clone();
                self.stalled.get_or_create(&ForReason { reason }).inc();
            }
            late += i64::from(is_late(&credential, now));
            if let Some(each) = &self.each {
                each.set(&credential);
            }
        }
        self.late.set(late);
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.holders.set(number(holds));
        for (kind, count) in [("urgent", load.urgent), ("due", load.due)] {
            let waiting = self.waiting.get_or_create(&OfKind { kind });
            waiting.set(number(count));
        }
        self.under_way.set(number(load.under_way));
    }
}

impl OfEach {
    fn clear(&self) {
        for family in [&self.ready, &self.expiry, &self.next_refresh] {
            family.clear();
        }
    }

    fn set(&self, credential: &IntegrationCredential) {
        let each = Each {
            namespace: credential.namespace().unwrap_or_default(),
            credential: credential.name_any(),
        };
        let status = credential.status.as_ref();
        let is_ready = status
            .and_then(|s| condition(s, READY))
            .is_some_and(|c| c.status == "True");
        self.ready.get_or_create(&each).set(i64::from(is_ready));
        if let Some(at) = status.and_then(|s| s.token.as_ref()?.expiration_time.as_ref()) {
            self.expiry.get_or_create(&each).set(at.0.as_second());
        }
        if let Some(at) = status.and_then(|s| s.refresh.as_ref()?.next_time.as_ref()) {
            self.next_refresh.get_or_create(&each).set(at.0.as_second());
        }
    }
}

/// Whether a token that was to be refreshed lives on for less than half of the time that there was for it.
fn is_late(credential: &IntegrationCredential, now: Timestamp) -> bool {
    let status = credential.status.as_ref();
    let expiry = status.and_then(|s| s.token.as_ref()?.expiration_time.as_ref());
    let next = status.and_then(|s| s.refresh.as_ref()?.next_time.as_ref());
    let (Some(expiry), Some(next)) = (expiry, next) else {
        return false;
    };
    let margin = expiry.0.duration_since(next.0);
    !credential.spec.suspend && expiry.0.duration_since(now) < margin / 2
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn credential(name: &str, spec: &Value, status: Value) -> Arc<IntegrationCredential> {
        let mut whole =
            json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": "ClientCredentials"}});
        whole
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let mut credential =
            IntegrationCredential::new(name, serde_json::from_value(whole).unwrap());
        credential.metadata.namespace = Some("team".to_owned());
        credential.status = serde_json::from_value(status).unwrap();
        Arc::new(credential)
    }

    fn condition_of(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn text(each: bool, all: Vec<Arc<IntegrationCredential>>, now: &str) -> String {
        let mut registry = Registry::with_prefix("tokenward");
        let gauges = Gauges::new(each, &mut registry);
        let load = Load {
            urgent: 1,
            due: 2,
            under_way: 4,
        };
        gauges.set(
            all.clone().into_iter(),
            (7, Load::default()),
            now.parse().unwrap(),
        );
        // Twice, as when it is asked for again.
        gauges.set(all.into_iter(), (3, load), now.parse().unwrap());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn credentials_are_counted_by_state_and_reason_and_lateness() {
        let valid = |name: &str, spec: &Value| {
            credential(
                name,
                spec,
                json!({
                "conditions": [condition_of("Ready", "True", "Valid"), condition_of("Stalled", "False", "Valid")],
                "token": {"generation": 1, "expirationTime": "2026-01-01T01:00:00Z"},
                "refresh": {"nextTime": "2026-01-01T00:50:00Z"}}),
            )
        };
        let dead = credential(
            "dead",
            &json!({}),
            json!({
            "conditions": [condition_of("Ready", "False", "Invalid"),
                condition_of("Stalled", "True", "ReauthorizationRequired")]}),
        );
        let new = credential("new", &json!({}), Value::Null);
        let all = vec![
            valid("a", &json!({})),
            valid("b", &json!({})),
            valid("s", &json!({"suspend": true})),
            dead,
            new,
        ];
        let calm = text(false, all.clone(), "2026-01-01T00:54:00Z");
        for line in [
            "tokenward_credentials{state=\"Valid\"} 3",
            "tokenward_credentials{state=\"Invalid\"} 1",
            "tokenward_credentials{state=\"None\"} 1",
            "tokenward_credentials{state=\"Expired\"} 0",
            "tokenward_credentials_stalled{reason=\"ReauthorizationRequired\"} 1",
            "tokenward_credentials_late 0",
            "tokenward_lock_holders 3",
            "tokenward_work_waiting{kind=\"urgent\"} 1",
            "tokenward_work_waiting{kind=\"due\"} 2",
            "tokenward_work_under_way 4",
        ] {
            assert!(calm.lines().any(|l| l == line), "{line} in {calm}");
        }
        assert!(!calm.contains("team"), "{calm}");
        let late = text(true, all, "2026-01-01T00:56:00Z");
        for line in [
            "tokenward_credentials_late 2",
            "tokenward_credential_ready{namespace=\"team\",credential=\"a\"} 1",
            "tokenward_credential_ready{namespace=\"team\",credential=\"dead\"} 0",
            "tokenward_credential_expiry_timestamp_seconds{namespace=\"team\",credential=\"a\"} 1767229200",
            "tokenward_credential_next_refresh_timestamp_seconds{namespace=\"team\",credential=\"b\"} 1767228600",
        ] {
            assert!(late.lines().any(|l| l == line), "{line} in {late}");
        }
    }
}
