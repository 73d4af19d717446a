//! What has been heard at the open height, within bounds that no liar can stretch.

use super::Justification;
use crate::Tally;
use alloy_primitives::B256;
use landfall_types::{Certificate, Committee, Height, NodeId, SignedVote, Vote, Weight};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Rounds of a member whose vote of one step is kept: the highest.
const KEPT_ROUNDS: usize = 5;
/// Justifications of one sender that are kept: the newest.
const KEPT_JUSTIFICATIONS: usize = 3;

/// The votes of one step. Of each member and round the first statement counts; a second one is a
/// lie, which the replica's archive reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    tally: Tally,
    said: BTreeMap<NodeId, BTreeMap<u64, SignedVote>>,
}

impl Votes {
    pub(super) fn insert(&mut self, signed: &SignedVote) {
        let rounds = self.said.entry(signed.signer).or_default();
        let round = signed.vote.position.round;
        match rounds.get(&round) {
            Some(first) if first.vote != signed.vote => return,
            Some(_) => {}
            None => {
                if rounds.len() == KEPT_ROUNDS {
                    let oldest = rounds.first_entry().expect("there are some");
                    if *oldest.key() > round {
                        return;
                    }
                    self.tally.forget(&oldest.remove().vote, &signed.signer);
                }
                rounds.insert(round, *signed);
            }
        }
        self.tally.insert(signed);
    }

    pub(super) fn reaches(&self, vote: &Vote, committee: &Committee, quorum: Weight) -> bool {
        self.tally.reaches(vote, committee, quorum)
    }

    pub(super) fn decided(&self, committee: &Committee, quorum: Weight) -> Option<Vote> {
        self.tally.decided(committee, quorum)
    }

    pub(super) fn certificate(&self, vote: &Vote) -> Certificate {
        self.tally.certificate(vote)
    }

    /// The votes with a context.
    pub(super) fn with_context(&self, context: B256) -> Vec<SignedVote> {
        let all = self.said.values().flat_map(BTreeMap::values);
        all.filter(|signed| signed.vote.context == context).copied().collect()
    }
}

/// In which round each member is at least: every vote of round r says so for all rounds up to r.
#[derive(Clone, Debug, Default)]
pub(super) struct Rounds(BTreeMap<NodeId, u64>);

impl Rounds {
    pub(super) fn note(&mut self, member: NodeId, round: u64) {
        let at = self.0.entry(member).or_default();
        *at = round.max(*at);
    }

    /// The weight of the members in this round or above.
    pub(super) fn weight_from(&self, round: u64, committee: &Committee) -> Weight {
        committee.weight_of_all(self.0.iter().filter(|(_, at)| **at >= round).map(|(id, _)| id))
    }

    /// The highest round above a floor that members of a weight have reached.
    pub(super) fn reached_by(
        &self,
        weight: Weight,
        committee: &Committee,
        floor: u64,
    ) -> Option<u64> {
        let above = self.0.iter().filter(|(_, at)| **at > floor);
        let mut rounds: Vec<(u64, &NodeId)> = above.map(|(id, at)| (*at, id)).collect();
        rounds.sort_unstable();
        let mut sum = 0;
        for (round, id) in rounds.into_iter().rev() {
            sum += committee.weight_of(id).0;
            if sum >= weight.0 {
                return Some(round);
            }
        }
        None
    }
}

/// The justifications of proposals, by digest: what prepares are judged by.
#[derive(Clone, Debug)]
pub(super) struct Justifications {
    /// That of round 0, which everybody knows.
    empty: (B256, Justification),
    by_sender: BTreeMap<NodeId, VecDeque<(B256, Justification)>>,
    reported: BTreeSet<NodeId>,
}

impl Justifications {
    pub(super) fn new() -> Self {
        let empty = Justification::empty();
        Self {
            empty: (empty.digest(), empty),
            by_sender: BTreeMap::new(),
            reported: BTreeSet::new(),
        }
    }

    /// Keeps one; says whether it is new.
    pub(super) fn keep(&mut self, from: NodeId, digest: B256, it: &Justification) -> bool {
        if self.get(digest).is_some() {
            return false;
        }
        let kept = self.by_sender.entry(from).or_default();
        if kept.len() == KEPT_JUSTIFICATIONS {
            kept.pop_front();
        }
        kept.push_back((digest, it.clone()));
        true
    }

