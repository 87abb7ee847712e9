//! What the protocol is for: each rule of it, left out, breaks something. The name of a test says what is left
//! out, and which invariant that breaks.

use std::time::Duration;

use tokenward::lock::protocol::{Durations, Mode};

use crate::{
    check::breaks,
    config::{Config, FAST, Faults, Grain, Mutant, OperatorSpec},
    holds::base,
};

const SECOND: Duration = Duration::from_secs(1);

/// So many readers and operators, without one rule.
fn without(mutant: Mutant, readers: usize, operators: usize) -> Config {
    Config {
        mutant: Some(mutant),
        ..base("", readers, operators)
    }
}

fn with(config: Config, fault: impl FnOnce(&mut Faults)) -> Config {
    let mut faults = Faults::default();
    fault(&mut faults);
    Config { faults, ..config }
}

/// Requests are carried out, and answered, at any time.
fn full(config: Config) -> Config {
    Config {
        readers_grain: Grain::Full,
        operators_grain: Grain::Prompt,
        ..config
    }
}

fn lasting(config: Config, hold: u32, writer_lease: u32) -> Config {
    Config {
        durations: Durations {
            hold: SECOND * hold,
            writer_lease: SECOND * writer_lease,
            ..config.durations
        },
        patience: SECOND * (hold + 10),
        ..config
    }
}

fn urgent(config: Config) -> Config {
    Config {
        operators_urgent: true,
        readers_urgent: true,
        counts: true,
        observes: true,
        ..config
    }
}

#[test]
fn without_renewing_the_gate_l2_breaks() {
    let mut config = urgent(lasting(without(Mutant::GateNotRenewed, 1, 1), 2, 2));
    config.readers[0].releases = false;
    breaks(config, "L2");
}

#[test]
fn without_leaving_holds_to_their_holders_s1_breaks() {
    let config = with(without(Mutant::HoldsCollected, 1, 1), |f| f.vanish = 1);
    breaks(config, "S1");
}

#[test]
fn without_deleting_only_the_version_that_was_timed_s1_breaks() {
    let config = lasting(without(Mutant::HoldDeletedInAnyVersion, 1, 1), 2, 6);
    breaks(config, "S1");
}

#[test]
fn without_waiting_for_holds_s1_breaks() {
    let config = without(Mutant::HoldNotTimed, 1, 1);
    breaks(config, "S1");
}

#[test]
fn without_the_drift_of_clocks_s1_breaks() {
    // Long enough that the drift makes a tick's difference, and with few other events.
    let config = urgent(lasting(
        without(Mutant::HoldTimedWithoutDrift, 1, 1),
        21,
        40,
    ));
    breaks(config, "S1");
}

#[test]
fn without_timing_by_the_clock_that_never_jumps_s1_breaks() {
    let config = with(without(Mutant::HoldTimedByWallClock, 1, 1), |f| {
        f.operator_jump = 1
    });
    breaks(config, "S1");
}

#[test]
fn without_closing_before_looking_for_holds_s1_breaks() {
    let config = without(Mutant::ListedBeforeClosed, 1, 1);
    breaks(config, "S1");
}

#[test]
fn without_looking_at_the_gate_after_creating_the_hold_s1_breaks() {
    let config = without(Mutant::GateReadBeforeHold, 1, 1);
    breaks(config, "S1");
}

#[test]
fn without_reading_the_gate_from_the_quorum_s1_breaks() {
    let config = without(Mutant::GateReadFromCache, 1, 1);
    breaks(config, "S1");
}

#[test]
fn without_listing_holds_from_the_quorum_s1_breaks() {
    let config = without(Mutant::HoldsListedFromCache, 1, 1);
    breaks(config, "S1");
}

#[test]
fn without_seeing_the_gate_closed_before_a_watch_is_believed_s1_breaks() {
    breaks(without(Mutant::GateNotShown, 1, 1), "S1");
}

#[test]
fn without_seeing_the_very_version_that_closed_the_gate_s1_breaks() {
    let config = Config {
        refreshes: 2,
        ..without(Mutant::GateShownInAnyVersion, 1, 1)
    };
    breaks(config, "S1");
}

