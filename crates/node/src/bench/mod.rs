//! The load generator: transactions signed beforehand, sent to any Ethereum JSON-RPC, and the time
//! from the moment when each should have been sent to the moment when its block was seen.
//!
//! [`prepare`] makes senders that can pay, and the signed transactions; [`load`] sends them over
//! several connections while [`watch`] follows the blocks; [`report`] makes figures of it.
//! The generator never asks for single receipts while it measures: that would be a load of its own.

pub mod client;
pub mod load;
pub mod prepare;
pub mod process;
pub mod report;
pub mod token;
pub mod watch;
