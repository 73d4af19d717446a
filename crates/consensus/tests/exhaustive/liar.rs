//! The member that lies: what it may say, given what the others said.
//!
//! It has no state. Everything on its menu that can be made from what the honest members said may
//! have been said by it, to anybody, all at once.

use super::pbft::Said;
use crate::network::{block_on, genesis, sign};
use alloy_primitives::{B256, Bytes, U256};
use landfall_consensus::Tree;
use landfall_consensus::pbft::{Justification, Message, Turns};
use landfall_types::{
    Certificate, Epoch, Height, NodeId, Position, SignedVote, SignerSignature, Span, Step, Vote,
};
use std::collections::BTreeSet;

const HEIGHT: Height = Height(1);

/// The liar, and the blocks that it made beforehand: two for a round that it leads.
pub struct Liar {
    me: NodeId,
    leads: Option<u64>,
    blocks: [B256; 2],
}

impl Liar {
    pub fn new(epoch: &Epoch, me: NodeId, tree: &mut Tree) -> Self {
        let turns = Turns::above(epoch, tree, genesis().hash);
        let leads = (0..2).find(|round| turns.leader(HEIGHT, *round) == me);
        let blocks = [7, 8].map(|time| {
            let block = block_on(&genesis(), me, genesis().time + Span(time), Bytes::new());
            tree.insert(block.clone());
            block.hash
        });
        Self { me, leads, blocks }
    }

    /// Everything it may say.
    pub fn menu(&self, epoch: &Epoch, honest: &[Said]) -> Vec<Said> {
        let mut menu = Vec::new();
        if self.leads == Some(0) {
            for block in self.blocks {
                menu.push(self.proposal(0, block, Justification::empty()));
            }
        }
        menu.extend(self.round_changes(epoch, honest, &menu));
        if self.leads == Some(1) {
            let changes: Vec<_> = honest.iter().chain(&menu).cloned().collect();
            menu.extend(self.new_views(epoch, &changes));
        }
        // A prepare and a commit for whatever was proposed.
        let proposed: BTreeSet<(u64, B256, B256)> = honest
            .iter()
            .chain(&menu)
            .map(|said| said.vote.vote)
            .filter(|vote| matches!(vote.position.step, Step::Proposal | Step::Prepare))
            .map(|vote| (vote.position.round, vote.hash, vote.context))
            .collect();
        for (round, hash, context) in proposed {
            menu.push(self.say(Step::Prepare, round, hash, context, Message::Prepare));
            let commit = self.say(Step::Commit, round, hash, B256::ZERO, Message::Commit);
            if !menu.contains(&commit) {
                menu.push(commit);
            }
        }
        menu
    }

    fn say(&self, step: Step, round: u64, hash: B256, context: B256, message: Message) -> Said {
        let position = Position { epoch: 0, step, height: HEIGHT, round };
        Said { vote: sign(self.me, Vote { position, hash, context }, 0), message }
    }

    fn proposal(&self, round: u64, hash: B256, justification: Justification) -> Said {
        let digest = justification.digest();
        self.say(Step::Proposal, round, hash, digest, Message::Proposal { justification })
    }

    /// To round 1: without a certificate, whatever it prepared; and with each that there is.
    fn round_changes(&self, epoch: &Epoch, honest: &[Said], own: &[Said]) -> Vec<Said> {
        let bare = Message::RoundChange { prepared: None };
        let mut changes = vec![self.say(Step::RoundChange, 1, B256::ZERO, B256::ZERO, bare)];
        let proposed: BTreeSet<B256> = honest
            .iter()
            .chain(own)
            .map(|said| said.vote.vote)
            .filter(|vote| vote.position.step == Step::Proposal && vote.position.round == 0)
            .map(|vote| vote.hash)
            .collect();
        let digest = Justification::empty().digest();
        for hash in proposed {
            let prepare = self.say(Step::Prepare, 0, hash, digest, Message::Prepare).vote;
            let said = honest.iter().map(|said| said.vote).filter(|it| it.vote == prepare.vote);
            let mut prepares: Vec<SignedVote> = said.take(2).chain([prepare]).collect();
            prepares.sort_by_key(|signed| signed.signer);
            if (prepares.len() as u128) < epoch.committee.byzantine_quorum().0 {
                continue;
            }
            let signature =
                |it: &SignedVote| SignerSignature { signer: it.signer, signature: it.signature };
            let prepared = Some(Certificate {
                vote: prepare.vote,
                signatures: prepares.iter().map(signature).collect(),
            });
            let claim = B256::from(U256::from(1));
            let message = Message::RoundChange { prepared };
            changes.push(self.say(Step::RoundChange, 1, hash, claim, message));
        }
        changes
    }

    /// Proposals in round 1: by each quorum of round changes the block that it binds to, or either
    /// own block if it binds to none; and an own block by justifications that do not allow it: one
    /// that binds to another, one of too few, and none.
    fn new_views(&self, epoch: &Epoch, said: &[Said]) -> Vec<Said> {
        let changes: Vec<(SignedVote, Option<Certificate>)> = said
            .iter()
            .filter_map(|said| match &said.message {
                Message::RoundChange { prepared } => Some((said.vote, prepared.clone())),
                _ => None,
            })
            .collect();
        let mut views = vec![self.proposal(1, self.blocks[0], Justification::empty())];
        let mut outcomes = BTreeSet::new();
        for part in 1_u32..1 << changes.len() {
            let mut chosen: Vec<_> =
                (0..changes.len()).filter(|n| part >> n & 1 == 1).map(|n| &changes[n]).collect();
            chosen.sort_by_key(|change| change.0.signer);
            let distinct = chosen.windows(2).all(|pair| pair[0].0.signer < pair[1].0.signer);
            let quorum = epoch.committee.byzantine_quorum().0 as usize;
            if !distinct || !(quorum - 1..=quorum).contains(&chosen.len()) {
                continue;
            }
            let justification = Justification {
                round_changes: chosen.iter().map(|change| change.0).collect(),
                prepared: chosen.iter().find_map(|change| change.1.clone()),
            };
            let bound = justification.prepared.as_ref().map(|prepared| prepared.vote.hash);
            if chosen.len() < quorum {
                // One of these will do: nobody takes any of them.
                if views.len() == 1 {
                    views.push(self.proposal(1, self.blocks[0], justification));
                }
                continue;
            }
            // To those who are asked, justifications that bind to the same are the same.
            if !outcomes.insert(bound) {
                continue;
            }
            let blocks = bound.map_or(self.blocks, |bound| [bound, self.blocks[0]]);
            views.extend(blocks.map(|block| self.proposal(1, block, justification.clone())));
        }
        views
    }
}
