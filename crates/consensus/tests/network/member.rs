//! One member of a Raft instance, stepped by hand.

use super::{CHAIN, GENESIS, block_on, epoch, genesis, id, sign};
use alloy_primitives::B256;
use landfall_consensus::raft::{Last, Message, Raft, Record};
use landfall_consensus::{
    Body, Context, Engine, FinalityProof, Input, Output, Recipients, Start, Tree, TreeBlock,
};
use landfall_types::{
    Certificate, Epoch, Height, NodeId, Params, Position, RaftParams, SignerSignature, Span, Step,
    Time, Vote,
};

pub const ELECTION: Span = Span(300);
pub const HEARTBEAT: Span = Span(50);

pub fn params() -> RaftParams {
    RaftParams {
        heartbeat: HEARTBEAT,
        election: ELECTION,
        block_interval: Span(100),
        empty_blocks: false,
    }
}

/// A member, stepped by hand.
pub struct One {
    pub engine: Raft,
    pub tree: Tree,
    pub epoch: Epoch,
    pub now: Time,
}

pub fn start(epoch: &Epoch, tree: &Tree, record: Option<Record>, now: Time) -> Raft {
    let start = Start {
        epoch,
        me: id(1),
        now,
        seed: 7,
        tree,
        finalized: CHAIN,
        head: CHAIN,
        proof: None,
        record: record.map(landfall_consensus::Record::Raft),
    };
    let mut out = Vec::new();
    let engine = Raft::new(&start, &mut out);
    assert_eq!(out, [], "a start says nothing");
    engine
}

impl One {
    /// Node 1 of so many, up for long enough to vote.
    pub fn new(members: u8) -> Self {
        let mut one = Self::fresh(members, params(), u64::MAX);
        one.now += ELECTION;
        one
    }

    pub fn fresh(members: u8, params: RaftParams, last: u64) -> Self {
        let epoch = epoch(Params::Raft(params), members, last);
        let (tree, now) = (Tree::new(genesis()), GENESIS + Span(1_000));
        Self { engine: start(&epoch, &tree, None, now), tree, epoch, now }
    }

    /// It crashes and starts with a record; up for long enough to vote.
    pub fn restart(&mut self, record: Record) {
        self.engine = start(&self.epoch, &self.tree, Some(record), self.now);
        self.now += ELECTION;
    }

    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.step(&Context { now: self.now, tree: &self.tree }, input, &mut out);
        out
    }

    pub fn tick(&mut self) -> Vec<Output> {
        self.now = self.engine.deadline().expect("a member has a timer");
        let out = self.step(Input::Tick);
        assert!(self.engine.deadline().unwrap() > self.now);
        out
    }

    pub fn hear(&mut self, from: u8, vote: Option<Vote>, message: Message) -> Vec<Output> {
        let vote = vote.map(|vote| sign(id(from), vote, 0));
        self.step(Input::Message { from: id(from), vote, body: Body::Raft(message) })
    }

    /// A leader's heartbeat.
    pub fn append(&mut self, from: u8, term: u64, tip: &TreeBlock) -> Vec<Output> {
        self.hear(from, Some(ack(term, tip)), Message::Append { proof: None })
    }

    pub fn candidacy(&mut self, from: u8, term: u64, stamp: u64, height: u64) -> Vec<Output> {
        let last = Last { stamp, height: Height(height) };
        self.hear(from, Some(grant(term, id(from))), Message::Candidacy { last })
    }

    /// Gives it a block.
    pub fn block(&mut self, parent: &TreeBlock, proposer: u8, term: u64) -> TreeBlock {
        let block = made(parent, proposer, term);
        self.tree.insert(block.clone());
        block
    }

    /// Makes it the leader, by the votes of the first members.
    pub fn elect(&mut self) -> u64 {
        let members = self.epoch.committee.len() as u8;
        self.tick();
        let term = self.record().term + 1;
        for n in 2..=members / 2 + 1 {
            self.hear(n, None, Message::PreGrant { term });
        }
        for n in 1..=members / 2 + 1 {
            let message = if n == 1 { Message::Candidacy { last: LEAST } } else { Message::Grant };
            self.hear(n, Some(grant(term, id(1))), message);
        }
        assert!(self.is("leader"));
        term
    }

    pub fn is(&self, role: &str) -> bool {
        self.engine.describe().starts_with(&format!("raft {role} "))
    }

    pub fn record(&self) -> &Record {
        self.engine.record()
    }
}

pub const LEAST: Last = Last { stamp: 0, height: Height(0) };

pub fn made(parent: &TreeBlock, proposer: u8, term: u64) -> TreeBlock {
    let data = term.to_be_bytes().to_vec().into();
    block_on(parent, id(proposer), parent.time + Span(100), data)
}

pub fn vote(step: Step, height: Height, round: u64, hash: B256) -> Vote {
    Vote { position: Position { epoch: 0, step, height, round }, hash, context: B256::ZERO }
}

pub fn grant(term: u64, candidate: NodeId) -> Vote {
    vote(Step::Grant, Height(0), term, candidate.into_word())
}

pub fn ack(term: u64, tip: &TreeBlock) -> Vote {
    vote(Step::Ack, tip.height, term, tip.hash)
}

pub fn proof(term: u64, tip: &TreeBlock, signers: &[u8]) -> FinalityProof {
    let vote = ack(term, tip);
    let one =
        |n: &u8| SignerSignature { signer: id(*n), signature: sign(id(*n), vote, 0).signature };
    FinalityProof {
        certificate: Certificate { vote, signatures: signers.iter().map(one).collect() },
    }
}

pub fn records(out: &[Output]) -> Vec<Record> {
    let record = |output: &Output| match output {
        Output::Persist(landfall_consensus::Record::Raft(record)) => Some(record.clone()),
        _ => None,
    };
    out.iter().filter_map(record).collect()
}

/// What is sent, as (to, vote, message).
pub fn sends(out: &[Output]) -> Vec<(Recipients, Option<Vote>, Message)> {
    let send = |output: &Output| match output {
        Output::Send { to, vote, body: Body::Raft(message) } => Some((*to, *vote, message.clone())),
        _ => None,
    };
    out.iter().filter_map(send).collect()
}

pub fn granted(out: &[Output]) -> bool {
    sends(out).iter().any(|(_, _, message)| *message == Message::Grant)
}

pub fn acked(out: &[Output]) -> Option<Vote> {
    sends(out).into_iter().find(|(_, _, message)| *message == Message::Ack).and_then(|sent| sent.1)
}

pub fn heard(term: u64, to: u8) -> (Recipients, Option<Vote>, Message) {
    (Recipients::One(id(to)), None, Message::Heard { term })
}

pub fn adopted(out: &[Output]) -> Option<B256> {
    out.iter().find_map(|output| match output {
        Output::Adopt { choice, proof } => {
            assert!(proof.is_some() && choice.head == choice.finalized);
            Some(choice.finalized)
        }
        _ => None,
    })
}

pub fn built_on(out: &[Output]) -> Option<B256> {
    out.iter().find_map(|output| match output {
        Output::Build { parent, .. } => Some(*parent),
        _ => None,
    })
}
