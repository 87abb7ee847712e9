//! `tokenward providers`: the catalogue, for people. No cluster is needed.

mod closest;
mod comments;
mod conduct;
mod list;
mod manifest;
mod show;
pub(in crate::cli) mod table;

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::exit::Missing;
use crate::oauth::catalog::{self, Entry};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward providers list                      the presets
  tokenward providers show microsoft-entra      what is known of one, and how to use it";

#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the providers that are known: each is a preset of a provider object.
    ///
    /// PARAMETERS are the variables of a preset: "tenant=…" must be given in spec.variables, and
    /// "host=github.com" has that value where none is given.
    #[command(after_help = list::EXAMPLES)]
    List(list::Arguments),
    /// Show what is known of a provider, and the object that makes use of it.
    #[command(after_help = show::EXAMPLES)]
    Show(show::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let text = match &arguments.action {
        Action::List(arguments) => list::run(arguments)?,
        Action::Show(arguments) => show::run(arguments)?,
    };
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to standard output"),
    }
}

/// The entry of this name, and its file.
fn find(name: &str) -> Result<(&'static Entry, &'static str)> {
    let found = catalog::entries().get(name).zip(catalog::source(name));
    let missing = || {
        let similar = closest::sentence(name, catalog::entries().keys().copied());
        Missing(format!(
            "there is no provider {name} in the catalogue{similar}; see: tokenward providers list"
        ))
    };
    Ok(found.ok_or_else(missing)?)
}

/// An entry as its file has it, with its name.
fn object(name: &str) -> Value {
    let source = catalog::source(name).unwrap_or_default();
    // What is embedded can be read: a test reads every file.
    let mut object: Value = serde_saphyr::from_str(source).unwrap_or_else(|_| json!({}));
    object["name"] = json!(name);
    object
}
