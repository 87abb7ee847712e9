//! A proxy between a client process and the API server, at which everything can go wrong that goes wrong
//! on a network, at the very call that a test is about.

mod call;
mod fault;
mod upstream;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{Response, request::Parts},
};
use kube::Config;
use serde_json::{Value, json};
use tokio::{net::TcpSocket, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::{
    call::{Call, Calls},
    fault::{Fault, Victim},
};
use self::{
    fault::{Injected, Rule},
    upstream::Upstream,
};
use super::wait::soon;
use crate::oauth_server::connection::{Connection, Doors};

/// More than any object of these tests.
const LARGEST_BODY: usize = 4 << 20;

/// A running proxy; it stops when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    running: Option<(CancellationToken, JoinHandle<()>)>,
    /// Bound and not listening: keeps the port ours while the API server is away.
    reserved: Option<TcpSocket>,
    folder: tempfile::TempDir,
}

/// What a proxy and its calls share.
struct Shared {
    upstream: Upstream,
    log: Mutex<Vec<Logged>>,
    arrived: watch::Sender<usize>,
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// A call and the connection that it came on.
struct Logged {
    call: Call,
    connection: Connection,
}

impl Proxy {
    /// Starts one before the API server of `administrator`, in whose name everything is done that names
    /// nobody else. Inside the caller's runtime.
    pub fn start(administrator: Config) -> Self {
        let socket = bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut proxy = Self {
            address: socket.local_addr().unwrap(),
            shared: Arc::new(Shared {
                upstream: Upstream::new(administrator),
                log: Mutex::default(),
                arrived: watch::Sender::new(0),
                rules: Mutex::default(),
            }),
            running: None,
            reserved: Some(socket),
            folder: tempfile::tempdir().unwrap(),
        };
        proxy.back();
        proxy
    }

    /// A file for clients that are to come this way, as the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.write_kubeconfig("administrator", &json!({}))
    }

    /// A file for clients that are to come this way, as whom this token stands for.
    pub fn kubeconfig_of(&self, name: &str, token: &str) -> PathBuf {
        self.write_kubeconfig(name, &json!({"token": token}))
    }

    fn write_kubeconfig(&self, name: &str, user: &Value) -> PathBuf {
        let server = format!("http://{}", self.address);
        let content = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": name}}],
            "clusters": [{"name": "proxy", "cluster": {"server": server}}],
            "users": [{"name": name, "user": user}],
        });
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }

    /// From now on these calls meet a fault. A call meets one at most: the one that was injected first.
    pub fn inject(&self, calls: Calls, fault: Fault) -> Injected {
        let rule = Arc::new(Rule::new(calls, fault));
        lock(&self.shared.rules).push(Arc::clone(&rule));
        Injected(rule)
    }

    /// The API server is away: connections break, watches too, and new ones are refused. What had arrived
    /// may still be done by it.
    pub async fn away(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            // Before it is given up, so that it never is anybody's.
            self.reserved = Some(bind(self.address));
            stop.cancel();
            task.abort();
            // The listener is closed when its task has ended; that it was aborted is no news.
            let _ = task.await;
        }
    }

    /// It is back.
    pub fn back(&mut self) {
        let Some(socket) = self.reserved.take() else {
            return;
        };
        let stop = CancellationToken::new();
        let doors = Doors::new(socket.listen(1024).unwrap(), stop.clone());
        let service = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&self.shared))
            .into_make_service_with_connect_info::<Connection>();
        let task = tokio::spawn(async move {
            // axum's loop ends only when it is aborted: accept errors are retried within.
            let _ = axum::serve(doors, service).await;
        });
        self.running = Some((stop, task));
    }

    /// Breaks these watches; their clients may begin them anew.
    pub fn cut(&self, watches: &Calls) {
        for logged in lock(&self.shared.log).iter() {
            if watches.include(&logged.call) {
                logged.connection.break_now();
            }
        }
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        let log = lock(&self.shared.log);
        log.iter().map(|logged| logged.call.clone()).collect()
    }

    /// How many of these there were.
    pub fn count(&self, calls: &Calls) -> usize {
        let log = lock(&self.shared.log);
        log.iter()
            .filter(|logged| calls.include(&logged.call))
            .count()
    }

    /// When each of these arrived.
    pub fn times(&self, calls: &Calls) -> Vec<Instant> {
        let log = lock(&self.shared.log);
        let meant = log.iter().filter(|logged| calls.include(&logged.call));
        meant.map(|logged| logged.call.at).collect()
    }

    /// Waits until there were so many of these, since the proxy started.
    pub async fn wait_for(&self, calls: &Calls, times: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        let reached = arrived.wait_for(|_| self.count(calls) >= times);
        let _ = soon(&format!("{times} of {calls:?}"), reached).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.cancel();
            task.abort();
        }
    }
}

