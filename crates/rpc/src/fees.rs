//! Prices of gas: what the next block asks, what recent transactions paid.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::{BlockNumber, BlockRef};
use crate::errors::{Outcome, invalid_params, server_error, unreadable};
use crate::types;
use alloy_consensus::{Transaction as _, TxReceipt};
use alloy_primitives::{B256, U64, U256};
use landfall_chain::StoredBlock;
use landfall_types::ChainSpec;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// Blocks in one history.
const MOST_BLOCKS: u64 = 1_024;
/// Percentiles in one history.
const MOST_PERCENTILES: usize = 100;
/// Blocks, and transactions of each, that a suggestion looks at.
const SAMPLED_BLOCKS: u64 = 20;
const SAMPLED_TRANSACTIONS: usize = 100;
/// What a tip is without any to learn from: 1 gwei.
const DEFAULT_TIP: u128 = 1_000_000_000;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("eth_gasPrice", 0, |api, _| {
        let head = api.backend.chain.head();
        let base_fee = next_base_fee(api.backend.chain.spec(), &head.block).unwrap_or_default();
        Ok(U256::from(suggested_tip(api)? + u128::from(base_fee)))
    });
    registry.long("eth_maxPriorityFeePerGas", 0, |api, _| Ok(U256::from(suggested_tip(api)?)));
    registry.quick("eth_baseFee", 0, |api, _| {
        let head = api.backend.chain.head();
        Ok(next_base_fee(api.backend.chain.spec(), &head.block).map(U64::from))
    });
    registry.quick("eth_blobBaseFee", 0, |api, _| {
        let head = api.backend.chain.head();
        Ok(next_blob_base_fee(api.backend.chain.spec(), &head.block).map(U256::from))
    });
    registry.long("eth_feeHistory", 3, fee_history);
}

/// The base fee of the block after this one; `None` before London.
pub(crate) fn next_base_fee(spec: &ChainSpec, block: &StoredBlock) -> Option<u64> {
    let header = &block.block.header;
    let (number, time) = (header.number + 1, header.timestamp);
    landfall_evm::next_base_fee(spec, header, number, time, header.difficulty)
}

/// The price of blob gas in the block after this one; `None` before Cancun.
pub(crate) fn next_blob_base_fee(spec: &ChainSpec, block: &StoredBlock) -> Option<u128> {
    let header = &block.block.header;
    let params = spec.blob_params(header.timestamp)?;
    let excess = params.next_block_excess_blob_gas_osaka(
        header.excess_blob_gas.unwrap_or_default(),
        header.blob_gas_used.unwrap_or_default(),
        header.base_fee_per_gas.unwrap_or_default(),
    );
    Some(params.calc_blob_fee(excess))
}

/// The last suggestion and the head that it was made for.
#[derive(Default)]
pub(crate) struct TipCache(Mutex<Option<(B256, u128)>>);

/// The median tip of recent transactions; nothing where gas is free.
pub(crate) fn suggested_tip(api: &Api) -> Outcome<u128> {
    if api.backend.chain.spec().fees.free_gas {
        return Ok(0);
    }
    let head = api.backend.chain.head();
    let hash = head.block.block.hash();
    if let Some((_, tip)) = api.tips.0.lock().filter(|(at, _)| *at == hash) {
        return Ok(tip);
    }
    let newest = head.block.block.number();
    let mut tips = Vec::new();
    for number in (newest.saturating_sub(SAMPLED_BLOCKS - 1)..=newest).rev() {
        let Some(block) = api.backend.chain.block_at(number).map_err(unreadable)? else { continue };
        let base_fee = block.block.header.base_fee_per_gas.unwrap_or_default();
        let sampled = block.block.body.transactions.iter().rev().take(SAMPLED_TRANSACTIONS);
        tips.extend(sampled.filter_map(|tx| tx.effective_tip_per_gas(base_fee)));
    }
    let tip = match tips.len() {
        0 => DEFAULT_TIP,
        count => *tips.select_nth_unstable(count / 2).1,
    };
    *api.tips.0.lock() = Some((hash, tip));
    Ok(tip)
}

/// A count as a quantity, a plain number or a decimal string: clients send all three.
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        U64::deserialize(deserializer).map(|count| Self(count.to()))
    }
}

