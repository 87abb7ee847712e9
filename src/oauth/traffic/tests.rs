mod simulation;

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::json;

use self::simulation::{Simulation, most_in, of};
use super::*;
use crate::api::RateLimit;

const SECOND: Duration = Duration::from_secs(1);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn limit(requests: u32, per: Duration) -> Limit {
    Limit { requests, per }
}

fn sends(lane: &mut Lane, asking: &Asking, limit: Option<Limit>, now: Instant) {
    assert_eq!(lane.ask(asking, limit, now), Admission::Go);
    lane.sent(&asking.uid, limit, now);
}

fn fails(lane: &mut Lane, name: &str, now: Instant) {
    sends(lane, &of(name, now), None, now);
    lane.came_to(&Uid::from(name), now, Effect::Failing, now);
    lane.release(&Uid::from(name));
}

fn until(admission: Admission) -> (Instant, Why) {
    match admission {
        Admission::Wait(wait) => (wait.until, wait.why),
        Admission::Go => panic!("let go"),
    }
}

#[test]
fn a_place_that_is_not_used_is_given_to_others() {
    let mut lane = Lane::default();
    let one = Some(limit(1, s(600)));
    let (slow, next) = (of("slow", s(900)), of("next", s(900)));
    assert_eq!(lane.ask(&slow, one, s(1)), Admission::Go);
    assert_ne!(lane.ask(&next, one, s(2)), Admission::Go);
    let later = s(20);
    assert_eq!(lane.ask(&next, one, later), Admission::Go);
    assert!(!lane.may_send(&slow.uid, later));
}

#[test]
fn where_nothing_is_known_everybody_goes_at_once() {
    let mut lane = Lane::default();
    for name in 0..1000 {
        sends(&mut lane, &of(&name.to_string(), SECOND), None, SECOND);
    }
}

#[test]
fn after_a_429_a_thousand_come_one_by_one_and_none_before_the_pause_is_over() {
    let mut world = Simulation::new(1000, None);
    world.answers = Box::new(|sent, _| {
        if sent < s(30) {
            Effect::Limited(Some(s(40)))
        } else {
            Effect::Answered
        }
    });
    world.run(s(600));
    let first = world.sent[0];
    let pause_ends = first + world.latency + s(40);
    // Who was under way before the first answer could not know.
    let too_early = |at: &&Instant| **at > first + world.latency && **at < pause_ends;
    assert_eq!(world.sent.iter().filter(too_early).count(), 0);
    let after: Vec<_> = world
        .sent
        .iter()
        .copied()
        .filter(|at| *at >= pause_ends)
        .collect();
    assert_eq!(world.served.len(), 1000);
    assert_eq!(after.len(), 1000, "nobody asks twice");
    assert!(most_in(&after, SECOND) <= 51, "{}", most_in(&after, SECOND));
    assert!(
        most_in(&after[..5], SECOND) <= 2,
        "slowly at first: {:?}",
        &after[..5]
    );
    let last = after[999].saturating_sub(pause_ends);
    assert!(last < s(120), "{last:?}");
}

#[test]
fn a_limit_that_nobody_states_is_found_and_kept_to() {
    // The provider really allows 120 in a minute.
    let mut world = Simulation::new(1000, None);
    let mut granted: Vec<Instant> = Vec::new();
    world.answers = Box::new(move |sent, _| {
        let window_begins = sent.saturating_sub(s(60));
        granted.retain(|at| *at > window_begins);
        if granted.len() < 120 {
            granted.push(sent);
            return Effect::Answered;
        }
        let left = (granted[0] + s(60)).saturating_sub(sent);
        Effect::Limited(Some(left))
    });
    world.run(s(3600));
    assert_eq!(world.served.len(), 1000);
    let refused = world.sent.len() - 1000;
    // Those of the first second, and one or a few each time that it gets too fast.
    assert!(refused < 200, "{refused} refused");
    let took = *world.sent.last().unwrap();
    assert!(took < s(1200), "{took:?}");
}

