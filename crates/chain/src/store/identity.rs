//! Whose log lies in a data directory, without opening it.

use super::disk::Disk;
use super::log::{DIR, LogError, segment_path};
use super::record::{HeaderFault, Identity, SEGMENT_HEADER, segment_start};
use alloy_primitives::B256;

/// The genesis that the log in a data directory was begun with; `None` where there is no log.
pub fn stored_genesis(disk: &dyn Disk) -> Result<Option<B256>, LogError> {
    disk.create_dir(DIR)?;
    let starts = disk.list(DIR)?.into_iter().filter_map(|name| segment_start(&name));
    let Some(first) = starts.min() else { return Ok(None) };
    let path = segment_path(first);
    let file = disk.open(&path)?;
    let mut header = [0; SEGMENT_HEADER as usize];
    let mut filled = 0;
    while filled < header.len() {
        match file.read_at(filled as u64, &mut header[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    match Identity::decode_header(&header[..filled]) {
        Ok((identity, _)) => Ok(Some(identity.genesis)),
        Err(HeaderFault::Version(found)) => {
            Err(LogError::Version { path: disk.display(&path), found })
        }
        // A log that was being created when the machine stopped: its creator begins again, and a
        // damaged one is judged by whoever opens it.
        Err(HeaderFault::Bad(_)) => Ok(None),
    }
}
