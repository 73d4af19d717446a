//! PBFT as the paper says it (Castro and Liskov, OSDI '99), section by section, where the chain's
//! version keeps it; then what went wrong in the field.

#[path = "network/mod.rs"]
mod network;
#[path = "pbft/mod.rs"]
mod pbft;

use alloy_primitives::B256;
use landfall_consensus::pbft::{Justification, Message, Turns};
use landfall_consensus::{Evidence, Input, InvalidEvidence, Output, protocol};
use landfall_types::{Certificate, Height, Kind, Params, Signature, Span, Step, Time};
use network::{Network, genesis, id};
use pbft::{Bench, decision, nothing, params, reports, sign, steps, votes};
use std::collections::BTreeSet;

/// A bench whose engine has prepared and committed a block in round 0; the certificate.
fn committed(me: u8) -> (Bench, B256, Certificate) {
    let mut bench = Bench::new(4, me);
    let (block, _) = bench.block(2, 0);
    bench.proposal(2, 0, block, &nothing());
    for other in (1..=4).filter(|n| *n != me).take(2) {
        bench.prepare(other, 0, block, &nothing());
    }
    let prepared = bench.record.as_ref().unwrap().prepared.clone().expect("it prepared");
    (bench, block, prepared)
}

// §4.1

#[test]
fn s4_1_the_leader_of_a_round_is_the_member_whose_turn_it_is() {
    let mut leaders = BTreeSet::new();
    for round in 0..4 {
        for member in 1..=4 {
            let mut bench = Bench::new(4, 1);
            let (block, _) = bench.block(member, 0);
            let why = match round {
                0 => nothing(),
                round => bench.justify(round, &[(1, None), (2, None), (3, None)]),
            };
            let out = bench.proposal(member, round, block, &why);
            if steps(&out).contains(&Step::Prepare) {
                leaders.insert((round, member));
            }
        }
    }
    // Height 1: the second member leads round 0.
    assert_eq!(leaders, BTreeSet::from([(0, 2), (1, 3), (2, 4), (3, 1)]));
}

#[test]
fn s4_1_decisions_rotate_the_leader() {
    let mut network = Network::new(Params::Pbft(params()), 4, 9, 1);
    network.expect_progress(9, Span(10_000));
    let tree = &network.node(1).tree;
    let makers: Vec<_> = tree.above(Height(0)).map(|block| block.proposer).collect();
    let turns: Vec<_> = [2, 3, 4, 1, 2, 3, 4, 1, 2].map(id).to_vec();
    assert_eq!(makers[..8], turns[..8]);
}

// §4.2, the normal case.

#[test]
fn s4_2_a_backup_accepts_one_proposal_of_a_round() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    let (rival, _) = bench.block(2, 1);
    assert_eq!(steps(&bench.proposal(2, 0, block, &nothing())), [Step::Prepare]);
    assert_eq!(bench.proposal(2, 0, rival, &nothing()), []);
    bench.restart();
    assert_eq!(bench.proposal(2, 0, rival, &nothing()), []);
    assert_eq!(bench.tick_until(Step::Prepare).hash, block);
}

#[test]
fn s4_2_a_proposal_must_fit_its_digest_its_height_and_its_parent() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    let mut vote = bench.vote(Step::Proposal, 0, block, B256::repeat_byte(7));
    let message = || Message::Proposal { justification: nothing() };
    assert_eq!(bench.hear(2, vote, message()), []);
    vote.context = nothing().digest();
    vote.position.height = Height(3);
    assert_eq!(bench.hear(2, vote, message()), []);
    vote.position.epoch = 1;
    vote.position.height = Height(1);
    assert_eq!(bench.hear(2, vote, message()), []);
    vote.position.epoch = 0;
    // Height 1 has a block that stands on no decision of this height.
    let other = bench.proposal(2, 0, bench.finalized, &nothing());
    assert_eq!(steps(&other), []);
    assert_eq!(steps(&bench.hear(2, vote, message())), [Step::Prepare]);
}

