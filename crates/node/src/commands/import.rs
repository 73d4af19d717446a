//! `landfall import`: a chain from a file of RLP blocks, through the same way as every block.

use super::progress;
use crate::failure::Failure;
use landfall_chain::{Chain, ChainOptions, ImportError, OpenError, Place};
use landfall_types::{Block, ForkChoice, parse_genesis};
use std::path::{Path, PathBuf};

/// Blocks that share one sync.
const TOGETHER: u64 = 64;

/// Takes in an Ethereum chain: executes and checks every block, except for its seal
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The genesis file of the chain, as geth has it; not needed if the directory holds the chain
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Where the chain is kept
    #[arg(long, value_name = "DIR")]
    datadir: PathBuf,
    /// Blocks as RLP, one after the other, as `geth export` and `landfall export` write them
    #[arg(value_name = "CHAIN.RLP")]
    file: PathBuf,
}

/// Imports the file; the last block becomes head, safe and final.
pub fn run(args: &Args) -> Result<(), Failure> {
    let genesis = args.genesis.as_deref().map(read_genesis).transpose()?;
    let bytes = std::fs::read(&args.file)
        .map_err(|e| Failure::refused(format!("cannot read {}: {e}", args.file.display())))?;
    let place = Place::Directory(args.datadir.clone());
    let mut chain = Chain::open(ChainOptions::new(genesis, place)).map_err(opening)?;
    let bar = progress::bytes(bytes.len() as u64, "importing");
    let mut rest = bytes.as_slice();
    let (mut count, mut last) = (0, None);
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        let at = |what: String| {
            let file = args.file.display();
            Failure::refused(format!("{file}, byte {offset}: {what}; {count} blocks imported"))
        };
        let block = match Block::decode_ethereum(&mut rest) {
            Ok(block) => block,
            Err(error) => {
                adopt(&mut chain, last.take())?;
                return Err(at(error.to_string()));
            }
        };
        let number = block.number();
        if number == chain.reader().head().finalized.0 && block.hash() == hash_at(&chain, number)? {
            continue; // geth's own exports begin with block 0
        }
        let hash = match chain.import(block) {
            Ok(hash) => hash,
            Err(error) if error.is_fatal() => return Err(Failure::storage(error)),
            Err(error) => {
                adopt(&mut chain, last.take())?;
                return Err(at(format!("block {number}: {error}")));
            }
        };
        last = Some(hash);
        count += 1;
        if count % TOGETHER == 0 {
            adopt(&mut chain, last.take())?;
        }
        bar.set_position((bytes.len() - rest.len()) as u64);
    }
    adopt(&mut chain, last)?;
    chain.flush().map_err(Failure::storage)?;
    bar.finish_and_clear();
    let head = chain.reader().head();
    println!("imported {count} blocks; head is block {} {}", head.number(), head.hash());
    Ok(())
}

fn hash_at(chain: &Chain, number: u64) -> Result<alloy_primitives::B256, Failure> {
    let hash = chain.reader().hash_at(number).map_err(Failure::storage)?;
    Ok(hash.unwrap_or_default())
}

/// An imported chain is taken as it is: its newest block is final. What is already below the head
/// (the file was imported before) changes nothing.
fn adopt(chain: &mut Chain, newest: Option<alloy_primitives::B256>) -> Result<(), Failure> {
    let Some(hash) = newest else { return Ok(()) };
    if chain.reader().is_canonical(hash).map_err(Failure::storage)? {
        return Ok(());
    }
    let choice = ForkChoice { head: hash, safe: hash, finalized: hash };
    let adopted = chain.adopt(choice).map_err(|error: ImportError| {
        if error.is_fatal() { Failure::storage(error) } else { Failure::refused(error) }
    });
    adopted?;
    if chain.flush_due() {
        chain.flush().map_err(Failure::storage)?;
    }
    Ok(())
}

/// Reads and checks a genesis file; the message names the file and the field.
pub fn read_genesis(path: &Path) -> Result<alloy_genesis::Genesis, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?;
    parse_genesis(&text).map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

/// An error of opening a chain: the store's, or the user's.
pub fn opening(error: OpenError) -> Failure {
    match error {
        OpenError::Nothing(_) | OpenError::Foreign { .. } | OpenError::Reorganisation(_) => {
            Failure::refused(error)
        }
        OpenError::Disk(ref disk) if disk.is_locked() => Failure::refused(error),
        _ => Failure::storage(error),
    }
}
