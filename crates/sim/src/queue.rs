//! What happens next: events ordered by virtual time, then by a random tie, then by sequence.
//!
//! The tie makes events of one moment happen in any order; the sequence makes the order total, so
//! that a seed is one history.

use landfall_consensus::Random;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A moment of virtual time: milliseconds since the history began.
pub(crate) type Moment = u64;

/// The events that have not happened yet.
pub(crate) struct Queue<E> {
    events: BinaryHeap<Due<E>>,
    ties: Random,
    sequence: u64,
}

/// An event and its place; the first is the greatest.
struct Due<E> {
    place: Reverse<(Moment, u64, u64)>,
    event: E,
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<E> Eq for Due<E> {}

impl<E> Queue<E> {
    /// Nothing will happen.
    pub fn new(ties: Random) -> Self {
        Self { events: BinaryHeap::new(), ties, sequence: 0 }
    }

    /// An event at a moment.
    pub fn push(&mut self, at: Moment, event: E) {
        self.sequence += 1;
        let place = Reverse((at, self.ties.next_u64(), self.sequence));
        self.events.push(Due { place, event });
    }

    /// The next event and its moment.
    pub fn pop(&mut self) -> Option<(Moment, E)> {
        self.events.pop().map(|due| (due.place.0.0, due.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64) -> Vec<(u64, u32)> {
        let mut queue = Queue::new(Random::new(seed));
        for name in 0..8 {
            queue.push(5, name);
        }
        queue.push(3, 100);
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn time_orders_first_and_the_seed_decides_ties() {
        let first = order(1);
        assert_eq!(first[0], (3, 100));
        assert_eq!(first, order(1));
        assert!((2..20).any(|seed| order(seed) != first), "ties are never broken otherwise");
    }
}
