//! The command line: what it understands, and how it ends. Each command has a file.

mod cleanup;
mod connect;
mod controller;
mod crd;
mod exit;
mod get;
mod install;
mod lock;
mod logs;
mod mount;
mod providers;
mod refresh;
mod shown;
mod status;

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::connect::Connect;

/// Under this name kubectl finds the program for `kubectl tokenward`.
const PLUGIN: &str = "kubectl-tokenward";

/// Keeps the credentials of integrations alive on Kubernetes: OAuth tokens are refreshed before they
/// expire, into Secrets that pods mount.
#[derive(Parser)]
#[command(
    name = "tokenward",
    version,
    arg_required_else_help = true,
    after_help = exit::TABLE,
)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    connect: Connect,
}

#[derive(Subcommand)]
enum Command {
    /// Take the finalizers off, before tokenward is uninstalled or after it.
    ///
    /// Credentials with spec.revocationPolicy OnDelete carry one, and so do their grants and gates: without an operator
    /// that revokes them, their deletion waits. Nothing is revoked by this, and nothing deleted.
    #[command(after_help = cleanup::EXAMPLES)]
    Cleanup(cleanup::Arguments),
    /// Run the operator.
    #[command(after_help = controller::EXAMPLES)]
    Controller(controller::Arguments),
    /// Print the CustomResourceDefinitions.
    #[command(after_help = crd::EXAMPLES)]
    Crd(crd::Arguments),
    /// Print a credential's token, or what is copied for it.
    ///
    /// A token that is about to expire is replaced first. Nothing keeps it from being replaced right after: to
    /// use a token for a while, see the command lock.
    #[command(after_help = get::EXAMPLES)]
    Get(get::Arguments),
    /// Copy this program into a directory.
    ///
    /// For init containers: the image has no shell and no cp. The copy is DIRECTORY/tokenward, runs in any container,
    /// and replaces an older one at once. No cluster is needed.
    #[command(after_help = install::EXAMPLES)]
    Install(install::Arguments),
    /// Run a command with a credential's token, which is not replaced meanwhile.
    ///
    /// A refresh waits for the command. It is told so by the drain signal, and should end soon after it:
    /// the gate of the credential says how long it may take (30 s by default). Where the credential is lost
    /// all the same, the command is killed.
    #[command(after_help = lock::EXAMPLES)]
    Lock(lock::Arguments),
    /// Show a credential's Secret as files, and replace them within a moment when it changes.
    ///
    /// For a sidecar of the program that reads them: a restartable init container that shares a volume in memory with
    /// it. All files change at once, as in a volume of a Secret. It runs until it is told to end, and /readyz says when
    /// the files are there. See docs/mount.md.
    #[command(after_help = mount::EXAMPLES)]
    Mount(mount::Arguments),
    /// List and show the providers that are known.
    ///
    /// Each is a preset of provider objects: its endpoints and its conduct need not be described again. No
    /// cluster is needed.
    #[command(after_help = providers::EXAMPLES, arg_required_else_help = true)]
    Providers(providers::Arguments),
    /// Have credentials refreshed now, and wait for their new tokens.
    #[command(after_help = refresh::EXAMPLES)]
    Refresh(refresh::Arguments),
    /// Show how a credential is, who holds it, what happened, and what to do next.
    ///
    /// What you may not read is said, and the rest is shown. Without a name: a line for each credential.
    #[command(after_help = status::EXAMPLES)]
    Status(status::Arguments),
    /// What the command lock starts its command with.
    #[command(name = lock::INNER, hide = true)]
    Inner(lock::InnerArguments),
}

/// Runs the command of the arguments.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let matches = command(arguments.first().map(OsString::as_os_str))
        .try_get_matches_from(&arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match matches {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let connect = cli.connect.clone();
    let is_local = matches!(
        cli.command,
        Command::Providers(_) | Command::Crd(_) | Command::Install(_)
    );
    let result = match cli.command {
        Command::Cleanup(arguments) => run(cleanup::run(cli.connect, arguments)),
        Command::Controller(arguments) => run(controller::run(cli.connect, arguments)),
        Command::Crd(arguments) => crd::run(&arguments).map(|()| exit::SUCCESS),
        Command::Get(arguments) => run(get::run(cli.connect, arguments)),
        Command::Install(arguments) => install::run(&arguments).map(|()| exit::SUCCESS),
        // Before anything else takes the descriptor's number.
        Command::Lock(arguments) => lock::Delivery::prepare(&arguments)
            .and_then(|delivery| run(lock::run(cli.connect, arguments, delivery))),
        Command::Mount(arguments) => run(mount::run(cli.connect, arguments)),
        Command::Providers(arguments) => providers::run(&arguments).map(|()| exit::SUCCESS),
        Command::Refresh(arguments) => run(refresh::run(cli.connect, arguments)),
        Command::Status(arguments) => run(status::run(cli.connect, arguments)),
        Command::Inner(arguments) => Ok(lock::inner(&arguments)),
    };
    let is_refused = result.as_ref().is_err_and(exit::is_refused);
    let code = result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        exit::code(&error)
    });
    if (code == exit::NOT_FOUND || is_refused)
        && !is_local
        && let Ok(Some(why)) = run(async { Ok(connect.missing_definitions().await) })
    {
        complain(&why);
    }
    ExitCode::from(code)
}

