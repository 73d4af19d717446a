//! What went wrong elsewhere, in whole nodes over real chains: the rows of the table of field
//! regressions that need a replica. The names say which row. Losses of power, B1, B2, B10, B11 and
//! B25, are in `field_power.rs`.
//!
//! Rows that an engine alone can show stand with the engines: B3, B4, B5, B6 and B9 in
//! `paper_pbft.rs` of the consensus crate, B13, B14 and B15 in its `raft_network.rs`. B2, B8, B16
//! and B29 stand there too, and here with the log and the disk under them.
//!
//! B7 and B12 are limits of the model: a member that lost its disk and comes back under its old
//! name counts as one that lies. The tests show both sides: one such member at a time syncs from the
//! others and nothing goes wrong; as soon as those that forgot are a quorum among themselves, a
//! second block becomes final (even if a node that remembers can be reached: they need not ask it
//! first), and the nodes that remember stop, naming both blocks. That the returned node refuses its
//! old name needs a mark beside its key that says that the key has voted; the directory of the chain
//! cannot tell that it was emptied.
//!
//! With the feature `planted`, the last tests leave out the rules and see these tests fail.

mod cluster;

use alloy_consensus::Sealed;
use alloy_primitives::{B256, Bytes};
use cluster::{Cluster, Kept, PATIENCE, id, key, others, settled, size};
use landfall_consensus::FinalityProof;
use landfall_replica::{Event, Halt, JobKind, Signer, Wire};
use landfall_types::{
    Block, Certificate, Extension, Height, Params, Position, SignerSignature, Span, Step, Vote,
};
use std::collections::BTreeSet;

/// Besu #8307: validators come back with empty directories. One by one they sync from those that
/// remember, vote again, and nothing that was final is decided anew; what they have forgotten and
/// say otherwise may be held against them.
#[test]
fn b7_validators_without_disks_that_return_one_by_one_are_taken_in() {
    let mut it = settled(cluster::pbft(), 4);
    let height = it.finalized(0);
    let before: Vec<Block> = (1..=height).map(|at| it.block_at(0, at)).collect();
    for node in 1..4 {
        it.wipe(node);
        it.run_for(Span(1_000));
        it.start(node);
        let height = it.finalized(0) + 2;
        it.expect_final(&[0, 1, 2, 3], height, PATIENCE);
    }
    for (at, block) in (1..).zip(&before) {
        assert!((0..4).all(|node| it.block_at(node, at).hash() == block.hash()), "height {at}");
    }
    it.check_but(&[1, 2, 3]);
}

/// Nodes that lost their disks have decided again what was final; the one that remembers is cut
/// off, and then it is not.
fn forked_by_wiped(params: Params, wiped: &[usize], cut: &[usize]) -> Cluster {
    let nodes = size(&params);
    let mut it = settled(params, nodes);
    let height = it.finalized(cut[0]);
    it.part(cut);
    for node in wiped {
        it.wipe(*node);
    }
    for node in wiped {
        it.start(*node);
    }
    it.expect_final(&others(nodes, cut), height + 2, PATIENCE);
    it.heal();
    it.run_for(Span(5_000));
    it
}

fn stops_with_both_named(it: &Cluster, node: usize) {
    match &it.nodes[node].halt {
        Some(Halt::ConflictingProofs { height, ours, theirs }) => {
            assert_ne!(ours, theirs);
            assert!(height.0 > 0, "the genesis is the same");
        }
        other => panic!("node {node} does not stop: {other:?}\n{}", it.describe()),
    }
}

/// The limit of B7: where the node that remembers cannot be reached, a quorum without memory is a
/// quorum that lies. It decides again, and the one that remembers stops when it hears of it.
#[test]
fn b7_limit_a_quorum_without_disks_forks_and_the_node_that_remembers_stops() {
    let it = forked_by_wiped(cluster::pbft(), &[1, 2, 3], &[0]);
    stops_with_both_named(&it, 0);
}

