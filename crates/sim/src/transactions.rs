//! Transfers between a few funded accounts, signed once per process; and the genesis that funds
//! them.

use crate::clock::EPOCH;
use crate::keys;
use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{EthereumTypedTransaction, SignableTransaction, TxEip1559, TxEip4844};
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, TxKind, U256};
use landfall_chain::Senders;
use landfall_chain::pool::Recovered;
use parking_lot::Mutex;
use std::sync::LazyLock;

/// Accounts that send.
pub(crate) const ACCOUNTS: usize = 4;

const CHAIN_ID: u64 = 31_415;
const GAS_LIMIT: u64 = 30_000_000;
const BASE_FEE: u128 = 1_000_000_000;

/// The address of an account.
pub(crate) fn account(index: usize) -> Address {
    static ADDRESSES: LazyLock<Vec<Address>> = LazyLock::new(|| {
        (0..ACCOUNTS).map(|index| keys::address(&keys::secret("account", index))).collect()
    });
    ADDRESSES[index]
}

/// The transfer of an account with a nonce: the same in every history.
pub(crate) fn transfer(index: usize, nonce: u64) -> Recovered {
    static SIGNED: LazyLock<Mutex<Vec<Vec<Recovered>>>> =
        LazyLock::new(|| Mutex::new(vec![Vec::new(); ACCOUNTS]));
    let mut signed = SIGNED.lock();
    let list = &mut signed[index];
    while list.len() as u64 <= nonce {
        list.push(sign(index, list.len() as u64));
    }
    list[usize::try_from(nonce).expect("the list is as long")].clone()
}

fn sign(index: usize, nonce: u64) -> Recovered {
    let unsigned = EthereumTypedTransaction::<TxEip4844>::Eip1559(TxEip1559 {
        chain_id: CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 100 * BASE_FEE,
        max_priority_fee_per_gas: BASE_FEE,
        to: TxKind::Call(account((index + 1) % ACCOUNTS)),
        value: U256::from(1 + nonce),
        ..TxEip1559::default()
    });
    let key = B256::from(keys::secret("account", index).secret_bytes());
    let signature = sign_message(key, unsigned.signature_hash()).expect("the key is one");
    Recovered::new(unsigned.into_envelope(signature), account(index))
}

/// Who sent what: the transfers are the same in every history, so each signature is recovered once.
pub(crate) fn senders() -> &'static Senders {
    static SENDERS: LazyLock<Senders> = LazyLock::new(Senders::default);
    &SENDERS
}

/// The genesis of every history.
pub(crate) fn genesis() -> &'static Genesis {
    static GENESIS: LazyLock<Genesis> = LazyLock::new(make_genesis);
    &GENESIS
}

/// Funds in the genesis, in wei.
pub(crate) fn genesis_supply() -> U256 {
    genesis().alloc.values().map(|account| account.balance).sum()
}

fn make_genesis() -> Genesis {
    let mut config = ChainConfig {
        chain_id: CHAIN_ID,
        homestead_block: Some(0),
        eip150_block: Some(0),
        eip155_block: Some(0),
        eip158_block: Some(0),
        byzantium_block: Some(0),
        constantinople_block: Some(0),
        petersburg_block: Some(0),
        istanbul_block: Some(0),
        berlin_block: Some(0),
        london_block: Some(0),
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: Some(0),
        osaka_time: Some(0),
        terminal_total_difficulty: Some(U256::ZERO),
        terminal_total_difficulty_passed: true,
        ..ChainConfig::default()
    };
    let own = config.extra_fields.insert_value("landfall".into(), ["simulator"]);
    own.expect("a list of words is JSON");
    let mut genesis = Genesis {
        config,
        timestamp: EPOCH / 1_000,
        gas_limit: GAS_LIMIT,
        base_fee_per_gas: Some(BASE_FEE),
        ..Genesis::default()
    };
    for contract in landfall_evm::system_contracts() {
        let entry =
            GenesisAccount::default().with_nonce(Some(1)).with_storage(Some(contract.storage));
        genesis.alloc.insert(contract.address, entry.with_code(Some(contract.code)));
    }
    for index in 0..ACCOUNTS {
        let entry = genesis.alloc.entry(account(index)).or_default();
        entry.balance = U256::from(10).pow(U256::from(24));
    }
    genesis
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_chain::pool::recover;

    #[test]
    fn transfers_are_genuine_and_the_same_again() {
        let first = transfer(1, 3);
        assert_eq!(first.hash(), transfer(1, 3).hash());
        let again = recover((*first.transaction).clone(), CHAIN_ID).unwrap();
        assert_eq!(again.sender, account(1));
        assert_eq!(again.nonce(), 3);
    }
}
