//! Epochs: which protocol, which committee and which parameters hold between two heights.

use crate::{Committee, Height, NodeId, Span, Time};
use alloy_primitives::{B256, U256};

/// The protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One member that seals: a development chain.
    Solo,
    /// Crash-fault agreement.
    Raft,
    /// Byzantine agreement.
    Pbft,
    /// A lottery by work.
    Pow,
}

impl Kind {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Solo, Self::Raft, Self::Pbft, Self::Pow];

    /// As in a genesis file and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Solo => "solo",
            Self::Raft => "raft",
            Self::Pbft => "pbft",
            Self::Pow => "pow",
        }
    }

    /// Whether a decision is final at once. The others are lotteries.
    pub fn is_agreement(self) -> bool {
        !matches!(self, Self::Pow | Self::Solo)
    }
}

/// Parameters of [`Kind::Solo`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoloParams {
    /// How far `safe` trails the head, in blocks.
    pub safe_depth: u64,
    /// How far `finalized` trails the head, in blocks.
    pub final_depth: u64,
}

impl Default for SoloParams {
    /// As Ethereum trails with one and two epochs of 32 slots.
    fn default() -> Self {
        Self { safe_depth: 32, final_depth: 64 }
    }
}

/// Parameters of [`Kind::Raft`] (Ongaro's thesis, §3.9, §9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftParams {
    /// Between two messages of a leader.
    pub heartbeat: Span,
    /// An election starts after this time without a leader, or up to twice as late.
    pub election: Span,
    /// The least time between two blocks.
    pub block_interval: Span,
    /// Whether blocks are made without transactions, `block_interval` apart.
    pub empty_blocks: bool,
}

impl Default for RaftParams {
    /// For a local network: a leader is missed after a second or two.
    fn default() -> Self {
        Self {
            heartbeat: Span(100),
            election: Span(1_000),
            block_interval: Span(20),
            empty_blocks: false,
        }
    }
}

/// Parameters of [`Kind::Pbft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbftParams {
    /// The least time between two blocks.
    pub block_interval: Span,
    /// Whether blocks are made without transactions, `block_interval` apart.
    pub empty_blocks: bool,
    /// How long round 0 may take; each further round twice as long.
    pub round_timeout: Span,
    /// ... up to this.
    pub round_timeout_max: Span,
    /// Between two repetitions of a node's newest message.
    pub retransmit: Span,
    /// A block may be this far ahead of a voter's clock.
    pub clock_drift: Span,
}

impl Default for PbftParams {
    /// For a local network or a continent: a leader is missed after two seconds.
    fn default() -> Self {
        Self {
            block_interval: Span(20),
            empty_blocks: false,
            round_timeout: Span(2_000),
            round_timeout_max: Span(16_000),
            retransmit: Span(1_000),
            clock_drift: Span(4_000),
        }
    }
}

/// Parameters of [`Kind::Pow`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowParams {
    /// The mean time between two blocks that the difficulty aims at.
    pub block_interval: Span,
    /// The time behind schedule after which the difficulty halves (aserti3-2d).
    pub half_life: Span,
    /// The target of the first block: a block's work hash must not exceed its target.
    pub first_target: U256,
    /// Blocks on top of a block that make it `safe`.
    pub safe_depth: u64,
    /// Blocks on top of a block that make it `finalized`: probable, never certain.
    pub final_depth: u64,
    /// A block may be this far ahead of a node's clock; beyond, it waits.
    pub clock_drift: Span,
    /// What a block pays its maker at first, in gwei.
    pub subsidy: u64,
    /// Blocks after which the subsidy halves; zero means never.
    pub subsidy_halving: u64,
}

impl PowParams {
    /// The mean time between two blocks where none is given.
    pub const BLOCK_INTERVAL: Span = Span(4_000);

