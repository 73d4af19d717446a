//! What a block pays its maker, and how much there is at a height.

use alloy_consensus::proofs::calculate_withdrawals_root;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256};
use landfall_types::{Height, PowParams};

/// The subsidy of a block in gwei: `params.subsidy`, halved every `params.subsidy_halving` blocks.
pub fn subsidy_at(params: &PowParams, height: Height) -> u64 {
    let halvings = height.0.checked_div(params.subsidy_halving).unwrap_or(0);
    let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
    params.subsidy.checked_shr(halvings).unwrap_or(0)
}

/// All subsidies of the blocks 1 to `height`, in gwei. Block 0 pays nobody.
pub fn supply_at(params: &PowParams, height: Height) -> u128 {
    let block = |height| u128::from(subsidy_at(params, Height(height)));
    let period = u128::from(params.subsidy_halving);
    if period == 0 {
        return u128::from(height.0) * block(1);
    }
    let (mut sum, mut from) = (0, 1);
    while let Ok(first) = u64::try_from(from)
        && first <= height.0
        && block(first) > 0
    {
        let until = ((from / period + 1) * period).min(u128::from(height.0) + 1);
        sum += (until - from) * block(first);
        from = until;
    }
    sum
}

/// The withdrawals of a block (EIP-4895): its subsidy, to its beneficiary, while there is one.
pub fn withdrawals_at(params: &PowParams, height: Height, beneficiary: Address) -> Vec<Withdrawal> {
    match subsidy_at(params, height) {
        0 => Vec::new(),
        amount => {
            vec![Withdrawal { index: height.0, validator_index: 0, address: beneficiary, amount }]
        }
    }
}

/// What the header of a block must say of its withdrawals.
pub(super) fn withdrawals_root(params: &PowParams, height: Height, beneficiary: Address) -> B256 {
    calculate_withdrawals_root(&withdrawals_at(params, height, beneficiary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_consensus::constants::EMPTY_WITHDRAWALS;
    use alloy_primitives::U256;
    use landfall_types::Span;

    fn params(subsidy: u64, subsidy_halving: u64) -> PowParams {
        PowParams {
            block_interval: Span(1),
            half_life: Span(1),
            first_target: U256::MAX,
            safe_depth: 1,
            final_depth: 2,
            clock_drift: Span(0),
            subsidy,
            subsidy_halving,
        }
    }

    #[test]
    fn subsidy_halves_until_nothing_is_left() {
        let params = params(1_000, 10);
        let paid = [0, 9, 10, 19, 20, 99, 100].map(|height| subsidy_at(&params, Height(height)));
        assert_eq!(paid, [1_000, 1_000, 500, 500, 250, 1, 0]);
        assert_eq!(subsidy_at(&params, Height(u64::MAX)), 0);
    }

    #[test]
    fn supply_is_the_sum_of_all_subsidies() {
        for (subsidy, period) in [(1_000, 10), (7, 1), (7, 3), (0, 3), (1_000, 0), (u64::MAX, 2)] {
            let params = params(subsidy, period);
            let mut sum = 0;
            for height in 0..200 {
                if height > 0 {
                    sum += u128::from(subsidy_at(&params, Height(height)));
                }
                assert_eq!(supply_at(&params, Height(height)), sum, "{subsidy} {period} {height}");
            }
        }
    }

    #[test]
    fn supply_of_the_last_height_is_computed_at_once() {
        let most = u128::from(u64::MAX);
        let last = Height(u64::MAX);
        assert_eq!(supply_at(&params(u64::MAX, 0), last), most * most);
        assert_eq!(supply_at(&params(u64::MAX, u64::MAX), last), (most - 1) * most + most / 2);
        assert_eq!(supply_at(&params(4, 1_000), last), 999 * 4 + 2_000 + 1_000);
    }

    #[test]
    fn block_without_subsidy_has_no_withdrawal() {
        let me = Address::repeat_byte(1);
        let one = withdrawals_at(&params(4, 10), Height(10), me);
        assert_eq!((one[0].index, one[0].address, one[0].amount), (10, me, 2));
        assert_eq!(one.len(), 1);
        assert!(withdrawals_at(&params(4, 10), Height(30), me).is_empty());
        assert_eq!(withdrawals_root(&params(4, 10), Height(30), me), EMPTY_WITHDRAWALS);
    }
}
