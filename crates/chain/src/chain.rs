//! The one writer of the chain: everything enters by [`Chain::import`], or is built here.

use crate::commit::{CommitError, ParentState, commit};
use crate::head::Head;
use crate::ledger::{self, AdoptRecord, BlockRecord, PatchRecord, StoredBlock};
use crate::pool::impersonated_sender;
use crate::reader::ChainReader;
use crate::shared::{Shared, StateView};
use crate::store::{Log, LogError};
use crate::tree::{LayerId, Step};
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, Sealed};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use landfall_evm::{BlockBuilder, ExecutionError, Invalid, NextBlock};
use landfall_types::{
    AccountChange, Block, ChainSpec, Change, ForkChoice, StateChanges, StateError, StateReader,
};
use std::sync::Arc;

/// Threads that the trie may use inside one commit.
const TRIE_THREADS: usize = 2;

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

/// What the maker of a block decides.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Who gets the fees.
    pub beneficiary: Address,
    /// Milliseconds since the Unix epoch; raised to the first that may follow the parent's.
    pub milliseconds: u64,
    /// The gas limit to reach; a block moves towards it by less than 1/1024 of its parent's.
    pub gas_limit: u64,
    /// PREVRANDAO.
    pub prev_randao: B256,
    /// At most 32 bytes.
    pub extra_data: Bytes,
    /// Paid after the transactions.
    pub withdrawals: Vec<Withdrawal>,
}

/// What a fork choice changed. Blocks are durable.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Blocks that left the canonical branch, highest first.
    pub removed: Vec<Arc<StoredBlock>>,
    /// Blocks that joined it, lowest first.
    pub added: Vec<Arc<StoredBlock>>,
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
    pub(crate) patches: u64,
    pub(crate) flushing: bool,
}

impl Chain {
    /// A handle for reading, for any thread.
    pub fn reader(&self) -> ChainReader {
        ChainReader::new(self.shared.clone())
    }

    /// Executes a block on its parent's state, checks everything that the header claims, and
    /// appends it to the log. Readers see it when a fork choice adopts it.
    pub fn import(&mut self, block: Block) -> Result<B256, ImportError> {
        let hash = block.hash();
        let parent = {
            let tree = self.shared.tree.read();
            if tree.block_layer(&hash).is_some() {
                return Ok(hash);
            }
            tree.block_layer(&block.parent())
        };
        let Some(parent) = parent else {
            return match self.shared.viewed_hash(&hash)? {
                Some(_) => Ok(hash),
                None if self.shared.viewed_hash(&block.parent())?.is_some() => {
                    Err(ImportError::Finalized(hash))
                }
                None => Err(ImportError::Unknown(block.parent())),
            };
        };
        let (stored, changes, made) = self.execute(parent, block)?;
        self.insert(parent, stored, &changes, made)?;
        Ok(hash)
    }

    /// Executes a block on a layer and checks everything that its header claims.
    pub(crate) fn execute(
        &self,
        parent: LayerId,
        block: Block,
    ) -> Result<(StoredBlock, StateChanges, Made), ImportError> {
        let senders = recover_senders(&self.shared.spec, &block)?;
        let above = self.header_of(parent)?;
        let spec = &self.shared.spec;
        landfall_evm::validate_header(
            spec,
            block.header.inner(),
            &block.extension,
            above.header.inner(),
            &above.extension,
        )?;
        landfall_evm::validate_body(spec, &block)?;
        let view = self.shared.state_at(parent);
        let state = ParentState::new(&view);
        let outcome = landfall_evm::execute(spec, &block, &senders, &state)?;
        let root = block.header.state_root;
        let made = self.commit(parent, &state, &outcome.changes)?;
        if made.0.root != root {
            self.shared.trie.lock().abandon(made.0);
            return Err(ImportError::StateRoot { header: root, computed: made.0.root });
        }
        Ok((StoredBlock { block, senders, receipts: outcome.receipts }, outcome.changes, made))
    }