#[test]
fn a_stated_limit_is_never_exceeded_and_used_up_by_those_who_wait() {
    let stated: RateLimit = serde_json::from_value(json!({"requests": 60, "per": "1m"})).unwrap();
    let stated = Limit::from(stated);
    assert_eq!(stated, limit(54, s(60)));
    let mut world = Simulation::new(1000, Some(stated));
    world.run(s(3600));
    assert_eq!(world.served.len(), 1000);
    assert_eq!(world.sent.len(), 1000);
    assert_eq!(most_in(&world.sent, s(60)), 54);
    // Evenly, after those who found the lane empty.
    assert!(most_in(&world.sent[54..], s(5)) <= 6);
    let took = *world.sent.last().unwrap();
    assert!(took < s(1000 * 60 / 54 + 60), "{took:?}");
}

#[test]
fn who_has_waited_goes_in_the_order_in_which_tokens_expire() {
    let mut lane = Lane::default();
    let one = Some(limit(1, s(10)));
    sends(&mut lane, &of("first", SECOND), one, SECOND);
    let told = |lane: &mut Lane, name: &str, needed_by| {
        let asking = Asking {
            needed_by,
            ..of(name, needed_by)
        };
        until(lane.ask(&asking, one, s(2)))
    };
    assert_eq!(told(&mut lane, "late", s(900)), (s(11), Why::Budget));
    assert_eq!(told(&mut lane, "soon", s(60)).0, s(11));
    assert_eq!(told(&mut lane, "expired", s(0)).0, s(11));
    assert_eq!(told(&mut lane, "soon", s(60)).0, s(21));
    assert_eq!(told(&mut lane, "late", s(900)).0, s(31));
    // It goes when its turn has come, and the place of the others is as it was.
    sends(&mut lane, &of("expired", s(0)), one, s(11));
    assert_eq!(until(lane.ask(&of("soon", s(60)), one, s(12))).0, s(21));
    sends(&mut lane, &of("soon", s(60)), one, s(21));
}

#[test]
fn nobody_is_overtaken_for_ever() {
    let mut lane = Lane::default();
    let one = Some(limit(1, SECOND));
    let patient = of("patient", s(100));
    // Each second brings two whose tokens expired long ago, and who come back when they are told to: twice as
    // many as can be served.
    let mut asking = vec![(s(1), patient.clone())];
    for second in 1..1000 {
        let now = s(second);
        asking.push((now, of(&format!("a{second}"), s(0))));
        asking.push((now, of(&format!("b{second}"), s(0))));
        for (at, asking) in asking.iter_mut().rev().filter(|(at, _)| *at <= now) {
            match lane.ask(asking, one, now) {
                Admission::Go if *asking == patient => {
                    // Two hundred came before its own token expired.
                    assert!(now <= s(210), "{now:?}");
                    return;
                }
                Admission::Go => {
                    lane.sent(&asking.uid, one, now);
                    *at = Instant::MAX;
                }
                Admission::Wait(wait) => *at = wait.until,
            }
        }
    }
    panic!("never let go");
}

#[test]
fn a_large_limit_is_kept_with_a_short_memory() {
    let large = limit(1000, s(10));
    let mut lane = Lane::default();
    let mut sent = Vec::new();
    for tick in 0..8000 {
        // Evenly at first, and later in bursts.
        let after = if tick < 2000 {
            4 * tick
        } else {
            20 * (tick / 5)
        };
        let now = ms(1000 + after);
        let name = tick.to_string();
        if lane.ask(&of(&name, now), Some(large), now) == Admission::Go {
            lane.sent(&Uid::from(name.as_str()), Some(large), now);
            sent.push(now);
        }
        lane.leave(&Uid::from(name));
    }
    assert_eq!(most_in(&sent, s(10)), 1000);
    assert!(sent.len() >= 2900, "{}", sent.len());
}

#[test]
fn a_place_that_nobody_comes_back_for_is_given_away() {
    let mut lane = Lane::default();
    let one = Some(limit(1, s(10)));
    sends(&mut lane, &of("first", SECOND), one, SECOND);
    for gone in ["a", "b", "c"] {
        let _ = lane.ask(&of(gone, s(2)), one, s(2));
    }
    let late = Asking {
        needed_by: s(1000),
        ..of("late", s(2))
    };
    assert_eq!(until(lane.ask(&late, one, s(2))).0, s(41));
    // They are not waited for.
    sends(&mut lane, &late, one, s(41));
    assert!(!lane.is_idle(s(60)));
    sends(&mut lane, &of("next", s(200)), one, s(200));
    lane.release(&Uid::from("next"));
    let _ = lane.ask(&of("again", s(300)), one, s(300));
    lane.release(&Uid::from("again"));
    let _ = lane.ask(&of("again", s(300)), one, s(320));
    lane.release(&Uid::from("again"));
    assert!(lane.is_idle(s(320)));
}

