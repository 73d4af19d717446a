//! What passes between the network and its host.

use crate::key::{PeerAddress, PeerKey};
use alloy_primitives::B256;
use bytes::Bytes;
use landfall_types::NodeId;
use libp2p_identity::PeerId;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};
use tokio::sync::OwnedSemaphorePermit;

/// A direct stream between two peers. There are two, so that a vote never waits behind a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent. When a queue is full the oldest goes: a newer vote replaces it.
    Votes,
    /// Large and patient. When a queue is full the newest goes: for the oldest somebody has
    /// waited longest, and what was not answered is asked for again.
    Sync,
}

impl Lane {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Votes, Self::Sync];

    /// The most bytes of a message: 256 KiB of votes, 12 MiB of sync, above the 10 MiB of the
    /// largest block (EIP-7934).
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Votes => 256 << 10,
            Self::Sync => 12 << 20,
        }
    }

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Votes => "votes",
            Self::Sync => "sync",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is gossiped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// New blocks.
    Blocks,
    /// Transactions, in batches that the host makes.
    Transactions,
}

impl Topic {
    /// Both topics.
    pub const ALL: [Self; 2] = [Self::Blocks, Self::Transactions];

    /// The most bytes of a message: 12 MiB for blocks, 1 MiB for transactions.
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Blocks => 12 << 20,
            Self::Transactions => 1 << 20,
        }
    }

    /// The name, as in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Transactions => "transactions",
        }
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The peer did.
    Inbound,
    /// This node did.
    Outbound,
}

/// What happened. A host that does not read events stops only the peers that sent them.
#[derive(Debug)]
pub enum Event {
    /// A peer is connected; its handshake agreed.
    Connected(PeerInfo),
    /// A peer is no longer connected. Comes once after each `Connected`. A message that was on its
    /// way to the host may still follow.
    Gone {
        /// The peer.
        id: NodeId,
        /// Why, for people.
        why: String,
    },
    /// A direct message.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// The lane.
        lane: Lane,
        /// The message.
        bytes: Bytes,
        /// Its share of what this peer may have unreleased. Drop it when the message is dealt with.
        permit: Permit,
    },
    /// A gossiped message, new to this node. It goes no further until the host's verdict.
    Gossip {
        /// The peer that forwarded it; not its author.
        from: NodeId,
        /// The topic.
        topic: Topic,
        /// The message.
        bytes: Bytes,
        /// By which the verdict names it.
        id: GossipId,
        /// As in `Message`.
        permit: Permit,
    },
    /// A connection was refused in its handshake, by this node or by the other.
    Refused {
        /// The other node's key, if it got so far.
        key: Option<PeerKey>,
        /// Where it is, or from where it came.
        address: String,
        /// What differs, ours and theirs, or what went wrong.
        why: String,
    },
    /// A peer was cut, and is refused for a time.
    Banned {
        /// The peer.
        id: NodeId,
        /// Its key.
        key: PeerKey,
        /// How long it is refused.
        duration: Duration,
        /// The offence that was one too many.
        why: String,
    },
}

/// A share of the bytes that a peer may have with the host. Released when dropped.
#[derive(Debug)]
pub struct Permit(
    #[expect(dead_code, reason = "held for its drop")] pub(crate) OwnedSemaphorePermit,
);

/// A gossiped message, as it came from one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GossipId {
    pub(crate) hash: B256,
    pub(crate) source: PeerId,
    pub(crate) topic: Topic,
}

impl GossipId {
    /// The content address: the Keccak hash of the topic and the message, the same on all nodes.
    pub const fn hash(&self) -> B256 {
        self.hash
    }
}

/// What the host says of a gossiped message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Valid and new: it is forwarded.
    Accept,
    /// Invalid by a rule that every node sees alike: the peer that sent it is penalised.
    Reject,
    /// Of no use, or of unknown worth: not forwarded, nobody's fault.
    Ignore,
}

/// What a peer did wrong. Weights add up and are halved with time; see
/// [`crate::Limits::ban_threshold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// Bytes that no honest node sends: they cannot be decoded, or are longer than allowed.
    Malformed,
    /// It decodes, and breaks a rule that every node sees alike: a bad signature, a bad block.
    Invalid,
    /// More than an honest node sends.
    Flood,
    /// A request not answered, an answer to nothing.
    Useless,
}

impl Offence {
    /// The weight.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Malformed => 100,
            Self::Invalid => 35,
            Self::Flood => 20,
            Self::Useless => 2,
        }
    }
}

/// A connected peer.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// Its id: the validator that the genesis binds to its key, else the address of its key.
    pub id: NodeId,
    /// The key of the node.
    pub key: PeerKey,
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Where it says that it listens.
    pub listening: Option<PeerAddress>,
    /// Who dialled.
    pub direction: Direction,
    /// Whether the genesis binds its key to a validator.
    pub validator: bool,
    /// Whether it is one of the static peers.
    pub is_static: bool,
    /// Zero, less the weight of its offences that is not yet forgotten.
    pub score: i64,
    /// When it connected.
    pub since: SystemTime,
    /// The software that it says it is, at most 128 printable characters.
    pub client: String,
    /// The last round trip on the votes lane.
    pub round_trip: Option<Duration>,
    /// Bytes on the socket from the peer, before decryption.
    pub bytes_in: u64,
    /// Bytes on the socket to the peer.
    pub bytes_out: u64,
    /// Direct messages and gossip from the peer that reached the host.
    pub messages_in: u64,
    /// Direct messages written to the peer.
    pub messages_out: u64,
}