    /// Makes a block on top of another (with the patches that stand on it, if it is the head):
    /// `fill` pushes the transactions. It enters tree and log like an imported one.
    pub fn build(
        &mut self,
        parent: B256,
        attributes: Attributes,
        fill: impl FnOnce(&mut BlockBuilder<'_>),
    ) -> Result<Arc<StoredBlock>, ImportError> {
        let layer = {
            let tree = self.shared.tree.read();
            if tree.at(tree.head()).hash == parent {
                tree.head()
            } else {
                tree.block_layer(&parent).ok_or(ImportError::Unknown(parent))?
            }
        };
        let above = self.header_of(layer)?;
        let view = self.shared.state_at(layer);
        let state = ParentState::new(&view);
        let next = NextBlock {
            parent: &above,
            beneficiary: attributes.beneficiary,
            milliseconds: attributes.milliseconds,
            gas_limit: attributes.gas_limit,
            prev_randao: attributes.prev_randao,
            extra_data: attributes.extra_data,
            withdrawals: attributes.withdrawals,
        };
        let mut builder = BlockBuilder::new(&self.shared.spec, next, &state)?;
        fill(&mut builder);
        let built = builder.finish()?;
        let made = self.commit(layer, &state, &built.outcome.changes)?;
        let header = Sealed::new(Header { state_root: made.0.root, ..built.header });
        let block =
            Block { header, body: built.body, extension: built.extension, seal: Bytes::new() };
        let stored =
            StoredBlock { block, senders: built.senders, receipts: built.outcome.receipts };
        self.insert(layer, stored, &built.outcome.changes, made)
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

    fn insert(
        &mut self,
        parent: LayerId,
        stored: StoredBlock,
        changes: &StateChanges,
        (version, flat): Made,
    ) -> Result<Arc<StoredBlock>, ImportError> {
        if let Some(known) = self.reader().live_block(&stored.block.hash()) {
            // The same block built again, such as an empty one after a reorganisation.
            self.shared.trie.lock().abandon(version);
            return Ok(known);
        }
        let patch = self.patch_of(parent);
        let record = BlockRecord { stored: &stored, patch, changes }.encode();
        let position = self.log.append(ledger::BLOCK, &record)?;
        let block = Arc::new(stored);
        let step = Step::Block { block: block.clone(), position };
        self.shared.tree.write().insert(parent, step, version, flat);
        Ok(block)
    }

    fn patch_of(&self, layer: LayerId) -> B256 {
        match &self.shared.tree.read().at(layer).step {
            Step::Patch { id } => *id,
            _ => B256::ZERO,
        }
    }

    /// The block of a layer: the one that a patch stands on.
    fn header_of(&self, layer: LayerId) -> Result<Block, StateError> {
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
        let layer = {
            let tree = self.shared.tree.read();
            tree.block_layer(&choice.head).ok_or(ImportError::Unknown(choice.head))?
        };
        self.adopt_layer(choice, layer)
    }

    fn adopt_layer(&mut self, choice: ForkChoice, head: LayerId) -> Result<Adopted, ImportError> {
        self.check_choice(&choice, head)?;
        let record = AdoptRecord { choice, patch: self.patch_of(head) };
        self.log.append(ledger::ADOPT, &alloy_rlp::encode(record))?;
        self.log.sync()?;
        Ok(self.show(choice, head)?)
    }

    pub(crate) fn check_choice(
        &self,
        choice: &ForkChoice,
        head: LayerId,
    ) -> Result<(), ImportError> {
        let refused = |what: String| Err(ImportError::ForkChoice(what));
        let now = self.shared.visible.read().clone();
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
        if finalized < now.finalized.0 {
            return refused(format!("finalized {finalized} moves back from {}", now.finalized.0));
        }
        match self.number_on_branch(head, now.finalized.0)? {
            Some(hash) if hash == now.finalized.1 => Ok(()),
            _ => refused(format!(
                "head {} does not descend from the finalized block {} {}",
                choice.head, now.finalized.0, now.finalized.1
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

    /// Makes a durable fork choice visible.
    pub(crate) fn show(
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
    fn forget_above(&mut self, head: LayerId) {
        let dropped = self.shared.tree.write().drop_above(head);
        let mut trie = self.shared.trie.lock();
        dropped.into_iter().for_each(|version| trie.abandon(version));
    }
}

/// The blocks between two heads.
fn moved(tree: &crate::tree::Tree, old: LayerId, new: LayerId) -> Adopted {
    let mut adopted = Adopted::default();
    let (mut from, mut to) = (old, new);
    let leave = |id: LayerId, list: &mut Vec<Arc<StoredBlock>>| {
        let layer = tree.at(id);
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
    adopted
}

fn recover_senders(spec: &ChainSpec, block: &Block) -> Result<Vec<Address>, ImportError> {
    let recover = |(index, transaction): (usize, &landfall_types::Transaction)| {
        if spec.impersonation
            && let Some(sender) = impersonated_sender(transaction)
        {
            return Ok(sender);
        }
        transaction.recover_signer().map_err(|_| ImportError::Signature { index })
    };
    block.body.transactions.iter().enumerate().map(recover).collect()
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
