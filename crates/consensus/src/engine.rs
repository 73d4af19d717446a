//! The seam between a protocol and the replica: what goes in, what comes out, and the contract.

use crate::{
    Body, Evidence, FinalityProof, ForkChoice, InvalidEvidence, InvalidProof, Record, Tree,
};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes, U256};
use landfall_types::{Epoch, Extension, Kind, NodeId, SignedVote, Time, Vote};

/// A header with its extension, and who sealed it.
#[derive(Clone, Debug)]
pub struct SealedHeader {
    /// The Ethereum header.
    pub header: Sealed<Header>,
    /// What it commits to in `parentBeaconBlockRoot`, with every signature inside recovered to the
    /// member that it names.
    pub extension: Extension,
    /// Who signed the block's hash: what the seal recovers to. Outside the hash, so protection
    /// against spam and nothing more.
    pub sealer: Option<NodeId>,
}

impl SealedHeader {
    /// Every signed vote that the extension carries, whatever the protocol, for workers to recover
    /// before the header is judged.
    pub fn votes(&self) -> Vec<SignedVote> {
        let carried = crate::pbft::carried(&self.extension.data);
        carried.iter().flat_map(landfall_types::Certificate::votes).collect()
    }
}

/// What a protocol says of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By the rules of its epoch.
    Valid,
    /// Parent, epoch or time are not there yet: keep it and ask again.
    NotYet,
    /// This copy has a wrong seal, which is outside the hash: drop the copy, remember nothing.
    BadSeal,
    /// Against the rules, for ever: the hash may be remembered, and held against a peer.
    Invalid(&'static str),
}

/// The stateless half of a protocol, for any epoch, past ones too, where no instance runs.
pub trait Protocol: Sync {
    /// Judges seal and consensus fields (`timestamp`, `difficulty`, `nonce`, `mixHash`,
    /// `beneficiary`, `extraData`, extension, withdrawals) by the rules of `epoch`, which is the
    /// one that the header names. `now` is this node's clock. Signers of what the extension carries
    /// have been recovered.
    fn verify(&self, epoch: &Epoch, header: &SealedHeader, tree: &Tree, now: Time) -> Verdict;

    /// Checks a proof whose signers have been recovered. Counts members, not signatures.
    fn verify_proof(&self, epoch: &Epoch, proof: &FinalityProof) -> Result<(), InvalidProof> {
        if crate::planted!(ProofByOne) {
            return Ok(());
        }
        landfall_light::verify_proof(epoch, proof).map(|_| ())
    }

    /// Checks evidence whose signers have been recovered; says who lied.
    fn verify_evidence(&self, epoch: &Epoch, it: &Evidence) -> Result<NodeId, InvalidEvidence>;

    /// What the block that this engine builds must pay (EIP-4895), as the header's withdrawals.
    fn withdrawals(
        &self,
        _epoch: &Epoch,
        _height: landfall_types::Height,
        _beneficiary: alloy_primitives::Address,
    ) -> Vec<alloy_eips::eip4895::Withdrawal> {
        Vec::new()
    }

    /// Starts an instance: the same call for the first start and for every restart.
    ///
    /// It sends nothing, votes for nothing and builds nothing, since nothing here can be made
    /// durable first. It may write one thing to `out`: the `Adopt` that follows from the tree and
    /// was not logged before the crash; no later input could ever cause it.
    fn start(&self, start: Start<'_>, out: &mut Vec<Output>) -> Box<dyn Engine>;
}

/// The stateless half of a protocol by its kind.
pub fn protocol(kind: Kind) -> &'static dyn Protocol {
    match kind {
        Kind::Solo => &crate::solo::SoloProtocol,
        Kind::Raft => &crate::raft::RaftProtocol,
        Kind::Pbft => &crate::pbft::PbftProtocol,
        Kind::Pow => &crate::pow::PowProtocol,
    }
}

/// What an instance is given.
pub struct Start<'a> {
    /// Its epoch.
    pub epoch: &'a Epoch,
    /// This node, whether or not it is a member.
    pub me: NodeId,
    /// The clock.
    pub now: Time,
    /// For random timeouts; another one at each start.
    pub seed: u64,
    /// All executed blocks from `finalized` up, our own unpublished ones too.
    pub tree: &'a Tree,
    /// As logged, never the epoch's anchor: at least as high as anything shown before the crash.
    pub finalized: B256,
    /// The head that was logged last.
    pub head: B256,
    /// The proof of `finalized`, if it is of this epoch.
    pub proof: Option<FinalityProof>,
    /// The newest record of this epoch. It may be older than `finalized` (finality learnt by
    /// proof), never newer than the blocks it names.
    pub record: Option<Record>,
}