/// The command line, under the name by which it was called.
fn command(called: Option<&OsStr>) -> clap::Command {
    let command = Cli::command();
    let called = called.map(Path::new).and_then(Path::file_name);
    if called != Some(OsStr::new(PLUGIN)) {
        return command;
    }
    as_plugin(command.bin_name("kubectl tokenward"))
}

/// The examples of a command and of those below it, as people call the plugin.
fn as_plugin(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|command| {
        let examples = command.get_after_help().map(ToString::to_string);
        let command = match examples {
            Some(text) => command.after_help(text.replace("  tokenward ", "  kubectl tokenward ")),
            None => command,
        };
        as_plugin(command)
    })
}

/// Runs a command that waits for others.
fn run<T>(command: impl Future<Output = Result<T>>) -> Result<T> {
    // One thread has time for more than any API server takes. More of them, one for each core of the node, hand the work
    // to and fro and keep a heap each: docs/performance.md.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start")?;
    let result = runtime.block_on(command);
    // A name that is being looked up, say, is not waited for.
    runtime.shutdown_background();
    result
}

/// Tells people, in one line.
fn complain(message: &str) {
    let message = message.replace('\n', " ");
    let _ = writeln!(std::io::stderr(), "tokenward: {message}");
}

/// A namespace of the arguments.
fn namespace(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a namespace is lower case letters, digits and '-', at most 63".to_owned())
    }
}

/// A credential of the arguments: its name, or as `kubectl get -o name` writes it.
fn credential(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        None => text,
        Some((
            "icred"
            | "integrationcredential"
            | "integrationcredentials"
            | "integrationcredential.tokenward.dev"
            | "integrationcredentials.tokenward.dev",
            name,
        )) => name,
        Some((kind, _)) => return Err(format!("{kind} is not the kind of a credential")),
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.len() <= 52 && name.bytes().all(fits) {
        Ok(name.to_owned())
    } else {
        Err("a credential's name is lower case letters, digits and '-', at most 52".to_owned())
    }
}

/// How long a command waits.
fn timeout(text: &str) -> Result<std::time::Duration, String> {
    let parsed: crate::api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    let range = std::time::Duration::from_secs(1)..=std::time::Duration::from_secs(7 * 86_400);
    if range.contains(&parsed.0) {
        Ok(parsed.0)
    } else {
        Err("it must be from 1s to 168h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(called: &str, subcommand: &str) -> String {
        let error = command(Some(OsStr::new(called)))
            .try_get_matches_from([called, subcommand, "--help"])
            .unwrap_err();
        error.to_string()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_the_program_as_it_was_called() {
        let plain = help("/usr/bin/tokenward", "get");
        assert!(plain.contains("Usage: tokenward get"), "{plain}");
        assert!(plain.contains("  tokenward get alice"), "{plain}");
        let plugin = help("/usr/bin/kubectl-tokenward", "get");
        assert!(plugin.contains("Usage: kubectl tokenward get"), "{plugin}");
        assert!(plugin.contains("  kubectl tokenward get alice"), "{plugin}");
        let arguments = ["kubectl-tokenward", "providers", "show", "--help"];
        let nested = command(Some(OsStr::new(arguments[0]))).try_get_matches_from(arguments);
        let nested = nested.unwrap_err().to_string();
        assert!(
            nested.contains("Usage: kubectl tokenward providers show"),
            "{nested}"
        );
        assert!(
            nested.contains("  kubectl tokenward providers show google"),
            "{nested}"
        );
    }

    #[test]
    fn a_credential_is_named_as_kubectl_names_it() {
        for text in [
            "alice",
            "icred/alice",
            "integrationcredential.tokenward.dev/alice",
        ] {
            assert_eq!(credential(text).unwrap(), "alice");
        }
        for text in ["", "icred/", "secret/alice", "../alice", "Alice"] {
            assert!(credential(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_namespace_is_one_before_and_after_the_command() {
        for arguments in [
            ["tokenward", "-n", "team-a", "get", "alice"],
            ["tokenward", "get", "alice", "-n", "team-a"],
        ] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            assert_eq!(cli.connect.namespaces, ["team-a"]);
        }
        assert!(Cli::try_parse_from(["tokenward", "-n", "Team A", "crd"]).is_err());
    }
}
