//! What every test starts from.

mod audit;
mod fixture;
mod operator;
mod wait;

pub use audit::Audit;
pub use fixture::{Fixture, condition, kubeconfig, kubectl, reason, text};
pub use operator::Operator;
pub use wait::{eventually, within};
