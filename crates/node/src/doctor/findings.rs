//! From facts to findings: what is wrong, how it is known, and what to do.

use super::clocks::clocks;
use super::facts::{Answered, NodeFacts, Ops, Seen, Status, called};
use super::progress::{members, progress};
use alloy_primitives::B256;
use serde::Serialize;
use std::collections::BTreeMap;

/// A snapshot older than this is the sign of a thread that does not run.
const STUCK_MS: u64 = 5_000;
/// A node whose newest final block is so much older than another's is behind.
const BEHIND_MS: u64 = 10_000;
/// So many peers, all connected from one side, are worth a word.
const ONE_SIDED: usize = 3;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; the chain does well without a cure.
    Note,
    /// Something to be done.
    Trouble,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: a node's address, or the network.
    pub about: String,
    /// What was found.
    pub what: String,
    /// What to do.
    pub cure: Option<String>,
}

impl Finding {
    /// As it should be.
    pub(super) fn ok(about: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, about: about.into(), what: what.into(), cure: None }
    }

    /// Worth knowing.
    pub(super) fn note(about: &str, what: impl Into<String>, cure: &str) -> Self {
        let cure = (!cure.is_empty()).then(|| cure.to_owned());
        Self { severity: Severity::Note, about: about.into(), what: what.into(), cure }
    }

    /// Something to be done.
    pub(super) fn trouble(about: &str, what: impl Into<String>, cure: impl Into<String>) -> Self {
        let (about, what) = (about.into(), what.into());
        Self { severity: Severity::Trouble, about, what, cure: Some(cure.into()) }
    }
}

/// What findings about no single node are about.
pub(super) const NETWORK: &str = "network";

/// A node that answered.
pub(super) type Node<'a> = (&'a str, &'a Answered);

