//! Checks and chores that are too long for a command line: `cargo xtask help`.
//!
//! A task is a module with one `run` and one line in `Task`. Nothing here is part of the node,
//! and no crate depends on it.

#[cfg(test)]
mod arrows;
mod conformance;
mod dependencies;
mod metadata;
mod processes;
mod scale;
mod soak;
mod stages;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and chores of this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a suite of the Ethereum test vectors and print one line of its tally.
    Conformance {
        /// The suite.
        #[arg(value_parser = conformance::SUITES.iter().map(|(name, ..)| *name).collect::<Vec<_>>())]
        name: String,
        /// Run what does not decide the exit code too.
        #[arg(long)]
        all: bool,
        /// Run the cases whose name contains this.
        #[arg(long)]
        filter: Option<String>,
    },
    /// Measure what one transfer costs, stage by stage (with `--release`).
    Stages(stages::Arguments),
    /// Measure the node on a large state and a long chain.
    Scale(scale::Arguments),
    /// Load a network for a long time and watch its memory (after `cargo build --release`).
    Soak(soak::Arguments),
    /// Kill a node under load at random moments and check that nothing acknowledged is lost.
    Crash {
        /// How many kills.
        #[arg(long, default_value_t = 50)]
        rounds: u64,
        /// Which moments; the same seed draws the same.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Let processes, disks, links and clocks of networks fail under load, and check that nothing
    /// acknowledged is lost and that they go on.
    Chaos(processes::Chaos),
    /// Check the licences and sources of every dependency.
    Dependencies,
}

fn main() -> ExitCode {
    match Arguments::parse().task {
        Task::Conformance { name, all, filter } => {
            conformance::run(&name, &conformance::Options { all, filter })
        }
        Task::Stages(arguments) => exit(stages::run(&arguments)),
        Task::Scale(arguments) => exit(scale::run(&arguments)),
        Task::Soak(arguments) => exit(soak::run(&arguments)),
        Task::Crash { rounds, seed } => exit(processes::crash(rounds, seed)),
        Task::Chaos(chaos) => exit(processes::chaos(&chaos)),
        Task::Dependencies => exit(dependencies::run()),
    }
}

/// Prints the error of a task.
fn exit(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
