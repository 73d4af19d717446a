//! What surrounds the chain in a running node: the thread that writes it, the pool, the workers
//! that recover signatures, and the news.
//!
//! [`Host`] is the door of the interface to all of them. Transactions enter the pool here; the
//! sealer, which owns the chain, is told that there is work, or is asked to run a task.

use crate::sealer::{Sealer, Trouble};
use crate::signatures::Signatures;
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, TxHash};
use landfall_chain::ChainReader;
use landfall_chain::pool::{Pool, PoolError, Recovered};
use landfall_replica::Mempool;
use landfall_rpc::{Answer, ControlError, Event, PoolDoor};
use landfall_types::Transaction;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{Notify, broadcast, mpsc, oneshot};

/// Tasks that wait for the sealer.
pub const QUEUED_TASKS: usize = 256;
/// News that a slow subscriber may be behind.
const KEPT_EVENTS: usize = 4_096;

/// Something that the thread which owns the chain does between two blocks.
pub type Task = Box<dyn FnOnce(&mut Sealer) + Send>;

/// What the door and the sealer share.
pub struct Shared {
    /// The transactions that wait.
    pub mempool: Arc<Mempool>,
    /// News for subscribers.
    pub events: broadcast::Sender<Event>,
    /// There is something to seal.
    pub work: Notify,
    /// Whether transactions are sealed at once.
    pub automine: AtomicBool,
    /// Milliseconds between two blocks; zero is never.
    pub interval: AtomicU64,
    /// Accounts that may send without a key.
    pub impersonated: RwLock<HashSet<Address>>,
    /// Every account may.
    pub impersonate_all: AtomicBool,
}

impl Shared {
    /// Around a pool; nothing is sealed until a mode is set.
    pub fn new(mempool: Arc<Mempool>) -> Self {
        Self {
            mempool,
            events: broadcast::channel(KEPT_EVENTS).0,
            work: Notify::new(),
            automine: AtomicBool::new(false),
            interval: AtomicU64::new(0),
            impersonated: RwLock::default(),
            impersonate_all: AtomicBool::new(false),
        }
    }

    /// Tells subscribers of transactions that became executable.
    pub fn announce(&self, pool: &Pool, promoted: &[TxHash]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        for recovered in promoted.iter().filter_map(|hash| pool.get(hash)) {
            // Fails only when the last subscriber has just left.
            let _ = self.events.send(Event::Pending(recovered));
        }
    }
}

/// The door to a running node.
pub struct Host {
    pub(crate) shared: Arc<Shared>,
    reader: ChainReader,
    signatures: Signatures,
    tasks: mpsc::Sender<Task>,
}

impl Host {
    /// A door to the sealer at the other end of `tasks`.
    pub fn new(shared: Arc<Shared>, reader: ChainReader, tasks: mpsc::Sender<Task>) -> Self {
        let signatures = Signatures::start(reader.spec().chain_id);
        Self { shared, reader, signatures, tasks }
    }

    /// Has the sealer do something, and waits for the answer.
    pub fn ask<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Sealer) -> Result<T, Trouble> + Send + 'static,
    ) -> Answer<'_, Result<T, ControlError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let task: Task = Box::new(move |sealer| {
                let outcome = run(sealer).map_err(|trouble| sealer.note(trouble));
                // Who asked may be gone.
                let _ = reply.send(outcome);
            });
            let stopping = || ControlError("the node is stopping".into());
            self.tasks.send(task).await.map_err(|_| stopping())?;
            answer.await.map_err(|_| stopping())?.map_err(ControlError)
        })
    }

    fn enter(
        &self,
        transactions: impl IntoIterator<Item = Result<Recovered, PoolError>>,
    ) -> Vec<Result<TxHash, PoolError>> {
        let mut executable = false;
        let mempool = &self.shared.mempool;
        let mut pool = mempool.pool.lock();
        // Read under the pool's lock: the replica moves both under it.
        let (next, state) = (*mempool.next.read(), self.reader.latest_state());
        let mut one = |outcome: Result<Recovered, PoolError>| {
            let transaction = outcome?;
            self.reader.senders().note(&transaction);
            let added = pool.add(transaction, &next, &state)?;
            executable |= added.is_pending();
            self.shared.announce(&pool, &added.promoted);
            Ok(added.hash)
        };
        let outcomes = transactions.into_iter().map(&mut one).collect();
        drop(pool);
        if executable {
            self.shared.work.notify_one();
        }
        outcomes
    }
}

impl PoolDoor for Host {
    fn submit(&self, transaction: Transaction) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move {
            let recovered = self.signatures.recover(vec![transaction]).await;
            self.enter(recovered).pop().expect("one outcome for one transaction")
        })
    }

    fn submit_many(
        &self,
        transactions: Vec<Transaction>,
    ) -> Answer<'_, Vec<Result<TxHash, PoolError>>> {
        Box::pin(async move { self.enter(self.signatures.recover(transactions).await) })
    }

    fn submit_recovered(&self, transaction: Recovered) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move {
            self.enter([Ok(transaction)]).pop().expect("one outcome for one transaction")
        })
    }

    fn pool(&self) -> &Mutex<Pool> {
        &self.shared.mempool.pool
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }
}
