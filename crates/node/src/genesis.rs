//! The genesis of a development chain: every fork through Osaka from block 0, the protocol's own
//! contracts, and accounts with money.

use alloy_eips::eip7840::BlobParams;
use alloy_genesis::{ChainConfig, Genesis, GenesisAccount};
use alloy_primitives::{Address, U256};
use serde_json::json;

/// Gas limit of a block where none is given.
pub const GAS_LIMIT: u64 = 30_000_000;
/// Base fee of block 0 where none is given, in wei.
pub const BASE_FEE: u64 = 1_000_000_000;
/// Chain id where none is given, as in anvil and Hardhat.
pub const CHAIN_ID: u64 = 31_337;

/// What distinguishes one development chain from another.
#[derive(Clone, Debug)]
pub struct DevGenesis {
    /// EIP-155.
    pub chain_id: u64,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Of block 0, and the limit that blocks keep to.
    pub gas_limit: u64,
    /// Of block 0, in wei.
    pub base_fee: u64,
    /// Who has money.
    pub accounts: Vec<Address>,
    /// How much each, in wei.
    pub balance: U256,
}

impl DevGenesis {
    /// The genesis file.
    pub fn build(&self) -> Genesis {
        let mut genesis = Genesis {
            config: config(self.chain_id),
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
        for account in &self.accounts {
            genesis.alloc.entry(*account).or_default().balance = self.balance;
        }
        genesis
    }
}

fn config(chain_id: u64) -> ChainConfig {
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
    config
        .extra_fields
        .insert("landfall".into(), json!({ "engine": "solo", "impersonation": true }));
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{ChainSpec, Fork, Rules, parse_genesis};

    #[test]
    fn file_passes_the_checks_of_any_genesis_and_is_ours_under_osaka() {
        let accounts = vec![Address::repeat_byte(1)];
        let (timestamp, gas_limit) = (1_700_000_000, GAS_LIMIT);
        let dev = DevGenesis {
            chain_id: CHAIN_ID,
            timestamp,
            gas_limit,
            base_fee: BASE_FEE,
            accounts,
            balance: U256::from(5),
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
