//! Between the replica's messages and the network's bytes.
//!
//! Votes go over a stream of their own to each member, so that none waits behind a block; new
//! blocks and transactions are gossiped; what sync asks and answers goes to one peer.

use super::driver::Happening;
use super::observer::Observer;
use super::spread;
use crate::door::Door;
use alloy_primitives::bytes::Bytes;
use landfall_chain::pool::PoolError;
use landfall_network::{Event, GossipId, Lane, Network, Offence, Topic, Verdict};
use landfall_replica::{Passage, To, Wire, passage};
use landfall_types::{Committee, NodeId};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Batches of transactions from peers whose signatures are being recovered.
const RECEIVING: usize = 64;

/// The way out.
pub struct Link {
    network: Network,
    me: NodeId,
}

impl Link {
    /// Over a network; `me` is this node as peers know it.
    pub fn new(network: Network, me: NodeId) -> Self {
        Self { network, me }
    }

    /// Sends a message; it may be lost.
    pub fn send(&self, to: To, wire: &Wire, committee: &Committee) {
        let bytes = Bytes::from(wire.encode());
        let lane = match wire {
            Wire::Engine { .. } => Lane::Votes,
            _ => Lane::Sync,
        };
        match (to, wire) {
            (To::Everyone, Wire::Block(_)) => self.network.gossip(Topic::Blocks, bytes),
            (To::Everyone, _) => self.network.broadcast(lane, bytes),
            (To::Members, _) => {
                let others = committee.members().iter().filter(|member| member.id != self.me);
                for member in others {
                    self.network.send(member.id, lane, bytes.clone());
                }
            }
            (To::One(peer), _) => self.network.send(peer, lane, bytes),
            (To::Any, _) => drop(self.network.send_to_any(lane, bytes)),
        }
    }

    /// A peer sent what no honest node sends.
    pub fn penalise(&self, peer: NodeId, why: &str) {
        tracing::warn!(%peer, why, "a peer misbehaves");
        self.network.penalise(peer, Offence::Invalid, why);
    }
}

/// The way in: runs until the network or the driver has ended.
pub async fn listen(
    mut events: mpsc::Receiver<Event>,
    network: Network,
    driver: mpsc::Sender<Happening>,
    door: Arc<Door>,
    observer: Arc<Observer>,
) {
    let receiving = Arc::new(Semaphore::new(RECEIVING));
    while let Some(event) = events.recv().await {
        let happening = match event {
            Event::Message { from, bytes, permit, .. } => match Wire::decode(&bytes) {
                Ok(wire) => Happening::Wire { from, wire, permit: Some(permit) },
                Err(error) => {
                    network.penalise(from, Offence::Malformed, &error.to_string());
                    continue;
                }
            },
            Event::Gossip { from, topic: Topic::Blocks, bytes, id, permit } => {
                match Wire::decode(&bytes) {
                    // Forwarded before it is executed, so that it travels at the speed of the
                    // network: whoever sealed it answers for it, not whoever passes it on.
                    Ok(Wire::Block(block)) => {
                        let verdict = match passage(&block, &observer.view().epoch) {
                            Passage::Forward => Verdict::Accept,
                            Passage::Keep => Verdict::Ignore,
                            Passage::Refuse => Verdict::Reject,
                        };
                        network.verdict(id, verdict);
                        if verdict == Verdict::Reject {
                            continue;
                        }
                        Happening::Wire { from, wire: Wire::Block(block), permit: Some(permit) }
                    }
                    _ => {
                        network.verdict(id, Verdict::Reject);
                        continue;
                    }
                }
            }
            Event::Gossip { from, topic: Topic::Transactions, bytes, id, permit } => {
                let Ok(place) = receiving.clone().try_acquire_owned() else {
                    network.verdict(id, Verdict::Ignore);
                    continue;
                };
                let (network, door) = (network.clone(), door.clone());
                tokio::spawn(async move {
                    take_transactions(&network, &door, from, &bytes, id).await;
                    drop((place, permit));
                });
                continue;
            }
            other => {
                tell(&observer, other);
                continue;
            }
        };
        if driver.send(happening).await.is_err() {
            return;
        }
    }
}

/// Who comes, goes, and is not let in: for the log.
fn tell(observer: &Observer, event: Event) {
    match event {
        Event::Connected(peer) => {
            tracing::info!(peer = %peer.id, address = %peer.address, "a peer is connected");
        }
        Event::Gone { id, why } => {
            observer.gone(&id);
            tracing::info!(peer = %id, why, "a peer is gone");
        }
        Event::Refused { key, address, why } => {
            let key = key.map_or_else(|| "unknown".to_owned(), |key| key.to_string());
            tracing::warn!(key, address, why, "a peer is refused");
        }
        Event::Banned { id, duration, why, .. } => {
            tracing::warn!(peer = %id, seconds = duration.as_secs(), why, "a peer is banned");
        }
        Event::Message { .. } | Event::Gossip { .. } => unreachable!("the caller takes these"),
    }
}

async fn take_transactions(
    network: &Network,
    door: &Door,
    from: NodeId,
    bytes: &[u8],
    id: GossipId,
) {
    let Ok(transactions) = spread::decode(bytes) else {
        network.verdict(id, Verdict::Reject);
        return;
    };
    let outcomes = door.receive(transactions).await;
    let forged = outcomes.iter().any(|outcome| outcome.as_ref().is_err_and(PoolError::is_forgery));
    let verdict = if forged {
        tracing::warn!(peer = %from, "transactions that cannot be of this chain");
        Verdict::Reject
    } else if outcomes.iter().any(Result::is_ok) {
        Verdict::Accept
    } else {
        // Nobody else can use what is of no use here: it would cost all of them what it cost us.
        Verdict::Ignore
    };
    network.verdict(id, verdict);
}
