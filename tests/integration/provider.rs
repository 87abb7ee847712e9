//! Provider objects: presets and what they leave open, variables, clients of a platform, and what becomes of a
//! credential whose provider, scopes or refresh token are not what they were.

mod addresses;
mod canary;
mod changed;
mod environment;
mod preset;
mod scopes;
mod shared;

use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

/// A lifetime that has a token refreshed while a test waits.
const SHORT: Duration = Duration::from_secs(5);
