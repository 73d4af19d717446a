//! What went wrong elsewhere, in whole nodes over disks that lose what was not synced: the rows of
//! the table of field regressions that need a replica. The names say which row.
//!
//! Rows that an engine alone can show stand with the engines: B3, B4, B5, B6 and B9 in
//! `paper_pbft.rs` of the consensus crate, B13, B14 and B15 in its `raft_network.rs`. B2, B8, B16
//! and B29 stand there too, and here with the log and the disk under them.
//!
//! B7 and B12 are limits of the model: a member that lost its disk and comes back under its old
//! name counts as one that lies. The tests show both sides: while a node that remembers can be
//! reached nothing goes wrong, and where none can, a second block becomes final and the nodes that
//! remember stop, naming both blocks. That the returned node refuses its old name needs a mark
//! beside its key that says that the key has voted; the directory of the chain cannot tell that it
//! was emptied.
//!
//! With the feature `planted`, the last tests leave out the rules and see these tests fail.

mod cluster;

use alloy_consensus::Sealed;
use alloy_primitives::{B256, Bytes};
use cluster::{Cluster, Power, id, key};
use landfall_consensus::{Body, FinalityProof, pbft, raft};
use landfall_replica::{Event, Halt, JobKind, Signer, Wire};
use landfall_types::{
    Block, Certificate, Extension, Height, Params, Position, SignedVote, SignerSignature, Span,
    Step, Vote,
};
use std::collections::BTreeSet;

const PATIENCE: Span = Span(20_000);

/// A cluster that has finalised some heights.
fn settled(params: Params, nodes: usize) -> Cluster {
    let mut it = Cluster::new(params, nodes);
    let all: Vec<usize> = (0..nodes).collect();
    it.expect_final(&all, 2, PATIENCE);
    it
}

fn others(nodes: usize, but: &[usize]) -> Vec<usize> {
    (0..nodes).filter(|node| !but.contains(node)).collect()
}

fn size(params: &Params) -> usize {
    if matches!(params, Params::Raft(_)) { 3 } else { 4 }
}

/// Whose turn it is at the height that is open at a node, in round 0 of PBFT.
fn proposer(it: &Cluster, node: usize) -> usize {
    let committee = &it.replica(node).epoch().committee;
    let turn = committee.at(it.finalized(node) + 1);
    (0..it.nodes.len()).find(|number| id(*number) == turn).expect("a member")
}

/// One node loses power at a point of a height, and another cut follows; then all goes on. False
/// if there is no such point.
fn survives_a_crash(params: &Params, victim: usize, point: usize, power: Power) -> bool {
    let nodes = size(params);
    let mut it = settled(params.clone(), nodes);
    if power == Power::KeepsNothing {
        // Messages are repeated while the log is on its way to the disk.
        it.slow_disks = Span(if nodes == 3 { 120 } else { 250 });
    }
    let height = it.finalized(0);
    it.set_fuse(victim, point, power);
    // Two heights: with the victim as leader and as follower.
    it.run_until(PATIENCE, |it| it.nodes[victim].replica.is_none() || it.finalized(0) > height + 2);
    if it.take_fuse() {
        return false;
    }
    assert!(it.nodes[victim].replica.is_none(), "the fuse has burnt down");
    // Long enough for the others to go on without it, or not at all.
    it.run_for(Span(if point % 2 == 0 { 1 } else { 2_500 }));
    let shown = *it.nodes[victim].shown.last().expect("it has shown something");
    it.start(victim);
    let again = it.replica(victim).choice().finalized;
    assert!(
        it.replica(victim).tree().descends(again, shown.finalized),
        "what was shown before the crash is gone: {shown:?}, then {again}"
    );
    // The one that was heard last is cut off: what comes now is another leader's.
    if point % 3 == 0 {
        it.part(&[(victim + 1) % nodes]);
        it.run_for(Span(2_000));
        it.heal();
    }
    it.slow_disks = Span(0);
    let all: Vec<usize> = (0..nodes).collect();
    it.expect_final(&all, height + 4, PATIENCE);
    it.check();
    true
}

fn survives_a_crash_anywhere(params: &Params, power: impl Fn(usize) -> Power) {
    let points = (0..size(params)).map(|victim| {
        (0..).take_while(|point| survives_a_crash(params, victim, *point, power(*point))).count()
    });
    let points: Vec<usize> = points.collect();
    assert!(points.iter().all(|points| *points > 20), "the heights have points: {points:?}");
}

