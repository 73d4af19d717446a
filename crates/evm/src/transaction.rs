//! Why a transaction cannot stand in a block, in geth's words.

use alloy_eips::eip4844::VERSIONED_HASH_VERSION_KZG;
use alloy_evm::FromRecoveredTx;
use alloy_primitives::{Address, U256};
use landfall_types::{Fork, Transaction};
use revm::{
    context::{BlockEnv, TxEnv},
    context_interface::{cfg::gas::calculate_initial_tx_gas_for_tx, result::InvalidTransaction},
};

/// A rule that a transaction breaks where it stands. The messages begin as geth's do, since
/// clients compare them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields are the values in the message above them.
pub enum TransactionError {
    #[error("nonce too low: address {sender}, tx: {tx} state: {state}")]
    NonceTooLow { sender: Address, tx: u64, state: u64 },
    #[error("nonce too high: address {sender}, tx: {tx} state: {state}")]
    NonceTooHigh { sender: Address, tx: u64, state: u64 },
    #[error("nonce has max value: address {sender}, nonce: {}", u64::MAX)]
    NonceMax { sender: Address },
    #[error("insufficient funds for gas * price + value: address {sender} have {have} want {want}")]
    InsufficientFunds { sender: Address, have: U256, want: U256 },
    #[error("insufficient funds for gas * price + value: the product exceeds 256 bits")]
    PaymentOverflow,
    #[error("intrinsic gas too low: have {have}, want {want}")]
    IntrinsicGas { have: u64, want: u64 },
    #[error("insufficient gas for floor data gas cost: have {have}, want {want}")]
    FloorGas { have: u64, want: u64 },
    #[error("gas limit reached: block has {available} left, tx wants {limit}")]
    BlockGas { available: u64, limit: u64 },
    #[error("transaction gas limit too high (cap: {cap}, tx: {limit})")]
    GasCap { cap: u64, limit: u64 },
    #[error(
        "max priority fee per gas higher than max fee per gas: address {sender}, \
         maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
    )]
    TipAboveFee { sender: Address, tip: u128, fee: u128 },
    #[error(
        "max fee per gas less than block base fee: address {sender}, maxFeePerGas: {fee}, \
         baseFee: {base_fee}"
    )]
    FeeBelowBaseFee { sender: Address, fee: u128, base_fee: u64 },
    #[error("sender not an eoa: address {sender}")]
    SenderHasCode { sender: Address },
    #[error("max initcode size exceeded: code size {size} limit 49152")]
    InitCodeSize { size: usize },
    #[error("invalid chain id for signer: have {have:?} want {want}")]
    ChainId { have: Option<u64>, want: u64 },
    #[error("transaction type not supported: {0}")]
    Type(u8),
    #[error("blob transaction missing blob hashes")]
    NoBlobs,
    #[error("blob transaction has too many blobs: have {have}, permitted {max}")]
    TooManyBlobs { have: usize, max: usize },
    #[error("blob gas limit reached: block has {available} left, tx wants {wants}")]
    BlockBlobGas { available: u64, wants: u64 },
    #[error("blob has invalid hash version: it must be {}", VERSIONED_HASH_VERSION_KZG)]
    BlobVersion,
    #[error(
        "max fee per blob gas less than block blob gas fee: address {sender}, \
         blobGasFeeCap: {fee}, blobBaseFee: {base_fee}"
    )]
    BlobFee { sender: Address, fee: u128, base_fee: u128 },
    #[error("blob transaction of type create")]
    BlobCreate,
    #[error("EIP-7702 transaction with empty auth list (sender {sender})")]
    NoAuthorizations { sender: Address },
    #[error("{0}")]
    Other(String),
}

impl TransactionError {
    /// revm's reason in geth's words, with the values that the message needs.
    pub(crate) fn new(
        reason: InvalidTransaction,
        tx: &TxEnv,
        block: &BlockEnv,
        chain_id: u64,
    ) -> Self {
        use InvalidTransaction as Reason;
        let (sender, limit) = (tx.caller, tx.gas_limit);
        match reason {
            Reason::NonceTooLow { tx, state } => Self::NonceTooLow { sender, tx, state },
            Reason::NonceTooHigh { tx, state } => Self::NonceTooHigh { sender, tx, state },
            Reason::NonceOverflowInTransaction => Self::NonceMax { sender },
            Reason::LackOfFundForMaxFee { fee, balance } => {
                Self::InsufficientFunds { sender, have: *balance, want: *fee }
            }
            Reason::OverflowPaymentInTransaction => Self::PaymentOverflow,
            Reason::CallGasCostMoreThanGasLimit { initial_gas, gas_limit } => {
                Self::IntrinsicGas { have: gas_limit, want: initial_gas }
            }
            Reason::GasFloorMoreThanGasLimit { gas_floor, gas_limit } => {
                Self::FloorGas { have: gas_limit, want: gas_floor }
            }
            Reason::CallerGasLimitMoreThanBlock => {
                Self::BlockGas { available: block.gas_limit, limit }
            }
            Reason::TxGasLimitGreaterThanCap { cap, .. } => Self::GasCap { cap, limit },
            Reason::PriorityFeeGreaterThanMaxFee => {
                let tip = tx.gas_priority_fee.unwrap_or_default();
                Self::TipAboveFee { sender, tip, fee: tx.gas_price }
            }
            Reason::GasPriceLessThanBasefee => {
                Self::FeeBelowBaseFee { sender, fee: tx.gas_price, base_fee: block.basefee }
            }
            Reason::RejectCallerWithCode => Self::SenderHasCode { sender },
            Reason::CreateInitCodeSizeLimit => Self::InitCodeSize { size: tx.data.len() },
            Reason::InvalidChainId | Reason::MissingChainId => {
                Self::ChainId { have: tx.chain_id, want: chain_id }
            }
            Reason::Eip2930NotSupported
            | Reason::Eip1559NotSupported
            | Reason::Eip4844NotSupported
            | Reason::Eip7702NotSupported => Self::Type(tx.tx_type),
            Reason::EmptyBlobs => Self::NoBlobs,
            Reason::TooManyBlobs { max, have } => Self::TooManyBlobs { have, max },
            Reason::BlobVersionNotSupported => Self::BlobVersion,
            Reason::BlobGasPriceGreaterThanMax { block_blob_gas_price, .. } => Self::BlobFee {
                sender,
                fee: tx.max_fee_per_blob_gas,
                base_fee: block_blob_gas_price,
            },
            Reason::BlobCreateTransaction => Self::BlobCreate,
            Reason::EmptyAuthorizationList => Self::NoAuthorizations { sender },
            other => Self::Other(other.to_string()),
        }
    }
}

/// The gas that a transaction costs before its first instruction, and the floor of EIP-7623 (zero
/// before Prague). Its gas limit must reach both.
pub fn intrinsic_gas(fork: Fork, transaction: &Transaction) -> (u64, u64) {
    let tx = TxEnv::from_recovered_tx(transaction, Address::ZERO);
    let gas = calculate_initial_tx_gas_for_tx(&tx, crate::environment::spec_id(fork), None);
    (gas.initial_regular_gas, gas.floor_gas)
}
