//! A program that uses the token: it makes the requests that its [`Consumer`] asks for.

use std::time::Duration;

use tokenward::lock::protocol::{
    Answer, Consumer, ConsumerAsk, Elapsed, GateState, Phase, Seat, Terms, Version,
};

use crate::{
    cluster::{Call, EXCLUSIVE, Hold, Reply, Request, Target, versions_in_call},
    config::{Config, Mutant, ReaderSpec},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activity {
    Runs,
    /// For so many ticks.
    Stopped {
        missed: u8,
        /// Whether its boot clock stands still, too.
        paused: bool,
    },
}

/// Ticks beyond this are not told apart: every timer has run out.
pub const LONG: u8 = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reader {
    /// `None`: it crashed, or does not come again.
    pub machine: Option<Consumer>,
    pub activity: Activity,
    pub call: Option<Call>,
    /// Which of its lives it lives.
    pub life: u8,
    tries: u8,
    /// The version of the hold that it knows of.
    known: Option<(String, Version)>,
    /// What it has read in the target.
    pub token: Option<Target>,
    /// The nonce of the hold that it has made.
    pub nonce: String,
    /// Whether its hold was taken from it: at a deadline, or by somebody else.
    pub overruled: bool,
    /// The target as it was read together with the gate.
    pub ahead: Option<Target>,
    /// The gate as it was passed last.
    memory: Option<Box<GateState>>,
    /// For mutants: the gate as it was read last, and time that was not told yet.
    last_gate: Option<Box<GateState>>,
    withheld: Elapsed,
}

/// Whether what it does next is a request.
fn is_request(ask: &ConsumerAsk) -> bool {
    !matches!(
        ask,
        ConsumerAsk::WaitForGate
            | ConsumerAsk::WaitForTarget(_)
            | ConsumerAsk::Use(_)
            | ConsumerAsk::End { .. }
    )
}

impl Reader {
    pub fn new(index: usize, spec: &ReaderSpec) -> Self {
        Self {
            machine: (spec.lives > 0).then(|| Consumer::new(terms(index, 0))),
            activity: Activity::Runs,
            call: None,
            life: 0,
            tries: 0,
            known: None,
            token: None,
            nonce: String::new(),
            overruled: false,
            ahead: None,
            memory: None,
            last_gate: None,
            withheld: Elapsed::default(),
        }
    }

    /// Whether it reads the target before it has the answer to its second look at the gate.
    pub fn reads_ahead(&self, spec: &ReaderSpec) -> bool {
        spec.hurries
            && self.ahead.is_none()
            && self.machine.as_ref().is_some_and(Consumer::is_checking)
    }

    fn runs(&self) -> Option<&Consumer> {
        self.machine
            .as_ref()
            .filter(|_| self.activity == Activity::Runs)
    }

    /// Whether it may use the token, by its own clock, at this moment.
    pub fn is_live(&self, spec: &ReaderSpec) -> bool {
        let Some(machine) = &self.machine else {
            return false;
        };
        match self.activity {
            Activity::Runs => machine.may_use(),
            // Nothing runs while the machine is paused.
            Activity::Stopped { paused: true, .. } => false,
            Activity::Stopped { missed, .. } => {
                let mut machine = machine.clone();
                machine.advance(ticks(spec.rate, missed));
                machine.may_use()
            }
        }
    }

    pub fn is_using(&self) -> bool {
        self.runs().is_some_and(Consumer::is_using)
    }

    pub fn may_send(&self) -> bool {
        self.call.is_none()
            && self
                .runs()
                .is_some_and(|machine| is_request(&machine.ask()))
    }

    pub fn is_waiting(&self, spec: &ReaderSpec) -> bool {
        self.call.is_none()
            && self.tries + 1 < spec.tries
            && self
                .runs()
                .is_some_and(|machine| machine.ask() == ConsumerAsk::WaitForGate)
    }

    pub fn is_waiting_for_target(&self) -> bool {
        self.call.is_none()
            && self
                .runs()
                .is_some_and(|machine| matches!(machine.ask(), ConsumerAsk::WaitForTarget(_)))
    }

    /// Whether it has not come yet.
    pub fn is_away(&self) -> bool {
        self.call.is_none()
            && self.tries == 0
            && self
                .runs()
                .is_some_and(|machine| machine.ask() == ConsumerAsk::ReadGate)
            && self.known.is_none()
    }

    /// Whether it wants the token, and does not have it.
    pub fn is_kept_waiting(&self) -> bool {
        let wants = |machine: &Consumer| !machine.is_using();
        self.machine.as_ref().is_some_and(wants) && !self.is_away()
    }

    /// Whether a target of this generation is what it waits for.
    pub fn may_take(&self, generation: u64) -> bool {
        let machine = self.machine.as_ref();
        machine.is_some_and(|machine| machine.generation() <= generation)
    }

    pub fn may_be_hinted(&self) -> bool {
        self.is_using() && self.call.is_none()
    }

    /// Sends what the machine asks for.
    pub fn send(&mut self, index: usize, config: &Config) -> Option<Request> {
        let machine = self.machine.as_mut()?;
        let ask = machine.ask();
        let name = |seat: Seat, nonce: &str| match seat {
            Seat::Shared => format!("hold.{nonce}"),
            Seat::Exclusive => EXCLUSIVE.to_owned(),
        };
        let nonce = |nonce: &str| {
            let same = config.is(Mutant::NonceReused);
            if same {
                index.to_string()
            } else {
                nonce.to_owned()
            }
        };
        let request = match ask {
            ConsumerAsk::ReadGate => Request::GetGate,
            ConsumerAsk::ReadTarget => Request::GetTarget,
            ConsumerAsk::CreateHold {
                identity, duration, ..
            } => {
                let nonce = nonce(&identity.nonce);
                if !config.is(Mutant::ValidFromAnswer) {
                    machine.sent();
                }
                self.nonce.clone_from(&nonce);
                self.overruled = false;
                Request::CreateHold {
                    name: name(identity.seat, &nonce),
                    hold: Hold {
                        reader: index,
                        nonce,
                        duration,
                    },
                }
            }
            ConsumerAsk::ReadHold(identity) => {
                let nonce = nonce(&identity.nonce);
                Request::GetHold {
                    name: name(identity.seat, &nonce),
                    nonce,
                }
            }
            ConsumerAsk::RenewHold { identity, version } => {
                let nonce = nonce(&identity.nonce);
                if !config.is(Mutant::ValidFromAnswer) {
                    machine.sent();
                }
                Request::RenewHold {
                    name: name(identity.seat, &nonce),
                    version,
                    hold: Hold {
                        reader: index,
                        nonce,
                        duration: config.durations.hold,
                    },
                }
            }
            ConsumerAsk::DeleteHold { identity, uid } => Request::ReleaseHold {
                name: name(identity.seat, &nonce(&identity.nonce)),
                uid: uid.filter(|_| !config.is(Mutant::ReleasedByName)),
            },
            _ => return None,
        };
        Some(request)
    }

    /// Takes in the answer to the request under way. Whether it came to an end.
    pub fn deliver(&mut self, request: &Request, reply: &Reply, config: &Config, index: usize) {
        let Some(machine) = self.machine.as_mut() else {
            return;
        };
        if config.is(Mutant::ValidFromAnswer)
            && matches!(
                request,
                Request::CreateHold { .. } | Request::RenewHold { .. }
            )
        {
            machine.sent();
        }
        if let (
            Request::CreateHold { name, .. }
            | Request::RenewHold { name, .. }
            | Request::GetHold { name, .. },
            Reply::Written(Answer::Done(version))
            | Reply::Hold {
                found: Answer::Done(version),
                ..
            },
        ) = (request, reply)
        {
            self.known = Some((name.clone(), version.clone()));
        }
        match (request, reply) {
            (Request::GetGate, reply) => {
                let mut answer = match reply {
                    Reply::Gate(Answer::Done((_, gate))) => Answer::Done(gate.clone()),
                    Reply::Gate(Answer::NotFound) => Answer::NotFound,
                    _ => Answer::Unclear,
                };
                let checks = self.known.is_some() && !machine.is_using();
                let stale =
                    config.is(Mutant::GateReadBeforeHold) || config.is(Mutant::GateReadFromCache);
                if stale {
                    if checks && let Some(last) = &self.last_gate {
                        answer = Answer::Done((**last).clone());
                    }
                    if let Answer::Done(gate) = &answer {
                        self.last_gate = Some(Box::new(gate.clone()));
                    }
                }
                if let (true, Answer::Done(gate)) = (config.readers[index].hurries, &answer) {
                    self.memory = Some(Box::new(gate.clone()));
                }
                machine.on_gate(answer);
                if let Some(target) = self.ahead.take()
                    && machine.ask() == ConsumerAsk::ReadTarget
                {
                    self.token = Some(target);
                    machine.on_target(Some(taken(&target, config)));
                }
            }
            (Request::CreateHold { .. }, Reply::Written(answer)) => {
                machine.on_created(answer.clone());
            }
            (Request::CreateHold { .. }, _) => machine.on_created(Answer::Unclear),
            (Request::RenewHold { .. }, Reply::Written(answer)) => {
                machine.on_renewed(answer.clone());
            }
            (Request::RenewHold { .. }, _) => machine.on_renewed(Answer::Unclear),
            (Request::GetHold { .. }, Reply::Hold { found, is_mine }) => {
                machine.on_hold(found.clone(), *is_mine);
            }
            (Request::GetHold { .. }, _) => machine.on_hold(Answer::Unclear, false),
            (Request::GetTarget, Reply::Target(_, target)) => {
                self.token = Some(*target);
                machine.on_target(Some(taken(target, config)));
            }
            (Request::ReleaseHold { .. }, Reply::Gone(answer)) => machine.on_deleted(answer),
            (Request::ReleaseHold { .. }, _) => machine.on_deleted(&Answer::Unclear),
            _ => {}
        }
        if config.is(Mutant::LateAnswerCounts) {
            let withheld = std::mem::take(&mut self.withheld);
            machine.advance(withheld);
        }
        self.settle(index, config);
    }

    /// After its end it comes again, or not.
    fn settle(&mut self, index: usize, config: &Config) {
        let spec = &config.readers[index];
        let Some(machine) = &self.machine else {
            return;
        };
        if !machine.is_using() {
            if matches!(
                machine.ask(),
                ConsumerAsk::WaitForGate | ConsumerAsk::ReadGate
            ) && self.known.is_none()
            {
                self.token = None;
            }
        }
        let is_idle = matches!(machine.ask(), ConsumerAsk::WaitForGate);
        if is_idle {
            self.known = None;
            self.token = None;
            self.overruled = false;
        }
        // One that may not try again does nothing any more: where nobody counts how long it waits, it is gone.
        if is_idle && self.call.is_none() && self.tries + 1 >= spec.tries && !config.counts {
            self.crash();
            return;
        }
        if let ConsumerAsk::End { .. } = machine.ask()
            && self.call.is_none()
        {
            self.life += 1;
            self.tries = 0;
            self.known = None;
            self.token = None;
            self.nonce.clear();
            self.overruled = false;
            self.last_gate = None;
            self.withheld = Elapsed::default();
            self.ahead = None;
            let memory = self.memory.take().filter(|gate| gate.phase == Phase::Open);
            self.machine = (self.life < spec.lives).then(|| match memory {
                Some(gate) => Consumer::with_memory(terms(index, self.life), &gate),
                None => Consumer::new(terms(index, self.life)),
            });
            if self.machine.is_none() {
                self.crash();
            }
        }
    }

    pub fn hint(&mut self) {
        if let Some(machine) = &mut self.machine {
            if machine.ask() == ConsumerAsk::WaitForGate {
                self.tries += 1;
            }
            machine.hint();
        }
    }

    pub fn release(&mut self, index: usize, config: &Config) {
        if let Some(machine) = &mut self.machine {
            machine.release();
        }
        self.settle(index, config);
    }

    /// It ends, and leaves nothing that anybody reads.
    pub fn crash(&mut self) {
        self.life = 0;
        self.tries = 0;
        self.nonce.clear();
        self.machine = None;
        self.call = None;
        self.known = None;
        self.token = None;
        self.overruled = false;
        self.activity = Activity::Runs;
        self.ahead = None;
        self.memory = None;
        self.last_gate = None;
        self.withheld = Elapsed::default();
    }

    pub fn stop(&mut self, paused: bool) {
        self.activity = Activity::Stopped { missed: 0, paused };
    }

    /// It goes on, and looks at its clock first.
    pub fn go_on(&mut self, index: usize, config: &Config) {
        let spec = &config.readers[index];
        let Activity::Stopped { missed, paused } = self.activity else {
            return;
        };
        self.activity = Activity::Runs;
        let mut elapsed = ticks(spec.rate, missed);
        if paused {
            elapsed.boot = Duration::ZERO;
        }
        if config.is(Mutant::StopUnnoticed) {
            return;
        }
        if config.is(Mutant::PauseUnnoticed) {
            elapsed.wall = elapsed.boot;
        }
        self.advance(elapsed, config);
        self.settle(index, config);
    }

    pub fn jump(&mut self, index: usize, config: &Config) {
        let day = Elapsed {
            boot: Duration::ZERO,
            wall: Duration::from_secs(86_400),
        };
        self.advance(day, config);
        self.settle(index, config);
    }

    pub fn tick(&mut self, index: usize, config: &Config) {
        let spec = &config.readers[index];
        match &mut self.activity {
            Activity::Runs => {
                self.advance(ticks(spec.rate, 1), config);
                self.settle(index, config);
            }
            Activity::Stopped { missed, .. } => *missed = (*missed + 1).min(LONG),
        }
    }

    fn advance(&mut self, mut elapsed: Elapsed, config: &Config) {
        let Some(machine) = &mut self.machine else {
            return;
        };
        if config.is(Mutant::HoldValidWithoutDrift) {
            elapsed.boot = elapsed.boot * 19 / 20;
            elapsed.wall = elapsed.wall * 19 / 20;
        }
        if config.is(Mutant::LateAnswerCounts)
            && let Some(call) = &self.call
            && matches!(call.request(), Request::RenewHold { .. })
        {
            self.withheld.boot = (self.withheld.boot + elapsed.boot).min(Duration::from_secs(9));
            self.withheld.wall = (self.withheld.wall + elapsed.wall).min(Duration::from_secs(9));
            return;
        }
        machine.advance(elapsed);
    }

    /// The versions that it remembers; without `all`, those that the answer under way makes no difference
    /// to.
    pub fn versions(&self, all: bool, see: &mut impl FnMut(&str, &Version)) {
        if !all {
            return;
        }
        if let Some((name, version)) = &self.known {
            see(name, version);
        }
        if let Some(call) = &self.call {
            versions_in_call(call, see);
        }
    }
}

/// The generation of a target, as a reader takes it.
fn taken(target: &Target, config: &Config) -> u64 {
    if config.is(Mutant::OldTargetTaken) {
        u64::MAX
    } else {
        target.generation
    }
}

fn terms(index: usize, life: u8) -> Terms {
    Terms {
        mode: None,
        min_use: Duration::ZERO,
        nonce: format!("{index}{life}"),
    }
}

/// What so many ticks are on a clock of this rate.
pub fn ticks(rate: u64, ticks: u8) -> Elapsed {
    let by = Duration::from_millis(rate * u64::from(ticks));
    Elapsed { boot: by, wall: by }
}
