//! Rules 1 and 11 of PBFT: who is alive, by what the chain says, and whose turn it is.

#[path = "network/mod.rs"]
mod network;
#[path = "pbft/mod.rs"]
mod pbft;

use alloy_primitives::B256;
use landfall_consensus::pbft::{Message, carried, window};
use landfall_consensus::{Input, Verdict, protocol};
use landfall_types::{Certificate, Height, Kind, Params, Span, Step, Vote};
use network::{Network, id};
use pbft::{Bench, decision, nothing, params, steps};
use std::collections::BTreeSet;

/// Heights at which somebody moved to a round above 0 since this was asked last.
fn disturbed(network: &mut Network) -> BTreeSet<Height> {
    let places = network.sent.iter().filter_map(|sent| sent.vote.map(|vote| vote.position));
    let changes = places.filter(|place| place.step == Step::RoundChange);
    let heights = changes.map(|place| place.height).collect();
    network.sent.clear();
    heights
}

/// Blocks in a span.
fn pace(network: &mut Network, span: Span) -> u64 {
    let before = network.highest().0;
    network.run_for(span);
    network.highest().0 - before
}

#[test]
fn r1_a_dead_member_costs_rounds_for_two_turns_and_none_afterwards() {
    let (span, patience) = (Span(20_000), Span(60_000));
    let mut network = Network::new(Params::Pbft(params()), 4, 1_000_000, 3);
    let healthy = pace(&mut network, span);
    assert_eq!(disturbed(&mut network), BTreeSet::new());
    let died = network.highest();
    network.crash(4);
    // Its last commit may be carried one block later, and that block leaves the window.
    network.expect_progress(2 + window(4), patience);
    let turns = disturbed(&mut network).len();
    assert!((2..=3).contains(&turns), "rounds failed at {turns} heights");
    network.expect_progress(2, patience);
    disturbed(&mut network);
    let alone = pace(&mut network, span);
    assert_eq!(disturbed(&mut network), BTreeSet::new());
    assert!(10 * alone >= 7 * healthy, "{alone} blocks, {healthy} before");
    let tree = &network.node(1).tree;
    let since = Height(died.0 + 2 + window(4));
    assert!(tree.above(since).all(|block| block.proposer != id(4)));

    // Back, it votes at once, and with its first commits it leads again.
    let returned = network.highest();
    network.restart(4);
    network.expect_progress(2 + window(4), patience);
    let makers: Vec<_> = network.node(1).tree.above(returned).map(|it| it.proposer).collect();
    assert!(makers.contains(&id(4)), "{makers:?}");
    disturbed(&mut network);
    network.run_for(span);
    assert_eq!(disturbed(&mut network), BTreeSet::new());
}

#[test]
fn r1_whoever_starts_again_or_catches_up_knows_whose_turn_it_is() {
    let mut network = Network::new(Params::Pbft(params()), 4, 1_000_000, 5);
    network.expect_progress(3, Span(10_000));
    network.crash(2);
    network.expect_progress(20, Span(60_000));
    // Three are a quorum: a leader that only two of them take for one makes no progress.
    for n in [1, 3, 4] {
        network.crash(n);
        network.run_for(Span(50));
        network.restart(n);
        network.expect_progress(4, Span(20_000));
    }
    disturbed(&mut network);
    network.expect_progress(30, Span(60_000));
    assert_eq!(disturbed(&mut network), BTreeSet::new());
    // The one that was away is passed over until its commits are back, by itself too.
    network.restart(2);
    network.expect_progress(30, Span(60_000));
    assert_eq!(disturbed(&mut network), BTreeSet::new());
}

#[test]
fn r1_a_member_that_hears_everything_and_whose_word_reaches_nobody_is_passed_over() {
    let mut network = Network::new(Params::Pbft(params()), 7, 1_000_000, 8);
    network.expect_progress(3, Span(10_000));
    for n in 1..7 {
        network.cut_one_way(7, n);
    }
    network.expect_progress(4 + window(7), Span(60_000));
    disturbed(&mut network);
    network.expect_progress(20, Span(60_000));
    assert_eq!(disturbed(&mut network), BTreeSet::new());
    network.heal();
    network.expect_progress(20, Span(60_000));
    assert_eq!(disturbed(&mut network), BTreeSet::new());
}

/// Decides the open height by commits of these members; this one commits too.
fn decide(bench: &mut Bench, leader: u8, by: &[u8]) -> B256 {
    let (block, _) = bench.block(leader, 0);
    bench.proposal(leader, 0, block, &nothing());
    for from in by {
        bench.prepare(*from, 0, block, &nothing());
    }
    let mut decided = None;
    for from in by {
        decided = decided.or(decision(&bench.commit(*from, 0, block)));
    }
    assert_eq!(decided, Some(block));
    block
}

/// Who signed what the block says that was asked for.
fn signers(bench: &Bench) -> Vec<u8> {
    let asked = bench.asked.as_ref().expect("a block was asked for");
    let certificate = carried(asked).expect("it carries a certificate");
    (1..=9).filter(|n| certificate.signers().any(|signer| *signer == id(*n))).collect()
}