/// Everything that can be said of these nodes; `now` is this machine's clock in milliseconds. The
/// worst comes first.
pub fn examine(nodes: &[NodeFacts]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut answered: Vec<Node<'_>> = Vec::new();
    for node in nodes {
        match &node.seen {
            Seen::Answered(facts) => answered.push((&node.url, facts)),
            Seen::Foreign(why) => found.push(foreign(&node.url, why)),
            Seen::Unreachable(why) => found.push(unreachable(&node.url, why)),
        }
        operations(node, &mut found);
    }
    for node in &answered {
        stopped(*node, &mut found);
        connected(*node, &mut found);
    }
    alike(&answered, &mut found);
    forked(&answered, &mut found);
    behind(&answered, &mut found);
    clocks(&answered, &mut found);
    members(&answered, &mut found);
    progress(&answered, &mut found);
    // Stable: within a severity they stay in the order in which they are best read.
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn unreachable(url: &str, why: &str) -> Finding {
    Finding::trouble(
        url,
        format!("does not answer: {why}"),
        "see whether the process runs and listens there, and what its log says last; a firewall \
         may be between",
    )
}

fn foreign(url: &str, why: &str) -> Finding {
    Finding::trouble(
        url,
        format!("answers, but does not know landfall_status: {why}"),
        "give the RPC address of a Landfall node, of this version or a newer one",
    )
}

fn operations(node: &NodeFacts, found: &mut Vec<Finding>) {
    let url = node.url.as_str();
    match &node.ops {
        Ops::Unknown => {}
        Ops::Unreachable(why) => found.push(Finding::trouble(
            url,
            format!("its port for operations does not answer: {why}"),
            "see that the address given with --ops is right and can be reached from here",
        )),
        Ops::Failing(checks) => {
            // The others are found below from the status, with more to say.
            for check in checks.iter().filter(|check| check.name == "disk" && !check.ok) {
                found.push(Finding::trouble(
                    url,
                    format!("its disk is nearly full: {}", check.detail),
                    "make room or move the data directory: a node whose disk is full stops, and \
                     loses nothing",
                ));
            }
        }
    }
}

fn stopped((url, node): Node<'_>, found: &mut Vec<Finding>) {
    let status = &node.status;
    if let Some(why) = &status.halted {
        found.push(Finding::trouble(
            url,
            format!("halted: {why}"),
            "a halted node keeps its ledger and votes no more; put right what it says, then start \
             it again",
        ));
        return;
    }
    if let Some(why) = &status.silent {
        found.push(Finding::note(url, format!("does not vote: {why}"), ""));
    }
    let Some(consensus) = &status.consensus else { return };
    let silent = status.time_ms.saturating_to::<u64>();
    let silent = silent.saturating_sub(consensus.taken_ms.saturating_to());
    if silent > STUCK_MS {
        found.push(Finding::trouble(
            url,
            format!("the thread that decides gave no sign for {}", seconds(silent)),
            "the process is frozen, starved of CPU, or waits for its disk: look at its load and \
             its disk, and start it again if nothing helps",
        ));
    }
}

fn connected((url, node): Node<'_>, found: &mut Vec<Finding>) {
    let Some(consensus) = &node.status.consensus else { return };
    let members: u64 = consensus.members.saturating_to();
    let votes = node.status.node.as_ref().is_some_and(|own| own.votes);
    if members == 1 && votes {
        return;
    }
    let peers = &node.peers;
    if peers.is_empty() {
        found.push(Finding::trouble(
            url,
            "has no peers",
            "see that its peers' addresses in the genesis or the configuration are right, that \
             the p2p port can be reached, and that nobody refuses it: its log names the reason",
        ));
        return;
    }
    // Who has all other members has nobody else to find in a network of members alone.
    let voting = peers.iter().filter(|peer| peer.validator).count() as u64;
    let everybody = voting >= members.saturating_sub(u64::from(votes));
    let inbound = peers.iter().filter(|peer| peer.direction == "inbound").count();
    if !everybody && peers.len() >= ONE_SIDED && (inbound == 0 || inbound == peers.len()) {
        let (side, cure) = match inbound {
            0 => {
                ("opened all its connections itself", "open its p2p port, so that others reach it")
            }
            _ => ("opened none of its connections itself", "give it addresses of peers"),
        };
        found.push(Finding::note(url, format!("{side}: {} peers", peers.len()), cure));
    }
}

/// Nodes of one network agree on all of this.
fn alike(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let mut differ = |what: &str, cure: &str, of: &dyn Fn(&Status) -> Option<String>| {
        let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (url, node) in nodes {
            if let Some(value) = of(&node.status) {
                groups.entry(value).or_default().push(url);
            }
        }
        if groups.len() > 1 {
            let each =
                |(value, urls): (&String, &Vec<&str>)| format!("{value} at {}", urls.join(", "));
            let all: Vec<String> = groups.iter().map(each).collect();
            let what = format!("{what} differ: {}", all.join("; "));
            found.push(Finding::trouble(NETWORK, what, cure));
        }
    };
    let files = "these nodes are not of one network: give them the same genesis file";
    differ("chain ids", files, &|status| Some(status.chain_id.to_string()));
    differ("genesis blocks", files, &|status| Some(status.genesis_hash.to_string()));
    differ(
        "engines, committees or fees",
        "nodes refuse each other over this: give all the same `config.landfall` in the genesis file",
        &|status| status.schedule.map(|it| it.to_string()),
    );
    differ(
        "committees of one epoch",
        "this cannot be on nodes with the same genesis: compare their genesis files and versions",
        &|status| {
            let epoch = &status.consensus.as_ref()?.epoch;
            // Those that are in another epoch are behind, which is said elsewhere.
            let newest = nodes.iter().filter_map(|(_, node)| node.status.consensus.as_ref());
            let newest = newest.map(|consensus| consensus.epoch.number).max();
            (Some(epoch.number) == newest).then(|| epoch.committee_hash.to_string())
        },
    );
    differ(
        "versions",
        "during an upgrade that is so for a while; afterwards run one version",
        &|status| Some(status.client_version.clone()),
    );
    // A rolling upgrade is no trouble.
    for finding in found.iter_mut().filter(|finding| finding.what.starts_with("versions differ")) {
        finding.severity = Severity::Note;
    }
}

/// Final blocks of one height that are not the same block.
fn forked(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let mut groups: BTreeMap<B256, Vec<&str>> = BTreeMap::new();
    for (url, node) in nodes {
        if let Some(hash) = node.common {
            groups.entry(hash).or_default().push(url);
        }
    }
    if groups.len() > 1 {
        let each = |(hash, urls): (&B256, &Vec<&str>)| format!("{hash} at {}", urls.join(", "));
        let all: Vec<String> = groups.iter().map(each).collect();
        found.push(Finding::trouble(
            NETWORK,
            format!("nodes hold different final blocks at one height: {}", all.join("; ")),
            "stop them, keep their data directories and logs, and agree with the other operators \
             on a branch: members lied, or two networks share a genesis",
        ));
    }
}

fn behind(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let final_time = |node: &Answered| node.status.finalized.time_ms.saturating_to::<u64>();
    let newest = nodes.iter().max_by_key(|(_, node)| node.status.finalized.number);
    for (url, node) in nodes {
        let number = node.status.finalized.number;
        let from_others = newest.filter(|(_, best)| {
            best.status.finalized.number > number
                && final_time(best).saturating_sub(final_time(node)) > BEHIND_MS
        });
        let target = from_others.map(|(_, best)| best.status.finalized.number);
        if let Some(target) = node.status.highest.max(target) {
            found.push(Finding::trouble(
                url,
                format!("is behind: block {number} is final there, and {target} elsewhere"),
                "if its height grows, wait: it catches up by itself; if not, see its peers and its \
                 log",
            ));
        }
    }
}

/// A span for people.
pub(super) fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..120_000 => format!("{:.1} s", milliseconds as f64 / 1_000.0),
        120_000..7_200_000 => format!("{} minutes", milliseconds / 60_000),
        _ => format!("{} hours", milliseconds / 3_600_000),
    }
}

/// A member's or node's name.
pub(super) fn name_of(status: &Status) -> Option<String> {
    status.node.as_ref().map(|own| called(own.name.as_deref(), &own.id))
}
