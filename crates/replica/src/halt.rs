//! Why a node stops, in words for the person who must act.

use alloy_primitives::B256;
use landfall_chain::ImportError;
use landfall_types::Height;

/// The node cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(String),
    /// A quorum finalised a block that is invalid here.
    #[error(
        "block {height} {hash} is final by a valid proof, but invalid here: {why}; this node or \
         the quorum runs other software or other rules: compare versions and genesis files"
    )]
    Divergence {
        /// Its height, as the proof says.
        height: Height,
        /// The block.
        hash: B256,
        /// What is wrong with it here.
        why: String,
    },
    /// Two valid proofs for one height: a third of the weight lied, or, in a protocol that only
    /// tolerates crashes, one member.
    #[error(
        "two blocks are final at height {height}: {ours} here, and {theirs} by a valid proof; \
         members lied: see the evidence in the log, and agree with the other operators on a branch"
    )]
    ConflictingProofs {
        /// Where.
        height: Height,
        /// The block that is final here.
        ours: B256,
        /// The other.
        theirs: B256,
    },
    /// Proof of work: a branch with more work contradicts what was taken for final.
    #[error(
        "the branch of {rival} has more work than that of {ours} and leaves it at {ancestor}, below \
         what was taken for final; nothing is lost. If the rival is the chain to follow, stop this \
         node, run `landfall db reorg --datadir DIR --to {ancestor}` and start it again"
    )]
    FinalityConflict {
        /// The head here.
        ours: B256,
        /// The tip of the other branch, as far as it is known.
        rival: B256,
        /// The newest block of both.
        ancestor: B256,
    },
    /// An invariant of our own is broken.
    #[error("a rule of our own is broken: {0}")]
    Broken(String),
}

impl Halt {
    /// Whether a restart would end the same way: people must decide first. The failure of a disk may
    /// have passed by then.
    pub fn is_for_people(&self) -> bool {
        match self {
            Self::Divergence { .. }
            | Self::ConflictingProofs { .. }
            | Self::FinalityConflict { .. } => true,
            Self::Store(_) | Self::Broken(_) => false,
        }
    }
}

impl From<ImportError> for Halt {
    fn from(error: ImportError) -> Self {
        if error.is_fatal() {
            Self::Store(error.to_string())
        } else {
            Self::Broken(error.to_string())
        }
    }
}
