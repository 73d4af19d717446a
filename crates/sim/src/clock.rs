//! A node's clock: virtual time with an offset and a rate, and jumps.

use crate::queue::Moment;
use landfall_types::Time;

/// Virtual time 0, as a node's clock shows it if it is right.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;

/// What a node takes for the time.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    from: Moment,
    shown: u64,
    rate_ppm: i64,
}

impl Clock {
    /// Off by so many milliseconds at moment 0, and else right.
    pub fn new(offset: i64) -> Self {
        Self { from: 0, shown: EPOCH.saturating_add_signed(offset), rate_ppm: 0 }
    }

    /// What it shows at a moment.
    pub fn show(&self, at: Moment) -> Time {
        Time(self.shown.saturating_add(self.run(at.saturating_sub(self.from))))
    }

    fn run(&self, span: u64) -> u64 {
        let millionths = i128::from(1_000_000 + self.rate_ppm);
        u64::try_from(i128::from(span) * millionths / 1_000_000).expect("clocks do not run back")
    }

    /// The first moment, not before `now`, at which it shows at least `time`. `None` for a time
    /// that no history reaches.
    pub fn moment(&self, time: Time, now: Moment) -> Option<Moment> {
        let ahead = i128::from(time.0) - i128::from(self.shown);
        if ahead <= 0 {
            return Some(now);
        }
        let millionths = i128::from(1_000_000 + self.rate_ppm);
        let span = (ahead * 1_000_000 + millionths - 1) / millionths;
        let at = u64::try_from(span).ok()?.checked_add(self.from)?;
        (at < u64::MAX / 2).then_some(at.max(now))
    }

    /// How far it is ahead.
    pub fn offset(&self, now: Moment) -> i64 {
        let (shown, right) = (self.show(now).0, EPOCH.saturating_add(now));
        i64::try_from(i128::from(shown) - i128::from(right)).expect("clocks are off by less")
    }

    /// It jumps by so many milliseconds.
    pub fn jump(&mut self, now: Moment, by: i64) {
        self.shown = self.show(now).0.saturating_add_signed(by);
        self.from = now;
    }

    /// From now on it gains so many millionths.
    pub fn drift(&mut self, now: Moment, rate_ppm: i64) {
        self.shown = self.show(now).0;
        self.from = now;
        self.rate_ppm = rate_ppm.clamp(-500_000, 500_000);
    }

    /// It is set right, but for an offset.
    pub fn settle(&mut self, now: Moment, offset: i64) {
        *self = Self {
            from: now,
            shown: EPOCH.saturating_add(now).saturating_add_signed(offset),
            rate_ppm: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_first_at_which_the_time_is_shown() {
        for rate in [-200_000, -7, 0, 13, 90_000] {
            let mut clock = Clock::new(-40);
            clock.drift(100, rate);
            clock.jump(250, 77);
            for ahead in [1, 2, 999, 12_345] {
                let time = Time(clock.show(400).0 + ahead);
                let at = clock.moment(time, 400).unwrap();
                assert!(clock.show(at) >= time, "rate {rate}, {ahead} ahead: too early");
                assert!(clock.show(at - 1) < time, "rate {rate}, {ahead} ahead: too late");
            }
        }
    }

    #[test]
    fn jumps_go_both_ways_and_settling_undoes_them() {
        let mut clock = Clock::new(0);
        clock.jump(1_000, -5_000);
        assert_eq!(clock.show(1_000), Time(EPOCH - 4_000));
        assert_eq!(clock.moment(Time(EPOCH - 9_000), 1_000), Some(1_000));
        clock.jump(2_000, 60_000);
        assert_eq!(clock.show(2_000), Time(EPOCH + 57_000));
        assert_eq!(clock.offset(2_500), 55_000);
        clock.settle(3_000, 20);
        assert_eq!(clock.show(4_000), Time(EPOCH + 4_020));
    }

    #[test]
    fn a_time_that_never_comes_has_no_moment() {
        assert_eq!(Clock::new(0).moment(Time(u64::MAX), 5), None);
    }
}
