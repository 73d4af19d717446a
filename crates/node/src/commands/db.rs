//! `landfall db`: the ledger looked after while no node runs on it.

use super::import::opening;
use super::progress;
use crate::failure::Failure;
use indicatif::HumanCount;
use landfall_chain::{Chain, ChainOptions, Place};
use std::path::{Path, PathBuf};

/// Looks after the ledger of a data directory
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Makes the views (state, trie, indices) anew from the log
    Rebuild(Directory),
    /// Says what the ledger holds
    Stats(Directory),
}

#[derive(Debug, clap::Args)]
struct Directory {
    /// Where the chain is kept
    #[arg(long, value_name = "DIR")]
    datadir: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Rebuild(at) => rebuild(&at.datadir),
        Command::Stats(at) => stats(&at.datadir),
    }
}

fn place(directory: &Path) -> Place {
    Place::Directory(directory.to_owned())
}

fn rebuild(directory: &Path) -> Result<(), Failure> {
    let bar = progress::bytes(0, "rebuilding");
    let drawn = bar.clone();
    let draw = Box::new(move |position: u64, end: u64| {
        drawn.set_length(end);
        drawn.set_position(position);
    });
    let options = ChainOptions {
        rebuild: true,
        progress: Some(draw),
        ..ChainOptions::new(None, place(directory))
    };
    let mut chain = Chain::open(options).map_err(opening)?;
    chain.flush().map_err(Failure::storage)?;
    bar.finish_and_clear();
    let head = chain.reader().head();
    println!("rebuilt the views of {} blocks; head is {}", head.number(), head.hash());
    Ok(())
}

fn stats(directory: &Path) -> Result<(), Failure> {
    let chain = Chain::open(ChainOptions::new(None, place(directory))).map_err(opening)?;
    let reader = chain.reader();
    let head = reader.head();
    println!("chain id        {}", reader.spec().chain_id);
    println!("genesis         {}", reader.genesis_hash());
    println!("head            {} {}", head.number(), head.hash());
    println!("safe            {} {}", head.safe.0, head.safe.1);
    println!("finalized       {} {}", head.finalized.0, head.finalized.1);
    println!("state root      {}", head.block.block.header.state_root);
    println!("views reach to  {}", reader.flushed());
    println!("rows of the views, estimated");
    for (name, rows) in reader.view_sizes() {
        println!("  {name:<22}{:>16}", HumanCount(rows as u64).to_string());
    }
    Ok(())
}
