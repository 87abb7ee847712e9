//! One writer per credential: the gate Lease and the rules by which it is closed, kept and opened.

pub mod gate;
pub mod protocol;
