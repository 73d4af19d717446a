//! What a transaction must fulfil whatever the state is: the checks that need no account.

use super::{HeadInfo, PoolError, PoolLimits, Recovered};
use alloy_consensus::Transaction as _;
use alloy_eips::eip2718::Encodable2718;
use landfall_types::{Fork, Transaction, transaction_type};

/// EIP-7825.
const GAS_LIMIT_CAP: u64 = 16_777_216;
/// EIP-3860.
const INITCODE_LIMIT: usize = 49_152;

/// Checks a transaction against the rules of the next block; gives its encoded size.
pub(super) fn check(
    tx: &Recovered,
    head: &HeadInfo,
    limits: &PoolLimits,
) -> Result<usize, PoolError> {
    let transaction = &*tx.transaction;
    check_type(transaction, head.fork)?;
    if let Some(have) = transaction.chain_id().filter(|have| *have != head.chain_id) {
        return Err(PoolError::ChainId { have, want: head.chain_id });
    }
    let size = transaction.encode_2718_len();
    if size > limits.transaction_bytes {
        return Err(PoolError::Oversized { size, limit: limits.transaction_bytes });
    }
    let initcode = transaction.input().len();
    if head.fork >= Fork::Shanghai && transaction.is_create() && initcode > INITCODE_LIMIT {
        return Err(PoolError::InitcodeSize { size: initcode, limit: INITCODE_LIMIT });
    }
    let gas = transaction.gas_limit();
    if head.fork >= Fork::Osaka && gas > GAS_LIMIT_CAP {
        return Err(PoolError::GasLimitTooHigh { cap: GAS_LIMIT_CAP, gas });
    }
    if gas > head.gas_limit {
        return Err(PoolError::ExceedsBlockGasLimit);
    }
    // Else it would need no money: anybody could fill the pool with what no block can take.
    if transaction.max_fee_per_gas() == 0 && head.base_fee > 0 {
        return Err(PoolError::NoFee);
    }
    let tip = transaction.max_priority_fee_per_gas().unwrap_or_default();
    if tip > transaction.max_fee_per_gas() {
        return Err(PoolError::TipAboveFee);
    }
    if transaction.nonce() == u64::MAX {
        return Err(PoolError::NonceMax);
    }
    if transaction.authorization_list().is_some_and(|list| list.is_empty()) {
        return Err(PoolError::NoAuthorization);
    }
    let (needed, floor) = least_gas(transaction, head.fork);
    if gas < needed {
        return Err(PoolError::IntrinsicGas { gas, needed });
    }
    if gas < floor {
        return Err(PoolError::FloorDataGas { gas, needed: floor });
    }
    Ok(size)
}

fn check_type(transaction: &Transaction, fork: Fork) -> Result<(), PoolError> {
    let kind = transaction_type(transaction);
    let (from, name) = match kind {
        0 => (Fork::Frontier, "Frontier"),
        1 => (Fork::Berlin, "Berlin"),
        2 => (Fork::London, "London"),
        4 => (Fork::Prague, "Prague"),
        _ => return Err(PoolError::Blob),
    };
    if fork < from { Err(PoolError::TypeNotActive { kind, fork: name }) } else { Ok(()) }
}

/// The intrinsic gas, and the floor of EIP-7623 (zero before Prague).
fn least_gas(transaction: &Transaction, fork: Fork) -> (u64, u64) {
    let input = transaction.input();
    let zeros = input.iter().filter(|byte| **byte == 0).count() as u64;
    let others = input.len() as u64 - zeros;
    let mut gas = 21_000 + 4 * zeros;
    gas += others * if fork >= Fork::Istanbul { 16 } else { 68 };
    if transaction.is_create() {
        gas += if fork >= Fork::Homestead { 32_000 } else { 0 };
        gas += if fork >= Fork::Shanghai { 2 * (input.len() as u64).div_ceil(32) } else { 0 };
    }
    if let Some(list) = transaction.access_list() {
        gas += 2_400 * list.len() as u64 + 1_900 * list.storage_keys_count() as u64;
    }
    gas += 25_000 * transaction.authorization_count().unwrap_or_default();
    let floor = if fork >= Fork::Prague { 21_000 + 10 * (zeros + 4 * others) } else { 0 };
    (gas, floor)
}
