//! `db verify`: the whole ledger, from the first byte to the last.
//!
//! Every checksum of the log is read; every block is executed again from the genesis on, on views
//! of its own, and compared with what is stored: senders, receipts, change set, state root, parent
//! link. At the end the chain's own views are compared with these, row by row.

use crate::chain::Chain;
use crate::open::{ChainOptions, OpenError, Place, Progress, VIEWS, inconsistent};
use crate::replay::Replay;
use crate::store::views::{Table, Views};
use crate::store::{Disk, OsDisk};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

/// What a verification went through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Blocks that were executed again, those of forks included.
    pub blocks: u64,
    /// Their transactions.
    pub transactions: u64,
    /// Changes of state outside a transaction. Not zero: the chain is *patched*.
    pub patches: u64,
    /// Transactions of impersonated senders, which no signature proves. Not zero: patched too.
    pub impersonated: u64,
    /// Number of the newest block.
    pub head: u64,
    /// Rows of the views that were compared.
    pub rows: u64,
}

impl Verified {
    /// Whether the state changed by other means than signed transactions.
    pub fn is_patched(&self) -> bool {
        self.patches > 0 || self.impersonated > 0
    }
}

/// The views of the verification, beside the chain's own; deleted at the end.
const SCRATCH: &str = "verify";
/// Rows compared at a time.
const CHUNK: usize = 4_096;

/// Stored nodes of the trie are left out: they are verified by their hashes whenever they are
/// read, and records of what is gone may stay.
const COMPARED: [Table; 12] = [
    Table::Accounts,
    Table::Slots,
    Table::Codes,
    Table::Numbers,
    Table::Hashes,
    Table::Transactions,
    Table::Appearances,
    Table::Creators,
    Table::Logs,
    Table::AccountHistory,
    Table::SlotHistory,
    Table::Proofs,
];

/// Verifies the chain in a data directory. The chain must not be open.
///
/// # Errors
/// The first thing that is not as it should be, with its place.
pub fn verify(directory: &Path, mut progress: Option<Progress>) -> Result<Verified, OpenError> {
    let scratch = directory.join(SCRATCH);
    Views::remove(&scratch)?;
    let result = verify_with(directory, &scratch, &mut progress);
    Views::remove(&scratch)?;
    result
}

fn verify_with(
    directory: &Path,
    scratch: &Path,
    progress: &mut Option<Progress>,
) -> Result<Verified, OpenError> {
    let options = ChainOptions::new(None, Place::Directory(directory.into()));
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open(directory)?);
    drop(disk.lock()?);
    let (mut chain, start) =
        Chain::open_on(disk, Views::open(scratch, options.caches.views)?, &options)?;
    let mut replay = Replay { execute: true, looks_ahead: true, ..Replay::default() };
    if !replay.run(&mut chain, start, progress.as_mut())? {
        return Err(inconsistent("a reorganisation goes back below the genesis block"));
    }
    chain.flush()?;
    let finalized = chain.reader().head().finalized;
    let head = chain.reader().head().number();
    // The log must be free before the chain can be opened with its own views.
    let Chain { shared, log, .. } = chain;
    drop(log);
    let mut own = Chain::open(options)?;
    own.flush()?;
    if own.reader().head().finalized != finalized {
        return Err(inconsistent(format!("the views in {VIEWS} end with another block")));
    }
    let mut rows = 0;
    for table in COMPARED {
        rows += compare(&own.shared.views, &shared.views, table)?;
    }
    let Replay { blocks, transactions, patches, impersonated, .. } = replay;
    Ok(Verified { blocks, transactions, patches, impersonated, head, rows })
}

/// Compares one table of both views; the number of rows.
fn compare(own: &Views, made: &Views, table: Table) -> Result<u64, OpenError> {
    let mut after: Option<Vec<u8>> = None;
    let mut count = 0;
    loop {
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (left, right) =
            (own.scan(table, &[], start, CHUNK)?, made.scan(table, &[], start, CHUNK)?);
        if let Some(at) =
            (0..left.len().max(right.len())).find(|at| left.get(*at) != right.get(*at))
        {
            let (left, right) = (left.get(at), right.get(at));
            let key = left.or(right).map(|row| alloy_primitives::hex::encode(&row.0));
            return Err(inconsistent(format!(
                "the views differ from the log in {table:?} at key {}; run `landfall db rebuild`",
                key.unwrap_or_default()
            )));
        }
        count += left.len() as u64;
        match left.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(count),
        }
    }
}
