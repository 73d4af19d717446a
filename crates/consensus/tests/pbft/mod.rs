//! One PBFT engine on a bench: a test says what the others say, and sees what this one answers.
//!
//! Own votes come back at once. Checked all the time: what is said rests on a record that was
//! written first, no vote contradicts an earlier one of this life or of one before a crash, and
//! timers end.

#![allow(dead_code, reason = "each test uses its part")]

use crate::network::{block_on, epoch, genesis, id};
use alloy_primitives::{B256, Bytes, U256};
use landfall_consensus::pbft::{Justification, Message, Record};
use landfall_consensus::{
    Archive, Body, Context, Engine, Evidence, FinalityProof, Input, Output, Start, Tree, protocol,
};
use landfall_types::{
    Certificate, Committee, Epoch, Height, Kind, Member, NodeId, Params, PbftParams, Position,
    Signature, SignedVote, SignerSignature, Span, Step, Time, Vote, Weight,
};

/// What the tests of PBFT run with.
pub fn params() -> PbftParams {
    PbftParams {
        block_interval: Span(50),
        empty_blocks: false,
        round_timeout: Span(400),
        round_timeout_max: Span(2_000),
        retransmit: Span(100),
        clock_drift: Span(500),
    }
}

/// A signature that stands for a real one.
pub fn sign(signer: NodeId, vote: Vote) -> SignedVote {
    SignedVote { vote, signer, signature: Signature([signer[0]; 65]) }
}

/// An engine, all it sees, and what is durable.
pub struct Bench {
    pub epoch: Epoch,
    pub me: u8,
    pub now: Time,
    pub tree: Tree,
    pub finalized: B256,
    /// Of `finalized`.
    pub proof: Option<FinalityProof>,
    /// The data that the engine wants in the block that it asked for last.
    pub asked: Option<Bytes>,
    pub record: Option<Record>,
    /// Outputs after which the node crashes; what follows is lost.
    pub fuse: Option<usize>,
    engine: Box<dyn Engine>,
    archive: Archive,
}

impl Bench {
    /// Member `me` of `1..=members` of weight 1.
    pub fn new(members: u8, me: u8) -> Self {
        Self::weighted(&vec![1; members.into()], me)
    }

    pub fn weighted(weights: &[u128], me: u8) -> Self {
        let mut epoch = epoch(Params::Pbft(params()), 1, 20);
        let member = |(n, weight): (u8, &u128)| Member { id: id(n), weight: Weight(*weight) };
        epoch.committee = Committee::new((1..).zip(weights).map(member).collect()).unwrap();
        Self::start(epoch, me)
    }

    pub fn start(epoch: Epoch, me: u8) -> Self {
        let (tree, now, finalized) =
            (Tree::new(genesis()), genesis().time + Span(1_000), genesis().hash);
        let engine = start(&epoch, me, now, &tree, finalized, None, None);
        let archive = Archive::new(1_000);
        let (proof, asked) = (None, None);
        Self {
            epoch,
            me,
            now,
            tree,
            finalized,
            proof,
            asked,
            record: None,
            fuse: None,
            engine,
            archive,
        }
    }

    /// Loses its memory.
    pub fn restart(&mut self) {
        self.fuse = None;
        let (record, proof) = (self.record.clone(), self.proof.clone());
        self.asked = None;
        self.engine =
            start(&self.epoch, self.me, self.now, &self.tree, self.finalized, proof, record);
    }

