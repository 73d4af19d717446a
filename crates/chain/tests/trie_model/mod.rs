//! A state in plain maps, the root that alloy-trie's hash builder gives it, and random changes:
//! what the state trie is compared with.
#![allow(dead_code, reason = "each test file uses its part")]

use alloy_primitives::{B256, U256, keccak256};
use alloy_trie::{EMPTY_ROOT_HASH, HashBuilder, Nibbles, TrieAccount};
use landfall_chain::trie::{
    AccountFields, AccountUpdate, CrownRecord, Leaves, SlotUpdate, Unreadable,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Seeded random numbers (xorshift).
pub struct Rng(pub u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    pub fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

pub type Slots = Arc<BTreeMap<B256, U256>>;

/// An account with its storage, and the storage root that the hash builder gives it.
#[derive(Clone)]
pub struct Account {
    pub fields: AccountFields,
    pub slots: Slots,
    pub storage_root: B256,
}

impl Account {
    pub fn trie_account(&self) -> TrieAccount {
        TrieAccount {
            nonce: self.fields.nonce,
            balance: self.fields.balance,
            storage_root: self.storage_root,
            code_hash: self.fields.code_hash,
        }
    }
}

pub type State = BTreeMap<B256, Account>;
pub type Crown = BTreeMap<(Option<B256>, Vec<u8>), Vec<u8>>;

pub fn storage_root(slots: &BTreeMap<B256, U256>) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, value) in slots {
        builder.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(value));
    }
    builder.root()
}

pub fn state_root(state: &State) -> B256 {
    let mut builder = HashBuilder::default();
    for (key, account) in state {
        builder.add_leaf(Nibbles::unpack(key), &alloy_rlp::encode(account.trie_account()));
    }
    builder.root()
}

/// A state and a stored crown, as the trie asks for them.
pub struct Flat<'a> {
    pub state: &'a State,
    pub crown: &'a Crown,
}

/// The least and the greatest key under a path.
fn span(path: &[u8]) -> std::ops::RangeInclusive<B256> {
    let (mut low, mut high) = (B256::ZERO, B256::repeat_byte(0xff));
    for (i, nibble) in path.iter().enumerate() {
        let shift = if i % 2 == 0 { 4 } else { 0 };
        low[i / 2] |= nibble << shift;
        high[i / 2] = high[i / 2] & !(15 << shift) | nibble << shift;
    }
    low..=high
}

impl Leaves for Flat<'_> {
    fn accounts(&self, path: &[u8], limit: usize) -> Result<Vec<(B256, TrieAccount)>, Unreadable> {
        let found = self.state.range(span(path)).take(limit);
        Ok(found.map(|(key, account)| (*key, account.trie_account())).collect())
    }

    fn slots(
        &self,
        owner: B256,
        path: &[u8],
        limit: usize,
    ) -> Result<Vec<(B256, U256)>, Unreadable> {
        let Some(account) = self.state.get(&owner) else { return Ok(Vec::new()) };
        Ok(account.slots.range(span(path)).take(limit).map(|(k, v)| (*k, *v)).collect())
    }

    fn node(&self, owner: Option<B256>, path: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        Ok(self.crown.get(&(owner, path.to_vec())).cloned())
    }
}

pub fn store(crown: &mut Crown, records: Vec<CrownRecord>) {
    for CrownRecord { owner, path, record } in records {
        crown.insert((owner, path), record);
    }
}

/// The `i`th key: a third are random, a third share long prefixes, a third share very long ones,
/// so that nodes below 32 bytes arise.
pub fn key(i: u64) -> B256 {
    let mut key = keccak256(i.to_be_bytes());
    match i % 3 {
        0 => {
            key = B256::ZERO;
            key[0] = (i % 5) as u8;
            key[30] = (i % 7) as u8;
            key[31] = (i >> 8) as u8;
            key[(i % 29) as usize + 1] |= i as u8;
        }
        1 => key[..6].iter_mut().for_each(|byte| *byte = 0x11 * (*byte % 2)),
        _ => {}
    }
    key
}

fn slot_value(rng: &mut Rng) -> U256 {
    match rng.below(3) {
        0 => U256::from(1 + rng.below(100)),
        1 => U256::from(rng.next() | 1),
        _ => U256::from_be_bytes(keccak256(rng.next().to_be_bytes()).0),
    }
}

/// What a batch of random changes is like.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Accounts and slots are drawn from so many keys.
    pub accounts: u64,
    pub slots: u64,
    /// At most so many are touched.
    pub touched: u64,
    pub touched_slots: u64,
    /// Of what is there and touched, so many percent is deleted.
    pub deleted: u64,
}

