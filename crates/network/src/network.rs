//! The handle of a network, and its start.

use crate::admission::Admission;
use crate::config::{Config, Limits};
use crate::counters::{Counters, Meters, count};
use crate::directory::Directory;
use crate::driver::{Driver, Protocols};
use crate::event::{Event, GossipId, Lane, Offence, PeerInfo, Topic, Verdict};
use crate::gossip::Gossip;
use crate::handshake::Handshake;
use crate::key::{PeerAddress, PeerKey};
use crate::lanes::Lanes;
use crate::outbox::Frame;
use crate::refusal::NetworkError;
use crate::session::MESSAGE_COST;
use crate::shared::{Command, NOTICES_MAX, Shared};
use crate::transport::{Tcp, socket_multiaddr};
use crate::wire::{CLIENT_BYTES_MAX, Greeting, Kind};
use bytes::Bytes;
use landfall_types::NodeId;
use libp2p_core::Transport;
use libp2p_swarm::Swarm;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

/// Commands that wait for the driver. It never waits itself, so they are few.
const COMMANDS_MAX: usize = 16 << 10;
/// Substreams of one peer that are being negotiated.
const NEGOTIATING_MAX: usize = 8;

/// A handle of a running network. Cheap to clone; no method waits, and any thread may call it.
#[derive(Debug, Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

/// Binds the listening socket and makes everything ready. Nothing moves until the future is
/// spawned; it ends some time after [`Network::stop`], or when the receiver is dropped.
///
/// # Errors
///
/// If the address cannot be listened on, or the configuration contradicts itself.
///
/// # Panics
///
/// Outside of a tokio runtime: the socket registers with it.
pub fn start(
    config: Config,
) -> Result<(Network, mpsc::Receiver<Event>, impl Future<Output = ()> + Send), NetworkError> {
    check(&config)?;
    let listener = listen(config.listen)?;
    let listening = listener.local_addr().map_err(|source| no_listener(config.listen, source))?;
    let admission = Arc::new(Admission::new(&config));
    let (events, receiver) = mpsc::channel(events_max(&config));
    let (commands, obeyed) = mpsc::channel(COMMANDS_MAX);
    let (stop, stopped) = watch::channel(false);
    let directory = Directory::new(&config.limits, &config.static_peers, std::time::Instant::now());
    let handshake = Handshake {
        noise: libp2p_noise::Config::new(&config.key.identity()).expect("a key that signs"),
        greeting: greeting(&config, listening),
        limits: config.limits.clone(),
        admission: Arc::clone(&admission),
    };
    let protocols = Protocols {
        gossip: Gossip::new(config.hello.genesis, config.limits.gossip_frames),
        lanes: Lanes::default(),
    };
    let settings = libp2p_swarm::Config::with_tokio_executor()
        .with_max_negotiating_inbound_streams(NEGOTIATING_MAX);
    let own = config.key.public().peer_id();
    let transport = Tcp::new(Arc::new(handshake), listener).boxed();
    let mut swarm = Swarm::new(transport, protocols, own, settings);
    let id = swarm.listen_on(socket_multiaddr(listening)).expect("the transport has bound it");
    let shared = Arc::new(Shared {
        gossip_queue: Arc::new(Semaphore::new(config.limits.gossip_queue_max)),
        limits: config.limits,
        discovery: config.discovery,
        listening,
        admission,
        peers: RwLock::new(BTreeMap::new()),
        meters: Meters::default(),
        events,
        commands,
        stop,
        turn: AtomicUsize::new(0),
        told: Mutex::new(0),
    });
    let driver = Driver::new(swarm, id, Arc::clone(&shared), obeyed, stopped, directory);
    Ok((Network { shared }, receiver, driver.run()))
}

