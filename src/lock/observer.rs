//! What the operator sees of gates, holds and wants, all the time: which gate is stuck, how long each hold
//! has been unchanged, who asks for a refresh, and who waits for a hold to go.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{ResourceExt, runtime::watcher::Event};
use tokio::sync::Notify;

use super::{
    protocol::{Stopwatches, Version},
    wire::{self, GATE, HOLD, WANT},
};
use crate::{
    api::{CREDENTIAL_LABEL, ROLE_LABEL},
    clock::Moment,
};

/// After how many times its duration a hold that nobody waits for is removed: its holder died.
const DEAD_SHARED: u32 = 10;

/// A credential, by namespace and name.
type Key = (String, String);

/// The gates, holds and wants of all credentials that are served.
#[derive(Default)]
pub struct Observer {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    namespaces: HashMap<String, (Option<Moment>, Stopwatches)>,
    wants: HashMap<Key, BTreeMap<String, u64>>,
    /// The names of the holds of each credential that has any.
    holds: HashMap<Key, HashSet<String>>,
    gates: HashMap<Key, SeenGate>,
    /// Who waits for holds of a credential to go.
    waiting: Told,
    /// Who waits to see a change of a credential's gate.
    watching: Told,
    /// While a watch begins anew: what it has delivered so far.
    relisted: HashMap<Option<String>, HashSet<(String, String)>>,
}

/// A gate as it was seen last.
struct SeenGate {
    version: Version,
    is_open: bool,
    since: Moment,
}

/// What is known of the gate of a credential, without asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GateSight {
    /// It is open, or changed so recently that its writer may be at work.
    #[default]
    Fine,
    /// It is closed, or missing, and its last change was seen long enough ago to be looked into: its
    /// writer may be dead.
    Stuck,
    /// Closed or missing since just now: look again after [`STUCK_AFTER`].
    Closed,
}

/// After how long without a change a gate that is not open is looked into. A live writer's is found to be
/// held, and left to it.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);

/// How long the watch may take to bring a change of a gate that was made just now. It brings it in milliseconds, or is
/// broken.
const SHOWN_WITHIN: Duration = Duration::from_millis(500);

/// Those who are told of changes, by the credential.
type Told = HashMap<Key, Vec<Arc<Notify>>>;

/// Told when a hold of one credential, or its gate, may have changed.
pub struct Listener<'a> {
    observer: &'a Observer,
    of: fn(&mut Seen) -> &mut Told,
    key: Key,
    notify: Arc<Notify>,
}

impl Listener<'_> {
    /// Waits for the next change since this was called last.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let mut seen = self.observer.lock();
        let told = (self.of)(&mut seen);
        if let Some(waiting) = told.get_mut(&self.key) {
            waiting.retain(|other| !Arc::ptr_eq(other, &self.notify));
            if waiting.is_empty() {
                told.remove(&self.key);
            }
        }
    }
}