#[test]
fn r11_the_maker_of_a_block_gathers_commits_of_its_parent_after_the_decision() {
    // Member 3 leads height 2.
    let mut bench = Bench::new(4, 3);
    let (block, _) = bench.block(2, 0);
    let late = bench.vote(Step::Commit, 0, block, B256::ZERO);
    for from in [1, 2, 4] {
        let decided = decision(&bench.commit(from, 1, block));
        assert_eq!(decided, (from == 4).then_some(block));
    }
    // Of another round, another block, a stranger: not the certificate's.
    bench.hear(3, late, Message::Commit);
    let mut right = late;
    right.position.round = 1;
    bench.hear(3, Vote { hash: B256::repeat_byte(9), ..right }, Message::Commit);
    bench.hear(9, right, Message::Commit);
    bench.now += params().block_interval;
    bench.step(Input::Pending(true));
    assert_eq!(signers(&bench), [1, 2, 4]);

    let mut bench = Bench::new(4, 3);
    let block = decide(&mut bench, 2, &[1, 2]);
    bench.hear(4, Vote { hash: block, ..late }, Message::Commit);
    bench.now += params().block_interval;
    bench.step(Input::Pending(true));
    assert_eq!(signers(&bench), [1, 2, 3, 4]);
    let (own, out) = bench.built();
    assert_eq!(steps(&out), [Step::Proposal, Step::Prepare]);
    let header = network::header_of(bench.tree.block(&own));
    let verify = |header| protocol(Kind::Pbft).verify(&bench.epoch, header, &bench.tree, bench.now);
    assert_eq!(verify(&header), Verdict::Valid);
    let mut bare = header.clone();
    bare.extension.data = Default::default();
    assert!(matches!(verify(&bare), Verdict::Invalid(_)));
}

#[test]
fn r11_a_node_that_starts_again_or_learns_by_proof_carries_what_it_has() {
    let mut bench = Bench::new(4, 3);
    decide(&mut bench, 2, &[1, 2]);
    bench.restart();
    bench.now += params().block_interval;
    bench.step(Input::Pending(true));
    assert_eq!(signers(&bench), [1, 2, 3]);

    let mut bench = Bench::new(4, 3);
    let (block, _) = bench.block(2, 0);
    bench.commit(1, 0, block);
    let proof = bench.proof(&[2, 3, 4], 0, block);
    assert_eq!(decision(&bench.step(Input::Proof(proof))), Some(block));
    bench.now += params().block_interval;
    bench.step(Input::Pending(true));
    assert_eq!(signers(&bench), [1, 2, 3, 4], "those of the proof and those that were heard");
}

#[test]
fn r11_a_certificate_that_is_not_one_of_the_parent_makes_a_block_invalid() {
    let mut bench = Bench::new(4, 1);
    let (first, _) = bench.block(2, 0);
    let proof = bench.proof(&[1, 2, 3], 0, first);
    bench.step(Input::Proof(proof));
    let (second, _) = bench.block(3, 0);
    let header = network::header_of(bench.tree.block(&second));
    let verdict = |certificate: &Certificate| {
        let mut header = header.clone();
        header.extension.data = alloy_rlp::encode(certificate).into();
        protocol(Kind::Pbft).verify(&bench.epoch, &header, &bench.tree, bench.now)
    };
    let proof = |by: &[u8], round, hash| bench.proof(by, round, hash).certificate;
    for good in [proof(&[1, 2, 3], 0, first), proof(&[1, 2, 3, 4], 7, first)] {
        assert_eq!(verdict(&good), Verdict::Valid);
    }
    let mut prepares = proof(&[1, 2, 3], 0, first);
    prepares.vote.position.step = Step::Prepare;
    for bad in [
        proof(&[1, 2], 0, first),
        proof(&[1, 2, 2], 0, first),
        proof(&[1, 2, 9], 0, first),
        proof(&[1, 2, 3], 0, second),
        prepares,
    ] {
        assert!(matches!(verdict(&bad), Verdict::Invalid(_)), "{bad:?}");
    }
}

/// A test that cannot fail proves nothing: with its rule left out, each of these does.
#[cfg(feature = "planted")]
#[test]
fn rules_left_out_are_seen() {
    use landfall_consensus::{Bug, plant};
    let left_out: [(Bug, fn()); 2] = [
        (Bug::PbftTurnsByOwnView, r1_whoever_starts_again_or_catches_up_knows_whose_turn_it_is),
        (
            Bug::PbftCarriedUnchecked,
            r11_a_certificate_that_is_not_one_of_the_parent_makes_a_block_invalid,
        ),
    ];
    for (bug, test) in left_out {
        plant(Some(bug));
        let seen = std::panic::catch_unwind(test).is_err();
        plant(None);
        assert!(seen, "{bug:?} is not seen");
    }
}
