//! The state as a block sees it: what its parent left, under what the block has written so far.
//!
//! revm reads through [`Cache`] and commits each transaction into it; [`Cache::into_changes`]
//! gives the difference from the parent's state. It holds only what the block touched.

use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256,
    map::{AddressMap, B256Map, Entry, HashMap},
};
use landfall_types::{
    Account, AccountChange, Change, SlotChange, StateChanges, StateError, StateReader,
};
use revm::{
    Database, DatabaseCommit,
    database_interface::DBErrorMarker,
    state::{Account as EvmAccount, AccountInfo, Bytecode, EvmStorage},
};
use std::{collections::BTreeMap, fmt};

/// [`StateError`] as revm wants its database's error.
#[derive(Clone, Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct ReadError(#[from] pub StateError);

impl DBErrorMarker for ReadError {}

/// A slot that the block read or wrote.
#[derive(Clone, Copy)]
struct Slot {
    /// The value in the parent's state; `None` if it was written without having been read, which
    /// happens only to accounts whose storage was emptied.
    before: Option<U256>,
    now: U256,
}

struct CachedAccount {
    before: Option<Account>,
    now: Option<Account>,
    /// The parent's slots of this account are no longer visible.
    wiped: bool,
    /// revm was shown a nonce that is one too high.
    lent_nonce: bool,
    slots: HashMap<U256, Slot>,
}

impl CachedAccount {
    fn loaded(account: Option<Account>) -> Self {
        let slots = HashMap::default();
        Self { before: account, now: account, wiped: false, lent_nonce: false, slots }
    }

    /// Empties the storage.
    fn wipe(&mut self) {
        self.wiped = true;
        for slot in self.slots.values_mut() {
            slot.now = U256::ZERO;
        }
    }

    /// Whether a slot that is not cached must be read from the parent's state.
    fn shows_parent_slots(&self) -> bool {
        self.before.is_some() && !self.wiped
    }

    fn write(&mut self, storage: EvmStorage) {
        for (key, value) in storage {
            if !value.is_changed() {
                continue;
            }
            // Without a cached entry the parent's value is the one that revm started from, unless
            // the account's storage was emptied in between.
            let before = self.shows_parent_slots().then_some(value.original_value());
            self.slots.entry(key).or_insert(Slot { before, now: U256::ZERO }).now =
                value.present_value();
        }
    }
}

/// See the module.
pub(crate) struct Cache<'a> {
    state: &'a dyn StateReader,
    accounts: AddressMap<CachedAccount>,
    codes: B256Map<Bytecode>,
    hashes: HashMap<u64, B256>,
    /// Who sends the transaction that runs.
    sender: Address,
}

impl fmt::Debug for Cache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

impl<'a> Cache<'a> {
    pub(crate) fn new(state: &'a dyn StateReader) -> Self {
        Self {
            state,
            accounts: AddressMap::default(),
            codes: B256Map::default(),
            hashes: HashMap::default(),
            sender: Address::ZERO,
        }
    }

    /// Says whose transaction comes next.
    pub(crate) fn set_sender(&mut self, sender: Address) {
        self.sender = sender;
    }

