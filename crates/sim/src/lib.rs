//! The simulator: whole nodes, with the real replica and chain, in a world that fails.
//!
//! A *history* is one seed of a [`Scenario`]: virtual time, one thread, a queue of events. Nodes
//! crash between any two effects and come back with what their disks kept; the network loses,
//! repeats, reorders and parts; clocks jump; members lie. After every event the invariants are
//! checked; then everything is mended, and progress must be made. The same seed gives the same
//! history, down to its trace hash.
//!
//! [`run`] runs one history, [`narrate`] tells it to a person, [`run_many`] runs a range of seeds
//! on several threads and sums up.
//!
//! Inside a history nothing reads a clock, starts a thread, or iterates in an order that may
//! differ.

mod ambush;
mod audit;
mod byzantine;
mod checker;
mod class;
mod clock;
mod cut;
mod durable;
mod effects;
mod faults;
mod host;
mod keys;
mod network;
mod operator;
mod promises;
mod queue;
mod report;
mod run;
mod scenario;
mod transactions;
mod turns;
mod world;

pub use class::Class;
pub use report::{Outcome, Stats, Summary, Violation};
pub use run::{Bug, narrate, run, run_many};
pub use scenario::{Adversary, Network, Plan, Scenario};