#[test]
fn s4_2_prepared_takes_a_quorum_that_says_the_same_in_the_same_round() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    let (rival, _) = bench.block(2, 1);
    bench.proposal(2, 0, block, &nothing());
    let other = bench.justify(1, &[(1, None), (2, None), (3, None)]);
    assert_eq!(bench.prepare(2, 0, block, &nothing()), []);
    // Again, another block, another justification, another round, a stranger.
    assert_eq!(bench.prepare(2, 0, block, &nothing()), []);
    assert_eq!(bench.prepare(3, 0, rival, &nothing()), []);
    assert_eq!(steps(&bench.prepare(4, 0, block, &other)), []);
    assert_eq!(steps(&bench.prepare(4, 1, block, &nothing())), []);
    assert_eq!(bench.prepare(9, 0, block, &nothing()), []);
    let mut honest = Bench::new(4, 1);
    let (block, _) = honest.block(2, 0);
    honest.proposal(2, 0, block, &nothing());
    honest.prepare(2, 0, block, &nothing());
    assert_eq!(steps(&honest.prepare(3, 0, block, &nothing())), [Step::Commit]);
}

#[test]
fn s4_2_committed_takes_a_quorum_of_one_round_whatever_the_own_round() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    bench.change(3, 5, None);
    bench.change(4, 5, None);
    assert!(bench.state().contains("round 5"));
    for (from, round) in [(2, 0), (3, 0), (3, 0), (4, 1), (9, 0)] {
        assert_eq!(decision(&bench.commit(from, round, block)), None);
    }
    // One signer, two signatures.
    let mut again = sign(id(3), bench.vote(Step::Commit, 0, block, B256::ZERO));
    again.signature = Signature([99; 65]);
    assert_eq!(decision(&bench.hear_signed(again, Message::Commit)), None);
    assert_eq!(decision(&bench.commit(1, 0, block)), Some(block));
    assert_eq!(bench.height(), Height(2));
}

#[test]
fn s4_2_no_prepare_and_no_decision_without_the_block() {
    let mut bench = Bench::new(4, 1);
    let parent = bench.tree.block(&bench.finalized).clone();
    let missing = network::block_on(&parent, id(2), bench.now, Default::default());
    let out = bench.proposal(2, 0, missing.hash, &nothing());
    assert_eq!(out, [Output::Fetch { hash: missing.hash, from: Some(id(2)) }]);
    for from in [2, 3, 4] {
        bench.prepare(from, 0, missing.hash, &nothing());
        assert_eq!(decision(&bench.commit(from, 0, missing.hash)), None);
    }
    bench.tree.insert(missing.clone());
    let out = bench.step(Input::Block { hash: missing.hash });
    assert_eq!(decision(&out), Some(missing.hash));
}

#[test]
fn s4_6_a_fresh_block_from_the_future_waits_and_a_prepared_one_does_not() {
    let late = params().clock_drift.0 + 200;
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, late);
    assert_eq!(bench.proposal(2, 0, block, &nothing()), []);
    let held = bench.now + Span(200);
    assert_eq!(bench.tick_until(Step::Prepare).hash, block);
    assert_eq!(bench.now, held);

    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, late);
    let prepared = bench.prepares(&[2, 3, 4], 0, block, &nothing());
    let why = bench.justify(1, &[(2, Some(&prepared)), (3, None), (4, None)]);
    assert!(steps(&bench.proposal(3, 1, block, &why)).contains(&Step::Prepare));
}

/// The parent may be of another protocol, which judged no time, or of clocks that were put back since.
#[test]
fn a_parent_ahead_of_the_clocks_stops_nothing() {
    for (after_parent, waits) in [(1, false), (2, true)] {
        let mut bench = Bench::new(4, 1);
        let ahead = 10 * params().clock_drift.0;
        bench.now = genesis().time - Span(ahead);
        let (block, _) = bench.block(2, ahead + after_parent);
        let prepares = steps(&bench.proposal(2, 0, block, &nothing())).contains(&Step::Prepare);
        assert_eq!(prepares, !waits, "{after_parent} ms after its parent");
    }
}

// §4.4, view changes.

#[test]
fn s4_4_a_round_change_carries_what_was_prepared_and_no_commit_follows_for_a_lower_round() {
    let (mut bench, block, prepared) = committed(1);
    let change = bench.tick_until(Step::RoundChange);
    assert_eq!((change.hash, change.position.round), (block, 1));
    assert_eq!(change.context, B256::from(alloy_primitives::U256::from(1)));
    assert_eq!(bench.record.as_ref().unwrap().prepared, Some(prepared));

    // Accepted in round 0; the prepares come when the round is over.
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    bench.proposal(2, 0, block, &nothing());
    bench.tick_until(Step::RoundChange);
    for from in [2, 3, 4] {
        assert_eq!(steps(&bench.prepare(from, 0, block, &nothing())), []);
    }
}

