//! The chain's clock: the wall clock and an offset that the controls of a development chain move.
//!
//! All times are milliseconds since the Unix epoch. The caller brings the wall clock's, so that
//! nothing here depends on when it runs. A block's time is strictly later than its parent's; since
//! it counts milliseconds, a thousand blocks in one second do not push the chain ahead of the wall.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Moves the wall clock of this process, in milliseconds: for tests of nodes whose clocks differ.
const OFFSET_VARIABLE: &str = "LANDFALL_CLOCK_OFFSET_MS";

/// The wall clock now.
pub fn wall() -> u64 {
    static OFFSET: LazyLock<i64> = LazyLock::new(|| {
        let text = std::env::var(OFFSET_VARIABLE).ok();
        text.and_then(|text| text.parse().ok()).unwrap_or_default()
    });
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add_signed(*OFFSET)
}

/// The chain's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    offset: i64,
    next: Option<u64>,
}

impl Clock {
    /// A clock that goes on from the newest block, if that lies in the future.
    pub fn resuming(newest: u64, wall: u64) -> Self {
        Self { offset: difference(newest, wall).max(0), next: None }
    }

    /// A clock that shows `time` now.
    pub fn showing(time: u64, wall: u64) -> Self {
        Self { offset: difference(time, wall), next: None }
    }

    /// What the clock shows.
    pub fn now(&self, wall: u64) -> u64 {
        wall.saturating_add_signed(self.offset)
    }

    /// How far it is ahead of the wall clock, in milliseconds.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Moves it ahead.
    pub fn advance(&mut self, milliseconds: u64) {
        let ahead = i64::try_from(milliseconds).unwrap_or(i64::MAX);
        self.offset = self.offset.saturating_add(ahead);
    }

    /// The next block gets this time, and the clock goes on from there.
    pub fn set_next(&mut self, time: u64) {
        self.next = Some(time);
    }

    /// The time of a block that is sealed now on a parent of the given time.
    pub fn seal(&mut self, parent: u64, wall: u64) -> u64 {
        if let Some(next) = self.next.take() {
            self.offset = difference(next, wall);
        }
        self.now(wall).max(parent.saturating_add(1))
    }
}

fn difference(a: u64, b: u64) -> i64 {
    let difference = i128::from(a) - i128::from(b);
    difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousand_blocks_in_a_second_leave_the_chain_at_the_wall_clock() {
        let (mut clock, start) = (Clock::default(), 1_700_000_000_000);
        let mut parent = start;
        for block in 0..1_000 {
            let time = clock.seal(parent, start + block);
            assert!(time > parent);
            parent = time;
        }
        let wall = start + 1_000;
        assert!(parent <= wall, "the chain is {} ms ahead", parent - wall);
    }

    #[test]
    fn next_timestamp_is_kept_once_and_time_goes_on_from_there() {
        let mut clock = Clock::default();
        clock.set_next(9_000);
        assert_eq!(clock.seal(5_000, 1_000), 9_000);
        assert_eq!(clock.seal(9_000, 1_500), 9_500);
        assert_eq!(clock.seal(9_500, 1_500), 9_501);
    }

    #[test]
    fn clock_resumes_from_a_chain_that_is_ahead_and_ignores_one_behind() {
        assert_eq!(Clock::resuming(8_000, 5_000).now(6_000), 9_000);
        assert_eq!(Clock::resuming(4_000, 5_000).now(6_000), 6_000);
        let mut clock = Clock::showing(1_000, 5_000);
        clock.advance(500);
        assert_eq!(clock.now(5_000), 1_500);
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let mut clock = Clock::default();
        clock.set_next(u64::MAX);
        assert!(clock.seal(0, 0) > 1 << 62);
        clock.advance(u64::MAX);
        assert_eq!(clock.seal(u64::MAX, u64::MAX), u64::MAX);
    }
}
