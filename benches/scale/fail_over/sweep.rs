//! All credentials are due, and the leader is lost when a quarter of them has been refreshed.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use tokenward::api::IntegrationCredential;

use super::{
    pair::{LEADER, Loss, Pair},
    toll::Toll,
};
use crate::{
    population::{Population, Times},
    support::{Fixture, condition, text, within},
};

/// What is left of the token that lives longest: less than the margin before the expiry, so that all are due.
const LEFT: i64 = 270;

/// For what many wait.
const LONG: Duration = Duration::from_secs(300);

pub type Lives = HashMap<String, Times>;

/// What was when the leader was lost.
pub struct Before {
    pub lives: Lives,
    /// How many token requests there had been when the sweep began.
    pub requests: usize,
    pub lost_at: Timestamp,
    /// The refresh tokens behind the gates that the leader had closed.
    pub under_way: HashSet<String>,
}

/// Loses a leader like this, and lets the other end what it had begun.
pub async fn run(population: &mut Population, loss: Loss) -> Toll {
    let lives = population.times().await;
    let last = lives.values().map(|life| life.expires).max().unwrap();
    population.ahead = last.duration_since(Timestamp::now()).as_secs() - LEFT;
    let population = &*population;
    let (fixture, oauth) = (&population.fixture, &population.fixture.oauth);
    let (granted, requests) = (oauth.granted(), oauth.request_count());
    // Nothing is refreshed before the other stands by.
    oauth.hold_before_commit();
    let mut pair = Pair::start(fixture, population.ahead, loss).await;
    oauth.release_exchanges();
    within(LONG, "a quarter of the sweep", async || {
        (oauth.granted() >= granted + population.count / 4).then_some(())
    })
    .await;
    pair.lose(loss).await;
    let lost_at = Timestamp::now();
    let stuck = closed_by_the_lost(fixture).await;
    let before = Before {
        under_way: refresh_tokens(fixture, &stuck).await,
        lives,
        requests,
        lost_at,
    };
    let other_leads_since = pair.other_leads_since().await;
    the_rest_is_done(population, &before).await;
    pair.go_on(loss).await;
    all_ended(population, &before.lives).await;
    let all_ended_at = Timestamp::now();
    let toll = Toll::count(population, &before, other_leads_since, loss).await;
    eprintln!(
        "leader {}: {} were under way, and all were at an end {} after its loss",
        loss.name(),
        before.under_way.len(),
        all_ended_at.duration_since(lost_at)
    );
    mend(population).await;
    let mut other = pair.other;
    other.signal("TERM");
    assert!(other.end().await.success());
    toll
}

/// The credentials whose gates the leader that was lost keeps closed.
async fn closed_by_the_lost(fixture: &Fixture) -> HashSet<String> {
    let gates = ListParams::default().labels("tokenward.dev/role=gate");
    let gates = fixture.leases().list(&gates).await.unwrap();
    let closed = gates.iter().filter(|gate| {
        let holder = gate
            .spec
            .as_ref()
            .and_then(|s| s.holder_identity.as_deref());
        holder.is_some_and(|holder| holder.starts_with(LEADER))
    });
    let names = closed.map(|gate| gate.name_any().trim_end_matches(".gate").to_owned());
    names.collect()
}

/// The refresh tokens that are stored for these.
async fn refresh_tokens(fixture: &Fixture, names: &HashSet<String>) -> HashSet<String> {
    let mut tokens = HashSet::new();
    for name in names {
        let grant = fixture.find_secret(&format!("{name}.grant")).await.unwrap();
        tokens.insert(text(&grant, "refresh_token"));
    }
    tokens
}

/// Waits until the other one has refreshed all but those whose gates it finds closed.
async fn the_rest_is_done(population: &Population, before: &Before) {
    let (fixture, count) = (&population.fixture, population.count);
    within(LONG, "the rest of the sweep", async || {
        let asked = fixture.oauth.request_count() - before.requests;
        if asked + before.under_way.len() < count {
            return None;
        }
        let stuck = closed_by_the_lost(fixture).await;
        let now = population.times().await;
        let mut all = before.lives.iter();
        all.all(|(name, life)| is_new(life, &now[name]) || stuck.contains(name))
            .then_some(())
    })
    .await;
}

/// Waits until each has a new token, or cannot have one.
async fn all_ended(population: &Population, before: &Lives) {
    within(LONG, "an end for each", async || {
        let now = population.times().await;
        let waiting = before
            .iter()
            .filter(|(name, life)| !is_new(life, &now[*name]));
        let waiting: HashSet<_> = waiting.map(|(name, _)| name.clone()).collect();
        if waiting.is_empty() {
            return Some(());
        }
        let all = population.all().await;
        let mut waiting = all.iter().filter(|c| waiting.contains(&c.name_any()));
        waiting.all(|c| says(c, "Stalled")).then_some(())
    })
    .await;
}

fn is_new(before: &Times, now: &Times) -> bool {
    now.obtained > before.obtained
}

/// Whether this condition is true.
pub fn says(credential: &IntegrationCredential, what: &str) -> bool {
    condition(credential, what).is_some_and(|(status, _, _)| status == "True")
}

/// Authorizes anew what was lost, for the next sweep.
async fn mend(population: &Population) {
    let is_well = |c: &_| says(c, "Ready") && !says(c, "Stalled");
    for credential in population.all().await.iter().filter(|c| !is_well(*c)) {
        population.fixture.seed(&credential.name_any()).await;
    }
    within(LONG, "all ready", async || {
        let all = population.all().await;
        all.iter().all(is_well).then_some(())
    })
    .await;
}
