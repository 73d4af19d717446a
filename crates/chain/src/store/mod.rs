//! What is stored: the log, which must not be lost, and the views, which are made from it.
//!
//! [`Log`] appends and makes durable, [`LogReader`] reads beside it; both stand on [`Disk`], which
//! is the operating system ([`OsDisk`]) or a disk that loses power on command ([`TestDisk`]).
//! Nothing outside this module opens a file or names the database.

mod disk;
mod identity;
mod log;
#[cfg(test)]
mod log_crash_tests;
mod log_reader;
#[cfg(test)]
mod log_tests;
mod record;
mod recovery;
mod test_disk;
#[cfg(test)]
mod test_disk_tests;
pub(crate) mod views;

pub use disk::{Disk, DiskError, DiskFile, DiskLock, OsDisk};
pub use identity::stored_genesis;
pub use log::{Log, LogError, LogOptions, Recovered, SyncDone, SyncJob};
pub use log_reader::{LogIter, LogReader};
pub use record::{MAX_PAYLOAD, Position, Record};
pub use test_disk::{Operation, SplitMix, TestDisk};
pub use views::{MemoryViews, ViewError};
