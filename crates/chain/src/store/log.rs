//! The log: one append-only sequence of records in checksummed segments, the only thing of a chain
//! that must not be lost.
//!
//! [`Log`] is the one appender, [`LogReader`](super::LogReader) reads beside it. Records are
//! appended to a buffer and become durable in batches, one `fdatasync` each; the durable part is
//! always a prefix. The sync itself may run on another thread of the host while appends go on:
//! [`Log::begin_sync`], [`SyncJob::run`], [`Log::finish_sync`]. `docs/storage.md` has the bytes.
//!
//! # How a torn tail is told from damage
//!
//! A batch that was being written when power failed may be left with any part of it torn, and
//! valid records behind the tear. So a valid record behind a bad one proves nothing. What proves
//! something is a *mark*: after each sync the log appends a record that says up to where it was
//! durable, and hands it to the operating system at once, unsynced. Recovery reads up to the first
//! bad record, at X, then looks at every byte behind it for a valid mark that speaks of a position
//! beyond X. If there is one, X had been synced and was damaged later: [`LogError::Damaged`].
//! If not, X was never synced as far as the disk can tell: the tail from X on is cut.
//! Everything in a segment that is not the last is durable, since a segment is begun only when
//! that is so, and its header is synced before a record is written behind it.
//!
//! # What recovery does before anything is appended
//!
//! 1. It writes what it found behind the last proven position again, and syncs it. The process
//!    may have been killed before its sync; or its sync failed, after which the operating system
//!    serves these bytes from its cache though it will never write them.
//! 2. It cuts the torn tail, and syncs that: otherwise a later crash could bring old records back
//!    behind new ones.
//! 3. It syncs the directory, and leaves a mark.
//!
//! # What it never does
//!
//! It never retries after a failed write or sync: from then on every append and every sync returns
//! that error, and the process must open the log anew. It never serves bytes whose checksum does
//! not match, never cuts what was proven durable, never deletes a segment.

use std::sync::{Arc, atomic::Ordering};

use alloy_primitives::B256;
use parking_lot::RwLock;

use super::{
    disk::{Disk, DiskError, DiskFile, DiskLock},
    log_reader::{LogReader, Shared, Tail},
    record::{self, Identity, MARK, MAX_PAYLOAD, Position, SEGMENT_HEADER},
};

pub(super) const DIR: &str = "log";
/// The buffer is written out when it holds this much; one record may exceed it.
const BUFFER_BYTES: usize = 4 << 20;

/// What can be wrong with a log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The disk refused an operation. After a write or a sync it stays so until the log is opened
    /// anew.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that had been durable are not what was written.
    #[error(
        "the log is damaged: {segment} at byte {offset}: {reason}; it is the only copy of the \
         chain here: restore this file from a backup (but never the newest one of a validator: it \
         says how it has voted), or sync into an empty data directory (nothing was changed)"
    )]
    Damaged {
        /// The file.
        segment: String,
        /// Where in the file the bad record or header begins.
        offset: u64,
        /// The same place as a position of the log.
        position: Position,
        /// What is wrong there.
        reason: String,
    },
    /// The data directory belongs to another chain.
    #[error(
        "{path} belongs to the chain with genesis {found}, not {expected}; choose another data \
         directory or the right genesis"
    )]
    Foreign {
        /// The segment that was looked at.
        path: String,
        /// The genesis asked for.
        expected: B256,
        /// The genesis found.
        found: B256,
    },
    /// Another version of this program wrote the log.
    #[error("{path} has log format {found}; this program reads format 1: use the other version")]
    Version {
        /// The segment that was looked at.
        path: String,
        /// Its format.
        found: u32,
    },
    /// The payload is longer than [`MAX_PAYLOAD`]. Nothing was appended.
    #[error("a record of {bytes} bytes is beyond the limit of {MAX_PAYLOAD}")]
    TooLarge {
        /// The length of the payload.
        bytes: usize,
    },
    /// There is nothing at this position yet.
    #[error("position {position} lies beyond the end of the log, {end}")]
    Beyond {
        /// The position asked for.
        position: Position,
        /// The end of the log.
        end: Position,
    },
}

