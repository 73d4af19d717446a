//! The bytes of the log: the header of a segment, the frame of a record, the mark, and their
//! checksums. Pure: it reads and writes slices. `docs/storage.md` holds the tables.

use alloy_primitives::B256;
use crc32fast::Hasher;

/// A place in the log: the number of record bytes before it. Segment headers are not counted, so a
/// position does not depend on where segments were cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The beginning of the log.
    pub const START: Self = Self(0);
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where the record begins.
    pub position: Position,
    /// Where the next record begins.
    pub next: Position,
    /// What the payload is; never 0.
    pub kind: u8,
    /// The bytes handed to `append`.
    pub payload: Vec<u8>,
}

/// The largest payload that a record takes.
pub const MAX_PAYLOAD: usize = 256 << 20;

pub(super) const SEGMENT_HEADER: u64 = 64;
pub(super) const RECORD_HEADER: usize = 9;
/// The kind of the log's own records: `[durable u64]`, all before which had been synced when the
/// mark was written.
pub(super) const MARK: u8 = 0;
pub(super) const MARK_LEN: usize = RECORD_HEADER + 8;

const MAGIC: &[u8; 8] = b"LANDFLOG";
const VERSION: u32 = 1;

/// What every segment of one log has in common, and the checksum that depends on it.
#[derive(Clone)]
pub(super) struct Identity {
    pub genesis: B256,
    /// Drawn when the log is created. Whoever can place bytes in a payload cannot guess it, so he
    /// cannot place a valid record there for recovery to find.
    pub log_id: u64,
    seed: Hasher,
}

/// Why a segment header was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Bad(&'static str),
    Version(u32),
}

impl Identity {
    pub fn new(genesis: B256, log_id: u64) -> Self {
        let mut seed = Hasher::new();
        seed.update(genesis.as_slice());
        seed.update(&log_id.to_le_bytes());
        Self { genesis, log_id, seed }
    }

    pub fn encode_header(&self, start: u64) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&start.to_le_bytes());
        bytes[20..52].copy_from_slice(self.genesis.as_slice());
        bytes[52..60].copy_from_slice(&self.log_id.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The identity and the start position in a segment header.
    pub fn decode_header(bytes: &[u8]) -> Result<(Self, u64), HeaderFault> {
        if bytes.len() < SEGMENT_HEADER as usize {
            return Err(HeaderFault::Bad("the segment header is incomplete"));
        }
        if crc32fast::hash(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(HeaderFault::Bad("the checksum of the segment header does not match"));
        }
        if &bytes[..8] != MAGIC {
            return Err(HeaderFault::Bad("this is not a segment of a Landfall log"));
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            other => return Err(HeaderFault::Version(other)),
        }
        let identity = Self::new(B256::from_slice(&bytes[20..52]), u64_at(bytes, 52));
        Ok((identity, u64_at(bytes, 12)))
    }

    /// Appends the record that stands at `position` to `buffer`.
    pub fn encode(&self, buffer: &mut Vec<u8>, position: u64, kind: u8, payload: &[u8]) {
        let len = u32::try_from(payload.len()).expect("append has checked the length");
        buffer.reserve(RECORD_HEADER + payload.len());
        buffer.extend_from_slice(&len.to_le_bytes());
        buffer.push(kind);
        buffer.extend_from_slice(&self.checksum(position, len, kind, payload).to_le_bytes());
        buffer.extend_from_slice(payload);
    }

    /// The payload of a whole record that stands at `position`, if the checksum matches.
    pub fn verify<'a>(&self, position: u64, record: &'a [u8]) -> Option<&'a [u8]> {
        let (header, payload) = record.split_at(RECORD_HEADER);
        let sum = self.checksum(position, u32_at(header, 0), header[4], payload);
        (sum == u32_at(header, 5)).then_some(payload)
    }

    fn checksum(&self, position: u64, len: u32, kind: u8, payload: &[u8]) -> u32 {
        let mut hasher = self.seed.clone();
        hasher.update(&position.to_le_bytes());
        hasher.update(&len.to_le_bytes());
        hasher.update(&[kind]);
        hasher.update(payload);
        hasher.finalize()
    }

    /// The highest durable position that a mark in `bytes`, which stand at `position`, speaks of.
    /// Looks at every byte, for what lies there need not begin with a record.
    pub fn find_mark(&self, position: u64, bytes: &[u8]) -> Option<u64> {
        let marks = bytes.windows(MARK_LEN).enumerate().filter_map(|(at, window)| {
            if frame(window) != Ok((MARK, 8)) {
                return None;
            }
            let here = position + at as u64;
            self.verify(here, window).map(|payload| u64_at(payload, 0))
        });
        marks.max()
    }
}

