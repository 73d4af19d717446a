//! What a cycle does to a network, and what must hold while it lasts and afterwards.

use super::{NODES, Network, wait_for};
use landfall_chain::store::SplitMix;
use serde_json::json;
use std::time::{Duration, Instant};

/// From a possible quorum to the next final block.
const PROGRESS: Duration = Duration::from_secs(10);
/// Blocks of an agreement that are progress: some may have been under way already.
const BLOCKS: u64 = 3;
/// Mean intervals until the next block of a lottery: more are needed once in `e^24` cases, were it
/// not for a processor that others use as well.
const INTERVALS: u32 = 24;
/// Until all nodes have one head, once nothing new comes.
const ONE_HEAD: Duration = Duration::from_secs(30);
/// How wrong a clock is, in milliseconds: within what the protocols allow.
const SKEW: i64 = 3_000;
/// What passes a slow link is late by this.
const SLOW: Duration = Duration::from_millis(100);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillOne,
    KillTwoInTurn,
    KillAll,
    FillDisk,
    SkewClock,
    Freeze,
    CutOne,
    CutHalves,
    CutOneWay,
    SlowLinks,
}

impl Fault {
    /// Each kind, and more of those that restart nodes.
    const DECK: [Self; 14] = [
        Self::KillOne,
        Self::KillOne,
        Self::KillOne,
        Self::KillTwoInTurn,
        Self::KillTwoInTurn,
        Self::KillAll,
        Self::KillAll,
        Self::FillDisk,
        Self::SkewClock,
        Self::Freeze,
        Self::CutOne,
        Self::CutHalves,
        Self::CutOneWay,
        Self::SlowLinks,
    ];

    /// All of the deck in an order that is drawn, beginning with one that restarts nodes.
    pub fn shuffled(random: &mut SplitMix) -> Vec<Self> {
        let mut deck = Self::DECK.to_vec();
        for place in (1..deck.len()).rev() {
            deck.swap(place, random.below(place as u64 + 1) as usize);
        }
        let first = deck.iter().position(|fault| fault.restarts()).expect("the deck has some");
        deck.swap(0, first);
        deck
    }

    /// As in the tally.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill one",
            Self::KillTwoInTurn => "kill two in turn",
            Self::KillAll => "kill all",
            Self::FillDisk => "fill a disk",
            Self::SkewClock => "skew a clock",
            Self::Freeze => "freeze one",
            Self::CutOne => "cut off one",
            Self::CutHalves => "cut in halves",
            Self::CutOneWay => "cut one way",
            Self::SlowLinks => "slow links",
        }
    }

    /// Whether nodes die and start again.
    pub fn restarts(self) -> bool {
        self <= Self::SkewClock
    }

    /// Strikes, looks on, and mends. Says what it did.
    ///
    /// # Errors
    /// If the network does not go on although it could.
    pub fn strike(self, network: &mut Network, random: &mut SplitMix) -> Result<Struck, String> {
        let one = random.below(NODES as u64) as usize;
        match self {
            Self::KillOne => network.kill_one(one, random),
            Self::KillTwoInTurn => {
                let other = (one + 1 + random.below(NODES as u64 - 1) as usize) % NODES;
                let first = network.kill_one(one, random)?;
                let second = network.kill_one(other, random)?;
                let told = format!("{}, {}", first.told, second.told);
                Ok(Struck { told, restarts: first.restarts + second.restarts, ..second })
            }
            Self::KillAll => network.kill_all(random),
            Self::FillDisk => network.fill_disk(),
            Self::SkewClock => {
                let offset = if random.below(2) == 0 { SKEW } else { -SKEW };
                network.skew_clock(one, offset)
            }
            Self::Freeze => {
                network.freeze(one);
                let struck = network.lasting(one, random);
                network.thaw(one);
                struck.map(|it| it.about(format!("node {} frozen", one + 1)))
            }
            Self::CutOne => {
                network.links().part(&[one], &others(one));
                let struck = network.lasting(one, random);
                network.links().mend();
                struck.map(|it| it.about(format!("node {} cut off", one + 1)))
            }
            Self::CutOneWay => {
                let hears = random.below(2) == 0;
                for other in others(one) {
                    let (from, to) = if hears { (one, other) } else { (other, one) };
                    network.links().cut(from, to);
                }
                let struck = network.lasting(one, random);
                network.links().mend();
                let what = if hears { "is not heard" } else { "hears nobody" };
                struck.map(|it| it.about(format!("node {} {what}", one + 1)))
            }
            Self::CutHalves => Ok(network.cut_halves(one, random)),
            Self::SlowLinks => {
                network.links().delay(one, SLOW);
                let struck = network.lasting(one, random);
                network.links().mend();
                struck.map(|it| it.about(format!("links of node {} are slow", one + 1)))
            }
        }
    }
}

