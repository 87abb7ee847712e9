//! `tokenward install`.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Args;

pub(super) const EXAMPLES: &str = "Examples:
  tokenward install /tokenward-bin      as the command of an init container; the volume is an emptyDir";

/// What runs, also where its file was replaced or cannot be named from here.
const RUNNING: &str = "/proc/self/exe";

/// The name of the copy, however the program was called.
const NAME: &str = "tokenward";

/// Everybody may read and run it: the container that does is often another user than the one that copied.
const MODE: u32 = 0o755;

#[derive(Args)]
pub(super) struct Arguments {
    /// The directory to copy into. It must exist.
    #[arg(value_name = "DIRECTORY")]
    directory: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let directory = &arguments.directory;
    let program = File::open(RUNNING).context("cannot read this program from /proc")?;
    let copy = copy(program, directory).with_context(|| {
        format!(
            "cannot write {}; it must be a directory that uid {} may write: mount an emptyDir there",
            directory.join(NAME).display(),
            rustix::process::geteuid().as_raw()
        )
    })?;
    writeln!(io::stdout(), "{}", copy.display()).context("cannot write to standard output")
}

/// Writes the program under a name of its own first: whoever runs an older copy goes on, and nobody meets half a file.
fn copy(mut program: impl io::Read, directory: &Path) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix(".tokenward-")
        .tempfile_in(directory)?;
    io::copy(&mut program, &mut file)?;
    fs::set_permissions(file.path(), Permissions::from_mode(MODE))?;
    file.as_file().sync_all()?;
    let copy = directory.join(NAME);
    file.persist(&copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_older_copy_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NAME), "an older one, and longer").unwrap();
        let older = File::open(directory.path().join(NAME)).unwrap();
        let path = copy("the program".as_bytes(), directory.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "the program");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(
            io::read_to_string(older).unwrap(),
            "an older one, and longer"
        );
        assert_eq!(names(directory.path()), [NAME]);
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing_behind() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("no more"))
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let program = io::Read::chain("half of".as_bytes(), Broken);
        assert!(copy(program, directory.path()).is_err());
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_what_to_do() {
        let directory = PathBuf::from("/nowhere/at/all");
        let error = run(&Arguments { directory }).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.contains("cannot write /nowhere/at/all/tokenward"),
            "{message}"
        );
        assert!(message.contains("emptyDir"), "{message}");
        assert!(message.contains("No such file"), "{message}");
    }
}
