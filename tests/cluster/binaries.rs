//! The programs of the control plane: found, or built from the pinned modules of `tools/go.mod`.
//!
//! No package registry has a prebuilt kube-apiserver, so it is compiled here: once for each set of
//! versions, into a cache folder outside the source tree.

use std::env;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::build::{build, lock};
use crate::say;

/// The pinned versions. Everything here that depends on a version reads it from this file.
pub(crate) const GO_MOD: &str = include_str!("tools/go.mod");
const GO_SUM: &str = include_str!("tools/go.sum");

/// Changed when the way of building changes while the versions stay, so that caches notice.
const RECIPE: &str = "1";

/// A program, where it comes from, and what to tell somebody who waits for it.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) module: &'static str,
    /// Measured once with an empty Go cache, on two cores, in this order: later ones profit from
    /// what the earlier ones compiled.
    pub(crate) takes: &'static str,
}

const ETCD: Tool = Tool {
    name: "etcd",
    package: "go.etcd.io/etcd/server/v3",
    module: "go.etcd.io/etcd/server/v3",
    takes: "1 min",
};
pub(crate) const KUBE_APISERVER: Tool = Tool {
    name: "kube-apiserver",
    package: "k8s.io/kubernetes/cmd/kube-apiserver",
    module: "k8s.io/kubernetes",
    takes: "5 min",
};
const KUBECTL: Tool = Tool {
    name: "kubectl",
    package: "k8s.io/kubernetes/cmd/kubectl",
    module: "k8s.io/kubernetes",
    takes: "40 s",
};
const KUBE_CONTROLLER_MANAGER: Tool = Tool {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    module: "k8s.io/kubernetes",
    takes: "90 s",
};
pub(crate) const HELM: Tool = Tool {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    module: "helm.sh/helm/v3",
    takes: "20 s",
};
const KUBELET: Tool = Tool {
    name: "kubelet",
    package: "k8s.io/kubernetes/cmd/kubelet",
    module: "k8s.io/kubernetes",
    takes: "30 s",
};
const KUBE_SCHEDULER: Tool = Tool {
    name: "kube-scheduler",
    package: "k8s.io/kubernetes/cmd/kube-scheduler",
    module: "k8s.io/kubernetes",
    takes: "10 s",
};
const KUBE_PROXY: Tool = Tool {
    name: "kube-proxy",
    package: "k8s.io/kubernetes/cmd/kube-proxy",
    module: "k8s.io/kubernetes",
    takes: "20 s",
};
const TOOLS: [&Tool; 8] = [
    &ETCD,
    &KUBE_APISERVER,
    &KUBECTL,
    &KUBE_CONTROLLER_MANAGER,
    &HELM,
    &KUBELET,
    &KUBE_SCHEDULER,
    &KUBE_PROXY,
];

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) etcd: PathBuf,
    pub(crate) kube_apiserver: PathBuf,
    pub(crate) kube_controller_manager: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) helm: PathBuf,
    pub(crate) kubelet: PathBuf,
    pub(crate) kube_scheduler: PathBuf,
    pub(crate) kube_proxy: PathBuf,
}

impl Binaries {
    /// Finds the programs, and builds what is missing.
    pub(crate) async fn ensure() -> Result<Self> {
        let assets = assets();
        let cache = cache_folder()?;
        let locate = |tool: &Tool| {
            let provided = assets.iter().map(|folder| folder.join(tool.name));
            provided
                .chain([cache.join(tool.name)])
                .find(|path| path.is_file())
        };
        if TOOLS.iter().any(|tool| locate(tool).is_none()) {
            fs::create_dir_all(&cache)
                .with_context(|| format!("cannot create {}", cache.display()))?;
            let _lock = lock(&cache).await?;
            // Asked again under the lock: another run may have built them meanwhile.
            let missing: Vec<&Tool> = TOOLS
                .into_iter()
                .filter(|tool| locate(tool).is_none())
                .collect();
            build(&missing, &cache).await?;
        }
        let path = |tool: &Tool| {
            locate(tool).with_context(|| format!("{} was built and is gone again", tool.name))
        };
        Ok(Self {
            etcd: path(&ETCD)?,
            kube_apiserver: path(&KUBE_APISERVER)?,
            kube_controller_manager: path(&KUBE_CONTROLLER_MANAGER)?,
            kubectl: path(&KUBECTL)?,
            helm: path(&HELM)?,
            kubelet: path(&KUBELET)?,
            kube_scheduler: path(&KUBE_SCHEDULER)?,
            kube_proxy: path(&KUBE_PROXY)?,
        })
    }
}

/// The folder that `KUBEBUILDER_ASSETS` names, when it can serve: other projects use the variable
/// too, so a folder that does not fit is no reason to stop.
fn assets() -> Option<PathBuf> {
    let folder = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS").filter(|v| !v.is_empty())?);
    // Commands run in other folders than this program.
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    if [&ETCD, &KUBE_APISERVER]
        .iter()
        .all(|tool| folder.join(tool.name).is_file())
    {
        return Some(folder);
    }
    say!(
        "KUBEBUILDER_ASSETS ({}) holds no etcd and kube-apiserver; using programs of our own",
        folder.display()
    );
    None
}

/// `CACHE/kubernetes-V-etcd-V-helm-V-HASH`, so that programs of several versions, for several
/// branches of work, live side by side.
fn cache_folder() -> Result<PathBuf> {
    let variable = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let root = variable("TOKENWARD_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("tokenward")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/tokenward")))
        .context("set TOKENWARD_CACHE (or HOME): the control plane's programs need a folder")?;
    let root =
        std::path::absolute(&root).context("cannot make the cache folder's path absolute")?;
    // FNV-1a: a key that must not change with the standard library, and guards nothing.
    let hash = [GO_MOD, GO_SUM, RECIPE]
        .iter()
        .flat_map(|text| text.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    Ok(root.join(format!(
        "kubernetes-{}-etcd-{}-helm-{}-{:08x}",
        version(KUBE_APISERVER.module)?,
        version(ETCD.module)?,
        version(HELM.module)?,
        hash >> 32
    )))
}

/// The version of a module in `go.mod`.
pub(crate) fn version(module: &str) -> Result<&'static str> {
    GO_MOD
        .lines()
        .map(|line| line.trim_start().trim_start_matches("require "))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(' '))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("tools/go.mod does not require {module}"))
}
