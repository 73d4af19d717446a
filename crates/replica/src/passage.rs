//! Who answers for a block before it is executed: the member that has sealed it.

use crate::replica::Replica;
use crate::signer::seal_digest;
use landfall_consensus::SealedHeader;
use landfall_types::{Block, Epoch, NodeId, Signature};

/// Whether a member has sealed a block, under its own name.
pub(crate) fn is_members(epoch: &Epoch, header: &SealedHeader) -> bool {
    let proposer = header.extension.proposer;
    epoch.has_member(&proposer) && header.sealer == Some(proposer)
}

/// Who is to blame for a block that is invalid for ever: who sealed it under its own name. Whoever
/// passes blocks on has looked at the seal and cannot have looked at more. A block without such a
/// seal is its sender's.
pub(crate) fn maker(from: NodeId, header: &SealedHeader) -> NodeId {
    header.sealer.filter(|sealer| *sealer == header.extension.proposer).unwrap_or(from)
}

/// What is to be done with a gossiped block before anybody has executed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may be passed on: a member answers for it, or its epoch has no members who could.
    Forward,
    /// It is for this node alone: the epoch that it names is not the one that runs here.
    Keep,
    /// No honest node passes it on.
    Refuse,
}

/// Looks at what every node sees alike without the parent: the extension and, in an agreement, the
/// seal.
pub fn passage(block: &Block, epoch: &Epoch) -> Passage {
    let Some(mut header) = Replica::header_of(block) else { return Passage::Refuse };
    if header.extension.epoch != epoch.number {
        return Passage::Keep;
    }
    if !epoch.kind().is_agreement() {
        return Passage::Forward;
    }
    let seal = <[u8; 65]>::try_from(&block.seal[..]).ok().map(Signature);
    let digest = seal_digest(block.hash(), epoch.chain);
    header.sealer = seal.and_then(|seal| landfall_light::recover(digest, &seal));
    if is_members(epoch, &header) { Passage::Forward } else { Passage::Refuse }
}
