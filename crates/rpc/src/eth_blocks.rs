//! Reading blocks, headers and receipts, and what the chain is.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::{BlockNumber, BlockRef};
use crate::errors::Outcome;
use crate::{consensus, fork_config, types};
use alloy_primitives::U64;
use landfall_chain::{PROOF_WINDOW, StoredBlock};
use serde_json::{Value, json};
use std::sync::Arc;

/// The version of the wire protocol that old clients ask for (eth/68).
const PROTOCOL_VERSION: U64 = U64::from_limbs([68]);

pub(crate) fn register(registry: &mut Registry) {
    register_chain(registry);
    registry.long("eth_getBlockByNumber", 2, |api, args| {
        let full = args.optional(1)?.unwrap_or_default();
        Ok(by_number(api, args)?.map(|block| types::block(&block, full)))
    });
    registry.long("eth_getBlockByHash", 2, |api, args| {
        let full = args.optional(1)?.unwrap_or_default();
        Ok(by_hash(api, args)?.map(|block| types::block(&block, full)))
    });
    registry.long("eth_getHeaderByNumber", 1, |api, args| {
        Ok(by_number(api, args)?.map(|block| header(&block)))
    });
    registry.long("eth_getHeaderByHash", 1, |api, args| {
        Ok(by_hash(api, args)?.map(|block| header(&block)))
    });
    registry.alias("erigon_getHeaderByNumber", "eth_getHeaderByNumber");
    registry.alias("erigon_getHeaderByHash", "eth_getHeaderByHash");
    registry.long("eth_getBlockTransactionCountByNumber", 1, |api, args| {
        Ok(by_number(api, args)?.map(|block| U64::from(block.block.body.transactions.len())))
    });
    registry.long("eth_getBlockTransactionCountByHash", 1, |api, args| {
        Ok(by_hash(api, args)?.map(|block| U64::from(block.block.body.transactions.len())))
    });
    registry.long("eth_getBlockReceipts", 1, |api, args| {
        let found = args.required::<BlockRef>(0)?.find(&api.backend.chain)?;
        let all =
            |block: Arc<StoredBlock>| Ok(types::Receipts::new(&api.backend.chain, &block)?.all());
        found.map(all).transpose()
    });
    register_ommers(registry);
}

fn register_chain(registry: &mut Registry) {
    registry.quick("eth_blockNumber", 0, |api, _| Ok(U64::from(head(api).block.number())));
    registry.quick("eth_chainId", 0, |api, _| Ok(U64::from(api.backend.chain.spec().chain_id)));
    registry.quick("eth_syncing", 0, |api, _| Ok(syncing(api)));
    registry.quick("eth_protocolVersion", 0, |_, _| Ok(PROTOCOL_VERSION));
    registry.quick("eth_coinbase", 0, |api, _| Ok(head(api).block.header.beneficiary));
    registry.quick("eth_hashrate", 0, |_, _| Ok(U64::ZERO));
    registry.quick("eth_mining", 0, |api, _| {
        let controls = api.backend.controls.as_ref();
        Ok(controls.is_some_and(|c| c.automine() || c.interval_mining().is_some()))
    });
    registry.quick("eth_config", 0, |api, _| {
        let header = &head(api).block.header;
        fork_config::describe(
            api.backend.chain.spec(),
            api.backend.chain.genesis_hash(),
            header.timestamp,
        )
    });
    registry.quick("eth_capabilities", 0, |api, _| Ok(capabilities(api)));
}

/// `false`, or geth's object while the node is behind what its peers have.
pub(crate) fn syncing(api: &Api) -> Value {
    let Some(highest) = consensus::behind(api) else { return Value::Bool(false) };
    json!({
        "startingBlock": U64::from(api.opened_at),
        "currentBlock": U64::from(head(api).block.number()),
        "highestBlock": U64::from(highest),
    })
}

fn register_ommers(registry: &mut Registry) {
    let count = |block: Arc<StoredBlock>| U64::from(block.block.body.ommers.len());
    registry.long("eth_getUncleCountByBlockNumber", 1, move |api, args| {
        Ok(by_number(api, args)?.map(count))
    });
    registry.long("eth_getUncleCountByBlockHash", 1, move |api, args| {
        Ok(by_hash(api, args)?.map(count))
    });
    registry.long("eth_getUncleByBlockNumberAndIndex", 2, |api, args| {
        let index: U64 = args.required(1)?;
        Ok(by_number(api, args)?.and_then(|block| types::ommer(&block, index.to())))
    });
    registry.long("eth_getUncleByBlockHashAndIndex", 2, |api, args| {
        let index: U64 = args.required(1)?;
        Ok(by_hash(api, args)?.and_then(|block| types::ommer(&block, index.to())))
    });
}

fn head(api: &Api) -> Arc<StoredBlock> {
    api.backend.chain.head().block.clone()
}

/// The block that the first parameter names by number or tag.
pub(crate) fn by_number(api: &Api, args: &Arguments<'_>) -> Outcome<Option<Arc<StoredBlock>>> {
    BlockRef::Number(args.required::<BlockNumber>(0)?).find(&api.backend.chain)
}

/// The block that the first parameter names by hash.
pub(crate) fn by_hash(api: &Api, args: &Arguments<'_>) -> Outcome<Option<Arc<StoredBlock>>> {
    let hash = args.hash(0)?;
    BlockRef::Hash { hash, require_canonical: false }.find(&api.backend.chain)
}

fn header(block: &StoredBlock) -> alloy_rpc_types_eth::Header {
    alloy_rpc_types_eth::Header { size: None, ..types::header(block) }
}

/// Everything from genesis on, except proofs, which reach back as far as the trie is kept.
fn capabilities(api: &Api) -> Value {
    let head = head(api);
    let number = head.block.number();
    let all = json!({ "disabled": false, "oldestBlock": "0x0" });
    let oldest_proof = U64::from(number.saturating_sub(PROOF_WINDOW));
    json!({
        "head": { "number": U64::from(number), "hash": head.block.hash() },
        "state": all,
        "tx": all,
        "logs": all,
        "receipts": all,
        "blocks": all,
        "stateproofs": {
            "disabled": false,
            "oldestBlock": oldest_proof,
            "deleteStrategy": { "type": "window", "retentionBlocks": U64::from(PROOF_WINDOW) },
        },
    })
}
