//! Verifies finality proofs: what a light client needs, and the very code that sync uses.
//!
//! Pure: no IO, no clock. [`recover`] turns signatures into signers; [`verify_proof`] counts
//! signers. They are apart because recovering costs a thousand times more, is done by workers, and
//! is done once.

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use landfall_types::{
    Certificate, Epoch, Height, Kind, NodeId, Signature, SignedVote, Step, Weight,
};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, SECP256K1};

/// That a block is final: a quorum of the committee of its epoch said so.
///
/// It lies beside the block, never inside its hash: two nodes may hold different proofs of one
/// block. All its ancestors are final too.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct FinalityProof {
    /// The votes.
    pub certificate: Certificate,
}

/// How much a proof is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Final unless a third of the weight lied, and then liars can be named.
    Accountable,
    /// Final if nodes only crash: one lying member can forge it together with honest ones.
    CrashOnly,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// It is of another epoch than the one it was checked with.
    #[error("the proof is of epoch {found}, not {expected}")]
    Epoch {
        /// What the proof says.
        found: u64,
        /// What it was checked with.
        expected: u64,
    },
    /// The height does not belong to the epoch.
    #[error("height {0} does not belong to the epoch of the proof")]
    Height(Height),
    /// The protocol of the epoch has no proofs.
    #[error("{} gives no finality proofs", .0.name())]
    NoProofs(Kind),
    /// Votes that do not decide.
    #[error("votes of the step {0:?} decide nothing in this protocol")]
    Step(Step),
    /// Too few members signed.
    #[error("members of weight {} signed, {} are needed", .found.0, .needed.0)]
    Quorum {
        /// The weight of the distinct members that signed.
        found: Weight,
        /// The least that decides.
        needed: Weight,
    },
    /// A signature that recovers to somebody else, or not at all.
    #[error("a signature is not that of {0}, whom the proof names")]
    Signature(NodeId),
}

impl FinalityProof {
    /// The block that is final.
    pub fn hash(&self) -> B256 {
        self.certificate.vote.hash
    }

    /// Its height.
    pub fn height(&self) -> Height {
        self.certificate.vote.position.height
    }

    /// Its epoch.
    pub fn epoch(&self) -> u64 {
        self.certificate.vote.position.epoch
    }
}

/// What makes a block final in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The votes that decide.
    pub step: Step,
    /// The least weight of distinct members whose votes decide.
    pub quorum: Weight,
    /// How much that is worth.
    pub trust: Trust,
}

/// What makes a block final in an epoch; `None` where no votes do.
pub fn decision(epoch: &Epoch) -> Option<Decision> {
    let (step, quorum, trust) = match epoch.kind() {
        Kind::Pbft => (Step::Commit, epoch.committee.byzantine_quorum(), Trust::Accountable),
        Kind::Raft => (Step::Ack, epoch.committee.majority(), Trust::CrashOnly),
        Kind::Solo | Kind::Pow => return None,
    };
    Some(Decision { step, quorum, trust })
}

/// Checks a proof whose signers have been recovered. Counts distinct members, not signatures.
pub fn verify_proof(epoch: &Epoch, proof: &FinalityProof) -> Result<Trust, InvalidProof> {
    let position = proof.certificate.vote.position;
    if position.epoch != epoch.number {
        return Err(InvalidProof::Epoch { found: position.epoch, expected: epoch.number });
    }
    if !epoch.contains(position.height) {
        return Err(InvalidProof::Height(position.height));
    }
    let Some(Decision { step, quorum: needed, trust }) = decision(epoch) else {
        return Err(InvalidProof::NoProofs(epoch.kind()));
    };
    if position.step != step {
        return Err(InvalidProof::Step(position.step));
    }
    let found = epoch.committee.weight_of_all(proof.certificate.signers());
    if found < needed {
        return Err(InvalidProof::Quorum { found, needed });
    }
    Ok(trust)
}

/// Who signed a digest; `None` if nobody can have. The higher of the two valid `s` is refused
/// (as in EIP-2), so that a signature has one form.
pub fn recover(digest: B256, signature: &Signature) -> Option<NodeId> {
    let (compact, parity) = signature.0.split_at(64);
    let id = match parity[0] {
        0 => RecoveryId::Zero,
        1 => RecoveryId::One,
        _ => return None,
    };
    let signature = RecoverableSignature::from_compact(compact, id).ok()?;
    let mut low = signature.to_standard();
    low.normalize_s();
    if low != signature.to_standard() {
        return None;
    }
    let key = SECP256K1.recover_ecdsa(&Message::from_digest(digest.0), &signature).ok()?;
    Some(NodeId::from_slice(&keccak256(&key.serialize_uncompressed()[1..])[12..]))
}

/// Whether a vote was signed by the member it names.
pub fn is_signed(chain: B256, vote: &SignedVote) -> bool {
    recover(vote.vote.digest(chain), &vote.signature) == Some(vote.signer)
}

