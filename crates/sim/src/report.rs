//! What a run showed: of one history, and of many.

use crate::class::Class;
use crate::scenario::{Adversary, Scenario};
use landfall_types::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Milliseconds of virtual time.
    pub at: u64,
    /// Which node, if it was one.
    pub slot: Option<usize>,
    /// The rule's name.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VIOLATION of {} at {}.{:03} s", self.rule, self.at / 1_000, self.at % 1_000)?;
        if let Some(slot) = self.slot {
            write!(out, ", node {slot}")?;
        }
        write!(out, ": {}", self.what)
    }
}

/// One history.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// A hash of everything that happened.
    pub trace: u64,
    /// What happened, in numbers.
    pub stats: Stats,
}

/// Numbers of one history, or sums over many.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Histories.
    pub histories: u64,
    /// Faults by class.
    pub faults: BTreeMap<Class, u64>,
    /// The classes of lies that were told; among the faults they count from when liars may tell them.
    pub told: BTreeSet<Class>,
    /// The classes that the seed has on.
    pub drawn: BTreeSet<Class>,
    /// In how many histories a class was on.
    pub drawn_in: BTreeMap<Class, u64>,
    /// Crashes by where they stood.
    pub boundaries: BTreeMap<&'static str, u64>,
    /// Rounds above 0, and terms.
    pub view_changes: u64,
    /// Fork choices that left blocks behind.
    pub reorganisations: u64,
    /// Heights that were final at the end.
    pub heights: u64,
    /// The fewest of any history.
    pub heights_least: Option<u64>,
    /// Final heights with transactions.
    pub heights_with_transactions: u64,
    /// Final transactions.
    pub transactions: u64,
    /// Epochs that ended.
    pub epochs: u64,
    /// Events.
    pub events: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Virtual milliseconds.
    pub simulated: u64,
    /// The longest time from healing to progress everywhere, in virtual milliseconds.
    pub recovery_longest: u64,
    /// Starts that were refused on a damaged log.
    pub refusals: u64,
    /// Nodes that stopped because of a rival branch with more work, as they must.
    pub conflicts: u64,
    /// Histories in which two blocks of one height were final.
    pub forks: u64,
    /// ... and evidence named a third of the weight.
    pub named: u64,
    /// Evidence that was reported.
    pub evidence: u64,
    /// Restarts that lost none, some, or all of what was not synced.
    pub came_back: [u64; 3],
    /// The most entries that a replica held.
    pub queued_most: usize,
}

impl Stats {
    /// Faults of all classes.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Adds those of another history.
    pub fn add(&mut self, other: &Self) {
        for (class, count) in &other.faults {
            *self.faults.entry(*class).or_default() += count;
        }
        self.told.extend(&other.told);
        for class in &other.drawn {
            *self.drawn_in.entry(*class).or_default() += 1;
        }
        for (place, count) in &other.boundaries {
            *self.boundaries.entry(place).or_default() += count;
        }
        self.histories += other.histories;
        self.view_changes += other.view_changes;
        self.reorganisations += other.reorganisations;
        self.heights += other.heights;
        let least = self.heights_least.map_or(other.heights, |least| least.min(other.heights));
        self.heights_least = Some(least);
        self.heights_with_transactions += other.heights_with_transactions;
        self.transactions += other.transactions;
        self.epochs += other.epochs;
        self.events += other.events;
        self.messages += other.messages;
        self.simulated += other.simulated;
        self.recovery_longest = self.recovery_longest.max(other.recovery_longest);
        self.refusals += other.refusals;
        self.conflicts += other.conflicts;
        self.forks += other.forks;
        self.named += other.named;
        self.evidence += other.evidence;
        for (sum, count) in self.came_back.iter_mut().zip(other.came_back) {
            *sum += count;
        }
        self.queued_most = self.queued_most.max(other.queued_most);
    }
}

/// Many histories of one scenario.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Which scenario.
    pub scenario: &'static Scenario,
    /// Sums.
    pub stats: Stats,
    /// Those that failed, by seed.
    pub failures: Vec<Outcome>,
    /// How long it took, in milliseconds of real time on all threads together.
    pub real: u64,
}

/// Histories from which on a class that never happened, or a crash at a place, is a failure.
const ENOUGH: u64 = 50;

impl Summary {
    /// Nothing yet.
    pub fn new(scenario: &'static Scenario) -> Self {
        Self { scenario, stats: Stats::default(), failures: Vec::new(), real: 0 }
    }

    /// One history more.
    pub fn add(&mut self, outcome: Outcome) {
        self.stats.add(&outcome.stats);
        if outcome.violation.is_some() {
            let place = self.failures.partition_point(|other| other.seed < outcome.seed);
            self.failures.insert(place, outcome);
        }
    }

    /// What the run fails to have: classes that never happened or were drawn too rarely, crashes
    /// at places that must occur, histories that mean nothing.
    pub fn missing(&self) -> Vec<String> {
        let (stats, mut missing) = (&self.stats, Vec::new());
        if stats.histories < ENOUGH {
            return missing;
        }
        for class in Class::ALL.iter().filter(|class| class.applies(self.scenario)) {
            if !stats.faults.contains_key(class) {
                missing.push(format!("the class \"{}\" never happened", class.name()));
            } else if class.is_byzantine() && !stats.told.contains(class) {
                missing.push(format!("the lie \"{}\" was never told", class.name()));
            }
            let drawn = stats.drawn_in.get(class).copied().unwrap_or_default();
            if drawn * 5 < stats.histories {
                let share = drawn * 100 / stats.histories;
                missing.push(format!("\"{}\" was on in {share} % of the seeds", class.name()));
            }
        }
        for place in self.scenario.boundaries() {
            if !stats.boundaries.contains_key(place) {
                missing.push(format!("no node crashed {place}"));
            }
        }
        if stats.fault_count() < 20 * stats.histories {
            let mean = stats.fault_count() / stats.histories;
            missing.push(format!("{mean} faults per history on average, 20 are wanted"));
        }
        if self.scenario.is_agreement() && stats.view_changes == 0 {
            missing.push("no view change".into());
        }
        if stats.heights_with_transactions * 2 < stats.heights {
            missing.push("less than half of the final heights carry transactions".into());
        }
        missing
    }

