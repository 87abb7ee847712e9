//! The proof: a model checker walks through every order of events.
#![allow(
    clippy::assigning_clones,
    clippy::collapsible_if,
    clippy::large_enum_variant,
    clippy::match_same_arms,
    clippy::maybe_infinite_iter,
    clippy::semicolon_if_nothing_returned,
    clippy::too_many_lines,
    clippy::struct_excessive_bools,
    clippy::unused_self,
    reason = "a model is read as a table of what may happen"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a test fails by panicking, and its name says what it is about"
)]

mod check;
mod cluster;
mod config;
mod invariants;
mod model;
mod operator;
mod part;
mod provider;
mod reader;
mod waits;
mod work;
mod world;

mod holds;
mod mutants;