#[test]
fn requests_that_were_under_way_when_a_limit_was_met_count_once() {
    let mut lane = Lane::default();
    for name in 0..30 {
        sends(&mut lane, &of(&name.to_string(), SECOND), None, SECOND);
    }
    for name in 0..30 {
        let uid = Uid::from(name.to_string());
        lane.came_to(&uid, SECOND, Effect::Limited(None), s(2));
    }
    // One default pause, and not thirty doublings of it.
    let (pause_ends, why) = until(lane.ask(&of("x", s(2)), None, s(2)));
    assert_eq!((pause_ends, why), (s(7), Why::RateLimited));
    sends(&mut lane, &of("x", s(7)), None, s(7));
    assert_eq!(until(lane.ask(&of("y", s(7)), None, s(7))).0, s(8));
    // One that was sent after the pause is news.
    lane.came_to(&Uid::from("x"), s(7), Effect::Limited(None), s(7));
    assert_eq!(until(lane.ask(&of("y", s(7)), None, s(8))).0, s(17));
}

#[test]
fn who_was_let_go_before_a_pause_does_not_send_in_it() {
    let mut lane = Lane::default();
    assert_eq!(lane.ask(&of("drains", s(1)), None, s(1)), Admission::Go);
    assert!(lane.may_send(&Uid::from("drains"), s(2)));
    lane.came_to(&Uid::from("x"), s(1), Effect::Limited(Some(s(60))), s(2));
    assert!(!lane.may_send(&Uid::from("drains"), s(3)));
    lane.release(&Uid::from("drains"));
    assert_eq!(until(lane.ask(&of("drains", s(3)), None, s(3))).0, s(62));
}

#[test]
fn a_person_is_let_through_a_pause_now_and_then_but_not_through_a_limit() {
    let person = |name: &str| Asking {
        by_person: true,
        ..of(name, s(0))
    };
    let mut lane = Lane::default();
    lane.came_to(&Uid::from("x"), s(1), Effect::Limited(Some(s(600))), s(2));
    sends(&mut lane, &person("a"), None, s(3));
    assert!(matches!(
        lane.ask(&person("b"), None, s(4)),
        Admission::Wait(_)
    ));
    assert!(matches!(
        lane.ask(&of("c", s(9)), None, s(9)),
        Admission::Wait(_)
    ));
    assert_eq!(lane.ask(&person("b"), None, s(9)), Admission::Go);
    assert!(lane.may_send(&Uid::from("b"), s(9)));

    let mut lane = Lane::default();
    let one = Some(limit(1, s(600)));
    sends(&mut lane, &of("x", s(1)), one, s(1));
    assert_eq!(until(lane.ask(&person("a"), one, s(2))).1, Why::Budget);
}