/// Random changes of a state, in the form of updates, and the state after them.
pub fn change(rng: &mut Rng, state: &State, shape: Shape) -> (Vec<AccountUpdate>, State) {
    let mut after = state.clone();
    let mut updates = BTreeMap::new();
    for _ in 0..1 + rng.below(shape.touched) {
        let key = key(rng.below(shape.accounts));
        if updates.contains_key(&key) {
            continue;
        }
        let update = change_account(rng, key, state.get(&key), &mut after, shape);
        updates.insert(key, update);
    }
    (updates.into_values().collect(), after)
}

fn change_account(
    rng: &mut Rng,
    key: B256,
    old: Option<&Account>,
    after: &mut State,
    shape: Shape,
) -> AccountUpdate {
    let before = old.map_or(EMPTY_ROOT_HASH, |account| account.storage_root);
    let update = |account, wiped, slots| AccountUpdate {
        key,
        existed: old.is_some(),
        account,
        storage_root_before: before,
        wiped,
        slots,
    };
    // One in twenty of those that are not there is created and destroyed within the batch.
    if rng.percent(if old.is_some() { shape.deleted } else { 5 }) {
        after.remove(&key);
        let slots = change_slots(rng, &Slots::default(), shape).0;
        return update(None, old.is_some(), slots);
    }
    let fields = AccountFields {
        nonce: rng.below(300),
        balance: U256::from(rng.next()),
        code_hash: keccak256([rng.below(3) as u8]),
    };
    let wiped = rng.percent(8);
    let old_slots = old.map(|account| account.slots.clone()).unwrap_or_default();
    let mut slots = Vec::new();
    let mut new_slots = if wiped { Slots::default() } else { old_slots.clone() };
    if rng.percent(50) {
        // `existed` speaks of the parent version even if the storage is wiped in between.
        let (changed, kept) = change_slots(rng, &old_slots, shape);
        new_slots = if wiped {
            let set = changed.iter().filter(|slot| !slot.value.is_zero());
            Arc::new(set.map(|slot| (slot.key, slot.value)).collect())
        } else {
            kept
        };
        slots = changed;
    }
    let storage_root =
        if Arc::ptr_eq(&new_slots, &old_slots) { before } else { storage_root(&new_slots) };
    after.insert(key, Account { fields, slots: new_slots, storage_root });
    update(Some(fields), wiped, slots)
}

fn change_slots(rng: &mut Rng, old: &Slots, shape: Shape) -> (Vec<SlotUpdate>, Slots) {
    let mut after = BTreeMap::clone(old);
    let mut updates = BTreeMap::new();
    for _ in 0..1 + rng.below(shape.touched_slots) {
        let key = key(rng.below(shape.slots));
        let existed = old.contains_key(&key);
        let gone = rng.percent(if existed { shape.deleted } else { 5 });
        let value = if gone { U256::ZERO } else { slot_value(rng) };
        if gone {
            after.remove(&key);
        } else {
            after.insert(key, value);
        }
        updates.insert(key, SlotUpdate { key, existed, value });
    }
    (updates.into_values().collect(), Arc::new(after))
}

/// The updates that lead from one state to another.
pub fn difference(from: &State, to: &State) -> Vec<AccountUpdate> {
    let mut keys: Vec<B256> = from.keys().chain(to.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let mut updates = Vec::new();
    for key in keys {
        let (old, new) = (from.get(&key), to.get(&key));
        let same = |a: &Account, b: &Account| a.trie_account() == b.trie_account();
        if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
            continue;
        }
        let old_slots = old.map(|account| account.slots.clone()).unwrap_or_default();
        let new_slots = new.map(|account| account.slots.clone()).unwrap_or_default();
        let mut slots = BTreeMap::new();
        for (key, value) in new_slots.iter().filter(|(k, v)| old_slots.get(*k) != Some(*v)) {
            let existed = old_slots.contains_key(key);
            slots.insert(*key, SlotUpdate { key: *key, existed, value: *value });
        }
        for key in old_slots.keys().filter(|key| !new_slots.contains_key(*key)) {
            slots.insert(*key, SlotUpdate { key: *key, existed: true, value: U256::ZERO });
        }
        updates.push(AccountUpdate {
            key,
            existed: old.is_some(),
            account: new.map(|account| account.fields),
            storage_root_before: old.map_or(EMPTY_ROOT_HASH, |account| account.storage_root),
            wiped: false,
            slots: slots.into_values().collect(),
        });
    }
    updates
}
