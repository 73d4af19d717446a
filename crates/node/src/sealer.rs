//! The one thread that owns the chain: it seals blocks, adopts them, and runs the controls.
//!
//! A block is sealed when transactions wait (all that wait go into one: what came in while the
//! last block was made durable shares the next sync), every so often, or when told. Readers see it
//! when `adopt` returns, which is after the sync; then the pool follows, then subscribers are told.
//!
//! The fork choice of a chain without consensus: the head is what was sealed last, `safe` and
//! `finalized` trail it, and never pass the oldest open snapshot, because what is final cannot be
//! left again.

use crate::clock::{Clock, wall};
use crate::following::{next_rules, touched, transactions};
use crate::host::{Shared, Task};
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, B256, TxHash, keccak256};
use landfall_chain::pool::Recovered;
use landfall_chain::{
    Adopted, Attributes, Chain, ChainReader, FlushDone, ImportError, Mark, Patch, StoredBlock,
};
use landfall_evm::{BlockBuilder, PushError, TransactionError};
use landfall_rpc::Event;
use landfall_types::{Block, Extension, ForkChoice, StateError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How far `safe` trails the head.
const SAFE_DISTANCE: u64 = 32;
/// How far `finalized` trails the head.
const FINAL_DISTANCE: u64 = 64;
/// Empty blocks that share one sync when many are asked for. Not more than [`SAFE_DISTANCE`]:
/// `safe` is looked up among blocks that are visible.
const EMPTY_TOGETHER: u64 = SAFE_DISTANCE;
/// Snapshots that may be open at once.
const MAX_SNAPSHOTS: usize = 65_536;
/// Blocks that one call may ask for.
const MAX_MINED: u64 = 1_000_000;

/// Why a task was not done.
#[derive(Debug)]
pub enum Trouble {
    /// The caller asked for what cannot be.
    Refused(String),
    /// The chain cannot go on: the node must stop.
    Fatal(String),
}

impl Trouble {
    /// The caller asked for what cannot be.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

impl From<ImportError> for Trouble {
    fn from(error: ImportError) -> Self {
        if error.is_fatal() {
            Self::Fatal(error.to_string())
        } else {
            Self::Refused(error.to_string())
        }
    }
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Self::Fatal(error.to_string())
    }
}

/// What the next blocks are like.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who gets the fees.
    pub beneficiary: Address,
    /// The gas limit to reach.
    pub gas_limit: u64,
    /// PREVRANDAO of the next block; one is derived where none is given.
    pub prev_randao: Option<B256>,
    /// Whether a block is sealed on the interval even if no transaction waits.
    pub empty_blocks: bool,
}

/// A state to come back to, and the time that it was.
struct Snapshot {
    mark: Mark,
    time: u64,
}

/// The writer of the chain.
pub struct Sealer {
    chain: Chain,
    reader: ChainReader,
    shared: Arc<Shared>,
    tasks: mpsc::Receiver<Task>,
    /// The chain's clock.
    pub clock: Clock,
    /// What the next blocks are like.
    pub settings: Settings,
    snapshots: BTreeMap<u64, Snapshot>,
    last_snapshot: u64,
    next_tick: Option<Instant>,
    flushing: Option<JoinHandle<FlushDone>>,
    fatal: Option<String>,
    stopping: bool,
}

enum Wake {
    Task(Task),
    Work,
    Tick,
    Stop,
}

impl Sealer {
    /// Takes over a chain.
    pub fn new(
        chain: Chain,
        shared: Arc<Shared>,
        tasks: mpsc::Receiver<Task>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let reader = chain.reader();
        Self {
            chain,
            reader,
            shared,
            tasks,
            clock,
            settings,
            snapshots: BTreeMap::new(),
            last_snapshot: 0,
            next_tick: None,
            flushing: None,
            fatal: None,
            stopping: false,
        }
    }

    /// Works until told to stop or the store fails; the error is for the user.
    pub fn run(mut self, runtime: &tokio::runtime::Handle) -> Result<(), String> {
        self.set_interval_tick();
        while self.fatal.is_none() && !self.stopping {
            let done = match runtime.block_on(self.wake()) {
                Wake::Task(task) => {
                    task(&mut self);
                    Ok(())
                }
                Wake::Work => self.seal_waiting(),
                Wake::Tick => self.tick(),
                Wake::Stop => break,
            };
            if let Err(trouble) = done {
                self.note(trouble);
            }
        }
        let ended = self.end();
        self.fatal.map_or(ended, Err)
    }

    async fn wake(&mut self) -> Wake {
        let automine = self.shared.automine.load(Relaxed);
        let tick = self.next_tick;
        tokio::select! {
            biased;
            task = self.tasks.recv() => task.map_or(Wake::Stop, Wake::Task),
            () = tokio::time::sleep_until(tick.unwrap_or_else(Instant::now)), if tick.is_some()
                => Wake::Tick,
            () = self.shared.work.notified(), if automine => Wake::Work,
        }
    }

