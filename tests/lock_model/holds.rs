//! What holds, in every order of events that these bounds allow.

use std::time::Duration;

use tokenward::lock::protocol::{Durations, Mode};

use crate::{
    check::{Depth, holds, walks},
    config::{Config, FAST, Faults, Grain, OperatorSpec, ReaderSpec, SLOW},
};

const SECOND: Duration = Duration::from_secs(1);

pub fn reader() -> ReaderSpec {
    ReaderSpec {
        rate: SLOW,
        lives: 1,
        tries: 1,
        releases: true,
        hurries: false,
    }
}

pub fn operator(rate: u64) -> OperatorSpec {
    OperatorSpec {
        rate,
        mode: Mode::Shared,
    }
}

/// So many readers and operators, on clocks as far apart as they may be, and one refresh.
pub fn base(name: &'static str, readers: usize, operators: usize) -> Config {
    let rates = [FAST, SLOW];
    Config {
        name,
        readers: vec![reader(); readers],
        operators: (0..operators).map(|i| operator(rates[i])).collect(),
        durations: Durations {
            writer_lease: 2 * SECOND,
            exchange: SECOND,
            persist: SECOND,
            hold: 2 * SECOND,
            drain_grace: SECOND,
        },
        mode: Mode::Shared,
        patience: 4 * SECOND,
        survives: false,
        refreshes: 1,
        faults: Faults::default(),
        hints: false,
        observes: false,
        watched_gates: false,
        readers_grain: Grain::Atomic,
        operators_grain: Grain::Atomic,
        operators_urgent: false,
        readers_urgent: false,
        counts: false,
        mutant: None,
    }
}

