//! Executing and building blocks beside the writer: jobs for any thread.
//!
//! [`Chain::begin_execute`] and [`Chain::begin_build`] settle what a job stands on; it runs
//! anywhere, while the chain goes on; [`Chain::insert`] puts what came of it into tree and log.
//!
//! A job holds nothing up: finality, a flush and a revert go on beside it. If they let go of what it
//! stands on, it ends as [`ImportError::Finalized`], never with a state that is half another's:
//! whatever it found wrong by then may be the fault of what it read, and is not the block's.
//! What is dropped gives its version of the trie back.

use crate::chain::{Chain, ImportError, Made};
use crate::commit::{ParentState, commit};
use crate::ledger::{self, BlockRecord, StoredBlock};
use crate::pool::impersonated_sender;
use crate::shared::{Shared, StateView};
use crate::tree::{LayerId, Step};
use crate::trie::Version;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{Address, B64, B256, Bytes};
use landfall_evm::{Attributes, BlockBuilder};
use landfall_types::{Block, StateChanges, StateError, Transaction};
use std::sync::Arc;

/// Threads that the trie may use inside one commit.
pub(crate) const TRIE_THREADS: usize = 2;

/// What is to be done with a block.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Begin {
    /// Nothing: it is here.
    Known(B256),
    /// Execute it.
    Job(ExecuteJob),
}

/// The place that a job stands on.
struct Stand {
    shared: Arc<Shared>,
    layer: LayerId,
    version: Version,
    /// The parent's header and extension.
    parent: Block,
    view: StateView,
    out: Out,
}

