//! The one thread that owns the replica of a development chain: it runs its jobs, tells it when to
//! seal, and runs the controls.
//!
//! The engine is `Solo`: it makes a block when it is told that something waits, and adopts it.
//! Told it is when transactions wait (all that wait go into one block: what came in while the last
//! block was made durable shares the next sync), every so often, or on command. Readers see a block
//! after the sync; then the pool follows, then subscribers are told.
//!
//! `safe` and `finalized` trail the head, and never pass the oldest open snapshot, because what is
//! final cannot be left again.

use crate::clock::{Clock, wall};
use crate::door::Shared;
use crate::host::{Switches, Task};
use landfall_chain::{Adopted, ChainReader, FlushDone, ImportError, Mark, Patch};
use landfall_replica::{Done, Effect, Event as Input, Halt, Job, KeySigner, Replica};
use landfall_types::{
    Block, Committee, Height, Params, Schedule, SoloParams, StateError, Term, Time,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Empty blocks that share one sync when many are asked for.
const EMPTY_TOGETHER: u64 = 32;
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

impl From<Halt> for Trouble {
    fn from(halt: Halt) -> Self {
        Self::Fatal(halt.to_string())
    }
}

impl From<StateError> for Trouble {
    fn from(error: StateError) -> Self {
        Self::Fatal(error.to_string())
    }
}

/// A state to come back to, and the time that it was.
struct Snapshot {
    mark: Mark,
    time: u64,
}

/// The host of the replica.
pub struct Sealer {
    replica: Replica,
    signer: KeySigner,
    reader: ChainReader,
    shared: Arc<Shared>,
    switches: Arc<Switches>,
    tasks: mpsc::Receiver<Task>,
    /// The chain's clock.
    pub clock: Clock,
    /// Whether a block is sealed on the interval even if no transaction waits.
    empty_blocks: bool,
    /// Effects that were not performed yet.
    effects: VecDeque<Effect>,
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
    /// Takes over a replica, and the effects of its start.
    pub fn new(
        (replica, effects): (Replica, Vec<Effect>),
        signer: KeySigner,
        (shared, switches): (Arc<Shared>, Arc<Switches>),
        tasks: mpsc::Receiver<Task>,
        clock: Clock,
        empty_blocks: bool,
    ) -> Self {
        Self {
            reader: replica.reader(),
            replica,
            signer,
            shared,
            switches,
            tasks,
            clock,
            empty_blocks,
            effects: effects.into(),
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
        match self.fatal.take() {
            Some(fatal) => self.abandon(fatal),
            None => self.end(),
        }
    }

    async fn wake(&mut self) -> Wake {
        let automine = self.switches.automine.load(Relaxed);
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

    /// The replica, for settings.
    pub fn replica(&mut self) -> &mut Replica {
        &mut self.replica
    }

    /// Ends the thread after the present task.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Stops where it stands: nothing more is written.
    fn abandon(mut self, fatal: String) -> Result<(), String> {
        if let Some(flush) = self.flushing.take() {
            // Whatever became of it: the views are made good from the log.
            drop(flush.join());
        }
        Err(fatal)
    }

    fn end(mut self) -> Result<(), String> {
        while let Some(flush) = self.flushing.take() {
            let done = flush.join().expect("a flush does not panic");
            self.step(Input::Done(Done::Flushed(done))).map_err(|trouble| self.note(trouble))?;
        }
        self.replica.into_chain().flush().map_err(|error| error.to_string())
    }

    /// Seals all that waits, block after block, until nothing is executable.
    fn seal_waiting(&mut self) -> Result<(), Trouble> {
        while self.fatal.is_none() && self.shared.mempool.something_waits() && self.tasks.is_empty()
        {
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
        if self.empty_blocks || self.shared.mempool.something_waits() {
            self.seal()?;
        }
        Ok(())
    }

    /// Seals one block of what waits; how many transactions it holds.
    fn seal(&mut self) -> Result<usize, Trouble> {
        self.build()?;
        self.settle()?;
        Ok(self.reader.head().block.senders.len())
    }

    /// Has a block built on the newest one, without waiting for the disk.
    fn build(&mut self) -> Result<(), Trouble> {
        let now = Time(self.clock.seal(self.replica.newest_time().0, wall()));
        let effects = self.replica.handle(now, Input::Seal)?;
        self.effects.extend(effects);
        self.perform(false)
    }

    /// Hands the replica an event, and does what it wants.
    fn step(&mut self, event: Input) -> Result<(), Trouble> {
        let now = Time(self.clock.now(wall()));
        let effects = self.replica.handle(now, event)?;
        self.effects.extend(effects);
        self.perform(true)
    }

    /// Makes everything so far durable and visible.
    fn settle(&mut self) -> Result<(), Trouble> {
        self.perform(true)?;
        if self.flushing.as_ref().is_some_and(JoinHandle::is_finished) {
            let flush = self.flushing.take().expect("looked at above");
            let done = flush.join().expect("a flush does not panic");
            self.step(Input::Done(Done::Flushed(done)))?;
        }
        Ok(())
    }

    /// Performs effects in order until there is none, but for the sync if it shall wait.
    fn perform(&mut self, sync: bool) -> Result<(), Trouble> {
        let mut waiting = VecDeque::new();
        while let Some(effect) = self.effects.pop_front() {
            match effect {
                Effect::Job(Job::Sync(job)) if !sync => {
                    waiting.push_back(Effect::Job(Job::Sync(job)))
                }
                Effect::Job(job @ Job::Flush(_)) => self.flush(job),
                Effect::Job(job) => {
                    let done = job.run(&self.signer);
                    let now = Time(self.clock.now(wall()));
                    let more = self.replica.handle(now, Input::Done(done))?;
                    self.effects.extend(more);
                }
                Effect::Shown { adopted, promoted } => self.shared.tell(adopted, &promoted),
                Effect::Send { .. }
                | Effect::Report(_)
                | Effect::Penalise { .. }
                | Effect::Unsigned { .. } => {
                    unreachable!("a development chain has no peers and no votes")
                }
            }
        }
        self.effects = waiting;
        Ok(())
    }

    /// Writes to the views on a thread of its own, while blocks go on.
    fn flush(&mut self, job: Job) {
        let Job::Flush(job) = job else { unreachable!("asked for a flush") };
        let thread = std::thread::Builder::new().name("flush".into());
        let flush = thread.spawn(move || job.run()).expect("the system starts a thread");
        self.flushing = Some(flush);
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
            let group =
                if self.shared.mempool.something_waits() { 1 } else { left.min(EMPTY_TOGETHER) };
            for place in 0..group {
                if step > 0 && left - place < blocks {
                    self.clock.set_next(self.replica.newest_time().0.saturating_add(step));
                }
                self.build()?;
            }
            self.settle()?;
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
        if on && !self.switches.automine.swap(true, Relaxed) {
            self.switches.interval.store(0, Relaxed);
            self.set_interval_tick();
            self.shared.work.notify_one();
        } else if !on {
            self.switches.automine.store(false, Relaxed);
        }
    }

    /// Blocks are sealed on an interval, and transactions no longer at once; zero ends that.
    pub fn set_interval(&mut self, milliseconds: u64) {
        self.switches.interval.store(milliseconds, Relaxed);
        if milliseconds > 0 {
            self.switches.automine.store(false, Relaxed);
        }
        self.next_tick = None;
        self.set_interval_tick();
    }

    /// The gas limit that blocks move towards.
    pub fn set_gas_limit(&mut self, gas: u64) -> Result<(), Trouble> {
        if gas < 5_000 {
            return Err(Trouble::refused("the gas limit of a block must be at least 5000"));
        }
        self.replica.set_gas_limit(gas);
        Ok(())
    }

    /// The base fee of the block that would be sealed now.
    pub fn next_base_fee(&self) -> u64 {
        self.shared.mempool.next.read().base_fee
    }

    fn set_interval_tick(&mut self) {
        let interval = Duration::from_millis(self.switches.interval.load(Relaxed));
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
        let snapshot = Snapshot { mark: self.replica.mark(), time: self.clock.now(wall()) };
        self.snapshots.insert(self.last_snapshot, snapshot);
        self.hold();
        Ok(self.last_snapshot)
    }

    /// Returns to a snapshot and closes it and all later ones.
    pub fn revert(&mut self, id: u64) -> Result<bool, Trouble> {
        let Some(Snapshot { mark, time }) = self.snapshots.get(&id) else { return Ok(false) };
        let (mark, time) = (*mark, *time);
        self.return_to(mark)?;
        self.clock = Clock::showing(time, wall());
        self.snapshots.split_off(&id);
        self.hold();
        Ok(true)
    }

    /// `finalized` never passes the oldest open snapshot.
    fn hold(&mut self) {
        let oldest = self.snapshots.values().map(|snapshot| snapshot.mark.number).min();
        self.replica.set_ceiling(oldest.map(Height));
    }

    fn return_to(&mut self, mark: Mark) -> Result<(), Trouble> {
        let now = Time(self.clock.now(wall()));
        let (adopted, promoted) = self.replica.revert(now, mark)??;
        self.shared.tell(adopted, &promoted);
        Ok(())
    }

    /// Back to the genesis block, with an empty pool and the wall clock's time.
    pub fn reset(&mut self) -> Result<(), Trouble> {
        let head = self.reader.head();
        let genesis = self.reader.genesis_hash();
        if head.finalized.1 != genesis {
            return Err(Trouble::refused(format!(
                "cannot reset: block {} is final and genesis lies before it ({} \
                 blocks are kept open); take a snapshot at the start and revert to it, or start \
                 with another data directory",
                head.finalized.0,
                SoloParams::default().final_depth,
            )));
        }
        self.return_to(Mark::of(genesis, head.finalized.0))?;
        self.shared.mempool.pool.lock().clear();
        self.snapshots.clear();
        self.hold();
        let newest = parent_time(&self.reader.head().block.block);
        self.clock = Clock::resuming(newest, wall());
        Ok(())
    }

    /// Changes the state outside a transaction.
    pub fn patch(&mut self, patch: Patch) -> Result<(), Trouble> {
        let now = Time(self.clock.now(wall()));
        let promoted = self.replica.patch(now, patch)?;
        self.shared.tell(Adopted::default(), &promoted);
        self.shared.work.notify_one();
        Ok(())
    }
}

/// The schedule of a development chain: one member that seals, for ever.
pub fn solo(me: landfall_types::NodeId) -> Schedule {
    let params = Params::Solo(SoloParams::default());
    let committee = Committee::equal([me]).expect("one member makes a committee");
    Schedule::new(vec![Term { params, committee, length: None }])
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
    block.time().0
}
