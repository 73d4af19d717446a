//! The `landfall` binary: a durable EVM chain for developers, and the tools around its ledger.
//!
//! Everything that touches the outside lives here: command line, threads, clock, signals. The
//! chain itself is in `landfall_chain`, the JSON-RPC in `landfall_rpc`; this crate joins them.

mod allocator;
mod banner;
mod bench;
mod clock;
mod commands;
mod config;
mod controls;
mod doctor;
mod door;
mod duration;
mod failure;
mod genesis;
mod host;
mod key_files;
mod keys;
mod logging;
mod member;
mod ops;
mod password;
mod sealer;
mod secret_file;
mod signatures;
mod stop;
#[cfg(test)]
mod test_directory;
mod up;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Landfall: a durable EVM chain with the standard JSON-RPC
#[derive(Parser)]
#[command(name = "landfall", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(commands::up::Args),
    Dev(Box<commands::dev::Args>),
    Node(Box<commands::node::Args>),
    Import(commands::import::Args),
    Export(commands::export::Args),
    Db(commands::db::Args),
    Bench(Box<commands::bench::Args>),
    Doctor(commands::doctor::Args),
    Sim(commands::sim::Args),
    Keys(commands::keys::Args),
    Genesis(Box<commands::genesis::Args>),
    Config(Box<commands::config::Args>),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(args) => commands::up::run(&args),
        Command::Dev(args) => commands::dev::run(&args),
        Command::Node(args) => commands::node::run(&args),
        Command::Import(args) => commands::import::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Db(args) => commands::db::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Sim(args) => commands::sim::run(&args),
        Command::Keys(args) => commands::keys::run(&args),
        Command::Genesis(args) => commands::genesis::run(&args),
        Command::Config(args) => commands::config::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Who does not read it gets the exit code all the same.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
