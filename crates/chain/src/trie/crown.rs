//! The stored top of the tries, and forgetting what can be read again.
//!
//! Which nodes have a record is a property of their content (at least [`CROWN_LEAVES`] leaves
//! below), so a parent knows it of every child, stale records are never met by the loader, and
//! nothing need be deleted. Writing the records is the caller's work.

use super::StateTrie;
use super::arena::{Node, Shard};
use super::node::{CROWN_LEAVES, Child, Kind, Path, UNLOADED, encode_record};
use super::{CrownRecord, Version};
use alloy_primitives::B256;

/// What a pass of eviction may drop.
struct Rule {
    flushed: u32,
    oldest: u32,
    below_crown: bool,
}

impl Rule {
    fn allows(&self, node: &Node) -> bool {
        (node.is_clean() || node.born <= self.flushed)
            && node.born <= self.oldest
            && (!self.below_crown || node.count < CROWN_LEAVES)
    }
}

/// Versions that a subtree must not have changed for, and whether only what is below the crown
/// goes: one pass after the other, until enough is free.
const PASSES: [(u32, bool); 5] = [(4096, true), (512, true), (64, true), (0, true), (0, false)];

impl StateTrie {
    /// The records that changed since the last flush, to be stored with the flat state of `base`
    /// in one atomic batch; then call [`StateTrie::flushed`]. Keys are (owner, path of the slot).
    ///
    /// # Panics
    /// If `base` is not the finalised version: versions beside it would then find records that
    /// are not theirs.
    pub fn crown(&self, base: &Version) -> Vec<CrownRecord> {
        assert_eq!(Some(base.id), self.base(), "only the finalised version is flushed");
        let layer = &self.layers[&base.id];
        let mut records = Vec::new();
        if base.id > self.flushed && layer.slots.iter().any(|slot| slot.kind != Kind::Empty) {
            let counts = std::array::from_fn(|n| self.shards[n].count(&layer.slots[n]));
            let record = encode_record(&[], &[], &layer.slots, &counts);
            records.push(CrownRecord { owner: None, path: Vec::new(), record });
        }
        for (nibble, (shard, slot)) in (0..).zip(self.shards.iter().zip(&layer.slots)) {
            let mut path = Path::EMPTY.child(nibble);
            shard.changed_records(slot, &mut path, None, self.flushed, &mut records);
        }
        records
    }

    /// The records of [`StateTrie::crown`] of this version are durable, with its flat state.
    pub fn flushed(&mut self, version: &Version) {
        self.flushed = self.flushed.max(version.id);
    }

    /// If the live nodes take more than `budget` bytes, drops subtrees that are stored, the
    /// longest unchanged first, until they take three quarters of it or nothing more can go. They
    /// are loaded again when needed. Walks what is in memory up to five times, so the last
    /// quarter keeps it rare. Room that is not needed goes back to the allocator.
    pub fn evict(&mut self, budget: usize) {
        if self.live_bytes() > budget {
            self.make_room(budget);
            self.shards.iter_mut().for_each(Shard::give_back);
        }
    }

    fn make_room(&mut self, budget: usize) {
        let Some(base) = self.base() else { return };
        for (age, below_crown) in PASSES {
            let oldest = base.saturating_sub(age);
            if oldest == 0 {
                continue;
            }
            let rule = Rule { flushed: self.flushed, oldest, below_crown };
            for _ in 0..16 {
                if self.live_bytes() <= budget - budget / 4 {
                    return;
                }
                self.evict_shard(self.next_evicted, base, &rule);
                self.next_evicted = (self.next_evicted + 1) % 16;
            }
        }
    }

    /// Evicts in one shard, and makes every version forget what is gone: the base shares its
    /// nodes with newer copies of their parents.
    fn evict_shard(&mut self, nibble: usize, base: u32, rule: &Rule) {
        let shard = &mut self.shards[nibble];
        let slot = &mut self.layers.get_mut(&base).expect("the base has a layer").slots[nibble];
        if !slot.is_loaded() {
            return;
        }
        if rule.allows(shard.node(slot.id)) {
            let id = slot.id;
            slot.id = shard.unloaded(id);
            shard.release_tree(id);
        } else {
            shard.evict(slot.id, rule);
        }
        for (_, layer) in self.layers.range_mut(base + 1..) {
            let slot = &mut layer.slots[nibble];
            if slot.is_loaded() {
                if !shard.node(slot.id).is_live() {
                    slot.id = shard.unloaded(slot.id);
                } else {
                    shard.forget_dead(slot.id, base);
                }
            }
            layer.retired[nibble].retain(|id| shard.node(*id).is_live());
        }
    }
}

impl Shard {
    /// Collects the records below a slot at `path` that are newer than `since`.
    fn changed_records(
        &self,
        slot: &Child,
        path: &mut Path,
        owner: Option<B256>,
        since: u32,
        records: &mut Vec<CrownRecord>,
    ) {
        if !slot.is_loaded() || self.node(slot.id).is_clean() || self.node(slot.id).born <= since {
            return;
        }
        if slot.kind == Kind::Leaf {
            let Some(owner) = self.owner(slot.id) else { return };
            let trie = Child { kind: Kind::Branch, ..*slot };
            return self.changed_records(&trie, &mut { Path::EMPTY }, Some(owner), since, records);
        }
        let (extension, children) = self.expand(slot.id);
        if self.node(slot.id).count >= CROWN_LEAVES {
            let counts = children.each_ref().map(|child| self.count(child));
            let record = encode_record(path, &extension, &children, &counts);
            records.push(CrownRecord { owner, path: path.to_vec(), record });
        }
        let len = path.len();
        path.extend(&extension);
        for (nibble, child) in (0..).zip(&children) {
            path.push(nibble);
            self.changed_records(child, path, owner, since, records);
            path.pop();
        }
        path.truncate(len);
    }

    fn evict(&mut self, id: u32, rule: &Rule) {
        for place in 0..self.width(id) {
            let below = self.below(id, place);
            if below >= UNLOADED {
                continue;
            }
            if rule.allows(self.node(below)) {
                self.unload(id, place);
                self.release_tree(below);
            } else {
                self.evict(below, rule);
            }
        }
    }

    /// Unloads what is freed below the nodes that are newer than `base`; older ones hang in it.
    fn forget_dead(&mut self, id: u32, base: u32) {
        if self.node(id).born <= base {
            return;
        }
        for place in 0..self.width(id) {
            let below = self.below(id, place);
            if below >= UNLOADED {
                continue;
            }
            if self.node(below).is_live() {
                self.forget_dead(below, base);
            } else {
                self.unload(id, place);
            }
        }
    }
}
