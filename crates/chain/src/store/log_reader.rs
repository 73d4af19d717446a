//! Reading the log: single records by position, and all from a position on. Works beside the
//! appender, on what is buffered, written or durable alike; every record is checked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock};

use super::{
    disk::{Disk, DiskError, DiskFile},
    log::{LogError, segment_path},
    record::{self, Identity, MARK, Position, RECORD_HEADER, Record, SEGMENT_HEADER},
};

/// What one read brings in when records are read in order.
const CHUNK_BYTES: usize = 1 << 20;
/// What the first read of a single record brings in; most records are not longer.
const SINGLE_BYTES: usize = 4 << 10;
const MAX_OPEN_FILES: usize = 32;

/// What the appender and its readers share.
pub(super) struct Shared {
    pub disk: Arc<dyn Disk>,
    pub identity: Identity,
    pub durable: AtomicU64,
    pub tail: RwLock<Tail>,
    pub files: Mutex<OpenFiles>,
}

/// Where things are.
pub(super) struct Tail {
    /// The start positions of the segments, ascending, never empty.
    pub segments: Vec<u64>,
    /// What stands before is in the segments, what stands behind in `buffer`.
    pub written: u64,
    pub buffer: Vec<u8>,
}

/// The segments used last, newest first.
#[derive(Default)]
pub(super) struct OpenFiles(Vec<(u64, Arc<dyn DiskFile>)>);

/// Reads the log beside its appender. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// The record at a position that `append` returned or an iterator named.
    pub fn read(&self, position: Position) -> Result<Record, LogError> {
        let end = self.end();
        if position >= end {
            return Err(LogError::Beyond { position, end });
        }
        let mut cursor = Cursor::new(self.shared.clone(), position, end, SINGLE_BYTES);
        let view = cursor.advance()?.ok_or(LogError::Beyond { position, end })?;
        if view.kind == MARK {
            let start = self.shared.segment_of(position.0);
            return Err(self.shared.damaged(start, position.0, "there is no record, but a mark"));
        }
        Ok(view.to_record())
    }

    /// All records from a position on, up to the end that the log has now. Ends after an error.
    pub fn iter(&self, from: Position) -> LogIter {
        let limit = self.end();
        LogIter { cursor: Some(Cursor::new(self.shared.clone(), from, limit, CHUNK_BYTES)) }
    }

    /// Everything before it survives a crash.
    pub fn durable(&self) -> Position {
        Position(self.shared.durable.load(Ordering::Acquire))
    }

    /// Where the next record will stand.
    pub fn end(&self) -> Position {
        self.shared.end()
    }
}

/// The records from a position on, in order.
pub struct LogIter {
    cursor: Option<Cursor>,
}

impl Iterator for LogIter {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.cursor.as_mut()?.advance() {
                Ok(Some(view)) if view.kind == MARK => {}
                Ok(Some(view)) => return Some(Ok(view.to_record())),
                Ok(None) => self.cursor = None,
                Err(error) => {
                    self.cursor = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// A record in the buffer of a [`Cursor`].
pub(super) struct View<'a> {
    pub position: u64,
    pub next: u64,
    pub kind: u8,
    pub payload: &'a [u8],
}

impl View<'_> {
    /// What a mark says.
    pub fn durable(&self) -> Option<u64> {
        (self.kind == MARK).then(|| record::u64_at(self.payload, 0))
    }

    fn to_record(&self) -> Record {
        Record {
            position: Position(self.position),
            next: Position(self.next),
            kind: self.kind,
            payload: self.payload.to_vec(),
        }
    }
}

/// Walks over the records, marks included.
pub(super) struct Cursor {
    shared: Arc<Shared>,
    position: u64,
    limit: u64,
    read_bytes: usize,
    chunk: Vec<u8>,
    /// The position of the first byte of `chunk`.
    chunk_at: u64,
}

impl Cursor {
    pub fn new(shared: Arc<Shared>, from: Position, limit: Position, read_bytes: usize) -> Self {
        let (position, limit) = (from.0, limit.0);
        Self { shared, position, limit, read_bytes, chunk: Vec::new(), chunk_at: 0 }
    }

    pub fn scan(shared: Arc<Shared>, from: Position, limit: Position) -> Self {
        Self::new(shared, from, limit, CHUNK_BYTES)
    }

