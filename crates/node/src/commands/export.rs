//! `landfall export`: the canonical chain as a file of RLP blocks.

use super::import::opening;
use super::progress;
use crate::failure::Failure;
use landfall_chain::{Chain, ChainOptions, ChainReader, Place};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Writes the canonical blocks as Ethereum's RLP, for `landfall import` or `geth import`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the chain is kept
    #[arg(long, value_name = "DIR")]
    datadir: PathBuf,
    /// The first block
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// The last block; the newest if not given
    #[arg(long)]
    to: Option<u64>,
    /// The file to write; it must not exist
    #[arg(value_name = "CHAIN.RLP")]
    file: PathBuf,
}

/// Writes the file and syncs it.
pub fn run(args: &Args) -> Result<(), Failure> {
    let place = Place::Directory(args.datadir.clone());
    let chain = Chain::open(ChainOptions::new(None, place)).map_err(opening)?;
    let reader = chain.reader();
    let head = reader.head().number();
    let to = args.to.unwrap_or(head);
    if args.from > to.saturating_add(1) || to > head {
        let from = args.from;
        return Err(Failure::refused(format!(
            "no blocks {from} to {to}; the chain ends at block {head}"
        )));
    }
    let cannot = |error: io::Error| {
        Failure::refused(format!("cannot write {}: {error}", args.file.display()))
    };
    if args.file.exists() {
        return Err(cannot(ErrorKind::AlreadyExists.into()));
    }
    // Under another name until it is whole: a part would import without a word.
    let mut part = args.file.clone().into_os_string();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = write(&reader, args.from..=to, &part, cannot);
    let written = written.and_then(|()| fs::rename(&part, &args.file).map_err(cannot));
    if written.is_err() {
        // What went wrong first is told.
        let _ = fs::remove_file(&part);
    }
    written?;
    println!("wrote blocks {} to {to} to {}", args.from, args.file.display());
    Ok(())
}

fn write(
    reader: &ChainReader,
    numbers: RangeInclusive<u64>,
    path: &Path,
    cannot: impl Fn(io::Error) -> Failure,
) -> Result<(), Failure> {
    let file = File::create_new(path).map_err(&cannot)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let count = (numbers.end() + 1).saturating_sub(*numbers.start());
    let bar = progress::blocks(count, "exporting");
    for number in numbers {
        let block = reader.block_at(number).map_err(Failure::storage)?;
        let block = block.ok_or_else(|| Failure::storage(format!("block {number} is missing")))?;
        out.write_all(&block.block.ethereum_rlp()).map_err(&cannot)?;
        bar.inc(1);
    }
    out.flush().map_err(&cannot)?;
    out.get_ref().sync_all().map_err(&cannot)?;
    bar.finish_and_clear();
    Ok(())
}
