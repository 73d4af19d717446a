//! Bringing nodes into the arena: from a crown record, or from the leaves of flat state.
//!
//! Whatever is loaded must hash to what its parent holds; nothing else is ever used.

use super::arena::Shard;
use super::node::{CROWN_LEAVES, Child, Kind, Path, UNLOADED, decode_record, nibble};
use super::source::{AsLeaf, Leaf, Value, View};
use super::{Leaves, TrieError};
use alloy_primitives::B256;
use alloy_trie::EMPTY_ROOT_HASH;

/// A rebuild holds at most this many leaves at a time per thread.
const PIECE: usize = 4096;

impl Shard {
    /// The subtree of sorted, distinct leaves whose slot is at `depth`.
    pub(super) fn build(&mut self, leaves: &[impl AsLeaf], depth: usize) -> Child {
        let (first, last) = match leaves {
            [] => return Child::EMPTY,
            [leaf] => return leaf.leaf().child(depth),
            [first, .., last] => (first.key(), last.key()),
        };
        let mut extension = Path::EMPTY;
        let mut at = depth;
        while nibble(first, at) == nibble(last, at) {
            extension.push(nibble(first, at));
            at += 1;
        }
        let mut children = [Child::EMPTY; 16];
        for group in leaves.chunk_by(|a, b| nibble(a.key(), at) == nibble(b.key(), at)) {
            children[usize::from(nibble(group[0].key(), at))] = self.build(group, at + 1);
        }
        self.branch(&extension, &children)
    }

    /// Loads the branch in `slot` at `path`.
    pub(super) fn load<L: Leaves>(
        &mut self,
        path: &[u8],
        slot: &Child,
        view: &View<'_, L>,
    ) -> Result<u32, TrieError> {
        if slot.is_loaded() {
            return Ok(slot.id);
        }
        let loaded = if self.count(slot) >= CROWN_LEAVES {
            let record = view.record(path)?;
            let record = record.as_deref().and_then(|record| decode_record(path, record));
            let (extension, children) =
                record.ok_or_else(|| view.damaged(path, "a crown record is missing or torn"))?;
            self.loading(|shard| shard.branch(&extension, &children))
        } else {
            let leaves = view.scan_small(path)?;
            self.loading(|shard| shard.build(&leaves, path.len()))
        };
        if loaded.same_node(slot) {
            return Ok(loaded.id);
        }
        self.drop_loaded(&loaded);
        Err(view.damaged(path, "a subtree has not the hash its parent holds"))
    }

    /// Loads the root of a storage trie. Whether it has a crown record is not known beforehand,
    /// and one that is stored may be of a time when the trie was larger.
    pub(super) fn load_storage<L: Leaves>(
        &mut self,
        root: B256,
        view: &View<'_, L>,
    ) -> Result<Child, TrieError> {
        let record = view.record(&[])?;
        if let Some((extension, children)) = record.and_then(|record| decode_record(&[], &record)) {
            let loaded = self.loading(|shard| shard.branch(&extension, &children));
            if loaded.root_hash() == root {
                return Ok(loaded);
            }
            self.drop_loaded(&loaded);
        }
        let leaves = view.scan_small(&[])?;
        let loaded = self.loading(|shard| shard.build(&leaves, 0));
        if loaded.root_hash() == root {
            return Ok(loaded);
        }
        self.drop_loaded(&loaded);
        Err(view.damaged(&[], "a storage trie has not the root its account holds"))
    }

    fn drop_loaded(&mut self, loaded: &Child) {
        if loaded.kind == Kind::Branch {
            self.release_tree(loaded.id);
        }
    }

    /// Builds all that is under `path` from flat state, piece by piece.
    pub(super) fn rebuild<L: Leaves>(
        &mut self,
        path: &Path,
        view: &View<'_, L>,
    ) -> Result<Child, TrieError> {
        let mut leaves = view.scan(path, PIECE)?;
        if leaves.len() < PIECE {
            for leaf in &mut leaves {
                leaf.id = self.rebuild_storage(leaf, view)?;
            }
            return Ok(self.build(&leaves, path.len()));
        }
        drop(leaves);
        let mut children = [Child::EMPTY; 16];
        for (nibble, child) in (0..).zip(&mut children) {
            *child = self.rebuild(&path.child(nibble), view)?;
        }
        let mut occupied = (0..).zip(&children).filter(|(_, child)| child.kind != Kind::Empty);
        match (occupied.next(), occupied.next()) {
            (Some((nibble, child)), None) if child.kind == Kind::Branch => {
                let id = child.id;
                Ok(self.lengthen(id, &[nibble]))
            }
            (Some(_), Some(_)) => Ok(self.branch(&[], &children)),
            _ => Err(view.damaged(path, "flat state answered two scans differently")),
        }
    }

    /// Rebuilds and checks the storage of an account; small tries are not kept in memory.
    fn rebuild_storage<L: Leaves>(
        &mut self,
        leaf: &Leaf,
        view: &View<'_, L>,
    ) -> Result<u32, TrieError> {
        let Value::Account(account) = leaf.value else { return Ok(UNLOADED) };
        if account.storage_root == EMPTY_ROOT_HASH {
            return Ok(UNLOADED);
        }
        let storage = View { leaves: view.leaves, owner: Some(leaf.key) };
        let root = self.rebuild(&Path::EMPTY, &storage)?;
        if root.root_hash() != account.storage_root {
            return Err(storage.damaged(&[], "the slots have not the storage root of the account"));
        }
        if root.kind == Kind::Branch && self.count(&root) < CROWN_LEAVES {
            self.release_tree(root.id);
            return Ok(UNLOADED);
        }
        self.own(&root, leaf.key);
        Ok(root.id)
    }

    /// Puts nibbles before the extension of a node.
    pub(super) fn lengthen(&mut self, id: u32, before: &[u8]) -> Child {
        let (extension, children) = self.expand(id);
        self.retire(id);
        let mut longer = Path::from(before);
        longer.extend(&extension);
        self.branch(&longer, &children)
    }
}
