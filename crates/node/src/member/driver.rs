//! The one thread that owns the replica of a node: it takes what happens, in order, and performs
//! what the replica wants, in order.
//!
//! Nothing here waits for anything but the next happening: jobs run on [`Workers`], messages leave
//! through [`Link`], and both answer through the queue. So a vote is answered while a block is
//! executed.

use super::link::Link;
use super::observer::Observer;
use super::workers::Workers;
use crate::clock::wall;
use crate::door::Shared;
use crate::ops::metrics;
use landfall_network::Permit;
use landfall_replica::{Done, Effect, Event, Halt, Replica, Wire};
use landfall_types::{NodeId, Time};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

/// Happenings that wait for the thread; more make whoever brings them wait.
pub const QUEUED: usize = 4_096;
/// The longest sleep, in milliseconds: a clock that jumped back delays a deadline by this at most.
const SLEEP_MAX: u64 = 250;
/// Happenings between two looks at the deadline.
const BURST: usize = 64;

/// What comes to the thread.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives in a bounded queue; a box would cost an allocation for each"
)]
pub enum Happening {
    /// A peer said something.
    Wire {
        /// Who.
        from: NodeId,
        /// What.
        wire: Wire,
        /// Given back when it has been taken in: so much may be under way from one peer.
        permit: Option<Permit>,
    },
    /// A job is done.
    Done(Done),
    /// Transactions became executable.
    Pending,
    /// Stop, when what is written is durable.
    Stop,
}

/// See the module.
pub struct Driver {
    replica: Replica,
    queue: mpsc::Receiver<Happening>,
    workers: Workers,
    link: Link,
    shared: Arc<Shared>,
    observer: Arc<Observer>,
}

impl Driver {
    /// Takes over a replica.
    pub fn new(
        replica: Replica,
        queue: mpsc::Receiver<Happening>,
        workers: Workers,
        link: Link,
        shared: Arc<Shared>,
        observer: Arc<Observer>,
    ) -> Self {
        Self { replica, queue, workers, link, shared, observer }
    }

    /// Performs the effects of the replica's start, then works until told to stop or until the
    /// replica cannot go on.
    pub fn run(mut self, begin: Vec<Effect>, runtime: &tokio::runtime::Handle) -> Result<(), Halt> {
        let ended = self.work(begin, runtime);
        if let Err(halt) = &ended {
            self.observer.halted(halt);
            self.shared.close(halt.to_string());
        }
        // Whoever still brings something is told that nobody takes it.
        self.queue.close();
        let Self { replica, workers, .. } = self;
        let mut chain = replica.into_chain();
        // After a halt nobody waits for jobs: the disk that failed may keep one for ever.
        ended?;
        workers.join();
        // What was acknowledged is durable already; with this the next start is quick.
        chain.flush().map_err(|error| Halt::Store(error.to_string()))
    }

    fn work(&mut self, begin: Vec<Effect>, runtime: &tokio::runtime::Handle) -> Result<(), Halt> {
        self.perform(begin);
        self.observer.look(&self.replica, &self.shared.mempool, now());
        loop {
            self.keep_deadline()?;
            let Some(first) = self.next(runtime) else { continue };
            let mut happening = Some(first);
            for _ in 0..BURST {
                match happening.take() {
                    Some(Happening::Stop) => return Ok(()),
                    Some(it) => self.take(it)?,
                    None => break,
                }
                happening = self.queue.try_recv().ok();
            }
            if let Some(left) = happening {
                match left {
                    Happening::Stop => return Ok(()),
                    left => self.take(left)?,
                }
            }
            self.observer.look(&self.replica, &self.shared.mempool, now());
        }
    }

    /// The next happening; `None` when a deadline has come first.
    fn next(&mut self, runtime: &tokio::runtime::Handle) -> Option<Happening> {
        match self.queue.try_recv() {
            Ok(happening) => return Some(happening),
            Err(TryRecvError::Disconnected) => return Some(Happening::Stop),
            Err(TryRecvError::Empty) => {}
        }
        let due = self.replica.deadline();
        let wait = due.map_or(SLEEP_MAX, |due| due.0.saturating_sub(wall()).min(SLEEP_MAX));
        let received = runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(wait), self.queue.recv()).await
        });
        match received {
            Ok(happening) => Some(happening.unwrap_or(Happening::Stop)),
            Err(_) => None,
        }
    }

    fn keep_deadline(&mut self) -> Result<(), Halt> {
        let time = now();
        if self.replica.deadline().is_some_and(|due| due <= time) {
            let effects = self.replica.handle(time, Event::Wake)?;
            self.perform(effects);
            self.observer.look(&self.replica, &self.shared.mempool, time);
        }
        Ok(())
    }

    fn take(&mut self, happening: Happening) -> Result<(), Halt> {
        let event = match happening {
            Happening::Wire { from, wire, permit } => {
                self.observer.heard(from, &wire, now());
                drop(permit);
                Event::Wire { from, wire }
            }
            Happening::Done(done) => Event::Done(done),
            Happening::Pending => Event::Pending,
            Happening::Stop => unreachable!("the caller has looked"),
        };
        let begun = Instant::now();
        let effects = self.replica.handle(now(), event)?;
        self.perform(effects);
        metrics().stepped(begun.elapsed(), self.replica.queued());
        Ok(())
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, wire } => {
                    self.observer.said(&wire, now());
                    self.link.send(to, &wire, &self.replica.epoch().committee);
                }
                Effect::Job(job) => self.workers.start(job),
                Effect::Shown { adopted, promoted } => {
                    self.observer.shown(&adopted, now());
                    self.shared.tell(adopted, &promoted);
                }
                Effect::Report(evidence) => self.observer.evidence(&evidence),
                Effect::Unsigned { vote, why } => {
                    tracing::error!(why, ?vote, "a vote is not signed; it is tried again");
                }
                Effect::Penalise { peer, why } => self.link.penalise(peer, &why),
            }
        }
    }
}

fn now() -> Time {
    Time(wall())
}
