//! Merkle proofs for a version, as `eth_getProof` gives them: nodes from the root down, inline
//! nodes only inside their parents. Reads through nodes that are not in memory and keeps none.

use super::arena::Shard;
use super::node::{Child, Kind, Path, branch_child, branch_node, extension_node, nibble};
use super::source::{Leaf, Value, View};
use super::{Leaves, StateTrie, TrieError, Version};
use alloy_primitives::{B256, Bytes, U256};
use alloy_trie::{EMPTY_ROOT_HASH, TrieAccount};

/// Proof of an account, or of its absence, and of slots of its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The account, if there is one.
    pub account: Option<TrieAccount>,
    /// Nodes of the account trie, from the root down.
    pub nodes: Vec<Bytes>,
    /// The slots that were asked for, in that order.
    pub slots: Vec<SlotProof>,
}

/// Proof of one storage slot, or of its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotProof {
    /// keccak of the slot.
    pub key: B256,
    /// Its value, zero if absent.
    pub value: U256,
    /// Nodes of the storage trie, from the root down; none if it is empty.
    pub nodes: Vec<Bytes>,
}

/// The topmost node of a trie.
pub(super) enum Top {
    Empty,
    Leaf(Leaf),
    Branch(Path, Box<[Child; 16]>),
}

impl Top {
    pub(super) fn root_hash(&self) -> B256 {
        match self {
            Top::Empty => EMPTY_ROOT_HASH,
            Top::Leaf(leaf) => leaf.child(0).root_hash(),
            Top::Branch(extension, children) => branch_child(extension, children, 0).root_hash(),
        }
    }
}

/// Reads nodes of a shard; what is not there is loaded into an arena of its own.
pub(super) struct Reader<'a> {
    shard: &'a Shard,
    scratch: Shard,
    /// The walk has left the shard: ids are of `scratch` from here down.
    left: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(shard: &'a Shard) -> Self {
        Self { shard, scratch: Shard::new(), left: false }
    }

    pub(super) fn read<L: Leaves>(
        &mut self,
        path: &[u8],
        slot: &Child,
        view: &View<'_, L>,
    ) -> Result<(Path, [Child; 16]), TrieError> {
        if slot.is_loaded() {
            let arena = if self.left { &self.scratch } else { self.shard };
            return Ok(arena.expand(slot.id));
        }
        let id = self.scratch.load(path, slot, view)?;
        self.left = true;
        Ok(self.scratch.expand(id))
    }

    /// The top of a storage trie with this root; `id` is its node, if the shard holds it.
    fn storage<L: Leaves>(
        &mut self,
        root: B256,
        id: u32,
        view: &View<'_, L>,
    ) -> Result<Top, TrieError> {
        if root == EMPTY_ROOT_HASH {
            return Ok(Top::Empty);
        }
        let mut slot = Child { reference: root.0, id, kind: Kind::Branch, inline: false };
        if !slot.is_loaded() {
            slot = self.scratch.load_storage(root, view)?;
            self.left = true;
        }
        if slot.kind == Kind::Leaf {
            return Ok(Top::Leaf(view.only_leaf(&Path::EMPTY, &slot, 0, |_| false)?));
        }
        let (extension, children) = self.read(&[], &slot, view)?;
        Ok(Top::Branch(extension, Box::new(children)))
    }

    /// Walks down to `key`, collecting the nodes on the way.
    fn walk<L: Leaves>(
        &mut self,
        top: Top,
        key: &B256,
        view: &View<'_, L>,
    ) -> Result<(Option<Leaf>, Vec<Bytes>), TrieError> {
        let mut nodes = Vec::new();
        let (mut extension, mut children) = match top {
            Top::Empty => return Ok((None, nodes)),
            Top::Leaf(leaf) => {
                nodes.push(leaf.rlp(0).into());
                return Ok(((leaf.key == *key).then_some(leaf), nodes));
            }
            Top::Branch(extension, children) => (extension, *children),
        };
        let mut path = Path::EMPTY;
        loop {
            if !extension.is_empty() {
                let below = branch_child(&[], &children, 0);
                list_node(&mut nodes, extension_node(&extension, &below).rlp());
            }
            let at = path.len();
            if extension.iter().enumerate().any(|(i, n)| nibble(key, at + i) != *n) {
                return Ok((None, nodes));
            }
            list_node(&mut nodes, branch_node(&children).rlp());
            path.extend(&extension);
            path.push(nibble(key, path.len()));
            let child = children[usize::from(path[path.len() - 1])];
            match child.kind {
                Kind::Empty => return Ok((None, nodes)),
                Kind::Leaf => {
                    let leaf = view.only_leaf(&path, &child, 0, |_| false)?;
                    list_node(&mut nodes, &leaf.rlp(path.len()));
                    return Ok(((leaf.key == *key).then_some(leaf), nodes));
                }
                Kind::Branch => (extension, children) = self.read(&path, &child, view)?,
            }
        }
    }
}

/// A node is listed if it stands for itself: the root, or one referred to by its hash.
fn list_node(nodes: &mut Vec<Bytes>, rlp: &[u8]) {
    if nodes.is_empty() || rlp.len() >= 32 {
        nodes.push(Bytes::copy_from_slice(rlp));
    }
}

impl StateTrie {
    /// Proves an account and slots of it (hashed keys) in a version. `leaves` must give the state
    /// *of* that version.
    ///
    /// # Errors
    /// If flat state or the crown cannot be read, or is not of this version.
    ///
    /// # Panics
    /// If the version has been dropped.
    pub fn prove<L: Leaves>(
        &self,
        version: &Version,
        account: B256,
        slots: &[B256],
        leaves: &L,
    ) -> Result<Proof, TrieError> {
        let layer = &self.layers[&version.id];
        let view = View { leaves, owner: None };
        let top =
            self.top(&layer.slots, &view, |path, slot| view.only_leaf(path, slot, 0, |_| false))?;
        let shard = &self.shards[usize::from(nibble(&account, 0))];
        let mut reader = Reader::new(shard);
        // The top may be of another shard, but then it holds no node that leads to this account.
        let (leaf, nodes) = reader.walk(top, &account, &view)?;
        let found = leaf.and_then(|leaf| match leaf.value {
            Value::Account(account) => Some((account, leaf.id)),
            Value::Slot(_) => None,
        });
        let view = View { leaves, owner: Some(account) };
        let mut proofs = Vec::with_capacity(slots.len());
        for key in slots {
            let mut reader = Reader::new(shard);
            let top = match &found {
                Some((account, id)) => reader.storage(account.storage_root, *id, &view)?,
                None => Top::Empty,
            };
            let (leaf, nodes) = reader.walk(top, key, &view)?;
            let value = match leaf.map(|leaf| leaf.value) {
                Some(Value::Slot(value)) => value,
                _ => U256::ZERO,
            };
            proofs.push(SlotProof { key: *key, value, nodes });
        }
        Ok(Proof { account: found.map(|(account, _)| account), nodes, slots: proofs })
    }
}
