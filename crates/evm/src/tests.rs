//! What the tests of this crate share: two chains, their genesis, and transactions.

use crate::{Attributes, Built, memory::MemoryState, system_contracts};
use alloy_consensus::{Header, Signed, TxEip1559};
use alloy_genesis::{ChainConfig, Genesis};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use landfall_types::{Block, ChainSpec, Extension, FeeRules, Transaction, genesis_block};

pub(crate) const GWEI: u128 = 1_000_000_000;

fn config() -> ChainConfig {
    ChainConfig {
        chain_id: 31_337,
        homestead_block: Some(0),
        eip150_block: Some(0),
        eip155_block: Some(0),
        eip158_block: Some(0),
        byzantium_block: Some(0),
        constantinople_block: Some(0),
        istanbul_block: Some(0),
        berlin_block: Some(0),
        london_block: Some(0),
        terminal_total_difficulty: Some(U256::ZERO),
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: Some(0),
        osaka_time: Some(0),
        ..ChainConfig::default()
    }
}

pub(crate) fn ethereum_spec() -> ChainSpec {
    ChainSpec::new(config())
}

pub(crate) fn landfall_spec() -> ChainSpec {
    let mut config = config();
    config.extra_fields.insert_value("landfall".into(), true).unwrap();
    ChainSpec::new(config)
}

/// A chain of ours with its own rules for fees.
pub(crate) fn spec_with(fees: FeeRules) -> ChainSpec {
    let mut spec = landfall_spec();
    spec.fees = fees;
    spec
}

pub(crate) fn genesis(spec: &ChainSpec) -> Block {
    let genesis = Genesis { timestamp: 1_000, gas_limit: 30_000_000, ..Genesis::default() };
    genesis_block(&genesis, spec, B256::ZERO)
}

pub(crate) fn next_block(milliseconds: u64) -> Attributes {
    Attributes {
        beneficiary: Address::with_last_byte(0xbe),
        gas_limit: 30_000_000,
        extension: Extension { milliseconds, ..Extension::default() },
        ..Attributes::default()
    }
}

/// The block that was built, with a state root of zero.
pub(crate) fn seal(built: Built) -> Block {
    let Built { header, body, extension, .. } = built;
    Block { extension, ..Block::ethereum(header, body) }
}

/// A transfer that pays nothing for its gas.
pub(crate) fn free_transaction(nonce: u64, to: TxKind) -> Transaction {
    let tx = TxEip1559 { chain_id: 31_337, nonce, gas_limit: 21_000, to, ..TxEip1559::default() };
    Signed::new_unhashed(tx, Signature::test_signature()).into()
}

/// A transaction whose signature nobody checks.
pub(crate) fn transaction(nonce: u64, to: TxKind, value: u64, input: Bytes) -> Transaction {
    let tx = TxEip1559 {
        chain_id: 31_337,
        nonce,
        gas_limit: if input.is_empty() && to.is_call() { 21_000 } else { 500_000 },
        max_fee_per_gas: 2 * GWEI,
        max_priority_fee_per_gas: 1,
        to,
        value: U256::from(value),
        access_list: Default::default(),
        input,
    };
    Signed::new_unhashed(tx, Signature::test_signature()).into()
}

impl MemoryState {
    pub(crate) fn with_system_contracts(self) -> Self {
        system_contracts()
            .into_iter()
            .fold(self, |state, contract| state.with_code(contract.address, contract.code))
    }
}

/// A header of [`ethereum_spec`] for calls.
pub(crate) fn call_header() -> Header {
    Header {
        number: 7,
        timestamp: 5_000,
        gas_limit: 30_000_000,
        base_fee_per_gas: Some(GWEI as u64),
        excess_blob_gas: Some(0),
        blob_gas_used: Some(0),
        ..Header::default()
    }
}
