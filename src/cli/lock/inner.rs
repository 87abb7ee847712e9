//! Between `tokenward lock` and its command: a process that ties its end to tokenward's, and becomes the
//! command. If tokenward is killed, nobody renews the hold, and the command must not go on.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
};

use clap::Args;
use rustix::process::{Pid, getppid};

use crate::cli::{
    complain,
    exit::{FAILURE, NO_COMMAND, NOT_STARTED},
};

/// The name of the hidden command.
pub(in crate::cli) const INNER: &str = "run-held";

#[derive(Args)]
pub(in crate::cli) struct InnerArguments {
    /// The process that holds the credential.
    holder: i32,

    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// This program, also where its file was replaced meanwhile.
pub(super) fn program() -> PathBuf {
    let this = PathBuf::from("/proc/self/exe");
    if this.exists() {
        this
    } else {
        std::env::current_exe().unwrap_or_else(|_| "tokenward".into())
    }
}

/// Becomes the command. Returns only if that is not possible.
pub(in crate::cli) fn inner(arguments: &InnerArguments) -> u8 {
    if let Err(error) = tie() {
        complain(&format!("cannot tie the command to its holder: {error}"));
        return FAILURE;
    }
    if getppid() != Pid::from_raw(arguments.holder) {
        // The holder died before it was tied to it.
        return FAILURE;
    }
    let mut words = arguments.command.iter();
    let program = words.next();
    let error = Command::new(program.map_or(OsStr::new(""), OsString::as_os_str))
        .args(words)
        .exec();
    refused(program, &error)
}

/// Has the kernel kill this process, and what it becomes, at the death of its parent.
#[cfg(target_os = "linux")]
fn tie() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

#[cfg(not(target_os = "linux"))]
fn tie() -> io::Result<()> {
    Ok(())
}

/// Tells why the command was not started; the exit code, as shells have it.
pub(super) fn refused(program: Option<&OsString>, error: &io::Error) -> u8 {
    let program = program.map(|p| p.to_string_lossy()).unwrap_or_default();
    complain(&format!("cannot start {program}: {error}"));
    if error.kind() == io::ErrorKind::NotFound {
        NO_COMMAND
    } else {
        NOT_STARTED
    }
}
