//! Every protocol over many seeds: no invariant is broken, all histories make progress, every
//! class of fault happens.
//!
//! `LANDFALL_SIM_SECONDS` is the time that each scenario may take; 100 seeds are run in any case.

use landfall_sim::{Scenario, Summary, run, run_many};
use std::time::{Duration, Instant};

/// Seeds that a scenario has at least.
const SEEDS_LEAST: u64 = 100;

fn check(scenario: &'static Scenario) -> Summary {
    let seconds = std::env::var("LANDFALL_SIM_SECONDS").ok().and_then(|it| it.parse().ok());
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done = 0;
    let summary = run_many(scenario, 0..u64::MAX, threads, |_| {
        done += 1;
        done < SEEDS_LEAST || Instant::now() < end
    });
    println!("{summary}");
    assert!(summary.failures.is_empty(), "{summary}");
    assert_eq!(summary.missing(), Vec::<String>::new(), "{summary}");
    summary
}

#[test]
fn raft_survives_its_faults() {
    check(&Scenario::RAFT);
}

#[test]
fn pbft_survives_its_faults_and_a_liar() {
    let summary = check(&Scenario::PBFT);
    assert!(summary.stats.evidence > 0, "no liar was ever named");
}

#[test]
fn proof_of_work_survives_its_faults() {
    let summary = check(&Scenario::POW);
    assert!(summary.stats.reorganisations > 0);
    assert_eq!(summary.stats.conflicts, 0);
}

#[test]
fn proof_of_work_stops_where_a_branch_with_more_work_contradicts_finality() {
    let summary = check(&Scenario::POW_LONG);
    assert!(summary.stats.conflicts > 0);
}

#[test]
fn epochs_of_raft_and_pbft_follow_each_other() {
    let summary = check(&Scenario::MIXED);
    assert!(summary.stats.epochs > 4 * summary.stats.histories);
}

#[test]
fn a_development_chain_is_followed() {
    check(&Scenario::SOLO);
}

#[test]
fn forks_by_a_third_name_a_third() {
    let summary = check(&Scenario::ACCOUNTABILITY);
    assert!(summary.stats.forks >= 50, "{summary}");
    assert_eq!(summary.stats.forks, summary.stats.named);
}

#[test]
fn the_same_seed_is_the_same_history() {
    for scenario in Scenario::ALL {
        let (first, second) = (run(scenario, 11, None), run(scenario, 11, None));
        assert_eq!(first.trace, second.trace, "{}", scenario.name);
        assert_eq!(first.violation, second.violation, "{}", scenario.name);
        assert_eq!(first.stats.events, second.stats.events, "{}", scenario.name);
        assert_ne!(first.trace, run(scenario, 12, None).trace, "{}", scenario.name);
    }
}
