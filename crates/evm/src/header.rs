//! The rules for a header that need only its parent.

use crate::{
    Invalid,
    environment::{fork_of, next_excess_blob_gas},
    next_base_fee,
};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, Header};
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_primitives::B64;
use landfall_types::{ChainSpec, Extension, Fork, Rules};

const MAX_EXTRA_DATA: usize = 32;
pub(crate) const MIN_GAS_LIMIT: u64 = 5_000;
const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
pub(crate) const GAS_LIMIT_DIVISOR: u64 = 1_024;

/// Checks a header and its extension against the parent, which the caller found by its hash.
///
/// Seals, difficulty and the ancestry of ommers are not judged here; a timestamp in the future is
/// a matter of the node's clock.
pub fn validate_header(
    spec: &ChainSpec,
    header: &Header,
    extension: &[u8],
    parent: &Header,
    parent_extension: &[u8],
) -> Result<(), Invalid> {
    let want = parent.number.saturating_add(1);
    if header.number != want {
        return Err(Invalid::Number { have: header.number, want });
    }
    match spec.rules {
        Rules::Ethereum if !extension.is_empty() => {
            return Err(Invalid::Extension("a block under Ethereum's rules has none"));
        }
        Rules::Ethereum if header.timestamp <= parent.timestamp => {
            let (have, parent) = (header.timestamp, parent.timestamp);
            return Err(Invalid::Timestamp { have, parent });
        }
        Rules::Ethereum => {}
        Rules::Landfall => check_extension(header, extension, parent, parent_extension)?,
    }
    let fork = fork_of(spec, header);
    check_form(spec, fork, header, parent)?;
    check_gas(spec, fork, header, parent)?;
    check_blobs(spec, fork, header, parent)
}

fn check_extension(
    header: &Header,
    extension: &[u8],
    parent: &Header,
    parent_extension: &[u8],
) -> Result<(), Invalid> {
    let malformed = |_| Invalid::Extension("it is not the RLP of an extension");
    let milliseconds = Extension::from_bytes(extension).map_err(malformed)?.milliseconds;
    let parent_milliseconds =
        Extension::from_bytes(parent_extension).map_err(malformed)?.milliseconds;
    if header.timestamp < parent.timestamp {
        let (have, parent) = (header.timestamp, parent.timestamp);
        return Err(Invalid::Timestamp { have, parent });
    }
    if milliseconds <= parent_milliseconds {
        return Err(Invalid::Milliseconds { have: milliseconds, parent: parent_milliseconds });
    }
    if header.timestamp != milliseconds / 1_000 {
        return Err(Invalid::TimestampOfMilliseconds { timestamp: header.timestamp, milliseconds });
    }
    let want = Extension::commitment(extension);
    match header.parent_beacon_block_root {
        Some(have) if have == want => Ok(()),
        Some(have) => Err(Invalid::ExtensionCommitment { have, want }),
        None => Err(Invalid::FieldOfFork { field: "parentBeaconBlockRoot", expected: true }),
    }
}

/// Which fields are there, and those that never vary after the merge.
fn check_form(
    spec: &ChainSpec,
    fork: Fork,
    header: &Header,
    parent: &Header,
) -> Result<(), Invalid> {
    if header.extra_data.len() > MAX_EXTRA_DATA {
        return Err(Invalid::ExtraData(header.extra_data.len()));
    }
    if fork >= Fork::Paris {
        // On our own chains the nonce is the engine's to judge: it may be one of work.
        if spec.rules == Rules::Ethereum && header.nonce != B64::ZERO {
            return Err(Invalid::Nonce);
        }
        if header.ommers_hash != EMPTY_OMMER_ROOT_HASH {
            return Err(Invalid::Ommers("there are none after the merge"));
        }
    } else if fork_of(spec, parent) >= Fork::Paris {
        return Err(Invalid::Difficulty(header.difficulty));
    }
    let fields = [
        ("withdrawalsRoot", header.withdrawals_root.is_some(), Some(Fork::Shanghai)),
        ("blobGasUsed", header.blob_gas_used.is_some(), Some(Fork::Cancun)),
        ("excessBlobGas", header.excess_blob_gas.is_some(), Some(Fork::Cancun)),
        ("parentBeaconBlockRoot", header.parent_beacon_block_root.is_some(), Some(Fork::Cancun)),
        ("requestsHash", header.requests_hash.is_some(), Some(Fork::Prague)),
        ("blockAccessListHash", header.block_access_list_hash.is_some(), None),
        ("slotNumber", header.slot_number.is_some(), None),
    ];
    for (field, present, since) in fields {
        let expected = since.is_some_and(|since| fork >= since);
        if present != expected {
            return Err(Invalid::FieldOfFork { field, expected });
        }
    }
    Ok(())
}

