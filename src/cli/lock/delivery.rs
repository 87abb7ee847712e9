//! How the command gets the token: in a variable, or by a pipe. Never as an argument, which everybody on
//! the machine can read.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result};
use rustix::{
    io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd},
    pipe::{PipeFlags, pipe_with},
};
use secrecy::ExposeSecret;
use tokio::process::Command;

use super::Arguments;
use crate::{
    cli::{exit::Usage, shown},
    manager::Credentials,
};

/// The way for the token.
pub(in crate::cli) enum Delivery {
    /// This variable, or those of its kind.
    Variable(Option<String>),
    /// A pipe, whose end to read from has the number that was asked for.
    Pipe {
        /// For the command.
        reader: OwnedFd,
        /// For us.
        writer: OwnedFd,
    },
}

impl Delivery {
    /// Takes the file descriptor that the arguments name, before anything else does.
    pub(in crate::cli) fn prepare(arguments: &Arguments) -> Result<Self> {
        let Some(number) = arguments.token_fd else {
            return Ok(Self::Variable(arguments.token_env.clone()));
        };
        let (reader, mut writer) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let reader = if reader.as_raw_fd() == number {
            reader
        } else {
            if writer.as_raw_fd() == number {
                let moved = fcntl_dupfd_cloexec(&writer, number + 1);
                // Closes the one with the number.
                writer = moved.context("cannot move a pipe")?;
            }
            fcntl_dupfd_cloexec(&reader, number).context("cannot move a pipe")?
        };
        if reader.as_raw_fd() == number {
            Ok(Self::Pipe { reader, writer })
        } else {
            let text = format!("--token-fd {number}: this file descriptor is in use already");
            Err(Usage(text).into())
        }
    }

    /// Prepares the command for it.
    pub(super) fn equip(&self, command: &mut Command, given: &Credentials) -> io::Result<()> {
        let (name, by_pipe) = match self {
            Self::Variable(name) => (name.as_deref(), false),
            Self::Pipe { reader, .. } => {
                shown::main(given).map_err(io::Error::other)?;
                fcntl_setfd(reader, FdFlags::empty())?;
                (None, true)
            }
        };
        for variable in shown::variables(given, name) {
            if !(by_pipe && variable.is_secret) {
                command.env(variable.name, variable.value.expose_secret());
            }
        }
        Ok(())
    }

    /// Once the command has been started: sends the token, where it goes through a pipe.
    pub(super) fn send(self, given: &Credentials) {
        let Self::Pipe { reader, writer } = self else {
            return;
        };
        drop(reader);
        let Ok(token) = shown::main(given) else {
            return;
        };
        // One that is longer than the pipe holds is written as it is read, and maybe never.
        std::thread::spawn(move || {
            let _ = File::from(writer).write_all(token.expose_secret().as_bytes());
        });
    }
}

/// The name of a variable.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a variable's name is letters, digits and '_'".to_owned())
    }
}
