//! The stateless half: what a header must be, and which votes are a lie.

use super::Raft;
use crate::engine::{Engine, Output, Protocol, SealedHeader, Start, Verdict};
use crate::solo::check_ours;
use crate::{Evidence, InvalidEvidence, Tree};
use alloy_primitives::Bytes;
use landfall_types::{Epoch, NodeId, Step, Time};

/// The stateless half.
pub(crate) struct RaftProtocol;

impl Protocol for RaftProtocol {
    fn verify(&self, epoch: &Epoch, header: &SealedHeader, tree: &Tree, _now: Time) -> Verdict {
        let verdict = check_ours(epoch, header, tree);
        if verdict != Verdict::Valid {
            return verdict;
        }
        let proposer = header.extension.proposer;
        if header.sealer != Some(proposer) {
            return Verdict::BadSeal;
        }
        if !epoch.has_member(&proposer) {
            return Verdict::Invalid("the proposer is no member of the epoch");
        }
        let Some(term) = term_of(&header.extension.data) else {
            return Verdict::Invalid("the extension is not a term");
        };
        let parent = tree.block(&header.header.parent_hash);
        if parent.epoch == epoch.number && term_of(&parent.data).is_some_and(|below| term < below) {
            return Verdict::Invalid("the term is below the parent's");
        }
        Verdict::Valid
    }

    fn verify_evidence(&self, epoch: &Epoch, it: &Evidence) -> Result<NodeId, InvalidEvidence> {
        match it {
            Evidence::DoubleVote { a, b }
                if matches!(a.vote.position.step, Step::Grant | Step::Ack) =>
            {
                Evidence::verify_double_vote(a, b, epoch.number, &epoch.committee)
            }
            _ => Err(InvalidEvidence::Unknown),
        }
    }

    fn start(&self, start: Start<'_>, out: &mut Vec<Output>) -> Box<dyn Engine> {
        Box::new(Raft::new(&start, out))
    }
}

/// The term in which a block was made, as its extension says: eight bytes, never zero.
pub(super) fn term_of(data: &Bytes) -> Option<u64> {
    let term = u64::from_be_bytes(<[u8; 8]>::try_from(&data[..]).ok()?);
    (term > 0).then_some(term)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::TreeBlock;
    use alloy_consensus::{Header, Sealed, constants::EMPTY_ROOT_HASH};
    use alloy_primitives::{B256, U256};
    use landfall_types::{
        Anchor, Committee, Extension, Height, Params, Position, RaftParams, Signature, SignedVote,
        Span, Vote,
    };

    pub(in crate::raft) const GENESIS: B256 = B256::repeat_byte(0xcc);

    pub(in crate::raft) fn id(n: u8) -> NodeId {
        NodeId::repeat_byte(n)
    }

    pub(in crate::raft) fn block(name: u8, parent: B256, height: u64, data: Bytes) -> TreeBlock {
        TreeBlock {
            hash: B256::repeat_byte(name),
            parent,
            height: Height(height),
            time: Time(1_000 + height),
            epoch: 3,
            proposer: id(1),
            difficulty: U256::ZERO,
            data,
        }
    }

    pub(in crate::raft) fn term(term: u64) -> Bytes {
        Bytes::copy_from_slice(&term.to_be_bytes())
    }

    pub(in crate::raft) fn epoch() -> Epoch {
        let params = RaftParams {
            heartbeat: Span(50),
            election: Span(300),
            block_interval: Span(100),
            empty_blocks: false,
        };
        Epoch {
            chain: GENESIS,
            number: 3,
            params: Params::Raft(params),
            committee: Committee::equal([1, 2, 3].map(id)).unwrap(),
            first: Height(1),
            last: Height(9),
            anchor: Anchor::Final { hash: GENESIS, time: Time(1_000) },
        }
    }

    /// A tree of the anchor, which is of the epoch before, and a block of term 5.
    pub(in crate::raft) fn tree() -> Tree {
        let anchor = TreeBlock {
            hash: GENESIS,
            epoch: 2,
            ..block(0, B256::ZERO, 0, Bytes::from_static(b"another engine's"))
        };
        let mut tree = Tree::new(anchor);
        tree.insert(block(1, GENESIS, 1, term(5)));
        tree
    }

    fn header(parent: B256, number: u64, data: Bytes) -> SealedHeader {
        let header = Header {
            parent_hash: parent,
            number,
            withdrawals_root: Some(EMPTY_ROOT_HASH),
            ..Header::default()
        };
        let extension = Extension { milliseconds: 2_000, epoch: 3, proposer: id(2), data };
        SealedHeader { header: Sealed::new(header), extension, sealer: Some(id(2)) }
    }

    #[test]
    fn judges_who_made_a_block_and_in_which_term() {
        let (epoch, tree, tip) = (epoch(), tree(), B256::repeat_byte(1));
        let verify = |header: &SealedHeader| RaftProtocol.verify(&epoch, header, &tree, Time(0));
        let is_invalid = |header: &SealedHeader| matches!(verify(header), Verdict::Invalid(_));
        assert_eq!(verify(&header(tip, 2, term(5))), Verdict::Valid);
        assert_eq!(verify(&header(tip, 2, term(6))), Verdict::Valid);
        assert_eq!(verify(&header(GENESIS, 1, term(1))), Verdict::Valid);
        assert!(is_invalid(&header(tip, 2, term(4))), "below the parent's term");
        for data in [Bytes::new(), term(0), Bytes::from_static(&[1; 9])] {
            assert!(is_invalid(&header(tip, 2, data)));
        }
        assert!(is_invalid(&header(tip, 3, term(5))), "another height");
        assert_eq!(verify(&header(B256::repeat_byte(7), 2, term(5))), Verdict::NotYet);
        let mut stranger = header(tip, 2, term(5));
        (stranger.extension.proposer, stranger.sealer) = (id(9), Some(id(9)));
        assert!(is_invalid(&stranger));
        let mut resealed = header(tip, 2, term(5));
        resealed.sealer = Some(id(3));
        assert_eq!(verify(&resealed), Verdict::BadSeal);
        let mut paying = header(tip, 2, term(5));
        let root = Some(B256::repeat_byte(4));
        paying.header =
            Sealed::new(Header { withdrawals_root: root, ..paying.header.inner().clone() });
        assert!(is_invalid(&paying));
    }

    fn signed(signer: u8, step: Step, round: u64, hash: u8) -> SignedVote {
        let position = Position { epoch: 3, step, height: Height(0), round };
        let vote = Vote { position, hash: B256::repeat_byte(hash), context: B256::ZERO };
        SignedVote { vote, signer: id(signer), signature: Signature([0; 65]) }
    }

    #[test]
    fn two_votes_of_a_term_are_evidence_and_two_terms_are_not() {
        let verify = |a, b| RaftProtocol.verify_evidence(&epoch(), &Evidence::DoubleVote { a, b });
        for step in [Step::Grant, Step::Ack] {
            assert_eq!(verify(signed(1, step, 2, 7), signed(1, step, 2, 8)), Ok(id(1)));
            assert!(verify(signed(1, step, 2, 7), signed(1, step, 2, 7)).is_err());
            assert!(verify(signed(1, step, 2, 7), signed(1, step, 3, 8)).is_err());
            assert!(verify(signed(1, step, 2, 7), signed(2, step, 2, 8)).is_err());
            assert!(verify(signed(9, step, 2, 7), signed(9, step, 2, 8)).is_err());
        }
        let foreign = verify(signed(1, Step::Commit, 2, 7), signed(1, Step::Commit, 2, 8));
        assert_eq!(foreign, Err(InvalidEvidence::Unknown));
    }
}
