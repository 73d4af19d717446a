//! Why a block is refused.

use crate::TransactionError;
use alloy_primitives::{B256, U256};

/// A rule that a block breaks. The chain rejects the block and never tries it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are the numbers in the message above them.
pub enum Invalid {
    /// Not the number after the parent's.
    #[error("invalid block number: have {have}, want {want}")]
    Number { have: u64, want: u64 },
    /// Not later than the parent (Ethereum), or earlier than it (Landfall).
    #[error("invalid timestamp: have {have}, parent has {parent}")]
    Timestamp { have: u64, parent: u64 },
    /// The extension is not what the rules of this chain ask for.
    #[error("invalid extension: {0}")]
    Extension(&'static str),
    /// The extension's milliseconds do not increase.
    #[error("invalid milliseconds: have {have}, parent has {parent}")]
    Milliseconds { have: u64, parent: u64 },
    /// The header's timestamp is not the extension's milliseconds divided by 1,000.
    #[error("timestamp {timestamp} does not fit the milliseconds {milliseconds}")]
    TimestampOfMilliseconds { timestamp: u64, milliseconds: u64 },
    /// `parentBeaconBlockRoot` is not the commitment to the extension.
    #[error("parentBeaconBlockRoot is {have}, the extension commits to {want}")]
    ExtensionCommitment { have: B256, want: B256 },
    /// More than 32 bytes, as web3.py and Ethereum ask.
    #[error("extra-data too long: {0} > 32")]
    ExtraData(usize),
    /// The gas limit moved by more than 1/1024, or is below 5,000.
    #[error("invalid gas limit: have {have}, parent has {parent}")]
    GasLimit { have: u64, parent: u64 },
    /// More gas used than the limit.
    #[error("invalid gasUsed: have {used}, gasLimit {limit}")]
    GasUsedAboveLimit { used: u64, limit: u64 },
    /// The base fee is not what EIP-1559 computes from the parent.
    #[error("invalid baseFee: have {have:?}, want {want:?}")]
    BaseFee { have: Option<u64>, want: Option<u64> },
    /// A field is there before its fork, or is not there from its fork on.
    #[error("header field {field} {}", if *.expected { "is missing" } else { "is not known yet" })]
    FieldOfFork { field: &'static str, expected: bool },
    /// Work after the merge.
    #[error("invalid difficulty: have {0}, want 0")]
    Difficulty(U256),
    /// A nonce after the merge.
    #[error("invalid nonce: it must be 0 after the merge")]
    Nonce,
    /// Ommers after the merge, or more than two.
    #[error("invalid ommers: {0}")]
    Ommers(&'static str),
    /// The body's ommers are not those of the header.
    #[error("uncle root hash mismatch: header {header}, body {body}")]
    OmmersHash { header: B256, body: B256 },
    /// The excess blob gas is not what follows from the parent.
    #[error("invalid excessBlobGas: have {have}, want {want}")]
    ExcessBlobGas { have: u64, want: u64 },
    /// Too much blob gas, or not a multiple of a blob's.
    #[error("blob gas used {used} exceeds maximum allowance {max} or is no multiple of a blob's")]
    BlobGasLimit { used: u64, max: u64 },
    /// The transactions use another amount of blob gas than the header says.
    #[error("blob gas used mismatch: header {header}, calculated {body}")]
    BlobGasUsed { header: u64, body: u64 },
    /// The body's transactions are not those of the header.
    #[error("transaction root hash mismatch: header {header}, body {body}")]
    TransactionsRoot { header: B256, body: B256 },
    /// The body's withdrawals are not those of the header.
    #[error("withdrawals root hash mismatch: header {header}, body {body}")]
    WithdrawalsRoot { header: B256, body: B256 },
    /// The RLP is longer than EIP-7934 allows.
    #[error("block RLP-encoded size exceeds maximum: {0} bytes")]
    Size(usize),
    /// A transaction cannot stand at its place.
    #[error("could not apply tx {index}: {reason}")]
    Transaction { index: usize, reason: TransactionError },
    /// A system contract that Prague requires has no code.
    #[error("system contract {0} has no code")]
    SystemContractEmpty(&'static str),
    /// A system contract that Prague requires failed.
    #[error("system call to {0} failed")]
    SystemContractFailed(&'static str),
    /// A log of the deposit contract is not a deposit (EIP-6110).
    #[error("unable to parse deposit data: {0}")]
    DepositLayout(&'static str),
    /// The transactions use another amount of gas than the header says.
    #[error("invalid gas used: header {header}, execution {execution}")]
    GasUsed { header: u64, execution: u64 },
    /// Execution makes other receipts than the header commits to.
    #[error("invalid receipt root hash: header {header}, execution {execution}")]
    ReceiptsRoot { header: B256, execution: B256 },
    /// Execution makes another bloom than the header has.
    #[error("invalid bloom")]
    LogsBloom,
    /// Execution makes other requests than the header commits to (EIP-7685).
    #[error("invalid requests hash: header {header}, execution {execution}")]
    RequestsHash { header: B256, execution: B256 },
}
