//! What one peer may make this node do with the transactions that it gossips: so many batches at a
//! time, and so many transactions that turn out to be of no use.

use landfall_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Batches whose signatures are being recovered.
const PLACES: usize = 64;
/// Of these, for peers that are no members.
const OF_STRANGERS: usize = 48;
/// Of these, for one peer.
const OF_PEER: usize = 8;
/// Useless transactions of one peer in a second: a recovery costs 43 µs.
const USELESS: u64 = 2_000;
/// Useless transactions that may come at once; nobody knows what they are before they are looked at,
/// so those under way count until then.
const USELESS_AT_ONCE: u64 = 8_192;
/// Peers that are remembered after their last batch.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Clone, Default)]
pub struct Receiving(Arc<Mutex<Shares>>);

#[derive(Default)]
struct Shares {
    places: usize,
    of_strangers: usize,
    peers: BTreeMap<NodeId, Share>,
}

#[derive(Clone, Copy)]
struct Share {
    places: usize,
    /// Transactions that were, or may still be, of no use; less by the second.
    useless: u64,
    at: Instant,
}

impl Receiving {
    /// A place for a batch; none if this peer, or all strangers together, have enough.
    pub fn begin(&self, from: NodeId, member: bool, now: Instant) -> Option<Place> {
        let mut shares = self.0.lock();
        if shares.peers.len() >= REMEMBERED {
            shares.peers.values_mut().for_each(|share| share.forgive(now));
            shares.peers.retain(|_, share| share.places > 0 || share.useless > 0);
        }
        if shares.peers.len() >= REMEMBERED {
            shares.peers.retain(|_, share| share.places > 0);
        }
        let crowd = !member && shares.of_strangers >= OF_STRANGERS;
        let share = shares.peers.get(&from).copied();
        let mut share = share.unwrap_or(Share { places: 0, useless: 0, at: now });
        share.forgive(now);
        let full = share.places >= OF_PEER || share.useless >= USELESS_AT_ONCE;
        if crowd || full || shares.places >= PLACES {
            return None;
        }
        share.places += 1;
        shares.peers.insert(from, share);
        shares.places += 1;
        shares.of_strangers += usize::from(!member);
        Some(Place { receiving: self.clone(), from, member, useless: 0 })
    }
}

impl Share {
    fn forgive(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at);
        let forgiven = seconds.as_millis() as u64 * USELESS / 1_000;
        if forgiven > 0 {
            (self.useless, self.at) = (self.useless.saturating_sub(forgiven), now);
        }
    }
}

/// A place for one batch; given back when it is dropped.
pub struct Place {
    receiving: Receiving,
    from: NodeId,
    member: bool,
    useless: u64,
}

impl Place {
    /// So many transactions are looked at: until more is known they are of no use.
    pub fn looks_at(&mut self, transactions: usize) {
        self.useless += transactions as u64;
        self.change(|share| share.useless += transactions as u64);
    }

    /// So many of them were of use, or known here.
    pub fn found_useful(&mut self, transactions: usize) {
        let useful = self.useless.min(transactions as u64);
        self.useless -= useful;
        self.change(|share| share.useless = share.useless.saturating_sub(useful));
    }

    fn change(&self, change: impl FnOnce(&mut Share)) {
        let mut shares = self.receiving.0.lock();
        change(shares.peers.get_mut(&self.from).expect("who has a place is remembered"));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.change(|share| share.places -= 1);
        let mut shares = self.receiving.0.lock();
        shares.places -= 1;
        shares.of_strangers -= usize::from(!self.member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn id(number: usize) -> NodeId {
        NodeId::left_padding_from(&number.to_be_bytes())
    }

    fn held(receiving: &Receiving, from: NodeId, member: bool, now: Instant) -> Vec<Place> {
        std::iter::from_fn(|| receiving.begin(from, member, now)).collect()
    }

    #[test]
    fn one_peer_has_its_places_and_strangers_leave_some_to_members() {
        let (receiving, now) = (Receiving::default(), Instant::now());
        let mut places = held(&receiving, id(0), false, now);
        assert_eq!(places.len(), OF_PEER);
        (1..100).for_each(|stranger| places.extend(held(&receiving, id(stranger), false, now)));
        assert_eq!(places.len(), OF_STRANGERS);
        let of_members = held(&receiving, id(1_000), true, now);
        assert_eq!(of_members.len(), OF_PEER);
        drop(places);
        assert_eq!(held(&receiving, id(0), false, now).len(), OF_PEER, "they were given back");
    }

    #[test]
    fn who_sends_what_is_of_no_use_waits_and_who_sends_what_is_does_not() {
        let (receiving, now) = (Receiving::default(), Instant::now());
        let batch = |peer: usize, useful: usize, now: Instant| {
            let Some(mut place) = receiving.begin(id(peer), false, now) else { return false };
            place.looks_at(4_096);
            place.found_useful(useful);
            true
        };
        assert!((0..1_000).all(|_| batch(1, 4_096, now)));
        assert_eq!((0..1_000).filter(|_| batch(2, 0, now)).count(), 2);
        // A tenth of a second forgives 200 of 8,192.
        let soon = now + Duration::from_millis(100);
        assert!(batch(2, 0, soon) && !batch(2, 0, soon));
        assert!(batch(2, 0, now + Duration::from_secs(10)));
    }

    #[test]
    fn peers_that_left_are_forgotten() {
        let (receiving, now) = (Receiving::default(), Instant::now());
        (0..5_000).for_each(|peer| drop(receiving.begin(id(peer), false, now)));
        assert!(receiving.0.lock().peers.len() <= REMEMBERED);
    }
}
