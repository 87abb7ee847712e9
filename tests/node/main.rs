//! The operator where people have it: installed by Helm from its own image, on a kubelet, with pods that use what it
//! writes.
//!
//! The tests share one node and one operator, and run one after the other. This program runs itself again inside of the
//! namespaces of such a node: see `tests/cluster/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "../cluster/client.rs"]
mod cluster;
#[path = "../../examples/oauth-server/server.rs"]
mod oauth_server;
#[allow(dead_code, reason = "shared, and not all of it is used here")]
#[path = "../integration/support/wait.rs"]
mod wait;

mod consumer;
mod node;
mod operator;
mod place;
mod provider;
mod trials;

use std::{
    env,
    path::Path,
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Trial};

/// What `cluster --node` ends with when the machine cannot have a node.
const NO_NODE: i32 = 77;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !arguments.list && !node::is_here() {
        return on_a_node();
    }
    let trials = trials::ALL.map(|(name, test)| {
        Trial::test(name, move || {
            trials::run(test);
            Ok(())
        })
    });
    libtest_mimic::run(
        &Arguments {
            test_threads: Some(1),
            ..arguments
        },
        trials.into(),
    )
    .exit_code()
}

/// Runs this program with the same arguments on a node.
fn on_a_node() -> ExitCode {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let own = env::current_exe().expect("this program's place");
    let status = Command::new(cargo)
        .args([
            "run",
            "--locked",
            "--quiet",
            "--example",
            "cluster",
            "--manifest-path",
        ])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .args(["--", "--node"])
        .arg(own)
        .args(env::args_os().skip(1))
        .status()
        .expect("`cargo run --example cluster`");
    match status.code() {
        // What is missing was said. Where tests decide, one that was not run did not pass.
        Some(NO_NODE) if env::var_os("CI").is_none() => {
            println!("SKIPPED: the {} tests that need a node", trials::ALL.len());
            ExitCode::SUCCESS
        }
        code => code
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from),
    }
}
