//! The driver: the one task that owns libp2p's swarm. It dials, begins and ends sessions, and carries
//! gossip. It never waits for a peer or for the host.

use crate::bucket::{Bucket, Rate};
use crate::config::Limits;
use crate::counters::count;
use crate::directory::{Directory, Wanted};
use crate::event::{Direction, Event, GossipId, Lane, Offence, Permit, Topic, Verdict};
use crate::gossip::{Gossip, GossipEvent};
use crate::key::{PeerAddress, PeerKey};
use crate::lanes::{LaneEvent, Lanes};
use crate::peer::Peer;
use crate::refusal::{ConnectError, Patience};
use crate::session;
use crate::shared::{Command, Shared};
use crate::transport::{describe, to_multiaddr};
use alloy_primitives::B256;
use bytes::Bytes;
use futures_util::StreamExt;
use libp2p_core::Multiaddr;
use libp2p_core::transport::{ListenerId, TransportError};
use libp2p_gossipsub::{Message, MessageAcceptance, MessageId, PublishError};
use libp2p_identity::PeerId;
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{
    ConnectionId, DialError, ListenError, NetworkBehaviour, Stream, Swarm, SwarmEvent,
};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How often the directory is asked whom to dial.
const TICK: Duration = Duration::from_millis(100);
/// How long a stop waits for what is queued to be written, and again for connections to close.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);
/// Heartbeats in a row in which gossip to a peer was dropped, until it is cut: 15 s.
const SLOW_HEARTBEATS_MAX: u32 = 30;
/// A heartbeat without drops is missed after this.
const SLOW_GAP: Duration = Duration::from_secs(2);
/// Refused connections that are told. An attacker makes them as fast as it connects; all are counted.
const NEWS: Rate = Rate { per_second: 10, burst: 200 };

/// What libp2p runs on each connection.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p_swarm::derive_prelude")]
pub(crate) struct Protocols {
    pub gossip: Gossip,
    pub lanes: Lanes,
}

type Happening = SwarmEvent<ProtocolsEvent>;

struct Session {
    peer: Arc<Peer>,
    connection: ConnectionId,
    lanes: mpsc::Sender<(Lane, Stream)>,
    /// By [`Topic`].
    gossip: [Bucket; 2],
    slow: Option<Slow>,
}

/// A peer to which gossip is being dropped.
struct Slow {
    heartbeats: u32,
    last: Instant,
}

/// What so many peers may gossip; by [`Topic`].
fn gossip_buckets(limits: &Limits, peers: u64, now: Instant) -> [Bucket; 2] {
    [limits.gossip_blocks, limits.gossip_transactions].map(|Rate { per_second, burst }| {
        Bucket::new(Rate { per_second: per_second * peers, burst: burst * peers }, now)
    })
}