/// What a strike did.
pub struct Struck {
    /// For people.
    pub told: String,
    /// How many nodes were started again.
    pub restarts: u32,
    /// Since when nothing is in the way of a quorum.
    since: Instant,
    /// The greatest height that any node had shown by then.
    height: u64,
}

impl Struck {
    fn about(self, told: String) -> Self {
        Self { told: format!("{told} {}", self.told), ..self }
    }
}

fn others(one: usize) -> Vec<usize> {
    (0..NODES).filter(|node| *node != one).collect()
}

fn draw(random: &mut SplitMix, from_ms: u64, to_ms: u64) -> Duration {
    Duration::from_millis(from_ms + random.below(to_ms - from_ms))
}

impl Network {
    /// The greatest height that these nodes show. A node that does not answer shows none.
    fn highest(&self, nodes: &[usize]) -> u64 {
        nodes.iter().filter_map(|node| self.height(*node)).max().unwrap_or_default()
    }

    /// How long some of these nodes may take to show the next height.
    fn progress_limit(&self, nodes: &[usize]) -> Duration {
        let Some(interval) = self.interval else { return PROGRESS };
        // Fewer nodes search longer.
        let all = u32::try_from(NODES).expect("a few");
        let some = u32::try_from(nodes.len()).expect("a few");
        PROGRESS.max(interval * INTERVALS * all / some)
    }

    /// Waits until one of these nodes shows more than a height; how long it took since a moment.
    fn progress(&self, nodes: &[usize], height: u64, since: Instant) -> Result<Duration, String> {
        let limit = self.progress_limit(nodes);
        let goal = height + if self.engine.is_agreement() { BLOCKS } else { 1 };
        let higher = || nodes.iter().any(|node| self.height(*node).is_some_and(|it| it >= goal));
        wait_for(since, limit, higher).map_err(|error| {
            self.tell_why();
            let nodes: Vec<usize> = nodes.iter().map(|node| node + 1).collect();
            format!("no progress from {height} to {goal} at nodes {nodes:?}: {error}")
        })
    }

    /// What each node says of itself: for whoever must find out why there is no progress.
    fn tell_why(&self) {
        let newest = json!([8]);
        let asked = [
            ("landfall_status", json!([])),
            ("txpool_status", json!([])),
            ("landfall_peers", json!([])),
            ("landfall_consensusTrace", newest),
        ];
        for (node, client) in self.clients.iter().enumerate() {
            for (method, params) in &asked {
                let answer = client.call(method, params.clone());
                let text = answer.map_or_else(|| "no answer".to_owned(), |it| it.to_string());
                println!("node {} {method}: {text}", node + 1);
            }
        }
    }

    /// What follows a strike in any case: all nodes go on.
    pub fn resumes(&self, struck: &Struck) -> Result<Duration, String> {
        self.progress(&(0..NODES).collect::<Vec<_>>(), struck.height, struck.since)
    }

    /// Waits until all nodes have the same head, and what is final is the head where it can be.
    pub fn one_head(&self) -> Result<Duration, String> {
        let mut seen = Vec::new();
        let same = |network: &Self, seen: &mut Vec<_>| {
            let look = |client: &super::client::Client| Some((client.head()?, client.finalized()?));
            *seen = network.clients.iter().map(look).collect::<Vec<_>>();
            let Some(Some(((number, _), finalized))) = seen.first() else { return false };
            let decided = !network.engine.is_agreement() || number == finalized;
            decided
                && seen.iter().all(|it| match (it, &seen[0]) {
                    (Some((head, _)), Some((first, _))) => head == first,
                    _ => false,
                })
        };
        wait_for(Instant::now(), ONE_HEAD, || same(self, &mut seen))
            .map_err(|error| format!("the nodes do not come to one head: {error}: {seen:?}"))
    }

    /// How long a fault lasts. Some outlast the patience of connections; but in a lottery the branches
    /// of a long cut would contradict what is final.
    fn draw_time(&self, random: &mut SplitMix) -> Duration {
        let long = random.below(4) == 0 && self.engine.is_agreement();
        if long { draw(random, 12_000, 16_000) } else { draw(random, 1_000, 5_000) }
    }

