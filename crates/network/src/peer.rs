//! A connected peer, as the handle, its session and the driver share it.

use crate::admission::{Admission, Arrival};
use crate::config::Limits;
use crate::event::{Direction, Event, Lane, PeerInfo};
use crate::key::{PeerAddress, PeerKey};
use crate::outbox::Outbox;
use crate::socket::Traffic;
use landfall_types::NodeId;
use parking_lot::Mutex;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{Notify, Semaphore};

#[derive(Debug)]
pub(crate) struct Peer {
    pub id: NodeId,
    pub key: PeerKey,
    pub remote: SocketAddr,
    pub direction: Direction,
    client: String,
    since: SystemTime,
    /// The clock of its pings.
    pub started: Instant,
    /// Where it listens, by its own words.
    pub listening: Option<PeerAddress>,
    /// Whether these words may be told on: its connection shows that they are true of its host.
    pub tellable: bool,
    traffic: Arc<Traffic>,
    outboxes: [Outbox; 2],
    unreleased: [Arc<Semaphore>; 2],
    pub unreleased_gossip: Arc<Semaphore>,
    /// Microseconds; zero before the first answer.
    pub round_trip: AtomicU64,
    pub messages_in: AtomicU64,
    pub messages_out: AtomicU64,
    /// The place in the channel for the event that this peer is gone. Taken at its end.
    pub farewell: Mutex<Option<OwnedPermit<Event>>>,
    pub ended: Notify,
}

impl Peer {
    pub(crate) fn new(
        arrival: Arrival,
        admission: &Admission,
        limits: &Limits,
        farewell: OwnedPermit<Event>,
    ) -> Self {
        let Arrival { key, remote, direction, greeting, traffic } = arrival;
        let ip = remote.ip().to_canonical();
        let named = greeting.host.parse::<IpAddr>().map(|ip| ip.to_canonical());
        let tellable = greeting.host.is_empty() || named == Ok(ip);
        let host = if greeting.host.is_empty() { ip.to_string() } else { greeting.host };
        let port = greeting.port;
        Self {
            id: admission.id_of(&key),
            key,
            remote,
            direction,
            client: greeting.hello.client,
            since: SystemTime::now(),
            started: Instant::now(),
            listening: (port != 0).then_some(PeerAddress { key, host, port }),
            tellable,
            traffic,
            outboxes: [
                Outbox::new(Lane::Votes, limits.votes_queue_max),
                Outbox::new(Lane::Sync, limits.sync_queue_max),
            ],
            unreleased: [
                Arc::new(Semaphore::new(limits.votes_unreleased_max)),
                Arc::new(Semaphore::new(limits.sync_unreleased_max)),
            ],
            unreleased_gossip: Arc::new(Semaphore::new(limits.gossip_unreleased_max)),
            round_trip: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            messages_out: AtomicU64::new(0),
            farewell: Mutex::new(Some(farewell)),
            ended: Notify::new(),
        }
    }

    pub(crate) const fn outbox(&self, lane: Lane) -> &Outbox {
        &self.outboxes[lane.index()]
    }

    pub(crate) const fn unreleased(&self, lane: Lane) -> &Arc<Semaphore> {
        &self.unreleased[lane.index()]
    }

    /// Microseconds since it connected.
    pub(crate) fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn info(&self, admission: &Admission) -> PeerInfo {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let round_trip = read(&self.round_trip);
        PeerInfo {
            id: self.id,
            key: self.key,
            address: self.remote,
            listening: self.listening.clone(),
            direction: self.direction,
            validator: admission.is_validator(&self.key),
            is_static: admission.is_static(&self.key),
            score: admission.score(&self.key),
            since: self.since,
            client: self.client.clone(),
            round_trip: (round_trip != 0).then(|| Duration::from_micros(round_trip)),
            bytes_in: read(&self.traffic.bytes_in),
            bytes_out: read(&self.traffic.bytes_out),
            messages_in: read(&self.messages_in),
            messages_out: read(&self.messages_out),
        }
    }
}