#[test]
fn a_reader_and_an_operator_whose_every_request_takes_its_time() {
    let config = Config {
        readers_grain: Grain::Full,
        operators_grain: Grain::Prompt,
        ..base("every request takes its time", 1, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn two_readers_and_an_operator() {
    holds(base("two readers", 2, 1), Depth::All);
}

#[test]
fn a_reader_that_comes_again_and_reads_the_target_early() {
    let mut config = Config {
        refreshes: 2,
        ..base("a reader comes again", 1, 1)
    };
    config.readers[0].lives = 2;
    config.readers[0].hurries = true;
    holds(config, Depth::All);
}

#[test]
fn a_reader_that_is_told_of_the_gate_and_an_operator_that_watches() {
    let config = Config {
        hints: true,
        observes: true,
        ..base("hints and a watch", 1, 1)
    };
    holds(config, Depth::All);
}

/// Attempts begin with a gate that is not what it was any more.
fn with_late_sights_of_the_gate(config: Config, fault: impl FnOnce(&mut Faults)) {
    let mut faults = Faults::default();
    fault(&mut faults);
    let config = Config {
        watched_gates: true,
        faults,
        ..config
    };
    holds(config, Depth::All);
}

#[test]
fn a_gate_that_a_watch_shows_late() {
    let mut config = Config {
        refreshes: 2,
        ..base("late sights", 1, 1)
    };
    config.readers[0].lives = 2;
    with_late_sights_of_the_gate(config, |_| {});
}

#[test]
fn a_gate_that_a_watch_shows_late_and_two_operators() {
    with_late_sights_of_the_gate(base("late sights, two operators", 0, 2), |_| {});
}

#[test]
fn a_gate_that_a_watch_shows_late_and_a_lost_answer() {
    let config = base("late sights, a lost answer", 1, 1);
    with_late_sights_of_the_gate(config, |f| f.lost = 1);
}

#[test]
fn a_gate_that_a_watch_shows_late_and_an_operator_that_crashes() {
    let config = base("late sights, an operator crashes", 1, 1);
    with_late_sights_of_the_gate(config, |f| f.operator_crash = 1);
}

#[test]
fn a_gate_that_a_watch_shows_late_and_that_is_deleted() {
    let config = base("late sights, the gate is deleted", 1, 1);
    with_late_sights_of_the_gate(config, |f| f.gate_deleted = 1);
}

#[test]
fn two_operators() {
    holds(base("two operators", 0, 2), Depth::All);
}

#[test]
fn a_lost_answer_and_a_write_that_comes_late() {
    let faults = Faults {
        lost: 1,
        ..Faults::default()
    };
    let config = Config {
        faults,
        ..base("a lost answer", 1, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn a_reader_that_crashes_stops_pauses_or_has_its_clock_set() {
    let faults = Faults {
        reader_crash: 1,
        reader_stop: 1,
        reader_pause: 1,
        reader_jump: 1,
        ..Faults::default()
    };
    let config = Config {
        faults,
        ..base("a reader that fails", 1, 1)
    };
    holds(config, Depth::All);
}

/// A reader, an operator, and one fault of the operator.
fn an_operator_that(name: &'static str, fault: impl FnOnce(&mut Faults)) {
    let mut faults = Faults::default();
    fault(&mut faults);
    let config = Config {
        faults,
        ..base(name, 1, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn an_operator_that_crashes() {
    an_operator_that("an operator crashes", |f| f.operator_crash = 1);
}

#[test]
fn an_operator_whose_attempt_dies() {
    an_operator_that("an attempt dies", |f| f.attempt_crash = 1);
}

#[test]
fn an_operator_that_is_told_to_end() {
    an_operator_that("an operator is told to end", |f| f.interrupt = 1);
}

#[test]
fn an_operator_that_is_stopped() {
    an_operator_that("an operator is stopped", |f| f.operator_stop = 1);
}

#[test]
fn an_operator_whose_machine_is_paused_or_whose_clock_is_set() {
    an_operator_that("an operator's clock is set", |f| {
        f.operator_pause = 1;
        f.operator_jump = 1;
    });
}

#[test]
fn others_that_delete_and_edit() {
    let faults = Faults {
        vanish: 1,
        gate_deleted: 1,
        new_authorization: 1,
        grant_edited: 1,
        grant_touched: 1,
        ..Faults::default()
    };
    let config = Config {
        faults,
        ..base("others that delete and edit", 1, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn two_operators_of_which_one_crashes() {
    let faults = Faults {
        operator_crash: 1,
        ..Faults::default()
    };
    let config = Config {
        faults,
        ..base("two operators, one crash", 0, 2)
    };
    holds(config, Depth::All);
}

#[test]
fn old_tokens_that_live_on() {
    let config = Config {
        survives: true,
        ..base("old tokens live on", 1, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn one_at_a_time() {
    let config = Config {
        mode: Mode::Exclusive,
        operators: vec![OperatorSpec {
            rate: FAST,
            mode: Mode::Exclusive,
        }],
        ..base("one at a time", 2, 1)
    };
    holds(config, Depth::All);
}

#[test]
fn two_readers_and_two_operators_with_every_fault() {
    let faults = Faults {
        lost: 1,
        reader_crash: 1,
        operator_crash: 1,
        operator_stop: 1,
        reader_stop: 1,
        gate_deleted: 1,
        ..Faults::default()
    };
    let config = Config {
        faults,
        observes: true,
        hints: true,
        ..base("two and two, every fault", 2, 2)
    };
    walks(config.clone(), SECOND * 20);
    holds(config, Depth::Steps(8));
}

/// Two readers and two operators who do at once what they have to do; the provider takes its time, readers come
/// and go when they like, and a refresh is asked for at any time.
fn two_and_two(name: &'static str, fault: impl FnOnce(&mut Faults)) -> Config {
    let mut faults = Faults::default();
    fault(&mut faults);
    Config {
        faults,
        operators_urgent: true,
        readers_urgent: true,
        ..base(name, 2, 2)
    }
}

#[test]
fn two_readers_and_two_operators() {
    holds(two_and_two("two and two", |_| {}), Depth::All);
}

/// One crash among them: there are too many states to see all, so that every order of the first `steps` is
/// looked at, and some to their ends.
fn two_and_two_with(name: &'static str, steps: usize, fault: impl FnOnce(&mut Faults)) {
    let config = two_and_two(name, fault);
    walks(config.clone(), SECOND * 10);
    holds(config, Depth::Steps(steps));
}

#[test]
fn two_readers_and_two_operators_of_which_a_reader_crashes() {
    two_and_two_with("two and two, a reader crashes", 30, |f| f.reader_crash = 1);
}

#[test]
fn two_readers_and_two_operators_of_which_an_operator_crashes() {
    two_and_two_with("two and two, an operator crashes", 24, |f| {
        f.operator_crash = 1
    });
}

#[test]
fn two_readers_and_two_operators_of_which_an_attempt_dies() {
    two_and_two_with("two and two, an attempt dies", 24, |f| f.attempt_crash = 1);
}

/// Where everybody does at once what is to be done, and one fault happens, all waiting comes to an end.
fn all_waits_end(
    name: &'static str,
    readers: usize,
    operators: usize,
    fault: impl FnOnce(&mut Faults),
) {
    holds(waiting(name, readers, operators, fault), Depth::All);
}

fn waiting(
    name: &'static str,
    readers: usize,
    operators: usize,
    fault: impl FnOnce(&mut Faults),
) -> Config {
    let mut faults = Faults::default();
    fault(&mut faults);
    let mut config = Config {
        faults,
        operators_urgent: true,
        readers_urgent: true,
        counts: true,
        ..base(name, readers, operators)
    };
    for reader in &mut config.readers {
        reader.tries = 4;
    }
    config
}

#[test]
fn nobody_waits_for_ever_where_a_watch_is_late() {
    let config = Config {
        watched_gates: true,
        ..waiting("waits: late sights, two operators", 1, 2, |_| {})
    };
    holds(config, Depth::All);
}

#[test]
fn nobody_waits_for_ever_where_a_watch_is_late_and_one_of_two_operators_crashed() {
    let config = waiting("waits: late sights, one of two crashes", 0, 2, |f| {
        f.operator_crash = 1
    });
    holds(
        Config {
            watched_gates: true,
            ..config
        },
        Depth::All,
    );
}

#[test]
fn nobody_waits_for_ever() {
    all_waits_end("waits: two readers", 2, 1, |_| {});
}

#[test]
fn nobody_waits_for_ever_for_two_operators() {
    all_waits_end("waits: two operators", 1, 2, |_| {});
}

#[test]
fn nobody_waits_for_ever_for_a_reader_that_crashed() {
    all_waits_end("waits: a reader crashes", 2, 1, |f| f.reader_crash = 1);
}

#[test]
fn nobody_waits_for_ever_for_an_operator_that_crashed() {
    all_waits_end("waits: an operator crashes", 1, 1, |f| f.operator_crash = 1);
}

#[test]
fn nobody_waits_for_ever_for_one_of_two_operators_that_crashed() {
    all_waits_end("waits: one of two operators crashes", 0, 2, |f| {
        f.operator_crash = 1;
    });
}

#[test]
fn nobody_waits_for_ever_for_an_attempt_that_died() {
    all_waits_end("waits: an attempt dies", 1, 1, |f| f.attempt_crash = 1);
}

#[test]
fn nobody_waits_for_ever_for_an_operator_that_was_told_to_end() {
    all_waits_end("waits: told to end", 1, 1, |f| f.interrupt = 1);
}

#[test]
fn nobody_waits_for_ever_for_an_answer_that_was_lost() {
    all_waits_end("waits: a lost answer", 1, 1, |f| f.lost = 1);
}

#[test]
fn nobody_waits_for_ever_for_a_gate_that_was_deleted() {
    all_waits_end("waits: the gate is deleted", 1, 1, |f| f.gate_deleted = 1);
}
