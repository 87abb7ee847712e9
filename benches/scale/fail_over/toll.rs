//! What the loss of a leader has cost.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};

use super::{
    pair::Loss,
    sweep::{Before, Lives, says},
};
use crate::{
    oauth_server::{Outcome, TokenRequest},
    population::Population,
    quantity::{Quantity, Unit},
    report::{Line, Target},
    support::text,
    usage::number,
};

/// From the loss to the first token request of another.
const TAKE_OVER: f64 = 15_000.0;

pub struct Toll {
    /// From the loss to the first token request of the other.
    take_over: Duration,
    /// Refresh tokens for which the provider has issued tokens twice.
    redeemed_twice: usize,
    /// Refresh tokens that were presented more often than the rule allows: once, and once more where nobody knows what
    /// became of the first time because the process is gone.
    presented_again: usize,
    /// Refresh tokens that were presented twice, allowed or not.
    presented_twice: usize,
    /// Credentials whose token had expired, by the operators' clock, when the next was obtained.
    expired: usize,
    /// Credentials whose stored refresh token the provider does not take any more.
    lost: usize,
    /// Credentials beside those that are not ready.
    not_ready: usize,
}

impl Toll {
    pub async fn count(
        population: &Population,
        before: &Before,
        other_leads_since: Timestamp,
        loss: Loss,
    ) -> Self {
        let oauth = &population.fixture.oauth;
        let requests = oauth.requests().split_off(before.requests);
        let of_the_other = requests.iter().find(|r| r.at >= other_leads_since);
        let take_over = of_the_other.unwrap().at.duration_since(before.lost_at);
        let mut lost = HashSet::new();
        let secrets = population.fixture.secrets();
        for secret in secrets.list(&ListParams::default()).await.unwrap() {
            let name = secret.name_any();
            if let Some(credential) = name.strip_suffix(".grant")
                && !oauth.is_redeemable(&text(&secret, "refresh_token"))
            {
                lost.insert(credential.to_owned());
            }
        }
        let all = population.all().await;
        let others = all.iter().filter(|c| !lost.contains(&c.name_any()));
        let not_ready = others.filter(|c| !says(c, "Ready")).count();
        let again = |token: &str| loss == Loss::Killed && before.under_way.contains(token);
        Self {
            take_over: take_over.try_into().unwrap(),
            redeemed_twice: redeemed_twice(&requests),
            presented_again: presented_again(&requests, again),
            presented_twice: presented_again(&requests, |_| false),
            expired: expired(&before.lives, &population.times().await),
            lost: lost.len(),
            not_ready,
        }
    }

    pub fn lines(&self, leader: &str, lost_at_most: usize) -> Vec<Line> {
        let line = |what: &str, value: Quantity, at_most: f64| {
            let measure = format!("leader {leader}: {what}");
            Line::new(measure, value).target(Target::Ours(at_most))
        };
        let count = |what: &str, count: usize, at_most: usize| {
            let value = Quantity::new(number(count), Unit::Credentials);
            line(what, value, number(at_most))
        };
        vec![
            line("another takes over", self.take_over.into(), TAKE_OVER),
            count("refresh token redeemed twice", self.redeemed_twice, 0),
            count(
                "presented more often than is allowed",
                self.presented_again,
                0,
            ),
            Line::new(
                format!("leader {leader}: presented once more"),
                Quantity::new(number(self.presented_twice), Unit::Credentials),
            ),
            count("expired meanwhile", self.expired, 0),
            count("rotation lost with the process", self.lost, lost_at_most),
            count("others that are not ready in the end", self.not_ready, 0),
        ]
    }
}

/// How many refresh tokens brought two access tokens: within its grace a provider repeats what it gave.
fn redeemed_twice(requests: &[TokenRequest]) -> usize {
    let mut brought: HashMap<&str, HashSet<&str>> = HashMap::new();
    for request in requests {
        if let (Some(token), Outcome::Granted { access_token, .. }) =
            (&request.refresh_token, &request.outcome)
        {
            brought.entry(token).or_default().insert(access_token);
        }
    }
    brought.values().filter(|tokens| tokens.len() > 1).count()
}

/// How many refresh tokens were presented twice, or a third time where they may be presented `again`.
fn presented_again(requests: &[TokenRequest], again: impl Fn(&str) -> bool) -> usize {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for token in requests.iter().filter_map(|r| r.refresh_token.as_deref()) {
        *times.entry(token).or_default() += 1;
    }
    let too_often = |(token, times): &(&str, usize)| *times > if again(token) { 2 } else { 1 };
    times.into_iter().filter(too_often).count()
}

fn expired(before: &Lives, after: &Lives) -> usize {
    let expired = before
        .iter()
        .filter(|(name, life)| after[*name].obtained > life.expires);
    expired.count()
}