/// CometBFT #6031: power was lost after a vote, and the state of the signer had gone back.
#[test]
fn b1_a_pbft_node_that_loses_power_anywhere_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::pbft(), |_| Power::KeepsNothing);
}

/// The same, and the disk keeps some of what was not synced, torn.
#[test]
fn b1_a_pbft_node_whose_disk_tears_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::pbft(), |point| Power::KeepsSome(point as u64));
}

/// The same in Raft.
#[test]
fn b1_a_raft_node_that_loses_power_anywhere_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::raft(), |_| Power::KeepsNothing);
}

/// The same in Raft, and the disk tears.
#[test]
fn b1_a_raft_node_whose_disk_tears_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::raft(), |point| Power::KeepsSome(point as u64));
}

/// Two candidates of one term ask a node, which loses power at a point in between. How often it
/// voted in that term.
fn votes_for_two_candidates(point: usize, power: Power) -> (bool, usize) {
    let term = 7;
    let mut it = settled(cluster::raft(), 3);
    it.part(&[2]);
    // Long enough for it to owe no leader anything.
    it.run_for(Span(2_000));
    it.heal();
    it.crash(0, Power::KeepsAll);
    it.crash(1, Power::KeepsAll);
    it.set_fuse(2, point, power);
    ask_for_a_vote(&mut it, 0, term);
    let unburnt = it.take_fuse();
    if it.nodes[2].replica.is_none() {
        it.run_for(Span(1));
        it.start(2);
    }
    it.run_for(Span(390));
    // For some time after a start it votes for nobody; so the second candidate asks again.
    it.run_for(Span(20));
    ask_for_a_vote(&mut it, 1, term);
    let grants = it.signed(2, Step::Grant).into_iter().filter(|vote| vote.position.round == term);
    (unburnt, grants.map(|vote| vote.hash).collect::<BTreeSet<_>>().len())
}

fn ask_for_a_vote(it: &mut Cluster, candidate: usize, term: u64) {
    let position = Position { epoch: 0, step: Step::Grant, height: Height(0), round: term };
    let vote = Vote { position, hash: id(candidate).into_word(), context: B256::ZERO };
    let chain = it.reader(2).genesis_hash();
    let signature = key(candidate).sign(&vote, chain).expect("a signer without memory");
    let signed = SignedVote { vote, signer: id(candidate), signature };
    let last = raft::Last { stamp: term - 1, height: Height(99) };
    let body = Body::Raft(raft::Message::Candidacy { last });
    it.inject(candidate, 2, &Wire::Engine { epoch: 0, vote: Some(signed), body });
}

/// B1 for the vote of a term: power is lost at any point between two candidates.
#[test]
fn b1_a_raft_node_that_loses_power_votes_once_in_a_term() {
    for power in [Power::KeepsNothing, Power::KeepsAll, Power::KeepsSome(1)] {
        let mut voted = 0;
        for point in 0.. {
            let (unburnt, votes) = votes_for_two_candidates(point, power);
            assert!(votes <= 1, "it voted {votes} times; power lost at point {point}");
            voted += votes;
            if unburnt {
                assert!(point > 3 && voted > 0, "it never voted: this shows nothing");
                break;
            }
        }
    }
}

