//! Who sent a transaction, for those whose signatures were recovered lately: each is recovered once,
//! at the pool's door or by the first block that holds it.

use crate::pool::Recovered;
use alloy_primitives::map::HashMap;
use alloy_primitives::{Address, TxHash};
use parking_lot::Mutex;
use std::sync::Arc;

/// Senders in one generation. Two are kept: some 7 MB when full.
const GENERATION: usize = 1 << 16;

/// A handle on what is known; chains of one process may share it. A hash covers the signature, so
/// what is known of it holds on every chain.
#[derive(Clone, Default)]
pub struct Senders(Arc<Mutex<Generations>>);

#[derive(Default)]
struct Generations {
    young: HashMap<TxHash, Address>,
    old: HashMap<TxHash, Address>,
}

impl Senders {
    /// Takes note of a transaction whose signature was recovered. Of an impersonated one nothing
    /// is noted: no signature says who sent it.
    pub fn note(&self, transaction: &Recovered) {
        if !transaction.impersonated {
            self.insert(transaction.hash(), transaction.sender);
        }
    }

    pub(crate) fn insert(&self, hash: TxHash, sender: Address) {
        let mut known = self.0.lock();
        if known.young.len() == GENERATION {
            known.old = std::mem::take(&mut known.young);
        }
        known.young.insert(hash, sender);
    }

    /// The sender of a transaction, if its signature was recovered lately.
    pub fn of(&self, hash: &TxHash) -> Option<Address> {
        let known = self.0.lock();
        known.young.get(hash).or_else(|| known.old.get(hash)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::U256;

    fn hash(number: usize) -> TxHash {
        U256::from(number).into()
    }

    #[test]
    fn the_newest_senders_are_known_and_the_number_of_all_is_bounded() {
        let (senders, sender) = (Senders::default(), Address::repeat_byte(7));
        let last = 3 * GENERATION;
        (0..=last).for_each(|number| senders.insert(hash(number), sender));
        assert_eq!(senders.of(&hash(last)), Some(sender));
        assert_eq!(senders.of(&hash(last - GENERATION)), Some(sender));
        assert_eq!(senders.of(&hash(0)), None);
        let known = senders.0.lock();
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn an_impersonated_sender_is_not_taken_for_one_that_signed() {
        use alloy_consensus::{EthereumTypedTransaction, TxLegacy};
        let senders = Senders::default();
        let unsigned = EthereumTypedTransaction::from(TxLegacy::default());
        let transaction = Recovered::impersonated(unsigned, Address::repeat_byte(1));
        senders.note(&transaction);
        assert_eq!(senders.of(&transaction.hash()), None);
    }
}
