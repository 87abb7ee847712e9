//! One state: the API server, the token endpoint, everybody who takes part, and requests whose senders have
//! given up on them.

use tokenward::lock::protocol::{Answer, GateState, Phase, Version};

use crate::{
    cluster::{
        Call, Cluster, GATE, GRANT, Grant, Reply, Request, Stored, TARGET, Target,
        attempts_in_gate, attempts_in_request, seen, versions_in_request,
    },
    config::{Config, Faults, Mutant},
    invariants::{Broken, Invariant},
    operator::Operator,
    part::Part,
    provider::{Provider, Token},
    reader::Reader,
    waits::Waits,
};

/// A request whose sender does not wait for it any more, and which may be carried out at any time, or never.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stray {
    pub request: Request,
    /// For how many ticks; an exchange is not under way for longer than it may take.
    pub ticks: u8,
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub struct World {
    pub cluster: Part<Cluster>,
    pub provider: Part<Provider>,
    pub readers: Vec<Part<Reader>>,
    pub operators: Vec<Part<Operator>>,
    pub strays: Part<Vec<Stray>>,
    /// The gate as it was when it was open before: a watch that is late may show it still.
    pub open_before: Part<Option<Stored<GateState>>>,
    /// The faults that may still happen.
    pub left: Faults,
    pub refreshes: u8,
    /// Nobody tries any more: the provider has refused the refresh token.
    pub dead: bool,
    /// The generation whose token is near its expiry.
    pub aged: Option<u64>,
    /// Whether a writer ended, or lost the answer, where that may cost a refresh token.
    pub excused: bool,
    /// Whether somebody else wrote the grant.
    pub edited: bool,
    /// What a step has broken.
    pub broken: Broken,
    /// For how many ticks the gate has been closed while nothing was wanted; up to [`STUCK`].
    pub closed_for: u8,
    pub waits: Waits,
}

/// Who waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Reader(usize),
    /// An operator's writer.
    Writer(usize),
    /// What an operator does behind the gate.
    Work(usize),
}

/// After how many ticks an operator looks into a gate that stays closed.
pub const STUCK: u8 = 3;

/// What a grant names as its attempt where no gate can name it.
const OLD: &str = "old";
pub const EDITED: &str = "edited";

const FIRST: Token = Token {
    family: 0,
    serial: 1,
};

impl World {
    pub fn new(config: &Config) -> Self {
        let version = |uid: &str| Version {
            uid: uid.to_owned(),
            resource_version: "0".to_owned(),
        };
        let cluster = Cluster {
            gate: Some(Stored {
                version: version("0"),
                value: GateState::open(1, config.mode, &config.durations),
            }),
            holds: std::collections::BTreeMap::default(),
            grant: Stored {
                version: version(GRANT),
                value: Grant {
                    generation: 1,
                    token: FIRST,
                    attempt: OLD.to_owned(),
                },
            },
            target: Stored {
                version: version(TARGET),
                value: Target {
                    generation: 1,
                    token: FIRST,
                },
            },
            want: None,
        };
        let readers = config.readers.iter().enumerate();
        Self {
            cluster: Part::new(cluster),
            provider: Part::new(Provider::new(config.survives)),
            readers: readers
                .map(|(index, spec)| Part::new(Reader::new(index, spec)))
                .collect(),
            operators: config
                .operators
                .iter()
                .map(|_| Part::new(Operator::new()))
                .collect(),
            strays: Part::new(Vec::new()),
            open_before: Part::new(None),
            left: config.faults,
            refreshes: config.refreshes,
            dead: false,
            aged: None,
            excused: false,
            edited: false,
            broken: Broken::default(),
            closed_for: 0,
            waits: Waits::new(config),
        }
    }

    /// After a step.
    pub fn seal(&mut self) {
        self.cluster.seal();
        self.provider.seal();
        self.readers.iter_mut().for_each(Part::seal);
        self.operators.iter_mut().for_each(Part::seal);
        self.strays.seal();
        self.open_before.seal();
    }

    /// What watches can tell after a step.
    pub fn show(&mut self, config: &Config) {
        for operator in &mut self.operators {
            let is_shown_free = operator.is_shown_free(&self.cluster, config);
            if operator.shown_free != is_shown_free {
                operator.change(|operator| operator.shown_free = is_shown_free);
            }
        }
    }

    /// Keeps the gate as it is for watches that will be late, if it is open.
    pub fn keep_open_gate(&mut self, config: &Config) {
        let gate = self.cluster.gate.as_ref().filter(|_| config.watched_gates);
        if let Some(gate) = gate.filter(|gate| gate.value.holder.is_none()) {
            let before = gate.clone();
            self.open_before.change(|kept| *kept = Some(before));
        }
    }

