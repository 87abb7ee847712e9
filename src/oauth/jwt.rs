//! Signed JSON Web Tokens (RFC 7519), as clients show them to authorization servers: to authenticate
//! (RFC 7523 section 2.2), as a grant (RFC 7523 section 2.1), and as a GitHub App.
//!
//! A key is read once ([`SigningKey`], [`ServiceAccountKey`]), bound to a header ([`Signer`]), and signs
//! claims ([`ClientAssertion`], [`GrantAssertion`], [`GithubApp`]) of which the time and the identifier are
//! arguments. Nothing here does I/O, and nothing formats a key.

mod algorithm;
mod certificate;
mod claims;
mod error;
mod jwk;
mod key;
mod pem;
mod service_account;
mod signer;
#[cfg(test)]
mod tests;

pub use algorithm::{Algorithm, KeyType, UnknownAlgorithm};
pub use certificate::{Certificate, Thumbprint};
pub use claims::{Claims, ClientAssertion, GithubApp, GrantAssertion, LifetimeError};
pub use error::KeyError;
pub use key::SigningKey;
pub use service_account::ServiceAccountKey;
pub use signer::{Header, Signer, SigningFailed};
