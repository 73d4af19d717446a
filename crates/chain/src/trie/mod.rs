//! The Merkle-Patricia trie of the state: roots, versions per block, proofs.
//!
//! A copy-on-write arena in memory over flat state, in 16 shards by the first nibble of an
//! account's key; storage tries live in the shard of their account, below its leaf. Leaves are
//! hashes only: values come from flat state through [`Leaves`] when a node needs one. The upper
//! nodes are stored as *crown* records, the rest is rebuilt from flat state when it is touched,
//! and whatever is loaded must hash to what its parent holds.
//!
//! A block is [`StateTrie::commit`]ted onto its parent's [`Version`], any number of them onto
//! one. [`StateTrie::finalise`] keeps a version and what descends from it. The caller stores flat
//! state and the records of [`StateTrie::crown`] in one batch, calls [`StateTrie::flushed`], and
//! later [`StateTrie::open`]s what it stored.
//!
//! Reads no file, starts no thread that outlives a call, and never uses a node it has not
//! verified. It cannot tell that an update's `existed` is wrong in every case: that, and
//! `storage_root_before`, must come from the state of the parent version.

mod any;
mod arena;
mod crown;
mod load;
mod node;
mod patched;
mod proof;
mod source;
mod update;

pub use any::{ordered_root, root};
pub use patched::Patched;
pub use proof::{Proof, SlotProof};

use alloy_primitives::{B256, U256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use arena::Shard;
use node::{Child, Kind, Path, UNLOADED, nibble};
use proof::{Reader, Top};
use source::{Leaf, View};
use std::collections::{BTreeMap, HashSet};
use update::{AccountChange, lone_leaf};

/// Flat state as the trie needs it, and the stored crown. Keys are keccak hashes, prefixes are
/// nibbles. All answers are of one state: that of the version computed from.
pub trait Leaves: Sync {
    /// The first `limit` accounts under `prefix`, in key order.
    fn accounts(&self, prefix: &[u8], limit: usize)
    -> Result<Vec<(B256, TrieAccount)>, Unreadable>;
    /// The first `limit` storage slots of `owner` under `prefix`, in key order.
    fn slots(
        &self,
        owner: B256,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, U256)>, Unreadable>;
    /// The crown record stored for a path of the account trie, or of the storage trie of `owner`.
    fn node(&self, owner: Option<B256>, path: &[u8]) -> Result<Option<Vec<u8>>, Unreadable>;
}

/// Flat state could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot read the state view: {0}")]
pub struct Unreadable(pub String);

/// Why the trie could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrieError {
    /// What is stored is not what the state root commits to.
    #[error(
        "the state view is damaged at {} under path [{}]: {what}; rebuild it from the log",
        owner.map_or("the account trie".into(), |owner| format!("the storage of {owner}")),
        path.iter().map(|n| char::from_digit(u32::from(*n), 16).unwrap_or('?')).collect::<String>()
    )]
    Damaged {
        /// The hashed key of the account whose storage it is; `None` for the account trie.
        owner: Option<B256>,
        /// Where, in nibbles.
        path: Vec<u8>,
        /// What was seen.
        what: &'static str,
    },
    /// Flat state could not be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// What an account's leaf holds besides its storage root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountFields {
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// keccak of the code.
    pub code_hash: B256,
}

/// Change of one account in a block, or in a stretch of blocks merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountUpdate {
    /// keccak of the address.
    pub key: B256,
    /// Whether the parent version has the account.
    pub existed: bool,
    /// What becomes of it: `None` deletes it with its storage.
    pub account: Option<AccountFields>,
    /// The storage root in the parent version.
    pub storage_root_before: B256,
    /// The whole storage is emptied before `slots` are set.
    pub wiped: bool,
    /// Changed slots, sorted by key and distinct.
    pub slots: Vec<SlotUpdate>,
}

/// Change of one storage slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotUpdate {
    /// keccak of the slot.
    pub key: B256,
    /// Whether the parent version has a value there.
    pub existed: bool,
    /// The new value; zero deletes.
    pub value: U256,
}

/// A state in the trie. A handle: it stays valid until the version is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    id: u32,
    /// The state root.
    pub root: B256,
}

/// A new version.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The version, with the state root.
    pub version: Version,
    /// The storage root of each updated account, in the order of the updates.
    pub storage_roots: Vec<B256>,
}

