//! Who makes room when the pool is full.
//!
//! Only the last transaction of a sender may go, so that none of those that stay becomes a
//! future one. Queued ones go first, whatever they bid; then the cheapest executable one, for a
//! newcomer that is executable and pays strictly more.

use super::sender::Sender;
use alloy_primitives::Address;
use alloy_primitives::map::AddressMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The last transactions of all senders, cheapest on top. Made when the pool is full, forgotten
/// when the head moves. An entry that no longer is its sender's last one is passed over.
#[derive(Debug)]
pub(super) struct Tails {
    pub base_fee: u64,
    heap: BinaryHeap<Reverse<Tail>>,
}

/// One that may go. The order of the fields is the order in which they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tail {
    pub executable: bool,
    pub price: i128,
    pub arrival: Reverse<u64>,
    pub nonce: u64,
    pub sender: Address,
}

fn tail(address: Address, sender: &Sender, base_fee: u64) -> Option<Tail> {
    let (entry, executable) = sender.tail()?;
    let fees = if executable { entry.floor } else { entry.fees };
    Some(Tail {
        executable,
        price: fees.effective(base_fee),
        arrival: Reverse(entry.arrival),
        nonce: entry.recovered.nonce(),
        sender: address,
    })
}

impl Tails {
    pub fn new(senders: &mut AddressMap<Sender>, base_fee: u64) -> Self {
        let heap = senders
            .iter_mut()
            .filter_map(|(address, sender)| {
                sender.settle_floors(sender.account.nonce);
                tail(*address, sender, base_fee).map(Reverse)
            })
            .collect();
        Self { base_fee, heap }
    }

    /// Notes that a sender may have another last transaction now.
    pub fn note(&mut self, address: Address, sender: &Sender) {
        self.heap.extend(tail(address, sender, self.base_fee).map(Reverse));
    }

    /// Stale entries outnumber the senders: time to be made anew.
    pub fn is_worn(&self, senders: usize) -> bool {
        self.heap.len() > 2 * senders + 1_024
    }

    /// The first that has to go, of those that `may` go. It stays in the heap.
    pub fn first(
        &mut self,
        senders: &AddressMap<Sender>,
        may: impl Fn(&Tail) -> bool,
    ) -> Option<Tail> {
        let mut aside = Vec::new();
        let mut found = None;
        while let Some(Reverse(top)) = self.heap.pop() {
            let now = senders.get(&top.sender).and_then(|s| tail(top.sender, s, self.base_fee));
            if now != Some(top) {
                continue;
            }
            aside.push(Reverse(top));
            if may(&top) {
                found = Some(top);
                break;
            }
        }
        self.heap.extend(aside);
        found
    }
}
