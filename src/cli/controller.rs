//! `tokenward controller`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::join;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{connect::Connect, exit, logs::Logs, namespace};
use crate::{
    admin, api,
    controller::{self, Config, Readiness},
    leader::Election,
    metrics::Metrics,
    oauth::endpoint::{Access, ProviderProxy, ambient},
    telemetry::traces::{Traces, ratio, settings},
};

pub(super) const EXAMPLES: &str = "Examples:
  tokenward controller                          all namespaces, as the current kubectl context or in a pod
  tokenward controller -n team-a -n team-b      two namespaces, with rights in no other";

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Arguments {
    /// The namespace with the client Secrets of ClusterOAuthProviders.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    operator_namespace: Option<String>,

    /// This process's name in Leases and events.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,

    /// Accept token endpoints on loopback addresses, over http too: for trying things out.
    #[arg(long)]
    allow_http_loopback: bool,

    /// Connect to token endpoints in this network although it is not public, such as 10.20.0.0/16. Without
    /// it, private, loopback, link-local, shared and reserved addresses are refused. May be repeated. The
    /// metadata services of clouds are refused always.
    #[arg(
        long = "allow-provider-network",
        env = "TOKENWARD_ALLOW_PROVIDER_NETWORKS",
        value_name = "CIDR",
        value_parser = networks
    )]
    allow_provider_networks: Vec<Networks>,

    /// Send token requests through this http or https proxy (by CONNECT). The proxy resolves names, so
    /// addresses behind names are not checked; it must keep what is private out of reach. Without it no
    /// proxy is used, whatever HTTPS_PROXY says. A password belongs into the variable, not the arguments.
    #[arg(
        long,
        env = "TOKENWARD_PROVIDER_PROXY",
        hide_env_values = true,
        value_name = "URL"
    )]
    provider_proxy: Option<String>,

    /// Read no Secret for those who name it (seeds, clients, sources) that does not carry the label
    /// tokenward.dev/allow=true. The Secrets of ClusterOAuthProviders carry tokenward.dev/client=true anyway, which
    /// is enough.
    #[arg(long, env = "TOKENWARD_REQUIRE_ALLOW_LABEL")]
    require_allow_label: bool,

    /// Write the status of ClusterOAuthProviders although only some namespaces are served (-n). An operator of all
    /// namespaces does so anyway; of several operators one should.
    #[arg(long)]
    cluster_provider_status: bool,

    /// Work only while this process holds the Lease of --leader-election-lease: of several replicas one works, and another
    /// takes over within 15 s. Without it, several are safe, and do the same looks and requests.
    #[arg(long, env = "TOKENWARD_LEADER_ELECT")]
    leader_elect: bool,

    /// The Lease of --leader-elect, in the operator's namespace. Operators of other namespaces there need another one.
    #[arg(long, default_value = "tokenward", value_name = "NAME")]
    leader_election_lease: String,

    /// How long one token request may take (1s to 60s). After a crash in the middle of one, this long
    /// and half a minute pass before another attempt; both shrink with the token's lifetime.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = request_timeout)]
    request_timeout: Duration,

    /// Measure each credential: whether it is ready, when its token expires, when it is refreshed next. That is three
    /// series for each; without it, credentials are counted by their state only.
    #[arg(long, env = "TOKENWARD_METRICS_PER_CREDENTIAL")]
    metrics_per_credential: bool,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    health_address: SocketAddr,

    #[command(flatten)]
    logs: Logs,

    /// Send traces to this collector, by OTLP over http or https (to /v1/traces below this address). Without it, to that of
    /// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT; without any, no traces are made.
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,

    /// Which share of traces is sent, 0 to 1. Without it, what OTEL_TRACES_SAMPLER says, else all.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    otlp_sample_ratio: Option<f64>,
}

impl Arguments {
    /// What sends traces, where they are asked for.
    fn traces(&self, identity: &str) -> Result<Option<Traces>> {
        let endpoint = self.otlp_endpoint.as_deref();
        let variable = |name: &str| std::env::var(name).ok();
        let settings = settings(endpoint, self.otlp_sample_ratio, variable)?;
        let traces = settings.map(|settings| Traces::start(settings, identity));
        traces.transpose().map_err(Into::into)
    }

    fn identity(&self) -> String {
        let own = || format!("tokenward-{}", std::process::id());
        self.identity.clone().unwrap_or_else(own)
    }

    fn access(&self) -> Result<Access> {
        let networks = self.allow_provider_networks.iter();
        // A variable that is set to nothing names none.
        let proxy = self.provider_proxy.as_deref().filter(|url| !url.is_empty());
        Ok(Access {
            allow_http_loopback: self.allow_http_loopback,
            networks: networks.flat_map(|networks| networks.0.clone()).collect(),
            proxy: proxy
                .map(ProviderProxy::parse)
                .transpose()
                .context("--provider-proxy")?,
            timeout: self.request_timeout,
        })
    }
}

/// Networks, separated by commas.
#[derive(Clone)]
struct Networks(Vec<IpNet>);