#[test]
fn s4_4_the_new_leader_proposes_the_latest_prepared_block_of_a_quorum() {
    // Member 1 leads height 1 in round 3.
    let mut bench = Bench::new(4, 1);
    let (old, _) = bench.block(2, 0);
    let (new, _) = bench.block(3, 0);
    let first = bench.prepares(&[2, 3, 4], 0, old, &nothing());
    let free = bench.justify(1, &[(2, None), (3, None), (4, None)]);
    let second = bench.prepares(&[2, 3, 4], 1, new, &free);
    bench.change(2, 3, Some(first.clone()));
    assert_eq!(
        steps(&bench.change(3, 3, Some(second.clone()))),
        [Step::RoundChange, Step::Proposal, Step::Prepare]
    );
    let own = bench.record.as_ref().unwrap().proposal.clone().unwrap();
    assert_eq!((own.hash, own.justification.prepared), (new, Some(second)));
}

#[test]
fn s4_4_the_new_leader_builds_afresh_if_nothing_was_prepared() {
    let mut bench = Bench::new(4, 1);
    bench.change(2, 3, None);
    let out = bench.change(4, 3, None);
    assert!(matches!(out.last(), Some(Output::Build { .. })), "{out:?}");
    let (block, out) = bench.built();
    assert_eq!(steps(&out), [Step::Proposal, Step::Prepare]);
    assert_eq!(votes(&out)[0].hash, block);
}

#[test]
fn s4_4_a_backup_refuses_a_new_view_that_its_messages_do_not_justify() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(3, 0);
    let (rival, _) = bench.block(3, 1);
    let prepared = bench.prepares(&[2, 3, 4], 0, block, &nothing());
    let short = bench.prepares(&[3, 4], 0, block, &nothing());
    let bound = bench.justify(1, &[(2, Some(&prepared)), (3, None), (4, None)]);
    let hidden = Justification { prepared: None, ..bound.clone() };
    let few = bench.justify(1, &[(2, None), (3, None)]);
    let weak = bench.justify(1, &[(2, Some(&short)), (3, None), (4, None)]);
    let stale = bench.justify(2, &[(2, None), (3, None), (4, None)]);
    for (hash, why) in [
        (block, nothing()),
        (rival, bound.clone()),
        (block, hidden),
        (block, few),
        (block, weak),
        (block, stale),
    ] {
        assert_eq!(steps(&bench.proposal(3, 1, hash, &why)), [], "{why:?}");
    }
    let out = bench.proposal(3, 1, block, &bound);
    assert_eq!(steps(&out), [Step::RoundChange, Step::Prepare]);
}

#[test]
fn s4_4_a_round_change_without_its_certificate_is_none() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    let prepared = bench.prepares(&[2, 3, 4], 0, block, &nothing());
    let late = bench.prepares(&[2, 3, 4], 3, block, &nothing());
    let short = bench.prepares(&[2, 3], 0, block, &nothing());
    bench.change(2, 3, None);
    let claim = bench.change_vote(3, Some(&prepared));
    let change = |prepared| Message::RoundChange { prepared };
    assert_eq!(bench.hear(3, claim, change(None)), []);
    assert_eq!(bench.hear(3, bench.change_vote(3, None), change(Some(prepared.clone()))), []);
    assert_eq!(bench.hear(3, bench.change_vote(3, Some(&short)), change(Some(short))), []);
    assert_eq!(bench.hear(3, bench.change_vote(3, Some(&late)), change(Some(late))), []);
    assert!(!bench.hear(3, claim, change(Some(prepared))).is_empty());
}

// §4.5.2, liveness.

#[test]
fn s4_5_2_the_timeout_doubles_up_to_its_bound() {
    let mut bench = Bench::new(4, 1);
    bench.step(Input::Pending(true));
    let mut spans = Vec::new();
    for round in 1..=6 {
        let entered = bench.now;
        while !bench.state().contains(&format!("round {round},")) {
            bench.tick();
        }
        spans.push(bench.now.since(entered).0);
        // A quorum comes along: the time of the round runs from here.
        bench.change(2, round, None);
        bench.change(3, round, None);
    }
    assert_eq!(spans, [400, 800, 1_600, 2_000, 2_000, 2_000]);
}

#[test]
fn s4_5_2_the_timer_of_a_later_round_waits_for_a_quorum() {
    let mut bench = Bench::new(4, 1);
    bench.step(Input::Pending(true));
    bench.tick_until(Step::RoundChange);
    for _ in 0..200 {
        bench.tick();
    }
    assert!(bench.state().contains("round 1,"), "{}", bench.state());
    bench.change(2, 1, None);
    bench.change(3, 1, None);
    for _ in 0..200 {
        bench.tick();
    }
    assert!(bench.state().contains("round 2,"), "{}", bench.state());
}

