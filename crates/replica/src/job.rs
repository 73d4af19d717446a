//! What takes long: jobs that the host runs on any thread, and their results.

use crate::mempool::Mempool;
use crate::signer::{Refused, Signer, seal_digest};
use crate::wire::{To, Wire};
use alloy_primitives::{B64, B256, Bytes, TxHash, U256};
use landfall_chain::{
    BuildJob, ExecuteJob, Executed, FlushDone, FlushJob, ImportError, SyncDone, SyncJob,
};
use landfall_consensus::{Body, FinalityProof, SealedHeader};
use landfall_evm::validate_commitments;
use landfall_types::{Block, NodeId, Signature, SignedVote, Vote};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Something that takes long.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Job {
    /// Execute a block.
    Execute(Execute),
    /// Make one, and search its nonce if it carries work.
    Build(Box<Build>),
    /// Make the log durable.
    Sync(SyncJob),
    /// Sign a vote.
    Sign(Sign),
    /// Find out who signed.
    Recover(Box<Recover>),
    /// Write what is final to the views.
    Flush(FlushJob),
}

/// The kinds of [`Job`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// See [`Job::Execute`].
    Execute,
    /// See [`Job::Build`].
    Build,
    /// See [`Job::Sync`].
    Sync,
    /// See [`Job::Sign`].
    Sign,
    /// See [`Job::Recover`].
    Recover,
    /// See [`Job::Flush`].
    Flush,
}

/// See [`Job::Execute`].
pub struct Execute {
    pub(crate) hash: B256,
    pub(crate) job: ExecuteJob,
}

/// See [`Job::Build`].
pub struct Build {
    pub(crate) id: u64,
    pub(crate) job: BuildJob,
    pub(crate) difficulty: Option<U256>,
    pub(crate) chain: B256,
    pub(crate) mempool: Arc<Mempool>,
    pub(crate) superseded: Arc<AtomicBool>,
}

/// See [`Job::Sign`].
pub struct Sign {
    pub(crate) epoch: u64,
    pub(crate) to: To,
    pub(crate) vote: Vote,
    pub(crate) body: Body,
    pub(crate) chain: B256,
}

/// See [`Job::Recover`].
pub struct Recover {
    pub(crate) from: NodeId,
    pub(crate) votes: Vec<SignedVote>,
    pub(crate) chain: B256,
    pub(crate) what: Unproven,
    /// Of the block, if it is one.
    pub(crate) bytes: usize,
}

/// What waits for its signers.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub(crate) enum Unproven {
    Message { epoch: u64, vote: Option<SignedVote>, body: Body },
    Proof(FinalityProof),
    Block(Block, SealedHeader),
}

/// What came of a job.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Done {
    /// Of [`Job::Execute`].
    Executed {
        /// Which block.
        hash: B256,
        /// What came of it.
        result: Result<Box<Executed>, ImportError>,
    },
    /// Of [`Job::Build`].
    Built(BuiltDone),
    /// Of [`Job::Sync`].
    Synced(SyncDone),
    /// Of [`Job::Sign`].
    Signed(SignedDone),
    /// Of [`Job::Recover`].
    Recovered(Box<RecoveredDone>),
    /// Of [`Job::Flush`].
    Flushed(FlushDone),
}

/// Of [`Job::Build`].
pub struct BuiltDone {
    pub(crate) id: u64,
    /// `None` if it was superseded while its nonce was searched.
    pub(crate) result: Option<Result<Box<Executed>, ImportError>>,
    pub(crate) hopeless: Vec<TxHash>,
}

/// Of [`Job::Sign`].
pub struct SignedDone {
    pub(crate) epoch: u64,
    pub(crate) to: To,
    pub(crate) vote: Vote,
    pub(crate) body: Body,
    pub(crate) result: Result<Signature, Refused>,
}

/// Of [`Job::Recover`].
pub struct RecoveredDone {
    pub(crate) from: NodeId,
    pub(crate) votes: Vec<SignedVote>,
    pub(crate) what: Unproven,
    pub(crate) bytes: usize,
    /// Whether every signature is that of the node it names.
    pub(crate) genuine: bool,
    /// Who sealed the block, if it is one.
    pub(crate) sealer: Option<NodeId>,
    /// Whether the block, if it is one, has the body that its header commits to.
    pub(crate) whole: bool,
}