pub(crate) struct Driver {
    pub swarm: Swarm<Protocols>,
    pub listener: ListenerId,
    pub shared: Arc<Shared>,
    pub commands: mpsc::Receiver<Command>,
    pub stop: watch::Receiver<bool>,
    pub directory: Directory,
    sessions: BTreeMap<PeerId, Session>,
    tasks: JoinSet<()>,
    news: Bucket,
    /// What may still be passed on, by [`Topic`].
    forwarded: [Bucket; 2],
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Protocols>,
        listener: ListenerId,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
        stop: watch::Receiver<bool>,
        directory: Directory,
    ) -> Self {
        let (sessions, tasks) = (BTreeMap::new(), JoinSet::new());
        let now = Instant::now();
        // Twice what one may send: one alone cannot keep all others' from being passed on.
        let forwarded = gossip_buckets(&shared.limits, 2, now);
        let news = Bucket::new(NEWS, now);
        Self {
            swarm,
            listener,
            shared,
            commands,
            stop,
            directory,
            sessions,
            tasks,
            news,
            forwarded,
        }
    }

    /// Runs until it is told to stop, or the host no longer listens.
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.happened(event),
                Some(command) = self.commands.recv() => self.obey(command),
                _ = tick.tick() => {
                    self.dial();
                    while self.tasks.try_join_next().is_some() {}
                    if self.shared.events.is_closed() {
                        break;
                    }
                }
                _ = self.stop.changed() => break,
            }
        }
        self.finish().await;
    }

    /// Lets what is queued go out, and the peers leave when they have read it.
    async fn finish(mut self) {
        self.swarm.remove_listener(self.listener);
        let is_idle = |peer: &Arc<Peer>| Lane::ALL.iter().all(|it| peer.outbox(*it).is_idle());
        self.pump(|driver| driver.shared.connected().iter().all(is_idle)).await;
        for peer in self.shared.connected() {
            Lane::ALL.iter().for_each(|lane| peer.outbox(*lane).close());
        }
        self.pump(|driver| driver.sessions.is_empty()).await;
        for peer in self.shared.connected() {
            self.shared.end(&peer, "this node stops");
        }
    }

    /// Carries on until something holds or time is up.
    async fn pump(&mut self, holds: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + STOP_TIMEOUT;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        while !holds(self) {
            tokio::select! {
                event = self.swarm.select_next_some() => self.happened(event),
                Some(command) = self.commands.recv() => self.obey(command),
                _ = tick.tick() => {}
                () = tokio::time::sleep_until(end) => return,
            }
        }
    }

    fn dial(&mut self) {
        let (shared, limits) = (&self.shared, &self.shared.limits);
        let learnt = self.sessions.values().map(|session| &session.peer).filter(|peer| {
            peer.direction == Direction::Outbound && !shared.admission.is_static(&peer.key)
        });
        let wanted = Wanted {
            connected: &|key| self.sessions.contains_key(&key.peer_id()),
            may_dial: &|key| shared.admission.may_dial(key),
            is_validator: &|key| shared.admission.is_validator(key),
            learnt: limits.outbound_target.saturating_sub(learnt.count()),
        };
        for address in self.directory.due(&wanted, Instant::now()) {
            count(&self.shared.meters.dials);
            let options = DialOpts::peer_id(address.key.peer_id())
                .addresses(vec![to_multiaddr(&address)])
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%address, %error, "no dial");
                self.directory.failed(&address.key, Patience::Short, Instant::now());
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Gossip { topic, bytes, permit } => self.publish(topic, &bytes, permit),
            Command::Verdict { id, verdict } => self.judge(id, verdict),
            Command::Close(connection) => {
                self.swarm.close_connection(connection);
            }
            Command::Learn { from, addresses } => {
                let learnable =
                    |address: &PeerAddress| self.shared.admission.may_dial(&address.key);
                for address in addresses.into_iter().filter(learnable) {
                    self.directory.learn(address, from, now);
                }
            }
            Command::AddPeer(address) => self.directory.add_static(address, now),
            Command::RemovePeer(key) => {
                self.directory.remove(&key);
                if let Some(session) = self.sessions.get(&key.peer_id()) {
                    self.shared.end(&session.peer, "removed by the operator");
                }
            }
        }
    }

    fn publish(&mut self, topic: Topic, bytes: &Bytes, _held: OwnedSemaphorePermit) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        let hash = gossip.topics.hash(topic);
        match gossip.gossipsub().publish(hash, bytes.to_vec()) {
            Ok(_) => self.shared.meters.gossip_out[topic.index()].add(bytes.len()),
            // Others have said it already.
            Err(PublishError::Duplicate) => {}
            Err(error) => {
                count(&self.shared.meters.gossip_dropped);
                tracing::debug!(topic = topic.name(), %error, "gossip dropped");
            }
        }
    }

    fn judge(&mut self, id: GossipId, verdict: Verdict) {
        let acceptance = match verdict {
            // Many peers may send what each may: passed on without a limit it would make us the one
            // that floods.
            Verdict::Accept if !self.forwarded[id.topic.index()].try_take(1, Instant::now()) => {
                count(&self.shared.meters.gossip_shed);
                MessageAcceptance::Ignore
            }
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Reject => MessageAcceptance::Reject,
            Verdict::Ignore => MessageAcceptance::Ignore,
        };
        let message = MessageId::new(id.hash.as_slice());
        let gossipsub = self.swarm.behaviour_mut().gossip.gossipsub();
        if !gossipsub.report_message_validation_result(&message, &id.source, acceptance) {
            count(&self.shared.meters.verdicts_lost);
        }
        if verdict == Verdict::Reject
            && let Some(session) = self.sessions.get(&id.source)
        {
            self.shared.penalise(&session.peer, Offence::Invalid, "it forwarded invalid gossip");
        }
    }

    fn happened(&mut self, event: Happening) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.established(peer_id, connection_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let why = cause.map_or_else(|| "it left".to_owned(), |cause| cause.to_string());
                self.closed(peer_id, connection_id, &why);
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Lanes(event)) => self.lane(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(event)) => self.gossip(event),
            SwarmEvent::IncomingConnection { .. } => count(&self.shared.meters.accepted),
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error: ListenError::Transport(TransportError::Other(error)),
                ..
            } => self.refused(&send_back_addr, &error),
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                self.dial_failed(peer_id, &error);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "cannot accept connections; is there a descriptor left?");
            }
            _ => {}
        }
    }

    fn established(&mut self, peer_id: PeerId, connection: ConnectionId) {
        let Some(key) = PeerKey::from_peer_id(&peer_id) else {
            unreachable!("the handshake lets other keys not pass")
        };
        let Some(arrival) = self.shared.admission.claim(&key) else {
            self.swarm.close_connection(connection);
            return;
        };
        self.directory.connected(&key);
        let reserve = || self.shared.events.clone().try_reserve_owned();
        let (Ok(welcome), Ok(farewell)) = (reserve(), reserve()) else {
            tracing::warn!(%key, "connection closed: the host does not take events");
            self.shared.admission.release(&key);
            self.swarm.close_connection(connection);
            return;
        };
        let (admission, limits) = (&self.shared.admission, &self.shared.limits);
        let peer = Arc::new(Peer::new(arrival, admission, limits, farewell));
        if self.shared.discovery
            && peer.tellable
            && let Some(address) = &peer.listening
        {
            self.directory.learn(address.clone(), key, Instant::now());
        }
        let info = peer.info(admission);
        tracing::info!(
            peer = %peer.id, %key, address = %peer.remote, direction = ?peer.direction,
            validator = info.validator, client = info.client, "peer connected"
        );
        // It can be sent to before the host hears of it, never the other way round.
        self.shared.peers.write().insert(peer.id, Arc::clone(&peer));
        welcome.send(Event::Connected(info));
        let (lanes, opened) = mpsc::channel(Lane::ALL.len());
        let session = session::run(Arc::clone(&self.shared), Arc::clone(&peer), opened, connection);
        self.tasks.spawn(session);
        let now = Instant::now();
        let gossip = gossip_buckets(limits, 1, now);
        let session = Session { peer, connection, lanes, gossip, slow: None };
        let other = self.sessions.insert(peer_id, session);
        assert!(other.is_none(), "a connection is claimed when the last is released");
    }

    fn closed(&mut self, peer_id: PeerId, connection: ConnectionId, why: &str) {
        let current = |session: &Session| session.connection == connection;
        if !self.sessions.get(&peer_id).is_some_and(current) {
            return;
        }
        if let Some(session) = self.sessions.remove(&peer_id) {
            let key = session.peer.key;
            self.shared.end(&session.peer, why);
            self.shared.admission.release(&key);
            self.directory.lost(&key, Instant::now());
        }
    }

    fn lane(&mut self, LaneEvent { peer, connection, lane, stream }: LaneEvent) {
        let current = |session: &&Session| session.connection == connection;
        let Some(session) = self.sessions.get(&peer).filter(current) else { return };
        match stream {
            // The session takes two, the channel holds two, a connection has two.
            Ok(stream) => drop(session.lanes.try_send((lane, stream))),
            Err(error) => {
                self.shared.end(&session.peer, &format!("it has no {lane} lane: {error}"));
            }
        }
    }

    fn gossip(&mut self, event: GossipEvent) {
        match event {
            GossipEvent::Flood(source) => {
                if let Some(session) = self.sessions.get(&source) {
                    count(&self.shared.meters.rate_limited);
                    self.shared.penalise(&session.peer, Offence::Flood, "too many gossip frames");
                }
            }
            GossipEvent::Gossipsub(libp2p_gossipsub::Event::Message {
                propagation_source: source,
                message_id,
                message,
            }) => {
                let topics = &self.swarm.behaviour_mut().gossip.topics;
                let Some(topic) = topics.topic(&message.topic) else {
                    unreachable!("gossipsub hands out what we have subscribed to")
                };
                let id = GossipId { hash: B256::from_slice(&message_id.0), source, topic };
                if !self.deliver(id, message) {
                    self.judge(id, Verdict::Ignore);
                }
            }
            GossipEvent::Gossipsub(libp2p_gossipsub::Event::SlowPeer { peer_id, .. }) => {
                self.slow(peer_id);
            }
            GossipEvent::Gossipsub(libp2p_gossipsub::Event::GossipsubNotSupported { peer_id }) => {
                if let Some(session) = self.sessions.get(&peer_id) {
                    self.shared.end(&session.peer, "it does not gossip");
                }
            }
            GossipEvent::Gossipsub(_) => {}
        }
    }

    /// Gossipsub tells at each heartbeat to whom it had to drop.
    fn slow(&mut self, peer: PeerId) {
        let Some(session) = self.sessions.get_mut(&peer) else { return };
        let last = Instant::now();
        let before = session.slow.take().filter(|slow| last - slow.last < SLOW_GAP);
        let heartbeats = before.map_or(0, |slow| slow.heartbeats) + 1;
        session.slow = Some(Slow { heartbeats, last });
        if heartbeats >= SLOW_HEARTBEATS_MAX {
            self.shared.end(&session.peer, "it read gossip too slowly");
        }
    }

    /// Hands gossip to the host, if its source and the host allow.
    fn deliver(&mut self, id: GossipId, message: Message) -> bool {
        let topic = id.topic;
        let Some(session) = self.sessions.get_mut(&id.source) else { return false };
        let (shared, peer) = (&self.shared, &session.peer);
        if !session.gossip[topic.index()].try_take(1, Instant::now()) {
            // No offence: who forwards what several peers may send forwards more than one may.
            count(&shared.meters.gossip_shed);
            return false;
        }
        let bytes = Bytes::from(message.data);
        // What gossipsub lets pass has room for an envelope, and may have none.
        if bytes.len() > topic.message_bytes_max() {
            count(&shared.meters.malformed);
            shared.penalise(peer, Offence::Malformed, "gossip longer than its topic allows");
            return false;
        }
        let cost = u32::try_from(bytes.len() + crate::session::MESSAGE_COST).expect("bounded");
        let Ok(permit) = Arc::clone(&peer.unreleased_gossip).try_acquire_many_owned(cost) else {
            count(&shared.meters.gossip_shed);
            return false;
        };
        shared.meters.gossip_in[topic.index()].add(bytes.len());
        count(&peer.messages_in);
        let event = Event::Gossip { from: peer.id, topic, bytes, id, permit: Permit(permit) };
        shared.events.try_send(event).is_ok()
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, error: &DialError) {
        let mut patience = Patience::Short;
        if let DialError::Transport(errors) = error {
            for (address, error) in errors {
                if let TransportError::Other(error) = error {
                    patience = ConnectError::find(error).map_or(patience, ConnectError::patience);
                    self.refused(address, error);
                }
            }
        }
        if let Some(key) = peer.and_then(|peer| PeerKey::from_peer_id(&peer)) {
            self.directory.failed(&key, patience, Instant::now());
        }
    }

    /// Counts and reports a connection that came to nothing.
    fn refused(&mut self, address: &Multiaddr, error: &io::Error) {
        let Some(error) = ConnectError::find(error) else { return };
        let (address, why) = (describe(address), error.to_string());
        self.shared.meters.refuse(error.reason());
        if error.is_news() && self.news.try_take(1, Instant::now()) {
            let key = error.key();
            let name = key.map_or_else(String::new, |key| key.to_string());
            tracing::warn!(address, key = name, why, "connection refused");
            self.shared.emit(Event::Refused { key, address, why });
        } else {
            tracing::debug!(address, why, "no connection");
        }
    }
}
