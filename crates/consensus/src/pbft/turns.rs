//! Whose turn it is: the members in order of addresses, without those that seem to be dead.
//!
//! Judged by what the chain holds and by nothing that a node has seen itself, so that all who
//! stand on one block agree on every leader above it.

use super::parent::carried;
use crate::Tree;
use alloy_primitives::B256;
use landfall_types::{Epoch, Height, NodeId};
use std::collections::BTreeSet;

/// The blocks whose certificates say who is alive: two turns of everybody. A tree must hold so
/// many, the finalised block among them, of a committee of so many members.
pub fn window(members: usize) -> u64 {
    2 * members as u64
}

/// Who leads the rounds of the height above a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns(pub(super) Vec<NodeId>);

impl Turns {
    /// Those whose commit is in a certificate that one of the last blocks of the epoch, this one
    /// included, carries for its parent. While these blocks are fewer than [`window`], everybody.
    ///
    /// # Panics
    /// If the tree does not reach down by the window, or holds a block of the epoch that its rules
    /// forbid.
    pub fn above(epoch: &Epoch, tree: &Tree, block: B256) -> Self {
        let all = || epoch.committee.members().iter().map(|member| member.id);
        let window = window(epoch.committee.len());
        let mut at = tree.block(&block);
        // The first block of an epoch carries no certificate.
        if at.height.0.saturating_sub(epoch.first.0) < window {
            return Self(all().collect());
        }
        let mut alive = BTreeSet::new();
        for left in (0..window).rev() {
            let certificate = carried(&at.data);
            let certificate = certificate.expect("a block carries the commits of its parent");
            alive.extend(certificate.signers().copied());
            if alive.len() == epoch.committee.len() || left == 0 {
                break;
            }
            at = tree.block(&at.parent);
        }
        let alive: Vec<NodeId> = all().filter(|id| alive.contains(id)).collect();
        assert!(!alive.is_empty(), "a certificate is signed by members of a quorum");
        Self(alive)
    }

    /// The leader of a round of this height.
    pub fn leader(&self, height: Height, round: u64) -> NodeId {
        let turn = height.0.wrapping_add(round) % self.0.len() as u64;
        self.0[usize::try_from(turn).expect("below the number of members")]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{certificate, epoch, member, name};
    use super::*;
    use crate::TreeBlock;
    use alloy_primitives::{Bytes, U256};
    use landfall_types::{Step, Time};

    const ALL: &[u8] = &[0, 1, 2, 3];
    const WITHOUT_3: &[u8] = &[0, 1, 2];

    /// Blocks `first - 1` and up: the first two carry nothing, each other the commits of these.
    fn chain(first: u64, committed: &[&[u8]]) -> (Epoch, Tree, Vec<B256>) {
        let mut epoch = epoch(4);
        (epoch.first, epoch.last) = (Height(first), Height(first + 100));
        let none = [None, None];
        let carried = none.into_iter().chain(committed.iter().map(|signers| Some(*signers)));
        let (mut tree, mut hashes): (Option<Tree>, Vec<B256>) = (None, Vec::new());
        for (n, signers) in (0..).zip(carried) {
            let height = first - 1 + n;
            let certify = |signers| certificate(Step::Commit, height - 1, 0, n as u8 - 1, signers);
            let data = signers.map(|it| alloy_rlp::encode(certify(it))).unwrap_or_default();
            let block = TreeBlock {
                hash: name(n as u8),
                parent: hashes.last().copied().unwrap_or_default(),
                height: Height(height),
                time: Time(height),
                epoch: 0,
                proposer: member(0),
                difficulty: U256::ZERO,
                data: Bytes::from(data),
            };
            hashes.push(block.hash);
            match &mut tree {
                None => tree = Some(Tree::new(block)),
                Some(tree) => tree.insert(block),
            }
        }
        (epoch, tree.unwrap(), hashes)
    }

    /// Who leads above the last block.
    fn alive(first: u64, committed: &[&[u8]]) -> Vec<u8> {
        let (epoch, tree, hashes) = chain(first, committed);
        let turns = Turns::above(&epoch, &tree, *hashes.last().unwrap());
        (0..4).filter(|n| turns.0.contains(&member(*n))).collect()
    }

    #[test]
    fn a_member_is_passed_over_when_two_rounds_of_blocks_hold_no_commit_of_it() {
        let silent = [WITHOUT_3; 8];
        assert_eq!(alive(1, &silent), WITHOUT_3);
        assert_eq!(alive(1, &[&[ALL][..], &silent].concat()), WITHOUT_3);
        assert_eq!(alive(1, &[&[ALL][..], &silent[1..]].concat()), ALL, "one was in the first");
        // Whatever others leave out: one block that says so is enough, wherever it stands.
        for place in 0..8 {
            let mut heard = silent;
            heard[place] = &[1, 2, 3];
            assert_eq!(alive(1, &heard), ALL, "block {place}");
        }
    }

    #[test]
    fn a_member_leads_again_as_soon_as_a_block_holds_a_commit_of_it() {
        assert_eq!(alive(1, &[&[WITHOUT_3; 9][..], &[ALL]].concat()), ALL);
    }

    #[test]
    fn an_epoch_begins_with_all_its_members() {
        for (first, blocks) in [(1, 0), (1, 7), (500, 0), (500, 7)] {
            assert_eq!(alive(first, &[WITHOUT_3; 7][..blocks]), ALL, "{blocks} from {first}");
        }
        assert_eq!(alive(500, &[WITHOUT_3; 8]), WITHOUT_3);
        // Above the block before its first, too, which is of another protocol.
        let (epoch, tree, hashes) = chain(500, &[]);
        assert_eq!(Turns::above(&epoch, &tree, hashes[0]).0.len(), 4);
    }

    #[test]
    fn the_members_that_are_left_take_turns_in_order() {
        let (epoch, tree, hashes) = chain(1, &[&[0, 1, 3][..]; 8]);
        let turns = Turns::above(&epoch, &tree, *hashes.last().unwrap());
        let led = |height, round| turns.leader(Height(height), round);
        assert_eq!([0, 1, 2, 3].map(|round| led(9, round)), [0, 1, 3, 0].map(member));
        assert_eq!(led(10, 0), member(1));
        assert_eq!(led(u64::MAX, 1), member(0), "it wraps");
    }

    #[test]
    fn what_lies_below_the_window_is_not_needed() {
        let (epoch, mut tree, hashes) = chain(1, &[WITHOUT_3; 12]);
        let last = *hashes.last().unwrap();
        tree.prune(last, window(4) - 1);
        assert_eq!(Turns::above(&epoch, &tree, last).0.len(), 3);
    }
}
