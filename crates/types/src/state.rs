//! Accounts, and how a block changes them.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256};
use std::collections::BTreeMap;

/// An account without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Transactions sent, or contracts created.
    pub nonce: u64,
    /// In wei.
    pub balance: U256,
    /// Keccak of the code; [`KECCAK256_EMPTY`] without code.
    pub code_hash: B256,
}

impl Default for Account {
    fn default() -> Self {
        Self { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
    }
}

impl Account {
    /// No nonce, no balance, no code (EIP-161).
    pub fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK256_EMPTY
    }
}

/// A value before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<T> {
    /// The value before.
    pub before: T,
    /// The value after.
    pub after: T,
}

/// One storage slot before and after; zero is absent.
pub type SlotChange = Change<U256>;

/// What happened to one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChange {
    /// The account before and after; `None` is absent.
    pub account: Change<Option<Account>>,
    /// The storage was emptied before the writes in `storage` (SELFDESTRUCT before EIP-6780).
    /// Slots that existed and are not in `storage` are gone too.
    pub wiped: bool,
    /// Slots by key.
    pub storage: BTreeMap<U256, SlotChange>,
}

/// Everything that one block changed. No entry stands for a value that stayed the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// Accounts by address.
    pub accounts: BTreeMap<Address, AccountChange>,
    /// New code by its hash.
    pub codes: BTreeMap<B256, Bytes>,
}

/// The state could not be read: a damaged or failing store. Never a fault of the block.
#[derive(Clone, Debug, thiserror::Error)]
#[error("state unreadable: {0}")]
pub struct StateError(pub String);

/// The state after some block, as execution reads it.
pub trait StateReader {
    /// The account at an address, if it exists.
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError>;
    /// A storage slot; zero if absent.
    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError>;
    /// Code by its hash.
    fn code(&self, hash: B256) -> Result<Bytes, StateError>;
    /// The hash of an ancestor by its number (BLOCKHASH); zero if there is none.
    fn block_hash(&self, number: u64) -> Result<B256, StateError>;
    /// Whether an account without nonce and code has storage all the same, which only a genesis
    /// file and the oldest forks can make. No contract is created over it (EIP-7610).
    fn has_orphaned_storage(&self, _address: &Address) -> Result<bool, StateError> {
        Ok(false)
    }
}
