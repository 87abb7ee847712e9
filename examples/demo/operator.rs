//! The operator as a process: the real program, which ends with the demo, and what it says.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::processes::{Process, guarded};

/// How long it may take to finish what is under way.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running operator. It is killed when this is dropped, and by the kernel when the demo is.
#[derive(Debug)]
pub(crate) struct Operator {
    process: Process,
    log: File,
    /// The beginning of a line whose end is not written yet.
    unfinished: Vec<u8>,
}

impl Operator {
    /// Its arguments, for this namespace.
    pub(crate) fn arguments(namespace: &str) -> [&str; 8] {
        [
            "controller",
            "--namespace",
            namespace,
            "--allow-http-loopback",
            "--health-address",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]
    }

    /// Starts the program that was built beside this one.
    pub(crate) fn start(kubeconfig: &Path, namespace: &str, log: &Path) -> Result<Self> {
        let mut command = guarded(&program()?);
        command
            .args(Self::arguments(namespace))
            .env("KUBECONFIG", kubeconfig)
            // What is shown must not depend on whoever runs the demo.
            .env_remove("TOKENWARD_LOG");
        let process = Process::spawn("the operator", command, Some(log))?;
        let log = File::open(log).context("cannot read the operator's log")?;
        Ok(Self {
            process,
            log,
            unfinished: Vec::new(),
        })
    }

    /// What it said since this was asked last.
    pub(crate) fn news(&mut self) -> Result<Vec<Line>> {
        self.log
            .read_to_end(&mut self.unfinished)
            .context("cannot read the operator's log")?;
        let Some(end) = self.unfinished.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(Vec::new());
        };
        let finished: Vec<u8> = self.unfinished.drain(..=end).collect();
        let lines = finished.split(|&byte| byte == b'\n');
        Ok(lines.filter_map(Line::parse).collect())
    }

    /// Its exit status, once it has ended.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        self.process.log_tail()
    }

    /// Stops it in order: an exchange that is under way is stored.
    pub(crate) async fn stop(mut self) -> Result<()> {
        // By the shell's own `kill`, for the reasons of `processes::kill_group`.
        let terminate = Command::new("sh")
            .args(["-c", "kill -s TERM \"$1\"", "sh"])
            .arg(self.process.id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        terminate.await.context("cannot stop the operator")?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.process.ended()?.is_none() && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// `target/debug/tokenward`, for `target/debug/examples/demo`.
fn program() -> Result<PathBuf> {
    let demo = env::current_exe().context("cannot tell where this program is")?;
    let folder = demo.parent().and_then(Path::parent);
    folder
        .map(|folder| folder.join("tokenward"))
        .filter(|program| program.is_file())
        .context("the operator is not built; run `make demo`, or `cargo build` first")
}

/// A line of its log.
#[derive(Debug)]
pub(crate) struct Line {
    /// When it was written.
    pub(crate) at: Timestamp,
    /// `INFO` and so on.
    pub(crate) level: String,
    /// What happened.
    pub(crate) message: String,
    /// `namespace/name` of the credential that it is about.
    pub(crate) credential: Option<String>,
    /// The token that it is about.
    pub(crate) generation: Option<u64>,
    /// Why, where it says so: reason, code and error.
    pub(crate) why: Vec<String>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Self> {
        let line: Value = serde_json::from_slice(line).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let why = ["reason", "code", "error"];
        Some(Self {
            at: line["timestamp"].as_str()?.parse().ok()?,
            level: text(&line["level"])?,
            message: text(&line["message"])?,
            credential: text(&line["span"]["credential"]),
            generation: line["generation"].as_u64(),
            why: why.iter().filter_map(|name| text(&line[*name])).collect(),
        })
    }

    /// Whether somebody may have to do something.
    pub(crate) fn is_warning(&self) -> bool {
        matches!(self.level.as_str(), "WARN" | "ERROR")
    }

    /// Whether it tells of a new token.
    pub(crate) fn is_refresh(&self) -> bool {
        matches!(self.message.as_str(), "token refreshed" | "token obtained")
    }
}
