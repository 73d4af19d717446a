//! The transactions of one account, by nonce: an executable chain, then what waits behind a gap
//! or for funds.

use super::Recovered;
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, KECCAK256_EMPTY, U256};
use landfall_types::{StateError, StateReader};
use std::collections::BTreeMap;
use std::ops::Range;

/// What a transaction bids for a unit of gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fees {
    pub max_fee: u128,
    pub tip: u128,
}

impl Fees {
    /// What the proposer gets for a unit of gas; negative if the base fee is not covered.
    pub fn effective(self, base_fee: u64) -> i128 {
        let bounded = |fee: u128| i128::try_from(fee).unwrap_or(i128::MAX);
        bounded(self.tip).min(bounded(self.max_fee) - i128::from(base_fee))
    }

    /// The least of both: its effective price is the least of both effective prices.
    fn least(self, other: Self) -> Self {
        Self { max_fee: self.max_fee.min(other.max_fee), tip: self.tip.min(other.tip) }
    }

    /// Whether both fees are above `old` by so many percent at least.
    pub fn outbids(self, old: Self, percent: u8) -> bool {
        let p = u128::from(percent);
        let raised =
            |fee: u128| fee.saturating_add((fee / 100).saturating_mul(p) + (fee % 100) * p / 100);
        let above = |new: u128, old: u128| new > old && new >= raised(old);
        above(self.max_fee, old.max_fee) && above(self.tip, old.tip)
    }
}

/// One transaction in the pool.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub recovered: Recovered,
    pub fees: Fees,
    /// The least fees from the head of the executable chain up to here: a dear transaction behind
    /// a cheap one is worth no more than the cheap one.
    pub floor: Fees,
    /// The most that it can take from the sender.
    pub cost: U256,
    pub size: usize,
    /// Position in the order of arrival; unique.
    pub arrival: u64,
}

impl Entry {
    pub fn new(recovered: Recovered, size: usize, arrival: u64) -> Self {
        let transaction = &*recovered.transaction;
        let max_fee = transaction.max_fee_per_gas();
        let tip = transaction.max_priority_fee_per_gas().unwrap_or(max_fee);
        let gas = U256::from(transaction.gas_limit()) * U256::from(max_fee);
        let cost = gas.saturating_add(transaction.value());
        let fees = Fees { max_fee, tip };
        Self { recovered, fees, floor: fees, cost, size, arrival }
    }
}

/// What stands at the address of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    None,
    /// EIP-7702.
    Delegation,
    Contract,
}

/// An account as the pool knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SenderAccount {
    pub nonce: u64,
    pub balance: U256,
    pub code: Code,
}

impl SenderAccount {
    pub fn read(state: &dyn StateReader, address: &Address) -> Result<Self, StateError> {
        let account = state.account(address)?.unwrap_or_default();
        let code = if account.code_hash == KECCAK256_EMPTY {
            Code::None
        } else {
            let code = state.code(account.code_hash)?;
            let delegation = code.len() == 23 && code.starts_with(&[0xef, 0x01, 0x00]);
            if delegation { Code::Delegation } else { Code::Contract }
        };
        Ok(Self { nonce: account.nonce, balance: account.balance, code })
    }
}

/// The queue of one sender.
#[derive(Debug)]
pub(super) struct Sender {
    pub account: SenderAccount,
    /// Of all entries together.
    pub cost: U256,
    pub entries: BTreeMap<u64, Entry>,
    /// The first nonce that is not executable: `account.nonce..ready_end` has no gap and costs
    /// no more than the balance.
    pub ready_end: u64,
}

impl Sender {
    pub fn new(account: SenderAccount) -> Self {
        let ready_end = account.nonce;
        Self { account, cost: U256::ZERO, entries: BTreeMap::new(), ready_end }
    }

    /// How many are executable.
    pub fn ready(&self) -> usize {
        (self.ready_end - self.account.nonce) as usize
    }

    /// Puts an entry at its nonce; gives the one that was there.
    pub fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let nonce = entry.recovered.nonce();
        self.cost += entry.cost;
        let old = self.entries.insert(nonce, entry);
        if let Some(old) = &old {
            self.cost -= old.cost;
        }
        if nonce < self.ready_end {
            self.settle_floors(nonce);
        }
        old
    }

    /// Takes out one entry; what follows it is executable no longer.
    pub fn remove(&mut self, nonce: u64) -> Option<Entry> {
        let entry = self.entries.remove(&nonce)?;
        self.cost -= entry.cost;
        self.ready_end = self.ready_end.min(nonce);
        Some(entry)
    }

    /// Follows the account to a new state; gives the entries whose nonce is spent.
    pub fn follow(&mut self, account: SenderAccount) -> Vec<Entry> {
        let live = self.entries.split_off(&account.nonce);
        let spent: Vec<_> = std::mem::replace(&mut self.entries, live).into_values().collect();
        for entry in &spent {
            self.cost -= entry.cost;
        }
        let back = account.nonce < self.account.nonce;
        self.ready_end = if back { account.nonce } else { self.ready_end.max(account.nonce) };
        self.account = account;
        spent
    }

    /// Brings `ready_end` up to date; gives the nonces that became executable.
    ///
    /// While the balance covers every entry, only those past `ready_end` are walked.
    pub fn settle(&mut self) -> Range<u64> {
        let before = self.ready_end;
        let covered = self.cost <= self.account.balance;
        if !covered {
            self.ready_end = self.account.nonce;
        }
        let mut left = self.account.balance;
        let mut floor = self.floor_before(self.ready_end);
        for (nonce, entry) in self.entries.range_mut(self.ready_end..) {
            if *nonce != self.ready_end || (!covered && entry.cost > left) {
                break;
            }
            left = left.saturating_sub(entry.cost);
            entry.floor = floor.map_or(entry.fees, |floor| floor.least(entry.fees));
            floor = Some(entry.floor);
            self.ready_end += 1;
        }
        before.min(self.ready_end)..self.ready_end
    }

    /// Computes the floors of the executable chain anew from a nonce on: those before it were
    /// mined since, or the one at the nonce was replaced.
    pub fn settle_floors(&mut self, from: u64) {
        let mut floor = self.floor_before(from);
        for (_, entry) in self.entries.range_mut(from..self.ready_end) {
            entry.floor = floor.map_or(entry.fees, |floor| floor.least(entry.fees));
            floor = Some(entry.floor);
        }
    }

    /// The least that is bid before a nonce in the executable chain.
    pub fn floor_before(&self, nonce: u64) -> Option<Fees> {
        let previous = nonce.checked_sub(1).filter(|n| *n >= self.account.nonce)?;
        self.entries.get(&previous).map(|entry| entry.floor)
    }

    /// The entry at a nonce, if it is executable.
    pub fn executable(&self, nonce: u64) -> Option<&Entry> {
        self.entries.get(&nonce).filter(|_| nonce < self.ready_end)
    }

    /// The last entry, and whether it is executable.
    pub fn tail(&self) -> Option<(&Entry, bool)> {
        self.entries.last_key_value().map(|(nonce, entry)| (entry, *nonce < self.ready_end))
    }
}
