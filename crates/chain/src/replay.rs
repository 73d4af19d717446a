//! Bringing a chain up to its log: what stands behind the views' block, record by record.
//!
//! By change sets, whose roots are compared with the headers; or, to verify, by executing every
//! block again. It writes nothing to the log.

use crate::chain::{Chain, Made};
use crate::commit::{ParentState, commit};
use crate::ledger::{
    self, AdoptRecord, BlockRecord, EngineRecord, FinalRecord, PatchRecord, ReorgRecord,
    StoredBlock,
};
use crate::open::{OpenError, Progress, inconsistent};
use crate::pool::impersonated_sender;
use crate::shared::StateView;
use crate::store::{LogReader, Position, Record};
use crate::tree::{LayerId, Step};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::Decodable;
use landfall_types::StateChanges;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Brings a chain up to its log: what stands behind the base, in order.
#[derive(Default)]
pub(crate) struct Replay {
    /// Whether blocks are executed again and everything is compared, instead of trusting the
    /// change sets.
    pub execute: bool,
    pub blocks: u64,
    pub transactions: u64,
    pub patches: u64,
    pub impersonated: u64,
    /// Blocks of the log so far: a parent or a head that is not among them was never there.
    pub seen: HashSet<B256>,
    /// Whether the log is searched first for blocks that it goes back to: the views must not move
    /// beyond one before the log has gone back.
    pub looks_ahead: bool,
    /// Where the log goes back, and to which number.
    pub turns: VecDeque<(Position, u64)>,
}

impl Replay {
    /// Replays the log from a place on. False if it goes back to a block below the views'.
    pub fn run(
        &mut self,
        chain: &mut Chain,
        from: Position,
        mut progress: Option<&mut Progress>,
    ) -> Result<bool, OpenError> {
        let reader = chain.log.reader();
        if self.looks_ahead {
            self.turns = turns(&reader, from)?;
        }
        let end = reader.end();
        for record in reader.iter(from) {
            let record = record?;
            if let Some(progress) = &mut progress {
                progress(record.position.0, end.0);
            }
            match record.kind {
                ledger::BLOCK => self.block(chain, &record)?,
                ledger::PATCH => self.patch(chain, &record)?,
                ledger::ADOPT => {
                    let adopt = AdoptRecord::decode(&mut &record.payload[..]);
                    self.adopt(chain, record.position, adopt.map_err(inconsistent)?, None)?;
                }
                ledger::FINAL => {
                    let found = FinalRecord::decode(&mut &record.payload[..]);
                    let FinalRecord { adopt, epoch, proof } = found.map_err(inconsistent)?;
                    self.adopt(chain, record.position, adopt, Some((epoch, proof)))?;
                }
                ledger::ENGINE => {
                    let found = EngineRecord::decode(&mut &record.payload[..]);
                    let EngineRecord { epoch, record } = found.map_err(inconsistent)?;
                    chain.records.replayed(epoch, record);
                }
                ledger::REORG => {
                    let found = ReorgRecord::decode(&mut &record.payload[..]);
                    let found = found.map_err(inconsistent)?;
                    self.turns.pop_front();
                    if found.number < chain.shared.tree.read().base_number() {
                        return Ok(false);
                    }
                    chain.go_back(&found)?;
                }
                ledger::GENESIS | ledger::GENESIS_ACCOUNTS => {}
                other => {
                    let what = format!("a record of unknown kind {other} at {}", record.position);
                    return Err(OpenError::Inconsistent(what));
                }
            }
        }
        Ok(true)
    }

    fn block(&mut self, chain: &mut Chain, record: &Record) -> Result<(), OpenError> {
        let (stored, patch) = BlockRecord::decode_block(&record.payload).map_err(inconsistent)?;
        let hash = stored.block.hash();
        self.seen.insert(hash);
        let parent = {
            let tree = chain.shared.tree.read();
            if tree.block_layer(&hash).is_some() {
                return Ok(());
            }
            tree.state_layer(&stored.block.parent(), &patch)
        };
        let Some(parent) = parent else {
            if self.execute && !self.seen.contains(&stored.block.parent()) {
                let at = record.position;
                return Err(inconsistent(format!("block {hash} at {at}: its parent is not there")));
            }
            // A fork that was abandoned when its place was finalised.
            return Ok(());
        };
        self.blocks += 1;
        self.transactions += stored.senders.len() as u64;
        let unsigned = stored.block.body.transactions.iter().filter_map(impersonated_sender);
        self.impersonated += unsigned.count() as u64;
        let changes = BlockRecord::decode_changes(&record.payload).map_err(inconsistent)?;
        let made = if self.execute {
            executed_again(chain, parent, &stored, &changes, record.position)?
        } else {
            changed_again(chain, parent, &stored, &changes, record.position)?
        };
        let step = Step::Block { block: Arc::new(stored), position: record.position };
        chain.shared.tree.write().insert(parent, step, made.0, made.1);
        Ok(())
    }