fn check_gas(
    spec: &ChainSpec,
    fork: Fork,
    header: &Header,
    parent: &Header,
) -> Result<(), Invalid> {
    if header.gas_used > header.gas_limit {
        let (used, limit) = (header.gas_used, header.gas_limit);
        return Err(Invalid::GasUsedAboveLimit { used, limit });
    }
    let parent_limit = parent_gas_limit(fork, parent);
    let bound = parent_limit / GAS_LIMIT_DIVISOR;
    let have = header.gas_limit;
    let allowed = MIN_GAS_LIMIT..=MAX_GAS_LIMIT;
    if have.abs_diff(parent_limit) >= bound || !allowed.contains(&have) {
        return Err(Invalid::GasLimit { have, parent: parent.gas_limit });
    }
    let want = next_base_fee(spec, parent, header.number, header.timestamp, header.difficulty);
    if header.base_fee_per_gas != want {
        return Err(Invalid::BaseFee { have: header.base_fee_per_gas, want });
    }
    Ok(())
}

/// The limit that the bound of 1/1024 starts from: EIP-1559 doubles it once.
pub(crate) fn parent_gas_limit(fork: Fork, parent: &Header) -> u64 {
    if fork >= Fork::London && parent.base_fee_per_gas.is_none() {
        parent.gas_limit.saturating_mul(2)
    } else {
        parent.gas_limit
    }
}

