//! From the chain's blocks, transactions and receipts to the objects of the interface.

use crate::errors::{Outcome, unreadable};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{
    Eip658Value, Header, Receipt as ConsensusReceipt, ReceiptEnvelope, ReceiptWithBloom,
    Transaction as _, TxReceipt,
};
use alloy_eips::Encodable2718;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{
    Block as EthBlock, BlockTransactions, Header as EthHeader, Log, Transaction as EthTransaction,
    TransactionReceipt,
};
use landfall_chain::{ChainReader, StoredBlock, pool::Recovered as PoolTransaction};
use landfall_types::{ChainSpec, Fork, Transaction};

/// A transaction as clients see it.
pub type RpcTransaction = EthTransaction<Transaction>;
/// A block as clients see it.
pub type RpcBlock = EthBlock<RpcTransaction>;
/// A receipt as clients see it.
pub type RpcReceipt = TransactionReceipt<ReceiptEnvelope<Log>>;

/// The header, with the size of the block.
pub fn header(block: &StoredBlock) -> EthHeader {
    EthHeader {
        hash: block.block.hash(),
        inner: block.block.header.inner().clone(),
        total_difficulty: None,
        size: Some(U256::from(block.block.ethereum_rlp_length())),
    }
}

/// The block with transactions or their hashes.
pub fn block(block: &StoredBlock, full: bool) -> RpcBlock {
    let body = &block.block.body;
    let transactions = if full {
        let all = (0..body.transactions.len()).map(|index| transaction(block, index));
        BlockTransactions::Full(all.collect())
    } else {
        BlockTransactions::Hashes(body.transactions.iter().map(|tx| *tx.tx_hash()).collect())
    };
    RpcBlock {
        header: header(block),
        uncles: body.ommers.iter().map(|ommer| ommer.hash_slow()).collect(),
        transactions,
        withdrawals: body.withdrawals.clone(),
    }
}

/// An ommer of a block: a header without a body.
pub fn ommer(block: &StoredBlock, index: usize) -> Option<RpcBlock> {
    let ommer = block.block.body.ommers.get(index)?.clone();
    let alone = landfall_types::Block::ethereum(ommer, Default::default());
    let size = U256::from(alone.ethereum_rlp_length());
    let mut header = EthHeader::from_sealed(alone.header);
    header.size = Some(size);
    Some(RpcBlock { header, transactions: BlockTransactions::Uncle, ..RpcBlock::default() })
}

/// One transaction of a block. The index must be within it.
pub fn transaction(block: &StoredBlock, index: usize) -> RpcTransaction {
    let header = &block.block.header;
    let inner = block.block.body.transactions[index].clone();
    RpcTransaction {
        effective_gas_price: Some(inner.effective_gas_price(header.base_fee_per_gas)),
        inner: Recovered::new_unchecked(inner, block.senders[index]),
        block_hash: Some(block.block.hash()),
        block_number: Some(header.number),
        transaction_index: Some(index as u64),
        block_timestamp: Some(header.timestamp),
    }
}

/// A transaction that waits in the pool, with the price that it would pay at a base fee.
pub fn waiting(waiting: &PoolTransaction, base_fee: Option<u64>) -> RpcTransaction {
    RpcTransaction {
        effective_gas_price: Some(waiting.transaction.effective_gas_price(base_fee)),
        inner: Recovered::new_unchecked((*waiting.transaction).clone(), waiting.sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        block_timestamp: None,
    }
}

/// The logs of a block with their places, in order; `removed` marks a block that was left.
pub fn logs(block: &StoredBlock, removed: bool) -> impl Iterator<Item = Log> + '_ {
    let mut next = 0;
    block.receipts.iter().enumerate().flat_map(move |(index, receipt)| {
        let first = next;
        next += receipt.logs().len() as u64;
        logs_of(block, index, first, removed)
    })
}

fn logs_of(
    block: &StoredBlock,
    index: usize,
    first: u64,
    removed: bool,
) -> impl Iterator<Item = Log> + '_ {
    let header = &block.block.header;
    let transaction_hash = *block.block.body.transactions[index].tx_hash();
    block.receipts[index].logs().iter().zip(first..).map(move |(log, log_index)| Log {
        inner: log.clone(),
        block_hash: Some(block.block.hash()),
        block_number: Some(header.number),
        block_timestamp: Some(header.timestamp),
        transaction_hash: Some(transaction_hash),
        transaction_index: Some(index as u64),
        log_index: Some(log_index),
        removed,
    })
}

/// The receipts of one block.
pub struct Receipts<'a> {
    spec: &'a ChainSpec,
    block: &'a StoredBlock,
    /// The state roots after each transaction: before Byzantium, while they can be computed.
    roots: Option<Vec<B256>>,
}

impl<'a> Receipts<'a> {
    /// Reads what is not stored with the block.
    pub fn new(chain: &'a ChainReader, block: &'a StoredBlock) -> Outcome<Self> {
        let (spec, header) = (chain.spec(), &block.block.header);
        let byzantium =
            spec.is_active(Fork::Byzantium, header.number, header.timestamp, header.difficulty);
        let roots = match byzantium {
            true => None,
            false => chain.post_states(block).map_err(unreadable)?,
        };
        Ok(Self { spec, block, roots })
    }

