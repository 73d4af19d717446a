//! Flat state: how accounts, slots and changes of state are written in views and log.

use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_rlp::{BufMut, Decodable, Encodable, Header as RlpHeader};
use alloy_trie::EMPTY_ROOT_HASH;
use landfall_types::{Account, AccountChange, Change, StateChanges};
use std::collections::BTreeMap;

/// An account as flat state holds it: with the root of its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlatAccount {
    /// Nonce, balance and code.
    pub account: Account,
    /// The root of the storage trie.
    pub storage_root: B256,
}

impl FlatAccount {
    /// The slim form: empty code and empty storage take one byte each.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        put_account(&mut out, &self.account);
        put_hash(&mut out, &self.storage_root, &EMPTY_ROOT_HASH);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> alloy_rlp::Result<Self> {
        let account = get_account(&mut bytes)?;
        let storage_root = get_hash(&mut bytes, EMPTY_ROOT_HASH)?;
        if !bytes.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength);
        }
        Ok(Self { account, storage_root })
    }
}

fn put_hash(out: &mut dyn BufMut, hash: &B256, usual: &B256) {
    if hash == usual { Bytes::new().encode(out) } else { hash.encode(out) }
}

fn get_hash(bytes: &mut &[u8], usual: B256) -> alloy_rlp::Result<B256> {
    let found = RlpHeader::decode_bytes(bytes, false)?;
    match found.len() {
        0 => Ok(usual),
        32 => Ok(B256::from_slice(found)),
        _ => Err(alloy_rlp::Error::UnexpectedLength),
    }
}

fn put_account(out: &mut dyn BufMut, account: &Account) {
    account.nonce.encode(out);
    account.balance.encode(out);
    put_hash(out, &account.code_hash, &KECCAK256_EMPTY);
}

fn get_account(bytes: &mut &[u8]) -> alloy_rlp::Result<Account> {
    Ok(Account {
        nonce: u64::decode(bytes)?,
        balance: U256::decode(bytes)?,
        code_hash: get_hash(bytes, KECCAK256_EMPTY)?,
    })
}

/// A slot's value without leading zeros.
pub fn slot_bytes(value: U256) -> Vec<u8> {
    value.to_be_bytes_trimmed_vec()
}

/// Reads what [`slot_bytes`] wrote.
pub fn slot_value(bytes: &[u8]) -> alloy_rlp::Result<U256> {
    U256::try_from_be_slice(bytes).ok_or(alloy_rlp::Error::Overflow)
}

/// keccak(address).
pub fn account_key(address: &Address) -> B256 {
    keccak256(address)
}

/// keccak of a slot's 32 bytes.
pub fn slot_key(slot: U256) -> B256 {
    keccak256(slot.to_be_bytes::<32>())
}

/// Two hashes one after the other: the key of a slot in the views.
pub fn joined(owner: &B256, slot: &B256) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(owner.as_slice());
    key[32..].copy_from_slice(slot.as_slice());
    key
}

fn put_optional(out: &mut dyn BufMut, account: &Option<Account>) {
    match account {
        None => Bytes::new().encode(out),
        Some(account) => {
            let mut inner = Vec::with_capacity(48);
            put_account(&mut inner, account);
            RlpHeader { list: true, payload_length: inner.len() }.encode(out);
            out.put_slice(&inner);
        }
    }
}

fn get_optional(bytes: &mut &[u8]) -> alloy_rlp::Result<Option<Account>> {
    if bytes.first() == Some(&alloy_rlp::EMPTY_STRING_CODE) {
        *bytes = &bytes[1..];
        return Ok(None);
    }
    let mut inner = RlpHeader::decode_bytes(bytes, true)?;
    get_account(&mut inner).map(Some)
}

/// The change set of a block as the log holds it. Addresses and slots stand unhashed.
pub fn encode_changes(changes: &StateChanges) -> Vec<u8> {
    let mut out = Vec::with_capacity(changes.accounts.len() * 96 + 16);
    changes.accounts.len().encode(&mut out);
    for (address, change) in &changes.accounts {
        address.encode(&mut out);
        put_optional(&mut out, &change.account.before);
        put_optional(&mut out, &change.account.after);
        change.wiped.encode(&mut out);
        change.storage.len().encode(&mut out);
        for (slot, value) in &change.storage {
            slot.encode(&mut out);
            value.before.encode(&mut out);
            value.after.encode(&mut out);
        }
    }
    changes.codes.len().encode(&mut out);
    for code in changes.codes.values() {
        code.encode(&mut out);
    }
    out
}

/// Reads what [`encode_changes`] wrote.
pub fn decode_changes(mut bytes: &[u8]) -> alloy_rlp::Result<StateChanges> {
    let bytes = &mut bytes;
    let mut changes = StateChanges::default();
    for _ in 0..usize::decode(bytes)? {
        let address = Address::decode(bytes)?;
        let (before, after) = (get_optional(bytes)?, get_optional(bytes)?);
        let wiped = bool::decode(bytes)?;
        let mut storage = BTreeMap::new();
        for _ in 0..usize::decode(bytes)? {
            let slot = U256::decode(bytes)?;
            let (before, after) = (U256::decode(bytes)?, U256::decode(bytes)?);
            storage.insert(slot, Change { before, after });
        }
        let account = Change { before, after };
        changes.accounts.insert(address, AccountChange { account, wiped, storage });
    }
    for _ in 0..usize::decode(bytes)? {
        let code = Bytes::decode(bytes)?;
        changes.codes.insert(keccak256(&code), code);
    }
    if !bytes.is_empty() {
        return Err(alloy_rlp::Error::UnexpectedLength);
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_set_survives_the_round_trip() {
        let account =
            Account { nonce: 3, balance: U256::from(u128::MAX), code_hash: B256::repeat_byte(9) };
        let mut changes = StateChanges::default();
        let code = Bytes::from_static(&[0x60, 0x00]);
        changes.codes.insert(keccak256(&code), code);
        for (byte, before, after) in
            [(1, None, Some(account)), (2, Some(account), None), (3, Some(account), Some(account))]
        {
            let value = Change { before: U256::from(byte), after: U256::MAX };
            let change = AccountChange {
                account: Change { before, after },
                wiped: byte == 2,
                storage: [(U256::from(byte), value)].into(),
            };
            changes.accounts.insert(Address::repeat_byte(byte), change);
        }
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(&bytes).unwrap(), changes);
        for end in 0..bytes.len() {
            assert!(decode_changes(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn slim_account_survives_the_round_trip() {
        let plain = FlatAccount { account: Account::default(), storage_root: EMPTY_ROOT_HASH };
        assert_eq!(plain.encode().len(), 4);
        assert_eq!(FlatAccount::decode(&plain.encode()).unwrap(), plain);
        let storage_root = B256::repeat_byte(7);
        let contract = FlatAccount { storage_root, ..plain };
        assert_eq!(FlatAccount::decode(&contract.encode()).unwrap(), contract);
    }
}
