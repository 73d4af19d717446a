//! Between the replica's messages and the network's bytes.
//!
//! Votes go over a stream of their own to each member, so that none waits behind a block; new
//! blocks and transactions are gossiped; what sync asks and answers goes to one peer.

use super::driver::Happening;
use super::observer::Observer;
use super::receiving::{Place, Receiving};
use super::spread;
use crate::door::Door;
use alloy_primitives::bytes::Bytes;
use landfall_chain::pool::PoolError;
use landfall_network::{Event, GossipId, Lane, Network, Offence, Permit, Topic, Verdict};
use landfall_replica::{Passage, To, Wire, passage};
use landfall_types::{Block, Committee, NodeId};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc::{self, error::TrySendError};

/// A block of an agreement that comes so many heights late is no news.
const LATE: u64 = 8;

/// Messages that are no votes and wait to be decoded; what they hold is bounded by the network's
/// permits.
pub const BULK: usize = 1_024;

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

/// The way in: hands votes to the driver, and all else to [`take_bulk`], so that a vote does not wait
/// while a block is decoded, unless [`BULK`] messages of sync wait too. Runs until the network or the driver has ended.
pub async fn listen(
    mut events: mpsc::Receiver<Event>,
    bulk: mpsc::Sender<Event>,
    network: Network,
    driver: mpsc::Sender<Happening>,
) {
    while let Some(event) = events.recv().await {
        let done = match event {
            Event::Message { from, lane: Lane::Votes, bytes, permit } => {
                match decode(&network, from, &bytes, permit) {
                    Some(vote) => driver.send(vote).await.is_err(),
                    None => false,
                }
            }
            gossip @ Event::Gossip { id, .. } => match bulk.try_send(gossip) {
                // It may be lost: whoever said it says it again.
                Err(TrySendError::Full(_)) => {
                    network.verdict(id, Verdict::Ignore);
                    false
                }
                sent => sent.is_err(),
            },
            other => bulk.send(other).await.is_err(),
        };
        if done {
            return;
        }
    }
}

fn decode(network: &Network, from: NodeId, bytes: &[u8], permit: Permit) -> Option<Happening> {
    match Wire::decode(bytes) {
        Ok(wire) => Some(Happening::Wire { from, wire, permit: Some(permit) }),
        Err(error) => {
            network.penalise(from, Offence::Malformed, &error.to_string());
            None
        }
    }
}

/// What is no vote; runs until the network or the driver has ended.
pub async fn take_bulk(
    mut events: mpsc::Receiver<Event>,
    network: Network,
    driver: mpsc::Sender<Happening>,
    door: Arc<Door>,
    observer: Arc<Observer>,
) {
    let receiving = Receiving::default();
    while let Some(event) = events.recv().await {
        let happening = match event {
            Event::Message { from, bytes, permit, .. } => {
                match decode(&network, from, &bytes, permit) {
                    Some(happening) => happening,
                    None => continue,
                }
            }
            Event::Gossip { from, topic: Topic::Blocks, bytes, id, permit } => {
                match Wire::decode(&bytes) {
                    // Forwarded before it is executed, so that it travels at the speed of the
                    // network: whoever sealed it answers for it, not whoever passes it on.
                    Ok(Wire::Block(block)) if is_of_long_ago(&block, &observer) => {
                        network.verdict(id, Verdict::Ignore);
                        continue;
                    }
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
                let member = observer.view().epoch.has_member(&from);
                let Some(place) = receiving.begin(from, member, Instant::now()) else {
                    network.verdict(id, Verdict::Ignore);
                    continue;
                };
                let (network, door) = (network.clone(), door.clone());
                tokio::spawn(async move {
                    take_transactions(&network, &door, from, &bytes, id, place).await;
                    drop(permit);
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

/// Whether a block is of a height that an agreement left long ago: it is no news, whoever lacks it
/// asks for it, and anybody could send all of them around once more.
fn is_of_long_ago(block: &Block, observer: &Observer) -> bool {
    let view = observer.view();
    view.epoch.kind().is_agreement() && block.number().saturating_add(LATE) < view.height.0
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
    mut place: Place,
) {
    let Ok(transactions) = spread::decode(bytes) else {
        network.verdict(id, Verdict::Reject);
        return;
    };
    place.looks_at(transactions.len());
    let outcomes = door.receive(transactions).await;
    let is_useful = |outcome: &&Result<_, _>| {
        // What is in a block already was known as well: gossip and blocks overtake each other.
        matches!(outcome, Ok(_) | Err(PoolError::AlreadyKnown | PoolError::NonceTooLow { .. }))
    };
    place.found_useful(outcomes.iter().filter(is_useful).count());
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
