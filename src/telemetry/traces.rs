//! Traces, sent by OTLP over HTTP to a collector. Off unless an endpoint is named.
//!
//! Spans wait in a queue of bounded length for a thread of their own, which sends them. What does not fit, or is not
//! taken, is lost: no reconcile ever waits for a collector.

mod collector;
mod settings;

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    resource::{EnvResourceDetector, TelemetryResourceDetector},
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, filter_fn},
    registry::LookupSpan,
};

use self::collector::Collector;
pub use self::settings::{Settings, SettingsError, ratio, settings};
use super::is_ours;

/// How long the end of the process waits for the last spans to be taken.
const FLUSH: Duration = Duration::from_secs(3);

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// No HTTP client.
    #[error("no HTTP client for traces: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter refuses its settings.
    #[error("no exporter of traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends spans while it lives.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends them as `settings` say, for the process `identity`, by the runtime that this is called in. Headers, the size
    /// of the queue and the sampler, unless `settings` have one, are what the standard variables say.
    ///
    /// # Errors
    /// When there can be no client or exporter.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn start(settings: Settings, identity: &str) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new()?)
            .with_endpoint(settings.endpoint)
            .with_protocol(Protocol::HttpBinary)
            .build()?;
        // What comes later counts.
        let mut resource = Resource::builder_empty()
            .with_service_name("tokenward")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", identity.to_owned()),
            ])
            .with_detector(Box::new(TelemetryResourceDetector))
            .with_detector(Box::new(EnvResourceDetector::new()));
        if let Some(name) = settings.service_name {
            resource = resource.with_service_name(name);
        }
        let mut provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        if let Some(ratio) = settings.sample_ratio {
            let sampler = Sampler::TraceIdRatioBased(ratio);
            provider = provider.with_sampler(Sampler::ParentBased(Box::new(sampler)));
        }
        Ok(Self {
            provider: provider.build(),
        })
    }

    /// Turns our spans into those of traces.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = filter_fn(|metadata| metadata.is_span() && is_ours(metadata))
            .with_max_level_hint(LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tokenward"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(ours)
    }

    /// Sends what is left, and waits for that no longer than 3 s.
    pub async fn end(self) {
        // It blocks.
        let ended = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH));
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("the last spans are lost: the collector did not take them in time");
        }
    }
}
