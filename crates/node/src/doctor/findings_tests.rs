use super::facts::{Absent, Answered, FailedCheck, Ops, Peer, Status};
use super::*;
use alloy_primitives::{Address, B256, U64};
use serde_json::json;

const NOW: u64 = 1_000_000_000;

fn id(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn hash(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn block(number: u64, time: u64) -> serde_json::Value {
    json!({ "number": hex(number), "hash": hash(7), "timeMs": hex(time) })
}

/// Node `n` of four under PBFT, idle, everything in order; read as the RPC writes it.
fn status(n: u8) -> Status {
    let json = json!({
        "engine": "pbft", "clientVersion": "landfall/v0.1.0", "chainId": "0x7a69",
        "genesisHash": hash(1), "schedule": hash(2),
        "node": { "id": id(n), "name": format!("bank{n}"), "votes": true },
        "timeMs": hex(NOW), "head": block(50, NOW - 2_000), "safe": block(50, NOW - 2_000),
        "finalized": block(50, NOW - 2_000), "highest": null, "syncing": false, "peers": "0x3",
        "pending": "0x0", "queued": "0x0", "halted": null, "silent": null,
        "consensus": {
            "takenMs": hex(NOW - 50),
            "epoch": { "number": "0x0", "first": "0x1", "last": null, "committeeHash": hash(3) },
            "height": "0x33", "heightSinceMs": hex(NOW - 2_000), "round": "0x0",
            "roundSinceMs": hex(NOW - 2_000), "leader": id(2), "leaderName": "bank2",
            "members": "0x4", "weight": "0x4", "quorum": "0x3", "weightUp": "0x4", "missing": [],
            "parameters": { "blockIntervalMs": "0x14", "emptyBlocks": false, "clockDriftMs": "0xfa0" },
            "state": "pbft at height 51, round 0",
        },
    });
    serde_json::from_value(json).expect("a status")
}

fn node(n: u8) -> NodeFacts {
    let peer = |m: u8| Peer {
        id: id(m),
        direction: if m.is_multiple_of(2) { "inbound" } else { "outbound" }.into(),
        validator: true,
    };
    let answered = Answered {
        status: status(n),
        peers: (1..=4).filter(|m| *m != n).map(peer).collect(),
        ahead_ms: 3,
        round_trip_ms: 4,
        common: Some(hash(7)),
    };
    NodeFacts { url: format!("http://n{n}"), seen: Seen::Answered(answered), ops: Ops::Unknown }
}

fn facts(node: &mut NodeFacts) -> &mut Answered {
    let Seen::Answered(facts) = &mut node.seen else { panic!("it answered") };
    facts
}

fn network() -> Vec<NodeFacts> {
    (1..=4).map(node).collect()
}

/// A network in which something was changed on some nodes.
fn changed(nodes: &[u8], change: impl Fn(&mut Answered)) -> Vec<NodeFacts> {
    let mut network = network();
    for n in nodes {
        change(facts(&mut network[usize::from(*n) - 1]));
    }
    network
}

fn troubles(nodes: &[NodeFacts]) -> Vec<String> {
    let found = examine(nodes).into_iter().filter(|it| it.severity == Severity::Trouble);
    found.map(|it| format!("{}: {}", it.about, it.what)).collect()
}

/// There is exactly one trouble, and it says this.
fn only(nodes: &[NodeFacts], words: &[&str]) {
    let troubles = troubles(nodes);
    assert_eq!(troubles.len(), 1, "{troubles:#?}");
    for word in words {
        assert!(troubles[0].contains(word), "{word:?} is not in {:?}", troubles[0]);
    }
}

fn without(facts: &mut Answered, member: u8, heard: Option<u64>, state: &str) {
    let consensus = facts.status.consensus.as_mut().expect("a network");
    consensus.missing.push(Absent {
        id: id(member),
        name: Some(format!("bank{member}")),
        state: state.into(),
        heard_ms: heard.map(U64::from),
    });
    consensus.weight_up -= alloy_primitives::U128::from(1);
}

fn stalled(facts: &mut Answered, round: u64) {
    facts.status.pending = U64::from(12);
    let consensus = facts.status.consensus.as_mut().expect("a network");
    consensus.height_since_ms = U64::from(NOW - 40_000);
    consensus.waiting_since_ms = Some(U64::from(NOW - 50_000));
    consensus.round = U64::from(round);
}

#[test]
fn an_idle_network_is_healthy_and_said_to_be_idle() {
    let found = examine(&network());
    assert!(found.iter().all(|it| it.severity == Severity::Ok), "{found:#?}");
    let words: Vec<&str> = found.iter().map(|it| it.what.as_str()).collect();
    assert!(words.iter().any(|it| it.contains("no transaction waits")), "{words:?}");
    assert!(words.iter().any(|it| it.contains("quorum is up: weight 4 of 4")), "{words:?}");
}

#[test]
fn a_working_network_is_said_to_move() {
    let found = examine(&changed(&[1], |it| {
        it.status.pending = U64::from(5);
        it.status.consensus.as_mut().expect("a network").waiting_since_ms = Some(U64::from(NOW));
    }));
    assert!(found.iter().any(|it| it.what.contains("the chain moves: height 51, round 0")));
}

#[test]
fn a_transaction_that_comes_after_an_hour_has_not_waited_for_an_hour() {
    let since = |waiting: u64| {
        changed(&[1], move |it| {
            it.status.pending = U64::from(1);
            let consensus = it.status.consensus.as_mut().expect("a network");
            consensus.height_since_ms = U64::from(NOW - 3_600_000);
            consensus.waiting_since_ms = Some(U64::from(NOW - waiting));
        })
    };
    assert_eq!(troubles(&since(40)), [""; 0]);
    only(&since(11_000), &["the chain does not move", "1 transactions wait, for 11.0 s"]);
}

#[test]
fn a_transaction_below_the_base_fee_is_no_trouble() {
    let found = examine(&changed(&[1, 2, 3, 4], |it| {
        it.status.pending = U64::from(1);
        it.status.consensus.as_mut().expect("a network").height_since_ms = U64::from(1);
    }));
    assert!(found.iter().all(|it| it.severity == Severity::Ok), "{found:#?}");
    assert!(found.iter().any(|it| it.what.contains("none of them pays")), "{found:#?}");
}

#[test]
fn a_validator_that_may_not_vote_says_why_itself() {
    let mut network = changed(&[1, 2, 3], |it| without(it, 4, Some(NOW - 300), "notVoting"));
    let fourth = facts(&mut network[3]);
    fourth.status.silent = Some("the records of its votes are lost".into());
    let own = fourth.status.node.as_mut().expect("a network");
    (own.id, own.validator, own.votes) = (id(44), Some(id(4)), false);
    without(fourth, 4, None, "missing");
    only(&network, &["validator bank4", "answers at http://n4", "records of its votes are lost"]);
}

#[test]
fn a_node_that_is_down_is_named_and_the_others_are_still_judged() {
    let mut network = changed(&[1, 2, 3], |it| without(it, 4, Some(NOW - 65_000), "missing"));
    network[3].seen = Seen::Unreachable("connection refused".into());
    let troubles = troubles(&network);
    assert_eq!(troubles.len(), 2, "{troubles:#?}");
    assert!(troubles[0].contains("http://n4: does not answer: connection refused"));
    let missing = "validator bank4 (0x0404040404040404040404040404040404040404) is missing: last \
                   heard 65.0 s ago";
    assert!(troubles[1].contains(missing), "{troubles:#?}");
    let notes = examine(&network);
    assert!(notes.iter().any(|it| it.what.contains("not one more may fail")), "{notes:#?}");
}

#[test]
fn two_of_four_missing_are_no_quorum_and_a_stall_says_since_when_and_who_leads() {
    let network = changed(&[1, 3], |it| {
        without(it, 2, Some(NOW - 40_000), "missing");
        without(it, 4, None, "missing");
        stalled(it, 5);
    });
    let network = vec![network[0].clone(), network[2].clone()];
    let troubles = troubles(&network);
    assert_eq!(troubles.len(), 4, "{troubles:#?}");
    assert!(troubles[1].contains("bank4") && troubles[1].contains("never heard"));
    assert!(troubles[2].contains("no quorum: validators of weight 2 of 4 are up, 3 are needed"));
    assert!(troubles[3].contains("height 51, round 5, open for 40.0 s, 12 transactions wait"));
    assert!(troubles[3].contains("led by bank2") && troubles[3].contains("who is missing"));
    let last = examine(&network).into_iter().find(|it| it.what.contains("does not move"));
    let cure = last.and_then(|it| it.cure).expect("a cure");
    assert!(cure.contains("until there is a quorum"), "{cure}");
}

#[test]
fn a_stall_with_a_quorum_points_elsewhere() {
    let network = changed(&[1, 2, 3, 4], |it| stalled(it, 1));
    only(&network, &["does not move", "12 transactions wait"]);
    let cure = examine(&network)[0].cure.clone().expect("a cure");
    assert!(cure.contains("landfall_consensusTrace"), "{cure}");
}

#[test]
fn many_rounds_are_a_note_before_they_are_a_stall() {
    let network = changed(&[1], |it| {
        it.status.pending = U64::from(1);
        let consensus = it.status.consensus.as_mut().expect("a network");
        consensus.round = U64::from(3);
        consensus.waiting_since_ms = Some(U64::from(NOW - 1_500));
    });
    let found = examine(&network);
    assert!(
        found.iter().any(|it| it.severity == Severity::Note && it.what.contains("many rounds"))
    );
    assert_eq!(troubles(&network), [""; 0]);
}

#[test]
fn a_member_cut_off_from_the_others_is_told_from_one_that_is_down() {
    let network = changed(&[1, 2, 3], |it| without(it, 4, Some(NOW - 9_000), "missing"));
    only(&network, &["bank4", "answers at http://n4", "not heard by http://n1, http://n2"]);
    let mut partly = changed(&[1], |it| without(it, 4, Some(NOW - 9_000), "missing"));
    partly.pop();
    only(&partly, &["bank4", "not heard by http://n1", "but by others"]);
}

#[test]
fn a_member_that_is_heard_and_does_not_vote_is_told_so() {
    let network = changed(&[1, 2], |it| without(it, 3, Some(NOW - 100), "notVoting"));
    only(&network, &["bank3", "others decide without its votes"]);
}

#[test]
fn a_halted_node_says_why() {
    let network = changed(&[2], |it| it.status.halted = Some("the store failed: EIO".into()));
    only(&network, &["http://n2: halted: the store failed: EIO"]);
}

#[test]
fn a_node_that_does_not_vote_says_why() {
    let network = changed(&[2], |it| it.status.silent = Some("no voting key was given".into()));
    assert_eq!(troubles(&network), [""; 0], "it may be meant to follow");
    assert_eq!(examine(&network)[0].what, "does not vote: no voting key was given");
}

#[test]
fn a_thread_that_gives_no_sign_is_found() {
    let stuck = |it: &mut Answered| {
        it.status.consensus.as_mut().expect("a network").taken_ms = U64::from(NOW - 6_000);
    };
    only(&changed(&[3], stuck), &["http://n3", "no sign for 6.0 s"]);
}

#[test]
fn configuration_that_differs_is_named_with_both_sides() {
    let network = changed(&[2], |it| it.status.chain_id = U64::from(5));
    only(&network, &["chain ids differ: 31337 at http://n1, http://n3, http://n4; 5 at http://n2"]);
    let network = changed(&[2], |it| it.status.schedule = Some(hash(9)));
    only(&network, &["engines, committees or fees differ"]);
    let network = changed(&[2], |it| it.status.genesis_hash = hash(9));
    only(&network, &["genesis blocks differ"]);
    let network = changed(&[2], |it| {
        it.status.consensus.as_mut().expect("a network").epoch.committee_hash = hash(9);
    });
    only(&network, &["committees of one epoch differ"]);
    let network = changed(&[2], |it| it.status.client_version = "landfall/v0.2.0".into());
    assert_eq!(troubles(&network), [""; 0], "an upgrade is no trouble");
    assert!(examine(&network)[0].what.contains("versions differ"));
}

#[test]
fn different_final_blocks_at_one_height_are_the_worst_news() {
    let network = changed(&[4], |it| it.common = Some(hash(8)));
    only(&network, &["different final blocks at one height"]);
    let network = changed(&[4], |it| it.common = None);
    assert_eq!(troubles(&network), [""; 0], "one that does not say is not compared");
}

#[test]
fn a_node_behind_is_found_by_its_own_word_and_by_that_of_others() {
    let network = changed(&[2], |it| it.status.highest = Some(U64::from(90)));
    only(&network, &["http://n2: is behind: block 50 is final there, and 90 elsewhere"]);
    let late = |it: &mut Answered| {
        it.status.finalized.number = U64::from(20);
        it.status.finalized.time_ms = U64::from(NOW - 60_000);
    };
    only(&changed(&[2], late), &["http://n2: is behind: block 20 is final there, and 50"]);
    let a_moment = |it: &mut Answered| it.status.finalized.number = U64::from(48);
    assert_eq!(troubles(&changed(&[2], a_moment)), [""; 0], "asked a moment earlier");
}

#[test]
fn clocks_are_compared_with_most_nodes_and_by_what_the_protocol_bears() {
    only(
        &changed(&[3], |it| it.ahead_ms = 9_000),
        &["http://n3", "9.0 s behind those of most nodes"],
    );
    only(&changed(&[3], |it| it.ahead_ms = -9_000), &["http://n3", "9.0 s ahead of"]);
    let some = changed(&[3], |it| it.ahead_ms = 1_500);
    assert_eq!(troubles(&some), [""; 0]);
    assert!(examine(&some).iter().any(|it| it.severity == Severity::Note));
    // This machine is wrong, and all nodes are right.
    let ours = changed(&[1, 2, 3, 4], |it| it.ahead_ms = 60_000);
    assert_eq!(troubles(&ours), [""; 0]);
    assert!(examine(&ours)[0].what.contains("off this machine's"));
    // A slow answer is no skew.
    let slow = changed(&[3], |it| (it.ahead_ms, it.round_trip_ms) = (4_500, 9_000));
    assert_eq!(troubles(&slow), [""; 0]);
}

#[test]
fn a_block_from_the_future_is_found() {
    let early = |it: &mut Answered| it.status.head.time_ms = U64::from(NOW + 8_000);
    only(&changed(&[1], early), &["http://n1", "8.0 s in the future"]);
}

#[test]
fn no_peers_are_trouble_and_one_sided_ones_a_note() {
    only(&changed(&[1], |it| it.peers.clear()), &["http://n1: has no peers"]);
    let dialled = |it: &mut Answered| {
        it.peers.iter_mut().for_each(|peer| peer.direction = "outbound".into());
    };
    let all = changed(&[1], dialled);
    assert!(examine(&all).iter().all(|it| it.severity == Severity::Ok), "it has everybody");
    let one_sided = changed(&[1], |it| {
        dialled(it);
        it.peers[0].validator = false;
    });
    assert_eq!(troubles(&one_sided), [""; 0]);
    assert!(examine(&one_sided)[0].what.contains("all its connections itself"));
    let mut alone = vec![node(1)];
    let one = facts(&mut alone[0]);
    one.peers.clear();
    one.status.consensus.as_mut().expect("a network").members = U64::from(1);
    assert_eq!(troubles(&alone), [""; 0], "a committee of one needs nobody");
}

#[test]
fn a_full_disk_and_a_silent_port_for_operations_are_found() {
    let mut network = network();
    let check = FailedCheck { name: "disk".into(), ok: false, detail: "200 MiB free".into() };
    network[0].ops = Ops::Failing(vec![check]);
    only(&network, &["http://n1: its disk is nearly full: 200 MiB free"]);
    network[0].ops = Ops::Unreachable("connection refused".into());
    only(&network, &["port for operations does not answer"]);
}

#[test]
fn a_lottery_is_given_time_and_then_asked_who_mines() {
    let lottery = |open: u64| {
        changed(&[1, 2, 3, 4], |it| {
            it.status.engine = "pow".into();
            let consensus = it.status.consensus.as_mut().expect("a network");
            (consensus.quorum, consensus.leader) = (None, None);
            consensus.parameters = json!({ "blockIntervalMs": "0xfa0" });
            consensus.height_since_ms = U64::from(NOW - open);
        })
    };
    assert_eq!(troubles(&lottery(79_000)), [""; 0]);
    only(&lottery(81_000), &["does not move"]);
}

#[test]
fn another_client_is_told_from_a_node_that_is_down() {
    let mut network = network();
    network[1].seen = Seen::Foreign("the method landfall_status does not exist".into());
    only(&network, &["http://n2: answers, but does not know landfall_status"]);
}

#[test]
fn a_development_chain_is_healthy_by_itself() {
    let mut network = vec![node(1)];
    let one = facts(&mut network[0]);
    one.peers.clear();
    (one.status.engine, one.status.node, one.status.consensus) = ("solo".into(), None, None);
    one.status.head.time_ms = U64::from(NOW + 1_000_000);
    let found = examine(&network);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].what.contains("a development chain of one sealer, at block 50"));
    assert_eq!(found[0].severity, Severity::Ok);
}