#[test]
fn a_provider_that_answers_nobody_is_asked_by_one_at_a_time() {
    let mut lane = Lane::default();
    for (at, name) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        fails(&mut lane, name, s(at));
    }
    fails(&mut lane, "b", s(5));
    let (first, why) = until(lane.ask(&of("c", s(5)), None, s(5)));
    assert_eq!((first, why), (s(10), Why::CircuitOpen));
    // The others come after it, spread.
    let others: HashSet<Instant> = (0..1000)
        .map(|n| until(lane.ask(&of(&format!("o{n}"), s(5)), None, s(5))).0)
        .collect();
    assert!(others.len() > 500, "{}", others.len());
    assert!(others.iter().all(|at| (s(10)..=s(40)).contains(at)));

    let mut opens_for = Vec::new();
    let mut now = s(10);
    for probe in 0..6 {
        let name = format!("p{probe}");
        assert_eq!(lane.ask(&of(&name, now), None, now), Admission::Go);
        assert!(matches!(
            lane.ask(&of("c", now), None, now),
            Admission::Wait(_)
        ));
        lane.sent(&Uid::from(name.as_str()), None, now);
        lane.came_to(&Uid::from(name.as_str()), now, Effect::Failing, now + ms(1));
        lane.release(&Uid::from(name.as_str()));
        let opened = (0..120).map(|n| now + ms(1) + s(n)).find(|at| {
            let goes = lane.ask(&of("look", *at), None, *at) == Admission::Go;
            lane.release(&Uid::from("look"));
            goes
        });
        let opened = opened.unwrap();
        opens_for.push(opened.saturating_sub(now + ms(1)).as_secs());
        now = opened;
    }
    assert_eq!(opens_for, [10, 20, 40, 60, 60, 60]);

    // An answer, even a refusal, closes it for all.
    sends(&mut lane, &of("p", now), None, now);
    lane.came_to(&Uid::from("p"), now, Effect::Answered, now);
    for n in 0..100 {
        assert_eq!(
            lane.ask(&of(&format!("o{n}"), now), None, now),
            Admission::Go
        );
    }
}

#[test]
fn a_credential_alone_is_paced_by_its_own_retries() {
    let mut lane = Lane::default();
    for at in 1..100 {
        fails(&mut lane, "alone", s(at));
    }
}

#[test]
fn failures_that_answers_come_between_open_nothing() {
    let mut lane = Lane::default();
    for at in 1..100 {
        fails(&mut lane, if at % 2 == 0 { "a" } else { "b" }, s(at));
        lane.came_to(&Uid::from("c"), s(at), Effect::Answered, s(at));
    }
}

#[test]
fn what_an_answer_means_for_others() {
    use Effect::{Answered, Failing, Limited};
    let answered = |status, pause: bool| Answer::Answered {
        status,
        error: None,
        meaning: None,
        retry_after: pause.then_some(s(7)),
    };
    for (answer, expected) in [
        (Answer::NotSent, Some(Failing)),
        (Answer::Lost, Some(Failing)),
        (Answer::NotTrusted, None),
        (answered(200, false), Some(Answered)),
        (answered(400, false), Some(Answered)),
        (answered(401, false), Some(Answered)),
        (answered(404, false), Some(Answered)),
        (answered(408, false), Some(Failing)),
        (answered(500, false), Some(Failing)),
        (answered(503, false), Some(Failing)),
        (answered(503, true), Some(Limited(Some(s(7))))),
        (answered(403, true), Some(Limited(Some(s(7))))),
        (answered(429, true), Some(Limited(Some(s(7))))),
        (answered(429, false), Some(Limited(None))),
    ] {
        for spends in [Spends::RotatingToken, Spends::LastingToken, Spends::Nothing] {
            assert_eq!(effect(&answer, spends), expected, "{answer:?} {spends:?}");
        }
    }
}

#[test]
fn what_other_processes_have_sent_counts_too() {
    let two = limit(2, s(100));
    let mut lane = Lane::default();
    sends(&mut lane, &of("ours", s(0)), Some(two), s(1000));
    // As a status tells it, in whole seconds; and one of another process, and one of long ago.
    let told = [("ours", s(999)), ("theirs", s(950)), ("old", s(899))];
    let told = told.map(|(name, at)| (Uid::from(name), at));
    for now in [s(1001), s(1002), s(1004)] {
        lane.catch_up(two, now, || told.clone());
    }
    let (turn, why) = until(lane.ask(&of("next", s(0)), Some(two), s(1005)));
    assert_eq!((turn, why), (s(1050), Why::Budget));
    // When it is refreshed elsewhere again, that is another request.
    lane.catch_up(two, s(1040), || [(Uid::from("ours"), s(1039))]);
    let (turn, _) = until(lane.ask(&of("next", s(0)), Some(two), s(1051)));
    assert_eq!(turn, s(1100));
}

fn place(limit: Option<serde_json::Value>) -> Place {
    Place {
        client: "client".to_owned(),
        host: "login.example.com:443".to_owned(),
        limit: limit.map(|limit| serde_json::from_value(limit).unwrap()),
    }
}

fn asks(lanes: &Arc<Lanes>, name: &str, place: &Place) -> Turn {
    lanes.turn(of(name, s(0)), place.clone(), "about".to_owned())
}