/// A proposer lies: it shows one block to one member alone and another one to all. The member
/// prepares the first, loses power at a point, and comes back. What it prepared in that round.
fn prepares_of_two_proposals(point: usize, power: Power) -> (bool, BTreeSet<B256>) {
    let (mut it, liar, first) = built_and_held(JobKind::Sync);
    let victim = (liar + 1) % 4;
    let height = it.finalized(liar) + 1;
    let live = it.replica(liar).chain().live_blocks();
    let block = live.iter().find(|stored| stored.block.hash() == first).expect("it built it");
    let block = block.block.clone();
    it.crash(liar, Power::KeepsNothing);
    it.release(liar);
    it.set_fuse(victim, point, power);
    it.inject(liar, victim, &Wire::Block(block));
    let justification = pbft::Justification::empty();
    let position = Position { epoch: 0, step: Step::Proposal, height: Height(height), round: 0 };
    let vote = Vote { position, hash: first, context: justification.digest() };
    let chain = it.reader((victim + 1) % 4).genesis_hash();
    let signature = key(liar).sign(&vote, chain).expect("a signer without memory");
    let signed = SignedVote { vote, signer: id(liar), signature };
    let body = Body::Pbft(pbft::Message::Proposal { justification });
    it.inject(liar, victim, &Wire::Engine { epoch: 0, vote: Some(signed), body });
    let unburnt = it.take_fuse();
    if it.nodes[victim].replica.is_none() {
        it.start(victim);
    }
    // It has no block of that height any more, and makes another at another moment.
    it.run_for(Span(50));
    it.start(liar);
    it.expect_final(&[0, 1, 2, 3], height + 1, PATIENCE);
    it.check_but(&[liar]);
    let signed = it.signed(victim, Step::Prepare).into_iter();
    let here = signed.filter(|it| (it.position.height.0, it.position.round) == (height, 0));
    (unburnt, here.map(|vote| vote.hash).collect())
}

/// B1 for a prepare: power is lost at any point after it.
#[test]
fn b1_a_pbft_node_that_loses_power_prepares_once_in_a_round() {
    for power in [Power::KeepsNothing, Power::KeepsAll, Power::KeepsSome(1)] {
        let mut prepared = BTreeSet::new();
        for point in 0.. {
            let (unburnt, mut hashes) = prepares_of_two_proposals(point, power);
            assert!(hashes.len() <= 1, "two prepares; power lost at point {point}");
            prepared.append(&mut hashes);
            if unburnt {
                break;
            }
        }
        assert!(prepared.len() > 1, "it prepared either, depending on the point: {prepared:?}");
    }
}

/// A cluster, its proposer at the open height, and the block that it built: with jobs of a kind
/// held back from there on.
fn built_and_held(kind: JobKind) -> (Cluster, usize, B256) {
    let mut it = settled(cluster::pbft(), 4);
    let leader = proposer(&it, 0);
    assert!((0..4).all(|node| it.finalized(node) == it.finalized(0)), "all stand at one height");
    it.hold(leader, kind);
    let built = it.run_until(PATIENCE, |it| !it.open_blocks(leader).is_empty());
    assert!(built, "{}", it.describe());
    it.settle();
    let block = it.open_blocks(leader)[0];
    (it, leader, block)
}

fn proposals(it: &Cluster, leader: usize, height: u64) -> BTreeSet<B256> {
    let signed = it.signed(leader, Step::Proposal).into_iter();
    let here = signed.filter(|vote| (vote.position.height.0, vote.position.round) == (height, 0));
    here.map(|vote| vote.hash).collect()
}

/// Malachite #864: the log was replayed and a second proposal built. Here the block and the
/// proposal are durable, and power is lost before the proposal is signed.
#[test]
fn b2_a_proposal_that_was_written_down_is_the_one_after_a_restart() {
    for power in [Power::KeepsNothing, Power::KeepsAll, Power::KeepsSome(3)] {
        let (mut it, leader, block) = built_and_held(JobKind::Sign);
        let height = it.finalized(leader) + 1;
        assert!(proposals(&it, leader, height).is_empty(), "it is not signed yet");
        it.crash(leader, power);
        it.release(leader);
        // At another moment it would build another block.
        it.run_for(Span(150));
        it.start(leader);
        it.expect_final(&[0, 1, 2, 3], height + 2, PATIENCE);
        assert_eq!(proposals(&it, leader, height), BTreeSet::from([block]), "after {power:?}");
        it.check();
    }
}

/// The same, and neither block nor proposal had become durable: nobody has seen them.
#[test]
fn b2_a_proposal_that_was_not_durable_was_never_said() {
    let (mut it, leader, block) = built_and_held(JobKind::Sync);
    let height = it.finalized(leader) + 1;
    for other in others(4, &[leader]) {
        assert!(!it.replica(other).tree().has(&block), "node {other} has it too early");
    }
    it.crash(leader, Power::KeepsNothing);
    it.release(leader);
    it.run_for(Span(150));
    it.start(leader);
    it.expect_final(&[0, 1, 2, 3], height + 2, PATIENCE);
    let said = proposals(&it, leader, height);
    assert!(said.len() <= 1 && !said.contains(&block), "{said:?}");
    it.check();
}

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

