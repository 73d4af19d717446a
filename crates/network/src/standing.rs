//! What is remembered of peers' offences, and who is banned.

use crate::config::Limits;
use crate::event::Offence;
use crate::key::PeerKey;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Peers of which something is remembered. When full, who is nearest to being forgotten goes.
const STANDINGS_MAX: usize = 4096;

#[derive(Debug)]
struct Standing {
    weight: f64,
    at: Instant,
    ban: Option<Ban>,
}

#[derive(Debug, Clone)]
struct Ban {
    until: Instant,
    why: String,
}

/// Offences by key, and bans by key and by IP address: a key costs nothing to make anew.
#[derive(Debug)]
pub(crate) struct Standings {
    threshold: f64,
    half_life: Duration,
    by_key: BTreeMap<PeerKey, Standing>,
    by_ip: BTreeMap<IpAddr, Ban>,
}

impl Standings {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            threshold: f64::from(limits.ban_threshold),
            half_life: limits.offence_half_life,
            by_key: BTreeMap::new(),
            by_ip: BTreeMap::new(),
        }
    }

    fn decayed(&self, standing: &Standing, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(standing.at).as_secs_f64();
        standing.weight * (-passed / self.half_life.as_secs_f64()).exp2()
    }

    /// Adds an offence, and says whether the peer is to be banned now.
    pub(crate) fn add(&mut self, key: PeerKey, offence: Offence, now: Instant) -> bool {
        let old = self.by_key.get(&key).map_or(0.0, |standing| self.decayed(standing, now));
        self.make_room(now);
        let standing =
            self.by_key.entry(key).or_insert(Standing { weight: 0.0, at: now, ban: None });
        standing.weight = old + f64::from(offence.weight());
        standing.at = now;
        standing.weight >= self.threshold && standing.ban.as_ref().is_none_or(|it| it.until <= now)
    }

    /// Bans a key, and its address unless that is `None`. The offences start anew after it.
    pub(crate) fn ban(&mut self, key: PeerKey, ip: Option<IpAddr>, until: Instant, why: &str) {
        let ban = Ban { until, why: why.to_owned() };
        if let Some(standing) = self.by_key.get_mut(&key) {
            standing.weight = 0.0;
            standing.ban = Some(ban.clone());
        }
        if let Some(ip) = ip {
            if self.by_ip.len() >= STANDINGS_MAX {
                let first = self.by_ip.iter().min_by_key(|(_, ban)| ban.until).map(|(ip, _)| *ip);
                first.map(|ip| self.by_ip.remove(&ip));
            }
            self.by_ip.insert(ip, ban);
        }
    }

    /// How long the key, or a stranger's address, is still banned, and why.
    pub(crate) fn banned(
        &self,
        key: &PeerKey,
        ip: Option<&IpAddr>,
        now: Instant,
    ) -> Option<(Duration, String)> {
        let by_key = self.by_key.get(key).and_then(|standing| standing.ban.as_ref());
        let by_ip = ip.and_then(|ip| self.by_ip.get(ip));
        let ban = by_key.into_iter().chain(by_ip).find(|ban| ban.until > now)?;
        Some((ban.until - now, ban.why.clone()))
    }

    /// Zero, less the offences that are not yet forgotten.
    pub(crate) fn score(&self, key: &PeerKey, now: Instant) -> i64 {
        let weight = self.by_key.get(key).map_or(0.0, |standing| self.decayed(standing, now));
        -(weight.round() as i64)
    }

    fn make_room(&mut self, now: Instant) {
        if self.by_key.len() < STANDINGS_MAX {
            return;
        }
        let worth = |standing: &Standing| match &standing.ban {
            Some(ban) if ban.until > now => f64::INFINITY,
            _ => self.decayed(standing, now),
        };
        let least = self
            .by_key
            .iter()
            .min_by(|(_, a), (_, b)| worth(a).total_cmp(&worth(b)))
            .map(|(key, _)| *key);
        least.map(|key| self.by_key.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NodeKey;

    #[test]
    fn offences_add_up_and_are_forgotten() {
        let limits = Limits::default();
        let mut standings = Standings::new(&limits);
        let (key, start) = (NodeKey::generate().public(), Instant::now());
        assert!(!standings.add(key, Offence::Invalid, start));
        assert!(!standings.add(key, Offence::Invalid, start));
        assert_eq!(standings.score(&key, start), -70);
        let later = start + limits.offence_half_life;
        assert_eq!(standings.score(&key, later), -35);
        assert!(!standings.add(key, Offence::Invalid, later));
        assert!(standings.add(key, Offence::Invalid, later));
    }

    #[test]
    fn ban_holds_for_key_and_address_and_ends() {
        let mut standings = Standings::new(&Limits::default());
        let (key, other) = (NodeKey::generate().public(), NodeKey::generate().public());
        let (ip, start) = (IpAddr::from([192, 0, 2, 1]), Instant::now());
        assert!(standings.add(key, Offence::Malformed, start));
        standings.ban(key, Some(ip), start + Duration::from_secs(5), "it lied");
        assert!(standings.banned(&key, None, start).is_some());
        assert!(standings.banned(&other, None, start).is_none());
        let (left, why) = standings.banned(&other, Some(&ip), start).expect("a banned address");
        assert_eq!((left, why.as_str()), (Duration::from_secs(5), "it lied"));
        assert!(standings.banned(&key, Some(&ip), start + Duration::from_secs(5)).is_none());
    }

    #[test]
    fn memory_of_offences_is_bounded_and_keeps_the_worst() {
        let mut standings = Standings::new(&Limits::default());
        let start = Instant::now();
        let worst = NodeKey::generate().public();
        standings.add(worst, Offence::Malformed, start);
        for _ in 0..STANDINGS_MAX {
            standings.add(NodeKey::generate().public(), Offence::Useless, start);
        }
        assert_eq!(standings.by_key.len(), STANDINGS_MAX);
        assert_eq!(standings.score(&worst, start), -100);
    }
}
