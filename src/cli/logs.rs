//! The options of commands that write logs.

use anyhow::{Context, Result};
use clap::Args;

use crate::telemetry::{self, LogFormat, traces::Traces};

/// How is logged.
#[derive(Args)]
pub(super) struct Logs {
    /// The form of log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// Which log lines: error, warn, info, debug or trace, or a list of target=level.
    #[arg(
        long,
        env = "TOKENWARD_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    log_level: String,
}

impl Logs {
    /// Starts logging, and tracing where that is wanted.
    pub(super) fn start(&self, traces: Option<&Traces>) -> Result<()> {
        telemetry::start(&self.log_level, self.log_format, traces).context("--log-level")
    }
}
