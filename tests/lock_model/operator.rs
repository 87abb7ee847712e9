//! An operator: a process with its stopwatches, and the attempt that it makes. It makes the requests that its
//! [`Writer`] asks for, as `lock::gate` does.

use std::time::Duration;

use jiff::Timestamp;
use tokenward::lock::protocol::{
    Answer, Attempt, Drains, Elapsed, End, GateState, Holder, Priority, SeenHold, Stopwatches,
    Unresolved, Version, Writer, WriterAsk,
};

use crate::{
    cluster::{
        Call, Cluster, GATE, Reply, Request, Stored, attempts_in_call, attempts_in_gate, seen,
        versions_in_call,
    },
    config::{Config, Mutant},
    reader::{Activity, LONG, ticks},
    work::Step,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    pub activity: Activity,
    /// Counts its starts.
    pub life: u8,
    pub watches: Stopwatches,
    /// How long versions of the gate have been seen.
    gates: Stopwatches,
    pub attempt: Option<Attempting>,
    /// Whether its last attempt found the gate held by another: it comes back after a while.
    pub rests: bool,
    /// Whether its watch can tell that there was no hold when the gate had been closed by its attempt, or later.
    pub shown_free: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempting {
    pub writer: Writer,
    /// The request that the writer asked for.
    pub call: Option<Call>,
    /// What is done behind the gate.
    pub step: Step,
    /// The request for that.
    pub work: Option<Call>,
    /// The generation that was asked about when it began; `None`: nothing, but that a gate which nobody
    /// keeps is opened.
    pub asked: Option<u64>,
    /// The gate that the writer knows of.
    pub gate: Option<(Version, GateState)>,
    /// The holds that it was told of last.
    listed: Vec<SeenHold>,
    /// The generation that it has stored, or found stored.
    pub stored: Option<u64>,
    /// For mutants: what stood when it began.
    early: Option<Box<Early>>,
    /// For a mutant: until it overrides another's gate.
    deadline: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Early {
    holds: Vec<SeenHold>,
}

impl Operator {
    pub fn new() -> Self {
        Self {
            activity: Activity::Runs,
            life: 0,
            watches: Stopwatches::default(),
            gates: Stopwatches::default(),
            attempt: None,
            rests: false,
            shown_free: false,
        }
    }

    pub fn runs(&self) -> bool {
        self.activity == Activity::Runs
    }

    /// An attempt begins.
    pub fn start(
        &mut self,
        index: usize,
        attempt: String,
        asked: Option<u64>,
        cluster: &Cluster,
        config: &Config,
    ) {
        let writer = Writer::new(Attempt {
            holder: Holder {
                incarnation: format!("{index}.{}", self.life),
                attempt,
            },
            priority: Priority::Refresh,
            durations: config.durations,
            mode: config.operators[index].mode,
            drains: if config.survives {
                Drains::WhereUnsure
            } else {
                Drains::Always
            },
            patience: config.patience,
            open_for: None,
            now: Timestamp::UNIX_EPOCH,
        });
        let early = (config.is(Mutant::ListedBeforeClosed)
            || config.is(Mutant::HoldsListedFromCache))
        .then(|| {
            Box::new(Early {
                holds: cluster.holds.iter().map(seen).collect(),
            })
        });
        self.attempt = Some(Attempting {
            writer,
            call: None,
            step: Step::Entering,
            work: None,
            asked,
            gate: None,
            listed: Vec::new(),
            stored: None,
            early,
            deadline: config
                .is(Mutant::DeadlineOverridesWriter)
                .then_some(config.patience),
        });
    }

    /// Whether the writer has a request to make.
    pub fn may_send(&self, config: &Config) -> bool {
        let Some(attempt) = self.attempt.as_ref().filter(|_| self.runs()) else {
            return false;
        };
        let renews = match attempt.step {
            Step::Draining => !attempt.writer.is_behind(),
            Step::Entering | Step::Noting { .. } | Step::Opening => true,
            Step::Exchanging { .. } | Step::Persisting { .. } => !config.is(Mutant::GateNotRenewed),
            Step::Reading
            | Step::Presenting { .. }
            | Step::Publishing { .. }
            | Step::Refused { .. }
            | Step::Abandoned => false,
        };
        if !renews || attempt.call.is_some() {
            return false;
        }
        if config.is(Mutant::GateNotRenewed) && attempt.is_renewal(&self.watches) {
            return false;
        }
        !matches!(
            attempt.writer.ask(&self.watches),
            WriterAsk::Wait(_) | WriterAsk::End(_)
        )
    }

    /// Whether the answer to an exchange was lost, and it may still be carried out.
    pub fn outlasts(&self, config: &Config) -> bool {
        let Some(attempt) = &self.attempt else {
            return false;
        };
        let is_lost = matches!(
            attempt.work,
            Some(Call::Answered(Request::Exchange { .. }, Reply::Unclear))
        );
        let left = attempt.step.left(config);
        is_lost && left.is_some_and(|left| !left.is_zero())
    }

    /// Sends what the writer asks for.
    pub fn send(&mut self, config: &Config) -> Option<Request> {
        let attempt = self.attempt.as_mut()?;
        let request = match attempt.writer.ask(&self.watches) {
            WriterAsk::ReadGate => Request::GetGate,
            WriterAsk::ListHolds => Request::ListHolds,
            WriterAsk::WriteGate { over, mut state } => {
                if !config.is(Mutant::LeaseFromAnswer) {
                    attempt.writer.sent();
                }
                if config.is(Mutant::UnresolvedForgotten) && state.holder.is_none() {
                    state.unresolved = None;
                }
                if config.is(Mutant::MissingGateIsResolved) && over.is_none() {
                    state.unresolved = None;
                }
                Request::PutGate {
                    over,
                    state,
                    attempt: attempt.writer.attempt().to_owned(),
                    stored: attempt.stored,
                }
            }
            WriterAsk::DeleteHold(hold) => {
                let forced = !self.watches.time_left(&hold).is_zero();
                Request::RemoveHold { hold, forced }
            }
            WriterAsk::Wait(_) | WriterAsk::End(_) => return None,
        };
        Some(request)
    }

    /// What a watch, which is late, may answer to the writer's request other than the API server would: how the gate was
    /// when it was open, `before`, to an attempt that begins; and that there is no hold, as was true a while ago.
    pub fn watched(
        &self,
        before: Option<&Stored<GateState>>,
        cluster: &Cluster,
        config: &Config,
    ) -> Option<Reply> {
        let attempt = self.attempt.as_ref()?;
        match attempt.writer.ask(&self.watches) {
            // Where it was written over in vain the API server is asked.
            WriterAsk::ReadGate if attempt.step == Step::Entering && attempt.gate.is_none() => {
                let seen = before.map(|gate| (gate.version.clone(), gate.value.clone()));
                Some(Reply::Gate(Answer::Done(seen?)))
            }
            WriterAsk::ListHolds => {
                let tells = self.shown_free || config.is(Mutant::ToldByHalfAList);
                (tells && !cluster.holds.is_empty()).then(|| Reply::Holds(Vec::new()))
            }
            _ => None,
        }
    }

    /// Whether its watch can tell that there was no hold, after the step that has led here: what it tells may be as old as
    /// the gate that the attempt has closed, and no older.
    pub fn is_shown_free(&self, cluster: &Cluster, config: &Config) -> bool {
        let holder = cluster.gate.as_ref().and_then(|g| g.value.holder.as_ref());
        let attempt = self.attempt.as_ref();
        let is_shown = match config.mutant {
            Some(Mutant::GateNotShown) => true,
            Some(Mutant::GateShownInAnyVersion) => holder.is_some(),
            _ => holder.is_some_and(|h| attempt.is_some_and(|a| a.writer.attempt() == h.attempt)),
        };
        let asks = attempt.is_some_and(Attempting::asks_for_holds)
            || config.is(Mutant::GateShownInAnyVersion);
        asks && (self.shown_free || (is_shown && cluster.holds.is_empty()))
    }

    /// Takes in the answer to the writer's request.
    pub fn deliver(&mut self, request: &Request, reply: &Reply, config: &Config) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        let Attempting { writer, gate, .. } = attempt;
        if config.is(Mutant::LeaseFromAnswer) && matches!(request, Request::PutGate { .. }) {
            writer.sent();
        }
        match (request, reply) {
            (Request::GetGate, Reply::Gate(answer)) => {
                let mut answer = answer.clone();
                let mut unchanged_for = Duration::ZERO;
                match &answer {
                    Answer::Done((version, state)) => {
                        // A late sight of an open gate is no look at one that is closed by now.
                        let counts = state.holder.is_some() || config.is(Mutant::LateSightTimed);
                        if attempt.step == Step::Entering && counts {
                            let expiry = state.expires_after();
                            unchanged_for = self.gates.see(GATE, version, expiry);
                        }
                        *gate = Some((version.clone(), state.clone()));
                    }
                    _ => *gate = None,
                }
                if attempt.deadline.is_some_and(|left| left.is_zero()) {
                    unchanged_for = Duration::from_secs(1000);
                }
                if config.is(Mutant::NoTakeover) {
                    unchanged_for = Duration::ZERO;
                }
                if let Answer::Done((_, state)) = &mut answer {
                    pretend(config, state, writer.attempt());
                }
                writer.on_gate(answer, unchanged_for, |_| false);
            }
            (Request::GetGate, _) => {
                writer.on_gate(Answer::Unclear, Duration::ZERO, |_| false);
                if attempt.step == Step::Entering && !writer.may_have_closed() {
                    self.attempt = None;
                    return;
                }
            }
            (Request::PutGate { state, .. }, Reply::Written(answer)) => {
                if let Answer::Done(version) = answer {
                    *gate = Some((version.clone(), (**state).clone()));
                }
                writer.on_written(answer.clone());
            }
            (Request::PutGate { .. }, _) => writer.on_written(Answer::Conflict),
            (Request::ListHolds, Reply::Holds(holds)) => {
                let mut holds = holds.clone();
                if let Some(early) = attempt.early.take() {
                    holds = early.holds;
                }
                if config.is(Mutant::HoldNotTimed) {
                    holds.clear();
                }
                attempt.listed.clone_from(&holds);
                writer.on_holds(Some(holds), &mut self.watches);
            }
            (Request::ListHolds, _) => writer.on_holds(None, &mut self.watches),
            (Request::RemoveHold { hold, .. }, Reply::Gone(answer)) => {
                writer.on_hold_deleted(hold, answer, &mut self.watches);
            }
            (Request::RemoveHold { hold, .. }, _) => {
                writer.on_hold_deleted(hold, &Answer::Unclear, &mut self.watches);
            }
            _ => {}
        }
        self.settle(config);
    }

    /// What follows by itself.
    pub fn settle(&mut self, config: &Config) {
        let Some(attempt) = &mut self.attempt else {
            return;
        };
        if attempt.step == Step::Entering && attempt.writer.is_closed() {
            attempt.step = Step::Draining;
            self.gates.forget(GATE);
            if config.is(Mutant::MissingGateWithoutWait) && attempt.writer.is_settling() {
                attempt.writer.advance(Elapsed {
                    boot: Duration::from_secs(1000),
                    wall: Duration::ZERO,
                });
            }
        }
        if attempt.call.is_none()
            && attempt.work.is_none()
            && let WriterAsk::End(end) = attempt.writer.ask(&self.watches)
            && !attempt.step.goes_on_without_gate()
        {
            self.rests = config.operators_urgent && matches!(end, End::Busy(_));
            self.attempt = None;
        }
    }

    /// A watch tells what holds there are.
    pub fn observe(&mut self, cluster: &Cluster) {
        self.watches.retain(|name| cluster.holds.contains_key(name));
        for hold in cluster.holds.iter().map(seen) {
            self.watches.see_hold(&hold);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.writer.hint();
        }
    }

    /// Forgets what can make no difference any more: a version that is not the current one, and that the
    /// attempt does not wait for, is not seen again.
    pub fn tidy(&mut self, cluster: &Cluster) {
        if let Some(attempt) = &mut self.attempt
            && attempt.writer.is_behind()
        {
            attempt.listed.clear();
        }
        let listed = self.attempt.iter().flat_map(|attempt| &attempt.listed);
        let listed: Vec<_> = listed.map(|hold| (&hold.name, &hold.version)).collect();
        let is_current = |(name, version): &(String, Version)| {
            let hold = cluster.holds.get(name);
            hold.is_some_and(|hold| hold.version == *version) || listed.contains(&(name, version))
        };
        let seen = self.watches.overdue(|_| 0);
        if !seen.iter().all(is_current) {
            let kept: Vec<_> = seen.into_iter().filter(is_current).collect();
            self.watches
                .retain(|name| kept.iter().any(|(kept, _)| kept == name));
        }
        // For how long a gate has been seen that nobody holds makes no difference either.
        let is_gone = |(_, version): &(String, Version)| {
            let gate = cluster.gate.as_ref();
            gate.is_none_or(|gate| gate.version != *version || gate.value.holder.is_none())
        };
        if self.gates.overdue(|_| 0).iter().any(is_gone) {
            self.gates.forget(GATE);
        }
    }

    /// Forgets all sightings.
    pub fn forget(&mut self) {
        self.watches = Stopwatches::default();
        self.gates = Stopwatches::default();
    }

    /// Whether [`Self::tidy`] has something to do.
    pub fn is_untidy(&self) -> bool {
        !self.watches.is_empty() || !self.gates.is_empty()
    }

    /// Whether a watch has something to tell.
    pub fn is_behind(&self, cluster: &Cluster) -> bool {
        let seen = self.watches.overdue(|_| 0);
        seen.len() != cluster.holds.len()
            || seen.iter().any(|(name, version)| {
                cluster
                    .holds
                    .get(name)
                    .is_none_or(|hold| hold.version != *version)
            })
    }

    pub fn tick(&mut self, index: usize, config: &Config) {
        let rate = config.operators[index].rate;
        self.rests = false;
        if let Activity::Stopped { missed, .. } = &mut self.activity {
            *missed = (*missed + 1).min(LONG);
        } else {
            self.advance(ticks(rate, 1), config);
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.step.age(Duration::from_millis(rate));
        }
    }

    pub fn advance(&mut self, elapsed: Elapsed, config: &Config) {
        let mut others = elapsed.of_others();
        if config.is(Mutant::HoldTimedWithoutDrift) {
            others = others * 21 / 20;
        }
        if config.is(Mutant::HoldTimedByWallClock) {
            others = elapsed.wall;
        }
        if config.is(Mutant::DeadHoldsKept) {
            others = Duration::ZERO;
        }
        self.watches.advance(others);
        self.gates.advance(elapsed.of_others());
        if let Some(attempt) = &mut self.attempt {
            attempt.writer.advance(elapsed);
            attempt.deadline = attempt
                .deadline
                .map(|left| left.saturating_sub(elapsed.boot));
        }
        self.settle(config);
    }

    pub fn go_on(&mut self, index: usize, config: &Config) {
        let Activity::Stopped { missed, paused } = self.activity else {
            return;
        };
        self.activity = Activity::Runs;
        let mut elapsed = ticks(config.operators[index].rate, missed);
        if paused {
            elapsed.boot = Duration::ZERO;
        }
        self.advance(elapsed, config);
    }

    pub fn jump(&mut self, config: &Config) {
        self.advance(
            Elapsed {
                boot: Duration::ZERO,
                wall: Duration::from_secs(86_400),
            },
            config,
        );
    }

    /// The process ends, and another one starts in its place.
    pub fn crash(&mut self) {
        *self = Self {
            life: self.life + 1,
            ..Self::new()
        };
    }

    /// The versions that it remembers; without `all`, those that the answer to the writer's request makes
    /// no difference to.
    pub fn versions(&self, all: bool, see: &mut impl FnMut(&str, &Version)) {
        for (name, version) in self.watches.overdue(|_| 0) {
            see(&name, &version);
        }
        for (_, version) in self.gates.overdue(|_| 0) {
            see(GATE, &version);
        }
        let Some(attempt) = &self.attempt else {
            return;
        };
        if let Some((version, _)) = attempt.gate.as_ref().filter(|_| all) {
            see(GATE, version);
        }
        if all
            && let WriterAsk::WriteGate {
                over: Some(version),
                ..
            } = attempt.writer.ask(&self.watches)
        {
            see(GATE, &version);
        }
        let early = attempt.early.iter().flat_map(|early| &early.holds);
        for hold in attempt.listed.iter().chain(early) {
            see(&hold.name, &hold.version);
        }
        for call in attempt.call.iter().filter(|_| all).chain(&attempt.work) {
            versions_in_call(call, see);
        }
        attempt.step.versions(see);
    }

    pub fn attempts<'a>(&'a self, see: &mut impl FnMut(&'a str)) {
        let Some(attempt) = &self.attempt else {
            return;
        };
        see(attempt.writer.attempt());
        attempts_in_gate(attempt.writer.gate(), see);
        if let Some((_, gate)) = &attempt.gate {
            attempts_in_gate(gate, see);
        }
        for call in attempt.call.iter().chain(&attempt.work) {
            attempts_in_call(call, see);
        }
        attempt.step.attempts(see);
    }
}

impl Attempting {
    /// Opens the gate, with what is known: the way out of every attempt that came to nothing.
    pub fn reopen(&mut self, config: &Config) {
        let generation = self.writer.gate().generation;
        let unresolved = self.writer.gate().unresolved.clone();
        if config.is(Mutant::AbortLeavesClosed) {
            self.step = Step::Abandoned;
            return;
        }
        self.open(generation, unresolved, config);
    }

    pub fn open(
        &mut self,
        generation: Option<u64>,
        unresolved: Option<Unresolved>,
        config: &Config,
    ) {
        self.writer.open(generation, unresolved, &config.durations);
        self.step = Step::Opening;
    }

    /// Whether the writer has still to find out who holds the credential.
    fn asks_for_holds(&self) -> bool {
        matches!(self.step, Step::Entering | Step::Draining) && !self.writer.is_behind()
    }

    /// Whether the next request of the writer only renews its lease.
    fn is_renewal(&self, watches: &Stopwatches) -> bool {
        match (self.writer.ask(watches), &self.gate) {
            (WriterAsk::WriteGate { state, .. }, Some((_, stored))) => *state == *stored,
            _ => false,
        }
    }
}

/// What a writer that leaves a sentence out takes the gate for.
fn pretend(config: &Config, gate: &mut GateState, me: &str) {
    use tokenward::lock::protocol::Phase;
    let is_others = gate.holder.as_ref().is_some_and(|h| h.attempt != me);
    if !is_others {
        return;
    }
    if config.is(Mutant::PlainTakeover) && gate.phase == Phase::Refreshing {
        gate.phase = Phase::Draining;
    }
    if config.is(Mutant::NoTakeoverDelay) {
        gate.takeover_delay = Duration::ZERO;
    }
    if config.is(Mutant::DelayCoversExchangeOnly) {
        gate.takeover_delay = config.durations.exchange;
    }
    if config.is(Mutant::HeldOpenGateIsFree) && gate.phase == Phase::Open {
        gate.holder = None;
    }
}
