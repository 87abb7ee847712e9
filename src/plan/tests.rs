use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::CredentialStatus,
    plan::schedule::refresh_at,
    secret::{grant, seed::Authorization},
};

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn credential(grant_type: &str, status: Value) -> IntegrationCredential {
    let spec = json!({"oauth2": {"providerRef": {"name": "p"}, "grantType": grant_type,
        "seedSecretRef": {"name": "s"}}});
    let mut credential = IntegrationCredential::new("c", serde_json::from_value(spec).unwrap());
    credential.metadata.uid = Some("uid".to_owned());
    credential.metadata.generation = Some(1);
    credential.status = serde_json::from_value::<Option<CredentialStatus>>(status).unwrap();
    credential
}

fn healthy() -> Value {
    json!({"observedGeneration": 1, "conditions": [], "token": {"generation": 3},
        "refresh": {"failures": 0, "nextTime": at(100).to_string()}})
}

fn failing(reason: &str, next_attempt: Option<i64>) -> Value {
    let mut status = healthy();
    status["refresh"] = json!({"failures": 2, "nextTime": at(-5).to_string(),
        "lastError": {"reason": reason, "time": at(-1).to_string()}});
    if let Some(next) = next_attempt {
        status["refresh"]["nextAttemptTime"] = json!(at(next).to_string());
    }
    status
}

pub(super) const CALM: Facts<'static> = Facts {
    now: Timestamp::UNIX_EPOCH,
    target: Seen::Unchanged,
    target_outdated: false,
    target_hash: Some("h"),
    wanted_hash: Some("h"),
    has_default_lifetime: false,
    grant: Seen::Unchanged,
    seed: Seen::Unchanged,
    source_unread: false,
    inputs_changed: false,
    wanted: false,
    requested: false,
    reported_dead: false,
    gate: GateSight::Fine,
    again: false,
    not_before: None,
};

