//! A node: containerd, kubelet, kube-scheduler and kube-proxy, inside of the namespaces of `isolation.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};

use crate::binaries::Binaries;
use crate::components::component;
use crate::configuration::write_private;
use crate::isolation::execute;

/// The node's name.
pub(crate) const NAME: &str = "node";

/// The node's own address on the bridge of its pods, where the API server is too.
pub(crate) const ADDRESS: &str = "10.244.0.1";

const PODS: &str = "10.244.0.0/24";
const BRIDGE: &str = "cni0";

/// The image that every pod's sandbox runs, made of Debian's static busybox: no registry is within reach.
const SANDBOX: &str = "tokenward.test/busybox:1";

/// Where the files of a node are.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

/// What kube-apiserver shows to kubelet for `kubectl logs` and `exec`.
pub(crate) struct ApiServerIdentity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Node {
    /// Makes the bridge, and writes every file.
    pub(crate) fn prepare(folder: &Path, kubeconfig: &Path) -> Result<Self> {
        execute("ip", ["link", "add", BRIDGE, "type", "bridge"])?;
        execute(
            "ip",
            ["addr", "add", &format!("{ADDRESS}/24"), "dev", BRIDGE],
        )?;
        execute("ip", ["link", "set", BRIDGE, "up"])?;
        let node = Self {
            folder: folder.join("node"),
            kubeconfig: kubeconfig.to_owned(),
        };
        for name in ["cni", "kubelet", "plugins", "image/bin"] {
            fs::create_dir_all(node.file(name)).with_context(|| format!("cannot make {name}"))?;
        }
        node.write_certificates()?;
        write_private(
            &node.file("containerd.toml"),
            &node.containerd_configuration(),
        )?;
        write_private(&node.file("cni/10-pods.conflist"), &node.network())?;
        let group = folder.file_name().context("a folder without a name")?;
        write_private(
            &node.file("kubelet.yaml"),
            &node.kubelet_configuration(&group.to_string_lossy()),
        )?;
        Ok(node)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Where containerd listens.
    pub(crate) fn containerd_socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    pub(crate) fn apiserver_identity(&self) -> ApiServerIdentity {
        ApiServerIdentity {
            certificate: self.file("apiserver-to-kubelet.crt"),
            key: self.file("apiserver-to-kubelet.key"),
        }
    }

    /// A certificate that kubelet takes for the administrator, and the authority behind it.
    fn write_certificates(&self) -> Result<()> {
        let mut authority = CertificateParams::new([])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate()?;
        let authority_certificate = authority.self_signed(&authority_key)?;
        let mut client = CertificateParams::new([])?;
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "system:masters");
        name.push(DnType::CommonName, "kube-apiserver");
        client.distinguished_name = name;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = client.signed_by(&key, &Issuer::new(authority, authority_key))?;
        write_private(
            &self.file("kubelet-clients.crt"),
            &authority_certificate.pem(),
        )?;
        let identity = self.apiserver_identity();
        write_private(&identity.certificate, &certificate.pem())?;
        write_private(&identity.key, &key.serialize_pem())
    }

