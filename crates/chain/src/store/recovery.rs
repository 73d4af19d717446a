//! Opening the log: which segments there are, where the valid records end, and the repair of what
//! a crash left there. The rules and their reasons are in `log.rs`.

use std::sync::Arc;

use alloy_primitives::B256;

use super::{
    disk::{Disk, DiskError, DiskFile},
    log::{DIR, Log, LogError, LogOptions, Recovered, segment_path},
    log_reader::{Cursor, Shared, Tail},
    record::{HeaderFault, Identity, MARK, MARK_LEN, Position, SEGMENT_HEADER, segment_start},
};

const CHUNK_BYTES: u64 = 1 << 20;

impl Log {
    /// Opens the log of the chain with this genesis, or begins it where there is none. Takes the
    /// lock of the data directory.
    pub fn open(
        disk: Arc<dyn Disk>,
        genesis: B256,
        options: LogOptions,
    ) -> Result<(Self, Recovered), LogError> {
        let lock = disk.lock()?;
        disk.create_dir(DIR)?;
        disk.sync_dir("", "log directory")?;
        let survey = Survey::of(&*disk, genesis, options.from)?;
        let (segments, last, file) = match survey.starts.last() {
            Some(&last) => (survey.starts, last, disk.open(&segment_path(last))?),
            // The repair below writes the header of a segment that has none.
            None => (vec![0], 0, disk.create(&segment_path(0))?),
        };
        let tail = Tail { segments, written: survey.end, buffer: Vec::new() };
        let shared = Arc::new(Shared::new(disk, survey.identity, tail));

        let scan = Scan::run(&shared, last, options.from)?;
        repair(&shared, &*file, last, &scan)?;
        shared.tail.write().written = scan.end;
        let mut log = Self {
            shared,
            segment_bytes: options.segment_bytes,
            file,
            durable: 0,
            content_end: scan.content_end,
            syncing: None,
            failed: None,
            _lock: lock,
        };
        log.set_durable(scan.end);
        if scan.proven < scan.content_end {
            log.write_mark()?;
        }
        let (records, cut) = (scan.records, survey.end - scan.end);
        Ok((log, Recovered { end: Position(scan.end), records, cut }))
    }
}

/// The segments, as far as their names, lengths and headers tell.
struct Survey {
    identity: Identity,
    starts: Vec<u64>,
    /// Where the last segment ends.
    end: u64,
}

impl Survey {
    fn of(disk: &dyn Disk, genesis: B256, from: Option<Position>) -> Result<Self, LogError> {
        let mut starts = Vec::new();
        for name in disk.list(DIR)?.iter().filter(|name| name.ends_with(".seg")) {
            starts.push(segment_start(name).ok_or_else(|| LogError::Damaged {
                segment: disk.display(&format!("{DIR}/{name}")),
                offset: 0,
                position: Position::START,
                reason: "this is not the name of a segment".to_owned(),
            })?);
        }
        let mut identity: Option<Identity> = None;
        let mut end = 0;
        for (index, start) in starts.iter().copied().enumerate() {
            if start != end {
                let reason = format!("the segment before it ends at position {end}, not {start}");
                return Err(damaged_header(disk, start, reason));
            }
            let (size, header) = read_header(disk, start)?;
            let last = index + 1 == starts.len();
            match header {
                Ok((found, at)) => check_header(disk, start, at, found, genesis, &mut identity)?,
                Err(HeaderFault::Version(found)) => {
                    return Err(LogError::Version { path: path(disk, start), found });
                }
                // It was being created: nothing was ever written behind this header.
                Err(HeaderFault::Bad(_)) if last && size <= SEGMENT_HEADER => {}
                Err(HeaderFault::Bad(reason)) => return Err(damaged_header(disk, start, reason)),
            }
            end = start + size.saturating_sub(SEGMENT_HEADER);
        }
        if let Some(from) = from
            && from.0 >= end
        {
            let start = *starts.last().unwrap_or(&0);
            let reason = format!("the log ends at position {end}, but position {from} was durable");
            return Err(LogError::Damaged {
                segment: path(disk, start),
                offset: SEGMENT_HEADER + end - start,
                position: Position(end),
                reason,
            });
        }
        let identity = identity.unwrap_or_else(|| Identity::new(genesis, disk.random()));
        Ok(Self { identity, starts, end })
    }
}

type Header = Result<(Identity, u64), HeaderFault>;

