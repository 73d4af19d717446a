//! Addresses of peers, and when to dial them: static peers always, learnt ones as far as needed.

use crate::config::Limits;
use crate::key::{PeerAddress, PeerKey};
use crate::refusal::Patience;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that one peer's word may keep in the directory.
const LEARNT_FROM_ONE_MAX: usize = 64;
/// A learnt address that failed so often in a row is forgotten.
const FAILURES_MAX: u32 = 6;
/// Dials that are under way at once.
const DIALS_MAX: usize = 16;

#[derive(Debug)]
struct Entry {
    address: PeerAddress,
    is_static: bool,
    /// Who told it; the peer itself, if it was connected.
    from: PeerKey,
    next: Instant,
    failures: u32,
    dialling: bool,
}

/// Whether an address that a peer at `teller` told is worth keeping: an IP address, since a name
/// would have us ask name servers of its choice, and none nearer to us than the peer itself, since it
/// would have us knock inside our own network.
pub(crate) fn is_credible(address: &PeerAddress, teller: IpAddr) -> bool {
    let told = address.host.parse::<IpAddr>();
    told.is_ok_and(|told| distance(told) >= distance(teller))
}

fn distance(ip: IpAddr) -> Option<u8> {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast {
        return None;
    }
    Some(if ip.is_loopback() {
        0
    } else if local {
        1
    } else {
        2
    })
}

/// Which peers are worth a dial now.
pub(crate) struct Wanted<'a> {
    pub connected: &'a dyn Fn(&PeerKey) -> bool,
    /// Allowed, and not banned.
    pub may_dial: &'a dyn Fn(&PeerKey) -> bool,
    pub is_validator: &'a dyn Fn(&PeerKey) -> bool,
    /// How many learnt peers that are no validators may be dialled.
    pub learnt: usize,
}

#[derive(Debug)]
pub(crate) struct Directory {
    entries: BTreeMap<PeerKey, Entry>,
    learnt_max: usize,
}

impl Directory {
    pub(crate) fn new(limits: &Limits, static_peers: &[PeerAddress], now: Instant) -> Self {
        let mut directory = Self { entries: BTreeMap::new(), learnt_max: limits.known_max };
        for address in static_peers {
            directory.add_static(address.clone(), now);
        }
        directory
    }

    pub(crate) fn add_static(&mut self, address: PeerAddress, now: Instant) {
        let (key, from) = (address.key, address.key);
        let entry =
            Entry { address, is_static: true, from, next: now, failures: 0, dialling: false };
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: &PeerKey) {
        self.entries.remove(key);
    }

    /// Notes an address told by `from`. The word of the peer itself replaces that of others, and
    /// nobody's word replaces a static address.
    pub(crate) fn learn(&mut self, address: PeerAddress, from: PeerKey, now: Instant) {
        let own = address.key == from;
        match self.entries.get_mut(&address.key) {
            Some(entry) if entry.is_static || !own => {}
            Some(entry) => (entry.address, entry.from) = (address, from),
            None => {
                let learnt = || self.entries.values().filter(|entry| !entry.is_static);
                let of_one = learnt().filter(|entry| entry.from == from).count();
                if of_one >= LEARNT_FROM_ONE_MAX {
                    return;
                }
                if learnt().count() >= self.learnt_max && !self.forget_one(own) {
                    return;
                }
                let key = address.key;
                let (is_static, failures, dialling) = (false, 0, false);
                let entry = Entry { address, is_static, from, next: now, failures, dialling };
                self.entries.insert(key, entry);
            }
        }
    }

    /// Makes room: for an address that failed, or, for a peer that was here itself, also for one
    /// that is only hearsay.
    fn forget_one(&mut self, own: bool) -> bool {
        let worth = |entry: &Entry| (entry.from == entry.address.key, u32::MAX - entry.failures);
        let least = self
            .entries
            .values()
            .filter(|entry| !entry.is_static && !entry.dialling)
            .filter(|entry| entry.failures > 0 || (own && entry.from != entry.address.key))
            .min_by_key(|entry| worth(entry))
            .map(|entry| entry.address.key);
        least.is_some_and(|key| self.entries.remove(&key).is_some())
    }

