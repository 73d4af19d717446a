//! The classes of faults, and which of them a seed draws.

use crate::scenario::{Adversary, Network as Topology, Scenario};
use landfall_consensus::Random;
use std::collections::BTreeSet;

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// What can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class { $($(#[$doc])* $name,)* }

        impl Class {
            /// Every class.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// In words.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

classes! {
    /// Power is lost, or the process killed, between two effects.
    CrashAtBoundary = "crash between two effects",
    /// Power is lost in the middle of an operation of the disk.
    CrashInDisk = "crash inside the disk",
    /// The process is killed at any time; the operating system goes on.
    Kill = "process killed",
    /// All nodes lose power at once.
    PowerCut = "power cut of all",
    /// The disk has no room left.
    DiskFull = "disk full",
    /// A sync fails, and what it should have written is lost.
    SyncFails = "sync fails",
    /// Syncs take long.
    SlowDisk = "slow disk",
    /// A bit of the durable log turns around: the node must refuse to start.
    Corruption = "damaged log",
    /// The views are gone; they are made anew from the log.
    ViewsLost = "views lost",
    /// The log is gone: the node must not vote under its old identity.
    DiskLost = "disk lost",
    /// Execution and building take long.
    SlowJobs = "slow execution",
    /// Messages are lost.
    Loss = "loss",
    /// Messages take long.
    Delay = "delay",
    /// Messages arrive twice.
    Duplication = "duplication",
    /// Messages overtake each other.
    Reorder = "reorder",
    /// Two sides that cannot talk.
    Partition = "partition",
    /// Some links work one way only.
    OneWay = "one-way partition",
    /// A link comes and goes.
    Flapping = "flapping link",
    /// Everybody reaches one node, and only that one.
    Star = "star",
    /// Everybody reaches his neighbours only.
    Chain = "chained links",
    /// Whoever begins to lead is cut off or killed, and the one before comes back.
    CutLeader = "new leader cut off",
    /// Clocks are off.
    ClockOffset = "clock offset",
    /// Clocks run fast or slow.
    ClockDrift = "clock drift",
    /// A clock jumps, either way.
    ClockJump = "clock jump",
    /// A liar says nothing.
    Silent = "silent member",
    /// A liar says nothing to some.
    SelectiveSilence = "selective silence",
    /// A liar helps one node to see a block prepared, in one round after the other, and then says
    /// nothing more at that height.
    HelpAndLeave = "help to prepare, then silence",
    /// A liar proposes two blocks.
    EquivocatingProposer = "equivocating proposer",
    /// A liar votes for two blocks.
    EquivocatingVoter = "equivocating voter",
    /// A liar proposes a block that is invalid.
    InvalidBlock = "invalid block",
    /// A liar names a block and keeps it.
    WithheldBody = "withheld body",
    /// A liar's proposal has a justification that is stale, forged or missing.
    BadJustification = "bad justification",
    /// A liar's block carries fewer commits of its parent than it has, or others.
    CutCertificate = "cut certificate",
    /// A liar forgets what it said.
    Amnesia = "amnesia",
    /// Two nodes have one key.
    Twins = "twins",
    /// A liar says much about rounds and heights to come.
    Spam = "spam",
    /// A liar signs the same again with another nonce.
    SecondSignature = "second signature",
    /// A liar repeats what was said long ago.
    Replay = "replay",
    /// A liar announces heights and serves proofs that are not.
    FalseSync = "false sync peer",
    /// A partition that is longer than blocks take to become final.
    LongPartition = "long partition",
}

impl Class {
    /// Whether it needs a member that lies.
    pub fn is_byzantine(self) -> bool {
        self >= Self::Silent && self <= Self::FalseSync
    }

    /// Whether it can occur in a scenario.
    pub fn applies(self, scenario: &Scenario) -> bool {
        match self {
            _ if scenario.adversary == Adversary::Third => {
                matches!(self, Self::Twins | Self::EquivocatingVoter | Self::Partition)
            }
            Self::CutLeader => scenario.is_agreement(),
            Self::LongPartition => scenario.topology == Topology::Long,
            _ if self.is_byzantine() => scenario.adversary == Adversary::Minority,
            // After a long partition the branches must meet, or the class shows nothing.
            Self::Loss
            | Self::Partition
            | Self::OneWay
            | Self::Flapping
            | Self::Star
            | Self::Chain
            | Self::DiskLost
            | Self::ClockJump => scenario.topology == Topology::Short,
            _ => true,
        }
    }
}

/// What a seed draws of each hundred.
const ON: u64 = 45;

/// The classes that a seed has on: swarm testing, since faults hide each other.
pub(crate) fn swarm(scenario: &Scenario, liars: bool, random: &mut Random) -> BTreeSet<Class> {
    let possible = Class::ALL.iter().copied().filter(|class| class.applies(scenario));
    let possible: Vec<Class> = possible.filter(|class| liars || !class.is_byzantine()).collect();
    let mut drawn: BTreeSet<Class> =
        possible.iter().copied().filter(|_| random.chance(ON)).collect();
    if scenario.topology == Topology::Long {
        drawn.insert(Class::LongPartition);
    }
    if scenario.adversary == Adversary::Third {
        drawn.extend([Class::Twins, Class::Partition]);
    }
    while drawn.len() < 3 {
        drawn.insert(possible[random.below(possible.len() as u64) as usize]);
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_that_applies_is_drawn_in_a_fifth_of_the_seeds() {
        for scenario in Scenario::ALL {
            let mut drawn = std::collections::BTreeMap::<Class, u64>::new();
            let seeds = 400;
            for seed in 0..seeds {
                let setup = crate::scenario::Setup::draw(scenario, seed);
                for class in setup.classes {
                    *drawn.entry(class).or_default() += 1;
                }
            }
            for class in Class::ALL.iter().filter(|class| class.applies(scenario)) {
                let share = drawn.get(class).copied().unwrap_or_default() * 100 / seeds;
                assert!(share >= 20, "{}: {} in {share} %", scenario.name, class.name());
            }
            for class in drawn.keys() {
                assert!(class.applies(scenario), "{}: {}", scenario.name, class.name());
            }
        }
    }
}
