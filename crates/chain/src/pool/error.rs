//! Why the pool refused a transaction, in geth's words: clients match on them.

use alloy_primitives::{Address, U256};
use landfall_types::StateError;

/// Why a transaction was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PoolError {
    /// The node has halted: nobody would put it into a block or pass it on.
    #[error("this node takes no transactions any more: {0}")]
    Closed(String),
    /// It is in the pool.
    #[error("already known")]
    AlreadyKnown,
    /// The type exists only under a later fork, or not at all.
    #[error("transaction type not supported: type {kind} rejected, pool not yet in {fork}")]
    TypeNotActive {
        /// The EIP-2718 type.
        kind: u8,
        /// The fork that brings it.
        fork: &'static str,
    },
    /// Blob transactions have no place here.
    #[error("transaction type not supported: blob transactions (type 3) are not accepted")]
    Blob,
    /// Larger than a transaction may be.
    #[error("oversized data: transaction size {size}, limit {limit}")]
    Oversized {
        /// Bytes of the encoded transaction.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// EIP-3860.
    #[error("max initcode size exceeded: code size {size}, limit {limit}")]
    InitcodeSize {
        /// Bytes of initcode.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// EIP-7825.
    #[error("transaction gas limit too high (cap: {cap}, tx: {gas})")]
    GasLimitTooHigh {
        /// The cap of the protocol.
        cap: u64,
        /// The gas limit of the transaction.
        gas: u64,
    },
    /// No block can hold it.
    #[error("exceeds block gas limit")]
    ExceedsBlockGasLimit,
    /// EIP-1559.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// Signed for another chain.
    #[error("invalid sender: invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The chain id of the transaction.
        have: u64,
        /// The chain id of this chain.
        want: u64,
    },
    /// The signature recovers to nobody, or has a high `s` (EIP-2).
    #[error("invalid sender: invalid transaction v, r, s values")]
    Signature,
    /// EIP-2681.
    #[error("nonce has max value")]
    NonceMax,
    /// Less gas than the transaction costs before any code runs.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// The gas limit of the transaction.
        gas: u64,
        /// What it must be at least.
        needed: u64,
    },
    /// EIP-7623.
    #[error("insufficient gas for floor data gas cost: gas {gas}, minimum needed {needed}")]
    FloorDataGas {
        /// The gas limit of the transaction.
        gas: u64,
        /// What it must be at least.
        needed: u64,
    },
    /// EIP-7702.
    #[error("set code tx must have at least one authorization tuple")]
    NoAuthorization,
    /// EIP-3607.
    #[error("sender not an eoa: address {0}, it has code that is not a delegation")]
    SenderNotEoa(Address),
    /// That nonce is mined.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The nonce of the account.
        next: u64,
        /// The nonce of the transaction.
        nonce: u64,
    },
    /// The transaction alone costs more than the account has.
    #[error(
        "insufficient funds for gas * price + value: address {address} have {balance} want {cost}"
    )]
    Funds {
        /// The sender.
        address: Address,
        /// Its balance.
        balance: U256,
        /// Value and the most that the gas can cost.
        cost: U256,
    },
    /// Together with what the sender has in the pool it costs more than the account has.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, \
         tx cost {cost}, overshot {}",
        .queued.saturating_add(*.cost).saturating_sub(*.balance)
    )]
    CumulativeFunds {
        /// The balance of the sender.
        balance: U256,
        /// What its transactions in the pool can cost.
        queued: U256,
        /// What this one can cost.
        cost: U256,
    },
    /// Another transaction has this nonce, and this one does not pay 10 % more.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// Gas has a price, and this one pays none.
    #[error("transaction underpriced: it offers no fee, and gas is not free")]
    NoFee,
    /// The pool is full, and this one does not pay more than the cheapest in it.
    #[error("transaction underpriced: the pool is full")]
    Underpriced,
    /// The pool is full, and nothing in it may make room.
    #[error("txpool is full")]
    Full,
    /// The pool is full, and this one could not be mined next.
    #[error("future transaction tries to replace pending")]
    FutureReplacesPending,
    /// The sender has as many transactions in the pool as it may.
    #[error("account limit exceeded: limit {limit}")]
    AccountLimit {
        /// Transactions that one account may have.
        limit: usize,
    },
    /// A delegated account (EIP-7702) has as many transactions in the pool as it may: any other
    /// transaction can empty the account, and all of them fail.
    #[error("in-flight transaction limit reached for delegated accounts: limit {limit}")]
    DelegatedLimit {
        /// Transactions that one delegated account may have.
        limit: usize,
    },
    /// The state could not be read; not a fault of the transaction.
    #[error(transparent)]
    State(#[from] StateError),
}

impl PoolError {
    /// Whether the transaction is wrong whatever the state and whatever the block: no honest peer
    /// has taken it, so none passes it on.
    pub fn is_forgery(&self) -> bool {
        matches!(
            self,
            Self::Blob
                | Self::InitcodeSize { .. }
                | Self::TipAboveFee
                | Self::ChainId { .. }
                | Self::Signature
                | Self::NonceMax
                | Self::IntrinsicGas { .. }
                | Self::FloorDataGas { .. }
                | Self::NoAuthorization
        )
    }
}