/// How a log is opened.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// A segment ends with the batch that takes it beyond this size.
    pub segment_bytes: u64,
    /// The position of a *record* (not the end of one) that was durable when the position was
    /// noted; what lies before it is not read. `None`: the whole log is checked.
    pub from: Option<Position>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 256 << 20, from: None }
    }
}

/// What was found when the log was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The end of the log. All before it is durable now.
    pub end: Position,
    /// Records that were checked, from [`LogOptions::from`] on.
    pub records: u64,
    /// Bytes that were cut from the tail: appended, but never acknowledged.
    pub cut: u64,
}

/// The appender. It holds the lock of the data directory, so open it before anything else there.
pub struct Log {
    pub(super) shared: Arc<Shared>,
    pub(super) segment_bytes: u64,
    /// The last segment.
    pub(super) file: Arc<dyn DiskFile>,
    /// Everything before it is durable.
    pub(super) durable: u64,
    /// The end of the last record that is not a mark.
    pub(super) content_end: u64,
    /// The end of the batch that a job is syncing.
    pub(super) syncing: Option<u64>,
    pub(super) failed: Option<DiskError>,
    pub(super) _lock: DiskLock,
}

/// A sync that is due. Run it on any thread, then hand the result to [`Log::finish_sync`].
#[must_use = "nothing is durable before the job has run and finish_sync has its result"]
pub struct SyncJob {
    /// `None` if there is nothing to sync.
    file: Option<Arc<dyn DiskFile>>,
    upto: u64,
}

/// The result of a [`SyncJob`].
#[must_use = "hand it to finish_sync"]
pub struct SyncDone {
    synced: bool,
    upto: u64,
    result: Result<(), DiskError>,
}

impl SyncJob {
    /// Waits for the disk.
    pub fn run(self) -> SyncDone {
        let result = self.file.as_ref().map_or(Ok(()), |file| file.sync("batch"));
        SyncDone { synced: self.file.is_some(), upto: self.upto, result }
    }
}

impl Log {
    /// Appends a record and says where it stands. It is readable at once and durable after the
    /// next sync that begins.
    ///
    /// # Panics
    /// On kind 0, which is the log's own.
    pub fn append(&mut self, kind: u8, payload: &[u8]) -> Result<Position, LogError> {
        assert_ne!(kind, MARK, "kind 0 is the log's own");
        self.check_alive()?;
        if payload.len() > MAX_PAYLOAD {
            return Err(LogError::TooLarge { bytes: payload.len() });
        }
        let (position, end, buffered) = self.buffer(kind, payload);
        self.content_end = end;
        if buffered >= BUFFER_BYTES {
            self.write_buffer()?;
        }
        Ok(Position(position))
    }

    /// Makes everything appended so far durable; returns where that ends.
    pub fn sync(&mut self) -> Result<Position, LogError> {
        let job = self.begin_sync()?;
        self.finish_sync(job.run())
    }

    /// Writes out what is buffered and returns the job that makes it durable. Records may be
    /// appended while the job runs; they belong to the next batch.
    ///
    /// # Panics
    /// If the job before has not been finished.
    pub fn begin_sync(&mut self) -> Result<SyncJob, LogError> {
        assert!(self.syncing.is_none(), "one sync at a time: finish the last one first");
        self.check_alive()?;
        // A mark alone is not worth a sync: it only speaks of what is durable already.
        if self.content_end <= self.durable {
            self.syncing = Some(self.durable);
            return Ok(SyncJob { file: None, upto: self.durable });
        }
        self.write_buffer()?;
        let upto = self.shared.tail.read().written;
        self.syncing = Some(upto);
        Ok(SyncJob { file: Some(self.file.clone()), upto })
    }

    /// Takes note of a sync; returns up to where the log is durable.
    ///
    /// # Panics
    /// If the result is not that of the job that is out.
    pub fn finish_sync(&mut self, done: SyncDone) -> Result<Position, LogError> {
        assert_eq!(self.syncing.take(), Some(done.upto), "the result of another sync");
        if let Err(error) = done.result {
            return Err(self.fail(error));
        }
        if done.synced {
            self.set_durable(done.upto);
            // The batch is durable whatever becomes of the mark; a failure stops the next call.
            if self.failed.is_none() {
                let _ = self.write_mark();
            }
        }
        Ok(Position(self.durable))
    }

