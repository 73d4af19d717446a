//! PBFT passes over a dead proposer, in whole nodes over real chains; and what a block says of its
//! parent is checked where it comes in.

mod cluster;

use alloy_consensus::Sealed;
use cluster::{Cluster, Kept, PATIENCE, id, key, others, settled};
use landfall_consensus::pbft::{carried, window};
use landfall_replica::{Halt, Signer, Wire};
use landfall_types::{Block, Certificate, Extension, Span, Step};
use std::collections::BTreeSet;

/// Heights at which these nodes moved to a round above 0.
fn disturbed(it: &Cluster, nodes: &[usize]) -> BTreeSet<u64> {
    let changes = nodes.iter().flat_map(|node| it.signed(*node, Step::RoundChange));
    changes.map(|vote| vote.position.height.0).collect()
}

/// Who made the blocks from one height to another.
fn makers(it: &Cluster, from: u64, to: u64) -> BTreeSet<usize> {
    let maker = |height| extension(&it.block_at(0, height)).proposer;
    let number = |maker| (0..it.nodes.len()).find(|node| id(*node) == maker).expect("a member");
    (from..=to).map(maker).map(number).collect()
}

fn extension(block: &Block) -> Extension {
    Extension::from_bytes(&block.extension).expect("it has one")
}

fn certificate(block: &Block) -> Certificate {
    carried(&extension(block).data).expect("it carries one")
}

#[test]
fn one_of_four_dead_for_good_costs_rounds_for_two_turns_and_none_afterwards() {
    let mut it = settled(cluster::pbft(), 4);
    let survivors = [0, 1, 2];
    let begun = it.finalized(0);
    it.run_for(Span(10_000));
    let healthy = it.finalized(0) - begun;
    assert_eq!(disturbed(&it, &survivors), BTreeSet::new());

    it.crash(3, Kept::All);
    let died = it.finalized(0);
    it.expect_final(&survivors, died + 2 + window(4), PATIENCE);
    let failed = disturbed(&it, &survivors);
    assert!((2..=3).contains(&failed.len()), "rounds failed at {failed:?}");

    let begun = it.finalized(0);
    it.run_for(Span(10_000));
    let alone = it.finalized(0) - begun;
    assert_eq!(disturbed(&it, &survivors), failed, "after height {begun}");
    assert!(10 * alone >= 7 * healthy, "{alone} blocks without it, {healthy} with it");
    assert_eq!(makers(&it, begun + 1, begun + alone), BTreeSet::from(survivors));

    // A survivor that starts again finds in its log whose turn it is.
    it.crash(1, Kept::Nothing);
    it.start(1);
    let again = disturbed(&it, &survivors).len();
    let begun = it.finalized(0);
    it.expect_final(&survivors, begun + 9, PATIENCE);
    let failed = disturbed(&it, &survivors);
    assert!(failed.len() <= again + 1, "at most the height that it was away from: {failed:?}");

    // The dead one comes back, is brought up by the others, and leads.
    it.start(3);
    let begun = it.finalized(0);
    it.expect_final(&[0, 1, 2, 3], begun + 2 + window(4), PATIENCE);
    assert!(makers(&it, begun + 1, it.finalized(0)).contains(&3));
    let settled = disturbed(&it, &[0, 1, 2, 3]);
    it.run_for(Span(10_000));
    assert_eq!(disturbed(&it, &[0, 1, 2, 3]), settled);
    it.check();
}

#[test]
fn a_node_that_syncs_from_nothing_knows_whose_turn_it_is() {
    let mut it = settled(cluster::pbft(), 4);
    it.crash(3, Kept::All);
    let died = it.finalized(0);
    it.expect_final(&[0, 1, 2], died + 4 + window(4), PATIENCE);
    // It never voted above what it finds again: it may keep its name.
    it.part(&[1]);
    it.wipe(1);
    it.start(1);
    it.heal();
    let begun = it.finalized(0);
    it.expect_final(&[0, 1, 2], begun + 3, PATIENCE);
    let failed = disturbed(&it, &[0, 1, 2]);
    let begun = it.finalized(0);
    it.expect_final(&[0, 1, 2], begun + 12, PATIENCE);
    assert_eq!(disturbed(&it, &[0, 1, 2]), failed);
    assert!(makers(&it, begun + 1, begun + 12).contains(&1));
    it.check_but(&[1]);
}

/// A node that is cut off, and a block that the others made meanwhile.
fn cut_off() -> (Cluster, Block) {
    let mut it = settled(cluster::pbft(), 4);
    it.part(&[3]);
    let height = it.finalized(3);
    it.expect_final(&others(4, &[3]), height + 3, PATIENCE);
    let block = it.block_at(0, height + 1);
    (it, block)
}

#[test]
fn a_copy_with_another_extension_is_dropped_and_the_hash_is_not_held_against_it() {
    let (mut it, block) = cut_off();
    for data in [Vec::new(), vec![1, 2, 3]] {
        let mut copy = block.clone();
        copy.extension = Extension { data: data.into(), ..extension(&block) }.to_bytes();
        it.heal();
        it.inject(0, 3, &Wire::Block(copy));
    }
    assert_eq!(it.nodes[3].penalties.len(), 2, "{:?}", it.nodes[3].penalties);
    assert!(it.nodes[3].penalties[0].contains("extension"), "{:?}", it.nodes[3].penalties);
    let height = it.finalized(0);
    it.expect_final(&[3], height, PATIENCE);
    assert_eq!(it.nodes[3].halt, None::<Halt>);
}

/// The same block with another certificate, sealed by its maker again.
fn with_certificate(it: &Cluster, block: &Block, certificate: &Certificate) -> Block {
    let data = alloy_rlp::encode(certificate).into();
    let extension = Extension { data, ..extension(block) };
    let mut header = block.header.inner().clone();
    header.parent_beacon_block_root = Some(Extension::commitment(&extension.to_bytes()));
    let mut block = block.clone();
    (block.header, block.extension) = (Sealed::new(header), extension.to_bytes());
    let maker = (0..4).find(|node| id(*node) == extension.proposer).expect("a member");
    let seal = key(maker).sign_block(block.hash(), it.block_at(0, 0).hash());
    block.seal = seal.0.to_vec().into();
    block
}

#[test]
fn a_block_that_carries_what_nobody_signed_is_refused_once_and_for_all() {
    let (mut it, block) = cut_off();
    let mut forged = certificate(&block);
    forged.signatures[0].signature = forged.signatures[1].signature;
    let mut few = certificate(&block);
    few.signatures.truncate(2);
    let mut many = certificate(&block);
    many.signatures = [many.signatures.clone(), many.signatures].concat();
    let wrong = [(forged, "not of the node"), (few, "of no quorum"), (many, "more votes")];
    it.heal();
    for (certificate, why) in &wrong {
        let block = with_certificate(&it, &block, certificate);
        let before = it.nodes[3].penalties.len();
        it.inject(0, 3, &Wire::Block(block.clone()));
        let penalties = it.nodes[3].penalties[before..].to_vec();
        assert!(penalties.len() == 1 && penalties[0].contains(why), "{penalties:?}");
    }
    let first = with_certificate(&it, &block, &wrong[0].0);
    let before = it.nodes[3].penalties.len();
    it.inject(0, 3, &Wire::Block(first));
    assert_eq!(
        it.nodes[3].penalties.len(),
        before,
        "what is known to be invalid is not judged again"
    );
    let height = it.finalized(0);
    it.expect_final(&[3], height, PATIENCE);
    assert_eq!(it.nodes[3].halt, None::<Halt>);
}
