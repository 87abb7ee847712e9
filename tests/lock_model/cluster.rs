//! The API server: the objects of one credential, and the requests for them.

use std::{collections::BTreeMap, time::Duration};

use tokenward::lock::protocol::{Answer, GateState, SeenHold, Version};

use crate::provider::Token;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored<T> {
    pub version: Version,
    pub value: T,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hold {
    /// Which reader made it.
    pub reader: usize,
    pub nonce: String,
    pub duration: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    pub generation: u64,
    pub token: Token,
    pub attempt: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub generation: u64,
    pub token: Token,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub gate: Option<Stored<GateState>>,
    pub holds: BTreeMap<String, Stored<Hold>>,
    pub grant: Stored<Grant>,
    pub target: Stored<Target>,
    /// The generation that somebody wants replaced: a want, or the schedule.
    pub want: Option<u64>,
}

/// A request to the API server, or to the token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    GetGate,
    PutGate {
        over: Option<Version>,
        state: Box<GateState>,
        /// Whose write it is.
        attempt: String,
        /// The generation that this attempt has stored, if it has.
        stored: Option<u64>,
    },
    ListHolds,
    RemoveHold {
        hold: SeenHold,
        /// Whether it had not timed out.
        forced: bool,
    },
    CreateHold {
        name: String,
        hold: Hold,
    },
    GetHold {
        name: String,
        nonce: String,
    },
    RenewHold {
        name: String,
        version: Version,
        hold: Hold,
    },
    ReleaseHold {
        name: String,
        uid: Option<String>,
    },
    GetTarget,
    GetGrant,
    PutGrant {
        over: Version,
        grant: Grant,
    },
    PutTarget {
        over: Version,
        target: Target,
    },
    Exchange {
        token: Token,
        /// Whether holders have been waited for.
        drained: bool,
    },
}

impl Request {
    /// Whether it changes nothing, so that only the moment at which it is answered counts.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::GetGate
                | Self::ListHolds
                | Self::GetHold { .. }
                | Self::GetTarget
                | Self::GetGrant
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Gate(Answer<(Version, GateState)>),
    Holds(Vec<SeenHold>),
    Hold {
        found: Answer<Version>,
        is_mine: bool,
    },
    Written(Answer<Version>),
    Gone(Answer<()>),
    Target(Version, Target),
    Grant(Version, Grant),
    /// `None`: refused.
    Tokens(Option<Token>),
    /// Nobody knows.
    Unclear,
}

/// A request on its way. Reads are answered when they are sent: what counts is only when the answer was
/// true, and when it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Sent(Request),
    Answered(Request, Reply),
}

impl Call {
    pub fn request(&self) -> &Request {
        match self {
            Self::Sent(request) | Self::Answered(request, _) => request,
        }
    }
}

/// The objects that versions tell apart.
pub const GATE: &str = "gate";
pub const GRANT: &str = "grant";
pub const TARGET: &str = "target";
pub const EXCLUSIVE: &str = "hold.exclusive";

pub fn seen((name, stored): (&String, &Stored<Hold>)) -> SeenHold {
    SeenHold {
        name: name.clone(),
        version: stored.version.clone(),
        holder: String::new(),
        duration: stored.value.duration,
    }
}

/// Calls `see` for each version of an object that a request names.
pub fn versions_in_request(request: &Request, see: &mut impl FnMut(&str, &Version)) {
    match request {
        Request::PutGate {
            over: Some(over), ..
        } => see(GATE, over),
        Request::RemoveHold { hold, .. } => see(&hold.name, &hold.version),
        Request::RenewHold { name, version, .. } => see(name, version),
        Request::ReleaseHold {
            name,
            uid: Some(uid),
        } => see(name, &uid_only(uid)),
        Request::PutGrant { over, .. } => see(GRANT, over),
        Request::PutTarget { over, .. } => see(TARGET, over),
        _ => {}
    }
}

fn uid_only(uid: &str) -> Version {
    Version {
        uid: uid.to_owned(),
        resource_version: String::new(),
    }
}

pub fn versions_in_call(call: &Call, see: &mut impl FnMut(&str, &Version)) {
    versions_in_request(call.request(), see);
    let Call::Answered(request, reply) = call else {
        return;
    };
    match (request, reply) {
        (_, Reply::Gate(Answer::Done((version, _)))) => see(GATE, version),
        (_, Reply::Holds(holds)) => {
            for hold in holds {
                see(&hold.name, &hold.version);
            }
        }
        (
            Request::GetHold { name, .. },
            Reply::Hold {
                found: Answer::Done(version),
                ..
            },
        )
        | (
            Request::CreateHold { name, .. } | Request::RenewHold { name, .. },
            Reply::Written(Answer::Done(version)),
        ) => see(name, version),
        (Request::PutGate { .. }, Reply::Written(Answer::Done(version))) => see(GATE, version),
        (Request::PutGrant { .. }, Reply::Written(Answer::Done(version)))
        | (_, Reply::Grant(version, _)) => see(GRANT, version),
        (Request::PutTarget { .. }, Reply::Written(Answer::Done(version)))
        | (_, Reply::Target(version, _)) => see(TARGET, version),
        _ => {}
    }
}

/// The attempts that a gate names.
pub fn attempts_in_gate<'a>(gate: &'a GateState, see: &mut impl FnMut(&'a str)) {
    if let Some(holder) = &gate.holder {
        see(&holder.attempt);
    }
    if let Some(unresolved) = &gate.unresolved {
        see(&unresolved.attempt);
    }
}

pub fn attempts_in_call<'a>(call: &'a Call, see: &mut impl FnMut(&'a str)) {
    attempts_in_request(call.request(), see);
    match call {
        Call::Answered(_, Reply::Gate(Answer::Done((_, gate)))) => attempts_in_gate(gate, see),
        Call::Answered(_, Reply::Grant(_, grant)) => see(&grant.attempt),
        _ => {}
    }
}

pub fn attempts_in_request<'a>(request: &'a Request, see: &mut impl FnMut(&'a str)) {
    match request {
        Request::PutGate { state, attempt, .. } => {
            see(attempt);
            attempts_in_gate(state, see);
        }
        Request::PutGrant { grant, .. } => see(&grant.attempt),
        _ => {}
    }
}