#[test]
fn without_waiting_for_the_end_of_a_list_with_which_a_watch_begins_s1_breaks() {
    breaks(without(Mutant::ToldByHalfAList, 1, 1), "S1");
}

#[test]
fn without_closing_only_the_version_that_a_watch_has_shown_s2_breaks() {
    let config = Config {
        watched_gates: true,
        ..without(Mutant::ClosedWithoutVersion, 0, 2)
    };
    breaks(config, "S2");
}

#[test]
fn without_timing_the_gate_by_looks_only_l1_breaks() {
    let config = Config {
        watched_gates: true,
        ..urgent(without(Mutant::LateSightTimed, 0, 2))
    };
    breaks(with(config, |f| f.operator_crash = 1), "L1");
}

#[test]
fn without_ones_own_deadline_s1_breaks() {
    let config = full(without(Mutant::LateAnswerCounts, 1, 1));
    breaks(config, "S1");
}

#[test]
fn without_counting_from_when_a_renewal_was_sent_s1_breaks() {
    let config = full(without(Mutant::ValidFromAnswer, 1, 1));
    breaks(config, "S1");
}

#[test]
fn without_another_nonce_for_each_try_s1_breaks() {
    let mut config = with(without(Mutant::NonceReused, 1, 1), |f| f.lost = 1);
    config.readers[0].tries = 2;
    breaks(config, "S1");
}

#[test]
fn without_looking_at_the_clock_after_a_stop_s1_breaks() {
    let config = with(without(Mutant::StopUnnoticed, 1, 1), |f| f.reader_stop = 1);
    breaks(config, "S1");
}

#[test]
fn without_releasing_only_ones_own_hold_s1_breaks() {
    let config = Config {
        mode: Mode::Exclusive,
        operators: vec![OperatorSpec {
            rate: FAST,
            mode: Mode::Exclusive,
        }],
        ..without(Mutant::ReleasedByName, 2, 1)
    };
    let config = with(config, |f| f.lost = 1);
    breaks(config, "S1");
}

#[test]
fn without_wants_that_are_no_holds_l3_breaks() {
    let config = urgent(Config {
        patience: SECOND * 30,
        ..without(Mutant::WantIsHold, 1, 1)
    });
    breaks(config, "L3");
}

#[test]
fn without_marking_a_takeover_as_ambiguous_s2_breaks() {
    let config = with(without(Mutant::PlainTakeover, 0, 2), |f| {
        f.operator_crash = 1
    });
    breaks(config, "S2");
}

#[test]
fn without_taking_a_held_open_gate_for_held_s2_breaks() {
    let config = Config {
        survives: true,
        ..without(Mutant::HeldOpenGateIsFree, 0, 2)
    };
    breaks(config, "S2");
}

#[test]
fn without_keeping_what_is_unresolved_s2_breaks() {
    let config = with(without(Mutant::UnresolvedForgotten, 0, 2), |f| {
        f.operator_crash = 1;
        f.lost = 1;
    });
    breaks(config, "S2");
}

#[test]
fn without_taking_a_missing_gate_for_closed_s2_breaks() {
    let config = with(without(Mutant::MissingGateIsOpen, 0, 2), |f| {
        f.gate_deleted = 1
    });
    breaks(config, "S2");
}

#[test]
fn without_taking_a_missing_gate_for_unresolved_s2_breaks() {
    let config = with(without(Mutant::MissingGateIsResolved, 0, 2), |f| {
        f.gate_deleted = 1;
        f.operator_crash = 1;
    });
    breaks(config, "S2");
}

#[test]
fn without_waiting_behind_a_missing_gate_s2_breaks() {
    let config = with(without(Mutant::MissingGateWithoutWait, 0, 2), |f| {
        f.gate_deleted = 1
    });
    breaks(config, "S2");
}

#[test]
fn without_storing_before_publishing_s6_breaks() {
    let config = without(Mutant::TargetFirst, 0, 1);
    breaks(config, "S6");
}

#[test]
fn without_the_version_of_the_grant_s3_breaks() {
    let config = with(without(Mutant::GrantWithoutVersion, 0, 1), |f| {
        f.new_authorization = 1
    });
    breaks(config, "S3");
}

