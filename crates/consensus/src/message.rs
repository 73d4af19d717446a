//! What engines say and remember, at the seam: closed enums, each protocol with its own types.

use crate::{pbft, raft};
use alloy_rlp::{Decodable, Encodable};
use landfall_types::SignedVote;

/// What goes with a message beside the vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Of a Raft instance.
    Raft(raft::Message),
    /// Of a PBFT instance.
    Pbft(pbft::Message),
}

/// The durable state of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of a Raft instance.
    Raft(raft::Record),
    /// Of a PBFT instance.
    Pbft(pbft::Record),
}

impl Body {
    /// Every signed vote inside, for workers to recover before an engine sees it.
    pub fn votes(&self) -> Vec<SignedVote> {
        match self {
            Self::Raft(message) => message.votes(),
            Self::Pbft(message) => message.votes(),
        }
    }
}

macro_rules! tagged {
    ($name:ident { $($tag:literal => $variant:ident($inner:ty),)* }) => {
        impl Encodable for $name {
            fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
                match self { $(Self::$variant(inner) => { ($tag as u8).encode(out); inner.encode(out) })* }
            }

            fn length(&self) -> usize {
                match self { $(Self::$variant(inner) => ($tag as u8).length() + inner.length(),)* }
            }
        }

        impl Decodable for $name {
            fn decode(bytes: &mut &[u8]) -> alloy_rlp::Result<Self> {
                match u8::decode(bytes)? {
                    $($tag => Ok(Self::$variant(<$inner>::decode(bytes)?)),)*
                    _ => Err(alloy_rlp::Error::Custom("unknown protocol")),
                }
            }
        }
    };
}

// A tag, then the protocol's own list; the numbers are on disks and wires and never change.
tagged!(Body { 1 => Raft(raft::Message), 2 => Pbft(pbft::Message), });
tagged!(Record { 1 => Raft(raft::Record), 2 => Pbft(pbft::Record), });
