//! Who may connect: seats for peers, places in the handshake, and the choice between two
//! connections to one peer.
//!
//! Two nodes that dial each other at once would hold two connections. The node with the lower key
//! decides: it welcomes one handshake with a peer at a time, the other node takes what is welcomed.
//! A connection older than a handshake may last is no simultaneous dial, so a newer one replaces it:
//! a peer dials again only when it has lost the old one. The old one is closed and forgotten before
//! the new one begins: gossipsub tells its topics on the first of overlapping connections alone, and
//! a peer that restarted would never hear them.

use crate::config::{Config, Limits};
use crate::event::{Direction, Offence};
use crate::key::PeerKey;
use crate::refusal::Refusal;
use crate::socket::Traffic;
use crate::standing::Standings;
use crate::wire::Greeting;
use landfall_types::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a new connection looks whether the one that it replaces is forgotten.
const FORGET_INTERVAL: Duration = Duration::from_millis(5);

/// A peer at the end of its handshake.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub key: PeerKey,
    pub remote: SocketAddr,
    pub direction: Direction,
    pub greeting: Greeting,
    pub traffic: Arc<Traffic>,
}

#[derive(Debug)]
struct Record {
    arrival: Arrival,
    since: Instant,
    /// Whether libp2p has reported the connection.
    claimed: bool,
    /// Dropped to close the connection at once.
    evict: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct State {
    seats: BTreeMap<u64, Record>,
    /// Peers whose connection libp2p has reported and not yet reported closed, and whether a newer
    /// one replaces it.
    connected: BTreeMap<PeerKey, bool>,
    pending: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    next: u64,
    static_keys: BTreeSet<PeerKey>,
    standings: Standings,
}

#[derive(Debug)]
pub(crate) struct Admission {
    own: PeerKey,
    validators: BTreeMap<PeerKey, NodeId>,
    validator_ids: BTreeSet<NodeId>,
    allow: Option<BTreeSet<PeerKey>>,
    limits: Limits,
    state: Mutex<State>,
}

/// A connection's seat, from the end of its handshake until it is closed.
#[derive(Debug)]
pub(crate) struct Seat {
    admission: Arc<Admission>,
    number: u64,
    /// Ends when the connection must close.
    pub evicted: oneshot::Receiver<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.admission.state.lock().seats.remove(&self.number);
    }
}

/// A place in the handshake of an incoming connection.
pub(crate) struct Place {
    admission: Arc<Admission>,
    number: u64,
    /// Ends when the place is taken away.
    pub taken_away: oneshot::Receiver<()>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.state.lock().pending.remove(&self.number);
    }
}

