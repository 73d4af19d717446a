//! Why a block may be proposed in a round: PBFT's new-view message, checked.
//!
//! [`Justification::binds`] is a pure function of the epoch, the height, the round and the
//! justification: whoever holds a prepare and the justification whose digest it names can judge
//! the signer, and gets the same answer as the signer did.

use super::MAX_ROUND;
use crate::evidence::prepared_round;
use alloy_primitives::{B256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use landfall_types::{Certificate, Epoch, Height, NodeId, Position, SignedVote, Step};

/// What a proposal comes with; empty in round 0.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
#[rlp(trailing)]
pub struct Justification {
    /// The round changes of a quorum to the round of the proposal, in order of signers.
    pub round_changes: Vec<SignedVote>,
    /// The prepares of a quorum, if one of the round changes names a prepared block: those of the
    /// latest round that is named.
    pub prepared: Option<Certificate>,
}

impl Justification {
    /// That of a proposal in round 0.
    pub fn empty() -> Self {
        Self { round_changes: Vec::new(), prepared: None }
    }

    /// What votes name it by.
    pub fn digest(&self) -> B256 {
        keccak256(alloy_rlp::encode(self))
    }

    /// The number of votes inside.
    pub(super) fn size(&self) -> usize {
        self.round_changes.len() + self.prepared.as_ref().map_or(0, |it| it.signatures.len())
    }

    /// Every signed vote inside.
    pub fn votes(&self) -> Vec<SignedVote> {
        let prepares = self.prepared.iter().flat_map(Certificate::votes);
        self.round_changes.iter().copied().chain(prepares).collect()
    }

    /// Which block it binds a proposal of this round to; `None` if any will do. An error says why
    /// it justifies nothing.
    pub(crate) fn binds(
        &self,
        epoch: &Epoch,
        height: Height,
        round: u64,
    ) -> Result<Option<B256>, &'static str> {
        if round == 0 {
            let empty = self.round_changes.is_empty() && self.prepared.is_none();
            return if empty { Ok(None) } else { Err("round 0 needs no justification") };
        }
        if round > MAX_ROUND {
            return Err("no honest member gets to such a round");
        }
        let quorum = epoch.committee.byzantine_quorum();
        let signers = || self.round_changes.iter().map(|change| &change.signer);
        if !ascending(signers()) || epoch.committee.weight_of_all(signers()) < quorum {
            return Err("the round changes are not those of a quorum, in order");
        }
        let mut latest: Option<(u64, B256)> = None;
        for change in &self.round_changes {
            if !epoch.has_member(&change.signer) {
                return Err("a round change is by a stranger");
            }
            let Some(prepared) = claim(epoch, height, round, change)? else { continue };
            if latest.is_some_and(|seen| seen.0 == prepared.0 && seen.1 != prepared.1) {
                return Err("two blocks are said to be prepared in one round");
            }
            latest = latest.max(Some(prepared));
        }
        match (latest, &self.prepared) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err("a certificate that no round change names"),
            (Some(_), None) => Err("the certificate of the prepared block is missing"),
            (Some((at, hash)), Some(certificate)) => {
                let named = certificate.vote.position.round == at && certificate.vote.hash == hash;
                if !named || !is_prepared(epoch, height, certificate) {
                    return Err("the certificate is not that of the block prepared last");
                }
                Ok(Some(hash))
            }
        }
    }

    /// Whether a block may be proposed with it.
    pub(crate) fn allows(&self, epoch: &Epoch, height: Height, round: u64, hash: B256) -> bool {
        self.binds(epoch, height, round).is_ok_and(|bound| bound.is_none_or(|only| only == hash))
    }
}

/// What a round change to this round says was prepared: the round and the block.
pub(super) fn claim(
    epoch: &Epoch,
    height: Height,
    round: u64,
    change: &SignedVote,
) -> Result<Option<(u64, B256)>, &'static str> {
    let place = Position { epoch: epoch.number, step: Step::RoundChange, height, round };
    if change.vote.position != place {
        return Err("a round change is to another round");
    }
    if change.vote.context.is_zero() && change.vote.hash.is_zero() {
        return Ok(None);
    }
    match prepared_round(change) {
        Some(prepared) if prepared < round => Ok(Some((prepared, change.vote.hash))),
        _ => Err("a round change names no earlier round"),
    }
}

/// Whether a certificate holds the prepares of a quorum at a height.
pub(super) fn is_prepared(epoch: &Epoch, height: Height, certificate: &Certificate) -> bool {
    let round = certificate.vote.position.round;
    certificate.vote.position
        == (Position { epoch: epoch.number, step: Step::Prepare, height, round })
        && ascending(certificate.signers())
        && certificate.signers().all(|signer| epoch.has_member(signer))
        && epoch.committee.weight_of_all(certificate.signers())
            >= epoch.committee.byzantine_quorum()
}