fn check(config: &Config) -> Result<(), NetworkError> {
    let mut ids = BTreeSet::new();
    if let Some(id) = config.validators.values().find(|id| !ids.insert(**id)) {
        return Err(NetworkError::BoundTwice(*id));
    }
    let own = config.key.public();
    if let Some(address) = config.static_peers.iter().find(|peer| peer.key == own) {
        return Err(NetworkError::OwnAddress(address.clone()));
    }
    if config.hello.client.len() > CLIENT_BYTES_MAX {
        return Err(NetworkError::ClientName(config.hello.client.len()));
    }
    let rates = [
        config.limits.votes_messages,
        config.limits.votes_bytes,
        config.limits.sync_messages,
        config.limits.gossip_blocks,
        config.limits.gossip_transactions,
        config.limits.gossip_frames,
        config.limits.bytes,
    ];
    if rates.iter().any(|rate| rate.per_second == 0 || rate.burst == 0) {
        return Err(NetworkError::Rate);
    }
    let Limits { votes_unreleased_max, sync_unreleased_max, gossip_unreleased_max, .. } =
        config.limits;
    let too_small = [
        (votes_unreleased_max, Lane::Votes.message_bytes_max(), "votes_unreleased_max"),
        (sync_unreleased_max, Lane::Sync.message_bytes_max(), "sync_unreleased_max"),
        (gossip_unreleased_max, Topic::Blocks.message_bytes_max(), "gossip_unreleased_max"),
        (config.limits.gossip_queue_max, Topic::Blocks.message_bytes_max(), "gossip_queue_max"),
    ]
    .into_iter()
    .find(|(limit, message, _)| *limit < message + MESSAGE_COST);
    too_small.map_or(Ok(()), |(_, _, name)| Err(NetworkError::Limits(name)))
}

/// Room for all that peers may have unreleased, so that no peer's messages keep out another's: the
/// bytes are bounded by permits, this only must not be smaller. An empty place costs nothing.
fn events_max(config: &Config) -> usize {
    let limits = &config.limits;
    let peers = limits.peers_max + config.validators.len() + config.static_peers.len() + 64;
    let unreleased =
        limits.votes_unreleased_max + limits.sync_unreleased_max + limits.gossip_unreleased_max;
    (peers * (unreleased / MESSAGE_COST) + NOTICES_MAX).min(Semaphore::MAX_PERMITS)
}

const fn no_listener(address: SocketAddr, source: std::io::Error) -> NetworkError {
    NetworkError::Listen { address, source }
}

fn listen(address: SocketAddr) -> Result<TcpListener, NetworkError> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        // A node that restarts finds its port held by connections that are still closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(1024)
    });
    bound.map_err(|source| no_listener(address, source))
}

/// What this node says of itself: where others find it, if it knows.
fn greeting(config: &Config, listening: SocketAddr) -> Greeting {
    let ip = listening.ip();
    let (host, port) = match &config.external {
        Some(endpoint) => (endpoint.host.clone(), endpoint.port),
        None if ip.is_unspecified() => (String::new(), listening.port()),
        None => (ip.to_string(), listening.port()),
    };
    Greeting { hello: config.hello.clone(), host, port }
}

impl Network {
    /// Sends a message to a peer. It is dropped, and counted, if the peer is not connected, its
    /// queue is full, or the message is longer than the lane allows.
    pub fn send(&self, to: NodeId, lane: Lane, bytes: Bytes) {
        if self.fits(bytes.len(), lane.message_bytes_max(), lane.name()) {
            match self.shared.peer(&to) {
                Some(peer) => drop(self.shared.push(&peer, lane, message(bytes))),
                None => count(&self.shared.meters.dropped[lane.index()]),
            }
        }
    }

    /// Sends a message to every connected peer.
    pub fn broadcast(&self, lane: Lane, bytes: Bytes) {
        if self.fits(bytes.len(), lane.message_bytes_max(), lane.name()) {
            for peer in self.shared.peers.read().values() {
                self.shared.push(peer, lane, message(bytes.clone()));
            }
        }
    }

