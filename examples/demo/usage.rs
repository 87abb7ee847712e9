//! A client of one credential, as a program with a mounted Secret is one: it takes the token that is in the
//! Secret right then, and calls the resource with it, all the time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reqwest::header::AUTHORIZATION;
use tokio::sync::mpsc::UnboundedSender;

/// How often the resource is called.
const PERIOD: Duration = Duration::from_millis(200);

/// What came of one call.
#[derive(Debug)]
pub(crate) enum Call {
    /// The token was accepted.
    Accepted {
        /// How long it had still to live.
        left: Option<SignedDuration>,
    },
    /// The token was refused, or there was no answer.
    Refused(String),
    /// There is no Secret, or no token in it.
    NoToken,
    /// The API server did not give the Secret.
    Unread(String),
}

/// Tells of each call until nobody listens any more.
pub(crate) async fn use_token(
    name: &'static str,
    secrets: Api<Secret>,
    resource: String,
    http: reqwest::Client,
    calls: UnboundedSender<(&'static str, Call)>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let call = call(name, &secrets, &resource, &http).await;
        if calls.send((name, call)).is_err() {
            return;
        }
    }
}

async fn call(name: &str, secrets: &Api<Secret>, resource: &str, http: &reqwest::Client) -> Call {
    let secret = match secrets.get_opt(name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return Call::NoToken,
        Err(error) => return Call::Unread(error.to_string()),
    };
    let Some(authorization) = value(&secret, "authorization") else {
        return Call::NoToken;
    };
    let left = expires_at(&secret).map(|at| at.duration_since(Timestamp::now()));
    let request = http.get(resource).header(AUTHORIZATION, authorization);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Call::Accepted { left },
        Ok(answer) => Call::Refused(match left {
            Some(left) if left.is_negative() => {
                let ago = left.abs().as_secs_f64();
                format!("{}; the token expired {ago:.1} s ago", answer.status())
            }
            _ => answer.status().to_string(),
        }),
        Err(error) => Call::Refused(format!("no answer: {error}")),
    }
}

/// When the token in a Secret expires.
pub(crate) fn expires_at(secret: &Secret) -> Option<Timestamp> {
    value(secret, "expires_at")?.parse().ok()
}

/// Which token a Secret holds.
pub(crate) fn generation(secret: &Secret) -> Option<u64> {
    value(secret, "token_generation")?.parse().ok()
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(&bytes.0).ok()
}
