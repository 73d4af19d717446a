//! Proposals: made, heard and accepted.

use super::instance::{Candidate, Pbft};
use super::{Accepted, Justification, Message, OwnProposal};
use crate::engine::{Context, Output};
use crate::{Timer, planted};
use alloy_primitives::B256;
use landfall_types::{Certificate, SignedVote, Span, Step};

impl Pbft {
    /// Rules 1 and 8.
    pub(super) fn propose(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        if self.record.proposal.is_some() || self.leader(self.record.round) != self.me {
            return;
        }
        let Some((justification, bound)) = self.justify() else { return };
        match bound {
            Some(hash) if cx.tree.has(&hash) => self.announce(hash, justification, false, out),
            Some(hash) => {
                let holders = justification.prepared.iter().flat_map(Certificate::signers);
                let from = holders.copied().find(|signer| *signer != self.me);
                self.fetch(hash, from, out);
            }
            None if self.record.round == 0 && !self.wanted() => {}
            None if self.building => {}
            None => {
                self.building = true;
                out.push(Output::Build {
                    parent: self.finalized,
                    time: cx.now,
                    extension: self.parent.say(),
                    difficulty: None,
                });
            }
        }
    }

    /// In round 0 of an idle chain no block is due.
    fn wanted(&self) -> bool {
        self.due.deadline().is_none() && (self.pending || self.params.empty_blocks)
    }

    /// The justification of a proposal in this round, from the round changes at hand, and the
    /// block that it binds to; `None` while they are too few.
    fn justify(&self) -> Option<(Justification, Option<B256>)> {
        let round = self.record.round;
        let mut justification = Justification::empty();
        if round > 0 {
            let here = |signed: &SignedVote| signed.vote.position.round == round;
            let changes = || self.changes.values().filter(|change| here(&change.signed));
            justification.round_changes = changes().map(|change| change.signed).collect();
            justification.prepared = changes()
                .filter_map(|change| change.prepared.as_ref())
                .max_by_key(|certificate| certificate.vote.position.round)
                .cloned();
        }
        let bound = justification.binds(&self.epoch, self.record.height, round).ok()?;
        Some((justification, bound))
    }

    /// A block that this node made: proposed, if it is still the one to propose.
    pub(super) fn built(&mut self, cx: &Context<'_>, hash: B256, out: &mut Vec<Output>) {
        let block = cx.tree.block(&hash);
        let fits = block.parent == self.finalized && self.leader(self.record.round) == self.me;
        if !fits || self.record.proposal.is_some() {
            return;
        }
        if let Some((justification, None)) = self.justify() {
            self.announce(hash, justification, true, out);
        }
    }

    /// Written down first: after a crash it is this block, with this justification, again.
    fn announce(
        &mut self,
        hash: B256,
        justification: Justification,
        publish: bool,
        out: &mut Vec<Output>,
    ) {
        self.record.proposal = Some(Box::new(OwnProposal { hash, justification }));
        self.persist(out);
        self.published = true;
        if publish {
            out.push(Output::Publish { hash });
        }
        self.send_proposal(out);
    }

    pub(super) fn send_proposal(&self, out: &mut Vec<Output>) {
        let Some(own) = &self.record.proposal else { return };
        let message = Message::Proposal { justification: own.justification.clone() };
        self.send(Step::Proposal, own.hash, own.justification.digest(), message, out);
    }

    /// The first half of rule 3: a proposal that may be accepted is kept.
    pub(super) fn hear_proposal(
        &mut self,
        cx: &Context<'_>,
        signed: &SignedVote,
        justification: &Justification,
        out: &mut Vec<Output>,
    ) {
        let (round, hash) = (signed.vote.position.round, signed.vote.hash);
        let digest = justification.digest();
        if digest != signed.vote.context {
            return;
        }
        let bound = justification.binds(&self.epoch, self.record.height, round);
        let bounded = justification.size() <= 2 * self.epoch.committee.len();
        if bounded && self.justifications.keep(signed.signer, digest, justification) {
            self.accuse_by(digest, out);
        }
        if round < self.record.round || signed.signer != self.leader(round) {
            return;
        }
        let taken = self.record.accepted.is_some() || self.candidate.is_some();
        if round == self.record.round && taken {
            return;
        }
        if planted!(ProposalInSeal) && cx.tree.has(&hash) && signed.signer != self.me {
            return;
        }
        let allowed = bound.is_ok_and(|only| only.is_none_or(|only| only == hash));
        if !allowed && !planted!(PbftJustificationUnchecked) {
            return;
        }
        for change in &justification.round_changes {
            self.rounds.note(change.signer, round);
        }
        if round > self.record.round {
            self.enter(round, out);
        }
        let bound = matches!(bound, Ok(Some(_)));
        self.candidate = Some(Candidate { hash, digest, bound });
    }

    /// The second half of rule 3: its block is here and fits.
    pub(super) fn accept(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let Some(Candidate { hash, digest, bound }) = self.candidate.clone() else { return };
        let leader = self.leader(self.record.round);
        let Some(block) = cx.tree.get(&hash) else {
            self.fetch(hash, Some(leader), out);
            return;
        };
        let place = block.height == self.record.height && block.parent == self.finalized;
        if !place || !(bound || block.proposer == leader) {
            self.candidate = None;
            return;
        }
        // The time of a block that was prepared once is not this round's matter, and the least that may
        // follow the parent's is nobody's fault: the parent may be of another protocol, or of clocks that
        // were put back.
        let soonest = block.time - self.params.clock_drift;
        let least = cx.tree.get(&block.parent).is_some_and(|it| block.time <= it.time + Span(1));
        if !bound && soonest > cx.now && !least {
            self.held = Timer::after(soonest, Span(0));
            return;
        }
        let locked = self.record.prepared.as_ref().is_some_and(|it| it.vote.hash != hash);
        if planted!(PbftLocksForever) && locked {
            return;
        }
        self.candidate = None;
        self.record.accepted = Some(Accepted { hash, digest });
        if !planted!(PbftNoPersistBeforePrepare) {
            self.persist(out);
        }
        self.send(Step::Prepare, hash, digest, Message::Prepare, out);
    }
}
