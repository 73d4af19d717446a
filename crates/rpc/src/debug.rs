//! `debug_getRaw*`: what the ledger holds, in Ethereum's encoding.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::BlockRef;
use crate::errors::{Outcome, server_error, unreadable};
use crate::types;
use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Bytes};
use landfall_chain::StoredBlock;
use std::sync::Arc;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("debug_getRawHeader", 1, |api, args| {
        let block = block(api, args)?;
        Ok(Bytes::from(alloy_rlp::encode(block.block.header.inner())))
    });
    registry.long("debug_getRawBlock", 1, |api, args| Ok(block(api, args)?.block.ethereum_rlp()));
    registry.long("debug_getRawReceipts", 1, |api, args| {
        let block = block(api, args)?;
        Ok(types::Receipts::new(&api.backend.chain, &block)?.raw())
    });
    registry.long("debug_getRawTransaction", 1, raw_transaction);
    registry.alias("eth_getRawTransactionByHash", "debug_getRawTransaction");
    registry.quick("debug_getBadBlocks", 0, |_, _| Ok(Vec::<B256>::new()));
}

fn block(api: &Api, args: &Arguments<'_>) -> Outcome<Arc<StoredBlock>> {
    let wanted: BlockRef = args.required(0)?;
    wanted.find(&api.backend.chain)?.ok_or_else(|| server_error("block not found"))
}

/// A transaction on the chain or in the pool; null if there is none.
fn raw_transaction(api: &Api, args: &Arguments<'_>) -> Outcome<Option<Bytes>> {
    let hash = args.hash(0)?;
    if let Some((block, index)) = api.backend.chain.transaction(hash).map_err(unreadable)? {
        return Ok(Some(block.block.body.transactions[index].encoded_2718().into()));
    }
    let waiting = api.backend.pool.pool().lock().get(&hash);
    Ok(waiting.map(|waiting| waiting.transaction.encoded_2718().into()))
}
