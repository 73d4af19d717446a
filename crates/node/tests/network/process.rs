//! `landfall node` in a process of its own: started, killed, stopped, frozen, and ended when
//! dropped.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to open its ledger, or to stop in order.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// Lines of a log that are shown when a test fails.
const SHOWN: usize = 60;

/// A running node and its log.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where this process's part of the log begins.
    begin: u64,
}

impl Process {
    /// Starts a node on its configuration and flags. Its output is appended to `log`; `offset` moves
    /// its clock, in milliseconds.
    pub fn start(config: &Path, flags: &[String], log: &Path, offset: i64) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("the log can be made");
        let begin = out.metadata().expect("the log is a file").len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
        command.args(["node", "--stop-with-stdin", "--config"]).arg(config).args(flags);
        if offset != 0 {
            command.env("LANDFALL_CLOCK_OFFSET_MS", offset.to_string());
        }
        let child = command
            // It ends when we do, even if nobody drops it.
            .stdin(Stdio::piped())
            .stderr(out.try_clone().expect("a file handle can be copied"))
            .stdout(out)
            .spawn()
            .expect("the binary starts");
        Self { child, log: log.to_owned(), begin }
    }

    /// What it has printed.
    fn output(&self) -> String {
        read_from(&self.log, self.begin)
    }

    /// Whether it serves: it has said where it listens.
    pub fn listens(&mut self) -> bool {
        if let Some(status) = self.ended() {
            panic!("a node ended with {status} before it listened:\n{}", tail(&self.log));
        }
        self.output().lines().any(|line| line.starts_with("Listening on "))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the process is ours")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        assert_eq!(self.ended(), None, "a node ended by itself:\n{}", tail(&self.log));
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// SIGTERM; it must stop in order.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert!(
            status.success(),
            "a node was told to stop and ended with {status}:\n{}",
            tail(&self.log)
        );
    }

    /// Waits until it has ended by itself, and what it said.
    pub fn wait_for_end(mut self) -> (ExitStatus, String) {
        (self.wait(), self.output())
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "a node does not stop:\n{}", tail(&self.log));
            std::thread::sleep(LOOK);
        }
    }

    /// SIGSTOP: it does nothing, and the kernel keeps its connections.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().expect("kill exists");
        assert!(status.success(), "SIG{name} to {pid}:\n{}", tail(&self.log));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A frozen process dies of this too; one that has ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_from(path: &Path, begin: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path)
        && file.seek(SeekFrom::Start(begin)).is_ok()
    {
        // What cannot be read is missed by whoever looks for it.
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = read_from(log, 0);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
