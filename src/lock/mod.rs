//! The lock on a credential: one writer at a time behind its gate, and holders that the writer lets
//! finish first.

pub mod gate;
pub mod hold;
pub mod lease;
pub mod observer;
pub mod protocol;
pub mod wire;
