//! From a chain's rules and a header to what revm asks for.

use crate::cache::Cache;
use alloy_consensus::Header;
use alloy_eips::eip1559::{BaseFeeParams, INITIAL_BASE_FEE};
use alloy_eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;
use alloy_evm::{
    EvmEnv,
    eth::{EthEvm, EthEvmBuilder},
    precompiles::PrecompilesMap,
};
use alloy_primitives::U256;
use landfall_types::{ChainSpec, Fork};
use revm::{
    context::{BlockEnv, CfgEnv},
    context_interface::block::BlobExcessGasAndPrice,
    inspector::NoOpInspector,
    primitives::hardfork::SpecId,
};

/// The EVM that runs blocks.
pub(crate) type BlockEvm<'a> = EthEvm<Cache<'a>, NoOpInspector, PrecompilesMap>;

/// The newest fork whose rules hold for a header.
pub(crate) fn fork_of(spec: &ChainSpec, header: &Header) -> Fork {
    spec.fork_at(header.number, header.timestamp, header.difficulty)
}

pub(crate) fn spec_id(fork: Fork) -> SpecId {
    match fork {
        Fork::Frontier => SpecId::FRONTIER,
        Fork::Homestead | Fork::Dao => SpecId::HOMESTEAD,
        Fork::Tangerine => SpecId::TANGERINE,
        Fork::SpuriousDragon => SpecId::SPURIOUS_DRAGON,
        Fork::Byzantium => SpecId::BYZANTIUM,
        // revm leaves EIP-1283 out, which held only between these two and on no living chain.
        Fork::Constantinople | Fork::Petersburg => SpecId::PETERSBURG,
        Fork::Istanbul | Fork::MuirGlacier => SpecId::ISTANBUL,
        Fork::Berlin => SpecId::BERLIN,
        Fork::London | Fork::ArrowGlacier | Fork::GrayGlacier => SpecId::LONDON,
        Fork::Paris => SpecId::MERGE,
        Fork::Shanghai => SpecId::SHANGHAI,
        Fork::Cancun => SpecId::CANCUN,
        Fork::Prague => SpecId::PRAGUE,
        Fork::Osaka | Fork::Bpo1 | Fork::Bpo2 | Fork::Bpo3 | Fork::Bpo4 | Fork::Bpo5 => {
            SpecId::OSAKA
        }
        // `ChainSpec` names no fork beyond these.
        _ => unreachable!("{fork} is not a fork of this chain"),
    }
}

/// The configuration and the block environment for transactions under `header`.
pub(crate) fn environment(spec: &ChainSpec, header: &Header) -> EvmEnv {
    let fork = fork_of(spec, header);
    let mut cfg = CfgEnv::new_with_spec(spec_id(fork)).with_chain_id(spec.chain_id);
    let blobs = if fork >= Fork::Cancun { spec.blob_params(header.timestamp) } else { None };
    // Who may speak for anybody may speak for a contract (EIP-3607 forbids what only a key could do).
    cfg.disable_eip3607 = spec.impersonation;
    if let Some(params) = &blobs {
        cfg.set_max_blobs_per_tx(params.max_blobs_per_tx);
    }
    if fork >= Fork::Osaka {
        cfg.tx_gas_limit_cap = Some(MAX_TX_GAS_LIMIT_OSAKA);
    }
    let merged = fork >= Fork::Paris;
    let block = BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        difficulty: header.difficulty,
        prevrandao: merged.then_some(header.mix_hash),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        blob_excess_gas_and_price: blobs.map(|params| {
            let excess_blob_gas = header.excess_blob_gas.unwrap_or_default();
            let blob_gasprice = params.calc_blob_fee(excess_blob_gas);
            BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice }
        }),
        slot_num: 0,
    };
    EvmEnv::new(cfg, block)
}

pub(crate) fn block_evm<'a>(cache: Cache<'a>, environment: EvmEnv) -> BlockEvm<'a> {
    EthEvmBuilder::new(cache, environment).build()
}

/// EIP-1559's `ELASTICITY_MULTIPLIER`: blocks aim at half of their gas limit.
const ELASTICITY: u128 = 2;

/// The base fee of a block (EIP-1559, with the genesis file's denominator; zero on a chain whose
/// gas is free); `None` before London.
///
/// `number`, `timestamp` and `difficulty` are those of the block itself, which decide its fork.
pub fn next_base_fee(
    spec: &ChainSpec,
    parent: &Header,
    number: u64,
    timestamp: u64,
    difficulty: U256,
) -> Option<u64> {
    if spec.fork_at(number, timestamp, difficulty) < Fork::London {
        return None;
    }
    if spec.fees.free_gas {
        return Some(0);
    }
    let params = BaseFeeParams::new(spec.fees.base_fee_change_denominator.into(), ELASTICITY);
    // The first block of London has a parent without a base fee.
    Some(parent.next_block_base_fee(params).unwrap_or(INITIAL_BASE_FEE))
}

/// The excess blob gas of a block after `parent` (EIP-4844, EIP-7918); `None` before Cancun.
pub(crate) fn next_excess_blob_gas(
    spec: &ChainSpec,
    parent: &Header,
    fork: Fork,
    timestamp: u64,
) -> Option<u64> {
    if fork < Fork::Cancun {
        return None;
    }
    let params = spec.blob_params(timestamp)?;
    let excess = parent.excess_blob_gas.unwrap_or_default();
    let used = parent.blob_gas_used.unwrap_or_default();
    let base_fee = parent.base_fee_per_gas.unwrap_or_default();
    // Without EIP-7918 the parameters' base cost is zero and this is EIP-4844's formula.
    Some(params.next_block_excess_blob_gas_osaka(excess, used, base_fee))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::*;
    use landfall_types::FeeRules;

    /// The base fee after a block of 30 million gas that used `gas_used` at 1 gwei.
    fn after(spec: &ChainSpec, gas_used: u64) -> u64 {
        let parent = Header { gas_used, ..call_header() };
        next_base_fee(spec, &parent, 8, 5_001, U256::ZERO).unwrap()
    }

    #[test]
    fn base_fee_moves_by_at_most_one_part_in_the_denominator() {
        let gwei = GWEI as u64;
        for (denominator, step) in [(8, gwei / 8), (400, gwei / 400)] {
            let fees = FeeRules { base_fee_change_denominator: denominator, free_gas: false };
            let spec = spec_with(fees);
            assert_eq!(after(&spec, 30_000_000), gwei + step);
            assert_eq!(after(&spec, 15_000_000), gwei);
            assert_eq!(after(&spec, 0), gwei - step);
        }
        assert_eq!(after(&ethereum_spec(), 30_000_000), gwei + gwei / 8, "EIP-1559");
    }

    #[test]
    fn free_gas_has_no_base_fee_whatever_the_parent_says() {
        let fees = FeeRules { free_gas: true, ..FeeRules::default() };
        let spec = spec_with(fees);
        assert_eq!(after(&spec, 30_000_000), 0);
        let first = Header { base_fee_per_gas: None, ..call_header() };
        assert_eq!(next_base_fee(&spec, &first, 8, 5_001, U256::ZERO), Some(0));
        assert_eq!(genesis(&spec).header.base_fee_per_gas, Some(0));
    }
}