/// SmartBFT #663 and Fabric #5076: sync hands in what is known, and the node takes it for news.
#[test]
fn b8_blocks_and_proofs_that_are_known_change_nothing() {
    for params in [cluster::pbft(), cluster::raft()] {
        let nodes = size(&params);
        let mut it = settled(params, nodes);
        it.run_for(Span(10));
        let (choice, state) = (it.replica(1).choice(), it.replica(1).describe());
        let (queued, shown) = (it.replica(1).queued(), it.nodes[1].shown.len());
        let top = it.finalized(1);
        for _ in 0..3 {
            for height in 1..=top {
                it.inject(0, 1, &Wire::Block(it.block_at(0, height)));
                let found = it.reader(0).proof_at_or_above(height).unwrap();
                let Some((_, _, bytes)) = found else { continue };
                let proof: FinalityProof = alloy_rlp::Decodable::decode(&mut &bytes[..]).unwrap();
                it.inject(0, 1, &Wire::Proof(proof.clone()));
                // The same decision, proven by others.
                let vote = proof.certificate.vote;
                it.inject(0, 1, &Wire::Proof(proven_by(&it, vote, &[1, 2, nodes - 1])));
            }
        }
        assert_eq!((it.replica(1).choice(), it.replica(1).describe()), (choice, state));
        assert_eq!((it.replica(1).queued(), it.nodes[1].shown.len()), (queued, shown));
        let all: Vec<usize> = (0..nodes).collect();
        it.expect_final(&all, top + 2, PATIENCE);
        it.check();
    }
}

/// A proof of a vote, signed by these members.
fn proven_by(it: &Cluster, vote: Vote, members: &[usize]) -> FinalityProof {
    let chain = it.reader(0).genesis_hash();
    let signed = members.iter().collect::<BTreeSet<_>>().into_iter().map(|member| {
        let signature = key(*member).sign(&vote, chain).expect("a signer without memory");
        SignerSignature { signer: id(*member), signature }
    });
    let mut signatures: Vec<SignerSignature> = signed.collect();
    signatures.sort_by_key(|one| one.signer);
    FinalityProof { certificate: Certificate { vote, signatures } }
}

/// etcd #13066: a member comes back empty. The leader can be reached: it is taken in again.
#[test]
fn b12_a_member_without_its_disk_is_taken_in_while_a_majority_remembers() {
    let mut it = settled(cluster::raft(), 3);
    let leader = it.leader().expect("there is one");
    let back = others(3, &[leader])[0];
    let height = it.finalized(leader);
    it.wipe(back);
    it.start(back);
    it.expect_final(&[0, 1, 2], height + 3, PATIENCE);
    it.check_but(&[back]);
}

/// The limit of B12: the member that acknowledged forgets, and with the one that had not heard it
/// makes a majority. What was final is decided again; the node that remembers stops.
#[test]
fn b12_limit_a_member_without_its_disk_forks_and_the_node_that_remembers_stops() {
    let mut it = Cluster::new(cluster::raft(), 3);
    assert!(it.run_until(PATIENCE, |it| it.leader().is_some()));
    let leader = it.leader().expect("there is one");
    let [back, deaf] = others(3, &[leader])[..] else { panic!("there are three") };
    it.part(&[deaf]);
    it.expect_final(&[leader, back], it.finalized(leader) + 3, PATIENCE);
    it.heal();
    it.part(&[leader]);
    it.wipe(back);
    it.start(back);
    let height = it.finalized(leader);
    it.expect_final(&[back, deaf], height + 1, PATIENCE);
    it.heal();
    it.run_for(Span(5_000));
    let stopped = (0..3).filter(|node| it.nodes[*node].halt.is_some()).count();
    assert!(stopped > 0, "nobody notices: {}", it.describe());
    for node in (0..3).filter(|node| it.nodes[*node].halt.is_some()) {
        stops_with_both_named(&it, node);
    }
}

/// Quorum's handbook: a leader that was cut off comes back with a block in its hands. The block is
/// proposed in no term but its own, and nobody shows it.
#[test]
fn b16_a_block_in_flight_at_a_stale_leader_is_dropped() {
    let mut it = settled(cluster::raft(), 3);
    let stale = it.leader().expect("there is one");
    it.hold(stale, JobKind::Build);
    assert!(it.run_until(PATIENCE, |it| it.holds(stale) > 0));
    it.part(&[stale]);
    let rest = others(3, &[stale]);
    let height = it.finalized(stale) + 3;
    it.expect_final(&rest, height, PATIENCE);
    it.heal();
    let followed = it.run_until(PATIENCE, |it| it.finalized(stale) >= height);
    assert!(followed, "{}", it.describe());
    let (acks, blocks) = (it.signed(stale, Step::Ack).len(), it.open_blocks(stale));
    it.release(stale);
    let mut late = it.open_blocks(stale);
    late.retain(|hash| !blocks.contains(hash));
    assert!(late.is_empty(), "below what is final it does not enter the tree");
    assert_eq!(it.signed(stale, Step::Ack).len(), acks);
    it.expect_final(&[0, 1, 2], height + 2, PATIENCE);
    it.check();
}

