//! Many credentials: half of them with refresh tokens that are replaced at every use, half without.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use tokenward::api::IntegrationCredential;

use crate::support::{Fixture, Operator, condition, within};

/// How many are sent to the API server at a time.
pub const AT_A_TIME: usize = 32;

/// How long a token lives.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// How long an answer of the OAuth server takes.
pub const LATENCY: Duration = Duration::from_millis(20);

/// All that there are.
pub struct Population {
    pub fixture: Fixture,
    pub count: usize,
    /// By how much the operator's clock is ahead, in seconds: what is due in an hour is due now.
    pub ahead: i64,
}

impl Population {
    pub async fn none() -> Self {
        let fixture = Fixture::new("scale", LIFETIME).await;
        fixture.oauth.configure(|b| b.latency = LATENCY);
        Self {
            fixture,
            count: 0,
            ahead: 0,
        }
    }

    /// An operator that says no more than it would anywhere.
    pub fn operator(&self) -> Operator {
        let arguments = ["--log-level", "info"];
        if self.ahead == 0 {
            return self.fixture.operator_with(&arguments);
        }
        self.fixture.operator_ahead(self.ahead, &arguments)
    }

    /// Creates more until there are `count`, and waits until each has a token.
    pub async fn grow(&mut self, count: usize) {
        let fixture = &self.fixture;
        let more = stream::iter(self.count..count).map(async |number| {
            let name = format!("c{number}");
            if number % 2 == 0 {
                fixture.seed(&name).await;
                fixture.user(&name, json!({})).await;
            } else {
                fixture.machine(&name, json!({})).await;
            }
        });
        more.buffer_unordered(AT_A_TIME).collect::<()>().await;
        self.count = count;
        self.until_granted(count).await;
    }

    /// Waits until so many tokens have been granted, and all credentials are ready.
    pub async fn until_granted(&self, tokens: usize) {
        let granted = async || (self.fixture.oauth.granted() >= tokens).then_some(());
        within(Duration::from_secs(900), "a token for each", granted).await;
        within(Duration::from_secs(120), "all ready", async || {
            let all = self.all().await;
            let ready = all
                .iter()
                .filter(|c| condition(c, "Ready").is_some_and(|c| c.0 == "True"));
            (ready.count() == all.len()).then_some(())
        })
        .await;
    }

    pub async fn all(&self) -> Vec<IntegrationCredential> {
        let api = self.fixture.credentials();
        let params = ListParams::default();
        api.list(&params).await.unwrap().items
    }

    /// When the token of each expires, and when it was obtained.
    pub async fn times(&self) -> HashMap<String, Times> {
        let times = |c: IntegrationCredential| {
            let token = c.status.as_ref()?.token.as_ref()?;
            let times = Times {
                obtained: token.last_refresh_time.as_ref()?.0,
                expires: token.expiration_time.as_ref()?.0,
            };
            Some((c.name_any(), times))
        };
        self.all().await.into_iter().filter_map(times).collect()
    }
}

/// The life of a token, by the operator's clock.
#[derive(Clone, Copy)]
pub struct Times {
    pub obtained: Timestamp,
    pub expires: Timestamp,
}
