//! The grants beside a plain refresh token: the first token, those that follow, what people are told when it
//! fails, and how they mend it.

mod client_key;
mod code;
mod github_app;
mod jwt_bearer;
mod request;
mod response;

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use tokenward::api::IntegrationCredential;

use crate::{
    oauth_server::{Outcome, TokenRequest},
    support::Fixture,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A lifetime that has a token refreshed while a test waits.
const SHORT: Duration = Duration::from_secs(5);

/// The claims of a JWT, whoever has signed it.
fn claims(jwt: &str) -> Value {
    part(jwt, 1)
}

/// Its header.
fn header(jwt: &str) -> Value {
    part(jwt, 0)
}

fn part(jwt: &str, number: usize) -> Value {
    let part = jwt.split('.').nth(number).expect("a JWT");
    let part = BASE64URL_NOPAD.decode(part.as_bytes()).unwrap();
    serde_json::from_slice(&part).unwrap()
}

/// Whether a request was granted, or is under way.
fn is_served(request: &TokenRequest) -> bool {
    matches!(request.outcome, Outcome::Granted { .. } | Outcome::Pending)
}

/// A parameter of a request.
fn param<'a>(request: &'a TokenRequest, name: &str) -> &'a str {
    let value = request.params.get(name);
    value.unwrap_or_else(|| panic!("no {name} in {:?}", request.params))
}

/// A header of a request.
fn sent_header<'a>(request: &'a TokenRequest, name: &str) -> &'a str {
    let value = request.headers.get(name);
    value
        .unwrap_or_else(|| panic!("no {name}"))
        .to_str()
        .unwrap()
}

/// The credential, once its token is the `count`th after `from`.
async fn further(
    fixture: &Fixture,
    from: &IntegrationCredential,
    count: i64,
) -> IntegrationCredential {
    let status = from.status.as_ref().unwrap();
    let generation = status.token.as_ref().unwrap().generation;
    let name = from.metadata.name.as_ref().unwrap();
    fixture.generation(name, generation + count).await
}
