//! `tokenward crd`.

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use kube::ResourceExt;

use crate::api;

pub(super) const EXAMPLES: &str = "Examples:
  tokenward crd | kubectl apply -f -
  tokenward crd --directory crds";

#[derive(Args)]
pub(super) struct Arguments {
    /// Write one file for each definition into this directory instead.
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    for definition in api::definitions() {
        let yaml =
            serde_saphyr::to_string(&definition).context("a definition does not serialize")?;
        match &arguments.directory {
            Some(directory) => {
                let path = directory.join(format!("{}.yaml", definition.name_any()));
                std::fs::write(&path, yaml)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{yaml}")
                .context("cannot write to standard output")?,
        }
    }
    Ok(())
}
