//! Applying a version's changes to one trie of a shard.
//!
//! Every touched node is replaced and hashed once. The changes are sorted by key, distinct, and
//! none of them deletes what is not there.

use super::arena::Shard;
use super::node::{Child, Kind, Path, UNLOADED, compare, nibble};
use super::source::{AsLeaf, Leaf, Value, View};
use super::{AccountUpdate, Leaves, SlotUpdate, TrieError};
use alloy_primitives::B256;
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};
use std::cmp::Ordering;

/// A change of one key.
pub(super) trait Change: AsLeaf {
    fn existed(&self) -> bool;
    fn deletes(&self) -> bool;
}

impl AsLeaf for SlotUpdate {
    fn leaf(&self) -> Leaf {
        Leaf { key: self.key, value: Value::Slot(self.value), id: UNLOADED }
    }
    fn key(&self) -> &B256 {
        &self.key
    }
}

impl Change for SlotUpdate {
    fn existed(&self) -> bool {
        self.existed
    }
    fn deletes(&self) -> bool {
        self.value.is_zero()
    }
}

/// An account whose storage is done already.
pub(super) struct AccountChange<'a> {
    pub(super) update: &'a AccountUpdate,
    pub(super) storage_root: B256,
    pub(super) id: u32,
}

impl AsLeaf for AccountChange<'_> {
    fn leaf(&self) -> Leaf {
        let account = self.update.account.as_ref().expect("only a kept account becomes a leaf");
        let value = TrieAccount {
            nonce: account.nonce,
            balance: account.balance,
            storage_root: self.storage_root,
            code_hash: account.code_hash,
        };
        Leaf { key: self.update.key, value: Value::Account(value), id: self.id }
    }
    fn key(&self) -> &B256 {
        &self.update.key
    }
}

impl Change for AccountChange<'_> {
    fn existed(&self) -> bool {
        self.update.existed
    }
    fn deletes(&self) -> bool {
        self.update.account.is_none()
    }
}

/// A new leaf, or one that stays but moves.
enum Placed<'a, C> {
    New(&'a C),
    Kept(Leaf),
}

impl<C: Change> AsLeaf for Placed<'_, C> {
    fn leaf(&self) -> Leaf {
        match self {
            Placed::New(change) => change.leaf(),
            Placed::Kept(leaf) => *leaf,
        }
    }
    fn key(&self) -> &B256 {
        match self {
            Placed::New(change) => change.key(),
            Placed::Kept(leaf) => &leaf.key,
        }
    }
}

/// The changes under `path`.
fn under<'a, C: Change>(changes: &'a [C], path: &[u8]) -> &'a [C] {
    let start = changes.partition_point(|c| compare(c.key(), path) == Ordering::Less);
    let rest = &changes[start..];
    &rest[..rest.partition_point(|c| compare(c.key(), path).is_eq())]
}

impl Shard {
    /// The work of one version in this shard: the storage tries, then the accounts. Gives the new
    /// slot of the shard and the storage root of each account.
    pub(super) fn commit<L: Leaves>(
        &mut self,
        root: Child,
        updates: &[AccountUpdate],
        leaves: &L,
    ) -> Result<(Child, Vec<B256>), TrieError> {
        let mut roots = Vec::with_capacity(updates.len());
        let mut changes = Vec::with_capacity(updates.len());
        for update in updates {
            let (storage_root, id) = self.commit_storage(&root, update, leaves)?;
            roots.push(storage_root);
            if update.existed || update.account.is_some() {
                changes.push(AccountChange { update, storage_root, id });
            }
        }
        if changes.is_empty() {
            return Ok((root, roots));
        }
        let view = View { leaves, owner: None };
        Ok((self.apply_slot(root, 1, &changes, &view)?, roots))
    }

