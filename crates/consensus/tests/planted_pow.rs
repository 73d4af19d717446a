//! What the tests of proof of work see when a rule is left out: a checker that cannot fail proves
//! nothing. Needs the feature `planted`.
#![cfg(feature = "planted")]

mod miner;

use alloy_primitives::{B256, Bytes, U256};
use landfall_consensus::{Bug, FinalityProof, Start, Tree, TreeBlock, plant, pow, protocol};
use landfall_types::{Certificate, Height, Kind, NodeId, Position, Span, Step, Time, Vote};
use miner::{INTERVAL, Node, RATE, ROOT, epoch, root};

fn with<T>(bug: Option<Bug>, check: impl FnOnce() -> T) -> T {
    plant(bug);
    let found = check();
    plant(None);
    found
}

fn block(name: u64, parent: &TreeBlock) -> TreeBlock {
    TreeBlock {
        hash: B256::from(U256::from(name)),
        parent: parent.hash,
        height: parent.height.next(),
        time: parent.time + Span(1),
        epoch: 0,
        proposer: NodeId::repeat_byte(9),
        difficulty: U256::from(10),
        data: Bytes::new(),
    }
}

/// The mean interval at twice the hash rate that the first target was made for.
fn mean_interval() -> u64 {
    let (epoch, mut parent) = (epoch(6), root());
    for _ in 0..5_000 {
        let work = f64::from(pow::difficulty_after(&epoch, &parent));
        let span = (work / (2.0 * RATE)).round().min(1e15) as u64;
        parent = TreeBlock {
            height: parent.height.next(),
            time: parent.time + Span(span.max(1)),
            ..parent
        };
    }
    parent.time.0 / 5_000
}

#[test]
fn wrong_sign_of_the_difficulty_is_seen() {
    let right = with(None, mean_interval);
    assert!(right.abs_diff(INTERVAL) < INTERVAL / 10, "{right}");
    let wrong = with(Some(Bug::AsertSign), mean_interval);
    assert!(wrong.abs_diff(INTERVAL) > INTERVAL / 2, "{wrong}");
}

/// Whether finality stays on one branch when a heavier one from below it comes.
fn finality_stays() -> bool {
    let mut node = Node::new(1, &epoch(4));
    let mut ours = root();
    for name in 1..=8 {
        ours = block(name, &ours);
        node.take(1, &ours);
    }
    let before = node.choice.finalized;
    let mut rival = root();
    for name in 101..=112 {
        rival = block(name, &rival);
        node.tree.insert(rival.clone());
        let mut out = Vec::new();
        let cx = landfall_consensus::Context { now: Time(1), tree: &node.tree };
        let input = landfall_consensus::Input::Block { hash: rival.hash };
        node.engine.step(&cx, input, &mut out);
        let moved = out.iter().find_map(|output| match output {
            landfall_consensus::Output::Adopt { choice, .. } => Some(choice.finalized),
            _ => None,
        });
        if moved.is_some_and(|to| !node.tree.descends(to, before)) {
            return false;
        }
    }
    true
}

#[test]
fn adoption_below_finalized_is_seen() {
    assert!(with(None, finality_stays));
    assert!(!with(Some(Bug::AdoptBelowFinalized), finality_stays));
}

/// Whether a start repeats the fork choice that was lost with a crash.
fn start_repeats() -> bool {
    let (epoch, mut tree, mut out) = (epoch(4), Tree::new(root()), Vec::new());
    tree.insert(block(1, &root()));
    let start = Start {
        epoch: &epoch,
        me: NodeId::repeat_byte(1),
        now: Time(1),
        seed: 0,
        tree: &tree,
        finalized: ROOT,
        head: ROOT,
        proof: None,
        record: None,
    };
    protocol(Kind::Pow).start(start, &mut out);
    out.len() == 1
}

#[test]
fn silent_start_is_seen() {
    assert!(with(None, start_repeats));
    assert!(!with(Some(Bug::StartSilent), start_repeats));
}

#[test]
fn proof_in_a_lottery_is_seen() {
    let check = || {
        let position = Position { epoch: 0, step: Step::Commit, height: Height(1), round: 0 };
        let vote = Vote { position, hash: ROOT, context: ROOT };
        let proof = FinalityProof { certificate: Certificate { vote, signatures: Vec::new() } };
        protocol(Kind::Pow).verify_proof(&epoch(4), &proof).is_err()
    };
    assert!(with(None, check));
    assert!(!with(Some(Bug::ProofByOne), check));
}
