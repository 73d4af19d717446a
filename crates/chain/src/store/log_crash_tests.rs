//! Random lives of a log on a disk that loses power: at every operation, in appends, syncs, new
//! segments and recovery. And the proof that these tests see a sync that is missing.

use std::sync::Arc;

use alloy_primitives::B256;

use super::*;

type Content = Vec<(u8, Vec<u8>)>;

/// What a life may do wrong to the one that follows.
type Violation = String;

/// One log, the processes that wrote it, and what they were promised.
struct World {
    disk: TestDisk,
    random: SplitMix,
    /// Everything in the log, in order, as the last process left it.
    appended: Content,
    /// How many of these were durable.
    acknowledged: usize,
    /// The last record that was durable, for use as a checkpoint.
    checkpoint: Option<Position>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: TestDisk::new(seed),
            random: SplitMix(seed ^ 0xabcd),
            appended: Vec::new(),
            acknowledged: 0,
            checkpoint: None,
        }
    }

    /// Opens the log and checks it against the promises. `Ok(None)`: stopped on the way.
    fn recover(&mut self, use_checkpoint: bool) -> Result<Option<Log>, Violation> {
        let from = self.checkpoint.filter(|_| use_checkpoint);
        let options = LogOptions { segment_bytes: 300, from };
        let disk = Arc::new(self.disk.clone());
        let (log, recovered) = match Log::open(disk, B256::ZERO, options) {
            Ok(opened) => opened,
            Err(_) if self.disk.stopped() => return Ok(None),
            Err(error) => return Err(format!("open refuses: {error}")),
        };
        let mut found = Content::new();
        for record in log.reader().iter(Position::START) {
            let record = record.map_err(|error| format!("the log does not read: {error}"))?;
            found.push((record.kind, record.payload));
            self.checkpoint = Some(record.position);
        }
        if found.len() < self.acknowledged {
            let (found, acknowledged) = (found.len(), self.acknowledged);
            return Err(format!("{found} records left of {acknowledged} acknowledged"));
        }
        if found.len() > self.appended.len() || found != self.appended[..found.len()] {
            return Err("the log is not a prefix of what was appended".to_owned());
        }
        if recovered.end > log.durable() || log.durable() > log.end() {
            return Err("not all that was recovered is durable".to_owned());
        }
        self.acknowledged = found.len();
        self.appended = found;
        Ok(Some(log))
    }

    /// Appends and syncs until the process is stopped, or for so many batches.
    fn work(&mut self, mut log: Log, batches: u64) -> Result<(), LogError> {
        for _ in 0..batches {
            self.append(&mut log)?;
            let count = self.appended.len();
            let job = log.begin_sync()?;
            let done = if self.random.below(2) == 0 {
                // The next batch begins while this one is synced.
                self.append(&mut log)?;
                job.run()
            } else {
                job.run()
            };
            log.finish_sync(done)?;
            self.acknowledged = count;
        }
        Ok(())
    }

    fn append(&mut self, log: &mut Log) -> Result<(), LogError> {
        for _ in 0..=self.random.below(3) {
            // Few lengths, so that an old record fits behind a new one.
            let mut payload = self.random.next().to_le_bytes().to_vec();
            payload.resize([8, 8, 24, 100][self.random.below(4) as usize], 7);
            let kind = 1 + self.random.below(4) as u8;
            self.appended.push((kind, payload.clone()));
            log.append(kind, &payload)?;
        }
        Ok(())
    }

    /// A process is stopped `after` so many operations from now, and power may go with it.
    fn live(&mut self, after: u64, power: bool) -> Result<(), Violation> {
        self.disk.stop_at(self.disk.operations() + after);
        let use_checkpoint = self.random.below(2) == 0;
        if let Some(log) = self.recover(use_checkpoint)?
            && let Err(error) = self.work(log, 8)
            && !self.disk.stopped()
            && !error.to_string().contains("input/output error")
        {
            return Err(format!("work ends with {error}"));
        }
        if power {
            self.disk.crash(self.random.next());
        } else {
            self.disk.restart();
        }
        Ok(())
    }
}

