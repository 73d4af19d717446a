//! Raft, rule by rule: Ongaro, "Consensus: Bridging Theory and Practice" (2014). The rules are
//! those at the head of `raft/mod.rs`; whole clusters and the regressions from the field are in
//! `raft_network.rs`.

mod network;

use alloy_primitives::B256;
use landfall_consensus::raft::{Last, Message, Raft, Record};
use landfall_consensus::{Body, Engine, Input, Output, Random, Recipients, Start, Tree, TreeBlock};
use landfall_types::{Height, Params, Position, RaftParams, Span, Step, Time, Vote};
use network::member::{
    ELECTION, HEARTBEAT, LEAST, One, ack, acked, adopted, built_on, grant, granted, heard, made,
    params, proof, records, sends, vote,
};
use network::{CHAIN, block_on, epoch, genesis, id, sign};

// Rule 1 (§3.3).

#[test]
fn a_higher_term_in_whatever_message_makes_a_leader_follow() {
    let far = genesis();
    let messages: [(Option<Vote>, Message); 4] = [
        (None, Message::Heard { term: 9 }),
        (Some(ack(9, &far)), Message::Ack),
        (Some(grant(9, id(2))), Message::Grant),
        (Some(ack(9, &far)), Message::Append { proof: None }),
    ];
    for (vote, message) in messages {
        let mut one = One::new(3);
        one.elect();
        let out = one.hear(2, vote, message.clone());
        assert!(one.is("follower"), "{message:?}");
        let first = &records(&out)[0];
        assert_eq!((first.term, first.voted), (9, None), "{message:?}");
    }
}

#[test]
fn a_message_of_an_old_term_is_answered_with_the_new_one() {
    let mut one = One::new(3);
    one.hear(2, None, Message::Heard { term: 5 });
    assert_eq!(sends(&one.append(2, 4, &genesis())), [heard(5, 2)]);
    assert_eq!(sends(&one.candidacy(2, 4, 9, 9)), [heard(5, 2)]);
    let old = Message::PreVote { term: 5, last: Last { stamp: 9, height: Height(9) } };
    assert_eq!(sends(&one.hear(2, None, old)), [heard(5, 2)]);
}

// Rule 2 (§3.4).

#[test]
fn an_election_waits_for_a_random_time_from_one_to_two_timeouts() {
    let times: Vec<u64> = (0..50)
        .map(|seed| {
            let epoch = epoch(Params::Raft(params()), 3, u64::MAX);
            let tree = Tree::new(genesis());
            let (me, proof, record) = (id(1), None, None);
            let (now, finalized, head) = (Time(0), CHAIN, CHAIN);
            let start =
                Start { epoch: &epoch, me, now, seed, tree: &tree, finalized, head, proof, record };
            Raft::new(&start, &mut Vec::new()).deadline().unwrap().0
        })
        .collect();
    assert!(times.iter().all(|time| (300..600).contains(time)));
    let distinct: std::collections::BTreeSet<_> = times.iter().collect();
    assert!(distinct.len() > 30 && **distinct.first().unwrap() < 350);
    assert!(**distinct.last().unwrap() > 550);
}

#[test]
fn a_vote_is_durable_before_it_is_sent_and_the_only_one_of_its_term() {
    let mut one = One::new(5);
    let out = one.candidacy(2, 3, 0, 0);
    let record = records(&out).pop().unwrap();
    assert_eq!((record.term, record.voted), (3, Some(id(2))));
    let position = out.iter().rposition(|output| matches!(output, Output::Persist(_))).unwrap();
    let sent = out.iter().position(|output| matches!(output, Output::Send { .. })).unwrap();
    assert!(position < sent && granted(&out));
    assert!(one.engine.deadline().unwrap() >= one.now + ELECTION, "the candidate gets its time");
    assert!(!granted(&one.candidacy(3, 3, 9, 9)), "a better log comes too late");
    let again = one.candidacy(2, 3, 0, 0);
    assert!(
        granted(&again) && records(&again).is_empty(),
        "the same vote may be lost and said again"
    );
    one.restart(record);
    assert!(!granted(&one.candidacy(3, 3, 9, 9)) && granted(&one.candidacy(2, 3, 0, 0)));
    assert!(granted(&one.candidacy(3, 4, 0, 0)), "the next term is another vote");
}