#[test]
fn s4_5_2_a_third_of_the_weight_is_followed_and_less_is_not() {
    let mut bench = Bench::new(7, 1);
    for round in [5, 900, 7] {
        assert_eq!(bench.change(2, round, None), []);
        assert_eq!(bench.change(3, round, None), []);
    }
    assert!(bench.state().contains("round 0,"));
    bench.change(4, 3, None);
    assert!(bench.state().contains("round 3,"), "{}", bench.state());
}

#[test]
fn s4_5_2_an_idle_chain_changes_no_view_and_a_silent_leader_is_deposed() {
    let mut bench = Bench::new(4, 1);
    bench.step(Input::Pending(false));
    while bench.deadline().is_some() {
        assert_eq!(bench.tick(), []);
    }
    let begun = bench.now;
    bench.step(Input::Pending(true));
    bench.tick_until(Step::RoundChange);
    assert_eq!(bench.now, begun + params().round_timeout);
}

#[test]
fn s4_5_2_a_clock_that_is_set_back_makes_no_timer_late() {
    let mut bench = Bench::new(4, 1);
    bench.step(Input::Pending(true));
    bench.now = Time(bench.now.0 - 900_000);
    bench.step(Input::Pending(true));
    let due = bench.deadline().unwrap();
    assert!(due <= bench.now + params().round_timeout + params().block_interval);
}

// Weights.

#[test]
fn quorums_weigh_members_and_do_not_count_them() {
    // 5 of 8: the heavy member is followed alone, and decides with one other.
    let mut bench = Bench::weighted(&[5, 1, 1, 1], 2);
    let (block, _) = bench.block(2, 0);
    for light in [3, 4] {
        bench.change(light, 4, None);
        assert_eq!(decision(&bench.commit(light, 0, block)), None);
    }
    assert!(bench.state().contains("round 0,"));
    bench.change(1, 3, None);
    assert!(bench.state().contains("round 3,"));
    assert_eq!(decision(&bench.commit(1, 0, block)), Some(block));
}

// Accountability.

#[test]
fn a_prepare_that_its_justification_does_not_allow_is_reported_once() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(3, 0);
    let few = bench.justify(1, &[(2, None), (3, None)]);
    assert_eq!(reports(&bench.prepare(4, 1, block, &few)), []);
    let found = reports(&bench.proposal(3, 1, block, &few));
    let [Evidence::UnjustifiedPrepare { prepare, justification }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((prepare.signer, justification), (id(4), &few));
    assert_eq!(reports(&bench.prepare(4, 1, block, &few)), []);
    assert_eq!(reports(&bench.prepare(2, 1, block, &few)).len(), 1);
}

#[test]
fn evidence_convicts_liars_and_nobody_else() {
    let (bench, block, prepared) = committed(1);
    let verify = |it: &Evidence| protocol(Kind::Pbft).verify_evidence(&bench.epoch, it);
    let commit = sign(id(4), bench.vote(Step::Commit, 0, block, B256::ZERO));
    let honest = sign(id(4), bench.change_vote(1, Some(&prepared)));
    let lying = sign(id(4), bench.change_vote(1, None));
    let amnesia = |change| Evidence::Amnesia { commit, change };
    assert_eq!(verify(&amnesia(lying)), Ok(id(4)));
    assert_eq!(verify(&amnesia(honest)), Err(InvalidEvidence::NoContradiction));
    let other = sign(id(3), bench.change_vote(1, None));
    assert_eq!(verify(&amnesia(other)), Err(InvalidEvidence::TwoSigners));
    let double = |a, b| Evidence::DoubleVote { a, b };
    assert_eq!(verify(&double(honest, lying)), Ok(id(4)));
    assert_eq!(verify(&double(lying, lying)), Err(InvalidEvidence::NoContradiction));
    let stranger = sign(id(9), commit.vote);
    assert_eq!(verify(&double(stranger, stranger)), Err(InvalidEvidence::NoMember(id(9))));

    let bound = bench.justify(1, &[(2, Some(&prepared)), (3, None), (4, None)]);
    let unjustified = |hash, context| Evidence::UnjustifiedPrepare {
        prepare: sign(id(4), bench.vote(Step::Prepare, 1, hash, context)),
        justification: bound.clone(),
    };
    assert_eq!(verify(&unjustified(B256::repeat_byte(5), bound.digest())), Ok(id(4)));
    let fine = [unjustified(block, bound.digest()), unjustified(block, B256::ZERO)];
    for it in fine {
        assert_eq!(verify(&it), Err(InvalidEvidence::NoContradiction));
    }
}

