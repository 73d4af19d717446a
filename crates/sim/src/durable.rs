//! What a disk would still hold if power were lost now: the judge of "durable" that shares no code
//! with the log.

use alloy_consensus::Header;
use alloy_primitives::B256;
use landfall_chain::store::TestDisk;
use std::collections::BTreeSet;

/// How far before the newest block that was found the search begins first, in bytes.
const OVERLAP: usize = 16 << 10;

/// Finds blocks among the durable bytes of a log.
#[derive(Default)]
pub(crate) struct Durable {
    found: BTreeSet<B256>,
    /// Where the newest block was found: segment and offset.
    newest: Option<(String, usize)>,
}

impl Durable {
    /// Whether the durable bytes of the log hold the block with this header.
    pub fn holds(&mut self, disk: &TestDisk, hash: B256, header: &Header) -> bool {
        self.holds_near(disk, hash, header) || self.search(disk, hash, header, (String::new(), 0))
    }

    /// Whether they hold it near the newest block that was found, or behind that: there it is
    /// mostly, and mostly it is nowhere else.
    pub fn holds_near(&mut self, disk: &TestDisk, hash: B256, header: &Header) -> bool {
        if self.found.contains(&hash) {
            return true;
        }
        let near = self.newest.as_ref();
        let near = near.map(|(name, offset)| (name.clone(), offset.saturating_sub(OVERLAP)));
        near.is_some_and(|near| self.search(disk, hash, header, near))
    }

    /// Searches from a segment and an offset in it on.
    fn search(
        &mut self,
        disk: &TestDisk,
        hash: B256,
        header: &Header,
        from: (String, usize),
    ) -> bool {
        let needle = alloy_rlp::encode(header);
        for name in segments(disk).into_iter().filter(|name| *name >= from.0) {
            let skip = if name == from.0 { from.1 } else { 0 };
            let at = disk.with_durable(&name, |bytes| find(bytes.get(skip..)?, &needle));
            if let Some(at) = at.flatten() {
                self.newest = Some((name, skip + at));
                self.found.insert(hash);
                return true;
            }
        }
        false
    }
}

/// The segments of the log that a loss of power would leave, in order.
pub(crate) fn segments(disk: &TestDisk) -> Vec<String> {
    let segment = |path: &String| path.starts_with("log/") && path.ends_with(".seg");
    disk.durable_files().into_iter().filter(segment).collect()
}

/// A place in the durable log where damage must be noticed: in its older half. `None` while the
/// log is short.
pub(crate) fn old_byte(disk: &TestDisk, draw: u64) -> Option<(String, usize)> {
    let name = segments(disk).into_iter().next()?;
    let length = disk.with_durable(&name, <[u8]>::len)?;
    (length > 4_096).then(|| (name, (draw % (length as u64 / 2)) as usize))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    // The parent's hash stands at byte 4 of a header and tells most blocks apart.
    let probe: [u8; 8] = needle[4..12].try_into().expect("a header is longer");
    let mut from = 0;
    while let Some(start) = next(bytes, from, probe) {
        if start >= 4 && bytes[start - 4..].starts_with(needle) {
            return Some(start - 4);
        }
        from = start + 1;
    }
    None
}

/// Where a probe stands next, from a place on. Most of a log is not its first byte, and is passed
/// sixteen bytes at a time.
fn next(bytes: &[u8], from: usize, probe: [u8; 8]) -> Option<usize> {
    let mut at = from;
    while let Some(block) = bytes.get(at..at + 16) {
        // Without a branch inside, the compiler compares all bytes at once.
        if block.iter().fold(false, |found, byte| found | (*byte == probe[0])) {
            let starts = (at..at + 16).find(|start| bytes[*start..].starts_with(&probe));
            if starts.is_some() {
                return starts;
            }
        }
        at += 16;
    }
    (at..bytes.len()).find(|start| bytes[*start..].starts_with(&probe))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_chain::store::Disk;

    #[test]
    fn a_block_counts_when_its_file_and_its_bytes_are_synced() {
        let disk = TestDisk::new(1);
        disk.create_dir("log").unwrap();
        disk.sync_dir("", "test").unwrap();
        let file = disk.create("log/0000.seg").unwrap();
        let header = Header { number: 7, parent_hash: B256::repeat_byte(9), ..Header::default() };
        let other = Header { number: 8, ..header.clone() };
        let mut bytes = vec![1; 100];
        bytes.extend(alloy_rlp::encode(&header));
        file.write_at(0, &bytes).unwrap();
        let mut durable = Durable::default();
        let mut holds = |header: &Header| durable.holds(&disk, header.hash_slow(), header);
        assert!(!holds(&header));
        file.sync("test").unwrap();
        assert!(!holds(&header), "the directory does not name the file yet");
        disk.sync_dir("log", "test").unwrap();
        assert!(holds(&header) && !holds(&other));
        file.write_at(bytes.len() as u64, &alloy_rlp::encode(&other)).unwrap();
        assert!(!holds(&other));
        file.sync("test").unwrap();
        assert!(holds(&other));
    }
}
