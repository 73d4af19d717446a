//! Votes and committees for the tests of this module.

use crate::evidence::prepared_context;
use alloy_primitives::B256;
use landfall_types::{
    Anchor, Certificate, Committee, Epoch, Height, Member, NodeId, Params, PbftParams, Position,
    Signature, SignedVote, SignerSignature, Span, Step, Time, Vote, Weight,
};

/// Member number `n`; they are in order.
pub(super) fn member(n: u8) -> NodeId {
    NodeId::repeat_byte(n + 1)
}

/// A block by a short name; 0 names none.
pub(super) fn name(n: u8) -> B256 {
    B256::repeat_byte(n)
}

pub(super) fn epoch(members: u8) -> Epoch {
    weighted(&vec![1; members.into()])
}

pub(super) fn weighted(weights: &[u128]) -> Epoch {
    let member = |(n, weight): (u8, &u128)| Member { id: member(n), weight: Weight(*weight) };
    Epoch {
        chain: name(0xCC),
        number: 0,
        params: Params::Pbft(PbftParams {
            block_interval: Span(100),
            empty_blocks: false,
            round_timeout: Span(1_000),
            round_timeout_max: Span(4_000),
            retransmit: Span(300),
            clock_drift: Span(500),
        }),
        committee: Committee::new((0..).zip(weights).map(member).collect()).unwrap(),
        first: Height(1),
        last: Height(8),
        anchor: Anchor::Final { hash: name(0xAA), time: Time(0) },
    }
}

fn signature(n: u8) -> Signature {
    Signature([n; 65])
}

pub(super) fn signed(n: u8, step: Step, height: u64, round: u64, block: u8) -> SignedVote {
    let position = Position { epoch: 0, step, height: Height(height), round };
    let vote = Vote { position, hash: name(block), context: B256::ZERO };
    SignedVote { vote, signer: member(n), signature: signature(n) }
}

pub(super) fn round_change(n: u8, height: u64, round: u64, claim: Option<(u8, u64)>) -> SignedVote {
    let mut it = signed(n, Step::RoundChange, height, round, claim.map_or(0, |it| it.0));
    it.vote.context = prepared_context(claim.map(|it| it.1));
    it
}

pub(super) fn certificate(
    step: Step,
    height: u64,
    round: u64,
    block: u8,
    signers: &[u8],
) -> Certificate {
    let one = |n: &u8| SignerSignature { signer: member(*n), signature: signature(*n) };
    Certificate {
        vote: signed(0, step, height, round, block).vote,
        signatures: signers.iter().map(one).collect(),
    }
}