    fn load(&mut self, address: Address) -> Result<&mut CachedAccount, ReadError> {
        match self.accounts.entry(address) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                Ok(entry.insert(CachedAccount::loaded(self.state.account(&address)?)))
            }
        }
    }

    /// The account as the block sees it now.
    pub(crate) fn account(&mut self, address: Address) -> Result<Option<Account>, ReadError> {
        Ok(self.load(address)?.now)
    }

    /// Pays a reward or a withdrawal. An account that is still empty afterwards ceases to exist.
    pub(crate) fn credit(&mut self, address: Address, wei: U256) -> Result<(), ReadError> {
        let cached = self.load(address)?;
        let mut account = cached.now.unwrap_or_default();
        account.balance = account.balance.saturating_add(wei);
        cached.now = (!account.is_empty()).then_some(account);
        Ok(())
    }

    /// Takes the whole balance of an account (the DAO fork).
    pub(crate) fn drain(&mut self, address: Address) -> Result<U256, ReadError> {
        let cached = self.load(address)?;
        Ok(cached.now.as_mut().map_or(U256::ZERO, |a| std::mem::take(&mut a.balance)))
    }

    /// Replaces an account's fields for a simulation.
    pub(crate) fn set_account(
        &mut self,
        address: Address,
        account: Account,
        code: Option<Bytes>,
    ) -> Result<(), ReadError> {
        if let Some(code) = code {
            self.codes.insert(account.code_hash, analyse(code));
        }
        self.load(address)?.now = Some(account);
        Ok(())
    }

    /// Empties an account's storage for a simulation.
    pub(crate) fn clear_storage(&mut self, address: Address) -> Result<(), ReadError> {
        self.load(address)?.wipe();
        Ok(())
    }

    /// Sets a slot for a simulation.
    pub(crate) fn set_slot(
        &mut self,
        address: Address,
        key: U256,
        value: U256,
    ) -> Result<(), ReadError> {
        self.load(address)?.slots.insert(key, Slot { before: None, now: value });
        Ok(())
    }

    /// Sets the answer of BLOCKHASH for a simulation.
    pub(crate) fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.hashes.insert(number, hash);
    }

    fn commit_account(&mut self, address: Address, account: EvmAccount) {
        if !account.is_touched() {
            return;
        }
        let cached = self.accounts.get_mut(&address).expect("revm loads an account before it");
        if account.is_selfdestructed() {
            cached.now = None;
            cached.wipe();
            return;
        }
        // Before EIP-161 the journal marks an empty account that comes to exist as created.
        if account.is_created() {
            cached.wipe();
        } else if account.is_empty() {
            cached.now = None;
            cached.wipe();
            return;
        }
        let EvmAccount { mut info, storage, .. } = account;
        info.nonce -= u64::from(std::mem::take(&mut cached.lent_nonce));
        if info.code_hash == B256::ZERO {
            info.code_hash = KECCAK256_EMPTY;
        }
        if let Some(code) = info.code
            && info.code_hash != KECCAK256_EMPTY
            && cached.now.is_none_or(|now| now.code_hash != info.code_hash)
        {
            self.codes.insert(info.code_hash, code);
        }
        cached.now =
            Some(Account { nonce: info.nonce, balance: info.balance, code_hash: info.code_hash });
        cached.write(storage);
    }

    /// What differs from the parent's state.
    pub(crate) fn into_changes(self) -> Result<StateChanges, StateError> {
        let Self { state, mut accounts, codes, .. } = self;
        let mut changes = Vec::with_capacity(accounts.len());
        let mut new_codes = BTreeMap::new();
        let mut addresses: Vec<Address> = accounts.keys().copied().collect();
        addresses.sort_unstable();
        for address in addresses {
            let cached = accounts.remove(&address).expect("it is one of the map's keys");
            let CachedAccount { before, now, wiped, slots, .. } = cached;
            // An account that did not exist before had no storage to lose.
            let wiped = wiped && before.is_some();
            let storage = changed_slots(state, &address, before.is_some(), wiped, slots)?;
            if before == now && !wiped && storage.is_empty() {
                continue;
            }
            let old_code = before.map_or(KECCAK256_EMPTY, |a| a.code_hash);
            if let Some(now) = now
                && now.code_hash != old_code
                && let Some(code) = codes.get(&now.code_hash)
            {
                new_codes.insert(now.code_hash, code.original_bytes());
            }
            let account = Change { before, after: now };
            changes.push((address, AccountChange { account, wiped, storage }));
        }
        Ok(StateChanges { accounts: changes.into_iter().collect(), codes: new_codes })
    }
}

