//! Clusters of Raft engines: random histories, crashes at every boundary, and what other
//! implementations learnt in the field (the numbers are those of the design's list).

mod network;

use landfall_consensus::Record;
use landfall_types::{Height, Params, RaftParams, Span, Step};
use network::member::{One, grant, granted, made, proof, records};
use network::{Network, genesis, id};

fn params() -> Params {
    Params::Raft(network::member::params())
}

fn cluster(members: u8, seed: u64) -> Network {
    Network::new(params(), members, u64::MAX, seed)
}

fn term(network: &Network, n: u8) -> u64 {
    match &network.node(n).record {
        Some(Record::Raft(record)) => record.term,
        _ => 0,
    }
}

/// A cluster with a leader that decides, and who leads.
fn settled(members: u8, seed: u64) -> (Network, u8) {
    let mut network = cluster(members, seed);
    network.expect_progress(5, Span(5_000));
    let leaders = network.described("leader");
    assert_eq!(leaders.len(), 1);
    (network, leaders[0])
}

fn others(members: u8, n: u8) -> Vec<u8> {
    (1..=members).filter(|other| *other != n).collect()
}

/// Everybody reaches what anybody decided.
fn expect_all_caught_up(network: &mut Network) {
    let (goal, end) = (network.highest(), network.now + Span(5_000));
    let members = 1..=network.nodes.len() as u8;
    assert!(
        network.run_until(end, |network| { members.clone().all(|n| network.finalized(n) >= goal) })
    );
}

#[test]
fn random_histories_are_safe_and_go_on_after_healing() {
    let (mut heights, mut terms) = (0, 0);
    for seed in 0..150 {
        let mut network = cluster(3 + (seed % 3) as u8, seed);
        network.torment(60);
        network.recover();
        network.expect_progress(5, Span(3_000));
        expect_all_caught_up(&mut network);
        heights += network.highest().0;
        terms += term(&network, 1);
        assert!(network.reports.is_empty());
    }
    assert!(heights > 150 * 50, "the histories decide {heights} heights");
    assert!(terms > 150 * 5, "the histories have {terms} terms");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let trace = |seed| {
        let mut network = cluster(3, seed);
        network.torment(40);
        format!("{:?}", network.sent)
    };
    assert_eq!(trace(5), trace(5));
    assert_ne!(trace(5), trace(6));
}

#[test]
fn an_epoch_ends_at_its_last_height_whatever_happens() {
    for seed in 0..60 {
        let last = 1 + seed % 20;
        let mut network = Network::new(params(), 3, last, seed);
        network.torment(20);
        network.recover();
        network.expect_progress(last, Span(5_000));
        expect_all_caught_up(&mut network);
        assert_eq!(network.highest(), Height(last));
        network.sent.clear();
        network.run_for(Span(5_000));
        assert!(network.sent.is_empty(), "an instance that is over says nothing");
    }
}

#[test]
fn an_idle_cluster_makes_no_blocks_and_holds_no_elections() {
    let (mut network, leader) = settled(3, 8);
    network.load = false;
    network.run_for(Span(1_000));
    let (height, term_before) = (network.highest(), term(&network, leader));
    network.run_for(Span(60_000));
    assert!(network.highest().0 <= height.0 + 1);
    assert_eq!(term(&network, leader), term_before);
}

#[test]
fn half_of_the_messages_are_enough() {
    for seed in 0..10 {
        let mut network = cluster(5, seed);
        network.loss_percent = 40;
        network.expect_progress(20, Span(60_000));
    }
}

/// Also B10: nothing is told to anybody before it is durable.
#[test]
fn a_crash_between_any_two_outputs_is_survived() {
    for members in [1, 3] {
        for boundary in 0..120 {
            for victim in [0, 1] {
                let mut network = cluster(members, 40 + boundary);
                network.crash_after((1 + victim).min(members), boundary);
                network.run_for(Span(2_500));
                for n in 1..=members {
                    if !network.is_up(n) {
                        network.restart(n);
                    }
                }
                network.expect_progress(3, Span(5_000));
                expect_all_caught_up(&mut network);
            }
        }
    }
}

#[test]
fn weights_and_not_heads_make_a_majority() {
    use landfall_types::{Committee, Member, Weight};
    let mut one = One::new(3);
    let weights = [1_u128, 5, 1];
    let member = |(n, weight): (u8, &u128)| Member { id: id(n), weight: Weight(*weight) };
    one.epoch.committee = Committee::new((1..).zip(&weights).map(member).collect()).unwrap();
    let tip = made(&genesis(), 2, 1);
    let check = |signers: &[u8]| landfall_light::verify_proof(&one.epoch, &proof(1, &tip, signers));
    assert!(check(&[1, 3]).is_err() && check(&[2]).is_ok());
}

#[test]
fn b8_a_block_that_is_final_already_changes_nothing() {
    let (mut network, leader) = settled(3, 2);
    let node = network.node(leader);
    let (newest, height) = (node.proof.clone().unwrap(), network.finalized(leader));
    network.sent.clear();
    let record = network.node(leader).record.clone();
    let me = id(leader);
    network.step(me, landfall_consensus::Input::Proof(newest.clone()));
    network.step(me, landfall_consensus::Input::Block { hash: newest.hash() });
    assert_eq!((network.finalized(leader), &network.node(leader).record), (height, &record));
    assert!(network.sent.is_empty());
}