    /// Keeps the reason to stop, if it is one; the message for whoever asked.
    pub fn note(&mut self, trouble: Trouble) -> String {
        match trouble {
            Trouble::Refused(why) => why,
            Trouble::Fatal(why) => self.fatal.get_or_insert(why).clone(),
        }
    }

    /// Ends the thread after the present task.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    fn end(&mut self) -> Result<(), String> {
        if let Some(flush) = self.flushing.take() {
            let done = flush.join().expect("a flush does not panic");
            self.chain.finish_flush(done).map_err(|error| error.to_string())?;
        }
        if self.fatal.is_some() {
            return Ok(());
        }
        self.chain.flush().map_err(|error| error.to_string())
    }

    /// Seals all that waits, block after block, until nothing is executable.
    fn seal_waiting(&mut self) -> Result<(), Trouble> {
        while self.fatal.is_none() && self.something_waits() && self.tasks.is_empty() {
            if self.seal()? == 0 {
                // What waits does not fit even an empty block: its time may come later.
                return Ok(());
            }
        }
        if !self.tasks.is_empty() {
            // A task came in between: it goes first, then on with this.
            self.shared.work.notify_one();
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), Trouble> {
        self.set_interval_tick();
        if self.settings.empty_blocks || self.something_waits() {
            self.seal()?;
        }
        Ok(())
    }

    fn something_waits(&self) -> bool {
        let pool = self.shared.pool.lock();
        pool.best(self.shared.next.read().base_fee).next(&pool).is_some()
    }

    /// Seals one block of what waits and adopts it; how many transactions it holds.
    fn seal(&mut self) -> Result<usize, Trouble> {
        let head = self.reader.head();
        let block = self.build(&head.block.block, true)?;
        let count = block.senders.len();
        self.adopt(&block.block)?;
        Ok(count)
    }

    fn build(&mut self, parent: &Block, fill: bool) -> Result<Arc<StoredBlock>, Trouble> {
        let milliseconds = self.clock.seal(parent_time(parent), wall());
        let randao = self.settings.prev_randao.take();
        let derived =
            || keccak256([parent.hash().as_slice(), &milliseconds.to_be_bytes()].concat());
        let attributes = Attributes {
            beneficiary: self.settings.beneficiary,
            milliseconds,
            gas_limit: self.settings.gas_limit,
            prev_randao: randao.unwrap_or_else(derived),
            ..Attributes::default()
        };
        let mut hopeless = Vec::new();
        let mut unreadable = None;
        let shared = &self.shared;
        let fill = |builder: &mut BlockBuilder<'_>| {
            if fill {
                unreadable = fill_block(shared, builder, &mut hopeless).err();
            }
        };
        let block = self.chain.build(parent.hash(), attributes, fill);
        let block = block.map_err(|error| {
            Trouble::Fatal(format!("cannot seal on block {}: {error}", parent.number()))
        })?;
        if let Some(error) = unreadable {
            return Err(error.into());
        }
        let mut pool = self.shared.pool.lock();
        for hash in &hopeless {
            pool.remove(hash);
        }
        Ok(block)
    }

    fn adopt(&mut self, block: &Block) -> Result<(), Trouble> {
        let (safe, finalized) = self.trailing(block.number())?;
        let adopted = self.chain.adopt(ForkChoice { head: block.hash(), safe, finalized });
        let adopted = adopted.map_err(|error| {
            // A block of our own on our own head: whatever is wrong with it, it is with us.
            Trouble::Fatal(format!("cannot adopt block {}: {error}", block.number()))
        })?;
        let abandoned = transactions(&adopted.removed);
        let touched = touched(&adopted);
        self.follow(touched, abandoned, Some(adopted))?;
        self.maintain()
    }

    /// The hashes of `safe` and `finalized` for a head at a height.
    fn trailing(&self, number: u64) -> Result<(B256, B256), Trouble> {
        let now = self.reader.head();
        let snapshots = self.snapshots.values().map(|snapshot| snapshot.mark.number);
        let ceiling = snapshots.min().unwrap_or(u64::MAX);
        let behind = |distance| number.saturating_sub(distance).min(ceiling);
        let finalized = behind(FINAL_DISTANCE).max(now.finalized.0);
        let safe = behind(SAFE_DISTANCE).max(finalized);
        let hash = |height| -> Result<B256, Trouble> {
            let hash = self.reader.hash_at(height)?;
            hash.ok_or_else(|| Trouble::Fatal(format!("block {height} is missing")))
        };
        Ok((hash(safe)?, hash(finalized)?))
    }

    /// The pool follows the state, and subscribers hear of it.
    fn follow(
        &mut self,
        touched: Option<HashSet<Address>>,
        abandoned: Vec<Recovered>,
        adopted: Option<Adopted>,
    ) -> Result<(), Trouble> {
        let next = next_rules(&self.reader, &self.clock);
        let state = self.reader.latest_state();
        {
            let mut pool = self.shared.pool.lock();
            *self.shared.next.write() = next;
            let touched =
                touched.unwrap_or_else(|| pool.senders().into_iter().collect::<HashSet<_>>());
            let moved = pool.on_head(touched, abandoned, &next, &state)?;
            self.shared.announce(&pool, &moved.promoted);
        }
        if let Some(Adopted { removed, added }) = adopted
            && self.shared.events.receiver_count() > 0
        {
            // Fails only when the last subscriber has just left.
            let _ = self.shared.events.send(Event::Head { removed, added });
        }
        Ok(())
    }

    /// Starts a flush of what is final when one is due, and takes note of one that is done.
    fn maintain(&mut self) -> Result<(), Trouble> {
        if self.flushing.as_ref().is_some_and(JoinHandle::is_finished) {
            let flush = self.flushing.take().expect("looked at above");
            self.chain.finish_flush(flush.join().expect("a flush does not panic"))?;
        }
        if self.flushing.is_none()
            && self.chain.flush_due()
            && let Some(job) = self.chain.begin_flush()
        {
            let thread = std::thread::Builder::new().name("flush".into());
            let flush = thread.spawn(move || job.run()).expect("the system starts a thread");
            self.flushing = Some(flush);
        }
        Ok(())
    }

    /// Seals blocks now: the first with what waits, `interval` seconds between them.
    pub fn mine(
        &mut self,
        blocks: u64,
        interval: Option<u64>,
        timestamp: Option<u64>,
    ) -> Result<(), Trouble> {
        if blocks > MAX_MINED {
            return Err(Trouble::refused(format!("at most {MAX_MINED} blocks at once")));
        }
        if let Some(timestamp) = timestamp {
            self.set_next_block_timestamp(timestamp)?;
        }
        let step = interval.unwrap_or(0).saturating_mul(1_000);
        let mut left = blocks;
        while left > 0 {
            // Only the first of a group is filled: the pool follows when the group is adopted.
            let group = if self.something_waits() { 1 } else { left.min(EMPTY_TOGETHER) };
            let mut newest = self.reader.head().block.clone();
            for place in 0..group {
                if step > 0 && left - place < blocks {
                    let time = parent_time(&newest.block).saturating_add(step);
                    self.clock.set_next(time);
                }
                newest = self.build(&newest.block, group == 1)?;
            }
            self.adopt(&newest.block)?;
            left -= group;
        }
        Ok(())
    }

    /// The next block gets this time in seconds.
    pub fn set_next_block_timestamp(&mut self, timestamp: u64) -> Result<(), Trouble> {
        let head = self.reader.head();
        let newest = head.block.block.header.timestamp;
        if timestamp < newest {
            return Err(Trouble::refused(format!(
                "timestamp {timestamp} is lower than the newest block's, {newest}"
            )));
        }
        self.clock.set_next(milliseconds(timestamp)?);
        Ok(())
    }

    /// Transactions are sealed at once, and no longer on an interval; or not.
    pub fn set_automine(&mut self, on: bool) {
        if on && !self.shared.automine.swap(true, Relaxed) {
            self.shared.interval.store(0, Relaxed);
            self.set_interval_tick();
            self.shared.work.notify_one();
        } else if !on {
            self.shared.automine.store(false, Relaxed);
        }
    }

    /// Blocks are sealed on an interval, and transactions no longer at once; zero ends that.
    pub fn set_interval(&mut self, milliseconds: u64) {
        self.shared.interval.store(milliseconds, Relaxed);
        if milliseconds > 0 {
            self.shared.automine.store(false, Relaxed);
        }
        self.next_tick = None;
        self.set_interval_tick();
    }

    /// The gas limit that blocks move towards.
    pub fn set_gas_limit(&mut self, gas: u64) -> Result<(), Trouble> {
        if gas < 5_000 {
            return Err(Trouble::refused("the gas limit of a block must be at least 5000"));
        }
        self.settings.gas_limit = gas;
        Ok(())
    }

    /// The base fee of the block that would be sealed now.
    pub fn next_base_fee(&self) -> u64 {
        self.shared.next.read().base_fee
    }

    fn set_interval_tick(&mut self) {
        let interval = Duration::from_millis(self.shared.interval.load(Relaxed));
        self.next_tick = (!interval.is_zero()).then(|| {
            let now = Instant::now();
            // From the last tick, so that blocks do not drift; but no burst after a long block.
            let due = self.next_tick.map_or(now, |last| last) + interval;
            if due < now { now } else { due }
        });
    }

    /// Marks the present state.
    pub fn snapshot(&mut self) -> Result<u64, Trouble> {
        if self.snapshots.len() >= MAX_SNAPSHOTS {
            return Err(Trouble::refused(format!(
                "{MAX_SNAPSHOTS} snapshots are open; revert to an older one to close the later"
            )));
        }
        self.last_snapshot += 1;
        let snapshot = Snapshot { mark: self.chain.mark(), time: self.clock.now(wall()) };
        self.snapshots.insert(self.last_snapshot, snapshot);
        Ok(self.last_snapshot)
    }

    /// Returns to a snapshot and closes it and all later ones.
    pub fn revert(&mut self, id: u64) -> Result<bool, Trouble> {
        let Some(Snapshot { mark, time }) = self.snapshots.get(&id) else { return Ok(false) };
        let (mark, time) = (*mark, *time);
        let (safe, finalized) = self.trailing(mark.number)?;
        let adopted = self.chain.revert(mark, safe, finalized)?;
        self.snapshots.split_off(&id);
        self.clock = Clock::showing(time, wall());
        // What was in the blocks that are left is gone: that is what a revert is for.
        self.follow(None, Vec::new(), Some(adopted))?;
        Ok(true)
    }

    /// Back to the genesis block, with an empty pool and the wall clock's time.
    pub fn reset(&mut self) -> Result<(), Trouble> {
        let head = self.reader.head();
        let genesis = self.reader.genesis_hash();
        if head.finalized.1 != genesis {
            return Err(Trouble::refused(format!(
                "cannot reset: block {} is final and genesis lies before it ({FINAL_DISTANCE} \
                 blocks are kept open); take a snapshot at the start and revert to it, or start \
                 with another data directory",
                head.finalized.0
            )));
        }
        let mark = Mark::of(genesis, head.finalized.0);
        let adopted = self.chain.revert(mark, genesis, genesis)?;
        self.snapshots.clear();
        self.shared.pool.lock().clear();
        let newest = parent_time(&self.reader.head().block.block);
        self.clock = Clock::resuming(newest, wall());
        self.follow(None, Vec::new(), Some(adopted))
    }

    /// Changes the state outside a transaction.
    pub fn patch(&mut self, patch: Patch) -> Result<(), Trouble> {
        let address = match &patch {
            Patch::Balance { address, .. }
            | Patch::Nonce { address, .. }
            | Patch::Code { address, .. }
            | Patch::Storage { address, .. } => *address,
        };
        self.chain.patch(patch)?;
        self.follow(Some(HashSet::from_iter([address])), Vec::new(), None)?;
        self.shared.work.notify_one();
        Ok(())
    }
}

