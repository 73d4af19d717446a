//! `cargo xtask crash`: any number of rounds of the test that kills a node under load.
//!
//! The rounds themselves are `crates/node/tests/crash.rs`; this sets their number and the seed of
//! their moments, and ends with the line that counts.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Runs the rounds and prints `crash: N rounds, A acknowledged transactions, 0 lost` as the last
/// line; an error if anything was lost.
pub fn run(rounds: u64, seed: u64) -> Result<(), Box<dyn Error>> {
    println!("seed {seed}");
    let mut test = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--package", "landfall", "--test", "crash"])
        .args(["--", "--nocapture"])
        .env("LANDFALL_CRASH_ROUNDS", rounds.to_string())
        .env("LANDFALL_CRASH_SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = test.stdout.take().ok_or("the test has no output")?;
    let mut tally = None;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with("crash: ") {
            tally = Some(line);
        } else {
            println!("{line}");
        }
    }
    let status = test.wait()?;
    let tally = tally.ok_or("the test ended before it counted")?;
    println!("{tally}");
    if status.success() { Ok(()) } else { Err(format!("seed {seed}: the test failed").into()) }
}
