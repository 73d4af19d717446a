//! `landfall db`: the ledger looked after while no node runs on it.

use super::import::opening;
use super::progress;
use crate::failure::Failure;
use alloy_primitives::B256;
use indicatif::{HumanCount, ProgressBar};
use landfall_chain::{Chain, ChainOptions, Place, Progress, Reorganised, Verified, reorganise};
use std::path::{Path, PathBuf};

/// Looks after the ledger of a data directory
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Checks everything: checksums, parent links, every block by executing it again, the views
    Verify(Directory),
    /// Makes the views (state, trie, indices) anew from the log
    Rebuild(Directory),
    /// Says what the ledger holds
    Stats(Directory),
    /// Goes back to a canonical block, behind what was final if need be: on a chain of work whose
    /// final block is contradicted by a branch with more work. The branch above it is left for good
    Reorg(Reorg),
}

#[derive(Debug, clap::Args)]
struct Reorg {
    #[command(flatten)]
    at: Directory,
    /// The newest block that both branches share
    #[arg(long, value_name = "HASH")]
    to: B256,
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
        Command::Verify(at) => verify(&at.datadir),
        Command::Rebuild(at) => rebuild(&at.datadir),
        Command::Stats(at) => stats(&at.datadir),
        Command::Reorg(reorg) => go_back(&reorg.at.datadir, reorg.to),
    }
}

fn place(directory: &Path) -> Place {
    Place::Directory(directory.to_owned())
}

/// A bar, and what moves it.
fn drawn(message: &'static str) -> (ProgressBar, Progress) {
    let bar = progress::bytes(0, message);
    let shown = bar.clone();
    let draw = move |position: u64, end: u64| {
        shown.set_length(end);
        shown.set_position(position);
    };
    (bar, Box::new(draw))
}

fn verify(directory: &Path) -> Result<(), Failure> {
    let (bar, draw) = drawn("verifying");
    let found = landfall_chain::verify(directory, Some(draw));
    bar.finish_and_clear();
    let found = found.map_err(opening)?;
    let Verified { blocks, transactions, patches, impersonated, head, rows } = found;
    let count = |number: u64| HumanCount(number).to_string();
    println!(
        "verified: {} blocks up to {head} and {} transactions executed again, {} rows of the views \
         compared",
        count(blocks),
        count(transactions),
        count(rows)
    );
    if found.is_patched() {
        println!(
            "this chain is patched: {} changes of state outside a transaction, {} transactions of \
             impersonated senders, which no signature proves",
            count(patches),
            count(impersonated)
        );
    }
    Ok(())
}

fn rebuild(directory: &Path) -> Result<(), Failure> {
    let (bar, draw) = drawn("rebuilding");
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

fn go_back(directory: &Path, to: B256) -> Result<(), Failure> {
    let (bar, draw) = drawn("opening");
    let options =
        ChainOptions { progress: Some(draw), ..ChainOptions::new(None, place(directory)) };
    let done = reorganise(options, to);
    bar.finish_and_clear();
    let (mut chain, Reorganised { number, head, finalized }) = done.map_err(opening)?;
    chain.flush().map_err(Failure::storage)?;
    println!(
        "went back to block {number} {to}: it is head and final now (before: head {head}, final \
         {finalized}); the branch above it is not taken again, and the node that starts here will \
         sync the other one"
    );
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
