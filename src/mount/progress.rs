//! How far it is: what the probes ask.

use tokio::sync::watch;

/// How far a mount is.
pub struct Progress {
    seen: watch::Sender<Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    /// The generation of what is written.
    written: Option<u64>,
    /// What the hold waits for before it is ready.
    hold: Hold,
    /// Whether all was there once.
    ready: bool,
    /// What is waited for.
    missing: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// None is asked for.
    None,
    /// It is not held yet.
    Wanted,
    /// It is held, since the token had this generation.
    Since(u64),
}

impl Seen {
    /// What comes next; `None`: the files are there and, where that is asked for, held as they are, or were before.
    fn next(&self) -> Option<&'static str> {
        match (self.written, self.hold) {
            (None, _) => Some("the files are not written yet"),
            (Some(_), Hold::Wanted) => Some("the credential is not held yet"),
            (Some(written), Hold::Since(held)) if written < held => {
                Some("the token that is held is not written yet")
            }
            (Some(_), Hold::None | Hold::Since(_)) => None,
        }
    }
}

impl Progress {
    /// Nothing is done yet; `holds`: whether the credential is to be held.
    #[must_use]
    pub fn new(holds: bool) -> Self {
        let hold = if holds { Hold::Wanted } else { Hold::None };
        Self {
            seen: watch::Sender::new(Seen {
                written: None,
                hold,
                ready: false,
                missing: "nothing has been read yet".to_owned(),
            }),
        }
    }

    /// What is missing; `None`: it is ready. Once ready it stays so: files that cannot be renewed are as they were.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let seen = self.seen.borrow();
        (!seen.ready).then(|| seen.missing.clone())
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        // The sender is `self`.
        let _ = self.seen.subscribe().wait_for(|seen| seen.ready).await;
    }

    /// Whether it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.seen.borrow().ready
    }

    /// Files of this generation are there.
    pub(super) fn written(&self, generation: u64) {
        self.change(|seen| seen.written = Some(generation));
    }

    /// Whether files were written.
    pub(super) fn is_written(&self) -> bool {
        self.seen.borrow().written.is_some()
    }

    /// The credential is held, since its token had this generation.
    pub(super) fn held(&self, generation: u64) {
        self.change(|seen| seen.hold = Hold::Since(generation));
    }

    /// Something is in the way. It is told once.
    pub(super) fn waits_for(&self, what: &str) {
        let is_new = self.seen.send_if_modified(|seen| {
            let is_new = seen.missing != what;
            what.clone_into(&mut seen.missing);
            is_new
        });
        if is_new {
            tracing::warn!(message = what);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        let mut is_ready = false;
        self.seen.send_modify(|seen| {
            change(seen);
            let missing = seen.next();
            is_ready = !seen.ready && missing.is_none();
            seen.ready |= is_ready;
            missing.unwrap_or_default().clone_into(&mut seen.missing);
        });
        if is_ready {
            tracing::info!("ready");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_when_files_are_there_and_stays_so() {
        let progress = Progress::new(false);
        progress.waits_for("a Secret");
        assert_eq!(progress.missing().as_deref(), Some("a Secret"));
        progress.written(3);
        assert_eq!(progress.missing(), None);
        progress.waits_for("a Secret");
        assert_eq!(progress.missing(), None);
    }

    #[test]
    fn with_a_hold_it_is_ready_when_the_files_are_as_new_as_the_hold() {
        let progress = Progress::new(true);
        progress.written(3);
        assert!(!progress.is_ready());
        progress.held(4);
        assert!(!progress.is_ready());
        progress.written(4);
        assert!(progress.is_ready());
        let other_way_round = Progress::new(true);
        other_way_round.held(4);
        assert!(!other_way_round.is_ready());
        other_way_round.written(5);
        assert!(other_way_round.is_ready());
    }
}
