//! What the writer and its readers share, and the state as read at any block.

use crate::flat::{FlatAccount, account_key, joined, slot_key, slot_value};
use crate::head::Head;
use crate::ledger::{self, StoredBlock};
use crate::senders::Senders;
use crate::store::views::{Table, Views};
use crate::store::{LogReader, Position};
use crate::tree::{Known, LayerId, Step, Tree};
use crate::trie::{Leaves, StateTrie, Unreadable};
use alloy_primitives::map::HashMap;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use landfall_types::{Account, ChainSpec, StateError, StateReader};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Blocks kept decoded for readers, and the bytes of their records; decoded they take a few times
/// that.
const CACHED_BLOCKS: usize = 64;
const CACHED_BYTES: usize = 32 << 20;

pub(crate) struct Shared {
    pub spec: ChainSpec,
    pub genesis_hash: B256,
    pub genesis_number: u64,
    pub views: Views,
    pub log: LogReader,
    pub tree: RwLock<Tree>,
    pub trie: Mutex<StateTrie>,
    pub visible: RwLock<Arc<Head>>,
    pub cache: Mutex<BlockCache>,
    /// Epoch and finality proof by number, of what is not in the views; logged, maybe not durable.
    pub proofs: RwLock<BTreeMap<u64, (u64, Bytes)>>,
    pub senders: Senders,
}

/// The last decoded blocks, by position in the log.
#[derive(Default)]
pub(crate) struct BlockCache {
    blocks: HashMap<u64, Arc<StoredBlock>>,
    /// Position and length of the record, the oldest first.
    order: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl BlockCache {
    fn get(&self, position: Position) -> Option<Arc<StoredBlock>> {
        self.blocks.get(&position.0).cloned()
    }

    fn put(&mut self, position: Position, length: usize, block: Arc<StoredBlock>) {
        if self.blocks.insert(position.0, block).is_none() {
            self.order.push_back((position.0, length));
            self.bytes += length;
        }
        while self.order.len() > CACHED_BLOCKS || self.bytes > CACHED_BYTES {
            let (oldest, length) = self.order.pop_front().expect("not empty");
            self.blocks.remove(&oldest);
            self.bytes -= length;
        }
    }
}

pub(crate) fn unreadable(error: impl std::fmt::Display) -> StateError {
    StateError(error.to_string())
}

impl Shared {
    /// A block from the log.
    pub fn read_block(&self, position: Position) -> Result<Arc<StoredBlock>, StateError> {
        if let Some(block) = self.cache.lock().get(position) {
            return Ok(block);
        }
        let record = self.log.read(position).map_err(unreadable)?;
        let (block, _) = ledger::BlockRecord::decode_block(&record.payload).map_err(unreadable)?;
        let block = Arc::new(block);
        self.cache.lock().put(position, record.payload.len(), block.clone());
        Ok(block)
    }

    /// Hash and position of a canonical block that the views know.
    pub fn viewed_number(&self, number: u64) -> Result<Option<(B256, Position)>, StateError> {
        let row = self.views.get(Table::Numbers, &number.to_be_bytes()).map_err(unreadable)?;
        row.map(|row| ledger::decode_place(&row).map_err(unreadable)).transpose()
    }

    /// The number of a canonical block that the views know.
    pub fn viewed_hash(&self, hash: &B256) -> Result<Option<u64>, StateError> {
        let row = self.views.get(Table::Hashes, hash.as_slice()).map_err(unreadable)?;
        row.map(|row| ledger::decode_u64(&row).map_err(unreadable)).transpose()
    }

    fn viewed_account(&self, key: &B256) -> Result<Option<FlatAccount>, StateError> {
        let row = self.views.get(Table::Accounts, key.as_slice()).map_err(unreadable)?;
        row.map(|row| FlatAccount::decode(&row).map_err(unreadable)).transpose()
    }

    fn viewed_slot(&self, key: &[u8; 64]) -> Result<U256, StateError> {
        let row = self.views.get(Table::Slots, key).map_err(unreadable)?;
        row.map_or(Ok(U256::ZERO), |row| slot_value(&row).map_err(unreadable))
    }

    pub fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        if hash == KECCAK256_EMPTY {
            return Ok(Bytes::new());
        }
        if let Some(code) = self.tree.read().code(&hash) {
            return Ok(code);
        }
        let code = self.views.get(Table::Codes, hash.as_slice()).map_err(unreadable)?;
        code.map(Bytes::from).ok_or_else(|| StateError(format!("code {hash} is missing")))
    }