/// Several lives of one log. `prepare` may damage the disk's syncs.
fn history(seed: u64, prepare: impl Fn(&TestDisk)) -> Result<World, Violation> {
    let mut world = World::new(seed);
    prepare(&world.disk);
    for _ in 0..6 {
        let after = 1 + world.random.below(45);
        let power = world.random.below(3) > 0;
        world.live(after, power)?;
    }
    world.disk.crash(seed);
    world.recover(false)?;
    Ok(world)
}

#[test]
fn crash_after_every_operation_loses_nothing_acknowledged() {
    let mut points = 0;
    for seed in 0..40 {
        for power in [true, false] {
            // Long enough to run through all operations of a life that is not stopped.
            for after in 1..60 {
                let mut world = World::new(seed);
                let mut run = || -> Result<(), Violation> {
                    world.live(after, power)?;
                    world.live(1000, true)?;
                    world.recover(false).map(drop)
                };
                run().unwrap_or_else(|error| panic!("seed {seed}, operation {after}: {error}"));
                points += 1;
            }
        }
    }
    assert!(points > 4000);
}

#[test]
fn crash_in_every_operation_of_recovery_loses_nothing() {
    for seed in 0..60 {
        for after in [5, 12, 19, 26, 33] {
            for inside in 1..10 {
                let mut world = World::new(seed);
                let mut run = || -> Result<(), Violation> {
                    world.live(after, seed % 2 == 0)?;
                    world.live(inside, true)?;
                    world.live(inside, false)?;
                    world.live(40, true)?;
                    world.recover(false).map(drop)
                };
                run().unwrap_or_else(|error| panic!("seed {seed}, {after}, {inside}: {error}"));
            }
        }
    }
}

#[test]
fn random_histories_lose_nothing() {
    for seed in 0..3000 {
        if let Err(error) = history(seed, |_| {}) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn failed_syncs_in_random_histories_lose_nothing() {
    for seed in 0..2000 {
        let fail = |disk: &TestDisk| disk.fail_sync(1 + seed % 40, seed % 3 > 0);
        if let Err(error) = fail_history(seed, fail) {
            panic!("seed {seed}: {error}");
        }
    }
}

/// As [`history`], but a process that meets a failed sync ends, and is started again.
fn fail_history(seed: u64, prepare: impl Fn(&TestDisk)) -> Result<(), Violation> {
    let mut world = World::new(seed);
    prepare(&world.disk);
    for life in 0..6 {
        let power = world.random.below(2) == 0;
        let after = if life == 0 { 200 } else { 1 + world.random.below(60) };
        match world.live(after, power) {
            Err(error) if error.contains("input/output error") => world.disk.restart(),
            result => result?,
        }
    }
    world.disk.crash(seed);
    match world.recover(false) {
        Err(error) if error.contains("input/output error") => {
            world.disk.restart();
            world.recover(false).map(drop)
        }
        result => result.map(drop),
    }
}

/// A test that cannot fail proves nothing: each place that syncs is left out in turn.
#[test]
fn every_sync_that_is_left_out_is_noticed() {
    let places = history(0, |_| {}).map(|world| world.disk.syncs_by_place()).unwrap();
    let names: Vec<&str> = places.keys().copied().collect();
    let expected = [
        "batch",
        "log directory",
        "recovered entries",
        "recovered tail",
        "segment entry",
        "segment header",
    ];
    assert_eq!(names, expected);
    for place in names {
        let caught = (0..3000)
            .filter(|seed| history(*seed, |disk| disk.ignore_syncs_of(place)).is_err())
            .count();
        println!("{place}: left out, {caught} of 3000 histories fail");
        assert!(caught > 0, "no history sees that the sync of the {place} is left out");
    }
}

/// The same with single syncs: for each of the first, some history notices.
#[test]
fn single_sync_that_is_left_out_is_noticed() {
    for nth in 1..=30 {
        let caught = (0..2000).any(|seed| history(seed, |disk| disk.ignore_sync(nth)).is_err());
        assert!(caught, "no history sees that sync {nth} is left out");
    }
}
