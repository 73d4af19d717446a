//! The commits of the parent: gathered while the height above it is open, carried by the block
//! that is made on it, and checked there.

use super::Turns;
use super::justification::ascending;
use crate::{FinalityProof, Tree, TreeBlock, planted};
use alloy_primitives::{B256, Bytes};
use alloy_rlp::Decodable;
use landfall_types::{Certificate, Epoch, NodeId, Signature, SignedVote, SignerSignature, Vote};
use std::collections::BTreeMap;

/// The certificate that a block's extension carries, if its data is one. The data of no other
/// protocol can be: it is shorter.
pub fn carried(mut data: &[u8]) -> Option<Certificate> {
    let certificate = Certificate::decode(&mut data).ok()?;
    data.is_empty().then_some(certificate)
}

/// Rule 11: what the data of a block must be that stands on `parent`. Signers have been recovered.
pub(super) fn check(epoch: &Epoch, parent: &TreeBlock, data: &[u8]) -> Result<(), &'static str> {
    if parent.height < epoch.first {
        let none = data.is_empty();
        return if none { Ok(()) } else { Err("the first block of an epoch has no certificate") };
    }
    let Some(certificate) = carried(data) else {
        return Err("the block does not carry the certificate of its parent");
    };
    if planted!(PbftCarriedUnchecked) {
        return Ok(());
    }
    let proof = FinalityProof { certificate };
    let context = proof.certificate.vote.context;
    if (proof.height(), proof.hash()) != (parent.height, parent.hash) || !context.is_zero() {
        return Err("the certificate that the block carries is not of its parent");
    }
    let mut signers = proof.certificate.signers();
    if !ascending(proof.certificate.signers()) || !signers.all(|signer| epoch.has_member(signer)) {
        return Err("the certificate that the block carries is not by members, in order");
    }
    let proven = landfall_light::verify_proof(epoch, &proof);
    proven.map(|_| ()).map_err(|_| "the certificate that the block carries is of no quorum")
}

/// What the last decided block means for the height above it.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    turns: Turns,
    /// `None` before the first block of an epoch.
    commits: Option<Commits>,
    /// What this node's block says, once it was asked for in this round: one that was asked for
    /// with other words would be begun anew.
    said: Option<Bytes>,
}

/// The commits of one block in one round, by members, one each.
#[derive(Clone, Debug)]
struct Commits {
    vote: Vote,
    by: BTreeMap<NodeId, Signature>,
}

impl Parent {
    /// From the proof that the block is final, if it is of this epoch. A proof that came from a
    /// peer may name strangers, and members twice.
    pub fn new(epoch: &Epoch, tree: &Tree, block: B256, proof: Option<&FinalityProof>) -> Self {
        let first = tree.height(&block) < epoch.first;
        assert!(first || proof.is_some(), "what is final in an epoch of PBFT has a proof");
        let commits = proof.filter(|_| !first).map(|proof| {
            let signatures = proof.certificate.signatures.iter();
            let members = signatures.filter(|one| epoch.has_member(&one.signer));
            let by = members.map(|one| (one.signer, one.signature)).collect();
            Commits { vote: proof.certificate.vote, by }
        });
        let turns = Turns::above(epoch, tree, block);
        let mut it = Self { turns, commits, said: None };
        if planted!(PbftTurnsByOwnView)
            && let Some(commits) = &it.commits
        {
            it.turns = Turns(commits.by.keys().copied().collect());
        }
        it
    }

    /// Who leads above the block.
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// A member's commit; it counts if it is of the block and of the round in which that was
    /// decided here.
    pub fn hear(&mut self, signed: &SignedVote) {
        if let Some(commits) = self.commits.as_mut().filter(|it| it.vote == signed.vote) {
            commits.by.entry(signed.signer).or_insert(signed.signature);
        }
    }

    /// A new round: a block that is made now says what is known now.
    pub fn enter_round(&mut self) {
        self.said = None;
    }

    /// The data of a block that is made on it.
    pub fn say(&mut self) -> Bytes {
        let Self { commits, said, .. } = self;
        let say = || commits.as_ref().map_or_else(Bytes::new, Commits::encode);
        said.get_or_insert_with(say).clone()
    }
}

