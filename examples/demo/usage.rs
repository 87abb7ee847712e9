//! A client of one credential: it reads the Secret as a program would, and calls the resource all the time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use crate::{
    output::Output,
    stage::{NAMESPACE, Stage},
};

/// How often the resource is called.
const PERIOD: Duration = Duration::from_millis(250);

/// What came of it.
pub struct Usage {
    pub name: &'static str,
    pub refreshes: u64,
    pub calls: u64,
    pub refused: u64,
    /// The shortest time that a token from the Secret had still to live.
    pub least_left: Duration,
}

/// Uses the token until it has been refreshed so often, and tells of each refresh.
pub async fn use_token(
    stage: &Stage,
    output: &Output,
    name: &'static str,
    refreshes: u64,
    start: Instant,
) -> Result<Usage> {
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), NAMESPACE);
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut usage = Usage {
        name,
        refreshes: 0,
        calls: 0,
        refused: 0,
        least_left: Duration::MAX,
    };
    let mut last: Option<(u64, Timestamp)> = None;
    let mut ticks = tokio::time::interval(PERIOD);
    while usage.refreshes < refreshes {
        ticks.tick().await;
        let secret = secrets.get(name).await?;
        let value = |key: &str| -> Result<String> {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            let data = data.with_context(|| format!("Secret {name} has no {key}"))?;
            Ok(String::from_utf8(data.0.clone())?)
        };
        let answer = http
            .get(stage.oauth.resource_url())
            .header("authorization", value("authorization")?)
            .send()
            .await?;
        usage.calls += 1;
        if !answer.status().is_success() {
            usage.refused += 1;
            output.happened(start, name, &format!("REFUSED: {}", answer.status()));
        }
        let expires_at: Timestamp = value("expires_at")?.parse()?;
        let left = expires_at.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        usage.least_left = usage.least_left.min(left);
        let generation: u64 = value("token_generation")?.parse()?;
        match last {
            Some((before, _)) if before == generation => {}
            Some((_, was)) => {
                usage.refreshes += 1;
                let (was, is) = (was.strftime("%H:%M:%S"), expires_at.strftime("%H:%M:%S"));
                output.happened(
                    start,
                    name,
                    &format!("refreshed: token {generation}; its expiry moved {was} -> {is}; {} calls so far, {} refused", usage.calls, usage.refused),
                );
            }
            None => output.happened(
                start,
                name,
                &format!(
                    "token {generation}, expires at {}",
                    expires_at.strftime("%H:%M:%S")
                ),
            ),
        }
        last = Some((generation, expires_at));
    }
    Ok(usage)
}
