//! The face of the address index: Otterscan's searches, and who created a contract.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::errors::{Outcome, invalid_params, unreadable};
use crate::types::{self, RpcTransaction};
use alloy_primitives::{Address, B256, U64};
use landfall_chain::StoredBlock;
use serde_json::{Value, json};

/// The version of Otterscan's interface that this is.
const API_LEVEL: u64 = 8;
/// Transactions on one page.
const LARGEST_PAGE: usize = 1_000;

pub(crate) fn register(registry: &mut Registry) {
    registry.quick("ots_getApiLevel", 0, |_, _| Ok(API_LEVEL));
    registry
        .long("ots_searchTransactionsBefore", 3, |api, args| search(api, args, Direction::Before));
    registry
        .long("ots_searchTransactionsAfter", 3, |api, args| search(api, args, Direction::After));
    registry.long("ots_getContractCreator", 1, |api, args| {
        let found = api.backend.chain.creator(args.address(0)?).map_err(unreadable)?;
        Ok(found.map(|(hash, creator)| json!({ "hash": hash, "creator": creator })))
    });
    registry.long("ots_getTransactionBySenderAndNonce", 2, by_nonce);
    registry.long("eth_getTransactionBySenderAndNonce", 2, |api, args| {
        let Some(hash) = by_nonce(api, args)? else { return Ok(None) };
        let found = api.backend.chain.transaction(hash).map_err(unreadable)?;
        Ok(found.map(|(block, index)| types::transaction(&block, index)))
    });
}

fn by_nonce(api: &Api, args: &Arguments<'_>) -> Outcome<Option<B256>> {
    let sender = args.address(0)?;
    let nonce: U64 = args.required(1)?;
    api.backend.chain.transaction_by_nonce(sender, nonce.to()).map_err(unreadable)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Before,
    After,
}

/// One page, newest first, never ending inside a block.
fn search(api: &Api, args: &Arguments<'_>, direction: Direction) -> Outcome<Value> {
    let address = args.address(0)?;
    let block = args.required::<U64>(1)?.to::<u64>();
    let size = args.required::<U64>(2)?.to::<usize>();
    if size == 0 || size > LARGEST_PAGE {
        return Err(invalid_params(format!("page size must be 1 to {LARGEST_PAGE}")));
    }
    // Zero stands for the far end in both directions.
    let from_end = block == 0;
    let (mut found, complete) = page(api, address, direction, block, size)?;
    if direction == Direction::After {
        found.reverse();
    }
    let (first_page, last_page) = match direction {
        Direction::Before => (from_end, complete),
        Direction::After => (complete, from_end),
    };
    let mut transactions: Vec<RpcTransaction> = Vec::with_capacity(found.len());
    let mut receipts: Vec<Value> = Vec::with_capacity(found.len());
    for (number, index) in found {
        // A reorganisation since the search can take the block away.
        let Some(block) = api.backend.chain.block_at(number).map_err(unreadable)? else { continue };
        let index = index as usize;
        if index >= block.receipts.len() {
            continue;
        }
        transactions.push(types::transaction(&block, index));
        receipts.push(receipt_without_logs(api, &block, index)?);
    }
    Ok(json!({
        "txs": transactions,
        "receipts": receipts,
        "firstPage": first_page,
        "lastPage": last_page,
    }))
}

/// The transactions in the order of the search, and whether there are no more after them.
fn page(
    api: &Api,
    address: Address,
    direction: Direction,
    block: u64,
    size: usize,
) -> Outcome<(Vec<(u64, u32)>, bool)> {
    let look = |bound: u64, limit: usize| {
        let (before, after) = match direction {
            Direction::Before => (Some(bound), None),
            Direction::After => (None, Some(bound)),
        };
        api.backend.chain.appearances(address, before, after, limit).map_err(unreadable)
    };
    let bound = match direction {
        Direction::Before if block == 0 => u64::MAX,
        _ => block,
    };
    // The chain ends a page with the end of a block.
    let found = look(bound, size)?;
    let complete = match found.last() {
        Some((last, _)) if found.len() >= size => look(*last, 1)?.is_empty(),
        _ => true,
    };
    Ok((found, complete))
}

/// Otterscan's form: a timestamp, and no logs.
fn receipt_without_logs(api: &Api, block: &StoredBlock, index: usize) -> Outcome<Value> {
    let receipt = types::Receipts::new(&api.backend.chain, block)?.at(index);
    let mut value = serde_json::to_value(receipt).expect("a receipt is valid JSON");
    value["timestamp"] = json!(block.block.header.timestamp);
    value["logs"] = Value::Null;
    value["logsBloom"] = Value::Null;
    Ok(value)
}
