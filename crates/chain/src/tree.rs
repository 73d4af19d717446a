//! The tree of blocks that are not yet in the views, and the state after each of them.
//!
//! A *layer* is one step of the state: a block, or a patch (a change outside a transaction) on top
//! of one. Layers form a tree rooted in the *base*, the block whose state the views hold. Each
//! layer keeps only what it changed; an index from key to layers answers a read without walking
//! down the tree. Nothing here does IO.

use crate::flat::FlatAccount;
use crate::trie::Version;
use crate::{StoredBlock, store::Position};
use alloy_consensus::Transaction;
use alloy_primitives::map::HashMap;
use alloy_primitives::{Address, B256, Bytes, TxHash, U256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Names a layer for as long as the process lives.
pub(crate) type LayerId = u64;

/// What a layer changed, by hashed key, in order; and of whom.
#[derive(Debug, Default)]
pub(crate) struct FlatChanges {
    pub addresses: Vec<Address>,
    pub accounts: Vec<(B256, Option<FlatAccount>, Option<FlatAccount>)>,
    pub slots: Vec<([u8; 64], U256, U256)>,
    pub codes: BTreeMap<B256, Bytes>,
}

/// What made a layer.
#[derive(Clone)]
pub(crate) enum Step {
    /// The block that the views end with.
    Base,
    Block {
        block: Arc<StoredBlock>,
        position: Position,
    },
    Patch {
        id: B256,
    },
}

pub(crate) struct Layer {
    pub parent: LayerId,
    /// Steps from the first base of this process: grows by one with each block or patch.
    pub depth: u64,
    /// An ancestor further down, for walking in logarithmic time.
    jump: LayerId,
    /// The hash and number of the block: the layer's own, or the one that a patch stands on.
    pub hash: B256,
    pub number: u64,
    pub step: Step,
    pub version: Version,
    pub changes: Arc<FlatChanges>,
    /// Estimated bytes of this layer and all below it, from the first base on.
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Entry<T> {
    layer: LayerId,
    depth: u64,
    before: T,
    after: T,
}

/// What the tree knows of a key at a layer.
pub(crate) enum Known<T> {
    Value(T),
    /// Not changed since the base: the views have it.
    InViews,
}

pub(crate) struct Tree {
    layers: HashMap<LayerId, Layer>,
    next: LayerId,
    base: LayerId,
    head: LayerId,
    blocks: HashMap<B256, LayerId>,
    patches: HashMap<B256, LayerId>,
    /// Block layers of the branch of the head, by number from the base on.
    canonical: VecDeque<LayerId>,
    accounts: BTreeMap<B256, VecDeque<Entry<Option<FlatAccount>>>>,
    slots: BTreeMap<[u8; 64], VecDeque<Entry<U256>>>,
    codes: HashMap<B256, (Bytes, usize)>,
    transactions: HashMap<TxHash, Vec<(LayerId, u32)>>,
    /// How many flushes have begun: between its beginning and its end the views move.
    flushes: u64,
}

impl Tree {
    pub fn new(hash: B256, number: u64, version: Version) -> Self {
        let base = Layer {
            parent: 0,
            depth: 0,
            jump: 0,
            hash,
            number,
            step: Step::Base,
            version,
            changes: Arc::default(),
            bytes: 0,
        };
        Self {
            layers: [(0, base)].into_iter().collect(),
            next: 1,
            base: 0,
            head: 0,
            blocks: [(hash, 0)].into_iter().collect(),
            patches: HashMap::default(),
            canonical: [0].into(),
            accounts: BTreeMap::new(),
            slots: BTreeMap::new(),
            codes: HashMap::default(),
            transactions: HashMap::default(),
            flushes: 0,
        }
    }

    pub fn layer(&self, id: LayerId) -> Option<&Layer> {
        self.layers.get(&id)
    }

    /// Every layer, in no order that means anything.
    pub fn layers(&self) -> impl Iterator<Item = (LayerId, &Layer)> {
        self.layers.iter().map(|(id, layer)| (*id, layer))
    }

    /// The layer of a block or a patch that is known to be there.
    pub fn at(&self, id: LayerId) -> &Layer {
        &self.layers[&id]
    }

    pub fn base(&self) -> LayerId {
        self.base
    }

    pub fn base_number(&self) -> u64 {
        self.at(self.base).number
    }

    pub fn head(&self) -> LayerId {
        self.head
    }

    /// Estimated bytes of the layers from above the base up to one.
    pub fn bytes_up_to(&self, id: LayerId) -> usize {
        self.at(id).bytes.saturating_sub(self.at(self.base).bytes)
    }

    /// What a reader compares to know that the views stayed as they were meanwhile.
    pub fn moment(&self) -> (LayerId, u64) {
        (self.base, self.flushes)
    }

    /// A flush begins.
    pub fn begin_flush(&mut self) {
        self.flushes += 1;
    }

    pub fn block_layer(&self, hash: &B256) -> Option<LayerId> {
        self.blocks.get(hash).copied()
    }

    /// The layer of a block's state, or of a patch's on top of it; a zero patch means none.
    pub fn state_layer(&self, block: &B256, patch: &B256) -> Option<LayerId> {
        if patch.is_zero() { self.block_layer(block) } else { self.patches.get(patch).copied() }
    }

    /// The layer of the canonical block at a number above or at the base.
    pub fn canonical(&self, number: u64) -> Option<LayerId> {
        let index = number.checked_sub(self.base_number())?;
        self.canonical.get(usize::try_from(index).ok()?).copied()
    }

    pub fn code(&self, hash: &B256) -> Option<Bytes> {
        self.codes.get(hash).map(|(code, _)| code.clone())
    }

    /// The canonical place of a transaction.
    pub fn transaction(&self, hash: &TxHash) -> Option<(LayerId, u32)> {
        let places = self.transactions.get(hash)?;
        places.iter().copied().find(|(id, _)| self.canonical(self.at(*id).number) == Some(*id))
    }

    pub fn insert(
        &mut self,
        parent: LayerId,
        step: Step,
        version: Version,
        changes: FlatChanges,
    ) -> LayerId {
        let id = self.next;
        self.next += 1;
        let under = self.at(parent);
        let (hash, number) = match &step {
            Step::Block { block, .. } => (block.block.hash(), block.block.number()),
            Step::Patch { .. } => (under.hash, under.number),
            Step::Base => unreachable!("there is one base, made by new"),
        };
        let depth = under.depth + 1;
        let bytes = under.bytes + weight(&step, &changes);
        let jump = self.jump_of(parent);
        self.index(id, depth, &changes);
        match &step {
            Step::Block { block, .. } => {
                self.blocks.insert(hash, id);
                for (index, transaction) in (0..).zip(&block.block.body.transactions) {
                    self.transactions.entry(*transaction.tx_hash()).or_default().push((id, index));
                }
            }
            Step::Patch { id: patch } => drop(self.patches.insert(*patch, id)),
            Step::Base => {}
        }
        let changes = Arc::new(changes);
        self.layers
            .insert(id, Layer { parent, depth, jump, hash, number, step, version, changes, bytes });
        id
    }

    fn index(&mut self, layer: LayerId, depth: u64, changes: &FlatChanges) {
        for (key, before, after) in &changes.accounts {
            let entry = Entry { layer, depth, before: *before, after: *after };
            self.accounts.entry(*key).or_default().push_back(entry);
        }
        for (key, before, after) in &changes.slots {
            let entry = Entry { layer, depth, before: *before, after: *after };
            self.slots.entry(*key).or_default().push_back(entry);
        }
        for (hash, code) in &changes.codes {
            self.codes.entry(*hash).or_insert_with(|| (code.clone(), 0)).1 += 1;
        }
    }

    /// Jumps double in length where the depths allow it (skew-binary numbers).
    fn jump_of(&self, parent: LayerId) -> LayerId {
        let length = |from: &Layer| {
            self.layer(from.jump).map_or(0, |to| from.depth.saturating_sub(to.depth))
        };
        let under = self.at(parent);
        match self.layer(under.jump) {
            Some(next) if length(under) > 0 && length(under) == length(next) => next.jump,
            _ => parent,
        }
    }

    /// The ancestor of `id` (or itself) at a depth; `None` below the base.
    pub fn ancestor(&self, mut id: LayerId, depth: u64) -> Option<LayerId> {
        loop {
            let layer = self.layer(id)?;
            if layer.depth <= depth {
                return (layer.depth == depth).then_some(id);
            }
            id = match self.layer(layer.jump) {
                Some(jump) if jump.depth >= depth => layer.jump,
                _ => layer.parent,
            };
        }
    }

    /// Whether `below` is `above` or one of its ancestors.
    pub fn descends(&self, above: LayerId, below: LayerId) -> bool {
        self.layer(below).is_some_and(|layer| self.ancestor(above, layer.depth) == Some(below))
    }

    fn known<T: Copy>(&self, entries: Option<&VecDeque<Entry<T>>>, at: LayerId) -> Known<T> {
        let Some(entries) = entries else { return Known::InViews };
        let mine = |entry: &&Entry<T>| self.ancestor(at, entry.depth) == Some(entry.layer);
        if let Some(entry) = entries.iter().rev().find(mine) {
            return Known::Value(entry.after);
        }
        // A flush may have moved the views ahead of this layer already: what the next change on
        // the head's branch found is what was here.
        if self.descends(self.head, at) {
            return self.oldest(entries);
        }
        Known::InViews
    }

    fn oldest<T: Copy>(&self, entries: &VecDeque<Entry<T>>) -> Known<T> {
        let next = entries
            .iter()
            .filter(|entry| self.ancestor(self.head, entry.depth) == Some(entry.layer))
            .min_by_key(|entry| entry.depth);
        next.map_or(Known::InViews, |entry| Known::Value(entry.before))
    }

    pub fn account(&self, key: &B256, at: LayerId) -> Known<Option<FlatAccount>> {
        self.known(self.accounts.get(key), at)
    }

    pub fn slot(&self, key: &[u8; 64], at: LayerId) -> Known<U256> {
        self.known(self.slots.get(key), at)
    }

    /// The account as it was at the base or, for what changed since, before its first change on
    /// the head's branch.
    pub fn account_at_base(&self, key: &B256) -> Known<Option<FlatAccount>> {
        self.accounts.get(key).map_or(Known::InViews, |entries| self.oldest(entries))
    }

    /// As [`Self::account_at_base`], for a slot.
    pub fn slot_at_base(&self, key: &[u8; 64]) -> Known<U256> {
        self.slots.get(key).map_or(Known::InViews, |entries| self.oldest(entries))
    }

    /// Accounts that any layer changed, by key from `from` to `to`, both inclusive.
    pub fn accounts_between<'a>(
        &'a self,
        from: B256,
        to: B256,
        at: LayerId,
    ) -> impl Iterator<Item = (B256, Known<Option<FlatAccount>>)> + 'a {
        self.accounts.range(from..=to).map(move |(key, list)| (*key, self.known(Some(list), at)))
    }

    /// Slots that any layer changed, by key from `from` to `to`, both inclusive.
    pub fn slots_between<'a>(
        &'a self,
        from: [u8; 64],
        to: [u8; 64],
        at: LayerId,
    ) -> impl Iterator<Item = ([u8; 64], Known<U256>)> + 'a {
        self.slots.range(from..=to).map(move |(key, list)| (*key, self.known(Some(list), at)))
    }

    /// Moves the head: recomputes the canonical branch down to where it joins the old one.
    pub fn set_head(&mut self, head: LayerId) {
        let old = std::mem::replace(&mut self.head, head);
        let number = self.at(head).number;
        let length = usize::try_from(number - self.base_number()).expect("fits memory") + 1;
        self.canonical.resize(length, LayerId::MAX);
        let base = self.base_number();
        let mut id = head;
        loop {
            let layer = &self.layers[&id];
            if !matches!(layer.step, Step::Patch { .. }) {
                let slot = &mut self.canonical[usize::try_from(layer.number - base).expect("fits")];
                if *slot == id {
                    break;
                }
                *slot = id;
            }
            if id == self.base {
                break;
            }
            id = layer.parent;
            // Below the old head everything is in place.
            if id == old {
                break;
            }
        }
    }

    /// The layers from the one above the base up to `to`, in order.
    pub fn path_from_base(&self, to: LayerId) -> Vec<LayerId> {
        let mut path = Vec::new();
        let mut id = to;
        while id != self.base {
            path.push(id);
            id = self.at(id).parent;
        }
        path.reverse();
        path
    }

    /// Drops every layer that neither leads to `kept` nor descends from it.
    pub fn prune_beside(&mut self, kept: LayerId) {
        let beside: Vec<LayerId> = self
            .layers
            .keys()
            .copied()
            .filter(|id| !self.descends(kept, *id) && !self.descends(*id, kept))
            .collect();
        self.drop_layers(&beside);
    }

    /// Drops every layer that descends from one; their versions of the trie.
    pub fn drop_above(&mut self, kept: LayerId) -> Vec<Version> {
        let above = |id: &LayerId| *id != kept && self.descends(*id, kept);
        let ids: Vec<LayerId> = self.layers.keys().copied().filter(above).collect();
        let versions = ids.iter().map(|id| self.at(*id).version).collect();
        self.drop_layers(&ids);
        versions
    }

    /// Makes `base` the base: what led to it is in the views now.
    pub fn rebase(&mut self, base: LayerId) {
        let mut below = self.path_from_base(base);
        below.pop();
        below.push(self.base);
        let old_number = self.base_number();
        let number = self.at(base).number;
        let changes = self.at(base).changes.clone();
        self.unindex(base, &changes);
        self.drop_layers(&below);
        let layer = self.layers.get_mut(&base).expect("the new base is live");
        let Step::Block { block, .. } = std::mem::replace(&mut layer.step, Step::Base) else {
            unreachable!("the base is a block")
        };
        layer.changes = Arc::default();
        self.forget_transactions(base, &block);
        self.base = base;
        for _ in old_number..number {
            self.canonical.pop_front();
        }
    }

    fn drop_layers(&mut self, ids: &[LayerId]) {
        for id in ids {
            let layer = self.layers.remove(id).expect("it is live");
            self.unindex(*id, &layer.changes);
            match &layer.step {
                Step::Block { block, .. } => {
                    self.blocks.remove(&layer.hash);
                    self.forget_transactions(*id, block);
                }
                Step::Patch { id: patch } => drop(self.patches.remove(patch)),
                Step::Base => drop(self.blocks.remove(&layer.hash)),
            }
        }
    }

    fn forget_transactions(&mut self, id: LayerId, block: &StoredBlock) {
        for transaction in &block.block.body.transactions {
            let hash = transaction.tx_hash();
            if let Some(places) = self.transactions.get_mut(hash) {
                places.retain(|(layer, _)| *layer != id);
                if places.is_empty() {
                    self.transactions.remove(hash);
                }
            }
        }
    }

    fn unindex(&mut self, id: LayerId, changes: &FlatChanges) {
        for (key, ..) in &changes.accounts {
            let entries = self.accounts.get_mut(key).expect("indexed");
            remove_layer(entries, id);
            if entries.is_empty() {
                self.accounts.remove(key);
            }
        }
        for (key, ..) in &changes.slots {
            let entries = self.slots.get_mut(key).expect("indexed");
            remove_layer(entries, id);
            if entries.is_empty() {
                self.slots.remove(key);
            }
        }
        for hash in changes.codes.keys() {
            let entry = self.codes.get_mut(hash).expect("indexed");
            entry.1 -= 1;
            if entry.1 == 0 {
                self.codes.remove(hash);
            }
        }
    }
}

/// Takes a layer's entry out. Layers get ascending ids, so entries are in their order; the oldest
/// goes first mostly, and a deque lets it go without moving the rest.
fn remove_layer<T>(entries: &mut VecDeque<Entry<T>>, id: LayerId) {
    if let Ok(at) = entries.binary_search_by_key(&id, |entry| entry.layer) {
        entries.remove(at);
    }
}

/// An estimate of the bytes that a layer takes, its share of the index included.
fn weight(step: &Step, changes: &FlatChanges) -> usize {
    let block = match step {
        Step::Block { block, .. } => {
            let transactions = &block.block.body.transactions;
            let logs = block.receipts.iter().flat_map(|receipt| &receipt.logs);
            1_000
                + transactions.iter().map(|t| 700 + t.input().len()).sum::<usize>()
                + logs.map(|log| 200 + log.data.data.len()).sum::<usize>()
        }
        _ => 200,
    };
    let codes: usize = changes.codes.values().map(|code| code.len()).sum();
    block + changes.accounts.len() * 500 + changes.slots.len() * 300 + codes
}
