//! What came by, and which of it is meant.

use std::{fmt, time::Instant};

use axum::http::{Method, request::Parts};
use serde_json::Value;

/// A request that arrived at a proxy.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts from 1; a watch has none, because it follows a list and says nothing new.
    pub number: Option<usize>,
    /// Whether it is a watch that is to begin with what is there.
    pub streams: bool,
    /// When it arrived.
    pub at: Instant,
    /// The HTTP method.
    pub method: Method,
    /// The resource's plural, with a subresource behind a slash.
    pub resource: String,
    /// The object's name: of the path, or of the object to be created; empty for a list.
    pub name: String,
    /// The status of the API server's answer, once there is one.
    pub status: Option<u16>,
    /// The fault that it met.
    pub fault: Option<&'static str>,
}

impl fmt::Display for Call {
    /// Like `7. PUT leases alice.gate`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(formatter, "{number}. ")?,
            None => write!(formatter, "watch: ")?,
        }
        write!(formatter, "{} {} {}", self.method, self.resource, self.name)
    }
}

impl Call {
    /// Of a request that has just arrived, as the one after `before` others.
    pub(super) fn read(parts: &Parts, body: &[u8], before: usize) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let says = |parameter| query.split('&').any(|p| p == parameter);
        let is_watch = says("watch=true") || says("watch=1");
        let (resource, name) = object(parts.uri.path());
        let name = match name {
            Some(name) => name,
            None if parts.method == Method::POST => created(body).unwrap_or_default(),
            None => String::new(),
        };
        Self {
            number: (!is_watch).then_some(before + 1),
            streams: says("sendInitialEvents=true"),
            at: Instant::now(),
            method: parts.method.clone(),
            resource,
            name,
            status: None,
            fault: None,
        }
    }
}

/// The resource, and the name if the path has one.
fn object(path: &str) -> (String, Option<String>) {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let versions = match parts.next() {
        Some("api") => 1,
        Some("apis") => 2,
        // The version, the schema and the like.
        _ => return (path.to_owned(), None),
    };
    let parts: Vec<_> = parts.skip(versions).collect();
    let parts = match parts.as_slice() {
        ["namespaces", _, of @ ..] if !of.is_empty() => of,
        all => all,
    };
    match parts {
        [] => (path.to_owned(), None),
        [resource] => ((*resource).to_owned(), None),
        [resource, name] => ((*resource).to_owned(), Some((*name).to_owned())),
        [resource, name, sub @ ..] => {
            let resource = format!("{resource}/{}", sub.join("/"));
            (resource, Some((*name).to_owned()))
        }
    }
}

fn created(body: &[u8]) -> Option<String> {
    let object: Value = serde_json::from_slice(body).ok()?;
    Some(object["metadata"]["name"].as_str()?.to_owned())
}

/// Which calls are meant. Watches only where that is said.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    number: Option<usize>,
    method: Option<Method>,
    resource: Option<&'static str>,
    name: Option<String>,
    watches: bool,
    streams: bool,
    writes: bool,
    pub(super) skip: usize,
    pub(super) at_most: Option<usize>,
}

impl Calls {
    /// The one with this number since the proxy started.
    pub fn nth(number: usize) -> Self {
        Self {
            number: Some(number),
            ..Self::default()
        }
    }

    /// Those that change something.
    pub fn writes() -> Self {
        Self {
            writes: true,
            ..Self::default()
        }
    }

    /// Those with this method for this resource, such as `secrets` or `integrationcredentials/status`.
    pub fn to(method: Method, resource: &'static str) -> Self {
        Self {
            method: Some(method),
            resource: Some(resource),
            ..Self::default()
        }
    }

    /// Those for this resource, with any method.
    pub fn about(resource: &'static str) -> Self {
        Self {
            resource: Some(resource),
            ..Self::default()
        }
    }

    /// The watches of this resource.
    pub fn watches(resource: &'static str) -> Self {
        Self {
            resource: Some(resource),
            watches: true,
            ..Self::default()
        }
    }

    /// The watches that are to begin with what is there.
    pub fn streams() -> Self {
        Self {
            watches: true,
            streams: true,
            ..Self::default()
        }
    }

    /// Of these, those about this object, or with a `*` at one end, about those that begin or end so.
    #[must_use]
    pub fn named(self, pattern: &str) -> Self {
        Self {
            name: Some(pattern.to_owned()),
            ..self
        }
    }

    /// Of these, not the next so many.
    #[must_use]
    pub fn after(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Of these, so many and no more.
    #[must_use]
    pub fn first(self, at_most: usize) -> Self {
        Self {
            at_most: Some(at_most),
            ..self
        }
    }

    pub(super) fn include(&self, call: &Call) -> bool {
        let is_named =
            |pattern: &String| match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
                (Some(start), _) => call.name.starts_with(start),
                (None, Some(end)) => call.name.ends_with(end),
                (None, None) => call.name == *pattern,
            };
        self.watches == call.number.is_none()
            && (!self.streams || call.streams)
            && !(self.writes && call.method == Method::GET)
            && (self.number.is_none() || self.number == call.number)
            && self.method.as_ref().is_none_or(|m| *m == call.method)
            && self.resource.is_none_or(|r| *r == call.resource)
            && self.name.as_ref().is_none_or(is_named)
    }
}
