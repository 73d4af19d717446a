//! From a block's change set to the change of flat state and the new version of the trie.

use crate::flat::{FlatAccount, account_key, joined, slot_key};
use crate::shared::StateView;
use crate::tree::FlatChanges;
use crate::trie::{AccountFields, AccountUpdate, SlotUpdate, StateTrie, TrieError, Version};
use alloy_primitives::map::HashMap;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_trie::EMPTY_ROOT_HASH;
use landfall_types::{Account, AccountChange, StateChanges, StateError, StateReader};
use std::cell::RefCell;

/// Why a change set could not be committed: never the block's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Trie(#[from] TrieError),
}

/// The state of a parent, remembering the accounts that execution read: the commit needs their
/// keys and storage roots again.
pub(crate) struct ParentState<'a> {
    view: &'a StateView,
    read: RefCell<HashMap<Address, (B256, Option<FlatAccount>)>>,
}

impl<'a> ParentState<'a> {
    pub fn new(view: &'a StateView) -> Self {
        Self { view, read: RefCell::default() }
    }

    fn flat(&self, address: &Address) -> Result<(B256, Option<FlatAccount>), StateError> {
        if let Some(found) = self.read.borrow().get(address) {
            return Ok(*found);
        }
        let key = account_key(address);
        let found = (key, self.view.flat_account(&key)?);
        self.read.borrow_mut().insert(*address, found);
        Ok(found)
    }
}

impl StateReader for ParentState<'_> {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        Ok(self.flat(address)?.1.map(|flat| flat.account))
    }

    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError> {
        let (owner, account) = self.flat(address)?;
        if account.is_none_or(|account| account.storage_root == EMPTY_ROOT_HASH) {
            return Ok(U256::ZERO);
        }
        self.view.flat_slot(&joined(&owner, &slot_key(slot)))
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.view.code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.view.block_hash(number)
    }

    fn has_orphaned_storage(&self, address: &Address) -> Result<bool, StateError> {
        Ok(self.flat(address)?.1.is_some_and(|account| account.storage_root != EMPTY_ROOT_HASH))
    }
}

/// Commits `changes` on top of `parent`.
pub(crate) fn commit(
    trie: &mut StateTrie,
    parent: &ParentState<'_>,
    parent_version: &Version,
    changes: &StateChanges,
    threads: usize,
) -> Result<(Version, FlatChanges), CommitError> {
    let mut updates = Vec::with_capacity(changes.accounts.len());
    for (address, change) in &changes.accounts {
        updates.push(account_update(parent, address, change)?);
    }
    updates.sort_unstable_by_key(|update| update.0.key);
    let (updates, mut rest): (Vec<_>, Vec<_>) =
        updates.into_iter().map(|(update, before, slots)| (update, (before, slots))).unzip();
    let commit = trie.commit(parent_version, &updates, threads, parent.view)?;
    let mut flat = FlatChanges {
        addresses: changes.accounts.keys().copied().collect(),
        codes: changes.codes.clone(),
        ..FlatChanges::default()
    };
    flat.accounts.reserve(updates.len());
    for ((update, (before, slots)), root) in
        updates.iter().zip(&mut rest).zip(&commit.storage_roots)
    {
        let after = update.account.map(|AccountFields { nonce, balance, code_hash }| FlatAccount {
            account: Account { nonce, balance, code_hash },
            storage_root: *root,
        });
        if *before != after {
            flat.accounts.push((update.key, *before, after));
        }
        flat.slots.append(slots);
    }
    Ok((commit.version, flat))
}

type SlotChanges = Vec<([u8; 64], U256, U256)>;

fn account_update(
    parent: &ParentState<'_>,
    address: &Address,
    change: &AccountChange,
) -> Result<(AccountUpdate, Option<FlatAccount>, SlotChanges), StateError> {
    let (key, before) = parent.flat(address)?;
    if before.map(|flat| flat.account) != change.account.before {
        return Err(StateError(format!(
            "the views hold another state of {address} than the log; run `landfall db rebuild`"
        )));
    }
    let wiped = change.wiped || change.account.after.is_none();
    let mut slots: Vec<_> = change
        .storage
        .iter()
        .map(|(slot, value)| (slot_key(*slot), value.before, value.after))
        .collect();
    slots.sort_unstable();
    let updates = slots
        .iter()
        .filter(|(_, before, after)| !wiped && before != after || wiped && !after.is_zero())
        .map(|(key, before, value)| SlotUpdate {
            key: *key,
            existed: !wiped && !before.is_zero(),
            value: *value,
        })
        .collect();
    let storage_root_before = before.map_or(EMPTY_ROOT_HASH, |flat| flat.storage_root);
    let mut flat: SlotChanges = Vec::with_capacity(slots.len());
    if wiped && storage_root_before != EMPTY_ROOT_HASH {
        // Slots that execution did not name are gone too, and history must know them.
        for (slot, value) in parent.view.scan_slots(key, &[], usize::MAX)? {
            if slots.binary_search_by(|(named, ..)| named.cmp(&slot)).is_err() {
                flat.push((joined(&key, &slot), value, U256::ZERO));
            }
        }
    }
    let named = slots.iter().filter(|(_, before, after)| before != after);
    flat.extend(named.map(|(slot, before, after)| (joined(&key, slot), *before, *after)));
    flat.sort_unstable();
    let account = change.account.after.map(|Account { nonce, balance, code_hash }| AccountFields {
        nonce,
        balance,
        code_hash,
    });
    let update = AccountUpdate {
        key,
        existed: before.is_some(),
        account,
        storage_root_before,
        wiped,
        slots: updates,
    };
    Ok((update, before, flat))
}
