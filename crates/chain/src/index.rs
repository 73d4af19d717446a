//! The indices by transaction, by address and by log: rows for a flush, and look-ups.

use crate::ledger::{self, StoredBlock};
use crate::shared::unreadable;
use crate::store::views::{Batch, Table, Views};
use alloy_consensus::Transaction;
use alloy_primitives::{Address, B256, TxHash, TxKind, keccak256};
use landfall_types::StateError;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Rows read at a time while a list is walked.
const CHUNK: usize = 4_096;

/// The rows of one canonical block.
pub(crate) fn rows(batch: &mut Batch, block: &StoredBlock) {
    let number = block.block.number().to_be_bytes();
    for (index, transaction) in (0u32..).zip(&block.block.body.transactions) {
        let mut place = number.to_vec();
        place.extend_from_slice(&index.to_be_bytes());
        batch.put(Table::Transactions, transaction.tx_hash().to_vec(), place);
    }
    for (address, index) in appearances_of(block) {
        let mut key = address.to_vec();
        key.extend_from_slice(&number);
        key.extend_from_slice(&index.to_be_bytes());
        batch.put(Table::Appearances, key, Vec::new());
    }
    for (contract, creator, hash) in creations_in(block) {
        let mut row = creator.to_vec();
        row.extend_from_slice(hash.as_slice());
        batch.put(Table::Creators, contract.to_vec(), row);
    }
    for tag in log_tags(block) {
        let mut key = tag.to_vec();
        key.extend_from_slice(&number);
        batch.put(Table::Logs, key, Vec::new());
    }
}

pub(crate) fn decode_transaction(row: &[u8]) -> Result<(u64, u32), StateError> {
    let (number, index) = row.split_at_checked(8).ok_or_else(|| unreadable("a short row"))?;
    let index = index.try_into().map_err(|_| unreadable("a transaction's row is not 12 bytes"))?;
    Ok((ledger::decode_u64(number).map_err(unreadable)?, u32::from_be_bytes(index)))
}

pub(crate) fn decode_creator(row: &[u8]) -> Result<(TxHash, Address), StateError> {
    let (creator, hash) = row.split_at_checked(20).ok_or_else(|| unreadable("a short row"))?;
    let hash = TxHash::try_from(hash).map_err(unreadable)?;
    Ok((hash, Address::from_slice(creator)))
}

/// The address that a transaction creates, if it does.
fn created(sender: Address, transaction: &impl Transaction) -> Option<Address> {
    (transaction.kind() == TxKind::Create).then(|| sender.create(transaction.nonce()))
}

/// Contracts that transactions of a block created: contract, creator, transaction.
pub(crate) fn creations_in(
    block: &StoredBlock,
) -> impl Iterator<Item = (Address, Address, TxHash)> + '_ {
    let sent = block.block.body.transactions.iter().zip(&block.senders).zip(&block.receipts);
    sent.filter(|(_, receipt)| receipt.success).filter_map(|((transaction, sender), _)| {
        let contract = created(*sender, transaction)?;
        Some((contract, *sender, *transaction.tx_hash()))
    })
}

/// Each address with the index of a transaction that names it.
fn appearances_of(block: &StoredBlock) -> BTreeSet<(Address, u32)> {
    let mut found = BTreeSet::new();
    let sent = block.block.body.transactions.iter().zip(&block.senders);
    for (index, (transaction, sender)) in (0..).zip(sent) {
        found.insert((*sender, index));
        let other = transaction.to().or_else(|| created(*sender, transaction));
        found.extend(other.map(|address| (address, index)));
    }
    found
}

/// The indices of a block's transactions that name an address, ascending.
pub(crate) fn appearances_in(
    block: &StoredBlock,
    address: Address,
) -> impl Iterator<Item = u32> + '_ {
    let sent = block.block.body.transactions.iter().zip(&block.senders);
    (0..).zip(sent).filter_map(move |(index, (transaction, sender))| {
        let named = *sender == address
            || transaction.to() == Some(address)
            || created(*sender, transaction) == Some(address);
        named.then_some(index)
    })
}

