//! `landfall sim`: histories of whole networks in virtual time, one told or many counted.

use super::progress;
use crate::failure::Failure;
use landfall_sim::{Outcome, Scenario, narrate, run_many};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Runs seeded histories of a network that fails, and checks every rule after every event
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The protocol, or another kind of history: mixed, accountability, pow-long
    #[arg(long, value_name = "NAME", value_parser = scenario)]
    engine: &'static Scenario,
    /// The seed of the history, or of the first one
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Runs this many histories, counts, and prints the seeds that failed; without it, one history
    /// is told line by line
    #[arg(long, value_name = "N")]
    seeds: Option<NonZeroU64>,
    /// Stops after this many seconds, wherever it is
    #[arg(long, value_name = "SECONDS", requires = "seeds")]
    seconds: Option<u64>,
    /// Fails if fewer histories than this were run
    #[arg(long, value_name = "N", requires = "seeds", default_value_t = 0)]
    at_least: u64,
    /// How many histories run side by side [default: the number of cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    Scenario::named(name).ok_or_else(|| {
        let names: Vec<&str> = Scenario::ALL.iter().map(|scenario| scenario.name).collect();
        format!("there is no such kind of history; there are {}", names.join(", "))
    })
}

/// Runs what was asked for; fails if a rule was broken.
pub fn run(args: &Args) -> Result<(), Failure> {
    match args.seeds {
        None => tell(args),
        Some(seeds) => count(args, seeds.get()),
    }
}

fn tell(args: &Args) -> Result<(), Failure> {
    let outcome = narrate(args.engine, args.seed, None, |line| println!("{line}"));
    let Outcome { violation, trace, stats, .. } = outcome;
    println!(
        "{} {}: {} final heights, {} faults, {} view changes, {} reorganisations, {} s simulated, \
         trace {trace:016x}",
        args.engine.name,
        args.seed,
        stats.heights,
        stats.fault_count(),
        stats.view_changes,
        stats.reorganisations,
        stats.simulated / 1_000,
    );
    violation.map_or(Ok(()), |violation| Err(Failure::refused(violation)))
}

fn count(args: &Args, seeds: u64) -> Result<(), Failure> {
    let bar = progress::histories(seeds, args.engine.name);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.unwrap_or_else(cores);
    let end = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let range = args.seed..args.seed.saturating_add(seeds);
    let summary = run_many(args.engine, range, threads, |outcome| {
        bar.inc(1);
        if let Some(violation) = &outcome.violation {
            bar.suspend(|| println!("seed {}: {violation}", outcome.seed));
        }
        end.is_none_or(|end| Instant::now() < end)
    });
    bar.finish_and_clear();
    print!("{summary}");
    let (done, missing) = (summary.stats.histories, summary.missing());
    if !summary.failures.is_empty() {
        let failed = summary.failures.len();
        return Err(Failure::refused(format!(
            "{failed} of {done} histories failed; see one with `landfall sim --engine {} --seed {}`",
            args.engine.name, summary.failures[0].seed
        )));
    }
    if done < args.at_least {
        let least = args.at_least;
        return Err(Failure::refused(format!("{done} histories were run, {least} are wanted")));
    }
    if !missing.is_empty() {
        return Err(Failure::refused(format!("the run means little: {}", missing.join("; "))));
    }
    Ok(())
}