/// The slots to report: those that changed; of an account that was wiped also those that were
/// written again with their old value, since a slot without an entry is gone there.
fn changed_slots(
    state: &dyn StateReader,
    address: &Address,
    existed: bool,
    wiped: bool,
    slots: HashMap<U256, Slot>,
) -> Result<BTreeMap<U256, SlotChange>, StateError> {
    let mut changed = BTreeMap::new();
    for (key, slot) in slots {
        let before = match slot.before {
            Some(before) => before,
            None if existed => state.storage(address, key)?,
            None => U256::ZERO,
        };
        if before != slot.now || (wiped && !slot.now.is_zero()) {
            changed.insert(key, Change { before, after: slot.now });
        }
    }
    Ok(changed)
}

fn analyse(code: Bytes) -> Bytecode {
    // Code that only looks like a delegation (it predates EIP-3541) runs as it is.
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code))
}

impl Database for Cache<'_> {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        let sender = self.sender;
        let state = self.state;
        let cached = self.load(address)?;
        let Some(account) = cached.now else { return Ok(None) };
        let mut info = AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            account_id: None,
            code: None,
        };
        cached.lent_nonce = false;
        let blank = account.nonce == 0 && account.code_hash == KECCAK256_EMPTY;
        if blank && address != sender && state.has_orphaned_storage(&address)? {
            // revm does not ask for storage before it creates a contract (EIP-7610), so it is
            // shown what it refuses: a nonce, or for an account that must stay empty to it, a
            // code hash that is not that of no code.
            if account.balance.is_zero() {
                info.code_hash = B256::ZERO;
                info.code = Some(Bytecode::default());
            } else {
                info.nonce = 1;
                cached.lent_nonce = true;
            }
        }
        Ok(Some(info))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, ReadError> {
        match self.codes.entry(hash) {
            Entry::Occupied(entry) => Ok(entry.get().clone()),
            Entry::Vacant(entry) => Ok(entry.insert(analyse(self.state.code(hash)?)).clone()),
        }
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, ReadError> {
        let state = self.state;
        let cached = self.load(address)?;
        if let Some(slot) = cached.slots.get(&key) {
            return Ok(slot.now);
        }
        if !cached.shows_parent_slots() {
            return Ok(U256::ZERO);
        }
        let value = state.storage(&address, key)?;
        cached.slots.insert(key, Slot { before: Some(value), now: value });
        Ok(value)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        match self.hashes.entry(number) {
            Entry::Occupied(entry) => Ok(*entry.get()),
            Entry::Vacant(entry) => Ok(*entry.insert(self.state.block_hash(number)?)),
        }
    }
}

