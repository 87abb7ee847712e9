//! An exchange: the request made, sent and read. The client has a thread to itself, whose processor time is taken; the
//! server has others.

use std::{collections::BTreeMap, collections::BTreeSet, future::Future, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use secrecy::SecretString;
use tokenward::{
    api::Description,
    oauth::{
        endpoint::{Access, Endpoint},
        error::Spends,
        grant::{ClientIdentity, Presented, Proof, Wanted, request},
    },
};
use url::Url;

use crate::{
    oauth_server::{Config, OAuthServer},
    quantity::{Quantity, Unit},
    report::{Line, Target},
};

const EXCHANGES: u32 = 1000;

pub fn measure() -> Vec<Line> {
    let servers = tokio::runtime::Runtime::new().unwrap();
    let server = servers
        .block_on(OAuthServer::start(Config::default()))
        .unwrap();
    let client = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let url = Url::parse(&format!("{}/token", server.url())).unwrap();
    let endpoint = Endpoint::new(Access {
        allow_http_loopback: true,
        networks: Vec::new(),
        proxy: None,
        timeout: Duration::from_secs(10),
    })
    .unwrap();
    let mut lines = Vec::new();
    for (what, spends, most) in [
        ("a grant that can be spent", Spends::RotatingToken, None),
        ("a grant that cannot", Spends::Nothing, Some(1.0)),
    ] {
        let before = server.requests().len();
        let mut token = SecretString::from(server.issue_refresh_token("read"));
        let cpu = client.block_on(cpu_of(async {
            for _ in 0..EXCHANGES {
                token = exchange(&endpoint, &url, spends, &token).await;
            }
        }));
        let requests = server.requests().split_off(before);
        let connections: BTreeSet<_> = requests.iter().map(|r| r.connection).collect();
        let each = cpu.as_secs_f64() * 1e3 / f64::from(EXCHANGES);
        let each = Quantity::new(each, Unit::Milliseconds);
        let measure = format!("processor time of an exchange, {what}");
        lines.push(Line::new(measure, each).target(Target::Ours(1.0)));
        #[expect(clippy::cast_precision_loss, reason = "a thousand")]
        let connections = Quantity::new(connections.len() as f64, Unit::Connections);
        let line = Line::new(
            format!("connections of {EXCHANGES} exchanges, {what}"),
            connections,
        );
        lines.push(match most {
            Some(most) => line.target(Target::Ours(most)),
            None => line,
        });
    }
    lines
}

/// Presents a refresh token, or the client itself, and returns the refresh token to present next.
async fn exchange(
    endpoint: &Endpoint,
    url: &Url,
    spends: Spends,
    token: &SecretString,
) -> SecretString {
    let secret = "demo-secret".into();
    let client = ClientIdentity {
        id: "demo",
        proof: Proof::Secret(&secret),
    };
    let description = Description::default();
    let (presented, spent) = match spends {
        Spends::Nothing => (Presented::Client, None),
        _ => (Presented::RefreshToken(token), Some(token)),
    };
    let none = BTreeMap::new();
    let wanted = Wanted {
        scopes: &[],
        resources: &[],
        extra: &none,
    };
    let request = request(&presented, &client, wanted, &description, &none).unwrap();
    let timeout = Duration::from_secs(10);
    let (_, answer) = endpoint
        .exchange(url, &request, (spends, spent), &description, None, timeout)
        .await;
    let tokens = answer.unwrap_or_else(|answer| panic!("{answer:?}"));
    tokens.refresh_token.unwrap_or_else(|| token.clone())
}

async fn cpu_of(work: impl Future<Output = ()>) -> Duration {
    let now = || {
        let at = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap())
    };
    let start = now();
    work.await;
    now().saturating_sub(start)
}