/// Appearances in the views: oldest first if `after` is given, otherwise newest first. At least
/// `limit` if there are so many, and all of the last block.
pub(crate) fn appearances(
    views: &Views,
    address: Address,
    before: Option<u64>,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, u32)>, StateError> {
    let prefix = address.as_slice();
    let with = |number: u64| {
        let mut key = prefix.to_vec();
        key.extend_from_slice(&number.to_be_bytes());
        key
    };
    let mut at = match (after, before) {
        (Some(after), _) => with(after.saturating_add(1)),
        (None, Some(before)) => with(before),
        (None, None) => with(u64::MAX),
    };
    let mut first = true;
    let mut found: Vec<(u64, u32)> = Vec::new();
    loop {
        let rows = if after.is_some() {
            let start = if first { Bound::Included(&at[..]) } else { Bound::Excluded(&at[..]) };
            first = false;
            views.scan(Table::Appearances, prefix, start, CHUNK)
        } else {
            views.scan_back(Table::Appearances, prefix, Some(&at), CHUNK)
        }
        .map_err(unreadable)?;
        let complete = rows.len() < CHUNK;
        for (key, _) in rows {
            let place = decode_transaction(&key[20..])?;
            let enough = found.len() >= limit && found.last().is_some_and(|l| l.0 != place.0);
            if enough {
                return Ok(found);
            }
            found.push(place);
            at = key;
        }
        if complete {
            return Ok(found);
        }
    }
}

/// What stands for "a log of this address" or "this topic at this index" in the index of logs.
type Tag = [u8; 8];

fn tag(index: u8, bytes: &[u8]) -> Tag {
    let mut input = vec![index];
    input.extend_from_slice(bytes);
    keccak256(input)[..8].try_into().expect("eight of 32 bytes")
}

fn log_tags(block: &StoredBlock) -> BTreeSet<Tag> {
    let mut tags = BTreeSet::new();
    for log in block.receipts.iter().flat_map(|receipt| &receipt.logs) {
        tags.insert(tag(u8::MAX, log.address.as_slice()));
        for (index, topic) in (0..).zip(log.topics()) {
            tags.insert(tag(index, topic.as_slice()));
        }
    }
    tags
}

/// Blocks in the views that may hold a matching log.
pub(crate) fn log_blocks(
    views: &Views,
    from: u64,
    to: u64,
    addresses: &[Address],
    topics: &[Vec<B256>],
) -> Result<Vec<u64>, StateError> {
    let mut wanted: Vec<Vec<Tag>> = Vec::new();
    if !addresses.is_empty() {
        wanted.push(addresses.iter().map(|address| tag(u8::MAX, address.as_slice())).collect());
    }
    for (index, any_of) in (0..).zip(topics).filter(|(_, any_of)| !any_of.is_empty()) {
        wanted.push(any_of.iter().map(|topic| tag(index, topic.as_slice())).collect());
    }
    if wanted.is_empty() {
        return Ok((from..=to).collect());
    }
    let mut found: Option<BTreeSet<u64>> = None;
    for any_of in wanted {
        let mut blocks = BTreeSet::new();
        for tag in any_of {
            blocks.extend(tagged(views, &tag, from, to)?);
        }
        found = Some(match found {
            Some(found) => found.intersection(&blocks).copied().collect(),
            None => blocks,
        });
    }
    Ok(found.unwrap_or_default().into_iter().collect())
}

fn tagged(views: &Views, tag: &Tag, from: u64, to: u64) -> Result<Vec<u64>, StateError> {
    let mut numbers = Vec::new();
    let mut at = tag.to_vec();
    at.extend_from_slice(&from.to_be_bytes());
    let mut first = true;
    loop {
        let start = if first { Bound::Included(&at[..]) } else { Bound::Excluded(&at[..]) };
        first = false;
        let rows = views.scan(Table::Logs, tag, start, CHUNK).map_err(unreadable)?;
        let complete = rows.len() < CHUNK;
        for (key, _) in rows {
            let number = ledger::decode_u64(&key[8..]).map_err(unreadable)?;
            if number > to {
                return Ok(numbers);
            }
            numbers.push(number);
            at = key;
        }
        if complete {
            return Ok(numbers);
        }
    }
}