    /// The addresses to dial now. They count as being dialled until `connected` or `failed`. Those
    /// that the operator or the genesis names have places of their own: anybody can tell us of
    /// others that never answer.
    pub(crate) fn due(&mut self, wanted: &Wanted<'_>, now: Instant) -> Vec<PeerAddress> {
        let is_named = |key: &PeerKey, entry: &Entry| entry.is_static || (wanted.is_validator)(key);
        let mut due = Vec::new();
        for (named, most) in [(true, DIALS_MAX), (false, wanted.learnt.min(DIALS_MAX))] {
            let of_kind = self.entries.iter_mut().filter(|(key, it)| is_named(key, it) == named);
            let (under_way, idle): (Vec<_>, Vec<_>) = of_kind.partition(|(_, it)| it.dialling);
            let free = most.saturating_sub(under_way.len());
            let ready = idle.into_iter().filter(|(key, entry)| {
                entry.next <= now && !(wanted.connected)(key) && (wanted.may_dial)(key)
            });
            for (_, entry) in ready.take(free) {
                entry.dialling = true;
                due.push(entry.address.clone());
            }
        }
        due
    }

    /// A dial succeeded, or the peer dialled us.
    pub(crate) fn connected(&mut self, key: &PeerKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.failures, entry.dialling) = (0, false);
        }
    }

    /// A connection ended: the peer is dialled again soon, at a time of its own, since it does so
    /// too.
    pub(crate) fn lost(&mut self, key: &PeerKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.next = now + jittered(Duration::from_millis(400));
        }
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, key: &PeerKey, patience: Patience, now: Instant) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.dialling = false;
        entry.failures = entry.failures.saturating_add(1);
        if !entry.is_static && entry.failures >= FAILURES_MAX {
            self.entries.remove(key);
            return;
        }
        entry.next = now + backoff(entry.failures, patience, entry.is_static);
    }
}

/// Twice as long each time, within bounds: a static peer is needed, so at most 5 s.
fn backoff(failures: u32, patience: Patience, is_static: bool) -> Duration {
    let (first, max) = match (patience, is_static) {
        (Patience::Short, true) => (Duration::from_millis(250), Duration::from_secs(5)),
        (Patience::Short, false) => (Duration::from_secs(1), Duration::from_secs(60)),
        (Patience::Medium, true) => (Duration::from_secs(2), Duration::from_secs(30)),
        (Patience::Medium, false) => (Duration::from_secs(10), Duration::from_secs(120)),
        (Patience::Long, _) => (Duration::from_secs(60), Duration::from_secs(600)),
    };
    jittered((first * (1 << (failures.clamp(1, 12) - 1))).min(max))
}