#[test]
fn b13_the_vote_of_a_node_that_never_saw_a_block_is_saved() {
    let mut one = One::new(3);
    let out = one.candidacy(2, 1, 0, 0);
    assert!(granted(&out));
    let record = records(&out).pop().expect("its first vote is written, though nothing else is");
    one.restart(record);
    assert!(!granted(&one.candidacy(3, 1, 0, 0)), "two leaders of one term");
}

#[test]
fn b14_a_node_that_just_started_votes_for_nobody() {
    for seed in 0..20 {
        let (mut network, leader) = settled(3, seed);
        let [cut_off, restarted] = others(3, leader)[..] else { unreachable!("three members") };
        let before = term(&network, leader);
        network.cut(leader, cut_off);
        network.run_for(Span(2_000));
        assert_eq!(term(&network, leader), before, "the other one hears the leader");
        // It forgets that it heard the leader; the one that is cut off asks it at once.
        for _ in 0..20 {
            network.crash(restarted);
            network.restart(restarted);
            network.run_for(Span(150));
        }
        assert_eq!(term(&network, leader), before);
        assert_eq!(network.described("leader"), [leader]);
    }
    let mut one = One::fresh(3, network::member::params(), u64::MAX);
    assert_eq!(one.candidacy(2, 1, 0, 0), []);
    one.now += Span(299);
    assert_eq!(one.candidacy(2, 1, 0, 0), []);
    one.now += Span(1);
    assert!(granted(&one.candidacy(2, 1, 0, 0)), "by now a leader would have been heard");
}

#[test]
fn b15_a_follower_that_hears_only_followers_deposes_nobody() {
    for seed in 0..20 {
        let (mut network, leader) = settled(5, seed);
        let deaf = others(5, leader)[0];
        let before = term(&network, leader);
        if seed % 2 == 0 {
            network.cut(leader, deaf);
        } else {
            network.cut_one_way(leader, deaf);
        }
        network.expect_progress(50, Span(20_000));
        assert_eq!((term(&network, leader), term(&network, deaf)), (before, before));
        network.heal();
        expect_all_caught_up(&mut network);
        assert_eq!(network.described("leader"), [leader]);
    }
}

#[test]
fn b15_a_leader_that_is_heard_and_hears_nobody_gives_way() {
    for seed in 0..20 {
        let (mut network, leader) = settled(3, seed);
        let before = term(&network, leader);
        for other in others(3, leader) {
            network.cut_one_way(other, leader);
        }
        network.expect_progress(5, Span(5_000));
        assert!(others(3, leader).into_iter().all(|other| term(&network, other) > before));
        assert!(!network.described("leader").contains(&leader));
    }
}

#[test]
fn b15_a_node_with_a_higher_term_that_nobody_knows_is_taken_back() {
    // A candidate whose requests were all lost: it never takes an Append of the old term.
    for seed in 0..20 {
        let (mut network, leader) = settled(3, seed);
        let ahead = others(3, leader)[0];
        let higher = landfall_consensus::raft::Message::Heard { term: 7 };
        network.inject(id(leader), id(ahead), None, landfall_consensus::Body::Raft(higher));
        let from = network.highest();
        network.expect_progress(5, Span(3_000));
        expect_all_caught_up(&mut network);
        assert!(network.finalized(ahead) > from && term(&network, ahead) >= 7);
    }
}

#[test]
fn b16_blocks_of_a_stale_leader_are_dropped_when_it_comes_back() {
    let mut dropped = 0;
    for seed in 0..20 {
        let (mut network, stale) = settled(3, seed);
        network.isolate(stale);
        network.run_for(Span(250));
        let Some(Record::Raft(record)) = network.node(stale).record.clone() else {
            panic!("a leader has a record")
        };
        let alone = record.tip != network.node(stale).finalized;
        network.expect_progress(5, Span(5_000));
        network.heal();
        expect_all_caught_up(&mut network);
        let decided: Vec<_> = network.decided.values().collect();
        assert!(!alone || !decided.contains(&&record.tip));
        dropped += u32::from(alone);
    }
    assert!(dropped > 10, "the stale leader built alone {dropped} times");
}

#[test]
fn b16_a_block_that_was_asked_for_in_an_earlier_term_is_not_proposed() {
    let mut one = One::new(3);
    let first = one.elect();
    one.step(landfall_consensus::Input::Pending(true));
    one.hear(2, None, landfall_consensus::raft::Message::Heard { term: first + 1 });
    one.now += Span(1_000);
    let second = one.elect();
    assert!(second > first);
    let late = one.block(&genesis(), 1, first);
    assert_eq!(one.step(landfall_consensus::Input::Built { hash: late.hash }), []);
    let now = one.block(&genesis(), 1, second);
    assert_ne!(one.step(landfall_consensus::Input::Built { hash: now.hash }), []);
}

#[test]
fn every_vote_that_is_sent_is_one_of_the_two_kinds_and_grants_are_for_candidates() {
    let (network, _) = settled(3, 4);
    for sent in &network.sent {
        let Some(vote) = sent.vote else { continue };
        match vote.position.step {
            Step::Grant => {
                let candidates: Vec<_> =
                    (1..=3).map(|n| grant(vote.position.round, id(n))).collect();
                assert!(candidates.contains(&vote));
            }
            Step::Ack => assert!(vote.context.is_zero()),
            other => panic!("a vote of the step {other:?}"),
        }
    }
}

#[test]
fn spans_of_zero_are_no_busy_loop() {
    let zero = RaftParams {
        heartbeat: Span(0),
        election: Span(0),
        block_interval: Span(0),
        empty_blocks: true,
    };
    let mut network = Network::new(Params::Raft(zero), 1, 50, 1);
    network.expect_progress(50, Span(5_000));
}
