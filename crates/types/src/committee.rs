//! Who votes in an epoch, and how much makes a quorum.

use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::{RlpDecodable, RlpDecodableWrapper, RlpEncodable, RlpEncodableWrapper};

/// A node: the address of the key that signs its votes.
pub type NodeId = Address;

/// Voting weight; sums stay far below 2^128.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    RlpEncodableWrapper,
    RlpDecodableWrapper,
)]
pub struct Weight(pub u128);

impl std::iter::Sum for Weight {
    fn sum<I: Iterator<Item = Self>>(weights: I) -> Self {
        Self(weights.map(|weight| weight.0).sum())
    }
}

/// One voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Member {
    /// Whose votes these are.
    pub id: NodeId,
    /// How much they weigh; at least 1.
    pub weight: Weight,
}

/// Why a list of members is no committee.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Nobody would decide.
    #[error("a committee needs at least one member")]
    Empty,
    /// One key, one vote.
    #[error("{0} is named twice in the committee")]
    Twice(NodeId),
    /// A member without a voice.
    #[error("{0} has no weight in the committee; leave it out")]
    Weightless(NodeId),
    /// Sums could overflow.
    #[error("{0} has a weight above 2^64")]
    TooHeavy(NodeId),
}

/// The voters of an epoch, ordered by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committee {
    members: Vec<Member>,
    total: Weight,
}

impl Committee {
    /// Orders and checks the members.
    pub fn new(mut members: Vec<Member>) -> Result<Self, CommitteeError> {
        members.sort_by_key(|member| member.id);
        if members.is_empty() {
            return Err(CommitteeError::Empty);
        }
        for pair in members.windows(2) {
            if pair[0].id == pair[1].id {
                return Err(CommitteeError::Twice(pair[0].id));
            }
        }
        for member in &members {
            if member.weight.0 == 0 {
                return Err(CommitteeError::Weightless(member.id));
            }
            if member.weight.0 > u128::from(u64::MAX) {
                return Err(CommitteeError::TooHeavy(member.id));
            }
        }
        let total = members.iter().map(|member| member.weight).sum();
        Ok(Self { members, total })
    }

    /// Members of weight 1.
    pub fn equal(ids: impl IntoIterator<Item = NodeId>) -> Result<Self, CommitteeError> {
        Self::new(ids.into_iter().map(|id| Member { id, weight: Weight(1) }).collect())
    }

    /// In order of addresses.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The number of members.
    #[allow(clippy::len_without_is_empty, reason = "a committee is never empty")]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// The place of a member in the order.
    pub fn index_of(&self, id: &NodeId) -> Option<usize> {
        self.members.binary_search_by_key(id, |member| member.id).ok()
    }

    /// Whether a node votes here.
    pub fn contains(&self, id: &NodeId) -> bool {
        self.index_of(id).is_some()
    }

    /// The weight of a member; zero for anybody else.
    pub fn weight_of(&self, id: &NodeId) -> Weight {
        self.index_of(id).map_or(Weight(0), |index| self.members[index].weight)
    }

    /// The weight of distinct members among `ids`, however often each is named.
    pub fn weight_of_all<'a>(&self, ids: impl IntoIterator<Item = &'a NodeId>) -> Weight {
        let mut counted = vec![false; self.members.len()];
        let mut total = 0;
        for index in ids.into_iter().filter_map(|id| self.index_of(id)) {
            if !std::mem::replace(&mut counted[index], true) {
                total += self.members[index].weight.0;
            }
        }
        Weight(total)
    }

    /// The weight of all.
    pub fn total(&self) -> Weight {
        self.total
    }

    /// `W/2 + 1`: two of these share a member.
    pub fn majority(&self) -> Weight {
        Weight(self.total.0 / 2 + 1)
    }

    /// `ceil(2W/3)`: two of these share a member that is honest, if less than a third lies.
    pub fn byzantine_quorum(&self) -> Weight {
        Weight((2 * self.total.0).div_ceil(3))
    }

    /// `ceil(W/3)`: an honest member is among these, if less than a third lies.
    pub fn honest_minimum(&self) -> Weight {
        Weight(self.total.0.div_ceil(3))
    }

    /// Names the committee: keccak of the RLP of its members.
    pub fn hash(&self) -> B256 {
        keccak256(alloy_rlp::encode(&self.members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committee(weights: &[u128]) -> Committee {
        let member = |(n, weight): (u8, &u128)| Member {
            id: Address::repeat_byte(n),
            weight: Weight(*weight),
        };
        Committee::new((1..).zip(weights).map(member).collect()).unwrap()
    }

    #[test]
    fn quorums_intersect_in_an_honest_member_and_can_be_met_without_the_liars() {
        for n in 1..200 {
            let all = committee(&vec![1; n]);
            let total = n as u128;
            let liars = (total - 1) / 3;
            assert!(2 * all.byzantine_quorum().0 - total > liars);
            assert!(all.byzantine_quorum().0 <= total - liars);
            assert!(all.honest_minimum().0 > liars);
            assert!(2 * all.majority().0 > total);
        }
    }

    #[test]
    fn weight_counts_members_and_not_names() {
        let committee = committee(&[5, 1, 1]);
        let (heavy, light) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let stranger = Address::repeat_byte(9);
        let named = [heavy, light, light, light, stranger];
        assert_eq!(committee.weight_of_all(&named), Weight(6));
        assert_eq!(committee.weight_of(&stranger), Weight(0));
    }

    #[test]
    fn bad_lists_are_named() {
        let id = Address::repeat_byte(1);
        assert_eq!(Committee::new(vec![]), Err(CommitteeError::Empty));
        assert_eq!(Committee::equal([id, id]), Err(CommitteeError::Twice(id)));
        let none = Member { id, weight: Weight(0) };
        assert_eq!(Committee::new(vec![none]), Err(CommitteeError::Weightless(id)));
    }
}