#[test]
fn a_majority_of_members_and_not_of_messages_makes_a_leader() {
    let mut one = One::new(5);
    one.tick();
    for _ in 0..5 {
        one.hear(2, None, Message::PreGrant { term: 1 });
    }
    assert!(one.is("pre-candidate"));
    one.hear(3, None, Message::PreGrant { term: 1 });
    assert!(one.is("candidate"));
    one.hear(1, Some(grant(1, id(1))), Message::Candidacy { last: LEAST });
    for _ in 0..5 {
        one.hear(2, Some(grant(1, id(1))), Message::Grant);
    }
    one.hear(4, Some(grant(1, id(3))), Message::Grant);
    one.hear(4, Some(grant(0, id(1))), Message::Grant);
    one.hear(4, None, Message::Grant);
    one.hear(9, Some(grant(1, id(1))), Message::Grant);
    assert!(one.is("candidate"));
    let out = one.hear(3, Some(grant(1, id(1))), Message::Grant);
    assert!(one.is("leader"));
    assert_eq!(records(&out)[0].stamp, 1, "it takes its own branch anew");
    let append = (Recipients::All, Some(ack(1, &genesis())), Message::Append { proof: None });
    assert_eq!(sends(&out), [append]);
}

#[test]
fn requests_are_repeated_until_they_are_obsolete() {
    let mut one = One::new(3);
    let asked = sends(&one.tick());
    assert!(matches!(asked[0].2, Message::PreVote { term: 1, .. }));
    assert_eq!(sends(&one.tick()), asked, "a heartbeat later");
    let stood = sends(&one.hear(2, None, Message::PreGrant { term: 1 }));
    assert_eq!(stood[0].1, Some(grant(1, id(1))));
    assert_eq!(sends(&one.tick()), stood);
    one.append(3, 1, &genesis());
    assert!(one.is("follower"), "somebody else won");
    let due = one.engine.deadline().unwrap();
    assert!(due.since(one.now) >= ELECTION, "nothing is repeated any more");
}

// Rule 3 (§3.6.1).

#[test]
fn a_vote_goes_only_to_a_log_that_is_at_least_as_good() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 4);
    let b = one.block(&a, 2, 4);
    one.append(2, 4, &b);
    one.now += ELECTION;
    let cases = [(3, 9, false), (4, 1, false), (4, 2, true), (4, 3, true), (5, 0, true)];
    for (term, (stamp, height, expected)) in (5..).zip(cases) {
        let last = Last { stamp, height: Height(height) };
        let asked = sends(&one.hear(3, None, Message::PreVote { term, last }));
        let would = asked.iter().any(|sent| matches!(sent.2, Message::PreGrant { .. }));
        assert_eq!(would, expected, "pre-vote for ({stamp}, {height})");
        assert_eq!(granted(&one.candidacy(3, term, stamp, height)), expected);
        assert_eq!(one.record().term, term, "the term is taken whether or not the vote is given");
    }
}

// Rule 4 (§9.6).

#[test]
fn a_pre_vote_changes_nothing_anywhere() {
    let mut one = One::new(3);
    let out = one.tick();
    assert!(one.is("pre-candidate") && records(&out).is_empty());
    let ask = Message::PreVote { term: 1, last: LEAST };
    let out = one.hear(2, None, ask.clone());
    let [(to, None, Message::PreGrant { term: 1 })] = &sends(&out)[..] else { panic!("{out:?}") };
    assert_eq!(*to, Recipients::One(id(2)));
    assert!(records(&out).is_empty() && one.is("pre-candidate"));
    let out = one.hear(3, None, ask);
    assert_eq!(sends(&out).len(), 1, "it binds nobody: another may have it too");
    assert_eq!(one.record().term, 0);
}

#[test]
fn without_a_majority_of_pre_votes_the_term_stays() {
    let mut one = One::new(5);
    for _ in 0..100 {
        assert!(records(&one.tick()).is_empty());
        one.hear(2, None, Message::PreGrant { term: 1 });
    }
    assert_eq!(one.record().term, 0);
}

// Rule 5 (§4.2.3).

#[test]
fn whoever_hears_a_leader_ignores_candidates_and_their_term() {
    let mut one = One::new(3);
    one.append(2, 1, &genesis());
    one.now += Span(ELECTION.0 - 1);
    assert_eq!(one.candidacy(3, 8, 9, 9), []);
    let last = Last { stamp: 9, height: Height(9) };
    assert_eq!(one.hear(3, None, Message::PreVote { term: 8, last }), []);
    assert_eq!(one.record().term, 1);
    one.now += Span(1);
    assert!(granted(&one.candidacy(3, 8, 9, 9)));
}

// Rule 6 (§6.2).

