//! A leader is lost in the middle of a sweep: another one takes over, and no refresh token is redeemed twice.

mod pair;
mod sweep;
mod toll;

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::json;

use self::pair::Loss;
use crate::{
    population::{LATENCY, LIFETIME, Population},
    report::Line,
    support::Fixture,
};

/// How many credentials.
pub const COUNT: usize = 1000;

/// For how long a provider that is lenient takes a spent refresh token once more. What a process had under way when it
/// was killed is tried again some 90 s later: another must lead, the gate must run out, and nobody may be at the exchange
/// or the write after it any more.
const GRACE: Duration = Duration::from_secs(120);

pub async fn measure(count: usize) -> Vec<Line> {
    let mut population = made(count).await;
    let mut lines = Vec::new();
    for loss in [Loss::Killed, Loss::Stopped, Loss::Partitioned] {
        let lost_at_most = loss.loses_at_most();
        let toll = sweep::run(&mut population, loss).await;
        lines.extend(toll.lines(loss.name(), lost_at_most));
    }
    let fixture = &population.fixture;
    fixture.oauth.configure(|behaviour| behaviour.grace = GRACE);
    let grace = json!({"reuseGrace": format!("{}s", GRACE.as_secs())});
    fixture.provider_unread("provider", grace).await;
    let toll = sweep::run(&mut population, Loss::Killed).await;
    let name = format!("killed, provider with a grace of {GRACE:?}");
    lines.extend(toll.lines(&name, 0));
    lines
}

/// So many credentials with refresh tokens, of which each has its first token.
async fn made(count: usize) -> Population {
    let fixture = Fixture::new("fail-over", LIFETIME).await;
    fixture
        .oauth
        .configure(|behaviour| behaviour.latency = LATENCY);
    let population = Population {
        fixture,
        count,
        ahead: 0,
    };
    let mut operator = population.operator();
    let all = stream::iter(0..count).map(async |number| {
        let name = format!("c{number}");
        population.fixture.seed(&name).await;
        population.fixture.user(&name, json!({})).await;
    });
    all.buffer_unordered(32).collect::<()>().await;
    population.until_granted(count).await;
    operator.signal("TERM");
    assert!(operator.end().await.success());
    population
}
