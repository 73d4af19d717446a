//! The one writer of the chain: everything enters by [`Chain::import`], or is built here.

use crate::commit::{CommitError, ParentState, commit};
use crate::head::Head;
use crate::jobs::{Begin, TRIE_THREADS};
use crate::ledger::{self, AdoptRecord, FinalRecord, PatchRecord, StoredBlock};
use crate::reader::ChainReader;
use crate::records::Records;
use crate::shared::{Shared, StateView};
use crate::store::{Log, LogError, Position};
use crate::tree::{LayerId, Step};
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use landfall_evm::{Attributes, BlockBuilder, ExecutionError, Invalid};
use landfall_types::{
    AccountChange, Block, Change, ForkChoice, StateChanges, StateError, StateReader,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Why a block, a fork choice or a patch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The block breaks a rule: refuse it, and hold it against whoever sent it.
    #[error("invalid block: {0}")]
    Invalid(#[from] Invalid),
    /// The state root is not what execution gives.
    #[error("invalid block: state root {header} in the header, {computed} after execution")]
    StateRoot {
        /// What the header says.
        header: B256,
        /// What execution gave.
        computed: B256,
    },
    /// A signature of the block does not recover.
    #[error("invalid block: transaction {index} has an invalid signature")]
    Signature {
        /// The index of the transaction.
        index: usize,
    },
    /// Not yet: the parent is not here.
    #[error("block {0} is not here; import it first")]
    Unknown(B256),
    /// The block stands beside a finalised one: it can never be canonical. Do not ask again.
    #[error("block {0} is on a branch that finality has left behind")]
    Finalized(B256),
    /// The fork choice names blocks that are not on one branch, or moves `finalized` back.
    #[error("fork choice refused: {0}")]
    ForkChoice(String),
    /// The state could not be read: the node must stop.
    #[error(transparent)]
    State(#[from] StateError),
    /// The log could not be written: the node must stop.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl ImportError {
    /// Whether the node cannot go on: the store failed, not the block.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::State(_) | Self::Log(_))
    }
}

impl From<CommitError> for ImportError {
    fn from(error: CommitError) -> Self {
        Self::State(StateError(error.to_string()))
    }
}

impl From<ExecutionError> for ImportError {
    fn from(error: ExecutionError) -> Self {
        match error {
            ExecutionError::Invalid(invalid) => Self::Invalid(invalid),
            ExecutionError::State(error) => Self::State(error),
        }
    }
}

/// What a fork choice changed. Blocks are durable.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Blocks that left the canonical branch, highest first.
    pub removed: Vec<Arc<StoredBlock>>,
    /// Blocks that joined it, lowest first.
    pub added: Vec<Arc<StoredBlock>>,
    /// The accounts that all these blocks, and patches between them, changed; each once, in order.
    pub touched: Vec<Address>,
}

/// One change of state outside a transaction, on a development chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patch {
    /// Sets a balance in wei.
    Balance {
        /// Whose.
        address: Address,
        /// In wei.
        balance: U256,
    },
    /// Sets a nonce.
    Nonce {
        /// Whose.
        address: Address,
        /// The number of the next transaction.
        nonce: u64,
    },
    /// Sets the code.
    Code {
        /// Whose.
        address: Address,
        /// The new code; empty removes it.
        code: Bytes,
    },
    /// Sets a storage slot.
    Storage {
        /// Whose.
        address: Address,
        /// Which slot.
        slot: U256,
        /// The new value.
        value: U256,
    },
}

/// A place in the history of the state to come back to: a block, or a patch on top of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The block.
    pub block: B256,
    /// Its number.
    pub number: u64,
    patch: B256,
}

impl Mark {
    /// A block without the patches on top of it.
    pub fn of(block: B256, number: u64) -> Self {
        Self { block, number, patch: B256::ZERO }
    }
}

/// A version of the trie and what changed in flat state.
pub(crate) type Made = (crate::trie::Version, crate::tree::FlatChanges);

/// The writer. It owns the log; it starts no thread.
pub struct Chain {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    /// Number and hash of the last block that a logged fork choice made final.
    pub(crate) logged: (u64, B256),
    /// The proof that came with that choice.
    pub(crate) proof: Option<(u64, Bytes)>,
    /// Choices that are logged and not shown yet, in the order of the log.
    pub(crate) unshown: VecDeque<(Position, ForkChoice)>,
    /// Blocks that a reorganisation by hand has left, with their numbers.
    pub(crate) left: BTreeMap<B256, u64>,
    pub(crate) records: Records,
    /// One clone for each job that is out.
    pub(crate) jobs: Arc<()>,
    pub(crate) patches: u64,
    pub(crate) flushing: bool,
    /// Finalised blocks that wait before a flush is due.
    pub(crate) flush_blocks: u64,
    /// Bytes of trie nodes kept in memory.
    pub(crate) trie_bytes: usize,
}

