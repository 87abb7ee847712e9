//! What people are told of the credentials of a namespace, from the beginning. Watched: what is told for a
//! moment only is told, too, and many trials that ask again and again are too much for a small machine.

use std::{collections::HashMap, time::Duration};

use futures::StreamExt;
use kube::{
    ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokenward::api::IntegrationCredential;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::support::{Fixture, condition};

/// How long the slowest way back may take, with many trials on few cores.
const PATIENCE: Duration = Duration::from_secs(90);

type Seen = HashMap<String, Vec<IntegrationCredential>>;

/// Every version of every credential.
pub struct Told {
    seen: watch::Receiver<Seen>,
    watching: JoinHandle<()>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Told {
    /// From now on.
    pub fn of(fixture: &Fixture) -> Self {
        let (seen, receiver) = watch::channel(Seen::new());
        let credentials = fixture.credentials();
        let watching = tokio::spawn(async move {
            let versions = watcher(credentials, watcher::Config::default()).default_backoff();
            let mut versions = Box::pin(versions.applied_objects());
            while let Some(version) = versions.next().await {
                let Ok(version) = version else { continue };
                seen.send_modify(|seen| seen.entry(version.name_any()).or_default().push(version));
            }
        });
        Self {
            seen: receiver,
            watching,
        }
    }

    /// The credential, once it is as `wanted`.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&IntegrationCredential) -> bool,
    ) -> IntegrationCredential {
        let mut seen = self.seen.clone();
        let last = |seen: &Seen| seen.get(name).and_then(|v| v.last()).cloned();
        let reached = seen.wait_for(|seen| last(seen).as_ref().is_some_and(&wanted));
        let Ok(reached) = timeout(PATIENCE, reached).await else {
            let status = last(&self.seen.borrow()).and_then(|c| c.status);
            let told = self.reasons(name);
            panic!("not within {PATIENCE:?}: {name}: {what}; told: {told}; {status:?}")
        };
        last(&reached.unwrap()).unwrap()
    }

    /// The credential, once it is told to be healthy, with a token of at least this generation.
    pub async fn healthy(&self, name: &str, at_least: i64) -> IntegrationCredential {
        self.until(name, &format!("healthy, generation {at_least}"), |c| {
            let token = c.status.as_ref().and_then(|s| s.token.as_ref());
            reason(c).as_deref() == Some("healthy")
                && token.is_some_and(|t| t.generation >= at_least)
        })
        .await
    }

    /// The credential, once this reason is told.
    pub async fn told(&self, name: &str, wanted: &str) -> IntegrationCredential {
        self.until(name, wanted, |c| reason(c).as_deref() == Some(wanted))
            .await
    }

    /// The reasons that were told of a credential after it was healthy first, one after the other.
    pub fn reasons(&self, name: &str) -> String {
        let seen = self.seen.borrow();
        let mut reasons: Vec<_> = seen
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(reason)
            .collect();
        reasons.dedup();
        let first = usize::from(reasons.first().is_some_and(|r| r == "healthy"));
        reasons[first..].join(", ")
    }
}

/// Why a credential is not as it should be, where it says so; `None`: it is at work.
fn reason(credential: &IntegrationCredential) -> Option<String> {
    for told in ["Stalled", "Reconciling"] {
        match condition(credential, told) {
            Some((status, reason, _)) if status == "True" => {
                let is_at_work = ["Progressing", "Draining"].contains(&reason.as_str());
                return (!is_at_work).then_some(reason);
            }
            _ => {}
        }
    }
    let is_ready = condition(credential, "Ready").is_some_and(|c| c.0 == "True");
    is_ready.then(|| "healthy".to_owned())
}
