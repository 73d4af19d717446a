//! What gas costs on a chain: two settings of the genesis.

use crate::GenesisError;
use crate::consensus_config::section::Section;
use serde_json::Value;

/// How the base fee moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeRules {
    /// A full or an empty block moves the base fee by this fraction of itself (EIP-1559's
    /// `BASE_FEE_MAX_CHANGE_DENOMINATOR`). Ethereum has 8 for blocks every 12 seconds; shorter
    /// intervals want more, or the fee runs away within a breath.
    pub base_fee_change_denominator: u64,
    /// The base fee is zero in every block, so that a transaction need not pay for its gas. A tip
    /// that is offered all the same goes to the proposer.
    pub free_gas: bool,
}

impl Default for FeeRules {
    /// Ethereum's.
    fn default() -> Self {
        Self { base_fee_change_denominator: 8, free_gas: false }
    }
}

impl FeeRules {
    /// The keys in `config.landfall`.
    pub(crate) const KEYS: [&str; 2] = ["baseFeeChangeDenominator", "freeGas"];

    /// From `config.landfall`. What is not an object has no settings.
    pub(crate) fn of_landfall(landfall: &Value) -> Result<Self, GenesisError> {
        match Section::new("config.landfall", landfall) {
            Ok(section) => Self::read(&section),
            Err(_) => Ok(Self::default()),
        }
    }

    pub(crate) fn read(section: &Section<'_>) -> Result<Self, GenesisError> {
        let [denominator, free] = Self::KEYS;
        let mut rules = Self::default();
        if let Some(flag) = section.flag(free)? {
            rules.free_gas = flag;
        }
        if let Some(count) = section.count(denominator)? {
            if count < 2 {
                return Err(section.invalid(denominator, "must be at least 2; Ethereum has 8"));
            }
            if rules.free_gas {
                let reason = "has no effect on a chain with freeGas; remove it";
                return Err(section.invalid(denominator, reason));
            }
            rules.base_fee_change_denominator = count;
        }
        Ok(rules)
    }
}
