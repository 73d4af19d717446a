//! Consensus protocols as deterministic state machines.
//!
//! A protocol has a stateless half, [`Protocol`], and a stateful half, [`Engine`]: one instance
//! per epoch, stepped with an [`Input`], answering with [`Output`]s. The replica is the one
//! interpreter of outputs; see there for what it owns.
//!
//! This crate does no IO, holds no lock, spawns nothing, reads no clock, uses no floating point
//! and no unseeded randomness, and iterates nothing unordered.

mod engine;
mod evidence;
mod message;
mod planted;
mod random;
mod retransmit;
mod solo;
mod tally;
mod tree;

pub mod lottery;
pub mod pbft;
pub mod pow;
pub mod raft;

pub use engine::{
    Context, Engine, Input, Output, Progress, Protocol, Recipients, SealedHeader, Start, Verdict,
    protocol,
};
pub use evidence::{Archive, Evidence, InvalidEvidence};
pub use landfall_light::{FinalityProof, InvalidProof};
pub use landfall_types::ForkChoice;
pub use lottery::{Heaviest, Lottery};
pub use message::{Body, Record};
#[cfg(feature = "planted")]
pub use planted::{Bug, plant, planted_here};
pub use random::Random;
pub use retransmit::{Backoff, Timer};
pub use solo::Solo;
pub use tally::Tally;
pub use tree::{Tree, TreeBlock};
