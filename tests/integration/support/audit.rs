//! What the operator asked of the API server, from the server's own audit log.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::Value;

/// The requests of operators in one namespace, from a point in time on.
pub struct Audit {
    log: PathBuf,
    namespace: String,
    from: u64,
}

impl Audit {
    /// From now on. The server writes a request's line before it answers.
    pub fn start(log: PathBuf, namespace: &str) -> Self {
        let from = std::fs::metadata(&log).unwrap().len();
        Self {
            log,
            namespace: namespace.to_owned(),
            from,
        }
    }

    /// `verb resource[/subresource]/name` of each request so far.
    pub fn requests(&self) -> Vec<String> {
        let mut file = File::open(&self.log).unwrap();
        file.seek(SeekFrom::Start(self.from)).unwrap();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        lines
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
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
        let operator = event["userAgent"].as_str()?.starts_with("tokenward/");
        let object = &event["objectRef"];
        if !operator || object["namespace"].as_str()? != self.namespace {
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
