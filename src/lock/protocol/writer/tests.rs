use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn durations() -> Durations {
    Durations::scaled(None, MINUTE)
}

fn attempt(drains: bool) -> Attempt {
    Attempt {
        holder: Holder {
            incarnation: "me".to_owned(),
            attempt: "a1".to_owned(),
        },
        priority: Priority::Refresh,
        durations: durations(),
        mode: Mode::Shared,
        drains: if drains {
            Drains::Always
        } else {
            Drains::WhereUnsure
        },
        patience: MINUTE * 2,
        open_for: None,
        now: Timestamp::UNIX_EPOCH,
    }
}

fn version(resource_version: u64) -> Version {
    Version {
        uid: "u".to_owned(),
        resource_version: resource_version.to_string(),
    }
}

fn open() -> GateState {
    GateState::open(3, Mode::Shared, &durations())
}

fn hold(resource_version: u64) -> SeenHold {
    SeenHold {
        name: "c.hold.1".to_owned(),
        version: version(resource_version),
        holder: "pod/app/1".to_owned(),
        duration: MINUTE,
    }
}

/// A writer and what its process has seen of holds.
struct Scene {
    writer: Writer,
    watches: Stopwatches,
    stored: u64,
}

impl Scene {
    fn new(drains: bool) -> Self {
        Self {
            writer: Writer::new(attempt(drains)),
            watches: Stopwatches::default(),
            stored: 1,
        }
    }

    fn ask(&self) -> WriterAsk {
        self.writer.ask(&self.watches)
    }

    fn pass(&mut self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        self.writer.advance(Elapsed { boot: by, wall: by });
        self.watches.advance(by);
    }

    fn reads(&mut self, gate: Option<GateState>) {
        assert_eq!(self.ask(), WriterAsk::ReadGate);
        let answer = gate.map_or(Answer::NotFound, |gate| {
            Answer::Done((version(self.stored), gate))
        });
        self.writer.on_gate(answer, Duration::ZERO, |_| false);
    }

    /// The gate that is written now, and is stored.
    fn writes(&mut self) -> GateState {
        let gate = self.sends();
        self.stored += 1;
        self.writer.on_written(Answer::Done(version(self.stored)));
        gate
    }

    fn sends(&mut self) -> GateState {
        let WriterAsk::WriteGate { state, .. } = self.ask() else {
            panic!("{:?}", self.ask());
        };
        self.writer.sent();
        *state
    }

    fn lists(&mut self, holds: &[SeenHold]) {
        assert_eq!(self.ask(), WriterAsk::ListHolds);
        self.writer
            .on_holds(Some(holds.to_vec()), &mut self.watches);
    }

    fn deletes(&mut self, hold: &SeenHold, answer: &Answer<()>) {
        assert_eq!(self.ask(), WriterAsk::DeleteHold(hold.clone()));
        self.writer.on_hold_deleted(hold, answer, &mut self.watches);
    }

    /// Closed, with this hold in the way.
    fn draining(hold: &SeenHold) -> Self {
        let mut scene = Self::new(true);
        scene.reads(Some(open()));
        assert_eq!(scene.writes().phase, Phase::Refreshing);
        scene.lists(std::slice::from_ref(hold));
        assert_eq!(scene.writes().phase, Phase::Draining);
        scene.lists(std::slice::from_ref(hold));
        assert!(!scene.writer.is_behind() && !scene.writer.may_exchange());
        scene
    }
}

#[test]
fn the_gate_is_closed_before_holds_are_looked_for_and_opened_after_the_work() {
    let mut scene = Scene::new(true);
    scene.reads(Some(open()));
    let closed = scene.writes();
    assert_eq!(closed.holder.as_ref().unwrap().attempt, "a1");
    assert!(!scene.writer.may_exchange());
    scene.lists(&[]);
    assert!(scene.writer.may_exchange());
    scene.writer.open(Some(4), None, &durations());
    let opened = scene.writes();
    assert_eq!((opened.holder, opened.generation), (None, Some(4)));
    assert_eq!(scene.ask(), WriterAsk::End(End::Open));
}

#[test]
fn where_the_old_token_lives_on_nobody_is_looked_for_and_the_phase_stays_open() {
    let mut scene = Scene::new(false);
    scene.reads(Some(open()));
    let closed = scene.writes();
    assert_eq!(closed.phase, Phase::Open);
    assert!(closed.holder.is_some());
    assert!(scene.writer.may_exchange());
}

#[test]
fn who_only_opens_a_gate_looks_for_nobody_whatever_was_left_undone() {
    let mut left = open();
    left.unresolved = Some(Unresolved::unknown());
    left.mode = Mode::Exclusive;
    let mut scene = Scene::new(false);
    scene.writer = Writer::new(Attempt {
        drains: Drains::Never,
        patience: Duration::ZERO,
        ..attempt(false)
    });
    scene.reads(Some(left.clone()));
    scene.writes();
    assert!(scene.writer.is_behind());
    let (generation, unresolved) = (left.generation, left.unresolved.clone());
    scene.writer.open(generation, unresolved, &durations());
    let opened = scene.writes();
    assert_eq!(opened.unresolved, left.unresolved);
    // Who may hold it changes only while nobody does.
    assert_eq!(opened.mode, Mode::Exclusive);
}

