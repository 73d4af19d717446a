//! What an attacker makes with the keys that it has: votes, proofs and blocks that are right in all
//! but what an attack changes.

use crate::arena::Arena;
use crate::peer::{Lane, Peer};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bloom, keccak256};
use landfall_consensus::{Body, FinalityProof, pbft};
use landfall_replica::{KeySigner, Signer, Wire, seal_digest};
use landfall_types::{Block, Extension, Height, Position, Signature, SignedVote, Step, Vote};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The root of an empty trie.
const EMPTY_ROOT: B256 = alloy_consensus::constants::EMPTY_ROOT_HASH;

/// How long an answer is waited for: as long as a node counts what it has answered.
const ANSWER: Duration = Duration::from_secs(1);

/// Milliseconds since the Unix epoch.
pub fn wall() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(passed.as_millis()).expect("a clock before the year 500 million")
}

/// A hash of nothing.
pub fn noise(seed: u64) -> B256 {
    keccak256(seed.to_be_bytes())
}

/// A vote of epoch 0.
pub fn vote(step: Step, height: u64, round: u64, hash: B256) -> Vote {
    let position = Position { epoch: 0, step, height: Height(height), round };
    let context = match step {
        Step::Proposal | Step::Prepare => pbft::Justification::empty().digest(),
        _ => B256::ZERO,
    };
    Vote { position, hash, context }
}

/// The member's signature under it. Its guard against contradictions is passed by.
pub fn signed(arena: &Arena, vote: Vote) -> SignedVote {
    signed_by(&arena.member.voting, arena.genesis, vote)
}

/// A signature under it.
pub fn signed_by(key: &KeySigner, genesis: B256, vote: Vote) -> SignedVote {
    let signature = key.sign_digest(vote.digest(genesis));
    SignedVote { vote, signer: key.id(), signature }
}

/// The message of an engine with this vote.
pub fn message(vote: SignedVote) -> Wire {
    let message = match vote.vote.position.step {
        Step::Proposal => pbft::Message::Proposal { justification: pbft::Justification::empty() },
        Step::Prepare => pbft::Message::Prepare,
        Step::Commit => pbft::Message::Commit,
        _ => pbft::Message::RoundChange { prepared: None },
    };
    Wire::Engine { epoch: 0, vote: Some(vote), body: Body::Pbft(message) }
}

/// A signature that nobody made.
pub fn garbage_signature(seed: u64) -> Signature {
    let mut bytes = [1; 65];
    bytes[..32].copy_from_slice(&noise(seed).0);
    bytes[64] = (seed % 2) as u8;
    Signature(bytes)
}

/// The newest final block that a node gives, and the proof that it is final; `None` if it is not
/// given, as to whoever asks too often.
pub async fn newest(arena: &Arena, peer: &mut Peer) -> Option<(Block, FinalityProof)> {
    peer.forget();
    let node = &arena.nodes[peer.node];
    // Asked over another connection: it may block for as long as a loaded node takes.
    let finalized = tokio::task::block_in_place(|| node.finalized());
    let after = Height(finalized.saturating_sub(1));
    let answer = async {
        peer.send(Lane::Sync, &Wire::Range { after }).await.ok()?;
        let mut last = None;
        loop {
            match peer.hear(ANSWER).await? {
                Wire::Block(block) => last = Some(block),
                Wire::Proof(proof) => {
                    let block = last.filter(|block: &Block| block.hash() == proof.hash());
                    return block.map(|block| (block, proof));
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(ANSWER, answer).await.ok().flatten()
}

/// The fields of a block that an attack may change before it is hashed and sealed.
pub struct Draft {
    pub header: Header,
    pub extension: Extension,
}

/// A block without transactions on a final block, by the member, with a good seal. Its state root is
/// that of its parent, which is wrong: the parent's hash is written into the state.
pub fn child(
    arena: &Arena,
    (parent, proof): &(Block, FinalityProof),
    change: impl FnOnce(&mut Draft),
) -> Block {
    let above = Extension::from_bytes(&parent.extension).map_or(0, |it| it.milliseconds + 1);
    let milliseconds = above.max(wall());
    let mut header = parent.header.inner().clone();
    header.parent_hash = parent.hash();
    header.number += 1;
    header.beneficiary = arena.member.id;
    header.transactions_root = EMPTY_ROOT;
    header.receipts_root = EMPTY_ROOT;
    header.logs_bloom = Bloom::ZERO;
    header.gas_used = 0;
    header.timestamp = milliseconds / 1_000;
    let zero = alloy_primitives::U256::ZERO;
    let (spec, number, time) = (&arena.spec, header.number, header.timestamp);
    let base_fee = landfall_evm::next_base_fee(spec, parent.header.inner(), number, time, zero);
    header.base_fee_per_gas = base_fee;
    let data = alloy_rlp::encode(&proof.certificate).into();
    let extension = Extension { milliseconds, epoch: 0, proposer: arena.member.id, data };
    let mut draft = Draft { header, extension };
    change(&mut draft);
    draft.header.timestamp = draft.extension.milliseconds / 1_000;
    let extension = draft.extension.to_bytes();
    draft.header.parent_beacon_block_root = Some(Extension::commitment(&extension));
    let mut body = parent.body.clone();
    body.transactions.clear();
    sealed(
        arena,
        Block { header: Sealed::new(draft.header), body, extension, seal: Vec::new().into() },
    )
}

/// With the member's seal.
pub fn sealed(arena: &Arena, mut block: Block) -> Block {
    let seal = arena.member.voting.sign_digest(seal_digest(block.hash(), arena.genesis));
    block.seal = seal.0.to_vec().into();
    block
}

/// A block of a far future on a parent that nobody has, with so many bytes behind its seal.
pub fn orphan(arena: &Arena, parent: &(Block, FinalityProof), seed: u64, bytes: usize) -> Block {
    let mut block = child(arena, parent, |draft| {
        draft.header.parent_hash = noise(seed);
        draft.header.number += 1_000_000;
    });
    block.seal = vec![7; bytes.max(65)].into();
    block
}
