//! The log: what the leader appends, what followers take, and what becomes final.

use super::{Leader, Message, Raft, RaftProtocol, Role, term_of};
use crate::engine::{Context, Output, Protocol, Recipients};
use crate::{FinalityProof, ForkChoice, Tally, Timer};
use alloy_primitives::{B256, Bytes};
use landfall_types::{SignedVote, Span, Step, Vote};

impl Raft {
    /// What this node says of its tip in its term.
    fn ack(&self, cx: &Context<'_>) -> Vote {
        self.vote(Step::Ack, cx.tree.height(&self.record.tip), self.record.tip)
    }

    /// Rule 7: the heartbeat, with everything that a follower may have missed.
    pub(super) fn append(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let message = Message::Append { proof: self.proof.clone() };
        self.send(Recipients::All, Some(self.ack(cx)), message, out);
    }

    pub(super) fn on_append(
        &mut self,
        cx: &Context<'_>,
        ack: &SignedVote,
        proof: Option<FinalityProof>,
        out: &mut Vec<Output>,
    ) {
        let (from, term) = (ack.signer, ack.vote.position.round);
        if term < self.record.term {
            return self.say_heard(from, out);
        }
        self.raise(cx.now, term);
        if self.leader.is_some_and(|leader| leader != from) {
            // Two leaders of one term: somebody lies, and the first was believed.
            return;
        }
        self.leader = Some(from);
        self.follow(cx.now);
        self.lease = Timer::after(cx.now, self.params.election);
        self.rest(cx.now);
        self.wanted = Some(ack.vote);
        self.take_wanted(cx, out);
        if let Some(proof) = proof {
            self.on_carried_proof(cx, proof, out);
        }
    }

    /// A proof inside a message: only its signers have been recovered.
    fn on_carried_proof(&mut self, cx: &Context<'_>, proof: FinalityProof, out: &mut Vec<Output>) {
        let news = proof.height() > cx.tree.height(&self.finalized);
        if news && RaftProtocol.verify_proof(&self.epoch, &proof).is_ok() {
            self.finalize(cx, proof, out);
        }
    }

    /// Takes the leader's branch, once its tip is in the tree.
    pub(super) fn take_wanted(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let (Some(leader), Some(wanted)) = (self.leader, self.wanted) else { return };
        let Some(tip) = cx.tree.get(&wanted.hash) else {
            out.push(Output::Fetch { hash: wanted.hash, from: Some(leader) });
            return self.say_heard(leader, out);
        };
        self.wanted = None;
        let fits = tip.height == wanted.position.height
            && tip.height <= self.epoch.last
            && cx.tree.descends(tip.hash, self.finalized);
        let taken = self.record.stamp == self.record.term;
        if !fits || (taken && !cx.tree.descends(tip.hash, self.record.tip)) {
            // An older word of this leader that arrives late.
            return self.say_heard(leader, out);
        }
        self.record.stamp = self.record.term;
        self.record.tip = tip.hash;
        self.send(Recipients::One(leader), Some(self.ack(cx)), Message::Ack, out);
    }

    /// Counts an ack, this leader's own too.
    pub(super) fn on_ack(&mut self, cx: &Context<'_>, ack: &SignedVote, out: &mut Vec<Output>) {
        self.raise(cx.now, ack.vote.position.round);
        if ack.vote.position.round < self.record.term {
            return;
        }
        self.note_active(ack.signer);
        let wanted = self.ack(cx);
        let committee = &self.epoch.committee;
        let Role::Leader(leader) = &mut self.role else { return };
        if ack.vote != wanted || !committee.contains(&ack.signer) {
            return;
        }
        leader.acks.insert(ack);
        if leader.acks.reaches(&wanted, committee, committee.majority()) {
            let certificate = leader.acks.certificate(&wanted);
            self.commit(cx, FinalityProof { certificate }, out);
        }
    }

    /// Rule 8. The acks are of this term, whatever the term of the blocks.
    fn commit(&mut self, cx: &Context<'_>, proof: FinalityProof, out: &mut Vec<Output>) {
        let current = !crate::planted!(RaftTermInBlock) || self.is_tip_of_term(cx);
        if self.record.tip != self.finalized && current {
            self.finalize(cx, proof, out);
            self.append(cx, out);
        }
    }

    fn is_tip_of_term(&self, cx: &Context<'_>) -> bool {
        term_of(&cx.tree.block(&self.record.tip).data) == Some(self.record.term)
    }

    /// Rule 10.
    pub(super) fn finalize(
        &mut self,
        cx: &Context<'_>,
        proof: FinalityProof,
        out: &mut Vec<Output>,
    ) {
        let (hash, term) = (proof.hash(), proof.certificate.vote.position.round);
        let Some(block) = cx.tree.get(&hash) else { return };
        let news = block.height > cx.tree.height(&self.finalized);
        if !news || block.height != proof.height() || !cx.tree.descends(hash, self.finalized) {
            return;
        }
        self.raise(cx.now, term);
        self.finalized = hash;
        self.proof = Some(proof.clone());
        if !cx.tree.descends(self.record.tip, hash) {
            self.record.tip = hash;
            self.record.stamp = self.record.stamp.max(term);
            self.follow(cx.now);
        }
        self.write(out);
        let choice = ForkChoice { head: hash, safe: hash, finalized: hash };
        out.push(Output::Adopt { choice, proof: Some(proof) });
        self.pending = false;
        self.ended = block.height >= self.epoch.last;
    }

    /// The interval after the tip, by clocks that may be wrong.
    pub(super) fn next_block(&self, cx: &Context<'_>) -> Timer {
        let interval = self.params.block_interval;
        let made = cx.tree.block(&self.record.tip).time;
        Timer::after(cx.now, Span((made + interval).since(cx.now).0.min(interval.0)))
    }

    /// Whether a block is due on the tip that was not asked for yet.
    pub(super) fn wants_block(&self, leader: &Leader) -> bool {
        (self.pending || self.params.empty_blocks) && leader.asked != Some(self.record.tip)
    }

    /// Rule 9. Asks again with each heartbeat: a request may have come to nothing.
    pub(super) fn propose(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let due = matches!(&self.role, Role::Leader(leader)
            if self.wants_block(leader) && leader.block.is_due(cx.now));
        if self.ended || !due {
            return;
        }
        let tip = cx.tree.block(&self.record.tip);
        let open = tip.hash == self.finalized
            || (crate::planted!(RaftTermInBlock) && !self.is_tip_of_term(cx));
        if !open || tip.height >= self.epoch.last {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { unreachable!("a block is due") };
        leader.asked = Some(tip.hash);
        out.push(Output::Build {
            parent: tip.hash,
            time: cx.now,
            extension: Bytes::copy_from_slice(&self.record.term.to_be_bytes()),
            difficulty: None,
        });
    }

    pub(super) fn on_built(&mut self, cx: &Context<'_>, hash: B256, out: &mut Vec<Output>) {
        let block = cx.tree.block(&hash);
        let now_wanted =
            block.parent == self.record.tip && term_of(&block.data) == Some(self.record.term);
        if !now_wanted || !matches!(self.role, Role::Leader(_)) {
            return;
        }
        self.record.tip = hash;
        let next_block = self.next_block(cx);
        if let Role::Leader(leader) = &mut self.role {
            leader.acks = Tally::default();
            leader.heartbeat = Timer::after(cx.now, self.params.heartbeat);
            leader.block = next_block;
        }
        self.write(out);
        out.push(Output::Publish { hash });
        self.append(cx, out);
    }
}
