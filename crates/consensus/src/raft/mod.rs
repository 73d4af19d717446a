//! Raft: crash-fault agreement over the block tree.
//!
//! The log is a branch of the tree: index is height, the log-matching property is the parent hash,
//! and truncation is the move to another branch. A node remembers `{term, voted, tip, stamp}`:
//! `tip` is the end of its log, `stamp` the last term in which it took a leader's whole branch.
//!
//! Rules, with the sections of Ongaro's thesis ("Consensus: Bridging Theory and Practice", 2014):
//! 1. (§3.3) Terms only grow. Whoever hears of a higher one takes it and follows, whatever the
//!    message; except that rules 4 and 5 come first.
//! 2. (§3.4) A follower that hears no leader for a random time in `election .. 2 * election` seeks
//!    election. A vote is a signed `Grant`; one per term, durable before it is sent. A majority of
//!    grants makes a leader. A request is repeated, since messages are lost.
//! 3. (§3.6.1) A vote goes only to a log that is at least as good, by `(stamp, height)`.
//! 4. (§9.6) First it asks with a pre-vote for the next term, which changes nothing anywhere; only
//!    a majority of pre-grants lets it raise its term.
//! 5. (§4.2.3, §6.4.1) Whoever heard a leader less than `election` ago ignores pre-votes and
//!    candidates, and does not take their term. So does a node in its first `election` after a
//!    start: it may have forgotten that it heard one.
//! 6. (§6.2) A leader that did not hear a majority for `election` follows (check-quorum).
//! 7. (§3.5) The leader repeats `Append` with its tip, every `heartbeat` and when the tip moves. A
//!    follower fetches a missing tip. Once the tip is in its tree, it makes tip and stamp durable
//!    and answers with a signed `Ack` of (term, tip); the leader says the same of itself.
//! 8. (§3.6.2, §5.4.2 of the paper, Figure 8) A majority of equal acks, all of one term, is a
//!    certificate: the tip and all below it are final. Acks of different terms never add up. A
//!    new leader stamps its branch with its term, and so do those who take it: blocks of earlier
//!    terms commit without a new block.
//! 9. (§3.5) The leader builds on its tip, once that is final: one block is open at a time. It
//!    never builds above the epoch's last height.
//! 10. A proof, wherever it came from, moves `finalized`; a log that does not hold the block is
//!     replaced by it, exactly as if that term's leader had been followed.
//!
//! Deviations from the paper:
//! - No entry is a no-op. The stamp says what a no-op at the start of each term would say, and an
//!   epoch can end without a block above its last height.
//! - `nextIndex` and `matchIndex` are gone: a tip names its whole branch, and the replica fetches
//!   what is missing.
//! - Acks and grants are signed, so that a majority of acks is a proof that others can check.
//! - Answers to old terms are one message, `Heard`, which also tells a leader that a follower
//!   lives while it still waits for a block.
//! - No change of members (an epoch's committee is constant), no snapshot (the replica syncs
//!   blocks to a proof), no lease for reads, no transfer of leadership.
//!
//! What it never does: survive a member that lies. One liar in the intersection of two majorities
//! can fork it; its proofs are labelled crash-only.

mod election;
mod log;
mod message;
mod protocol;

pub use message::{Last, Message, Record};
pub(crate) use protocol::RaftProtocol;

use crate::engine::{Context, Engine, Input, Output, Progress, Recipients, Start};
use crate::{Body, FinalityProof, Random, Tally, Timer};
use alloy_primitives::B256;
use landfall_types::{
    Epoch, Height, NodeId, Params, Position, RaftParams, SignedVote, Span, Step, Time, Vote,
};
use protocol::term_of;
use std::collections::BTreeSet;

/// A candidate as the hash of a `Grant`.
fn candidate_hash(candidate: &NodeId) -> B256 {
    candidate.into_word()
}

/// The stateful half.
#[derive(Clone, Debug)]
pub struct Raft {
    epoch: Epoch,
    params: RaftParams,
    me: NodeId,
    /// One that is no member only learns what is final.
    member: bool,
    random: Random,
    record: Record,
    /// The record as it was written last, or as it follows from what is durable.
    written: Record,
    role: Role,
    /// Of the record's term.
    leader: Option<NodeId>,
    /// The leader's newest tip, while its block is missing.
    wanted: Option<Vote>,
    finalized: B256,
    proof: Option<FinalityProof>,
    pending: bool,
    /// Until then a leader may count on this node: rule 5.
    lease: Timer,
    /// When to seek election.
    election: Timer,
    /// The last height is final.
    ended: bool,
}

