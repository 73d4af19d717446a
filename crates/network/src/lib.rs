//! Peers: authenticated connections, direct lanes, gossip, limits and bans.
//!
//! [`start`] binds a socket and returns a handle, a channel of [`Event`]s and a future that the host
//! spawns. A host sends with the handle and reads the channel:
//!
//! - **lanes** carry messages to one peer: votes on one, sync on the other, each in order, each
//!   lossy when a queue is full;
//! - **gossip** carries blocks and transactions to everybody. Nothing is forwarded before the host
//!   has judged it.
//!
//! A peer is known by its [`PeerKey`]. The genesis binds keys to validators; a peer with such a key
//! has the validator's id, any other has the address of its key. Both sides compare genesis, schedule
//! of engines and wire version before anything else, and a difference is named on both. `wire.rs` has
//! the format.
//!
//! Everything that a peer can make this node hold or do is bounded ([`Limits`]): bytes and messages
//! per second, unread, unreleased and unsent bytes, handshakes, connections, addresses, offences. A
//! peer that goes beyond is read slower, then cut and banned. It never stops another: not even when
//! the host is slow, since what the host has not released is counted per peer.
//!
//! This is the only crate that names libp2p, and no type of libp2p is in its interface. It starts no
//! runtime, signs no votes, knows no block, and never judges what a message says.

mod admission;
mod bucket;
mod config;
mod counters;
mod directory;
mod driver;
mod event;
mod gossip;
mod handshake;
mod key;
mod lanes;
mod muxer;
mod network;
mod outbox;
mod peer;
mod refusal;
mod session;
mod shared;
mod socket;
mod standing;
mod transport;
mod wire;

pub use bucket::Rate;
pub use config::{Config, Hello, Limits};
pub use counters::{Counters, Flow};
pub use event::{Direction, Event, GossipId, Lane, Offence, PeerInfo, Permit, Topic, Verdict};
pub use key::{Endpoint, KeyError, NodeKey, PeerAddress, PeerKey};
pub use network::{Network, start};
pub use refusal::NetworkError;
