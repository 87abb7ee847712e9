//! The command line as a user calls it: the real binary, in the namespace of a test.

use std::{
    fs::File,
    io::PipeWriter,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

use super::{Account, Deployed, Fixture, eventually, fixture::cluster, within};

/// The program under test.
pub const TOKENWARD: &str = env!("CARGO_BIN_EXE_tokenward");

/// A call that was not made yet.
pub struct Call {
    command: Command,
    folder: tempfile::TempDir,
}

/// A call that was made.
pub struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    /// As a shell has it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Fixture {
    /// `tokenward`, with these arguments, in this namespace.
    pub fn tokenward(&self, arguments: &[&str]) -> Call {
        let mut all = vec!["-n", &self.namespace];
        all.extend(arguments);
        call(TOKENWARD, &all)
    }

    /// `tokenward` with these arguments at a terminal of its own, and the keyboard; nothing where there is no program
    /// that makes one.
    pub fn at_a_terminal(&self, arguments: &str) -> Option<(Running, PipeWriter)> {
        const SCRIPT: &str = "/usr/bin/script";
        if !Path::new(SCRIPT).exists() {
            eprintln!("not shown: there is no {SCRIPT} to make a terminal");
            return None;
        }
        // Whichever shell `script` takes gives its place away: one that stayed in between would hear the keyboard,
        // too, and end before the command.
        let command = format!("exec {TOKENWARD} -n {} {arguments}", self.namespace);
        let mut call = call(SCRIPT, &["-qefc", &command, "/dev/null"]);
        let keyboard = call.keyboard();
        Some((call.start(), keyboard))
    }

    /// A new ServiceAccount that may do this.
    pub async fn account(&self, name: &str, rules: Value) -> Account {
        let account = Account::create(self, name).await;
        let namespace = self.namespace.as_str();
        let metadata = json!({"name": name, "namespace": namespace});
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": metadata, "rules": &rules,
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        });
        Deployed::objects(self, vec![role, binding]).await;
        // A program that comes sooner would be refused.
        for rule in rules.as_array().unwrap() {
            let first = |field: &str| rule[field][0].as_str();
            let mut resource = first("resources").unwrap().to_owned();
            if let Some(name) = first("resourceNames") {
                resource = format!("{resource}/{name}");
            }
            let (group, verb) = (first("apiGroups").unwrap(), first("verbs").unwrap());
            account.until_it_may(true, verb, group, &resource).await;
        }
        account
    }

    /// The names of the holds of a credential.
    pub async fn holds(&self, credential: &str) -> Vec<String> {
        let of = format!("tokenward.dev/credential={credential},tokenward.dev/role=hold");
        let params = ListParams::default().labels(&of);
        let holds = self.leases().list(&params).await.unwrap();
        holds.iter().map(ResourceExt::name_any).collect()
    }

    /// The hold of a credential, once there is one.
    pub async fn held(&self, credential: &str) -> String {
        eventually("a hold", async || self.holds(credential).await.pop()).await
    }
}

/// Another program, which finds the cluster and is told no namespace.
pub fn call(program: &str, arguments: &[&str]) -> Call {
    let mut command = session(program);
    command
        .args(arguments)
        .env("KUBECONFIG", &cluster().kubeconfig)
        .stdin(Stdio::null());
    Call {
        command,
        folder: tempfile::tempdir().unwrap(),
    }
}

impl Call {
    /// With a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// As the user of this kubeconfig.
    pub fn by(self, kubeconfig: &Path) -> Self {
        self.env("KUBECONFIG", kubeconfig)
    }

    /// What is written here is its standard input.
    pub fn keyboard(&mut self) -> PipeWriter {
        let (reader, writer) = std::io::pipe().unwrap();
        self.command.stdin(reader);
        writer
    }

    /// Makes it.
    pub fn start(mut self) -> Running {
        let out = File::create(self.folder.path().join("out")).unwrap();
        let err = File::create(self.folder.path().join("err")).unwrap();
        let child = self.command.stdout(out).stderr(err).spawn();
        Running {
            child: child.expect("the program"),
            folder: self.folder,
        }
    }

    /// Makes it and waits for its end.
    pub async fn end(self) -> Ended {
        self.start().end().await
    }
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output.
    pub fn out(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    /// What it has written to standard error.
    pub fn err(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// The first whole line of its output with this beginning, without it.
    pub async fn said(&self, beginning: &str) -> String {
        eventually(&format!("output {beginning:?}"), async || {
            let out = self.out();
            let mut whole = out.split_inclusive('\n').filter(|l| l.ends_with('\n'));
            let said = whole.find_map(|line| line.strip_prefix(beginning));
            assert!(
                said.is_some() || !is_over(self.pid()),
                "it ended: {}",
                self.err()
            );
            said.map(|rest| rest.trim_end().to_owned())
        })
        .await
    }

    /// Waits until its output has this somewhere.
    pub async fn shown(&self, what: &str) {
        eventually(what, async || self.out().contains(what).then_some(())).await;
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let status = within(Duration::from_secs(60), "its end", async || {
            self.child.try_wait().unwrap()
        })
        .await;
        Ended {
            code: code(status),
            out: self.out(),
            err: self.err(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- its standard error ---\n{}", self.err());
        }
    }
}

impl Ended {
    /// The last line on standard error.
    pub fn complaint(&self) -> &str {
        self.err.lines().last().unwrap_or_default()
    }
}

fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 1000 + status.signal().unwrap())
}

/// Sends a signal to a process, by its name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Whether a process is gone, or dead and only not buried yet.
pub fn is_over(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    state.is_empty() || state.starts_with(['Z', 'X'])
}

/// A command that dies with this process, has no terminal and ignores no signal, whoever runs the tests: in the
/// background of a script, Ctrl-C is ignored.
fn session(program: &str) -> Command {
    let (setpriv, setsid) = ("/usr/bin/setpriv", "/usr/bin/setsid");
    if Path::new(setpriv).exists() && Path::new(setsid).exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--", setsid]);
        command.args(["/usr/bin/env", "--default-signal", program]);
        command
    } else {
        Command::new(program)
    }
}
