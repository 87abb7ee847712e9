//! One control plane on loopback: etcd, kube-apiserver and kube-controller-manager, without nodes or with one.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::binaries::Binaries;
use crate::components::{apiserver, controller_manager, etcd};
use crate::configuration::Files;
use crate::folder::Folder;
use crate::isolation;
use crate::node::{self, Node};
use crate::processes::{Process, guarded};

/// From a start on an idle two-core machine it takes four seconds; a busy one may need far longer.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A free port is found by binding it, and has to be released before the server can have it: now
/// and then somebody else is quicker.
const ATTEMPTS: u32 = 3;

/// A running control plane. Dropped, it is gone: processes first, in this order, then the folder.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    processes: Vec<Process>,
    binaries: Binaries,
    files: Files,
    node: Option<Node>,
    folder: Folder,
}

impl ControlPlane {
    /// Starts everything, and returns when clients can use it: with CRDs established, and with
    /// controllers at work.
    /// With a node, in a folder of another supervisor, inside of whose namespaces this runs.
    pub(crate) async fn start(binaries: &Binaries, with_node: Option<PathBuf>) -> Result<Self> {
        let mut attempt = 1;
        loop {
            let mut control_plane = Self {
                processes: Vec::new(),
                binaries: binaries.clone(),
                folder: match &with_node {
                    Some(folder) => Folder::of_another(folder.clone()),
                    None => Folder::create()?,
                },
                files: Files::default(),
                node: None,
            };
            match control_plane.bring_up(with_node.is_some()).await {
                Ok(()) => return Ok(control_plane),
                Err(_)
                    if attempt < ATTEMPTS && with_node.is_none() && control_plane.lost_a_port() =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn bring_up(&mut self, with_node: bool) -> Result<()> {
        let [etcd_port, port] = free_ports()?;
        self.files = Files::write(self.folder.path())?;
        let mut address = "127.0.0.1";
        if with_node {
            isolation::prepare(self.folder.path())?;
            self.node = Some(Node::prepare(self.folder.path(), &self.files.kubeconfig)?);
            // Where its pods reach it, and for what its certificate is.
            address = node::ADDRESS;
        }
        let deadline = Instant::now() + READY_WITHIN;

        self.spawn(
            "etcd",
            etcd(&self.binaries.etcd, self.folder.path(), etcd_port),
        )?;
        let data = self.folder.path().join("etcd/member");
        self.wait_for_port(etcd_port, &data, deadline).await?;

        let apiserver = apiserver(
            &self.binaries.kube_apiserver,
            &self.files,
            port,
            etcd_port,
            self.node.as_ref(),
        );
        self.spawn("kube-apiserver", apiserver)?;
        let certificate = self.files.certificates.join("apiserver.crt");
        self.wait_for_port(port, &certificate, deadline).await?;
        self.files.write_kubeconfig(address, port)?;
        self.wait_for(&["get", "--raw", "/readyz"], deadline)
            .await?;

        // First: its garbage collector looks for new kinds only twice a minute.
        self.apply_crds().await?;
        let manager = controller_manager(&self.binaries.kube_controller_manager, &self.files);
        self.spawn("kube-controller-manager", manager)?;
        // The sign that the controllers are at work: without this account no pod could be made.
        self.wait_for(
            &["get", "serviceaccount", "default", "-n", "default"],
            deadline,
        )
        .await?;
        self.bring_up_node().await
    }

    async fn bring_up_node(&mut self) -> Result<()> {
        let Some(node) = self.node.clone() else {
            return Ok(());
        };
        let deadline = Instant::now() + READY_WITHIN;
        self.spawn("containerd", node.containerd())?;
        let socket = node.containerd_socket();
        while UnixStream::connect(&socket).await.is_err() {
            self.check()?;
            if Instant::now() >= deadline {
                return Err(self.too_late("containerd", ""));
            }
            sleep(Duration::from_millis(20)).await;
        }
        node.import_busybox()?;
        self.spawn("kube-scheduler", node.scheduler(&self.binaries))?;
        self.spawn("kube-proxy", node.proxy(&self.binaries))?;
        self.spawn("kubelet", node.kubelet(&self.binaries))?;
        self.wait_for(
            &[
                "wait",
                "--for=condition=Ready",
                "--timeout=5s",
                &format!("node/{}", node::NAME),
            ],
            deadline,
        )
        .await
    }

    fn spawn(&mut self, name: &'static str, command: Command) -> Result<()> {
        let folder = self.folder.path();
        let process = Process::spawn(name, command, Some(&folder.join(format!("{name}.log"))))?;
        fs::write(folder.join(format!("{name}.pid")), process.id().to_string())
            .with_context(|| format!("cannot record the process id of {name}"))?;
        // The last one started is the first one stopped.
        self.processes.insert(0, process);
        Ok(())
    }

    /// The folder with the logs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a client needs to know, as environment variables.
    pub(crate) fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let node = self.node.iter().flat_map(|node| {
            [
                ("TOKENWARD_NODE_FOLDER", self.folder.path().to_owned()),
                ("TOKENWARD_NODE_CONTAINERD", node.containerd_socket()),
            ]
        });
        [
            ("TOKENWARD_TEST_CLUSTER", PathBuf::from("rig")),
            ("KUBECONFIG", self.files.kubeconfig.clone()),
            ("KUBECACHEDIR", self.kubectl_cache()),
            ("TOKENWARD_AUDIT_LOG", self.files.audit_log.clone()),
            ("TOKENWARD_KUBECTL", self.binaries.kubectl.clone()),
            ("TOKENWARD_HELM", self.binaries.helm.clone()),
        ]
        .into_iter()
        .chain(node)
        .collect()
    }

    /// Runs until a component ends, which none does by itself when all is well.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// An error when a program has ended. Those of a node are started again, as a machine's init would do.
    fn check(&mut self) -> Result<()> {
        let mut again = Vec::new();
        for process in &mut self.processes {
            let Some(status) = process.ended()? else {
                continue;
            };
            let node = self.node.as_ref();
            let Some(command) = node.and_then(|n| n.restarted(process.name(), &self.binaries))
            else {
                bail!(
                    "{} ended unexpectedly ({status}); the end of its log:\n{}",
                    process.name(),
                    process.log_tail()
                );
            };
            again.push((process.name(), command));
        }
        for (name, command) in again {
            self.processes.retain(|process| process.name() != name);
            self.spawn(name, command)?;
        }
        Ok(())
    }

    fn lost_a_port(&self) -> bool {
        self.processes
            .iter()
            .any(|process| process.log_tail().contains("address already in use"))
    }

    /// The message for a deadline that has passed, quoting the component that was waited for.
    fn too_late(&self, waited_for: &str, last: &str) -> anyhow::Error {
        let (name, log) = self
            .processes
            .first()
            .map_or(("nothing", String::new()), |process| {
                (process.name(), process.log_tail())
            });
        let limit = READY_WITHIN.as_secs();
        anyhow::anyhow!(
            "the control plane was not ready after {limit} s: waited for {waited_for}\n{last}\
             the end of {name}'s log:\n{log}"
        )
    }

    /// Waits until a component listens and has written `file`: without that, it may be somebody
    /// else who answers.
    async fn wait_for_port(&mut self, port: u16, file: &Path, deadline: Instant) -> Result<()> {
        let address = (Ipv4Addr::LOCALHOST, port);
        while !file.exists() || TcpStream::connect(address).await.is_err() {
            self.check()?;
            if Instant::now() >= deadline {
                return Err(self.too_late(&format!("port {port}"), ""));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn wait_for(&mut self, arguments: &[&str], deadline: Instant) -> Result<()> {
        loop {
            let output = self.kubectl(arguments).await?;
            if output.status.success() {
                return Ok(());
            }
            self.check()?;
            if Instant::now() >= deadline {
                let last = String::from_utf8_lossy(&output.stderr);
                return Err(self.too_late(&format!("kubectl {}", arguments.join(" ")), &last));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Applies `crds/*.yaml`, when the project has any.
    async fn apply_crds(&self) -> Result<()> {
        let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("crds")) else {
            return Ok(());
        };
        let mut files: Vec<String> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "yaml")
            })
            .map(|path| format!("--filename={}", path.display()))
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        files.sort();
        for first in [
            ["apply", "--server-side"],
            ["wait", "--for=condition=Established"],
        ] {
            let arguments: Vec<&str> = first
                .into_iter()
                .chain(files.iter().map(String::as_str))
                .collect();
            let output = self.kubectl(&arguments).await?;
            if !output.status.success() {
                bail!(
                    "kubectl {} failed:\n{}",
                    arguments.join(" "),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
        Ok(())
    }

    /// kubectl keeps what it discovers under the server's address, which other control planes have
    /// had before and will have again. So it goes with this one.
    fn kubectl_cache(&self) -> PathBuf {
        self.folder.path().join("kubectl-cache")
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = guarded(&self.binaries.kubectl);
        command
            .env("KUBECONFIG", &self.files.kubeconfig)
            .env("KUBECACHEDIR", self.kubectl_cache())
            .arg("--request-timeout=10s")
            .args(arguments);
        tokio::process::Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run kubectl")
    }
}

/// Two ports that nobody listens on. Both are held until both are known, else they may be one.
fn free_ports() -> Result<[u16; 2]> {
    let bind = || -> Result<TcpListener> {
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("no free port")
    };
    let listeners = [bind()?, bind()?];
    let [first, second] = &listeners;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}
