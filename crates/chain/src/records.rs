//! The durable state of consensus engines, kept in the chain's log.
//!
//! The newest record of an epoch wins. The views' checkpoint may stand behind it in the log, so
//! each flush carries the newest records that are durable into the views: a vote must never be
//! forgotten because the log is read from a later place.

use crate::chain::{Chain, ImportError};
use crate::ledger::{self, EngineRecord, StoredBlock};
use crate::open::{OpenError, inconsistent};
use crate::store::views::{Batch, Table, Views};
use crate::store::{LogError, Position, SyncDone, SyncJob};
use crate::tree::Step;
use alloy_primitives::Bytes;
use alloy_rlp::Decodable;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Epochs whose records are kept.
const KEPT_EPOCHS: usize = 4;
/// The name of the records in [`Table::Meta`].
const RECORDS: &[u8] = b"records";

/// The newest records by epoch.
#[derive(Default)]
pub(crate) struct Records {
    newest: BTreeMap<u64, Bytes>,
    durable: BTreeMap<u64, Bytes>,
    /// Logged and not durable yet: of an epoch at most one that a sync has on its way, and one
    /// behind it.
    pub(crate) waiting: VecDeque<(Position, u64, Bytes)>,
    /// What lies before it is durable, or on its way.
    syncing: Position,
}

impl Records {
    fn put(map: &mut BTreeMap<u64, Bytes>, epoch: u64, record: Bytes) {
        map.insert(epoch, record);
        while map.len() > KEPT_EPOCHS {
            map.pop_first();
        }
    }

    /// A record that was read from the log or the views.
    pub fn replayed(&mut self, epoch: u64, record: Bytes) {
        Self::put(&mut self.newest, epoch, record.clone());
        Self::put(&mut self.durable, epoch, record);
    }

    fn logged(&mut self, position: Position, epoch: u64, record: Bytes) {
        Self::put(&mut self.newest, epoch, record.clone());
        let on_its_way = self.syncing;
        self.waiting.retain(|(at, of, _)| *of != epoch || *at < on_its_way);
        self.waiting.push_back((position, epoch, record));
    }

    /// A sync of everything before a position begins.
    fn begin_sync(&mut self, upto: Position) {
        self.syncing = upto;
    }

    /// The log is durable up to a position.
    pub fn settle(&mut self, durable: Position) {
        self.syncing = self.syncing.max(durable);
        while let Some((position, ..)) = self.waiting.front()
            && *position < durable
        {
            let (_, epoch, record) = self.waiting.pop_front().expect("looked at above");
            Self::put(&mut self.durable, epoch, record);
        }
    }

    /// Puts the durable ones into the views.
    pub fn row(&self, batch: &mut Batch) {
        let record = |(epoch, record): (&u64, &Bytes)| EngineRecord {
            epoch: *epoch,
            record: record.clone(),
        };
        let records: Vec<EngineRecord> = self.durable.iter().map(record).collect();
        batch.put(Table::Meta, RECORDS, alloy_rlp::encode(records));
    }

    /// The newest of each epoch.
    pub fn newest(&self) -> &BTreeMap<u64, Bytes> {
        &self.newest
    }

    /// What the views hold.
    pub fn load(views: &Views) -> Result<Self, OpenError> {
        let mut records = Self::default();
        if let Some(row) = views.get(Table::Meta, RECORDS)? {
            let found = Vec::<EngineRecord>::decode(&mut &row[..]);
            for EngineRecord { epoch, record } in found.map_err(inconsistent)? {
                records.replayed(epoch, record);
            }
        }
        Ok(records)
    }
}

impl Chain {
    /// Appends an engine's durable state to the log; the newest record of an epoch wins. It is
    /// durable when [`Self::durable`] is beyond the position returned.
    pub fn log_record(&mut self, epoch: u64, record: &[u8]) -> Result<Position, ImportError> {
        let record = Bytes::copy_from_slice(record);
        let bytes = alloy_rlp::encode(EngineRecord { epoch, record: record.clone() });
        let position = self.log.append(ledger::ENGINE, &bytes)?;
        self.records.logged(position, epoch, record);
        Ok(position)
    }

    /// The newest record of each of the newest epochs; what was logged since the chain was opened
    /// may not be durable yet.
    pub fn records(&self) -> &BTreeMap<u64, Bytes> {
        self.records.newest()
    }

    /// The proof of the newest block that a logged fork choice made final, and the epoch whose
    /// committee gave it, if that choice came with one.
    pub fn finality_proof(&self) -> Option<(u64, Bytes)> {
        self.proof.clone()
    }

    /// All executed blocks that stand on the newest final one (and that one, unless the views hold
    /// it), on every branch, adopted or not, parents first.
    pub fn live_blocks(&self) -> Vec<Arc<StoredBlock>> {
        let tree = self.shared.tree.read();
        let floor = tree.block_layer(&self.logged.1).expect("what is final stays in the tree");
        let mut blocks: Vec<Arc<StoredBlock>> = tree
            .layers()
            .filter(|(id, _)| tree.descends(*id, floor))
            .filter_map(|(_, layer)| match &layer.step {
                Step::Block { block, .. } => Some(block.clone()),
                _ => None,
            })
            .collect();
        blocks.sort_by_key(|stored| (stored.block.number(), stored.block.hash()));
        blocks
    }

    /// Starts making the log durable: run the job on any thread. Blocks, records and verdicts may
    /// be logged meanwhile; they belong to the next sync.
    ///
    /// # Panics
    /// If the job before has not been finished.
    pub fn begin_sync(&mut self) -> Result<SyncJob, LogError> {
        self.records.begin_sync(self.log.end());
        self.log.begin_sync()
    }

    /// Takes note of a sync; how far the log is durable now.
    ///
    /// # Errors
    /// If the disk failed: the node must stop, and open the log anew.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<Position, LogError> {
        let durable = self.log.finish_sync(done)?;
        self.records.settle(durable);
        Ok(durable)
    }

    /// How far the log is durable.
    pub fn durable(&self) -> Position {
        self.log.durable()
    }

    /// The end of what was logged: all of it is durable when [`Self::durable`] is not below.
    pub fn end(&self) -> Position {
        self.log.content_end()
    }
}
