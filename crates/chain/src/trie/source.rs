//! What the trie reads from outside, for one trie: the account trie or one account's storage.

use super::node::{CROWN_LEAVES, Child, Path, UNLOADED, leaf_child, leaf_node};
use super::{Leaves, TrieError};
use alloy_primitives::{B256, U256};
use alloy_rlp::Encodable;
use alloy_trie::TrieAccount;

/// The value of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Account(TrieAccount),
    Slot(U256),
}

impl Value {
    /// Hands the value's RLP to `with`.
    pub(super) fn encoded<T>(&self, with: impl FnOnce(&[u8]) -> T) -> T {
        let mut buf = [0; 128];
        let mut rest = &mut buf[..];
        match self {
            Value::Account(account) => account.encode(&mut rest),
            Value::Slot(value) => value.encode(&mut rest),
        }
        let len = 128 - rest.len();
        with(&buf[..len])
    }
}

/// A leaf as flat state has it. `id` is the node of an account's storage root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) key: B256,
    pub(super) value: Value,
    pub(super) id: u32,
}

/// Something that becomes a leaf.
pub(super) trait AsLeaf {
    fn leaf(&self) -> Leaf;
    fn key(&self) -> &B256;
}

impl AsLeaf for Leaf {
    fn leaf(&self) -> Leaf {
        *self
    }
    fn key(&self) -> &B256 {
        &self.key
    }
}

impl Leaf {
    pub(super) fn child(&self, depth: usize) -> Child {
        self.value.encoded(|value| leaf_child(&self.key, depth, value, self.id))
    }

    pub(super) fn rlp(&self, depth: usize) -> Vec<u8> {
        self.value.encoded(|value| leaf_node(&self.key, depth, value).rlp().to_vec())
    }
}

/// Flat state seen from one trie.
pub(super) struct View<'a, L> {
    pub(super) leaves: &'a L,
    pub(super) owner: Option<B256>,
}

impl<L: Leaves> View<'_, L> {
    /// At most `limit` leaves under `path`, in key order.
    pub(super) fn scan(&self, path: &[u8], limit: usize) -> Result<Vec<Leaf>, TrieError> {
        let leaf = |key, value| Leaf { key, value, id: UNLOADED };
        let found: Vec<Leaf> = match self.owner {
            None => self
                .leaves
                .accounts(path, limit)?
                .into_iter()
                .map(|(key, account)| leaf(key, Value::Account(account)))
                .collect(),
            Some(owner) => self
                .leaves
                .slots(owner, path, limit)?
                .into_iter()
                .map(|(key, value)| leaf(key, Value::Slot(value)))
                .collect(),
        };
        let sorted = found.is_sorted_by(|a, b| a.key < b.key);
        let inside = [found.first(), found.last()]
            .into_iter()
            .flatten()
            .all(|leaf| super::node::compare(&leaf.key, path).is_eq());
        if !sorted || !inside || found.len() > limit {
            return Err(self.damaged(path, "flat state answered a scan out of order"));
        }
        Ok(found)
    }

    /// All leaves under a slot that has no crown record.
    pub(super) fn scan_small(&self, path: &[u8]) -> Result<Vec<Leaf>, TrieError> {
        let found = self.scan(path, usize::from(CROWN_LEAVES))?;
        if found.len() >= usize::from(CROWN_LEAVES) {
            return Err(self.damaged(path, "flat state holds more leaves than the trie"));
        }
        Ok(found)
    }

    /// The one leaf in `slot` at `path`, but for `except`ed keys, checked against the slot.
    pub(super) fn only_leaf(
        &self,
        path: &Path,
        slot: &Child,
        excepted: usize,
        except: impl Fn(&B256) -> bool,
    ) -> Result<Leaf, TrieError> {
        let mut found = self.scan(path, excepted + 2)?;
        found.retain(|leaf| !except(&leaf.key));
        let [leaf] = found[..] else {
            return Err(
                self.damaged(path, "flat state has not exactly one leaf where the trie has")
            );
        };
        if !leaf.child(path.len()).same_node(slot) {
            return Err(self.damaged(path, "a leaf in flat state has not the hash the trie holds"));
        }
        Ok(Leaf { id: slot.id, ..leaf })
    }

    pub(super) fn record(&self, path: &[u8]) -> Result<Option<Vec<u8>>, TrieError> {
        Ok(self.leaves.node(self.owner, path)?)
    }

    pub(super) fn damaged(&self, path: &[u8], what: &'static str) -> TrieError {
        TrieError::Damaged { owner: self.owner, path: path.to_vec(), what }
    }
}
