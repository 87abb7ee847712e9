//! `examples/hold.py` as a process of its own, killed when the test ends.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{eventually, operator::guarded};

/// A running Python, with the examples to import.
pub struct Python {
    child: Child,
    folder: tempfile::TempDir,
}

impl Python {
    /// Holds `credential` while `script` runs in a shell.
    pub fn hold(
        kubeconfig: &Path,
        namespace: &str,
        credential: &str,
        options: &[&str],
        script: &str,
    ) -> Self {
        let kubeconfig = kubeconfig.to_str().unwrap();
        let mut arguments = vec![concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hold.py")];
        arguments.extend([credential, "-n", namespace, "--kubeconfig", kubeconfig]);
        arguments.extend(options);
        arguments.extend(["--", "sh", "-c", script]);
        Self::start(&arguments)
    }

    /// Runs a program that imports from `hold`. Its arguments are in `sys.argv`.
    pub fn run(program: &str, arguments: &[&str]) -> Self {
        Self::start(&[&["-c", program], arguments].concat())
    }

    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let mut command: Command = guarded("python3");
        command
            .args(arguments)
            .env(
                "PYTHONPATH",
                concat!(env!("CARGO_MANIFEST_DIR"), "/examples"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"));
        let child = command.spawn().expect("python3 on the PATH");
        Self { child, folder }
    }

    /// What it and its command have printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// What it has complained about so far.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// Waits for a line that it or its command prints, and returns what follows `start` in it.
    pub async fn printed(&self, start: &str) -> String {
        eventually(
            &format!("line {start:?} of {}", self.errors()),
            async || {
                let output = self.output();
                // The last line may be half written.
                let (whole, _) = output.rsplit_once('\n')?;
                let rest = whole.lines().find_map(|line| line.strip_prefix(start));
                rest.map(|rest| rest.trim().to_owned())
            },
        )
        .await
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// Its exit status, once it has ended.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the client's end", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the client ---\n{}{}", self.output(), self.errors());
        }
    }
}
