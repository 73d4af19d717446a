//! The genesis of the chains that this program makes: every fork through Osaka from block 0, the
//! protocol's own contracts, accounts with money, and the engine.

use alloy_eips::eip7840::BlobParams;
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, U256};
use serde_json::{Value, json};

/// Gas limit of a block of a development chain where none is given.
pub const GAS_LIMIT: u64 = 30_000_000;
/// Gas limit of a block of a network where none is given.
pub const NETWORK_GAS_LIMIT: u64 = 100_000_000;
/// Base fee of block 0 where none is given, in wei.
pub const BASE_FEE: u64 = 1_000_000_000;
/// Chain id of a development chain where none is given, as in anvil and Hardhat.
pub const CHAIN_ID: u64 = 31_337;
/// Wei in an ether.
pub const WEI_PER_ETHER: u64 = 1_000_000_000_000_000_000;

/// What distinguishes one chain from another.
#[derive(Clone, Debug)]
pub struct ChainGenesis {
    /// EIP-155.
    pub chain_id: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Of block 0, and the limit that blocks keep to.
    pub gas_limit: u64,
    /// Of block 0, in wei.
    pub base_fee: u64,
    /// Who has money, and how much, in wei.
    pub accounts: Vec<(Address, U256)>,
    /// `config.landfall`: the engine and its parameters.
    pub landfall: Value,
}

/// `config.landfall` of a development chain.
pub fn development() -> Value {
    json!({ "engine": "solo", "impersonation": true })
}

impl ChainGenesis {
    /// The genesis file.
    pub fn build(&self) -> Genesis {
        let mut genesis = Genesis {
            config: config(self.chain_id, self.landfall.clone()),
            timestamp: self.timestamp,
            gas_limit: self.gas_limit,
            base_fee_per_gas: Some(self.base_fee.into()),
            ..Genesis::default()
        };
        for contract in landfall_evm::system_contracts() {
            let account =
                GenesisAccount::default().with_nonce(Some(1)).with_storage(Some(contract.storage));
            genesis.alloc.insert(contract.address, account.with_code(Some(contract.code)));
        }
        for (account, balance) in &self.accounts {
            genesis.alloc.entry(*account).or_default().balance = *balance;
        }
        genesis
    }
}

fn config(chain_id: u64, landfall: Value) -> ChainConfig {
    let mut config = ChainConfig {
        chain_id,
        homestead_block: Some(0),
        eip150_block: Some(0),
        eip155_block: Some(0),
        eip158_block: Some(0),
        byzantium_block: Some(0),
        constantinople_block: Some(0),
        petersburg_block: Some(0),
        istanbul_block: Some(0),
        muir_glacier_block: Some(0),
        berlin_block: Some(0),
        london_block: Some(0),
        arrow_glacier_block: Some(0),
        gray_glacier_block: Some(0),
        merge_netsplit_block: Some(0),
        shanghai_time: Some(0),
        cancun_time: Some(0),
        prague_time: Some(0),
        osaka_time: Some(0),
        terminal_total_difficulty: Some(U256::ZERO),
        terminal_total_difficulty_passed: true,
        ..ChainConfig::default()
    };
    let blobs = [
        ("cancun", BlobParams::cancun()),
        ("prague", BlobParams::prague()),
        ("osaka", BlobParams::osaka()),
    ];
    config.blob_schedule.extend(blobs.map(|(fork, params)| (fork.to_string(), params)));
    config.extra_fields.insert("landfall".into(), landfall);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{ChainSpec, Fork, Rules, parse_genesis};

    #[test]
    fn file_passes_the_checks_of_any_genesis_and_is_ours_under_osaka() {
        let (timestamp, gas_limit) = (1_700_000_000, GAS_LIMIT);
        let dev = ChainGenesis {
            chain_id: CHAIN_ID,
            timestamp,
            gas_limit,
            base_fee: BASE_FEE,
            accounts: vec![(Address::repeat_byte(1), U256::from(5))],
            landfall: development(),
        };
        let genesis = dev.build();
        let json = serde_json::to_string(&genesis).unwrap();
        let parsed = parse_genesis(&json).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), json);
        let spec = ChainSpec::new(parsed.config.clone());
        assert_eq!(spec.rules, Rules::Landfall);
        assert_eq!(spec.fork_at(0, timestamp, U256::ZERO), Fork::Osaka);
        assert_eq!(parsed.alloc.len(), 1 + landfall_evm::system_contracts().len());
        assert_eq!(parsed.alloc[&Address::repeat_byte(1)].balance, U256::from(5));
    }
}
