//! The nouns of Landfall, shared by every crate.
//!
//! Blocks, accounts, changes of state, the specification of a chain as its genesis file gives it,
//! and the verdict of consensus. This crate does no IO, knows no database and no async runtime.

mod block;
mod committee;
mod consensus_config;
mod epoch;
mod fees;
mod fork_choice;
mod genesis;
mod spec;
mod spelling;
mod state;
mod time;
mod vote;
mod work;

pub use block::{
    Block, BlockError, Body, Extension, Receipt, TRANSACTIONS_MAX, Transaction, transaction_hash,
    transaction_type,
};
pub use committee::{Committee, CommitteeError, Member, NodeId, Weight};
pub use consensus_config::{
    ConsensusConfig, NodeKey, NodeKeyError, Validator, check_host_and_port, genesis_id,
};
pub use epoch::{
    Anchor, Epoch, Kind, Params, PbftParams, PowParams, RaftParams, Schedule, SoloParams, Term,
};
pub use fees::FeeRules;
pub use fork_choice::ForkChoice;
pub use genesis::{GenesisEntry, GenesisError, genesis_block, genesis_state, parse_genesis};
pub use spec::{ChainSpec, Fork, Rules};
pub use spelling::{closest_name, did_you_mean};
pub use state::{
    Account, AccountChange, Change, SlotChange, StateChanges, StateError, StateReader,
};
pub use time::{Height, Span, Time};
pub use vote::{Certificate, Position, Signature, SignedVote, SignerSignature, Step, Vote};
pub use work::{target_of, work_of};
