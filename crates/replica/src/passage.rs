//! Gossip forwards a block before anybody has executed it, so somebody else than whoever forwards it
//! must answer for it: the member that sealed it.

use crate::replica::Replica;
use crate::signer::seal_digest;
use landfall_consensus::SealedHeader;
use landfall_evm::validate_commitments;
use landfall_types::{Block, Epoch, NodeId, Signature};

/// Who is to blame for a block that is invalid for ever: the member of an agreement that sealed it.
/// Whoever passes a block on has looked at the seal and cannot have looked at more. Any other block is
/// its sender's: a key that is no member's is made in a moment.
pub(crate) fn maker(from: NodeId, header: &SealedHeader, agreement: Option<&Epoch>) -> NodeId {
    let sealed = agreement.is_some_and(|epoch| is_members(epoch, header));
    if sealed { header.extension.proposer } else { from }
}

/// Whether a member has sealed a block, under its own name.
pub(crate) fn is_members(epoch: &Epoch, header: &SealedHeader) -> bool {
    let proposer = header.extension.proposer;
    epoch.has_member(&proposer) && header.sealer == Some(proposer)
}

/// What is to be done with a gossiped block before anybody has executed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It may be forwarded: a member answers for it.
    Forward,
    /// It is for this node alone: nobody could be held to it before it is executed. In a lottery the
    /// others hear of it as a head, and ask.
    Keep,
    /// No honest node passes it on.
    Refuse,
}

/// Looks at what every node sees alike without the parent: the extension and, in an agreement, the
/// seal and whether it is the body that the header commits to. `epoch` is the one that runs here.
pub fn passage(block: &Block, epoch: &Epoch) -> Passage {
    let Some(mut header) = Replica::header_of(block) else { return Passage::Refuse };
    if header.extension.epoch != epoch.number || !epoch.kind().is_agreement() {
        return Passage::Keep;
    }
    // Nobody takes a block that carries more, and whoever forwards it would be blamed.
    if header.votes().len() > epoch.committee.len() {
        return Passage::Refuse;
    }
    let seal = <[u8; 65]>::try_from(&block.seal[..]).ok().map(Signature);
    let digest = seal_digest(block.hash(), epoch.chain);
    header.sealer = seal.and_then(|seal| landfall_light::recover(digest, &seal));
    // The body is not in the hash: another one says nothing of the member.
    let whole = || validate_commitments(block).is_ok();
    if is_members(epoch, &header) && whole() { Passage::Forward } else { Passage::Refuse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeySigner, Signer as _};
    use alloy_consensus::Header;
    use alloy_primitives::{B256, Bytes};
    use landfall_types::{
        Anchor, Body, Committee, Extension, Height, Params, PowParams, RaftParams, Span, Time,
    };

    const CHAIN: B256 = B256::repeat_byte(7);

    fn key(byte: u8) -> KeySigner {
        KeySigner::new(&[byte; 32]).unwrap()
    }

    fn epoch(params: Params) -> Epoch {
        Epoch {
            chain: CHAIN,
            number: 3,
            params,
            committee: Committee::equal([1, 2].map(|byte| key(byte).id())).unwrap(),
            first: Height(1),
            last: Height(u64::MAX),
            anchor: Anchor::Final { hash: CHAIN, time: Time(0) },
        }
    }

    fn raft() -> Epoch {
        let span = Span(100);
        epoch(Params::Raft(RaftParams {
            heartbeat: span,
            election: span,
            block_interval: span,
            empty_blocks: false,
        }))
    }

    /// A block that names a proposer and carries the seal of a key.
    fn block(number: u64, proposer: NodeId, sealer: &KeySigner) -> Block {
        let extension = Extension { epoch: number, proposer, ..Extension::default() }.to_bytes();
        let header = Header {
            parent_beacon_block_root: Some(Extension::commitment(&extension)),
            ..Header::default()
        };
        let mut block = Block { extension, ..Block::ethereum(header, Body::default()) };
        block.seal = Bytes::copy_from_slice(&sealer.sign_block(block.hash(), CHAIN).0);
        block
    }

    #[test]
    fn only_a_block_that_a_member_sealed_under_its_own_name_is_forwarded() {
        let (one, two, stranger) = (key(1), key(2), key(9));
        let epoch = raft();
        let pass = |block: &Block| passage(block, &epoch);
        assert_eq!(pass(&block(3, one.id(), &one)), Passage::Forward);
        assert_eq!(pass(&block(3, one.id(), &two)), Passage::Refuse);
        assert_eq!(pass(&block(3, stranger.id(), &stranger)), Passage::Refuse);
        assert_eq!(pass(&block(4, one.id(), &one)), Passage::Keep, "of another epoch");
        let other = Block { extension: Bytes::from_static(b"x"), ..block(3, one.id(), &one) };
        assert_eq!(pass(&other), Passage::Refuse, "not what the header commits to");
    }

    #[test]
    fn a_block_of_a_lottery_is_for_this_node_alone() {
        let params = PowParams {
            block_interval: Span(1),
            half_life: Span(1),
            first_target: alloy_primitives::U256::MAX,
            safe_depth: 1,
            final_depth: 1,
            clock_drift: Span(1),
            subsidy: 0,
            subsidy_halving: 0,
        };
        let epoch = epoch(Params::Pow(params));
        assert_eq!(passage(&block(3, key(1).id(), &key(1)), &epoch), Passage::Keep);
    }

    #[test]
    fn whoever_sealed_an_invalid_block_is_to_blame_and_not_who_passed_it_on() {
        let (sealer, carrier) = (key(1), key(2).id());
        let mut header = Replica::header_of(&block(3, sealer.id(), &sealer)).unwrap();
        header.sealer = Some(sealer.id());
        let epoch = raft();
        assert_eq!(maker(carrier, &header, Some(&epoch)), sealer.id());
        assert_eq!(maker(carrier, &header, None), carrier, "nobody answers for an unknown epoch");
        header.sealer = None;
        assert_eq!(maker(carrier, &header, Some(&epoch)), carrier);
        let mut foreign = Replica::header_of(&block(3, key(9).id(), &key(9))).unwrap();
        foreign.sealer = Some(key(9).id());
        assert_eq!(maker(carrier, &foreign, Some(&epoch)), carrier, "a key made for the purpose");
    }
}
