//! Clients that look: one for each node reads every final block, its receipts, and now and then all
//! balances and nonces, and records what it sees.

use super::client::{Accounts, Client};
use landfall_chain::store::SplitMix;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Blocks in one look.
const BLOCKS: u64 = 50;
/// Looks between two at the accounts.
const ACCOUNTS_EVERY: u64 = 10;

/// Running watchers; stopped when dropped.
pub struct Watchers {
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watchers {
    /// Starts one for each node.
    pub fn start(nodes: &[Client], accounts: &Arc<Accounts>, seed: u64) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let watch = |node: &Client| {
            let (node, accounts, stopped) = (node.clone(), accounts.clone(), stopped.clone());
            let random = SplitMix(seed ^ node.node as u64);
            std::thread::spawn(move || watch(&node, &accounts, random, &stopped))
        };
        let threads = nodes.iter().map(watch).collect();
        Self { stopped, threads }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a watcher panicked");
        }
    }
}

/// A node that does not answer is looked at again later.
fn watch(node: &Client, accounts: &Accounts, mut random: SplitMix, stopped: &AtomicBool) {
    let mut next = 1;
    for look in 0.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        if let Some(finalized) = node.finalized() {
            let until = finalized.min(next + BLOCKS - 1);
            if next <= until && node.blocks(next..=until).is_some() {
                next = until + 1;
            }
            if look % ACCOUNTS_EVERY == 0 {
                // The newest, and one of long ago in turn.
                let old = look % (2 * ACCOUNTS_EVERY) == 0;
                let number = if old { random.below(finalized + 1) } else { finalized };
                let _ = node.accounts(number, accounts);
            }
        }
        std::thread::sleep(PAUSE);
    }
}
