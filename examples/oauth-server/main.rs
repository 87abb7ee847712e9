//! An OAuth 2.0 server for trying an operator out: it rotates refresh tokens strictly and fails
//! on demand. `cargo run --example oauth-server -- --help`

mod server;

use std::io::IsTerminal;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use server::{Behaviour, Client, Config, OAuthServer, OldToken, Reuse};

/// Runs an OAuth 2.0 token endpoint and a resource that takes its tokens.
///
/// Everything is kept in memory and nothing is protected: it is for trying things out.
#[derive(Parser)]
#[command(name = "oauth-server")]
struct Options {
    /// The address to listen on.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 8089)]
    port: u16,
    /// The client that the server knows.
    #[arg(long, default_value = "demo")]
    client_id: String,
    /// A secret of that client; give it again for more than one.
    #[arg(long, default_value = "demo-secret")]
    client_secret: Vec<String>,
    /// The scope of the first refresh token.
    #[arg(long, default_value = "read write")]
    scope: String,
    /// How long an access token lives.
    #[arg(long, default_value = "1h", value_parser = server::duration)]
    lifetime: Duration,
    /// How long every answer is withheld after its commit.
    #[arg(long, default_value = "0s", value_parser = server::duration)]
    latency: Duration,
    /// For how long a spent refresh token yields the same tokens again.
    #[arg(long, default_value = "0s", value_parser = server::duration)]
    grace: Duration,
    /// Refresh tokens stay the same.
    #[arg(long)]
    no_rotation: bool,
    /// The old access token lives on when it is refreshed.
    #[arg(long)]
    old_token_survives: bool,
    /// A spent refresh token is refused, and its authorization lives on.
    #[arg(long)]
    reject_reuse_only: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let options = Options::parse();
    let config = Config {
        address: SocketAddr::new(options.address, options.port),
        clients: vec![Client {
            id: options.client_id.clone(),
            secrets: options.client_secret.clone(),
            keys: Vec::new(),
        }],
        behaviour: behaviour(&options),
    };
    let address = config.address;
    let server = OAuthServer::start(config)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    println!("{}", introduction(&server, &options));
    tokio::signal::ctrl_c().await?;
    Ok(())
}

fn behaviour(options: &Options) -> Behaviour {
    let mut behaviour = Behaviour {
        lifetime: options.lifetime,
        latency: options.latency,
        grace: options.grace,
        rotation: !options.no_rotation,
        ..Behaviour::default()
    };
    if options.old_token_survives {
        behaviour.on_refresh = OldToken::Survives;
    }
    if options.reject_reuse_only {
        behaviour.reuse = Reuse::RejectOnly;
    }
    behaviour
}

fn introduction(server: &OAuthServer, options: &Options) -> String {
    let (url, id) = (server.url(), &options.client_id);
    let secret = options.client_secret.first().map_or("", String::as_str);
    let token = server.issue_refresh_token(&options.scope);
    format!(
        r#"token endpoint  {url}/token
resource        {url}/resource
client          {id}, secret {secret}
refresh token   {token}

Redeem it, once:
  curl -u {id}:{secret} -d grant_type=refresh_token -d refresh_token={token} {url}/token
A token for the client itself, and what it opens:
  AT=$(curl -s -u {id}:{secret} -d grant_type=client_credentials {url}/token | grep -o 'at-[0-9a-f-]*')
  curl -i -H "Authorization: Bearer $AT" {url}/resource
Another refresh token, of an authorization of its own:
  curl -X POST '{url}/issue?scope=read'
What happened so far:
  curl {url}/log
Short-lived tokens, slow answers, then three errors:
  curl -d '{{"lifetime":"20s","latency":"2s","fail":{{"status":500,"times":3}}}}' {url}/control
An answer that never arrives, though the token is spent:
  curl -d '{{"fail":{{"drop":"after-commit","times":1}}}}' {url}/control
As it was:
  curl -d '{{"lifetime":"1h","latency":"0s","clear":true}}' {url}/control
Consent withdrawn:
  curl -d '{{"revoke":"{token}"}}' {url}/control

Ctrl-C stops it."#
    )
}
