//! Executable transactions in the order in which a block should hold them.

use super::{Order, Pool, Recovered};
use alloy_primitives::Address;
use alloy_primitives::map::AddressSet;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A cursor over the executable transactions: dearest first, or in order of arrival, and always
/// in order of nonce within a sender.
///
/// It borrows nothing, so that the lock around the pool can be left between two transactions;
/// what leaves the pool meanwhile is passed over. Senders that came after the cursor was made
/// are not in it.
#[derive(Debug)]
pub struct Best {
    order: Order,
    base_fee: u64,
    heads: BinaryHeap<Candidate>,
    /// The sender and nonce that follow the transaction handed out last.
    following: Option<(Address, u64)>,
    skipped: AddressSet,
}

/// Ordered by price, then by arrival: the greatest is the best.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    price: i128,
    arrival: Reverse<u64>,
    nonce: u64,
    sender: Address,
}

impl Best {
    pub(super) fn new(pool: &Pool, order: Order, base_fee: u64) -> Self {
        let heads = pool
            .senders
            .iter()
            .filter_map(|(address, sender)| {
                candidate(pool, *address, sender.account.nonce, order, base_fee)
            })
            .collect();
        Self { order, base_fee, heads, following: None, skipped: AddressSet::default() }
    }

    /// The next transaction, or `None` when no executable one is left that pays the base fee.
    pub fn next(&mut self, pool: &Pool) -> Option<Recovered> {
        if let Some((sender, nonce)) = self.following.take() {
            self.offer(pool, sender, nonce);
        }
        while let Some(head) = self.heads.pop() {
            if self.skipped.contains(&head.sender) {
                continue;
            }
            let entry = pool.senders.get(&head.sender).and_then(|s| s.executable(head.nonce));
            match entry {
                Some(entry) if entry.arrival == head.arrival.0 => {
                    self.following = Some((head.sender, head.nonce + 1));
                    return Some(entry.recovered.clone());
                }
                // Replaced since: the new one takes the place that it pays for.
                Some(_) => self.offer(pool, head.sender, head.nonce),
                None => {}
            }
        }
        None
    }

    /// Hands out nothing more of this sender: one of its transactions cannot go into the block,
    /// and so none after it.
    pub fn skip(&mut self, sender: Address) {
        self.skipped.insert(sender);
    }

    fn offer(&mut self, pool: &Pool, sender: Address, nonce: u64) {
        self.heads.extend(candidate(pool, sender, nonce, self.order, self.base_fee));
    }
}

fn candidate(
    pool: &Pool,
    sender: Address,
    nonce: u64,
    order: Order,
    base_fee: u64,
) -> Option<Candidate> {
    let entry = pool.senders.get(&sender)?.executable(nonce)?;
    let effective = entry.fees.effective(base_fee);
    if effective < 0 {
        return None;
    }
    let price = if order == Order::Fees { effective } else { 0 };
    Some(Candidate { price, arrival: Reverse(entry.arrival), nonce, sender })
}