    /// What the engine does, with what follows from its own votes.
    pub fn step(&mut self, input: Input) -> Vec<Output> {
        let mut all = Vec::new();
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let ticked = matches!(input, Input::Tick);
            let mut out = Vec::new();
            self.engine.step(&Context { now: self.now, tree: &self.tree }, input, &mut out);
            let due = self.engine.deadline();
            assert!(!ticked || due.is_none_or(|due| due > self.now), "a timer stays due");
            for output in out {
                match &mut self.fuse {
                    Some(0) => return all,
                    Some(left) => *left -= 1,
                    None => {}
                }
                inputs.extend(self.perform(&output));
                all.push(output);
            }
        }
        all
    }

    fn perform(&mut self, output: &Output) -> Option<Input> {
        match output {
            Output::Persist(landfall_consensus::Record::Pbft(record)) => {
                self.record = Some(record.clone());
            }
            Output::Send { vote: Some(vote), body, .. } => {
                let signed = sign(id(self.me), *vote);
                assert_eq!(self.archive.note(&signed), None, "it contradicts itself");
                self.check_written_first(vote);
                let (from, vote) = (id(self.me), Some(signed));
                return Some(Input::Message { from, vote, body: body.clone() });
            }
            Output::Adopt { choice, proof } => {
                let proof = proof.as_ref().expect("a decision has a proof");
                landfall_light::verify_proof(&self.epoch, proof).expect("the proof is good");
                assert!(self.tree.descends(choice.finalized, self.finalized));
                self.finalized = choice.finalized;
                self.proof = Some(proof.clone());
                self.asked = None;
            }
            Output::Build { extension, .. } => self.asked = Some(extension.clone()),
            Output::Report(evidence) => {
                let liar = protocol(Kind::Pbft).verify_evidence(&self.epoch, evidence);
                assert_ne!(liar.expect("the evidence is good"), id(self.me));
            }
            _ => {}
        }
        None
    }

    /// Everything that a vote says of this node is in its record.
    fn check_written_first(&self, vote: &Vote) {
        let record = self.record.as_ref().expect("a vote rests on a record");
        let place = vote.position;
        assert_eq!((record.height, record.round), (place.height, place.round));
        let prepared = record.prepared.as_ref().map(|it| it.vote);
        match place.step {
            Step::Proposal => {
                let own = record.proposal.as_ref().expect("a proposal is in the record");
                assert_eq!((own.hash, own.justification.digest()), (vote.hash, vote.context));
            }
            Step::Prepare => {
                let accepted = record.accepted.expect("what was accepted is in the record");
                assert_eq!((accepted.hash, accepted.digest), (vote.hash, vote.context));
                assert!(self.tree.has(&vote.hash), "a prepare for a block that is not here");
            }
            Step::Commit => {
                let prepared = prepared.expect("a certificate is in the record");
                assert_eq!((prepared.hash, prepared.position.round), (vote.hash, place.round));
            }
            Step::RoundChange => {
                let claimed = prepared.map_or(B256::ZERO, |it| it.hash);
                assert_eq!(vote.hash, claimed, "a round change says what the record says");
            }
            other => panic!("PBFT has no {other:?}"),
        }
    }

    /// Runs to the engine's deadline.
    pub fn tick(&mut self) -> Vec<Output> {
        let due = self.engine.deadline().expect("the engine waits for no time");
        self.now = self.now.max(due);
        self.step(Input::Tick)
    }

    /// Ticks until some vote of a step is said again, or said; panics after a minute.
    pub fn tick_until(&mut self, step: Step) -> Vote {
        let end = self.now + Span(60_000);
        while self.now < end {
            let out = self.tick();
            if let Some(vote) = votes(&out).into_iter().find(|vote| vote.position.step == step) {
                return vote;
            }
        }
        panic!("no {step:?} within a minute: {}", self.state());
    }

    pub fn deadline(&self) -> Option<Time> {
        self.engine.deadline()
    }

    pub fn state(&self) -> String {
        self.engine.describe()
    }

    pub fn height(&self) -> Height {
        self.tree.height(&self.finalized).next()
    }

    /// The data of a block on the last decision that carries what decided it.
    pub fn data(&self) -> Bytes {
        let carried = self.proof.as_ref().map(|proof| alloy_rlp::encode(&proof.certificate));
        carried.unwrap_or_default().into()
    }

    /// A block on the last decision, made `late` milliseconds from now.
    pub fn insert(&mut self, by: u8, late: u64) -> B256 {
        self.insert_with(by, late, self.data())
    }

    fn insert_with(&mut self, by: u8, late: u64, data: Bytes) -> B256 {
        let parent = self.tree.block(&self.finalized).clone();
        let block = block_on(&parent, id(by), self.now + Span(late), data);
        if !self.tree.has(&block.hash) {
            self.tree.insert(block.clone());
        }
        block.hash
    }

    /// The same, and the engine is told.
    pub fn block(&mut self, by: u8, late: u64) -> (B256, Vec<Output>) {
        let hash = self.insert(by, late);
        (hash, self.step(Input::Block { hash }))
    }

    /// A block that this node made.
    pub fn built(&mut self) -> (B256, Vec<Output>) {
        let data = self.asked.clone().unwrap_or_else(|| self.data());
        let hash = self.insert_with(self.me, 0, data);
        (hash, self.step(Input::Built { hash }))
    }

    pub fn vote(&self, step: Step, round: u64, hash: B256, context: B256) -> Vote {
        let position = Position { epoch: 0, step, height: self.height(), round };
        Vote { position, hash, context }
    }

    pub fn hear(&mut self, from: u8, vote: Vote, message: Message) -> Vec<Output> {
        self.hear_signed(sign(id(from), vote), message)
    }

    pub fn hear_signed(&mut self, vote: SignedVote, message: Message) -> Vec<Output> {
        let (from, vote) = (vote.signer, Some(vote));
        self.step(Input::Message { from, vote, body: Body::Pbft(message) })
    }

    pub fn proposal(
        &mut self,
        from: u8,
        round: u64,
        hash: B256,
        why: &Justification,
    ) -> Vec<Output> {
        let vote = self.vote(Step::Proposal, round, hash, why.digest());
        self.hear(from, vote, Message::Proposal { justification: why.clone() })
    }

    pub fn prepare(
        &mut self,
        from: u8,
        round: u64,
        hash: B256,
        why: &Justification,
    ) -> Vec<Output> {
        let vote = self.vote(Step::Prepare, round, hash, why.digest());
        self.hear(from, vote, Message::Prepare)
    }

    pub fn commit(&mut self, from: u8, round: u64, hash: B256) -> Vec<Output> {
        let vote = self.vote(Step::Commit, round, hash, B256::ZERO);
        self.hear(from, vote, Message::Commit)
    }

    pub fn change(&mut self, from: u8, round: u64, prepared: Option<Certificate>) -> Vec<Output> {
        let vote = self.change_vote(round, prepared.as_ref());
        self.hear(from, vote, Message::RoundChange { prepared })
    }

    pub fn change_vote(&self, round: u64, prepared: Option<&Certificate>) -> Vote {
        let said = prepared.map(|it| (it.vote.hash, it.vote.position.round + 1));
        let (hash, number) = said.unwrap_or_default();
        self.vote(Step::RoundChange, round, hash, B256::from(U256::from(number)))
    }

    /// The prepares of some members.
    pub fn prepares(&self, by: &[u8], round: u64, hash: B256, why: &Justification) -> Certificate {
        let vote = self.vote(Step::Prepare, round, hash, why.digest());
        let one =
            |n: &u8| SignerSignature { signer: id(*n), signature: sign(id(*n), vote).signature };
        Certificate { vote, signatures: by.iter().map(one).collect() }
    }

    /// The round changes of some members, each with what it says was prepared; the certificate of
    /// the latest is inside.
    pub fn justify(&self, round: u64, by: &[(u8, Option<&Certificate>)]) -> Justification {
        let change = |(n, prepared): &(u8, Option<&Certificate>)| -> SignedVote {
            sign(id(*n), self.change_vote(round, *prepared))
        };
        let latest = by.iter().filter_map(|(_, it)| *it).max_by_key(|it| it.vote.position.round);
        Justification { round_changes: by.iter().map(change).collect(), prepared: latest.cloned() }
    }

    /// A proof that some members committed a block.
    pub fn proof(&self, by: &[u8], round: u64, hash: B256) -> FinalityProof {
        let position =
            Position { epoch: 0, step: Step::Commit, height: self.tree.height(&hash), round };
        let vote = Vote { position, hash, context: B256::ZERO };
        let one =
            |n: &u8| SignerSignature { signer: id(*n), signature: sign(id(*n), vote).signature };
        FinalityProof {
            certificate: Certificate { vote, signatures: by.iter().map(one).collect() },
        }
    }
}