    fn get(&self, digest: B256) -> Option<&Justification> {
        let mut all = self.by_sender.values().flatten().chain([&self.empty]);
        all.find(|kept| kept.0 == digest).map(|kept| &kept.1)
    }

    /// The justification that a prepare names, if it is at hand and does not allow the block.
    /// Each member is accused once a height.
    pub(super) fn convicts(
        &mut self,
        epoch: &landfall_types::Epoch,
        height: Height,
        prepare: &SignedVote,
    ) -> Option<Justification> {
        let place = prepare.vote.position;
        if place.epoch != epoch.number || place.height != height {
            return None;
        }
        if !epoch.has_member(&prepare.signer) || self.reported.contains(&prepare.signer) {
            return None;
        }
        let found = self.get(prepare.vote.context)?;
        if found.allows(epoch, height, place.round, prepare.vote.hash) {
            return None;
        }
        let found = found.clone();
        self.reported.insert(prepare.signer);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{epoch, member, name, signed};
    use super::*;
    use landfall_types::Step;

    #[test]
    fn a_member_that_says_two_things_counts_for_the_first() {
        let committee = epoch(4).committee;
        let (one, other) = (signed(0, Step::Commit, 5, 0, 1), signed(0, Step::Commit, 5, 0, 2));
        let mut votes = Votes::default();
        for vote in [one, other, other, one] {
            votes.insert(&vote);
        }
        assert!(votes.reaches(&one.vote, &committee, Weight(1)));
        assert!(!votes.reaches(&other.vote, &committee, Weight(1)));
        assert_eq!(votes.decided(&committee, Weight(1)), Some(one.vote));
    }

    #[test]
    fn spam_of_rounds_pushes_out_the_spammers_own_oldest_votes_and_nobody_elses() {
        let committee = epoch(4).committee;
        let mut votes = Votes::default();
        let honest = signed(1, Step::Commit, 5, 0, 1);
        votes.insert(&honest);
        for round in 0..1_000 {
            votes.insert(&signed(0, Step::Commit, 5, round, 1));
        }
        assert_eq!(votes.said[&member(0)].len(), KEPT_ROUNDS);
        assert!(votes.tally.len() <= KEPT_ROUNDS + 1);
        assert!(votes.reaches(&honest.vote, &committee, Weight(1)));
        assert!(!votes.reaches(&honest.vote, &committee, Weight(2)));
        votes.insert(&signed(0, Step::Commit, 5, 3, 1));
        assert!(!votes.said[&member(0)].contains_key(&3));
    }

    #[test]
    fn a_round_counts_for_all_below_it() {
        let committee = epoch(4).committee;
        let mut rounds = Rounds::default();
        for (n, round) in [(0, 9), (1, 4), (2, 6)] {
            rounds.note(member(n), round);
        }
        rounds.note(member(0), 2);
        assert_eq!(rounds.reached_by(Weight(1), &committee, 0), Some(9));
        assert_eq!(rounds.reached_by(Weight(2), &committee, 0), Some(6));
        assert_eq!(rounds.reached_by(Weight(3), &committee, 0), Some(4));
        assert_eq!(rounds.reached_by(Weight(4), &committee, 0), None);
        assert_eq!(rounds.reached_by(Weight(2), &committee, 5), Some(6));
        assert_eq!(rounds.reached_by(Weight(2), &committee, 6), None);
        assert_eq!(rounds.weight_from(5, &committee), Weight(2));
    }

    #[test]
    fn justifications_are_bounded_by_sender() {
        let mut known = Justifications::new();
        for n in 0..100 {
            let it = Justification {
                round_changes: vec![signed(0, Step::RoundChange, 5, n, 0)],
                prepared: None,
            };
            assert!(known.keep(member(0), name(n as u8), &it));
            assert!(!known.keep(member(1), name(n as u8), &it));
        }
        assert_eq!(known.by_sender[&member(0)].len(), KEPT_JUSTIFICATIONS);
        assert!(!known.by_sender.contains_key(&member(1)));
    }
}