#[test]
fn without_the_version_of_the_target_s3_breaks() {
    let config = with(
        full(Config {
            refreshes: 2,
            ..without(Mutant::TargetWithoutVersion, 0, 1)
        }),
        |f| f.lost = 1,
    );
    breaks(config, "S3");
}

#[test]
fn without_deferring_to_other_writers_s2_breaks() {
    let config = without(Mutant::DeadlineOverridesWriter, 0, 2);
    breaks(config, "S2");
}

#[test]
fn without_the_delay_of_a_takeover_s5_breaks() {
    let config = with(full(without(Mutant::NoTakeoverDelay, 0, 2)), |f| f.lost = 1);
    breaks(config, "S5");
}

#[test]
fn without_a_delay_that_covers_storing_too_s5_breaks() {
    let config = with(full(without(Mutant::DelayCoversExchangeOnly, 0, 2)), |f| {
        f.lost = 1
    });
    breaks(config, "S5");
}

#[test]
fn without_outlasting_an_exchange_without_an_answer_s1_breaks() {
    let config = with(without(Mutant::ExchangeNotOutlasted, 1, 1), |f| f.lost = 1);
    breaks(config, "S1");
}

#[test]
fn without_checking_the_lease_before_an_exchange_s2_breaks() {
    let config = with(without(Mutant::LeaseNotChecked, 0, 2), |f| {
        f.operator_stop = 1
    });
    breaks(config, "S2");
}

#[test]
fn without_opening_only_the_version_that_is_known_s4_breaks() {
    let config = with(without(Mutant::OpenedWithoutVersion, 0, 2), |f| {
        f.operator_stop = 1
    });
    breaks(config, "S4");
}

#[test]
fn without_storing_after_the_lease_has_lapsed_s5_breaks() {
    let config = with(without(Mutant::LapsedTokenDiscarded, 0, 2), |f| {
        f.operator_stop = 1
    });
    breaks(config, "S5");
}

#[test]
fn without_opening_on_every_way_out_l3_breaks() {
    let config = with(urgent(without(Mutant::AbortLeavesClosed, 1, 1)), |f| {
        f.interrupt = 1
    });
    breaks(config, "L3");
}

#[test]
fn without_the_drift_in_ones_own_time_s1_breaks() {
    breaks(without(Mutant::HoldValidWithoutDrift, 1, 1), "S1");
}

#[test]
fn without_doubt_in_a_renewal_that_was_not_answered_s1_breaks() {
    let config = with(without(Mutant::LostRenewalCounts, 1, 1), |f| f.lost = 1);
    breaks(config, "S1");
}

#[test]
fn without_looking_at_the_wall_clock_after_a_pause_s1_breaks() {
    let config = with(without(Mutant::PauseUnnoticed, 1, 1), |f| {
        f.reader_pause = 1
    });
    breaks(config, "S1");
}

#[test]
fn without_waiting_for_a_target_as_new_as_the_gate_s7_breaks() {
    let mut config = Config {
        refreshes: 2,
        ..without(Mutant::OldTargetTaken, 1, 1)
    };
    config.readers[0].lives = 2;
    config.readers[0].hurries = true;
    breaks(config, "S7");
}

#[test]
fn without_counting_a_lease_from_when_it_was_sent_s2_breaks() {
    let config = Config {
        operators_grain: Grain::Full,
        ..without(Mutant::LeaseFromAnswer, 0, 2)
    };
    breaks(config, "S2");
}

#[test]
fn without_taking_over_from_the_dead_l1_breaks() {
    let config = with(urgent(without(Mutant::NoTakeover, 1, 1)), |f| {
        f.operator_crash = 1
    });
    breaks(config, "L1");
}

#[test]
fn without_taking_over_from_the_dead_l2_breaks() {
    let config = with(urgent(without(Mutant::NoTakeover, 0, 2)), |f| {
        f.operator_crash = 1
    });
    breaks(config, "L2");
}

#[test]
fn without_deleting_the_holds_of_the_dead_l2_breaks() {
    let config = urgent(Config {
        patience: SECOND * 100,
        ..without(Mutant::DeadHoldsKept, 1, 1)
    });
    breaks(with(config, |f| f.reader_crash = 1), "L2");
}
