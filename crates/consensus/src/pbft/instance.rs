//! The instance: what it holds, and how each input changes it.

use super::justification::{claim, is_prepared};
use super::parent::Parent;
use super::votes::{Justifications, Rounds, Votes};
use super::{MAX_ROUND, Message, Record};
use crate::engine::{Context, Engine, Input, Output, Progress, Recipients, Start};
use crate::evidence::prepared_context;
use crate::{Body, Evidence, FinalityProof, ForkChoice, Timer, planted};
use alloy_primitives::B256;
use landfall_types::{
    Certificate, Epoch, NodeId, Params, PbftParams, Position, SignedVote, Step, Time, Vote,
};
use std::collections::BTreeMap;

/// A round change and what came with it.
#[derive(Clone, Debug)]
pub(super) struct RoundChange {
    pub(super) signed: SignedVote,
    pub(super) prepared: Option<Certificate>,
}

/// A justified proposal of the round, not accepted yet.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) hash: B256,
    pub(super) digest: B256,
    /// The justification leaves no choice: a quorum prepared this block before.
    pub(super) bound: bool,
}

/// The stateful half.
#[derive(Clone, Debug)]
pub struct Pbft {
    pub(super) epoch: Epoch,
    pub(super) params: PbftParams,
    pub(super) me: NodeId,
    /// Of the last decision.
    pub(super) parent: Parent,
    /// The last decision.
    pub(super) finalized: B256,
    /// What is durable, or will be before anything is said that rests on it.
    pub(super) record: Record,
    /// Transactions wait.
    pub(super) pending: bool,
    pub(super) candidate: Option<Candidate>,
    prepares: Votes,
    commits: Votes,
    /// The highest of each member.
    pub(super) changes: BTreeMap<NodeId, RoundChange>,
    pub(super) rounds: Rounds,
    pub(super) justifications: Justifications,
    /// Of the height above, which others may have reached first: of each member and step the
    /// message of the highest round.
    early: BTreeMap<(NodeId, Step), (SignedVote, Message)>,
    /// A build was asked for in this round.
    pub(super) building: bool,
    /// The own proposal's block was gossiped since the start.
    pub(super) published: bool,
    /// The block asked for last.
    pub(super) fetched: Option<B256>,
    /// Off once the block interval has passed.
    pub(super) due: Timer,
    pub(super) timeout: Timer,
    pub(super) repeat: Timer,
    /// When the candidate's time is acceptable.
    pub(super) held: Timer,
}

impl Pbft {
    /// An instance from what is durable.
    pub fn new(start: &Start<'_>, out: &mut Vec<Output>) -> Self {
        let Params::Pbft(params) = &start.epoch.params else {
            unreachable!("an epoch of PBFT has the parameters of PBFT")
        };
        let height = start.tree.height(&start.finalized).next();
        let record = match &start.record {
            Some(crate::Record::Pbft(record)) if record.height == height => record.clone(),
            _ => Record::fresh(height),
        };
        let mut it = Self {
            epoch: start.epoch.clone(),
            params: params.clone(),
            me: start.me,
            parent: Parent::new(start.epoch, start.tree, start.finalized, start.proof.as_ref()),
            finalized: start.finalized,
            record,
            pending: false,
            candidate: None,
            prepares: Votes::default(),
            commits: Votes::default(),
            changes: BTreeMap::new(),
            rounds: Rounds::default(),
            justifications: Justifications::new(),
            early: BTreeMap::new(),
            building: false,
            published: false,
            fetched: None,
            due: Timer::off(),
            timeout: Timer::off(),
            repeat: Timer::off(),
            held: Timer::off(),
        };
        it.rounds.note(it.me, it.record.round);
        it.wait_for_interval(start.now, start.tree.block(&start.finalized).time);
        it.arm(start.now);
        if planted!(StartActs) {
            it.say_again(out);
        }
        it
    }

    /// Whether this node votes on the open height.
    pub(super) fn votes(&self) -> bool {
        self.epoch.has_member(&self.me) && self.record.height <= self.epoch.last
    }

