//! A node of a network: the replica on a thread of its own, the workers for its jobs, the peers,
//! and the interface, joined.
//!
//! ```text
//!   peers ──> link::listen ──┐                       ┌──> Link ──> peers
//!   clients ─> Door ─> pool ─┼─> queue ─> Driver ────┼──> Workers ──> queue
//!                  └> spread │     (the replica)     └──> news for clients
//! ```
//!
//! The queue to the driver is bounded, and whoever fills it waits; the driver waits for nobody.

mod driver;
mod link;
mod mining;
mod node_door;
mod observer;
mod receiving;
mod spread;
#[cfg(test)]
mod tests;
pub(crate) mod voting;
mod workers;

pub use node_door::MemberDoor;
pub use observer::Observer;

use crate::clock::wall;
use crate::door::{Door, Shared};
use crate::failure::Failure;
use alloy_primitives::{Address, B256, Bytes};
use driver::{Driver, Happening};
use landfall_chain::pool::{Order, Pool, PoolLimits};
use landfall_chain::{Chain, ChainReader};
use landfall_network::Network;
use landfall_replica::{
    Config, Effect, Halt, KeySigner, Limits, Mempool, Replica, Signer, epochs_so_far, next_rules,
};
use landfall_types::{NodeId, Schedule, Time};
use link::Link;
use mining::Mining;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use voting::{Note, Notebook, NotingSigner};
use workers::Workers;

/// How long the peers are waited for at the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// A voting key and the file that it came from.
pub struct Voter {
    /// The key.
    pub secret: [u8; 32],
    /// Beside this file lies the note that says from where the key votes.
    pub file: PathBuf,
}

/// What a node runs on.
pub struct Setup {
    /// The ledger, open.
    pub chain: Chain,
    /// Where it lies.
    pub directory: PathBuf,
    /// Which epochs follow each other.
    pub schedule: Schedule,
    /// Names of validators, as the genesis has them.
    pub names: BTreeMap<NodeId, String>,
    /// The key that votes; without one the node follows.
    pub voter: Option<Voter>,
    /// The node key's secret: as whom peers know a node that does not vote.
    pub node_secret: [u8; 32],
    /// The peers.
    pub network: landfall_network::Config,
    /// Threads that search for nonces; zero makes no blocks of work.
    pub mining_threads: u64,
    /// Bounds of the pool.
    pub pool: PoolLimits,
    /// Who gets the fees of blocks made here; the validator unless given.
    pub beneficiary: Option<Address>,
    /// The gas limit that blocks made here move towards; the head's unless given.
    pub gas_limit: Option<u64>,
    /// At most 32 bytes for blocks made here.
    pub extra_data: Bytes,
}

/// A running node.
pub struct Member {
    /// The way in for transactions, and news.
    pub door: Arc<Door>,
    /// For reading the chain.
    pub reader: ChainReader,
    /// What is known of consensus.
    pub observer: Arc<Observer>,
    /// The peers.
    pub network: Network,
    queue: mpsc::Sender<Happening>,
    ended: oneshot::Receiver<Result<(), Halt>>,
    /// What runs beside the driver.
    tasks: JoinSet<()>,
}

impl Member {
    /// Starts everything. Must be called on a runtime.
    ///
    /// # Errors
    /// If the store fails, the port is taken, or the note beside the key cannot be read.
    pub fn start(setup: Setup) -> Result<Self, Failure> {
        let limits = Limits::default();
        let names = setup.names.clone();
        let opened = open(setup, &limits)?;
        let Opened { replica, effects, signer, mempool, network, votes } = opened;
        let reader = replica.reader();
        let (queue, happenings) = mpsc::channel(driver::QUEUED);
        let (network, events, serving) =
            landfall_network::start(network).map_err(Failure::refused)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serving);
        let shared = Arc::new(Shared::new(mempool.clone()));
        let (spread_to, fresh) = mpsc::channel(spread::QUEUED);
        let door = Arc::new(Door::new(shared.clone(), reader.clone(), Some(spread_to)));
        tasks.spawn(spread::run(fresh, network.clone(), mempool));
        tasks.spawn(pass_on_work(shared.clone(), queue.clone()));
        let observer = Observer::new(&replica, signer.id(), names, votes, Time(wall()));
        let observer = Arc::new(observer);
        let (way_in, watch) = (queue.clone(), observer.clone());
        let (bulk, events_of_bulk) = mpsc::channel(link::BULK);
        tasks.spawn(link::listen(events, bulk, network.clone(), way_in.clone()));
        let taken = link::take_bulk(events_of_bulk, network.clone(), way_in, door.clone(), watch);
        tasks.spawn(taken);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let workers = Workers::start_all(&signer, &queue, &limits, cores);
        let link = Link::new(network.clone(), signer.id());
        let driver = Driver::new(replica, happenings, workers, link, shared, observer.clone());
        let ended = drive(driver, effects)?;
        Ok(Self { door, reader, observer, network, queue, ended, tasks })
    }

    /// Waits until the driver has ended: if nobody told it to, it cannot go on.
    pub async fn ended(&mut self) -> Result<(), Ended> {
        let ended = (&mut self.ended).await;
        ended.map_err(|_| Ended::Died)?.map_err(Ended::Halted)
    }

    /// Leaves the peers, and stays to be asked.
    pub fn leave(&self) {
        self.network.stop();
    }

    /// Stops in order: the driver first, then the peers.
    pub async fn stop(mut self) -> Result<(), Failure> {
        // Fails only if the driver has ended already.
        let _ = self.queue.send(Happening::Stop).await;
        let ended = self.ended().await;
        self.leave();
        // What is queued for peers goes out; then the rest holds nothing any more.
        let goodbye = tokio::time::sleep(GOODBYE);
        tokio::pin!(goodbye);
        tokio::select! {
            () = &mut goodbye => {}
            _ = self.tasks.join_next() => {}
        }
        self.tasks.shutdown().await;
        Ok(ended?)
    }
}

