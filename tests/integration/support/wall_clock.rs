//! A wall clock that a test sets for one process.

use std::{path::PathBuf, process::Command, sync::OnceLock};

/// The library that moves a clock, built once.
fn library() -> PathBuf {
    static BUILT: OnceLock<(PathBuf, tempfile::TempDir)> = OnceLock::new();
    let (library, _) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("wall_clock.so");
        let source = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/integration/support/wall_clock.c"
        );
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .args([source, "-ldl"])
            .status()
            .expect("a C compiler");
        assert!(built.success());
        (library, folder)
    });
    library.clone()
}

/// What makes a process see a wall clock that is ahead by so many seconds for as long as it runs. It costs next to nothing.
#[allow(dead_code, reason = "for the benches")]
pub fn ahead(seconds: i64) -> Vec<(&'static str, PathBuf)> {
    let ahead = seconds.to_string().into();
    vec![("LD_PRELOAD", library()), ("TEST_WALL_CLOCK_AHEAD", ahead)]
}

/// The wall clock of the processes that were started with its [`WallClock::variables`].
pub struct WallClock {
    folder: tempfile::TempDir,
}

impl WallClock {
    /// As right as that of the machine.
    pub fn right() -> Self {
        let clock = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        clock.set(0);
        clock
    }

    /// Sets it ahead by so many seconds, or back.
    pub fn set(&self, ahead: i64) {
        // Written aside and moved into place: it is read all the time.
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, ahead.to_string()).unwrap();
        std::fs::rename(aside, self.path()).unwrap();
    }

    /// What makes a process read it.
    pub fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("LD_PRELOAD", library()), ("TEST_WALL_CLOCK", self.path())]
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}