fn decide(grant_type: &str, status: Value, facts: Facts<'_>) -> Decision {
    let facts = Facts {
        now: at(0),
        ..facts
    };
    plan(&credential(grant_type, status), &facts)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn the_table_of_decisions() {
    use Decision::{CheckSeed, Refresh, Repair, Wait};
    let user = "RefreshToken";
    let machine = "ClientCredentials";
    let due = || {
        let mut status = healthy();
        status["refresh"]["nextTime"] = json!(at(0).to_string());
        status
    };
    let no_expiry = || {
        let mut status = healthy();
        status["refresh"] = json!({"failures": 0});
        status
    };
    let waiting = || failing("ProviderError", Some(7));
    let dead = || failing("ReauthorizationRequired", None);
    let gone = Facts {
        target: Seen::Missing,
        ..CALM
    };
    let edited = Facts {
        target: Seen::Changed,
        ..CALM
    };
    let outdated = Facts {
        target_outdated: true,
        ..CALM
    };
    let no_grant = Facts {
        grant: Seen::Missing,
        ..CALM
    };
    let both_gone = Facts {
        target: Seen::Missing,
        grant: Seen::Missing,
        ..CALM
    };
    let new_seed = Facts {
        seed: Seen::Changed,
        ..CALM
    };
    let inputs = Facts {
        inputs_changed: true,
        ..CALM
    };
    let lifetime = Facts {
        has_default_lifetime: true,
        ..CALM
    };
    let no_gate = Facts {
        again: true,
        ..CALM
    };
    let other_hash = Facts {
        wanted_hash: Some("other"),
        ..CALM
    };
    let no_provider = Facts {
        wanted_hash: None,
        ..CALM
    };
    for (what, grant_type, status, facts, expected) in [
        ("at first sight", user, Value::Null, CALM, Refresh),
        ("another template", user, healthy(), outdated, Repair),
        (
            "another template, of a machine",
            machine,
            healthy(),
            outdated,
            Refresh,
        ),
        ("another template, due", user, due(), outdated, Refresh),
        (
            "another template, provider down",
            user,
            waiting(),
            outdated,
            Repair,
        ),
        (
            "a template that fails",
            user,
            failing("TemplateInvalid", Some(7)),
            outdated,
            Wait(Some(at(7))),
        ),
        (
            "a template that fails, of a machine",
            machine,
            failing("TemplateInvalid", Some(7)),
            outdated,
            Wait(Some(at(7))),
        ),
        ("nothing to do", user, healthy(), CALM, Wait(Some(at(100)))),
        ("nothing to do ever", user, no_expiry(), CALM, Wait(None)),
        ("a lifetime at last", user, no_expiry(), lifetime, Refresh),
        (
            "a lifetime at last",
            machine,
            no_expiry(),
            lifetime,
            Refresh,
        ),
        ("due", user, due(), CALM, Refresh),
        ("due", machine, due(), CALM, Refresh),
        ("target deleted", user, healthy(), gone, Repair),
        ("target edited", user, healthy(), edited, Repair),
        ("target deleted", machine, healthy(), gone, Refresh),
        ("grant deleted", user, healthy(), no_grant, Refresh),
        (
            "no grant",
            machine,
            healthy(),
            no_grant,
            Wait(Some(at(100))),
        ),
        ("seed changed", user, healthy(), new_seed, CheckSeed),
        ("asked differently", machine, healthy(), other_hash, Refresh),
        (
            "asked differently",
            user,
            healthy(),
            other_hash,
            Wait(Some(at(100))),
        ),
        (
            "provider gone, token good",
            machine,
            healthy(),
            no_provider,
            Wait(Some(at(100))),
        ),
        ("gate deleted", user, healthy(), no_gate, Refresh),
        ("backing off", user, waiting(), CALM, Wait(Some(at(7)))),
        (
            "backing off, target edited",
            user,
            waiting(),
            edited,
            Repair,
        ),
        (
            "backing off, target edited",
            machine,
            waiting(),
            edited,
            Wait(Some(at(7))),
        ),
        ("dead, target deleted", user, dead(), gone, Repair),
        (
            "conflict, target missing",
            user,
            failing("TargetConflict", Some(7)),
            gone,
            Wait(Some(at(7))),
        ),
        (
            "grant and target deleted",
            user,
            healthy(),
            both_gone,
            Refresh,
        ),
        ("backing off, mended", user, waiting(), inputs, Refresh),
        (
            "backing off, new seed",
            user,
            waiting(),
            new_seed,
            CheckSeed,
        ),
        (
            "backed off",
            user,
            failing("ProviderError", Some(0)),
            CALM,
            Refresh,
        ),
        ("dead", user, dead(), CALM, CheckSeed),
        ("dead, provider changed", user, dead(), inputs, Refresh),
    ] {
        assert_eq!(
            decide(grant_type, status, facts),
            expected,
            "{what} ({grant_type})"
        );
    }
    let mut changed = credential(user, healthy());
    changed.metadata.generation = Some(2);
    let facts = Facts { now: at(0), ..CALM };
    assert_eq!(plan(&changed, &facts), Refresh, "a changed spec");
}

#[test]
fn a_token_is_refreshed_a_margin_before_it_expires() {
    let (issued, expires) = (at(0), at(3600));
    let refresh = |before: u64| refresh_at(issued, expires, Duration::from_secs(before), "uid");
    let early = Duration::try_from(at(3300).duration_since(refresh(300))).unwrap();
    assert!(early <= Duration::from_secs(361), "{early:?}");
    // A margin longer than the token lives: half of its life.
    let early = Duration::try_from(at(1800).duration_since(refresh(86_400))).unwrap();
    assert!(early <= Duration::from_secs(361), "{early:?}");
}

#[test]
fn credentials_made_together_are_refreshed_apart() {
    let at_minute = |n: u32| {
        let uid = format!("uid-{n}");
        refresh_at(at(0), at(3600), Duration::from_secs(300), &uid)
    };
    let times: std::collections::BTreeSet<_> = (0..1000).map(at_minute).collect();
    // 1,000 of them into 361 seconds: hardly a second without one.
    assert!(times.len() > 300, "{}", times.len());
}

proptest! {
    #[test]
    fn a_refresh_is_never_before_two_fifths_of_a_life_and_never_after_it(
        lifetime in 1_i64..10_000_000, before in 0_u64..100_000_000, uid in "[a-z]{1,8}",
    ) {
        let expires = at(lifetime);
        let refresh = refresh_at(at(0), expires, Duration::from_secs(before), &uid);
        prop_assert!(refresh <= expires);
        // Whole seconds are rounded down.
        prop_assert!(refresh >= at(lifetime * 2 / 5 - 1), "{} of {}", refresh, lifetime);
    }

    #[test]
    fn the_delay_grows_to_its_bound(failures in 1_u32..u32::MAX, uid in "[a-z]{1,8}") {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        let delay = backoff(first, longest, failures, &uid);
        prop_assert!(delay <= longest && delay >= first.mul_f64(0.75));
        if failures > 10 {
            prop_assert!(delay >= longest.mul_f64(0.75));
        }
    }
}

fn provider(change: &Value) -> Description {
    let mut spec = json!({"tokenUrl": "https://x.example/t"});
    spec.as_object_mut()
        .unwrap()
        .extend(change.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn seed(fingerprint: &str) -> Seed {
    Seed {
        authorization: Authorization::RefreshToken("rt".into()),
        fingerprint: fingerprint.to_owned(),
        resource_version: None,
    }
}

fn since(seconds: i64) -> Unresolved {
    Unresolved {
        attempt: "a".to_owned(),
        since: at(seconds),
        retried: false,
    }
}

struct Scene {
    status: Value,
    provider: Value,
    grant: Option<Grant>,
    seed: Result<Seed, Failure>,
    gate_generation: Option<u64>,
    unresolved: Option<Unresolved>,
    now: i64,
}

/// A grant of generation 3 that lives from 0 to 3600, and its seed.
fn scene() -> Scene {
    let mut grant = grant::sample(3, "rt-3", at(0));
    grant.origin = "https://x.example".to_owned();
    grant.remember("known", true);
    Scene {
        status: healthy(),
        provider: json!({}),
        grant: Some(grant),
        seed: Ok(seed("known")),
        gate_generation: Some(3),
        unresolved: None,
        now: 3500,
    }
}

fn step(scene: &Scene) -> Step {
    step_of(scene, &credential("RefreshToken", scene.status.clone()))
}

fn step_of(scene: &Scene, credential: &IntegrationCredential) -> Step {
    under_gate(&Behind {
        credential,
        provider: &provider(&scene.provider),
        origin: "https://x.example",
        client_id: "client",
        grant: scene.grant.as_ref(),
        seed: &scene.seed,
        gate_generation: scene.gate_generation,
        unresolved: scene.unresolved.as_ref(),
        asked: &Asked::default(),
        now: at(scene.now),
    })
}

fn reason(step: &Step) -> Option<Reason> {
    match step {
        Step::Fail(failure) => Some(failure.reason),
        _ => None,
    }
}

#[test]
fn behind_the_gate_it_is_seen_again_whether_a_refresh_is_needed() {
    assert_eq!(step(&scene()), Step::Refresh);
    let fresh = Scene { now: 60, ..scene() };
    assert_eq!(step(&fresh), Step::Publish { unresolved: None });
    let new_seed = Scene {
        seed: Ok(seed("new")),
        ..fresh
    };
    assert_eq!(step(&new_seed), Step::Adopt);
    let mut no_expiry = scene();
    no_expiry.grant.as_mut().unwrap().token.expires_at = None;
    assert_eq!(step(&no_expiry), Step::Publish { unresolved: None });
}

#[test]
fn a_refresh_token_goes_nowhere_but_where_it_was_authorized() {
    let mut moved = scene();
    moved.grant.as_mut().unwrap().origin = "https://y.example".to_owned();
    assert_eq!(reason(&step(&moved)), Some(Reason::ProviderChanged));
    let mut other_client = scene();
    other_client.grant.as_mut().unwrap().client_id = "other".to_owned();
    assert_eq!(reason(&step(&other_client)), Some(Reason::ProviderChanged));
    for (host, expected) in [
        ("x.example", Step::Refresh),
        ("https://x.example", Step::Refresh),
    ] {
        let mut confirmed = credential("RefreshToken", moved.status.clone());
        let notes = confirmed.annotations_mut();
        notes.insert(CONFIRM_ORIGIN.to_owned(), host.to_owned());
        assert_eq!(step_of(&moved, &confirmed), expected, "{host}");
        let notes = confirmed.annotations_mut();
        notes.insert(CONFIRM_ORIGIN.to_owned(), "z.example".to_owned());
        let refused = step_of(&moved, &confirmed);
        assert_eq!(reason(&refused), Some(Reason::ProviderChanged));
    }
    moved.seed = Ok(seed("new"));
    assert_eq!(step(&moved), Step::Adopt);
}

#[test]
fn a_code_that_may_have_been_redeemed_is_not_presented_again() {
    let mut scene = Scene {
        status: json!({"conditions": []}),
        grant: None,
        gate_generation: None,
        ..scene()
    };
    let code = Authorization::Code {
        code: "c".into(),
        redirect_uri: None,
        verifier: None,
    };
    scene.seed = Ok(Seed {
        fingerprint: code.fingerprint(),
        authorization: code,
        resource_version: None,
    });
    assert_eq!(step(&scene), Step::Adopt);
    scene.unresolved = Some(since(0));
    let refused = step(&scene);
    assert_eq!(reason(&refused), Some(Reason::ReauthorizationRequired));
    // Another one that was written into the seed afterwards is.
    scene.status =
        json!({"conditions": [], "grant": {"seedFingerprint": "authorization_code:old"}});
    assert_eq!(step(&scene), Step::Adopt);
}

#[test]
fn a_refresh_token_expires_by_what_is_stated_and_never_outlives_its_authorization() {
    let lifetime = |idle: Value, absolute: Value| {
        provider(&json!({"refreshTokenLifetime": {"idle": idle, "absolute": absolute}}))
    };
    let expiry = |stated: Option<u64>, provider: &Description| {
        refresh_expires_at(at(100), at(0), stated.map(Duration::from_secs), provider)
    };
    let none = provider(&json!({}));
    assert_eq!(expiry(None, &none), None);
    assert_eq!(expiry(Some(60), &none), Some(at(160)));
    assert_eq!(
        expiry(None, &lifetime(json!("30s"), json!(null))),
        Some(at(130))
    );
    assert_eq!(
        expiry(Some(60), &lifetime(json!("30s"), json!(null))),
        Some(at(160))
    );
    // LinkedIn: refreshing gives no more time.
    assert_eq!(
        expiry(Some(600), &lifetime(json!(null), json!("200s"))),
        Some(at(200))
    );
}

#[test]
fn a_token_that_nobody_knows_the_end_of_is_tried_for_once_and_then_left_alone() {
    let mut token = grant::sample(1, "rt", at(0)).token;
    token.expires_at = None;
    let credential = credential("RefreshToken", healthy());
    let until = |provider: Value, retried: bool| {
        let unresolved = Unresolved {
            retried,
            ..since(0)
        };
        let provider = self::provider(&provider);
        hold_until(&provider, &credential, &token, &unresolved, at(100))
    };
    assert_eq!(until(json!({}), false), None);
    assert_eq!(until(json!({}), true), Some(at(700)));
    assert_eq!(until(json!({"reuseDetection": "RejectOnly"}), true), None);
}

#[test]
fn the_providers_margin_counts_where_the_credential_has_none() {
    let mut credential = credential("RefreshToken", healthy());
    let token = grant::sample(1, "rt", at(0)).token;
    let due = |credential: &IntegrationCredential, provider: Value| {
        let pace = Pace::of(&self::provider(&provider));
        schedule(credential, &pace, &token).unwrap()
    };
    let provider_with_margin = || json!({"refresh": {"before": "20m"}});
    let margin =
        due(&credential, json!({})).duration_since(due(&credential, provider_with_margin()));
    assert_eq!(margin.as_mins(), 15);
    credential.spec.refresh = serde_json::from_value(json!({"before": "5m"})).unwrap();
    assert_eq!(
        due(&credential, provider_with_margin()),
        due(&credential, json!({}))
    );
}

#[test]
fn a_lifetime_is_believed_up_to_the_longest_and_not_from_the_past() {
    let bounded = provider(&json!({"maximumLifetime": "60s", "defaultLifetime": "30s"}));
    let expiry = |lifetime| expires_at(at(0), lifetime, &bounded);
    assert_eq!(
        expiry(Lifetime::Stated(Duration::from_secs(600))),
        Some(at(60))
    );
    assert_eq!(expiry(Lifetime::Until(at(20))), Some(at(20)));
    assert_eq!(expiry(Lifetime::Until(at(600))), Some(at(60)));
    // A clock elsewhere that is behind ours.
    assert_eq!(expiry(Lifetime::Until(at(-5))), Some(at(30)));
}

#[test]
fn an_older_grant_that_was_put_back_is_not_presented() {
    let mut status = healthy();
    status["token"] = json!({"generation": 4});
    let restored = Scene { status, ..scene() };
    assert_eq!(reason(&step(&restored)), Some(Reason::GrantRestored));
    let by_the_gate = Scene {
        gate_generation: Some(4),
        ..scene()
    };
    assert_eq!(reason(&step(&by_the_gate)), Some(Reason::GrantRestored));
    let lasting = Scene {
        provider: json!({"rotation": "Never"}),
        ..by_the_gate
    };
    assert_eq!(step(&lasting), Step::Refresh);
    let mended = Scene {
        seed: Ok(seed("new")),
        provider: json!({}),
        ..lasting
    };
    assert_eq!(step(&mended), Step::Adopt);
    // The backup does not know of the seed that was adopted after it.
    let mut status = mended.status.clone();
    status["grant"] = json!({"seedFingerprint": "new"});
    let known = Scene { status, ..mended };
    assert_eq!(reason(&step(&known)), Some(Reason::GrantRestored));
}

#[test]
fn without_a_grant_a_seed_is_presented_only_if_it_cannot_be_spent() {
    let first = Scene {
        status: json!({"conditions": []}),
        grant: None,
        gate_generation: Some(0),
        ..scene()
    };
    assert_eq!(step(&first), Step::Adopt);
    let lost = Scene {
        grant: None,
        ..scene()
    };
    assert_eq!(reason(&step(&lost)), Some(Reason::GrantLost));
    // The status is gone too, but the gate knows.
    let forgotten = Scene {
        gate_generation: Some(3),
        ..first
    };
    assert_eq!(reason(&step(&forgotten)), Some(Reason::GrantLost));
    let lasting = Scene {
        provider: json!({"rotation": "Never"}),
        ..lost
    };
    assert_eq!(step(&lasting), Step::Adopt);
    let mut known = healthy();
    known["grant"] = json!({"seedFingerprint": "known"});
    let replaced = Scene {
        status: known,
        seed: Ok(seed("new")),
        provider: json!({}),
        ..lasting
    };
    assert_eq!(step(&replaced), Step::Adopt);
    let seedless = Scene {
        seed: Err(Failure::new(Reason::SeedNotFound, "")),
        ..first_scene()
    };
    assert_eq!(reason(&step(&seedless)), Some(Reason::SeedNotFound));
}

fn first_scene() -> Scene {
    Scene {
        status: json!({"conditions": []}),
        grant: None,
        gate_generation: Some(0),
        ..scene()
    }
}

#[test]
fn the_rule_for_an_unknown_outcome() {
    // The margin begins at 3300; with jitter a refresh is due some minutes before.
    let early = |change: Value| Scene {
        provider: change,
        unresolved: Some(since(2900)),
        now: 3290,
        ..scene()
    };
    let hold = Step::Hold(at(3300));
    for (what, change, expected) in [
        ("nothing is known of the provider", json!({}), hold),
        (
            "the old token survives",
            json!({"accessTokenOnRefresh": "Survives"}),
            Step::Hold(at(3300)),
        ),
        (
            "the old token dies",
            json!({"accessTokenOnRefresh": "Invalidated"}),
            Step::Refresh,
        ),
        (
            "reuse is only rejected",
            json!({"reuseDetection": "RejectOnly"}),
            Step::Refresh,
        ),
        (
            "inside the grace period",
            json!({"reuseGrace": "10m"}),
            Step::Refresh,
        ),
        (
            "after the grace period",
            json!({"reuseGrace": "1m"}),
            Step::Hold(at(3300)),
        ),
    ] {
        assert_eq!(step(&early(change)), expected, "{what}");
    }
    let in_margin = Scene {
        now: 3300,
        ..early(json!({}))
    };
    assert_eq!(step(&in_margin), Step::Refresh);
    // The grant moved on: the attempt had stored its tokens.
    let ahead = Scene {
        gate_generation: Some(2),
        ..early(json!({}))
    };
    assert_eq!(step(&ahead), Step::Publish { unresolved: None });
    // Of an unknown attempt that cannot be said.
    let unknown = Some(Unresolved::unknown());
    let deleted = Scene {
        unresolved: unknown.clone(),
        ..ahead
    };
    assert_eq!(step(&deleted), Step::Hold(at(3300)));
    let calm = Scene { now: 60, ..deleted };
    assert_eq!(
        step(&calm),
        Step::Publish {
            unresolved: unknown
        }
    );
}

#[test]
fn after_another_unknown_outcome_the_rest_of_the_tokens_life_is_for_people() {
    let token = scene().grant.unwrap().token;
    let credential = credential("RefreshToken", healthy());
    let hold = |change: Value, now: i64| {
        let retried = Unresolved {
            retried: true,
            ..since(now)
        };
        hold_until(&provider(&change), &credential, &token, &retried, at(now))
    };
    assert_eq!(hold(json!({}), 3300), Some(at(3600)));
    assert_eq!(hold(json!({}), 3600), None);
    assert_eq!(hold(json!({"reuseDetection": "RejectOnly"}), 3300), None);
    assert_eq!(hold(json!({"rotation": "Never"}), 3300), None);
    // A clock that was set back does not make a grace period.
    let unresolved = since(3400);
    let early = |change: Value| {
        hold_until(
            &provider(&change),
            &credential,
            &token,
            &unresolved,
            at(3000),
        )
    };
    assert_eq!(early(json!({})), Some(at(3300)));
    assert_eq!(early(json!({"reuseGrace": "10m"})), Some(at(3300)));
}

#[test]
fn an_attempt_that_stored_its_tokens_is_published_before_anything_else() {
    let mut stored = Scene {
        gate_generation: Some(2),
        unresolved: Some(since(3400)),
        ..scene()
    };
    assert_eq!(step(&stored), Step::Publish { unresolved: None });
    // The gate has lost its generation, and the grant names the attempt.
    stored.gate_generation = None;
    stored.now = 3290;
    assert_eq!(step(&stored), Step::Hold(at(3300)));
    stored.grant.as_mut().unwrap().attempt = "a".to_owned();
    assert_eq!(step(&stored), Step::Publish { unresolved: None });
}

#[test]
fn a_new_seed_never_costs_a_working_grant_its_refresh() {
    let due = Scene {
        seed: Ok(seed("new")),
        ..scene()
    };
    assert_eq!(step(&due), Step::Refresh);
    let calm = Scene { now: 60, ..due };
    assert_eq!(step(&calm), Step::Adopt);
    let mut status = healthy();
    status["refresh"]["failures"] = json!(1);
    let failing = Scene {
        now: 3500,
        status,
        ..calm
    };
    assert_eq!(step(&failing), Step::Adopt);
    let held = Scene {
        now: 3290,
        status: healthy(),
        unresolved: Some(since(2900)),
        ..failing
    };
    assert_eq!(step(&held), Step::Adopt);
}

#[test]
fn the_providers_default_stands_in_for_a_lifetime_that_is_not_stated() {
    let with = provider(&json!({"defaultLifetime": "1h"}));
    let without = provider(&json!({}));
    let stated = Lifetime::Stated(Duration::from_secs(60));
    assert_eq!(expires_at(at(0), stated, &with), Some(at(60)));
    for lifetime in [Lifetime::NotStated, Lifetime::Unusable] {
        assert_eq!(expires_at(at(0), lifetime, &with), Some(at(0) + HOUR));
        assert_eq!(expires_at(at(0), lifetime, &without), None);
    }
    let endless = Lifetime::Stated(Duration::from_secs(u64::MAX));
    assert_eq!(expires_at(at(0), endless, &without), None);
}

#[test]
fn a_sweep_is_no_reason_for_others_to_wait_before_its_last_minute() {
    let urgent = |margin: i64, left: i64| {
        let mut status = healthy();
        status["token"]["expirationTime"] = json!(at(100 + margin).to_string());
        let credential = credential("ClientCredentials", status);
        let facts = Facts {
            now: at(100 + margin - left),
            ..CALM
        };
        is_urgent(&credential, &facts, Decision::Refresh)
    };
    // Of five minutes the last one, of an hour the last eighth, of twenty seconds the second half.
    for (margin, last_call) in [(300, 60), (3600, 450), (20, 10)] {
        assert!(!urgent(margin, last_call), "{margin}");
        assert!(urgent(margin, last_call - 1), "{margin}");
    }
}
