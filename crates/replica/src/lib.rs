//! One node without sockets, clocks and threads: an engine, the chain under it, and sync.
//!
//! [`Replica`] is the only interpreter of an engine's [`landfall_consensus::Output`]s. A host
//! steps it with [`Event`]s, performs the [`Effect`]s that come back, in order, and runs the
//! [`Job`]s among them on any thread. The host in the node has sockets and threads; the host in the
//! simulator has a priority queue. Nothing else differs.
//!
//! One log, one queue: blocks, records and finality go to the chain's log in the order in which
//! they arise, and nothing that an engine says after a record leaves before that record is
//! durable.

mod allowance;
mod blocks;
mod development;
mod halt;
mod job;
mod limits;
mod mempool;
mod outputs;
mod passage;
mod recent;
mod replica;
mod signer;
mod sync;
mod waiting;
mod wire;

pub use halt::Halt;
pub use job::{
    Build, BuiltDone, Done, Effect, Execute, Job, JobKind, Recover, RecoveredDone, Sign, SignedDone,
};
pub use limits::Limits;
pub use mempool::{Mempool, next_rules};
pub use passage::{Passage, passage};
pub use replica::{Config, Event, Replica, epochs_so_far};
pub use signer::{KeySigner, Refused, Signer, seal_digest, search_from};
pub use wire::{To, Wire, WireError};
