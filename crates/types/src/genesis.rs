//! Geth's `genesis.json`: parsed with the faulty field named, and turned into block 0.

use crate::consensus_config::check_landfall;
use crate::{Account, Block, Body, ChainSpec, Extension, Rules, spec::Fork};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header, constants::EMPTY_WITHDRAWALS};
use alloy_eips::eip1559::INITIAL_BASE_FEE;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_genesis::Genesis;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use std::collections::BTreeMap;

/// Why a genesis file was refused; the message names the field.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GenesisError {
    /// Not JSON, or a field of the wrong form.
    #[error("genesis: {0}")]
    Malformed(String),
    /// A field that must be there is not.
    #[error("genesis: field `{0}` is missing; {1}")]
    Missing(&'static str, &'static str),
    /// A field has a value that cannot be.
    #[error("genesis: field `{field}`: {reason}")]
    Invalid {
        /// The path of the field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Parses and checks a genesis file.
pub fn parse_genesis(json: &str) -> Result<Genesis, GenesisError> {
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|e| GenesisError::Malformed(e.to_string()))?;
    let Some(object) = value.as_object() else {
        return Err(GenesisError::Malformed("the file must hold one JSON object".into()));
    };
    let Some(config) = object.get("config").and_then(|c| c.as_object()) else {
        return Err(GenesisError::Missing("config", "it holds chainId and the forks"));
    };
    if !config.contains_key("chainId") {
        return Err(GenesisError::Missing("config.chainId", "every chain needs an id (EIP-155)"));
    }
    if !object.contains_key("alloc") {
        return Err(GenesisError::Missing("alloc", "it may be empty: {}"));
    }
    // A field at a time, so that the message can name it: serde's own says only the line.
    for (name, field) in object {
        let alone = match name.as_str() {
            "alloc" => continue,
            "config" => serde_json::json!({ "config": field }),
            _ => serde_json::json!({ "config": {}, name: field }),
        };
        serde_json::from_value::<Genesis>(alone)
            .map_err(|e| GenesisError::Invalid { field: name.clone(), reason: e.to_string() })?;
    }
    check_alloc(&object["alloc"])?;
    let genesis: Genesis =
        serde_json::from_value(value).map_err(|e| GenesisError::Malformed(e.to_string()))?;
    check_values(&genesis)?;
    check_landfall(&genesis)?;
    Ok(genesis)
}

fn check_alloc(alloc: &serde_json::Value) -> Result<(), GenesisError> {
    let invalid = |field: String, reason: String| GenesisError::Invalid { field, reason };
    let Some(accounts) = alloc.as_object() else {
        return Err(invalid("alloc".into(), "must map addresses to accounts".into()));
    };
    for (address, account) in accounts {
        let field = format!("alloc.{address}");
        address.parse::<Address>().map_err(|e| invalid(field.clone(), e.to_string()))?;
        serde_json::from_value::<alloy_genesis::GenesisAccount>(account.clone())
            .map_err(|e| invalid(field, e.to_string()))?;
    }
    Ok(())
}

fn check_values(genesis: &Genesis) -> Result<(), GenesisError> {
    let invalid = |field: &str, reason: &str| {
        Err(GenesisError::Invalid { field: field.into(), reason: reason.into() })
    };
    if genesis.config.chain_id == 0 {
        return invalid("config.chainId", "must not be zero");
    }
    if genesis.gas_limit < 5_000 {
        return invalid("gasLimit", "must be at least 5000");
    }
    if genesis.extra_data.len() > 32 {
        return invalid("extraData", "longer than 32 bytes");
    }
    let c = &genesis.config;
    let times = [
        ("config.shanghaiTime", c.shanghai_time),
        ("config.cancunTime", c.cancun_time),
        ("config.pragueTime", c.prague_time),
        ("config.osakaTime", c.osaka_time),
    ];
    for pair in times.windows(2) {
        match (pair[0].1, pair[1].1) {
            (None, Some(_)) => return invalid(pair[1].0, "the fork before it is not scheduled"),
            (Some(a), Some(b)) if b < a => return invalid(pair[1].0, "before the fork before it"),
            _ => {}
        }
    }
    if c.amsterdam_time.is_some() {
        return invalid("config.amsterdamTime", "Amsterdam is not supported; Osaka is the newest");
    }
    Ok(())
}

/// One account of the genesis state: the account, its code, its storage.
pub type GenesisEntry = (Address, Account, Option<Bytes>, BTreeMap<U256, U256>);

