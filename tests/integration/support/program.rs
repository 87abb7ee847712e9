//! Programs that use credentials, as processes of their own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use super::{WallClock, operator::guarded};

/// A running program, killed when the test ends.
pub struct Program {
    child: Child,
    folder: tempfile::TempDir,
}

impl Program {
    /// Starts an example of this package.
    pub fn example(name: &str, kubeconfig: &Path, arguments: &[&str]) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_tokenward"));
        let binary = binary.with_file_name("examples").join(name);
        Self::start(&binary, kubeconfig, arguments)
    }

    /// Starts an example of this package that reads its wall clock there.
    pub fn example_at(
        clock: &WallClock,
        name: &str,
        kubeconfig: &Path,
        arguments: &[&str],
    ) -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_tokenward"));
        let binary = binary.with_file_name("examples").join(name);
        Self::spawn(&binary, kubeconfig, arguments, clock.variables())
    }

    /// Starts a program.
    pub fn start(binary: &Path, kubeconfig: &Path, arguments: &[&str]) -> Self {
        Self::spawn(binary, kubeconfig, arguments, Vec::new())
    }

    fn spawn(
        binary: &Path,
        kubeconfig: &Path,
        arguments: &[&str],
        variables: Vec<(&'static str, PathBuf)>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let child = guarded(binary)
            .env("KUBECONFIG", kubeconfig)
            .envs(variables)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file("out"))
            .stderr(file("err"))
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        Self { child, folder }
    }

    /// What it has written to standard error.
    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.path("err")).unwrap()
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A signal, by its name.
    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Stops it, and reads the JSON that it prints then.
    pub fn finish(mut self) -> Value {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.errors());
        let said = std::fs::read_to_string(self.path("out")).unwrap();
        serde_json::from_str(said.trim()).unwrap_or_else(|_| panic!("no JSON: {said}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
