//! What replicas say to each other, and its bytes.

use alloy_primitives::{B256, Bytes};
use alloy_rlp::{Decodable, Encodable, Header};
use landfall_consensus::{Body, FinalityProof};
use landfall_types::{Block, BlockError, Height, NodeId, SignedVote};

/// One message between two nodes.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Wire {
    /// From engine to engine.
    Engine {
        /// Of which epoch.
        epoch: u64,
        /// The vote, if it is one; its signer is the sender.
        vote: Option<SignedVote>,
        /// What comes with it.
        body: Body,
    },
    /// A block, asked for or new.
    Block(Block),
    /// "Send me this block."
    Get(B256),
    /// "So far I am"; said every now and then.
    Status {
        /// The height that is final here.
        finalized: Height,
        /// The head here.
        head: B256,
    },
    /// "What follows this height?" Answered with blocks of one epoch and a proof.
    Range {
        /// The asker's finalised height.
        after: Height,
    },
    /// That a block is final.
    Proof(FinalityProof),
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every peer.
    Everyone,
    /// The members of the running epoch.
    Members,
    /// One node.
    One(NodeId),
    /// One peer, another one each time.
    Any,
}

/// Why bytes are no message.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    /// Malformed RLP, or a message of an unknown kind.
    #[error("not a message: {0}")]
    Rlp(#[from] alloy_rlp::Error),
    /// A malformed block.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Wire {
    /// The message as bytes: a list of its kind and its fields.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        match self {
            Self::Engine { epoch, vote, body } => {
                1_u8.encode(&mut payload);
                epoch.encode(&mut payload);
                vote.as_slice().to_vec().encode(&mut payload);
                body.encode(&mut payload);
            }
            Self::Block(block) => {
                2_u8.encode(&mut payload);
                Bytes::from(block.encode()).encode(&mut payload);
            }
            Self::Get(hash) => {
                3_u8.encode(&mut payload);
                hash.encode(&mut payload);
            }
            Self::Status { finalized, head } => {
                4_u8.encode(&mut payload);
                finalized.encode(&mut payload);
                head.encode(&mut payload);
            }
            Self::Range { after } => {
                5_u8.encode(&mut payload);
                after.encode(&mut payload);
            }
            Self::Proof(proof) => {
                6_u8.encode(&mut payload);
                proof.encode(&mut payload);
            }
        }
        let mut out = Vec::with_capacity(payload.len() + 5);
        Header { list: true, payload_length: payload.len() }.encode(&mut out);
        out.extend_from_slice(&payload);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, WireError> {
        let mut inner = Header::decode_bytes(&mut bytes, true)?;
        let fields = &mut inner;
        let wire = match u8::decode(fields)? {
            1 => Self::Engine {
                epoch: u64::decode(fields)?,
                vote: decode_vote(fields)?,
                body: Body::decode(fields)?,
            },
            2 => Self::Block(Block::decode(&Bytes::decode(fields)?)?),
            3 => Self::Get(B256::decode(fields)?),
            4 => Self::Status { finalized: Height::decode(fields)?, head: B256::decode(fields)? },
            5 => Self::Range { after: Height::decode(fields)? },
            6 => Self::Proof(FinalityProof::decode(fields)?),
            _ => return Err(alloy_rlp::Error::Custom("unknown kind of message").into()),
        };
        if !inner.is_empty() || !bytes.is_empty() {
            return Err(alloy_rlp::Error::UnexpectedLength.into());
        }
        Ok(wire)
    }
}

fn decode_vote(fields: &mut &[u8]) -> alloy_rlp::Result<Option<SignedVote>> {
    let mut votes = Vec::<SignedVote>::decode(fields)?;
    if votes.len() > 1 {
        return Err(alloy_rlp::Error::Custom("a message holds one vote at most"));
    }
    Ok(votes.pop())
}
