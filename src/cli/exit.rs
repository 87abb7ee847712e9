//! How the program ends. Scripts depend on these numbers; docs/cli.md has the same table.

use crate::manager::Error;

/// Done.
pub(super) const SUCCESS: u8 = 0;
/// Anything that has no number of its own.
pub(super) const FAILURE: u8 = 1;
/// Wrong arguments, as clap has it.
pub(super) const USAGE: u8 = 2;
/// `EX_NOINPUT` of sysexits.h.
pub(super) const NOT_FOUND: u8 = 66;
/// `EX_UNAVAILABLE`.
pub(super) const UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`.
pub(super) const TIMEOUT: u8 = 75;
/// `EX_PROTOCOL`.
pub(super) const LOST: u8 = 76;
/// `EX_NOPERM`.
pub(super) const FORBIDDEN: u8 = 77;
/// The command cannot be started, as in shells.
pub(super) const NOT_STARTED: u8 = 126;
/// There is no such command, as in shells.
pub(super) const NO_COMMAND: u8 = 127;
/// Ended by a signal, whose number is added.
pub(super) const SIGNALLED: u8 = 128;

/// For people.
pub(super) const TABLE: &str = "Exit codes:
  0       done; of lock: the command's own
  1       it failed, and the last line on standard error says why
  2       wrong usage
  66      there is no such credential, or provider in the catalogue
  69      no answer of the API server
  75      not within --timeout; try again
  76      the credential was lost, and the command of lock was killed
  77      forbidden; the message has the rule that is missing
  126     the command of lock cannot be started
  127     the command of lock does not exist
  128+N   signal N ended it, or the command of lock";

/// The exit code of an error.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if let Some(usage) = error.downcast_ref::<Usage>() {
        let Usage(_) = usage;
        return USAGE;
    }
    if let Some(missing) = error.downcast_ref::<Missing>() {
        let Missing(_) = missing;
        return NOT_FOUND;
    }
    error.downcast_ref().map_or(FAILURE, of)
}

/// Whether the API server would not do what was asked.
pub(super) fn is_refused(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Refused(_)))
}

/// The exit code of an error of the library.
pub(super) fn of(error: &Error) -> u8 {
    match error {
        Error::NotFound { .. } => NOT_FOUND,
        Error::Unavailable(_) => UNAVAILABLE,
        Error::Timeout { .. } => TIMEOUT,
        Error::Lost { .. } => LOST,
        Error::Forbidden { .. } => FORBIDDEN,
        _ => FAILURE,
    }
}

/// Arguments that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// What was asked for is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missing(pub(super) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_the_one_of_the_help() {
        let documented = include_str!("../../docs/cli.md").replace('`', "");
        let mut lines = TABLE.lines().skip(1);
        let is_documented = |line: &str| {
            let (code, meaning) = line.trim().split_once(' ').unwrap();
            documented.contains(&format!("| {code} | {} |", meaning.trim()))
        };
        assert!(lines.all(is_documented));
    }
}
