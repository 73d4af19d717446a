//! Work and targets: how hard a block of proof of work is to find.

use alloy_primitives::U256;

/// The work that a target stands for, the mean number of tries: `2^256 / (target + 1)`.
pub fn work_of(target: U256) -> U256 {
    match target.checked_add(U256::ONE) {
        None => U256::ONE,
        // 2^256 / d = (2^256 - d) / d + 1, and the first 2^256 has no room.
        Some(d) => (U256::ZERO.wrapping_sub(d) / d).saturating_add(U256::ONE),
    }
}

/// The easiest target that stands for a work; `None` for no work at all. Headers hold the work,
/// and from this function their target, so that a header can be checked alone.
pub fn target_of(work: U256) -> Option<U256> {
    let less = work.checked_sub(U256::ONE)?;
    Some((U256::MAX - less) / work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_target_are_inverse() {
        let two_to = |power: usize| U256::ONE << power;
        assert_eq!(work_of(U256::MAX), U256::ONE);
        assert_eq!(work_of(U256::ZERO.wrapping_sub(U256::from(2))), U256::ONE);
        assert_eq!(work_of(U256::ONE), two_to(255));
        assert_eq!(work_of(two_to(224) - U256::ONE), two_to(32));
        assert_eq!(target_of(U256::ONE), Some(U256::MAX));
        assert_eq!(target_of(two_to(32)), Some(two_to(224) - U256::ONE));
        for work in (1..1_000).map(U256::from).chain((0..=255).map(two_to)) {
            let target = target_of(work).unwrap();
            assert!(target == U256::ZERO || work_of(target) == work, "{work}");
            if let Some(above) = target.checked_add(U256::ONE) {
                assert!(work_of(above) < work, "{target} is the easiest target of {work}");
            }
        }
    }
}
