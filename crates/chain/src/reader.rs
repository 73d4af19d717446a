//! Reading the chain from any thread: what is durable, and nothing else.

use crate::head::Head;
use crate::index;
use crate::ledger::{StoredBlock, decode_proof, decode_u64};
use crate::post_state;
use crate::proofs::{self, AccountProof, ProofError};
use crate::senders::Senders;
use crate::shared::{Shared, StateView, unreadable};
use crate::store::views::Table;
use crate::tree::{LayerId, Step, Tree};
use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, Bytes, TxHash};
use landfall_types::{ChainSpec, StateError, StateReader};
use std::ops::Bound;
use std::sync::Arc;

/// A cheap handle on the chain.
#[derive(Clone)]
pub struct ChainReader {
    shared: Arc<Shared>,
}

/// Number and index of a transaction.
pub type TransactionPlace = (u64, u32);

impl ChainReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The rules of the chain.
    pub fn spec(&self) -> &ChainSpec {
        &self.shared.spec
    }

    /// The hash of block 0.
    pub fn genesis_hash(&self) -> B256 {
        self.shared.genesis_hash
    }

    /// What is known of who sent which transaction: whoever recovers a signature notes it there.
    pub fn senders(&self) -> &Senders {
        &self.shared.senders
    }

    /// The present: newest, safe and finalised block.
    pub fn head(&self) -> Arc<Head> {
        self.shared.visible.read().clone()
    }

    /// The hash of the canonical block at a number.
    pub fn hash_at(&self, number: u64) -> Result<Option<B256>, StateError> {
        if number > self.head().number() {
            return Ok(None);
        }
        let live = {
            let tree = self.shared.tree.read();
            tree.canonical(number).map(|id| tree.at(id).hash)
        };
        match live {
            Some(hash) => Ok(Some(hash)),
            None => Ok(self.shared.viewed_number(number)?.map(|(hash, _)| hash)),
        }
    }

    /// The number of a block, canonical or on a live fork.
    pub fn number_of(&self, hash: B256) -> Result<Option<u64>, StateError> {
        let live = {
            let tree = self.shared.tree.read();
            tree.block_layer(&hash).map(|id| tree.at(id).number)
        };
        match live {
            Some(number) => Ok(Some(number)),
            None => self.shared.viewed_hash(&hash),
        }
    }

    /// A block that is known to have this number; it may not be durable yet.
    pub(crate) fn block_in(
        &self,
        number: u64,
        hash: B256,
    ) -> Result<Option<Arc<StoredBlock>>, StateError> {
        if let Some(block) = self.live_block(&hash) {
            return Ok(Some(block));
        }
        match self.shared.viewed_number(number)? {
            Some((found, position)) if found == hash => self.shared.read_block(position).map(Some),
            _ => Ok(None),
        }
    }

    pub(crate) fn live_block(&self, hash: &B256) -> Option<Arc<StoredBlock>> {
        let tree = self.shared.tree.read();
        match &tree.at(tree.block_layer(hash)?).step {
            Step::Block { block, .. } => Some(block.clone()),
            _ => None,
        }
    }

    /// Whether a layer's block is durable: a block just built is not, until it is adopted.
    fn is_durable(&self, tree: &Tree, layer: LayerId) -> bool {
        match &tree.at(layer).step {
            Step::Block { position, .. } => *position < self.shared.log.durable(),
            _ => true,
        }
    }

    /// A block by its hash, canonical or on a live fork.
    pub fn block(&self, hash: B256) -> Result<Option<Arc<StoredBlock>>, StateError> {
        let shown = {
            let tree = self.shared.tree.read();
            tree.block_layer(&hash).is_none_or(|id| self.is_durable(&tree, id))
        };
        if !shown {
            return Ok(None);
        }
        match self.number_of(hash)? {
            Some(number) => self.block_in(number, hash),
            None => Ok(None),
        }
    }

    /// The canonical block at a number.
    pub fn block_at(&self, number: u64) -> Result<Option<Arc<StoredBlock>>, StateError> {
        match self.hash_at(number)? {
            Some(hash) => self.block_in(number, hash),
            None => Ok(None),
        }
    }

    /// The number of block 0 of this chain.
    pub fn genesis_number(&self) -> u64 {
        self.shared.genesis_number
    }

    /// The lowest finality proof for a canonical block at or above a number: the number, the
    /// epoch whose committee gave it, and the proof as consensus encodes it.
    pub fn proof_at_or_above(&self, number: u64) -> Result<Option<(u64, u64, Bytes)>, StateError> {
        let top = self.head().finalized.0;
        // Memory first: a flush that ends in between moves proofs from here to the views.
        let live = {
            let proofs = self.shared.proofs.read();
            let found = proofs.range(number..).next().filter(|(proved, _)| **proved <= top);
            found.map(|(proved, (epoch, proof))| (*proved, *epoch, proof.clone()))
        };
        let start = number.to_be_bytes();
        let from = Bound::Included(&start[..]);
        let rows = self.shared.views.scan(Table::Proofs, &[], from, 1).map_err(unreadable)?;
        let Some((key, row)) = rows.first() else { return Ok(live) };
        let (epoch, proof) = decode_proof(row).map_err(unreadable)?;
        Ok(Some((decode_u64(key).map_err(unreadable)?, epoch, proof)))
    }

    /// Whether a block is on the branch of the head.
    pub fn is_canonical(&self, hash: B256) -> Result<bool, StateError> {
        match self.number_of(hash)? {
            Some(number) => Ok(self.hash_at(number)? == Some(hash)),
            None => Ok(false),
        }
    }

    /// A transaction of the canonical branch: its block and its index there.
    pub fn transaction(
        &self,
        hash: TxHash,
    ) -> Result<Option<(Arc<StoredBlock>, usize)>, StateError> {
        let live = {
            let tree = self.shared.tree.read();
            tree.transaction(&hash).and_then(|(id, index)| match &tree.at(id).step {
                Step::Block { block, .. } => Some((block.clone(), index)),
                _ => None,
            })
        };
        let place = match live {
            Some((block, index)) => return Ok(Some((block, index as usize))),
            None => {
                self.shared.views.get(Table::Transactions, hash.as_slice()).map_err(unreadable)?
            }
        };
        let Some(row) = place else { return Ok(None) };
        let (number, index) = index::decode_transaction(&row)?;
        Ok(self.block_at(number)?.map(|block| (block, index as usize)))
    }

    /// The state after a block: any canonical height, or a live fork.
    pub fn state(&self, hash: B256) -> Result<StateView, StateError> {
        let head = self.head();
        if head.hash() == hash {
            return Ok(self.latest_state());
        }
        let number = self
            .number_of(hash)?
            .ok_or_else(|| StateError(format!("block {hash} is not on this chain")))?;
        let layer = self.shared.tree.read().block_layer(&hash);
        Ok(StateView { shared: self.shared.clone(), layer, number, hash, patched: false })
    }

    /// The state that `latest` means: after the head, with the patches on top of it.
    pub fn latest_state(&self) -> StateView {
        let head = self.head();
        StateView {
            shared: self.shared.clone(),
            layer: Some(head.layer),
            number: head.number(),
            hash: head.hash(),
            patched: head.patched,
        }
    }

    /// The state root after each transaction of a block, as receipts held it before Byzantium;
    /// `None` for a block so old that the trie of its parent is no longer kept.
    pub fn post_states(&self, block: &StoredBlock) -> Result<Option<Vec<B256>>, StateError> {
        post_state::post_states(&self.shared, block)
    }

    /// Proves an account and some of its slots in the state after a block.
    pub fn prove(
        &self,
        hash: B256,
        address: Address,
        slots: &[B256],
    ) -> Result<AccountProof, ProofError> {
        proofs::prove(&self.shared, &self.state(hash)?, address, slots)
    }

    /// Canonical blocks, ascending, that may hold a matching log between two numbers (both
    /// inclusive). An empty list matches anything, as in `eth_getLogs`.
    pub fn log_blocks(
        &self,
        from: u64,
        to: u64,
        addresses: &[Address],
        topics: &[Vec<B256>],
    ) -> Result<Vec<u64>, StateError> {
        let to = to.min(self.head().number());
        if from > to {
            return Ok(Vec::new());
        }
        let base = self.shared.tree.read().base_number();
        let mut found = index::log_blocks(&self.shared.views, from, to, addresses, topics)?;
        // Blocks that were flushed meanwhile are in both places; the head's branch is in memory.
        found.retain(|number| *number <= base);
        found.extend(from.max(base + 1)..=to);
        Ok(found)
    }

    /// Transactions in which an address is sender, recipient or created contract: newest first
    /// below the block `before`, or oldest first above the block `after`; at most `limit`, and
    /// then as many more as the last block holds.
    pub fn appearances(
        &self,
        address: Address,
        before: Option<u64>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<TransactionPlace>, StateError> {
        let base = self.shared.tree.read().base_number();
        let head = self.head().number();
        let mut live = Vec::new();
        for number in base + 1..=head {
            if before.is_some_and(|before| number >= before)
                || after.is_some_and(|after| number <= after)
            {
                continue;
            }
            if let Some(block) = self.block_at(number)? {
                live.extend(index::appearances_in(&block, address).map(|index| (number, index)));
            }
        }
        let mut found;
        if after.is_some() {
            found = index::appearances(&self.shared.views, address, before, after, limit)?;
            found.retain(|(number, _)| *number <= base);
            found.extend(live);
        } else {
            live.reverse();
            found = live;
            let viewed = index::appearances(&self.shared.views, address, before, None, limit)?;
            found.extend(viewed.into_iter().filter(|(number, _)| *number <= base));
        }
        if let Some(last) = found.get(limit.saturating_sub(1)).map(|place| place.0) {
            let end = limit + found[limit..].iter().take_while(|place| place.0 == last).count();
            found.truncate(end);
        }
        Ok(found)
    }

    /// Who created a contract, and in which transaction.
    pub fn creator(&self, contract: Address) -> Result<Option<(TxHash, Address)>, StateError> {
        let row =
            self.shared.views.get(Table::Creators, contract.as_slice()).map_err(unreadable)?;
        if let Some(row) = row {
            return index::decode_creator(&row).map(Some);
        }
        let base = self.shared.tree.read().base_number();
        for number in base + 1..=self.head().number() {
            let Some(block) = self.block_at(number)? else { continue };
            let created = index::creations_in(&block).find(|(address, ..)| *address == contract);
            if let Some((_, creator, hash)) = created {
                return Ok(Some((hash, creator)));
            }
        }
        Ok(None)
    }

    /// The transaction that a sender sent with a nonce.
    pub fn transaction_by_nonce(
        &self,
        sender: Address,
        nonce: u64,
    ) -> Result<Option<TxHash>, StateError> {
        let latest = self.latest_state();
        if latest.account(&sender)?.is_none_or(|account| account.nonce <= nonce) {
            return Ok(None);
        }
        // The nonce only grows: the first block after which it is above `nonce` holds it.
        let (mut low, mut high) = (self.shared.genesis_number, self.head().number());
        while low < high {
            let middle = low + (high - low) / 2;
            let hash = self.hash_at(middle)?.ok_or_else(|| unreadable("a block is missing"))?;
            let account = self.state(hash)?.account(&sender)?;
            if account.is_some_and(|account| account.nonce > nonce) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let Some(block) = self.block_at(low)? else { return Ok(None) };
        let sent = block.block.body.transactions.iter().zip(&block.senders);
        for (transaction, from) in sent {
            if *from == sender && transaction.nonce() == nonce {
                return Ok(Some(*transaction.tx_hash()));
            }
        }
        Ok(None)
    }

    /// Rows of each view, estimated.
    pub fn view_sizes(&self) -> Vec<(&'static str, usize)> {
        self.shared.views.sizes()
    }

    /// Number of the newest block whose state is in the views.
    pub fn flushed(&self) -> u64 {
        self.shared.tree.read().base_number()
    }

    /// Bytes of the views' rows in memory: those that are not written in order yet, and those that are
    /// kept for reading.
    pub fn views_memory(&self) -> (u64, u64) {
        self.shared.views.memory()
    }

    /// Bytes of the state trie's nodes in memory, with room that is free for new ones.
    pub fn trie_bytes(&self) -> usize {
        self.shared.trie.lock().bytes()
    }
}
