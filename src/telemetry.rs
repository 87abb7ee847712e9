//! Logs: one line each, as JSON or text, with the same field names everywhere (`credential`,
//! `provider`, `attempt`, `reason`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

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
    let directives = format!("{filter},{}", NEVER_BELOW.join(","));
    let filter = EnvFilter::builder().parse(directives)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .init(),
        LogFormat::Text => lines.compact().init(),
    }
    Ok(())
}
