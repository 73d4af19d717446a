//! Opening a chain: creating it from a genesis file, or bringing views and tree up to the log.

use crate::chain::Chain;
use crate::flat::{FlatAccount, account_key, joined, slot_key};
use crate::flush::{CHECKPOINT, Checkpoint, DUE_BLOCKS, put_account, put_crown, put_slot};
use crate::head::Head;
use crate::ledger::{self, AdoptRecord, BlockRecord, StoredBlock};
use crate::records::Records;
use crate::replay::Replay;
use crate::senders::Senders;
use crate::shared::{BlockCache, Shared, unreadable};
use crate::store::views::{Batch, MemoryViews, Table, ViewError, Views};
use crate::store::{Disk, DiskError, Log, LogError, LogOptions, OsDisk, Position, stored_genesis};
use crate::tree::Tree;
use crate::trie::{AccountFields, AccountUpdate, SlotUpdate, StateTrie, Version};
use alloy_genesis::Genesis;
use alloy_primitives::B256;
use alloy_trie::EMPTY_ROOT_HASH;
use landfall_types::{
    Account, ChainSpec, ForkChoice, GenesisEntry, StateChanges, StateError, genesis_block,
    genesis_id, genesis_state,
};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// Genesis accounts in one record, or slots that end a record early.
const GENESIS_CHUNK: usize = 20_000;

/// Where a chain is kept.
#[derive(Clone)]
pub enum Place {
    /// In a data directory, log and views.
    Directory(PathBuf),
    /// The log on the given disk, the views in memory: made anew at every opening.
    Disk(Arc<dyn Disk>),
    /// The log on the given disk, the views in memory that outlives the chain.
    Kept(Arc<dyn Disk>, MemoryViews),
}

/// Memory for what is read often, in bytes. Each is filled by use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    /// Of the nodes of the state trie that are live. What is free for new ones comes on top: 89 MiB
    /// were taken in all with 32 here.
    pub trie: usize,
    /// Of the rows of the views.
    pub views: usize,
}

impl Default for Caches {
    fn default() -> Self {
        Self { trie: 256 << 20, views: 128 << 20 }
    }
}

/// How a chain is opened.
pub struct ChainOptions {
    /// The genesis file; `None` opens what is there.
    pub genesis: Option<Genesis>,
    /// Where the chain is kept.
    pub place: Place,
    /// Makes the views anew from the log.
    pub rebuild: bool,
    /// A segment of the log ends beyond this size in bytes.
    pub segment_bytes: u64,
    /// Told the position in the log that was replayed, and its end, in bytes.
    pub progress: Option<Progress>,
    /// Finalised blocks that wait before a flush to the views is due.
    pub flush_blocks: u64,
    /// Memory for caches.
    pub caches: Caches,
    /// Senders that are known already; chains of one process may share them.
    pub senders: Senders,
}

impl ChainOptions {
    /// A chain in a directory, created from the genesis if there is none.
    pub fn new(genesis: Option<Genesis>, place: Place) -> Self {
        let segment_bytes = LogOptions::default().segment_bytes;
        Self {
            genesis,
            place,
            rebuild: false,
            segment_bytes,
            progress: None,
            flush_blocks: DUE_BLOCKS,
            caches: Caches::default(),
            senders: Senders::default(),
        }
    }
}

