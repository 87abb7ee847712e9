//! What is counted and measured, in the text format of OpenMetrics: `/metrics`.
//!
//! Labels are provider objects and fixed words, so that there are no more of them for more credentials; those of single
//! credentials are there where they are asked for. Nothing of a token is in any.

mod gauges;
mod process;

use std::{
    collections::BTreeSet,
    fmt::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kube::runtime::reflector::Store;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use self::{gauges::Gauges, process::Process};
use crate::{
    api::IntegrationCredential, clock, failure::Class, lock::observer::Observer, plan::Decision,
    queue::Load,
};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The outcome of attempts that did not fail.
const SUCCESS: &str = "success";

/// The classes of status codes, and of requests without one.
const CODE_CLASSES: [&str; 5] = ["2xx", "4xx", "5xx", "other", "none"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    provider: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    provider: String,
    code_class: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProvider {
    provider: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    decision: &'static str,
}

/// Everything that this process counts.
pub struct Metrics {
    registry: Registry,
    /// Of this process, whose names have no prefix.
    process: Registry,
    refreshes: Family<Attempt, Counter>,
    refresh_time: Histogram,
    lock_wait: Histogram,
    forced: Family<OfProvider, Counter>,
    requests: Family<Answered, Counter>,
    request_time: Histogram,
    reconciles: Family<Decided, Counter>,
    reconcile_time: Histogram,
    leading: Gauge,
    ready: Gauge,
    gauges: Gauges,
    sources: Mutex<Sources>,
}

/// What the gauges are read from.
#[derive(Default)]
struct Sources {
    credentials: Vec<Store<IntegrationCredential>>,
    observer: Option<Arc<Observer>>,
    queues: Vec<Box<dyn Fn() -> Load + Send>>,
}

impl Metrics {
    /// Nothing counted yet; with gauges of each credential where `each`.
    #[must_use]
    pub fn new(each: bool) -> Self {
        let mut registry = Registry::with_prefix("tokenward");
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This program", version);
        let mut process = Registry::default();
        process.register_collector(Box::new(Process::starting()));
        let metrics = Self {
            process,
            gauges: Gauges::new(each, &mut registry),
            refreshes: Family::default(),
            refresh_time: Histogram::new(exponential_buckets(0.05, 2.0, 14)),
            lock_wait: Histogram::new(exponential_buckets(0.01, 3.0, 11)),
            forced: Family::default(),
            requests: Family::default(),
            request_time: Histogram::new(exponential_buckets(0.01, 2.0, 13)),
            reconciles: Family::default(),
            reconcile_time: Histogram::new(exponential_buckets(0.000_1, 4.0, 10)),
            leading: Gauge::default(),
            ready: Gauge::default(),
            sources: Mutex::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        Self {
            registry,
            ..metrics
        }
    }

    /// What is counted while work is done.
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "refresh",
            "Attempts to obtain a token or to copy a value, by what came of them: success, or the class of the failure",
            self.refreshes.clone(),
        );
        let mut times = |name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        times(
            "refresh_duration",
            "From the close of a gate to its opening, where a token was obtained",
            &self.refresh_time,
        );
        times(
            "lock_wait",
            "How long a closed gate was waited behind for holders",
            &self.lock_wait,
        );
        times(
            "token_endpoint_request_duration",
            "From the sending of a token request to its answer",
            &self.request_time,
        );
        times(
            "reconcile_duration",
            "One look at a credential, with the work that came of it, up to 2 s of it",
            &self.reconcile_time,
        );
        registry.register(
            "forced_refresh",
            "Refreshes that did not wait for holders any longer",
            self.forced.clone(),
        );
        registry.register(
            "token_endpoint_requests",
            "Token requests by the class of the status code; none: there was no answer",
            self.requests.clone(),
        );
        for decision in Decision::WORDS {
            drop(self.reconciles.get_or_create(&Decided { decision }));
        }
        registry.register(
            "reconcile",
            "Looks at credentials by what was decided",
            self.reconciles.clone(),
        );
        registry.register(
            "leader",
            "Whether this process works: 1, and 0 where it stands by",
            self.leading.clone(),
        );
        registry.register(
            "ready",
            "Whether everything is known that decisions need, 1, or another process works",
            self.ready.clone(),
        );
    }

    /// Reads gauges from these credentials, too.
    pub fn watch(&self, credentials: Store<IntegrationCredential>) {
        self.sources().credentials.push(credentials);
    }

    /// Reads from there who holds credentials.
    pub fn observe(&self, observer: Arc<Observer>) {
        self.sources().observer = Some(observer);
    }

    /// Reads from there what waits for its turn.
    pub fn queue(&self, load: impl Fn() -> Load + Send + 'static) {
        self.sources().queues.push(Box::new(load));
    }

    /// Everything is known that decisions need, or not yet.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// This process works, or stands by.
    pub fn leads(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// An attempt came to an end: `failure` is the label of its class.
    pub fn refreshed(&self, credential: &IntegrationCredential, failure: Option<&'static str>) {
        let attempt = Attempt {
            provider: provider(credential),
            outcome: failure.unwrap_or(SUCCESS),
        };
        self.refreshes.get_or_create(&attempt).inc();
    }

    /// A refresh that obtained a token took this long behind its gate.
    pub fn took(&self, time: Duration) {
        self.refresh_time.observe(time.as_secs_f64());
    }

    /// Holders were waited for, so long; `forced`: not to the end.
    pub fn waited(&self, credential: &IntegrationCredential, time: Duration, forced: bool) {
        self.lock_wait.observe(time.as_secs_f64());
        if forced {
            let provider = provider(credential);
            self.forced.get_or_create(&OfProvider { provider }).inc();
        }
    }

    /// A token request was answered after this long, with this status, or not.
    pub fn answered(
        &self,
        credential: &IntegrationCredential,
        status: Option<u16>,
        time: Duration,
    ) {
        let [success, client, server, other, none] = CODE_CLASSES;
        let code_class = match status.map(|status| status / 100) {
            None => none,
            Some(2) => success,
            Some(4) => client,
            Some(5) => server,
            Some(_) => other,
        };
        let answered = Answered {
            provider: provider(credential),
            code_class,
        };
        self.requests.get_or_create(&answered).inc();
        self.request_time.observe(time.as_secs_f64());
    }

    /// A credential was looked at, and this decided.
    pub fn decided(&self, decision: Decision) {
        let decision = decision.word();
        self.reconciles.get_or_create(&Decided { decision }).inc();
    }

    /// A look at a credential took this long.
    pub fn looked(&self, time: Duration) {
        self.reconcile_time.observe(time.as_secs_f64());
    }

    /// All of it, as [`CONTENT_TYPE`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn text(&self) -> Result<String, Error> {
        // Until all is written: whoever else reads at this moment would see gauges half filled.
        let sources = self.sources();
        let all: Vec<_> = sources.credentials.iter().flat_map(Store::state).collect();
        self.begin(all.iter().map(AsRef::as_ref));
        let holds = sources.observer.as_ref().map_or(0, |o| o.holds());
        let load = sources.queues.iter().map(|load| load()).sum();
        self.gauges
            .set(all.into_iter(), (holds, load), clock::now());
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry)?;
        text::encode_registry(&mut text, &self.process)?;
        text::encode_eof(&mut text)?;
        Ok(text)
    }

    /// Has every counter of these credentials' providers begin at 0: who reads them now and then cannot tell a first
    /// event from a series that was there before.
    fn begin<'a>(&self, credentials: impl Iterator<Item = &'a IntegrationCredential>) {
        let providers: BTreeSet<_> = credentials
            .map(|credential| (provider(credential), credential.copied().is_some()))
            .collect();
        for (provider, copied) in providers {
            let classes = Class::ALL.map(|class| class.consequence().label);
            for outcome in [SUCCESS].into_iter().chain(classes) {
                let provider = provider.clone();
                drop(self.refreshes.get_or_create(&Attempt { provider, outcome }));
            }
            // Where nothing is asked for there are no answers.
            for code_class in CODE_CLASSES.into_iter().filter(|_| !copied) {
                let provider = provider.clone();
                let answered = Answered {
                    provider,
                    code_class,
                };
                drop(self.requests.get_or_create(&answered));
            }
            drop(self.forced.get_or_create(&OfProvider { provider }));
        }
    }

    fn sources(&self) -> std::sync::MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The provider object as a label; empty where there is none.
fn provider(credential: &IntegrationCredential) -> String {
    credential.provider_name().unwrap_or_default()
}