impl Job {
    /// What kind of job it is.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::Execute(_) => JobKind::Execute,
            Self::Build(_) => JobKind::Build,
            Self::Sync(_) => JobKind::Sync,
            Self::Sign(_) => JobKind::Sign,
            Self::Recover(_) => JobKind::Recover,
            Self::Flush(_) => JobKind::Flush,
        }
    }

    /// The work that a block under construction must show.
    pub fn difficulty(&self) -> Option<U256> {
        match self {
            Self::Build(build) => build.difficulty,
            _ => None,
        }
    }

    /// Does it; on any thread.
    pub fn run(self, signer: &dyn Signer) -> Done {
        match self {
            Self::Execute(Execute { hash, job }) => {
                Done::Executed { hash, result: job.run().map(Box::new) }
            }
            Self::Build(build) => Done::Built(build.run(signer)),
            Self::Sync(job) => Done::Synced(job.run()),
            Self::Sign(Sign { epoch, to, vote, body, chain }) => {
                let result = signer.sign(&vote, chain);
                Done::Signed(SignedDone { epoch, to, vote, body, result })
            }
            Self::Recover(recover) => Done::Recovered(Box::new(recover.run(signer))),
            Self::Flush(job) => Done::Flushed(job.run()),
        }
    }
}

impl Build {
    fn run(self, signer: &dyn Signer) -> BuiltDone {
        let mut hopeless = Vec::new();
        if self.superseded.load(Relaxed) {
            return BuiltDone { id: self.id, result: None, hopeless };
        }
        let built = self.job.run(|builder| {
            hopeless = self.mempool.fill(builder)?;
            Ok(())
        });
        let result = match built {
            Ok(executed) => {
                Self::finish(executed, self.difficulty, self.chain, &self.superseded, signer)
                    .map(|executed| Ok(Box::new(executed)))
            }
            Err(error) => Some(Err(error)),
        };
        BuiltDone { id: self.id, result, hopeless }
    }

    /// Work, where the protocol is one of work, otherwise the maker's signature.
    fn finish(
        mut executed: Executed,
        difficulty: Option<U256>,
        chain: B256,
        superseded: &AtomicBool,
        signer: &dyn Signer,
    ) -> Option<Executed> {
        if difficulty.is_none() {
            let seal = signer.sign_block(executed.hash(), chain);
            executed.set_seal(Bytes::copy_from_slice(&seal.0));
            return Some(executed);
        }
        let nonce = signer.search(executed.block().header.inner(), superseded)?;
        executed.set_nonce(B64::from(nonce));
        Some(executed)
    }
}

impl Recover {
    fn run(self, signer: &dyn Signer) -> RecoveredDone {
        let genuine = self.votes.iter().all(|vote| {
            signer.recover(vote.vote.digest(self.chain), &vote.signature) == Some(vote.signer)
        });
        let (mut sealer, mut whole) = (None, true);
        if let Unproven::Block(block, _) = &self.what {
            let bytes = <[u8; 65]>::try_from(&block.seal[..]).ok().map(Signature);
            let digest = seal_digest(block.hash(), self.chain);
            sealer = bytes.and_then(|signature| signer.recover(digest, &signature));
            whole = validate_commitments(block).is_ok();
        }
        let Self { from, votes, what, bytes, .. } = self;
        RecoveredDone { from, votes, what, bytes, genuine, sealer, whole }
    }
}

/// What a replica wants done, in order.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Effect {
    /// Send it; it may be lost.
    Send {
        /// To whom.
        to: To,
        /// What.
        wire: Wire,
    },
    /// Run it, and hand the result back.
    Job(Job),
    /// A fork choice became visible: what it changed, and which transactions became executable.
    Shown {
        /// The blocks that left and joined.
        adopted: landfall_chain::Adopted,
        /// Transactions that became executable.
        promoted: Vec<TxHash>,
    },
    /// A member lied.
    Report(landfall_consensus::Evidence),
    /// A vote could not be signed, and is lost unless the engine repeats it.
    Unsigned {
        /// Which.
        vote: Vote,
        /// What is wrong with the signer.
        why: String,
    },
    /// A peer sent what no honest node sends.
    Penalise {
        /// Who.
        peer: NodeId,
        /// What was wrong.
        why: String,
    },
}
