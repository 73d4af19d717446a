//! The simulator sees bugs: each rule that is left out on purpose breaks an invariant within some
//! seeds of a scenario that suits it.
//!
//! `cargo test -p landfall-sim --features planted --test planted`; `LANDFALL_SIM_BUG` names one bug,
//! `LANDFALL_SIM_SEEDS` lowers the number of seeds.

#![cfg(feature = "planted")]

use landfall_sim::{Bug, Scenario, run};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seeds within which a bug must be seen.
const WITHIN: u64 = 2_000;

/// Which scenarios can show which bug.
fn suited(bug: Bug) -> &'static [&'static Scenario] {
    const AGREEMENTS: &[&Scenario] = &[&Scenario::RAFT, &Scenario::PBFT, &Scenario::MIXED];
    match bug {
        Bug::RaftForgetsVote
        | Bug::RaftNoLogComparison
        | Bug::RaftNoCurrentTerm
        | Bug::RaftTermInBlock => &[&Scenario::RAFT],
        Bug::PbftNoPersistBeforePrepare
        | Bug::PbftLocksForever
        | Bug::PbftForgetsPrepared
        | Bug::PbftJustificationUnchecked
        | Bug::PbftTimersUncapped
        | Bug::PbftNoRetransmit
        | Bug::PbftTurnsByOwnView
        | Bug::PbftCarriedUnchecked
        | Bug::ProposalInSeal
        | Bug::VotesBySignature
        | Bug::ProofByOne => &[&Scenario::PBFT],
        Bug::AsertSign => &[&Scenario::POW],
        Bug::StartSilent => &[&Scenario::SOLO, &Scenario::POW],
        Bug::AdoptBelowFinalized => &[&Scenario::POW_LONG, &Scenario::POW],
        Bug::RulesOfRunningInstance | Bug::FinalityLoggedLate => &[&Scenario::MIXED],
        _ => AGREEMENTS,
    }
}

/// The first seed that shows a bug, and how.
fn first_seed(bug: Bug) -> Option<(&'static str, u64, String)> {
    let seeds = std::env::var("LANDFALL_SIM_SEEDS").ok().and_then(|it| it.parse().ok());
    let seeds = WITHIN.min(seeds.unwrap_or(WITHIN));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    for scenario in suited(bug) {
        let (next, found) = (AtomicU64::new(0), std::sync::Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= seeds || found.lock().unwrap().is_some() {
                            return;
                        }
                        // Where the simulator complains without the bug as well, it is not the bug
                        // that is seen.
                        if let Some(violation) = run(scenario, seed, Some(bug)).violation
                            && run(scenario, seed, None).violation.is_none()
                        {
                            let mut found = found.lock().unwrap();
                            let earlier = found.as_ref().is_some_and(|(first, _)| *first < seed);
                            if !earlier {
                                *found = Some((seed, violation.to_string()));
                            }
                        }
                    }
                });
            }
        });
        if let Some((seed, violation)) = found.into_inner().unwrap() {
            return Some((scenario.name, seed, violation));
        }
    }
    None
}

#[test]
fn every_planted_bug_is_seen() {
    let only = std::env::var("LANDFALL_SIM_BUG").ok();
    if let Some(only) = &only {
        let known = Bug::ALL.iter().any(|bug| format!("{bug:?}") == *only);
        assert!(known, "LANDFALL_SIM_BUG: there is no {only}");
    }
    let mut unseen = Vec::new();
    for bug in Bug::ALL {
        if only.as_ref().is_some_and(|only| *only != format!("{bug:?}")) {
            continue;
        }
        match first_seed(*bug) {
            Some((scenario, seed, violation)) => {
                let short: String = violation.chars().take(160).collect();
                println!("{bug:?}: {scenario}, seed {seed}: {short}");
            }
            None => {
                println!("{bug:?}: NOT SEEN");
                unseen.push(*bug);
            }
        }
    }
    assert!(unseen.is_empty(), "not seen within {WITHIN} seeds: {unseen:?}");
}
