//! The threads that run a replica's jobs, each with its kind: so that a vote is signed while a
//! block is executed, and the next block is executed while the log of the last one is synced.
//!
//! The queues cannot overflow: how many jobs of a kind are out is bounded by the replica's limits.

use super::driver::Happening;
use crate::allocator;
use crate::ops::metrics;
use landfall_replica::{Done, Job, JobKind, Limits, Signer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Between two times that the heap is tidied up. What is free lies scattered, more so the longer the node
/// is under load, and the next allocations take pages all over it: in ten seconds some megabytes.
const TIDY: Duration = Duration::from_secs(1);
/// Outputs of an engine that wait for their signature: a few for each step and round.
const SIGNING: usize = 4_096;

/// See the module.
pub struct Workers {
    lanes: Vec<Lane>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    /// Its end is that of the thread which tidies the heap up.
    tidied: SyncSender<()>,
}

struct Lane {
    takes: fn(&Job) -> bool,
    /// In boxes: a queue takes its room at once, for as many as there may be.
    queue: SyncSender<Box<Job>>,
    jobs: Arc<Mutex<Receiver<Box<Job>>>>,
}

impl Workers {
    /// Starts the threads; results go to `results`. `signatures` threads recover and sign.
    pub fn start_all(
        signer: &Arc<dyn Signer>,
        results: &Sender<Happening>,
        limits: &Limits,
        signatures: usize,
    ) -> Self {
        let (tidied, ends) = sync_channel(0);
        let tidy = std::thread::Builder::new()
            .name("heap".into())
            .spawn(move || tidy_up_until(&ends))
            .expect("the system starts a thread");
        let (lanes, threads, stopping) = (Vec::new(), vec![tidy], Arc::default());
        let mut it = Self { lanes, threads, stopping, tidied };
        let crypto = |job: &Job| matches!(job.kind(), JobKind::Sign | JobKind::Recover);
        let mines = |job: &Job| job.difficulty().is_some();
        let executes = |job: &Job| matches!(job.kind(), JobKind::Execute | JobKind::Build);
        let syncs = |job: &Job| job.kind() == JobKind::Sync;
        let flushes = |job: &Job| job.kind() == JobKind::Flush;
        let executing = limits.waiting_blocks + 16;
        it.lane("signer", signatures, limits.recovering + SIGNING, crypto, signer, results);
        it.lane("miner", 1, 16, mines, signer, results);
        it.lane("execution", 1, executing, executes, signer, results);
        it.lane("log", 1, 2, syncs, signer, results);
        it.lane("views", 1, 2, flushes, signer, results);
        it
    }

    fn lane(
        &mut self,
        name: &str,
        threads: usize,
        most: usize,
        takes: fn(&Job) -> bool,
        signer: &Arc<dyn Signer>,
        results: &Sender<Happening>,
    ) {
        let (queue, jobs) = sync_channel(most);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads {
            let (jobs, signer, results) = (jobs.clone(), signer.clone(), results.clone());
            let stopping = self.stopping.clone();
            let low = name == "miner";
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .spawn(move || {
                    if low {
                        lower_priority();
                    }
                    work(&jobs, &*signer, &results, &stopping);
                })
                .expect("the system starts a thread");
            self.threads.push(thread);
        }
        self.lanes.push(Lane { takes, queue, jobs });
    }

    /// Waits until every thread has finished its job; what waits is not begun.
    ///
    /// Nobody may be needed to take the results any more: the queue to the driver is closed.
    pub fn join(self) {
        self.stopping.store(true, Relaxed);
        drop((self.lanes, self.tidied));
        for thread in self.threads {
            thread.join().expect("a job does not panic");
        }
    }

    /// Hands a job to its threads.
    pub fn start(&self, job: Job) {
        let lane = self.lanes.iter().find(|lane| (lane.takes)(&job)).expect("every job has a lane");
        let refused = match lane.queue.try_send(Box::new(job)) {
            // Of builds only the newest is wanted: each supersedes those before it, and when many
            // blocks come at once there are more than a busy miner can look at.
            Err(TrySendError::Full(job)) if job.difficulty().is_some() => {
                drop(lane.jobs.lock().try_recv());
                lane.queue.try_send(job).err()
            }
            sent => sent.err(),
        };
        assert!(refused.is_none(), "the replica bounds the jobs that are out");
    }
}

fn work(
    jobs: &Mutex<Receiver<Box<Job>>>,
    signer: &dyn Signer,
    results: &Sender<Happening>,
    stopping: &AtomicBool,
) {
    while !stopping.load(Relaxed) {
        // Taken in a statement of its own: the lock must not be held while working.
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        let kind = job.kind();
        let done: Done = metrics().timed(kind, || job.run(signer));
        if results.blocking_send(Happening::Done(done)).is_err() {
            return;
        }
    }
}

fn tidy_up_until(ends: &Receiver<()>) {
    while ends.recv_timeout(TIDY) == Err(RecvTimeoutError::Timeout) {
        allocator::give_back();
    }
}

/// Mining takes what is left of the processor.
fn lower_priority() {
    // Of the calling thread, where the system counts threads: elsewhere mining competes.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
}
