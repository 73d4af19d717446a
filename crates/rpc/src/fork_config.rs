//! `eth_config` (EIP-7910): the present fork, the next and the last, as clients compare them.

use crate::errors::{Outcome, server_error};
use alloy_eips::{eip2935, eip4788, eip7002, eip7251};
use alloy_primitives::{Address, B256, Bytes, U64};
use landfall_types::{ChainSpec, Fork};
use serde_json::{Map, Value, json};

/// Describes the chain at a time; `genesis` is the hash of block 0.
pub(crate) fn describe(spec: &ChainSpec, genesis: B256, now: u64) -> Outcome<Value> {
    let (_, times) = activations(spec);
    let Some(cancun) = spec.activation_time(Fork::Cancun).filter(|time| *time <= now) else {
        return Err(server_error("eth_config needs Cancun, which is not active"));
    };
    let current = times.iter().copied().filter(|time| *time <= now).max().unwrap_or(cancun);
    let next = times.iter().copied().find(|time| *time > now);
    let last = times.last().copied().filter(|time| *time > now);
    let at = |time: Option<u64>| time.map(|time| fork(spec, genesis, time));
    Ok(json!({ "current": at(Some(current)), "next": at(next), "last": at(last) }))
}

fn fork(spec: &ChainSpec, genesis: B256, time: u64) -> Value {
    let blobs = spec.blob_params(time).map(|params| {
        json!({
            "target": params.target_blob_count,
            "max": params.max_blob_count,
            "baseFeeUpdateFraction": params.update_fraction as u64,
        })
    });
    json!({
        "activationTime": time,
        "blobSchedule": blobs,
        "chainId": U64::from(spec.chain_id),
        "forkId": Bytes::copy_from_slice(&fork_id(spec, genesis, time).to_be_bytes()),
        "precompiles": precompiles(spec, time),
        "systemContracts": system_contracts(spec, time),
    })
}

