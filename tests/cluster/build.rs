//! Builds the programs of the control plane with Go.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::binaries::{GO_MOD, HELM, KUBE_APISERVER, Tool, version};
use crate::processes::{Process, guarded};
use crate::say;

/// Waits until no other run builds into `folder`. The kernel takes the lock back when its holder
/// dies, in whatever way.
pub(crate) async fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if told => {}
            Err(TryLockError::WouldBlock) => {
                say!("another run is building the control plane; waiting for it");
                told = true;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Builds one after the other: each uses all cores by itself, and two linkers at once need more
/// memory than small machines have.
pub(crate) async fn build(tools: &[&Tool], folder: &Path) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    check_go()?;
    say!(
        "programs of the test control plane are missing; they are built once and kept in {}",
        folder.display()
    );
    let workshop = workshop(folder)?;
    for (index, tool) in tools.iter().enumerate() {
        say!(
            "building {} {} ({}/{}), about {} the first time ...",
            tool.name,
            version(tool.module)?,
            index + 1,
            tools.len(),
            tool.takes
        );
        let start = Instant::now();
        build_one(tool, folder, workshop.path(), start).await?;
        say!("built {} in {}", tool.name, spent(start));
    }
    Ok(())
}

/// Where Go keeps what it is working on. When it is killed it leaves that, hundreds of megabytes, so
/// it must be where the next build finds it. Under the lock, nobody else is using it.
fn workshop(folder: &Path) -> Result<TempDir> {
    const NAME: &str = "building";
    let _ = fs::remove_dir_all(folder.join(NAME));
    tempfile::Builder::new()
        .prefix(NAME)
        .rand_bytes(0)
        .tempdir_in(folder)
        .with_context(|| format!("cannot make a folder in {}", folder.display()))
}

async fn build_one(tool: &Tool, folder: &Path, workshop: &Path, start: Instant) -> Result<()> {
    // The rename below makes a program appear whole or not at all.
    let unfinished = workshop.join(tool.name);
    let log = folder.join(format!("{}.build.log", tool.name));
    let mut command = guarded(Path::new("go"));
    command
        .current_dir(tools_folder())
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath"])
        .arg("-ldflags")
        .arg(link_flags()?)
        .arg("-o")
        .arg(&unfinished)
        .arg(tool.package)
        .env("CGO_ENABLED", "0")
        .env("GOTMPDIR", workshop)
        .env("GOWORK", "off")
        .env_remove("GOOS")
        .env_remove("GOARCH");
    let mut process = Process::spawn(tool.name, command, Some(&log))?;
    let mut next_sign_of_life = Duration::from_secs(30);
    let status = loop {
        if let Some(status) = process.ended()? {
            break status;
        }
        if start.elapsed() >= next_sign_of_life {
            say!("  still building {}, {}", tool.name, spent(start));
            next_sign_of_life += Duration::from_secs(30);
        }
        sleep(Duration::from_millis(100)).await;
    };
    if !status.success() {
        bail!(
            "building {} failed ({status}); the end of {}:\n{}",
            tool.name,
            log.display(),
            process.log_tail()
        );
    }
    fs::rename(&unfinished, folder.join(tool.name))
        .with_context(|| format!("cannot move {} to its place", unfinished.display()))?;
    // Only the log of a failed build is worth a look.
    let _ = fs::remove_file(&log);
    Ok(())
}

/// Without these stamps the server says that it is v0.0.0, clients warn, and Helm renders charts
/// for Kubernetes 1.20. A stamp for a package that a program does not contain has no effect.
fn link_flags() -> Result<String> {
    let kubernetes = version(KUBE_APISERVER.module)?;
    let helm = version(HELM.module)?;
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("tools/go.mod has an odd version of Kubernetes: {kubernetes}");
    };
    let stamps = [
        ("k8s.io/component-base/version.gitVersion", kubernetes),
        ("k8s.io/component-base/version.gitMajor", major),
        ("k8s.io/component-base/version.gitMinor", minor),
        ("k8s.io/client-go/pkg/version.gitVersion", kubernetes),
        ("helm.sh/helm/v3/internal/version.version", helm),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor", major),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", minor),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor", major),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", minor),
    ];
    let mut flags = "-s -w".to_owned();
    for (variable, value) in stamps {
        flags.extend([" -X ", variable, "=", value]);
    }
    Ok(flags)
}

/// The tool module's folder in the source tree.
fn tools_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/tools")
}

/// Says what to install before anything is tried.
fn check_go() -> Result<()> {
    let works = Command::new("go")
        .arg("version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if works {
        return Ok(());
    }
    let needed = GO_MOD
        .lines()
        .find_map(|line| line.strip_prefix("go "))
        .unwrap_or("of a recent version");
    bail!(
        "the tests need a Kubernetes control plane and build it with Go, which is not on the PATH.\n\
         Install Go {needed} or newer (https://go.dev/doc/install). Or set KUBEBUILDER_ASSETS to a\n\
         folder that holds etcd, kube-apiserver, kube-controller-manager, kubectl and helm."
    )
}

/// "4 min 24 s"
fn spent(start: Instant) -> String {
    let seconds = start.elapsed().as_secs();
    match seconds / 60 {
        0 => format!("{seconds} s"),
        minutes => format!("{minutes} min {} s", seconds % 60),
    }
}