    /// The receipt of one transaction. The index must be within the block.
    pub fn at(&self, index: usize) -> RpcReceipt {
        let first_log = self.block.receipts[..index].iter().map(|r| r.logs().len() as u64).sum();
        self.after(index, first_log)
    }

    /// All receipts, in order.
    pub fn all(&self) -> Vec<RpcReceipt> {
        let mut first_log = 0;
        (0..self.block.receipts.len())
            .map(|index| {
                let receipt = self.after(index, first_log);
                first_log += self.block.receipts[index].logs().len() as u64;
                receipt
            })
            .collect()
    }

    /// All receipts in the encoding that the receipts root is made from.
    pub fn raw(&self) -> Vec<Bytes> {
        let logs = self.block.receipts.iter().map(|receipt| receipt.logs().to_vec());
        logs.enumerate()
            .map(|(index, logs)| self.envelope(index, logs).encoded_2718().into())
            .collect()
    }

    fn after(&self, index: usize, first_log: u64) -> RpcReceipt {
        let block = self.block;
        let header = &block.block.header;
        let transaction = &block.block.body.transactions[index];
        let before = match index.checked_sub(1) {
            Some(previous) => block.receipts[previous].cumulative_gas_used(),
            None => 0,
        };
        let from = block.senders[index];
        let created = matches!(transaction.kind(), TxKind::Create);
        let blob_gas_used = transaction.blob_gas_used();
        RpcReceipt {
            inner: self.envelope(index, logs_of(block, index, first_log, false).collect()),
            transaction_hash: *transaction.tx_hash(),
            transaction_index: Some(index as u64),
            block_hash: Some(block.block.hash()),
            block_number: Some(header.number),
            gas_used: block.receipts[index].cumulative_gas_used() - before,
            effective_gas_price: transaction.effective_gas_price(header.base_fee_per_gas),
            blob_gas_used,
            blob_gas_price: blob_gas_used.and_then(|_| blob_base_fee(self.spec, header)),
            from,
            to: transaction.to(),
            contract_address: created.then(|| from.create(transaction.nonce())),
        }
    }

    /// With the bloom, and before Byzantium with the state root instead of a status.
    fn envelope<L>(&self, index: usize, logs: Vec<L>) -> ReceiptEnvelope<L> {
        let stored = &self.block.receipts[index];
        let status = match self.roots.as_ref().and_then(|roots| roots.get(index)) {
            Some(root) => Eip658Value::PostState(*root),
            None => stored.status_or_post_state(),
        };
        let cumulative_gas_used = stored.cumulative_gas_used();
        let receipt = ConsensusReceipt { status, cumulative_gas_used, logs };
        let with_bloom = ReceiptWithBloom { receipt, logs_bloom: stored.bloom() };
        ReceiptEnvelope::from_typed(stored.tx_type, with_bloom)
    }
}

/// The price of blob gas in a block; `None` before Cancun.
pub fn blob_base_fee(spec: &ChainSpec, header: &Header) -> Option<u128> {
    let params = spec.blob_params(header.timestamp)?;
    Some(params.calc_blob_fee(header.excess_blob_gas?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::{SignableTransaction, TxLegacy, TxType};
    use alloy_primitives::{Address, Log as PlainLog, LogData, Signature};
    use landfall_types::{Block, Body, Receipt};

    fn block_with_logs(counts: &[usize]) -> StoredBlock {
        let signature = Signature::test_signature();
        let log = PlainLog {
            address: Address::repeat_byte(1),
            data: LogData::new_unchecked(vec![B256::ZERO], Bytes::new()),
        };
        let transactions = (0..counts.len() as u64)
            .map(|nonce| TxLegacy { nonce, ..TxLegacy::default() }.into_signed(signature).into())
            .collect();
        let receipts = counts
            .iter()
            .zip(1..)
            .map(|(count, place)| Receipt {
                tx_type: TxType::Legacy,
                success: true,
                cumulative_gas_used: place * 21_000,
                logs: vec![log.clone(); *count],
            })
            .collect();
        StoredBlock {
            block: Block::ethereum(Header::default(), Body { transactions, ..Body::default() }),
            senders: vec![Address::ZERO; counts.len()],
            receipts,
        }
    }

    #[test]
    fn log_indices_run_through_the_block_in_every_view() {
        let block = block_with_logs(&[2, 0, 3]);
        let indices: Vec<_> = logs(&block, false).map(|log| log.log_index.unwrap()).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        let spec = ChainSpec::new(Default::default());
        let receipts = Receipts { spec: &spec, block: &block, roots: None };
        let all = receipts.all();
        for (index, expected) in all.iter().enumerate() {
            assert_eq!(&receipts.at(index), expected);
            assert_eq!(expected.gas_used, 21_000);
        }
        assert_eq!(all[2].inner.logs()[0].log_index, Some(2));
    }
}