/// etcd #10508 and the post-mortem of 3.5: applied and shown, then lost. A decision that is logged
/// and not durable is not shown; one that is shown is there after any loss of power.
#[test]
fn b10_a_choice_is_shown_when_it_is_durable_and_not_before() {
    for params in [cluster::pbft(), cluster::raft()] {
        let nodes = size(&params);
        let mut it = settled(params, nodes);
        let node = nodes - 1;
        let before = it.finalized(node);
        let rest = others(nodes, &[node]);
        it.hold(node, JobKind::Sync);
        it.expect_final(&rest, before + 3, PATIENCE);
        it.run_for(Span(2_000));
        assert!(it.holds(node) > 0, "it has something to sync");
        assert!(!it.open_blocks(node).is_empty(), "it has executed what the others decided");
        assert_eq!(it.finalized(node), before, "nothing was durable");
        it.crash(node, Power::KeepsNothing);
        it.release(node);
        it.start(node);
        assert_eq!(it.finalized(node), before, "what was shown is what is there");
        let all: Vec<usize> = (0..nodes).collect();
        let height = it.finalized(0) + 2;
        it.expect_final(&all, height, PATIENCE);
        // At the very moment when it is shown.
        let shown = it.finalized(node);
        it.run_until(PATIENCE, |it| it.finalized(node) > shown);
        let choice = it.replica(node).choice();
        it.crash(node, Power::KeepsNothing);
        it.start(node);
        assert_eq!(it.replica(node).choice().finalized, choice.finalized);
        it.expect_final(&all, height + 2, PATIENCE);
        it.check();
    }
}

