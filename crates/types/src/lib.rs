//! The nouns of Landfall, shared by every crate.
//!
//! Blocks, accounts, changes of state, the specification of a chain as its genesis file gives it,
//! and the verdict of consensus. This crate does no IO, knows no database and no async runtime.

mod block;
mod fork_choice;
mod genesis;
mod spec;
mod state;

pub use block::{
    Block, BlockError, Body, Extension, Receipt, Transaction, transaction_hash, transaction_type,
};
pub use fork_choice::ForkChoice;
pub use genesis::{GenesisEntry, GenesisError, genesis_block, genesis_state, parse_genesis};
pub use spec::{ChainSpec, Fork, Rules};
pub use state::{
    Account, AccountChange, Change, SlotChange, StateChanges, StateError, StateReader,
};