/// Why a chain could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no chain, and no genesis to make one from.
    #[error("{0} holds no chain; give a genesis file to create one")]
    Nothing(String),
    /// The data directory belongs to another chain.
    #[error(
        "{place} belongs to another chain: it was made from a genesis file with hash {found}, \
         the one given has {given}. Give that genesis file (the names, addresses and node keys of \
         its validators may have changed), or choose another data directory"
    )]
    Foreign {
        /// Where.
        place: String,
        /// Hash of the genesis file that is stored.
        found: B256,
        /// Hash of the one given.
        given: B256,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is damaged, or in use.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The views cannot be opened.
    #[error(transparent)]
    Views(#[from] ViewError),
    /// The chain cannot go back to that block.
    #[error("cannot reorganise: {0}; give a canonical block below the head")]
    Reorganisation(String),
    /// What is stored contradicts itself.
    #[error("the ledger is inconsistent: {0}")]
    Inconsistent(String),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

pub(crate) fn inconsistent(error: impl std::fmt::Display) -> OpenError {
    OpenError::Inconsistent(error.to_string())
}

/// The file name under which the views lie in a data directory.
pub(crate) const VIEWS: &str = "views";

impl Chain {
    /// Opens the chain: creates it from the genesis, or replays what the views do not hold yet.
    pub fn open(mut options: ChainOptions) -> Result<Self, OpenError> {
        if let Some(chain) = Self::replayed(&mut options, Replay::default())? {
            return Ok(chain);
        }
        // The views stand above a block that the log goes back to: they are of no use.
        options.rebuild = true;
        let replay = Replay { looks_ahead: true, ..Replay::default() };
        let chain = Self::replayed(&mut options, replay)?;
        chain.ok_or_else(|| inconsistent("a reorganisation goes back below the genesis block"))
    }

    fn replayed(options: &mut ChainOptions, mut replay: Replay) -> Result<Option<Self>, OpenError> {
        let (disk, views) = open_store(options)?;
        let (mut chain, base) = Self::open_on(disk, views, options)?;
        let done = replay.run(&mut chain, base, options.progress.as_mut())?;
        Ok(done.then_some(chain))
    }

    /// Opens log and views, and stands on what the views hold; what is behind that in the log is
    /// not replayed yet.
    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        views: Views,
        options: &ChainOptions,
    ) -> Result<(Self, Position), OpenError> {
        let identity = identify(&*disk, options.genesis.as_ref())?;
        let checkpoint = match views.get(Table::Meta, CHECKPOINT)? {
            Some(row) => Some(
                Checkpoint::decode(&row)
                    .ok_or_else(|| inconsistent("the checkpoint of the views is malformed"))?,
            ),
            None => None,
        };
        let from = checkpoint.map(|checkpoint| checkpoint.position);
        let log_options = LogOptions { segment_bytes: options.segment_bytes, from };
        let (mut log, _) = Log::open(disk, identity, log_options)?;
        let created = write_genesis_config(&mut log, options.genesis.as_ref())?;
        let config = read_genesis_config(&log)?;
        let spec = ChainSpec::new(config.config.clone());
        let (base, mut trie, version) = match checkpoint {
            Some(checkpoint) => {
                let (trie, version) = open_trie(&views, &checkpoint)?;
                (checkpoint, trie, version)
            }
            None => {
                let genesis = if created { options.genesis.as_ref() } else { None };
                load_genesis(&mut log, &views, &config, &spec, genesis)?
            }
        };
        trie.flushed(&version);
        let chain = assemble(log, views, spec, &config, base, (trie, version), options)?;
        Ok((chain, base.position))
    }
}

fn open_store(options: &ChainOptions) -> Result<(Arc<dyn Disk>, Views), OpenError> {
    match &options.place {
        Place::Disk(disk) => Ok((disk.clone(), Views::Memory(MemoryViews::default()))),
        Place::Kept(disk, views) => {
            let kept = Views::Memory(views.clone());
            if options.rebuild {
                views.clear();
            }
            if kept.get(Table::Meta, CHECKPOINT)?.is_none() {
                views.clear();
            }
            Ok((disk.clone(), kept))
        }
        Place::Directory(path) => {
            let disk = Arc::new(OsDisk::open(path)?);
            // Says who holds the directory, before the database would say less.
            drop(disk.lock()?);
            let views = path.join(VIEWS);
            if options.rebuild {
                Views::remove(&views)?;
            }
            let opened = Views::open(&views, options.caches.views)?;
            if opened.get(Table::Meta, CHECKPOINT)?.is_some() {
                return Ok((disk, opened));
            }
            // Rows without a checkpoint are what an interrupted creation or rebuild left.
            drop(opened);
            Views::remove(&views)?;
            Ok((disk, Views::open(&views, options.caches.views)?))
        }
    }
}

/// The hash that names the chain of a data directory: [`genesis_id`].
fn identify(disk: &dyn Disk, genesis: Option<&Genesis>) -> Result<B256, OpenError> {
    match (stored_genesis(disk)?, genesis.map(genesis_id)) {
        (Some(found), Some(given)) if found != given => {
            Err(OpenError::Foreign { place: disk.display(""), found, given })
        }
        (Some(found), _) => Ok(found),
        (None, Some(given)) => Ok(given),
        (None, None) => Err(OpenError::Nothing(disk.display(""))),
    }
}

/// Writes the first record of a new log. True if the log has no block yet.
fn write_genesis_config(log: &mut Log, genesis: Option<&Genesis>) -> Result<bool, OpenError> {
    let mut kinds = log.reader().iter(Position::START).map(|record| record.map(|r| r.kind));
    let first = kinds.next().transpose()?;
    if first.is_none() {
        let Some(genesis) = genesis else {
            return Err(OpenError::Nothing("the log".into()));
        };
        let config = Genesis { alloc: Default::default(), ..genesis.clone() };
        let json = serde_json::to_vec(&config).expect("a genesis is JSON with string keys");
        log.append(ledger::GENESIS, &json)?;
        return Ok(true);
    }
    for kind in kinds {
        match kind? {
            ledger::GENESIS_ACCOUNTS => {}
            ledger::BLOCK => return Ok(false),
            other => return Err(inconsistent(format!("a record of kind {other} before block 0"))),
        }
    }
    if genesis.is_none() {
        let what = "the chain was not fully created; give the genesis file again".to_owned();
        return Err(OpenError::Inconsistent(what));
    }
    Ok(true)
}

fn read_genesis_config(log: &Log) -> Result<Genesis, OpenError> {
    let first = log.reader().iter(Position::START).next();
    let first = first.ok_or_else(|| inconsistent("the log is empty"))??;
    if first.kind != ledger::GENESIS {
        return Err(inconsistent("the log does not begin with a genesis"));
    }
    serde_json::from_slice(&first.payload).map_err(inconsistent)
}

fn open_trie(views: &Views, checkpoint: &Checkpoint) -> Result<(StateTrie, Version), OpenError> {
    let mut trie = StateTrie::new();
    let version = trie.open(checkpoint.state_root, &ViewLeaves(views)).map_err(inconsistent)?;
    Ok((trie, version))
}

/// Puts the genesis state into the views: from the file if the chain is being created (and then
/// into the log too), otherwise from the log.
fn load_genesis(
    log: &mut Log,
    views: &Views,
    config: &Genesis,
    spec: &ChainSpec,
    genesis: Option<&Genesis>,
) -> Result<(Checkpoint, StateTrie, Version), OpenError> {
    let mut trie = StateTrie::new();
    let mut version = trie.empty();
    let mut stored = None;
    // An interrupted creation has written some chunks already: the same, in the same order.
    let mut chunks = 0;
    for record in log.reader().iter(Position::START) {
        let record = record?;
        match record.kind {
            ledger::GENESIS => {}
            ledger::GENESIS_ACCOUNTS => {
                let entries = ledger::decode_accounts(&record.payload).map_err(inconsistent)?;
                version = commit_genesis(&mut trie, version, views, &entries)?;
                chunks += 1;
            }
            _ => {
                stored = Some(record);
                break;
            }
        }
    }
    if let Some(genesis) = genesis {
        for (index, entries) in genesis_chunks(genesis).enumerate() {
            if index >= chunks {
                log.append(ledger::GENESIS_ACCOUNTS, &ledger::encode_accounts(&entries))?;
                version = commit_genesis(&mut trie, version, views, &entries)?;
            }
        }
    }
    let block = genesis_block(config, spec, version.root);
    let (hash, number) = (block.hash(), block.number());
    let position = match stored {
        Some(record) => {
            let (found, _) = BlockRecord::decode_block(&record.payload).map_err(inconsistent)?;
            if found.block.hash() != hash {
                return Err(inconsistent("block 0 of the log does not come of its genesis"));
            }
            record.position
        }
        None => {
            let stored = StoredBlock { block, senders: Vec::new(), receipts: Vec::new() };
            let changes = StateChanges::default();
            let record = BlockRecord { stored: &stored, patch: B256::ZERO, changes: &changes };
            let position = log.append(ledger::BLOCK, &record.encode())?;
            let choice = ForkChoice { head: hash, safe: hash, finalized: hash };
            let adopt = AdoptRecord { choice, patch: B256::ZERO };
            log.append(ledger::ADOPT, &alloy_rlp::encode(adopt))?;
            log.sync()?;
            position
        }
    };
    let checkpoint = Checkpoint { number, hash, state_root: version.root, position };
    let mut batch = Batch::default();
    put_crown(&mut batch, &trie.crown(&version));
    let place = ledger::encode_place(&hash, position);
    batch.put(Table::Numbers, number.to_be_bytes(), place);
    batch.put(Table::Hashes, hash.to_vec(), number.to_be_bytes());
    batch.put(Table::Meta, CHECKPOINT, checkpoint.encode());
    views.write(batch)?;
    Ok((checkpoint, trie, version))
}

/// The genesis accounts in pieces that fit a record.
fn genesis_chunks(genesis: &Genesis) -> impl Iterator<Item = Vec<GenesisEntry>> + '_ {
    let mut entries = genesis_state(genesis).peekable();
    std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        let mut size = 0;
        while size < GENESIS_CHUNK
            && let Some(entry) = entries.next()
        {
            size += 1 + entry.3.len() + entry.2.as_ref().map_or(0, |code| code.len() / 64);
            chunk.push(entry);
        }
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn commit_genesis(
    trie: &mut StateTrie,
    parent: Version,
    views: &Views,
    entries: &[GenesisEntry],
) -> Result<Version, OpenError> {
    let mut batch = Batch::default();
    let mut updates: Vec<AccountUpdate> = entries
        .iter()
        .map(|(address, account, code, storage)| {
            if let Some(code) = code {
                batch.put(Table::Codes, account.code_hash.to_vec(), code.to_vec());
            }
            let mut slots: Vec<SlotUpdate> = storage
                .iter()
                .map(|(slot, value)| SlotUpdate {
                    key: slot_key(*slot),
                    existed: false,
                    value: *value,
                })
                .collect();
            slots.sort_unstable_by_key(|update| update.key);
            let Account { nonce, balance, code_hash } = *account;
            AccountUpdate {
                key: account_key(address),
                existed: false,
                account: Some(AccountFields { nonce, balance, code_hash }),
                storage_root_before: EMPTY_ROOT_HASH,
                wiped: false,
                slots,
            }
        })
        .collect();
    updates.sort_unstable_by_key(|update| update.key);
    let commit = trie.commit(&parent, &updates, 2, &ViewLeaves(views)).map_err(inconsistent)?;
    for (update, root) in updates.iter().zip(&commit.storage_roots) {
        let fields = update.account.expect("genesis deletes nothing");
        let AccountFields { nonce, balance, code_hash } = fields;
        let flat =
            FlatAccount { account: Account { nonce, balance, code_hash }, storage_root: *root };
        put_account(&mut batch, update.key, Some(&flat));
        for slot in &update.slots {
            put_slot(&mut batch, &joined(&update.key, &slot.key), slot.value);
        }
    }
    views.write(batch)?;
    trie.finalise(&commit.version);
    Ok(commit.version)
}

fn assemble(
    log: Log,
    views: Views,
    spec: ChainSpec,
    config: &Genesis,
    base: Checkpoint,
    (trie, version): (StateTrie, Version),
    options: &ChainOptions,
) -> Result<Chain, OpenError> {
    let reader = log.reader();
    let payload = reader.read(base.position)?.payload;
    let (block, _) = BlockRecord::decode_block(&payload).map_err(inconsistent)?;
    if block.block.hash() != base.hash || block.block.header.state_root != base.state_root {
        return Err(inconsistent(
            "the views stand on a block that the log does not hold; run `landfall db rebuild`",
        ));
    }
    let genesis_number = config.number.unwrap_or_default();
    let genesis_hash = if base.number == genesis_number {
        base.hash
    } else {
        let row = views.get(Table::Numbers, &genesis_number.to_be_bytes())?;
        let row = row.ok_or_else(|| inconsistent("the views do not know block 0"))?;
        ledger::decode_place(&row).map_err(inconsistent)?.0
    };
    let place = (base.number, base.hash);
    let head =
        Head { block: Arc::new(block), safe: place, finalized: place, layer: 0, patched: false };
    let shared = Arc::new(Shared {
        spec,
        genesis_hash,
        genesis_number,
        views,
        log: reader,
        tree: RwLock::new(Tree::new(base.hash, base.number, version)),
        trie: Mutex::new(trie),
        visible: RwLock::new(Arc::new(head)),
        cache: Mutex::new(BlockCache::default()),
        proofs: RwLock::default(),
        senders: options.senders.clone(),
    });
    let records = Records::load(&shared.views)?;
    let proof = shared.views.get(Table::Proofs, &base.number.to_be_bytes())?;
    let proof = proof.map(|row| ledger::decode_proof(&row)).transpose().map_err(inconsistent)?;
    Ok(Chain {
        shared,
        log,
        logged: place,
        proof,
        unshown: VecDeque::new(),
        left: BTreeMap::new(),
        records,
        jobs: Arc::new(()),
        patches: 0,
        flushing: false,
        flush_blocks: options.flush_blocks,
        trie_bytes: options.caches.trie,
    })
}

/// Told the position that was reached, and the end.
pub type Progress = Box<dyn FnMut(u64, u64)>;

/// Flat state of the views alone: while a genesis is loaded there is no tree.
struct ViewLeaves<'a>(&'a Views);

impl crate::trie::Leaves for ViewLeaves<'_> {
    fn accounts(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, alloy_trie::TrieAccount)>, crate::trie::Unreadable> {
        crate::shared::viewed_accounts(self.0, prefix, limit)
            .map_err(|error| crate::trie::Unreadable(error.0))
    }

    fn slots(
        &self,
        owner: B256,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, alloy_primitives::U256)>, crate::trie::Unreadable> {
        crate::shared::viewed_slots(self.0, owner, prefix, limit)
            .map_err(|error| crate::trie::Unreadable(error.0))
    }

    fn node(
        &self,
        owner: Option<B256>,
        path: &[u8],
    ) -> Result<Option<Vec<u8>>, crate::trie::Unreadable> {
        let row = self.0.get(Table::Crown, &crate::shared::crown_key(owner, path));
        row.map_err(|error| crate::trie::Unreadable(unreadable(error).0))
    }
}
