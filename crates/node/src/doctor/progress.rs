//! Whether the chain moves: who is missing, whether the rest is a quorum, what is open and for how
//! long, and whether anything waits.

use super::facts::{Absent, Answered, Consensus, called};
use super::findings::{Finding, NETWORK, Node, name_of, seconds};
use alloy_primitives::{Address, U64};
use std::collections::BTreeMap;

/// A height that has been open for so long, while transactions wait, does not move.
const STALLED_MS: u64 = 10_000;
/// An agreement that needs more rounds than this for a height has trouble.
const MANY_ROUNDS: u64 = 2;
/// A lottery may take so many times its mean interval.
const INTERVALS: u64 = 20;

fn consensus<'a>(
    nodes: &'a [Node<'a>],
) -> impl Iterator<Item = (&'a str, &'a Answered, &'a Consensus)> {
    nodes.iter().filter_map(|(url, node)| Some((*url, *node, node.status.consensus.as_ref()?)))
}

/// Who is missing, as told by all, and whether the others are enough.
pub(super) fn members(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let mut absent: BTreeMap<Address, Vec<(&str, &Absent, u64)>> = BTreeMap::new();
    for (url, node, consensus) in consensus(nodes) {
        for member in &consensus.missing {
            let now = node.status.time_ms.saturating_to();
            absent.entry(member.id).or_default().push((url, member, now));
        }
    }
    let tellers = consensus(nodes).count();
    for (id, told) in &absent {
        found.push(missing(*id, told, tellers, answers_here(nodes, id)));
    }
    let best = consensus(nodes).max_by_key(|(.., consensus)| consensus.weight_up);
    if let Some((.., consensus)) = best {
        quorum(consensus, found);
    }
}

/// Where a member itself answered.
fn answers_here<'a>(nodes: &[Node<'a>], id: &Address) -> Option<Node<'a>> {
    let own = |node: &Answered| {
        let own = node.status.node.as_ref();
        own.is_some_and(|own| own.id == *id || own.validator == Some(*id))
    };
    nodes.iter().copied().find(|(_, node)| own(node))
}

fn missing(
    id: Address,
    told: &[(&str, &Absent, u64)],
    tellers: usize,
    answers: Option<Node<'_>>,
) -> Finding {
    let (_, member, _) = told[0];
    let who = called(member.name.as_deref(), &id);
    let silent = |(_, member, now): &(&str, &Absent, u64)| {
        Some(now.saturating_sub(member.heard_ms?.saturating_to()))
    };
    let since = match told.iter().filter_map(silent).min() {
        Some(silent) => format!("last heard {} ago", seconds(silent)),
        None => "never heard since the nodes that say so were started".to_owned(),
    };
    let urls: Vec<&str> = told.iter().map(|(url, ..)| *url).collect();
    if let Some((at, Some(why))) = answers.map(|(at, node)| (at, &node.status.silent)) {
        return Finding::trouble(
            NETWORK,
            format!("validator {who} answers at {at}, and does not vote: {why}"),
            "docs/operating.md tells what becomes of a validator whose records are lost or in doubt",
        );
    }
    if told.iter().all(|(_, member, _)| member.state == "notVoting") {
        return Finding::trouble(
            NETWORK,
            format!("validator {who} is connected, but others decide without its votes"),
            "see its log: it may be behind, refuse to vote from a data directory that is not its \
             own, or have a clock that is off",
        );
    }
    match answers {
        // It runs, but is cut off.
        Some((at, _)) => Finding::trouble(
            NETWORK,
            format!("validator {who} answers at {at}, but is not heard by {}", urls.join(", ")),
            "see the network between them: the p2p port, addresses, a firewall, and whether they \
             refuse each other, which their logs say",
        ),
        None if told.len() < tellers => Finding::trouble(
            NETWORK,
            format!("validator {who} is not heard by {} ({since}), but by others", urls.join(", ")),
            "see the network between them: the p2p port, addresses, a firewall",
        ),
        None => Finding::trouble(
            NETWORK,
            format!("validator {who} is missing: {since}"),
            "start its node, or ask its operator to; it catches up by itself",
        ),
    }
}

fn quorum(consensus: &Consensus, found: &mut Vec<Finding>) {
    let Some(quorum) = consensus.quorum else { return };
    let (up, all) = (consensus.weight_up, consensus.weight);
    if up < quorum {
        let lacking = quorum.saturating_sub(up);
        found.push(Finding::trouble(
            NETWORK,
            format!("no quorum: validators of weight {up} of {all} are up, {quorum} are needed"),
            format!(
                "nothing can be decided until validators of weight {lacking} come back; nothing \
                 that was final is lost"
            ),
        ));
        return;
    }
    let spare = up.saturating_sub(quorum);
    let what = format!("a quorum is up: weight {up} of {all}, {quorum} needed");
    if spare.is_zero() && up < all {
        let what = format!("{what}; not one more may fail");
        found.push(Finding::note(NETWORK, what, "bring back those that are missing"));
    } else {
        found.push(Finding::ok(NETWORK, what));
    }
}

