//! Votes counted by signer: the first thing that everybody gets wrong is to count signatures.

use alloy_primitives::B256;
use landfall_types::{
    Certificate, Committee, NodeId, Position, SignedVote, SignerSignature, Vote, Weight,
};
use std::collections::BTreeMap;

/// The votes of one step, by what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    votes: BTreeMap<Vote, Vec<SignerSignature>>,
}

impl Tally {
    /// Counts a vote. One member may vote for several things, if it lies: each counts.
    pub fn insert(&mut self, signed: &SignedVote) {
        let entry = SignerSignature { signer: signed.signer, signature: signed.signature };
        let list = self.votes.entry(signed.vote).or_default();
        let known = |one: &SignerSignature| {
            if crate::planted!(VotesBySignature) {
                *one == entry
            } else {
                one.signer == entry.signer
            }
        };
        if !list.iter().any(known) {
            list.push(entry);
            list.sort_unstable_by_key(|one| one.signer);
        }
    }

    /// The weight of the members that said exactly this.
    pub fn weight(&self, vote: &Vote, committee: &Committee) -> Weight {
        let list = self.votes.get(vote).map(Vec::as_slice).unwrap_or_default();
        if crate::planted!(VotesBySignature) {
            return list.iter().map(|one| committee.weight_of(&one.signer)).sum();
        }
        committee.weight_of_all(list.iter().map(|one| &one.signer))
    }

    /// Whether members of a weight said exactly this.
    pub fn reaches(&self, vote: &Vote, committee: &Committee, quorum: Weight) -> bool {
        let less = u128::from(crate::planted!(QuorumOffByOne));
        self.weight(vote, committee).0 + less >= quorum.0
    }

    /// The first vote, in order of positions, that members of a weight support.
    pub fn decided(&self, committee: &Committee, quorum: Weight) -> Option<Vote> {
        self.votes.keys().find(|vote| self.reaches(vote, committee, quorum)).copied()
    }

    /// Everybody's signature under a vote.
    pub fn certificate(&self, vote: &Vote) -> Certificate {
        Certificate { vote: *vote, signatures: self.votes.get(vote).cloned().unwrap_or_default() }
    }

    /// Whether a member said exactly this.
    pub fn has(&self, vote: &Vote, signer: &NodeId) -> bool {
        self.votes.get(vote).is_some_and(|list| list.iter().any(|one| one.signer == *signer))
    }

    /// Everything that was said at positions that `keep` accepts stays.
    pub fn retain(&mut self, mut keep: impl FnMut(&Position, &B256) -> bool) {
        self.votes.retain(|vote, _| keep(&vote.position, &vote.hash));
    }

    /// Takes one member's vote back, for bounds.
    pub fn forget(&mut self, vote: &Vote, signer: &NodeId) {
        if let Some(list) = self.votes.get_mut(vote) {
            list.retain(|one| one.signer != *signer);
            if list.is_empty() {
                self.votes.remove(vote);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.votes.clear();
    }

    /// The number of different statements, for bounds.
    pub fn len(&self) -> usize {
        self.votes.len()
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }
}
