//! `/livez`, `/readyz` and `/metrics`.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    controller::Readiness,
    metrics::{self, Metrics},
};

/// Serves the probes and metrics until `shutdown`. Returns the address that it listens on, for port 0.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let known = Arc::clone(&readiness);
    let missing = move || {
        let is_ready = readiness.is_ready();
        (!is_ready).then(|| "caches not filled yet".to_owned())
    };
    let measured = async move || {
        metrics.ready(known.is_ready());
        match metrics.text() {
            Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    let router = probes(missing).route("/metrics", get(measured));
    listen(address, router, shutdown).await
}

/// Serves the probes alone, as [`serve`] does; `missing` says what readiness lacks.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve_probes(
    address: SocketAddr,
    missing: impl Fn() -> Option<String> + Clone + Send + Sync + 'static,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    listen(address, probes(missing), shutdown).await
}

fn probes(missing: impl Fn() -> Option<String> + Clone + Send + Sync + 'static) -> Router {
    let ready = async move || match missing() {
        None => (StatusCode::OK, "ok".to_owned()),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, missing),
    };
    Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
}

async fn listen(
    address: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let until = shutdown.cancelled_owned();
        if let Err(error) = axum::serve(listener, router)
            .with_graceful_shutdown(until)
            .await
        {
            tracing::error!(%error, "the probes are not served any more");
        }
    });
    Ok(address)
}
