//! The hold beside the files.

use super::{MountError, PAUSE, Progress};
use crate::{
    lock::protocol::Mode,
    manager::{AcquireOptions, CredentialManager, Error, Hold},
};

/// Holds the credential, and again whenever it had to let go. It returns only before it has held it once.
pub(super) async fn keep(
    manager: &CredentialManager,
    credential: &str,
    progress: &Progress,
) -> MountError {
    let options = AcquireOptions {
        // Whoever has been promised to be the only one must be ended when that is over, which nobody here can do.
        mode: Some(Mode::Shared),
        ..AcquireOptions::default()
    };
    let mut pause = PAUSE.0;
    loop {
        match manager.acquire_with(credential, &options).await {
            Ok(hold) => {
                pause = PAUSE.0;
                let generation = hold.generation();
                tracing::info!(credential, generation, "held");
                progress.held(generation);
                if keep_while_due(hold, credential).await {
                    continue;
                }
            }
            Err(error @ Error::Forbidden { .. }) if !progress.is_ready() => return error.into(),
            Err(Error::WrongMode {
                namespace, name, ..
            }) if !progress.is_ready() => return MountError::Exclusive { namespace, name },
            Err(error) if progress.is_ready() => {
                tracing::warn!(credential, %error, "not held; trying again");
            }
            Err(error) => progress.waits_for(&error.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Keeps a hold until it is lost, or a refresh has waited for it as long as the gate grants: whether it was let go.
async fn keep_while_due(hold: Hold, credential: &str) -> bool {
    let grace = hold.drain_grace();
    loop {
        tokio::select! {
            biased;
            () = hold.lost() => return lost(credential),
            () = hold.draining() => {}
        }
        tracing::info!(credential, grace_s = grace.as_secs_f64(), "a refresh waits");
        tokio::select! {
            biased;
            () = hold.lost() => return lost(credential),
            () = tokio::time::sleep(grace) => {}
        }
        if hold.is_draining() {
            hold.release().await;
            tracing::info!(credential, "released, so that it is refreshed");
            return true;
        }
    }
}

/// Another one is not taken at once: who deletes holds may go on.
fn lost(credential: &str) -> bool {
    tracing::warn!(
        credential,
        "the hold is lost: it could not be renewed in time, or was deleted; holding it again"
    );
    false
}