    pub(super) fn leader(&self, round: u64) -> NodeId {
        self.parent.turns().leader(self.record.height, round)
    }

    pub(super) fn persist(&self, out: &mut Vec<Output>) {
        out.push(Output::Persist(crate::Record::Pbft(self.record.clone())));
    }

    pub(super) fn send(
        &self,
        step: Step,
        hash: B256,
        context: B256,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let vote = Vote { position: self.place(step), hash, context };
        let body = Body::Pbft(message);
        out.push(Output::Send { to: Recipients::All, vote: Some(vote), body });
    }

    /// The place of this node's votes of a step in its round.
    fn place(&self, step: Step) -> Position {
        Position {
            epoch: self.epoch.number,
            step,
            height: self.record.height,
            round: self.record.round,
        }
    }

    pub(super) fn fetch(&mut self, hash: B256, from: Option<NodeId>, out: &mut Vec<Output>) {
        if self.fetched != Some(hash) {
            self.fetched = Some(hash);
            out.push(Output::Fetch { hash, from });
        }
    }

    /// Moves up to a round, and says so.
    pub(super) fn enter(&mut self, round: u64, out: &mut Vec<Output>) {
        assert!(round > self.record.round, "a round is entered once");
        self.record.round = round;
        self.record.accepted = None;
        self.record.proposal = None;
        self.candidate = None;
        self.building = false;
        self.parent.enter_round();
        self.fetched = None;
        self.timeout = Timer::off();
        self.held = Timer::off();
        self.rounds.note(self.me, round);
        self.persist(out);
        self.send_round_change(out);
    }

    /// Only while nothing was prepared in this round itself: the statement must stay the same.
    pub(super) fn send_round_change(&self, out: &mut Vec<Output>) {
        let prepared =
            if planted!(PbftForgetsPrepared) { None } else { self.record.prepared.clone() };
        let at = prepared.as_ref().map(|certificate| certificate.vote.position.round);
        let hash = prepared.as_ref().map_or(B256::ZERO, |certificate| certificate.vote.hash);
        let message = Message::RoundChange { prepared };
        self.send(Step::RoundChange, hash, prepared_context(at), message, out);
    }

    /// A message that fits its vote, by a member of this epoch, of a round that can be.
    fn hear(
        &mut self,
        cx: &Context<'_>,
        vote: SignedVote,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let place = vote.vote.position;
        let step = match message {
            Message::Proposal { .. } => Step::Proposal,
            Message::Prepare => Step::Prepare,
            Message::Commit => Step::Commit,
            Message::RoundChange { .. } => Step::RoundChange,
        };
        let ours = place.epoch == self.epoch.number && place.round <= MAX_ROUND;
        if !ours || place.step != step || !self.epoch.has_member(&vote.signer) {
            return;
        }
        if place.height.next() == self.record.height && step == Step::Commit {
            self.parent.hear(&vote);
            return;
        }
        if place.height != self.record.height {
            self.keep_early(vote, message);
            return;
        }
        match message {
            Message::Proposal { justification } => {
                self.hear_proposal(cx, &vote, &justification, out);
            }
            Message::Prepare => {
                self.accuse(&[vote], out);
                self.prepares.insert(&vote);
            }
            Message::Commit if vote.vote.context.is_zero() => self.commits.insert(&vote),
            Message::Commit => return,
            Message::RoundChange { prepared } => {
                if !self.hear_round_change(vote, prepared, out) {
                    return;
                }
            }
        }
        self.rounds.note(vote.signer, place.round);
    }

    /// Another node decided this height first; it is about to be decided here too.
    fn keep_early(&mut self, vote: SignedVote, message: Message) {
        let place = vote.vote.position;
        let size = match &message {
            Message::Proposal { justification } => justification.size(),
            Message::RoundChange { prepared } => {
                prepared.as_ref().map_or(0, |certificate| certificate.signatures.len())
            }
            Message::Prepare | Message::Commit => 0,
        };
        let bounded = size <= 2 * self.epoch.committee.len();
        if place.height != self.record.height.next() || !bounded {
            return;
        }
        let key = (vote.signer, place.step);
        let newer = |(kept, _): &(SignedVote, Message)| kept.vote.position.round < place.round;
        if self.early.get(&key).is_none_or(newer) {
            self.early.insert(key, (vote, message));
        }
    }

