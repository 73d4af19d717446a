//! Moving the finalised part of the tree into the views.
//!
//! [`Chain::begin_flush`] settles what goes, [`FlushJob::run`] writes it (on any thread, while
//! blocks go on), [`Chain::finish_flush`] lets go of the memory. Between the two ends readers are
//! answered from the tree, so they never see half a flush.

use crate::chain::Chain;
use crate::flat::{FlatAccount, slot_bytes};
use crate::index;
use crate::ledger::{StoredBlock, encode_place, encode_proof};
use crate::shared::{Shared, crown_key};
use crate::store::Position;
use crate::store::views::{Batch, Table, ViewError};
use crate::tree::{FlatChanges, LayerId, Step};
use crate::trie::{CrownRecord, Version};
use alloy_primitives::B256;
use landfall_types::StateError;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Finalised blocks that wait before a flush is due, unless a chain is opened with another number.
pub(crate) const DUE_BLOCKS: u64 = 256;
/// Estimated bytes of finalised layers that make a flush due earlier.
const DUE_BYTES: usize = 32 << 20;

/// Finalised blocks that wait before a flush is due that makes room in the trie: one by one it
/// would cost more than it frees.
const DUE_FOR_TRIE: u64 = 16;

/// The name of the checkpoint in [`Table::Meta`].
pub(crate) const CHECKPOINT: &[u8] = b"checkpoint";

/// Where the views stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub number: u64,
    pub hash: B256,
    pub state_root: B256,
    /// The record of the block.
    pub position: Position,
}

impl Checkpoint {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.number.to_be_bytes().to_vec();
        out.extend_from_slice(self.hash.as_slice());
        out.extend_from_slice(self.state_root.as_slice());
        out.extend_from_slice(&self.position.0.to_be_bytes());
        out
    }

    pub fn decode(row: &[u8]) -> Option<Self> {
        if row.len() != 80 {
            return None;
        }
        let number = |at: usize| Some(u64::from_be_bytes(row[at..at + 8].try_into().ok()?));
        Some(Self {
            number: number(0)?,
            hash: B256::from_slice(&row[8..40]),
            state_root: B256::from_slice(&row[40..72]),
            position: Position(number(72)?),
        })
    }
}

/// The number that a layer's changes belong to, its block if it is one, and the changes.
type FlushStep = (u64, Option<(Arc<StoredBlock>, Position)>, Arc<FlatChanges>);

/// A write to the views that is due.
pub struct FlushJob {
    shared: Arc<Shared>,
    steps: Vec<FlushStep>,
    crown: Vec<CrownRecord>,
    checkpoint: Checkpoint,
    /// What the replay from the checkpoint on would not find: see [`crate::records`].
    records: Batch,
    base: LayerId,
    version: Version,
}

/// A write to the views that was done.
#[must_use = "hand it to finish_flush"]
pub struct FlushDone {
    base: LayerId,
    version: Version,
    result: Result<(), ViewError>,
}

impl Chain {
    /// Whether enough is finalised to be worth a flush.
    pub fn flush_due(&self) -> bool {
        if self.flushing {
            return false;
        }
        let (number, hash) = self.shared.visible.read().finalized;
        let tree = self.shared.tree.read();
        let waiting = number.saturating_sub(tree.base_number());
        let bytes = tree.block_layer(&hash).map_or(0, |id| tree.bytes_up_to(id));
        waiting >= self.flush_blocks
            || bytes >= DUE_BYTES
            || (waiting >= DUE_FOR_TRIE && self.trie_is_full())
    }

    /// Whether the versions since the last flush make the trie half as large again as it may be.
    fn trie_is_full(&self) -> bool {
        // Whoever executes has the trie; it is looked at again after the next block.
        let trie = self.shared.trie.try_lock();
        trie.is_some_and(|trie| trie.live_bytes() > self.trie_bytes + self.trie_bytes / 2)
    }

    /// Settles what the next flush writes; `None` if nothing is finalised above the views, or a
    /// flush is under way.
    pub fn begin_flush(&mut self) -> Option<FlushJob> {
        let (number, hash) = self.shared.visible.read().finalized;
        let mut tree = self.shared.tree.write();
        let base = tree.block_layer(&hash)?;
        if self.flushing || base == tree.base() {
            return None;
        }
        tree.prune_beside(base);
        tree.begin_flush();
        let mut steps = Vec::new();
        let mut checkpoint = None;
        for id in tree.path_from_base(base) {
            let layer = tree.at(id);
            match &layer.step {
                Step::Block { block, position } => {
                    checkpoint = Some((*position, block.block.header.state_root));
                    let place = Some((block.clone(), *position));
                    steps.push((layer.number, place, layer.changes.clone()));
                }
                // A patch belongs to the block that is built on it.
                _ => steps.push((layer.number + 1, None, layer.changes.clone())),
            }
        }
        let (position, state_root) = checkpoint.expect("the path ends with the finalised block");
        let version = tree.at(base).version;
        drop(tree);
        let mut trie = self.shared.trie.lock();
        trie.finalise(&version);
        let crown = trie.crown(&version);
        drop(trie);
        self.flushing = true;
        let checkpoint = Checkpoint { number, hash, state_root, position };
        let mut records = Batch::default();
        self.records.row(&mut records);
        for (number, (epoch, proof)) in self.shared.proofs.read().range(..=number) {
            records.put(Table::Proofs, number.to_be_bytes(), encode_proof(*epoch, proof));
        }
        let shared = self.shared.clone();
        Some(FlushJob { shared, steps, crown, checkpoint, records, base, version })
    }