    /// The state after a layer that the caller knows to be there: on the thread that moves the tree.
    pub fn state_at(self: &Arc<Self>, layer: LayerId) -> StateView {
        self.state_in(&self.tree.read(), layer)
    }

    /// The state after a layer that was found in the tree under this guard. A flush on another thread
    /// may drop the layer as soon as the guard is gone; the view stays right.
    pub fn state_in(self: &Arc<Self>, tree: &Tree, layer: LayerId) -> StateView {
        let at = tree.at(layer);
        let (number, hash) = (at.number, at.hash);
        let patched = matches!(at.step, Step::Patch { .. });
        StateView { shared: self.clone(), layer: Some(layer), number, hash, patched }
    }
}

/// The state after one block; reads stay right while the chain goes on.
#[derive(Clone)]
pub struct StateView {
    pub(crate) shared: Arc<Shared>,
    /// Set while the block is in the tree; kept after it left.
    pub(crate) layer: Option<LayerId>,
    pub(crate) number: u64,
    pub(crate) hash: B256,
    /// The layer is a patch: when it has left the tree, this state is nowhere.
    pub(crate) patched: bool,
}

/// Where a read is answered from.
enum Place {
    Live(LayerId),
    Old,
}

impl StateView {
    /// The block whose state this is.
    pub fn block(&self) -> (u64, B256) {
        (self.number, self.hash)
    }

    /// The layer if it is live; otherwise the block has gone into history, or was abandoned.
    fn place(&self, tree: &Tree) -> Result<Place, StateError> {
        if let Some(layer) = self.layer
            && tree.layer(layer).is_some()
        {
            return Ok(Place::Live(layer));
        }
        match self.shared.viewed_number(self.number)? {
            Some(_) if self.patched => Err(StateError(format!(
                "the patched state on block {} is gone; ask for the latest again",
                self.number
            ))),
            Some((hash, _)) if hash == self.hash => Ok(Place::Old),
            _ => Err(StateError(format!(
                "block {} {} was abandoned in a reorganisation and its state is gone",
                self.number, self.hash
            ))),
        }
    }

    /// Reads until no flush began or ended meanwhile: then the views were of the base, or the tree
    /// knew what they had lost.
    fn settled<T>(&self, read: impl Fn(&Self) -> Result<T, StateError>) -> Result<T, StateError> {
        loop {
            let moment = self.shared.tree.read().moment();
            let value = read(self)?;
            if self.shared.tree.read().moment() == moment {
                return Ok(value);
            }
        }
    }

    /// The first value that history holds for a key from after this block on.
    fn history(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut from = key.to_vec();
        from.extend_from_slice(&(self.number + 1).to_be_bytes());
        let rows =
            self.shared.views.scan(table, key, Bound::Included(&from), 1).map_err(unreadable)?;
        Ok(rows.into_iter().next().map(|(_, value)| value))
    }

    pub(crate) fn flat_account(&self, key: &B256) -> Result<Option<FlatAccount>, StateError> {
        self.settled(|view| {
            let known = {
                let tree = view.shared.tree.read();
                match view.place(&tree)? {
                    Place::Live(layer) => tree.account(key, layer),
                    Place::Old => {
                        drop(tree);
                        if let Some(row) = view.history(Table::AccountHistory, key.as_slice())? {
                            return decode_account(&row);
                        }
                        view.shared.tree.read().account_at_base(key)
                    }
                }
            };
            match known {
                Known::Value(account) => Ok(account),
                Known::InViews => view.shared.viewed_account(key),
            }
        })
    }

    pub(crate) fn flat_slot(&self, key: &[u8; 64]) -> Result<U256, StateError> {
        self.settled(|view| {
            let known = {
                let tree = view.shared.tree.read();
                match view.place(&tree)? {
                    Place::Live(layer) => tree.slot(key, layer),
                    Place::Old => {
                        drop(tree);
                        if let Some(row) = view.history(Table::SlotHistory, key)? {
                            return slot_value(&row).map_err(unreadable);
                        }
                        view.shared.tree.read().slot_at_base(key)
                    }
                }
            };
            match known {
                Known::Value(value) => Ok(value),
                Known::InViews => view.shared.viewed_slot(key),
            }
        })
    }

