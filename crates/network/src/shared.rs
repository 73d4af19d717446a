//! What the handle, the sessions and the driver share.

use crate::admission::Admission;
use crate::config::Limits;
use crate::counters::{Meters, count};
use crate::event::{Event, GossipId, Lane, Offence, Topic, Verdict};
use crate::key::{PeerAddress, PeerKey};
use crate::outbox::{Frame, Pushed};
use crate::peer::Peer;
use crate::wire::ADDRESSES_MAX;
use bytes::Bytes;
use landfall_types::NodeId;
use libp2p_swarm::ConnectionId;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Events waiting for the host at which it misses those of refusals and bans.
pub(crate) const NOTICES_MAX: usize = 4096;

/// What the driver is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// The permit is this message's share of what gossip may hold.
    Gossip {
        topic: Topic,
        bytes: Bytes,
        permit: OwnedSemaphorePermit,
    },
    Verdict {
        id: GossipId,
        verdict: Verdict,
    },
    /// A session ended.
    Close(ConnectionId),
    /// Addresses that a peer told.
    Learn {
        from: PeerKey,
        addresses: Vec<PeerAddress>,
    },
    AddPeer(PeerAddress),
    RemovePeer(PeerKey),
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub limits: Limits,
    pub discovery: bool,
    pub listening: SocketAddr,
    pub admission: Arc<Admission>,
    pub peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    pub meters: Meters,
    pub events: mpsc::Sender<Event>,
    pub commands: mpsc::Sender<Command>,
    pub gossip_queue: Arc<Semaphore>,
    pub stop: watch::Sender<bool>,
    /// Where the next `send_to_any` begins.
    pub turn: AtomicUsize,
    /// Where the next list of addresses begins.
    pub told: Mutex<usize>,
}

impl Shared {
    pub(crate) fn peer(&self, id: &NodeId) -> Option<Arc<Peer>> {
        self.peers.read().get(id).cloned()
    }

    pub(crate) fn connected(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().cloned().collect()
    }

    /// Queues a frame for a peer and counts what is dropped. Says whether the frame itself was
    /// queued.
    pub(crate) fn push(&self, peer: &Peer, lane: Lane, frame: Frame) -> bool {
        let pushed = peer.outbox(lane).push(frame);
        let dropped = match pushed {
            Pushed::Queued => 0,
            Pushed::Displaced(frames) => frames,
            Pushed::Dropped => 1,
        };
        self.meters.dropped[lane.index()].fetch_add(dropped, Ordering::Relaxed);
        pushed != Pushed::Dropped
    }

    /// An event that a host which is behind may miss. Such events hold no permit, so their number
    /// has a bound of its own.
    pub(crate) fn emit(&self, event: Event) {
        let waiting = self.events.max_capacity() - self.events.capacity();
        if waiting >= NOTICES_MAX || self.events.try_send(event).is_err() {
            count(&self.meters.events_dropped);
        }
    }

    /// Ends a peer: from now on it is gone. Its session notices and has the connection closed.
    pub(crate) fn end(&self, peer: &Arc<Peer>, why: &str) {
        let Some(farewell) = peer.farewell.lock().take() else { return };
        let replaced = self.admission.is_replaced(&peer.key);
        let why = if replaced { "replaced by a newer connection with the same key" } else { why };
        let mut peers = self.peers.write();
        if peers.get(&peer.id).is_some_and(|other| Arc::ptr_eq(other, peer)) {
            peers.remove(&peer.id);
        }
        // The lock is held, so that nobody who saw it gone precedes the event.
        farewell.send(Event::Gone { id: peer.id, why: why.to_owned() });
        drop(peers);
        tracing::info!(peer = %peer.id, key = %peer.key, address = %peer.remote, why, "peer gone");
        peer.ended.notify_one();
    }

    /// Holds an offence against a peer, and cuts and bans it if that was one too many.
    pub(crate) fn penalise(&self, peer: &Arc<Peer>, offence: Offence, why: &str) {
        count(&self.meters.offences);
        tracing::debug!(peer = %peer.id, ?offence, why, "offence");
        let Some(duration) = self.admission.offend(peer.key, peer.remote.ip(), offence, why) else {
            return;
        };
        count(&self.meters.bans);
        let seconds = duration.as_secs_f32();
        tracing::warn!(peer = %peer.id, key = %peer.key, address = %peer.remote, seconds, why, "banned");
        self.emit(Event::Banned { id: peer.id, key: peer.key, duration, why: why.to_owned() });
        self.end(peer, &format!("banned for {seconds} s: {why}"));
    }

    /// Addresses to tell a peer: of peers that are connected, others each time.
    pub(crate) fn addresses_for(&self, peer: &Peer) -> Vec<PeerAddress> {
        let peers = self.connected();
        let addresses: Vec<_> = peers
            .iter()
            .filter(|other| other.tellable && other.key != peer.key)
            .filter_map(|other| other.listening.clone())
            .collect();
        let mut told = self.told.lock();
        let begin = *told % addresses.len().max(1);
        *told = begin + ADDRESSES_MAX;
        addresses
            .iter()
            .cycle()
            .skip(begin)
            .take(addresses.len().min(ADDRESSES_MAX))
            .cloned()
            .collect()
    }
}
