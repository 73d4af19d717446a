//! This process and its disk, as the system tells it (`/proc`, Linux).

use super::metrics::Process;
use std::fs;
use std::path::Path;

/// Room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Bytes of the whole.
    pub size: u64,
}

/// The disk that a directory lies on.
pub fn disk_of(directory: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Disk { free: bytes(found.f_bavail), size: bytes(found.f_blocks) })
}

/// Sets what can be read; the rest keeps its last value.
pub fn read_into(gauges: &Process) {
    let me = std::process::id();
    if let Ok(cpu) = crate::bench::process::cpu_time(me) {
        gauges.cpu.reach(cpu);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kilobytes) = field(&status, "VmRSS:") {
        gauges.resident.set_u64(kilobytes * 1_024);
    }
    if let Some(threads) = field(&status, "Threads:") {
        gauges.threads.set_u64(threads);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauges.open_files.set_u64(files.count() as u64);
    }
}

/// The first number behind a name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_threads_and_files_are_read() {
        let gauges = Process::default();
        read_into(&gauges);
        assert!(gauges.resident.get() > 1_000_000.0);
        assert!(gauges.threads.get() >= 1.0);
        assert!(gauges.open_files.get() >= 3.0);
    }

    #[test]
    fn the_disk_of_a_directory_has_a_size_and_a_missing_directory_has_none() {
        let disk = disk_of(&std::env::temp_dir()).unwrap();
        assert!(disk.size > 0 && disk.free <= disk.size);
        assert_eq!(disk_of(Path::new("/no/such/directory")), None);
    }
}