    fn containerd_configuration(&self) -> String {
        let [root, state, opt, cni] =
            ["root", "state", "opt", "cni"].map(|name| self.file(name).display().to_string());
        format!(
            "\
version = 2
root = {root:?}
state = {state:?}
[grpc]
  address = {socket:?}
[plugins.\"io.containerd.internal.v1.opt\"]
  path = {opt:?}
[plugins.\"io.containerd.grpc.v1.cri\"]
  sandbox_image = {SANDBOX:?}
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins.\"io.containerd.grpc.v1.cri\".cni]
  bin_dir = \"/usr/lib/cni\"
  conf_dir = {cni:?}
[plugins.\"io.containerd.grpc.v1.cri\".containerd]
  snapshotter = \"overlayfs\"
[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]
  runtime_type = \"io.containerd.runc.v2\"
",
            socket = self.containerd_socket().display().to_string(),
        )
    }

    fn network(&self) -> String {
        let data = self.file("addresses");
        format!(
            r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {{"type": "bridge", "bridge": "{BRIDGE}", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": {{"type": "host-local", "dataDir": "{}", "ranges": [[{{"subnet": "{PODS}", "gateway": "{ADDRESS}"}}]],
             "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#,
            data.display()
        )
    }

    fn kubelet_configuration(&self, group: &str) -> String {
        format!(
            "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {clients}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{group}
containerRuntimeEndpoint: unix://{socket}
failSwapOn: false
oomScoreAdj: 0
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
evictionHard: {{memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}}
imageGCHighThresholdPercent: 100
healthzPort: 0
resolvConf: \"\"
volumePluginDir: {plugins}
# How often a mounted Secret is looked at, which takes up to a minute by default.
syncFrequency: {sync}
",
            clients = self.file("kubelet-clients.crt").display(),
            socket = self.containerd_socket().display(),
            plugins = self.file("plugins").display(),
            sync = std::env::var("TOKENWARD_NODE_SYNC").unwrap_or_else(|_| "2s".into()),
        )
    }

    pub(crate) fn containerd(&self) -> Command {
        let mut command = component(Path::new("containerd"));
        command.arg("--config").arg(self.file("containerd.toml"));
        command
    }

    pub(crate) fn kubelet(&self, binaries: &Binaries) -> Command {
        let mut command = component(&binaries.kubelet);
        command
            .arg("--config")
            .arg(self.file("kubelet.yaml"))
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--root-dir")
            .arg(self.file("kubelet"))
            .arg("--cert-dir")
            .arg(self.file("kubelet-certificates"))
            .args(["--hostname-override", NAME, "--node-ip", ADDRESS]);
        command
    }

    /// The command of a program that is started again when it has ended, as kubelet and containerd are on any machine.
    pub(crate) fn restarted(&self, name: &str, binaries: &Binaries) -> Option<Command> {
        match name {
            "containerd" => Some(self.containerd()),
            "kubelet" => Some(self.kubelet(binaries)),
            _ => None,
        }
    }

    pub(crate) fn scheduler(&self, binaries: &Binaries) -> Command {
        let mut command = component(&binaries.kube_scheduler);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--leader-elect=false", "--secure-port=0"]);
        command
    }

    pub(crate) fn proxy(&self, binaries: &Binaries) -> Command {
        let mut command = component(&binaries.kube_proxy);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--hostname-override", NAME, "--proxy-mode", "iptables"])
            .args(["--cluster-cidr", PODS, "--conntrack-max-per-core", "0"])
            // In a network namespace these are not its to set.
            .args(["--conntrack-tcp-timeout-established", "0"])
            .args(["--conntrack-tcp-timeout-close-wait", "0"])
            .args(["--healthz-bind-address", "127.0.0.1:10256"])
            .args(["--metrics-bind-address", "127.0.0.1:10249"]);
        command
    }

    /// Builds the image of the sandboxes, which tests use for their consumers as well, and gives it to containerd.
    pub(crate) fn import_busybox(&self) -> Result<()> {
        let image = self.file("image");
        let busybox = "/bin/busybox";
        fs::copy(busybox, image.join("bin/busybox")).context("cannot copy busybox")?;
        let applets = Command::new(busybox)
            .arg("--list")
            .output()
            .context("cannot ask busybox for its applets")?;
        for applet in String::from_utf8_lossy(&applets.stdout).lines() {
            if applet != "busybox" {
                std::os::unix::fs::symlink("busybox", image.join("bin").join(applet))
                    .with_context(|| format!("cannot link {applet}"))?;
            }
        }
        fs::write(
            image.join("Dockerfile"),
            "FROM scratch\nCOPY bin /bin\nENTRYPOINT [\"/bin/sleep\", \"2147483647\"]\n",
        )
        .context("cannot write a Dockerfile")?;
        let archive = self.file("busybox.tar");
        let storage = [self.file("buildah"), self.file("buildah.run")];
        let [root, run] = storage.map(|path| path.display().to_string());
        let buildah = [
            "--root",
            &root,
            "--runroot",
            &run,
            "--storage-driver",
            "vfs",
        ];
        let context = image.display().to_string();
        let build = [
            "bud",
            "--quiet",
            "--isolation",
            "chroot",
            "--tag",
            SANDBOX,
            &context,
        ];
        execute("buildah", buildah.iter().chain(&build))?;
        let target = format!("docker-archive:{}:{SANDBOX}", archive.display());
        execute(
            "buildah",
            buildah.iter().chain(&["push", "--quiet", SANDBOX, &target]),
        )?;
        let socket = self.containerd_socket().display().to_string();
        let archive = archive.display().to_string();
        execute(
            "ctr",
            [
                "--address",
                &socket,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                &archive,
            ],
        )
    }
}
