//! What a host sets: keys, peers, and every bound.

use crate::bucket::Rate;
use crate::key::{Endpoint, NodeKey, PeerAddress, PeerKey};
use alloy_primitives::B256;
use landfall_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// A network as one node sees it.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's key.
    pub key: NodeKey,
    /// Where to listen. Port 0 takes a free one; `Network::listening` tells which.
    pub listen: SocketAddr,
    /// Where others are told to find this node. By default the address listened at, or, if that
    /// names no interface, the address from which others see it come. Peers tell on only an IP
    /// address from which they see it come.
    pub external: Option<Endpoint>,
    /// Peers that are always kept connected.
    pub static_peers: Vec<PeerAddress>,
    /// Whether to learn addresses from peers and to tell them those of others.
    pub discovery: bool,
    /// The validators of the genesis: who holds the key *is* that validator.
    pub validators: BTreeMap<PeerKey, NodeId>,
    /// In a permissioned network, the keys that may connect, those of validators and static peers
    /// among them. Others are refused by name.
    pub allow: Option<BTreeSet<PeerKey>>,
    /// What must agree between two nodes.
    pub hello: Hello,
    /// The bounds.
    pub limits: Limits,
}

/// What two nodes tell each other first. All but `client` must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Hash of the genesis block.
    pub genesis: B256,
    /// Hash of the schedule of engines: nodes that would change protocol at another height, or to
    /// another protocol, part at the handshake and not at that height.
    pub schedule: B256,
    /// The chain id.
    pub chain_id: u64,
    /// Name and version of the software, for people. At most 128 bytes.
    pub client: String,
}

/// Every bound. The worst case of memory is `peers_max` and the validators and static peers, each
/// with [`Limits::peer_bytes_max`], and 128 gossip messages waiting for each peer that reads slowly:
/// these are the host's own and such as it accepted, shared neither in memory nor in time, since a
/// peer to which gossip is dropped for 15 s is cut.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connected peers that are neither validators nor static; those have their own slots.
    pub peers_max: usize,
    /// Of these, slots that only our own dials fill: an attacker cannot take them.
    pub outbound_reserved: usize,
    /// Discovered peers that we dial until we have so many connections of our own making.
    pub outbound_target: usize,
    /// Peers from one IP prefix (/24, or /48 of IPv6) that are neither validators nor static.
    pub prefix_peers_max: usize,
    /// Incoming connections in the handshake. When full the oldest is dropped: an honest
    /// handshake takes milliseconds.
    pub pending_max: usize,
    /// Of these from one IP address.
    pub pending_ip_max: usize,
    /// Whether loopback addresses are free of the limits by prefix and address.
    pub loopback_exempt: bool,
    /// Known addresses.
    pub known_max: usize,
    /// Time for a handshake, and for opening the lanes after it.
    pub handshake_timeout: Duration,
    /// A peer that sends nothing for so long is cut. Each side sends something in a quarter of it.
    pub idle_timeout: Duration,
    /// In so long, a frame that began must advance by [`Limits::progress_bytes`] or end, read or
    /// written.
    pub progress_timeout: Duration,
    /// See [`Limits::progress_timeout`].
    pub progress_bytes: usize,
    /// What may come on the votes lane from one peer. Beyond it we read slower; to insist is an
    /// offence.
    pub votes_messages: Rate,
    /// Bytes on the votes lane from one peer.
    pub votes_bytes: Rate,
    /// Messages on the sync lane from one peer. Its bytes are bounded by `bytes` alone: they are
    /// answers that we asked for.
    pub sync_messages: Rate,
    /// New blocks gossiped by one peer; of all peers together, twice as many are passed on. What comes
    /// beyond is dropped.
    pub gossip_blocks: Rate,
    /// New messages of transactions gossiped by one peer; of all together, twice as many are passed on.
    pub gossip_transactions: Rate,
    /// Gossip frames of any content from one peer: duplicates and control too.
    pub gossip_frames: Rate,
    /// Bytes from one peer of any content. Beyond it we read slower.
    pub bytes: Rate,
    /// Bytes of votes from one peer that the host has not released.
    pub votes_unreleased_max: usize,
    /// Bytes of sync messages from one peer that the host has not released.
    pub sync_unreleased_max: usize,
    /// Bytes of gossip from one peer that the host has not released.
    pub gossip_unreleased_max: usize,
    /// Bytes of votes waiting to be sent to one peer.
    pub votes_queue_max: usize,
    /// Bytes of sync messages waiting to be sent to one peer.
    pub sync_queue_max: usize,
    /// Bytes that the host has given to gossip and that are not yet handed out.
    pub gossip_queue_max: usize,
    /// Weight of offences at which a peer is cut and banned.
    pub ban_threshold: u32,
    /// In so long, half of an offence is forgotten.
    pub offence_half_life: Duration,
    /// How long a ban lasts.
    pub ban: Duration,
    /// How long a ban lasts for a validator or a static peer: it is needed.
    pub ban_static: Duration,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            peers_max: 50,
            outbound_reserved: 16,
            outbound_target: 16,
            prefix_peers_max: 8,
            pending_max: 128,
            pending_ip_max: 16,
            loopback_exempt: true,
            known_max: 1024,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            progress_timeout: Duration::from_secs(10),
            progress_bytes: 64 * KIB,
            votes_messages: Rate { per_second: 4_000, burst: 12_000 },
            votes_bytes: Rate { per_second: 4 << 20, burst: 16 << 20 },
            sync_messages: Rate { per_second: 500, burst: 2_000 },
            gossip_blocks: Rate { per_second: 100, burst: 400 },
            gossip_transactions: Rate { per_second: 500, burst: 2_000 },
            gossip_frames: Rate { per_second: 2_000, burst: 8_000 },
            bytes: Rate { per_second: 64 << 20, burst: 128 << 20 },
            votes_unreleased_max: 2 * MIB,
            sync_unreleased_max: 13 * MIB,
            gossip_unreleased_max: 16 * MIB,
            votes_queue_max: 2 * MIB,
            sync_queue_max: 32 * MIB,
            gossip_queue_max: 64 * MIB,
            ban_threshold: 100,
            offence_half_life: Duration::from_secs(60),
            ban: Duration::from_secs(600),
            ban_static: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The most bytes that one peer makes us hold: unread, unreleased and unsent.
    pub fn peer_bytes_max(&self) -> usize {
        crate::muxer::RECEIVE_WINDOW
            + self.votes_unreleased_max
            + self.sync_unreleased_max
            + self.gossip_unreleased_max
            + self.votes_queue_max
            + self.sync_queue_max
    }
}
