//! The search for nonces on several threads.

use alloy_consensus::Header;
use alloy_primitives::B256;
use landfall_replica::{Refused, Signer, search_from};
use landfall_types::{NodeId, Signature, Vote};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A signer that searches nonces on several threads.
pub struct Mining<S> {
    /// Signs.
    pub signer: S,
    /// How many threads; they have the priority of the one that asks.
    pub threads: u64,
}

impl<S: Signer> Signer for Mining<S> {
    fn id(&self) -> NodeId {
        self.signer.id()
    }

    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused> {
        self.signer.sign(vote, chain)
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.signer.sign_block(hash, chain)
    }

    fn search(&self, header: &Header, superseded: &AtomicBool) -> Option<u64> {
        let (done, found) = (AtomicBool::new(false), Mutex::new(None));
        std::thread::scope(|scope| {
            for part in 0..self.threads {
                let (done, found) = (&done, &found);
                let search = move || {
                    let stopped = || superseded.load(Relaxed) || done.load(Relaxed);
                    if let Some(nonce) = search_from(header, part, self.threads, stopped) {
                        *found.lock() = Some(nonce);
                        done.store(true, Relaxed);
                    }
                };
                let thread = std::thread::Builder::new().name(format!("miner-{part}"));
                thread.spawn_scoped(scope, search).expect("the system starts a thread");
            }
        });
        found.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B64, U256};
    use landfall_consensus::pow;
    use landfall_replica::KeySigner;

    fn mining(threads: u64) -> Mining<KeySigner> {
        Mining { signer: KeySigner::new(&[7; 32]).unwrap(), threads }
    }

    #[test]
    fn a_nonce_that_any_thread_finds_meets_the_difficulty() {
        let header = Header { difficulty: U256::from(60_000), ..Header::default() };
        for threads in [1, 3] {
            let nonce = mining(threads).search(&header, &AtomicBool::new(false)).unwrap();
            let sealed = Header { nonce: B64::from(nonce), ..header.clone() };
            assert!(pow::meets(&sealed), "{nonce}");
        }
    }

    #[test]
    fn the_search_ends_when_the_block_is_not_wanted_any_more() {
        let header = Header { difficulty: U256::MAX, ..Header::default() };
        let superseded = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let search = scope.spawn(|| mining(2).search(&header, &superseded));
            superseded.store(true, Relaxed);
            assert_eq!(search.join().unwrap(), None);
        });
    }
}