/// Seed 14,474 of Raft in the simulator: a slow disk holds back a leader's acknowledgement of its own
/// block, and meanwhile the others make another one final. Nobody needs that vote any more, and the
/// tree does not have its block.
#[test]
fn a_vote_that_waited_for_the_disk_is_not_signed_when_finality_has_left_its_block() {
    let mut it = settled(cluster::raft(), 3);
    let stale = it.leader().expect("there is one");
    let rest = others(3, &[stale]);
    // It has not built the next block yet, so nobody else will have it.
    assert!(it.run_until(PATIENCE, |it| it.open_blocks(stale).is_empty()));
    it.part(&[stale]);
    it.hold(stale, JobKind::Sync);
    let built = it.run_until(PATIENCE, |it| !it.open_blocks(stale).is_empty());
    assert!(built && it.holds(stale) > 0, "{}", it.describe());
    let height = it.finalized(stale) + 3;
    it.expect_final(&rest, height, PATIENCE);
    it.heal();
    // Its engine knows, and nothing is shown before it is durable.
    let decided = it.block_at(rest[0], height).hash();
    let knows = format!("finalized {decided}");
    assert!(it.run_until(PATIENCE, |it| it.replica(stale).describe().contains(&knows)));
    it.release(stale);
    it.expect_final(&[0, 1, 2], height + 2, PATIENCE);
    let reader = it.reader(stale);
    for vote in it.signed(stale, Step::Ack) {
        let ours = reader.hash_at(vote.position.height.0).expect("the store can be read");
        assert_eq!(ours, Some(vote.hash), "a vote for a block that was left: {vote:?}");
    }
    it.check();
}

/// The same, and nothing was decided meanwhile: the block stands on what is final still, but is
/// of a term that is over.
#[test]
fn b16_a_block_in_flight_of_an_older_term_is_not_proposed() {
    let mut it = settled(cluster::raft(), 3);
    let stale = it.leader().expect("there is one");
    it.hold(stale, JobKind::Build);
    assert!(it.run_until(PATIENCE, |it| it.holds(stale) > 0));
    // Nobody can build, so nothing is decided; a new leader is found.
    for other in others(3, &[stale]) {
        it.hold(other, JobKind::Build);
    }
    it.part(&[stale]);
    assert!(it.run_until(PATIENCE, |it| it.leader().is_some_and(|leader| leader != stale)));
    it.heal();
    it.run_for(Span(1_000));
    let height = it.finalized(stale);
    let acks = it.signed(stale, Step::Ack);
    it.release(stale);
    let late = it.open_blocks(stale);
    assert_eq!(late.len(), 1, "it is a block like any other");
    assert!(others(3, &[stale]).iter().all(|node| !it.replica(*node).tree().has(&late[0])));
    assert_eq!(it.signed(stale, Step::Ack), acks, "it does not speak for it");
    for other in others(3, &[stale]) {
        it.release(other);
    }
    it.expect_final(&[0, 1, 2], height + 2, PATIENCE);
    assert!(!it.reader(0).is_canonical(late[0]).unwrap());
    it.check();
}

/// CVE-2025-24371: a peer claims a height, then a lower one, and the node that syncs from it never
/// gets out. Here a claim leads to a question now and then, and to nothing else.
#[test]
fn b24_a_peer_that_lowers_its_height_holds_nobody_up() {
    for params in [cluster::pbft(), cluster::raft()] {
        let nodes = size(&params);
        let mut it = settled(params, nodes);
        let liar = nodes - 1;
        it.crash(liar, Kept::All);
        let start = it.finalized(0);
        for round in 0..30_u64 {
            let claimed = if round % 2 == 0 { u64::MAX - round } else { 1 };
            for _ in 0..20 {
                let head = B256::repeat_byte(round as u8 + 1);
                it.inject(liar, 0, &Wire::Status { finalized: Height(claimed), head });
            }
            it.run_for(Span(100));
        }
        let all = others(nodes, &[liar]);
        it.expect_final(&all, start + 5, Span(10_000));
        assert!(it.replica(0).queued() < 100, "claims pile up: {}", it.replica(0).queued());
        it.start(liar);
        it.expect_final(&(0..nodes).collect::<Vec<_>>(), start + 7, PATIENCE);
        it.check();
    }
}

