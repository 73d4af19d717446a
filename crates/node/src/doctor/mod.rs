//! `landfall doctor`: why a chain moves or does not, and what to do about it.
//!
//! [`collect`] asks nodes for facts, [`examine`] turns facts into findings. Only the first touches
//! the network; the second is a pure function, tested case by case.

mod clocks;
mod collect;
mod facts;
mod findings;
mod progress;

pub use collect::collect;
pub use facts::{NodeFacts, Seen};
pub use findings::{Finding, Severity, examine};

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
