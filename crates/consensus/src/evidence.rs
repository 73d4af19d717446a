//! Proofs that a member lied: each holds the signed statements themselves, so that anybody can
//! check it, and none can be made against a member that follows the rules.

use crate::pbft::Justification;
use alloy_primitives::B256;
use landfall_types::{Committee, Height, NodeId, SignedVote, Step};
use std::collections::BTreeMap;

/// Why a member is guilty. Signers are recovered before it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two statements at a position that may be filled once.
    DoubleVote {
        /// One.
        a: SignedVote,
        /// The other.
        b: SignedVote,
    },
    /// PBFT: it committed a block in a round, which says that a quorum had prepared it there, and
    /// later moved to a round without knowing of anything prepared that late.
    Amnesia {
        /// The commit.
        commit: SignedVote,
        /// The round change, to a later round of the same height.
        change: SignedVote,
    },
    /// PBFT: it prepared a proposal whose justification does not allow it.
    UnjustifiedPrepare {
        /// The prepare; its context is the digest of the justification.
        prepare: SignedVote,
        /// What the proposal came with.
        justification: Justification,
    },
}

/// Why evidence proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvidence {
    /// The statements do not contradict each other.
    #[error("the statements do not contradict each other")]
    NoContradiction,
    /// They are by two nodes.
    #[error("the statements are by two nodes")]
    TwoSigners,
    /// The signer was no member of the epoch.
    #[error("{0} was no member of the epoch")]
    NoMember(NodeId),
    /// They are of another epoch.
    #[error("the statements are of epoch {0}")]
    Epoch(u64),
    /// The protocol of the epoch does not know this offence.
    #[error("the protocol of the epoch does not know this offence")]
    Unknown,
}

impl Evidence {
    /// Who is said to have lied, and in which epoch.
    pub fn accused(&self) -> (NodeId, u64) {
        let vote = match self {
            Self::DoubleVote { a, .. } => a,
            Self::Amnesia { commit, .. } => commit,
            Self::UnjustifiedPrepare { prepare, .. } => prepare,
        };
        (vote.signer, vote.vote.position.epoch)
    }

    /// The height that it is about.
    pub fn height(&self) -> Height {
        match self {
            Self::DoubleVote { a, .. } => a.vote.position.height,
            Self::Amnesia { commit, .. } => commit.vote.position.height,
            Self::UnjustifiedPrepare { prepare, .. } => prepare.vote.position.height,
        }
    }

    /// Every signed vote inside, for recovery.
    pub fn votes(&self) -> Vec<SignedVote> {
        match self {
            Self::DoubleVote { a, b } => vec![*a, *b],
            Self::Amnesia { commit, change } => vec![*commit, *change],
            Self::UnjustifiedPrepare { prepare, .. } => vec![*prepare],
        }
    }

    /// Checks two statements of one member of the epoch that contradict each other: the offence
    /// that every protocol knows.
    pub(crate) fn verify_double_vote(
        a: &SignedVote,
        b: &SignedVote,
        epoch: u64,
        committee: &Committee,
    ) -> Result<NodeId, InvalidEvidence> {
        if a.signer != b.signer {
            return Err(InvalidEvidence::TwoSigners);
        }
        if a.vote.position.epoch != epoch {
            return Err(InvalidEvidence::Epoch(a.vote.position.epoch));
        }
        if !committee.contains(&a.signer) {
            return Err(InvalidEvidence::NoMember(a.signer));
        }
        if !a.vote.contradicts(&b.vote) {
            return Err(InvalidEvidence::NoContradiction);
        }
        Ok(a.signer)
    }
}

/// The round in which, by a round change, a quorum had last prepared something.
pub(crate) fn prepared_round(change: &SignedVote) -> Option<u64> {
    let number = alloy_primitives::U256::from_be_bytes(change.vote.context.0);
    u64::try_from(number).ok()?.checked_sub(1)
}

/// Whether a commit and a round change of one member at one height contradict each other.
pub(crate) fn is_amnesia(commit: &SignedVote, change: &SignedVote) -> bool {
    let (at, later) = (commit.vote.position, change.vote.position);
    at.step == Step::Commit
        && later.step == Step::RoundChange
        && commit.signer == change.signer
        && (at.epoch, at.height) == (later.epoch, later.height)
        && later.round > at.round
        && prepared_round(change).is_none_or(|prepared| prepared < at.round)
}

/// Votes seen, for a window of heights: each new one is compared with those of the same member.
///
/// Bounded: by the window, and by the first vote at each position (a second one that differs is
/// evidence, and is not kept).
#[derive(Clone, Debug)]
pub struct Archive {
    window: u64,
    votes: BTreeMap<(Height, NodeId), ByPosition>,
}