    /// The hash of the ancestor at a number.
    pub fn ancestor_hash(&self, number: u64) -> Result<Option<B256>, StateError> {
        if number > self.number {
            return Ok(None);
        }
        {
            let tree = self.shared.tree.read();
            let mut at = self.layer.and_then(|id| tree.layer(id));
            // One step at a time over forks; the canonical branch has its own index.
            while let Some(layer) = at {
                if layer.number == number {
                    return Ok(Some(layer.hash));
                }
                if layer.number > number
                    && let Some(id) = tree.canonical(layer.number)
                    && tree.at(id).hash == layer.hash
                    && let Some(found) = tree.canonical(number)
                {
                    return Ok(Some(tree.at(found).hash));
                }
                if matches!(layer.step, Step::Base) {
                    break;
                }
                at = tree.layer(layer.parent);
            }
        }
        Ok(self.shared.viewed_number(number)?.map(|(hash, _)| hash))
    }
}

fn decode_account(row: &[u8]) -> Result<Option<FlatAccount>, StateError> {
    if row.is_empty() {
        return Ok(None);
    }
    FlatAccount::decode(row).map(Some).map_err(unreadable)
}

impl StateReader for StateView {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        Ok(self.flat_account(&account_key(address))?.map(|flat| flat.account))
    }

    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError> {
        self.flat_slot(&joined(&account_key(address), &slot_key(slot)))
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.shared.code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        Ok(self.ancestor_hash(number)?.unwrap_or_default())
    }

    fn has_orphaned_storage(&self, address: &Address) -> Result<bool, StateError> {
        let account = self.flat_account(&account_key(address))?;
        Ok(account.is_some_and(|account| account.storage_root != EMPTY_ROOT_HASH))
    }
}

/// The first and the last key that begin with some nibbles.
fn bounds(prefix: &[u8]) -> (B256, B256) {
    let (mut first, mut last) = (B256::ZERO, B256::repeat_byte(0xff));
    for (index, nibble) in prefix.iter().enumerate() {
        let (shift, keep) = if index % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
        first[index / 2] = first[index / 2] & keep | nibble << shift;
        last[index / 2] = last[index / 2] & keep | nibble << shift;
    }
    (first, last)
}

