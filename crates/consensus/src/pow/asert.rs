//! Difficulty by `aserti3-2d`: absolutely scheduled, exponentially rising targets.
//!
//! `next_target = anchor_target * 2^((time_delta - ideal_block_time * (height_delta + 1)) / half_life)`
//! by the specification of 2020-11-15, version 0.6.3, in integers. The Python of that text leaves
//! the radix out of the exponent; the sentences around it and its test vectors have it.
//!
//! It takes times as they are given, in any one unit, and never looks at a block.

use alloy_primitives::{U256, U512};

/// Bits of the exponent behind the binary point.
const RADIX_BITS: usize = 16;

/// The constants of a schedule, all in one unit of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asert {
    /// The target of the anchor block.
    pub anchor_target: U256,
    /// The time between two blocks that is aimed at.
    pub ideal_block_time: u64,
    /// So far behind schedule, the target doubles; so far ahead, it halves.
    pub half_life: u64,
    /// The easiest target.
    pub max_target: U256,
}

impl Asert {
    /// The target of the block after one that stands `height_delta` above the anchor block (-1:
    /// the anchor's parent) and was made `time_delta` after the anchor's *parent*.
    pub fn next_target(&self, time_delta: i128, height_delta: i128) -> U256 {
        assert!(self.half_life > 0, "a difficulty schedule needs a half-life");
        let scheduled = i128::from(self.ideal_block_time).saturating_mul(height_delta + 1);
        let behind = time_delta.saturating_sub(scheduled);
        let behind = if crate::planted!(AsertSign) { behind.saturating_neg() } else { behind };
        // Rust's division truncates toward zero and its shift is arithmetic, as the text demands.
        let exponent = behind.saturating_mul(1 << RADIX_BITS) / i128::from(self.half_life);
        let shifts = exponent >> RADIX_BITS;
        let fraction = (exponent - (shifts << RADIX_BITS)).unsigned_abs();
        shifted(self.anchor_target, factor(fraction), shifts)
            .clamp(U256::ONE, self.max_target.max(U256::ONE))
    }
}

/// `2^(fraction / 2^16)` in units of `2^-16`, by a cubic approximation.
fn factor(fraction: u128) -> U512 {
    let cubic = 195_766_423_245_049 * fraction
        + 971_821_376 * fraction.pow(2)
        + 5_127 * fraction.pow(3)
        + (1 << 47);
    U512::from((cubic >> 48) + (1 << RADIX_BITS))
}

/// `target * factor * 2^shifts / 2^16`, rounded down; the greatest number if it has no room.
fn shifted(target: U256, factor: U512, shifts: i128) -> U256 {
    let product = U512::from(target) * factor;
    let value = match usize::try_from(shifts.unsigned_abs()) {
        Err(_) if shifts < 0 => U512::ZERO,
        Err(_) => U512::MAX,
        Ok(right) if shifts < 0 => (product >> right) >> RADIX_BITS,
        Ok(left) if left > U256::BITS || product.bit_len() + left > U512::BITS => U512::MAX,
        Ok(left) => (product << left) >> RADIX_BITS,
    };
    U256::saturating_from(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_to(power: usize) -> U256 {
        U256::ONE << power
    }

    fn schedule() -> Asert {
        Asert {
            anchor_target: two_to(224),
            ideal_block_time: 2,
            half_life: 576,
            max_target: U256::MAX,
        }
    }

    #[test]
    fn target_doubles_one_half_life_behind_and_halves_one_ahead() {
        let asert = schedule();
        assert_eq!(asert.next_target(2, 0), two_to(224));
        assert_eq!(asert.next_target(0, -1), two_to(224));
        assert_eq!(asert.next_target(776, 99), two_to(225));
        assert_eq!(asert.next_target(0, 287), two_to(223));
        assert_eq!(asert.next_target(0, 575), two_to(222));
        assert_eq!(asert.next_target(0, 0), U256::from(0xff_63_80) << 200);
    }

    #[test]
    fn unit_of_time_does_not_matter() {
        let seconds = schedule();
        let milliseconds = Asert { ideal_block_time: 2_000, half_life: 576_000, ..schedule() };
        for (time, height) in [(3, 0), (776, 99), (12_345, 17), (0, 9), (-5, 3)] {
            assert_eq!(
                seconds.next_target(time, height),
                milliseconds.next_target(time * 1_000, height),
            );
        }
    }

    #[test]
    fn absurd_times_and_heights_end_at_the_bounds() {
        let asert = schedule();
        for (time, height, target) in [
            (i128::MAX, 0, U256::MAX),
            (i128::MIN, 0, U256::ONE),
            (0, i128::from(u64::MAX), U256::ONE),
            (i128::from(u64::MAX), 0, U256::MAX),
            (576 * 32, -1, U256::MAX),
            (576 * 31, -1, two_to(255)),
            (-576 * 224, -1, U256::ONE),
            (-576 * 225, -1, U256::ONE),
        ] {
            assert_eq!(asert.next_target(time, height), target, "{time} {height}");
        }
        let hardest = Asert { anchor_target: U256::ONE, ..schedule() };
        assert_eq!(hardest.next_target(576 * 255, -1), two_to(255));
        assert_eq!(hardest.next_target(576 * 256, -1), U256::MAX);
    }

    #[test]
    fn target_never_falls_while_time_passes() {
        let asert = schedule();
        let targets: Vec<U256> = (0..3_000).map(|time| asert.next_target(time, 99)).collect();
        assert!(targets.is_sorted());
    }
}
