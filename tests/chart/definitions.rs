//! The CustomResourceDefinitions, which the control plane starts with: taken away for a test, and put back after it.

use std::process::Output;

use crate::support::cluster;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// An API server that is told to delete a definition right after it was made can forget its own finalizer on it, one
/// time in ten, until the next change or for minutes (seen with 1.34.4).
const REMINDERS: u32 = 6;

fn kubectl(arguments: &[&str]) -> Output {
    cluster().kubectl(arguments).output().unwrap()
}

/// A credential that was left with its finalizer would keep them.
fn delete() {
    let named = ["--filename", FILES];
    let delete = ["delete", "--ignore-not-found", "--wait=false"];
    let deleted = kubectl(&[delete.as_slice(), &named].concat());
    assert!(deleted.status.success(), "{deleted:?}");
    let mut gone = None;
    for reminder in 0..REMINDERS {
        let wait = ["wait", "--for=delete", "--timeout=10s"];
        let output = kubectl(&[wait.as_slice(), &named].concat());
        if output.status.success() {
            return;
        }
        gone = Some(output);
        let reminder = format!("tokenward.dev/test-reminder={reminder}");
        // Those that are gone by now can't be annotated.
        kubectl(&[["annotate", "--overwrite", &reminder].as_slice(), &named].concat());
    }
    panic!("{gone:?}");
}

/// While it lives, the definitions are the test's own business.
pub struct Definitions;

impl Definitions {
    /// None are there.
    pub fn away() -> Self {
        let this = Self;
        delete();
        this
    }

    /// They are there as kubectl has applied them.
    pub fn applied() -> Self {
        Self
    }

    /// Waits until the API server serves them.
    pub fn served() {
        let wait = ["wait", "--for=condition=Established", "--filename", FILES];
        let output = kubectl(&wait);
        assert!(output.status.success(), "{output:?}");
    }
}

impl Drop for Definitions {
    fn drop(&mut self) {
        delete();
        kubectl(&["apply", "--server-side", "--filename", FILES]);
        Self::served();
    }
}