/// Each once and in order, so that there is one way to write a set, and its size is bounded.
pub(super) fn ascending<'a>(signers: impl Iterator<Item = &'a NodeId>) -> bool {
    signers.is_sorted_by(|a, b| a < b)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{certificate, epoch, name, round_change, weighted};
    use super::*;

    const HEIGHT: Height = Height(5);

    fn justified(claims: &[Option<(u8, u64)>], prepared: Option<Certificate>) -> Justification {
        let change = |(n, claim)| round_change(n, 5, 3, claim);
        let round_changes = (0..).zip(claims.iter().copied()).map(change).collect();
        Justification { round_changes, prepared }
    }

    fn prepared(round: u64, block: u8) -> Option<Certificate> {
        Some(certificate(Step::Prepare, 5, round, block, &[0, 2, 3]))
    }

    #[test]
    fn a_quorum_without_anything_prepared_leaves_the_choice_free() {
        let free = justified(&[None, None, None], None);
        assert_eq!(free.binds(&epoch(4), HEIGHT, 3), Ok(None));
        assert!(free.allows(&epoch(4), HEIGHT, 3, name(77)));
    }

    #[test]
    fn the_block_prepared_last_binds_and_needs_its_certificate() {
        let claims = [Some((7, 0)), Some((9, 2)), None];
        let bound = justified(&claims, prepared(2, 9));
        assert_eq!(bound.binds(&epoch(4), HEIGHT, 3), Ok(Some(name(9))));
        assert!(!bound.allows(&epoch(4), HEIGHT, 3, name(7)));
        for wrong in [
            None,
            prepared(0, 7),
            prepared(2, 7),
            prepared(1, 9),
            Some(certificate(Step::Prepare, 5, 2, 9, &[0, 2])),
            Some(certificate(Step::Prepare, 4, 2, 9, &[0, 2, 3])),
            Some(certificate(Step::Commit, 5, 2, 9, &[0, 2, 3])),
            Some(certificate(Step::Prepare, 5, 2, 9, &[0, 2, 2])),
            Some(certificate(Step::Prepare, 5, 2, 9, &[3, 2, 0])),
            Some(certificate(Step::Prepare, 5, 2, 9, &[0, 2, 3, 8])),
        ] {
            assert!(justified(&claims, wrong).binds(&epoch(4), HEIGHT, 3).is_err());
        }
        assert!(justified(&[None; 3], prepared(2, 9)).binds(&epoch(4), HEIGHT, 3).is_err());
    }

    #[test]
    fn round_changes_count_once_for_this_height_and_round_and_by_members_only() {
        let epoch = epoch(4);
        let good = justified(&[None; 3], None);
        assert!(good.binds(&epoch, Height(6), 3).is_err());
        assert!(good.binds(&epoch, HEIGHT, 2).is_err());
        assert!(good.binds(&epoch, HEIGHT, 0).is_err());
        assert!(justified(&[None; 2], None).binds(&epoch, HEIGHT, 3).is_err());
        let mut twice = good.clone();
        twice.round_changes[2] = twice.round_changes[1];
        assert!(twice.binds(&epoch, HEIGHT, 3).is_err());
        let mut stranger = good.clone();
        stranger.round_changes.push(round_change(8, 5, 3, None));
        assert!(stranger.binds(&epoch, HEIGHT, 3).is_err());
        let mut unordered = good;
        unordered.round_changes.reverse();
        assert!(unordered.binds(&epoch, HEIGHT, 3).is_err());
    }

    #[test]
    fn refuses_a_claim_of_this_round_or_a_later_one_and_two_blocks_of_one_round() {
        let late = justified(&[None, None, Some((9, 3))], prepared(3, 9));
        assert!(late.binds(&epoch(4), HEIGHT, 3).is_err());
        let torn = justified(&[None, Some((7, 2)), Some((9, 2))], prepared(2, 9));
        assert!(torn.binds(&epoch(4), HEIGHT, 3).is_err());
    }

    #[test]
    fn round_zero_takes_the_empty_justification_only() {
        assert_eq!(Justification::empty().binds(&epoch(4), HEIGHT, 0), Ok(None));
        assert!(Justification::empty().binds(&epoch(4), HEIGHT, 1).is_err());
        let more = Justification { round_changes: vec![], prepared: prepared(0, 9) };
        assert!(more.binds(&epoch(4), HEIGHT, 0).is_err());
    }

    #[test]
    fn weights_count_and_heads_do_not() {
        // 5 of 8 is short of ceil(16/3) = 6.
        let epoch = weighted(&[5, 1, 1, 1]);
        assert!(justified(&[None], None).binds(&epoch, HEIGHT, 3).is_err());
        assert_eq!(justified(&[None, None], None).binds(&epoch, HEIGHT, 3), Ok(None));
        let mut light = justified(&[None; 4], None);
        light.round_changes.remove(0);
        assert!(light.binds(&epoch, HEIGHT, 3).is_err());
    }
}
