//! The one place that touches the replica: opens it on a simulated disk, steps it, names its
//! effects.

use crate::keys::HistorySigner;
use crate::scenario::Setup;
use crate::transactions;
use alloy_primitives::{B256, Bytes};
use landfall_chain::pool::{Order, Pool, PoolLimits};
use landfall_chain::store::{MemoryViews, TestDisk};
use landfall_chain::{Chain, ChainOptions, ChainReader, Place};
use landfall_consensus::{ForkChoice, Tree};
use landfall_replica::{Config, Event, Halt, Job, JobKind, Limits, Mempool, Replica, next_rules};
use landfall_types::{Epoch, Height, NodeId, Span, StateReader, Time};
use std::sync::Arc;

pub(crate) use landfall_replica::{Done, Effect, To, Wire};

/// Gas that blocks may use.
const GAS_LIMIT: u64 = 30_000_000;

/// A running node.
pub(crate) struct Host {
    replica: Replica,
    signer: Arc<HistorySigner>,
}

/// Why a node did not start.
pub(crate) struct Refusal(pub String);

/// What a host needs of its machine.
pub(crate) struct Machine<'a> {
    pub disk: &'a TestDisk,
    pub views: &'a MemoryViews,
    pub signer: &'a Arc<HistorySigner>,
    pub id: NodeId,
}

impl Host {
    /// Starts a node on what its disk holds.
    pub fn open(
        machine: &Machine<'_>,
        setup: &Setup,
        seed: u64,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), Refusal> {
        let chain = open_chain(machine, setup).map_err(Refusal)?;
        let reader = chain.reader();
        let pool = Pool::new(PoolLimits::default(), Order::default());
        let mempool = Arc::new(Mempool::new(pool, next_rules(&reader, now)));
        let config = Config {
            me: machine.id,
            seed,
            schedule: setup.schedule.clone(),
            beneficiary: machine.id,
            gas_limit: GAS_LIMIT,
            extra_data: Bytes::new(),
            automatic: true,
            builds: true,
            alone: false,
            limits: limits(),
        };
        let opened =
            Replica::open(chain, mempool, config, now).map_err(|halt| Refusal(halt.to_string()))?;
        Ok((Self { replica: opened.0, signer: machine.signer.clone() }, opened.1))
    }

    /// The deadline has passed.
    pub fn wake(&mut self, now: Time) -> Result<Vec<Effect>, Halt> {
        self.replica.handle(now, Event::Wake)
    }

    /// A message came.
    pub fn deliver(&mut self, now: Time, from: NodeId, wire: Wire) -> Result<Vec<Effect>, Halt> {
        self.replica.handle(now, Event::Wire { from, wire })
    }

    /// A job is done.
    pub fn finish(&mut self, now: Time, done: Done) -> Result<Vec<Effect>, Halt> {
        self.replica.handle(now, Event::Done(done))
    }

    /// Runs a job, whenever that may be.
    pub fn run(&self, job: Job) -> Done {
        job.run(&*self.signer)
    }

    /// Clients offer the next transfer of some accounts, as far as this node knows their nonces.
    pub fn offer(
        &mut self,
        now: Time,
        accounts: impl Iterator<Item = usize>,
    ) -> Result<Vec<Effect>, Halt> {
        let mempool = self.replica.mempool().clone();
        let reader = self.replica.reader();
        let state = reader.latest_state();
        let mut new = false;
        for index in accounts {
            let address = transactions::account(index);
            if mempool.pool.lock().pending_nonce(&address).is_some() {
                continue;
            }
            let account = state.account(&address).map_err(|e| Halt::Store(e.to_string()))?;
            let nonce = account.map_or(0, |account| account.nonce);
            // Refused where the node has moved on since: the client asks again.
            new |= mempool.add(transactions::transfer(index, nonce), &reader).is_ok();
        }
        if new { self.replica.handle(now, Event::Pending) } else { Ok(Vec::new()) }
    }

    /// When to wake it.
    pub fn deadline(&self) -> Option<Time> {
        self.replica.deadline()
    }

    /// What it shows.
    pub fn choice(&self) -> ForkChoice {
        self.replica.choice()
    }

    /// The executed blocks.
    pub fn tree(&self) -> &Tree {
        self.replica.tree()
    }