#[derive(Clone, Debug)]
enum Role {
    Follower,
    PreCandidate { granted: BTreeSet<NodeId>, repeat: Timer },
    Candidate { grants: Tally, repeat: Timer },
    Leader(Leader),
}

/// What only a leader has.
#[derive(Clone, Debug)]
struct Leader {
    /// For its tip.
    acks: Tally,
    /// Who was heard since the last check of the quorum.
    active: BTreeSet<NodeId>,
    heartbeat: Timer,
    check: Timer,
    /// The next block may be asked for from here on.
    block: Timer,
    /// A block was asked for on this parent.
    asked: Option<B256>,
}

impl Raft {
    /// An instance from what is durable. Writes nothing: what is final comes with a proof, which
    /// is logged with its `Adopt`, and the head is what is final.
    pub fn new(start: &Start<'_>, out: &mut Vec<Output>) -> Self {
        let Params::Raft(params) = &start.epoch.params else {
            unreachable!("an epoch of raft has the parameters of raft")
        };
        // A span of zero would be a timer that is always due.
        let params = RaftParams {
            heartbeat: Span(params.heartbeat.0.max(1)),
            election: Span(params.election.0.max(1)),
            ..params.clone()
        };
        let record = restored(start);
        let mut engine = Self {
            epoch: start.epoch.clone(),
            me: start.me,
            member: start.epoch.has_member(&start.me) || crate::planted!(NoFilterOfMembers),
            random: Random::new(start.seed ^ low_bits(&start.me) ^ start.epoch.number),
            written: record.clone(),
            record,
            role: Role::Follower,
            leader: None,
            wanted: None,
            finalized: start.finalized,
            proof: start.proof.clone(),
            pending: false,
            lease: Timer::after(start.now, params.election),
            election: Timer::off(),
            ended: start.tree.height(&start.finalized) >= start.epoch.last,
            params,
        };
        engine.rest(start.now);
        if crate::planted!(StartActs) {
            engine.campaign(&Context { now: start.now, tree: start.tree }, out);
        }
        engine
    }

    /// What is durable, or written before anything that rests on it is said.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Writes the record if it changed. Whatever binds this node comes after it.
    fn write(&mut self, out: &mut Vec<Output>) {
        if self.member && self.record != self.written {
            self.written = self.record.clone();
            let voted = self.record.voted.filter(|_| !crate::planted!(RaftForgetsVote));
            out.push(Output::Persist(crate::Record::Raft(Record { voted, ..self.record.clone() })));
        }
    }

    fn send(
        &mut self,
        to: Recipients,
        vote: Option<Vote>,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        self.write(out);
        out.push(Output::Send { to, vote, body: Body::Raft(message) });
    }

    fn say_heard(&mut self, to: NodeId, out: &mut Vec<Output>) {
        let message = Message::Heard { term: self.record.term };
        self.send(Recipients::One(to), None, message, out);
    }

    /// This node's vote in the record's term.
    fn vote(&self, step: Step, height: Height, hash: B256) -> Vote {
        let position = Position { epoch: self.epoch.number, step, height, round: self.record.term };
        Vote { position, hash, context: B256::ZERO }
    }

    /// Rule 1.
    fn raise(&mut self, now: Time, term: u64) {
        if term > self.record.term {
            self.record.term = term;
            self.record.voted = None;
            self.leader = None;
            self.wanted = None;
            self.follow(now);
        }
    }

