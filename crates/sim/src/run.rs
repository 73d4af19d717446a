//! Running histories: one, one aloud, or many.

use crate::report::{Outcome, Stats, Summary, Violation};
use crate::scenario::Scenario;
use crate::world::{Story, World};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, Once};
use std::time::Instant;

#[cfg(feature = "planted")]
pub use landfall_consensus::Bug;

/// A bug to plant: there is none unless the crate is built with the feature `planted`.
#[cfg(not(feature = "planted"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {}

thread_local! {
    static IN_HISTORY: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one history.
pub fn run(scenario: &Scenario, seed: u64, bug: Option<Bug>) -> Outcome {
    guarded(scenario, seed, bug, None)
}

/// Runs one history and tells it line by line.
pub fn narrate(
    scenario: &Scenario,
    seed: u64,
    bug: Option<Bug>,
    mut tell: impl FnMut(String),
) -> Outcome {
    guarded(scenario, seed, bug, Some(&mut tell))
}

/// Runs a range of seeds on some threads. `progress` is told each outcome as it comes, and says
/// whether to go on.
pub fn run_many(
    scenario: &'static Scenario,
    seeds: Range<u64>,
    threads: usize,
    progress: impl FnMut(&Outcome) -> bool + Send,
) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let shared = Mutex::new((Summary::new(scenario), progress));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let begun = Instant::now();
                    let outcome = run(scenario, seed, None);
                    let mut shared = shared.lock().expect("nobody panics with it");
                    let (summary, progress) = &mut *shared;
                    summary.real += u64::try_from(begun.elapsed().as_millis()).expect("short");
                    let go_on = progress(&outcome);
                    summary.add(outcome);
                    if !go_on {
                        next.store(seeds.end, Relaxed);
                    }
                }
            });
        }
    });
    shared.into_inner().expect("nobody panics with it").0
}

fn guarded<'a>(
    scenario: &'a Scenario,
    seed: u64,
    bug: Option<Bug>,
    story: Option<Story<'a>>,
) -> Outcome {
    quiet_panics();
    plant(bug);
    IN_HISTORY.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| World::new(scenario, seed, story).run()));
    IN_HISTORY.set(false);
    plant(None);
    ended.unwrap_or_else(|_| {
        let what = PANIC.take().unwrap_or_else(|| "a panic".into());
        let violation = Some(Violation { at: 0, slot: None, rule: "panic", what });
        Outcome { seed, violation, trace: 0, stats: Stats { histories: 1, ..Stats::default() } }
    })
}

#[cfg(feature = "planted")]
fn plant(bug: Option<Bug>) {
    landfall_consensus::plant(bug);
}

#[cfg(not(feature = "planted"))]
fn plant(_: Option<Bug>) {}

/// A panic inside a history is a result, not a message on the terminal.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IN_HISTORY.get() {
                PANIC.set(Some(panic.to_string()));
            } else {
                before(panic);
            }
        }));
    });
}