    /// Says whether the round change is one.
    fn hear_round_change(
        &mut self,
        signed: SignedVote,
        prepared: Option<Certificate>,
        out: &mut Vec<Output>,
    ) -> bool {
        let (height, round) = (self.record.height, signed.vote.position.round);
        let Ok(claim) = claim(&self.epoch, height, round, &signed) else { return false };
        let shown = prepared.as_ref().map(|it| (it.vote.position.round, it.vote.hash));
        let sound = |it: &Certificate| is_prepared(&self.epoch, height, it);
        if round == 0 || claim != shown || !prepared.as_ref().is_none_or(sound) {
            return false;
        }
        if let Some(certificate) = &prepared {
            self.accuse(&certificate.votes().collect::<Vec<_>>(), out);
        }
        let newer = |kept: &RoundChange| kept.signed.vote.position.round < round;
        if self.changes.get(&signed.signer).is_none_or(newer) {
            self.changes.insert(signed.signer, RoundChange { signed, prepared });
        }
        true
    }

    /// Reports those whose prepares name a justification that does not allow the block.
    fn accuse(&mut self, prepares: &[SignedVote], out: &mut Vec<Output>) {
        for prepare in prepares {
            let found = self.justifications.convicts(&self.epoch, self.record.height, prepare);
            if let Some(justification) = found {
                let evidence = Evidence::UnjustifiedPrepare { prepare: *prepare, justification };
                out.push(Output::Report(evidence));
            }
        }
    }

    /// Reports those who prepared by this justification before it was at hand.
    pub(super) fn accuse_by(&mut self, digest: B256, out: &mut Vec<Output>) {
        let prepares = self.prepares.with_context(digest);
        self.accuse(&prepares, out);
    }

    /// Rule 4.
    fn prepare(&mut self, out: &mut Vec<Output>) {
        let Some(accepted) = self.record.accepted else { return };
        if self.record.prepared_round() == Some(self.record.round) {
            return;
        }
        let position = self.place(Step::Prepare);
        let vote = Vote { position, hash: accepted.hash, context: accepted.digest };
        let committee = &self.epoch.committee;
        if !self.prepares.reaches(&vote, committee, committee.byzantine_quorum()) {
            return;
        }
        self.record.prepared = Some(self.prepares.certificate(&vote));
        self.persist(out);
        self.send(Step::Commit, accepted.hash, B256::ZERO, Message::Commit, out);
    }

    /// Rule 5; says whether there was a decision.
    fn decide(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) -> bool {
        let committee = &self.epoch.committee;
        let decided = self.commits.decided(committee, committee.byzantine_quorum());
        let Some(vote) = decided.filter(|_| self.record.height <= self.epoch.last) else {
            return false;
        };
        let certificate = self.commits.certificate(&vote);
        let Some(block) = cx.tree.get(&vote.hash) else {
            let from = certificate.signers().copied().find(|signer| *signer != self.me);
            self.fetch(vote.hash, from, out);
            return false;
        };
        if block.height != self.record.height || block.parent != self.finalized {
            return false;
        }
        self.adopt(cx, FinalityProof { certificate }, out);
        true
    }