/// Why a driver has ended by itself.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Ended {
    /// The replica cannot go on.
    #[error("the node stops: {0}. Nothing that was acknowledged is lost")]
    Halted(Halt),
    /// A rule of our own is broken, and standard error says which.
    #[error("the thread that owns the chain has died")]
    Died,
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        Self::storage(ended)
    }
}

struct Opened {
    replica: Replica,
    effects: Vec<Effect>,
    signer: Arc<dyn Signer>,
    mempool: Arc<Mempool>,
    network: landfall_network::Config,
    votes: Result<(), String>,
}

/// Opens the replica as a validator, or as a node that follows.
fn open(setup: Setup, limits: &Limits) -> Result<Opened, Failure> {
    let now = Time(wall());
    let reader = setup.chain.reader();
    let epochs = epochs_so_far(&reader, &setup.schedule).map_err(Failure::storage)?;
    let epoch = epochs.last().expect("there is always an epoch");
    let (signer, votes) = signer(&setup, reader.genesis_hash(), epoch.number)?;
    let pool = Pool::new(setup.pool, Order::Fees);
    let mempool = Arc::new(Mempool::new(pool, next_rules(&reader, now)));
    let head_gas = reader.head().block.block.header.gas_limit;
    let config = Config {
        me: signer.id(),
        seed: random_seed()?,
        schedule: setup.schedule,
        beneficiary: setup.beneficiary.unwrap_or(signer.id()),
        gas_limit: setup.gas_limit.unwrap_or(head_gas),
        extra_data: setup.extra_data,
        automatic: true,
        // In an agreement a node makes blocks in its turn, which one that follows never has.
        builds: epoch.kind().is_agreement() || setup.mining_threads > 0,
        alone: false,
        limits: limits.clone(),
    };
    let opened = Replica::open(setup.chain, mempool.clone(), config, now);
    let (replica, effects) = opened.map_err(Failure::storage)?;
    Ok(Opened { replica, effects, signer, mempool, network: setup.network, votes })
}

/// Who signs, and why this node does not vote, if it does not.
type Speaker = (Arc<dyn Signer>, Result<(), String>);

/// As whom this node speaks: with the voting key if it may vote.
fn signer(setup: &Setup, genesis: B256, epoch: u64) -> Result<Speaker, Failure> {
    let threads = setup.mining_threads.max(1);
    let mut votes = Err("no voting key was given: this node follows".to_owned());
    if let Some(Voter { secret, file }) = &setup.voter {
        let notebook = Notebook::open(file).map_err(Failure::refused)?;
        let noted = Note::beside(file).map_err(Failure::refused)?;
        let records = voting::identity(&setup.directory).map_err(Failure::refused)?;
        votes = noted.as_ref().map_or(Ok(()), |it| it.allows(genesis, records, epoch));
        if votes.is_ok() {
            let next = Note { genesis, epoch, records, directory: absolute(&setup.directory) };
            let key = KeySigner::new(secret).map_err(Failure::refused)?;
            let signer = NotingSigner::new(key, notebook, noted, next);
            return Ok((Arc::new(Mining { signer, threads }), votes));
        }
    }
    let signer = KeySigner::new(&setup.node_secret).map_err(Failure::refused)?;
    Ok((Arc::new(Mining { signer, threads }), votes))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn random_seed() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| {
        Failure::refused(format!("the system gives no random numbers for timeouts: {error}"))
    })
}

/// Tells the driver that transactions became executable; many at once make one message.
async fn pass_on_work(shared: Arc<Shared>, queue: mpsc::Sender<Happening>) {
    loop {
        shared.work.notified().await;
        if queue.send(Happening::Pending).await.is_err() {
            return;
        }
    }
}

/// Starts the driver's thread; the receiver hears how it ended.
fn drive(
    driver: Driver,
    effects: Vec<Effect>,
) -> Result<oneshot::Receiver<Result<(), Halt>>, Failure> {
    let (report, ended) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("replica".into())
        .spawn(move || {
            // Who listens is waiting for just this, or the process is ending anyway.
            let _ = report.send(driver.run(effects, &runtime));
        })
        .map_err(|error| Failure::refused(format!("cannot start a thread: {error}")))?;
    Ok(ended)
}