#[test]
fn a_leader_that_hears_no_majority_for_a_timeout_follows() {
    let mut one = One::new(5);
    let term = one.elect();
    let end = one.now + Span(5 * ELECTION.0);
    while one.engine.deadline().unwrap() < end {
        one.tick();
        one.hear(2, None, Message::Heard { term });
        one.hear(3, Some(ack(term, &genesis())), Message::Ack);
    }
    assert!(one.is("leader"), "two of four answer");
    let end = one.now + Span(2 * ELECTION.0);
    while one.engine.deadline().unwrap() < end {
        one.tick();
        one.hear(2, None, Message::Heard { term });
        one.hear(2, Some(ack(term, &genesis())), Message::Ack);
    }
    assert!(!one.is("leader"), "one of four answers, twice");
}

// Rule 7 (§3.5).

#[test]
fn a_branch_is_taken_when_its_tip_is_there_and_acked_when_that_is_durable() {
    let mut one = One::new(3);
    let a = made(&genesis(), 2, 1);
    let out = one.append(2, 1, &a);
    assert!(out.contains(&Output::Fetch { hash: a.hash, from: Some(id(2)) }));
    assert_eq!(acked(&out), None);
    assert_eq!(sends(&out), [heard(1, 2)], "the leader hears that this node lives");
    let other = one.block(&genesis(), 3, 1);
    assert_eq!(one.step(Input::Block { hash: other.hash }), [], "not the one that is wanted");
    one.tree.insert(a.clone());
    let out = one.step(Input::Block { hash: a.hash });
    assert!(matches!(out[..], [Output::Persist(_), Output::Send { .. }]), "{out:?}");
    let record = Record { term: 1, voted: None, tip: a.hash, stamp: 1 };
    assert_eq!(records(&out), [record]);
    assert_eq!(acked(&out), Some(ack(1, &a)));
    let again = one.append(2, 1, &a);
    assert!(records(&again).is_empty() && acked(&again).is_some(), "an ack may be lost");
}

#[test]
fn a_late_append_of_the_same_leader_does_not_shorten_the_log() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let b = one.block(&a, 2, 1);
    assert_eq!(acked(&one.append(2, 1, &b)), Some(ack(1, &b)));
    let out = one.append(2, 1, &a);
    assert_eq!((records(&out).len(), acked(&out)), (0, None));
    assert_eq!(one.record().tip, b.hash);
}

#[test]
fn a_later_leader_replaces_the_branch_a_shorter_one_too() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let b = one.block(&a, 2, 1);
    let c = one.block(&genesis(), 3, 2);
    one.append(2, 1, &b);
    assert_eq!(acked(&one.append(3, 2, &c)), Some(ack(2, &c)));
    assert_eq!(one.record().tip, c.hash);
    assert_eq!(sends(&one.append(2, 1, &b)), [heard(2, 2)]);
}

#[test]
fn a_tip_whose_height_is_not_what_the_vote_says_is_not_taken() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let forged = vote(Step::Ack, Height(7), 1, a.hash);
    let out = one.hear(2, Some(forged), Message::Append { proof: None });
    assert_eq!((records(&out)[0].tip, acked(&out)), (CHAIN, None));
}

// Rule 8 (§3.6.2, Figure 8).

#[test]
fn a_majority_of_equal_acks_is_a_proof() {
    let mut one = One::new(5);
    let term = one.elect();
    let a = one.block(&genesis(), 1, term);
    let out = one.step(Input::Built { hash: a.hash });
    assert!(matches!(out[0], Output::Persist(_)) && records(&out)[0].tip == a.hash);
    assert_eq!(out[1], Output::Publish { hash: a.hash });
    let own = one.hear(1, Some(ack(term, &a)), Message::Append { proof: None });
    assert_eq!(adopted(&own), None);
    for _ in 0..3 {
        assert_eq!(
            adopted(&one.hear(2, Some(ack(term, &a)), Message::Ack)),
            None,
            "once is enough"
        );
    }
    let stranger = one.hear(9, Some(ack(term, &a)), Message::Ack);
    assert_eq!(adopted(&stranger), None);
    let out = one.hear(3, Some(ack(term, &a)), Message::Ack);
    assert_eq!(adopted(&out), Some(a.hash));
    let [(_, _, Message::Append { proof: Some(proof) })] = &sends(&out)[..] else {
        panic!("followers are told at once: {out:?}")
    };
    landfall_light::verify_proof(&one.epoch, proof).unwrap();
    assert_eq!((proof.hash(), proof.certificate.signatures.len()), (a.hash, 3));
}