    fn follow(&mut self, now: Time) {
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            self.rest(now);
        }
    }

    /// Puts the next election off.
    fn rest(&mut self, now: Time) {
        let election = self.params.election;
        self.election = Timer::after(now, Span(election.0 + self.random.below(election.0)));
    }

    /// A clock that jumped back would put every timer far off.
    fn fit_timers(&mut self, now: Time) {
        let RaftParams { heartbeat, election, block_interval, .. } = self.params;
        let fit = |timer: &mut Timer, most: Span| {
            if timer.deadline().is_some_and(|due| due.since(now) > most) {
                *timer = Timer::after(now, most);
            }
        };
        fit(&mut self.lease, election);
        fit(&mut self.election, Span(election.0.saturating_mul(2)));
        match &mut self.role {
            Role::Follower => {}
            Role::PreCandidate { repeat, .. } | Role::Candidate { repeat, .. } => {
                fit(repeat, heartbeat);
            }
            Role::Leader(leader) => {
                fit(&mut leader.heartbeat, heartbeat);
                fit(&mut leader.check, election);
                fit(&mut leader.block, block_interval);
            }
        }
    }

    fn is_majority(&self, members: &BTreeSet<NodeId>) -> bool {
        self.epoch.committee.weight_of_all(members) >= self.epoch.committee.majority()
    }

    fn tick(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        let heartbeat = Timer::after(cx.now, self.params.heartbeat);
        match &mut self.role {
            Role::Leader(leader) => {
                if leader.check.is_due(cx.now) && !self.keeps_quorum(cx.now) {
                    return self.follow(cx.now);
                }
                let Role::Leader(leader) = &mut self.role else { unreachable!("it still leads") };
                if leader.heartbeat.is_due(cx.now) {
                    leader.heartbeat = heartbeat;
                    leader.asked = None;
                    self.append(cx, out);
                }
            }
            _ if self.election.is_due(cx.now) => self.seek_election(cx, out),
            Role::PreCandidate { repeat, .. } | Role::Candidate { repeat, .. }
                if repeat.is_due(cx.now) =>
            {
                *repeat = heartbeat;
                self.request(cx, out);
            }
            _ => {}
        }
    }

    /// The vote of a message, if it is one of this epoch, of this step, by its sender.
    fn fitting(&self, from: NodeId, signed: Option<SignedVote>, step: Step) -> Option<SignedVote> {
        signed.filter(|signed| {
            let position = signed.vote.position;
            signed.signer == from
                && (position.epoch, position.step) == (self.epoch.number, step)
                && signed.vote.context.is_zero()
                && (step == Step::Ack || position.height == Height(0))
        })
    }

    fn message(
        &mut self,
        cx: &Context<'_>,
        (from, signed): (NodeId, Option<SignedVote>),
        message: Message,
        out: &mut Vec<Output>,
    ) {
        let mine = from == self.me;
        match message {
            Message::Append { proof } => match self.fitting(from, signed, Step::Ack) {
                Some(ack) if mine => self.on_ack(cx, &ack, out),
                Some(ack) => self.on_append(cx, &ack, proof, out),
                None => {}
            },
            Message::Ack => {
                if let Some(ack) = self.fitting(from, signed, Step::Ack) {
                    self.on_ack(cx, &ack, out);
                }
            }
            Message::Candidacy { last } => match self.fitting(from, signed, Step::Grant) {
                Some(grant) if mine => self.on_grant(cx, &grant, out),
                Some(grant) => self.on_candidacy(cx, &grant, last, out),
                None => {}
            },
            Message::Grant => {
                if let Some(grant) = self.fitting(from, signed, Step::Grant) {
                    self.on_grant(cx, &grant, out);
                }
            }
            Message::Heard { term } if !mine => self.on_heard(cx.now, from, term),
            Message::PreVote { term, last } if !mine => {
                self.on_pre_vote(cx, from, term, last, out);
            }
            Message::PreGrant { term } if !mine => self.on_pre_grant(cx, from, term, out),
            _ => {}
        }
    }
}

impl Engine for Raft {
    fn step(&mut self, cx: &Context<'_>, input: Input, out: &mut Vec<Output>) {
        if self.ended {
            return;
        }
        self.fit_timers(cx.now);
        match input {
            Input::Tick if self.member => self.tick(cx, out),
            Input::Message { from, vote, body: Body::Raft(message) } if self.member => {
                self.message(cx, (from, vote), message, out);
            }
            Input::Block { .. } if self.wanted.is_some_and(|vote| cx.tree.has(&vote.hash)) => {
                self.take_wanted(cx, out);
            }
            Input::Built { hash } => self.on_built(cx, hash, out),
            Input::Rejected { hash } => {
                self.wanted = self.wanted.filter(|vote| vote.hash != hash);
            }
            Input::Proof(proof) => self.finalize(cx, proof, out),
            Input::Pending(pending) => self.pending = pending,
            _ => {}
        }
        self.write(out);
        self.propose(cx, out);
    }