    /// Opens the height above a decision, whatever went on below: a view change too is over.
    fn adopt(&mut self, cx: &Context<'_>, proof: FinalityProof, out: &mut Vec<Output>) {
        let hash = proof.hash();
        let block = cx.tree.block(&hash);
        self.parent = Parent::new(&self.epoch, cx.tree, hash, Some(&proof));
        for signed in self.commits.certificate(&proof.certificate.vote).votes() {
            self.parent.hear(&signed);
        }
        self.finalized = hash;
        self.record = Record::fresh(block.height.next());
        self.pending = false;
        self.candidate = None;
        self.prepares = Votes::default();
        self.commits = Votes::default();
        self.changes.clear();
        self.rounds = Rounds::default();
        self.rounds.note(self.me, 0);
        self.justifications = Justifications::new();
        self.building = false;
        self.published = false;
        self.fetched = None;
        self.timeout = Timer::off();
        self.repeat = Timer::off();
        self.held = Timer::off();
        self.wait_for_interval(cx.now, block.time);
        let choice = ForkChoice { head: hash, safe: hash, finalized: hash };
        out.push(Output::Adopt { choice, proof: Some(proof) });
        for (vote, message) in std::mem::take(&mut self.early).into_values() {
            self.hear(cx, vote, message, out);
        }
    }

    /// Rule 10. What is below is known; a proof beside the own branch is the replica's matter.
    fn hear_proof(&mut self, cx: &Context<'_>, proof: FinalityProof, out: &mut Vec<Output>) {
        let hash = proof.hash();
        let Some(block) = cx.tree.get(&hash) else { return };
        let news = block.height >= self.record.height && self.epoch.contains(block.height);
        if news && cx.tree.descends(hash, self.finalized) {
            self.adopt(cx, proof, out);
        }
    }

    /// Rule 7.
    fn catch_up(&mut self, out: &mut Vec<Output>) {
        let committee = &self.epoch.committee;
        let weight = committee.honest_minimum();
        if let Some(round) = self.rounds.reached_by(weight, committee, self.record.round) {
            self.enter(round, out);
        }
    }

    /// Rule 6, and what else waits for a time.
    fn tick(&mut self, now: Time, out: &mut Vec<Output>) {
        if self.timeout.is_due(now) {
            self.timeout = Timer::off();
            self.next_round(out);
        }
        if self.repeat.is_due(now) {
            self.repeat = Timer::off();
            self.fetched = None;
            self.building = false;
            self.say_again(out);
        }
        if self.held.is_due(now) {
            self.held = Timer::off();
        }
    }

    fn waits_for(&self, hash: B256) -> bool {
        self.candidate.as_ref().is_some_and(|candidate| candidate.hash == hash)
    }

    fn next_round(&mut self, out: &mut Vec<Output>) {
        if self.record.round < MAX_ROUND {
            self.enter(self.record.round + 1, out);
        }
    }

    /// Everything that what is known now allows.
    fn go_on(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        while self.decide(cx, out) {}
        if self.votes() {
            if self.due.is_due(cx.now) {
                self.due = Timer::off();
            }
            self.catch_up(out);
            self.accept(cx, out);
            self.prepare(out);
            self.propose(cx, out);
        }
        self.arm(cx.now);
    }
}

impl Engine for Pbft {
    fn step(&mut self, cx: &Context<'_>, input: Input, out: &mut Vec<Output>) {
        self.bound_timers(cx.now);
        let votes = self.votes();
        match input {
            Input::Tick if votes => self.tick(cx.now, out),
            Input::Message { from, vote: Some(vote), body: Body::Pbft(message) }
                if votes && vote.signer == from =>
            {
                self.hear(cx, vote, message, out);
            }
            Input::Built { hash } if votes => self.built(cx, hash, out),
            Input::Rejected { hash } if votes && self.waits_for(hash) => self.next_round(out),
            Input::Proof(proof) => self.hear_proof(cx, proof, out),
            Input::Pending(pending) => self.pending = pending,
            _ => {}
        }
        self.go_on(cx, out);
    }

    fn deadline(&self) -> Option<Time> {
        Timer::earliest([self.due, self.timeout, self.repeat, self.held])
    }

    fn progress(&self) -> Progress {
        let round = self.record.round;
        Progress { round, leader: Some(self.leader(round)) }
    }

    fn describe(&self) -> String {
        let record = &self.record;
        let accepted = record.accepted.map_or("nothing".into(), |it| it.hash.to_string());
        let prepared = record.prepared_round().map_or("none".into(), |round| round.to_string());
        format!(
            "pbft at height {}, round {}, accepted {accepted}, prepared in round {prepared}",
            record.height, record.round
        )
    }
}
