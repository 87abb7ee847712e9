//! What an operator tells of its work: traces to a collector, and the lines of its log.

mod logs;
mod traces;