#[test]
fn figure_8_blocks_of_earlier_terms_commit_by_acks_of_this_term() {
    // Node 1 led term 2, whose block only it and node 2 have; node 5 led term 3.
    let mut one = One::new(5);
    let b2 = one.block(&genesis(), 1, 2);
    one.restart(Record { term: 3, voted: Some(id(5)), tip: b2.hash, stamp: 2 });
    let term = one.elect();
    assert_eq!(term, 4);
    assert_eq!(one.record().stamp, 4, "the branch is stamped anew");
    one.hear(1, Some(ack(4, &b2)), Message::Append { proof: None });
    for n in 2..=4 {
        // In the paper's picture these replicas hold the block: it is not decided by that.
        assert_eq!(adopted(&one.hear(n, Some(ack(2, &b2)), Message::Ack)), None);
    }
    one.hear(2, Some(ack(4, &b2)), Message::Ack);
    assert_eq!(adopted(&one.hear(3, Some(ack(4, &b2)), Message::Ack)), Some(b2.hash));

    // Node 3 took the branch in term 4: the leader of term 3 gets no vote from it.
    let mut three = One::new(5);
    three.tree.insert(b2.clone());
    three.append(2, 4, &b2);
    three.now += ELECTION;
    assert!(!granted(&three.candidacy(5, 5, 3, 1)));
    assert!(granted(&three.candidacy(2, 6, 4, 1)));
}

// Rule 9.

#[test]
fn one_block_is_open_at_a_time_and_none_above_the_last_height() {
    let mut one = One::fresh(3, params(), 2);
    let term = one.elect();
    assert_eq!(built_on(&one.step(Input::Pending(true))), Some(CHAIN));
    let mut parent = genesis();
    for height in 1..=2 {
        let block = one.block(&parent, 1, term);
        one.now = one.now.max(block.time + Span(200));
        assert_eq!(built_on(&one.step(Input::Built { hash: block.hash })), None);
        assert_eq!(built_on(&one.step(Input::Pending(true))), None, "the last one is open");
        one.hear(1, Some(ack(term, &block)), Message::Append { proof: None });
        let out = one.hear(2, Some(ack(term, &block)), Message::Ack);
        assert_eq!(adopted(&out), Some(block.hash));
        let expected = (height == 1).then_some(block.hash);
        assert_eq!(built_on(&one.step(Input::Pending(true))), expected);
        parent = block;
    }
    assert_eq!(one.engine.deadline(), None, "the instance is over");
    assert_eq!(one.candidacy(3, 9, 9, 9), []);
}

#[test]
fn blocks_are_an_interval_apart_and_made_when_something_waits() {
    let mut one = One::new(3);
    let term = one.elect();
    assert_eq!(built_on(&one.tick()), None, "nothing waits");
    one.step(Input::Pending(true));
    let time = one.now;
    let a = block_on(&genesis(), id(1), time, term.to_be_bytes().to_vec().into());
    one.tree.insert(a.clone());
    one.step(Input::Built { hash: a.hash });
    one.hear(1, Some(ack(term, &a)), Message::Append { proof: None });
    assert!(adopted(&one.hear(2, Some(ack(term, &a)), Message::Ack)).is_some());
    assert_eq!(built_on(&one.step(Input::Pending(true))), None, "too early");
    let mut out = Vec::new();
    while built_on(&out).is_none() {
        out = one.tick();
    }
    assert_eq!(one.now, time + Span(100));
    // A request may come to nothing: it is made again, but not all the time.
    let mut asked = 0;
    for _ in 0..4 {
        asked += u32::from(built_on(&one.tick()).is_some());
    }
    assert!((3..=4).contains(&asked), "{asked}");
}

#[test]
fn with_empty_blocks_nothing_needs_to_wait() {
    let mut one = One::fresh(3, RaftParams { empty_blocks: true, ..params() }, u64::MAX);
    one.elect();
    assert_eq!(built_on(&one.step(Input::Pending(false))), None, "it was asked for at once");
    assert!(built_on(&one.tick()).is_some(), "and is again");
}

// Rule 10.

