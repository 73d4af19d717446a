//! Flat state as it is after changes that are nowhere stored: for proofs of a version that was
//! computed on the side, such as an old block's.

use super::{AccountUpdate, Leaves, SlotUpdate, Unreadable};
use alloy_primitives::{B256, U256};
use alloy_trie::TrieAccount;
use std::collections::BTreeMap;

/// `under` with the updates of one commit on top.
pub struct Patched<'a, L> {
    under: &'a L,
    updates: &'a [AccountUpdate],
    storage_roots: &'a [B256],
}

impl<'a, L: Leaves> Patched<'a, L> {
    /// The updates as they were committed, and the storage roots that came of it.
    ///
    /// # Panics
    /// If there is not one root for each update.
    pub fn new(under: &'a L, updates: &'a [AccountUpdate], storage_roots: &'a [B256]) -> Self {
        assert_eq!(updates.len(), storage_roots.len(), "one storage root for each update");
        Self { under, updates, storage_roots }
    }
}

/// The stretch of sorted `items` under `prefix`.
fn under<'a, T>(items: &'a [T], prefix: &[u8], key: impl Fn(&T) -> &B256) -> &'a [T] {
    let start = items.partition_point(|item| super::node::compare(key(item), prefix).is_lt());
    let rest = &items[start..];
    &rest[..rest.partition_point(|item| super::node::compare(key(item), prefix).is_eq())]
}

/// `base` (which is complete up to `limit` and as many more as `changes` may delete) changed.
fn merge<V>(
    base: Vec<(B256, V)>,
    changes: impl Iterator<Item = (B256, Option<V>)>,
    limit: usize,
) -> Vec<(B256, V)> {
    let mut merged: BTreeMap<B256, V> = base.into_iter().collect();
    for (key, value) in changes {
        match value {
            Some(value) => merged.insert(key, value),
            None => merged.remove(&key),
        };
    }
    merged.into_iter().take(limit).collect()
}

impl<L: Leaves> Leaves for Patched<'_, L> {
    fn accounts(
        &self,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, TrieAccount)>, Unreadable> {
        let updates = under(self.updates, prefix, |update| &update.key);
        let start = self.updates.partition_point(|u| super::node::compare(&u.key, prefix).is_lt());
        let base = self.under.accounts(prefix, limit + updates.len())?;
        let changes = updates.iter().zip(&self.storage_roots[start..]).map(|(update, root)| {
            let account = update.account.as_ref().map(|account| TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: *root,
                code_hash: account.code_hash,
            });
            (update.key, account)
        });
        Ok(merge(base, changes, limit))
    }

    fn slots(
        &self,
        owner: B256,
        prefix: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, U256)>, Unreadable> {
        let Ok(at) = self.updates.binary_search_by(|update| update.key.cmp(&owner)) else {
            return self.under.slots(owner, prefix, limit);
        };
        let update = &self.updates[at];
        let slots = under(&update.slots, prefix, |slot: &SlotUpdate| &slot.key);
        let base = if update.wiped || update.account.is_none() {
            Vec::new()
        } else {
            self.under.slots(owner, prefix, limit + slots.len())?
        };
        let changes = slots.iter().filter(|_| update.account.is_some());
        let changes = changes.map(|s| (s.key, (!s.value.is_zero()).then_some(s.value)));
        Ok(merge(base, changes, limit))
    }

    fn node(&self, owner: Option<B256>, path: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        self.under.node(owner, path)
    }
}
