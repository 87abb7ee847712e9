//! What the API server says to objects, as `kubectl apply` would send them.

use std::io::Write;

use super::{Ended, Fixture, call, kubectl_program};

/// What the API server says to objects, of which it stores none.
pub async fn dry_run(fixture: &Fixture, objects: String) -> Ended {
    let program = kubectl_program();
    let arguments = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-o",
        "name",
        "-f",
        "-",
    ];
    let all: Vec<_> = ["-n", &fixture.namespace]
        .into_iter()
        .chain(arguments)
        .collect();
    let mut kubectl = call(program.to_str().unwrap(), &all);
    let mut keyboard = kubectl.keyboard();
    let writes = tokio::task::spawn_blocking(move || keyboard.write_all(objects.as_bytes()));
    let ended = kubectl.end().await;
    writes.await.unwrap().unwrap();
    ended
}
