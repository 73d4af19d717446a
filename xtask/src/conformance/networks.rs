//! The rules of a chain by the name of its network in the blockchain tests.

use alloy_eips::eip7840::BlobParams;
use alloy_genesis::ChainConfig;
use alloy_primitives::U256;
use landfall_types::Fork;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Forks in order, by their names in the tests.
const FORKS: [(&str, Fork); 21] = [
    ("Frontier", Fork::Frontier),
    ("Homestead", Fork::Homestead),
    ("Dao", Fork::Dao),
    ("EIP150", Fork::Tangerine),
    ("EIP158", Fork::SpuriousDragon),
    ("Byzantium", Fork::Byzantium),
    ("Constantinople", Fork::Constantinople),
    ("ConstantinopleFix", Fork::Petersburg),
    ("Istanbul", Fork::Istanbul),
    ("Berlin", Fork::Berlin),
    ("London", Fork::London),
    ("ArrowGlacier", Fork::ArrowGlacier),
    ("Paris", Fork::Paris),
    ("Shanghai", Fork::Shanghai),
    ("Cancun", Fork::Cancun),
    ("Prague", Fork::Prague),
    ("Osaka", Fork::Osaka),
    ("BPO1", Fork::Bpo1),
    ("BPO2", Fork::Bpo2),
    ("BPO3", Fork::Bpo3),
    ("BPO4", Fork::Bpo4),
];

/// A fork that holds from block 0, and at most one later.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    first: Fork,
    /// The next fork: its block, timestamp or total difficulty.
    next: Option<(Fork, u64)>,
}

/// One entry of `config.blobSchedule`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlobSchedule {
    target: U256,
    max: U256,
    base_fee_update_fraction: U256,
}

impl Network {
    /// Reads a name such as `Cancun`, `BerlinToLondonAt5` or `PragueToOsakaAtTime15k`.
    pub fn parse(name: &str) -> Result<Self, String> {
        let unknown = || format!("unknown network {name}");
        let fork =
            |name: &str| FORKS.iter().find(|(known, _)| *known == name).map(|(_, fork)| *fork);
        let Some((first, rest)) = name.split_once("To") else {
            return Ok(Self { first: fork(name).ok_or_else(unknown)?, next: None });
        };
        let (next, at) = rest.split_once("At").ok_or_else(unknown)?;
        let at = match (at.strip_prefix("Time"), at.strip_prefix("Diff")) {
            (Some(time), _) => time
                .strip_suffix('k')
                .and_then(|thousands| thousands.parse::<u64>().ok())
                .map(|thousands| thousands * 1_000),
            (_, Some(difficulty)) => u64::from_str_radix(difficulty, 16).ok(),
            _ => at.parse().ok(),
        };
        let first = fork(first).ok_or_else(unknown)?;
        let next = (fork(next).ok_or_else(unknown)?, at.ok_or_else(unknown)?);
        Ok(Self { first, next: Some(next) })
    }

    /// Whether all of the chain stands under the rules of Paris or later.
    pub fn is_merged(self) -> bool {
        self.first >= Fork::Paris
    }

    /// The `config` of a genesis file for such a chain.
    pub fn config(self, chain_id: u64, blobs: &BTreeMap<String, BlobSchedule>) -> ChainConfig {
        let since = |fork| match self.next {
            _ if fork <= self.first => Some(0),
            Some((next, at)) if fork <= next => Some(at),
            _ => None,
        };
        let blob_params = |(name, schedule): (&String, &BlobSchedule)| {
            let params = BlobParams {
                target_blob_count: schedule.target.saturating_to(),
                max_blob_count: schedule.max.saturating_to(),
                update_fraction: schedule.base_fee_update_fraction.saturating_to(),
                max_blobs_per_tx: schedule.max.saturating_to(),
                ..BlobParams::cancun()
            };
            (name.to_lowercase(), params)
        };
        let dao = self.next.filter(|(next, _)| *next == Fork::Dao).map(|(_, at)| at);
        ChainConfig {
            chain_id,
            homestead_block: since(Fork::Homestead),
            dao_fork_block: dao,
            dao_fork_support: dao.is_some(),
            eip150_block: since(Fork::Tangerine),
            eip155_block: since(Fork::SpuriousDragon),
            eip158_block: since(Fork::SpuriousDragon),
            byzantium_block: since(Fork::Byzantium),
            constantinople_block: since(Fork::Constantinople),
            petersburg_block: since(Fork::Petersburg),
            istanbul_block: since(Fork::Istanbul),
            berlin_block: since(Fork::Berlin),
            london_block: since(Fork::London),
            arrow_glacier_block: since(Fork::ArrowGlacier),
            terminal_total_difficulty: since(Fork::Paris).map(U256::from),
            shanghai_time: since(Fork::Shanghai),
            cancun_time: since(Fork::Cancun),
            prague_time: since(Fork::Prague),
            osaka_time: since(Fork::Osaka),
            bpo1_time: since(Fork::Bpo1),
            bpo2_time: since(Fork::Bpo2),
            bpo3_time: since(Fork::Bpo3),
            bpo4_time: since(Fork::Bpo4),
            blob_schedule: blobs.iter().map(blob_params).collect(),
            ..ChainConfig::default()
        }
    }
}