/// A node that has fallen behind asks the liar first, gets nothing, and still catches up.
#[test]
fn b24_a_node_that_is_behind_is_not_held_up_by_a_claim() {
    let mut it = settled(cluster::pbft(), 4);
    it.part(&[3]);
    let height = it.finalized(0) + 4;
    it.expect_final(&[0, 1, 2], height, PATIENCE);
    it.part(&[3]);
    for _ in 0..20 {
        // What the peer says arrives in spite of the cut; its blocks do not.
        let (finalized, head) = (Height(u64::MAX), B256::repeat_byte(9));
        it.step(3, Event::Wire { from: id(0), wire: Wire::Status { finalized, head } });
        it.run_for(Span(50));
        it.step(3, Event::Wire { from: id(0), wire: Wire::Status { finalized: Height(1), head } });
    }
    it.heal();
    it.expect_final(&[3], height, Span(3_000));
    it.check();
}

/// sawtooth-pbft #90: a node in a view change learnt the decision by sync, and stayed in the view
/// change for ever.
#[test]
fn b29_a_node_that_leaves_a_view_change_by_sync_votes_again() {
    let mut it = settled(cluster::pbft(), 4);
    it.part(&[3]);
    let height = it.finalized(0) + 3;
    it.expect_final(&[0, 1, 2], height, PATIENCE);
    let state = it.replica(3).describe();
    assert!(!state.contains("round 0,"), "it is in a view change: {state}");
    it.heal();
    it.expect_final(&[3], height, PATIENCE);
    let commits = it.signed(3, Step::Commit).len();
    // Without it there is no quorum now.
    it.crash(1, Kept::Nothing);
    let height = it.finalized(0) + 4;
    it.expect_final(&[0, 2, 3], height, PATIENCE);
    assert!(it.signed(3, Step::Commit).len() > commits + 2, "it took part");
    it.start(1);
    it.expect_final(&[0, 1, 2, 3], height + 1, PATIENCE);
    it.check();
}

/// Node 3 is cut off; the others' next block, changed by the test, and its position.
fn next_of_the_others() -> (Cluster, Block) {
    let mut it = settled(cluster::pbft(), 4);
    it.part(&[3]);
    let next = it.finalized(3) + 1;
    it.expect_final(&[0, 1, 2], next, PATIENCE);
    let block = it.block_at(0, next);
    (it, block)
}

/// The block with another state root, sealed anew by the member that made it.
fn with_another_state(it: &Cluster, block: &Block) -> Block {
    let mut header = block.header.inner().clone();
    header.state_root = B256::repeat_byte(0xbd);
    let mut bad = Block { header: Sealed::new(header), ..block.clone() };
    let maker = Extension::from_bytes(&block.extension).expect("it is ours").proposer;
    let number = (0..4).find(|number| id(*number) == maker).expect("a member");
    let seal = key(number).sign_block(bad.hash(), it.reader(0).genesis_hash());
    bad.seal = Bytes::copy_from_slice(&seal.0);
    bad
}

fn commits_to(it: &Cluster, block: &Block) -> FinalityProof {
    let height = Height(block.number());
    let position = Position { epoch: 0, step: Step::Commit, height, round: 0 };
    proven_by(it, Vote { position, hash: block.hash(), context: B256::ZERO }, &[0, 1, 2])
}

/// A quorum finalises a block that is invalid here: the node stops and says so, whichever comes
/// first; it never takes the block, and never goes on without it.
#[test]
fn a_proven_block_that_is_invalid_here_stops_the_node() {
    for proof_first in [true, false] {
        let (mut it, block) = next_of_the_others();
        let bad = with_another_state(&it, &block);
        let before = it.finalized(3);
        let proof = Wire::Proof(commits_to(&it, &bad));
        let messages = [Wire::Block(bad.clone()), proof];
        // As a peer that is heard: the cut is not for the test.
        it.heal();
        let order = if proof_first { [1, 0] } else { [0, 1] };
        for index in order {
            it.nodes[0].replica.as_ref().expect("it runs");
            it.inject(0, 3, &messages[index]);
        }
        match &it.nodes[3].halt {
            Some(Halt::Divergence { height, hash, why }) => {
                assert_eq!((height.0, *hash), (before + 1, bad.hash()));
                assert!(!why.is_empty());
            }
            other => panic!("it goes on: {other:?}"),
        }
        let newest = it.nodes[3].shown.last().expect("it has shown something");
        assert_ne!(newest.finalized, bad.hash());
    }
}