/// Votes of one member at one height, by epoch, step and round.
type ByPosition = BTreeMap<(u64, Step, u64), SignedVote>;

/// Votes of one member at one height that are kept. The highest rounds give way, for a liar can vote
/// for rounds to come without end, and no decision waits for those; where there is no height, for
/// elections, the lowest of the first epoch, which are over.
const KEPT_PER_MEMBER: usize = 256;

impl Archive {
    /// Keeps votes for so many heights below the newest.
    pub fn new(window: u64) -> Self {
        Self { window, votes: BTreeMap::new() }
    }

    /// Compares a vote, whose signer has been recovered, with those seen; keeps it.
    pub fn note(&mut self, signed: &SignedVote) -> Option<Evidence> {
        let position = signed.vote.position;
        let mine = self.votes.entry((position.height, signed.signer)).or_default();
        let place = (position.epoch, position.step, position.round);
        if let Some(first) = mine.get(&place) {
            let contradicts = first.vote.contradicts(&signed.vote);
            return contradicts.then_some(Evidence::DoubleVote { a: *first, b: *signed });
        }
        mine.insert(place, *signed);
        if mine.len() > KEPT_PER_MEMBER {
            let round = |(epoch, _, round): &&(u64, Step, u64)| (*epoch, *round);
            let ends = (mine.keys().min_by_key(round), mine.keys().max_by_key(round));
            let (lowest, highest) = (*ends.0.expect("it has some"), *ends.1.expect("it has some"));
            mine.remove(if position.height.0 == 0 { &lowest } else { &highest });
        }
        mine.values().find_map(|other| {
            let (commit, change) =
                if position.step == Step::Commit { (signed, other) } else { (other, signed) };
            is_amnesia(commit, change)
                .then_some(Evidence::Amnesia { commit: *commit, change: *change })
        })
    }

    /// Whether this very vote with this very signature was seen: it need not be recovered again.
    pub fn has(&self, signed: &SignedVote) -> bool {
        let position = signed.vote.position;
        let place = (position.epoch, position.step, position.round);
        let mine = self.votes.get(&(position.height, signed.signer));
        mine.and_then(|mine| mine.get(&place)) == Some(signed)
    }

    /// Forgets heights that are more than the window below a finalised one. Statements about no
    /// height (elections) stay: they are few.
    pub fn prune(&mut self, finalized: Height) {
        let floor = Height(finalized.0.saturating_sub(self.window).max(1));
        self.votes.retain(|(height, _), _| *height >= floor || height.0 == 0);
    }

    /// The number of votes that are kept.
    pub fn len(&self) -> usize {
        self.votes.values().map(BTreeMap::len).sum()
    }

    /// Whether no vote was seen yet.
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }
}

/// The context of a round change: what it says of the round that was prepared.
pub(crate) fn prepared_context(round: Option<u64>) -> B256 {
    B256::from(alloy_primitives::U256::from(round.map_or(0, |round| round + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{Position, Signature, Vote};

    fn vote(step: Step, height: u64, round: u64, hash: u8) -> SignedVote {
        let position = Position { epoch: 0, step, height: Height(height), round };
        let vote = Vote { position, hash: B256::repeat_byte(hash), context: B256::ZERO };
        SignedVote { vote, signer: NodeId::ZERO, signature: Signature([0; 65]) }
    }

    #[test]
    fn a_liar_cannot_fill_its_place_with_votes_for_rounds_that_do_not_matter() {
        let mut archive = Archive::new(10);
        for round in 0..2 * KEPT_PER_MEMBER as u64 {
            assert_eq!(archive.note(&vote(Step::Prepare, 5, 1_000 + round, 1)), None);
        }
        assert_eq!(archive.len(), KEPT_PER_MEMBER);
        let [first, second] = [1, 2].map(|hash| vote(Step::Commit, 5, 0, hash));
        assert_eq!(archive.note(&first), None);
        let evidence = Evidence::DoubleVote { a: first, b: second };
        assert_eq!(archive.note(&second), Some(evidence));
        assert_eq!(archive.len(), KEPT_PER_MEMBER);
    }

    #[test]
    fn of_elections_the_last_terms_are_compared() {
        let mut archive = Archive::new(10);
        let last = 2 * KEPT_PER_MEMBER as u64;
        for term in 0..=last {
            assert_eq!(archive.note(&vote(Step::Grant, 0, term, 1)), None);
        }
        assert!(archive.note(&vote(Step::Grant, 0, last, 2)).is_some());
        assert_eq!(archive.len(), KEPT_PER_MEMBER);
    }
}