    /// The new storage root of an account and its node.
    fn commit_storage<L: Leaves>(
        &mut self,
        root: &Child,
        update: &AccountUpdate,
        leaves: &L,
    ) -> Result<(B256, u32), TrieError> {
        let before = update.storage_root_before;
        let mut id = UNLOADED;
        if update.existed && before != EMPTY_ROOT_HASH {
            id = self.storage_node(root, &update.key);
        }
        let emptied = update.wiped || update.account.is_none();
        if emptied && id < UNLOADED {
            self.retire_tree(id);
        }
        if update.account.is_none() {
            return Ok((EMPTY_ROOT_HASH, UNLOADED));
        }
        let slots = effective_slots(update, emptied);
        if slots.is_empty() {
            return Ok(if emptied { (EMPTY_ROOT_HASH, UNLOADED) } else { (before, id) });
        }
        let view = View { leaves, owner: Some(update.key) };
        let trie = if emptied || before == EMPTY_ROOT_HASH {
            Child::EMPTY
        } else if id < UNLOADED {
            Child { reference: before.0, id, kind: Kind::Branch, inline: false }
        } else {
            self.load_storage(before, &view)?
        };
        let trie = self.apply_slot(trie, 0, &slots, &view)?;
        self.own(&trie, update.key);
        Ok((trie.root_hash(), trie.id))
    }

    /// The loaded storage root of an account that exists, if any.
    fn storage_node(&self, root: &Child, key: &B256) -> u32 {
        let (mut slot, mut depth) = (*root, 1);
        while slot.kind == Kind::Branch {
            if !slot.is_loaded() {
                return UNLOADED;
            }
            depth += self.extension(slot.id).len();
            if depth >= 64 {
                return UNLOADED;
            }
            slot = self.slot(slot.id, nibble(key, depth));
            depth += 1;
        }
        slot.id
    }

    /// Applies the changes that are all in one slot at `depth`.
    fn apply_slot<C: Change, L: Leaves>(
        &mut self,
        slot: Child,
        depth: usize,
        changes: &[C],
        view: &View<'_, L>,
    ) -> Result<Child, TrieError> {
        let path = Path::of_key(changes[0].key(), depth);
        if slot.kind == Kind::Branch {
            let id = self.load(&path, &slot, view)?;
            let (extension, mut children) = self.expand(id);
            self.retire(id);
            return self.apply_branch(&extension, &mut children, depth, changes, view);
        }
        // A leaf's key is not stored: if a change is of a key that was there, it is that leaf.
        let existed = changes.iter().filter(|change| change.existed()).count();
        if existed > usize::from(slot.kind == Kind::Leaf) {
            return Err(view.damaged(&path, "flat state holds a key that the trie does not"));
        }
        let inserts = changes.iter().filter(|change| !change.deletes());
        let mut placed: Vec<_> = inserts.map(Placed::New).collect();
        if slot.kind == Kind::Leaf && existed == 0 {
            let kept = view.only_leaf(&path, &slot, 0, |_| false)?;
            let at = placed.partition_point(|new| *new.key() < kept.key);
            if placed.get(at).is_some_and(|new| *new.key() == kept.key) {
                return Err(view.damaged(&path, "flat state misses a key that the trie holds"));
            }
            placed.insert(at, Placed::Kept(kept));
        }
        Ok(self.build(&placed, depth))
    }

