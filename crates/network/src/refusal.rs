//! Why a connection was not made, in words that name what differs.

use crate::config::Hello;
use crate::key::{PeerAddress, PeerKey};
use crate::wire::{Answer, Greeting, VERSION, WireError};
use alloy_primitives::B256;
use landfall_types::NodeId;
use std::io;
use std::time::Duration;

/// Why this node refuses another that has shown its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Protocol(WireError),
    #[error("wire version differs: ours {VERSION}, theirs {0}; run the same release on both nodes")]
    Version(u16),
    #[error("genesis differs: ours {ours}, theirs {theirs}; the nodes are of two chains")]
    Genesis { ours: B256, theirs: B256 },
    #[error(
        "schedule of engines differs: ours {ours}, theirs {theirs}; give both nodes the same \
         config.landfall"
    )]
    Schedule { ours: B256, theirs: B256 },
    #[error("chain id differs: ours {ours}, theirs {theirs}")]
    ChainId { ours: u64, theirs: u64 },
    #[error("key {0} is not on the allow-list of this network")]
    NotAllowed(PeerKey),
    #[error("key {key} has the address of validator {id}, which the genesis binds to another key")]
    Impostor { key: PeerKey, id: NodeId },
    #[error("banned for another {} s: {why}", left.as_secs() + 1)]
    Banned { left: Duration, why: String },
    #[error("all slots for {0} are taken")]
    Full(&'static str),
    #[error("already connected")]
    Duplicate,
    #[error("it is this node itself")]
    Own,
}

/// How soon a refused peer is worth another dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// At once: it is only a connection too many, or none.
    Short,
    /// When slots may have become free.
    Medium,
    /// When somebody may have changed a configuration.
    Long,
}

impl Refusal {
    /// What the other node is told; part of the wire format.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Protocol(_) => 1,
            Self::Version(_) => 2,
            Self::Genesis { .. } => 3,
            Self::Schedule { .. } => 4,
            Self::ChainId { .. } => 5,
            Self::NotAllowed(_) => 6,
            Self::Impostor { .. } => 7,
            Self::Banned { .. } => 8,
            Self::Full(_) => 9,
            Self::Duplicate => 10,
            Self::Own => 11,
        }
    }

    pub(crate) fn answer(&self) -> Answer {
        Answer { code: self.code(), text: self.to_string() }
    }

    /// Checks what must agree, the first difference first.
    pub(crate) fn compare(ours: &Hello, theirs: &Hello) -> Result<(), Self> {
        if ours.genesis != theirs.genesis {
            return Err(Self::Genesis { ours: ours.genesis, theirs: theirs.genesis });
        }
        if ours.chain_id != theirs.chain_id {
            return Err(Self::ChainId { ours: ours.chain_id, theirs: theirs.chain_id });
        }
        if ours.schedule != theirs.schedule {
            return Err(Self::Schedule { ours: ours.schedule, theirs: theirs.schedule });
        }
        Ok(())
    }

    pub(crate) fn greeting(bytes: &[u8]) -> Result<Greeting, Self> {
        Greeting::decode(bytes).map_err(|error| match error {
            WireError::Version(theirs) => Self::Version(theirs),
            error => Self::Protocol(error),
        })
    }
}

/// The name of a code in counters.
const fn name(code: u8) -> &'static str {
    match code {
        1 => "protocol",
        2 => "version",
        3 => "genesis",
        4 => "schedule",
        5 => "chain_id",
        6 => "not_allowed",
        7 => "impostor",
        8 => "banned",
        9 => "full",
        10 => "duplicate",
        11 => "own",
        _ => "other",
    }
}

const fn patience(code: u8) -> Patience {
    match code {
        8 | 9 => Patience::Medium,
        10 => Patience::Short,
        _ => Patience::Long,
    }
}

/// What went wrong between the first byte and the last of a handshake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke in the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("encryption failed: {0}")]
    Noise(#[from] libp2p_noise::Error),
    #[error("its key is not one of secp256k1")]
    ForeignKey,
    #[error("expected the key of {expected}, found {found}; correct the address or the key")]
    WrongKey { expected: PeerKey, found: PeerKey },
    #[error("it announced a hello of {0} bytes")]
    Oversized(u32),
    #[error("no handshake within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    #[error("dropped for newer connections: too many in the handshake")]
    Crowded,
    #[error("{refusal}")]
    Refused { key: PeerKey, refusal: Refusal },
    #[error("refused by the peer: {}", answer.text)]
    RefusedByPeer { key: PeerKey, answer: Answer },
}

impl ConnectError {
    /// Finds ours inside the error of a boxed transport.
    pub(crate) fn find(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The reason as counters name it.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Connect(_) => "unreachable",
            Self::Io(_) => "broken",
            Self::Noise(_) | Self::ForeignKey => "encryption",
            Self::WrongKey { .. } => "wrong_key",
            Self::Oversized(_) => "protocol",
            Self::Timeout(_) => "timeout",
            Self::Crowded => "crowded",
            Self::Refused { refusal, .. } => name(refusal.code()),
            Self::RefusedByPeer { answer, .. } => name(answer.code),
        }
    }

    pub(crate) const fn patience(&self) -> Patience {
        match self {
            Self::Refused { refusal, .. } => patience(refusal.code()),
            Self::RefusedByPeer { answer, .. } => patience(answer.code),
            Self::WrongKey { .. } | Self::ForeignKey => Patience::Long,
            _ => Patience::Short,
        }
    }

    /// The key of the other side, where the handshake got so far.
    pub(crate) const fn key(&self) -> Option<PeerKey> {
        match self {
            Self::Refused { key, .. } | Self::RefusedByPeer { key, .. } => Some(*key),
            Self::WrongKey { found, .. } => Some(*found),
            _ => None,
        }
    }

    /// Whether somebody should hear of it: neither a plain failure to connect, which a dialler
    /// repeats, nor one of two simultaneous dials.
    pub(crate) const fn is_news(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Io(_) | Self::Crowded => false,
            Self::Refused { refusal, .. } => refusal.code() != Refusal::Duplicate.code(),
            Self::RefusedByPeer { answer, .. } => answer.code != Refusal::Duplicate.code(),
            _ => true,
        }
    }
}

/// A network that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The listening socket.
    #[error("cannot listen on {address}: {source}; choose another with the p2p address or port")]
    Listen {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Two keys of one validator: a peer's id would not be unique.
    #[error("the genesis binds validator {0} to two node keys; bind each to one")]
    BoundTwice(NodeId),
    /// A static peer with this node's own key.
    #[error("static peer {0} has this node's own key; remove it or generate another key")]
    OwnAddress(PeerAddress),
    /// The name of the client does not fit the handshake.
    #[error("the client's name has {0} bytes; at most 128 are allowed")]
    ClientName(usize),
    /// A bound below the largest message, which could then never pass.
    #[error("the limit {0} is below the largest message that it must let pass; raise it")]
    Limits(&'static str),
    /// A rate of nothing.
    #[error("a rate of zero lets nothing pass; give each rate and each burst at least 1")]
    Rate,
}