/// The numbers and the times at which rules change, ascending, without repetition.
fn activations(spec: &ChainSpec) -> (Vec<u64>, Vec<u64>) {
    let c = spec.config();
    let ascending = |all: &[Option<u64>]| {
        let mut all: Vec<u64> = all.iter().copied().flatten().collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let blocks = ascending(&[
        c.homestead_block,
        c.dao_fork_block,
        c.eip150_block,
        c.eip155_block,
        c.eip158_block,
        c.byzantium_block,
        c.constantinople_block,
        c.petersburg_block,
        c.istanbul_block,
        c.muir_glacier_block,
        c.berlin_block,
        c.london_block,
        c.arrow_glacier_block,
        c.gray_glacier_block,
        c.merge_netsplit_block,
    ]);
    let times = ascending(&[
        c.shanghai_time,
        c.cancun_time,
        c.prague_time,
        c.osaka_time,
        c.bpo1_time,
        c.bpo2_time,
        c.bpo3_time,
        c.bpo4_time,
        c.bpo5_time,
    ]);
    (blocks, times)
}

/// The checksum of EIP-2124 over genesis and every activation up to a time (EIP-6122).
fn fork_id(spec: &ChainSpec, genesis: B256, time: u64) -> u32 {
    let (blocks, times) = activations(spec);
    let passed = times.into_iter().filter(|activation| *activation <= time);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(genesis.as_slice());
    for activation in blocks.into_iter().chain(passed).filter(|activation| *activation > 0) {
        checksum.update(&activation.to_be_bytes());
    }
    checksum.finalize()
}

const PRECOMPILES: [(&str, u64, Fork); 18] = [
    ("ECREC", 0x01, Fork::Frontier),
    ("SHA256", 0x02, Fork::Frontier),
    ("RIPEMD160", 0x03, Fork::Frontier),
    ("ID", 0x04, Fork::Frontier),
    ("MODEXP", 0x05, Fork::Byzantium),
    ("BN254_ADD", 0x06, Fork::Byzantium),
    ("BN254_MUL", 0x07, Fork::Byzantium),
    ("BN254_PAIRING", 0x08, Fork::Byzantium),
    ("BLAKE2F", 0x09, Fork::Istanbul),
    ("KZG_POINT_EVALUATION", 0x0a, Fork::Cancun),
    ("BLS12_G1ADD", 0x0b, Fork::Prague),
    ("BLS12_G1MSM", 0x0c, Fork::Prague),
    ("BLS12_G2ADD", 0x0d, Fork::Prague),
    ("BLS12_G2MSM", 0x0e, Fork::Prague),
    ("BLS12_PAIRING_CHECK", 0x0f, Fork::Prague),
    ("BLS12_MAP_FP_TO_G1", 0x10, Fork::Prague),
    ("BLS12_MAP_FP2_TO_G2", 0x11, Fork::Prague),
    ("P256VERIFY", 0x100, Fork::Osaka),
];

/// Whether a fork is active at a time at or after Cancun.
fn has(spec: &ChainSpec, fork: Fork, time: u64) -> bool {
    fork < Fork::Paris || spec.activation_time(fork).is_some_and(|activation| activation <= time)
}

fn precompiles(spec: &ChainSpec, time: u64) -> Map<String, Value> {
    let active = PRECOMPILES.iter().filter(|(_, _, since)| has(spec, *since, time));
    let address = |place: u64| Address::from_word(B256::from(alloy_primitives::U256::from(place)));
    active.map(|(name, place, _)| ((*name).to_owned(), json!(address(*place)))).collect()
}

fn system_contracts(spec: &ChainSpec, time: u64) -> Map<String, Value> {
    let contracts = [
        ("BEACON_ROOTS_ADDRESS", eip4788::BEACON_ROOTS_ADDRESS, Fork::Cancun),
        (
            "CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS",
            eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
            Fork::Prague,
        ),
        ("DEPOSIT_CONTRACT_ADDRESS", spec.deposit_contract, Fork::Prague),
        ("HISTORY_STORAGE_ADDRESS", eip2935::HISTORY_STORAGE_ADDRESS, Fork::Prague),
        (
            "WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS",
            eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
            Fork::Prague,
        ),
    ];
    let active = contracts.into_iter().filter(|(_, _, since)| has(spec, *since, time));
    active.map(|(name, address, _)| (name.to_owned(), json!(address))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn fork_id_of_mainnet_is_the_known_one() {
        let config = serde_json::json!({
            "chainId": 1, "homesteadBlock": 1150000, "daoForkBlock": 1920000,
            "daoForkSupport": true, "eip150Block": 2463000, "eip155Block": 2675000,
            "eip158Block": 2675000, "byzantiumBlock": 4370000,
            "constantinopleBlock": 7280000, "petersburgBlock": 7280000,
            "istanbulBlock": 9069000, "muirGlacierBlock": 9200000, "berlinBlock": 12244000,
            "londonBlock": 12965000, "arrowGlacierBlock": 13773000,
            "grayGlacierBlock": 15050000, "shanghaiTime": 1681338455_u64,
            "cancunTime": 1710338135_u64, "pragueTime": 1746612311_u64,
            "terminalTotalDifficulty": 0,
        });
        let spec = ChainSpec::new(serde_json::from_value(config).unwrap());
        let genesis = b256!("d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3");
        assert_eq!(fork_id(&spec, genesis, 1_681_338_455), 0xdce9_6c2d);
        assert_eq!(fork_id(&spec, genesis, 1_710_338_135), 0x9f3d_2254);
        let described = describe(&spec, genesis, 1_710_338_135).unwrap();
        assert_eq!(described["next"]["activationTime"], 1_746_612_311_u64);
        assert!(described["current"]["precompiles"].get("BLS12_G1ADD").is_none());
        assert!(described["next"]["precompiles"].get("BLS12_G1ADD").is_some());
    }
}