/// Without a proof, an invalid block is held against who sealed it, and the node goes on.
#[test]
fn an_invalid_block_without_a_proof_costs_its_maker_and_nobody_else() {
    let (mut it, block) = next_of_the_others();
    let bad = with_another_state(&it, &block);
    it.heal();
    it.inject(0, 3, &Wire::Block(bad.clone()));
    let penalties = std::mem::take(&mut it.nodes[3].penalties);
    assert!(penalties[0].contains("an invalid block"), "{penalties:?}");
    // Sent again it is known, and costs no execution.
    it.inject(1, 3, &Wire::Block(bad));
    assert!(it.nodes[3].penalties.is_empty());
    it.expect_final(&[0, 1, 2, 3], block.number() + 2, PATIENCE);
    it.check();
}

/// The seal is outside the hash: a copy with a wrong one is refused, and the block itself is not.
#[test]
fn a_copy_with_a_wrong_seal_does_not_spoil_the_block() {
    let (mut it, block) = next_of_the_others();
    let chain = it.reader(0).genesis_hash();
    it.heal();
    let strangers = key(9).sign_block(block.hash(), chain);
    let seals = [Bytes::new(), Bytes::from_static(&[0xff; 65]), Bytes::from(strangers.0.to_vec())];
    for seal in seals {
        it.inject(0, 3, &Wire::Block(Block { seal, ..block.clone() }));
        assert!(!it.replica(3).tree().has(&block.hash()), "a wrong seal is taken");
        let penalties = std::mem::take(&mut it.nodes[3].penalties);
        assert_eq!(penalties, ["a block with a wrong seal"]);
    }
    it.inject(0, 3, &Wire::Block(block.clone()));
    assert!(it.replica(3).tree().has(&block.hash()), "the copies have spoilt it");
    it.expect_final(&[0, 1, 2, 3], block.number() + 2, PATIENCE);
    it.check();
}

/// A remote signer that cannot be reached, a key directory that is full: the votes are lost, and
/// made again when the signer is back.
#[test]
fn a_signer_that_is_away_delays_votes_and_stops_nobody() {
    let mut it = settled(cluster::pbft(), 4);
    for node in 0..4 {
        it.take_signer(node, true);
    }
    it.run_for(Span(5_000));
    let height = it.finalized(0);
    it.run_for(Span(5_000));
    assert_eq!(it.finalized(0), height, "something is final without signatures");
    assert!(it.nodes.iter().all(|node| node.halt.is_none()), "{}", it.describe());
    for node in 0..4 {
        it.take_signer(node, false);
    }
    it.expect_final(&[0, 1, 2, 3], height + 2, PATIENCE);
    it.check();
}

/// A node that joins late takes one answer after the other: an announcement for each (one every
/// 500 ms) would let it fall behind a chain that makes blocks faster than that.
#[test]
fn a_node_that_is_far_behind_asks_on_without_an_announcement() {
    let mut it = settled(cluster::pbft(), 4);
    it.crash(3, Kept::All);
    // More than five answers of 64 blocks each.
    let height = it.finalized(0) + 330;
    it.expect_final(&[0, 1, 2], height, Span(600_000));
    it.start(3);
    it.expect_final(&[3], height, Span(1_100));
    it.check();
}

/// Each of these tests fails without the rule that it is for.
#[cfg(feature = "planted")]
mod planted {
    use landfall_consensus::{Bug, plant};

    fn fails_with(bug: Bug, test: fn()) {
        plant(Some(bug));
        let failed = std::panic::catch_unwind(test).is_err();
        plant(None);
        assert!(failed, "nothing is seen of {bug:?}");
    }

    #[test]
    fn each_sees_what_it_is_for() {
        fails_with(Bug::StartActs, super::b8_blocks_and_proofs_that_are_known_change_nothing);
        fails_with(Bug::NoStatus, super::b24_a_node_that_is_behind_is_not_held_up_by_a_claim);
        fails_with(Bug::NoStatus, super::b29_a_node_that_leaves_a_view_change_by_sync_votes_again);
        fails_with(
            Bug::NoStatus,
            super::b7_limit_a_quorum_without_disks_forks_and_the_node_that_remembers_stops,
        );
        fails_with(
            Bug::ProofOnlyWithBlock,
            super::a_copy_with_a_wrong_seal_does_not_spoil_the_block,
        );
    }
}