    /// Everything before it survives a crash.
    pub fn durable(&self) -> Position {
        Position(self.durable)
    }

    /// Where the next record will stand. Marks stand between records, so this is not always the
    /// `next` of the last one.
    pub fn end(&self) -> Position {
        self.shared.end()
    }

    /// The end of the last record that was appended, or less if all are durable: marks do not
    /// count. All is durable if this is not beyond [`Self::durable`].
    pub fn content_end(&self) -> Position {
        Position(self.content_end)
    }

    /// A handle for reading beside the appender, from any thread.
    pub fn reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    pub(super) fn set_durable(&mut self, position: u64) {
        self.durable = position;
        self.shared.durable.store(position, Ordering::Release);
    }

    /// Leaves word of how much is durable, where a later recovery finds it.
    pub(super) fn write_mark(&mut self) -> Result<(), LogError> {
        self.buffer(MARK, &self.durable.to_le_bytes());
        self.write_buffer()
    }

    /// Position and end of the new record, and how much is buffered now.
    fn buffer(&self, kind: u8, payload: &[u8]) -> (u64, u64, usize) {
        let mut tail = self.shared.tail.write();
        let position = tail.end();
        self.shared.identity.encode(&mut tail.buffer, position, kind, payload);
        (position, tail.end(), tail.buffer.len())
    }

    fn write_buffer(&mut self) -> Result<(), LogError> {
        self.try_write_buffer().map_err(|error| self.fail(error))
    }

    fn try_write_buffer(&mut self) -> Result<(), DiskError> {
        let (start, written) = {
            let tail = self.shared.tail.read();
            (tail.last_start(), tail.written)
        };
        // Only where all is durable, so that a torn tail is always in the last segment alone.
        let start = if written - start >= self.segment_bytes && written == self.durable {
            self.begin_segment(written)?;
            written
        } else {
            start
        };
        {
            // Readers may go on: only the appender changes the tail, and that is this function.
            let tail = self.shared.tail.read();
            self.file.write_at(SEGMENT_HEADER + written - start, &tail.buffer)?;
        }
        self.shared.tail.write().buffer_written();
        Ok(())
    }

    fn begin_segment(&mut self, start: u64) -> Result<(), DiskError> {
        self.file = create_segment(&*self.shared.disk, &self.shared.identity, start)?;
        self.shared.tail.write().segments.push(start);
        Ok(())
    }

    fn check_alive(&self) -> Result<(), LogError> {
        self.failed.clone().map_or(Ok(()), |error| Err(error.into()))
    }

    fn fail(&mut self, error: DiskError) -> LogError {
        self.failed.get_or_insert(error).clone().into()
    }
}

/// Header and entry are durable before a record is written, so that a bad header in front of
/// records is damage and not a torn write.
fn create_segment(
    disk: &dyn Disk,
    identity: &Identity,
    start: u64,
) -> Result<Arc<dyn DiskFile>, DiskError> {
    let file = disk.create(&segment_path(start))?;
    file.write_at(0, &identity.encode_header(start))?;
    file.sync("segment header")?;
    disk.sync_dir(DIR, "segment entry")?;
    Ok(file)
}

pub(super) fn segment_path(start: u64) -> String {
    format!("{DIR}/{}", record::segment_name(start))
}

impl Tail {
    fn buffer_written(&mut self) {
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * BUFFER_BYTES);
    }
}

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, identity: Identity, tail: Tail) -> Self {
        Self {
            disk,
            identity,
            durable: 0.into(),
            tail: RwLock::new(tail),
            files: Default::default(),
        }
    }

    pub(super) fn damaged(&self, start: u64, position: u64, reason: impl Into<String>) -> LogError {
        let offset = SEGMENT_HEADER + position - start;
        let segment = self.disk.display(&segment_path(start));
        LogError::Damaged { segment, offset, position: Position(position), reason: reason.into() }
    }
}

impl LogError {
    /// The disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }

    /// Another process has the data directory.
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_locked())
    }
}
