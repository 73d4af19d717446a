//! Public conformance suites: `cargo xtask conformance NAME`.
//!
//! Each suite unpacks its archive, runs its cases on all cores, names what failed, and ends with
//! one line `NAME: P passed, F failed, S skipped`. Suites stand in one table, [`SUITES`].

mod archive;
mod blockchain_tests;
mod exceptions;
mod networks;
mod rlp;
mod rpc;
mod schema;
mod state_tests;
mod transactions;
mod trie;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// How many failed cases are printed.
const SHOWN_FAILURES: usize = 50;

/// What every suite may be asked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Run what does not decide the exit code too.
    pub all: bool,
    /// Only cases whose name contains this.
    pub filter: Option<String>,
}

impl Options {
    /// Whether a case is to be run.
    pub fn selects(&self, case: &str) -> bool {
        self.filter.as_ref().is_none_or(|part| case.contains(part))
    }
}

/// A suite runs its cases, or finds no vectors (`None`).
type Suite = fn(&Options) -> Result<Option<Tally>, Failure>;

/// All suites by name, with the fewest cases that must pass where there are vectors: as many as did
/// when this was written, so that none is lost unseen.
pub const SUITES: &[(&str, Suite, usize)] = &[
    ("statetests", state_tests::run, 29_225),
    ("blockchaintests", blockchain_tests::run, 10_822),
    ("trie", trie::run, 25),
    ("transactions", transactions::run, 971),
    ("rlp", rlp::run, 55),
    ("rpc", rpc::run, 123),
];

/// A suite could not run at all.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

impl Failure {
    /// Something went wrong with a file.
    pub fn at(path: &Path, error: &dyn fmt::Display) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

/// Counts of cases, and the failed ones with their reasons.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    passed: usize,
    skipped: usize,
    failures: Vec<String>,
}

impl Tally {
    /// Counts a case.
    pub fn count(&mut self, name: impl fmt::Display, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(reason) => self.failures.push(format!("{name}: {reason}")),
        }
    }

    /// Counts a case that is not run.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    fn absorb(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

/// Runs a suite by name and prints its tally.
pub fn run(name: &str, options: &Options) -> ExitCode {
    let Some((_, suite, least)) = SUITES.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<_> = SUITES.iter().map(|(name, ..)| *name).collect();
        eprintln!("no suite `{name}`; there are {}", known.join(", "));
        return ExitCode::from(2);
    };
    match suite(options) {
        Ok(Some(mut tally)) => {
            tally.failures.sort();
            for failure in tally.failures.iter().take(SHOWN_FAILURES) {
                println!("failed: {failure}");
            }
            let (passed, failed, skipped) = (tally.passed, tally.failures.len(), tally.skipped);
            println!("{name}: {passed} passed, {failed} failed, {skipped} skipped");
            let least = if options.filter.is_some() { 1 } else { *least };
            if passed < least {
                println!("{name}: {least} must pass at least");
            }
            if failed == 0 && passed >= least { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => {
            println!("{name}: skipped: no vectors");
            ExitCode::SUCCESS
        }
        Err(Failure(reason)) => {
            eprintln!("{name}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a function over all files, each on one of as many threads as there are cores.
pub fn for_each_file(files: &[PathBuf], run: impl Fn(&Path, &mut Tally) + Sync) -> Tally {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            run(file, &mut tally);
        }
        tally
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            all.absorb(worker.join().expect("a worker that panics fails the suite"));
        }
    });
    all
}

/// Reads a JSON file.
pub fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}
