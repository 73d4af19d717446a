//! Work on a header: what its nonce must meet, and the search for one.
//!
//! Only the 64 bits of the nonce are searched: all else in the header is fixed before the block is
//! executed. Nothing here keeps state or runs for long: [`search`] takes a number of tries, so its
//! caller can stop between two calls, and may give each thread a range of its own.

use alloy_consensus::Header;
use alloy_primitives::{B64, B256, U256, keccak256};
use landfall_types::target_of;

/// What the nonce of a header makes of it: `keccak(hash of the header with nonce zero || nonce)`.
pub fn work_hash(header: &Header) -> B256 {
    hash_with(unsealed_hash(header), u64::from_be_bytes(header.nonce.0))
}

/// Whether the header's nonce meets the difficulty that the header itself names. Whether that is
/// the difficulty it should name, only its parent tells.
pub fn meets(header: &Header) -> bool {
    target_of(header.difficulty).is_some_and(|target| hash_meets(work_hash(header), target))
}

/// The first nonce, of `tries` from `from_nonce` on, that meets the header's difficulty.
pub fn search(header: &Header, from_nonce: u64, tries: u64) -> Option<u64> {
    let target = target_of(header.difficulty)?;
    let unsealed = unsealed_hash(header);
    let last = from_nonce.saturating_add(tries.checked_sub(1)?);
    (from_nonce..=last).find(|nonce| hash_meets(hash_with(unsealed, *nonce), target))
}

fn unsealed_hash(header: &Header) -> B256 {
    Header { nonce: B64::ZERO, ..header.clone() }.hash_slow()
}

fn hash_with(unsealed: B256, nonce: u64) -> B256 {
    let mut bytes = [0; 40];
    bytes[..32].copy_from_slice(unsealed.as_slice());
    bytes[32..].copy_from_slice(&nonce.to_be_bytes());
    keccak256(bytes)
}

fn hash_meets(hash: B256, target: U256) -> bool {
    U256::from_be_bytes(hash.0) <= target
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    fn header(difficulty: u64) -> Header {
        Header { number: 7, difficulty: U256::from(difficulty), ..Header::default() }
    }

    fn sealed(header: &Header, nonce: u64) -> Header {
        Header { nonce: nonce.into(), ..header.clone() }
    }

    #[test]
    fn work_hash_covers_the_header_and_the_nonce() {
        let header = header(5);
        let mut bytes = header.hash_slow().to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(work_hash(&sealed(&header, 0x102)), keccak256(&bytes));
        let other = Header { gas_used: 1, ..header.clone() };
        assert_ne!(work_hash(&other), work_hash(&header));
        // The format is for ever: this value must not change.
        assert_eq!(
            work_hash(&sealed(&Header::default(), 1)),
            b256!("31d5d4cbc0e4a79af9974a14607b8f2347a0e5ebe535391d3a3641243f048ff8"),
        );
    }

    #[test]
    fn search_finds_the_first_nonce_that_meets_the_difficulty() {
        let header = header(50);
        let found = search(&header, 0, 10_000).unwrap();
        assert!(meets(&sealed(&header, found)));
        assert!((0..found).all(|nonce| !meets(&sealed(&header, nonce))));
        // In chunks, as a host searches that wants to be able to stop.
        let chunk = |n: u64| search(&header, n * 7, 7);
        assert_eq!((0..10_000).find_map(chunk), Some(found));
        assert_eq!(search(&header, 0, found), None);
        assert_eq!(search(&header, found, 1), Some(found));
    }

    #[test]
    fn search_ends_with_the_nonces_and_without_tries() {
        let hard = Header { difficulty: U256::MAX, ..header(0) };
        assert_eq!(search(&hard, u64::MAX - 10, u64::MAX), None);
        assert_eq!(search(&header(1), 5, 0), None);
        assert_eq!(search(&header(1), u64::MAX, 1), Some(u64::MAX));
    }

    #[test]
    fn no_header_meets_a_difficulty_of_zero() {
        assert!(!meets(&header(0)));
        assert_eq!(search(&header(0), 0, 10), None);
        assert!(meets(&header(1)));
    }
}
