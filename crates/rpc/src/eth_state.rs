//! Reading accounts at any height: balances, nonces, code, storage, proofs.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::{BlockNumber, BlockRef};
use crate::errors::{Outcome, invalid_params, no_proof, unreadable};
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U64, U256, hex};
use landfall_chain::StateView;
use landfall_types::{Account, StateReader};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("eth_getBalance", 2, |api, args| {
        let (_, account) = account(api, args)?;
        Ok(account.balance)
    });
    registry.long("eth_getTransactionCount", 2, |api, args| {
        let (address, account) = account(api, args)?;
        let pending = BlockRef::Number(BlockNumber::Pending);
        let next = if args.optional::<BlockRef>(1)? == Some(pending) {
            api.backend.pool.pool().lock().pending_nonce(&address)
        } else {
            None
        };
        Ok(U64::from(next.unwrap_or_default().max(account.nonce)))
    });
    registry.long("eth_getCode", 2, |api, args| {
        let address = args.address(0)?;
        code(&state(api, args, 1)?, &address)
    });
    registry.alias("ots_getCode", "eth_getCode");
    registry.long("ots_hasCode", 2, |api, args| {
        let address = args.address(0)?;
        Ok(!code(&state(api, args, 1)?, &address)?.is_empty())
    });
    registry.long("eth_getStorageAt", 3, |api, args| {
        let address = args.address(0)?;
        let slot: SlotKey = args.required(1)?;
        let value = state(api, args, 2)?.storage(&address, slot.check()?.0).map_err(unreadable)?;
        Ok(B256::from(value))
    });
    registry.long("eth_getStorageValues", 2, storage_values);
    registry.long("eth_getProof", 3, proof);
}

/// The state at the block that a parameter names.
fn state(api: &Api, args: &Arguments<'_>, position: usize) -> Outcome<StateView> {
    let block: BlockRef = args.optional(position)?.unwrap_or_default();
    Ok(block.state(&api.backend.chain)?.1)
}

/// The account that the first parameter names, at the block of the second.
fn account(api: &Api, args: &Arguments<'_>) -> Outcome<(Address, Account)> {
    let address = args.address(0)?;
    let found = state(api, args, 1)?.account(&address).map_err(unreadable)?;
    Ok((address, found.unwrap_or_default()))
}

/// The code of an account; empty without an account.
fn code(state: &StateView, address: &Address) -> Outcome<Bytes> {
    match state.account(address).map_err(unreadable)? {
        Some(account) if account.code_hash != KECCAK256_EMPTY => {
            state.code(account.code_hash).map_err(unreadable)
        }
        _ => Ok(Bytes::new()),
    }
}

/// A storage key as text: hex of at most 32 bytes, shorter ones count from the right.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Clone)]
#[serde(transparent)]
struct SlotKey(String);

impl SlotKey {
    /// The slot, and whether all 32 bytes were written out.
    fn check(&self) -> Outcome<(U256, bool)> {
        let text = &self.0;
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.len() > 64 {
            return Err(invalid_params(format!(
                "storage key too long (want at most 32 bytes): {text:?}"
            )));
        }
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid_params(format!("invalid hex in storage key: {text:?}")));
        }
        let slot = U256::from_str_radix(digits, 16).unwrap_or_default();
        Ok((slot, digits.len() == 64))
    }
}

fn storage_values(api: &Api, args: &Arguments<'_>) -> Outcome<BTreeMap<Address, Vec<B256>>> {
    let wanted: BTreeMap<Address, Vec<SlotKey>> = args.required(0)?;
    let count: usize = wanted.values().map(Vec::len).sum();
    if count == 0 {
        return Err(invalid_params("empty request"));
    }
    too_many_slots(api, count)?;
    let state = state(api, args, 1)?;
    let read = |address: &Address, key: &SlotKey| {
        let value = state.storage(address, key.check()?.0).map_err(unreadable)?;
        Ok(B256::from(value))
    };
    wanted
        .iter()
        .map(|(address, keys)| {
            let values: Outcome<Vec<B256>> = keys.iter().map(|key| read(address, key)).collect();
            Ok((*address, values?))
        })
        .collect()
}

fn too_many_slots(api: &Api, count: usize) -> Outcome<()> {
    let most = api.config.max_storage_slots;
    if count > most {
        return Err(invalid_params(format!("too many slots (max {most})")));
    }
    Ok(())
}

fn proof(api: &Api, args: &Arguments<'_>) -> Outcome<Value> {
    let address = args.address(0)?;
    let keys: Vec<SlotKey> = args.required(1)?;
    too_many_slots(api, keys.len())?;
    let slots: Vec<(U256, bool)> = keys.iter().map(SlotKey::check).collect::<Outcome<_>>()?;
    let block: BlockRef = args.optional(2)?.unwrap_or_default();
    let hash = block.block(&api.backend.chain)?.block.hash();
    let words: Vec<B256> = slots.iter().map(|(slot, _)| B256::from(*slot)).collect();
    let proof = api.backend.chain.prove(hash, address, &words).map_err(no_proof)?;
    let account = proof.account.unwrap_or_default();
    let storage = proof.storage.iter().zip(&slots).map(|(found, (slot, whole))| {
        // A key comes back in the form in which it was sent.
        let key = match whole {
            true => hex::encode_prefixed(found.slot),
            false => format!("{slot:#x}"),
        };
        json!({ "key": key, "value": found.value, "proof": found.proof })
    });
    Ok(json!({
        "address": address,
        "accountProof": proof.proof,
        "balance": account.balance,
        "codeHash": account.code_hash,
        "nonce": U64::from(account.nonce),
        "storageHash": proof.storage_root,
        "storageProof": storage.collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_keys_are_hex_of_at_most_32_bytes() {
        let check = |text: &str| SlotKey(text.to_owned()).check();
        assert_eq!(check("0x00").unwrap(), (U256::ZERO, false));
        assert_eq!(check("10").unwrap(), (U256::from(16), false));
        assert_eq!(check(&format!("0x{}", "0".repeat(64))).unwrap(), (U256::ZERO, true));
        let long = check(&format!("0x{}", "0".repeat(65))).unwrap_err();
        assert!(long.message().starts_with("storage key too long"));
        assert!(check("0xasdf").unwrap_err().message().starts_with("invalid hex"));
    }
}
