//! A program that uses credentials: it acquires one, calls an API with its token until it lets go, and
//! takes the next. `cargo run --example consumer -- --help`

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Parser;
use secrecy::ExposeSecret;
use serde_json::json;
use tokenward::manager::{CredentialManager, Error, Hold};

/// Acquires credentials in turn and uses their tokens, until it is stopped.
#[derive(Parser)]
struct Options {
    /// The credentials.
    #[arg(required = true)]
    names: Vec<String>,
    /// Their namespace.
    #[arg(short, long)]
    namespace: String,
    /// The URL that is called with the token.
    #[arg(long)]
    resource: String,
    /// How long each is held.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    hold: Duration,
    /// How often the URL is called meanwhile.
    #[arg(long, default_value = "20ms", value_parser = duration)]
    every: Duration,
    /// How long to pause before the next.
    #[arg(long, default_value = "50ms", value_parser = duration)]
    pause: Duration,
    /// Do not let go when a refresh waits.
    #[arg(long)]
    stubborn: bool,
    /// End after so many; 0: when stopped.
    #[arg(long, default_value_t = 0)]
    times: usize,
    /// Which one to begin with.
    #[arg(long, default_value_t = 0)]
    first: usize,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: tokenward::api::Duration = text.parse().map_err(|error| format!("{error}"))?;
    Ok(parsed.into())
}

#[derive(Default)]
struct Count {
    acquired: usize,
    calls: usize,
    refused: usize,
    lost: usize,
    errors: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = Options::parse();
    let mut config = kube::Config::infer().await.context("no cluster")?;
    // Repeated behind our back, a request could be answered for the wrong time.
    config.default_retry = false;
    let client = kube::Client::try_from(config)?;
    let manager = CredentialManager::new(client, options.namespace.clone());
    let api = reqwest::Client::new();
    let mut count = Count::default();
    // On SIGTERM everything is released before the program ends.
    let work = work(&manager, &api, &options, &mut count);
    manager.until_terminated(work).await?;
    let Count {
        acquired,
        calls,
        refused,
        lost,
        errors,
    } = count;
    let said = json!({
        "acquired": acquired, "calls": calls, "refused": refused, "lost": lost, "errors": errors,
    });
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}

async fn work(
    manager: &CredentialManager,
    api: &reqwest::Client,
    options: &Options,
    count: &mut Count,
) {
    for turn in options.first.. {
        if options.times > 0 && count.acquired >= options.times {
            return;
        }
        let name = &options.names[turn % options.names.len()];
        match manager.acquire(name).await {
            Ok(hold) => {
                count.acquired += 1;
                let _ = writeln!(
                    std::io::stderr(),
                    "{name}: generation {}",
                    hold.generation()
                );
                if let Err(error) = call(&hold, api, options, count).await {
                    count.lost += 1;
                    let _ = writeln!(std::io::stderr(), "{error}");
                }
                hold.release().await;
            }
            Err(error) => {
                count.errors += 1;
                let _ = writeln!(std::io::stderr(), "{error}");
            }
        }
        tokio::time::sleep(options.pause).await;
    }
}

/// Calls the API until it is time to let go, or a refresh waits for that.
async fn call(
    hold: &Hold,
    api: &reqwest::Client,
    options: &Options,
    count: &mut Count,
) -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed() < options.hold {
        // Asked for each time: a hold that was lost gives no token.
        let authorization = hold.token().await?.authorization();
        let call = api
            .get(&options.resource)
            .header("authorization", authorization.expose_secret())
            .send()
            .await;
        count.calls += 1;
        match call {
            Ok(answer) if answer.status().is_success() => {}
            Ok(_) => count.refused += 1,
            Err(_) => count.errors += 1,
        }
        tokio::select! {
            () = hold.draining(), if !options.stubborn => break,
            () = tokio::time::sleep(options.every) => {}
        }
    }
    hold.token().await.map(drop)
}