/// etcd #14143: a majority lost what it had not synced, and had acknowledged it.
#[test]
fn b11_what_a_majority_had_not_synced_was_not_acknowledged() {
    let mut lost = 0;
    for point in 0..40 {
        let mut it = settled(cluster::raft(), 3);
        let leader = it.leader().expect("there is one");
        let followers = others(3, &[leader]);
        it.slow_disks = Span(60);
        it.set_fuse(followers[0], point, Power::KeepsNothing);
        it.run_until(PATIENCE, |it| it.nodes[followers[0]].replica.is_none());
        // The other follower goes down in the same moment, and the leader's memory is all there is.
        it.crash(followers[1], Power::KeepsNothing);
        it.run_for(Span(600));
        let shown = it.finalized(leader);
        let tip = it.open_blocks(leader);
        it.crash(leader, Power::KeepsNothing);
        it.start(followers[0]);
        it.start(followers[1]);
        it.expect_final(&followers, shown + 2, PATIENCE);
        it.start(leader);
        let height = it.finalized(followers[0]) + 2;
        it.expect_final(&[0, 1, 2], height, PATIENCE);
        it.check();
        let kept = tip.iter().filter(|hash| it.reader(leader).is_canonical(**hash).unwrap());
        lost += usize::from(kept.count() < tip.len());
    }
    assert!(lost > 0, "no unsynced block was ever lost: this shows nothing");
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
        it.crash(liar, Power::KeepsAll);
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

/// Commonware #3727: what is final is ahead of the engine's record. A PBFT node in a late round of
/// an old height learns later decisions by sync, and loses power before it says another word.
#[test]
fn b25_finality_learnt_by_proof_is_stood_on_after_a_restart() {
    for power in [Power::KeepsNothing, Power::KeepsAll] {
        let mut it = settled(cluster::pbft(), 4);
        it.part(&[3]);
        let old = it.finalized(3);
        it.expect_final(&[0, 1, 2], old + 4, PATIENCE);
        assert!(!it.replica(3).describe().contains("round 0,"), "{}", it.replica(3).describe());
        // Before it signs anything else: its record stays that of the old height.
        it.hold(3, JobKind::Sign);
        it.heal();
        assert!(it.run_until(PATIENCE, |it| it.finalized(3) >= old + 3));
        let shown = it.replica(3).choice();
        it.crash(3, power);
        it.release(3);
        it.start(3);
        assert_eq!(it.replica(3).choice().finalized, shown.finalized);
        let open = format!("height {}, round 0", it.finalized(3) + 1);
        assert!(it.replica(3).describe().contains(&open), "{}", it.replica(3).describe());
        // It takes part again: without it there is no quorum.
        it.crash(0, Power::KeepsAll);
        let height = it.finalized(1) + 3;
        it.expect_final(&[1, 2, 3], height, PATIENCE);
        it.start(0);
        it.expect_final(&[0, 1, 2, 3], height + 1, PATIENCE);
        it.check();
    }
}

/// The other way around: the record and its block are ahead of what is final, since the leader of
/// Raft went down between the two.
#[test]
fn b25_a_record_ahead_of_finality_is_stood_on_after_a_restart() {
    for alone in [false, true] {
        let mut it = settled(cluster::raft(), 3);
        let leader = it.leader().expect("there is one");
        let before = it.finalized(leader);
        it.part(&[leader]);
        assert!(it.run_until(PATIENCE, |it| !it.open_blocks(leader).is_empty()));
        it.run_for(Span(50));
        let tip = it.open_blocks(leader)[0];
        assert_eq!(it.finalized(leader), before, "nobody has acknowledged it");
        it.crash(leader, Power::KeepsNothing);
        if alone {
            it.expect_final(&others(3, &[leader]), before + 2, PATIENCE);
        }
        it.start(leader);
        assert_eq!(it.finalized(leader), before);
        let tipped = format!("tip {tip}");
        assert!(it.replica(leader).describe().contains(&tipped), "the record was durable");
        it.heal();
        it.expect_final(&[0, 1, 2], before + 4, PATIENCE);
        assert!(!alone || !it.reader(leader).is_canonical(tip).unwrap(), "another was decided");
        it.check();
    }
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
    it.crash(1, Power::KeepsNothing);
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

/// Without a proof, an invalid block is held against who sent it, and the node goes on.
#[test]
fn an_invalid_block_without_a_proof_costs_its_sender_and_nobody_else() {
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
    fn b1_sees_votes_that_do_not_wait_for_the_disk() {
        use super::{
            b1_a_pbft_node_that_loses_power_prepares_once_in_a_round as prepares,
            b1_a_raft_node_that_loses_power_votes_once_in_a_term as grants,
        };
        fails_with(Bug::SendBeforeSync, prepares);
        fails_with(Bug::SendBeforeSync, grants);
        fails_with(Bug::PbftNoPersistBeforePrepare, prepares);
        fails_with(Bug::RaftForgetsVote, grants);
    }

    #[test]
    fn b1_sees_blocks_and_records_that_part() {
        use super::{
            b1_a_pbft_node_that_loses_power_anywhere_signs_nothing_twice as pbft,
            b1_a_raft_node_that_loses_power_anywhere_signs_nothing_twice as raft,
        };
        fails_with(Bug::BarrierPerStep, pbft);
        fails_with(Bug::BuiltNotLogged, raft);
        fails_with(Bug::BodyNotDurable, raft);
        fails_with(Bug::StartWithoutFinal, pbft);
        fails_with(Bug::FinalityNotLogged, raft);
    }

    #[test]
    fn the_others_see_what_they_are_for() {
        fails_with(Bug::SendBeforeSync, super::b2_a_proposal_that_was_not_durable_was_never_said);
        fails_with(
            Bug::StartWithoutFinal,
            super::b2_a_proposal_that_was_written_down_is_the_one_after_a_restart,
        );
        fails_with(Bug::StartActs, super::b8_blocks_and_proofs_that_are_known_change_nothing);
        fails_with(
            Bug::SendBeforeSync,
            super::b10_a_choice_is_shown_when_it_is_durable_and_not_before,
        );
        fails_with(
            Bug::SendBeforeSync,
            super::b11_what_a_majority_had_not_synced_was_not_acknowledged,
        );
        fails_with(Bug::NoStatus, super::b24_a_node_that_is_behind_is_not_held_up_by_a_claim);
        fails_with(
            Bug::StartWithoutFinal,
            super::b25_finality_learnt_by_proof_is_stood_on_after_a_restart,
        );
        fails_with(Bug::NoStatus, super::b29_a_node_that_leaves_a_view_change_by_sync_votes_again);
        fails_with(
            Bug::ProofOnlyWithBlock,
            super::a_copy_with_a_wrong_seal_does_not_spoil_the_block,
        );
    }
}