impl Admission {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            own: config.key.public(),
            validators: config.validators.clone(),
            validator_ids: config.validators.values().copied().collect(),
            allow: config.allow.clone(),
            limits: config.limits.clone(),
            state: Mutex::new(State {
                seats: BTreeMap::new(),
                connected: BTreeMap::new(),
                pending: BTreeMap::new(),
                next: 0,
                static_keys: config.static_peers.iter().map(|peer| peer.key).collect(),
                standings: Standings::new(&config.limits),
            }),
        }
    }

    /// The id of a peer with this key.
    pub(crate) fn id_of(&self, key: &PeerKey) -> NodeId {
        self.validators.get(key).copied().unwrap_or_else(|| key.id())
    }

    pub(crate) fn is_validator(&self, key: &PeerKey) -> bool {
        self.validators.contains_key(key)
    }

    pub(crate) fn is_static(&self, key: &PeerKey) -> bool {
        self.state.lock().static_keys.contains(key)
    }

    /// Whether that is a change.
    pub(crate) fn set_static(&self, key: PeerKey, is_static: bool) -> bool {
        let mut state = self.state.lock();
        match is_static {
            true => state.static_keys.insert(key),
            false => state.static_keys.remove(&key),
        }
    }

    /// Whether a key is worth a dial: not our own, allowed, not banned.
    pub(crate) fn may_dial(&self, key: &PeerKey) -> bool {
        *key != self.own
            && self.allow.as_ref().is_none_or(|allow| allow.contains(key))
            && self.state.lock().standings.banned(key, None, Instant::now()).is_none()
    }

    fn exempt(&self, ip: &IpAddr) -> bool {
        self.limits.loopback_exempt && ip.is_loopback()
    }

    /// Takes a place in the handshake, if need be from the oldest that holds one.
    pub(crate) fn enter(self: &Arc<Self>, ip: IpAddr) -> Place {
        let mut state = self.state.lock();
        let of_ip = || state.pending.iter().filter(|(_, (other, _))| *other == ip);
        let oldest = if !self.exempt(&ip) && of_ip().count() >= self.limits.pending_ip_max {
            of_ip().next().map(|(number, _)| *number)
        } else if state.pending.len() >= self.limits.pending_max {
            state.pending.keys().next().copied()
        } else {
            None
        };
        oldest.map(|number| state.pending.remove(&number));
        let (sender, taken_away) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.pending.insert(number, (ip, sender));
        Place { admission: Arc::clone(self), number, taken_away }
    }

    /// Gives a seat to a peer whose hello agrees, or says why not.
    pub(crate) fn admit(self: &Arc<Self>, arrival: Arrival) -> Result<Seat, Refusal> {
        let (key, now) = (arrival.key, Instant::now());
        self.check_key(&key)?;
        let mut state = self.state.lock();
        let stranger = !self.validators.contains_key(&key) && !state.static_keys.contains(&key);
        let ip = arrival.remote.ip();
        let banned = state.standings.banned(&key, stranger.then_some(&ip), now);
        if let Some((left, why)) = banned {
            return Err(Refusal::Banned { left, why });
        }
        let fresh = |record: &Record| now - record.since < self.limits.handshake_timeout;
        let twice = state.seats.values().any(|seat| seat.arrival.key == key && fresh(seat));
        if twice && self.own < key {
            return Err(Refusal::Duplicate);
        }
        if stranger {
            self.check_slots(&state, &arrival)?;
        }
        let number = state.next;
        state.next += 1;
        let (evict, evicted) = oneshot::channel();
        let record = Record { arrival, since: now, claimed: false, evict: Some(evict) };
        state.seats.insert(number, record);
        Ok(Seat { admission: Arc::clone(self), number, evicted })
    }

    fn check_key(&self, key: &PeerKey) -> Result<(), Refusal> {
        if *key == self.own {
            return Err(Refusal::Own);
        }
        if self.allow.as_ref().is_some_and(|allow| !allow.contains(key)) {
            return Err(Refusal::NotAllowed(*key));
        }
        // A validator's address may be that of its own node key, but never of another's.
        let id = key.id();
        if !self.validators.contains_key(key) && self.validator_ids.contains(&id) {
            return Err(Refusal::Impostor { key: *key, id });
        }
        Ok(())
    }

    fn check_slots(&self, state: &State, arrival: &Arrival) -> Result<(), Refusal> {
        let others = || {
            state.seats.values().map(|seat| &seat.arrival).filter(|other| {
                other.key != arrival.key
                    && !self.validators.contains_key(&other.key)
                    && !state.static_keys.contains(&other.key)
            })
        };
        if others().count() >= self.limits.peers_max {
            return Err(Refusal::Full("peers"));
        }
        if arrival.direction == Direction::Inbound {
            let inbound = others().filter(|other| other.direction == Direction::Inbound).count();
            if inbound >= self.limits.peers_max.saturating_sub(self.limits.outbound_reserved) {
                return Err(Refusal::Full("incoming peers"));
            }
        }
        let ip = arrival.remote.ip();
        let near = others().filter(|other| prefix(other.remote.ip()) == prefix(ip)).count();
        if !self.exempt(&ip) && near >= self.limits.prefix_peers_max {
            return Err(Refusal::Full("peers of its IP prefix"));
        }
        Ok(())
    }

    /// Closes an older connection of a peer that was welcomed again, and waits until it is
    /// forgotten.
    pub(crate) async fn supersede(&self, key: &PeerKey) {
        while self.evict(key) {
            tokio::time::sleep(FORGET_INTERVAL).await;
        }
    }

    /// Has an older connection closed. Says whether there is one.
    fn evict(&self, key: &PeerKey) -> bool {
        let mut state = self.state.lock();
        let Some(replaced) = state.connected.get_mut(key) else { return false };
        *replaced = true;
        let old = state.seats.values_mut().filter(|seat| seat.claimed && seat.arrival.key == *key);
        old.for_each(|seat| drop(seat.evict.take()));
        true
    }

    /// What the handshake learnt of the connection that libp2p now reports. `None` if it is closed
    /// already, or another with this peer is open.
    pub(crate) fn claim(&self, key: &PeerKey) -> Option<Arrival> {
        let mut state = self.state.lock();
        if state.connected.contains_key(key) {
            return None;
        }
        let record = state.seats.values_mut().find(|it| it.arrival.key == *key && !it.claimed)?;
        record.claimed = true;
        let arrival = record.arrival.clone();
        state.connected.insert(*key, false);
        Some(arrival)
    }

    /// Whether a newer connection is about to replace the one that is open.
    pub(crate) fn is_replaced(&self, key: &PeerKey) -> bool {
        self.state.lock().connected.get(key).copied().unwrap_or(false)
    }

    /// Forgets a claimed connection that libp2p reports closed.
    pub(crate) fn release(&self, key: &PeerKey) {
        self.state.lock().connected.remove(key);
    }

    /// Adds an offence. Returns how long the peer is banned, if this was one too many.
    pub(crate) fn offend(
        &self,
        key: PeerKey,
        ip: IpAddr,
        offence: Offence,
        why: &str,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let needed = self.validators.contains_key(&key) || state.static_keys.contains(&key);
        if !state.standings.add(key, offence, now) {
            return None;
        }
        let duration = if needed { self.limits.ban_static } else { self.limits.ban };
        let ip = (!needed && !self.exempt(&ip)).then_some(ip);
        state.standings.ban(key, ip, now + duration, why);
        Some(duration)
    }

    pub(crate) fn score(&self, key: &PeerKey) -> i64 {
        self.state.lock().standings.score(key, Instant::now())
    }
}

/// The addresses that one owner is likely to have: /24, or /48 of IPv6.
fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
        }
    }
}
