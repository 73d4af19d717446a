//! `cargo xtask crash` and `cargo xtask chaos`: any number of rounds of the tests that kill
//! processes.
//!
//! The rounds themselves are `crates/node/tests/crash.rs` and `chaos.rs`; this sets their number and
//! the seed of their moments, and ends with the line that counts.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// How to run the test of a network that fails.
#[derive(Debug, clap::Args)]
pub struct Chaos {
    /// How long, all protocols together.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1_440))]
    minutes: u64,
    /// One protocol alone.
    #[arg(long, value_parser = ["pbft", "raft", "pow"])]
    engine: Option<String>,
    /// Which faults and moments; the same seed draws the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cycles in which nodes die and start again; fewer are a failure.
    #[arg(long, default_value_t = 1)]
    restarts: u64,
}

/// Kills a development chain so many times; the last line is `crash: N rounds, A acknowledged
/// transactions, 0 lost`. An error if anything was lost.
pub fn crash(rounds: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    let settings = [("CRASH_ROUNDS", rounds.to_string()), ("CRASH_SEED", seed.to_string())];
    run("crash", "killed_node", &settings).map_err(|error| format!("seed {seed}: {error}").into())
}

/// Lets networks fail for so long; the last line counts the cycles by kind.
pub fn chaos(chaos: &Chaos) -> Result<(), Box<dyn Error>> {
    let Chaos { minutes, engine, seed, restarts } = chaos;
    let mut settings = vec![
        ("CHAOS_SECONDS", (minutes * 60).to_string()),
        ("CHAOS_SEED", seed.to_string()),
        ("CHAOS_RESTARTS", restarts.to_string()),
    ];
    settings.extend(engine.iter().map(|engine| ("CHAOS_ENGINE", engine.clone())));
    run("chaos", "nothing_acknowledged", &settings)
        .map_err(|error| format!("seed {seed}: {error}").into())
}

/// Runs a test of the node with settings and shows what it prints, its tally last.
fn run(test: &str, filter: &str, settings: &[(&str, String)]) -> Result<(), Box<dyn Error>> {
    let settings = settings.iter().map(|(name, value)| (format!("LANDFALL_{name}"), value));
    let mut process = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--package", "landfall", "--test", test])
        .args(["--", "--nocapture", filter])
        .envs(settings)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = process.stdout.take().ok_or("the test has no output")?;
    let mut tally = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with(&format!("{test}: ")) {
            tally = Some(line);
        } else {
            println!("{line}");
        }
    }
    let status = process.wait()?;
    let tally = tally.ok_or("the test ended before it counted")?;
    println!("{tally}");
    if status.success() { Ok(()) } else { Err("the test failed".into()) }
}