impl Chain {
    /// A handle for reading, for any thread.
    pub fn reader(&self) -> ChainReader {
        ChainReader::new(self.shared.clone())
    }

    /// Executes a block on its parent's state, checks everything that the header claims, and
    /// appends it to the log. Readers see it when a fork choice adopts it.
    pub fn import(&mut self, block: Block) -> Result<B256, ImportError> {
        match self.begin_execute(block)? {
            Begin::Known(hash) => Ok(hash),
            Begin::Job(job) => {
                let executed = job.run()?;
                Ok(self.insert(executed)?.block.hash())
            }
        }
    }

    /// Makes a block on top of another (with the patches that stand on it, if it is the head):
    /// `fill` pushes the transactions. It enters tree and log like an imported one.
    pub fn build(
        &mut self,
        parent: B256,
        attributes: Attributes,
        fill: impl FnOnce(&mut BlockBuilder<'_>),
    ) -> Result<Arc<StoredBlock>, ImportError> {
        let executed = self.begin_build(parent, attributes)?.run(|builder| {
            fill(builder);
            Ok(())
        })?;
        self.insert(executed)
    }

    fn commit(
        &self,
        parent: LayerId,
        state: &ParentState<'_>,
        changes: &StateChanges,
    ) -> Result<Made, CommitError> {
        let version = self.shared.tree.read().at(parent).version;
        commit(&mut self.shared.trie.lock(), state, &version, changes, TRIE_THREADS)
    }

    pub(crate) fn patch_of(&self, layer: LayerId) -> B256 {
        match &self.shared.tree.read().at(layer).step {
            Step::Patch { id } => *id,
            _ => B256::ZERO,
        }
    }

    /// The block of a layer: the one that a patch stands on.
    pub(crate) fn header_of(&self, layer: LayerId) -> Result<Block, StateError> {
        let (hash, number) = {
            let tree = self.shared.tree.read();
            let found = tree.at(layer);
            if let Step::Block { block, .. } = &found.step {
                return Ok(Block {
                    header: block.block.header.clone(),
                    extension: block.block.extension.clone(),
                    body: Default::default(),
                    seal: Bytes::new(),
                });
            }
            (found.hash, found.number)
        };
        let found = self.reader().block_in(number, hash)?;
        let found = found.ok_or_else(|| StateError(format!("block {number} {hash} is missing")))?;
        Ok(found.block.clone())
    }

    /// Takes the verdict of consensus: logs it, makes everything up to it durable with one sync,
    /// and shows it to readers.
    pub fn adopt(&mut self, choice: ForkChoice) -> Result<Adopted, ImportError> {
        self.log_choice(choice, None)?;
        self.sync()?;
        self.show(choice)
    }

    /// Appends a verdict to the log, checked against the one that was logged before it. A proof is
    /// kept if it makes a block final, and dropped if that block was final already. The verdict is
    /// durable when [`Self::durable`] is beyond the position returned; then it may be shown.
    pub fn log_choice(
        &mut self,
        choice: ForkChoice,
        proof: Option<(u64, Bytes)>,
    ) -> Result<Position, ImportError> {
        let layer = self.layer_of(&choice.head)?;
        self.log_choice_at(choice, layer, proof)
    }

    fn log_choice_at(
        &mut self,
        choice: ForkChoice,
        head: LayerId,
        proof: Option<(u64, Bytes)>,
    ) -> Result<Position, ImportError> {
        self.check_choice(&choice, head)?;
        let adopt = AdoptRecord { choice, patch: self.patch_of(head) };
        let position = match &proof {
            None => self.log.append(ledger::ADOPT, &alloy_rlp::encode(adopt))?,
            Some((epoch, proof)) => {
                let record = FinalRecord { adopt, epoch: *epoch, proof: proof.clone() };
                self.log.append(ledger::FINAL, &alloy_rlp::encode(record))?
            }
        };
        self.note_choice(choice, proof)?;
        self.unshown.push_back((position, choice));
        Ok(position)
    }

    /// Takes note of a logged verdict.
    pub(crate) fn note_choice(
        &mut self,
        choice: ForkChoice,
        proof: Option<(u64, Bytes)>,
    ) -> Result<(), StateError> {
        let number = self.reader().number_of(choice.finalized)?;
        let number =
            number.ok_or_else(|| StateError(format!("block {} is missing", choice.finalized)))?;
        if number > self.logged.0 {
            self.logged = (number, choice.finalized);
            self.proof = proof;
            if let Some(proof) = &self.proof {
                self.shared.proofs.write().insert(number, proof.clone());
            }
        }
        Ok(())
    }

    /// Makes the log durable, here and now.
    pub fn sync(&mut self) -> Result<Position, LogError> {
        let durable = self.log.sync()?;
        self.records.settle(durable);
        Ok(durable)
    }

    fn layer_of(&self, head: &B256) -> Result<LayerId, ImportError> {
        let tree = self.shared.tree.read();
        if tree.at(tree.head()).hash == *head {
            return Ok(tree.head());
        }
        tree.block_layer(head).ok_or(ImportError::Unknown(*head))
    }

    fn adopt_layer(&mut self, choice: ForkChoice, head: LayerId) -> Result<Adopted, ImportError> {
        self.log_choice_at(choice, head, None)?;
        self.sync()?;
        self.unshown.pop_back();
        Ok(self.show_layer(choice, head)?)
    }

    pub(crate) fn check_choice(
        &self,
        choice: &ForkChoice,
        head: LayerId,
    ) -> Result<(), ImportError> {
        let refused = |what: String| Err(ImportError::ForkChoice(what));
        let (floor, final_hash) = self.logged;
        let finalized = self.depth_on_branch(head, &choice.finalized)?;
        let safe = self.depth_on_branch(head, &choice.safe)?;
        let (Some(finalized), Some(safe)) = (finalized, safe) else {
            return refused(format!(
                "safe {} or finalized {} is not an ancestor of head {}",
                choice.safe, choice.finalized, choice.head
            ));
        };
        if safe < finalized {
            return refused(format!("safe block {safe} is below finalized {finalized}"));
        }
        if finalized < floor {
            return refused(format!("finalized {finalized} moves back from {floor}"));
        }
        match self.number_on_branch(head, floor)? {
            Some(hash) if hash == final_hash => Ok(()),
            _ => refused(format!(
                "head {} does not descend from the finalized block {floor} {final_hash}",
                choice.head
            )),
        }
    }

    /// The number of a block if it is an ancestor of the layer or the layer's own.
    fn depth_on_branch(&self, head: LayerId, hash: &B256) -> Result<Option<u64>, StateError> {
        let number = self.reader().number_of(*hash)?;
        let Some(number) = number else { return Ok(None) };
        Ok((self.number_on_branch(head, number)? == Some(*hash)).then_some(number))
    }

    fn number_on_branch(&self, head: LayerId, number: u64) -> Result<Option<B256>, StateError> {
        self.shared.state_at(head).ancestor_hash(number)
    }

    /// Makes a fork choice visible that was logged and is durable. Those logged before it will not
    /// be shown any more; what is visible already may be shown again.
    ///
    /// # Panics
    /// If the choice is neither visible nor logged, or is not durable.
    pub fn show(&mut self, choice: ForkChoice) -> Result<Adopted, ImportError> {
        match self.unshown.iter().position(|(_, logged)| *logged == choice) {
            Some(at) => {
                let (position, _) = self.unshown[at];
                assert!(position < self.log.durable(), "{choice:?} is shown and not durable");
                self.unshown.drain(..=at);
            }
            None => {
                let now = self.shared.visible.read().clone();
                let visible =
                    ForkChoice { head: now.hash(), safe: now.safe.1, finalized: now.finalized.1 };
                assert_eq!(choice, visible, "a fork choice is logged before it is shown");
            }
        }
        let layer = self.layer_of(&choice.head)?;
        Ok(self.show_layer(choice, layer)?)
    }

    /// Makes a durable fork choice visible.
    pub(crate) fn show_layer(
        &mut self,
        choice: ForkChoice,
        layer: LayerId,
    ) -> Result<Adopted, StateError> {
        let reader = self.reader();
        let number = |hash| -> Result<(u64, B256), StateError> {
            let number = reader.number_of(hash)?;
            Ok((number.ok_or_else(|| StateError(format!("block {hash} is missing")))?, hash))
        };
        let (safe, finalized) = (number(choice.safe)?, number(choice.finalized)?);
        let adopted = {
            let mut tree = self.shared.tree.write();
            let adopted = moved(&tree, tree.head(), layer);
            tree.set_head(layer);
            adopted
        };
        let (hash, number) = {
            let tree = self.shared.tree.read();
            (tree.at(layer).hash, tree.at(layer).number)
        };
        let block = reader.block_in(number, hash)?;
        let block = block.ok_or_else(|| StateError(format!("block {hash} is missing")))?;
        let patched = !self.patch_of(layer).is_zero();
        *self.shared.visible.write() = Arc::new(Head { block, safe, finalized, layer, patched });
        Ok(adopted)
    }

    /// Changes the state on top of the head outside a transaction; durable and visible on return.
    pub fn patch(&mut self, patch: Patch) -> Result<(), ImportError> {
        let head = self.shared.tree.read().head();
        let view = self.shared.state_at(head);
        let changes = patch_changes(&view, patch)?;
        if changes.accounts.is_empty() {
            return Ok(());
        }
        let below = self.patch_of(head);
        let record = PatchRecord { block: view.hash, below, sequence: self.patches, changes };
        let bytes = record.encode();
        let made = self.commit(head, &ParentState::new(&view), &record.changes)?;
        self.log.append(ledger::PATCH, &bytes)?;
        let layer = self.insert_patch(head, keccak256(&bytes), made);
        let now = self.shared.visible.read().clone();
        let choice = ForkChoice { head: view.hash, safe: now.safe.1, finalized: now.finalized.1 };
        self.adopt_layer(choice, layer)?;
        Ok(())
    }

    pub(crate) fn insert_patch(
        &mut self,
        parent: LayerId,
        id: B256,
        (version, flat): Made,
    ) -> LayerId {
        self.patches += 1;
        self.shared.tree.write().insert(parent, Step::Patch { id }, version, flat)
    }

    /// Where the state stands now, for [`Self::revert`].
    pub fn mark(&self) -> Mark {
        let (head, block, number) = {
            let tree = self.shared.tree.read();
            let head = tree.head();
            (head, tree.at(head).hash, tree.at(head).number)
        };
        Mark { block, number, patch: self.patch_of(head) }
    }

    /// Makes a marked place the head again: a fork choice to an earlier block.
    pub fn revert(
        &mut self,
        mark: Mark,
        safe: B256,
        finalized: B256,
    ) -> Result<Adopted, ImportError> {
        let layer = self.shared.tree.read().state_layer(&mark.block, &mark.patch);
        let layer = layer.ok_or(ImportError::Unknown(mark.block))?;
        let adopted = self.adopt_layer(ForkChoice { head: mark.block, safe, finalized }, layer)?;
        self.forget_above(layer);
        Ok(adopted)
    }

    /// Drops all that stands on the head: a development chain never returns to what it reverted,
    /// and a test suite that reverts for ever must not fill the memory.
    pub(crate) fn forget_above(&mut self, head: LayerId) {
        let dropped = self.shared.tree.write().drop_above(head);
        let mut trie = self.shared.trie.lock();
        dropped.into_iter().for_each(|version| trie.abandon(version));
    }
}

/// The blocks between two heads.
fn moved(tree: &crate::tree::Tree, old: LayerId, new: LayerId) -> Adopted {
    let mut adopted = Adopted::default();
    let (mut from, mut to) = (old, new);
    let touched = &mut adopted.touched;
    let mut leave = |id: LayerId, list: &mut Vec<Arc<StoredBlock>>| {
        let layer = tree.at(id);
        touched.extend_from_slice(&layer.changes.addresses);
        if let Step::Block { block, .. } = &layer.step {
            list.push(block.clone());
        }
        layer.parent
    };
    while from != to {
        if tree.at(from).depth >= tree.at(to).depth {
            from = leave(from, &mut adopted.removed);
        } else {
            to = leave(to, &mut adopted.added);
        }
    }
    adopted.added.reverse();
    adopted.touched.sort_unstable();
    adopted.touched.dedup();
    adopted
}

fn patch_changes(view: &StateView, patch: Patch) -> Result<StateChanges, StateError> {
    let mut changes = StateChanges::default();
    let (Patch::Balance { address, .. }
    | Patch::Nonce { address, .. }
    | Patch::Code { address, .. }
    | Patch::Storage { address, .. }) = patch;
    let before = view.account(&address)?;
    let mut after = before.unwrap_or_default();
    match &patch {
        Patch::Balance { balance, .. } => after.balance = *balance,
        Patch::Nonce { nonce, .. } => after.nonce = *nonce,
        Patch::Code { code, .. } => {
            after.code_hash = keccak256(code);
            if !code.is_empty() {
                changes.codes.insert(after.code_hash, code.clone());
            }
        }
        Patch::Storage { .. } => {}
    }
    let mut storage = std::collections::BTreeMap::new();
    if let Patch::Storage { slot, value, .. } = patch {
        let old = view.storage(&address, slot)?;
        if old != value {
            storage.insert(slot, Change { before: old, after: value });
        }
    }
    // An account that holds storage stays, however empty it is otherwise: tests of contracts
    // write slots before there is code.
    let after =
        if after.is_empty() && storage.is_empty() && before.is_none() { None } else { Some(after) };
    if before != after || !storage.is_empty() {
        let account = Change { before, after };
        changes.accounts.insert(address, AccountChange { account, wiped: false, storage });
    }
    Ok(changes)
}