    /// One node is out of the way for some seconds: the others go on meanwhile.
    fn lasting(&mut self, one: usize, random: &mut SplitMix) -> Result<Struck, String> {
        let (start, rest) = (Instant::now(), others(one));
        let height = self.highest(&rest);
        let without = self.progress(&rest, height, start)?;
        std::thread::sleep(self.draw_time(random).saturating_sub(start.elapsed()));
        let told = format!(
            "for {:.1} s, the others went on after {:.1} s",
            start.elapsed().as_secs_f64(),
            without.as_secs_f64()
        );
        let height = self.highest(&rest);
        Ok(Struck { told, restarts: 0, since: Instant::now(), height })
    }

    fn start_and_wait(&mut self, nodes: &[usize]) -> Vec<Instant> {
        nodes.iter().for_each(|node| self.start(*node, 0));
        self.wait_until_listening(nodes)
    }

    fn kill_one(&mut self, one: usize, random: &mut SplitMix) -> Result<Struck, String> {
        let rest = others(one);
        self.kill(one);
        let (start, height) = (Instant::now(), self.highest(&rest));
        let without = self.progress(&rest, height, start)?;
        std::thread::sleep(draw(random, 0, 1_500));
        let mut restarts = 1;
        if random.below(3) == 0 {
            // The kill may also come while it opens what the last one left.
            self.start(one, 0);
            std::thread::sleep(draw(random, 0, 300));
            self.kill(one);
            restarts += 1;
        }
        let since = self.start_and_wait(&[one])[0];
        let told = format!(
            "node {} killed, the others went on after {:.1} s",
            one + 1,
            without.as_secs_f64()
        );
        let height = self.highest(&rest);
        Ok(Struck { told, restarts, since, height })
    }

    fn kill_all(&mut self, random: &mut SplitMix) -> Result<Struck, String> {
        let all: Vec<usize> = (0..NODES).collect();
        let height = self.highest(&all);
        for node in &all {
            self.kill(*node);
            std::thread::sleep(draw(random, 0, 50));
        }
        // Their order is drawn; the third makes a quorum of four.
        let first = random.below(NODES as u64) as usize;
        let order: Vec<usize> = all.iter().map(|node| (first + node) % NODES).collect();
        let since = self.start_and_wait(&order)[NODES - 2];
        Ok(Struck { told: "all killed".into(), restarts: NODES as u32, since, height })
    }

    fn fill_disk(&mut self) -> Result<Struck, String> {
        let Some((one, disk)) = self.small_disk() else {
            return Err("there is no small disk".into());
        };
        disk.fill();
        let (status, said) = self.wait_for_end(one);
        if status.code() != Some(74) || !said.contains("the node stops") {
            return Err(format!("on a full disk node {} ended with {status}:\n{said}", one + 1));
        }
        let (start, rest) = (Instant::now(), others(one));
        let without = self.progress(&rest, self.highest(&rest), start)?;
        self.small_disk().expect("looked at above").1.free();
        let since = self.start_and_wait(&[one])[0];
        let told = format!(
            "disk of node {} filled, the others went on after {:.1} s",
            one + 1,
            without.as_secs_f64()
        );
        Ok(Struck { told, restarts: 1, since, height: self.highest(&rest) })
    }

    fn skew_clock(&mut self, one: usize, offset: i64) -> Result<Struck, String> {
        self.kill(one);
        self.start(one, offset);
        let start = self.wait_until_listening(&[one])[0];
        let all: Vec<usize> = (0..NODES).collect();
        let with = self.progress(&all, self.highest(&all), start)?;
        std::thread::sleep(Duration::from_secs(2));
        self.kill(one);
        let since = self.start_and_wait(&[one])[0];
        let told = format!(
            "clock of node {} wrong by {offset} ms, progress after {:.1} s",
            one + 1,
            with.as_secs_f64()
        );
        Ok(Struck { told, restarts: 2, since, height: self.highest(&all) })
    }

    fn cut_halves(&mut self, one: usize, random: &mut SplitMix) -> Struck {
        let half = [one, (one + 1) % NODES];
        let other: Vec<usize> = (0..NODES).filter(|node| !half.contains(node)).collect();
        self.links().part(&half, &other);
        let time = self.draw_time(random);
        std::thread::sleep(time);
        let height = self.highest(&(0..NODES).collect::<Vec<_>>());
        self.links().mend();
        let named = |nodes: &[usize]| nodes.iter().map(|node| node + 1).collect::<Vec<_>>();
        let (these, those) = (named(&half), named(&other));
        let told =
            format!("nodes {these:?} cut off from {those:?} for {:.1} s", time.as_secs_f64());
        Struck { told, restarts: 0, since: Instant::now(), height }
    }
}