/// [`verify_proof`] for a client that trusts nothing yet: recovers every signature first.
pub fn verify_signed_proof(epoch: &Epoch, proof: &FinalityProof) -> Result<Trust, InvalidProof> {
    verify_signed_proof_by(epoch, proof, |vote| is_signed(epoch.chain, vote))
}

/// [`verify_signed_proof`] for a caller that remembers what it has recovered: `is_signed` says
/// whether a vote was signed by the member it names.
pub fn verify_signed_proof_by(
    epoch: &Epoch,
    proof: &FinalityProof,
    is_signed: impl Fn(&SignedVote) -> bool,
) -> Result<Trust, InvalidProof> {
    for vote in proof.certificate.votes() {
        if !is_signed(&vote) {
            return Err(InvalidProof::Signature(vote.signer));
        }
    }
    verify_proof(epoch, proof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{
        Anchor, Committee, Params, PbftParams, Position, SignerSignature, Span, Time, Vote,
    };
    use secp256k1::SecretKey;

    const CHAIN: B256 = B256::repeat_byte(7);

    fn key(n: u8) -> SecretKey {
        SecretKey::from_byte_array(&[n; 32]).unwrap()
    }

    fn id(n: u8) -> NodeId {
        let public = key(n).public_key(SECP256K1).serialize_uncompressed();
        NodeId::from_slice(&keccak256(&public[1..])[12..])
    }

    fn signature(n: u8, vote: &Vote) -> SignerSignature {
        let message = Message::from_digest(vote.digest(CHAIN).0);
        let (parity, compact) =
            SECP256K1.sign_ecdsa_recoverable(&message, &key(n)).serialize_compact();
        let mut bytes = [0; 65];
        bytes[..64].copy_from_slice(&compact);
        bytes[64] = u8::try_from(i32::from(parity)).unwrap();
        SignerSignature { signer: id(n), signature: Signature(bytes) }
    }

    fn epoch() -> Epoch {
        Epoch {
            chain: CHAIN,
            number: 3,
            params: Params::Pbft(PbftParams {
                block_interval: Span(100),
                empty_blocks: false,
                round_timeout: Span(100),
                round_timeout_max: Span(1_000),
                retransmit: Span(100),
                clock_drift: Span(100),
            }),
            committee: Committee::equal((1..=4).map(id)).unwrap(),
            first: Height(10),
            last: Height(20),
            anchor: Anchor::Final { hash: B256::ZERO, time: Time(0) },
        }
    }

    fn proof(height: u64, step: Step, signers: &[u8]) -> FinalityProof {
        let position = Position { epoch: 3, step, height: Height(height), round: 0 };
        let vote = Vote { position, hash: B256::repeat_byte(1), context: B256::ZERO };
        let signatures = signers.iter().map(|n| signature(*n, &vote)).collect();
        FinalityProof { certificate: Certificate { vote, signatures } }
    }

    #[test]
    fn a_quorum_of_members_proves_and_nothing_less_does() {
        let (epoch, good) = (epoch(), proof(12, Step::Commit, &[1, 2, 3]));
        assert_eq!(verify_signed_proof(&epoch, &good), Ok(Trust::Accountable));
        let refused = |proof| verify_signed_proof(&epoch, &proof).unwrap_err();
        let quorum = |proof| matches!(refused(proof), InvalidProof::Quorum { .. });
        assert!(quorum(proof(12, Step::Commit, &[1, 2])));
        assert!(quorum(proof(12, Step::Commit, &[1, 2, 2, 2])), "one signer counts once");
        assert!(quorum(proof(12, Step::Commit, &[1, 2, 9])), "a stranger does not count");
        assert_eq!(
            refused(proof(12, Step::Prepare, &[1, 2, 3])),
            InvalidProof::Step(Step::Prepare)
        );
        assert_eq!(refused(proof(21, Step::Commit, &[1, 2, 3])), InvalidProof::Height(Height(21)));
    }

    #[test]
    fn a_signature_counts_for_nobody_else_and_has_one_form() {
        let epoch = epoch();
        let mut stolen = proof(12, Step::Commit, &[1, 2, 3]);
        stolen.certificate.signatures[0].signer = id(4);
        assert_eq!(verify_signed_proof(&epoch, &stolen), Err(InvalidProof::Signature(id(4))));
        let vote = stolen.certificate.vote;
        let mut high = signature(1, &vote).signature;
        let order = alloy_primitives::U256::from_be_bytes(secp256k1::constants::CURVE_ORDER);
        let s = alloy_primitives::U256::from_be_slice(&high.0[32..64]);
        high.0[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        high.0[64] ^= 1;
        assert_eq!(recover(vote.digest(CHAIN), &high), None, "the other form of s is refused");
        high.0[64] = 27;
        assert_eq!(recover(vote.digest(CHAIN), &high), None);
    }
}