// What went wrong elsewhere.

/// Malachite #864: a second proposal after a restart, since the first was not logged.
#[test]
fn b2_a_leader_that_crashes_anywhere_proposes_no_second_block() {
    for fuse in 0..8 {
        let mut bench = Bench::new(4, 2);
        bench.step(Input::Pending(true));
        bench.fuse = Some(fuse);
        bench.built();
        bench.restart();
        bench.now += Span(10);
        let asked = bench.step(Input::Pending(true));
        let again = asked.iter().any(|it| matches!(it, Output::Build { .. }));
        // Before the record was written nobody saw anything; after, it is that block.
        assert_eq!(again, fuse == 0, "crash after {fuse} outputs");
        if again {
            bench.built();
        } else {
            let first = bench.record.as_ref().unwrap().proposal.clone().unwrap();
            bench.built();
            assert_eq!(bench.tick_until(Step::Proposal).hash, first.hash);
        }
    }
}

/// The same in a later round, where other round changes may be at hand after the restart.
#[test]
fn b2_a_leader_proposes_with_the_same_justification_after_a_restart() {
    let mut bench = Bench::new(4, 3);
    let (block, _) = bench.block(2, 0);
    let prepared = bench.prepares(&[1, 2, 4], 0, block, &nothing());
    bench.change(1, 1, None);
    bench.change(2, 1, None);
    let (fresh, out) = bench.built();
    let first = votes(&out)[0];
    bench.restart();
    bench.change(4, 1, Some(prepared));
    bench.change(1, 1, None);
    assert_eq!(bench.tick_until(Step::Proposal), first);
    assert_eq!(first.hash, fresh);
}

/// Malachite #850: a node came back without the certificate of the round before.
#[test]
fn b3_a_certificate_survives_a_restart_and_binds_the_next_round() {
    let (mut bench, block, prepared) = committed(3);
    bench.restart();
    bench.change(1, 1, None);
    let out = bench.change(4, 1, None);
    assert_eq!(steps(&out), [Step::RoundChange, Step::Proposal, Step::Prepare]);
    assert_eq!(votes(&out)[1].hash, block);
    let own = bench.record.as_ref().unwrap().proposal.clone().unwrap();
    assert_eq!(own.justification.prepared, Some(prepared));
}

/// Quorum #305 and others: members locked on different blocks for ever.
#[test]
fn b4_a_member_prepares_another_block_if_a_later_round_prepared_it() {
    let (mut bench, locked, _) = committed(1);
    let (rival, _) = bench.block(3, 1);
    let free = bench.justify(1, &[(2, None), (3, None), (4, None)]);
    let later = bench.prepares(&[2, 3, 4], 1, rival, &free);
    let why = bench.justify(2, &[(2, Some(&later)), (3, None), (4, None)]);
    let out = bench.proposal(4, 2, rival, &why);
    assert_eq!(steps(&out), [Step::RoundChange, Step::Prepare]);
    assert_eq!(votes(&out)[0].hash, locked, "it says what it was locked on");
    bench.prepare(2, 2, rival, &why);
    assert_eq!(steps(&bench.prepare(3, 2, rival, &why)), [Step::Commit]);
}

/// Fabric #1917.
#[test]
fn b5_view_change_is_sent_again_after_a_partition() {
    let mut network = Network::new(Params::Pbft(params()), 4, 1_000, 5);
    network.expect_progress(3, Span(5_000));
    // In every round everybody's round change is lost once, and nobody says anything else.
    for n in 1..=4 {
        network.isolate(n);
    }
    network.run_for(Span(20_000));
    network.heal();
    network.expect_progress(3, Span(3 * params().round_timeout_max.0));
}