    /// Applies changes to a branch in a slot at `depth`, already taken apart.
    fn apply_branch<C: Change, L: Leaves>(
        &mut self,
        extension: &[u8],
        children: &mut [Child; 16],
        depth: usize,
        changes: &[C],
        view: &View<'_, L>,
    ) -> Result<Child, TrieError> {
        let leaves_at = |change: &C| {
            let mut nibbles = extension.iter().enumerate();
            nibbles.position(|(i, n)| nibble(change.key(), depth + i) != *n)
        };
        let split = changes.iter().filter_map(leaves_at).min();
        let Some(split) = split else {
            self.apply_children(children, depth + extension.len(), changes, view)?;
            return self.close(extension, children, depth, changes, view);
        };
        if changes.iter().any(|change| change.existed() && leaves_at(change).is_some()) {
            let path = Path::of_key(changes[0].key(), depth);
            return Err(view.damaged(&path, "flat state holds a key that the trie does not"));
        }
        // All changes share the path down to the split, so those that stay below are a stretch.
        let (above, at) = (&extension[..split], extension[split]);
        let mut stem = Path::of_key(changes[0].key(), depth + split);
        stem.push(at);
        let low = under(changes, &stem);
        let below = &extension[split + 1..];
        let lower = if low.is_empty() {
            self.branch(below, children)
        } else {
            self.apply_branch(below, children, depth + split + 1, low, view)?
        };
        let mut upper = [Child::EMPTY; 16];
        upper[usize::from(at)] = lower;
        for group in changes
            .chunk_by(|a, b| nibble(a.key(), depth + split) == nibble(b.key(), depth + split))
        {
            let n = nibble(group[0].key(), depth + split);
            if n != at {
                upper[usize::from(n)] =
                    self.apply_slot(Child::EMPTY, depth + split + 1, group, view)?;
            }
        }
        self.close(above, &upper, depth, changes, view)
    }

    /// Applies changes to the slots of a branch whose own nibble is at `depth`.
    fn apply_children<C: Change, L: Leaves>(
        &mut self,
        children: &mut [Child; 16],
        depth: usize,
        changes: &[C],
        view: &View<'_, L>,
    ) -> Result<(), TrieError> {
        for group in changes.chunk_by(|a, b| nibble(a.key(), depth) == nibble(b.key(), depth)) {
            let child = &mut children[usize::from(nibble(group[0].key(), depth))];
            *child = self.apply_slot(*child, depth + 1, group, view)?;
        }
        Ok(())
    }

    /// Makes the node of `children` in a slot at `depth`: nothing, what is left alone, or a branch.
    fn close<C: Change, L: Leaves>(
        &mut self,
        extension: &[u8],
        children: &[Child; 16],
        depth: usize,
        changes: &[C],
        view: &View<'_, L>,
    ) -> Result<Child, TrieError> {
        let mut occupied = (0..).zip(children).filter(|(_, child)| child.kind != Kind::Empty);
        let Some((at, child)) = occupied.next() else { return Ok(Child::EMPTY) };
        if occupied.next().is_some() {
            return Ok(self.branch(extension, children));
        }
        let mut path = Path::of_key(changes[0].key(), depth);
        path.extend(extension);
        path.push(at);
        if child.kind == Kind::Leaf {
            return Ok(lone_leaf(&path, child, changes, view)?.child(depth));
        }
        let id = self.load(&path, child, view)?;
        Ok(self.lengthen(id, &path[depth..]))
    }
}

/// The leaf in `slot` at `path` after `changes`: one of them, or one that stays.
pub(super) fn lone_leaf<C: Change, L: Leaves>(
    path: &Path,
    slot: &Child,
    changes: &[C],
    view: &View<'_, L>,
) -> Result<Leaf, TrieError> {
    let here = under(changes, path);
    if let Some(change) = here.iter().find(|change| !change.deletes()) {
        return Ok(change.leaf());
    }
    let gone = |key: &B256| here.binary_search_by(|change| change.key().cmp(key)).is_ok();
    view.only_leaf(path, slot, here.len(), gone)
}

/// The slots that change anything.
fn effective_slots(update: &AccountUpdate, emptied: bool) -> std::borrow::Cow<'_, [SlotUpdate]> {
    let idle = |slot: &SlotUpdate| slot.value.is_zero() && (emptied || !slot.existed);
    if !emptied && !update.slots.iter().any(idle) {
        return (&update.slots).into();
    }
    let kept = update.slots.iter().filter(|slot| !idle(slot));
    kept.map(|slot| SlotUpdate { existed: slot.existed && !emptied, ..*slot }).collect()
}