/// The state of block 0, in order of addresses.
pub fn genesis_state(genesis: &Genesis) -> impl Iterator<Item = GenesisEntry> + '_ {
    genesis.alloc.iter().map(|(address, entry)| {
        let code = entry.code.clone().filter(|code| !code.is_empty());
        let account = Account {
            nonce: entry.nonce.unwrap_or_default(),
            balance: entry.balance,
            code_hash: code.as_ref().map_or(KECCAK256_EMPTY, keccak256),
        };
        let storage = entry
            .storage
            .iter()
            .flatten()
            .filter(|(_, value)| !value.is_zero())
            .map(|(slot, value)| ((*slot).into(), (*value).into()))
            .collect();
        (*address, account, code, storage)
    })
}

/// Block 0, for a state root that the chain computed from [`genesis_state`].
pub fn genesis_block(genesis: &Genesis, spec: &ChainSpec, state_root: B256) -> Block {
    let number = genesis.number.unwrap_or_default();
    let active = |fork| spec.is_active(fork, number, genesis.timestamp, genesis.difficulty);
    let landfall = spec.rules == Rules::Landfall;
    let extension = if landfall {
        let milliseconds = genesis.timestamp.saturating_mul(1_000);
        Extension { milliseconds, ..Extension::default() }.to_bytes()
    } else {
        Bytes::new()
    };
    let beacon_root = if landfall { Extension::commitment(&extension) } else { B256::ZERO };
    let cancun = active(Fork::Cancun);
    let base_fee = if spec.fees.free_gas { 0 } else { INITIAL_BASE_FEE.into() };
    let header = Header {
        parent_hash: genesis.parent_hash.unwrap_or_default(),
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: genesis.coinbase,
        state_root,
        difficulty: genesis.difficulty,
        number,
        gas_limit: genesis.gas_limit,
        timestamp: genesis.timestamp,
        extra_data: genesis.extra_data.clone(),
        mix_hash: genesis.mix_hash,
        nonce: genesis.nonce.into(),
        base_fee_per_gas: active(Fork::London)
            .then(|| genesis.base_fee_per_gas.unwrap_or(base_fee) as u64),
        withdrawals_root: active(Fork::Shanghai).then_some(EMPTY_WITHDRAWALS),
        blob_gas_used: cancun.then(|| genesis.blob_gas_used.unwrap_or_default()),
        excess_blob_gas: cancun.then(|| genesis.excess_blob_gas.unwrap_or_default()),
        parent_beacon_block_root: cancun.then_some(beacon_root),
        requests_hash: active(Fork::Prague).then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    };
    let withdrawals = header.withdrawals_root.map(|_| Default::default());
    Block { extension, ..Block::ethereum(header, Body { withdrawals, ..Body::default() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        parse_genesis(json).expect_err("must be refused").to_string()
    }

    #[test]
    fn names_the_faulty_field() {
        assert!(refused("[]").contains("one JSON object"));
        assert!(refused("{}").contains("`config`"));
        assert!(refused(r#"{"config":{}}"#).contains("`config.chainId`"));
        assert!(refused(r#"{"config":{"chainId":1}}"#).contains("`alloc`"));
        let with = |more: &str| {
            refused(&format!(
                r#"{{"config":{{"chainId":1}},"alloc":{{}},"gasLimit":"0x1c9c380"{more}}}"#
            ))
        };
        assert!(with(r#","timestamp":"yesterday""#).contains("`timestamp`"));
        assert!(with(r#","alloc":{"0x12":{}}"#).contains("`alloc.0x12`"));
        let extra = format!(r#","extraData":"0x{}""#, "00".repeat(33));
        assert!(with(&extra).contains("`extraData`"));
        let osaka = r#"{"config":{"chainId":1,"osakaTime":0},"alloc":{},"gasLimit":"0x1c9c380"}"#;
        assert!(refused(osaka).contains("`config.osakaTime`"));
    }

    #[test]
    fn genesis_block_has_the_fields_of_its_fork() {
        let json = r#"{"config":{"chainId":1,"terminalTotalDifficulty":0,"londonBlock":0,
            "shanghaiTime":0,"cancunTime":0,"landfall":{"engine":"solo"}},
            "difficulty":"0x0","alloc":{},"gasLimit":"0x1c9c380","timestamp":"0x5"}"#;
        let genesis = parse_genesis(json).unwrap();
        let spec = ChainSpec::new(genesis.config.clone());
        let block = genesis_block(&genesis, &spec, B256::ZERO);
        assert_eq!(Extension::from_bytes(&block.extension).unwrap().milliseconds, 5_000);
        assert_eq!(
            block.header.parent_beacon_block_root,
            Some(Extension::commitment(&block.extension))
        );
        assert!(block.header.requests_hash.is_none());
    }
}