    /// Whether a refresh is asked for, or will be.
    pub fn is_wanted(&self) -> bool {
        (self.cluster.want.is_some() || self.refreshes > 0) && !self.dead
    }

    /// Whether there is a gate that nobody holds.
    pub fn is_free(&self) -> bool {
        let gate = self.cluster.gate.as_ref();
        gate.is_some_and(|gate| gate.value.holder.is_none())
    }

    /// Whether consumers may not pass.
    pub fn is_closed(&self) -> bool {
        let gate = self.cluster.gate.as_ref();
        gate.is_none_or(|gate| gate.value.phase != Phase::Open)
    }

    /// Whether the gate has been closed for so long that an operator looks into it whom nobody asked.
    pub fn is_stuck(&self) -> bool {
        self.closed_for == STUCK && self.is_closed()
    }

    /// Whether nobody is going to look for holds, or at the gate but to pass it, any more.
    fn is_over(&self) -> bool {
        !self.is_wanted()
            && self.is_free()
            && self.strays.is_empty()
            && self.left.gate_deleted == 0
            && self.left.new_authorization == 0
            && self
                .operators
                .iter()
                .all(|operator| operator.attempt.is_none())
    }

    /// Forgets what can make no difference any more, so that states which only differ in it are one. It looks
    /// at everybody, but nobody learns from it.
    pub fn tidy(&mut self, config: &Config) {
        if !self.is_closed() {
            self.closed_for = 0;
        }
        if self.open_before.is_some() && self.is_over() {
            self.open_before.change(|kept| *kept = None);
        }
        if !config.observes && self.is_over() {
            for operator in &mut self.operators {
                if operator.is_untidy() {
                    operator.change(Operator::forget);
                }
            }
        }
        let stored = &self.cluster.grant.value.attempt;
        if stored != OLD && stored != EDITED && !self.is_named(stored) {
            // No later attempt can be taken for it.
            self.cluster
                .change(|cluster| OLD.clone_into(&mut cluster.grant.value.attempt));
        }
    }

    /// Whether anybody but the grant names this attempt.
    fn is_named(&self, wanted: &str) -> bool {
        let mut is_named = false;
        let mut see = |attempt: &str| is_named |= attempt == wanted;
        for gate in self.cluster.gate.iter().chain(&*self.open_before) {
            attempts_in_gate(&gate.value, &mut see);
        }
        for operator in &self.operators {
            operator.attempts(&mut see);
        }
        for stray in self.strays.iter() {
            attempts_in_request(&stray.request, &mut see);
        }
        is_named
    }

    /// Whether anybody may still compare this version with another. Who `asks` is told the new one at once
    /// and forgets the old one.
    fn is_remembered(&self, object: &str, wanted: &Version, asks: Option<Who>) -> bool {
        let mut found = false;
        let by_uid = |v: &Version| v.uid == wanted.uid && v.resource_version.is_empty();
        let mut see = |name: &str, version: &Version| {
            found |= name == object && (version == wanted || by_uid(version));
        };
        for (i, reader) in self.readers.iter().enumerate() {
            reader.versions(asks != Some(Who::Reader(i)), &mut see);
        }
        for (i, operator) in self.operators.iter().enumerate() {
            operator.versions(asks != Some(Who::Writer(i)), &mut see);
        }
        for stray in self.strays.iter() {
            versions_in_request(&stray.request, &mut see);
        }
        if let Some(gate) = &*self.open_before {
            see(GATE, &gate.version);
        }
        found
    }

    fn remembers_uid(&self, object: &str, uid: &str) -> bool {
        let mut found = false;
        let mut see = |name: &str, version: &Version| {
            found |= name == object && version.uid == uid;
        };
        for reader in &self.readers {
            reader.versions(true, &mut see);
        }
        for operator in &self.operators {
            operator.versions(true, &mut see);
        }
        for stray in self.strays.iter() {
            versions_in_request(&stray.request, &mut see);
        }
        if let Some(gate) = &*self.open_before {
            see(GATE, &gate.version);
        }
        found
    }

    /// A version that nobody can take for another one. Numbers that nobody remembers are used again, so
    /// that states which only differ in them are one.
    fn next_version(&self, object: &str, uid: &str, asks: Option<Who>) -> Version {
        let numbered = |n: u32| Version {
            uid: uid.to_owned(),
            resource_version: n.to_string(),
        };
        (0..)
            .map(numbered)
            .find(|version| !self.is_remembered(object, version, asks))
            .expect("a number")
    }

