//! The folder with everything that a control plane writes.

use std::env;
use std::fs::{self, DirEntry, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::isolation::remove_groups;
use crate::processes::kill_recorded;
use crate::say;

const PREFIX: &str = "tokenward-cluster-";

/// Locked as long as the folder's supervisor lives. The kernel drops the lock when it dies, in
/// whatever way; a recorded process id would have to be told from a later process with the same.
const LOCK: &str = "supervisor.lock";

/// A folder without a lock is being made, or its maker died right then.
const YOUNG: Duration = Duration::from_secs(60);

/// A temporary folder, removed when dropped by who made it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _made: Option<(TempDir, File)>,
}

impl Folder {
    /// Makes a folder that only its owner can enter, and removes those of dead supervisors.
    pub(crate) fn create() -> Result<Self> {
        sweep();
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("cannot make a temporary folder")?;
        let unlocked = folder.path().join(".new-lock");
        let lock = File::create(&unlocked).context("cannot make a lock file")?;
        lock.lock().context("cannot lock a file of our own")?;
        // Nobody sees the lock file unlocked.
        fs::rename(&unlocked, folder.path().join(LOCK)).context("cannot rename a lock file")?;
        Ok(Self {
            path: folder.path().to_owned(),
            _made: Some((folder, lock)),
        })
    }

    /// One that another supervisor made, and removes.
    pub(crate) const fn of_another(path: PathBuf) -> Self {
        Self { path, _made: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its last part, which no other folder has.
    pub(crate) fn name(&self) -> Result<&str> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.context("a folder without a name")
    }
}

/// Removes what supervisors left that were killed with SIGKILL.
fn sweep() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        if !is_abandoned(&entry) {
            continue;
        }
        kill_recorded(&entry.path());
        // The folder is the only one that knows their name: the next start tries again.
        if !remove_groups(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if fs::remove_dir_all(entry.path()).is_ok() {
            say!(
                "removed {}, which a killed run had left",
                entry.path().display()
            );
        }
    }
}

/// Whether the folder's supervisor is dead. A folder of somebody else's cannot be opened, and stays.
fn is_abandoned(entry: &DirEntry) -> bool {
    match File::open(entry.path().join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > YOUNG)),
        Err(_) => false,
    }
}
