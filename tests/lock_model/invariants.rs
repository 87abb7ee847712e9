//! What must hold in every state: the invariants of the lock.

use stateright::{Model, Property};
use tokenward::lock::protocol::{Mode, Phase};

use crate::{
    cluster::{Call, Reply, Request},
    config::{Config, Mutant},
    model::Lock,
    reader::Reader,
    waits::{ENOUGH, MOST_STEPS},
    work::{Step, under_way},
    world::World,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    S2 = 2,
    S3 = 3,
    S4 = 4,
    S6 = 6,
}

/// The invariants that steps have broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Broken(u8);

impl Broken {
    pub fn note(&mut self, invariant: Invariant) {
        self.0 |= 1 << invariant as u8;
    }

    fn has(self, invariant: Invariant) -> bool {
        self.0 & (1 << invariant as u8) != 0
    }
}

fn live<'a>(world: &'a World, config: &'a Config) -> impl Iterator<Item = &'a Reader> {
    let exempts = !config.is(Mutant::HoldsCollected);
    world
        .readers
        .iter()
        .zip(&config.readers)
        .filter(move |(reader, spec)| reader.is_live(spec) && !(exempts && reader.overruled))
        .map(|(reader, _)| &**reader)
}

/// The exchanges that were sent and may still be carried out.
fn exchanges(world: &World) -> impl Iterator<Item = bool> {
    let attempts = world.operators.iter().filter_map(|o| o.attempt.as_ref());
    let working = attempts.filter_map(|a| under_way(a.work.as_ref()?));
    let strays = world.strays.iter().filter_map(|stray| match stray.request {
        Request::Exchange { token, drained } => Some((token, drained)),
        _ => None,
    });
    working.chain(strays).map(|(_, drained)| drained)
}

/// S1: behind a gate that was drained no exchange is under way while a live hold exists, but for a hold that
/// was deleted at the deadline.
pub fn s1(lock: &Lock, world: &World) -> bool {
    !exchanges(world).any(|drained| drained) || live(world, &lock.config).next().is_none()
}

/// S2: outside the Ambiguous rule a refresh token is presented at most once, and no two writers are entitled
/// to an exchange at the same time.
pub fn s2(_: &Lock, world: &World) -> bool {
    let entitled = world
        .operators
        .iter()
        .filter(|o| o.runs())
        .filter_map(|o| o.attempt.as_ref())
        .filter(|a| a.writer.may_exchange());
    !world.broken.has(Invariant::S2) && entitled.count() < 2
}

/// S3: grant and target never go backwards, nor does the gate.
pub fn s3(_: &Lock, world: &World) -> bool {
    !world.broken.has(Invariant::S3)
}

/// S4: only the owner opens the gate.
pub fn s4(_: &Lock, world: &World) -> bool {
    !world.broken.has(Invariant::S4)
}

/// S5: the newest refresh token is stored, or on its way to be, unless a writer ended in between.
pub fn s5(_: &Lock, world: &World) -> bool {
    let grant = &world.cluster.grant.value;
    if world.excused {
        return true;
    }
    let is_safe = |token| world.provider.is_newest(token);
    let is_underway = world.operators.iter().any(|operator| {
        let Some(attempt) = &operator.attempt else {
            return false;
        };
        let answered = match &attempt.work {
            Some(Call::Answered(_, Reply::Tokens(Some(token)))) => is_safe(*token),
            _ => false,
        };
        let held = match &attempt.step {
            Step::Persisting { ours, .. } => is_safe(ours.token),
            Step::Publishing { then: Some(_), .. } => true,
            _ => false,
        };
        answered || held
    });
    !world.provider.is_revoked(grant.token.family) && (is_safe(grant.token) || is_underway)
}

/// S6: neither the target nor the gate is ahead of the grant, and a writer that has stored a generation
/// opens the gate with it.
pub fn s6(_: &Lock, world: &World) -> bool {
    let grant = world.cluster.grant.value.generation;
    let gate = world.cluster.gate.as_ref();
    let gate = gate.and_then(|gate| gate.value.generation).unwrap_or(0);
    !world.broken.has(Invariant::S6)
        && world.cluster.target.value.generation <= grant
        && gate <= grant
}

/// S7: a live holder has the current token, and the provider accepts it.
pub fn s7(lock: &Lock, world: &World) -> bool {
    let config = &lock.config;
    live(world, config).all(|reader| {
        let Some(token) = reader.token else {
            return false;
        };
        let is_current = token.generation == world.cluster.grant.value.generation;
        let is_accepted = world.provider.accepts(token.token);
        (config.survives || world.edited || is_current) && (world.excused || is_accepted)
    })
}

/// S8: at most one has an exclusive credential.
pub fn s8(lock: &Lock, world: &World) -> bool {
    let gate = world.cluster.gate.as_ref();
    let is_exclusive = gate
        .is_some_and(|gate| gate.value.mode == Mode::Exclusive && gate.value.phase == Phase::Open);
    !is_exclusive || live(world, &lock.config).count() < 2
}

/// What a run must have come across, or its invariants hold for nothing.
pub fn reached() -> Vec<Property<Lock>> {
    vec![
        Property::sometimes("a token is used", |lock, world| {
            live(world, &lock.config).next().is_some()
        }),
        Property::sometimes("a token is refreshed", |_, world: &World| {
            let gate = world.cluster.gate.as_ref();
            gate.is_some_and(|gate| gate.value.generation > Some(1) && gate.value.holder.is_none())
        }),
    ]
}

/// Where waiting is counted: nobody waits for ever, because time always goes on (L0; or else the others would
/// hold for nothing) and there is an end to every wait of a gate that is closed (L1), of a refresh that was
/// asked for (L2), and of a reader (L3).
pub fn bounded() -> Vec<Property<Lock>> {
    vec![
        Property::always("L0", |lock: &Lock, world: &World| {
            let mut actions = Vec::new();
            lock.actions(world, &mut actions);
            !actions.is_empty() && world.waits.steps < MOST_STEPS
        }),
        Property::always("L1", |_, world: &World| world.waits.gate < ENOUGH),
        Property::always("L2", |_, world: &World| world.waits.want < ENOUGH),
        Property::always("L3", |_, world: &World| {
            world.waits.readers.iter().all(|waits| *waits < ENOUGH)
        }),
    ]
}