    fn new_version(&self, object: &str) -> Version {
        let uid = (0..)
            .map(|n: u32| n.to_string())
            .find(|uid| !self.remembers_uid(object, uid))
            .expect("a number");
        Version {
            uid,
            resource_version: "0".to_owned(),
        }
    }

    pub fn next_hold_version(&self, name: &str) -> Version {
        self.next_version(name, name, None)
    }

    /// An identifier for an attempt that nothing names.
    pub fn new_attempt(&self) -> String {
        let stored = &self.cluster.grant.value.attempt;
        (0..)
            .map(|n: u32| format!("a{n}"))
            .find(|attempt| attempt != stored && !self.is_named(attempt))
            .expect("a number")
    }

    /// Carries a request out.
    pub fn execute(&mut self, request: &Request, asks: Option<Who>, config: &Config) -> Reply {
        match request {
            Request::GetGate => Reply::Gate(match &self.cluster.gate {
                Some(gate) => Answer::Done((gate.version.clone(), gate.value.clone())),
                None => Answer::NotFound,
            }),
            Request::PutGate {
                over,
                state,
                attempt,
                stored,
            } => {
                let written = self.put_gate(over.as_ref(), state, attempt, *stored, asks, config);
                Reply::Written(written)
            }
            Request::ListHolds => Reply::Holds(self.cluster.holds.iter().map(seen).collect()),
            Request::RemoveHold { hold, forced } => {
                let found = self.cluster.holds.get(&hold.name);
                let any = config.is(Mutant::HoldDeletedInAnyVersion);
                let answer = match found {
                    None => Answer::NotFound,
                    Some(found) if found.version != hold.version && !any => Answer::Conflict,
                    Some(_) => {
                        self.remove_hold(&hold.name, *forced);
                        Answer::Done(())
                    }
                };
                Reply::Gone(answer)
            }
            Request::CreateHold { name, hold } => {
                if self.cluster.holds.contains_key(name) {
                    return Reply::Written(Answer::Conflict);
                }
                let version = self.new_version(name);
                let stored = Stored {
                    version: version.clone(),
                    value: hold.clone(),
                };
                self.cluster
                    .change(|cluster| cluster.holds.insert(name.clone(), stored));
                Reply::Written(Answer::Done(version))
            }
            Request::GetHold { name, nonce } => {
                let found = self.cluster.holds.get(name);
                Reply::Hold {
                    found: found.map_or(Answer::NotFound, |f| Answer::Done(f.version.clone())),
                    is_mine: found.is_some_and(|f| f.value.nonce == *nonce),
                }
            }
            Request::RenewHold { name, version, .. } => {
                Reply::Written(self.renew_hold(name, version, asks))
            }
            Request::ReleaseHold { name, uid } => {
                let answer = match self.cluster.holds.get(name) {
                    None => Answer::NotFound,
                    Some(found) if uid.as_ref().is_some_and(|uid| *uid != found.version.uid) => {
                        Answer::Conflict
                    }
                    Some(_) => {
                        self.cluster.change(|cluster| cluster.holds.remove(name));
                        Answer::Done(())
                    }
                };
                Reply::Gone(answer)
            }
            Request::GetTarget => {
                let target = &self.cluster.target;
                Reply::Target(target.version.clone(), target.value)
            }
            Request::GetGrant => {
                let grant = &self.cluster.grant;
                Reply::Grant(grant.version.clone(), grant.value.clone())
            }
            Request::PutGrant { over, grant } => {
                Reply::Written(self.put_grant(over, grant, config))
            }
            Request::PutTarget { over, target } => {
                Reply::Written(self.put_target(over, *target, config))
            }
            Request::Exchange { token, .. } => {
                Reply::Tokens(self.provider.change(|provider| provider.exchange(*token)))
            }
        }
    }

