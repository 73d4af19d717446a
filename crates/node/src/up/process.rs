//! One node of a local network: a process of this very program, with a log file, that ends when
//! we do.
//!
//! The child is told to stop when its standard input ends: so it goes down in order with us, even
//! if we are killed.

use crate::failure::Failure;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to stop.
const STOPPING: Duration = Duration::from_secs(20);
/// The end of a log that is shown of a node that died, in bytes.
const TAIL: u64 = 2_000;

/// A running child, and the files around it.
pub struct Process {
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `landfall node` on a configuration file; what it prints goes to a file beside it.
    pub fn start(config: &Path) -> Result<Self, Failure> {
        let log = config.with_file_name("node.log");
        let failed = |what: &str, error: std::io::Error| {
            Failure::refused(format!("cannot {what} {}: {error}", log.display()))
        };
        let out = File::options().create(true).append(true).open(&log);
        let out = out.map_err(|error| failed("write", error))?;
        let same = out.try_clone().map_err(|error| failed("write", error))?;
        let program = std::env::current_exe().map_err(|error| {
            Failure::refused(format!("cannot find this program to start nodes with: {error}"))
        })?;
        let child = Command::new(program)
            .arg("node")
            .arg("--config")
            .arg(config)
            .arg("--stop-with-stdin")
            // Several nodes share this machine: with an arena for each thread, and with large
            // buffers among the small ones, glibc keeps more memory.
            .env("MALLOC_ARENA_MAX", "2")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(same)
            .spawn()
            .map_err(|error| Failure::refused(format!("cannot start a node: {error}")))?;
        Ok(Self { child, log, ended: None })
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did; then with the last line of its log.
    pub fn ended(&mut self) -> Option<String> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        let status = self.ended?;
        let last = last_line(&self.log).unwrap_or_default();
        Some(format!("{status}; {last} ({})", self.log.display()))
    }

    /// Tells it to stop.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits until it has stopped; one that takes too long is killed.
    pub fn wait(&mut self) {
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > STOPPING {
                // It may have ended just now.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
}