/// Three to five quarters of a time, so that nodes that failed together do not retry together.
fn jittered(time: Duration) -> Duration {
    let random = getrandom::u32().expect("the operating system gives randomness");
    time.mul_f64(0.75 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NodeKey;

    fn address() -> PeerAddress {
        PeerAddress { key: NodeKey::generate().public(), host: "127.0.0.1".to_owned(), port: 1 }
    }

    fn due(directory: &mut Directory, learnt: usize, now: Instant) -> Vec<PeerAddress> {
        let wanted =
            Wanted { connected: &|_| false, may_dial: &|_| true, is_validator: &|_| false, learnt };
        directory.due(&wanted, now)
    }

    #[test]
    fn static_peer_is_dialled_again_within_seconds_for_ever() {
        let (peer, mut now) = (address(), Instant::now());
        let mut directory = Directory::new(&Limits::default(), std::slice::from_ref(&peer), now);
        for _ in 0..50 {
            assert_eq!(due(&mut directory, 0, now), std::slice::from_ref(&peer));
            assert_eq!(due(&mut directory, 0, now), [], "it is being dialled");
            directory.failed(&peer.key, Patience::Short, now);
            now += Duration::from_millis(6_300);
        }
    }

    #[test]
    fn peer_of_another_chain_is_left_alone_for_long() {
        let (peer, now) = (address(), Instant::now());
        let mut directory = Directory::new(&Limits::default(), std::slice::from_ref(&peer), now);
        assert_eq!(due(&mut directory, 0, now).len(), 1);
        directory.failed(&peer.key, Patience::Long, now);
        assert_eq!(due(&mut directory, 0, now + Duration::from_secs(44)), []);
        assert_eq!(due(&mut directory, 0, now + Duration::from_secs(76)).len(), 1);
    }

    #[test]
    fn one_peer_fills_the_directory_with_its_share_only() {
        let (liar, now) = (NodeKey::generate().public(), Instant::now());
        let mut directory = Directory::new(&Limits::default(), &[], now);
        for _ in 0..200 {
            directory.learn(address(), liar, now);
        }
        assert_eq!(directory.entries.len(), LEARNT_FROM_ONE_MAX);
        assert_eq!(due(&mut directory, 3, now).len(), 3, "as many as are wanted");
    }

    #[test]
    fn addresses_that_never_answer_do_not_keep_named_peers_waiting() {
        let (named, now) = (address(), Instant::now());
        let mut directory = Directory::new(&Limits::default(), &[], now);
        for _ in 0..10 {
            let liar = NodeKey::generate().public();
            (0..LEARNT_FROM_ONE_MAX).for_each(|_| directory.learn(address(), liar, now));
        }
        assert_eq!(due(&mut directory, 40, now).len(), DIALS_MAX, "none of them answers");
        directory.add_static(named.clone(), now);
        assert_eq!(due(&mut directory, 40, now), [named]);
    }

    #[test]
    fn full_directory_forgets_what_failed_and_prefers_peers_that_were_here() {
        let now = Instant::now();
        let limits = Limits { known_max: 2, ..Limits::default() };
        let mut directory = Directory::new(&limits, &[], now);
        let (first, second, third) = (address(), address(), address());
        let teller = NodeKey::generate().public();
        directory.learn(first.clone(), teller, now);
        directory.learn(second.clone(), teller, now);
        directory.learn(third.clone(), teller, now);
        assert!(!directory.entries.contains_key(&third.key), "hearsay displaces nothing");
        directory.failed(&second.key, Patience::Short, now);
        directory.learn(third.clone(), teller, now);
        assert!(!directory.entries.contains_key(&second.key), "it had failed");
        let here = address();
        directory.learn(here.clone(), here.key, now);
        assert!(directory.entries.contains_key(&here.key));
        assert_eq!(directory.entries.len(), 2);
    }

    #[test]
    fn hearsay_leads_neither_inwards_nor_to_names() {
        let credible = |told: &str, teller: &str| {
            let told = PeerAddress { host: told.to_owned(), ..address() };
            is_credible(&told, teller.parse().expect("an IP address"))
        };
        assert!(credible("203.0.113.5", "203.0.113.9") && credible("10.0.0.2", "10.0.0.3"));
        assert!(credible("127.0.0.1", "127.0.0.1") && credible("203.0.113.5", "10.0.0.3"));
        assert!(!credible("127.0.0.1", "10.0.0.3") && !credible("::1", "2001:db8::1"));
        assert!(!credible("10.0.0.2", "203.0.113.9") && !credible("fd00::1", "2001:db8::1"));
        assert!(!credible("::ffff:10.0.0.2", "203.0.113.9"));
        assert!(!credible("0.0.0.0", "127.0.0.1") && !credible("255.255.255.255", "127.0.0.1"));
        assert!(!credible("example.org", "127.0.0.1"));
    }

    #[test]
    fn hearsay_changes_no_address() {
        let (peer, now) = (address(), Instant::now());
        let mut directory = Directory::new(&Limits::default(), std::slice::from_ref(&peer), now);
        let moved = PeerAddress { port: 2, ..peer.clone() };
        directory.learn(moved.clone(), peer.key, now);
        assert_eq!(due(&mut directory, 0, now), [peer], "static addresses are the operator's");
        let learnt = address();
        directory.learn(learnt.clone(), learnt.key, now);
        directory.learn(PeerAddress { port: 9, ..learnt.clone() }, moved.key, now);
        assert_eq!(due(&mut directory, 1, now), [learnt]);
    }
}
