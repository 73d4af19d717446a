//! Which rules hold at which block, as the `config` of the genesis file says.

use crate::FeeRules;
use alloy_eips::eip7840::BlobParams;
use alloy_eips::eip7892::BlobScheduleBlobParams;
use alloy_genesis::ChainConfig;
pub use alloy_hardforks::EthereumHardfork as Fork;
use alloy_primitives::{Address, B256, U256, address, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};

/// Who judges the fields of a header that Ethereum's consensus owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Ethereum's own: timestamps increase, no extension. The Ethereum test chains.
    Ethereum,
    /// Ours: the genesis has `config.landfall`; timestamps may repeat, the extension's
    /// milliseconds increase and are committed to in `parentBeaconBlockRoot`.
    Landfall,
}

/// Every fork that can hold, the newest first.
const NEWEST_FIRST: [Fork; 24] = [
    Fork::Bpo5,
    Fork::Bpo4,
    Fork::Bpo3,
    Fork::Bpo2,
    Fork::Bpo1,
    Fork::Osaka,
    Fork::Prague,
    Fork::Cancun,
    Fork::Shanghai,
    Fork::Paris,
    Fork::GrayGlacier,
    Fork::ArrowGlacier,
    Fork::London,
    Fork::Berlin,
    Fork::MuirGlacier,
    Fork::Istanbul,
    Fork::Petersburg,
    Fork::Constantinople,
    Fork::Byzantium,
    Fork::SpuriousDragon,
    Fork::Tangerine,
    Fork::Dao,
    Fork::Homestead,
    Fork::Frontier,
];

/// The deposit contract of mainnet (EIP-6110), for a genesis file that names none.
const DEPOSIT_CONTRACT: Address = address!("0x00000000219ab540356cBB839Cbe05303d7705Fa");

#[derive(RlpEncodable)]
struct RulesImage {
    chain_id: u64,
    landfall: bool,
    impersonation: bool,
    base_fee_change_denominator: u64,
    free_gas: bool,
    deposit_contract: Address,
    forks: Vec<ForkImage>,
}

#[derive(RlpEncodable)]
struct ForkImage {
    name: String,
    since: u64,
}

/// The rules of one chain.
#[derive(Clone, Debug)]
pub struct ChainSpec {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Whose rules judge timestamps and extensions.
    pub rules: Rules,
    /// The genesis has `config.landfall.impersonation: true`: blocks may hold transactions without
    /// a signature, which name their sender themselves. For development chains only.
    pub impersonation: bool,
    /// How the base fee moves: `config.landfall.baseFeeChangeDenominator` and `freeGas`.
    pub fees: FeeRules,
    /// The contract whose logs are deposit requests (EIP-6110).
    pub deposit_contract: Address,
    config: ChainConfig,
    blobs: BlobScheduleBlobParams,
}

impl ChainSpec {
    /// Reads the specification from the `config` of a genesis file, which `parse_genesis` checked.
    pub fn new(config: ChainConfig) -> Self {
        let landfall = config.extra_fields.get("landfall");
        let impersonation = landfall.and_then(|own| own.get("impersonation"));
        let impersonation = impersonation.and_then(|value| value.as_bool()) == Some(true);
        let rules = if landfall.is_some() { Rules::Landfall } else { Rules::Ethereum };
        let fees = landfall.map_or(Ok(FeeRules::default()), FeeRules::of_landfall);
        Self {
            chain_id: config.chain_id,
            rules,
            fees: fees.expect("parse_genesis checked the rules for fees"),
            impersonation,
            deposit_contract: config.deposit_contract_address.unwrap_or(DEPOSIT_CONTRACT),
            blobs: config.blob_schedule_blob_params(),
            config,
        }
    }

    /// The `config` of the genesis file.
    pub fn config(&self) -> &ChainConfig {
        &self.config
    }

    /// The number of the first block under a fork that is activated by number.
    fn first_block(&self, fork: Fork) -> Option<u64> {
        let c = &self.config;
        match fork {
            Fork::Frontier => Some(0),
            Fork::Homestead => c.homestead_block,
            Fork::Dao => c.dao_fork_block.filter(|_| c.dao_fork_support),
            Fork::Tangerine => c.eip150_block,
            Fork::SpuriousDragon => c.eip155_block.max(c.eip158_block),
            Fork::Byzantium => c.byzantium_block,
            Fork::Constantinople => c.constantinople_block,
            Fork::Petersburg => c.petersburg_block.or(c.constantinople_block),
            Fork::Istanbul => c.istanbul_block,
            Fork::MuirGlacier => c.muir_glacier_block,
            Fork::Berlin => c.berlin_block,
            Fork::London => c.london_block,
            Fork::ArrowGlacier => c.arrow_glacier_block,
            Fork::GrayGlacier => c.gray_glacier_block,
            _ => None,
        }
    }