    /// The advice of `docs/consensus/pow.md` for an interval: a half-life of 288 blocks. A block
    /// pays two ether, as Ethereum's did last.
    pub fn with_interval(block_interval: Span, first_target: U256) -> Self {
        Self {
            block_interval,
            half_life: Span(block_interval.0.saturating_mul(288)),
            first_target,
            safe_depth: 6,
            final_depth: 30,
            clock_drift: Span(15_000),
            subsidy: 2_000_000_000,
            subsidy_halving: 0,
        }
    }
}

/// A protocol and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Params {
    /// One member that seals.
    Solo(SoloParams),
    /// Raft.
    Raft(RaftParams),
    /// PBFT.
    Pbft(PbftParams),
    /// Proof of work.
    Pow(PowParams),
}

impl Params {
    /// Whose parameters these are.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Solo(_) => Kind::Solo,
            Self::Raft(_) => Kind::Raft,
            Self::Pbft(_) => Kind::Pbft,
            Self::Pow(_) => Kind::Pow,
        }
    }
}

/// What an instance stands on: the final block that ended the epoch before, or the genesis block.
/// (Ratifying the end of an unaided lottery will be a second kind of anchor.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// A final block of height `first - 1`.
    Final {
        /// Which.
        hash: B256,
        /// Its time.
        time: Time,
    },
}

/// Everything constant for one instance; a pure function of the final block that ended the epoch
/// before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// The hash of block 0, the domain of every signature.
    pub chain: B256,
    /// Counts from 0.
    pub number: u64,
    /// The protocol and its parameters.
    pub params: Params,
    /// Who votes.
    pub committee: Committee,
    /// The height of its first block.
    pub first: Height,
    /// The height of its last block.
    pub last: Height,
    /// What the instance stands on.
    pub anchor: Anchor,
}

impl Epoch {
    /// Which protocol.
    pub fn kind(&self) -> Kind {
        self.params.kind()
    }

    /// Whether a node votes in it.
    pub fn has_member(&self, id: &NodeId) -> bool {
        self.committee.contains(id)
    }

    /// Whether a height belongs to it.
    pub fn contains(&self, height: Height) -> bool {
        (self.first..=self.last).contains(&height)
    }

    /// The hash of the block it stands on.
    pub fn anchor_hash(&self) -> B256 {
        let Anchor::Final { hash, .. } = self.anchor;
        hash
    }

    /// The time of the block it stands on.
    pub fn anchor_time(&self) -> Time {
        let Anchor::Final { time, .. } = self.anchor;
        time
    }
}

/// One entry of a [`Schedule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The protocol and its parameters.
    pub params: Params,
    /// Who votes.
    pub committee: Committee,
    /// How many blocks; `None` for ever.
    pub length: Option<u64>,
}

/// Which epochs follow each other; the last entry repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    terms: Vec<Term>,
}

impl Schedule {
    /// At least one entry; lengths at least 1.
    pub fn new(terms: Vec<Term>) -> Self {
        assert!(!terms.is_empty(), "a schedule has at least one epoch");
        assert!(terms.iter().all(|term| term.length != Some(0)), "an epoch has a block");
        Self { terms }
    }

    /// The epoch of a number that stands on a block.
    pub fn epoch(&self, chain: B256, number: u64, first: Height, anchor: Anchor) -> Epoch {
        let index = usize::try_from(number).unwrap_or(usize::MAX).min(self.terms.len() - 1);
        let term = &self.terms[index];
        let last = term.length.map_or(u64::MAX, |length| first.0.saturating_add(length - 1));
        Epoch {
            chain,
            number,
            params: term.params.clone(),
            committee: term.committee.clone(),
            first,
            last: Height(last),
            anchor,
        }
    }

    /// Members of the largest committee.
    pub fn largest_committee(&self) -> usize {
        let sizes = self.terms.iter().map(|term| term.committee.len());
        sizes.max().expect("a schedule has at least one epoch")
    }

    /// The entries.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }
}
