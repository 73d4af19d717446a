//! What went wrong elsewhere when power was lost: whole nodes over disks that keep nothing, or a
//! torn part, of what was not synced. The names say which row of the table of field regressions;
//! the other rows are in `field.rs`.
//!
//! With the feature `planted`, the last tests leave out the rules and see these tests fail.

mod cluster;

use alloy_primitives::B256;
use cluster::{Cluster, Kept, PATIENCE, id, key, others, settled, size};
use landfall_consensus::{Body, pbft, raft};
use landfall_replica::{JobKind, Signer, Wire};
use landfall_types::{Height, Params, Position, SignedVote, Span, Step, Vote};
use std::collections::BTreeSet;

/// One node loses power at a point of a height, and another cut follows; then all goes on. False
/// if there is no such point.
fn survives_a_crash(params: &Params, victim: usize, point: usize, power: Kept) -> bool {
    let nodes = size(params);
    let mut it = settled(params.clone(), nodes);
    if power == Kept::Nothing {
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
    it.run_for(Span(if point.is_multiple_of(2) { 1 } else { 2_500 }));
    let shown = *it.nodes[victim].shown.last().expect("it has shown something");
    it.start(victim);
    let again = it.replica(victim).choice().finalized;
    assert!(
        it.replica(victim).tree().descends(again, shown.finalized),
        "what was shown before the crash is gone: {shown:?}, then {again}"
    );
    // The one that was heard last is cut off: what comes now is another leader's.
    if point.is_multiple_of(3) {
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

fn survives_a_crash_anywhere(params: &Params, power: impl Fn(usize) -> Kept) {
    // Every third point with each victim, others with the next: the roles go around.
    let points = (0..size(params)).map(|victim| {
        let all = (victim % 3..).step_by(3);
        all.take_while(|point| survives_a_crash(params, victim, *point, power(*point))).count()
    });
    let points: Vec<usize> = points.collect();
    assert!(points.iter().all(|points| *points > 10), "the heights have points: {points:?}");
}

/// CometBFT #6031: power was lost after a vote, and the state of the signer had gone back.
#[test]
fn b1_a_pbft_node_that_loses_power_anywhere_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::pbft(), |_| Kept::Nothing);
}

/// The same, and the disk keeps some of what was not synced, torn.
#[test]
fn b1_a_pbft_node_whose_disk_tears_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::pbft(), |point| Kept::Some(point as u64));
}

/// The same in Raft.
#[test]
fn b1_a_raft_node_that_loses_power_anywhere_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::raft(), |_| Kept::Nothing);
}

/// The same in Raft, and the disk tears.
#[test]
fn b1_a_raft_node_whose_disk_tears_signs_nothing_twice() {
    survives_a_crash_anywhere(&cluster::raft(), |point| Kept::Some(point as u64));
}

/// Two candidates of one term ask a node, which loses power at a point in between. How often it
/// voted in that term.
fn votes_for_two_candidates(point: usize, power: Kept) -> (bool, usize) {
    let term = 7;
    let mut it = settled(cluster::raft(), 3);
    it.part(&[2]);
    // Long enough for it to owe no leader anything.
    it.run_for(Span(2_000));
    it.heal();
    it.crash(0, Kept::All);
    it.crash(1, Kept::All);
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
    for power in [Kept::Nothing, Kept::All, Kept::Some(1)] {
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
fn prepares_of_two_proposals(point: usize, power: Kept) -> (bool, BTreeSet<B256>) {
    let (mut it, liar, first) = built_and_held(JobKind::Sync);
    let victim = (liar + 1) % 4;
    let height = it.finalized(liar) + 1;
    let live = it.replica(liar).chain().live_blocks();
    let block = live.iter().find(|stored| stored.block.hash() == first).expect("it built it");
    let block = block.block.clone();
    it.crash(liar, Kept::Nothing);
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
    for power in [Kept::Nothing, Kept::All, Kept::Some(1)] {
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
    let leader = it.proposer(0);
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
    for power in [Kept::Nothing, Kept::All, Kept::Some(3)] {
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
    it.crash(leader, Kept::Nothing);
    it.release(leader);
    it.run_for(Span(150));
    it.start(leader);
    it.expect_final(&[0, 1, 2, 3], height + 2, PATIENCE);
    let said = proposals(&it, leader, height);
    assert!(said.len() <= 1 && !said.contains(&block), "{said:?}");
    it.check();
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
        it.crash(node, Kept::Nothing);
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
        it.crash(node, Kept::Nothing);
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
        it.set_fuse(followers[0], point, Kept::Nothing);
        it.run_until(PATIENCE, |it| it.nodes[followers[0]].replica.is_none());
        // The other follower goes down in the same moment, and the leader's memory is all there is.
        it.crash(followers[1], Kept::Nothing);
        it.run_for(Span(600));
        let shown = it.finalized(leader);
        let tip = it.open_blocks(leader);
        it.crash(leader, Kept::Nothing);
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

/// Commonware #3727: what is final is ahead of the engine's record. A PBFT node in a late round of
/// an old height learns later decisions by sync, and loses power before it says another word.
#[test]
fn b25_finality_learnt_by_proof_is_stood_on_after_a_restart() {
    for power in [Kept::Nothing, Kept::All] {
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
        it.crash(0, Kept::All);
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
        it.crash(leader, Kept::Nothing);
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
        fails_with(
            Bug::SendBeforeSync,
            super::b10_a_choice_is_shown_when_it_is_durable_and_not_before,
        );
        fails_with(
            Bug::SendBeforeSync,
            super::b11_what_a_majority_had_not_synced_was_not_acknowledged,
        );
        fails_with(
            Bug::StartWithoutFinal,
            super::b25_finality_learnt_by_proof_is_stood_on_after_a_restart,
        );
        fails_with(
            Bug::BodyNotDurable,
            super::b25_a_record_ahead_of_finality_is_stood_on_after_a_restart,
        );
    }
}
