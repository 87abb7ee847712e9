//! A gate that nobody keeps any more, of a credential for which nothing else may be done.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{SOON, Tools, durations, lifetime, mode};
use crate::{
    api::IntegrationCredential,
    lock::{
        gate::{Drained, Entered, Wish},
        protocol::{Drains, Priority},
    },
};

/// Takes over a gate whose writer is dead, and opens it with all that it says: what that writer left undone stays for
/// the next one. Returns when to look again.
pub async fn open_unkept(tools: &Tools, credential: &Arc<IntegrationCredential>) -> Duration {
    let durations = durations(credential, lifetime(credential), tools.exchange_timeout);
    let wish = Wish {
        priority: Priority::Refresh,
        durations,
        mode: mode(credential),
        // Nothing is exchanged that could end their token.
        drains: Drains::Never,
        patience: Duration::ZERO,
        urgent: true,
    };
    let mut gate = match tools.gates.enter(credential, wish).await {
        Ok(Entered::Mine(gate)) => gate,
        Ok(Entered::Busy(pause)) => return pause,
        Err(error) => {
            let failure = error.failure(&format!("close Lease {}", credential.gate_name()));
            tracing::warn!(
                reason = failure.reason.as_str(),
                error = failure.message,
                "gate not opened"
            );
            return SOON;
        }
    };
    let is_mine = match gate.drain(&tools.shutdown, &watch::Sender::default()).await {
        Ok(Drained::Behind) | Err(_) => true,
        Ok(Drained::Interrupted { safe }) => safe,
        Ok(Drained::Superseded) => false,
    };
    if is_mine {
        let (generation, unresolved) = (gate.generation(), gate.unresolved().cloned());
        gate.open(generation, unresolved, None).await;
        tracing::info!(reason = "GateOpened", "a gate that nobody kept was opened");
    }
    SOON
}
