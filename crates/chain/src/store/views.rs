//! The view database: everything that can be made anew from the log.
//!
//! Two forms behind one type: fjall in a directory, and ordered maps in memory for simulator and
//! tests. A batch is atomic and durable in the first form. Nothing outside this file names fjall.

use fjall::compaction::Leveled;
use fjall::config::{PartitioningPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

/// The tables of the views. The comment gives key and value; numbers are big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Name -> value: the checkpoint.
    Meta,
    /// keccak(address) -> account.
    Accounts,
    /// keccak(address), keccak(slot) -> value without leading zeros.
    Slots,
    /// Owner and path of a trie node -> record.
    Crown,
    /// Hash -> code.
    Codes,
    /// Number -> hash, position in the log.
    Numbers,
    /// Block hash -> number.
    Hashes,
    /// Transaction hash -> number, index.
    Transactions,
    /// Address, number, index -> nothing.
    Appearances,
    /// Contract -> creator, transaction hash.
    Creators,
    /// First eight bytes of keccak(what, bytes), number -> nothing: which blocks hold a log.
    Logs,
    /// keccak(address), number -> account before that block.
    AccountHistory,
    /// keccak(address), keccak(slot), number -> value before that block.
    SlotHistory,
    /// Number -> epoch, proof that this block is final.
    Proofs,
}

const TABLES: [(Table, &str); 14] = [
    (Table::Meta, "meta"),
    (Table::Accounts, "accounts"),
    (Table::Slots, "slots"),
    (Table::Crown, "crown"),
    (Table::Codes, "codes"),
    (Table::Numbers, "numbers"),
    (Table::Hashes, "hashes"),
    (Table::Transactions, "transactions"),
    (Table::Appearances, "appearances"),
    (Table::Creators, "creators"),
    (Table::Logs, "logs"),
    (Table::AccountHistory, "account_history"),
    (Table::SlotHistory, "slot_history"),
    (Table::Proofs, "proofs"),
];

/// The view database failed; the log is not concerned and the views can be rebuilt.
#[derive(Clone, Debug, thiserror::Error)]
#[error("view database: {0}; `landfall db rebuild` makes the views anew from the log")]
pub struct ViewError(String);

impl From<fjall::Error> for ViewError {
    fn from(error: fjall::Error) -> Self {
        Self(error.to_string())
    }
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Writes that take effect together.
#[derive(Default)]
pub struct Batch {
    rows: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a key.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.rows.push((table, key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.rows.push((table, key.into(), None));
    }
}

/// The database in one of its two forms.
pub enum Views {
    /// In a directory.
    Directory(Fjall),
    /// In memory, gone with the process.
    Memory(MemoryViews),
}

/// The tables in memory. A clone is another handle on the same tables, so a test can keep them
/// while it crashes what uses them.
#[derive(Clone)]
pub struct MemoryViews(Arc<RwLock<Vec<Ordered>>>);

type Ordered = BTreeMap<Vec<u8>, Vec<u8>>;

impl Default for MemoryViews {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(vec![BTreeMap::new(); TABLES.len()])))
    }
}

impl MemoryViews {
    /// Empties all tables.
    pub fn clear(&self) {
        self.0.write().iter_mut().for_each(BTreeMap::clear);
    }
}

/// fjall with one keyspace for each table.
pub struct Fjall {
    database: Database,
    tables: Vec<Keyspace>,
}

/// Journal of the database in bytes: small, for it is read when the database opens.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Bytes of rows that each table keeps in memory before they are written in order, for a read cache
/// of so many. They come on top of it, for all tables, and take twice that with what holds them
/// together: with tables of 8 MiB and a cache of 32, they took more than the cache.
fn memtable_bytes(cache: usize) -> u64 {
    (cache as u64 / 16).clamp(1 << 20, 8 << 20)
}

