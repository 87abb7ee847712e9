//! The node: what is asked of its programs rather than of the API server.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the node is, and who reaches what listens there.
pub const ADDRESS: [u8; 4] = [10, 244, 0, 1];

/// The network of its pods.
pub const NETWORK: &str = "10.244.0.0/24";

/// An image with the commands of busybox.
pub const BUSYBOX: &str = "tokenward.test/busybox:1";

/// Whether this process runs beside a node.
pub fn is_here() -> bool {
    env::var_os("TOKENWARD_NODE_CONTAINERD").is_some()
}

fn folder() -> PathBuf {
    PathBuf::from(env::var_os("TOKENWARD_NODE_FOLDER").expect("the folder of the node"))
}

/// Gives an image to the node, from an archive of docker's or OCI's form.
pub fn import(archive: &Path) {
    let socket = env::var_os("TOKENWARD_NODE_CONTAINERD").expect("the socket of containerd");
    let output = Command::new("ctr")
        .arg("--address")
        .arg(socket)
        .args(["--namespace", "k8s.io", "images", "import"])
        .arg(archive)
        .output()
        .expect("ctr");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", archive.display());
}

/// Where a pod's volume is on the node.
pub fn volume(pod: &str, plugin: &str, name: &str) -> PathBuf {
    let pods = folder().join("node/kubelet/pods");
    pods.join(pod)
        .join("volumes")
        .join(format!("kubernetes.io~{plugin}"))
        .join(name)
}

/// Kills a program of the node. It is started again, as a machine's init would do.
pub fn kill(program: &str) {
    let file = folder().join(format!("{program}.pid"));
    let id = fs::read_to_string(&file).expect("the process id");
    let killed = Command::new("kill").args(["-KILL", id.trim()]).status();
    assert!(killed.expect("kill").success(), "{program}");
}

/// The resident memory of each process of this name, in bytes.
pub fn resident(name: &str) -> Vec<u64> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let of_name = processes.filter(|entry| {
        let comm = fs::read_to_string(entry.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    });
    let statuses = of_name.filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok());
    let resident = statuses.filter_map(|status| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    });
    resident.collect()
}