/// Kind and payload length in a record header, if they can be.
pub(super) fn frame(header: &[u8]) -> Result<(u8, usize), &'static str> {
    let len = u32_at(header, 0) as usize;
    match header[4] {
        _ if len > MAX_PAYLOAD => Err("the length of the record is beyond the limit"),
        MARK if len != 8 => Err("there is no record"),
        kind => Ok((kind, len)),
    }
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The file that holds the records from `start` on.
pub(super) fn segment_name(start: u64) -> String {
    format!("{start:016x}.seg")
}

/// The inverse of [`segment_name`]; `None` for any other spelling.
pub(super) fn segment_start(name: &str) -> Option<u64> {
    let start = u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()?;
    (segment_name(start) == name).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(B256::repeat_byte(7), 99)
    }

    #[test]
    fn header_survives_the_round_trip_and_no_flipped_bit() {
        let bytes = identity().encode_header(4096);
        let (found, start) = Identity::decode_header(&bytes).ok().unwrap();
        assert_eq!((found.genesis, found.log_id, start), (B256::repeat_byte(7), 99, 4096));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode_header(&flipped).is_err(), "bit {bit}");
        }
        assert!(Identity::decode_header(&bytes[..63]).is_err());
    }

    #[test]
    fn header_of_another_version_is_named() {
        let mut bytes = identity().encode_header(0);
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Identity::decode_header(&bytes).err(), Some(HeaderFault::Version(2)));
    }

    #[test]
    fn record_is_valid_only_at_its_place_in_its_log() {
        let mut bytes = Vec::new();
        identity().encode(&mut bytes, 500, 3, b"payload");
        assert_eq!(frame(&bytes), Ok((3, 7)));
        assert_eq!(identity().verify(500, &bytes), Some(&b"payload"[..]));
        assert_eq!(identity().verify(501, &bytes), None);
        assert_eq!(Identity::new(B256::repeat_byte(7), 98).verify(500, &bytes), None);
        assert_eq!(Identity::new(B256::repeat_byte(8), 99).verify(500, &bytes), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(identity().verify(500, &bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_are_not_a_record() {
        assert!(frame(&[0; RECORD_HEADER]).is_err());
    }

    #[test]
    fn finds_the_highest_mark_among_rubbish() {
        let mut bytes = vec![8, 0, 0, 0, 0, 8];
        for durable in [40_u64, 70, 60] {
            let at = 1000 + bytes.len() as u64;
            identity().encode(&mut bytes, at, MARK, &durable.to_le_bytes());
            bytes.extend([0xff; 5]);
        }
        assert_eq!(identity().find_mark(1000, &bytes), Some(70));
        assert_eq!(identity().find_mark(1001, &bytes), None);
        assert_eq!(identity().find_mark(0, &[]), None);
    }

    #[test]
    fn segment_names_are_read_only_as_they_are_written() {
        assert_eq!(segment_name(255), "00000000000000ff.seg");
        assert_eq!(segment_start("00000000000000ff.seg"), Some(255));
        for other in ["00000000000000FF.seg", "ff.seg", "00000000000000ff", "+0000000000000ff.seg"]
        {
            assert_eq!(segment_start(other), None, "{other}");
        }
    }
}
