//! What the operator, or another program, asked of the API server, from the server's own audit log.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// The user agent of operators.
pub const OPERATOR: &str = "tokenward/";

/// The requests of one kind of program in one namespace, from a point in time on.
pub struct Audit {
    log: PathBuf,
    namespace: String,
    agent: &'static str,
    seen: Mutex<Seen>,
}

/// What was read of the log.
struct Seen {
    /// Up to here.
    until: u64,
    /// By whom, and what.
    requests: Vec<(String, String)>,
}

impl Audit {
    /// Those of programs whose user agent begins like this, from now on. The server writes a request's line
    /// before it answers.
    pub fn start(log: PathBuf, namespace: &str, agent: &'static str) -> Self {
        let seen = Seen {
            until: std::fs::metadata(&log).unwrap().len(),
            requests: Vec::new(),
        };
        Self {
            log,
            namespace: namespace.to_owned(),
            agent,
            seen: Mutex::new(seen),
        }
    }

    /// `verb resource[/subresource]/name` of each request so far.
    pub fn requests(&self) -> Vec<String> {
        self.those(|_| true)
    }

    /// Those of this ServiceAccount of the namespace.
    pub fn requests_of(&self, account: &str) -> Vec<String> {
        let user = format!("system:serviceaccount:{}:{account}", self.namespace);
        self.those(|by| by == user)
    }

    fn those(&self, by: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(seen.until)).unwrap();
        let mut new = Vec::new();
        file.read_to_end(&mut new).unwrap();
        // The last line may be half written.
        let whole = new.iter().rposition(|byte| *byte == b'\n');
        new.truncate(whole.map_or(0, |end| end + 1));
        seen.until += u64::try_from(new.len()).unwrap();
        for line in new.split(|byte| *byte == b'\n') {
            // The first one may be half of one that was written before.
            let Ok(event) = serde_json::from_slice(line) else {
                continue;
            };
            if let Some(request) = self.request(&event) {
                let user = event["user"]["username"].as_str().unwrap_or_default();
                seen.requests.push((user.to_owned(), request));
            }
        }
        let those = seen.requests.iter().filter(|(user, _)| by(user));
        those.map(|(_, request)| request.clone()).collect()
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