impl Commits {
    fn encode(&self) -> Bytes {
        let one = |(signer, signature): (&NodeId, &Signature)| SignerSignature {
            signer: *signer,
            signature: *signature,
        };
        let signatures = self.by.iter().map(one).collect();
        alloy_rlp::encode(Certificate { vote: self.vote, signatures }).into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{certificate, epoch, member, name, signed, weighted};
    use super::*;
    use alloy_primitives::U256;
    use landfall_types::{Height, Step, Time};

    fn block(n: u8, height: u64) -> TreeBlock {
        TreeBlock {
            hash: name(n),
            parent: name(n - 1),
            height: Height(height),
            time: Time(height),
            epoch: 0,
            proposer: member(0),
            difficulty: U256::ZERO,
            data: Bytes::new(),
        }
    }

    fn refused(epoch: &Epoch, certificate: &Certificate) -> bool {
        check(epoch, &block(5, 5), &alloy_rlp::encode(certificate)).is_err()
    }

    #[test]
    fn a_block_carries_the_commits_of_its_parent_by_a_quorum_or_more() {
        for signers in [&[0, 1, 2][..], &[1, 2, 3], &[0, 1, 2, 3]] {
            assert!(!refused(&epoch(4), &certificate(Step::Commit, 5, 3, 5, signers)));
        }
        for (step, height, hash, signers) in [
            (Step::Commit, 5, 5, &[0, 1][..]),
            (Step::Commit, 5, 5, &[0, 1, 1]),
            (Step::Commit, 5, 5, &[0, 1, 2, 2]),
            (Step::Commit, 5, 5, &[2, 1, 0]),
            (Step::Commit, 5, 5, &[0, 1, 2, 8]),
            (Step::Commit, 5, 4, &[0, 1, 2]),
            (Step::Commit, 4, 5, &[0, 1, 2]),
            (Step::Prepare, 5, 5, &[0, 1, 2]),
        ] {
            let wrong = certificate(step, height, 0, hash, signers);
            assert!(refused(&epoch(4), &wrong), "{wrong:?}");
        }
        let good = || certificate(Step::Commit, 5, 0, 5, &[0, 1, 2]);
        let mut other = good();
        other.vote.position.epoch = 1;
        assert!(refused(&epoch(4), &other));
        let mut other = good();
        other.vote.context = name(1);
        assert!(refused(&epoch(4), &other));
        assert!(refused(&weighted(&[1, 1, 1, 5]), &good()), "3 of 8");
    }

    #[test]
    fn nothing_else_is_a_certificate_and_the_first_block_of_an_epoch_has_none() {
        let good = alloy_rlp::encode(certificate(Step::Commit, 5, 0, 5, &[0, 1, 2]));
        let at = |height, data: &[u8]| check(&epoch(4), &block(5, height), data);
        assert_eq!(at(5, &good), Ok(()));
        assert!(at(5, &[]).is_err());
        assert!(at(5, &[&good[..], &[0]].concat()).is_err());
        assert!(at(5, &good[..good.len() - 1]).is_err());
        assert_eq!(at(0, &[]), Ok(()));
        assert!(at(0, &alloy_rlp::encode(certificate(Step::Commit, 0, 0, 5, &[0, 1, 2]))).is_err());
        // The data of other protocols: a term, a template's number.
        assert_eq!(carried(&5_u64.to_be_bytes()), None);
        assert_eq!(carried(&[0xc7; 8]), None);
    }

    #[test]
    fn a_proof_of_a_peer_with_strangers_and_repetitions_becomes_a_certificate() {
        let epoch = epoch(4);
        let tree = Tree::new(block(5, 5));
        let proof = certificate(Step::Commit, 5, 2, 5, &[8, 3, 0, 3, 2]);
        let proof = FinalityProof { certificate: proof };
        let mut parent = Parent::new(&epoch, &tree, name(5), Some(&proof));
        assert_eq!(check(&epoch, &block(5, 5), &parent.say()), Ok(()));
        parent.enter_round();
        // Of another round, another block, and one that counts.
        for (round, hash) in [(1, 5), (2, 4), (2, 5)] {
            let certificate = carried(&parent.say()).unwrap();
            assert_eq!(certificate.signers().copied().collect::<Vec<_>>(), [0, 2, 3].map(member));
            parent.enter_round();
            parent.hear(&signed(1, Step::Commit, 5, round, hash));
        }
        let said = parent.say();
        assert_eq!(carried(&said).unwrap().signatures.len(), 4);
        assert_eq!(check(&epoch, &block(5, 5), &said), Ok(()));
    }

    #[test]
    fn what_was_asked_for_is_asked_for_again_in_its_round() {
        let proof = FinalityProof { certificate: certificate(Step::Commit, 5, 0, 5, &[0, 1, 2]) };
        let mut parent = Parent::new(&epoch(4), &Tree::new(block(5, 5)), name(5), Some(&proof));
        let first = parent.say();
        parent.hear(&signed(3, Step::Commit, 5, 0, 5));
        assert_eq!(parent.say(), first);
        parent.enter_round();
        assert_ne!(parent.say(), first);
    }
}
