//! A signed vote: what every member of a committee says when it binds itself.
//!
//! One shape serves all protocols. A vote has a *position*, which its signer may fill once in its
//! life, and a *digest*, what it says there: two digests of one signer for one position are the
//! evidence of a lie, whatever the protocol.

use crate::{Height, NodeId};
use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

/// What kind of statement a vote is. The numbers are on the wire and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Step {
    /// PBFT: "in this round I propose `hash`". `context`: digest of the justification.
    Proposal = 1,
    /// PBFT: "I accepted `hash` in this round". `context`: digest of the proposal's justification.
    Prepare = 2,
    /// PBFT: "a quorum prepared `hash` in this round". `context` is zero.
    Commit = 3,
    /// PBFT: "I moved to this round". `hash`: what a quorum prepared last, or zero; `context`: the
    /// round in which it did, plus one, as a number.
    RoundChange = 4,
    /// Raft: "in this term (the round) I vote for `hash`", the candidate's address.
    Grant = 5,
    /// Raft: "in this term (the round) my log ends with `hash`".
    Ack = 6,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 6] =
        [Self::Proposal, Self::Prepare, Self::Commit, Self::RoundChange, Self::Grant, Self::Ack];

    /// As in the RPC and in the labels of metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposal => "proposal",
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::RoundChange => "roundChange",
            Self::Grant => "grant",
            Self::Ack => "ack",
        }
    }
}

impl Encodable for Step {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        (*self as u8).encode(out);
    }

    fn length(&self) -> usize {
        1
    }
}

impl Decodable for Step {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        let number = u8::decode(bytes)?;
        let found = Self::ALL.into_iter().find(|step| *step as u8 == number);
        found.ok_or(alloy_rlp::Error::Custom("unknown step of a vote"))
    }
}

/// The place that a member may fill once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodable, RlpDecodable)]
pub struct Position {
    /// The epoch whose committee votes.
    pub epoch: u64,
    /// What kind of statement.
    pub step: Step,
    /// The height that is voted on; zero where the protocol votes on no height.
    pub height: Height,
    /// Round, term, view or ballot.
    pub round: u64,
}

/// What a member says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodable, RlpDecodable)]
pub struct Vote {
    /// Where.
    pub position: Position,
    /// For which block, mostly.
    pub hash: B256,
    /// What else is said: see [`Step`].
    pub context: B256,
}

impl Vote {
    /// What is signed on the chain with this genesis hash. The chain and the step are inside, so
    /// no signature means anything elsewhere.
    pub fn digest(&self, chain: B256) -> B256 {
        let mut bytes = b"landfall vote v1".to_vec();
        chain.encode(&mut bytes);
        self.encode(&mut bytes);
        keccak256(bytes)
    }

    /// Whether two votes of one signer prove that it lied.
    pub fn contradicts(&self, other: &Self) -> bool {
        self.position == other.position && (self.hash, self.context) != (other.hash, other.context)
    }
}

/// A recoverable secp256k1 signature: r, s, and the parity of y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(pub [u8; 65]);

impl Encodable for Signature {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        self.0.encode(out);
    }

    fn length(&self) -> usize {
        self.0.length()
    }
}

impl Decodable for Signature {
    fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
        Ok(Self(<[u8; 65]>::decode(bytes)?))
    }
}

/// A vote and who signed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SignedVote {
    /// What was said.
    pub vote: Vote,
    /// Who said it: the address that the signature recovers to. What comes from a peer or a disk
    /// claims it; whoever reads it recovers and compares before an engine sees it.
    pub signer: NodeId,
    /// The signature of [`Vote::digest`].
    pub signature: Signature,
}

/// The same vote by several members.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct Certificate {
    /// What all of them said.
    pub vote: Vote,
    /// Signers and signatures, in order of signers; claimed, until recovered and compared.
    pub signatures: Vec<SignerSignature>,
}

/// One signature of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SignerSignature {
    /// Who.
    pub signer: NodeId,
    /// The signature.
    pub signature: Signature,
}

impl Certificate {
    /// The votes one by one.
    pub fn votes(&self) -> impl Iterator<Item = SignedVote> + '_ {
        self.signatures.iter().map(|one| SignedVote {
            vote: self.vote,
            signer: one.signer,
            signature: one.signature,
        })
    }

    /// Who signed; a signer may be named twice.
    pub fn signers(&self) -> impl Iterator<Item = &NodeId> {
        self.signatures.iter().map(|one| &one.signer)
    }
}
