//! Logs: one line each, as JSON or text, with the same field names everywhere (`credential`,
//! `provider`, `attempt`, `reason`).

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

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

/// Starts logging to standard error.
///
/// # Errors
/// When `filter` is no list of `target=level`.
pub fn start(
    filter: &str,
    format: LogFormat,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    // A filter of its own: a user's filter for a span would override directives beside it.
    let hard = Targets::from_str(&format!("trace,{}", NEVER_BELOW.join(",")))
        .unwrap_or_else(|_| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(hard).with(filter);
    match format {
        LogFormat::Json => registry
            .with(
                lines
                    .json()
                    .flatten_event(true)
                    .with_current_span(true)
                    .with_span_list(false),
            )
            .init(),
        LogFormat::Text => registry.with(lines.compact()).init(),
    }
    Ok(())
}
