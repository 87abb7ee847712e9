//! An OAuth 2.0 server that does what it is told, for tests and for trying failures by hand.
//!
//! It rotates refresh tokens strictly, notices reuse, records every request, and can be made to
//! fail in every way that matters to a client: slow, down, cut off in the middle, malformed,
//! shaped as some vendor would have it, or held still while a test acts in between.
//!
//! The program beside this file runs it; tests take it in with
//! `#[path = "…/examples/oauth-server/server.rs"] mod oauth_server;`, hence the explicit paths of
//! the modules below and nothing from the operator's own crate.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test crate takes in the whole server and uses a part of it"
)]

#[path = "server/assertion.rs"]
mod assertion;
#[path = "server/behaviour.rs"]
mod behaviour;
#[path = "server/code.rs"]
mod code;
#[path = "server/connection.rs"]
pub mod connection;
#[path = "server/fault.rs"]
mod fault;
#[path = "server/handle.rs"]
mod handle;
#[path = "server/http.rs"]
mod http;
#[path = "server/log.rs"]
mod log;
#[path = "server/request.rs"]
mod request;
#[path = "server/state.rs"]
mod state;

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::assertion::PublicKey;
pub use self::behaviour::{Behaviour, Client, OldToken, Reuse};
pub use self::code::{CodeTerms, challenge};
pub use self::fault::{Answer, Fault, Reply};
pub use self::handle::Handle;
pub use self::log::{Outcome, ResourceCall, Revocation, TokenRequest};
pub use self::request::ClientAuth;

use self::connection::Doors;

/// How a server starts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The clients it knows. The first is the one that [`Handle::issue_refresh_token`] issues to.
    pub clients: Vec<Client>,
    /// What it does, until [`Handle::configure`] changes it.
    pub behaviour: Behaviour,
}

impl Default for Config {
    /// A free port on the loopback address, and one client: `demo` with the secret `demo-secret`.
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            clients: vec![Client::new("demo", &["demo-secret"])],
            behaviour: Behaviour::default(),
        }
    }
}

/// A running server; it stops when this is dropped. Everything that a [`Handle`] does, it does.
#[derive(Debug)]
pub struct OAuthServer {
    handle: Handle,
    address: SocketAddr,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    /// Bound and not listening: keeps the port of a stopped server ours.
    reserved: Option<TcpSocket>,
}

impl OAuthServer {
    /// Starts a server inside the caller's runtime; it accepts connections when this returns.
    #[allow(
        clippy::unused_async,
        reason = "a server needs a runtime, and an async start cannot be called outside of one"
    )]
    pub async fn start(config: Config) -> io::Result<Self> {
        let socket = bind(config.address)?;
        let address = socket.local_addr()?;
        let handle = Handle::new(address, config.clients, config.behaviour);
        let mut server = Self {
            handle,
            address,
            running: None,
            reserved: None,
        };
        server.listen(socket)?;
        Ok(server)
    }

    /// A handle to pass around; it outlives the server.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops: connections break, new ones are refused, and nothing is committed any more once
    /// this returns. Tokens, settings and the log stay, and so does the claim to the port.
    pub async fn stop(&mut self) -> io::Result<()> {
        if let Some((stop, task)) = self.running.take() {
            // Before it is given up, so that it never is anybody's.
            self.reserved = Some(bind(self.address)?);
            self.handle.halt(&stop);
            task.abort();
            // The listener is closed when its task has ended; that it was aborted is no news.
            let _ = task.await;
        }
        Ok(())
    }

    /// Starts a stopped server again, on the same port with the same state. One that runs is
    /// stopped first.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await?;
        let socket = match self.reserved.take() {
            Some(socket) => socket,
            None => bind(self.address)?,
        };
        self.listen(socket)
    }

    fn listen(&mut self, socket: TcpSocket) -> io::Result<()> {
        let stop = CancellationToken::new();
        let doors = Doors::new(socket.listen(1024)?, stop.clone());
        let service = http::router(self.handle.clone());
        let task = tokio::spawn(async move {
            // axum's loop ends only when it is aborted: accept errors are retried within.
            let _ = axum::serve(doors, service).await;
        });
        self.running = Some((stop, task));
        Ok(())
    }
}

impl Deref for OAuthServer {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for OAuthServer {
    fn drop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            self.handle.halt(&stop);
            task.abort();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Reads `20s`, `1h 30m`, `500ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|error| format!("{text:?} is no duration such as 20s or 1h30m: {error}"))?;
    Duration::try_from(span).map_err(|_| format!("{text:?} is negative"))
}