    /// Sends a message to one peer, another each time, and says to which; `None` if none is
    /// connected or all queues are full.
    pub fn send_to_any(&self, lane: Lane, bytes: Bytes) -> Option<NodeId> {
        if !self.fits(bytes.len(), lane.message_bytes_max(), lane.name()) {
            return None;
        }
        let peers = self.shared.connected();
        let begin = self.shared.turn.fetch_add(1, Ordering::Relaxed) % peers.len().max(1);
        let turns = peers.iter().cycle().skip(begin).take(peers.len());
        let taken = turns.into_iter().find(|peer| peer.outbox(lane).has_room(bytes.len()));
        let Some(peer) = taken else {
            count(&self.shared.meters.dropped[lane.index()]);
            return None;
        };
        self.shared.push(peer, lane, message(bytes)).then_some(peer.id)
    }

    /// Gossips a message of this node's own. Every connected peer gets it at once. It is dropped,
    /// and counted, if too much is waiting, or nobody listens.
    pub fn gossip(&self, topic: Topic, bytes: Bytes) {
        if !self.fits(bytes.len(), topic.message_bytes_max(), topic.name()) {
            return;
        }
        let cost = u32::try_from(bytes.len() + MESSAGE_COST).expect("messages are bounded");
        let queued = Arc::clone(&self.shared.gossip_queue).try_acquire_many_owned(cost).is_ok_and(
            |permit| {
                let command = Command::Gossip { topic, bytes, permit };
                self.shared.commands.try_send(command).is_ok()
            },
        );
        if !queued {
            count(&self.shared.meters.gossip_dropped);
        }
    }

    /// Says what became of a gossiped message. Without a verdict within 6 s it is not forwarded.
    pub fn verdict(&self, id: GossipId, verdict: Verdict) {
        if self.shared.commands.try_send(Command::Verdict { id, verdict }).is_err() {
            count(&self.shared.meters.verdicts_lost);
        }
    }

    /// Holds an offence against a connected peer; `why` is for people. Offences add up to a ban.
    pub fn penalise(&self, peer: NodeId, offence: Offence, why: &str) {
        if let Some(peer) = self.shared.peer(&peer) {
            self.shared.penalise(&peer, offence, why);
        }
    }

    /// The connected peers, by id.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.connected().iter().map(|peer| peer.info(&self.shared.admission)).collect()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let peers = self.shared.peers.read().len();
        self.shared.meters.read(peers)
    }

    /// The address that the socket is bound to.
    pub fn listening(&self) -> SocketAddr {
        self.shared.listening
    }

    /// Keeps another peer connected from now on, as `admin_addPeer` asks; false if that was so
    /// before. An address that is known is replaced.
    pub fn add_peer(&self, address: PeerAddress) -> bool {
        let is_new = self.shared.admission.set_static(address.key, true);
        self.command(Command::AddPeer(address));
        is_new
    }

    /// Forgets a peer and cuts its connection, as `admin_removePeer` asks; false if it was neither
    /// connected nor kept connected. It may come back by itself.
    pub fn remove_peer(&self, key: PeerKey) -> bool {
        let was_kept = self.shared.admission.set_static(key, false);
        let was_connected = self.peers().iter().any(|peer| peer.key == key);
        self.command(Command::RemovePeer(key));
        was_kept || was_connected
    }

    /// Stops: no more connections, what is queued goes out as far as it does in half a second, all
    /// peers are gone. The future that was spawned ends then.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    fn command(&self, command: Command) {
        if let Err(error) = self.shared.commands.try_send(command) {
            tracing::warn!(%error, "a command was lost: the network is behind or has stopped");
        }
    }

    /// A message that is too long is the host's mistake, yet may come of a client's data: it is
    /// refused aloud and does not end the node.
    fn fits(&self, length: usize, max: usize, name: &str) -> bool {
        if length > max {
            count(&self.shared.meters.oversized_out);
            tracing::error!(length, max, name, "message dropped: longer than peers accept");
        }
        length <= max
    }
}

fn message(payload: Bytes) -> Frame {
    Frame { kind: Kind::Message, payload }
}