fn fee_history(api: &Api, args: &Arguments<'_>) -> Outcome<Value> {
    let count: Count = args.required(0)?;
    let newest: BlockNumber = args.required(1)?;
    let percentiles: Vec<f64> = args.optional(2)?.unwrap_or_default();
    check_percentiles(&percentiles)?;
    let chain = &api.backend.chain;
    let head = chain.head().block.block.number();
    let newest = newest.height(chain);
    if newest > head {
        return Err(server_error(format!(
            "request beyond head block: requested {newest}, head {head}"
        )));
    }
    let count = count.0.min(MOST_BLOCKS).min(newest + 1);
    if count == 0 {
        return Ok(json!({ "oldestBlock": "0x0", "baseFeePerGas": [], "gasUsedRatio": [] }));
    }
    let oldest = newest + 1 - count;
    let mut history = History::default();
    for number in oldest..=newest {
        let block = BlockRef::Number(BlockNumber::Number(number)).block(chain)?;
        history.push(chain.spec(), &block, &percentiles);
        if number == newest {
            let next = next_base_fee(chain.spec(), &block).unwrap_or_default();
            history.base_fees.push(U256::from(next));
            let next = next_blob_base_fee(chain.spec(), &block).unwrap_or_default();
            history.blob_base_fees.push(U256::from(next));
        }
    }
    let mut answer = json!({
        "oldestBlock": U64::from(oldest),
        "baseFeePerGas": history.base_fees,
        "gasUsedRatio": history.gas_used_ratios,
        "baseFeePerBlobGas": history.blob_base_fees,
        "blobGasUsedRatio": history.blob_gas_used_ratios,
    });
    if !percentiles.is_empty() {
        answer["reward"] = json!(history.rewards);
    }
    Ok(answer)
}

fn check_percentiles(percentiles: &[f64]) -> Outcome<()> {
    if percentiles.len() > MOST_PERCENTILES {
        return Err(invalid_params(format!(
            "invalid reward percentile: over the query limit {MOST_PERCENTILES}"
        )));
    }
    if let Some(wrong) = percentiles.iter().find(|p| !(0.0..=100.0).contains(*p)) {
        return Err(server_error(format!("invalid reward percentile: {wrong:.6}")));
    }
    match percentiles.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(server_error(format!(
            "invalid reward percentile: {:.6} is not above {:.6}",
            pair[1], pair[0]
        ))),
        None => Ok(()),
    }
}

#[derive(Default)]
struct History {
    base_fees: Vec<U256>,
    gas_used_ratios: Vec<f64>,
    blob_base_fees: Vec<U256>,
    blob_gas_used_ratios: Vec<f64>,
    rewards: Vec<Vec<U256>>,
}

impl History {
    fn push(&mut self, spec: &ChainSpec, block: &StoredBlock, percentiles: &[f64]) {
        let header = &block.block.header;
        self.base_fees.push(U256::from(header.base_fee_per_gas.unwrap_or_default()));
        self.gas_used_ratios.push(ratio(header.gas_used, header.gas_limit));
        let blob_fee = types::blob_base_fee(spec, header).unwrap_or_default();
        self.blob_base_fees.push(U256::from(blob_fee));
        let most = spec.blob_params(header.timestamp).map(|params| params.max_blob_gas_per_block());
        let used = header.blob_gas_used.unwrap_or_default();
        self.blob_gas_used_ratios.push(ratio(used, most.unwrap_or_default()));
        if !percentiles.is_empty() {
            self.rewards.push(rewards(block, percentiles));
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The tips at some percentiles of the gas that a block used.
fn rewards(block: &StoredBlock, percentiles: &[f64]) -> Vec<U256> {
    let base_fee = block.block.header.base_fee_per_gas.unwrap_or_default();
    let mut before = 0;
    let mut paid: Vec<(u128, u64)> = block
        .block
        .body
        .transactions
        .iter()
        .zip(&block.receipts)
        .map(|(transaction, receipt)| {
            let gas = receipt.cumulative_gas_used() - before;
            before = receipt.cumulative_gas_used();
            (transaction.effective_tip_per_gas(base_fee).unwrap_or_default(), gas)
        })
        .collect();
    paid.sort_unstable();
    let total = block.block.header.gas_used as f64;
    let at = |percentile: &f64| {
        let threshold = (total * percentile / 100.0) as u64;
        let mut sum = 0;
        let reached = paid.iter().find(|(_, gas)| {
            sum += gas;
            sum >= threshold
        });
        U256::from(reached.or(paid.last()).map_or(0, |(tip, _)| *tip))
    };
    percentiles.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rise_within_0_and_100() {
        assert!(check_percentiles(&[0.0, 50.0, 100.0]).is_ok());
        for wrong in [&[101.0][..], &[-1.0], &[f64::NAN], &[50.0, 50.0], &[60.0, 50.0]] {
            let error = check_percentiles(wrong).unwrap_err();
            assert!(error.message().starts_with("invalid reward percentile"), "{wrong:?}");
        }
        assert!(check_percentiles(&vec![1.0; MOST_PERCENTILES + 1]).is_err());
    }
}