fn check_blobs(
    spec: &ChainSpec,
    fork: Fork,
    header: &Header,
    parent: &Header,
) -> Result<(), Invalid> {
    let (Some(used), Some(have)) = (header.blob_gas_used, header.excess_blob_gas) else {
        return Ok(());
    };
    let max = spec.blob_params(header.timestamp).map_or(0, |p| p.max_blob_gas_per_block());
    if used > max || used % DATA_GAS_PER_BLOB != 0 {
        return Err(Invalid::BlobGasLimit { used, max });
    }
    let want = next_excess_blob_gas(spec, parent, fork, header.timestamp).unwrap_or_default();
    if have != want {
        return Err(Invalid::ExcessBlobGas { have, want });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockBuilder, memory::MemoryState, tests::*};
    use alloy_primitives::{B256, U256};
    use landfall_types::Block;

    /// A block of ours after the genesis of [`landfall_spec`].
    fn next(spec: &ChainSpec, parent: &Block, milliseconds: u64) -> Block {
        let state = MemoryState::default().with_system_contracts();
        let builder = BlockBuilder::new(spec, parent, next_block(milliseconds), &state).unwrap();
        seal(builder.finish().unwrap())
    }

    fn check(spec: &ChainSpec, block: &Block, parent: &Block) -> Result<(), Invalid> {
        validate_header(spec, &block.header, &block.extension, &parent.header, &parent.extension)
    }

    fn change(block: &Block, edit: impl FnOnce(&mut Header)) -> Block {
        let mut header = block.header.inner().clone();
        edit(&mut header);
        Block { extension: block.extension.clone(), ..Block::ethereum(header, block.body.clone()) }
    }

    #[test]
    fn a_thousand_blocks_fit_into_one_second_of_our_chains() {
        let spec = landfall_spec();
        let mut parent = genesis(&spec);
        let start = Extension::from_bytes(&parent.extension).unwrap().milliseconds;
        for _ in 0..999 {
            let block = next(&spec, &parent, start);
            check(&spec, &block, &parent).unwrap();
            parent = block;
        }
        assert_eq!(parent.header.timestamp, start / 1_000);
        let block = next(&spec, &parent, start);
        assert_eq!(block.header.timestamp, start / 1_000 + 1);
    }

    #[test]
    fn rejects_extension_that_breaks_our_rules() {
        let spec = landfall_spec();
        let parent = genesis(&spec);
        let start = Extension::from_bytes(&parent.extension).unwrap().milliseconds;
        let good = next(&spec, &parent, start + 5);
        check(&spec, &good, &parent).unwrap();

        let with = |milliseconds: u64, timestamp: u64| {
            let extension = Extension { milliseconds, ..Extension::default() }.to_bytes();
            let root = Extension::commitment(&extension);
            let changed = change(&good, |h| {
                h.timestamp = timestamp;
                h.parent_beacon_block_root = Some(root);
            });
            Block { extension, ..changed }
        };
        let second = start / 1_000;
        assert!(check(&spec, &with(start + 1, second), &parent).is_ok());
        let error = |block: Block| check(&spec, &block, &parent).unwrap_err();
        assert!(matches!(error(with(start, second)), Invalid::Milliseconds { .. }));
        assert!(matches!(error(with(start - 1, second - 1)), Invalid::Timestamp { .. }));
        assert!(matches!(
            error(with(start + 1_000, second)),
            Invalid::TimestampOfMilliseconds { .. }
        ));
        let wrong = change(&good, |h| h.parent_beacon_block_root = Some(B256::ZERO));
        assert!(matches!(error(wrong), Invalid::ExtensionCommitment { .. }));
        let none = Block { extension: Default::default(), ..good };
        assert!(matches!(error(none), Invalid::Extension(_)));
    }

    #[test]
    fn ethereum_wants_a_later_timestamp_and_no_extension() {
        let spec = ethereum_spec();
        let parent = genesis(&spec);
        let good = next(&spec, &parent, 0);
        check(&spec, &good, &parent).unwrap();
        let same = change(&good, |h| h.timestamp = parent.header.timestamp);
        assert!(matches!(check(&spec, &same, &parent), Err(Invalid::Timestamp { .. })));
        let extension = Extension { milliseconds: 1, ..Extension::default() }.to_bytes();
        let extended = Block { extension, ..good };
        assert!(matches!(check(&spec, &extended, &parent), Err(Invalid::Extension(_))));
    }

    #[test]
    fn our_chains_leave_to_the_engine_what_is_the_engines() {
        let spec = landfall_spec();
        let parent = genesis(&spec);
        let start = Extension::from_bytes(&parent.extension).unwrap().milliseconds;
        let good = next(&spec, &parent, start + 5);
        type Edit = fn(&mut Header);
        let edits: [Edit; 5] = [
            |h| h.nonce = B64::with_last_byte(1),
            |h| h.difficulty = U256::MAX,
            |h| h.mix_hash = B256::repeat_byte(7),
            |h| h.extra_data = vec![1; 32].into(),
            |h| h.beneficiary = alloy_primitives::Address::repeat_byte(7),
        ];
        for edit in edits {
            let block = change(&good, edit);
            check(&spec, &block, &parent).unwrap();
            // A block of work is a block of the newest fork all the same, and so is its child.
            let child = next(&spec, &block, start + 6);
            check(&spec, &child, &block).unwrap();
            assert_eq!(crate::environment::fork_of(&spec, &block.header), Fork::Osaka);
        }
        let long = change(&good, |h| h.extra_data = vec![1; 33].into());
        assert!(matches!(check(&spec, &long, &parent), Err(Invalid::ExtraData(33))));
        let ommers = change(&good, |h| h.ommers_hash = B256::ZERO);
        assert!(matches!(check(&spec, &ommers, &parent), Err(Invalid::Ommers(_))));
    }

    #[test]
    fn rejects_each_field_that_does_not_follow_from_the_parent() {
        let spec = ethereum_spec();
        let parent = genesis(&spec);
        let good = next(&spec, &parent, 0);
        let broken = |edit: fn(&mut Header)| check(&spec, &change(&good, edit), &parent).err();
        assert_eq!(broken(|_| {}), None);
        type Edit = fn(&mut Header);
        let edits: [(Edit, &str); 15] = [
            (|h| h.number += 1, "invalid block number"),
            (|h| h.extra_data = vec![0; 33].into(), "extra-data too long"),
            (|h| h.gas_limit += h.gas_limit / 1_000, "invalid gas limit"),
            (|h| h.gas_limit = 4_999, "invalid gas limit"),
            (|h| h.gas_used = h.gas_limit + 1, "invalid gasUsed"),
            (|h| h.base_fee_per_gas = None, "invalid baseFee"),
            (|h| *h.base_fee_per_gas.as_mut().unwrap() += 1, "invalid baseFee"),
            (|h| h.nonce = B64::with_last_byte(1), "invalid nonce"),
            (|h| h.difficulty = U256::from(1), "invalid difficulty"),
            (|h| h.ommers_hash = B256::ZERO, "invalid ommers"),
            (|h| h.withdrawals_root = None, "withdrawalsRoot is missing"),
            (|h| h.requests_hash = None, "requestsHash is missing"),
            (|h| h.slot_number = Some(1), "slotNumber is not known yet"),
            (|h| h.excess_blob_gas = Some(1), "invalid excessBlobGas"),
            (|h| h.blob_gas_used = Some(1), "blob gas used 1"),
        ];
        for (edit, words) in edits {
            let error = broken(edit).map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(words), "{words:?} expected, {error:?} found");
        }
    }
}
