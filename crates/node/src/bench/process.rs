//! What a process cost, from `/proc` (Linux).

use crate::failure::Failure;
use std::time::Duration;

/// `/proc` counts CPU time in ticks of 1/100 s for user space, whatever the kernel's own clock.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process so far, user and system, all threads.
pub fn cpu_time(pid: u32) -> Result<Duration, Failure> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .map_err(|error| Failure::refused(format!("--pid {pid}: cannot read {path}: {error}")))?;
    ticks(&stat)
        .map(|ticks| TICK.mul_f64(ticks as f64))
        .ok_or_else(|| Failure::refused(format!("--pid {pid}: {path} has an unknown form")))
}

/// The most memory that a process has had resident, in bytes.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
}

/// utime and stime: fields 14 and 15, counted behind the name, which may hold spaces.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0";
        assert_eq!(ticks(stat), Some(200));
        assert_eq!(ticks("7 (short) S 1"), None);
    }

    #[test]
    fn own_cpu_time_grows() {
        let before = cpu_time(std::process::id()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(60) {}
        assert!(cpu_time(std::process::id()).unwrap() > before);
    }
}