/// Rows of the views and what the tree knows of the same keys, merged in order of keys.
///
/// `more` gives the next rows from a key on; a key that the tree has deleted must not count, so
/// rows are read until `limit` live ones are found.
fn merge<K: Copy + Ord, V>(
    overlay: Vec<(K, Option<Option<V>>)>,
    limit: usize,
    mut more: impl FnMut(Option<K>, usize) -> Result<Vec<(K, V)>, StateError>,
) -> Result<Vec<(K, V)>, StateError> {
    let mut found = Vec::new();
    let mut overlay = overlay.into_iter().peekable();
    let mut last = None;
    loop {
        let want = limit.saturating_sub(found.len()).saturating_add(1).min(4_096);
        let rows = more(last, want)?;
        let complete = rows.len() < want;
        for (key, value) in rows {
            last = Some(key);
            while let Some((over, known)) = overlay.next_if(|(over, _)| *over < key) {
                found.extend(known.flatten().map(|value| (over, value)));
            }
            match overlay.next_if(|(over, _)| *over == key) {
                Some((_, Some(known))) => found.extend(known.map(|value| (key, value))),
                Some((_, None)) | None => found.push((key, value)),
            }
            if found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
        if complete {
            found.extend(overlay.filter_map(|(key, known)| Some((key, known??))));
            found.truncate(limit);
            return Ok(found);
        }
    }
}

fn nibbles_prefix(prefix: &[u8]) -> Vec<u8> {
    prefix.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

impl StateView {
    fn live(&self, tree: &Tree) -> Result<LayerId, StateError> {
        match self.place(tree)? {
            Place::Live(layer) => Ok(layer),
            Place::Old => Err(StateError(format!("block {} has left the tree", self.number))),
        }
    }

    fn scan_accounts(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, FlatAccount)>, StateError> {
        let (first, last) = bounds(prefix);
        let tree = self.shared.tree.read();
        let layer = self.live(&tree)?;
        let overlay = tree
            .accounts_between(first, last, layer)
            .map(|(key, known)| match known {
                Known::Value(account) => (key, Some(account)),
                Known::InViews => (key, None),
            })
            .collect();
        merge(overlay, limit, |after, count| account_rows(&self.shared.views, prefix, after, count))
    }

    /// Storage slots of an account under some nibbles, in order of their keys.
    pub(crate) fn scan_slots(
        &self,
        owner: B256,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, U256)>, StateError> {
        let (first, last) = bounds(prefix);
        let tree = self.shared.tree.read();
        let layer = self.live(&tree)?;
        let overlay = tree
            .slots_between(joined(&owner, &first), joined(&owner, &last), layer)
            .map(|(key, known)| match known {
                Known::Value(value) => (key, Some((!value.is_zero()).then_some(value))),
                Known::InViews => (key, None),
            })
            .collect();
        let found = merge(overlay, limit, |after, count| {
            slot_rows(&self.shared.views, owner, prefix, after, count)
        })?;
        Ok(found.into_iter().map(|(key, value)| (B256::from_slice(&key[32..]), value)).collect())
    }
}

/// Accounts of the views under some nibbles, behind a key.
fn account_rows(
    views: &Views,
    prefix: &[u8],
    after: Option<B256>,
    limit: usize,
) -> Result<Vec<(B256, FlatAccount)>, StateError> {
    let (first, last) = bounds(prefix);
    let start = after.unwrap_or(first);
    views
        .scan(
            Table::Accounts,
            &nibbles_prefix(prefix),
            bound(start.as_slice(), after.is_some()),
            limit,
        )
        .map_err(unreadable)?
        .into_iter()
        .map(|(key, value)| (B256::from_slice(&key), value))
        .take_while(|(key, _)| *key <= last)
        .map(|(key, value)| Ok((key, FlatAccount::decode(&value).map_err(unreadable)?)))
        .collect()
}

/// Slots of an account in the views under some nibbles, behind a key.
fn slot_rows(
    views: &Views,
    owner: B256,
    prefix: &[u8],
    after: Option<[u8; 64]>,
    limit: usize,
) -> Result<Vec<([u8; 64], U256)>, StateError> {
    let (first, last) = bounds(prefix);
    let (first, last) = (joined(&owner, &first), joined(&owner, &last));
    let start = after.unwrap_or(first);
    let mut under = owner.to_vec();
    under.extend(nibbles_prefix(prefix));
    views
        .scan(Table::Slots, &under, bound(&start, after.is_some()), limit)
        .map_err(unreadable)?
        .into_iter()
        .map(|(key, value)| {
            let key = <[u8; 64]>::try_from(key.as_slice()).map_err(unreadable)?;
            Ok((key, slot_value(&value).map_err(unreadable)?))
        })
        .take_while(|row| row.as_ref().map_or(true, |(key, _)| *key <= last))
        .collect()
}

/// Leaves of the account trie from the views alone.
pub(crate) fn viewed_accounts(
    views: &Views,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<(B256, TrieAccount)>, StateError> {
    Ok(account_rows(views, prefix, None, limit)?.into_iter().map(leaf).collect())
}

/// Leaves of a storage trie from the views alone.
pub(crate) fn viewed_slots(
    views: &Views,
    owner: B256,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<(B256, U256)>, StateError> {
    let rows = slot_rows(views, owner, prefix, None, limit)?;
    Ok(rows.into_iter().map(|(key, value)| (B256::from_slice(&key[32..]), value)).collect())
}

fn leaf((key, flat): (B256, FlatAccount)) -> (B256, TrieAccount) {
    let Account { nonce, balance, code_hash } = flat.account;
    (key, TrieAccount { nonce, balance, storage_root: flat.storage_root, code_hash })
}

fn bound(key: &[u8], after: bool) -> Bound<&[u8]> {
    if after { Bound::Excluded(key) } else { Bound::Included(key) }
}

/// The key of a crown record in the views.
pub(crate) fn crown_key(owner: Option<B256>, path: &[u8]) -> Vec<u8> {
    let mut key = owner.map_or_else(Vec::new, |owner| owner.to_vec());
    key.insert(0, u8::from(owner.is_some()));
    key.extend_from_slice(path);
    key
}

impl Leaves for StateView {
    fn accounts(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, TrieAccount)>, Unreadable> {
        let found = self.scan_accounts(prefix, limit).map_err(|e| Unreadable(e.0))?;
        Ok(found.into_iter().map(leaf).collect())
    }

    fn slots(
        &self,
        owner: B256,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, U256)>, Unreadable> {
        self.scan_slots(owner, prefix, limit).map_err(|e| Unreadable(e.0))
    }

    fn node(&self, owner: Option<B256>, path: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let row = self.shared.views.get(Table::Crown, &crown_key(owner, path));
        row.map_err(|error| Unreadable(error.to_string()))
    }
}