    /// Virtual seconds per second of real time and thread.
    pub fn speed(&self) -> u64 {
        self.stats.simulated / self.real.max(1)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stats, name) = (&self.stats, self.scenario.name);
        let of = stats.histories.max(1);
        writeln!(
            out,
            "{name}: {} histories, {} failed; {} simulated s at {} to 1",
            stats.histories,
            self.failures.len(),
            stats.simulated / 1_000,
            self.speed()
        )?;
        writeln!(
            out,
            "  final heights {} (least {}), {} with transactions ({} of them); epochs {}",
            stats.heights,
            stats.heights_least.unwrap_or_default(),
            stats.heights_with_transactions,
            stats.transactions,
            stats.epochs
        )?;
        writeln!(
            out,
            "  events {}, messages {}, view changes {}, reorganisations {}",
            stats.events, stats.messages, stats.view_changes, stats.reorganisations
        )?;
        writeln!(
            out,
            "  faults {} ({} a history); longest recovery {} ms; refusals on damaged logs {}",
            stats.fault_count(),
            stats.fault_count() / of,
            stats.recovery_longest,
            stats.refusals
        )?;
        let [all, some, none] = stats.came_back;
        writeln!(
            out,
            "  unsynced tails at crashes: kept {all}, partly {some}, lost {none}; most queued {}",
            stats.queued_most
        )?;
        writeln!(
            out,
            "  evidence {}, forks {}, with a third named {}, stops on a rival branch {}",
            stats.evidence, stats.forks, stats.named, stats.conflicts
        )?;
        writeln!(out, "  faults by class, and in how many histories the class was on:")?;
        for (class, count) in &stats.faults {
            let drawn = stats.drawn_in.get(class).copied().unwrap_or_default();
            writeln!(out, "    {:32} {count:7} {drawn:7}", class.name())?;
        }
        writeln!(out, "  crashes by boundary:")?;
        for (place, count) in &stats.boundaries {
            writeln!(out, "    {place:40} {count:7}")?;
        }
        for what in self.missing() {
            writeln!(out, "  MISSING: {what}")?;
        }
        for outcome in self.failures.iter().take(10) {
            let violation = outcome.violation.as_ref().expect("it failed");
            writeln!(out, "  seed {}: {violation}", outcome.seed)?;
        }
        Ok(())
    }
}

impl Scenario {
    /// Where crashes must have stood in a run of some size.
    fn boundaries(&self) -> Vec<&'static str> {
        if self.adversary == Adversary::Third {
            return Vec::new();
        }
        let mut places = vec![
            "before a block is executed",
            "before the log is synced",
            "after a sync, before it is known",
            "before a block is sent",
            "before a choice is shown",
            "before an execution is taken in",
            "before sync asks or tells",
            "before a message is taken in",
            "before a deadline is served",
            "before a flush",
            "before a flush is taken in",
        ];
        // The one that seals Solo does not crash.
        if !self.runs(Kind::Solo) {
            places.extend(["before a block is built", "before a built block is taken in"]);
        }
        if self.is_agreement() {
            places.extend([
                "before a vote is sent",
                "before a vote is signed",
                "before a signature is taken in",
                "before signers are recovered",
                "before signers are taken in",
                "before a proof is sent",
            ]);
        }
        if self.runs(Kind::Raft) {
            places.push("before a message is sent");
        }
        places
    }

    /// Places where a crash can be set.
    pub(crate) fn traps(&self) -> Vec<&'static str> {
        self.boundaries()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run of some size misses in which everything happened but some faults and some lies.
    fn missing(scenario: &'static Scenario, fault: Class, lie: Class) -> Vec<String> {
        let mut summary = Summary::new(scenario);
        let every = Class::ALL.iter().copied().filter(|class| class.applies(scenario));
        for seed in 0..ENOUGH {
            let mut stats = Stats { histories: 1, view_changes: 1, ..Stats::default() };
            stats.drawn = every.clone().collect();
            stats.faults = every.clone().filter(|class| *class != fault).map(|c| (c, 3)).collect();
            stats.told = every.clone().filter(|c| c.is_byzantine() && *c != lie).collect();
            stats.boundaries = scenario.boundaries().into_iter().map(|place| (place, 1)).collect();
            summary.add(Outcome { seed, violation: None, trace: 0, stats });
        }
        summary.missing()
    }

    #[test]
    fn a_run_without_a_class_or_a_lie_fails_and_says_which() {
        assert_eq!(
            missing(&Scenario::RAFT, Class::Kill, Class::Spam),
            ["the class \"process killed\" never happened"]
        );
        assert_eq!(
            missing(&Scenario::PBFT, Class::LongPartition, Class::InvalidBlock),
            ["the lie \"invalid block\" was never told"]
        );
    }
}
