//! Keeps the credentials of integrations alive on Kubernetes.
//!
//! The way of a refresh through the modules: [`controller`] watches, [`plan`] decides, [`refresh`] is
//! the critical section behind the gate ([`lock`]), [`oauth`] speaks to the provider, [`secret`] holds
//! what must not be lost, [`status`] tells people.

pub mod admin;
pub mod api;
pub mod asked;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod context;
pub mod controller;
pub mod explain;
pub mod failure;
pub mod finalizer;
pub mod leader;
pub mod lock;
pub mod manager;
pub mod metrics;
pub mod mount;
pub mod oauth;
pub mod pass;
pub mod plan;
pub mod platform;
pub mod provider;
pub mod queue;
mod reconcile;
pub mod refresh;
pub mod request;
pub mod secret;
pub mod shared;
pub mod spread;
pub mod status;
pub mod telemetry;
mod tell;
pub mod users;
pub mod watch;
pub mod words;
