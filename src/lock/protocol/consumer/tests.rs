use jiff::Timestamp;

use super::*;
use crate::lock::protocol::{Durations, Holder, Unresolved};

const SECOND: Duration = Duration::from_secs(1);

fn gate(phase: Phase, mode: Mode) -> GateState {
    let durations = Durations::scaled(None, Duration::from_secs(60));
    let mut gate = GateState::open(3, mode, &durations);
    if phase != Phase::Open {
        gate.phase = phase;
        gate.closed_at = Some(Timestamp::UNIX_EPOCH);
        gate.unresolved = Some(Unresolved::unknown());
        gate.holder = Some(Holder {
            incarnation: "w".to_owned(),
            attempt: "a".to_owned(),
        });
    }
    gate
}

fn version(resource_version: u64) -> Version {
    Version {
        uid: "u".to_owned(),
        resource_version: resource_version.to_string(),
    }
}

fn consumer(mode: Option<Mode>) -> Consumer {
    Consumer::new(Terms {
        mode,
        min_use: SECOND,
        nonce: "n".to_owned(),
    })
}

fn pass(consumer: &mut Consumer, seconds: u64) {
    let by = SECOND * u32::try_from(seconds).unwrap();
    consumer.advance(Elapsed { boot: by, wall: by });
}

fn open() -> Answer<GateState> {
    Answer::Done(gate(Phase::Open, Mode::Shared))
}

/// One whose hold of 60 s was created `answered_after` seconds after it was asked for.
fn using(answered_after: u64) -> Consumer {
    let mut consumer = consumer(None);
    assert_eq!(consumer.ask(), ConsumerAsk::ReadGate);
    consumer.on_gate(open());
    assert!(matches!(consumer.ask(), ConsumerAsk::CreateHold { .. }));
    consumer.sent();
    pass(&mut consumer, answered_after);
    consumer.on_created(Answer::Done(version(1)));
    assert_eq!(consumer.ask(), ConsumerAsk::ReadGate);
    consumer.on_gate(open());
    assert_eq!(consumer.ask(), ConsumerAsk::ReadTarget);
    consumer.on_target(Some(3));
    consumer
}

#[test]
fn a_hold_counts_from_when_its_creation_was_sent_first() {
    let mut waiting = consumer(None);
    waiting.on_gate(open());
    waiting.sent();
    pass(&mut waiting, 10);
    waiting.on_created(Answer::Unclear);
    // Again under the same name, and that was stored the first time.
    let again = waiting.ask();
    waiting.sent();
    pass(&mut waiting, 5);
    waiting.on_created(Answer::Conflict);
    let ConsumerAsk::CreateHold { identity, .. } = again else {
        panic!("{again:?}");
    };
    assert_eq!(waiting.ask(), ConsumerAsk::ReadHold(identity));
    waiting.on_hold(Answer::Done(version(1)), true);
    assert_eq!(waiting.valid_for(), Duration::from_secs(57 - 15));
}

#[test]
fn a_token_may_be_used_for_a_duration_less_the_drift_and_is_lost_for_good_then() {
    let mut holder = using(2);
    assert!(holder.may_use());
    pass(&mut holder, 54);
    assert!(holder.may_use());
    pass(&mut holder, 1);
    assert!(!holder.may_use() && holder.is_lost());
    // The answer to a renewal that was under way comes too late.
    holder.on_renewed(Answer::Done(version(2)));
    assert!(!holder.may_use());
    assert_eq!(holder.ask(), ConsumerAsk::End { lost: true });
}

#[test]
fn a_renewal_counts_from_when_it_was_sent_and_a_look_prolongs_nothing() {
    let mut holder = using(0);
    pass(&mut holder, 20);
    // The gate first, then the hold.
    assert_eq!(holder.ask(), ConsumerAsk::ReadGate);
    holder.on_gate(open());
    assert!(matches!(holder.ask(), ConsumerAsk::RenewHold { .. }));
    holder.sent();
    pass(&mut holder, 7);
    holder.on_renewed(Answer::Unclear);
    assert_eq!(holder.valid_for(), Duration::from_secs(57 - 27));
    assert!(matches!(holder.ask(), ConsumerAsk::ReadHold(_)));
    holder.on_hold(Answer::Done(version(2)), true);
    assert_eq!(holder.valid_for(), Duration::from_secs(57 - 27));
    assert!(matches!(holder.ask(), ConsumerAsk::RenewHold { .. }));
    holder.sent();
    pass(&mut holder, 3);
    holder.on_renewed(Answer::Done(version(3)));
    assert_eq!(holder.valid_for(), Duration::from_secs(57 - 3));
}