/// Pushes what the pool has, best first. Transactions that can stand in no block are returned.
fn fill_block(
    shared: &Shared,
    builder: &mut BlockBuilder<'_>,
    hopeless: &mut Vec<TxHash>,
) -> Result<(), StateError> {
    let base_fee = builder.header().base_fee_per_gas.unwrap_or_default();
    let mut best = shared.pool.lock().best(base_fee);
    loop {
        // The lock is held for a step only: transactions come in while the block is made.
        let candidate = best.next(&shared.pool.lock());
        let Some(candidate) = candidate else { return Ok(()) };
        match builder.push(&candidate.transaction, candidate.sender) {
            Ok(_) => {}
            Err(PushError::Full) => return Ok(()),
            Err(PushError::State(error)) => return Err(error),
            Err(PushError::Refused(reason)) => {
                best.skip(candidate.sender);
                if is_hopeless(&reason) {
                    hopeless.push(candidate.hash());
                }
            }
        }
    }
}

/// Whether no later block can hold a transaction that was refused so. Nonces, funds, fees and room
/// change, and the pool follows them itself.
fn is_hopeless(reason: &TransactionError) -> bool {
    !matches!(
        reason,
        TransactionError::NonceTooLow { .. }
            | TransactionError::NonceTooHigh { .. }
            | TransactionError::InsufficientFunds { .. }
            | TransactionError::FeeBelowBaseFee { .. }
            | TransactionError::BlockGas { .. }
    )
}

/// Milliseconds of a time in seconds that a caller gave.
pub fn milliseconds(seconds: u64) -> Result<u64, Trouble> {
    let most = i64::MAX as u64 / 1_000;
    if seconds > most {
        return Err(Trouble::refused(format!("timestamp {seconds} is above {most}")));
    }
    Ok(seconds * 1_000)
}

/// When a block was sealed, in milliseconds.
pub fn parent_time(block: &Block) -> u64 {
    let seconds = block.header.timestamp.saturating_mul(1_000);
    Extension::from_bytes(&block.extension).map_or(seconds, |extension| extension.milliseconds)
}