/// Counted by [`Chain::jobs_out`] for as long as it lives.
#[derive(Clone)]
struct Out(#[expect(dead_code, reason = "it is counted, not read")] Arc<()>);

/// A block to execute.
pub struct ExecuteJob {
    stand: Stand,
    block: Block,
}

/// A block to make.
pub struct BuildJob {
    stand: Stand,
    attributes: Attributes,
}

/// An executed block with its new version of the trie: for [`Chain::insert`], or to drop.
pub struct Executed {
    shared: Arc<Shared>,
    parent: LayerId,
    stored: Option<StoredBlock>,
    changes: StateChanges,
    made: Option<Made>,
    _out: Out,
}

impl Chain {
    /// What to do with a block.
    ///
    /// # Errors
    /// [`ImportError::Unknown`]: not yet, its parent is not here. [`ImportError::Finalized`]: never.
    pub fn begin_execute(&mut self, block: Block) -> Result<Begin, ImportError> {
        let hash = block.hash();
        let parent = {
            let tree = self.shared.tree.read();
            if tree.block_layer(&hash).is_some() {
                return Ok(Begin::Known(hash));
            }
            tree.block_layer(&block.parent())
        };
        let Some(parent) = parent else {
            return match self.shared.viewed_hash(&hash)? {
                Some(_) => Ok(Begin::Known(hash)),
                None if self.shared.viewed_hash(&block.parent())?.is_some() => {
                    Err(ImportError::Finalized(hash))
                }
                None => Err(ImportError::Unknown(block.parent())),
            };
        };
        if self.left.contains_key(&hash) {
            return Err(ImportError::Finalized(hash));
        }
        Ok(Begin::Job(ExecuteJob { stand: self.stand(parent)?, block }))
    }

    /// A job that makes a block on top of another (with the patches that stand on it, if it is the
    /// head).
    ///
    /// # Errors
    /// [`ImportError::Unknown`] if the parent is not in the tree.
    pub fn begin_build(
        &mut self,
        parent: B256,
        attributes: Attributes,
    ) -> Result<BuildJob, ImportError> {
        let layer = {
            let tree = self.shared.tree.read();
            if tree.at(tree.head()).hash == parent {
                tree.head()
            } else {
                tree.block_layer(&parent).ok_or(ImportError::Unknown(parent))?
            }
        };
        Ok(BuildJob { stand: self.stand(layer)?, attributes })
    }

    /// Puts an executed block into tree and log, if it is not there. It is durable with the next
    /// sync; readers see it when a fork choice adopts it.
    ///
    /// # Errors
    /// [`ImportError::Finalized`] if finality, or a revert, left its parent behind meanwhile.
    pub fn insert(&mut self, mut executed: Executed) -> Result<Arc<StoredBlock>, ImportError> {
        let stored = executed.stored.take().expect("it is taken once");
        let hash = stored.block.hash();
        if let Some(known) = self.reader().block_in(stored.block.number(), hash)? {
            // Made twice: the same block came again, or an empty one after a reorganisation.
            return Ok(known);
        }
        let parent = executed.parent;
        let (version, _) = executed.made.as_ref().expect("it is taken once");
        let live = self.shared.tree.read().layer(parent).is_some();
        if !live || !self.shared.trie.lock().holds(version) {
            return Err(ImportError::Finalized(hash));
        }
        let patch = self.patch_of(parent);
        let changes = &executed.changes;
        let record = BlockRecord { stored: &stored, patch, changes }.encode();
        let position = self.log.append(ledger::BLOCK, &record)?;
        let (version, flat) = executed.made.take().expect("looked at above");
        let block = Arc::new(stored);
        let step = Step::Block { block: block.clone(), position };
        self.shared.tree.write().insert(parent, step, version, flat);
        Ok(block)
    }

    /// Jobs that have begun, and executed blocks that were neither inserted nor dropped.
    pub fn jobs_out(&self) -> usize {
        Arc::strong_count(&self.jobs) - 1
    }

    fn stand(&self, layer: LayerId) -> Result<Stand, StateError> {
        Ok(Stand {
            shared: self.shared.clone(),
            layer,
            version: self.shared.tree.read().at(layer).version,
            parent: self.header_of(layer)?,
            view: self.shared.state_at(layer),
            out: Out(self.jobs.clone()),
        })
    }

    /// Executes a block on a layer and checks everything that its header claims.
    pub(crate) fn execute(
        &self,
        parent: LayerId,
        block: Block,
    ) -> Result<(StoredBlock, StateChanges, Made), ImportError> {
        let job = ExecuteJob { stand: self.stand(parent)?, block };
        let mut executed = job.run()?;
        let stored = executed.stored.take().expect("just made");
        let changes = std::mem::take(&mut executed.changes);
        Ok((stored, changes, executed.made.take().expect("just made")))
    }
}

impl Stand {
    /// Commits changes on the parent's version, unless finality has left it behind.
    fn commit(
        &self,
        state: &ParentState<'_>,
        changes: &StateChanges,
        hash: B256,
    ) -> Result<Made, ImportError> {
        let mut trie = self.shared.trie.lock();
        if !trie.holds(&self.version) {
            return Err(ImportError::Finalized(hash));
        }
        Ok(commit(&mut trie, state, &self.version, changes, TRIE_THREADS)?)
    }

    /// An error of a job whose parent is gone: neither the store failed nor is the block invalid.
    fn explain(&self, error: ImportError, hash: B256) -> ImportError {
        let live = self.shared.tree.read().layer(self.layer).is_some();
        if live { error } else { ImportError::Finalized(hash) }
    }
}

impl ExecuteJob {
    /// Executes the block and checks everything that its header claims; on any thread. The trie is
    /// locked while the new root is computed, so jobs on one chain share that part of the work.
    pub fn run(self) -> Result<Executed, ImportError> {
        let hash = self.block.hash();
        let Self { stand, block } = self;
        Self::execute(&stand, block, hash).map_err(|error| stand.explain(error, hash))
    }

    fn execute(stand: &Stand, block: Block, hash: B256) -> Result<Executed, ImportError> {
        let spec = &stand.shared.spec;
        let senders = recover_senders(&stand.shared, &block)?;
        let above = &stand.parent;
        landfall_evm::validate_header(
            spec,
            block.header.inner(),
            &block.extension,
            above.header.inner(),
            &above.extension,
        )?;
        landfall_evm::validate_body(spec, &block)?;
        let state = ParentState::new(&stand.view);
        let outcome = landfall_evm::execute(spec, &block, &senders, &state)?;
        let made = stand.commit(&state, &outcome.changes, hash)?;
        let (header, computed) = (block.header.state_root, made.0.root);
        let stored = StoredBlock { block, senders, receipts: outcome.receipts };
        let executed = Executed {
            shared: stand.shared.clone(),
            parent: stand.layer,
            stored: Some(stored),
            changes: outcome.changes,
            made: Some(made),
            _out: stand.out.clone(),
        };
        if header != computed {
            return Err(ImportError::StateRoot { header, computed });
        }
        Ok(executed)
    }
}

impl BuildJob {
    /// Makes the block: `fill` pushes the transactions; on any thread.
    ///
    /// # Errors
    /// [`ImportError::Finalized`] with the parent's hash if the parent was left behind meanwhile.
    pub fn run(
        self,
        fill: impl FnOnce(&mut BlockBuilder<'_>) -> Result<(), StateError>,
    ) -> Result<Executed, ImportError> {
        let Self { stand, attributes } = self;
        let parent = stand.parent.hash();
        Self::build(&stand, attributes, fill).map_err(|error| stand.explain(error, parent))
    }

    fn build(
        stand: &Stand,
        attributes: Attributes,
        fill: impl FnOnce(&mut BlockBuilder<'_>) -> Result<(), StateError>,
    ) -> Result<Executed, ImportError> {
        let state = ParentState::new(&stand.view);
        let spec = &stand.shared.spec;
        let mut builder = BlockBuilder::new(spec, &stand.parent, attributes, &state)?;
        fill(&mut builder)?;
        let built = builder.finish()?;
        let made = stand.commit(&state, &built.outcome.changes, stand.parent.hash())?;
        let header = Sealed::new(Header { state_root: made.0.root, ..built.header });
        let block =
            Block { header, body: built.body, extension: built.extension, seal: Bytes::new() };
        let stored =
            StoredBlock { block, senders: built.senders, receipts: built.outcome.receipts };
        Ok(Executed {
            shared: stand.shared.clone(),
            parent: stand.layer,
            stored: Some(stored),
            changes: built.outcome.changes,
            made: Some(made),
            _out: stand.out.clone(),
        })
    }
}

impl Executed {
    /// The block.
    pub fn block(&self) -> &Block {
        &self.stored.as_ref().expect("it is here until inserted").block
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.block().hash()
    }

    /// Gives the block the nonce that proves its work: it gets another hash, and nothing that
    /// execution saw changes.
    pub fn set_nonce(&mut self, nonce: B64) {
        let stored = self.stored.as_mut().expect("it is here until inserted");
        let header = Header { nonce, ..stored.block.header.inner().clone() };
        stored.block.header = Sealed::new(header);
    }

    /// Gives the block its seal, which is outside the hash.
    pub fn set_seal(&mut self, seal: Bytes) {
        self.stored.as_mut().expect("it is here until inserted").block.seal = seal;
    }
}

impl Drop for Executed {
    fn drop(&mut self) {
        if let Some((version, _)) = self.made.take() {
            self.shared.trie.lock().abandon(version);
        }
    }
}

fn recover_senders(shared: &Shared, block: &Block) -> Result<Vec<Address>, ImportError> {
    let recover = |(index, transaction): (usize, &Transaction)| {
        if shared.spec.impersonation
            && let Some(sender) = impersonated_sender(transaction)
        {
            return Ok(sender);
        }
        let hash = transaction.tx_hash();
        if let Some(sender) = shared.senders.of(hash) {
            return Ok(sender);
        }
        let sender = transaction.recover_signer();
        let sender = sender.map_err(|_| ImportError::Signature { index })?;
        shared.senders.insert(*hash, sender);
        Ok(sender)
    };
    block.body.transactions.iter().enumerate().map(recover).collect()
}