#[test]
fn a_proof_replaces_a_log_without_its_block_and_deposes_a_leader_of_an_earlier_term() {
    let mut one = One::new(3);
    let term = one.elect();
    let mine = one.block(&genesis(), 1, term);
    one.step(Input::Built { hash: mine.hash });
    let theirs = one.block(&genesis(), 2, 5);
    let out = one.step(Input::Proof(proof(5, &theirs, &[2, 3])));
    assert!(one.is("follower"));
    let record = Record { term: 5, voted: None, tip: theirs.hash, stamp: 5 };
    assert_eq!(records(&out).pop(), Some(record));
    assert_eq!(adopted(&out), Some(theirs.hash));
    assert_eq!(one.step(Input::Proof(proof(5, &theirs, &[2, 3]))), [], "it is final already");
    // No honest majority makes such a proof of an earlier term; it is taken all the same.
    let term = one.elect();
    let mine = one.block(&theirs, 1, term);
    one.step(Input::Built { hash: mine.hash });
    let rival = one.block(&theirs, 3, 5);
    one.step(Input::Proof(proof(5, &rival, &[2, 3])));
    assert!(one.is("follower") && one.record().tip == rival.hash);
}

#[test]
fn a_proof_of_a_block_in_the_log_leaves_the_log_alone() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let b = one.block(&a, 2, 1);
    one.append(2, 1, &b);
    let out = one.step(Input::Proof(proof(1, &a, &[1, 2])));
    assert_eq!((records(&out).len(), adopted(&out)), (0, Some(a.hash)));
    assert_eq!(one.record().tip, b.hash);
}

#[test]
fn a_proof_inside_an_append_is_checked() {
    let mut one = One::new(5);
    let a = one.block(&genesis(), 2, 1);
    let mut carry = |proof| one.hear(2, Some(ack(1, &a)), Message::Append { proof: Some(proof) });
    assert_eq!(adopted(&carry(proof(1, &a, &[2, 3]))), None);
    assert_eq!(adopted(&carry(proof(1, &a, &[2, 2, 2, 3]))), None);
    assert_eq!(adopted(&carry(proof(1, &a, &[2, 3, 9]))), None);
    let higher = TreeBlock { height: Height(7), ..a.clone() };
    assert_eq!(adopted(&carry(proof(1, &higher, &[2, 3, 4]))), None);
    assert_eq!(adopted(&carry(proof(1, &a, &[2, 3, 4]))), Some(a.hash));
}

// Whatever arrives.

#[test]
fn a_vote_that_does_not_fit_its_message_epoch_or_sender_is_ignored() {
    let good = grant(3, id(2));
    let far = Position { epoch: 1, ..good.position };
    let high = Position { height: Height(1), ..good.position };
    let bad = [
        Vote { position: far, ..good },
        Vote { position: high, ..good },
        Vote { context: B256::repeat_byte(1), ..good },
        Vote { hash: id(4).into_word(), ..good },
        ack(3, &genesis()),
    ];
    for vote in bad {
        let mut one = One::new(3);
        let out = one.hear(2, Some(vote), Message::Candidacy { last: LEAST });
        assert_eq!(out, [], "{vote:?}");
    }
    let mut one = One::new(3);
    let (vote, body) = (Some(sign(id(3), ack(3, &genesis()), 0)), Message::Append { proof: None });
    assert_eq!(one.step(Input::Message { from: id(2), vote, body: Body::Raft(body) }), []);
    assert_eq!(one.hear(2, Some(good), Message::Append { proof: None }), []);
    assert!(granted(&one.hear(2, Some(good), Message::Candidacy { last: LEAST })));
}

#[test]
fn pre_grants_for_another_term_do_not_count() {
    let mut one = One::new(3);
    one.tick();
    for term in [0, 2, u64::MAX] {
        assert_eq!(one.hear(2, None, Message::PreGrant { term }), []);
    }
    assert!(one.is("pre-candidate"));
}

#[test]
fn votes_for_other_things_take_no_memory() {
    let mut one = One::new(5);
    one.tick();
    one.hear(2, None, Message::PreGrant { term: 1 });
    one.hear(3, None, Message::PreGrant { term: 1 });
    let size = |one: &One| format!("{:?}", one.engine).len();
    let before = size(&one);
    for n in 0..200 {
        one.hear(2, Some(grant(1, id(n))), Message::Grant);
    }
    assert!(one.is("candidate") && size(&one) < before + 1_000);
    one.hear(1, Some(grant(1, id(1))), Message::Candidacy { last: LEAST });
    one.hear(2, Some(grant(1, id(1))), Message::Grant);
    one.hear(3, Some(grant(1, id(1))), Message::Grant);
    let before = size(&one);
    for n in 0..200 {
        let other = vote(Step::Ack, Height(n), 1, B256::repeat_byte(n as u8));
        one.hear(2, Some(other), Message::Ack);
    }
    assert!(one.is("leader") && size(&one) < before + 1_000);
    let mut parent = genesis();
    for _ in 0..50 {
        let block = one.block(&parent, 1, 1);
        one.step(Input::Built { hash: block.hash });
        one.hear(1, Some(ack(1, &block)), Message::Append { proof: None });
        one.hear(2, Some(ack(1, &block)), Message::Ack);
        assert!(adopted(&one.hear(3, Some(ack(1, &block)), Message::Ack)).is_some());
        parent = block;
    }
    assert!(size(&one) < before + 5_000, "acks of decided blocks are forgotten");
}