    /// Takes note of a flush that was written, and frees what it moved.
    pub fn finish_flush(&mut self, done: FlushDone) -> Result<(), StateError> {
        self.flushing = false;
        done.result.map_err(|error| StateError(error.to_string()))?;
        let number = {
            let mut tree = self.shared.tree.write();
            tree.rebase(done.base);
            tree.base_number()
        };
        self.shared.proofs.write().retain(|proved, _| *proved > number);
        self.left.retain(|_, left| *left > number);
        let mut trie = self.shared.trie.lock();
        trie.flushed(&done.version);
        trie.evict(self.trie_bytes);
        Ok(())
    }

    /// Writes everything finalised to the views, here and now.
    pub fn flush(&mut self) -> Result<(), StateError> {
        match self.begin_flush() {
            Some(job) => self.finish_flush(job.run()),
            None => Ok(()),
        }
    }
}

impl FlushJob {
    /// Writes the batch; it is atomic.
    pub fn run(mut self) -> FlushDone {
        let batch = self.batch();
        let result = self.shared.views.write(batch);
        FlushDone { base: self.base, version: self.version, result }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.records);
        let mut accounts: BTreeMap<B256, Option<FlatAccount>> = BTreeMap::new();
        let mut slots = BTreeMap::new();
        let mut histories = Histories::default();
        for (number, place, changes) in &self.steps {
            if let Some((block, position)) = place {
                let hash = block.block.hash();
                batch.put(Table::Numbers, number.to_be_bytes(), encode_place(&hash, *position));
                batch.put(Table::Hashes, hash.to_vec(), number.to_be_bytes());
                index::rows(&mut batch, block);
            }
            for (key, before, after) in &changes.accounts {
                accounts.insert(*key, *after);
                histories.accounts.entry((*key, *number)).or_insert(*before);
            }
            for (key, before, after) in &changes.slots {
                slots.insert(*key, *after);
                histories.slots.entry((*key, *number)).or_insert(*before);
            }
            for (hash, code) in &changes.codes {
                batch.put(Table::Codes, hash.to_vec(), code.to_vec());
            }
        }
        for (key, account) in accounts {
            put_account(&mut batch, key, account.as_ref());
        }
        for (key, value) in slots {
            put_slot(&mut batch, &key, value);
        }
        histories.rows(&mut batch);
        put_crown(&mut batch, &self.crown);
        batch.put(Table::Meta, CHECKPOINT, self.checkpoint.encode());
        batch
    }
}

/// Values before a block, by key and number; a patch and the block on it share a number, and the
/// first of them found the value that history must keep.
#[derive(Default)]
struct Histories {
    accounts: BTreeMap<(B256, u64), Option<FlatAccount>>,
    slots: BTreeMap<([u8; 64], u64), alloy_primitives::U256>,
}

impl Histories {
    fn rows(self, batch: &mut Batch) {
        for ((key, number), before) in self.accounts {
            let mut row = key.to_vec();
            row.extend_from_slice(&number.to_be_bytes());
            let value = before.map_or_else(Vec::new, |account| account.encode());
            batch.put(Table::AccountHistory, row, value);
        }
        for ((key, number), before) in self.slots {
            let mut row = key.to_vec();
            row.extend_from_slice(&number.to_be_bytes());
            batch.put(Table::SlotHistory, row, slot_bytes(before));
        }
    }
}

/// Sets or deletes an account of flat state.
pub(crate) fn put_account(batch: &mut Batch, key: B256, account: Option<&FlatAccount>) {
    match account {
        Some(account) => batch.put(Table::Accounts, key.to_vec(), account.encode()),
        None => batch.delete(Table::Accounts, key.to_vec()),
    }
}

/// Sets or deletes a slot of flat state.
pub(crate) fn put_slot(batch: &mut Batch, key: &[u8; 64], value: alloy_primitives::U256) {
    if value.is_zero() {
        batch.delete(Table::Slots, key.to_vec());
    } else {
        batch.put(Table::Slots, key.to_vec(), slot_bytes(value));
    }
}

/// Stores crown records.
pub(crate) fn put_crown(batch: &mut Batch, crown: &[CrownRecord]) {
    for CrownRecord { owner, path, record } in crown {
        batch.put(Table::Crown, crown_key(*owner, path), record.clone());
    }
}