fn read_header(disk: &dyn Disk, start: u64) -> Result<(u64, Header), DiskError> {
    let file = disk.open(&segment_path(start))?;
    let mut bytes = [0; SEGMENT_HEADER as usize];
    let read = file.read_at(0, &mut bytes)?;
    Ok((file.size()?, Identity::decode_header(&bytes[..read])))
}

fn check_header(
    disk: &dyn Disk,
    start: u64,
    at: u64,
    found: Identity,
    genesis: B256,
    identity: &mut Option<Identity>,
) -> Result<(), LogError> {
    if found.genesis != genesis {
        let path = path(disk, start);
        return Err(LogError::Foreign { path, expected: genesis, found: found.genesis });
    }
    if at != start {
        let reason = format!("its header says that it begins at position {at}");
        return Err(damaged_header(disk, start, reason));
    }
    if found.log_id != identity.get_or_insert_with(|| found.clone()).log_id {
        return Err(damaged_header(disk, start, "it comes from another log of the same chain"));
    }
    Ok(())
}

fn damaged_header(disk: &dyn Disk, start: u64, reason: impl Into<String>) -> LogError {
    let segment = path(disk, start);
    LogError::Damaged { segment, offset: 0, position: Position(start), reason: reason.into() }
}

fn path(disk: &dyn Disk, start: u64) -> String {
    disk.display(&segment_path(start))
}

/// What the records say.
struct Scan {
    records: u64,
    /// Where the valid records end.
    end: u64,
    /// The end of the last record that is not a mark.
    content_end: u64,
    /// Everything before it is known to have been synced.
    proven: u64,
}

impl Scan {
    /// Reads all records from `from` on. `last` is the start of the last segment.
    fn run(shared: &Arc<Shared>, last: u64, from: Option<Position>) -> Result<Self, LogError> {
        let begin = from.unwrap_or(Position::START).0;
        let limit = shared.end();
        let mut scan = Self { records: 0, end: begin, content_end: begin, proven: last };
        let mut cursor = Cursor::scan(shared.clone(), Position(begin), limit);
        loop {
            match cursor.advance() {
                Ok(None) => return Ok(scan),
                Ok(Some(view)) => {
                    scan.end = view.next;
                    if from == Some(Position(view.position)) {
                        scan.proven = scan.proven.max(view.next);
                    }
                    if view.kind != MARK {
                        scan.records += 1;
                        scan.content_end = view.next;
                    } else if let Some(durable) = view.durable().filter(|at| *at <= view.position) {
                        scan.proven = scan.proven.max(durable);
                    }
                }
                Err(LogError::Damaged { position, .. })
                    if position.0 >= last
                        && from != Some(position)
                        && !proven_behind(shared, last, position.0)? =>
                {
                    return Ok(scan);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether a mark behind the bad record at `bad` says that it had been durable.
fn proven_behind(shared: &Shared, last: u64, bad: u64) -> Result<bool, LogError> {
    let file = shared.open_segment(last)?;
    let end = shared.end().0;
    let mut bytes = Vec::new();
    let mut at = bad + 1;
    while at + MARK_LEN as u64 <= end {
        bytes.resize(CHUNK_BYTES.min(end - at) as usize, 0);
        let read = file.read_at(SEGMENT_HEADER + at - last, &mut bytes)?;
        if shared.identity.find_mark(at, &bytes[..read]).is_some_and(|durable| durable > bad) {
            return Ok(true);
        }
        // A mark may lie across the boundary.
        at += bytes.len() as u64 - MARK_LEN as u64 + 1;
    }
    Ok(false)
}

/// Makes what was found durable, and only that.
fn repair(shared: &Shared, file: &dyn DiskFile, start: u64, scan: &Scan) -> Result<(), DiskError> {
    file.truncate(SEGMENT_HEADER + scan.end - start)?;
    if scan.proven <= start {
        file.write_at(0, &shared.identity.encode_header(start))?;
    }
    let mut at = scan.proven.max(start);
    let mut bytes = Vec::new();
    while at < scan.end {
        bytes.resize(CHUNK_BYTES.min(scan.end - at) as usize, 0);
        let read = file.read_at(SEGMENT_HEADER + at - start, &mut bytes)?;
        assert_eq!(read, bytes.len(), "the lock keeps others from cutting the segment");
        file.write_at(SEGMENT_HEADER + at - start, &bytes)?;
        at += read as u64;
    }
    file.sync("recovered tail")?;
    shared.disk.sync_dir(DIR, "recovered entries")
}
