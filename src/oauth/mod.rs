//! Speaking OAuth 2.0 to a token endpoint: the request of a grant, the bounded exchange, and the
//! lenient reading of what comes back.

pub mod endpoint;
pub mod error;
pub mod grant;
pub mod response;