/// One record of the crown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrownRecord {
    /// The hashed key of the account whose storage it is of; `None` for the account trie.
    pub owner: Option<B256>,
    /// Path in nibbles.
    pub path: Vec<u8>,
    /// What [`Leaves::node`] must answer for it.
    pub record: Vec<u8>,
}

/// What the trie knows of a version.
struct Layer {
    parent: Option<u32>,
    slots: [Child; 16],
    made: [Vec<u32>; 16],
    retired: [Vec<u32>; 16],
}

/// Changes below which threads cost more than they bring.
const WORTH_THREADS: usize = 64;

/// The state trie with all its live versions.
pub struct StateTrie {
    shards: [Shard; 16],
    layers: BTreeMap<u32, Layer>,
    next: u32,
    flushed: u32,
    next_evicted: usize,
}

impl Default for StateTrie {
    fn default() -> Self {
        Self::new()
    }
}

impl StateTrie {
    /// A trie without any version: next comes `empty`, `open` or `rebuild`.
    pub fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard::new()),
            layers: BTreeMap::new(),
            next: 1,
            flushed: 0,
            next_evicted: 0,
        }
    }

    /// Drops all versions and starts from the empty state.
    pub fn empty(&mut self) -> Version {
        *self = Self::new();
        self.start([Child::EMPTY; 16], EMPTY_ROOT_HASH)
    }

    /// Drops all versions and starts from the stored state, in constant time: only the topmost
    /// record is read.
    ///
    /// # Errors
    /// If that record is missing or has not this root.
    pub fn open<L: Leaves>(&mut self, root: B256, leaves: &L) -> Result<Version, TrieError> {
        if root == EMPTY_ROOT_HASH {
            let version = self.empty();
            self.flushed = version.id;
            return Ok(version);
        }
        *self = Self::new();
        let view = View { leaves, owner: None };
        let record = view.record(&[])?;
        let record = record.and_then(|record| node::decode_record(&[], &record));
        let (_, slots) = record
            .filter(|(extension, _)| extension.is_empty())
            .ok_or_else(|| view.damaged(&[], "the topmost crown record is missing or torn"))?;
        let top = self.top(&slots, &view, |path, slot| view.only_leaf(path, slot, 0, |_| false))?;
        if top.root_hash() != root {
            return Err(view.damaged(&[], "the topmost crown record is of another state root"));
        }
        let version = self.start(slots, root);
        self.flushed = version.id;
        Ok(version)
    }

    /// Drops all versions and computes the trie of all of flat state, on up to 16 `threads`, a
    /// small piece at a time. The storage of each account is checked against its root; compare
    /// the version's root with the header's. The crown of it is yet to be stored.
    ///
    /// # Errors
    /// If flat state cannot be read or contradicts itself.
    pub fn rebuild<L: Leaves>(&mut self, leaves: &L, threads: usize) -> Result<Version, TrieError> {
        *self = Self::new();
        let id = self.begin();
        let mut jobs: Vec<_> = (0..).zip(&mut self.shards).map(|(n, s)| (n, s, None)).collect();
        in_parallel(&mut jobs, threads, |(nibble, shard, result)| {
            let view = View { leaves, owner: None };
            *result = Some(shard.rebuild(&Path::EMPTY.child(*nibble), &view));
        });
        let mut slots = [Child::EMPTY; 16];
        for (slot, (.., result)) in slots.iter_mut().zip(jobs) {
            *slot = result.expect("each shard is rebuilt")?;
        }
        let view = View { leaves, owner: None };
        let top = self.top(&slots, &view, |path, slot| view.only_leaf(path, slot, 0, |_| false))?;
        self.shards.iter_mut().for_each(|shard| drop(shard.end()));
        self.add(id, None, slots);
        Ok(Version { id, root: top.root_hash() })
    }

    /// Computes the version after `updates` (sorted by key, distinct) from `parent`, on up to
    /// `threads`. `leaves` must give the state of `parent`.
    ///
    /// # Errors
    /// If flat state or the crown cannot be read or is damaged; the trie is then as it was.
    ///
    /// # Panics
    /// If `parent` is dropped, or the updates are not sorted.
    pub fn commit<L: Leaves>(
        &mut self,
        parent: &Version,
        updates: &[AccountUpdate],
        threads: usize,
        leaves: &L,
    ) -> Result<Commit, TrieError> {
        assert!(updates.is_sorted_by(|a, b| a.key < b.key), "account updates are sorted");
        let sorted = |u: &AccountUpdate| u.slots.is_sorted_by(|a, b| a.key < b.key);
        assert!(updates.iter().all(sorted), "slot updates are sorted");
        let slots = self.layers.get(&parent.id).expect("the parent version is live").slots;
        let id = self.begin();
        let done = self.commit_shards(slots, updates, threads, leaves);
        match done {
            Ok((slots, root, storage_roots)) => {
                self.add(id, Some(parent.id), slots);
                Ok(Commit { version: Version { id, root }, storage_roots })
            }
            Err(error) => {
                for shard in &mut self.shards {
                    let (made, _) = shard.end();
                    shard.release_made(made, id);
                }
                Err(error)
            }
        }
    }

    fn commit_shards<L: Leaves>(
        &mut self,
        mut slots: [Child; 16],
        updates: &[AccountUpdate],
        threads: usize,
        leaves: &L,
    ) -> Result<([Child; 16], B256, Vec<B256>), TrieError> {
        let groups = groups(updates);
        let mut jobs: Vec<_> = (0..16)
            .zip(&mut self.shards)
            .filter(|(n, _)| !groups[*n].is_empty())
            .map(|(n, shard)| (n, shard, weight(groups[n]), None))
            .collect();
        jobs.sort_by_key(|job| std::cmp::Reverse(job.2));
        let many = jobs.iter().map(|job| job.2).sum::<usize>() >= WORTH_THREADS;
        in_parallel(&mut jobs, if many { threads } else { 1 }, |(n, shard, _, result)| {
            *result = Some(shard.commit(slots[*n], groups[*n], leaves));
        });
        jobs.sort_by_key(|job| job.0);
        let mut storage_roots = Vec::with_capacity(updates.len());
        for (n, _, _, result) in jobs {
            let (slot, roots) = result.expect("each shard with updates is committed")?;
            slots[n] = slot;
            storage_roots.extend(roots);
        }
        let view = View { leaves, owner: None };
        let top = self.top(&slots, &view, |path, slot| {
            let of_shard = &groups[usize::from(path[0])];
            let first = updates.partition_point(|update| nibble(&update.key, 0) < path[0]);
            let changes: Vec<_> = of_shard
                .iter()
                .zip(&storage_roots[first..])
                .filter(|(update, _)| update.existed || update.account.is_some())
                .map(|(update, root)| AccountChange { update, storage_root: *root, id: UNLOADED })
                .collect();
            lone_leaf(path, slot, &changes, &view)
        })?;
        Ok((slots, top.root_hash(), storage_roots))
    }

    /// The topmost node over the sixteen slots; `lone` finds the leaf if it is the only one.
    fn top<L: Leaves>(
        &self,
        slots: &[Child; 16],
        view: &View<'_, L>,
        lone: impl FnOnce(&Path, &Child) -> Result<Leaf, TrieError>,
    ) -> Result<Top, TrieError> {
        let mut occupied = (0..).zip(slots).filter(|(_, slot)| slot.kind != Kind::Empty);
        let Some((at, slot)) = occupied.next() else { return Ok(Top::Empty) };
        if occupied.next().is_some() {
            return Ok(Top::Branch(Path::EMPTY, Box::new(*slots)));
        }
        let mut path = Path::EMPTY.child(at);
        if slot.kind == Kind::Leaf {
            return Ok(Top::Leaf(lone(&path, slot)?));
        }
        let mut reader = Reader::new(&self.shards[usize::from(at)]);
        let (extension, children) = reader.read(&path, slot, view)?;
        path.extend(&extension);
        Ok(Top::Branch(path, Box::new(children)))
    }

    fn begin(&mut self) -> u32 {
        let id = self.next;
        self.next = id.checked_add(1).expect("fewer than 2^32 versions between two opens");
        self.shards.iter_mut().for_each(|shard| shard.begin(id));
        id
    }

    fn start(&mut self, slots: [Child; 16], root: B256) -> Version {
        let id = self.begin();
        self.add(id, None, slots);
        Version { id, root }
    }

    fn add(&mut self, id: u32, parent: Option<u32>, slots: [Child; 16]) {
        let mut layer =
            Layer { parent, slots, made: Default::default(), retired: Default::default() };
        for (n, shard) in self.shards.iter_mut().enumerate() {
            (layer.made[n], layer.retired[n]) = shard.end();
        }
        self.layers.insert(id, layer);
    }

    /// The finalised version: all others descend from it.
    fn base(&self) -> Option<u32> {
        self.layers.first_key_value().map(|(id, _)| *id)
    }

    /// Whether a version is still there.
    pub fn holds(&self, version: &Version) -> bool {
        self.layers.contains_key(&version.id)
    }

    /// Makes `version` the finalised one: everything but it and what descends from it is dropped.
    ///
    /// # Panics
    /// If the version has been dropped.
    pub fn finalise(&mut self, version: &Version) {
        let mut path = vec![version.id];
        while let Some(parent) = self.layers[&path[path.len() - 1]].parent {
            path.push(parent);
        }
        for pair in path.windows(2).rev() {
            let (kept, parent) = (pair[0], pair[1]);
            for sibling in self.children(parent) {
                if sibling != kept {
                    self.drop_layers(sibling);
                }
            }
            self.layers.remove(&parent);
            let layer = self.layers.get_mut(&kept).expect("it is on the path");
            layer.parent = None;
            layer.made = Default::default();
            for (shard, retired) in self.shards.iter_mut().zip(&mut layer.retired) {
                std::mem::take(retired).into_iter().for_each(|id| shard.release(id));
            }
        }
    }

    /// Drops a version and all that descend from it; nothing if it is dropped already.
    ///
    /// # Panics
    /// If it is the finalised version.
    pub fn abandon(&mut self, version: Version) {
        assert_ne!(Some(version.id), self.base(), "the finalised version is not abandoned");
        if self.holds(&version) {
            self.drop_layers(version.id);
        }
    }

    fn children(&self, parent: u32) -> Vec<u32> {
        let layers = self.layers.range(parent + 1..);
        layers.filter(|(_, layer)| layer.parent == Some(parent)).map(|(id, _)| *id).collect()
    }

    fn drop_layers(&mut self, id: u32) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            pending.extend(self.children(id));
            let layer = self.layers.remove(&id).expect("a child is live");
            for (shard, made) in self.shards.iter_mut().zip(layer.made) {
                shard.release_made(made, id);
            }
        }
    }

    /// How many versions are there.
    pub fn versions(&self) -> usize {
        self.layers.len()
    }

    /// Bytes taken from the allocator, with room that is free for new nodes.
    pub fn bytes(&self) -> usize {
        let listed = |lists: &[Vec<u32>; 16]| lists.iter().map(|l| l.capacity() * 4).sum::<usize>();
        let layer =
            |layer: &Layer| size_of::<Layer>() + listed(&layer.made) + listed(&layer.retired);
        self.shards.iter().map(Shard::capacity).sum::<usize>()
            + self.layers.values().map(layer).sum::<usize>()
    }

    /// Bytes of the nodes that the live versions hold.
    pub fn live_bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Checks that exactly the nodes that some live version reaches are held, and counts them.
    ///
    /// # Panics
    /// If a node is leaked or freed too early.
    pub fn audit(&self) -> usize {
        let mut total = 0;
        for (n, shard) in self.shards.iter().enumerate() {
            let mut seen = HashSet::new();
            let roots = self.layers.values().map(|layer| layer.slots[n].id);
            let mut pending: Vec<u32> = roots.collect();
            while let Some(id) = pending.pop() {
                if id < UNLOADED && seen.insert(id) {
                    assert!(shard.node(id).is_live(), "a version holds a node that is freed");
                    pending.extend((0..shard.width(id)).map(|place| shard.below(id, place)));
                }
            }
            assert_eq!(seen.len(), shard.live(), "nodes of shard {n} that no version holds");
            total += seen.len();
        }
        total
    }
}

/// The updates of each shard.
fn groups(updates: &[AccountUpdate]) -> [&[AccountUpdate]; 16] {
    let mut groups: [&[AccountUpdate]; 16] = [&[]; 16];
    for group in updates.chunk_by(|a, b| nibble(&a.key, 0) == nibble(&b.key, 0)) {
        groups[usize::from(nibble(&group[0].key, 0))] = group;
    }
    groups
}

fn weight(updates: &[AccountUpdate]) -> usize {
    updates.iter().map(|update| 1 + update.slots.len()).sum()
}

/// Runs `work` on every job, first come first served.
fn in_parallel<J: Send>(jobs: &mut [J], threads: usize, work: impl Fn(&mut J) + Sync) {
    if threads < 2 || jobs.len() < 2 {
        return jobs.iter_mut().for_each(work);
    }
    let threads = threads.min(jobs.len());
    let queue = parking_lot::Mutex::new(jobs.iter_mut());
    let run = || {
        loop {
            let Some(job) = queue.lock().next() else { break };
            work(job);
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
}