/// Besu #7642: after a long disturbance the next round was an hour away.
#[test]
fn b6_a_long_disturbance_leaves_no_long_timeout() {
    let mut network = Network::new(Params::Pbft(params()), 4, 1_000, 6);
    network.expect_progress(3, Span(5_000));
    // Everybody hears three of four, but no two the same: rounds pass, nothing is decided.
    network.cut(1, 2);
    network.cut(3, 4);
    let before = network.highest();
    network.run_for(Span(600_000));
    assert!(network.highest().0 <= before.0 + 1);
    network.heal();
    // The leader of the round they are in does not come back, and nobody else knows its votes:
    // the round must end.
    let state = network.describe(1);
    let round = state.split("round ").nth(1).and_then(|it| it.split(',').next()).unwrap();
    let node = network.node(1);
    let turns = Turns::above(&network.epoch, &node.tree, node.finalized);
    let leader = turns.leader(network.finalized(1).next(), round.parse().unwrap());
    let leader = (1..=4).find(|n| id(*n) == leader).unwrap();
    for n in 1..=4 {
        network.crash(n);
    }
    for n in (1..=4).filter(|n| *n != leader) {
        network.restart(n);
    }
    network.expect_progress(1, Span(3 * params().round_timeout_max.0));
}

/// SmartBFT #663, Fabric #5076.
#[test]
fn b8_a_decision_that_is_known_changes_nothing() {
    let mut bench = Bench::new(4, 1);
    let (block, _) = bench.block(2, 0);
    let proof = bench.proof(&[2, 3, 4], 0, block);
    assert_eq!(decision(&bench.step(Input::Proof(proof.clone()))), Some(block));
    bench.change(2, 3, None);
    bench.change(3, 3, None);
    let state = bench.state();
    assert!(state.contains("height 2, round 3,"));
    assert_eq!(bench.step(Input::Proof(proof)), []);
    assert_eq!(bench.step(Input::Block { hash: block }), []);
    assert_eq!(bench.state(), state);
}

/// Raijin #7.
#[test]
fn b9_round_changes_count_once_a_member_and_spam_moves_nobody() {
    // Member 3 leads round 1.
    let mut bench = Bench::new(4, 3);
    bench.step(Input::Pending(true));
    bench.tick_until(Step::RoundChange);
    for round in (1..3_000).chain([u64::MAX]) {
        assert_eq!(bench.change(4, round, None), []);
        assert_eq!(bench.change(4, 1, None), []);
    }
    assert!(bench.state().contains("round 1,"));
    bench.change(1, 1, None);
    let out = bench.change(2, 1, None);
    assert!(matches!(out[..], [Output::Build { .. }]), "{out:?}");
}

/// Sawtooth-pbft #90.
#[test]
fn b29_a_node_in_a_view_change_that_learns_a_decision_is_normal_again() {
    let mut bench = Bench::new(4, 1);
    bench.step(Input::Pending(true));
    bench.tick_until(Step::RoundChange);
    let (block, _) = bench.block(2, 0);
    let proof = bench.proof(&[2, 3, 4], 0, block);
    assert_eq!(decision(&bench.step(Input::Proof(proof))), Some(block));
    let (next, _) = bench.block(3, 0);
    assert_eq!(steps(&bench.proposal(3, 0, next, &nothing())), [Step::Prepare]);
}

/// A test that cannot fail proves nothing: with its rule left out, each of these does.
#[cfg(feature = "planted")]
#[test]
fn rules_left_out_are_seen() {
    use landfall_consensus::{Bug, plant};
    let left_out: [(Bug, fn()); 11] = [
        (Bug::PbftNoPersistBeforePrepare, s4_2_a_backup_accepts_one_proposal_of_a_round),
        (Bug::PbftLocksForever, b4_a_member_prepares_another_block_if_a_later_round_prepared_it),
        (Bug::PbftForgetsPrepared, b3_a_certificate_survives_a_restart_and_binds_the_next_round),
        (
            Bug::PbftJustificationUnchecked,
            s4_4_a_backup_refuses_a_new_view_that_its_messages_do_not_justify,
        ),
        (Bug::PbftTimersUncapped, s4_5_2_the_timeout_doubles_up_to_its_bound),
        (Bug::PbftTimersUncapped, b6_a_long_disturbance_leaves_no_long_timeout),
        (Bug::PbftNoRetransmit, b5_view_change_is_sent_again_after_a_partition),
        (Bug::ProposalInSeal, b4_a_member_prepares_another_block_if_a_later_round_prepared_it),
        (Bug::QuorumOffByOne, s4_2_prepared_takes_a_quorum_that_says_the_same_in_the_same_round),
        (Bug::VotesBySignature, s4_2_committed_takes_a_quorum_of_one_round_whatever_the_own_round),
        (Bug::StartActs, b3_a_certificate_survives_a_restart_and_binds_the_next_round),
    ];
    for (bug, test) in left_out {
        plant(Some(bug));
        let seen = std::panic::catch_unwind(test).is_err();
        plant(None);
        assert!(seen, "{bug:?} is not seen");
    }
}