/// What an engine may look at in a step.
pub struct Context<'a> {
    /// The clock. It may jump, back too.
    pub now: Time,
    /// The replica's tree; engines keep no copies of headers. It holds at least every block handed
    /// in so far that is not below `finalized`.
    pub tree: &'a Tree,
}

/// The stateful half of a protocol: one instance, one epoch. Total on peers' input; deterministic.
pub trait Engine: Send {
    /// Takes one input; appends outputs in order.
    fn step(&mut self, cx: &Context<'_>, input: Input, out: &mut Vec<Output>);

    /// The least of the engine's timers; read again after every step. A `Tick` may come
    /// arbitrarily late and serves every timer that is due: afterwards `deadline() > now`.
    fn deadline(&self) -> Option<Time>;

    /// Where the instance stands, for people.
    fn progress(&self) -> Progress;

    /// The state in a line, for people.
    fn describe(&self) -> String;
}

/// Where an instance stands: for people and metrics, never for decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The round of the open height, or the term; zero where there is no such thing.
    pub round: u64,
    /// Who leads it, if this node knows.
    pub leader: Option<NodeId>,
}

/// What happens to an engine.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, on the stack")]
pub enum Input {
    /// The deadline has passed.
    Tick,
    /// From a member of this epoch (in a lottery from anybody), to a member; the replica filters.
    /// The vote's signature has been recovered to `from`, and so have all votes inside the body.
    /// One's own votes come back this way, signed.
    Message {
        /// Who sent it; for one's own votes, this node.
        from: NodeId,
        /// The vote, if the message is one; its signer is `from`.
        vote: Option<SignedVote>,
        /// What comes with it.
        body: Body,
    },
    /// Executed, valid, in the tree and in the log; of this epoch; after its parent; once per
    /// hash. It carries no round and no justification.
    Block {
        /// Which.
        hash: B256,
    },
    /// Answers the latest `Build`: like `Block`, but nobody else has it until `Publish`. Match its
    /// parent (and extension) with what is wanted now.
    Built {
        /// Which.
        hash: B256,
    },
    /// Execution or the rules say invalid: stop waiting for it. A hint for liveness.
    Rejected {
        /// Which.
        hash: B256,
    },
    /// Verified, of this epoch, its block is in the tree. Comes after the block or long after.
    /// Must lead to `Adopt`, unless the block is final already.
    Proof(FinalityProof),
    /// Whether transactions wait that no block on the head's branch holds. After an `Adopt` it is
    /// false until the replica, having shown that block, says otherwise.
    Pending(bool),
}

/// What an engine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The instance's whole durable state; the newest wins. No `Send`, `Publish` or `Adopt` that is
    /// emitted later, by any later step too, is performed before it is durable.
    Persist(Record),
    /// May be lost. The engine repeats its newest own message until it is obsolete. A vote is
    /// signed on its way out, and comes back as [`Input::Message`] from this node.
    Send {
        /// To whom.
        to: Recipients,
        /// What binds this node; unsigned.
        vote: Option<Vote>,
        /// What goes with it.
        body: Body,
    },
    /// A level, not an edge: the same (parent, extension, difficulty) while one is in flight is
    /// ignored, another supersedes it. Need not wait for `Persist`, nor do `Fetch` and `Report`.
    Build {
        /// On which block of the tree.
        parent: B256,
        /// The block's time: the engine's choice, not the host's.
        time: Time,
        /// The protocol's own data in the block's extension.
        extension: Bytes,
        /// For proof of work: what the nonce must meet.
        difficulty: Option<U256>,
    },
    /// Gossip a block that is in the tree, once.
    Publish {
        /// Which.
        hash: B256,
    },
    /// Somebody has this block, and it is wanted. The replica repeats, deduplicates and expires.
    Fetch {
        /// Which.
        hash: B256,
        /// Who may have it.
        from: Option<NodeId>,
    },
    /// The verdict. Logged when emitted, in order with the records; shown when durable. `proof` is
    /// required where `finalized` moves and the engine is an agreement. Never above the epoch's
    /// last height; there the instance ends.
    Adopt {
        /// Head, safe, finalized.
        choice: ForkChoice,
        /// Why `finalized` is final.
        proof: Option<FinalityProof>,
    },
    /// A member lied, and here is the proof.
    Report(Evidence),
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// All members (in a lottery, everybody), this node excepted.
    All,
    /// One node.
    One(NodeId),
}