impl Observer {
    /// These tables are never left half changed, so a panic elsewhere does not make them unusable.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to the holds of a credential.
    pub fn listen(&self, namespace: &str, credential: &str) -> Listener<'_> {
        self.listen_to(|seen| &mut seen.waiting, namespace, credential)
    }

    fn listen_to(
        &self,
        of: fn(&mut Seen) -> &mut Told,
        namespace: &str,
        credential: &str,
    ) -> Listener<'_> {
        let key = (namespace.to_owned(), credential.to_owned());
        let notify = Arc::new(Notify::new());
        let mut seen = self.lock();
        let waiting = of(&mut seen).entry(key.clone()).or_default();
        waiting.push(Arc::clone(&notify));
        Listener {
            observer: self,
            of,
            key,
            notify,
        }
    }

    /// Whether the watch alone tells that nobody holds a credential whose gate was written in this version, as well as a list
    /// of its holds would: a watch brings changes in the order in which they were made, so with the gate as it was closed it
    /// has brought every hold that was created before, and whoever creates one later finds the gate closed. False where it
    /// does not tell in time, or tells of a hold: then there is something to list.
    pub async fn shows_no_hold_behind(
        &self,
        namespace: &str,
        credential: &str,
        gate: &Version,
    ) -> bool {
        let listener = self.listen_to(|seen| &mut seen.watching, namespace, credential);
        let shown = async {
            loop {
                if let Some(is_free) = self.lock().tells_of(namespace, &listener.key, gate) {
                    return is_free;
                }
                listener.changed().await;
            }
        };
        let shown = tokio::time::timeout(SHOWN_WITHIN, shown).await;
        shown.unwrap_or(false)
    }

    /// The stopwatches of a namespace, as of now.
    pub fn with_stopwatches<T>(
        &self,
        namespace: &str,
        use_them: impl FnOnce(&mut Stopwatches) -> T,
    ) -> T {
        use_them(self.lock().stopwatches(namespace))
    }

    /// The wants of a credential: their names, and the generations that they are about.
    #[must_use]
    pub fn wants(&self, namespace: &str, credential: &str) -> BTreeMap<String, u64> {
        let key = (namespace.to_owned(), credential.to_owned());
        self.lock().wants.get(&key).cloned().unwrap_or_default()
    }

    /// How many holds there are.
    #[must_use]
    pub fn holds(&self) -> usize {
        let seen = self.lock();
        let all = seen.namespaces.values();
        let names = all.flat_map(|(_, stopwatches)| stopwatches.names());
        names.filter(|name| !wire::is_want(name)).count()
    }

    /// What is known of the gate of a credential that has had one.
    #[must_use]
    pub fn gate(&self, namespace: &str, credential: &str) -> GateSight {
        let key = (namespace.to_owned(), credential.to_owned());
        let mut seen = self.lock();
        let now = Moment::now();
        let gate = seen.gates.entry(key).or_insert_with(|| SeenGate {
            version: Version::default(),
            is_open: false,
            since: now,
        });
        match (gate.is_open, now.elapsed(gate.since) >= STUCK_AFTER) {
            (true, _) => GateSight::Fine,
            (false, true) => GateSight::Stuck,
            (false, false) => GateSight::Closed,
        }
    }

    /// Forgets a credential that is gone.
    pub fn forget(&self, namespace: &str, credential: &str) {
        let key = (namespace.to_owned(), credential.to_owned());
        self.lock().gates.remove(&key);
    }

    /// Takes note that a Lease is as it was read just now, or gone.
    pub fn correct(&self, namespace: &str, name: &str, found: Option<&Lease>) {
        let mut seen = self.lock();
        let stopwatches = seen.stopwatches(namespace);
        match found {
            Some(lease) => stopwatches.see_hold(&wire::seen_hold(lease)),
            None => stopwatches.forget(name),
        }
    }

    /// Takes in what a watch over gates, holds and wants brought. `scope`: the namespace it watches, or all.
    pub fn apply(&self, scope: Option<&str>, event: &Event<Lease>) {
        let mut seen = self.lock();
        match event {
            Event::Apply(lease) => seen.add(lease),
            Event::Delete(lease) => seen.remove(lease),
            Event::Init => drop(
                seen.relisted
                    .insert(scope.map(str::to_owned), HashSet::new()),
            ),
            Event::InitApply(lease) => {
                let relisted = seen.relisted.entry(scope.map(str::to_owned)).or_default();
                relisted.insert((lease.namespace().unwrap_or_default(), lease.name_any()));
                seen.add(lease);
            }
            Event::InitDone => seen.relisted(scope),
        }
    }

    /// The holds of dead holders, and the wants that nobody waits for any more: namespace, name and the
    /// version that is dead.
    #[must_use]
    pub fn dead(&self) -> Vec<(String, String, Version)> {
        let mut seen = self.lock();
        let namespaces: Vec<_> = seen.namespaces.keys().cloned().collect();
        let times = |name: &str| {
            // Others wait for an exclusive one; and a want is not renewed.
            let waits = wire::is_exclusive(name) || wire::is_want(name);
            if waits { 1 } else { DEAD_SHARED }
        };
        namespaces
            .into_iter()
            .flat_map(|namespace| {
                let overdue = seen.stopwatches(&namespace).overdue(times);
                let place = move |(name, version)| (namespace.clone(), name, version);
                overdue.into_iter().map(place).collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Seen {
    fn stopwatches(&mut self, namespace: &str) -> &mut Stopwatches {
        let (last, stopwatches) = self.namespaces.entry(namespace.to_owned()).or_default();
        let now = Moment::now();
        if let Some(last) = last.replace(now) {
            stopwatches.advance(now.elapsed(last));
        }
        stopwatches
    }

    fn add(&mut self, lease: &Lease) {
        let Some((key, role)) = subject(lease) else {
            return;
        };
        let name = lease.name_any();
        if role == GATE {
            if name != wire::gate_name(&key.1) {
                // Whatever it is, it is no gate.
                return;
            }
            let version = wire::version(lease);
            if self.gates.get(&key).is_none_or(|g| g.version != version) {
                let gate = SeenGate {
                    version,
                    is_open: wire::holder_identity(lease).is_empty(),
                    since: Moment::now(),
                };
                tell(&self.watching, &key);
                self.gates.insert(key, gate);
            }
            return;
        }
        self.stopwatches(&key.0).see_hold(&wire::seen_hold(lease));
        match role {
            HOLD => {
                tell(&self.waiting, &key);
                self.holds.entry(key).or_default().insert(name);
            }
            _ => {
                if let Some(generation) = wire::generation(lease) {
                    let wants = self.wants.entry(key).or_default();
                    wants.insert(name, generation);
                }
            }
        }
    }

    fn remove(&mut self, lease: &Lease) {
        let Some((key, role)) = subject(lease) else {
            return;
        };
        let name = lease.name_any();
        if role == GATE {
            if name == wire::gate_name(&key.1) {
                self.gates.remove(&key);
            }
            return;
        }
        self.remove_named(&key, &name);
    }

    fn remove_named(&mut self, key: &Key, name: &str) {
        self.stopwatches(&key.0).forget(name);
        if let Some(wants) = self.wants.get_mut(key) {
            wants.remove(name);
            if wants.is_empty() {
                self.wants.remove(key);
            }
        }
        if let Some(holds) = self.holds.get_mut(key) {
            holds.remove(name);
            if holds.is_empty() {
                self.holds.remove(key);
            }
        }
        tell(&self.waiting, key);
    }

    /// Whether nobody holds a credential, seen after its gate was written in this version; `None`: that is not seen yet.
    fn tells_of(&self, namespace: &str, key: &Key, gate: &Version) -> Option<bool> {
        let begins_anew =
            [None, Some(namespace.to_owned())].map(|s| self.relisted.contains_key(&s));
        let seen = self.gates.get(key)?;
        let is_shown = begins_anew == [false; 2] && seen.version == *gate;
        is_shown.then(|| !self.holds.contains_key(key))
    }

    /// What was there before a watch began anew and is not now went unseen.
    fn relisted(&mut self, scope: Option<&str>) {
        let there = self.relisted.remove(&scope.map(str::to_owned));
        let there = there.unwrap_or_default();
        let is_there = |namespace: &str, name: &str| {
            scope.is_some_and(|scope| scope != namespace)
                || there.contains(&(namespace.to_owned(), name.to_owned()))
        };
        for (namespace, (_, stopwatches)) in &mut self.namespaces {
            stopwatches.retain(|name| is_there(namespace, name));
        }
        self.namespaces
            .retain(|_, (_, stopwatches)| !stopwatches.is_empty());
        for ((namespace, _), wants) in &mut self.wants {
            wants.retain(|name, _| is_there(namespace, name));
        }
        self.wants.retain(|_, wants| !wants.is_empty());
        for ((namespace, _), holds) in &mut self.holds {
            holds.retain(|name| is_there(namespace, name));
        }
        self.holds.retain(|_, holds| !holds.is_empty());
        self.gates
            .retain(|(namespace, credential), _| is_there(namespace, &wire::gate_name(credential)));
        let all = self.waiting.values().chain(self.watching.values());
        all.flatten().for_each(|waiting| waiting.notify_one());
    }
}

fn tell(told: &Told, key: &Key) {
    for waiting in told.get(key).into_iter().flatten() {
        waiting.notify_one();
    }
}

/// Whose hold or want it is.
fn subject(lease: &Lease) -> Option<(Key, &str)> {
    let role = lease.labels().get(ROLE_LABEL)?.as_str();
    let credential = lease.labels().get(CREDENTIAL_LABEL)?;
    let key = (lease.namespace().unwrap_or_default(), credential.clone());
    [GATE, HOLD, WANT].contains(&role).then_some((key, role))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(role: &str, name: &str, version: &str) -> Lease {
        let object = json!({"metadata": {
            "name": format!("alice.{name}"), "namespace": "ns", "uid": name, "resourceVersion": version,
            "labels": {ROLE_LABEL: role, CREDENTIAL_LABEL: "alice"},
        }});
        serde_json::from_value(object).unwrap()
    }

    fn gate(version: &str) -> Lease {
        lease(GATE, "gate", version)
    }

    fn hold(nonce: &str) -> Lease {
        lease(HOLD, &format!("hold.{nonce}"), "1")
    }

    async fn shows_none(observer: &Observer, version: &str) -> bool {
        let gate = wire::version(&gate(version));
        observer.shows_no_hold_behind("ns", "alice", &gate).await
    }

    #[tokio::test(start_paused = true)]
    async fn that_there_is_no_hold_is_seen_only_after_the_gate_as_it_was_closed() {
        let observer = Observer::default();
        assert!(!shows_none(&observer, "5").await);
        observer.apply(None, &Event::Apply(gate("4")));
        assert!(!shows_none(&observer, "5").await);
        // It comes while it is waited for.
        let comes = async {
            tokio::task::yield_now().await;
            observer.apply(None, &Event::Apply(gate("5")));
        };
        let (shown, ()) = tokio::join!(shows_none(&observer, "5"), comes);
        assert!(shown);
        // Somebody else has it by now.
        observer.apply(None, &Event::Apply(gate("6")));
        assert!(!shows_none(&observer, "5").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_never_overlooked() {
        let observer = Observer::default();
        observer.apply(None, &Event::Apply(hold("a")));
        observer.apply(None, &Event::Apply(hold("b")));
        observer.apply(None, &Event::Apply(gate("5")));
        assert!(!shows_none(&observer, "5").await);
        observer.apply(None, &Event::Delete(hold("a")));
        assert!(!shows_none(&observer, "5").await);
        observer.apply(None, &Event::Delete(hold("b")));
        assert!(shows_none(&observer, "5").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_begins_anew_tells_nothing_before_its_end() {
        for scope in [None, Some("ns")] {
            let observer = Observer::default();
            observer.apply(scope, &Event::Init);
            // The gate comes before a hold that was there before it.
            observer.apply(scope, &Event::InitApply(gate("5")));
            assert!(!shows_none(&observer, "5").await);
            observer.apply(scope, &Event::InitApply(hold("a")));
            observer.apply(scope, &Event::InitDone);
            assert!(!shows_none(&observer, "5").await);
            observer.apply(scope, &Event::Init);
            observer.apply(scope, &Event::InitApply(gate("5")));
            let ends = async {
                tokio::task::yield_now().await;
                observer.apply(scope, &Event::InitDone);
            };
            let (shown, ()) = tokio::join!(shows_none(&observer, "5"), ends);
            assert!(shown);
        }
    }
}
