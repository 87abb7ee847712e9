//! Logs: one line each, as JSON or text, with the same field names everywhere (`credential`,
//! `provider`, `attempt`, `reason`: docs/operate.md). And traces, where they are asked for.

mod json;
pub mod span;
pub mod traces;

use std::{io::IsTerminal, str::FromStr};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt::format::JsonFields,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::traces::Traces;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Below these levels other crates write bodies and headers, with tokens in them, whatever level was
/// asked for.
const NEVER_BELOW: [&str; 8] = [
    "kube_client::client=error",
    "h2=warn",
    "hyper=warn",
    "hyper_util=warn",
    "reqwest=warn",
    "rustls=warn",
    "tower=warn",
    "tower_http=warn",
];

/// Starts logging to standard error, and sending `traces`.
///
/// # Errors
/// When `filter` is no list of `target=level`.
pub fn start(
    filter: &str,
    format: LogFormat,
    traces: Option<&Traces>,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    // A filter of its own: a user's filter for a span would override directives beside it.
    let hard = Targets::from_str(&format!("trace,{}", NEVER_BELOW.join(",")))
        .unwrap_or_else(|_| Targets::new().with_default(LevelFilter::WARN));
    // Whom a line is about is said whatever the filter lets through.
    let context = filter_fn(|m| m.is_span() && is_ours(m) && *m.level() == Level::ERROR)
        .with_max_level_hint(LevelFilter::ERROR);
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(json::Flat)
            .boxed(),
        LogFormat::Text => lines.compact().boxed(),
    };
    // Each has filters of its own: what is sent as a trace does not depend on the level of the log.
    tracing_subscriber::registry()
        .with(lines.with_filter(hard.and(filter.or(context))))
        .with(traces.map(Traces::layer))
        .init();
    Ok(())
}

/// Whether a span or an event is of this program, not of a library that it uses.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target == "tokenward" || target.starts_with("tokenward::")
}
