//! Which of the reasons that the tests name stands for which refusal of ours.

use landfall_chain::ImportError;
use landfall_evm::{Invalid, TransactionError};
use landfall_types::BlockError;
use std::fmt;

/// Why a block of a test was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// Its bytes are no block.
    Rlp(BlockError),
    /// The chain refused it.
    Import(ImportError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rlp(error) => error.fmt(f),
            Self::Import(error) => error.fmt(f),
        }
    }
}

impl Refusal {
    /// Whether one of the reasons in `A|B` is this one. Names of the time before the Ethereum
    /// execution specifications have no dot; of those blocks only the refusal counts.
    pub fn is(&self, expected: &str) -> bool {
        let names = self.names();
        expected.split('|').any(|name| match name.split_once('.') {
            Some((_, name)) => names.contains(&name),
            None => true,
        })
    }

    /// The names in the tests, without `BlockException.` and `TransactionException.`.
    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Rlp(BlockError::Rlp(_)) => &["RLP_STRUCTURES_ENCODING"],
            Self::Rlp(BlockError::TooMany) => &[],
            Self::Rlp(BlockError::GasPrice { .. }) => &["GASLIMIT_PRICE_PRODUCT_OVERFLOW"],
            Self::Import(ImportError::Invalid(Invalid::Transaction { reason, .. })) => {
                transaction(reason)
            }
            Self::Import(ImportError::Invalid(reason)) => block(reason),
            Self::Import(ImportError::StateRoot { .. }) => &["INVALID_STATE_ROOT"],
            Self::Import(ImportError::Signature { .. }) => &["INVALID_SIGNATURE_VRS"],
            Self::Import(ImportError::Unknown(_) | ImportError::Finalized(_)) => {
                &["UNKNOWN_PARENT", "UNKNOWN_PARENT_ZERO"]
            }
            Self::Import(
                ImportError::ForkChoice(_) | ImportError::State(_) | ImportError::Log(_),
            ) => &[],
        }
    }
}

fn block(reason: &Invalid) -> &'static [&'static str] {
    match reason {
        Invalid::Number { .. } => &["INVALID_BLOCK_NUMBER"],
        Invalid::Timestamp { .. } => &["INVALID_BLOCK_TIMESTAMP_OLDER_THAN_PARENT"],
        Invalid::ExtraData(_) => &["EXTRA_DATA_TOO_BIG"],
        Invalid::GasLimit { .. } => &["INVALID_GASLIMIT", "GASLIMIT_TOO_BIG"],
        Invalid::GasUsedAboveLimit { .. } => &["INVALID_GAS_USED_ABOVE_LIMIT", "GAS_USED_OVERFLOW"],
        Invalid::BaseFee { .. } => {
            &["INVALID_BASEFEE_PER_GAS", "IMPORT_IMPOSSIBLE_LONDON_WRONG_PARENT"]
        }
        Invalid::FieldOfFork { .. } => &["INCORRECT_BLOCK_FORMAT", "IMPORT_IMPOSSIBLE_SHANGHAI"],
        Invalid::Difficulty(_) => {
            &["INVALID_DIFFICULTY", "IMPORT_IMPOSSIBLE_DIFFICULTY_OVER_PARIS"]
        }
        Invalid::Nonce => &["INCORRECT_BLOCK_FORMAT"],
        Invalid::Ommers(_) => &["TOO_MANY_UNCLES", "IMPORT_IMPOSSIBLE_UNCLES_OVER_PARIS"],
        Invalid::OmmersHash { .. } => &["INVALID_UNCLES_HASH"],
        Invalid::ExcessBlobGas { .. } => &["INCORRECT_EXCESS_BLOB_GAS"],
        Invalid::BlobGasLimit { .. } => &["BLOB_GAS_USED_ABOVE_LIMIT"],
        Invalid::BlobGasUsed { .. } => &["INCORRECT_BLOB_GAS_USED"],
        Invalid::TransactionsRoot { .. } => &["INVALID_TRANSACTIONS_ROOT"],
        Invalid::WithdrawalsRoot { .. } => &["INVALID_WITHDRAWALS_ROOT"],
        Invalid::Size(_) => &["RLP_BLOCK_LIMIT_EXCEEDED"],
        Invalid::SystemContractEmpty(_) => &["SYSTEM_CONTRACT_EMPTY"],
        Invalid::SystemContractFailed(_) => &["SYSTEM_CONTRACT_CALL_FAILED"],
        Invalid::DepositLayout(_) => &["INVALID_DEPOSIT_EVENT_LAYOUT"],
        Invalid::GasUsed { .. } => &["INVALID_GAS_USED"],
        Invalid::ReceiptsRoot { .. } => &["INVALID_RECEIPTS_ROOT"],
        Invalid::LogsBloom => &["INVALID_LOG_BLOOM"],
        Invalid::RequestsHash { .. } => &["INVALID_REQUESTS"],
        // Rules of our own chains; transactions have names of their own.
        Invalid::Extension(_)
        | Invalid::Milliseconds { .. }
        | Invalid::TimestampOfMilliseconds { .. }
        | Invalid::ExtensionCommitment { .. }
        | Invalid::Transaction { .. } => &[],
    }
}