#[test]
fn a_closed_gate_is_told_and_renewals_end_after_the_grace() {
    let mut holder = using(0);
    pass(&mut holder, 20);
    holder.on_gate(Answer::Done(gate(Phase::Draining, Mode::Shared)));
    assert!(holder.is_draining() && holder.may_use());
    assert!(matches!(holder.ask(), ConsumerAsk::RenewHold { .. }));
    holder.sent();
    holder.on_renewed(Answer::Done(version(2)));
    pass(&mut holder, 30);
    // The grace of 30 s is over: what is left is used up.
    holder.on_gate(Answer::Done(gate(Phase::Draining, Mode::Shared)));
    assert_eq!(holder.ask(), ConsumerAsk::Use(Duration::from_secs(27)));
    pass(&mut holder, 27);
    assert!(holder.is_lost());
}

#[test]
fn a_gate_that_closed_between_leads_back_to_the_gate_under_another_name() {
    let mut late = consumer(None);
    late.on_gate(open());
    let ConsumerAsk::CreateHold {
        identity: first, ..
    } = late.ask()
    else {
        panic!();
    };
    late.sent();
    late.on_created(Answer::Done(version(1)));
    late.on_gate(Answer::Done(gate(Phase::Refreshing, Mode::Shared)));
    assert_eq!(
        late.ask(),
        ConsumerAsk::DeleteHold {
            identity: first.clone(),
            uid: Some("u".to_owned())
        }
    );
    late.on_deleted(&Answer::Done(()));
    assert_eq!(late.ask(), ConsumerAsk::WaitForGate);
    late.hint();
    late.on_gate(open());
    let ConsumerAsk::CreateHold { identity, .. } = late.ask() else {
        panic!();
    };
    assert_ne!(identity, first);
}

#[test]
fn a_wall_clock_that_was_set_suspends_the_use_until_a_renewal_has_succeeded() {
    let day = Duration::from_secs(86_400);
    let mut holder = using(0);
    holder.advance(Elapsed {
        boot: SECOND,
        wall: day,
    });
    assert!(!holder.may_use() && !holder.is_lost());
    assert_eq!(holder.ask(), ConsumerAsk::ReadGate);
    holder.on_gate(open());
    assert!(matches!(holder.ask(), ConsumerAsk::RenewHold { .. }));
    holder.sent();
    pass(&mut holder, 1);
    holder.on_renewed(Answer::Done(version(2)));
    assert!(holder.may_use());

    // One that was really paused finds its hold gone.
    let mut paused = using(0);
    paused.advance(Elapsed {
        boot: SECOND,
        wall: day,
    });
    paused.on_gate(open());
    paused.sent();
    paused.on_renewed(Answer::NotFound);
    paused.on_hold(Answer::NotFound, false);
    assert!(paused.is_lost());
}

#[test]
fn a_place_that_another_has_is_waited_for() {
    let mut second = consumer(Some(Mode::Exclusive));
    second.on_gate(Answer::Done(gate(Phase::Open, Mode::Exclusive)));
    let ConsumerAsk::CreateHold { identity, .. } = second.ask() else {
        panic!();
    };
    assert_eq!(identity.seat, Seat::Exclusive);
    second.sent();
    second.on_created(Answer::Conflict);
    second.on_hold(Answer::Done(version(7)), false);
    assert_eq!(second.ask(), ConsumerAsk::WaitForGate);
    // Given up meanwhile, there is nothing of its own to delete.
    second.release();
    assert_eq!(second.ask(), ConsumerAsk::End { lost: false });
}

#[test]
fn a_newer_token_makes_a_holder_look_whether_its_hold_was_deleted_for_it() {
    let mut holder = using(0);
    let mut newer = gate(Phase::Open, Mode::Shared);
    newer.generation = Some(4);
    holder.hint();
    holder.on_gate(Answer::Done(newer.clone()));
    assert!(matches!(holder.ask(), ConsumerAsk::ReadHold(_)));
    holder.on_hold(Answer::NotFound, false);
    assert!(holder.is_lost());

    let mut spared = using(0);
    spared.hint();
    spared.on_gate(Answer::Done(newer));
    spared.on_hold(Answer::Done(version(1)), true);
    assert!(spared.may_use());
}

#[test]
fn whoever_gives_up_while_a_hold_may_come_into_being_deletes_it_by_its_name() {
    let mut shared = consumer(None);
    shared.on_gate(open());
    shared.sent();
    shared.release();
    assert!(matches!(
        shared.ask(),
        ConsumerAsk::DeleteHold { uid: None, .. }
    ));
    // The name of the only place is not one's own: whose is it?
    let mut exclusive = consumer(None);
    exclusive.on_gate(Answer::Done(gate(Phase::Open, Mode::Exclusive)));
    exclusive.sent();
    exclusive.release();
    assert!(matches!(exclusive.ask(), ConsumerAsk::ReadHold(_)));
    exclusive.on_hold(Answer::Done(version(1)), true);
    assert_eq!(exclusive.version, Some(version(1)));
    assert!(matches!(
        exclusive.ask(),
        ConsumerAsk::DeleteHold { uid: Some(_), .. }
    ));
}
