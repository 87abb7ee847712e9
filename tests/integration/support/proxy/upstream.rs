//! The way on to the real API server.

use axum::{
    body::{Body, Bytes},
    http::{
        HeaderName, Request, Response,
        header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE},
        request::Parts,
    },
};
use kube::{Client, Config, config::AuthInfo};

/// What concerns one connection only, and not the request.
const OF_THE_CONNECTION: [HeaderName; 4] = [CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE];

/// Sends requests on, over TLS.
#[derive(Clone)]
pub(super) struct Upstream {
    administrator: Client,
    bearer: Client,
}

impl Upstream {
    pub(super) fn new(mut administrator: Config) -> Self {
        administrator.default_retry = false;
        let mut bearer = administrator.clone();
        bearer.auth_info = AuthInfo::default();
        Self {
            administrator: Client::try_from(administrator).unwrap(),
            bearer: Client::try_from(bearer).unwrap(),
        }
    }

    /// Sends a request in the name of whom it names, else in the administrator's. `None`: no answer.
    pub(super) async fn send(&self, mut parts: Parts, body: Bytes) -> Option<Response<Body>> {
        let client = if parts.headers.contains_key(AUTHORIZATION) {
            &self.bearer
        } else {
            &self.administrator
        };
        for header in &OF_THE_CONNECTION {
            parts.headers.remove(header);
        }
        let answer = client.send(Request::from_parts(parts, body.into())).await;
        let mut answer = answer.ok()?.map(Body::new);
        for header in &OF_THE_CONNECTION {
            answer.headers_mut().remove(header);
        }
        Some(answer)
    }
}
