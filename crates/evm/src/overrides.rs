//! State and block overrides of the `eth_call` family.

use crate::{CallError, cache::Cache};
use alloy_evm::{EvmEnv, precompiles::PrecompilesMap};
use alloy_primitives::{Address, U256, keccak256};
use alloy_rpc_types_eth::{
    BlockOverrides,
    state::{AccountOverride, StateOverride},
};
use revm::context_interface::block::BlobExcessGasAndPrice;
use std::collections::BTreeMap;

/// Puts block overrides over the environment.
pub(crate) fn override_block(
    environment: &mut EvmEnv,
    cache: &mut Cache<'_>,
    overrides: &BlockOverrides,
) -> Result<(), CallError> {
    let block = &mut environment.block_env;
    if overrides.beacon_root.is_some() {
        let reason = "block override \"beaconRoot\" is not supported for this RPC method";
        return Err(CallError::Request(reason.into()));
    }
    let narrow = |value: U256, name: &str| {
        u64::try_from(value)
            .map_err(|_| CallError::Request(format!("block override \"{name}\" exceeds 64 bits")))
    };
    if let Some(base_fee) = overrides.base_fee {
        block.basefee = narrow(base_fee, "baseFeePerGas")?;
    }
    if let (Some(fee), Some(blobs)) =
        (overrides.blob_base_fee, &mut block.blob_excess_gas_and_price)
    {
        let blob_gasprice = narrow(fee, "blobBaseFee")?.into();
        *blobs = BlobExcessGasAndPrice { blob_gasprice, ..*blobs };
    }
    block.number = overrides.number.unwrap_or(block.number);
    block.difficulty = overrides.difficulty.unwrap_or(block.difficulty);
    block.timestamp = overrides.time.map_or(block.timestamp, U256::from);
    block.gas_limit = overrides.gas_limit.unwrap_or(block.gas_limit);
    block.beneficiary = overrides.coinbase.unwrap_or(block.beneficiary);
    block.prevrandao = overrides.random.or(block.prevrandao);
    for (number, hash) in overrides.block_hash.iter().flatten() {
        cache.set_block_hash(*number, *hash);
    }
    Ok(())
}

/// Puts state overrides over the state and the precompiles.
pub(crate) fn override_state(
    cache: &mut Cache<'_>,
    precompiles: &mut PrecompilesMap,
    overrides: &StateOverride,
) -> Result<(), CallError> {
    let sorted: BTreeMap<_, _> = overrides.iter().collect();
    for (address, account) in &sorted {
        move_precompile(precompiles, **address, account)?;
    }
    for (address, account) in sorted {
        override_account(cache, *address, account)?;
    }
    Ok(())
}

fn move_precompile(
    precompiles: &mut PrecompilesMap,
    address: Address,
    account: &AccountOverride,
) -> Result<(), CallError> {
    let is_precompile = precompiles.get(&address).is_some();
    match account.move_precompile_to {
        Some(_) if !is_precompile => {
            Err(CallError::Request(format!("account {address} is not a precompile")))
        }
        Some(to) => precompiles
            .move_precompiles([(address, to)])
            .map_err(|e| CallError::Request(e.to_string())),
        None => {
            if is_precompile && account.code.is_some() {
                precompiles.apply_precompile(&address, |_| None);
            }
            Ok(())
        }
    }
}

fn override_account(
    cache: &mut Cache<'_>,
    address: Address,
    overrides: &AccountOverride,
) -> Result<(), CallError> {
    let mut account = cache.account(address)?.unwrap_or_default();
    account.balance = overrides.balance.unwrap_or(account.balance);
    account.nonce = overrides.nonce.unwrap_or(account.nonce);
    if let Some(code) = &overrides.code {
        account.code_hash = keccak256(code);
    }
    cache.set_account(address, account, overrides.code.clone())?;
    let slots = match (&overrides.state, &overrides.state_diff) {
        (Some(_), Some(_)) => {
            let reason = format!("account {address} has both 'state' and 'stateDiff'");
            return Err(CallError::Request(reason));
        }
        (Some(state), None) => {
            cache.clear_storage(address)?;
            state
        }
        (None, Some(difference)) => difference,
        (None, None) => return Ok(()),
    };
    for (key, value) in slots {
        cache.set_slot(address, (*key).into(), (*value).into())?;
    }
    Ok(())
}