#[test]
fn of_two_leaders_of_a_term_the_first_is_believed() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let b = one.block(&a, 3, 1);
    assert!(acked(&one.append(2, 1, &a)).is_some());
    assert_eq!(one.append(3, 1, &b), [], "somebody lies");
    assert!(acked(&one.append(3, 2, &b)).is_some(), "another term is another leader's");
}

#[test]
fn a_branch_without_what_is_final_is_not_taken() {
    let mut one = One::new(3);
    let a = one.block(&genesis(), 2, 1);
    let b = one.block(&genesis(), 3, 4);
    one.append(2, 1, &a);
    one.step(Input::Proof(proof(1, &a, &[1, 2])));
    let out = one.append(3, 4, &b);
    assert_eq!((acked(&out), one.record().tip), (None, a.hash));
}

#[test]
fn timers_fit_a_clock_that_jumps_back() {
    let mut one = One::new(3);
    one.now = Time(5_000);
    one.step(Input::Pending(false));
    assert!(one.engine.deadline().unwrap() <= one.now + Span(2 * ELECTION.0));
    one.elect();
    one.now = Time(1_000);
    one.step(Input::Pending(true));
    assert!(one.engine.deadline().unwrap() <= one.now + HEARTBEAT);
}

#[test]
fn an_only_member_decides_alone_and_goes_on_after_a_restart() {
    let mut network = network::Network::new(Params::Raft(params()), 1, u64::MAX, 3);
    network.expect_progress(5, Span(3_000));
    network.crash(1);
    network.restart(1);
    network.expect_progress(5, Span(3_000));
}

#[test]
fn no_message_panics_or_makes_the_engine_grow() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut one = One::new(4);
        let mut blocks = vec![genesis()];
        let mut most = 0;
        for _ in 0..2_000 {
            let pick = random.below(blocks.len() as u64) as usize;
            let block = blocks[pick].clone();
            let term =
                [random.below(6), u64::MAX, random.next_u64()][random.below(12).min(2) as usize];
            let term = if random.chance(90) { term % 8 } else { term };
            let last = Last { stamp: random.below(9), height: Height(random.below(9)) };
            let signers = [2, 3, 4];
            let proof = random
                .chance(20)
                .then(|| proof(term, &block, &signers[random.below(3) as usize..]));
            let message = match random.below(7) {
                0 => Message::Append { proof },
                1 => Message::Ack,
                2 => Message::Heard { term },
                3 => Message::PreVote { term, last },
                4 => Message::PreGrant { term },
                5 => Message::Candidacy { last },
                _ => Message::Grant,
            };
            let from = 1 + random.below(6) as u8;
            let vote = match random.below(4) {
                0 => None,
                1 => Some(grant(term, id(1 + random.below(5) as u8))),
                2 => Some(ack(term, &block)),
                _ => Some(vote(Step::Ack, Height(random.below(4)), term, B256::repeat_byte(from))),
            };
            one.hear(from, vote, message);
            match random.below(8) {
                0 if block.height < Height(6) && blocks.len() < 40 => {
                    let new = made(&block, from.min(4), term);
                    if !one.tree.has(&new.hash) {
                        one.tree.insert(new.clone());
                        let hash = new.hash;
                        let mine = from == 1;
                        one.step(if mine { Input::Built { hash } } else { Input::Block { hash } });
                        blocks.push(new);
                    }
                }
                1 => drop(one.tick()),
                2 => drop(one.step(Input::Proof(self::proof(term, &block, &[2, 3, 4])))),
                3 => drop(one.step(Input::Rejected { hash: block.hash })),
                4 => one.now = Time(random.below(10_000_000)),
                _ => drop(one.step(Input::Pending(random.chance(50)))),
            }
            most = most.max(format!("{:?}", one.engine).len());
        }
        assert!(most < 20_000, "the engine holds {most} characters");
    }
}
