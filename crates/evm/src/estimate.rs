//! `eth_estimateGas`: the least gas limit with which a transaction succeeds, or little more.

use crate::{
    CallContext, CallError, TransactionError,
    cache::Cache,
    call::{Simulation, halt_in_words},
    environment::fork_of,
};
use alloy_eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;
use alloy_evm::Evm;
use alloy_primitives::{Address, KECCAK256_EMPTY, TxKind, U256};
use alloy_rpc_types_eth::TransactionRequest;
use landfall_types::Fork;
use revm::{
    context_interface::result::{ExecutionResult, HaltReason, OutOfGasError},
    inspector::NoOpInspector,
};

const TRANSFER_GAS: u64 = 21_000;
const CALL_STIPEND: u64 = 2_300;
/// The search stops when its range is less than 1.5 % of its upper end, as geth's.
const ERROR_PER_MILLE: u64 = 15;

type Search<'a> = Simulation<'a, NoOpInspector>;

/// Searches the gas limit that a request needs, between what it uses and what it may have.
pub fn estimate_gas(
    context: &CallContext<'_>,
    request: &TransactionRequest,
) -> Result<u64, CallError> {
    let mut search = Simulation::new(context, request, NoOpInspector {})?;
    let highest = highest_limit(context, request, &mut search)?;
    if highest >= TRANSFER_GAS
        && is_transfer(&mut search)?
        && attempt(&mut search, TRANSFER_GAS)?.is_ok()
    {
        return Ok(TRANSFER_GAS);
    }
    match attempt(&mut search, highest)? {
        Ok(done) => narrow(&mut search, done.tx_gas_used(), done.gas().total_gas_spent(), highest),
        Err(Some(ExecutionResult::Revert { output, .. })) => Err(CallError::Revert(output)),
        Err(Some(ExecutionResult::Halt { reason, .. })) if !is_out_of_gas(&reason) => {
            Err(CallError::Halt(halt_in_words(&reason)))
        }
        Err(_) => Err(CallError::GasAllowance(highest)),
    }
}

/// The search itself, once it is known that `high` suffices.
fn narrow(search: &mut Search<'_>, used: u64, spent: u64, mut high: u64) -> Result<u64, CallError> {
    let mut low = used.saturating_sub(1);
    // What was spent before refunds, and the 1/64 that every call holds back, suffices mostly.
    let likely = (spent.saturating_add(CALL_STIPEND)).saturating_mul(64) / 63;
    if likely < high {
        if attempt(search, likely)?.is_ok() { high = likely } else { low = likely }
    }
    while low + 1 < high {
        if u128::from(high - low) * 1_000 < u128::from(high) * u128::from(ERROR_PER_MILLE) {
            break;
        }
        // Most need little more than they use, so the lower part is searched first.
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2));
        if attempt(search, middle)?.is_ok() { high = middle } else { low = middle }
    }
    Ok(high)
}

/// Runs with a limit: `Ok` if it succeeds, `Err` if it fails, with what it did unless the limit
/// is below the intrinsic gas.
fn attempt(
    search: &mut Search<'_>,
    gas: u64,
) -> Result<Result<ExecutionResult, Option<ExecutionResult>>, CallError> {
    match search.run(gas) {
        Ok(done) if done.is_success() => Ok(Ok(done)),
        Ok(failed) => Ok(Err(Some(failed))),
        Err(CallError::Transaction {
            reason: TransactionError::IntrinsicGas { .. } | TransactionError::FloorGas { .. },
            ..
        }) => Ok(Err(None)),
        Err(CallError::Transaction { reason, gas }) => {
            Err(CallError::Request(format!("failed with {gas} gas: {reason}")))
        }
        Err(other) => Err(other),
    }
}

fn is_out_of_gas(reason: &HaltReason) -> bool {
    matches!(reason, HaltReason::OutOfGas(kind) if !matches!(kind, OutOfGasError::InvalidOperand))
}

fn is_transfer(search: &mut Search<'_>) -> Result<bool, CallError> {
    let TxKind::Call(to) = search.tx.kind else { return Ok(false) };
    let plain = search.tx.data.is_empty();
    let account = search.evm.db_mut().account(to)?;
    Ok(plain && account.is_none_or(|a| a.code_hash == KECCAK256_EMPTY))
}

/// The most gas that the request may have: what it asks for or the block has, what the sender can
/// pay for, and the cap.
fn highest_limit(
    context: &CallContext<'_>,
    request: &TransactionRequest,
    search: &mut Search<'_>,
) -> Result<u64, CallError> {
    let mut highest = match request.gas {
        Some(gas) if gas >= TRANSFER_GAS => gas,
        _ => search.evm.block().gas_limit,
    };
    if fork_of(context.spec, context.header) >= Fork::Osaka {
        highest = highest.min(MAX_TX_GAS_LIMIT_OSAKA);
    }
    let (sender, value, price) = (search.tx.caller, search.tx.value, search.tx.gas_price);
    if price > 0 {
        let available = spendable(search.evm.db_mut(), sender, value)?;
        let affordable = available / U256::from(price);
        highest = highest.min(affordable.saturating_to());
    }
    Ok(highest.min(context.gas_cap))
}

fn spendable(cache: &mut Cache<'_>, sender: Address, value: U256) -> Result<U256, CallError> {
    let balance = cache.account(sender)?.unwrap_or_default().balance;
    // Nothing would be left for gas.
    if value >= balance {
        return Err(CallError::Request("insufficient funds for transfer".into()));
    }
    Ok(balance - value)
}