    fn patch(&mut self, chain: &mut Chain, record: &Record) -> Result<(), OpenError> {
        let patch = PatchRecord::decode(&record.payload).map_err(inconsistent)?;
        let parent = chain.shared.tree.read().state_layer(&patch.block, &patch.below);
        self.patches += 1;
        chain.patches = chain.patches.max(patch.sequence + 1);
        let Some(parent) = parent else { return Ok(()) };
        let made = changes_on(chain, parent, &patch.changes)?;
        chain.insert_patch(parent, keccak256(&record.payload), made);
        Ok(())
    }

    fn adopt(
        &mut self,
        chain: &mut Chain,
        at: Position,
        adopt: AdoptRecord,
        proof: Option<(u64, Bytes)>,
    ) -> Result<(), OpenError> {
        let layer = chain.shared.tree.read().state_layer(&adopt.choice.head, &adopt.patch);
        let Some(layer) = layer else {
            if self.execute && !self.seen.contains(&adopt.choice.head) {
                let what = format!("the fork choice at {at} names a block that is not there");
                return Err(OpenError::Inconsistent(what));
            }
            // A verdict from before the base was final, for a branch that is gone.
            return Ok(());
        };
        if self.execute {
            chain.check_choice(&adopt.choice, layer).map_err(inconsistent)?;
        }
        chain.note_choice(adopt.choice, proof)?;
        chain.show_layer(adopt.choice, layer)?;
        let ceiling = self.turns.iter().map(|(_, number)| *number).min().unwrap_or(u64::MAX);
        if chain.flush_due() && chain.logged.0 <= ceiling {
            chain.flush()?;
        }
        Ok(())
    }
}

/// Where the log goes back, in order.
fn turns(reader: &LogReader, from: Position) -> Result<VecDeque<(Position, u64)>, OpenError> {
    let mut turns = VecDeque::new();
    for record in reader.iter(from) {
        let record = record?;
        if record.kind == ledger::REORG {
            let found = ReorgRecord::decode(&mut &record.payload[..]).map_err(inconsistent)?;
            turns.push_back((record.position, found.number));
        }
    }
    Ok(turns)
}

/// The layer of a block by its change set alone; the state root is compared.
fn changed_again(
    chain: &Chain,
    parent: LayerId,
    stored: &StoredBlock,
    changes: &StateChanges,
    position: Position,
) -> Result<Made, OpenError> {
    let made = changes_on(chain, parent, changes)?;
    let root = stored.block.header.state_root;
    if made.0.root != root {
        return Err(inconsistent(format!(
            "the change set of block {} {} at {position} gives state root {}, its header has {root}",
            stored.block.number(),
            stored.block.hash(),
            made.0.root,
        )));
    }
    Ok(made)
}

/// The layer of a block by executing it; all that is stored of it is compared.
fn executed_again(
    chain: &Chain,
    parent: LayerId,
    stored: &StoredBlock,
    changes: &StateChanges,
    position: Position,
) -> Result<Made, OpenError> {
    let wrong = |what: String| {
        let (number, hash) = (stored.block.number(), stored.block.hash());
        inconsistent(format!("block {number} {hash} at {position}: {what}"))
    };
    let (again, found, made) =
        chain.execute(parent, stored.block.clone()).map_err(|error| wrong(error.to_string()))?;
    if again.senders != stored.senders {
        return Err(wrong("the stored senders are not those of the signatures".into()));
    }
    if again.receipts != stored.receipts {
        return Err(wrong("the stored receipts are not what execution gives".into()));
    }
    if found != *changes {
        return Err(wrong("the stored change set is not what execution gives".into()));
    }
    Ok(made)
}

fn changes_on(chain: &Chain, parent: LayerId, changes: &StateChanges) -> Result<Made, OpenError> {
    let view: StateView = chain.shared.state_at(parent);
    let version = chain.shared.tree.read().at(parent).version;
    let mut trie = chain.shared.trie.lock();
    commit(&mut trie, &ParentState::new(&view), &version, changes, 2).map_err(inconsistent)
}