    /// The next record, or `None` at the limit. A record that is not whole and valid is
    /// [`LogError::Damaged`]; the cursor then stays in front of it.
    pub fn advance(&mut self) -> Result<Option<View<'_>>, LogError> {
        if self.position >= self.limit {
            return Ok(None);
        }
        let position = self.position;
        let (start, end) = match self.shared.place(position) {
            Place::Buffered { start, bytes } => {
                self.chunk = bytes;
                self.chunk_at = position;
                (start, position + self.chunk.len() as u64)
            }
            Place::Segment { start, end } => (start, end),
        };
        let frame = record::frame(self.fill(start, end, RECORD_HEADER)?);
        let (kind, len) = frame.map_err(|reason| self.shared.damaged(start, position, reason))?;
        let whole = RECORD_HEADER + len;
        self.fill(start, end, whole)?;
        let from = (position - self.chunk_at) as usize;
        let Some(payload) = self.shared.identity.verify(position, &self.chunk[from..from + whole])
        else {
            let reason = "the checksum of the record does not match";
            return Err(self.shared.damaged(start, position, reason));
        };
        self.position = position + whole as u64;
        Ok(Some(View { position, next: self.position, kind, payload }))
    }

    /// At least `len` bytes from the current position on, which lies in the segment from `start`
    /// to `end`.
    fn fill(&mut self, start: u64, end: u64, len: usize) -> Result<&[u8], LogError> {
        let left = end - self.position;
        if len as u64 > left {
            let reason = "the record is incomplete";
            return Err(self.shared.damaged(start, self.position, reason));
        }
        let have = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if self.position < have.start || self.position + len as u64 > have.end {
            let wanted = len.max(self.read_bytes.min(left.try_into().unwrap_or(usize::MAX)));
            self.chunk.clear();
            self.chunk.shrink_to(wanted);
            self.chunk.resize(wanted, 0);
            self.chunk_at = self.position;
            let file = self.shared.open_segment(start)?;
            let read = file.read_at(SEGMENT_HEADER + self.position - start, &mut self.chunk)?;
            self.chunk.truncate(read);
            if read < len {
                let reason = "the segment has become shorter";
                return Err(self.shared.damaged(start, self.position, reason));
            }
        }
        let from = (self.position - self.chunk_at) as usize;
        Ok(&self.chunk[from..from + len])
    }
}

/// Where a position is found.
enum Place {
    /// In memory only, behind the segment from `start`; the bytes of that record.
    Buffered { start: u64, bytes: Vec<u8> },
    /// In the segment that holds the positions from `start` to `end`.
    Segment { start: u64, end: u64 },
}

impl Shared {
    pub fn end(&self) -> Position {
        Position(self.tail.read().end())
    }

    fn segment_of(&self, position: u64) -> u64 {
        self.tail.read().segment_of(position).0
    }

    fn place(&self, position: u64) -> Place {
        let tail = self.tail.read();
        if position < tail.written {
            let (start, end) = tail.segment_of(position);
            return Place::Segment { start, end };
        }
        let bytes = &tail.buffer[(position - tail.written) as usize..];
        let whole = match bytes.get(..RECORD_HEADER).map(record::frame) {
            Some(Ok((_, len))) => bytes.len().min(RECORD_HEADER + len),
            _ => bytes.len(),
        };
        Place::Buffered { start: tail.last_start(), bytes: bytes[..whole].to_vec() }
    }

    pub fn open_segment(&self, start: u64) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut files = self.files.lock();
        if let Some(at) = files.0.iter().position(|(held, _)| *held == start) {
            files.0[..=at].rotate_right(1);
        } else {
            let file = self.disk.open(&segment_path(start))?;
            files.0.truncate(MAX_OPEN_FILES - 1);
            files.0.insert(0, (start, file));
        }
        Ok(files.0[0].1.clone())
    }
}

impl Tail {
    pub fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub fn last_start(&self) -> u64 {
        *self.segments.last().expect("there is a segment")
    }

    /// The positions that the segment with this written position holds.
    fn segment_of(&self, position: u64) -> (u64, u64) {
        let next = self.segments.partition_point(|start| *start <= position);
        let end = self.segments.get(next).copied().unwrap_or(self.written);
        (self.segments[next.max(1) - 1], end)
    }
}
