//! Timers: one that repeats, and a timeout that grows to a bound.

use landfall_types::{Span, Time};

/// A deadline that is set again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    due: Option<Time>,
}

impl Timer {
    /// Never due.
    pub fn off() -> Self {
        Self { due: None }
    }

    /// Due `span` after `now`.
    pub fn after(now: Time, span: Span) -> Self {
        Self { due: Some(now + span) }
    }

    /// The same, but due at `limit` at the latest: after a clock was set back, a timer would
    /// otherwise run for as long as the clock was wrong.
    pub fn at_most(self, limit: Time) -> Self {
        Self { due: self.due.map(|due| due.min(limit)) }
    }

    /// When it is due.
    pub fn deadline(&self) -> Option<Time> {
        self.due
    }

    /// Whether it is due.
    pub fn is_due(&self, now: Time) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// The earlier of several deadlines.
    pub fn earliest(timers: impl IntoIterator<Item = Self>) -> Option<Time> {
        timers.into_iter().filter_map(|timer| timer.due).min()
    }
}

/// A timeout that doubles with each failure, up to a bound: uncapped, it reaches hours, and a
/// network that could go on waits for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Span,
    most: Span,
}

impl Backoff {
    /// From `first` up to `most`.
    pub fn new(first: Span, most: Span) -> Self {
        Self { first, most }
    }

    /// After so many failures in a row.
    pub fn after(&self, failures: u64) -> Span {
        let doubled = match u32::try_from(failures).ok().and_then(|n| 1_u64.checked_shl(n)) {
            Some(factor) => self.first.0.saturating_mul(factor),
            None => u64::MAX,
        };
        if crate::planted!(PbftTimersUncapped) {
            return Span(doubled);
        }
        Span(doubled.min(self.most.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_bound_for_ever() {
        let backoff = Backoff::new(Span(100), Span(1_000));
        let spans: Vec<u64> = (0..6).map(|n| backoff.after(n).0).collect();
        assert_eq!(spans, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.after(u64::MAX), Span(1_000));
        assert_eq!(backoff.after(64), Span(1_000));
    }
}