    fn deadline(&self) -> Option<Time> {
        if self.ended || !self.member {
            return None;
        }
        match &self.role {
            Role::Follower => self.election.deadline(),
            Role::PreCandidate { repeat, .. } | Role::Candidate { repeat, .. } => {
                Timer::earliest([*repeat, self.election])
            }
            Role::Leader(leader) => {
                // While the tip is not final, the next block waits for acks and not for a time.
                let due = self.record.tip == self.finalized && self.wants_block(leader);
                let block = if due { leader.block } else { Timer::off() };
                Timer::earliest([leader.heartbeat, leader.check, block])
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress { round: self.record.term, leader: self.leader }
    }

    fn describe(&self) -> String {
        let role = match self.role {
            Role::Follower => "follower",
            Role::PreCandidate { .. } => "pre-candidate",
            Role::Candidate { .. } => "candidate",
            Role::Leader(_) => "leader",
        };
        let Record { term, voted, tip, stamp } = &self.record;
        let voted = voted.map_or_else(|| "nobody".into(), |voted| voted.to_string());
        format!(
            "raft {role} in term {term} (voted for {voted}), tip {tip} taken in term {stamp}, \
             finalized {}",
            self.finalized
        )
    }
}

fn low_bits(id: &NodeId) -> u64 {
    u64::from_be_bytes(id.0[12..].try_into().expect("eight of twenty bytes"))
}

/// The record as logged, or what follows from finality alone.
fn restored(start: &Start<'_>) -> Record {
    let term = start.proof.as_ref().map_or(0, |proof| proof.certificate.vote.position.round);
    let finalized = Record { term, voted: None, tip: start.finalized, stamp: term };
    let Some(record) = &start.record else { return finalized };
    let crate::Record::Raft(record) = record else {
        unreachable!("the record of an epoch of raft is one of raft")
    };
    assert!(
        start.tree.has(&record.tip),
        "the log ends with block {}, which is not in the tree: a record and the blocks that it \
         names are durable together",
        record.tip
    );
    if start.tree.descends(record.tip, start.finalized) {
        return record.clone();
    }
    // Finality outran the log: as in rule 10.
    let mut record = Record { tip: start.finalized, stamp: record.stamp.max(term), ..*record };
    if term > record.term {
        record = Record { term, voted: None, ..record };
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ForkChoice, Tree};
    use protocol::tests::{GENESIS, block, epoch, id, term, tree};

    fn start_with(
        tree: &Tree,
        finalized: B256,
        proof: Option<FinalityProof>,
        record: Option<Record>,
    ) -> Raft {
        let start = Start {
            epoch: &epoch(),
            me: id(1),
            now: Time(0),
            seed: 0,
            tree,
            finalized,
            head: finalized,
            proof,
            record: record.map(crate::Record::Raft),
        };
        Raft::new(&start, &mut Vec::new())
    }

    #[test]
    fn a_start_goes_on_with_the_record_unless_finality_outran_it() {
        let mut tree = tree();
        tree.insert(block(2, GENESIS, 1, term(4)));
        let (ours, theirs) = (B256::repeat_byte(2), B256::repeat_byte(1));
        let record = Record { term: 4, voted: Some(id(1)), tip: ours, stamp: 4 };
        let kept = start_with(&tree, GENESIS, None, Some(record.clone()));
        assert_eq!(*kept.record(), record);
        let position = Position { epoch: 3, step: Step::Ack, height: Height(1), round: 5 };
        let vote = Vote { position, hash: theirs, context: B256::ZERO };
        let proof = Some(FinalityProof { certificate: Tally::default().certificate(&vote) });
        let outrun = Record { term: 5, voted: None, tip: theirs, stamp: 5 };
        for record in [None, Some(record)] {
            let started = start_with(&tree, theirs, proof.clone(), record);
            assert_eq!(*started.record(), outrun);
        }
    }

    #[test]
    #[should_panic(expected = "not in the tree")]
    fn a_record_without_its_block_is_a_broken_log() {
        let record = Record { term: 1, voted: None, tip: B256::repeat_byte(9), stamp: 1 };
        start_with(&tree(), GENESIS, None, Some(record));
    }

    #[test]
    fn a_node_that_is_no_member_only_learns_what_is_final() {
        let tree = tree();
        let start = Start {
            epoch: &epoch(),
            me: id(8),
            now: Time(0),
            seed: 0,
            tree: &tree,
            finalized: GENESIS,
            head: GENESIS,
            proof: None,
            record: None,
        };
        let mut engine = Raft::new(&start, &mut Vec::new());
        assert_eq!(engine.deadline(), None);
        let (cx, hash) = (Context { now: Time(9_999), tree: &tree }, B256::repeat_byte(1));
        let mut out = Vec::new();
        for input in [Input::Tick, Input::Pending(true), Input::Block { hash }] {
            engine.step(&cx, input, &mut out);
        }
        assert_eq!(out, []);
        let position = Position { epoch: 3, step: Step::Ack, height: Height(1), round: 5 };
        let vote = Vote { position, hash, context: B256::ZERO };
        let proof = FinalityProof { certificate: Tally::default().certificate(&vote) };
        engine.step(&cx, Input::Proof(proof.clone()), &mut out);
        let choice = ForkChoice { head: hash, safe: hash, finalized: hash };
        assert_eq!(out, [Output::Adopt { choice, proof: Some(proof) }]);
    }
}
