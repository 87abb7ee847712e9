//! The command lines of the control plane's programs.

use std::path::Path;
use std::process::Command;

use crate::configuration::Files;
use crate::node::{self, Node};
use crate::processes::guarded;

/// A program of the control plane or the node, with nothing of the caller's environment: etcd takes variables
/// for flags, and all of them would use a proxy.
pub(crate) fn component(program: &Path) -> Command {
    let mut command = guarded(program);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

pub(crate) fn etcd(program: &Path, folder: &Path, port: u16) -> Command {
    let data = folder.join("etcd");
    let url = format!("http://127.0.0.1:{port}");
    let mut command = component(program);
    command
        .arg("--data-dir")
        .arg(data)
        // The data are thrown away anyway.
        .args(["--unsafe-no-fsync", "--log-level", "warn"])
        .args([
            "--listen-client-urls",
            &url,
            "--advertise-client-urls",
            &url,
        ])
        // A cluster of one: no peer will ever ask for this port, so the kernel may choose it.
        .args(["--listen-peer-urls", "http://127.0.0.1:0"]);
    command
}

pub(crate) fn apiserver(
    program: &Path,
    files: &Files,
    port: u16,
    etcd_port: u16,
    node: Option<&Node>,
) -> Command {
    let mut command = component(program);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
        // Should another run's etcd have taken the port, they at least do not share any objects.
        .arg(format!("--etcd-prefix=/{}", files.name))
        .arg(format!("--secure-port={port}"))
        // It makes its own serving certificate there.
        .arg("--cert-dir")
        .arg(&files.certificates)
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg("--service-account-signing-key-file")
        .arg(&files.signing_key)
        .arg("--service-account-key-file")
        .arg(&files.verifying_key)
        .arg("--token-auth-file")
        .arg(&files.tokens)
        .arg("--authorization-mode=RBAC,Node")
        .arg("--enable-admission-plugins=NodeRestriction")
        .arg("--service-cluster-ip-range=10.96.0.0/24")
        .arg("--allow-privileged=true")
        .arg("--profiling=false")
        .arg("--kubelet-preferred-address-types=InternalIP")
        // The honest count of the requests that an operator made: one line for each, written before
        // it is answered, and never rotated away (0 would mean after 100 MB).
        .arg("--audit-policy-file")
        .arg(&files.audit_policy)
        .arg("--audit-log-path")
        .arg(&files.audit_log)
        .args(["--audit-log-mode=blocking", "--audit-log-maxsize=100000"]);
    if let Some(node) = node {
        let identity = node.apiserver_identity();
        command
            .arg("--bind-address=0.0.0.0")
            .arg(format!("--advertise-address={}", node::ADDRESS))
            .arg("--kubelet-client-certificate")
            .arg(identity.certificate)
            .arg("--kubelet-client-key")
            .arg(identity.key);
    } else {
        command
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            // It would refuse to write a loopback address into the Endpoints of its own Service,
            // which nothing here uses.
            .arg("--endpoint-reconciler-type=none");
    }
    command
}

pub(crate) fn controller_manager(program: &Path, files: &Files) -> Command {
    let mut command = component(program);
    command
        .arg("--kubeconfig")
        .arg(&files.kubeconfig)
        .arg("--service-account-private-key-file")
        .arg(&files.signing_key)
        .arg("--root-ca-file")
        .arg(files.certificates.join("apiserver.crt"))
        .args(["--use-service-account-credentials", "--leader-elect=false"])
        // By default it makes the accounts and tokens of its forty controllers at 20 requests a
        // second, which doubles the time to a usable control plane.
        .args(["--kube-api-qps=500", "--kube-api-burst=1000"])
        // Nothing asks for its metrics: no port, no certificate.
        .arg("--secure-port=0")
        // It makes this folder, by default somewhere under /usr.
        .arg("--flex-volume-plugin-dir")
        .arg(files.kubeconfig.with_file_name("plugins"));
    command
}
