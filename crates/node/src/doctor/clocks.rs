//! Clocks: those of the nodes against each other and against this machine's, and the newest
//! block's time against its node's.

use super::findings::{Finding, NETWORK, Node, seconds};

/// How far apart clocks may be where the protocol does not say.
const USUAL_DRIFT_MS: u64 = 2_000;
/// A clock that uses up this part of what the protocol allows is worth a word.
const PART: u64 = 4;

/// How far ahead of a voter's clock a block may be.
fn allowed(nodes: &[Node<'_>]) -> u64 {
    let drifts = nodes.iter().filter_map(|(_, node)| node.status.parameter_ms("clockDriftMs"));
    drifts.min().unwrap_or(USUAL_DRIFT_MS)
}

pub(super) fn clocks(nodes: &[Node<'_>], found: &mut Vec<Finding>) {
    let allowed = allowed(nodes);
    let mut offsets: Vec<i64> = nodes.iter().map(|(_, node)| node.ahead_ms).collect();
    offsets.sort_unstable();
    let Some(median) = offsets.get(offsets.len() / 2).copied() else { return };
    // Three clocks have a majority; with fewer this machine's is the judge.
    let judge = if nodes.len() >= 3 { median } else { 0 };
    for (url, node) in nodes {
        let skew = node.ahead_ms.saturating_sub(judge);
        // Positive: this machine is ahead of the node, so the node is late.
        let direction = if skew > 0 { "behind" } else { "ahead of" };
        let against = if nodes.len() >= 3 { "those of most nodes" } else { "this machine's" };
        let size = skew.unsigned_abs().saturating_sub(node.round_trip_ms / 2);
        let what = format!("its clock is {} {direction} {against}", seconds(size));
        let cure = "run a time service (chrony, systemd-timesyncd) on that machine";
        if size > allowed {
            let what = format!("{what}; the protocol bears {}", seconds(allowed));
            found.push(Finding::trouble(url, what, cure));
        } else if size > allowed / PART {
            found.push(Finding::note(url, what, cure));
        }
        early_block((url, node), allowed, found);
    }
    if nodes.len() >= 3 && median.unsigned_abs() > allowed {
        let what = format!(
            "most nodes agree on a time that is {} off this machine's",
            seconds(median.unsigned_abs())
        );
        found.push(Finding::note(NETWORK, what, "see the clock of this machine"));
    }
}

fn early_block((url, node): Node<'_>, allowed: u64, found: &mut Vec<Finding>) {
    let (block, now) = (&node.status.head, node.status.time_ms.saturating_to::<u64>());
    let early = block.time_ms.saturating_to::<u64>().saturating_sub(now);
    // A development chain's clock may be set to any time.
    if early > allowed && node.status.consensus.is_some() {
        found.push(Finding::trouble(
            url,
            format!("its newest block is {} in the future of its clock", seconds(early)),
            "compare the clocks of all validators: the clock of the block's maker is ahead, or this \
             one's is late",
        ));
    }
}
