//! `/livez` and `/readyz`.

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::controller::Readiness;

/// Serves the probes until `shutdown`. Returns the address that it listens on, for port 0.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    address: SocketAddr,
    readiness: Arc<Readiness>,
    shutdown: CancellationToken,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let ready = async move || {
        if readiness.is_ready() {
            (StatusCode::OK, "ok")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "caches not filled yet")
        }
    };
    let router = Router::new()
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready));
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