fn networks(text: &str) -> Result<Networks, String> {
    let parts = text.split(',').map(str::trim);
    // A variable that is set to nothing names none.
    let named = parts.filter(|part| !part.is_empty());
    named.map(network).collect::<Result<_, _>>().map(Networks)
}

/// A network, or one address.
fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is no network such as 10.20.0.0/16 or fd00:1::/32"))?;
    if network == network.trunc() {
        Ok(network)
    } else {
        // Which of the two was meant is not for us to say.
        let whole = network.trunc();
        Err(format!(
            "{network} is an address inside of a network; the network is {whole}"
        ))
    }
}

fn request_timeout(text: &str) -> Result<Duration, String> {
    let parsed: api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    let range = Duration::from_secs(1)..=Duration::from_secs(60);
    if range.contains(&parsed.0) {
        Ok(parsed.0)
    } else {
        Err("it must be from 1s to 60s".to_owned())
    }
}

pub(super) async fn run(connect: Connect, arguments: Arguments) -> Result<u8> {
    let traces = arguments.traces(&arguments.identity())?;
    arguments.logs.start(traces.as_ref())?;
    // Not on the thread that waits for it: what its streams bring would have to be handed to others all the time.
    let ended = tokio::spawn(work(connect, arguments)).await?;
    if let Some(traces) = traces {
        traces.end().await;
    }
    ended
}

async fn work(connect: Connect, arguments: Arguments) -> Result<u8> {
    let access = arguments.access()?;
    if access.proxy.is_none()
        && let Some(variable) = ambient(|name| std::env::var_os(name))
    {
        tracing::warn!(
            variable,
            "token requests do not go through the proxy of this variable; if they must, set --provider-proxy"
        );
    }
    let connection = connect.connect().await?;
    let operator_namespace = arguments
        .operator_namespace
        .clone()
        .unwrap_or(connection.default_namespace);
    let shutdown = CancellationToken::new();
    let readiness = Arc::<Readiness>::default();
    let metrics = Arc::new(Metrics::new(arguments.metrics_per_credential));
    let address = admin::serve(
        arguments.health_address,
        Arc::clone(&readiness),
        Arc::clone(&metrics),
        shutdown.clone(),
    )
    .await
    .with_context(|| {
        format!(
            "cannot serve /livez, /readyz and /metrics on {}",
            arguments.health_address
        )
    })?;
    let mut namespaces = connect.namespaces;
    namespaces.sort();
    namespaces.dedup();
    let config = Config {
        namespaces,
        operator_namespace,
        access,
        require_allow_label: arguments.require_allow_label,
        cluster_provider_status: arguments.cluster_provider_status,
        identity: arguments.identity(),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        health_address = %address,
        namespaces = ?config.namespaces,
        provider_networks = ?config.access.networks,
        provider_proxy = ?config.access.proxy,
        identity = config.identity,
        "starting"
    );
    stop_on_signals(shutdown.clone())?;
    let client = connection.client;
    if !arguments.leader_elect {
        metrics.leads(true);
        controller::run(client, config, (readiness, metrics), shutdown).await?;
        tracing::info!("stopped");
        return Ok(exit::SUCCESS);
    }
    let lease = &arguments.leader_election_lease;
    let election = Election::new(&client, &config.operator_namespace, lease, &config.identity);
    readiness.stands_by(true);
    let Some(leadership) = election.lead(&shutdown).await else {
        tracing::info!("stopped");
        return Ok(exit::SUCCESS);
    };
    readiness.stands_by(false);
    metrics.leads(true);
    let done = CancellationToken::new();
    let kept = async {
        let kept = leadership.keep(&done).await;
        // What is under way is finished and stored all the same.
        shutdown.cancel();
        kept
    };
    let worked = async {
        let worked = controller::run(client, config, (readiness, metrics), shutdown.clone()).await;
        done.cancel();
        worked
    };
    let (kept, worked) = join(kept, worked).await;
    worked?;
    anyhow::ensure!(
        kept,
        "Lease {lease} was not renewed in time, or is another's by now: another replica may lead. What was under way is stored; start again"
    );
    tracing::info!("stopped");
    Ok(exit::SUCCESS)
}

/// The first signal ends the work in order: exchanges under way are stored. The second one ends at once.
fn stop_on_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("stopping: what is under way is finished and stored");
                shutdown.cancel();
            }
        }
        tracing::warn!("stopping at once");
        std::process::exit(130);
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        networks(text).map(|n| n.0.iter().map(IpNet::to_string).collect())
    }

    #[test]
    fn networks_as_people_write_them() {
        assert_eq!(read("10.0.0.0/8").unwrap(), ["10.0.0.0/8"]);
        assert_eq!(
            read("10.1.2.3, fd00::/8,").unwrap(),
            ["10.1.2.3/32", "fd00::/8"]
        );
        assert!(read("").unwrap().is_empty());
        assert!(read("10.1.2.3/8").unwrap_err().contains("10.0.0.0/8"));
        assert!(read("10.0.0.0/33").is_err());
        assert!(read("example.com").is_err());
    }
}