impl DatabaseCommit for Cache<'_> {
    fn commit(&mut self, changes: AddressMap<EvmAccount>) {
        // The order does not matter: each account is committed by itself.
        for (address, account) in changes {
            self.commit_account(address, account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{execute_transaction, memory::MemoryState, tests::*};
    use alloy_consensus::Header;
    use alloy_genesis::ChainConfig;
    use alloy_primitives::{TxKind, hex};
    use landfall_types::ChainSpec;

    const SENDER: Address = Address::with_last_byte(0xa1);
    const CONTRACT: Address = Address::with_last_byte(0xc3);

    fn run(state: &MemoryState, header: &Header, spec: &ChainSpec, to: Address) -> StateChanges {
        let tx = transaction(0, TxKind::Call(to), 0, Bytes::from_static(b"x"));
        let (receipt, changes) =
            execute_transaction(spec, header, &tx, SENDER, state).unwrap().unwrap();
        assert!(receipt.success);
        changes
    }

    fn rich() -> MemoryState {
        MemoryState::default().with_balance(SENDER, U256::from(10).pow(U256::from(20)))
    }

    #[test]
    fn slot_written_back_is_no_change() {
        // SSTORE(0, 7), SSTORE(0, 5), SSTORE(1, 9): slot 0 held 5.
        let code = hex!("6007600055600560005560096001550000");
        let state = rich().with_code(CONTRACT, code.to_vec()).with_slot(CONTRACT, 0, 5);
        let changes = run(&state, &call_header(), &ethereum_spec(), CONTRACT);
        let contract = &changes.accounts[&CONTRACT];
        assert_eq!(contract.account.before, contract.account.after);
        let slot = Change { before: U256::ZERO, after: U256::from(9) };
        assert_eq!(contract.storage, BTreeMap::from([(U256::from(1), slot)]));
        state.clone().apply(&changes);
    }

    #[test]
    fn contract_made_and_destroyed_leaves_nothing() {
        let state = rich();
        let header = call_header();
        let spec = ethereum_spec();
        // Init code: SSTORE(0, 1), SELFDESTRUCT(caller).
        let init = Bytes::from(hex!("600160005533ff").to_vec());
        let tx = transaction(0, TxKind::Create, 0, init);
        let (_, changes) =
            execute_transaction(&spec, &header, &tx, SENDER, &state).unwrap().unwrap();
        assert!(!changes.accounts.contains_key(&SENDER.create(0)));
        assert!(changes.codes.is_empty());
    }

    #[test]
    fn selfdestruct_before_cancun_wipes_with_the_old_values() {
        let spec = ChainSpec::new(ChainConfig {
            chain_id: 31_337,
            homestead_block: Some(0),
            eip150_block: Some(0),
            eip155_block: Some(0),
            eip158_block: Some(0),
            byzantium_block: Some(0),
            petersburg_block: Some(0),
            istanbul_block: Some(0),
            berlin_block: Some(0),
            london_block: Some(0),
            ..ChainConfig::default()
        });
        let header = Header { difficulty: U256::from(1), excess_blob_gas: None, ..call_header() };
        // SLOAD(0), SSTORE(1, 2), SELFDESTRUCT(caller).
        let state = rich()
            .with_code(CONTRACT, hex!("60005450600260015533ff").to_vec())
            .with_slot(CONTRACT, 0, 5)
            .with_slot(CONTRACT, 8, 6);
        let changes = run(&state, &header, &spec, CONTRACT);
        let gone = &changes.accounts[&CONTRACT];
        assert!(gone.wiped && gone.account.after.is_none() && gone.account.before.is_some());
        let slot = Change { before: U256::from(5), after: U256::ZERO };
        assert_eq!(gone.storage, BTreeMap::from([(U256::ZERO, slot)]));
        let mut after = state.clone();
        after.apply(&changes);
        assert!(after.slots.is_empty());
    }

    #[test]
    fn slot_rewritten_after_a_wipe_is_reported_even_with_its_old_value() {
        let state = rich().with_code(CONTRACT, hex!("00").to_vec()).with_slot(CONTRACT, 0, 5);
        let mut cache = Cache::new(&state);
        cache.load(CONTRACT).unwrap().wipe();
        let slot = revm::state::EvmStorageSlot::new_changed(
            U256::ZERO,
            U256::from(5),
            revm::state::TransactionId::ZERO,
        );
        cache.load(CONTRACT).unwrap().write([(U256::ZERO, slot)].into_iter().collect());
        let changes = cache.into_changes().unwrap();
        let change = &changes.accounts[&CONTRACT];
        assert!(change.wiped);
        let slot = Change { before: U256::from(5), after: U256::from(5) };
        assert_eq!(change.storage, BTreeMap::from([(U256::ZERO, slot)]));
    }

    #[test]
    fn touched_empty_account_ceases_to_exist() {
        let empty = Address::with_last_byte(0xee);
        let state = rich().with_balance(empty, U256::ZERO);
        let changes = run(&state, &call_header(), &ethereum_spec(), empty);
        let change = &changes.accounts[&empty].account;
        assert_eq!((change.before.is_some(), change.after), (true, None));
    }
}
