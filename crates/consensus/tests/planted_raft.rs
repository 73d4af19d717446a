//! What the histories of `paper_raft.rs` see when a rule of Raft is left out: a checker that
//! cannot fail proves nothing. Needs the feature `planted`.
#![cfg(feature = "planted")]

mod network;

use landfall_consensus::{Bug, plant};
use landfall_types::{Params, RaftParams, Span};
use network::Network;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A history with faults, then without; with an epoch that ends.
fn history(seed: u64) {
    let params = RaftParams {
        heartbeat: Span(50),
        election: Span(300),
        block_interval: Span(100),
        empty_blocks: false,
    };
    let last = 5 + seed % 60;
    let mut network = Network::new(Params::Raft(params), 3 + (seed % 3) as u8, last, seed);
    network.torment(60);
    network.recover();
    network.expect_progress(u64::MAX / 2, Span(60_000));
}

/// The first seed whose history fails.
fn first_failure(bug: Option<Bug>, seeds: u64) -> Option<(u64, String)> {
    plant(bug);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..seeds).find_map(|seed| {
        let failure = catch_unwind(AssertUnwindSafe(|| history(seed))).err()?;
        let text = failure.downcast_ref::<String>().cloned();
        Some((seed, text.unwrap_or_default()))
    });
    std::panic::set_hook(hook);
    plant(None);
    found
}

#[test]
fn every_rule_of_raft_that_is_left_out_is_seen() {
    assert_eq!(first_failure(None, 300), None, "without a planted bug");
    let bugs = [
        Bug::RaftForgetsVote,
        Bug::RaftNoLogComparison,
        Bug::RaftNoCurrentTerm,
        Bug::RaftTermInBlock,
        Bug::QuorumOffByOne,
        Bug::VotesBySignature,
        Bug::StartActs,
    ];
    let missed: Vec<_> = bugs
        .into_iter()
        .filter(|bug| {
            let found = first_failure(Some(*bug), 2_000);
            println!("{bug:?}: {found:?}");
            found.is_none()
        })
        .collect();
    assert_eq!(missed, [], "no seed shows these");
}