fn start(
    epoch: &Epoch,
    me: u8,
    now: Time,
    tree: &Tree,
    finalized: B256,
    proof: Option<FinalityProof>,
    record: Option<Record>,
) -> Box<dyn Engine> {
    let record = record.map(landfall_consensus::Record::Pbft);
    let (me, head) = (id(me), finalized);
    let start = Start { epoch, me, now, seed: 1, tree, finalized, head, proof, record };
    let mut out = Vec::new();
    let engine = protocol(Kind::Pbft).start(start, &mut out);
    assert_eq!(out, [], "a start acts");
    engine
}

/// That of round 0.
pub fn nothing() -> Justification {
    Justification { round_changes: vec![], prepared: None }
}

/// The votes among outputs.
pub fn votes(out: &[Output]) -> Vec<Vote> {
    let vote = |output: &Output| match output {
        Output::Send { vote, .. } => *vote,
        _ => None,
    };
    out.iter().filter_map(vote).collect()
}

/// The steps of the votes among outputs.
pub fn steps(out: &[Output]) -> Vec<Step> {
    votes(out).iter().map(|vote| vote.position.step).collect()
}

/// The evidence among outputs.
pub fn reports(out: &[Output]) -> Vec<Evidence> {
    let report = |output: &Output| match output {
        Output::Report(evidence) => Some(evidence.clone()),
        _ => None,
    };
    out.iter().filter_map(report).collect()
}

/// What was decided.
pub fn decision(out: &[Output]) -> Option<B256> {
    out.iter().find_map(|output| match output {
        Output::Adopt { choice, .. } => Some(choice.finalized),
        _ => None,
    })
}