/// Whether the open height is decided in time, if anything waits for it.
pub(super) fn progress(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let pending = nodes.iter().map(|(_, node)| node.status.pending).max().unwrap_or_default();
    // The node that is furthest on knows best what is open.
    let furthest =
        consensus(nodes).max_by_key(|(.., consensus)| (consensus.height, consensus.round));
    let Some((_, node, consensus)) = furthest else { return alone(nodes, found) };
    let (height, round) = (consensus.height, consensus.round);
    let now: u64 = node.status.time_ms.saturating_to();
    let open = now.saturating_sub(consensus.height_since_ms.saturating_to());
    let waited = waited(nodes, height);
    let empty_blocks = consensus.parameters.get("emptyBlocks") == Some(&true.into());
    let lottery = consensus.quorum.is_none();
    let interval = node.status.parameter_ms("blockIntervalMs").unwrap_or_default();
    let always = empty_blocks || lottery;
    let patience =
        if lottery { interval.saturating_mul(INTERVALS) } else { interval.saturating_mul(2) };
    let patience = patience.max(STALLED_MS);
    let word = if node.status.engine == "raft" { "term" } else { "round" };
    let place = format!("height {height}, {word} {round}, open for {}", seconds(open));
    let none = nodes.iter().all(|(_, node)| {
        node.status.consensus.as_ref().is_none_or(|it| it.waiting_since_ms.is_none())
    });
    if !always && none {
        let what = match pending.to::<u64>() {
            0 => {
                format!("nothing to do: no transaction waits ({place}); no block is made for that")
            }
            some => format!(
                "nothing to do: {some} transactions wait, and none of them pays the next block's \
                 base fee ({place})"
            ),
        };
        found.push(Finding::ok(NETWORK, what));
    } else if (if always { open } else { waited.unwrap_or_default() }) > patience {
        let since = waited.map(|waited| format!(", for {}", seconds(waited))).unwrap_or_default();
        found.push(Finding::trouble(
            NETWORK,
            format!(
                "the chain does not move: {place}, {pending} transactions wait{since}{}",
                led(consensus)
            ),
            stall_cure(consensus, lottery),
        ));
    } else if !lottery && word == "round" && round.saturating_to::<u64>() > MANY_ROUNDS {
        let what = format!("this height takes many rounds: {place}{}", led(consensus));
        let cure = "proposals do not come in time: see who is missing, load, disks and clocks";
        found.push(Finding::note(NETWORK, what, cure));
    } else {
        found.push(Finding::ok(
            NETWORK,
            format!("the chain moves: {place}, {pending} transactions wait"),
        ));
    }
}

/// For how long transactions have waited for a height, by the clock of whoever knows of the oldest.
fn waited(nodes: &[Node<'_>], height: U64) -> Option<u64> {
    let here = consensus(nodes).filter(|(.., consensus)| consensus.height == height);
    let since = here.filter_map(|(_, node, consensus)| {
        let since = consensus.waiting_since_ms?.max(consensus.height_since_ms);
        Some(node.status.time_ms.saturating_sub(since).saturating_to())
    });
    since.max()
}

fn led(consensus: &Consensus) -> String {
    let Some(leader) = &consensus.leader else { return ", and nobody leads".to_owned() };
    let who = called(consensus.leader_name.as_deref(), leader);
    let gone = consensus.missing.iter().any(|member| member.id == *leader);
    format!(", led by {who}{}", if gone { ", who is missing" } else { "" })
}

fn stall_cure(consensus: &Consensus, lottery: bool) -> &'static str {
    if lottery {
        "see that somebody mines: at least one node must, and the difficulty follows slowly when \
         miners leave"
    } else if consensus.quorum.is_some_and(|quorum| consensus.weight_up < quorum) {
        "bring back validators until there is a quorum"
    } else {
        "a quorum is up, and yet nothing is decided: look at clocks and disks above, at \
         landfall_consensusTrace for who votes and who does not, and at the logs of those who do not"
    }
}

/// Nodes that are in no network.
fn alone(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    for (url, node) in nodes {
        let (status, name) = (&node.status, name_of(&node.status));
        let who = name.map(|name| format!("{name}: ")).unwrap_or_default();
        found.push(Finding::ok(
            url,
            format!(
                "{who}a development chain of one sealer, at block {}; {} transactions wait",
                status.head.number, status.pending
            ),
        ));
    }
}
