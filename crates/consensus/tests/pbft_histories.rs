//! Random histories of PBFT: honest members under faults, one engine under liars that say
//! anything.

#[path = "network/mod.rs"]
mod network;
#[path = "pbft/mod.rs"]
mod pbft;

use alloy_primitives::B256;
use landfall_consensus::pbft::{Justification, Message};
use landfall_consensus::{Body, Input, Output, Random};
use landfall_types::{Certificate, Height, Params, Position, SignedVote, Span, Step, Time, Vote};
use network::{Network, id};
use pbft::{Bench, nothing, params, reports, sign, votes};

/// The final height of every node after a history that the seed draws.
fn history(seed: u64) -> Vec<Height> {
    let members = 4 + u8::try_from(seed % 4).unwrap();
    let last = if seed.is_multiple_of(3) { 12 } else { 1_000 };
    let mut network = Network::new(Params::Pbft(params()), members, last, seed);
    network.torment(60);
    network.recover();
    network.expect_progress(3, Span(4 * params().round_timeout_max.0));
    let goal = network.highest();
    let end = network.now + Span(4 * params().round_timeout_max.0);
    let all = |network: &Network| (1..=members).all(|n| network.finalized(n) >= goal);
    assert!(network.run_until(end, all), "a node stays behind {goal}");
    (1..=members).map(|n| network.finalized(n)).collect()
}

#[test]
fn members_under_faults_agree_and_go_on_when_these_end() {
    let heights: u64 = (0..150).map(|seed| history(seed)[0].0).sum();
    assert!(heights > 1_500, "the histories are too short to say anything: {heights}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    assert_eq!(history(7), history(7));
}

#[cfg(feature = "planted")]
#[test]
fn histories_see_rules_left_out() {
    use landfall_consensus::{Bug, plant};
    let bugs = [
        Bug::PbftForgetsPrepared,
        Bug::PbftNoRetransmit,
        Bug::ProposalInSeal,
        Bug::QuorumOffByOne,
        Bug::StartActs,
    ];
    for bug in bugs {
        plant(Some(bug));
        let seen = (0..300).find(|seed| std::panic::catch_unwind(|| history(*seed)).is_err());
        plant(None);
        // Without the bug nothing is wrong with that history.
        history(seen.unwrap_or_else(|| panic!("{bug:?} is not seen")));
    }
}

/// Liars that know the protocol: they say what could be said, at the wrong time, to the wrong
/// height, with certificates of their own making, of any weight.
struct Liars {
    random: Random,
    blocks: Vec<B256>,
    justifications: Vec<Justification>,
    certificates: Vec<Certificate>,
}

impl Liars {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            blocks: vec![B256::ZERO, B256::repeat_byte(9)],
            justifications: vec![nothing()],
            certificates: Vec::new(),
        }
    }

    fn one<T: Clone>(random: &mut Random, of: &[T]) -> Option<T> {
        let index = random.below(of.len() as u64);
        of.get(usize::try_from(index).unwrap()).cloned()
    }

    /// Mostly the newest.
    fn block(&mut self) -> B256 {
        match self.random.below(3) {
            0 => Self::one(&mut self.random, &self.blocks).unwrap(),
            _ => *self.blocks.last().unwrap(),
        }
    }

    /// Mostly that of the engine, or near it.
    fn round(&mut self, bench: &Bench) -> u64 {
        let here = bench.record.as_ref().filter(|it| it.height == bench.height());
        let here = here.map_or(0, |it| it.round);
        match self.random.below(40) {
            0 => u64::MAX,
            1 => u64::from(u32::MAX),
            2 => self.random.below(1_000),
            3..10 => self.random.below(here + 4),
            _ => here,
        }
    }

    /// Whose signatures they have: all but that of the engine, member 1.
    fn members(&mut self) -> Vec<u8> {
        (2..=5).filter(|_| self.random.chance(60)).collect()
    }

    /// Something new to lie with.
    fn learn(&mut self, bench: &Bench) {
        let (round, by) = (self.round(bench), self.members());
        let block = self.block();
        let why = Self::one(&mut self.random, &self.justifications).unwrap();
        let mut certificate = bench.prepares(&by, round, block, &why);
        if self.random.chance(10) {
            certificate.vote.position.step = Step::Commit;
        }
        self.certificates.push(certificate);
        let claims: Vec<_> = by
            .iter()
            .map(|n| {
                let claim = self.random.chance(50);
                (*n, claim.then(|| Self::one(&mut self.random, &self.certificates)).flatten())
            })
            .collect();
        let claims: Vec<_> = claims.iter().map(|(n, it)| (*n, it.as_ref())).collect();
        let known =
            claims.iter().all(|(_, it)| it.is_none_or(|it| it.vote.position.round < 1 << 40));
        if known {
            let round = self.round(bench);
            self.justifications.push(bench.justify(round, &claims));
        }
        self.justifications.drain(1..self.justifications.len().saturating_sub(20).max(1));
        self.certificates.drain(..self.certificates.len().saturating_sub(20));
        self.blocks.drain(2..self.blocks.len().saturating_sub(2).max(2));
    }

    fn message(&mut self, bench: &Bench) -> (SignedVote, Message) {
        let from = 2 + u8::try_from(self.random.below(4)).unwrap();
        let hash = self.block();
        let why = Self::one(&mut self.random, &self.justifications).unwrap();
        let prepared = Self::one(&mut self.random, &self.certificates)
            .filter(|it| self.random.chance(60) && it.vote.position.round < 1 << 40);
        let round = self.round(bench);
        let (step, hash, context, message) = match self.random.below(4) {
            0 => {
                let message = Message::Proposal { justification: why.clone() };
                (Step::Proposal, hash, why.digest(), message)
            }
            1 => (Step::Prepare, hash, why.digest(), Message::Prepare),
            2 => (Step::Commit, hash, B256::ZERO, Message::Commit),
            _ => {
                let claim = bench.change_vote(round, prepared.as_ref());
                let message = Message::RoundChange { prepared };
                (Step::RoundChange, claim.hash, claim.context, message)
            }
        };
        let mut position = Position { epoch: 0, step, height: bench.height(), round };
        match self.random.below(60) {
            0 => position.height = Height(u64::MAX),
            1 => position.epoch = 1,
            2 => position.step = Step::Ack,
            3..10 => position.height = bench.height().next(),
            _ => {}
        }
        (sign(id(from), Vote { position, hash, context }), message)
    }
}

