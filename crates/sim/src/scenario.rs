//! What a run is about: the protocols, the kind of adversary; and what one seed makes of it.

use crate::class::{Class, swarm};
use crate::keys;
use alloy_primitives::U256;
use landfall_consensus::Random;
use landfall_types::{
    Committee, Kind, Member, NodeId, Params, PbftParams, PowParams, RaftParams, Schedule,
    SoloParams, Span, Term, Weight,
};
use std::collections::BTreeSet;

/// Which protocols follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// One protocol.
    Only(Kind),
    /// Raft, PBFT, Raft, and so on.
    Mixed,
}

/// How many members lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// Nobody.
    Nobody,
    /// In most seeds one, with less than a third of the weight.
    Minority,
    /// A third of the weight or more: forks are expected, and that evidence names the liars.
    Third,
}

/// How bad the network may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// What the protocol promises to survive.
    Short,
    /// Longer than blocks of a lottery take to become final: a stop is expected.
    Long,
}

/// A kind of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// Which protocols.
    pub plan: Plan,
    /// Who lies.
    pub adversary: Adversary,
    /// How bad the network may become.
    pub topology: Network,
    /// Heights that every node must finalise.
    pub heights: u64,
}

impl Scenario {
    /// A development chain and nodes that follow it.
    pub const SOLO: Self = Self::of("solo", Plan::Only(Kind::Solo), Adversary::Nobody);
    /// Crash-fault agreement.
    pub const RAFT: Self = Self::of("raft", Plan::Only(Kind::Raft), Adversary::Nobody);
    /// Byzantine agreement.
    pub const PBFT: Self = Self::of("pbft", Plan::Only(Kind::Pbft), Adversary::Minority);
    /// Proof of work.
    pub const POW: Self = Self::of("pow", Plan::Only(Kind::Pow), Adversary::Nobody);
    /// Epochs of Raft and of PBFT in turn.
    pub const MIXED: Self = Self::of("mixed", Plan::Mixed, Adversary::Nobody);
    /// PBFT with too many liars.
    pub const ACCOUNTABILITY: Self = Self {
        heights: 30,
        ..Self::of("accountability", Plan::Only(Kind::Pbft), Adversary::Third)
    };
    /// Proof of work in partitions that outlast its finality depth.
    pub const POW_LONG: Self = Self {
        topology: Network::Long,
        ..Self::of("pow-long", Plan::Only(Kind::Pow), Adversary::Nobody)
    };

    /// Every scenario.
    pub const ALL: &[Self] = &[
        Self::SOLO,
        Self::RAFT,
        Self::PBFT,
        Self::POW,
        Self::MIXED,
        Self::ACCOUNTABILITY,
        Self::POW_LONG,
    ];

    const fn of(name: &'static str, plan: Plan, adversary: Adversary) -> Self {
        Self { name, plan, adversary, topology: Network::Short, heights: 100 }
    }

    /// The scenario of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|scenario| scenario.name == name)
    }

    /// Whether its blocks are final at once.
    pub fn is_agreement(&self) -> bool {
        !matches!(self.plan, Plan::Only(Kind::Pow | Kind::Solo))
    }

    /// Whether a kind of protocol runs in it.
    pub fn runs(&self, kind: Kind) -> bool {
        match self.plan {
            Plan::Only(only) => only == kind,
            Plan::Mixed => matches!(kind, Kind::Raft | Kind::Pbft),
        }
    }
}

/// A random stream of a component: what one component draws moves no other.
pub(crate) fn stream(seed: u64, component: u64) -> Random {
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ component << 48);
    random.next_u64();
    Random::new(random.next_u64() ^ component)
}

/// Epochs that a schedule names one by one; the last repeats.
const EPOCHS: usize = 48;

/// What a seed makes of a scenario.
pub(crate) struct Setup {
    /// The members and followers, by number; twins are one more slot each.
    pub nodes: usize,
    /// Who lies, by number of node.
    pub liars: BTreeSet<usize>,
    /// Who has a twin.
    pub twins: BTreeSet<usize>,
    /// The classes of faults that are on.
    pub classes: BTreeSet<Class>,
    /// The epochs.
    pub schedule: Schedule,
    /// The mean time between two blocks, in milliseconds.
    pub interval: u64,
    /// Blocks and crashes follow each other fast.
    pub hurried: bool,
    /// The mean time between two faults, in milliseconds.
    pub fault_interval: u64,
    /// How long the network may be parted, in milliseconds.
    pub partition: u64,
    /// Within this after healing, finality must have moved, in milliseconds.
    pub patience: u64,
    /// A segment of the log ends beyond this size.
    pub segment_bytes: u64,
    /// Final blocks after which the views are written.
    pub flush_blocks: u64,
    /// Making a block takes this much longer, on every node and for ever, in milliseconds.
    pub slow_build: u64,
}