    /// Every epoch so far.
    pub fn epochs(&self) -> &[Epoch] {
        self.replica.epochs()
    }

    /// The running epoch.
    pub fn epoch(&self) -> &Epoch {
        self.replica.epoch()
    }

    /// For reading blocks.
    pub fn reader(&self) -> ChainReader {
        self.replica.reader()
    }

    /// The height that it shows as final.
    pub fn finalized(&self) -> Height {
        self.replica.tree().height(&self.replica.choice().finalized)
    }

    /// Entries in all queues.
    pub fn queued(&self) -> usize {
        self.replica.queued() + self.replica.tree().len() + self.replica.archive().len()
    }

    /// The engine in a line.
    pub fn describe(&self) -> String {
        self.replica.describe()
    }
}

/// The chain alone, as an operator or an auditor opens it.
pub(crate) fn open_chain(machine: &Machine<'_>, setup: &Setup) -> Result<Chain, String> {
    Chain::open(chain_options(machine, setup)).map_err(|error| error.to_string())
}

/// How the chain of a machine is opened.
pub(crate) fn chain_options(machine: &Machine<'_>, setup: &Setup) -> ChainOptions {
    let place = Place::Kept(Arc::new(machine.disk.clone()), machine.views.clone());
    let mut options = ChainOptions::new(Some(transactions::genesis().clone()), place);
    options.segment_bytes = setup.segment_bytes;
    options.flush_blocks = setup.flush_blocks;
    options.senders = transactions::senders().clone();
    options
}

/// What a crash can stand in front of.
pub(crate) fn boundary(effect: &Effect) -> &'static str {
    match effect {
        Effect::Send { wire: Wire::Engine { vote: Some(_), .. }, .. } => "before a vote is sent",
        Effect::Send { wire: Wire::Engine { .. }, .. } => "before a message is sent",
        Effect::Send { wire: Wire::Block(_), .. } => "before a block is sent",
        Effect::Send { wire: Wire::Proof(_), .. } => "before a proof is sent",
        Effect::Send { .. } => "before sync asks or tells",
        Effect::Job(job) => match job.kind() {
            JobKind::Execute => "before a block is executed",
            JobKind::Build => "before a block is built",
            JobKind::Sync => "before the log is synced",
            JobKind::Sign => "before a vote is signed",
            JobKind::Recover => "before signers are recovered",
            JobKind::Flush => "before a flush",
        },
        Effect::Shown { .. } => "before a choice is shown",
        Effect::Report(_) => "before evidence is reported",
        Effect::Penalise { .. } => "before a peer is penalised",
        Effect::Unsigned { .. } => unreachable!("every key of a history is at hand"),
    }
}

/// What a crash can stand in front of: results that have not been taken in.
pub(crate) fn arrival(done: &Done) -> &'static str {
    match done {
        Done::Executed { .. } => "before an execution is taken in",
        Done::Built(_) => "before a built block is taken in",
        Done::Synced(_) => "after a sync, before it is known",
        Done::Signed(_) => "before a signature is taken in",
        Done::Recovered(_) => "before signers are taken in",
        Done::Flushed(_) => "before a flush is taken in",
    }
}

/// What kind of job it is, and the work it must show.
pub(crate) fn labour(job: &Job) -> (JobKind, Option<alloy_primitives::U256>) {
    (job.kind(), job.difficulty())
}

/// Small enough that a bound that is missing shows.
fn limits() -> Limits {
    Limits {
        status_interval: Span(1_000),
        fetch_retry: Span(1_000),
        fetch_expiry: Span(15_000),
        waiting_blocks: 128,
        waiting_of_peer: 64,
        waiting_expiry: Span(120_000),
        wanted_blocks: 128,
        invalid_blocks: 64,
        recovering: 512,
        recovering_of_strangers: 256,
        range_blocks: 32,
        range_bytes: 1 << 20,
        evidence_window: 64,
        ..Limits::default()
    }
}

/// What [`Host::queued`] may never exceed: the sum of the bounds above, of what is kept of the tree
/// and of the votes of the members for the window of evidence.
pub(crate) const MOST_QUEUED: usize = 8_000;

/// The hash of block 0.
pub(crate) fn genesis_hash(host: &Host) -> B256 {
    host.reader().genesis_hash()
}
