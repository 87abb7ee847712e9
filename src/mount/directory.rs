//! Files that change all at once, as the kubelet does it for volumes of Secrets: they are in a folder with a name of its
//! own, the link `..data` leads to it, and each key is a link into `..data`. Turning that one link replaces them all.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use tokio::time::Instant;
use uuid::Uuid;

/// The link that is turned.
const DATA: &str = "..data";

/// Its next state, until it is renamed.
const NEXT: &str = "..data_tmp";

/// Says whose the directory is, and is locked by who writes it.
const MARK: &str = "..tokenward";

/// How long files stay after they were replaced: for those who have opened their folder and are reading.
const GRACE: Duration = Duration::from_secs(10);

/// Why files cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system does not let us.
    #[error("cannot {what} {}: {source}", .path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something is in it that we did not write.
    #[error(
        "{} is not empty, and was not made by tokenward mount: it has {entry:?}. Give it a directory of its own", .dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What is in it.
        entry: String,
    },
    /// It shows another credential.
    #[error("{} has the files of the credential {of:?}. Give each credential a directory of its own", .dir.display())]
    Another {
        /// The directory.
        dir: PathBuf,
        /// Whose files it has.
        of: String,
    },
    /// Another process writes it.
    #[error("{} is being written by another process. Give each a directory of its own", .0.display())]
    Busy(PathBuf),
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> DirectoryError + 'a {
    move |source| DirectoryError::System {
        what,
        path: path.to_owned(),
        source,
    }
}

/// A directory that shows one Secret. No other process writes it while this exists.
pub struct Directory {
    root: PathBuf,
    /// Of the files.
    mode: u32,
    /// Folders that were replaced, and when they go.
    retired: VecDeque<(Instant, PathBuf)>,
    /// Locked.
    _mark: File,
}