/// The bench checks what the engine answers: no vote without its record, none against another,
/// nothing decided without a quorum, no timer that stays due.
fn besieged(seed: u64) -> (usize, usize, u64) {
    let mut bench = Bench::new(4, 1);
    let mut liars = Liars::new(seed);
    let (mut said, mut accused) = (0, 0);
    for _ in 0..600 {
        liars.learn(&bench);
        let out = match liars.random.below(24) {
            0 => bench.step(Input::Pending(liars.random.chance(80))),
            1 if bench.deadline().is_some() => bench.tick(),
            2 => {
                bench.restart();
                Vec::new()
            }
            3 => {
                let by = 1 + u8::try_from(liars.random.below(4)).unwrap();
                let (block, out) = bench.block(by, liars.random.below(1_000));
                liars.blocks.push(block);
                out
            }
            4 => {
                let jump = liars.random.below(4_000);
                bench.now = Time(bench.now.0 + jump - 2_000.min(jump / 2));
                bench.step(Input::Rejected { hash: B256::repeat_byte(9) })
            }
            5 => {
                bench.fuse = Some(usize::try_from(liars.random.below(3)).unwrap());
                let (vote, message) = liars.message(&bench);
                let out = bench.hear_signed(vote, message);
                bench.restart();
                out
            }
            _ => {
                let (vote, message) = liars.message(&bench);
                bench.hear_signed(vote, message)
            }
        };
        if out.iter().any(|it| matches!(it, Output::Build { .. })) {
            let (block, _) = bench.built();
            liars.blocks.push(block);
        }
        said += votes(&out).len();
        accused += reports(&out).len();
    }
    (said, accused, bench.height().0)
}

#[test]
fn whatever_liars_say_an_engine_keeps_its_word_and_does_not_fail() {
    let (mut said, mut accused, mut height) = (0, 0, 0);
    for seed in 0..300 {
        let (votes, reports, top) = besieged(seed);
        said += votes;
        accused += reports;
        height += top;
    }
    assert!(said > 5_000 && accused > 1_000 && height > 400, "{said} {accused} {height}");
}

#[test]
fn messages_that_fit_nothing_are_ignored() {
    let mut bench = Bench::new(4, 1);
    let vote = bench.vote(Step::RoundChange, 3, B256::ZERO, B256::ZERO);
    let signed = Some(sign(id(2), vote));
    let change = || Body::Pbft(Message::RoundChange { prepared: None });
    let raft = Body::Raft(landfall_consensus::raft::Message::Grant);
    for input in [
        Input::Message { from: id(3), vote: signed, body: change() },
        Input::Message { from: id(2), vote: None, body: change() },
        Input::Message { from: id(2), vote: signed, body: Body::Pbft(Message::Commit) },
        Input::Message { from: id(2), vote: signed, body: raft },
        Input::Rejected { hash: B256::ZERO },
    ] {
        assert_eq!(bench.step(input), []);
    }
    assert!(bench.state().contains("height 1, round 0"));
}

/// An observer follows by proofs, and says nothing.
#[test]
fn who_is_no_member_follows_and_says_nothing() {
    let mut bench = Bench::new(4, 9);
    bench.step(Input::Pending(true));
    assert_eq!(bench.deadline(), None);
    let (block, out) = bench.block(2, 0);
    assert_eq!(out, []);
    assert_eq!(bench.proposal(2, 0, block, &nothing()), []);
    let proof = bench.proof(&[1, 2, 3], 0, block);
    assert!(matches!(bench.step(Input::Proof(proof))[..], [Output::Adopt { .. }]));
}
