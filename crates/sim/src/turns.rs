//! Whose turn it was in PBFT: every final block once more, from the blocks alone and in another way
//! than the engine does it.

use crate::checker::{Broken, Checker};
use crate::keys::HistorySigner;
use landfall_chain::StoredBlock;
use landfall_replica::Signer;
use landfall_types::{Certificate, Epoch, Extension, Kind, NodeId, Step};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A block of PBFT, and what it says of its parent.
struct Made {
    number: u64,
    hash: alloy_primitives::B256,
    extension: Extension,
    certificate: Option<Certificate>,
}

impl Checker {
    /// Every block was made by a member that had a turn at its height, in the rounds up to the one
    /// that decided it; and carries the commits of a quorum for its parent.
    pub(crate) fn check_turns(
        &self,
        blocks: &[Arc<StoredBlock>],
        signer: &HistorySigner,
    ) -> Result<(), Broken> {
        let mut made = Vec::new();
        for stored in blocks {
            let block = &stored.block;
            let extension = Extension::from_bytes(&block.extension);
            let extension = extension.map_err(|error| ("S4", error.to_string()))?;
            let certificate = alloy_rlp::decode_exact::<Certificate>(&extension.data).ok();
            made.push(Made { number: block.number(), hash: block.hash(), extension, certificate });
        }
        for part in made.chunk_by(|a, b| a.extension.epoch == b.extension.epoch) {
            let epoch = self.epoch(part[0].extension.epoch);
            let epoch = epoch.expect("a final block is of an epoch that began");
            if epoch.kind() == Kind::Pbft {
                check_epoch(epoch, part, signer).map_err(|what| ("S10", what))?;
            }
        }
        Ok(())
    }
}

fn check_epoch(epoch: &Epoch, blocks: &[Made], signer: &HistorySigner) -> Result<(), String> {
    for (place, block) in blocks.iter().enumerate() {
        let number = block.number;
        let Some(parent) = place.checked_sub(1).map(|below| &blocks[below]) else {
            if block.extension.data.is_empty() {
                continue;
            }
            return Err(format!("block {number}, the first of its epoch, carries something"));
        };
        let certificate = block.certificate.as_ref();
        let certificate = certificate.ok_or(format!("block {number} carries no certificate"))?;
        check_certificate(epoch, parent, certificate, signer)?;
        // The parent's maker: the round in which it was decided is known now.
        let turns = alive(epoch, &blocks[..place - 1]);
        let rounds = 0..=certificate.vote.position.round;
        let maker = parent.extension.proposer;
        let led = |round: u64| turns[((parent.number + round) % turns.len() as u64) as usize];
        if !rounds.clone().any(|round| led(round) == maker) {
            let number = parent.number;
            return Err(format!("{maker} made block {number}, in rounds {rounds:?} of {turns:?}"));
        }
    }
    Ok(())
}

fn check_certificate(
    epoch: &Epoch,
    parent: &Made,
    certificate: &Certificate,
    signer: &HistorySigner,
) -> Result<(), String> {
    let (vote, place) = (certificate.vote, certificate.vote.position);
    let named = (place.epoch, place.step, place.height.0, vote.hash);
    let signers: BTreeSet<NodeId> = certificate.signers().copied().collect();
    let recovers = |one: landfall_types::SignedVote| {
        signer.recover(one.vote.digest(epoch.chain), &one.signature) == Some(one.signer)
    };
    if named != (epoch.number, Step::Commit, parent.number, parent.hash)
        || signers.len() != certificate.signatures.len()
        || !signers.iter().all(|id| epoch.has_member(id))
        || epoch.committee.weight_of_all(&signers) < epoch.committee.byzantine_quorum()
        || !certificate.votes().all(recovers)
    {
        return Err(format!("above block {}: {certificate:?}", parent.number));
    }
    Ok(())
}

/// Who may lead above some blocks of an epoch, all that it has so far.
fn alive(epoch: &Epoch, blocks: &[Made]) -> Vec<NodeId> {
    let all: Vec<NodeId> = epoch.committee.members().iter().map(|member| member.id).collect();
    let carried: Vec<&Certificate> =
        blocks.iter().rev().take(2 * all.len()).filter_map(|it| it.certificate.as_ref()).collect();
    if carried.len() < 2 * all.len() {
        return all;
    }
    all.into_iter().filter(|id| carried.iter().any(|it| it.signers().any(|by| by == id))).collect()
}
