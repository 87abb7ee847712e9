//! What the demo plays on: a cluster, an OAuth server, the objects, and the operator as a process.

use std::{
    env,
    fs::File,
    io::{BufRead, IsTerminal, Write},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kube::{Client, Config, config::KubeConfigOptions};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use crate::{
    cluster::Cluster,
    oauth_server::{Config as OAuthConfig, OAuthServer, OldToken},
    output::Output,
};

/// The credentials of `credentials.yaml`.
pub const CREDENTIALS: [&str; 2] = ["alice", "reports"];

/// Where all of it lies.
pub const NAMESPACE: &str = "tokenward-demo";
const MANIFEST: &str = include_str!("credentials.yaml");

/// Everything that must live as long as the demo.
pub struct Stage {
    pub oauth: OAuthServer,
    pub client: Client,
    kubectl: PathBuf,
    kubeconfig: Option<PathBuf>,
    /// The control plane, where it is the demo's own.
    cluster: Option<Cluster>,
}

impl Stage {
    /// Sets it; `None`: the user did not want to.
    pub async fn set(current: bool, lifetime: Duration, output: &Output) -> Result<Option<Self>> {
        output.say("tokenward: tokens that are refreshed before they expire\n");
        let start = Instant::now();
        let (cluster, kubectl, kubeconfig) = if current {
            if !agreed(output).await? {
                return Ok(None);
            }
            output.step("The cluster of the current kubectl context");
            (None, PathBuf::from("kubectl"), None)
        } else {
            output.step("A Kubernetes control plane (etcd, API server, controller manager)");
            let cluster = tokio::task::spawn_blocking(Cluster::connect_or_start).await??;
            output.say(&format!(
                "      ready in {:.1} s",
                start.elapsed().as_secs_f64()
            ));
            let (kubectl, kubeconfig) = (cluster.kubectl.clone(), cluster.kubeconfig.clone());
            (Some(cluster), kubectl, Some(kubeconfig))
        };
        output.step(
            "An OAuth server: each refresh token can be redeemed once, reuse revokes everything",
        );
        let oauth = OAuthServer::start(OAuthConfig::default()).await?;
        oauth.configure(|behaviour| {
            behaviour.lifetime = lifetime;
            // A client that has read the Secret just before a refresh still holds the old token. Here
            // the provider lets it live until it expires.
            behaviour.on_refresh = OldToken::Survives;
        });
        output.say(&format!(
            "      {}; old access tokens live on until they expire",
            oauth.url()
        ));

        let client = Client::try_from(match &kubeconfig {
            Some(file) => {
                let file = kube::config::Kubeconfig::read_from(file)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            None => Config::infer().await?,
        })?;
        let stage = Self {
            oauth,
            client,
            kubectl,
            kubeconfig,
            cluster,
        };
        output.step("The definitions: kubectl apply -f crds/");
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        stage.apply(&["-f", &crds.to_string_lossy()], "").await?;
        stage
            .anywhere(&[
                "wait",
                "--for=condition=Established",
                "-f",
                &crds.to_string_lossy(),
            ])
            .await?;
        output.step(
            "A provider and two credentials, one of each grant: examples/demo/credentials.yaml",
        );
        let manifest = MANIFEST
            .replace("${TOKEN_URL}", &stage.oauth.token_url())
            .replace("${REFRESH_TOKEN}", &stage.oauth.issue_refresh_token("read"));
        let namespace =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
        stage.apply(&["-f", "-"], &namespace).await?;
        stage
            .apply(&["-n", NAMESPACE, "-f", "-"], &manifest)
            .await?;
        Ok(Some(stage))
    }

    /// Runs kubectl in the demo's namespace, and gives what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["-n", NAMESPACE];
        all.extend(arguments);
        self.anywhere(&all).await
    }

    async fn anywhere(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .command(arguments)
            .output()
            .await
            .context("cannot run kubectl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl {}: {errors}",
            arguments.join(" ")
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    async fn apply(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = self.command(&["apply"]);
        command.args(arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "kubectl apply {}: {errors}",
            arguments.join(" ")
        );
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.cluster {
            Some(cluster) => Command::from(cluster.kubectl(arguments)),
            None => {
                let mut command = Command::new(&self.kubectl);
                command.args(arguments);
                command
            }
        };
        command.kill_on_drop(true);
        command
    }

    /// Starts the operator and waits until both credentials are Ready.
    pub async fn operator(&self, output: &Output) -> Result<Operator> {
        output.step("The operator: tokenward controller");
        let start = Instant::now();
        let operator = Operator::start(self.kubeconfig.as_deref())?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "icred",
            "--all",
        ];
        if let Err(error) = self.kubectl(&ready).await {
            bail!(
                "{error:#}\nThe operator's last words:\n{}",
                operator.last_words()
            );
        }
        output.say(&format!(
            "      both credentials are Ready after {:.1} s",
            start.elapsed().as_secs_f64()
        ));
        Ok(operator)
    }

    /// The next commands, ready to be copied.
    pub fn things_to_try(&self, log: &Path) -> String {
        let export = self.kubeconfig.as_ref().map_or(String::new(), |file| {
            format!("\n  export KUBECONFIG={}", file.display())
        });
        let kubectl = self.kubectl.display();
        let oauth = self.oauth.url();
        format!(
            "\nTry, in another terminal:{export}
  alias k='{kubectl} -n {NAMESPACE}'
  k get icred -w                          each refresh
  k describe icred alice                  conditions and events
  k get secret alice -o yaml              what a pod mounts
  k delete secret alice                   it is written again, and no provider is asked
  k explain icred.spec.oauth2             every field
  tail -f {}
Break the provider, and see what is said of it:
  curl -d '{{\"fail\":{{\"status\":500,\"times\":3}}}}' {oauth}/control
  curl -d '{{\"fail\":{{\"drop\":\"after-commit\",\"times\":1}}}}' {oauth}/control
  curl {oauth}/log",
            log.display()
        )
    }

    /// Takes away what was put into somebody's cluster; the demo's own goes as a whole.
    pub async fn clear(&self) -> Result<()> {
        if self.cluster.is_none() {
            self.anywhere(&["delete", "namespace", NAMESPACE, "--wait=false"])
                .await?;
        }
        Ok(())
    }
}

/// The operator as a process, which ends with the demo.
pub struct Operator {
    child: Child,
    pub log: PathBuf,
    _folder: TempDir,
}

impl Operator {
    /// Starts the real binary, which lies beside this example.
    fn start(kubeconfig: Option<&Path>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("operator.log");
        let here = env::current_exe()?;
        let program = here
            .parent()
            .and_then(Path::parent)
            .map(|folder| folder.join("tokenward"))
            .filter(|program| program.exists())
            .context("the operator is not built; run: cargo build")?;
        // Where the platform can do that, it dies with the demo however that ends.
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        if let Some(file) = kubeconfig {
            command.env("KUBECONFIG", file);
        }
        let child = command
            .args([
                "controller",
                "--namespace",
                NAMESPACE,
                "--allow-http-loopback",
            ])
            .args(["--health-address", "127.0.0.1:0", "--log-format", "text"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the operator")?;
        Ok(Self {
            child,
            log,
            _folder: folder,
        })
    }

    /// Waits for its end, which nobody asked for.
    pub async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// Shows what would be used, and asks.
async fn agreed(output: &Output) -> Result<bool> {
    let shown = async |arguments: &[&str]| -> Result<String> {
        let output = Command::new("kubectl").args(arguments).output().await;
        let output = output.context("cannot run kubectl")?;
        ensure!(output.status.success(), "kubectl has no current context");
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let context = shown(&["config", "current-context"]).await?;
    let server = shown(&[
        "config",
        "view",
        "--minify",
        "-o",
        "jsonpath={.clusters[0].cluster.server}",
    ])
    .await?;
    output.say(&format!(
        "This uses the kubectl context {context} ({server}). It applies tokenward's CRDs there and creates the
namespace {NAMESPACE}, which it deletes at the end; the operator runs on this machine."
    ));
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask: standard input is no terminal; nothing was touched");
    }
    let _ = write!(std::io::stdout(), "Continue? [y/N] ");
    let _ = std::io::stdout().flush();
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin()
            .lock()
            .read_line(&mut answer)
            .map(|_| answer)
    });
    Ok(matches!(answer.await??.trim(), "y" | "Y" | "yes"))
}
