//! What the operator, or another program, asked of the API server, from the server's own audit log.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

/// The user agent of operators.
pub const OPERATOR: &str = "tokenward/";

/// The requests of one kind of program in one namespace, from a point in time on.
pub struct Audit {
    log: PathBuf,
    namespace: String,
    agent: &'static str,
    from: u64,
}

impl Audit {
    /// Those of programs whose user agent begins like this, from now on. The server writes a request's line
    /// before it answers.
    pub fn start(log: PathBuf, namespace: &str, agent: &'static str) -> Self {
        let from = std::fs::metadata(&log).unwrap().len();
        Self {
            log,
            namespace: namespace.to_owned(),
            agent,
            from,
        }
    }

    /// `verb resource[/subresource]/name` of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.those(|_| true)
    }

    /// Those of this ServiceAccount of the namespace.
    pub fn requests_of(&self, account: &str) -> Vec<String> {
        let user = format!("system:serviceaccount:{}:{account}", self.namespace);
        self.those(|event| event["user"]["username"] == user)
    }

    fn those(&self, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let mut file = File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(self.from)).unwrap();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(wanted)
            .filter_map(|event: Value| self.request(&event))
            .collect()
    }

    /// Those that change something.
    pub fn writes(&self) -> Vec<String> {
        let reads = ["get ", "list "];
        let mut requests = self.requests();
        requests.retain(|request| !reads.iter().any(|read| request.starts_with(read)));
        requests
    }

    fn request(&self, event: &Value) -> Option<String> {
        let is_asked_for = event["userAgent"].as_str()?.starts_with(self.agent);
        let object = &event["objectRef"];
        if !is_asked_for || object["namespace"].as_str()? != self.namespace {
            return None;
        }
        let mut resource = object["resource"].as_str()?.to_owned();
        if let Some(sub) = object["subresource"].as_str() {
            resource = format!("{resource}/{sub}");
        }
        // Logged when it ends, and no request of its own: it follows a list.
        if event["verb"] == "watch" {
            return None;
        }
        let name = object["name"].as_str().unwrap_or_default();
        Some(format!("{} {resource} {name}", event["verb"].as_str()?))
    }
}