#[test]
fn a_limit_of_each_authorization_holds_up_nobody_else() {
    let lanes = Arc::<Lanes>::default();
    let place = place(Some(
        json!({"requests": 1, "per": "1h", "scope": "Authorization"}),
    ));
    for name in ["a", "b"] {
        let turn = asks(&lanes, name, &place);
        turn.take().unwrap();
        turn.sent();
        turn.came_to(Effect::Limited(Some(s(600))));
    }
    let (pause, _) = asks(&lanes, "a", &place).take().unwrap_err();
    assert!(pause > s(60), "{pause:?}");
    assert_eq!(asks(&lanes, "c", &place).take(), Ok(()));
}

#[test]
fn what_is_not_sent_is_given_back() {
    let lanes = Arc::<Lanes>::default();
    let place = place(Some(json!({"requests": 1, "per": "1h"})));
    let turn = asks(&lanes, "a", &place);
    assert_eq!(turn.take(), Ok(()));
    assert!(matches!(
        asks(&lanes, "b", &place).take(),
        Err((_, Why::Budget))
    ));
    assert!(lanes.waits("b", || "about".to_owned()).is_some());
    assert!(lanes.waits("b", || "another".to_owned()).is_none());
    drop(turn);
    assert_eq!(asks(&lanes, "b", &place).take(), Ok(()));
    assert!(lanes.waits("b", || "about".to_owned()).is_none());
}

#[test]
fn another_host_or_client_is_another_lane() {
    let lanes = Arc::<Lanes>::default();
    let here = place(None);
    let turn = asks(&lanes, "a", &here);
    turn.take().unwrap();
    turn.sent();
    turn.came_to(Effect::Limited(Some(s(600))));
    assert!(asks(&lanes, "b", &here).take().is_err());
    let host = Place {
        host: "other.example.com:443".to_owned(),
        ..here.clone()
    };
    assert_eq!(asks(&lanes, "b", &host).take(), Ok(()));
    let client = Place {
        client: "other".to_owned(),
        ..here
    };
    assert_eq!(asks(&lanes, "b", &client).take(), Ok(()));
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_limit(
        requests in 1u32..12,
        per in 1u64..100,
        steps in prop::collection::vec((0usize..40, 0u64..3000, 0u8..8), 1..400),
    ) {
        let limit = limit(requests, s(per));
        let mut lane = Lane::default();
        let mut now = s(1);
        let mut sent = Vec::new();
        let mut let_go = HashSet::new();
        for (who, pause, act) in steps {
            now += ms(pause);
            let name = who.to_string();
            let uid = Uid::from(name.as_str());
            match act {
                0 if let_go.remove(&who) => lane.release(&uid),
                1..=3 if let_go.remove(&who) && lane.may_send(&uid, now) => {
                    lane.sent(&uid, Some(limit), now);
                    sent.push(now);
                }
                _ => if lane.ask(&of(&name, now), Some(limit), now) == Admission::Go {
                    let_go.insert(who);
                },
            }
        }
        for who in let_go {
            let uid = Uid::from(who.to_string());
            if lane.may_send(&uid, now) {
                lane.sent(&uid, Some(limit), now);
                sent.push(now);
            }
        }
        prop_assert!(most_in(&sent, s(per)) <= requests as usize);
    }

    #[test]
    fn everybody_is_served_whatever_the_provider_does(
        credentials in 1usize..60,
        requests in prop::option::of(1u32..20),
        troubles in prop::collection::vec((0u64..120, 0u8..3, prop::option::of(0u64..20)), 0..6),
    ) {
        let mut world = Simulation::new(credentials, requests.map(|r| limit(r, s(10))));
        world.answers = Box::new(move |sent, _| {
            let trouble = troubles.iter().find(|(from, _, _)| (s(*from)..s(*from + 10)).contains(&sent));
            match trouble {
                Some((_, 0, pause)) => Effect::Limited(pause.map(s)),
                Some((_, 1, _)) => Effect::Failing,
                _ => Effect::Answered,
            }
        });
        world.run(s(3600));
        prop_assert_eq!(world.served.len(), credentials);
    }
}
