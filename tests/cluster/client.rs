//! How tests and the demo get a cluster: theirs for the run, or one that somebody points them at.
//!
//! Included with `#[path]` by programs of several kinds, each of which uses a part of it.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by several programs, none of which uses all of it or exports it"
)]

use std::collections::HashMap;
use std::env;
use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// The opt-in for any cluster that this process does not start itself.
const OPT_IN: &str = "TOKENWARD_TEST_CLUSTER";

/// The very first run compiles Kubernetes, which takes eight minutes on two idle cores.
const START_WITHIN: Duration = Duration::from_secs(60 * 60);

/// How long the supervisor may take to stop. It needs well under a second.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A cluster to test against.
///
/// In a test binary it belongs into a `static OnceLock<Cluster>`, so that all tests share it.
/// Statics are never dropped, and need not be: the supervisor stops the control plane when the pipe
/// to its stdin closes, which the kernel does at the death of this process, in whatever way it dies.
#[derive(Debug)]
pub struct Cluster {
    /// A file with the cluster as its current context.
    pub kubeconfig: PathBuf,
    /// The program.
    pub kubectl: PathBuf,
    /// The program.
    pub helm: PathBuf,
    /// Where the API server logs each answered request as a line of JSON, when that is known.
    pub audit_log: Option<PathBuf>,
    /// Present when this process started the control plane.
    supervisor: Option<Supervisor>,
}

impl Cluster {
    /// The cluster that `TOKENWARD_TEST_CLUSTER` allows to use, or else a control plane that lives
    /// as long as this value or process. It is never just the current context of whoever runs this:
    /// that may be anything.
    pub fn connect_or_start() -> Result<Self> {
        match variable(OPT_IN).as_deref() {
            None => Self::start(),
            // Of `make cluster` in another terminal, or of `cluster COMMAND` around this process.
            Some("rig") => Self::of_variables(|name| variable(name).map(PathBuf::from)),
            Some("existing") => Self::existing(),
            Some(other) => bail!(
                "{OPT_IN} is {other:?}. Unset it to have a control plane started. Set it to \
                 \"existing\" to use the cluster of KUBECONFIG. The value \"rig\" comes with the \
                 variables that `make cluster` prints."
            ),
        }
    }

    /// A command with the cluster's kubectl.
    pub fn kubectl(&self, arguments: &[&str]) -> Command {
        self.command(&self.kubectl, arguments)
    }

    /// A command with the cluster's Helm.
    pub fn helm(&self, arguments: &[&str]) -> Command {
        self.command(&self.helm, arguments)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig).args(arguments);
        // kubectl and Helm keep what they discover under the server's address, which for a control
        // plane of the tests will be another's tomorrow. So it goes beside the kubeconfig, and with
        // it.
        if let Some(folder) = self.audit_log.as_deref().and_then(Path::parent) {
            command.env("KUBECACHEDIR", folder.join("kubectl-cache"));
        }
        command
    }

    fn existing() -> Result<Self> {
        let kubeconfig = variable("KUBECONFIG").map(PathBuf::from).with_context(|| {
            format!("{OPT_IN} is \"existing\", which needs KUBECONFIG: the file of that cluster")
        })?;
        ensure!(
            kubeconfig.is_file(),
            "{OPT_IN} is \"existing\", and KUBECONFIG ({}) is not one file",
            kubeconfig.display()
        );
        let program = |name, default: &str| {
            variable(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Ok(Self {
            kubeconfig,
            kubectl: program("TOKENWARD_KUBECTL", "kubectl"),
            helm: program("TOKENWARD_HELM", "helm"),
            audit_log: None,
            supervisor: None,
        })
    }

    /// From the variables that the supervisor announces.
    fn of_variables(get: impl Fn(&str) -> Option<PathBuf>) -> Result<Self> {
        let path = |name: &str| {
            get(name).with_context(|| {
                format!("{name} is missing among the variables that `make cluster` prints")
            })
        };
        let kubeconfig = path("KUBECONFIG")?;
        ensure!(
            kubeconfig.is_file(),
            "the control plane of {} is gone: start it again, or unset {OPT_IN}",
            kubeconfig.display()
        );
        Ok(Self {
            kubeconfig,
            kubectl: path("TOKENWARD_KUBECTL")?,
            helm: path("TOKENWARD_HELM")?,
            audit_log: Some(path("TOKENWARD_AUDIT_LOG")?),
            supervisor: None,
        })
    }

    /// A control plane of its own, which lives as long as this value or process.
    pub fn start() -> Result<Self> {
        let (supervisor, stdout) = Supervisor::spawn()?;
        let variables = read_variables(stdout)?;
        let mut cluster = Self::of_variables(|name| variables.get(name).map(PathBuf::from))?;
        cluster.supervisor = Some(supervisor);
        Ok(cluster)
    }
}

/// The program that runs the control plane, as a child of this process.
struct Supervisor {
    child: Child,
    /// Held open, nothing is ever written to it. Children of this process do not inherit it, else
    /// one that outlives this process would keep the control plane.
    stdin: Option<ChildStdin>,
}

impl Supervisor {
    fn spawn() -> Result<(Self, ChildStdout)> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["run", "--quiet", "--example", "cluster", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .args(["--", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Cargo replaces itself with the program, so this child is the supervisor itself. A group
        // of its own keeps Ctrl-C from it: the tests come first, and this process's end stops it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .spawn()
            .context("cannot run `cargo run --example cluster`")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let supervisor = Self { child, stdin };
        Ok((supervisor, stdout.context("a child without its stdout")?))
    }
}

impl Drop for Supervisor {
    /// Closes the pipe and waits until the control plane is gone.
    fn drop(&mut self) {
        drop(self.stdin.take());
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        // Its children have a parent-death signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Supervisor")
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

/// Reads the `export NAME='VALUE'` lines, up to the comment that ends them.
fn read_variables(stdout: ChildStdout) -> Result<HashMap<String, String>> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + START_WITHIN;
    let mut variables = HashMap::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line == "# ready" => return Ok(variables),
            Ok(line) => {
                if let Some((name, value)) = line
                    .strip_prefix("export ")
                    .and_then(|assignment| assignment.split_once('='))
                {
                    variables.insert(name.to_owned(), unquote(value));
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the control plane did not start; see its messages above")
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the control plane did not start within {START_WITHIN:?}")
            }
        }
    }
}

/// Undoes the quoting of the supervisor, which is the same for every value.
fn unquote(value: &str) -> String {
    value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .unwrap_or(value)
        .replace("'\\''", "'")
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
