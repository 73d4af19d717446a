//! The network between nodes: it loses, delays, repeats and reorders, and links are cut one way or
//! both ways, for a while or again and again.

use crate::queue::Moment;
use landfall_consensus::Random;

/// How a message fares where nothing is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Messages lost, of a hundred.
    pub loss: u64,
    /// Messages that arrive twice, of a hundred.
    pub duplicate: u64,
    /// Messages that are held back and so overtaken, of a hundred.
    pub reorder: u64,
    /// The least and the most that a message takes, in milliseconds.
    pub delay: (u64, u64),
}

impl Weather {
    /// After healing: what a protocol must make progress in.
    pub const FAIR: Self = Self { loss: 1, duplicate: 1, reorder: 0, delay: (2, 40) };
}

/// What a message that is held back takes at most, in milliseconds.
const HELD_BACK: u64 = 1_500;

/// The links between all slots.
pub(crate) struct Network {
    slots: usize,
    random: Random,
    /// How messages fare now.
    pub weather: Weather,
    cut_until: Vec<Moment>,
    flapping: Vec<Option<Flapping>>,
    /// Until when nothing of a slot is heard, and until when it hears nothing.
    isolated: Vec<(Moment, Moment)>,
}

#[derive(Clone, Copy)]
struct Flapping {
    until: Moment,
    period: u64,
    phase: u64,
}

impl Network {
    /// All links whole.
    pub fn new(slots: usize, random: Random, weather: Weather) -> Self {
        let links = slots * slots;
        Self {
            slots,
            random,
            weather,
            cut_until: vec![0; links],
            flapping: vec![None; links],
            isolated: vec![(0, 0); slots],
        }
    }

    /// When the copies of a message that is sent now arrive; none if it is lost.
    pub fn arrivals(&mut self, now: Moment, from: usize, to: usize) -> [Option<Moment>; 2] {
        if self.is_cut(now, from, to) || self.random.chance(self.weather.loss) {
            return [None; 2];
        }
        let twice = self.random.chance(self.weather.duplicate);
        [Some(now + self.delay()), twice.then(|| now + self.delay())]
    }

    fn delay(&mut self) -> u64 {
        let (least, most) = self.weather.delay;
        let held = self.random.chance(self.weather.reorder);
        let extra = if held { self.random.below(HELD_BACK) } else { 0 };
        least + self.random.below(most - least + 1) + extra
    }

    /// Whether nothing passes from a slot to another now.
    pub fn is_cut(&self, now: Moment, from: usize, to: usize) -> bool {
        let link = from * self.slots + to;
        let flaps =
            |it: &Flapping| now < it.until && ((now + it.phase) / it.period).is_multiple_of(2);
        now < self.cut_until[link]
            || now < self.isolated[from].0
            || now < self.isolated[to].1
            || self.flapping[link].as_ref().is_some_and(flaps)
    }

    /// Cuts the way from a slot to another.
    pub fn cut(&mut self, from: usize, to: usize, until: Moment) {
        let link = &mut self.cut_until[from * self.slots + to];
        *link = (*link).max(until);
    }

    /// Cuts every link between slots of which `side` says different things, both ways.
    pub fn partition(&mut self, until: Moment, side: impl Fn(usize) -> bool) {
        for from in 0..self.slots {
            for to in 0..self.slots {
                if side(from) != side(to) {
                    self.cut(from, to, until);
                }
            }
        }
    }

    /// Makes the link between two slots come and go, both ways.
    pub fn flap(&mut self, a: usize, b: usize, until: Moment, period: u64) {
        let phase = self.random.below(2 * period);
        for link in [a * self.slots + b, b * self.slots + a] {
            self.flapping[link] = Some(Flapping { until, period, phase });
        }
    }

    /// Nobody hears a slot any more; if it is deaf, it hears nobody either.
    pub fn isolate(&mut self, slot: usize, deaf: bool, until: Moment) {
        self.isolated[slot] = (until, if deaf { until } else { 0 });
    }

    /// Undoes [`Self::isolate`].
    pub fn join(&mut self, slot: usize) {
        self.isolated[slot] = (0, 0);
    }

    /// Mends every link, and the weather.
    pub fn heal(&mut self) {
        self.cut_until.fill(0);
        self.flapping.fill(None);
        self.isolated.fill((0, 0));
        self.weather = Weather::FAIR;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(weather: Weather) -> Network {
        Network::new(3, Random::new(7), weather)
    }

    const CALM: Weather = Weather { loss: 0, duplicate: 0, reorder: 0, delay: (5, 5) };

    #[test]
    fn a_cut_is_one_way_and_ends() {
        let mut network = network(CALM);
        network.cut(0, 1, 100);
        assert_eq!(network.arrivals(50, 0, 1), [None, None]);
        assert_eq!(network.arrivals(50, 1, 0), [Some(55), None]);
        assert_eq!(network.arrivals(100, 0, 1), [Some(105), None]);
    }

    #[test]
    fn a_partition_parts_two_sides_both_ways() {
        let mut network = network(CALM);
        network.partition(100, |slot| slot == 0);
        let passes = |from, to| !network.is_cut(10, from, to);
        assert!(!passes(0, 1) && !passes(1, 0) && !passes(2, 0) && passes(1, 2) && passes(2, 1));
        network.heal();
        assert!(!network.is_cut(10, 0, 1));
    }

    #[test]
    fn an_isolated_slot_is_not_heard_and_hears_unless_it_is_deaf() {
        let mut network = network(CALM);
        network.isolate(1, false, 100);
        network.isolate(2, true, 100);
        let passes = |network: &Network, from, to| !network.is_cut(10, from, to);
        assert!(!passes(&network, 1, 0) && passes(&network, 0, 1));
        assert!(!passes(&network, 2, 0) && !passes(&network, 0, 2));
        network.join(1);
        assert!(passes(&network, 1, 0) && !passes(&network, 1, 2));
        assert!(!network.is_cut(100, 2, 0));
    }

    #[test]
    fn flapping_comes_and_goes_on_both_ways_alike() {
        let mut network = network(CALM);
        network.flap(0, 2, 10_000, 100);
        let cut: Vec<bool> = (0..20).map(|n| network.is_cut(n * 50, 0, 2)).collect();
        assert!(cut.contains(&true) && cut.contains(&false));
        assert!((0..20).all(|n| network.is_cut(n * 50, 2, 0) == cut[n as usize]));
        assert!(!network.is_cut(10_000, 0, 2));
    }

    #[test]
    fn bad_weather_loses_repeats_and_reorders() {
        let weather = Weather { loss: 30, duplicate: 30, reorder: 30, delay: (1, 9) };
        let mut network = network(weather);
        let all: Vec<_> = (0..1_000).map(|_| network.arrivals(0, 0, 1)).collect();
        let lost = all.iter().filter(|one| one[0].is_none()).count();
        let twice = all.iter().filter(|one| one[1].is_some()).count();
        let held = all.iter().filter(|one| one[0].is_some_and(|at| at > 9)).count();
        assert!((200..400).contains(&lost), "{lost} of 1000 were lost");
        assert!((100..350).contains(&twice), "{twice} of 1000 came twice");
        assert!((100..350).contains(&held), "{held} of 1000 were held back");
    }
}
