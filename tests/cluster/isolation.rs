//! What a node does to its machine, done where it ends with the node: in kernel namespaces of its own.
//!
//! Interfaces, rules of iptables and addresses belong to a network namespace, mounts to a mount namespace, and every
//! process, the shims of containers too, to a process namespace whose first process is this program again. Whatever
//! ends that one, the kernel ends and removes everything else. Only control groups outlive it; they are under one name,
//! which is removed here and, after a SIGKILL, by the next start.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::sleep;

use crate::folder::Folder;
use crate::processes::{Process, guarded};
use crate::stop::{Stop, StopReason};

/// Set for this program inside of the namespaces: the folder that it may use.
const INSIDE: &str = "TOKENWARD_NODE_FOLDER";

/// The exit status that tells a machine without a node from one whose node failed; by the custom of test programs.
pub(crate) const NO_NODE: u8 = 77;

/// Debian's packages, each with a file that tells whether it is there.
const PACKAGES: [(&str, &[&str]); 7] = [
    ("containerd", &["/usr/bin/containerd", "/usr/bin/ctr"]),
    ("runc", &["/usr/sbin/runc", "/usr/bin/runc"]),
    ("containernetworking-plugins", &["/usr/lib/cni/bridge"]),
    ("buildah", &["/usr/bin/buildah"]),
    ("busybox-static", &["/bin/busybox"]),
    ("iptables", &["/usr/sbin/iptables", "/sbin/iptables"]),
    ("iproute2", &["/sbin/ip", "/usr/sbin/ip", "/bin/ip"]),
];

/// Kernel settings of the whole machine that kubelet changes.
const SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// How long control groups may stay busy after the last process was killed.
const GONE_WITHIN: Duration = Duration::from_secs(20);

/// The folder of a node, when this program runs inside of the namespaces.
pub(crate) fn inside() -> Option<PathBuf> {
    env::var_os(INSIDE).map(PathBuf::from)
}

/// Debian's packages that a node needs and that are missing.
pub(crate) fn missing_packages() -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|(_, files)| !files.iter().any(|file| Path::new(file).exists()))
        .map(|(package, _)| *package)
        .collect()
}

/// Says what a node needs and is not there.
pub(crate) fn check() -> Result<()> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| {
        use std::os::unix::fs::MetadataExt as _;
        own.uid() == 0
    });
    ensure!(
        root,
        "a node needs root: it mounts, makes network interfaces and runs containers"
    );
    let missing = missing_packages();
    ensure!(
        missing.is_empty(),
        "a node needs programs that are not there; install them: apt-get install --no-install-recommends {}",
        missing.join(" ")
    );
    let isolated = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "mount",
        ])
        .args(["-t", "tmpfs", "tmpfs", "/run"])
        .output();
    ensure!(
        isolated.is_ok_and(|output| output.status.success()) && cgroups_can_be_made(),
        "a node needs to make kernel namespaces and control groups, which is not allowed here"
    );
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    ensure!(
        filesystems.lines().any(|line| line.ends_with("overlay")),
        "a node needs the file system overlay, which this kernel does not have"
    );
    Ok(())
}

/// By making one.
fn cgroups_can_be_made() -> bool {
    let groups = ControlGroups::of(&format!("tokenward-check-{}", std::process::id()));
    let made = |folder: &PathBuf| {
        fs::create_dir(folder)
            .and_then(|()| fs::remove_dir(folder))
            .is_ok()
    };
    groups.folders.iter().all(made)
}

/// Why a run inside of the namespaces ended.
pub(crate) enum End {
    Stopped(StopReason),
    Ended(ExitStatus),
}

/// Runs this program again, inside of namespaces, with this command, and removes what is left.
pub(crate) async fn run(command: &[OsString], stop: &mut Stop) -> Result<End> {
    let folder = Folder::create()?;
    let groups = ControlGroups::create(folder.name()?)?;
    let mut unshare = guarded(Path::new("unshare"));
    unshare
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .arg(env::current_exe().context("cannot tell where this program is")?)
        .arg("--node")
        .args(command)
        .env(INSIDE, folder.path());
    let mut process = Process::spawn("the node", unshare, None)?;
    let end = loop {
        tokio::select! {
            reason = stop.wait() => break End::Stopped(reason),
            () = sleep(Duration::from_millis(50)) => {}
        }
        if let Some(status) = process.ended()? {
            break End::Ended(status);
        }
    };
    drop(process);
    groups.remove().await?;
    Ok(end)
}

/// Prepares the namespaces: what is written to `/var` and `/run` goes with them, and so do kernel settings.
pub(crate) fn prepare(folder: &Path) -> Result<()> {
    // Containers' mounts are made to be seen by kubelet, so that they must be passed on; only in here.
    execute("mount", ["--make-rshared", "/"])?;
    let [upper, work] = ["var", "var.work"].map(|name| folder.join(name));
    for made in [&upper, &work] {
        fs::create_dir(made).with_context(|| format!("cannot make {}", made.display()))?;
    }
    let options = format!(
        "lowerdir=/var,upperdir={},workdir={}",
        upper.display(),
        work.display()
    );
    execute(
        "mount",
        ["-t", "overlay", "overlay", "-o", &options, "/var"],
    )?;
    execute("mount", ["-t", "tmpfs", "tmpfs", "/run"])?;
    let settings = folder.join("settings");
    fs::create_dir(&settings).context("cannot make a folder for settings")?;
    for setting in SETTINGS {
        let real = Path::new("/proc/sys").join(setting);
        let Ok(value) = fs::read(&real) else {
            continue;
        };
        let ours = settings.join(setting.replace('/', "."));
        fs::write(&ours, value).context("cannot copy a kernel setting")?;
        execute("mount", [Path::new("--bind"), &ours, &real])?;
    }
    execute("ip", ["link", "set", "lo", "up"])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot forward packets of pods")
}

/// Runs a command of the machine that must succeed.
pub(crate) fn execute<A: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    let arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|a| a.as_ref().to_owned())
        .collect();
    let output = Command::new(program)
        .args(&arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {} failed: {}",
            arguments.join(&OsString::from(" ")).to_string_lossy(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The control groups of the pods of one node, one for each hierarchy that the machine has.
struct ControlGroups {
    folders: Vec<PathBuf>,
}

impl ControlGroups {
    fn create(name: &str) -> Result<Self> {
        let groups = Self::of(name);
        for folder in &groups.folders {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the control group {}", folder.display()))?;
        }
        Ok(groups)
    }

    fn of(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let folders = if root.join("cgroup.controllers").exists() {
            vec![root.join(name)]
        } else {
            let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
            // The unified hierarchy of a hybrid machine has no controllers.
            hierarchies
                .filter(|entry| entry.file_name() != "unified")
                .map(|entry| entry.path().join(name))
                .collect()
        };
        Self { folders }
    }

    async fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + GONE_WITHIN;
        for folder in &self.folders {
            while let Err(error) = remove_group(folder) {
                if Instant::now() >= deadline {
                    let what = format!("cannot remove the control group {}", folder.display());
                    return Err(error).context(what);
                }
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

/// Removes the control groups that a killed run left. Whether none is left: busy ones belong to processes that are dying.
pub(crate) fn remove_groups(name: &str) -> bool {
    let folders = ControlGroups::of(name).folders.into_iter();
    let left = folders.filter(|folder| remove_group(folder).is_err());
    left.count() == 0
}

/// Removes a control group from its leaves up; its files are the kernel's and go with the folder.
fn remove_group(folder: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}
