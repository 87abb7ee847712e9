//! The command line.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::http::{HeaderValue, header::USER_AGENT};
use clap::{Args, Parser, Subcommand};
use kube::{Client, ResourceExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    admin, api,
    controller::{self, Config, Readiness},
    telemetry::{self, LogFormat},
};

/// Keeps the credentials of integrations alive on Kubernetes: OAuth tokens are refreshed before they
/// expire, into Secrets that pods mount.
#[derive(Parser)]
#[command(
    name = "tokenward",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failure (the last line on standard error says why), 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator.
    #[command(after_help = "Examples:
  tokenward controller                          all namespaces, as the current kubectl context or in a pod
  tokenward controller -n team-a -n team-b      two namespaces, with rights in no other")]
    Controller(ControllerArgs),
    /// Print the CustomResourceDefinitions.
    #[command(after_help = "Examples:
  tokenward crd | kubectl apply -f -
  tokenward crd --directory crds")]
    Crd {
        /// Write one file for each definition into this directory instead.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

#[derive(Args)]
struct ControllerArgs {
    /// Serve this namespace only (repeatable). Without it: all namespaces.
    #[arg(short, long = "namespace", value_name = "NAMESPACE", value_parser = namespace)]
    namespaces: Vec<String>,

    /// The namespace with the client Secrets of ClusterOAuthProviders.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", value_parser = namespace)]
    operator_namespace: Option<String>,

    /// This process's name in Leases and events.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,

    /// Accept http token endpoints on loopback addresses: for trying things out.
    #[arg(long)]
    allow_http_loopback: bool,

    /// How long one token request may take (1s to 60s). After a crash in the middle of one, this long
    /// and half a minute pass before another attempt; both shrink with the token's lifetime.
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = request_timeout)]
    request_timeout: Duration,

    /// Where /livez and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080", value_name = "ADDRESS:PORT")]
    health_address: SocketAddr,

    /// The form of log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    log_format: LogFormat,

    /// Which log lines: error, warn, info, debug or trace, or a list of target=level.
    #[arg(
        long,
        env = "TOKENWARD_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    log_level: String,
}

fn namespace(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a namespace is lower case letters, digits and '-', at most 63".to_owned())
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

/// Runs the command of the arguments.
pub async fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Controller(args) => controller(args).await,
        Command::Crd { directory } => crd(directory.as_deref()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tokenward: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn crd(directory: Option<&Path>) -> Result<()> {
    for definition in api::definitions() {
        let yaml =
            serde_saphyr::to_string(&definition).context("a definition does not serialize")?;
        match directory {
            Some(directory) => {
                let path = directory.join(format!("{}.yaml", definition.name_any()));
                std::fs::write(&path, yaml)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            None => write!(std::io::stdout(), "---\n{yaml}")
                .context("cannot write to standard output")?,
        }
    }
    Ok(())
}

async fn controller(args: ControllerArgs) -> Result<()> {
    telemetry::start(&args.log_level, args.log_format).context("--log-level")?;
    let mut kubeconfig = kube::Config::infer()
        .await
        .context("no cluster: neither in a pod nor a usable kubeconfig (see KUBECONFIG)")?;
    // Repeated behind our back, a write could be done twice.
    kubeconfig.default_retry = false;
    // So that the API server's audit log tells whose requests these are.
    let user_agent = HeaderValue::from_static(concat!("tokenward/", env!("CARGO_PKG_VERSION")));
    kubeconfig.headers.push((USER_AGENT, user_agent));
    let operator_namespace = args
        .operator_namespace
        .unwrap_or_else(|| kubeconfig.default_namespace.clone());
    let client = Client::try_from(kubeconfig).context("no client for the cluster")?;
    let shutdown = CancellationToken::new();
    let readiness = Arc::<Readiness>::default();
    let address = admin::serve(
        args.health_address,
        Arc::clone(&readiness),
        shutdown.clone(),
    )
    .await
    .with_context(|| format!("cannot serve /livez and /readyz on {}", args.health_address))?;
    let mut namespaces = args.namespaces;
    namespaces.sort();
    namespaces.dedup();
    let config = Config {
        namespaces,
        operator_namespace,
        allow_http_loopback: args.allow_http_loopback,
        request_timeout: args.request_timeout,
        identity: args
            .identity
            .unwrap_or_else(|| format!("tokenward-{}", std::process::id())),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        health_address = %address,
        namespaces = ?config.namespaces,
        identity = config.identity,
        "starting"
    );
    stop_on_signals(shutdown.clone())?;
    controller::run(client, config, readiness, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
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
