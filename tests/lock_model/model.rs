//! The steps from one state to the next.

use std::time::Duration;

use stateright::{Model, Property};
use tokenward::lock::protocol::{Answer, GateState};

use crate::{
    cluster::{Call, Grant, Reply, Request, Stored},
    config::{Config, Grain, Mutant, TICK},
    invariants::{self, Invariant},
    reader::Activity,
    waits::ENOUGH,
    work::{Step, Worked},
    world::{EDITED, STUCK, Stray, Who, World},
};

/// The lock of one credential, with everybody around it.
#[derive(Clone, Debug)]
pub struct Lock {
    pub config: Config,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A second passes, on each clock in its way.
    Tick,
    /// Somebody does what comes next: mostly, a request is sent.
    Go(Who),
    /// A request is carried out.
    Commit(Who),
    /// Its answer arrives.
    Deliver(Who),
    /// Its answer is lost.
    Lose(Who),
    /// A request is carried out that nobody waits for any more.
    CommitStray(usize),
    /// A reader is told to look at the gate, or at the target.
    Hint(usize),
    Release(usize),
    /// An operator begins an attempt: somebody asks for a refresh, or did before.
    Start(usize),
    Observe(usize),
    /// An operator's watch answers what its writer asks for, by what was true a while ago.
    Watch(usize),
    CrashReader(usize),
    CrashOperator(usize),
    CrashAttempt(usize),
    Interrupt(usize),
    StopReader(usize),
    PauseReader(usize),
    ReaderGoesOn(usize),
    JumpReader(usize),
    StopOperator(usize),
    PauseOperator(usize),
    OperatorGoesOn(usize),
    JumpOperator(usize),
    Vanish(usize),
    DeleteGate,
    Authorize,
    EditGrant,
    TouchGrant,
    Age,
}

impl Model for Lock {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.config)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let config = &self.config;
        let first = actions.len();
        self.reader_steps(world, actions);
        let second = actions.len();
        self.operator_steps(world, actions);
        let is_due = |action: &Action| !self.may_wait(world, *action);
        let is_busy = (config.readers_urgent && actions[first..second].iter().any(is_due))
            || (config.operators_urgent && actions[second..].iter().any(is_due));
        self.choices(world, actions);
        self.faults(world, actions);
        if self.time_may_pass(world) && !is_busy {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        self.step(&mut next, action);
        if self.config.counts {
            next.waits.step(action == Action::Tick);
        }
        next.show(&self.config);
        next.tidy(&self.config);
        if action != Action::Tick {
            let cluster = &next.cluster;
            for operator in next.operators.iter_mut().filter(|o| o.is_untidy()) {
                operator.change(|operator| operator.tidy(cluster));
            }
        }
        next.seal();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("S1", invariants::s1),
            Property::always("S2", invariants::s2),
            Property::always("S3", invariants::s3),
            Property::always("S4", invariants::s4),
            Property::always("S5", invariants::s5),
            Property::always("S6", invariants::s6),
            Property::always("S7", invariants::s7),
            Property::always("S8", invariants::s8),
        ];
        properties.extend(invariants::reached());
        if self.config.counts {
            properties.extend(invariants::bounded());
        }
        properties
    }
}

