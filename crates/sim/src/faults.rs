//! Faults, one after the other, of the classes that the seed has on; and the healing.

use crate::class::Class;
use crate::durable::old_byte;
use crate::keys;
use crate::network::Weather;
use crate::queue::Moment;
use crate::scenario::{Adversary, Network as Topology};
use crate::world::{Event, Trap, World};
use landfall_chain::store::TestDisk;
use landfall_types::Kind;

/// A trap for a crash is given up after this.
const TRAP: Moment = 20_000;
/// Traps that are set at once.
const TRAPS: usize = 2;
/// How much longer than another fault an ambush for leaders lasts.
const AMBUSH: Moment = 20_000;

impl World<'_> {
    /// Draws a fault and brings it about.
    pub(crate) fn fault(&mut self) {
        if self.is_healed() {
            return;
        }
        let mean = self.setup.fault_interval;
        let next = self.now + mean / 2 + self.faults.below(mean);
        self.queue.push(next, Event::Fault);
        let drawn: Vec<Class> = self.setup.classes.iter().copied().collect();
        let class = drawn[self.faults.below(drawn.len() as u64) as usize];
        let slot = self.faults.below(self.slots.len() as u64) as usize;
        let span = 1_000 + self.faults.below(self.setup.partition);
        if self.bring_about(class, slot, self.now + span) {
            self.tell(|| format!("fault: {} (node {slot}, {span} ms)", class.name()));
            self.count_fault(class);
        }
    }

    /// True if the fault happened, and is not counted elsewhere.
    fn bring_about(&mut self, class: Class, slot: usize, until: Moment) -> bool {
        match class {
            Class::CrashAtBoundary
            | Class::CrashInDisk
            | Class::Kill
            | Class::PowerCut
            | Class::DiskFull
            | Class::SyncFails
            | Class::SlowDisk
            | Class::Corruption
            | Class::ViewsLost
            | Class::DiskLost
            | Class::SlowJobs => self.machine_fault(class, slot, until),
            Class::Loss | Class::Delay | Class::Duplication | Class::Reorder => {
                self.change_weather(class);
                true
            }
            // It takes several elections until the leaders' blocks meet.
            Class::CutLeader => {
                self.lie_in_wait(until + AMBUSH);
                false
            }
            Class::LongPartition if self.now < self.whole_from => false,
            Class::LongPartition => {
                self.cut(class, slot, until);
                true
            }
            Class::Partition | Class::OneWay | Class::Flapping | Class::Star | Class::Chain => {
                let end = self.end_of_spell();
                if self.now < end {
                    self.cut(class, slot, until.min(end));
                }
                self.now < end
            }
            Class::ClockOffset | Class::ClockDrift | Class::ClockJump => {
                self.turn_clock(class, slot);
                true
            }
            lie => self.begin_to_lie(lie, until),
        }
    }

    /// Until when links may be cut. What proof of work calls final after a depth is final if branches
    /// meet before they are so deep: one cut after the other would part a network for as long as
    /// `pow-long` does. So they come in spells of at most a partition's length, and between two of
    /// them all links are whole for as long.
    fn end_of_spell(&mut self) -> Moment {
        if !self.scenario.runs(Kind::Pow) || self.scenario.topology == Topology::Long {
            return Moment::MAX;
        }
        if self.now >= self.whole_from {
            self.whole_from = self.now + 2 * self.setup.partition;
        }
        self.whole_from - self.setup.partition
    }

    fn machine_fault(&mut self, class: Class, slot: usize, until: Moment) -> bool {
        if !self.is_up(slot) || self.is_alone(slot) {
            return false;
        }
        match class {
            Class::CrashAtBoundary => {
                let places = self.scenario.traps();
                for _ in 0..TRAPS {
                    let drawn = places[self.faults.below(places.len() as u64) as usize];
                    // A block that its maker has and nobody else: what elections are about.
                    let alone = self.setup.hurried && self.faults.chance(60);
                    let place = if alone { "before a block is sent" } else { drawn };
                    let countdown = self.faults.below(6);
                    self.traps.push(Trap { place, countdown, until: self.now + TRAP });
                }
                false
            }
            Class::CrashInDisk => {
                let operation = self.slots[slot].disk.operations() + 1 + self.faults.below(8);
                self.slots[slot].disk.stop_at(operation);
                false
            }
            Class::Kill => {
                let power = self.faults.chance(50);
                self.crash(slot, power, true);
                true
            }
            Class::PowerCut => {
                for slot in 0..self.slots.len() {
                    if self.is_up(slot) && !self.is_alone(slot) {
                        self.crash(slot, true, true);
                    }
                }
                true
            }
            Class::DiskFull => {
                let used = self.slots[slot].disk.used();
                let room = self.faults.below(6_000);
                self.slots[slot].disk.set_capacity(Some(used + room));
                self.slots[slot].ailing = true;
                true
            }
            Class::SyncFails => {
                let lose = self.faults.chance(50);
                let nth = 1 + self.faults.below(3);
                self.slots[slot].disk.fail_sync(nth, lose);
                self.slots[slot].ailing = true;
                true
            }
            Class::SlowDisk => {
                self.slots[slot].slow_disk_until = until;
                true
            }
            Class::SlowJobs => {
                self.slots[slot].slow_jobs_until = until;
                true
            }
            Class::ViewsLost => {
                self.crash(slot, true, true);
                self.slots[slot].views.clear();
                true
            }
            Class::Corruption => self.corrupt(slot),
            Class::DiskLost => self.lose_disk(slot),
            _ => unreachable!("a fault of the machine"),
        }
    }

    /// The one that seals Solo never loses what it told others: nobody could correct it.
    pub(crate) fn is_alone(&self, slot: usize) -> bool {
        self.scenario.runs(Kind::Solo) && slot == 0
    }

    /// A bit of the older half of the log turns around while the node is down.
    fn corrupt(&mut self, slot: usize) -> bool {
        let draw = self.faults.next_u64();
        let bit = self.faults.below(8) as u8;
        if self.checker.shown(slot) < 5 {
            return false;
        }
        self.crash(slot, true, true);
        let it = &mut self.slots[slot];
        let Some((path, offset)) = old_byte(&it.disk, draw) else { return false };
        it.disk.flip_bit(&path, offset, bit);
        // All of the log is read only where views must be made from it.
        it.views.clear();
        it.damage = Some((path, offset, bit));
        true
    }

    /// The log is gone. The operator gives the node a new identity, which votes nowhere: under the
    /// old one it could contradict what it has forgotten.
    fn lose_disk(&mut self, slot: usize) -> bool {
        let honest = self.slots[slot].liar.is_none();
        let first = self.slots.iter().all(|it| it.number < self.setup.nodes);
        if !honest || !first || !self.setup.can_spare(self.slots[slot].number) {
            return false;
        }
        self.crash(slot, true, true);
        let number = self.setup.nodes;
        let (seed, table) = (self.faults.next_u64(), self.table.clone());
        let it = &mut self.slots[slot];
        let (id, disk) = (it.id, std::mem::replace(&mut it.disk, TestDisk::new(seed)));
        it.views.clear();
        if !landfall_consensus::planted!(DiskLoss) {
            it.number = number;
            it.id = keys::node(number);
            it.signer = std::sync::Arc::new(keys::HistorySigner::new(number, table));
        }
        self.checker.forget(slot, id, disk);
        true
    }

    fn change_weather(&mut self, class: Class) {
        let mut weather = self.network.weather;
        match class {
            Class::Loss => weather.loss = [0, 5, 20, 45][self.faults.below(4) as usize],
            Class::Delay => {
                weather.delay = [(2, 60), (20, 300), (100, 900)][self.faults.below(3) as usize];
            }
            Class::Duplication => weather.duplicate = [0, 10, 40][self.faults.below(3) as usize],
            _ => weather.reorder = [0, 10, 40][self.faults.below(3) as usize],
        }
        self.network.weather = weather;
    }

    fn cut(&mut self, class: Class, slot: usize, until: Moment) {
        let (slots, mask) = (self.slots.len(), self.faults.next_u64());
        match class {
            Class::Partition if self.scenario.adversary == Adversary::Third => {
                self.part_the_honest(mask);
            }
            Class::LongPartition => {
                let half = self.setup.partition / 2;
                let span = half + self.faults.below(half);
                // The branches must meet before they part again.
                self.whole_from = self.now + 2 * span;
                self.network.partition(self.now + span, |it| it % 2 == 0);
            }
            Class::Partition => self.network.partition(until, |it| mask >> it & 1 == 1),
            Class::OneWay => {
                for from in 0..slots {
                    for to in 0..slots {
                        if mask >> ((from * slots + to) % 64) & 1 == 1 && from != to {
                            self.network.cut(from, to, until);
                        }
                    }
                }
            }
            Class::Flapping => {
                let other = (slot + 1 + self.faults.below(slots as u64 - 1) as usize) % slots;
                let period = 50 + self.faults.below(2_000);
                self.network.flap(slot, other, until, period);
            }
            Class::Star => self.keep(until, |a, b| a == slot || b == slot),
            _ => self.keep(until, |a, b| a.abs_diff(b) == 1),
        }
    }

    fn keep(&mut self, until: Moment, link: impl Fn(usize, usize) -> bool) {
        for from in 0..self.slots.len() {
            for to in 0..self.slots.len() {
                if !link(from, to) {
                    self.network.cut(from, to, until);
                }
            }
        }
    }

    /// Two halves of the honest, each with one of every pair of twins.
    fn part_the_honest(&mut self, mask: u64) {
        let until = self.now + 20_000 + self.faults.below(20_000);
        let mut honest = 0;
        let sides: Vec<bool> = self
            .slots
            .iter()
            .enumerate()
            .map(|(place, it)| match &it.liar {
                Some(_) => place >= self.setup.nodes,
                None => {
                    honest += 1;
                    (mask & 1 == 1) ^ (honest % 2 == 0)
                }
            })
            .collect();
        self.network.partition(until, |slot| sides[slot]);
    }

    fn turn_clock(&mut self, class: Class, slot: usize) {
        let now = self.now;
        // Beyond what a jump may be off, blocks of this node wait for their time to come.
        let by = self.faults.below(12_000) as i64 - 6_000;
        let rate = self.faults.below(40_000) as i64 - 20_000;
        let clock = &mut self.slots[slot].clock;
        match class {
            Class::ClockDrift => clock.drift(now, rate),
            Class::ClockOffset => clock.settle(now, by / 2),
            // Jumps do not add up: a clock that is far off for good is no clock.
            _ => clock.jump(now, by - clock.offset(now)),
        }
        self.slots[slot].armed = None;
        self.arm(slot);
    }

    /// Everything is mended: network, clocks, disks; all nodes run; the lies stop.
    pub(crate) fn heal(&mut self) {
        self.network.heal();
        self.end_ambush();
        let long = self.scenario.topology == Topology::Long;
        if !long {
            self.network.weather = Weather::FAIR;
        }
        self.traps.clear();
        for slot in 0..self.slots.len() {
            // Its log may have failed already without anybody having noticed.
            if self.slots[slot].ailing && self.is_up(slot) {
                self.crash(slot, false, false);
            }
            let offset = self.faults.below(100) as i64;
            let silent = self.faults.chance(50);
            let it = &mut self.slots[slot];
            it.clock.settle(self.now, offset);
            it.ailing = false;
            it.slow_disk_until = 0;
            it.slow_jobs_until = 0;
            it.disk.no_more_faults();
            if let Some(conduct) = &mut it.liar {
                conduct.behave(silent);
            }
            it.armed = None;
            if it.host.is_some() {
                self.arm(slot);
            } else {
                self.queue.push(self.now + 1, Event::Boot { slot });
            }
        }
    }
}
