//! Where the demo plays: on a control plane of its own, or on the cluster of the current kubectl context.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::current::Current;
use crate::output::Output;

/// Where everything of the demo lies.
pub(crate) const NAMESPACE: &str = "tokenward-demo";

/// On the namespace: which run of the demo made it.
const RUN_LABEL: &str = "tokenward.dev/demo";

/// The tree that this was built from; commands run in it, so that people can repeat them there.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Which place it is to be.
pub(crate) enum Wanted {
    /// The control plane of the tests: a new one, or the one of `make cluster` whose variables are set.
    Rig,
    /// Agreed upon.
    Current(Current),
}

enum Kind {
    /// Thrown away at the end.
    Own(Cluster),
    /// Of `make cluster` in another terminal.
    Shared(Cluster),
    Current(Current),
}

/// A cluster, and what is known of its state before the demo.
pub(crate) struct Place {
    kind: Kind,
    /// The value of the label: no namespace but the one that this run made is ever deleted.
    run: String,
    /// Our definitions that were there before; none is deleted while that is not known.
    before: Option<Vec<String>>,
}

impl Place {
    /// The first step.
    pub(crate) async fn open(wanted: Wanted, output: Output) -> Result<Self> {
        let opt_in = std::env::var("TOKENWARD_TEST_CLUSTER").unwrap_or_default();
        let start = Instant::now();
        let kind = match wanted {
            Wanted::Current(current) => {
                let what = format!("The cluster of the kubectl context {}", current.context());
                output.step(1, &what);
                Kind::Current(current)
            }
            Wanted::Rig if opt_in == "existing" => bail!(
                "TOKENWARD_TEST_CLUSTER=existing is for tests. Unset it; to show the demo on the cluster of \
                 your current kubectl context: make demo CLUSTER=current"
            ),
            Wanted::Rig => {
                output.step(
                    1,
                    "A Kubernetes control plane: etcd, API server, controller manager",
                );
                let cluster = tokio::task::spawn_blocking(Cluster::connect_or_start).await??;
                if opt_in.is_empty() {
                    Kind::Own(cluster)
                } else {
                    Kind::Shared(cluster)
                }
            }
        };
        let place = Self {
            kind,
            run: uuid::Uuid::new_v4().to_string(),
            before: None,
        };
        let version = place.client().await?.apiserver_version().await;
        let version = version.context("the API server does not answer")?;
        output.detail(&format!(
            "ready in {:.1} s: Kubernetes {}",
            start.elapsed().as_secs_f64(),
            version.git_version
        ));
        Ok(place)
    }

    /// A file with the cluster as its current context.
    pub(crate) fn kubeconfig(&self) -> &Path {
        match &self.kind {
            Kind::Own(cluster) | Kind::Shared(cluster) => &cluster.kubeconfig,
            Kind::Current(current) => current.kubeconfig(),
        }
    }

    /// Whether all of it is gone at the end anyway.
    pub(crate) const fn is_own(&self) -> bool {
        matches!(self.kind, Kind::Own(_))
    }

    /// Whether it is the user's own cluster.
    pub(crate) const fn is_current(&self) -> bool {
        matches!(self.kind, Kind::Current(_))
    }

    /// A client for the cluster.
    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Client::try_from(config).context("no client for the cluster")
    }

    /// kubectl for the cluster.
    pub(crate) fn command(&self, arguments: &[&str]) -> process::Command {
        let mut command = match &self.kind {
            Kind::Own(cluster) | Kind::Shared(cluster) => cluster.kubectl(arguments),
            Kind::Current(current) => {
                let mut command = process::Command::new("kubectl");
                command
                    .env("KUBECONFIG", current.kubeconfig())
                    .args(arguments);
                command
            }
        };
        command.current_dir(ROOT);
        command
    }

    /// What kubectl printed.
    pub(crate) async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.command(arguments);
        // Ctrl-C is for the demo, which may then need kubectl to clean up.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends without reading has its own words for why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Applies the definitions.
    pub(crate) async fn define(&mut self, output: Output) -> Result<()> {
        let mut before = self.kubectl(&["get", "crd", "-o", "name"], "").await?;
        before.push('\n');
        let ours = definitions()?;
        let found = |name: &String| before.contains(&format!("/{name}\n"));
        self.before = Some(ours.iter().filter(|name| found(name)).cloned().collect());
        let apply = ["apply", "--server-side", "-f", "crds/"];
        output.command(
            "kubectl apply --server-side -f crds/",
            &self.kubectl(&apply, "").await?,
        );
        let wait = ["wait", "--for=condition=Established", "-f", "crds/"];
        self.kubectl(&wait, "").await.map(drop)
    }

    /// Makes the namespace.
    pub(crate) async fn make_namespace(&self) -> Result<()> {
        // As JSON, which every kubectl takes.
        let namespace = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": {RUN_LABEL: self.run}},
        });
        let namespace = namespace.to_string();
        let created = self.kubectl(&["create", "-f", "-"], &namespace).await;
        created.map(drop).with_context(|| {
            format!(
                "cannot create the namespace {NAMESPACE} (left by an earlier demo? kubectl delete namespace \
                 {NAMESPACE})"
            )
        })
    }

    /// What is to be removed by hand if this program cannot.
    pub(crate) fn left_behind(&self) -> String {
        if self.is_own() {
            "the control plane stops by itself".to_owned()
        } else {
            format!("kubectl delete namespace {NAMESPACE}")
        }
    }

    /// Removes what was not there before.
    pub(crate) async fn clear(&self, output: Output) -> Result<()> {
        if self.is_own() {
            return Ok(());
        }
        output.say("\nRemoving what was not there before");
        let run = format!("--selector={RUN_LABEL}={}", self.run);
        let delete = ["delete", "namespace", &run, "--timeout=120s"];
        output.detail(&self.kubectl(&delete, "").await?);
        let Some(before) = &self.before else {
            return Ok(());
        };
        for name in definitions()?.iter().filter(|name| !before.contains(name)) {
            let objects = self.kubectl(&["get", name, "-A", "-o", "name"], "").await;
            match objects.as_deref() {
                Ok("") => output.detail(&self.kubectl(&["delete", "crd", name], "").await?),
                Ok(_) => output.detail(&format!("{name} is in use by now, and stays")),
                Err(_) => output.detail(&format!("{name} was not made")),
            }
        }
        Ok(())
    }
}

/// The names of our definitions, after which their files are called.
fn definitions() -> Result<Vec<String>> {
    let files = fs::read_dir(PathBuf::from(ROOT).join("crds")).context("crds/ cannot be read")?;
    let name = |file: &fs::DirEntry| {
        let name = file.file_name();
        Some(name.to_str()?.strip_suffix(".yaml")?.to_owned())
    };
    Ok(files.flatten().filter_map(|file| name(&file)).collect())
}
