//! The CustomResourceDefinitions, which the control plane starts with: taken away for a test, and put back after it.

use std::process::Output;

use crate::support::cluster;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");

/// A credential that was left with its finalizer would keep them.
const DELETE: [&str; 5] = [
    "delete",
    "--filename",
    FILES,
    "--ignore-not-found",
    "--timeout=60s",
];

fn kubectl(arguments: &[&str]) -> Output {
    cluster().kubectl(arguments).output().unwrap()
}

/// While it lives, the definitions are the test's own business.
pub struct Definitions;

impl Definitions {
    /// None are there.
    pub fn away() -> Self {
        let this = Self;
        let deleted = kubectl(&DELETE);
        assert!(deleted.status.success(), "{deleted:?}");
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
        kubectl(&DELETE);
        kubectl(&["apply", "--server-side", "--filename", FILES]);
        Self::served();
    }
}
