//! Starts a Kubernetes control plane for tests, and stops it again whatever happens.
//!
//! The only thing in this project that starts control planes: `make cluster`, the demo and the
//! integration tests all run this program. It owns the processes that it starts. They end when it
//! ends: after Ctrl-C, an error or a panic because it kills them, and after SIGKILL because they
//! asked the kernel for a parent-death signal. `README.md` has the variables.

mod binaries;
mod build;
mod components;
mod configuration;
mod control_plane;
mod folder;
mod isolation;
mod node;
mod processes;
mod stop;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;

use crate::binaries::Binaries;
use crate::control_plane::ControlPlane;
use crate::processes::{Process, guarded, has_parent_death_signal};
use crate::stop::{Stop, StopReason};

/// Prints a line to stderr. `eprintln!` panics when nobody reads it any more, and the death of the
/// reader is one of the things that this program has to survive in good order.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($argument)*);
    }};
}
pub(crate) use say;

/// Runs a Kubernetes control plane on free loopback ports until it is told to stop.
///
/// Once it is ready, it prints to stdout what a shell needs to use it.
#[derive(Debug, Parser)]
#[command(name = "cluster")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Arguments {
    /// Stop at the end of stdin: a parent that holds the other end of a pipe stops the control
    /// plane by dying.
    #[arg(long, conflicts_with = "command")]
    until_stdin_closes: bool,

    /// Only find or build the programs, and print where kubectl and helm are.
    #[arg(long, conflicts_with_all = ["until_stdin_closes", "command"])]
    build_only: bool,

    /// With a node, on which pods run; only for a command, as it sees a network of its own. Needs root and
    /// Debian's packages, which are named when they are missing.
    #[arg(long, requires = "command", conflicts_with_all = ["until_stdin_closes", "build_only"])]
    node: bool,

    /// Only print Debian's packages that a node needs and that are missing here.
    #[arg(long, conflicts_with_all = ["until_stdin_closes", "build_only", "command"])]
    missing_packages: bool,

    /// Run this command with the variables set, stop when it ends, and exit with its status.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread, the main one: see `processes::guarded`.
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
        .and_then(|runtime| runtime.block_on(run(&arguments)));
    result.unwrap_or_else(|error| {
        say!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.missing_packages {
        print(&isolation::missing_packages().join(" "))?;
        return Ok(ExitCode::SUCCESS);
    }
    // First of all, so that no signal finds a child that nobody will stop.
    let mut stop = Stop::listen(arguments.until_stdin_closes)?;
    let start = Instant::now();
    // A start that is cut short drops what it has started so far.
    let binaries = tokio::select! {
        reason = stop.wait() => return Ok(interrupted(reason)),
        binaries = Binaries::ensure() => binaries?,
    };
    if arguments.build_only {
        print(&shell([
            ("TOKENWARD_KUBECTL", binaries.kubectl),
            ("TOKENWARD_HELM", binaries.helm),
        ]))?;
        return Ok(ExitCode::SUCCESS);
    }
    let inside = isolation::inside();
    if arguments.node && inside.is_none() {
        if let Err(missing) = isolation::check() {
            say!("no node here: {missing:#}");
            return Ok(ExitCode::from(isolation::NO_NODE));
        }
        return Ok(match isolation::run(&arguments.command, &mut stop).await? {
            isolation::End::Stopped(reason) => interrupted(reason),
            isolation::End::Ended(status) => exit_code(status),
        });
    }
    let mut control_plane = tokio::select! {
        reason = stop.wait() => return Ok(interrupted(reason)),
        control_plane = ControlPlane::start(&binaries, inside.filter(|_| arguments.node)) => control_plane?,
    };
    if arguments.command.is_empty() {
        announce(
            &control_plane,
            start.elapsed(),
            !arguments.until_stdin_closes,
        )?;
        tokio::select! {
            _ = stop.wait() => Ok(ExitCode::SUCCESS),
            error = control_plane.failure() => Err(error),
        }
    } else {
        let mut command = spawn(&arguments.command, &control_plane)?;
        tokio::select! {
            reason = stop.wait() => Ok(interrupted(reason)),
            error = control_plane.failure() => Err(error),
            status = end(&mut command) => Ok(exit_code(status?)),
        }
    }
}

/// Tells whoever started this program how to use the control plane.
fn announce(control_plane: &ControlPlane, after: Duration, to_people: bool) -> Result<()> {
    let variables = shell(control_plane.variables());
    let file = control_plane.folder().join("env");
    configuration::write_private(&file, &variables)?;
    if to_people && io::stderr().is_terminal() {
        say!(
            "\nThe control plane is ready after {:.1} s. To use it from another terminal:\n\n    \
             . {}\n    \"$TOKENWARD_KUBECTL\" get namespaces\n\n\
             Tests that run there use it too. Logs are in {}.\n\
             Ctrl-C stops it and removes everything.\n",
            after.as_secs_f64(),
            quote(&file),
            control_plane.folder().display()
        );
        if !has_parent_death_signal() {
            say!(
                "Without setpriv of util-linux, a `kill -9` of this program leaves the control \
                 plane running until the next start.\n"
            );
        }
    }
    // The comment ends the list: a reader cannot wait for the end of an output that stays open.
    print(&format!("{variables}# ready\n"))
}

fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot print where the control plane is")
}

/// Lines that a shell can evaluate.
fn shell(variables: impl IntoIterator<Item = (&'static str, PathBuf)>) -> String {
    let mut lines = String::new();
    for (name, value) in variables {
        lines.extend(["export ", name, "=", &quote(&value), "\n"]);
    }
    lines
}

fn quote(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "'\\''"))
}

fn spawn(command: &[OsString], control_plane: &ControlPlane) -> Result<Process> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = guarded(Path::new(program));
    command.args(arguments).envs(control_plane.variables());
    Process::spawn("the command", command, None)
}

async fn end(process: &mut Process) -> Result<ExitStatus> {
    loop {
        if let Some(status) = process.ended()? {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The status of a run that was stopped before its work was done, as shells give it.
fn interrupted(reason: StopReason) -> ExitCode {
    say!("stopped by {reason}");
    ExitCode::from(reason.status())
}

/// The status of the command, as shells give it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
