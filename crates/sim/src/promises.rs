//! What a node has promised with its votes, over all its lives: the checks that see the most.

use crate::checker::Broken;
use alloy_primitives::{B256, U256};
use landfall_types::{Height, NodeId, Position, Step, Vote};
use std::collections::{BTreeMap, BTreeSet};

/// A node at a height of an epoch.
type Place = (NodeId, u64, Height);

/// See the module.
#[derive(Default)]
pub(crate) struct Promises {
    said: BTreeMap<(NodeId, Position), (B256, B256)>,
    /// The highest round of a commit.
    committed: BTreeMap<Place, u64>,
    /// The highest round change, and the round of what it says was prepared.
    changed: BTreeMap<Place, (u64, Option<u64>)>,
    /// What honest nodes committed in a round: a quorum prepared it.
    prepared: BTreeMap<(u64, Height, u64), B256>,
    /// The highest term in which a node voted.
    granted: BTreeMap<(NodeId, u64), u64>,
    rounds: BTreeSet<(u64, Height, u64, bool)>,
}

impl Promises {
    /// Whether a vote is the first of a round above 0, or of a term.
    pub fn is_new_round(&mut self, vote: &Vote) -> bool {
        let Position { epoch, step, height, round } = vote.position;
        matches!(step, Step::RoundChange | Step::Grant)
            && self.rounds.insert((epoch, height, round, step == Step::Grant))
    }

    /// Compares a vote with all that its signer said before.
    pub fn note(&mut self, who: NodeId, vote: &Vote) -> Result<(), Broken> {
        let said = (vote.hash, vote.context);
        let first = *self.said.entry((who, vote.position)).or_insert(said);
        if first != said {
            let what = format!("{who} contradicts itself: {first:?}, then {vote:?}");
            return Err(("S6", what));
        }
        let Position { epoch, step, height, round } = vote.position;
        let place = (who, epoch, height);
        match step {
            Step::Commit => self.note_commit(place, round, vote.hash),
            Step::RoundChange => self.note_change(place, round, prepared_round(vote)),
            Step::Grant => {
                let granted = self.granted.entry((who, epoch)).or_default();
                *granted = round.max(*granted);
                Ok(())
            }
            Step::Ack => {
                let granted = self.granted.get(&(who, epoch)).copied().unwrap_or_default();
                if round < granted {
                    let what =
                        format!("{who} acknowledges term {round} after it voted in {granted}");
                    return Err(("S10", what));
                }
                Ok(())
            }
            Step::Proposal | Step::Prepare => Ok(()),
        }
    }

    fn note_commit(&mut self, place: Place, round: u64, hash: B256) -> Result<(), Broken> {
        let (who, epoch, height) = place;
        let first = *self.prepared.entry((epoch, height, round)).or_insert(hash);
        if first != hash {
            let what = format!("height {height}, round {round}: {first} and {hash} are prepared");
            return Err(("S10", what));
        }
        let committed = self.committed.entry(place).or_insert(round);
        *committed = round.max(*committed);
        if let Some((later, prepared)) = self.changed.get(&place)
            && *later > round
            && prepared.is_none_or(|prepared| prepared < round)
        {
            let what = format!(
                "{who} commits round {round} at height {height}, having left it for {later}"
            );
            return Err(("S6", what));
        }
        Ok(())
    }

    fn note_change(
        &mut self,
        place: Place,
        round: u64,
        prepared: Option<u64>,
    ) -> Result<(), Broken> {
        let (who, _, height) = place;
        if let Some(committed) = self.committed.get(&place)
            && round > *committed
            && prepared.is_none_or(|prepared| prepared < *committed)
        {
            let what = format!(
                "amnesia: {who} committed round {committed} at height {height} and moves to \
                 {round} knowing of {prepared:?}"
            );
            return Err(("S6", what));
        }
        let (last, known) = *self.changed.entry(place).or_insert((round, prepared));
        if round > last {
            if prepared < known {
                let what = format!(
                    "{who} knew of round {known:?} at height {height} and now of {prepared:?}"
                );
                return Err(("S10", what));
            }
            self.changed.insert(place, (round, prepared));
        }
        Ok(())
    }
}

/// The round that a round change says was prepared.
fn prepared_round(vote: &Vote) -> Option<u64> {
    let number = U256::from_be_bytes(vote.context.0);
    u64::try_from(number).ok().and_then(|number| number.checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(step: Step, round: u64, hash: u8, context: u64) -> Vote {
        let position = Position { epoch: 0, step, height: Height(3), round };
        let context = B256::from(U256::from(context));
        Vote { position, hash: B256::repeat_byte(hash), context }
    }

    fn first_broken(votes: &[Vote]) -> Option<&'static str> {
        let mut promises = Promises::default();
        votes.iter().find_map(|vote| promises.note(NodeId::ZERO, vote).err()).map(|it| it.0)
    }

    #[test]
    fn two_digests_at_one_position_are_seen_and_a_repetition_is_not() {
        let (a, b) = (vote(Step::Prepare, 0, 1, 0), vote(Step::Prepare, 0, 2, 0));
        assert_eq!(first_broken(&[a, a, vote(Step::Prepare, 1, 2, 0)]), None);
        assert_eq!(first_broken(&[a, b]), Some("S6"));
        assert_eq!(first_broken(&[a, vote(Step::Prepare, 0, 1, 9)]), Some("S6"));
    }

    #[test]
    fn amnesia_is_seen_in_either_order() {
        let commit = vote(Step::Commit, 2, 1, 0);
        let knows = vote(Step::RoundChange, 3, 1, 3);
        let forgot = vote(Step::RoundChange, 3, 1, 2);
        assert_eq!(first_broken(&[commit, knows]), None);
        assert_eq!(first_broken(&[commit, forgot]), Some("S6"));
        assert_eq!(first_broken(&[forgot, commit]), Some("S6"));
    }

    #[test]
    fn what_is_prepared_never_goes_back() {
        let first = vote(Step::RoundChange, 3, 1, 3);
        assert_eq!(first_broken(&[first, vote(Step::RoundChange, 4, 1, 3)]), None);
        assert_eq!(first_broken(&[first, vote(Step::RoundChange, 4, 0, 0)]), Some("S10"));
    }

    #[test]
    fn a_term_that_was_left_is_not_acknowledged() {
        let (grant, ack) = (vote(Step::Grant, 5, 1, 0), vote(Step::Ack, 5, 1, 0));
        assert_eq!(first_broken(&[grant, ack]), None);
        assert_eq!(first_broken(&[grant, vote(Step::Ack, 4, 1, 0)]), Some("S10"));
    }
}