/// Work of the first block: hashes that finding it takes on the average.
pub(crate) const FIRST_DIFFICULTY: u64 = 16;
/// The subsidy in gwei, and after how many blocks it halves.
pub(crate) const SUBSIDY: (u64, u64) = (2_000_000_000, 60);

const ROUND_TIMEOUT_MAX: u64 = 16_000;
const ELECTION: u64 = 2_000;
/// Longer than any engine takes to repeat what it wants, shorter than a round.
const SLOW_BUILD: u64 = 1_100;

impl Setup {
    /// Draws everything that is constant in a history.
    pub fn draw(scenario: &Scenario, seed: u64) -> Self {
        let mut random = stream(seed, 1);
        let nodes = 4 + random.below(2) as usize;
        let liars = Self::draw_liars(scenario, nodes, &mut random);
        let classes = swarm(scenario, !liars.is_empty(), &mut random);
        let twins = if classes.contains(&Class::Twins) { liars.clone() } else { BTreeSet::new() };
        let pow = scenario.runs(Kind::Pow);
        // In a hurry, blocks and crashes follow each other so fast that branches are left open.
        let hurried = random.chance(25) && scenario.runs(Kind::Raft);
        let interval = match (pow, hurried) {
            (true, _) => 4_000,
            (_, true) => 250 + random.below(500),
            _ => 1_000 + random.below(2_000),
        };
        let final_depth = if scenario.topology == Network::Long { 6 } else { 20 };
        let schedule =
            Self::draw_schedule(scenario, nodes, &liars, interval, final_depth, &mut random);
        let partition = match scenario.topology {
            // Shorter than half of what blocks take to become final.
            Network::Short if pow => interval * final_depth / 2 / 2,
            Network::Short => 8_000,
            Network::Long => interval * final_depth * 6,
        };
        Self {
            nodes,
            liars,
            twins,
            classes,
            schedule,
            interval,
            hurried,
            fault_interval: if hurried { 600 } else { 2_000 + random.below(4_000) },
            partition,
            patience: Self::draw_patience(scenario, nodes, interval),
            segment_bytes: [16 << 10, 128 << 10, 256 << 20][random.below(3) as usize],
            slow_build: if random.chance(33) && !pow { SLOW_BUILD } else { 0 },
            flush_blocks: [4, 12, 48][random.below(3) as usize],
        }
    }

    /// Less than a third of the nodes, or at least a third.
    fn draw_liars(scenario: &Scenario, nodes: usize, random: &mut Random) -> BTreeSet<usize> {
        let count = match scenario.adversary {
            Adversary::Nobody => 0,
            Adversary::Minority => u64::from(random.chance(75)),
            // Enough to make a quorum with half of the honest.
            Adversary::Third => nodes as u64 - 2,
        };
        let mut liars = BTreeSet::new();
        while (liars.len() as u64) < count {
            liars.insert(random.below(nodes as u64) as usize);
        }
        liars
    }

    fn draw_patience(scenario: &Scenario, nodes: usize, interval: u64) -> u64 {
        let faulty = (nodes as u64 - 1) / 3;
        match scenario.plan {
            // (f + 2) times the longest round.
            Plan::Only(Kind::Pbft) | Plan::Mixed => (faulty + 2) * ROUND_TIMEOUT_MAX,
            Plan::Only(Kind::Raft) => 12 * ELECTION,
            Plan::Only(Kind::Solo) => 10 * interval + 10_000,
            Plan::Only(Kind::Pow) => 40 * interval,
        }
    }

    fn draw_schedule(
        scenario: &Scenario,
        nodes: usize,
        liars: &BTreeSet<usize>,
        interval: u64,
        final_depth: u64,
        random: &mut Random,
    ) -> Schedule {
        let term = |index: usize, random: &mut Random| {
            let kind = match scenario.plan {
                Plan::Only(kind) => kind,
                Plan::Mixed if index.is_multiple_of(2) => Kind::Raft,
                Plan::Mixed => Kind::Pbft,
            };
            let ends = kind.is_agreement();
            Term {
                params: params(kind, interval, final_depth),
                committee: committee(kind, nodes, liars, random),
                length: ends.then(|| 5 + random.below(16)),
            }
        };
        let count = if scenario.is_agreement() { EPOCHS } else { 1 };
        Schedule::new((0..count).map(|index| term(index, random)).collect())
    }
}