impl Directory {
    /// Takes a directory that is empty, or was filled by an earlier process for the same `owner`; one that is not there
    /// is made. `mode` is that of the files.
    ///
    /// # Errors
    /// It is another's, or cannot be written.
    pub fn claim(root: &Path, mode: u32, owner: &str) -> Result<Self, DirectoryError> {
        fs::create_dir_all(root).map_err(failed("create the directory", root))?;
        let path = root.join(MARK);
        if !path.exists()
            && let Some(entry) = entries(root)?.into_iter().next()
        {
            return Err(DirectoryError::Foreign {
                dir: root.to_owned(),
                entry,
            });
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut mark = options.open(&path).map_err(failed("open", &path))?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DirectoryError::Busy(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        let mut of = String::new();
        mark.read_to_string(&mut of)
            .map_err(failed("read", &path))?;
        // A process that ended in between has left it empty.
        if of.is_empty() {
            mark.write_all(owner.as_bytes())
                .map_err(failed("write", &path))?;
        } else if of != owner {
            return Err(DirectoryError::Another {
                dir: root.to_owned(),
                of,
            });
        }
        let mut directory = Self {
            root: root.to_owned(),
            mode,
            retired: VecDeque::new(),
            _mark: mark,
        };
        let current = directory.current();
        for entry in entries(root)? {
            let is_folder =
                entry.starts_with("..") && entry != DATA && Some(&entry) != current.as_ref();
            let path = root.join(&entry);
            if is_folder && path.is_dir() && !path.is_symlink() {
                directory.retire(path);
            }
        }
        Ok(directory)
    }

    /// Shows these files and no others, all at once. False: they are there already.
    ///
    /// # Errors
    /// What was shown before is shown on.
    pub fn show(&mut self, data: &BTreeMap<String, ByteString>) -> Result<bool, DirectoryError> {
        let shows = self.current().map(|current| self.root.join(current));
        let shows_already = shows
            .as_ref()
            .is_some_and(|folder| self.is_in(folder, data));
        if !shows_already {
            self.check_links(data)?;
            let name = format!(
                "..{}.{}",
                Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S"),
                Uuid::new_v4().as_u64_pair().0
            );
            let folder = self.root.join(&name);
            let turned = self.fill(&folder, data).and_then(|()| self.turn(&name));
            if turned.is_err() {
                let _ = fs::remove_dir_all(&folder);
            }
            turned?;
            if let Some(before) = shows {
                self.retire(before);
            }
        }
        // An earlier process may have ended before it did this.
        self.link(data)?;
        Ok(!shows_already)
    }

    /// Removes a folder that was replaced a while ago, when it is time. Cancelling loses nothing.
    pub(super) async fn sweep(&mut self) {
        let Some((at, _)) = self.retired.front() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(*at).await;
        if let Some((_, folder)) = self.retired.pop_front()
            && let Err(error) = fs::remove_dir_all(&folder)
        {
            tracing::warn!(%error, folder = %folder.display(), "files that were replaced are left");
        }
    }

    /// The name of the folder that is shown. A link that leads elsewhere is nobody's here: what it leads to is not removed.
    fn current(&self) -> Option<String> {
        let to = fs::read_link(self.root.join(DATA)).ok()?;
        let name = to.to_str().filter(|name| is_folder_of_ours(name))?;
        let found = fs::symlink_metadata(self.root.join(name)).ok()?;
        found.is_dir().then(|| name.to_owned())
    }

    fn retire(&mut self, folder: PathBuf) {
        self.retired.push_back((Instant::now() + GRACE, folder));
    }

    /// Whether a folder has these files and no others, as they are to be.
    fn is_in(&self, folder: &Path, data: &BTreeMap<String, ByteString>) -> bool {
        let is_same = |(key, value): (&String, &ByteString)| {
            let path = folder.join(key);
            let mode = fs::metadata(&path).map(|m| m.permissions().mode() & 0o7777);
            mode.is_ok_and(|mode| mode == self.mode)
                && fs::read(&path).is_ok_and(|found| found == value.0)
        };
        entries(folder).is_ok_and(|entries| entries.len() == data.len()) && data.iter().all(is_same)
    }

    fn fill(
        &self,
        folder: &Path,
        data: &BTreeMap<String, ByteString>,
    ) -> Result<(), DirectoryError> {
        const OPEN_TO_ALL: u32 = 0o755;
        DirBuilder::new()
            .mode(OPEN_TO_ALL)
            .create(folder)
            .map_err(failed("create", folder))?;
        // What the umask took away; the bit that hands the group of the directory on stays.
        let made = fs::metadata(folder).map_err(failed("look at", folder))?;
        let mode = made.permissions().mode() | OPEN_TO_ALL;
        fs::set_permissions(folder, Permissions::from_mode(mode))
            .map_err(failed("change the mode of", folder))?;
        for (key, ByteString(value)) in data {
            let path = folder.join(key);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(&path).map_err(failed("create", &path))?;
            file.write_all(value).map_err(failed("write", &path))?;
            file.set_permissions(Permissions::from_mode(self.mode))
                .map_err(failed("change the mode of", &path))?;
        }
        Ok(())
    }

    /// From here on the folder of this name is shown.
    fn turn(&self, name: &str) -> Result<(), DirectoryError> {
        let (next, link) = (self.root.join(NEXT), self.root.join(DATA));
        // Left by a process that ended in between.
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &next)(error));
            }
            _ => {}
        }
        symlink(name, &next).map_err(failed("create", &next))?;
        fs::rename(&next, &link).map_err(failed("turn", &link))
    }

    /// Nothing of somebody else's has the name of a key.
    fn check_links(&self, data: &BTreeMap<String, ByteString>) -> Result<(), DirectoryError> {
        for key in data.keys() {
            let path = self.root.join(key);
            if fs::symlink_metadata(&path).is_ok() && !is_link(&path, key) {
                return Err(DirectoryError::Foreign {
                    dir: self.root.clone(),
                    entry: key.clone(),
                });
            }
        }
        Ok(())
    }

    /// Each key has its link, and nothing else has one.
    fn link(&self, data: &BTreeMap<String, ByteString>) -> Result<(), DirectoryError> {
        for key in data.keys() {
            let path = self.root.join(key);
            if !is_link(&path, key) {
                symlink(Path::new(DATA).join(key), &path).map_err(failed("create", &path))?;
            }
        }
        for entry in entries(&self.root)? {
            let path = self.root.join(&entry);
            if !data.contains_key(&entry) && is_link(&path, &entry) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Whether this is such a name as the folders have: one part of a path, and neither the parent nor one of our files.
fn is_folder_of_ours(name: &str) -> bool {
    let rest = name.strip_prefix("..").unwrap_or_default();
    !rest.is_empty() && !name.contains('/') && ![DATA, NEXT, MARK].contains(&name)
}

/// Whether this is the link of a key.
fn is_link(path: &Path, key: &str) -> bool {
    fs::read_link(path).is_ok_and(|to| to == Path::new(DATA).join(key))
}

/// The names in a directory.
fn entries(dir: &Path) -> Result<Vec<String>, DirectoryError> {
    let read = fs::read_dir(dir).map_err(failed("read", dir))?;
    read.map(|entry| {
        let entry = entry.map_err(failed("read", dir))?;
        Ok(entry.file_name().to_string_lossy().into_owned())
    })
    .collect()
}

/// Whether a directory is in memory, where the system tells.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_in_memory(dir: &Path) -> Option<bool> {
    // Of tmpfs and ramfs: linux/magic.h.
    const IN_MEMORY: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];
    let found = rustix::fs::statfs(dir).ok()?;
    Some(IN_MEMORY.contains(&found.f_type))
}

/// Whether a directory is in memory, where the system tells.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_in_memory(_: &Path) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests;
