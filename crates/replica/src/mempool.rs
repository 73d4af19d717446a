//! The transactions that wait, and how they follow the chain.

use alloy_primitives::{Address, TxHash, U256};
use landfall_chain::pool::{HeadInfo, Pool, PoolError, Recovered};
use landfall_chain::{Adopted, ChainReader, StoredBlock};
use landfall_evm::{BlockBuilder, PushError, TransactionError};
use landfall_types::{StateError, Time};
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;

/// The pool and the rules that it is measured by; shared by the replica, its jobs and the doors.
pub struct Mempool {
    /// The transactions that wait.
    pub pool: Mutex<Pool>,
    /// The rules of the next block, as the pool needs them. Moved under the pool's lock.
    pub next: RwLock<HeadInfo>,
}

impl Mempool {
    /// Around a pool.
    pub fn new(pool: Pool, next: HeadInfo) -> Self {
        Self { pool: Mutex::new(pool), next: RwLock::new(next) }
    }

    /// Takes a transaction whose sender is known.
    pub fn add(
        &self,
        transaction: Recovered,
        reader: &ChainReader,
    ) -> Result<landfall_chain::pool::Added, PoolError> {
        reader.senders().note(&transaction);
        let mut pool = self.pool.lock();
        // Read under the pool's lock: whoever moves the head moves both under it.
        let (next, state) = (*self.next.read(), reader.latest_state());
        pool.add(transaction, &next, &state)
    }

    /// Whether a transaction could stand in the next block.
    pub fn something_waits(&self) -> bool {
        self.pool.lock().has_executable(self.next.read().base_fee)
    }

    /// Follows the chain to a new head; the transactions that became executable.
    pub fn follow(
        &self,
        adopted: &Adopted,
        reader: &ChainReader,
        now: Time,
    ) -> Result<Vec<TxHash>, StateError> {
        let touched = Some(adopted.touched.clone());
        self.refresh(touched, transactions(&adopted.removed), reader, now)
    }

    /// Follows to another state of the same chain, of which these accounts changed (`None`: any).
    pub fn refresh(
        &self,
        touched: Option<Vec<Address>>,
        abandoned: Vec<Recovered>,
        reader: &ChainReader,
        now: Time,
    ) -> Result<Vec<TxHash>, StateError> {
        let next = next_rules(reader, now);
        let state = reader.latest_state();
        let mut pool = self.pool.lock();
        *self.next.write() = next;
        let touched = touched.unwrap_or_else(|| pool.senders());
        Ok(pool.on_head(touched, abandoned, &next, &state)?.promoted)
    }

    /// Pushes what the pool has into a block, best first. Transactions that can stand in no block
    /// are returned.
    pub fn fill(&self, builder: &mut BlockBuilder<'_>) -> Result<Vec<TxHash>, StateError> {
        let base_fee = builder.header().base_fee_per_gas.unwrap_or_default();
        let mut best = self.pool.lock().best(base_fee);
        let mut hopeless = Vec::new();
        loop {
            // The lock is held for a step only: transactions come in while the block is made.
            let candidate = best.next(&self.pool.lock());
            let Some(candidate) = candidate else { return Ok(hopeless) };
            match builder.push(&candidate.transaction, candidate.sender) {
                Ok(_) => {}
                Err(PushError::Full) => return Ok(hopeless),
                Err(PushError::State(error)) => return Err(error),
                Err(PushError::Refused(reason)) => {
                    best.skip(candidate.sender);
                    if is_hopeless(&reason) {
                        hopeless.push(candidate.hash());
                    }
                }
            }
        }
    }
}

/// Whether no later block can hold a transaction that was refused so. Nonces, funds, fees and room
/// change, and the pool follows them itself.
fn is_hopeless(reason: &TransactionError) -> bool {
    !matches!(
        reason,
        TransactionError::NonceTooLow { .. }
            | TransactionError::NonceTooHigh { .. }
            | TransactionError::InsufficientFunds { .. }
            | TransactionError::FeeBelowBaseFee { .. }
            | TransactionError::BlockGas { .. }
    )
}

/// The rules of the next block, as the pool needs them.
pub fn next_rules(reader: &ChainReader, now: Time) -> HeadInfo {
    let (spec, head) = (reader.spec(), reader.head());
    let header = head.block.block.header.inner();
    let number = header.number + 1;
    let timestamp = (now.0 / 1_000).max(header.timestamp);
    let base_fee = landfall_evm::next_base_fee(spec, header, number, timestamp, U256::ZERO);
    HeadInfo {
        chain_id: spec.chain_id,
        fork: spec.fork_at(number, timestamp, U256::ZERO),
        gas_limit: header.gas_limit,
        base_fee: base_fee.unwrap_or_default(),
    }
}

/// The transactions of abandoned blocks, to offer them again, in the order of their blocks.
fn transactions(blocks: &[Arc<StoredBlock>]) -> Vec<Recovered> {
    let of_block = |stored: &Arc<StoredBlock>| {
        let all = stored.block.body.transactions.iter().zip(&stored.senders);
        all.map(|(transaction, sender)| Recovered::new(transaction.clone(), *sender))
            .collect::<Vec<_>>()
    };
    // Highest first, but nonces must come in order.
    blocks.iter().rev().flat_map(of_block).collect()
}