fn committee(kind: Kind, nodes: usize, liars: &BTreeSet<usize>, random: &mut Random) -> Committee {
    let size = match kind {
        Kind::Solo => return Committee::equal([keys::node(0)]).expect("one member"),
        Kind::Pow => nodes,
        Kind::Raft => 3 + random.below(nodes as u64 - 2) as usize,
        // A liar among three is a third.
        Kind::Pbft if liars.len() > 1 => nodes,
        Kind::Pbft => 4 + random.below(nodes as u64 - 3) as usize,
    };
    let mut left: Vec<usize> = (0..nodes).collect();
    while left.len() > size {
        let index = random.below(left.len() as u64) as usize;
        // A liar outside of the committee finds nothing to lie about.
        if !liars.contains(&left[index]) {
            left.remove(index);
        }
    }
    let weighted = kind != Kind::Pow && random.chance(30);
    let weight = |index: &usize, random: &mut Random| {
        let heavy = weighted && !liars.contains(index);
        Weight(if heavy { 1 + u128::from(random.below(2)) } else { 1 })
    };
    let members =
        left.iter().map(|index| Member { id: keys::node(*index), weight: weight(index, random) });
    Committee::new(members.collect()).expect("distinct members with weight")
}

fn params(kind: Kind, interval: u64, final_depth: u64) -> Params {
    let block_interval = Span(interval);
    match kind {
        Kind::Solo => Params::Solo(SoloParams { safe_depth: 2, final_depth: 4 }),
        Kind::Raft => Params::Raft(RaftParams {
            heartbeat: Span(400),
            election: Span(ELECTION),
            block_interval,
            empty_blocks: true,
        }),
        Kind::Pbft => Params::Pbft(PbftParams {
            block_interval,
            empty_blocks: true,
            round_timeout: Span(interval + 1_500),
            round_timeout_max: Span(ROUND_TIMEOUT_MAX),
            retransmit: Span(1_000),
            clock_drift: Span(4_000),
        }),
        Kind::Pow => Params::Pow(PowParams {
            block_interval,
            half_life: Span(interval * 288),
            first_target: U256::MAX / U256::from(FIRST_DIFFICULTY),
            safe_depth: 6.min(final_depth),
            final_depth,
            clock_drift: Span(4_000),
            subsidy: SUBSIDY.0,
            subsidy_halving: SUBSIDY.1,
        }),
    }
}

impl Setup {
    /// Whether every committee can decide without the liars and one more node.
    pub fn can_spare(&self, number: usize) -> bool {
        self.schedule.terms().iter().all(|term| {
            let committee = &term.committee;
            let needed = match term.params.kind() {
                Kind::Pow => return true,
                Kind::Pbft => committee.byzantine_quorum(),
                Kind::Raft | Kind::Solo => committee.majority(),
            };
            let gone = self.liars.iter().copied().chain([number]).map(keys::node);
            let gone: Vec<NodeId> = gone.collect();
            committee.total().0 - committee.weight_of_all(&gone).0 >= needed.0
        })
    }

    /// Whether less than a third of the weight of every committee lies.
    pub fn is_safe(&self) -> bool {
        let lies = |id: &NodeId| self.liars.iter().any(|liar| keys::node(*liar) == *id);
        self.schedule.terms().iter().all(|term| {
            let liars = term.committee.members().iter().filter(|member| lies(&member.id));
            let weight: Weight = liars.map(|member| member.weight).sum();
            3 * weight.0 < term.committee.total().0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_a_third_lies_except_where_more_is_the_point() {
        for scenario in Scenario::ALL {
            let mut sizes = BTreeSet::new();
            for seed in 0..200 {
                let setup = Setup::draw(scenario, seed);
                sizes.insert(setup.nodes);
                assert_eq!(setup.is_safe(), scenario.adversary != Adversary::Third);
            }
            assert_eq!(sizes, BTreeSet::from([4, 5]));
        }
    }

    #[test]
    fn epochs_have_5_to_20_blocks_and_mixed_runs_alternate() {
        let setup = Setup::draw(&Scenario::MIXED, 3);
        for pair in setup.schedule.terms().windows(2) {
            assert!((5..=20).contains(&pair[0].length.unwrap()));
            assert_ne!(pair[0].params.kind(), pair[1].params.kind());
        }
    }

    #[test]
    fn streams_of_one_seed_differ_by_component() {
        let first = |seed, component| stream(seed, component).next_u64();
        assert_eq!(first(5, 2), first(5, 2));
        assert_ne!(first(5, 2), first(5, 3));
        assert_ne!(first(5, 2), first(6, 2));
    }
}
