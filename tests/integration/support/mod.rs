//! What every test starts from.

mod account;
mod audit;
mod by_hand;
mod collector;
mod command;
mod deployed;
mod dry_run;
mod fixture;
mod installed;
mod interop;
mod keys;
mod operator;
mod program;
mod prometheus;
mod proxy;
mod python;
mod wait;
mod wall_clock;

pub use account::Account;
pub use audit::Audit;
pub use by_hand::{ByHand, notes};
pub use collector::{Collector, Manner, SeenSpan};
pub use command::{Ended, Running, TOKENWARD, call, is_over, signal};
pub use deployed::{Deployed, documents};
pub use dry_run::dry_run;
pub use fixture::{
    Fixture, cluster, condition, kubeconfig, kubectl, kubectl_program, reason, text,
};
pub use interop::{Consent, REDIRECT_URI, Server, TokenRequest};
pub use keys::Key;
pub use operator::Operator;
pub use program::Program;
pub use prometheus::{Prometheus, monitoring_tool};
pub use proxy::{Call, Calls, Fault, Proxy, Victim};
pub use python::Python;
pub use wait::{eventually, soon, within};
pub use wall_clock::{WallClock, ahead};
