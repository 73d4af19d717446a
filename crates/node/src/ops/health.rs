//! Whether a node is alive, and whether it is fit for clients: judged from facts alone.

use super::process::Disk;
use landfall_types::{Params, Span};
use serde::Serialize;

/// A thread that gave no sign for so long is stuck: its steps take milliseconds.
const STUCK: Span = Span(60_000);
/// Less room than this on the disk is trouble soon.
pub const LEAST_FREE: u64 = 1 << 30;
/// How far behind its peers a node may be and still serve.
pub const BLOCKS_BEHIND: u64 = 2;
/// Waiting transactions are in a block after this on any agreement that works.
const PATIENCE: Span = Span(30_000);
/// A lottery may take so many times its mean interval.
const INTERVALS: u64 = 20;

/// What is known of a node at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Why it stopped taking part.
    pub halted: Option<String>,
    /// Since the thread that owns the replica gave a sign; nothing on a development chain.
    pub silent: Option<Span>,
    /// Whether there is nobody to connect to.
    pub alone: bool,
    /// Connected peers.
    pub peers: u64,
    /// The newest block.
    pub head: u64,
    /// The height that is final elsewhere.
    pub claimed: Option<u64>,
    /// For how long transactions have waited while no block came.
    pub waited: Span,
    /// How long that may be.
    pub patience: Span,
    /// Room on the disk.
    pub disk: Option<Disk>,
}

/// What a node must meet to be called ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Connected peers; one unless the node is alone.
    pub peers_min: Option<u64>,
    /// Blocks behind what is final elsewhere.
    pub blocks_behind_max: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { peers_min: None, blocks_behind_max: BLOCKS_BEHIND }
    }
}

/// One question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was asked.
    pub name: &'static str,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

fn check(name: &'static str, ok: bool, detail: String) -> Check {
    Check { name, ok, detail }
}

/// How long transactions may wait for a block.
pub fn patience(params: &Params) -> Span {
    match params {
        Params::Pow(pow) => PATIENCE.max(Span(pow.block_interval.0.saturating_mul(INTERVALS))),
        Params::Raft(raft) => PATIENCE.max(Span(raft.block_interval.0.saturating_mul(2))),
        Params::Pbft(pbft) => PATIENCE.max(Span(pbft.block_interval.0.saturating_mul(2))),
        Params::Solo(_) => PATIENCE,
    }
}

/// Whether to leave the process alone. What a restart does not cure is not asked here.
pub fn live(facts: &Facts) -> Vec<Check> {
    let stuck = facts.silent.filter(|silent| *silent > STUCK && facts.halted.is_none());
    let detail = match stuck {
        Some(silent) => format!("the thread that owns the replica gave no sign for {silent}"),
        None => "it answers".to_owned(),
    };
    vec![check("process", stuck.is_none(), detail)]
}

/// Whether to send clients here.
pub fn ready(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = live(facts);
    let halted = facts.halted.clone().unwrap_or_else(|| "it takes part".to_owned());
    checks.push(check("consensus", facts.halted.is_none(), halted));
    let least = wanted.peers_min.unwrap_or(u64::from(!facts.alone));
    let detail = format!("{} connected, {least} wanted", facts.peers);
    checks.push(check("peers", facts.peers >= least, detail));
    let behind = facts.claimed.map_or(0, |claimed| claimed.saturating_sub(facts.head));
    let detail = format!("block {}, {behind} behind what is final elsewhere", facts.head);
    checks.push(check("sync", behind <= wanted.blocks_behind_max, detail));
    let moves = facts.waited <= facts.patience;
    let detail = if moves {
        "no transaction waits in vain".to_owned()
    } else {
        format!("transactions have waited for {} and no block came", facts.waited)
    };
    checks.push(check("progress", moves, detail));
    checks
}

/// Everything: what is not urgent too.
pub fn all(facts: &Facts, wanted: &Wanted) -> Vec<Check> {
    let mut checks = ready(facts, wanted);
    let room = facts.disk.is_none_or(|disk| disk.free >= LEAST_FREE);
    let detail = match facts.disk {
        Some(disk) => format!("{} MiB free of {}", disk.free >> 20, disk.size >> 20),
        None => "the disk does not tell its size".to_owned(),
    };
    checks.push(check("disk", room, detail));
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Facts {
        Facts {
            halted: None,
            silent: Some(Span(100)),
            alone: false,
            peers: 3,
            head: 100,
            claimed: Some(102),
            waited: Span(0),
            patience: PATIENCE,
            disk: Some(Disk { free: LEAST_FREE, size: 1 << 40 }),
        }
    }

    fn failing(facts: &Facts) -> Vec<&'static str> {
        let checks = all(facts, &Wanted::default());
        checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect()
    }

    #[test]
    fn each_trouble_fails_its_own_check_and_no_other() {
        assert_eq!(failing(&well()), [""; 0]);
        assert_eq!(failing(&Facts { halted: Some("why".into()), ..well() }), ["consensus"]);
        assert_eq!(failing(&Facts { peers: 0, ..well() }), ["peers"]);
        assert_eq!(failing(&Facts { peers: 0, alone: true, ..well() }), [""; 0]);
        assert_eq!(failing(&Facts { claimed: Some(103), ..well() }), ["sync"]);
        assert_eq!(failing(&Facts { claimed: None, ..well() }), [""; 0]);
        assert_eq!(failing(&Facts { waited: Span(30_001), ..well() }), ["progress"]);
        let disk = Some(Disk { free: LEAST_FREE - 1, size: 1 << 40 });
        assert_eq!(failing(&Facts { disk, ..well() }), ["disk"]);
        assert_eq!(failing(&Facts { silent: Some(Span(60_001)), ..well() }), ["process"]);
    }

    #[test]
    fn a_halted_node_is_alive_since_a_restart_does_not_cure_it() {
        let facts = Facts { halted: Some("why".into()), silent: Some(Span(1 << 40)), ..well() };
        assert!(live(&facts).iter().all(|check| check.ok));
    }

    #[test]
    fn what_is_wanted_can_be_asked_for() {
        let strict = Wanted { peers_min: Some(4), blocks_behind_max: 1 };
        let failed = ready(&well(), &strict).into_iter().filter(|check| !check.ok);
        assert_eq!(failed.map(|check| check.name).collect::<Vec<_>>(), ["peers", "sync"]);
    }
}
