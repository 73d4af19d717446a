//! The way in for transactions, and the news of chain and pool: alike on a development chain and on
//! a node of a network.
//!
//! Signatures are recovered on workers, the pool is entered under one lock for a slice of a batch, and
//! whoever makes blocks is told that there is work. On a node of a network, what came in here is
//! spread to the peers as well.

use crate::ops::metrics;
use crate::signatures::Signatures;
use alloy_primitives::TxHash;
use landfall_chain::pool::{Pool, PoolError, Recovered};
use landfall_chain::{Adopted, ChainReader};
use landfall_replica::Mempool;
use landfall_rpc::{Answer, Event, PoolDoor};
use landfall_types::Transaction;
use parking_lot::{Mutex, MutexGuard};
use std::sync::{Arc, OnceLock};
use tokio::sync::{Notify, broadcast, mpsc};

/// News that a slow subscriber may be behind.
const KEPT_EVENTS: usize = 4_096;

/// Transactions that enter the pool under one lock: whoever makes a block waits for no more.
const AT_ONCE: usize = 64;

/// What the door and the thread that owns the chain share.
pub struct Shared {
    /// The transactions that wait.
    pub mempool: Arc<Mempool>,
    /// News for subscribers.
    pub events: broadcast::Sender<Event>,
    /// Transactions became executable.
    pub work: Notify,
    /// Why no transaction is taken any more.
    closed: OnceLock<String>,
}

impl Shared {
    /// Around a pool.
    pub fn new(mempool: Arc<Mempool>) -> Self {
        let events = broadcast::channel(KEPT_EVENTS).0;
        Self { mempool, events, work: Notify::new(), closed: OnceLock::new() }
    }

    /// From now on no transaction is taken, for this reason.
    pub fn close(&self, why: String) {
        // The first reason stands.
        let _ = self.closed.set(why);
    }

    /// Tells subscribers of a new fork choice, and of transactions that it made executable.
    pub fn tell(&self, Adopted { removed, added, .. }: Adopted, promoted: &[TxHash]) {
        metrics().adopted(&removed, &added);
        if self.events.receiver_count() == 0 {
            return;
        }
        self.announce(&self.mempool.pool.lock(), promoted);
        if !(removed.is_empty() && added.is_empty()) {
            // Fails only when the last subscriber has just left.
            let _ = self.events.send(Event::Head);
        }
    }

    /// Tells subscribers of transactions that became executable.
    fn announce(&self, pool: &Pool, promoted: &[TxHash]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        for recovered in promoted.iter().filter_map(|hash| pool.get(hash)) {
            // Fails only when the last subscriber has just left.
            let _ = self.events.send(Event::Pending(recovered));
        }
    }
}

/// See the module.
pub struct Door {
    shared: Arc<Shared>,
    reader: ChainReader,
    signatures: Signatures,
    /// Where transactions go that clients brought here.
    spread: Option<mpsc::Sender<Arc<Transaction>>>,
}

impl Door {
    /// A door to the pool. With `spread`, what clients bring goes there too; what does not fit is
    /// offered to the peers later, as the pool's content.
    pub fn new(
        shared: Arc<Shared>,
        reader: ChainReader,
        spread: Option<mpsc::Sender<Arc<Transaction>>>,
    ) -> Self {
        let signatures = Signatures::start(reader.spec().chain_id, reader.senders());
        Self { shared, reader, signatures, spread }
    }

    /// Takes what peers sent: recovered and offered like anybody's, but not spread again.
    pub async fn receive(&self, transactions: Vec<Transaction>) -> Vec<Result<TxHash, PoolError>> {
        let recovered = self.signatures.recover(transactions).await;
        self.enter(recovered, false)
    }

    fn enter(
        &self,
        transactions: impl IntoIterator<Item = Result<Recovered, PoolError>>,
        ours: bool,
    ) -> Vec<Result<TxHash, PoolError>> {
        let mut executable = false;
        let mut outcomes = Vec::new();
        let mut transactions = transactions.into_iter().peekable();
        while transactions.peek().is_some() {
            let mut pool = self.shared.mempool.pool.lock();
            // Read under the pool's lock: the replica moves both under it.
            let (next, state) = (*self.shared.mempool.next.read(), self.reader.latest_state());
            let one = |outcome: Result<Recovered, PoolError>| {
                let recovered = outcome?;
                if let Some(why) = self.shared.closed.get() {
                    return Err(PoolError::Closed(why.clone()));
                }
                let transaction = recovered.transaction.clone();
                let added = pool.add(recovered, &next, &state)?;
                executable |= added.is_pending();
                self.shared.announce(&pool, &added.promoted);
                if let Some(spread) = self.spread.as_ref().filter(|_| ours) {
                    // Full: the pool's content is offered to the peers later.
                    let _ = spread.try_send(transaction);
                }
                Ok(added.hash)
            };
            outcomes.extend(transactions.by_ref().take(AT_ONCE).map(one));
            // Whoever makes a block waits for it too, and comes next.
            MutexGuard::unlock_fair(pool);
        }
        outcomes.iter().for_each(|outcome| metrics().pool.offered(outcome));
        if executable {
            self.shared.work.notify_one();
        }
        outcomes
    }
}

impl PoolDoor for Door {
    fn submit(&self, transaction: Transaction) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move {
            let recovered = self.signatures.recover(vec![transaction]).await;
            self.enter(recovered, true).pop().expect("one outcome for one transaction")
        })
    }

    fn submit_many(
        &self,
        transactions: Vec<Transaction>,
    ) -> Answer<'_, Vec<Result<TxHash, PoolError>>> {
        Box::pin(async move { self.enter(self.signatures.recover(transactions).await, true) })
    }

    fn submit_recovered(&self, transaction: Recovered) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move {
            self.enter([Ok(transaction)], true).pop().expect("one outcome for one transaction")
        })
    }

    fn pool(&self) -> &Mutex<Pool> {
        &self.shared.mempool.pool
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }
}