    /// The timestamp in seconds from which a fork holds, for Shanghai and everything after it.
    pub fn activation_time(&self, fork: Fork) -> Option<u64> {
        let c = &self.config;
        match fork {
            Fork::Shanghai => c.shanghai_time,
            Fork::Cancun => c.cancun_time,
            Fork::Prague => c.prague_time,
            Fork::Osaka => c.osaka_time,
            Fork::Bpo1 => c.bpo1_time,
            Fork::Bpo2 => c.bpo2_time,
            Fork::Bpo3 => c.bpo3_time,
            Fork::Bpo4 => c.bpo4_time,
            Fork::Bpo5 => c.bpo5_time,
            _ => None,
        }
    }

    /// Whether blocks of zero difficulty (the merge) can occur on this chain.
    pub fn can_merge(&self) -> bool {
        self.config.terminal_total_difficulty.is_some()
            || self.config.terminal_total_difficulty_passed
    }

    /// Whether a fork's rules hold for a block. `difficulty` is the header's: on Ethereum it is
    /// zero after the merge, and only then. Our own chains are merged from block 0, and may carry
    /// work all the same.
    pub fn is_active(&self, fork: Fork, number: u64, timestamp: u64, difficulty: U256) -> bool {
        let merged = self.rules == Rules::Landfall || (self.can_merge() && difficulty.is_zero());
        match fork {
            Fork::Paris => merged,
            fork if fork < Fork::Paris => self.first_block(fork).is_some_and(|n| n <= number),
            fork => merged && self.activation_time(fork).is_some_and(|t| t <= timestamp),
        }
    }

    /// The newest fork whose rules hold for a block.
    pub fn fork_at(&self, number: u64, timestamp: u64, difficulty: U256) -> Fork {
        NEWEST_FIRST
            .into_iter()
            .find(|fork| self.is_active(*fork, number, timestamp, difficulty))
            .expect("Frontier holds from block 0")
    }

    /// Names the rules that the hash of block 0 does not cover: chain id, forks, fees. Nodes whose
    /// rules have other names are on other chains.
    pub fn rules_id(&self) -> B256 {
        let mut bytes = b"landfall rules v1".to_vec();
        let forks = NEWEST_FIRST.iter().rev().filter_map(|fork| {
            let since = self.first_block(*fork).or_else(|| self.activation_time(*fork))?;
            Some(ForkImage { name: fork.name().to_string(), since })
        });
        RulesImage {
            chain_id: self.chain_id,
            landfall: self.rules == Rules::Landfall,
            impersonation: self.impersonation,
            base_fee_change_denominator: self.fees.base_fee_change_denominator,
            free_gas: self.fees.free_gas,
            deposit_contract: self.deposit_contract,
            forks: forks.collect(),
        }
        .encode(&mut bytes);
        keccak256(bytes)
    }

    /// The blob schedule (EIP-7840, EIP-7892) at a timestamp; `None` before Cancun.
    pub fn blob_params(&self, timestamp: u64) -> Option<BlobParams> {
        let active = |time: Option<u64>| time.is_some_and(|t| t <= timestamp);
        let c = &self.config;
        if let Some(params) = self.blobs.active_scheduled_params_at_timestamp(timestamp) {
            Some(*params)
        } else if active(c.osaka_time) {
            Some(self.blobs.osaka)
        } else if active(c.prague_time) {
            Some(self.blobs.prague)
        } else {
            active(c.cancun_time).then_some(self.blobs.cancun)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ChainSpec {
        ChainSpec::new(ChainConfig {
            chain_id: 1,
            homestead_block: Some(0),
            london_block: Some(10),
            terminal_total_difficulty: Some(U256::ZERO),
            shanghai_time: Some(100),
            cancun_time: Some(200),
            osaka_time: Some(300),
            bpo1_time: Some(400),
            ..ChainConfig::default()
        })
    }

    #[test]
    fn fork_follows_number_then_merge_then_time() {
        let spec = spec();
        assert_eq!(spec.fork_at(9, 0, U256::from(1)), Fork::Homestead);
        assert_eq!(spec.fork_at(10, 500, U256::from(1)), Fork::London);
        assert_eq!(spec.fork_at(10, 99, U256::ZERO), Fork::Paris);
        assert_eq!(spec.fork_at(10, 100, U256::ZERO), Fork::Shanghai);
        assert_eq!(spec.fork_at(10, 400, U256::ZERO), Fork::Bpo1);
    }

    #[test]
    fn our_own_chain_is_merged_whatever_its_difficulty_says() {
        let mut config = spec().config().clone();
        config.terminal_total_difficulty = None;
        config.extra_fields.insert_value("landfall".into(), true).unwrap();
        let spec = ChainSpec::new(config);
        for difficulty in [U256::ZERO, U256::MAX] {
            assert_eq!(spec.fork_at(0, 0, difficulty), Fork::Paris);
            assert_eq!(spec.fork_at(0, 400, difficulty), Fork::Bpo1);
        }
    }

    #[test]
    fn blob_schedule_follows_time() {
        let spec = spec();
        assert_eq!(spec.blob_params(199), None);
        assert_eq!(spec.blob_params(200), Some(BlobParams::cancun()));
        assert_eq!(spec.blob_params(300), Some(BlobParams::osaka()));
    }
}
