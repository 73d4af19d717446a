//! A token bucket: a rate with bursts.

use std::time::{Duration, Instant};

/// So much per second, and as much at once as was saved up in `burst` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units (messages or bytes) per second.
    pub per_second: u64,
    /// Units that may come at once after a rest.
    pub burst: u64,
}

/// The state of a rate. It may go into debt, so that one unit larger than the burst passes, and is
/// paid for afterwards.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        assert!(rate.per_second > 0, "a rate of nothing would wait for ever");
        Self { rate, tokens: rate.burst as f64, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens =
            (self.tokens + passed * self.rate.per_second as f64).min(self.rate.burst as f64);
        self.at = self.at.max(now);
    }

    /// Takes `units`, and says how long to wait before the next is taken.
    pub(crate) fn take(&mut self, units: u64, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= units as f64;
        Duration::from_secs_f64((-self.tokens).max(0.0) / self.rate.per_second as f64)
    }

    /// Takes `units` unless the bucket is empty.
    pub(crate) fn try_take(&mut self, units: u64, now: Instant) -> bool {
        self.refill(now);
        let may = self.tokens > 0.0;
        if may {
            self.tokens -= units as f64;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_a_burst_pass_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 10, burst: 20 }, start);
        assert_eq!(bucket.take(20, start), Duration::ZERO);
        assert_eq!(bucket.take(5, start), Duration::from_millis(500));
        assert!(!bucket.try_take(1, start));
        assert!(!bucket.try_take(1, start + Duration::from_millis(500)));
        assert!(bucket.try_take(1, start + Duration::from_millis(601)));
        let late = start + Duration::from_secs(3600);
        assert!((0..20).all(|_| bucket.try_take(1, late)), "no more is saved up than the burst");
        assert!(!bucket.try_take(1, late));
    }
}