#[test]
fn what_may_be_spent_already_is_presented_only_when_nobody_uses_the_old_token() {
    let mut scene = Scene::new(false);
    let mut gate = open();
    gate.unresolved = Some(Unresolved::unknown());
    scene.reads(Some(gate));
    assert_eq!(scene.writes().phase, Phase::Refreshing);
    scene.lists(&[]);
    assert!(scene.writer.is_behind());
}

#[test]
fn a_holder_that_lets_go_lets_the_refresh_go_on() {
    let mut scene = Scene::draining(&hold(1));
    assert!(matches!(scene.ask(), WriterAsk::Wait(_)));
    scene.writer.hint();
    // One that came later found the gate closed, and is not waited for.
    let later = SeenHold {
        name: "c.hold.2".to_owned(),
        ..hold(7)
    };
    scene.lists(&[later]);
    assert_eq!(scene.writes().phase, Phase::Refreshing);
    assert!(scene.writer.may_exchange());
    assert!(!scene.writer.gate().forced);
}

#[test]
fn a_dead_holder_is_deleted_only_in_the_version_that_was_timed() {
    let mut scene = Scene::draining(&hold(1));
    // A writer's renewals, up to where the hold counts as dead.
    for _ in 0..6 {
        scene.pass(10);
        scene.writes();
        scene.lists(&[hold(1)]);
    }
    assert!(matches!(scene.ask(), WriterAsk::Wait(left) if left <= Duration::from_secs(3)));
    scene.pass(3);
    scene.deletes(&hold(1), &Answer::Conflict);
    // It was renewed: another life.
    scene.lists(&[hold(2)]);
    assert!(matches!(scene.ask(), WriterAsk::Wait(_)));
    assert!(scene.writer.forced().is_empty());
}

#[test]
fn at_the_deadline_the_living_are_deleted_too_and_that_is_told() {
    let mut scene = Scene::new(true);
    scene.writer = Writer::new(Attempt {
        patience: Duration::from_secs(5),
        ..attempt(true)
    });
    scene.reads(Some(open()));
    scene.writes();
    scene.lists(&[hold(1)]);
    scene.writes();
    scene.lists(&[hold(1)]);
    scene.pass(5);
    scene.deletes(&hold(1), &Answer::Done(()));
    assert!(scene.writes().forced);
    scene.lists(&[]);
    scene.writes();
    assert!(scene.writer.may_exchange());
    assert_eq!(scene.writer.forced(), [hold(1)]);
}

#[test]
fn a_lease_that_was_not_renewed_in_time_entitles_to_nothing() {
    let mut scene = Scene::new(true);
    scene.reads(Some(open()));
    scene.writes();
    scene.lists(&[]);
    scene.pass(28);
    assert!(scene.writer.may_exchange());
    scene.pass(1);
    assert!(!scene.writer.may_exchange());
    // It is still the holder's: a renewal brings the right back.
    scene.writes();
    assert!(scene.writer.may_exchange());
}

#[test]
fn a_close_without_an_answer_counts_from_when_it_was_sent_first() {
    let mut scene = Scene::new(true);
    scene.reads(Some(open()));
    let closed = scene.sends();
    scene.pass(10);
    scene.writer.on_written(Answer::Unclear);
    scene.reads(Some(closed));
    scene.lists(&[]);
    scene.pass(18);
    assert!(scene.writer.may_exchange());
    scene.pass(1);
    assert!(!scene.writer.may_exchange());
}

#[test]
fn a_gate_that_another_took_is_left_to_it_and_the_work_under_way_goes_on() {
    let mut scene = Scene::new(true);
    scene.reads(Some(open()));
    let closed = scene.writes();
    scene.lists(&[]);
    scene.pass(10);
    scene.sends();
    scene.writer.on_written(Answer::Conflict);
    let mut taken = closed;
    taken.holder.as_mut().unwrap().attempt = "b1".to_owned();
    scene.reads(Some(taken.clone()));
    assert!(scene.writer.is_behind() && !scene.writer.may_exchange());
    scene.writer.open(Some(4), None, &durations());
    scene.reads(Some(taken));
    assert_eq!(scene.ask(), WriterAsk::End(End::Superseded));
}

#[test]
fn a_missing_gate_is_made_closed_and_nothing_happens_for_as_long_as_a_writer_could_last() {
    let mut scene = Scene::new(false);
    scene.reads(None);
    let made = scene.writes();
    assert_eq!(made.unresolved, Some(Unresolved::unknown()));
    assert!(scene.writer.is_settling());
    // 1.05 * (30 + 99) s, and renewed meanwhile.
    for _ in 0..13 {
        scene.pass(10);
        scene.writes();
        assert!(!scene.writer.is_behind());
    }
    scene.pass(6);
    scene.lists(&[]);
    assert!(scene.writer.may_exchange());
}

#[test]
fn an_opening_that_was_stored_without_an_answer_is_found_to_be_done() {
    let mut scene = Scene::new(true);
    scene.reads(Some(open()));
    scene.writes();
    scene.lists(&[]);
    scene.writer.open(Some(4), None, &durations());
    let opened = scene.sends();
    scene.writer.on_written(Answer::Unclear);
    scene.reads(Some(opened));
    assert_eq!(scene.ask(), WriterAsk::End(End::Open));

    let mut gone = Scene::new(true);
    gone.reads(Some(open()));
    gone.writes();
    gone.lists(&[]);
    gone.writer.open(Some(4), None, &durations());
    gone.sends();
    gone.writer.on_written(Answer::NotFound);
    gone.reads(None);
    assert_eq!(gone.ask(), WriterAsk::End(End::Missing));
}
