//! Gossip by libp2p's gossipsub: its parameters, and a limit on what a peer may make it do.

use crate::bucket::{Bucket, Rate};
use crate::event::Topic;
use crate::wire::{gossip_hash, topic_name};
use alloy_primitives::B256;
use libp2p_core::transport::PortUse;
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_gossipsub::{
    Behaviour, Config, ConfigBuilder, DataTransform, IdentTopic, MaxCountSubscriptionFilter,
    Message, MessageAuthenticity, MessageId, RawMessage, TopicHash, ValidationMode,
    WhitelistSubscriptionFilter,
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Protobuf around a message: topic and lengths.
const ENVELOPE: usize = 1024;
/// Messages queued for one peer that reads slowly. More are dropped.
const QUEUE_MAX: usize = 128;

type Filter = MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>;
type Gossipsub = Behaviour<OwnTopics, Filter>;

/// The topics of this chain.
#[derive(Debug, Clone)]
pub(crate) struct Topics([TopicHash; 2]);

impl Topics {
    fn new(genesis: B256) -> Self {
        Self(Topic::ALL.map(|topic| TopicHash::from_raw(topic_name(topic, genesis))))
    }

    pub(crate) fn hash(&self, topic: Topic) -> TopicHash {
        self.0[topic.index()].clone()
    }

    pub(crate) fn topic(&self, hash: &TopicHash) -> Option<Topic> {
        Topic::ALL.into_iter().find(|topic| self.0[topic.index()] == *hash)
    }
}

/// Refuses messages of other topics before they are remembered.
pub(crate) struct OwnTopics(Topics);

impl DataTransform for OwnTopics {
    fn inbound_transform(&self, raw: RawMessage) -> io::Result<Message> {
        if self.0.topic(&raw.topic).is_none() {
            return Err(io::Error::other("not a topic of this chain"));
        }
        let RawMessage { source, data, sequence_number, topic, .. } = raw;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

/// Ids of messages that a peer is told of at a time: 34 bytes each.
const IDS_TOLD: usize = 400;

/// Parameters for 4 to 100 nodes that want blocks and transactions soon.
fn parameters(topics: &Topics) -> Config {
    let mut builder = ConfigBuilder::default();
    builder
        // A heartbeat repairs the mesh and tells what was missed; 12 of them is the time in which
        // a host must give its verdict, 6 s.
        .heartbeat_interval(Duration::from_millis(500))
        .heartbeat_initial_delay(Duration::from_millis(500))
        .history_length(12)
        .history_gossip(4)
        .mesh_n_low(4)
        .mesh_n(6)
        .mesh_n_high(10)
        .mesh_outbound_min(2)
        .prune_backoff(Duration::from_secs(10))
        .graft_flood_threshold(Duration::from_secs(5))
        // Our own go to every peer at once; others' go along the mesh.
        .flood_publish(true)
        // Content is the address: the same bytes from two nodes are one message, and need no author.
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message| {
            MessageId::new(gossip_hash(message.topic.as_str(), &message.data).as_slice())
        })
        .validate_messages()
        .duplicate_cache_time(Duration::from_secs(60))
        .max_transmit_size(Topic::Blocks.message_bytes_max() + ENVELOPE)
        // Senders put one message in a frame.
        .max_publish_messages(4)
        .max_ihave_messages_heartbeat(10)
        // As many ids as fit into the 16 KiB of control data that gossipsub takes in one frame: with
        // more, a busy topic would break the streams of those that are told of it.
        .max_control_messages_sent(IDS_TOLD)
        .connection_handler_queue_len(QUEUE_MAX)
        .publish_queue_duration(Duration::from_secs(4))
        .forward_queue_duration(Duration::from_secs(2))
        // Each large message makes a frame to every neighbour before anybody has looked at it: with a
        // low threshold, one peer's messages make us flood the others.
        .idontwant_message_size_threshold(256 << 10);
    for topic in Topic::ALL {
        let size = topic.message_bytes_max() + ENVELOPE;
        builder.max_transmit_size_for_topic(size, topics.hash(topic));
    }
    builder.build().expect("constant parameters that agree")
}

/// What gossip says.
#[derive(Debug)]
pub(crate) enum GossipEvent {
    Gossipsub(libp2p_gossipsub::Event),
    /// A peer sent more frames than it may; they were not looked at.
    Flood(PeerId),
}

/// Gossipsub, with a limit on frames of any kind from each connection: duplicates and control
/// messages, which it does not report, cost time too.
pub(crate) struct Gossip {
    inner: Gossipsub,
    pub(crate) topics: Topics,
    rate: Rate,
    buckets: BTreeMap<ConnectionId, Meter>,
    floods: VecDeque<PeerId>,
}

struct Meter {
    bucket: Bucket,
    /// When a flood was last reported: once a second is enough to be banned by.
    reported: Option<Instant>,
}

impl Gossip {
    pub(crate) fn new(genesis: B256, rate: Rate) -> Self {
        let topics = Topics::new(genesis);
        let filter = MaxCountSubscriptionFilter {
            filter: WhitelistSubscriptionFilter(topics.0.iter().cloned().collect()),
            max_subscribed_topics: Topic::ALL.len(),
            max_subscriptions_per_request: 2 * Topic::ALL.len(),
        };
        let mut inner = Gossipsub::new_with_subscription_filter_and_transform(
            MessageAuthenticity::Anonymous,
            parameters(&topics),
            filter,
            OwnTopics(topics.clone()),
        )
        .expect("anonymous on both sides");
        for topic in Topic::ALL {
            inner
                .subscribe(&IdentTopic::new(topic_name(topic, genesis)))
                .expect("the filter lets our topics pass");
        }
        let (buckets, floods) = (BTreeMap::new(), VecDeque::new());
        Self { inner, topics, rate, buckets, floods }
    }

    pub(crate) fn gossipsub(&mut self) -> &mut Gossipsub {
        &mut self.inner
    }

    fn meter(&mut self, connection: ConnectionId) {
        let bucket = Bucket::new(self.rate, Instant::now());
        self.buckets.insert(connection, Meter { bucket, reported: None });
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = <Gossipsub as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = GossipEvent;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.meter(connection);
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.meter(connection);
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event {
            self.buckets.remove(&closed.connection_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let now = Instant::now();
        // A connection that is closed already has no meter, and nothing more to say.
        let Some(meter) = self.buckets.get_mut(&connection) else { return };
        if meter.bucket.try_take(1, now) {
            self.inner.on_connection_handler_event(peer, connection, event);
        } else if meter.reported.is_none_or(|at| now - at > Duration::from_secs(1)) {
            meter.reported = Some(now);
            self.floods.push_back(peer);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<GossipEvent, THandlerInEvent<Self>>> {
        if let Some(peer) = self.floods.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(GossipEvent::Flood(peer)));
        }
        self.inner.poll(cx).map(|event| event.map_out(GossipEvent::Gossipsub))
    }
}
