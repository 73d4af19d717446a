//! What a network counts, for metrics.

use crate::event::{Lane, Topic};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Messages.
    pub messages: u64,
    /// Their bytes, without framing and encryption.
    pub bytes: u64,
}

/// Counts since the start, but for `peers`.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    /// Peers connected now.
    pub peers: u64,
    /// Direct messages received, by [`Lane`].
    pub lanes_in: [Flow; 2],
    /// Direct messages written, by [`Lane`].
    pub lanes_out: [Flow; 2],
    /// Gossip that was handed to the host, by [`Topic`].
    pub gossip_in: [Flow; 2],
    /// The host's own gossip, by [`Topic`].
    pub gossip_out: [Flow; 2],
    /// Direct messages dropped since a queue was full or the peer gone, by [`Lane`].
    pub dropped: [u64; 2],
    /// The host's gossip that was dropped: the queue was full, or no peer takes the topic.
    pub gossip_dropped: u64,
    /// Gossip from peers that was dropped: too much of it, or the host is behind.
    pub gossip_shed: u64,
    /// Verdicts that came too late, or were lost.
    pub verdicts_lost: u64,
    /// Messages of the host that were too long for their lane or topic.
    pub oversized_out: u64,
    /// Frames of peers that were too long, or malformed.
    pub malformed: u64,
    /// Times that a peer was read slower since it sent too much.
    pub rate_limited: u64,
    /// Offences that were held against peers.
    pub offences: u64,
    /// Peers banned.
    pub bans: u64,
    /// Connections that this node tried to make.
    pub dials: u64,
    /// Connections that came in.
    pub accepted: u64,
    /// Connections that reached no peer, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Events dropped since the host is behind. Only `Refused` and `Banned` ever are.
    pub events_dropped: u64,
}

impl Counters {
    /// The flow into a lane.
    pub fn lane_in(&self, lane: Lane) -> Flow {
        self.lanes_in[lane.index()]
    }

    /// The flow out of a lane.
    pub fn lane_out(&self, lane: Lane) -> Flow {
        self.lanes_out[lane.index()]
    }

    /// The gossip of a topic that the host received.
    pub fn topic_in(&self, topic: Topic) -> Flow {
        self.gossip_in[topic.index()]
    }

    /// The gossip of a topic that the host sent.
    pub fn topic_out(&self, topic: Topic) -> Flow {
        self.gossip_out[topic.index()]
    }
}

#[derive(Debug, Default)]
pub(crate) struct FlowMeter {
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl FlowMeter {
    pub(crate) fn add(&self, bytes: usize) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn read(&self) -> Flow {
        Flow { messages: read(&self.messages), bytes: read(&self.bytes) }
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The counters as they are counted.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    pub lanes_in: [FlowMeter; 2],
    pub lanes_out: [FlowMeter; 2],
    pub gossip_in: [FlowMeter; 2],
    pub gossip_out: [FlowMeter; 2],
    pub dropped: [AtomicU64; 2],
    pub gossip_dropped: AtomicU64,
    pub gossip_shed: AtomicU64,
    pub verdicts_lost: AtomicU64,
    pub oversized_out: AtomicU64,
    pub malformed: AtomicU64,
    pub rate_limited: AtomicU64,
    pub offences: AtomicU64,
    pub bans: AtomicU64,
    pub dials: AtomicU64,
    pub accepted: AtomicU64,
    pub refused: Mutex<BTreeMap<&'static str, u64>>,
    pub events_dropped: AtomicU64,
}

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Meters {
    pub(crate) fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }

    pub(crate) fn read(&self, peers: usize) -> Counters {
        let flows = |meters: &[FlowMeter; 2]| [meters[0].read(), meters[1].read()];
        Counters {
            peers: peers as u64,
            lanes_in: flows(&self.lanes_in),
            lanes_out: flows(&self.lanes_out),
            gossip_in: flows(&self.gossip_in),
            gossip_out: flows(&self.gossip_out),
            dropped: [read(&self.dropped[0]), read(&self.dropped[1])],
            gossip_dropped: read(&self.gossip_dropped),
            gossip_shed: read(&self.gossip_shed),
            verdicts_lost: read(&self.verdicts_lost),
            oversized_out: read(&self.oversized_out),
            malformed: read(&self.malformed),
            rate_limited: read(&self.rate_limited),
            offences: read(&self.offences),
            bans: read(&self.bans),
            dials: read(&self.dials),
            accepted: read(&self.accepted),
            refused: self.refused.lock().clone(),
            events_dropped: read(&self.events_dropped),
        }
    }
}
