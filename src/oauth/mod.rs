//! Speaking OAuth 2.0 to a token endpoint: the request of a grant, the bounded exchange, and the
//! lenient reading of what comes back.

pub mod assertion;
pub mod catalog;
pub mod discovery;
pub mod endpoint;
pub mod error;
pub mod grant;
pub mod jwt;
pub mod response;
pub mod revocation;
pub mod template;
pub mod traffic;
