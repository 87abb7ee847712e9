//! The watch of the one Secret.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use tokio::time::Instant;

use super::{Directory, DirectoryError, MountError, Progress, Wish, shown::shown};
use crate::{
    manager::{CredentialManager, Error, secret_right},
    request::RequestError,
    secret::target::issued_at,
};

/// How long one watch lasts. A connection that broke without a word is noticed 5 s after it would have ended.
const WATCH: Duration = Duration::from_secs(60);

/// Writes the files of this Secret, again at each change. It returns only where it cannot go on.
pub(super) async fn follow(
    manager: &CredentialManager,
    wish: &Wish,
    secret: &str,
    directory: Directory,
    progress: &Arc<Progress>,
) -> MountError {
    let mut follower = Follower {
        namespace: manager.namespace().to_owned(),
        secret: secret.to_owned(),
        credential: wish.credential.clone(),
        directory,
        progress: Arc::clone(progress),
        listed: None,
        watched: false,
        found: false,
        told: None,
    };
    match follower.run(manager.secrets()).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

struct Follower {
    namespace: String,
    secret: String,
    credential: String,
    directory: Directory,
    progress: Arc<Progress>,
    /// When the Secret was first looked for with success.
    listed: Option<Instant>,
    /// Whether a watch has told of a change: then there was the right to it.
    watched: bool,
    /// Whether the list that is under way has it.
    found: bool,
    /// What was told last of a Secret that is not written.
    told: Option<String>,
}

impl Follower {
    async fn run(&mut self, api: Api<Secret>) -> Result<std::convert::Infallible, MountError> {
        let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default()
            .fields(&format!("metadata.name={}", self.secret))
            .timeout(seconds);
        let mut events = watcher(api, config).default_backoff().boxed();
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Ok(event)) => self.on(event)?,
                    Some(Err(error)) => self.interrupted(error)?,
                    // It never ends.
                    None => std::future::pending().await,
                },
                () = self.directory.sweep() => {}
            }
        }
    }

    fn on(&mut self, event: Event<Secret>) -> Result<(), DirectoryError> {
        self.watched |= matches!(event, Event::Apply(_) | Event::Delete(_));
        match event {
            Event::Init => self.found = false,
            Event::InitApply(secret) | Event::Apply(secret) => {
                self.found = true;
                self.present(&secret)?;
            }
            Event::InitDone => {
                self.listed.get_or_insert_with(Instant::now);
                if !self.found {
                    self.absent();
                }
            }
            Event::Delete(_) => self.absent(),
        }
        Ok(())
    }

    fn present(&mut self, secret: &Secret) -> Result<(), DirectoryError> {
        let began = Instant::now();
        let shown = match shown(secret, &self.credential) {
            Ok(shown) => shown,
            Err(obstacle) => {
                self.left(&format!(
                    "Secret {}/{} is not written into files: {obstacle}",
                    self.namespace, self.secret
                ));
                return Ok(());
            }
        };
        let swapped = self.directory.show(shown.data)?;
        self.told = None;
        if swapped {
            let took = began.elapsed();
            let age = issued_at(secret).map(|at| Timestamp::now().duration_since(at).as_millis());
            tracing::info!(
                credential = self.credential,
                secret = self.secret,
                generation = shown.generation,
                resource_version = secret.resource_version(),
                keys = shown.data.len(),
                swap_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                since_issued_ms = age.and_then(|age| i64::try_from(age).ok()),
                "files swapped"
            );
        }
        self.progress.written(shown.generation);
        Ok(())
    }

    fn absent(&mut self) {
        self.left(&format!(
            "there is no Secret {}/{}; see: tokenward status {} -n {}",
            self.namespace, self.secret, self.credential, self.namespace
        ));
    }

    /// The files are left as they are, and why.
    fn left(&mut self, why: &str) {
        if !self.progress.is_written() {
            self.progress.waits_for(why);
        } else if self.told.as_deref() != Some(why) {
            tracing::warn!(
                credential = self.credential,
                secret = self.secret,
                reason = why,
                "the files stay as they are"
            );
            self.told = Some(why.to_owned());
        }
    }

    fn interrupted(&mut self, error: watcher::Error) -> Result<(), Error> {
        let (verb, error) = match error {
            watcher::Error::InitialListFailed(error) => ("list", error),
            watcher::Error::WatchStartFailed(error) => ("watch", error),
            // The history that it had seen is gone; what is there now is read anew.
            watcher::Error::WatchError(status) if status.code == 410 => return Ok(()),
            other => {
                tracing::warn!(error = %other, secret = self.secret, "watch interrupted");
                return Ok(());
            }
        };
        let is_refused = matches!(&error, kube::Error::Api(status) if status.code == 403);
        let request = if is_refused {
            RequestError::Refused(error)
        } else {
            RequestError::Unclear(Some(error))
        };
        let error = secret_right(verb, &self.secret).error(request);
        // Later it is a right that was taken away, and may come back.
        let is_first = !self.watched && self.listed.is_none_or(|at| at.elapsed() < WATCH);
        if is_refused && is_first {
            return Err(error);
        }
        if self.progress.is_written() {
            tracing::warn!(%error, secret = self.secret, "watch interrupted; the files stay as they are");
        } else {
            self.progress.waits_for(&error.to_string());
        }
        Ok(())
    }
}
