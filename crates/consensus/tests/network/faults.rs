//! Histories of faults, drawn from the seed of a network.

use super::{Network, id};
use landfall_types::Span;

impl Network {
    /// A history of faults drawn from the seed: crashes, also between two outputs, cuts, also
    /// one-way, and losses. Never more is asked of it than safety.
    pub fn torment(&mut self, rounds: u64) {
        let members = self.nodes.len() as u64;
        self.delay.1 = [10, 60, 150, 300][self.random.below(4) as usize];
        let most = [150, 400, 1_500][self.random.below(3) as usize];
        for _ in 0..rounds {
            // Whoever leads is hit more often: that is when something is half done.
            let mut n = 1 + self.random.below(members) as u8;
            if let Some(leader) = self.described("leader").pop().filter(|_| n.is_multiple_of(2)) {
                n = leader;
            }
            let other = 1 + self.random.below(members) as u8;
            match self.random.below(10) {
                0 if self.is_up(n) => self.crash(n),
                1 | 2 if self.is_up(n) => {
                    let outputs = self.random.below(12);
                    self.crash_after(n, outputs);
                }
                3 if n != other => self.cut(n, other),
                4 if n != other => self.cut_one_way(n, other),
                5 => self.isolate(n),
                6 => self.loss_percent = self.random.below(40),
                7 => self.heal(),
                8 => self.chase_leaders(),
                _ => {}
            }
            let pause = 1 + self.random.below(most);
            self.run_for(Span(pause));
            let n = 1 + self.random.below(members) as u8;
            if !self.is_up(n) && self.random.chance(70) {
                self.restart(n);
            }
        }
    }

    /// Cuts off each leader soon after its election, and nobody else.
    fn chase_leaders(&mut self) {
        for _ in 0..1 + self.random.below(6) {
            let end = self.now + Span(1_500);
            let led_before = self.described("leader");
            let is_new = |n: &u8| !led_before.contains(n);
            self.run_until(end, |network| network.described("leader").iter().any(is_new));
            let pause = self.random.below(200);
            self.run_for(Span(pause));
            let leader = self.described("leader").into_iter().find(is_new);
            if let Some(leader) = leader {
                self.cut.clear();
                self.isolate(leader);
            }
        }
    }

    /// Everything passes soon, everybody is up.
    pub fn recover(&mut self) {
        self.heal();
        self.delay = (1, 10);
        for n in 1..=u8::try_from(self.nodes.len()).unwrap() {
            self.nodes.get_mut(&id(n)).unwrap().fuse = None;
            if !self.is_up(n) {
                self.restart(n);
            }
        }
    }
}