/// Runs to its end even when the client leaves, as it does at the real API server.
async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let on = connection.clone();
    let task = tokio::spawn(async move {
        let body = to_bytes(body, LARGEST_BODY).await.ok()?;
        shared.pass(on, parts, body).await
    });
    task.await.ok().flatten().unwrap_or_else(|| {
        connection.break_now();
        Response::new(Body::empty())
    })
}

impl Shared {
    /// `None` closes the connection without an answer.
    async fn pass(
        &self,
        connection: Connection,
        parts: Parts,
        body: Bytes,
    ) -> Option<Response<Body>> {
        let (index, rule) = self.arrive(connection, &parts, &body)?;
        let Some(rule) = rule else {
            return self.forward(index, parts, body).await;
        };
        let answer = self.meet(&rule, index, parts, body).await;
        rule.finish();
        answer
    }

    /// Notes a call, and finds the fault that it meets.
    fn arrive(
        &self,
        connection: Connection,
        parts: &Parts,
        body: &[u8],
    ) -> Option<(usize, Option<Arc<Rule>>)> {
        let mut log = lock(&self.log);
        if connection.is_broken() {
            return None;
        }
        let before = log.iter().filter(|l| l.call.number.is_some()).count();
        let mut call = Call::read(parts, body, before);
        let rule = lock(&self.rules)
            .iter()
            .find(|rule| rule.meets(&call))
            .cloned();
        call.fault = rule.as_ref().map(|rule| rule.fault.name());
        log.push(Logged { call, connection });
        let index = log.len() - 1;
        drop(log);
        self.arrived.send_replace(index + 1);
        Some((index, rule))
    }

    async fn meet(
        &self,
        rule: &Rule,
        index: usize,
        parts: Parts,
        body: Bytes,
    ) -> Option<Response<Body>> {
        match &rule.fault {
            Fault::Answer(status) => return Some(said(*status)),
            Fault::DropBefore => return None,
            Fault::CrashBefore(victim) => {
                victim.kill().await;
                return None;
            }
            Fault::HoldBefore => rule.released().await,
            Fault::Delay(delay) => tokio::time::sleep(*delay).await,
            Fault::DropAfter | Fault::HoldAfter | Fault::CrashAfter(_) => {}
        }
        let answer = self.forward(index, parts, body).await;
        match &rule.fault {
            Fault::DropAfter => return None,
            Fault::CrashAfter(victim) => {
                victim.kill().await;
                return None;
            }
            Fault::HoldAfter => rule.released().await,
            _ => {}
        }
        answer
    }

    async fn forward(&self, index: usize, parts: Parts, body: Bytes) -> Option<Response<Body>> {
        let answer = self.upstream.send(parts, body).await?;
        lock(&self.log)[index].call.status = Some(answer.status().as_u16());
        Some(answer)
    }
}

/// What the API server would say.
fn said(status: u16) -> Response<Body> {
    let reason = match status {
        403 => "Forbidden",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": status, "reason": reason, "message": "injected by a test",
    });
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Nothing here is left half changed, so a panic elsewhere does not make it unusable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