impl Lock {
    /// What readers do by themselves.
    fn reader_steps(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, reader) in world.readers.iter().enumerate() {
            // Of readers that are alike the first to come is called the first: the other orders are the
            // same with other names.
            let specs = &self.config.readers;
            let is_named_later = i > 0
                && specs[i] == specs[i - 1]
                && reader.is_away()
                && world.readers[i - 1].is_away();
            if is_named_later {
                continue;
            }
            if reader.activity == Activity::Runs {
                next_of_call(world, Who::Reader(i), reader.may_send(), actions);
            } else if let Some(Call::Sent(_)) = reader.call {
                next_of_call(world, Who::Reader(i), false, actions);
            }
        }
        let is_open = !world.is_closed();
        for (i, reader) in world.readers.iter().enumerate() {
            if reader.activity != Activity::Runs {
                continue;
            }
            let spec = &self.config.readers[i];
            if (is_open && reader.is_waiting(spec)) || reader.is_waiting_for_target() {
                actions.push(Action::Hint(i));
            }
        }
    }

    /// What operators do by themselves.
    fn operator_steps(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, operator) in world.operators.iter().enumerate() {
            for (who, may_go) in [
                (Who::Writer(i), operator.may_send(&self.config)),
                (Who::Work(i), operator.may_work()),
            ] {
                let waits = matches!(world.call(who), Some(Call::Answered(..)));
                if operator.outlasts(&self.config) {
                    continue;
                }
                if operator.runs() || !waits {
                    next_of_call(world, who, may_go, actions);
                }
            }
        }
        for (i, operator) in world.operators.iter().enumerate() {
            if operator.may_send(&self.config) && self.watched(world, i).is_some() {
                actions.push(Action::Watch(i));
            }
        }
        for (i, operator) in world.operators.iter().enumerate() {
            let is_due = world.is_wanted() || world.is_stuck();
            let comes_later = operator.rests && self.config.counts;
            if operator.runs() && operator.attempt.is_none() && is_due && !comes_later {
                actions.push(Action::Start(i));
            }
        }
    }

    fn watched(&self, world: &World, operator: usize) -> Option<Reply> {
        let before = world.open_before.as_ref();
        world.operators[operator].watched(before, &world.cluster, &self.config)
    }

    /// Whether a step need not come at once, also from those who are never late: it is the provider's turn;
    /// nobody has asked for a refresh yet; the gate was found held, and is looked at again after a while; a
    /// reader has not come yet, or what it waits for is not there.
    fn may_wait(&self, world: &World, action: Action) -> bool {
        match action {
            Action::Commit(who) => {
                matches!(world.call(who), Some(Call::Sent(Request::Exchange { .. })))
            }
            Action::Start(i) => {
                let is_asked = world.cluster.want.is_some() && !world.dead;
                world.operators[i].rests || !(is_asked || world.is_stuck())
            }
            Action::Go(Who::Reader(i)) => world.readers[i].is_away(),
            Action::Hint(i) => {
                let reader = &world.readers[i];
                reader.is_waiting_for_target()
                    && !reader.may_take(world.cluster.target.value.generation)
            }
            _ => false,
        }
    }

    /// What they may do, or not.
    fn choices(&self, world: &World, actions: &mut Vec<Action>) {
        for (i, reader) in world.readers.iter().enumerate() {
            if reader.is_using() && self.config.readers[i].releases {
                actions.push(Action::Release(i));
            }
            if self.config.hints && reader.may_be_hinted() {
                actions.push(Action::Hint(i));
            }
            if reader.activity != Activity::Runs {
                actions.push(Action::ReaderGoesOn(i));
            }
        }
        for (i, operator) in world.operators.iter().enumerate() {
            if !operator.runs() {
                actions.push(Action::OperatorGoesOn(i));
                continue;
            }
            if self.config.observes && operator.is_behind(&world.cluster) {
                actions.push(Action::Observe(i));
            }
        }
        for i in 0..world.strays.len() {
            actions.push(Action::CommitStray(i));
        }
    }

    fn faults(&self, world: &World, actions: &mut Vec<Action>) {
        let left = &world.left;
        let mut at = |budget: u8, is_possible: bool, action: Action| {
            if budget > 0 && is_possible {
                actions.push(action);
            }
        };
        for (i, reader) in world.readers.iter().enumerate() {
            // Before it comes nothing can go wrong that is more than not coming, or coming later.
            let runs =
                reader.machine.is_some() && reader.activity == Activity::Runs && !reader.is_away();
            let sends = self.config.readers_grain == Grain::Atomic && reader.may_send();
            let is_sent = reader.call.is_some() || sends;
            let has_machine = reader.machine.is_some() && reader.activity == Activity::Runs;
            at(
                left.lost,
                has_machine && is_sent,
                Action::Lose(Who::Reader(i)),
            );
            at(left.reader_crash, runs, Action::CrashReader(i));
            at(left.reader_stop, runs, Action::StopReader(i));
            at(left.reader_pause, runs, Action::PauseReader(i));
            at(left.reader_jump, runs, Action::JumpReader(i));
        }
        for (i, operator) in world.operators.iter().enumerate() {
            let Some(attempt) = operator.attempt.as_ref().filter(|_| operator.runs()) else {
                continue;
            };
            let atomic = self.config.operators_grain == Grain::Atomic;
            let is_away = attempt.call.is_some() || (atomic && operator.may_send(&self.config));
            at(left.lost, is_away, Action::Lose(Who::Writer(i)));
            let is_away = attempt.work.is_some() || (atomic && operator.may_work());
            at(left.lost, is_away, Action::Lose(Who::Work(i)));
            at(left.operator_crash, true, Action::CrashOperator(i));
            at(left.attempt_crash, true, Action::CrashAttempt(i));
            at(left.operator_stop, true, Action::StopOperator(i));
            at(left.operator_pause, true, Action::PauseOperator(i));
            at(left.operator_jump, true, Action::JumpOperator(i));
            let is_idle = attempt.call.is_none() && attempt.work.is_none();
            let stops = matches!(attempt.step, Step::Draining | Step::Presenting { .. });
            at(left.interrupt, is_idle && stops, Action::Interrupt(i));
        }
        for i in 0..world.cluster.holds.len() {
            at(left.vanish, true, Action::Vanish(i));
        }
        at(
            left.gate_deleted,
            world.cluster.gate.is_some(),
            Action::DeleteGate,
        );
        at(left.new_authorization, true, Action::Authorize);
        at(left.grant_edited, true, Action::EditGrant);
        at(left.grant_touched, true, Action::TouchGrant);
        at(left.aged, world.aged.is_none(), Action::Age);
    }

    /// An exchange, and storing what it brought, is done in time where the API server and the provider
    /// answer: that is what the delay of a takeover counts on.
    fn time_may_pass(&self, world: &World) -> bool {
        world.operators.iter().enumerate().all(|(i, operator)| {
            let tick = Duration::from_millis(self.config.operators[i].rate);
            let left = operator
                .attempt
                .as_ref()
                .and_then(|a| a.step.left(&self.config));
            let is_lost = operator.outlasts(&self.config);
            !operator.runs() || is_lost || left.is_none_or(|left| tick <= left)
        })
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each action")]
    fn step(&self, world: &mut World, action: Action) {
        let config = &self.config;
        match action {
            Action::Tick => self.tick(world),
            Action::Go(who) => self.go(world, who, false),
            Action::Commit(who) => self.commit(world, who),
            Action::Deliver(who) => {
                if let Some(Call::Answered(request, reply)) = world.call(who).cloned() {
                    self.deliver(world, who, &request, &reply);
                }
            }
            Action::Lose(who) => {
                world.left.lost -= 1;
                if world.call(who).is_none() {
                    self.go(world, who, true);
                }
                let call = world.call(who).cloned();
                if let Some(call) = call {
                    let request = call.request().clone();
                    if matches!(request, Request::Exchange { .. }) {
                        world.excused = true;
                    }
                    world.abandon(Some(call));
                    if matches!(request, Request::Exchange { .. })
                        && !config.is(Mutant::ExchangeNotOutlasted)
                    {
                        // It may be carried out for as long as an exchange takes: the gate stays closed.
                        world.set_call(who, Some(Call::Answered(request, Reply::Unclear)));
                    } else {
                        let reply = match &request {
                            Request::RenewHold { version, .. }
                                if config.is(Mutant::LostRenewalCounts) =>
                            {
                                Reply::Written(Answer::Done(version.clone()))
                            }
                            _ => Reply::Unclear,
                        };
                        self.deliver(world, who, &request, &reply);
                    }
                }
            }
            Action::CommitStray(i) => {
                let request = world.strays[i].request.clone();
                world.execute(&request, None, config);
                world.strays.change(|strays| strays.remove(i));
            }
            Action::Hint(i) => world.readers[i].change(crate::reader::Reader::hint),
            Action::Release(i) => {
                world.readers[i].change(|reader| reader.release(i, config));
            }
            Action::Start(i) => {
                if world.cluster.want.is_none() && world.refreshes > 0 {
                    world.refreshes -= 1;
                    let generation = world.cluster.grant.value.generation;
                    world
                        .cluster
                        .change(|cluster| cluster.want = Some(generation));
                }
                let attempt = world.new_attempt();
                // Where nothing is wanted, a gate that nobody keeps is to be opened.
                let asked = world.cluster.want.filter(|_| !world.dead);
                let cluster = &world.cluster;
                world.operators[i]
                    .change(|operator| operator.start(i, attempt, asked, cluster, config));
            }
            Action::Observe(i) => {
                let cluster = &world.cluster;
                world.operators[i].change(|operator| operator.observe(cluster));
            }
            Action::Watch(i) => {
                let reply = self.watched(world, i);
                let request = world.operators[i].change(|operator| operator.send(config));
                if let (Some(request), Some(reply)) = (request, reply) {
                    self.answer(world, Who::Writer(i), request, reply);
                }
            }
            Action::CrashReader(i) => {
                world.left.reader_crash -= 1;
                world.abandon(world.readers[i].call.clone());
                world.readers[i].change(crate::reader::Reader::crash);
            }
            Action::CrashOperator(i) => {
                world.left.operator_crash -= 1;
                self.end_attempt(world, i);
                world.operators[i].change(crate::operator::Operator::crash);
            }
            Action::CrashAttempt(i) => {
                world.left.attempt_crash -= 1;
                self.end_attempt(world, i);
            }
            Action::Interrupt(i) => {
                world.left.interrupt -= 1;
                world.operators[i].change(|operator| {
                    let Some(attempt) = &mut operator.attempt else {
                        return;
                    };
                    if attempt.writer.is_settling() {
                        operator.attempt = None;
                    } else {
                        attempt.reopen(config);
                    }
                    operator.settle(config);
                });
            }
            Action::StopReader(i) => {
                world.left.reader_stop -= 1;
                world.readers[i].change(|reader| reader.stop(false));
            }
            Action::PauseReader(i) => {
                world.left.reader_pause -= 1;
                world.readers[i].change(|reader| reader.stop(true));
            }
            Action::ReaderGoesOn(i) => {
                world.readers[i].change(|reader| reader.go_on(i, config));
            }
            Action::JumpReader(i) => {
                world.left.reader_jump -= 1;
                world.readers[i].change(|reader| reader.jump(i, config));
            }
            Action::StopOperator(i) => {
                world.left.operator_stop -= 1;
                let stopped = Activity::Stopped {
                    missed: 0,
                    paused: false,
                };
                world.operators[i].change(|operator| operator.activity = stopped);
            }
            Action::PauseOperator(i) => {
                world.left.operator_pause -= 1;
                let paused = Activity::Stopped {
                    missed: 0,
                    paused: true,
                };
                world.operators[i].change(|operator| operator.activity = paused);
            }
            Action::OperatorGoesOn(i) => {
                world.operators[i].change(|operator| operator.go_on(i, config));
            }
            Action::JumpOperator(i) => {
                world.left.operator_jump -= 1;
                world.operators[i].change(|operator| operator.jump(config));
            }
            Action::Vanish(i) => {
                world.left.vanish -= 1;
                if let Some(name) = world.cluster.holds.keys().nth(i).cloned() {
                    world.remove_hold(&name, true);
                }
            }
            Action::DeleteGate => {
                world.left.gate_deleted -= 1;
                world.keep_open_gate(config);
                world.cluster.change(|cluster| cluster.gate = None);
            }
            Action::Authorize => {
                world.left.new_authorization -= 1;
                let token = world.provider.change(crate::provider::Provider::authorize);
                self.edit_grant(world, |grant| {
                    grant.token = token;
                    grant.generation += 1;
                });
                world.dead = false;
            }
            Action::EditGrant => {
                world.left.grant_edited -= 1;
                self.edit_grant(world, |grant| grant.generation += 1);
            }
            Action::TouchGrant => {
                world.left.grant_touched -= 1;
                self.edit_grant(world, |_| {});
            }
            Action::Age => {
                world.left.aged -= 1;
                world.aged = Some(world.cluster.grant.value.generation);
            }
        }
    }

    fn commit(&self, world: &mut World, who: Who) {
        if let Some(Call::Sent(request)) = world.call(who).cloned() {
            let asks = (self.grain(who) != Grain::Full).then_some(who);
            let reply = world.execute(&request, asks, &self.config);
            self.answer(world, who, request, reply);
        }
    }

    fn edit_grant(&self, world: &mut World, edit: impl FnOnce(&mut Grant)) {
        let mut grant = world.cluster.grant.value.clone();
        edit(&mut grant);
        if grant != world.cluster.grant.value {
            grant.attempt = EDITED.to_owned();
            world.edited = true;
        }
        let version = world.next_grant_version();
        let stored = Stored {
            version,
            value: grant,
        };
        world.cluster.change(|cluster| cluster.grant = stored);
    }

    fn tick(&self, world: &mut World) {
        let config = &self.config;
        for (i, reader) in world.readers.iter_mut().enumerate() {
            reader.change(|reader| reader.tick(i, config));
        }
        let mut lapsed = false;
        for (i, operator) in world.operators.iter_mut().enumerate() {
            operator.change(|operator| operator.tick(i, config));
            let left = operator.attempt.as_ref().and_then(|a| a.step.left(config));
            // One that was stopped for too long counts as one that crashed.
            lapsed |= !operator.runs() && left.is_some_and(|left| left.is_zero());
        }
        world.excused |= lapsed;
        if !world.strays.is_empty() {
            world.strays.change(|strays| {
                for stray in strays.iter_mut() {
                    if let Request::Exchange { .. } = stray.request {
                        stray.ticks += 1;
                    }
                }
                let longest = config.durations.exchange.div_duration_f64(TICK);
                strays.retain(|stray: &Stray| f64::from(stray.ticks) < longest);
            });
        }
        if config.counts {
            self.count(world);
        }
        if (world.cluster.want.is_none() || world.dead) && world.is_closed() {
            world.closed_for = (world.closed_for + 1).min(STUCK);
        }
        if config.is(Mutant::WantIsHold) {
            Self::renew_want(world);
        }
    }

    /// For a mutant: who asks for a refresh holds the credential until there is one.
    fn renew_want(world: &mut World) {
        const WANT: &str = "want";
        let version = world.next_hold_version(WANT);
        let is_asked = world.cluster.want.is_some();
        world.cluster.change(|cluster| {
            cluster.holds.remove(WANT);
            if is_asked {
                let value = crate::cluster::Hold {
                    reader: 0,
                    nonce: WANT.to_owned(),
                    duration: Duration::from_secs(2),
                };
                cluster
                    .holds
                    .insert(WANT.to_owned(), Stored { version, value });
            }
        });
    }

    /// How long everybody has waited.
    fn count(&self, world: &mut World) {
        let count = |waits: &mut u8, is_waiting: bool| {
            *waits = if is_waiting {
                waits.saturating_add(1).min(ENOUGH)
            } else {
                0
            };
        };
        let is_closed = world.is_closed();
        let is_wanted = world.cluster.want.is_some() && !world.dead;
        count(&mut world.waits.gate, is_closed);
        count(&mut world.waits.want, is_wanted);
        for (waits, reader) in world.waits.readers.iter_mut().zip(&world.readers) {
            count(waits, reader.is_kept_waiting());
        }
    }

    fn go(&self, world: &mut World, who: Who, is_lost: bool) {
        let config = &self.config;
        let request = match who {
            Who::Reader(i) if world.readers[i].reads_ahead(&config.readers[i]) => {
                let target = world.cluster.target.value;
                world.readers[i].change(|reader| reader.ahead = Some(target));
                return;
            }
            Who::Reader(i) => world.readers[i].change(|reader| reader.send(i, config)),
            Who::Writer(i) => world.operators[i].change(|operator| operator.send(config)),
            Who::Work(i) => world.operators[i].change(|operator| operator.work(config)),
        };
        let Some(request) = request else {
            return;
        };
        if let (Who::Work(i), Request::Exchange { token, .. }) = (who, &request) {
            self.presented(world, i, *token);
        }
        let takes_time = matches!(request, Request::Exchange { .. });
        if !request.is_read() {
            let call = Some(Call::Sent(request));
            world.set_call(who, call);
            if self.grain(who) == Grain::Atomic && !takes_time && !is_lost {
                self.commit(world, who);
            }
            return;
        }
        if config.is(Mutant::MissingGateIsOpen)
            && matches!(who, Who::Writer(_))
            && request == Request::GetGate
            && world.cluster.gate.is_none()
        {
            let version = world.new_gate_version();
            let gate = Stored {
                version,
                value: GateState::open(0, config.mode, &config.durations),
            };
            world.cluster.change(|cluster| cluster.gate = Some(gate));
        }
        let reply = world.execute(&request, None, config);
        self.answer(world, who, request, reply);
    }

    /// A request was carried out, and its answer is on its way.
    fn answer(&self, world: &mut World, who: Who, request: Request, reply: Reply) {
        if self.grain(who) == Grain::Full {
            world.set_call(who, Some(Call::Answered(request, reply)));
        } else {
            self.deliver(world, who, &request, &reply);
        }
    }

    fn grain(&self, who: Who) -> Grain {
        match who {
            Who::Reader(_) => self.config.readers_grain,
            Who::Writer(_) | Who::Work(_) => self.config.operators_grain,
        }
    }

    /// A refresh token is on its way to the provider.
    fn presented(&self, world: &mut World, operator: usize, token: crate::provider::Token) {
        let before = world.provider.change(|provider| {
            let times = provider.presented.entry(token).or_default();
            let before = *times;
            *times = (*times + 1).min(3);
            before
        });
        let attempt = world.operators[operator].attempt.as_ref();
        let is_normal = attempt.is_some_and(|a| a.writer.gate().unresolved.is_none());
        // One that the provider has refused costs nothing when it is presented again.
        let is_dead = world.provider.is_revoked(token.family);
        if is_normal && before > 0 && !is_dead {
            world.broken.note(Invariant::S2);
        }
    }

    fn deliver(&self, world: &mut World, who: Who, request: &Request, reply: &Reply) {
        let config = &self.config;
        world.set_call(who, None);
        match who {
            Who::Reader(i) => {
                world.readers[i].change(|reader| reader.deliver(request, reply, config, i));
            }
            Who::Writer(i) => {
                world.operators[i].change(|operator| operator.deliver(request, reply, config));
            }
            Who::Work(i) => {
                let aged = world.aged;
                let worked = world.operators[i]
                    .change(|operator| operator.deliver_work(request, reply, aged, config));
                world.dead |= worked == Worked::Dead;
            }
        }
    }

    fn end_attempt(&self, world: &mut World, i: usize) {
        let Some(attempt) = world.operators[i].attempt.clone() else {
            return;
        };
        if attempt.step.left(&self.config).is_some() {
            world.excused = true;
        }
        world.abandon(attempt.call);
        world.abandon(attempt.work);
        world.operators[i].change(|operator| operator.attempt = None);
    }
}

/// How a request, or the next one, goes on.
fn next_of_call(world: &World, who: Who, may_go: bool, actions: &mut Vec<Action>) {
    match world.call(who) {
        Some(Call::Sent(_)) => actions.push(Action::Commit(who)),
        Some(Call::Answered(..)) => actions.push(Action::Deliver(who)),
        None if may_go => actions.push(Action::Go(who)),
        None => {}
    }
}
