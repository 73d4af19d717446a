//! Execution: what a block does to the state of its parent.
//!
//! A [`StateReader`](landfall_types::StateReader) gives the state before; everything that happens
//! comes back as values: an [`Outcome`] with receipts and [`StateChanges`], a [`CallOutcome`], or
//! an error that says why a block is [`Invalid`]. [`validate_header`] and [`validate_body`] judge
//! what needs no state, [`execute`] runs a block, [`BlockBuilder`] makes one transaction by
//! transaction, [`call`], [`estimate_gas`] and [`create_access_list`] answer questions about a
//! transaction that is never sent.
//!
//! Nothing here does IO, reads a clock, starts a thread or iterates in an order that could differ
//! between two runs. The state root is not computed here: it belongs to `chain`.
//!
//! [`StateChanges`]: landfall_types::StateChanges

mod access_list;
mod body;
mod builder;
mod cache;
mod call;
mod environment;
mod estimate;
mod execute;
mod header;
mod invalid;
mod overrides;
mod requests;
mod system;
mod transaction;

#[cfg(test)]
mod memory;
#[cfg(test)]
mod tests;

pub use access_list::{AccessListOutcome, create_access_list};
pub use body::{MAX_RLP_BLOCK_SIZE, validate_body, validate_commitments};
pub use builder::{Attributes, BlockBuilder, Built, PushError, Pushed};
pub use call::{CallContext, CallError, CallOutcome, call};
pub use environment::next_base_fee;
pub use estimate::estimate_gas;
pub use execute::{ExecutionError, Outcome, execute, execute_transaction};
pub use header::validate_header;
pub use invalid::Invalid;
pub use system::{SystemContract, system_contracts};
pub use transaction::{TransactionError, intrinsic_gas};