    fn put_gate(
        &mut self,
        over: Option<&Version>,
        state: &GateState,
        attempt: &str,
        stored: Option<u64>,
        asks: Option<Who>,
        config: &Config,
    ) -> Answer<Version> {
        let now = self.cluster.gate.clone();
        let is_stale = self.open_before.as_ref().map(|gate| &gate.version) == over;
        let blind = (config.is(Mutant::OpenedWithoutVersion) && state.holder.is_none())
            || (config.is(Mutant::ClosedWithoutVersion) && over.is_some() && is_stale);
        match (&now, over) {
            (Some(now), Some(over)) if now.version == *over || blind => {}
            (None, None) => {}
            (None, Some(_)) => return Answer::NotFound,
            _ => return Answer::Conflict,
        }
        if let Some(now) = &now {
            if let Some(holder) = &now.value.holder
                && holder.attempt != attempt
                && state.holder.is_none()
            {
                self.broken.note(Invariant::S4);
            }
            if state.generation < now.value.generation {
                self.broken.note(Invariant::S3);
            }
        }
        if state.holder.is_none() && stored.is_some_and(|stored| state.generation < Some(stored)) {
            self.broken.note(Invariant::S6);
        }
        self.keep_open_gate(config);
        let version = match &now {
            Some(now) => self.next_version(GATE, &now.version.uid, asks),
            None => self.new_version(GATE),
        };
        let value = Stored {
            version: version.clone(),
            value: state.clone(),
        };
        self.cluster.change(|cluster| {
            // An operator that has published a newer generation deletes the want.
            if state.holder.is_none() && cluster.want < state.generation {
                cluster.want = None;
            }
            cluster.gate = Some(value);
        });
        Answer::Done(version)
    }

    fn renew_hold(&mut self, name: &str, version: &Version, asks: Option<Who>) -> Answer<Version> {
        let Some(found) = self.cluster.holds.get(name) else {
            return Answer::NotFound;
        };
        if found.version != *version {
            return Answer::Conflict;
        }
        let next = self.next_version(name, &version.uid, asks);
        self.cluster.change(|cluster| {
            if let Some(hold) = cluster.holds.get_mut(name) {
                hold.version = next.clone();
            }
        });
        Answer::Done(next)
    }

    fn put_grant(&mut self, over: &Version, grant: &Grant, config: &Config) -> Answer<Version> {
        let now = self.cluster.grant.clone();
        if now.version != *over && !config.is(Mutant::GrantWithoutVersion) {
            return Answer::Conflict;
        }
        if grant.generation <= now.value.generation {
            self.broken.note(Invariant::S3);
        }
        let version = self.next_version(GRANT, GRANT, None);
        let stored = Stored {
            version: version.clone(),
            value: grant.clone(),
        };
        self.cluster.change(|cluster| cluster.grant = stored);
        Answer::Done(version)
    }

    fn put_target(&mut self, over: &Version, target: Target, config: &Config) -> Answer<Version> {
        let now = self.cluster.target.clone();
        if now.version != *over && !config.is(Mutant::TargetWithoutVersion) {
            return Answer::Conflict;
        }
        if target.generation < now.value.generation {
            self.broken.note(Invariant::S3);
        }
        let version = self.next_version(TARGET, TARGET, None);
        let stored = Stored {
            version: version.clone(),
            value: target,
        };
        self.cluster.change(|cluster| cluster.target = stored);
        Answer::Done(version)
    }

    /// Somebody takes a hold from its holder.
    pub fn remove_hold(&mut self, name: &str, overrules: bool) {
        let removed = self.cluster.change(|cluster| cluster.holds.remove(name));
        if let Some(removed) = removed
            && overrules
        {
            let reader = &mut self.readers[removed.value.reader];
            if reader.nonce == removed.value.nonce {
                reader.change(|reader| reader.overruled = true);
            }
        }
    }

    /// The request under way for `who`.
    pub fn call(&self, who: Who) -> Option<&Call> {
        match who {
            Who::Reader(i) => self.readers[i].call.as_ref(),
            Who::Writer(i) => self.operators[i].attempt.as_ref()?.call.as_ref(),
            Who::Work(i) => self.operators[i].attempt.as_ref()?.work.as_ref(),
        }
    }

    pub fn set_call(&mut self, who: Who, call: Option<Call>) {
        match who {
            Who::Reader(i) => self.readers[i].change(|reader| reader.call = call),
            Who::Writer(i) | Who::Work(i) => self.operators[i].change(|operator| {
                if let Some(attempt) = &mut operator.attempt {
                    if matches!(who, Who::Writer(_)) {
                        attempt.call = call;
                    } else {
                        attempt.work = call;
                    }
                }
            }),
        }
    }

    /// Nobody waits for this request any more. One that was not carried out yet still may be.
    pub fn abandon(&mut self, call: Option<Call>) {
        if let Some(Call::Sent(request)) = call {
            self.strays
                .change(|strays| strays.push(Stray { request, ticks: 0 }));
        }
    }
}

impl World {
    pub fn next_grant_version(&self) -> Version {
        self.next_version(GRANT, GRANT, None)
    }

    pub fn new_gate_version(&self) -> Version {
        self.new_version(GATE)
    }
}
