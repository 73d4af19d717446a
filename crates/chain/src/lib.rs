//! The chain: ledger, state, tree of forks, pool.
//!
//! [`Chain`] is the one writer. A block enters by [`Chain::import`], or is made by
//! [`Chain::build`]; a fork choice ([`Chain::adopt`]) makes everything so far durable with one
//! sync and shows it to the [`ChainReader`]s. Each of these is also there in pieces, so that what
//! takes long is a job beside the writer. The log is the ledger; everything else is a view
//! that is made from it and may be lost.
//!
//! It starts no thread, reads no clock, and never shows what is not durable.

mod chain;
mod commit;
mod flat;
mod flush;
mod head;
mod index;
mod jobs;
#[cfg(test)]
mod jobs_tests;
mod ledger;
mod open;
pub mod pool;
mod post_state;
mod proofs;
mod reader;
mod records;
#[cfg(test)]
mod records_tests;
mod reorganise;
mod replay;
mod senders;
mod shared;
pub mod store;
mod tree;
pub mod trie;
mod verify;

pub use chain::{Adopted, Chain, ImportError, Mark, Patch};
pub use flush::{FlushDone, FlushJob};
pub use head::Head;
pub use jobs::{Begin, BuildJob, ExecuteJob, Executed};
pub use landfall_evm::Attributes;
pub use ledger::StoredBlock;
pub use open::{Caches, ChainOptions, OpenError, Place, Progress};
pub use proofs::{AccountProof, PROOF_WINDOW, ProofError, ProvedSlot};
pub use reader::{ChainReader, TransactionPlace};
pub use reorganise::{Reorganised, reorganise};
pub use senders::Senders;
pub use shared::StateView;
pub use store::{Position, SyncDone, SyncJob};
pub use verify::{Verified, verify};
