//! The cluster of the current kubectl context: used only after asking.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::NamedTempFile;

use crate::output::Output;
use crate::place::NAMESPACE;

/// The cluster of the current kubectl context, with the user's consent.
pub(crate) struct Current {
    /// The context alone: another `kubectl config use-context` cannot move the demo elsewhere. Only its
    /// owner can read the file, and it goes with this value.
    file: NamedTempFile,
    context: String,
}

impl Current {
    /// Shows what would be used and done, and asks. None: not wanted. Nothing is sent to the cluster.
    pub(crate) fn ask(output: Output) -> Result<Option<Self>> {
        let context = read(&["config", "current-context"])?;
        let server = "jsonpath={.clusters[0].cluster.server}";
        let server = read(&["config", "view", "--minify", "-o", server])?;
        output.say(&format!(
            "This uses the cluster of your current kubectl context:\n\n  \
               context  {context}\n  \
               server   {server}\n\n\
             It applies the CustomResourceDefinitions in crds/, creates the namespace {NAMESPACE} with a few\n\
             objects in it, and removes at the end what was not there before. The operator and the OAuth\n\
             server run on this machine, with your rights on that cluster.\n"
        ));
        ensure!(
            io::stdin().is_terminal(),
            "standard input is no terminal, so nobody can be asked; nothing was touched"
        );
        let mut stdout = io::stdout();
        write!(stdout, "Continue? [y/N] ")?;
        stdout.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        output.say("");
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            output.say("Nothing was touched.");
            return Ok(None);
        }
        let pinned = ["config", "view", "--minify", "--flatten", "--raw"];
        let pinned = read(&[&pinned[..], &["--context", &context]].concat())?;
        let file = NamedTempFile::with_prefix("tokenward-demo-")
            .and_then(|mut file| file.write_all(pinned.as_bytes()).map(|()| file))
            .context("cannot write a temporary kubeconfig")?;
        Ok(Some(Self { file, context }))
    }

    /// A file with that context alone.
    pub(crate) fn kubeconfig(&self) -> &Path {
        self.file.path()
    }

    /// Its name.
    pub(crate) fn context(&self) -> &str {
        &self.context
    }
}

/// What kubectl says, before there is anything to say it about.
fn read(arguments: &[&str]) -> Result<String> {
    let output = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run kubectl")?;
    ensure!(
        output.status.success(),
        "kubectl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
