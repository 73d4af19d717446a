//! The state root after each transaction of a block, which receipts held before Byzantium.

use crate::commit::{CommitError, ParentState, commit};
use crate::ledger::StoredBlock;
use crate::shared::{Shared, unreadable};
use alloy_primitives::{Address, B256, Bytes, U256};
use landfall_types::{Account, Change, StateChanges, StateError, StateReader};
use std::sync::Arc;

/// Executes the block again and roots the state after each transaction. `None` if the trie no
/// longer holds the parent's version: only the newest part of a chain has one.
pub(crate) fn post_states(
    shared: &Arc<Shared>,
    stored: &StoredBlock,
) -> Result<Option<Vec<B256>>, StateError> {
    let block = &stored.block;
    let found = {
        let tree = shared.tree.read();
        let parent = tree.block_layer(&block.parent());
        parent.map(|id| (shared.state_in(&tree, id), tree.at(id).version))
    };
    let Some((view, version)) = found.filter(|(view, _)| !view.patched) else { return Ok(None) };
    let parent = ParentState::new(&view);
    let mut so_far = StateChanges::default();
    let mut roots = Vec::with_capacity(block.body.transactions.len());
    for (transaction, sender) in block.body.transactions.iter().zip(&stored.senders) {
        let state = After { parent: &parent, changes: &so_far };
        let done = landfall_evm::execute_transaction(
            &shared.spec,
            &block.header,
            transaction,
            *sender,
            &state,
        )?;
        let (_, changes) = done.map_err(unreadable)?;
        append(&mut so_far, changes);
        let mut trie = shared.trie.lock();
        if !trie.holds(&version) {
            return Ok(None);
        }
        let committed = commit(&mut trie, &parent, &version, &so_far, 1);
        let (after, _) = committed.map_err(|error| match error {
            CommitError::State(error) => error,
            CommitError::Trie(error) => unreadable(error),
        })?;
        roots.push(after.root);
        trie.abandon(after);
    }
    Ok(Some(roots))
}

/// The parent's state under the changes of the transactions so far.
struct After<'a> {
    parent: &'a ParentState<'a>,
    changes: &'a StateChanges,
}

impl StateReader for After<'_> {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        match self.changes.accounts.get(address) {
            Some(change) => Ok(change.account.after),
            None => self.parent.account(address),
        }
    }

    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError> {
        let change = self.changes.accounts.get(address);
        match change.map(|change| (change.storage.get(&slot), change.wiped)) {
            Some((Some(value), _)) => Ok(value.after),
            Some((None, true)) => Ok(U256::ZERO),
            _ => self.parent.storage(address, slot),
        }
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        match self.changes.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.parent.code(hash),
        }
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        self.parent.block_hash(number)
    }

    fn has_orphaned_storage(&self, address: &Address) -> Result<bool, StateError> {
        match self.changes.accounts.get(address) {
            Some(_) => Ok(false),
            None => self.parent.has_orphaned_storage(address),
        }
    }
}

/// Adds what the next transaction changed: values before are the first's, after the last's.
fn append(so_far: &mut StateChanges, next: StateChanges) {
    so_far.codes.extend(next.codes);
    for (address, later) in next.accounts {
        let Some(known) = so_far.accounts.get_mut(&address) else {
            so_far.accounts.insert(address, later);
            continue;
        };
        known.account.after = later.account.after;
        if later.wiped {
            known.wiped = true;
            for value in known.storage.values_mut() {
                value.after = U256::ZERO;
            }
        }
        for (slot, Change { before, after }) in later.storage {
            known.storage.entry(slot).or_insert(Change { before, after }).after = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::AccountChange;

    fn changes(after: u64, wiped: bool, slots: &[(u64, u64, u64)]) -> StateChanges {
        let account = |nonce| Some(Account { nonce, ..Account::default() });
        let storage = slots.iter().map(|(slot, before, after)| {
            (U256::from(*slot), Change { before: U256::from(*before), after: U256::from(*after) })
        });
        let change = AccountChange {
            account: Change { before: account(after - 1), after: account(after) },
            wiped,
            storage: storage.collect(),
        };
        StateChanges { accounts: [(Address::ZERO, change)].into(), ..StateChanges::default() }
    }

    #[test]
    fn changes_of_transactions_add_up_from_the_first_value_to_the_last() {
        let mut all = changes(1, false, &[(1, 5, 6), (2, 0, 7)]);
        append(&mut all, changes(2, false, &[(1, 6, 8), (3, 0, 9)]));
        let sum = &all.accounts[&Address::ZERO];
        assert_eq!(sum.account.before.unwrap().nonce, 0);
        assert_eq!(sum.account.after.unwrap().nonce, 2);
        let slots: Vec<_> = sum.storage.values().map(|v| (v.before.to(), v.after.to())).collect();
        assert_eq!(slots, [(5_u64, 8_u64), (0, 7), (0, 9)]);
        append(&mut all, changes(3, true, &[(2, 0, 1)]));
        let sum = &all.accounts[&Address::ZERO];
        let slots: Vec<_> = sum.storage.values().map(|v| v.after.to::<u64>()).collect();
        assert_eq!(slots, [0_u64, 1, 0]);
        assert!(sum.wiped);
    }
}
