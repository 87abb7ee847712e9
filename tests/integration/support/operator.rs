//! An operator as a process of its own: the real binary, killed when the test ends.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use serde_json::Value;

use super::{WallClock, ahead, eventually};

/// A running operator.
pub struct Operator {
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Operator {
    /// Starts one for `namespace`, with more `arguments`.
    pub fn start(kubeconfig: &Path, namespace: &str, arguments: &[&str]) -> Self {
        Self::start_in(&[], kubeconfig, namespace, arguments)
    }

    /// Starts one with these environment variables.
    pub fn start_in(
        variables: &[(&str, &str)],
        kubeconfig: &Path,
        namespace: &str,
        arguments: &[&str],
    ) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, value.into()));
        Self::spawn(kubeconfig, namespace, arguments, variables.collect())
    }

    /// Starts one that reads its wall clock there, with more `arguments`.
    pub fn start_at(
        clock: &WallClock,
        kubeconfig: &Path,
        namespace: &str,
        arguments: &[&str],
    ) -> Self {
        Self::spawn(kubeconfig, namespace, arguments, clock.variables())
    }

    /// Starts one whose wall clock is ahead by so many seconds, with more `arguments`.
    #[allow(dead_code, reason = "for the benches")]
    pub fn start_ahead(
        seconds: i64,
        kubeconfig: &Path,
        namespace: &str,
        arguments: &[&str],
    ) -> Self {
        Self::spawn(kubeconfig, namespace, arguments, ahead(seconds))
    }

    fn spawn(
        kubeconfig: &Path,
        namespace: &str,
        arguments: &[&str],
        variables: Vec<(&str, PathBuf)>,
    ) -> Self {
        let mut all = vec!["controller", "--allow-http-loopback"];
        all.extend(["--namespace", namespace]);
        all.extend(["--health-address", "127.0.0.1:0", "--log-format", "json"]);
        all.extend(arguments);
        if !arguments.contains(&"--log-level") {
            all.extend(["--log-level", "info,tokenward=debug"]);
        }
        Self::run(kubeconfig, &all, variables)
    }

    /// Starts one with these arguments and no others.
    pub fn run(kubeconfig: &Path, arguments: &[&str], variables: Vec<(&str, PathBuf)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("operator.log");
        let mut command = guarded(env!("CARGO_BIN_EXE_tokenward"));
        command
            .env("KUBECONFIG", kubeconfig)
            .envs(variables)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap());
        let child = command.spawn().expect("the operator's binary");
        Self {
            child,
            log,
            _folder: folder,
        }
    }

    /// Everything that it wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its log lines.
    pub fn lines(&self) -> Vec<Value> {
        let log = self.log();
        log.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// The first log line with this message.
    pub async fn logged(&self, message: &str) -> Value {
        eventually(&format!("log line {message:?}"), async || {
            let lines = self.log();
            // The last line may be half written.
            let mut whole = lines.lines().filter_map(|l| serde_json::from_str(l).ok());
            whole.find(|line: &Value| line["message"] == message)
        })
        .await
    }

    /// Waits until it can decide.
    pub async fn ready(&self) {
        self.logged("caches filled").await;
    }

    /// The address of `/livez` and `/readyz`.
    pub async fn health(&self) -> String {
        let line = self.logged("starting").await;
        line["health_address"].as_str().unwrap().to_owned()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Any other signal, by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Its end, once it has come to it by itself.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the operator's end", async || self.has_ended()).await
    }

    /// Its end, if it has come to it.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        if let Ok(status) = self.child.wait()
            && status.signal().is_none()
            && !status.success()
        {
            eprintln!("the operator had ended with {status}");
        }
        if std::thread::panicking() {
            eprintln!("--- the operator's log ---\n{}", self.log());
        }
    }
}

/// A command that dies with this process, where the platform can do that.
pub(super) fn guarded(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}
