//! One member that seals: a development chain.
//!
//! Rules:
//! 1. When something waits, build on the head; adopt what was built.
//! 2. `safe` and `finalized` trail the head by fixed depths, so that a development chain shows
//!    clients tags that move, and can still go back.
//!
//! There is nobody to agree with: no message, no record, no proof.

use crate::engine::{
    Context, Engine, Input, Output, Progress, Protocol, SealedHeader, Start, Verdict,
};
use crate::{Evidence, FinalityProof, ForkChoice, InvalidEvidence, InvalidProof, Tree};
use alloy_consensus::constants::EMPTY_ROOT_HASH;
use alloy_primitives::{B256, Bytes};
use landfall_types::{Epoch, Height, Kind, NodeId, Params, SoloParams, Time};

/// The stateless half.
pub(crate) struct SoloProtocol;

impl Protocol for SoloProtocol {
    fn verify(&self, epoch: &Epoch, header: &SealedHeader, tree: &Tree, _now: Time) -> Verdict {
        match check_ours(epoch, header, tree) {
            Verdict::Valid if !epoch.has_member(&header.extension.proposer) => {
                Verdict::Invalid("the proposer is not the member that seals")
            }
            verdict => verdict,
        }
    }

    fn verify_proof(&self, _: &Epoch, _: &FinalityProof) -> Result<(), InvalidProof> {
        Err(InvalidProof::NoProofs(Kind::Solo))
    }

    fn verify_evidence(&self, _: &Epoch, _: &Evidence) -> Result<NodeId, InvalidEvidence> {
        Err(InvalidEvidence::Unknown)
    }

    fn start(&self, start: Start<'_>, out: &mut Vec<Output>) -> Box<dyn Engine> {
        let mut solo = Solo::new(&start);
        if !solo.sealing && !crate::planted!(StartSilent) {
            solo.catch_up(&Context { now: start.now, tree: start.tree }, out);
        }
        Box::new(solo)
    }
}

/// What holds for the header of every protocol: it is of the epoch it names, stands on a block
/// that is here, and carries no work unless the protocol is one of work.
pub(crate) fn check_ours(epoch: &Epoch, header: &SealedHeader, tree: &Tree) -> Verdict {
    let height = Height(header.header.number);
    let Some(parent) = tree.get(&header.header.parent_hash) else { return Verdict::NotYet };
    if header.extension.epoch != epoch.number || !epoch.contains(height) {
        return Verdict::Invalid("the height is not of the epoch that the header names");
    }
    if parent.height.next() != height {
        return Verdict::Invalid("the height is not the parent's plus one");
    }
    if header.extension.milliseconds <= parent.time.0 {
        return Verdict::Invalid("the time is not after the parent's");
    }
    let worked = !header.header.difficulty.is_zero() || !header.header.nonce.is_zero();
    if epoch.kind() != Kind::Pow && worked {
        return Verdict::Invalid("difficulty and nonce must be zero without proof of work");
    }
    // Withdrawals are money from nowhere: only work is paid so, and its protocol says how much.
    let pays = header.header.withdrawals_root.is_some_and(|root| root != EMPTY_ROOT_HASH);
    if epoch.kind() != Kind::Pow && pays {
        return Verdict::Invalid("a block pays nobody without proof of work");
    }
    Verdict::Valid
}

/// The stateful half.
pub struct Solo {
    params: SoloParams,
    last: Height,
    sealing: bool,
    head: B256,
    finalized: B256,
}

impl Solo {
    fn new(start: &Start<'_>) -> Self {
        let Params::Solo(params) = &start.epoch.params else {
            unreachable!("an epoch of solo has the parameters of solo")
        };
        Self {
            params: params.clone(),
            last: start.epoch.last,
            sealing: start.epoch.has_member(&start.me),
            head: start.head,
            finalized: start.finalized,
        }
    }

    /// What the member that seals made on the head, and a crash kept from being adopted here. The
    /// member itself does not climb: what stands on its head was never published, or set back.
    fn catch_up(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let above = cx.tree.above(cx.tree.height(&self.head));
        let newest = above.filter(|block| cx.tree.descends(block.hash, self.head)).last();
        if let Some(newest) = newest.map(|block| block.hash) {
            self.adopt(cx, newest, out);
        }
    }

    fn adopt(&mut self, cx: &Context<'_>, hash: B256, out: &mut Vec<Output>) {
        self.head = hash;
        let height = cx.tree.height(&hash).0;
        let floor = cx.tree.height(&self.finalized);
        let trailing = |depth: u64| {
            let height = Height(height.saturating_sub(depth)).max(floor);
            cx.tree.ancestor(hash, height).expect("the tree reaches down to finalized")
        };
        self.finalized = trailing(self.params.final_depth);
        let safe = trailing(self.params.safe_depth.min(self.params.final_depth));
        let choice = ForkChoice { head: hash, safe, finalized: self.finalized };
        out.push(Output::Adopt { choice, proof: None });
    }
}

impl Engine for Solo {
    fn step(&mut self, cx: &Context<'_>, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Pending(true) if self.sealing && cx.tree.height(&self.head) < self.last => {
                out.push(Output::Build {
                    parent: self.head,
                    time: cx.now,
                    extension: Bytes::new(),
                    difficulty: None,
                });
            }
            Input::Built { hash } if cx.tree.block(&hash).parent == self.head => {
                // Durable as adopted before anybody has it: after a crash it is built on.
                self.adopt(cx, hash, out);
                out.push(Output::Publish { hash });
            }
            // From the member that seals, when this node only follows.
            Input::Block { hash } if cx.tree.block(&hash).parent == self.head => {
                self.adopt(cx, hash, out);
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn describe(&self) -> String {
        format!("solo on {}", self.head)
    }
}