/// By default the index of the two upper levels stays in memory, which takes some seven bytes for each
/// transaction until they are full. Ours is in parts below the first level, and the parts come and go
/// with the cache. Files are a few times what is written at once: four of those meet all of the level
/// below, which holds four files.
fn table_options(cache: usize) -> KeyspaceCreateOptions {
    let unsorted = memtable_bytes(cache);
    KeyspaceCreateOptions::default()
        .max_memtable_size(unsorted)
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(4 * unsorted)))
        .index_block_pinning_policy(PinningPolicy::new([true, false]))
        .index_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
}

/// The name of a database that is being deleted.
fn removed(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".removed");
    directory.with_file_name(name)
}

fn delete(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Views {
    /// Opens or creates the database in a directory, with a read cache of so many bytes. A table
    /// keeps the size of its unsorted part with which it was created.
    pub fn open(directory: &Path, cache: usize) -> Result<Self, ViewError> {
        let gone = removed(directory);
        delete(&gone).map_err(|error| ViewError(format!("{}: {error}", gone.display())))?;
        let database = Database::builder(directory)
            .cache_size(cache as u64)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || table_options(cache);
        let tables = TABLES
            .iter()
            .map(|(_, name)| database.keyspace(name, options))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self::Directory(Fjall { database, tables }))
    }

    /// Deletes the database in a directory; nothing if there is none. It has another name before the
    /// first file goes: where the deletion was interrupted, tables that are left would pass for whole
    /// ones.
    pub fn remove(directory: &Path) -> Result<(), ViewError> {
        let failed = |error: io::Error| ViewError(format!("{}: {error}", directory.display()));
        let gone = removed(directory);
        delete(&gone).map_err(failed)?;
        match fs::rename(directory, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(failed)?,
        }
        let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = fs::File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        parent.sync_all().map_err(failed)?;
        delete(&gone).map_err(failed)
    }

    /// The value of a key.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match self {
            Self::Directory(fjall) => {
                Ok(fjall.tables[table as usize].get(key)?.map(|value| value.to_vec()))
            }
            Self::Memory(tables) => Ok(tables.0.read()[table as usize].get(key).cloned()),
        }
    }

    /// Rows from `start` on that begin with `prefix`, in order, at most `limit`.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        start: Bound<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let from = match start {
            Bound::Unbounded => Bound::Included(prefix),
            bound => bound,
        };
        self.walk(table, prefix, (from, Bound::Unbounded), false, limit)
    }

    /// Rows before a key (before all others that do not begin with `prefix`, without one) that
    /// begin with `prefix`, in reverse order, at most `limit`.
    pub fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        // A `Bound` as the argument, matched here, was miscompiled by rustc 1.95 when optimised:
        // the end became the start. The test below fails then.
        let after = successor(prefix);
        let end = before.or(after.as_deref()).map_or(Bound::Unbounded, Bound::Excluded);
        self.walk(table, prefix, (Bound::Included(prefix), end), true, limit)
    }

    fn walk(
        &self,
        table: Table,
        prefix: &[u8],
        range: (Bound<&[u8]>, Bound<&[u8]>),
        back: bool,
        limit: usize,
    ) -> Result<Vec<Row>, ViewError> {
        let mut rows = Vec::new();
        match self {
            Self::Directory(fjall) => {
                let mut iter = fjall.tables[table as usize].range::<&[u8], _>(range);
                while rows.len() < limit {
                    let next = if back { iter.next_back() } else { iter.next() };
                    let Some(guard) = next else { break };
                    let (key, value) = guard.into_inner()?;
                    if !key.starts_with(prefix) {
                        break;
                    }
                    rows.push((key.to_vec(), value.to_vec()));
                }
            }
            Self::Memory(tables) => {
                let tables = tables.0.read();
                let mut iter = tables[table as usize].range::<[u8], _>(range);
                while rows.len() < limit {
                    let next = if back { iter.next_back() } else { iter.next() };
                    let Some((key, value)) = next.filter(|(k, _)| k.starts_with(prefix)) else {
                        break;
                    };
                    rows.push((key.clone(), value.clone()));
                }
            }
        }
        Ok(rows)
    }

    /// Applies a batch: wholly or not at all, and durable on return.
    pub fn write(&self, batch: Batch) -> Result<(), ViewError> {
        match self {
            Self::Directory(fjall) => {
                let mut writes = fjall.database.batch().durability(Some(PersistMode::SyncAll));
                for (table, key, value) in batch.rows {
                    let table = &fjall.tables[table as usize];
                    match value {
                        Some(value) => writes.insert(table, key, value),
                        None => writes.remove(table, key),
                    }
                }
                writes.commit()?;
            }
            Self::Memory(tables) => {
                let mut tables = tables.0.write();
                for (table, key, value) in batch.rows {
                    let table = &mut tables[table as usize];
                    match value {
                        Some(value) => drop(table.insert(key, value)),
                        None => drop(table.remove(&key)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of rows that are not written in order yet, and of rows that are kept for reading.
    pub fn memory(&self) -> (u64, u64) {
        match self {
            Self::Directory(Fjall { database, .. }) => {
                (database.write_buffer_size(), database.cache_size())
            }
            Self::Memory(_) => (0, 0),
        }
    }

    /// Rows (estimated on disk) of each table.
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        let rows = |index: usize| match self {
            Self::Directory(fjall) => fjall.tables[index].approximate_len(),
            Self::Memory(tables) => tables.0.read()[index].len(),
        };
        TABLES.iter().enumerate().map(|(index, (_, name))| (*name, rows(index))).collect()
    }
}

/// The least key greater than every key with this prefix.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut next = prefix[..=last].to_vec();
    next[last] += 1;
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(views: &Views) {
        let mut batch = Batch::default();
        for key in [&b"a"[..], b"b1", b"b2", b"b\xff", b"c"] {
            batch.put(Table::Meta, key, key);
        }
        batch.put(Table::Codes, b"b9".to_vec(), b"other table".to_vec());
        views.write(batch).unwrap();
        let keys = |rows: Vec<Row>| rows.into_iter().map(|row| row.0).collect::<Vec<_>>();
        let scan = |start, limit| keys(views.scan(Table::Meta, b"b", start, limit).unwrap());
        let back = |end, limit| keys(views.scan_back(Table::Meta, b"b", end, limit).unwrap());
        assert_eq!(scan(Bound::Unbounded, 9), [&b"b1"[..], b"b2", b"b\xff"]);
        assert_eq!(scan(Bound::Excluded(b"b1"), 1), [b"b2"]);
        assert_eq!(back(None, 9), [&b"b\xff"[..], b"b2", b"b1"]);
        assert_eq!(back(Some(b"b2"), 9), [b"b1"]);
        let mut batch = Batch::default();
        batch.delete(Table::Meta, b"b2".to_vec());
        views.write(batch).unwrap();
        assert_eq!(views.get(Table::Meta, b"b2").unwrap(), None);
        assert_eq!(views.get(Table::Meta, b"b1").unwrap().unwrap(), b"b1");
    }

    #[test]
    fn a_database_whose_deletion_was_interrupted_is_gone() {
        let name = format!("landfall-views-{}.removal", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let written = |key: &[u8]| {
            let views = Views::open(&directory, 8 << 20).unwrap();
            let found = views.get(Table::Meta, key).unwrap().is_some();
            let mut batch = Batch::default();
            batch.put(Table::Meta, key, key);
            views.write(batch).unwrap();
            found
        };
        assert!(!written(b"a") && written(b"a"));
        // As the deletion leaves it that ends after the new name.
        fs::rename(&directory, removed(&directory)).unwrap();
        assert!(!written(b"a"));
        assert!(!removed(&directory).exists());
        Views::remove(&directory).unwrap();
        assert!(!directory.exists() && !removed(&directory).exists());
        Views::remove(&directory).unwrap();
    }

    #[test]
    fn both_forms_answer_alike() {
        check(&Views::Memory(MemoryViews::default()));
        let directory = std::env::temp_dir().join(format!("landfall-views-{}", std::process::id()));
        check(&Views::open(&directory, 8 << 20).unwrap());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
