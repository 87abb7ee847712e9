//! The `tokenward` program; see [`tokenward::cli`].

use std::process::ExitCode;

/// Chosen by measurement: `docs/performance.md`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything speaks TLS. An error says that one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokenward::cli::main()
}
