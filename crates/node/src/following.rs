//! What the pool must learn of a new head: the rules of the next block, which accounts changed,
//! and what the blocks that were left held.

use crate::clock::{Clock, wall};
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, U256};
use landfall_chain::pool::{HeadInfo, Recovered};
use landfall_chain::{Adopted, ChainReader, StoredBlock};
use std::sync::Arc;

/// The rules of the next block, as the pool needs them.
pub fn next_rules(reader: &ChainReader, clock: &Clock) -> HeadInfo {
    let (spec, head) = (reader.spec(), reader.head());
    let header = head.block.block.header.inner();
    let number = header.number + 1;
    let timestamp = (clock.now(wall()) / 1_000).max(header.timestamp);
    let base_fee = landfall_evm::next_base_fee(spec, header, number, timestamp, U256::ZERO);
    HeadInfo {
        chain_id: spec.chain_id,
        fork: spec.fork_at(number, timestamp, U256::ZERO),
        gas_limit: header.gas_limit,
        base_fee: base_fee.unwrap_or_default(),
    }
}

/// The transactions of abandoned blocks, to offer them again, in the order of their blocks.
pub fn transactions(blocks: &[Arc<StoredBlock>]) -> Vec<Recovered> {
    let of_block = |stored: &Arc<StoredBlock>| {
        let all = stored.block.body.transactions.iter().zip(&stored.senders);
        all.map(|(transaction, sender)| Recovered::new(transaction.clone(), *sender))
            .collect::<Vec<_>>()
    };
    // Highest first, but nonces must come in order.
    blocks.iter().rev().flat_map(of_block).collect()
}

/// The accounts that blocks changed; `None` if that may be any, because code ran.
pub fn touched(adopted: &Adopted) -> Option<HashSet<Address>> {
    use alloy_consensus::Transaction as _;
    let mut touched = HashSet::default();
    for stored in adopted.added.iter().chain(&adopted.removed) {
        touched.insert(stored.block.header.beneficiary);
        let withdrawals = stored.block.body.withdrawals.iter().flat_map(|w| w.iter());
        touched.extend(withdrawals.map(|withdrawal| withdrawal.address));
        let mut before = 0;
        let all = stored.block.body.transactions.iter().zip(&stored.receipts);
        for ((transaction, receipt), sender) in all.zip(&stored.senders) {
            // A transaction of the least gas has run nothing.
            if receipt.cumulative_gas_used - before != 21_000 {
                return None;
            }
            before = receipt.cumulative_gas_used;
            touched.insert(*sender);
            touched.extend(transaction.to());
        }
    }
    Some(touched)
}
