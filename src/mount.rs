//! The target of a credential as files that are replaced when it changes: what the kubelet does for a volume of a
//! Secret, a fraction of a second after the write instead of a minute. It runs beside the program that reads the files,
//! as a sidecar of its pod.
//!
//! [`shown`] decides what may be written, [`Directory`] writes it, and a watch of the one Secret tells when.

mod directory;
mod follow;
mod hold;
mod progress;
pub mod shown;

use std::{sync::Arc, time::Duration};

pub use self::{
    directory::{Directory, DirectoryError, is_in_memory},
    progress::Progress,
};
use crate::manager::{CredentialManager, Error};

/// How long is waited after the first failure, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What is mounted, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The credential.
    pub credential: String,
    /// Its target, where that need not be asked for.
    pub secret: Option<String>,
    /// Whether the credential is held.
    pub hold: bool,
    /// How long it may take until everything is ready; `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// What the API server, or the credential, is to blame for.
    #[error(transparent)]
    Manager(#[from] Error),
    /// It cannot be held for a pod's life.
    #[error(
        "{namespace}/{name} has spec.lock.mode Exclusive, and a sidecar cannot end the program beside it when its hold is over: leave out --hold, or run the program by tokenward lock"
    )]
    Exclusive {
        /// The namespace.
        namespace: String,
        /// The credential.
        name: String,
    },
    /// The files cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// Writes the files of a credential's target, again at each change, and holds the credential where that is asked for.
/// It ends only where it cannot go on; what was written stays. To be dropped otherwise.
///
/// What is not there yet is waited for: the credential, its target, a token in it. Once it is ready, nothing that the
/// API server answers ends it.
pub async fn run(
    manager: &CredentialManager,
    wish: &Wish,
    directory: Directory,
    progress: &Arc<Progress>,
) -> MountError {
    let follow = async {
        match secret(manager, wish, progress).await {
            Ok(secret) => follow::follow(manager, wish, &secret, directory, progress).await,
            Err(error) => error.into(),
        }
    };
    let hold = async {
        if wish.hold {
            hold::keep(manager, &wish.credential, progress).await
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        error = follow => error,
        error = hold => error,
        error = late(manager, wish, progress) => error.into(),
    }
}

/// The name of the Secret. A credential that is not there is waited for.
async fn secret(
    manager: &CredentialManager,
    wish: &Wish,
    progress: &Progress,
) -> Result<String, Error> {
    if let Some(secret) = &wish.secret {
        return Ok(secret.clone());
    }
    let mut pause = PAUSE.0;
    loop {
        match manager.target_secret(&wish.credential).await {
            Ok(secret) => return Ok(secret),
            Err(error @ Error::Forbidden { .. }) => return Err(error),
            Err(error) => progress.waits_for(&error.to_string()),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Resolves where it is not ready in time.
async fn late(manager: &CredentialManager, wish: &Wish, progress: &Progress) -> Error {
    let Some(timeout) = wish.timeout else {
        return std::future::pending().await;
    };
    if tokio::time::timeout(timeout, progress.ready())
        .await
        .is_ok()
    {
        return std::future::pending().await;
    }
    Error::Timeout {
        namespace: manager.namespace().to_owned(),
        name: wish.credential.clone(),
        what: "not mounted",
        waited: timeout,
        gate_holder: None,
        closed: false,
        hint: progress.missing().unwrap_or_default().into(),
    }
}