fn transaction(reason: &TransactionError) -> &'static [&'static str] {
    match reason {
        TransactionError::NonceTooLow { .. } => &["NONCE_MISMATCH_TOO_LOW"],
        TransactionError::NonceTooHigh { .. } => &["NONCE_MISMATCH_TOO_HIGH"],
        TransactionError::NonceMax { .. } => &["NONCE_IS_MAX"],
        TransactionError::InsufficientFunds { .. } => &["INSUFFICIENT_ACCOUNT_FUNDS"],
        TransactionError::PaymentOverflow => &["GASLIMIT_PRICE_PRODUCT_OVERFLOW"],
        TransactionError::IntrinsicGas { .. } => &["INTRINSIC_GAS_TOO_LOW"],
        TransactionError::FloorGas { .. } => &["INTRINSIC_GAS_BELOW_FLOOR_GAS_COST"],
        TransactionError::BlockGas { .. } => &["GAS_ALLOWANCE_EXCEEDED"],
        TransactionError::GasCap { .. } => &["GAS_LIMIT_EXCEEDS_MAXIMUM"],
        TransactionError::TipAboveFee { .. } => &["PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS"],
        TransactionError::FeeBelowBaseFee { .. } => &["INSUFFICIENT_MAX_FEE_PER_GAS"],
        TransactionError::SenderHasCode { .. } => &["SENDER_NOT_EOA"],
        TransactionError::InitCodeSize { .. } => &["INITCODE_SIZE_EXCEEDED"],
        TransactionError::ChainId { .. } => &["INVALID_CHAINID"],
        TransactionError::Type(1) => &["TYPE_1_TX_PRE_FORK", "TYPE_NOT_SUPPORTED"],
        TransactionError::Type(2) => &["TYPE_2_TX_PRE_FORK", "TYPE_NOT_SUPPORTED"],
        TransactionError::Type(3) => &["TYPE_3_TX_PRE_FORK", "TYPE_NOT_SUPPORTED"],
        TransactionError::Type(4) => &["TYPE_4_TX_PRE_FORK", "TYPE_NOT_SUPPORTED"],
        TransactionError::Type(_) => &["TYPE_NOT_SUPPORTED"],
        TransactionError::NoBlobs => &["TYPE_3_TX_ZERO_BLOBS"],
        TransactionError::TooManyBlobs { .. } => &["TYPE_3_TX_BLOB_COUNT_EXCEEDED"],
        TransactionError::BlockBlobGas { .. } => &["TYPE_3_TX_MAX_BLOB_GAS_ALLOWANCE_EXCEEDED"],
        TransactionError::BlobVersion => &["TYPE_3_TX_INVALID_BLOB_VERSIONED_HASH"],
        TransactionError::BlobFee { .. } => &["INSUFFICIENT_MAX_FEE_PER_BLOB_GAS"],
        TransactionError::BlobCreate => &["TYPE_3_TX_CONTRACT_CREATION"],
        TransactionError::NoAuthorizations { .. } => &["TYPE_4_EMPTY_AUTHORIZATION_LIST"],
        TransactionError::Other(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn one_of_the_named_reasons_must_be_the_one_given() {
        let refusal = Refusal::Import(ImportError::Invalid(Invalid::WithdrawalsRoot {
            header: B256::ZERO,
            body: B256::ZERO,
        }));
        assert!(refusal.is("BlockException.INVALID_WITHDRAWALS_ROOT"));
        assert!(refusal.is("BlockException.X|BlockException.INVALID_WITHDRAWALS_ROOT"));
        assert!(!refusal.is("BlockException.INVALID_REQUESTS|BlockException.INVALID_GASLIMIT"));
        assert!(refusal.is("InvalidWithdrawals"), "a name without a dot asks for the refusal only");
    }
}
