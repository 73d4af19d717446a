//! What the interface needs from its host: a door to the pool, news of the chain and, on a
//! development chain, the controls. `node` implements them; this crate only calls them.

use crate::node_door::NodeDoor;
use alloy_primitives::{Address, B256, TxHash};
use landfall_chain::ChainReader;
use landfall_chain::pool::{Pool, PoolError, Recovered};
use landfall_types::Transaction;
use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::broadcast;

/// A boxed future: the doors are used as trait objects.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What happened on the chain or in the pool; a slow subscriber loses the oldest.
#[derive(Clone, Debug)]
pub enum Event {
    /// The head moved. Which blocks came and went each listener finds out from where it stands: news
    /// waits for the slowest of them, and must not hold blocks.
    Head,
    /// A transaction became executable.
    Pending(Recovered),
}

/// The way in for transactions.
pub trait PoolDoor: Send + Sync + 'static {
    /// Recovers the signature on a worker and offers the transaction to the pool.
    fn submit(&self, transaction: Transaction) -> Answer<'_, Result<TxHash, PoolError>>;
    /// Offers many at once, as a batch brings them; the outcomes are in their order. A host that
    /// can should recover them side by side and enter the pool once.
    fn submit_many(
        &self,
        transactions: Vec<Transaction>,
    ) -> Answer<'_, Vec<Result<TxHash, PoolError>>> {
        let all = transactions.into_iter().map(|transaction| self.submit(transaction));
        Box::pin(futures_util::future::join_all(all))
    }
    /// Offers a transaction of an unlocked or impersonated sender, recovered already.
    fn submit_recovered(&self, transaction: Recovered) -> Answer<'_, Result<TxHash, PoolError>>;
    /// The pool itself, for reading; never held across an await.
    fn pool(&self) -> &Mutex<Pool>;
    /// News from now on.
    fn events(&self) -> broadcast::Receiver<Event>;
}

/// A failed control: the message for the caller.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(pub String);

/// One change of state outside a transaction.
pub use landfall_chain::Patch;

/// The controls of a development chain (`evm_*`, `anvil_*`, `hardhat_*`).
pub trait Controls: Send + Sync + 'static {
    /// Marks the present state; the number to revert to it by.
    fn snapshot(&self) -> Answer<'_, Result<u64, ControlError>>;
    /// Returns to a snapshot and closes it and all later ones; false if there is none.
    fn revert(&self, snapshot: u64) -> Answer<'_, Result<bool, ControlError>>;
    /// Seals `blocks` blocks; the first at `timestamp` if given, each `interval` seconds apart.
    fn mine(
        &self,
        blocks: u64,
        interval: Option<u64>,
        timestamp: Option<u64>,
    ) -> Answer<'_, Result<(), ControlError>>;
    /// Moves the chain's clock ahead by seconds; the total offset in seconds.
    fn increase_time(&self, seconds: u64) -> Answer<'_, Result<i64, ControlError>>;
    /// The next block gets this timestamp in seconds, and time goes on from there.
    fn set_next_block_timestamp(&self, timestamp: u64) -> Answer<'_, Result<(), ControlError>>;
    /// Sets the chain's clock to a time in seconds; the difference to before.
    fn set_time(&self, timestamp: u64) -> Answer<'_, Result<i64, ControlError>>;
    /// Whether each transaction is sealed at once.
    fn set_automine(&self, on: bool) -> Answer<'_, Result<(), ControlError>>;
    /// Whether each transaction is sealed at once.
    fn automine(&self) -> bool;
    /// Seals a block every so many milliseconds; zero stops that.
    fn set_interval_mining(&self, milliseconds: u64) -> Answer<'_, Result<(), ControlError>>;
    /// The interval of sealing in milliseconds, if any.
    fn interval_mining(&self) -> Option<u64>;
    /// Changes the state outside a transaction; visible at `latest` at once.
    fn patch(&self, patch: Patch) -> Answer<'_, Result<(), ControlError>>;
    /// Lets an account send without its key.
    fn impersonate(&self, address: Address, on: bool);
    /// Lets every account send without its key.
    fn auto_impersonate(&self, on: bool);
    /// Whether an account may send without its key.
    fn is_impersonated(&self, address: Address) -> bool;
    /// Back to the genesis block.
    fn reset(&self) -> Answer<'_, Result<(), ControlError>>;
    /// Takes a transaction out of the pool.
    fn drop_transaction(&self, hash: TxHash) -> Answer<'_, Result<bool, ControlError>>;
    /// The beneficiary of the next blocks.
    fn set_coinbase(&self, address: Address) -> Answer<'_, Result<(), ControlError>>;
    /// The gas limit of the next blocks.
    fn set_block_gas_limit(&self, gas: u64) -> Answer<'_, Result<(), ControlError>>;
    /// The base fee of the next block, in wei per gas.
    fn set_next_block_base_fee(&self, fee: u64) -> Answer<'_, Result<(), ControlError>>;
    /// PREVRANDAO of the next block.
    fn set_prev_randao(&self, value: B256) -> Answer<'_, Result<(), ControlError>>;
}

/// Everything that the methods are served from.
#[derive(Clone)]
pub struct Backend {
    /// The chain, read only.
    pub chain: ChainReader,
    /// The way in for transactions.
    pub pool: Arc<dyn PoolDoor>,
    /// The controls, on a development chain only.
    pub controls: Option<Arc<dyn Controls>>,
    /// Consensus and peers, in a network only.
    pub node: Option<Arc<dyn NodeDoor>>,
    /// Accounts whose keys the node holds unlocked.
    pub keys: Arc<landfall_wallet::Keyring>,
}
