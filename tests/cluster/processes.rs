//! Child processes that cannot outlive the supervisor.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

/// How much of a log an error message quotes.
const TAIL_LINES: usize = 20;

/// How far back from its end a log is read for that.
const TAIL_BYTES: u64 = 32 * 1024;

/// A command that dies with the supervisor, also when that is killed with SIGKILL, where the
/// platform can promise it.
///
/// The kernel sends the parent-death signal when the *thread* that spawned the child ends, so every
/// spawn must happen on the main thread: the runtime of `main.rs` has no other.
///
/// `setpriv` sets the signal and then executes the program in its own place, so the process id is
/// the program's. (The system call behind it is out of reach without unsafe code, which has to run
/// between fork and exec.)
pub(crate) fn guarded(program: &Path) -> Command {
    if has_parent_death_signal() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Whether [`guarded`] keeps its promise here. Asked by trying, since `BusyBox` has a `setpriv`
/// without the option.
pub(crate) fn has_parent_death_signal() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "true"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A running child, killed with all its descendants and waited for when this value is dropped: at
/// the end of the program, on an error, on a panic, and when a signal cuts a start short.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    status: Option<ExitStatus>,
    log: Option<PathBuf>,
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C in a terminal reaches the
    /// supervisor only, which then stops everything in order.
    ///
    /// With a log file, the child's output goes there; without one it goes to the supervisor's.
    pub(crate) fn spawn(
        name: &'static str,
        mut command: Command,
        log: Option<&Path>,
    ) -> Result<Self> {
        if let Some(path) = log {
            let file = File::create(path)
                .with_context(|| format!("cannot create the log {}", path.display()))?;
            let also = file.try_clone().context("cannot duplicate a log file")?;
            command.stdout(file).stderr(also);
        }
        let child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            child,
            status: None,
            log: log.map(Path::to_owned),
        })
    }

    /// The name that messages use.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// The process id, which is also the id of its group.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, when the process has ended. What it started and left goes with it.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self
                .child
                .try_wait()
                .with_context(|| format!("cannot ask for the state of {}", self.name))?;
            if self.status.is_some() {
                // Only now: later, the id may belong to somebody else.
                kill_group(self.child.id());
            }
        }
        Ok(self.status)
    }

    /// The last lines of its log, indented for a message.
    pub(crate) fn log_tail(&self) -> String {
        self.log.as_deref().map(tail).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.ended(), Ok(Some(_))) {
            return;
        }
        kill_group(self.child.id());
        // Should the group be out of reach (no shell?), the process itself is not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills a process group. By the shell's own `kill`, as the system call needs either unsafe code or
/// another dependency, and a `kill` program is not installed everywhere.
pub(crate) fn kill_group(group: u32) {
    let _ = Command::new("sh")
        .args(["-c", "kill -s KILL -- \"-$1\"", "sh", &group.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// The last lines of a file, each indented.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return format!("    (its log cannot be read: {error})"),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "    (its log is empty)".to_owned();
    }
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Stops what a supervisor left behind that was killed before it could record or signal anything
/// more: processes whose id it wrote to `FOLDER/NAME.pid` and whose command line still names that
/// folder (an id alone may long be somebody else's).
pub(crate) fn kill_recorded(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "pid") {
            continue;
        }
        let Some(id) = fs::read_to_string(&path)
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok())
        else {
            continue;
        };
        let command_line = Command::new("ps")
            .args(["-ww", "-o", "command=", "-p", &id.to_string()])
            .stderr(Stdio::null())
            .output()
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        if command_line.contains(&*folder.to_string_lossy()) {
            kill_group(id);
        }
    }
}
