//! A state in memory for the tests of this crate.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use landfall_types::{Account, StateChanges, StateError, StateReader};
use std::collections::BTreeMap;

#[derive(Clone, Default)]
pub(crate) struct MemoryState {
    pub(crate) accounts: BTreeMap<Address, Account>,
    pub(crate) slots: BTreeMap<(Address, U256), U256>,
    pub(crate) codes: BTreeMap<B256, Bytes>,
}

impl MemoryState {
    pub(crate) fn with_balance(mut self, address: Address, balance: U256) -> Self {
        self.accounts.entry(address).or_default().balance = balance;
        self
    }

    pub(crate) fn with_code(mut self, address: Address, code: impl Into<Bytes>) -> Self {
        let code = code.into();
        let account = self.accounts.entry(address).or_default();
        account.code_hash = keccak256(&code);
        account.nonce = 1;
        self.codes.insert(account.code_hash, code);
        self
    }

    pub(crate) fn with_slot(mut self, address: Address, key: u64, value: u64) -> Self {
        self.slots.insert((address, U256::from(key)), U256::from(value));
        self
    }

    /// Applies changes and checks that their before-values are those of this state.
    pub(crate) fn apply(&mut self, changes: &StateChanges) {
        self.codes.extend(changes.codes.iter().map(|(hash, code)| (*hash, code.clone())));
        for (address, change) in &changes.accounts {
            assert_eq!(self.accounts.get(address).copied(), change.account.before, "{address}");
            for (key, slot) in &change.storage {
                let before = self.slots.get(&(*address, *key)).copied().unwrap_or_default();
                assert_eq!(before, slot.before, "{address} slot {key}");
            }
            if change.wiped {
                self.slots.retain(|(owner, _), _| owner != address);
            }
            match change.account.after {
                Some(account) => self.accounts.insert(*address, account),
                None => self.accounts.remove(address),
            };
            for (key, slot) in &change.storage {
                self.slots.insert((*address, *key), slot.after);
            }
            self.slots.retain(|_, value| !value.is_zero());
        }
    }
}

impl StateReader for MemoryState {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        Ok(self.accounts.get(address).copied())
    }

    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError> {
        Ok(self.slots.get(&(*address, slot)).copied().unwrap_or_default())
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.codes.get(&hash).cloned().ok_or_else(|| StateError(format!("no code {hash}")))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        Ok(keccak256(number.to_be_bytes()))
    }
}
