//! Proof of work against its statistics: shares, intervals, the response of the difficulty, and
//! what a selfish miner earns. Seeded, so a run repeats exactly; floats are for the judging only.

mod miner;

use alloy_consensus::Header;
use alloy_primitives::{B256, Bytes, U256};
use landfall_consensus::{Input, Output, Random, TreeBlock, pow};
use landfall_types::{Epoch, NodeId, Span, Time};
use miner::{HALF_LIFE, INTERVAL, Node, RATE, epoch, root};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Uniform in (0, 1].
fn unit(random: &mut Random) -> f64 {
    ((random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

fn exponential(random: &mut Random, mean: f64) -> f64 {
    -mean * unit(random).ln()
}

/// Milliseconds until somebody with a hash rate finds a block.
fn draw(random: &mut Random, difficulty: U256, rate: f64) -> u64 {
    exponential(random, f64::from(difficulty) / rate).round() as u64
}

/// What a miner is working on.
#[derive(Clone)]
struct Job {
    number: u64,
    parent: B256,
    time: Time,
    difficulty: U256,
}

/// Miners that hear of each block after a delay.
struct Miners {
    epoch: Epoch,
    nodes: Vec<Node>,
    rates: Vec<f64>,
    jobs: Vec<Option<Job>>,
    delay: u64,
    random: Random,
    now: u64,
    made: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Found { miner: usize, job: u64 },
    Heard { miner: usize, block: B256 },
    Wake { miner: usize },
}

impl Miners {
    fn new(seed: u64, shares: &[f64], delay: u64, final_depth: u64) -> Self {
        let epoch = epoch(final_depth);
        let mut all = Self {
            nodes: (1..).take(shares.len()).map(|n| Node::new(n, &epoch)).collect(),
            epoch,
            rates: shares.iter().map(|share| share * RATE).collect(),
            jobs: vec![None; shares.len()],
            delay,
            random: Random::new(seed),
            now: 0,
            made: 0,
            queue: BinaryHeap::new(),
            events: 0,
        };
        for miner in 0..shares.len() {
            all.push(0, Event::Wake { miner });
        }
        all
    }

    fn push(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.push(Reverse((at, self.events, event)));
    }

    /// Until the first node has finalised so many blocks.
    fn run(&mut self, blocks: usize) {
        while self.nodes[0].finalized.len() < blocks {
            let Reverse((at, _, event)) = self.queue.pop().expect("somebody is mining");
            self.now = at;
            match event {
                Event::Wake { miner } => {
                    if self.nodes[miner].engine.deadline().is_some_and(|due| due.0 <= at) {
                        let out = self.nodes[miner].step(at, Input::Tick);
                        self.perform(miner, out);
                    }
                }
                Event::Heard { miner, block } => {
                    let sender = self.nodes.iter().find_map(|node| node.tree.get(&block)).cloned();
                    let out = self.nodes[miner].take(at, &sender.expect("its maker has it"));
                    self.perform(miner, out);
                }
                Event::Found { miner, job } => self.found(miner, job),
            }
        }
    }

    fn found(&mut self, miner: usize, number: u64) {
        let Some(job) = self.jobs[miner].take_if(|job| job.number == number) else { return };
        self.made += 1;
        let node = &mut self.nodes[miner];
        let parent = node.tree.block(&job.parent);
        let block = TreeBlock {
            hash: B256::from(U256::from(self.made)),
            parent: job.parent,
            height: parent.height.next(),
            time: job.time.max(parent.time + Span(1)),
            epoch: 0,
            proposer: node.id,
            difficulty: job.difficulty,
            data: Bytes::new(),
        };
        assert_eq!(job.difficulty, pow::difficulty_after(&self.epoch, parent));
        let hash = block.hash;
        node.tree.insert(block);
        let out = node.step(self.now, Input::Built { hash });
        self.perform(miner, out);
    }

    fn perform(&mut self, miner: usize, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Publish { hash } => {
                    for other in (0..self.nodes.len()).filter(|other| *other != miner) {
                        let heard = Event::Heard { miner: other, block: hash };
                        self.push(self.now + self.delay, heard);
                    }
                }
                Output::Build { parent, time, difficulty, .. } => {
                    let difficulty = difficulty.expect("work has a difficulty");
                    let number = self.events;
                    let span = draw(&mut self.random, difficulty, self.rates[miner]);
                    self.jobs[miner] = Some(Job { number, parent, time, difficulty });
                    self.push(self.now + span, Event::Found { miner, job: number });
                }
                _ => {}
            }
        }
        if let Some(due) = self.nodes[miner].engine.deadline() {
            self.push(due.0.max(self.now), Event::Wake { miner });
        }
    }
}

fn counts(blocks: &[(NodeId, Time)]) -> BTreeMap<NodeId, f64> {
    let mut counts = BTreeMap::new();
    for (maker, _) in blocks {
        *counts.entry(*maker).or_insert(0.0) += 1.0;
    }
    counts
}

#[test]
fn wins_are_proportional_to_hash_rate_within_three_sigma() {
    let shares = [0.4, 0.3, 0.2, 0.1];
    let mut miners = Miners::new(1, &shares, 2, 12);
    miners.run(10_000);
    let blocks = &miners.nodes[0].finalized[..10_000];
    let wins = counts(blocks);
    for (node, share) in miners.nodes.iter().zip(shares) {
        let sigma = (10_000.0 * share * (1.0 - share)).sqrt();
        let off = wins[&node.id] - 10_000.0 * share;
        assert!(off.abs() < 3.0 * sigma, "{share}: {} of 10,000", wins[&node.id]);
    }
    // All nodes stand on one branch, but for what is on its way.
    let shortest = miners.nodes.iter().map(|node| node.finalized.len()).min().unwrap();
    assert!(shortest >= 9_998);
    for node in &miners.nodes {
        assert_eq!(node.finalized[..shortest], miners.nodes[0].finalized[..shortest]);
    }
}

#[test]
fn forks_are_as_frequent_as_the_delay_says() {
    // Ten equal miners, a tenth of the interval: a block has a rival if one of the nine others
    // finds one before they hear of it.
    let mut miners = Miners::new(2, &[0.1; 10], INTERVAL / 10, 60);
    miners.run(10_000);
    let head = miners.nodes[0].head().height.0;
    let rivals = 1.0 - head as f64 / miners.made as f64;
    let expected = 1.0 - (-0.9_f64 * 0.1).exp();
    assert!((rivals / expected - 1.0).abs() < 0.12, "{rivals:.4} of the blocks, not {expected:.4}");
}

#[test]
fn mean_interval_is_the_one_aimed_at_within_a_hundredth() {
    let mut miners = Miners::new(3, &[1.0], 0, 6);
    miners.run(100_000);
    let blocks = &miners.nodes[0].finalized;
    let span = blocks[99_999].1.since(blocks[0].1).0 as f64;
    let mean = span / 99_999.0;
    assert!((mean / INTERVAL as f64 - 1.0).abs() < 0.01, "{mean} ms");
}

/// The works of the blocks after the hash rate changed by a factor, with the time in half-lives
/// at which each was begun; `span` makes an interval of its mean.
fn step_response(
    factor: f64,
    half_lives: f64,
    mut span: impl FnMut(f64) -> f64,
) -> Vec<(f64, f64)> {
    let epoch = epoch(6);
    let base = RATE * INTERVAL as f64;
    let (mut parent, mut now, mut works) = (root(), 0.0, Vec::new());
    while now / (HALF_LIFE as f64) < half_lives {
        let difficulty = pow::difficulty_after(&epoch, &parent);
        let work = f64::from(difficulty);
        works.push((now / HALF_LIFE as f64, work / base));
        now += span(work / (RATE * factor));
        let time = Time(now.round() as u64).max(parent.time + Span(1));
        parent = TreeBlock { height: parent.height.next(), time, difficulty, ..parent };
    }
    works
}

/// The difficulty follows the rate exponentially: after `t` half-lives, `2^-t` of the step is left.
fn ideal(factor: f64, t: f64) -> f64 {
    factor + (1.0 - factor) * (-t).exp2()
}

#[test]
fn difficulty_follows_a_step_of_the_hash_rate_without_oscillation() {
    for factor in [10.0, 0.1] {
        let works = step_response(factor, 30.0, |mean| mean);
        for pair in works.windows(2) {
            let change = (pair[1].1 / pair[0].1 - 1.0) * (factor - 1.0).signum();
            assert!(change > -1e-3, "x{factor}: turns back at {:.2} half-lives", pair[0].0);
        }
        for (t, work) in &works {
            let off = work / ideal(factor, *t) - 1.0;
            assert!(off.abs() < 0.03, "x{factor}: {work:.3} after {t:.2} half-lives");
        }
        let (_, at) = works.iter().find(|(t, _)| *t >= 10_f64.log2()).unwrap();
        let done = (at - 1.0) / (factor - 1.0);
        assert!((done - 0.9).abs() < 0.01, "x{factor}: {done:.3} of the step in 3.32 half-lives");
        let (_, last) = works.last().unwrap();
        assert!((last / factor - 1.0).abs() < 0.005, "x{factor}: ends at {last}");
    }
}

#[test]
fn difficulty_follows_a_step_on_average_when_blocks_come_at_random() {
    for factor in [10.0, 0.1] {
        let mut done = Vec::new();
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let works = step_response(factor, 4.0, |mean| exponential(&mut random, mean));
            let (_, at) = works.iter().find(|(t, _)| *t >= 10_f64.log2()).unwrap();
            done.push((at - 1.0) / (factor - 1.0));
        }
        let mean = done.iter().sum::<f64>() / done.len() as f64;
        assert!((mean - 0.9).abs() < 0.03, "x{factor}: {mean:.3} of the step in 3.32 half-lives");
    }
}

#[test]
fn difficulty_is_the_mean_number_of_tries() {
    let (difficulty, headers) = (64_u64, 2_000);
    let mut tries = 0;
    for number in 0..headers {
        let header = Header { number, difficulty: U256::from(difficulty), ..Header::default() };
        tries += 1 + pow::search(&header, 0, 100_000).expect("a nonce");
    }
    let (mean, sigma) = (tries as f64 / headers as f64, 64.0 / (headers as f64).sqrt());
    assert!((mean - 64.0).abs() < 3.0 * sigma, "{mean:.2} tries at difficulty 64");
}

/// A selfish miner (Eyal and Sirer 2014, algorithm 1) against honest engines. All honest miners
/// hear of all blocks at once; when two come together, a share `gamma` of them hears of the selfish
/// one's first.
struct Selfish {
    /// Those that hear of the selfish miner's blocks first, and those that hear of them last.
    honest: [Node; 2],
    /// Its own branch above what it last agreed with, published so far or not.
    branch: Vec<TreeBlock>,
    base: TreeBlock,
    published: usize,
    made: u64,
}

const SELFISH: NodeId = NodeId::repeat_byte(66);

impl Selfish {
    fn new() -> Self {
        // Deeper than any race goes: a branch of 300 blocks that loses is for another test.
        let epoch = epoch(300);
        let honest = [Node::new(1, &epoch), Node::new(2, &epoch)];
        Self { honest, branch: Vec::new(), base: root(), published: 0, made: 0 }
    }

    fn block_on(&mut self, parent: &TreeBlock, proposer: NodeId) -> TreeBlock {
        self.made += 1;
        TreeBlock {
            hash: B256::from(U256::from(self.made)),
            parent: parent.hash,
            height: parent.height.next(),
            time: parent.time + Span(1),
            epoch: 0,
            proposer,
            difficulty: U256::from(100),
            data: Bytes::new(),
        }
    }

    fn deliver(&mut self, to: usize, blocks: &[TreeBlock]) {
        for block in blocks {
            self.honest[to].take(block.time.0, block);
        }
    }

    fn public(&self) -> u64 {
        self.honest.iter().map(|node| node.head().height.0).max().unwrap()
    }

    fn reset(&mut self) {
        let [one, other] = &self.honest;
        assert_eq!(one.choice.head, other.choice.head, "after a race all stand on one block");
        self.base = one.head().clone();
        self.branch.clear();
        self.published = 0;
    }

    fn racing(&self) -> bool {
        self.published > 0 && self.branch.last().unwrap().height.0 == self.public()
    }

    fn selfish_find(&mut self) {
        let racing = self.racing();
        let tip = self.branch.last().unwrap_or(&self.base).clone();
        let block = self.block_on(&tip, SELFISH);
        self.branch.push(block);
        if racing {
            self.publish_with(self.branch.len(), None);
            self.reset();
        }
    }

    fn honest_find(&mut self, population: usize) {
        let (racing, public) = (self.racing(), self.public());
        let parent = self.honest[population].head().clone();
        let found = self.block_on(&parent, self.honest[population].id);
        let lead = self.branch.last().map_or(0, |tip| tip.height.0.saturating_sub(public));
        match lead {
            0 => {
                assert!(racing || self.branch.is_empty());
                self.publish_with(self.published, Some(found));
                self.reset();
            }
            1 => self.publish_with(self.branch.len(), Some(found)),
            2 => {
                self.publish_with(self.branch.len(), Some(found));
                self.reset();
            }
            _ => self.publish_with(self.published + 1, Some(found)),
        }
    }

    /// Publishes its branch up to a length, in the moment in which others hear of `rival`.
    fn publish_with(&mut self, length: usize, rival: Option<TreeBlock>) {
        let mine = self.branch[self.published..length].to_vec();
        let rival: Vec<TreeBlock> = rival.into_iter().collect();
        self.deliver(0, &[&mine[..], &rival].concat());
        self.deliver(1, &[&rival[..], &mine].concat());
        self.published = length;
    }

    /// Its share of the branch that won, and the standard error of that.
    fn revenue(alpha: f64, gamma: f64, blocks: usize) -> (f64, f64) {
        let mut it = Self::new();
        let mut random = Random::new(9);
        while it.honest[1].finalized.len() < blocks {
            if unit(&mut random) <= alpha {
                it.selfish_find();
            } else {
                it.honest_find(usize::from(unit(&mut random) > gamma));
            }
        }
        let share = |part: &[(NodeId, Time)]| {
            part.iter().filter(|(maker, _)| *maker == SELFISH).count() as f64 / part.len() as f64
        };
        let all = &it.honest[1].finalized[..blocks];
        let parts: Vec<f64> = all.chunks(blocks / 20).map(share).collect();
        let spread = parts.iter().map(|part| (part - share(all)).powi(2)).sum::<f64>();
        (share(all), (spread / 19.0 / 20.0).sqrt())
    }
}

/// Eyal and Sirer, equation 8.
fn expected_revenue(a: f64, g: f64) -> f64 {
    (a * (1.0 - a).powi(2) * (4.0 * a + g * (1.0 - 2.0 * a)) - a.powi(3))
        / (1.0 - a * (1.0 + (2.0 - a) * a))
}

fn selfish_mining_earns_what_the_paper_says(gamma: f64) {
    for alpha in [0.2, 0.3, 0.4] {
        let (found, error) = Selfish::revenue(alpha, gamma, 20_000);
        let expected = expected_revenue(alpha, gamma);
        println!("alpha {alpha}, gamma {gamma}: {found:.4} +- {error:.4}, paper {expected:.4}");
        assert!(error < 0.01, "alpha {alpha}: too few blocks, +- {error:.4}");
        let off = (found - expected).abs();
        assert!(off < 3.5 * error, "alpha {alpha}: {found:.4} +- {error:.4}, not {expected:.4}");
    }
}

#[test]
fn selfish_mining_earns_what_the_paper_says_if_nobody_follows_it() {
    selfish_mining_earns_what_the_paper_says(0.0);
}

#[test]
fn selfish_mining_earns_what_the_paper_says_if_half_follow_it() {
    selfish_mining_earns_what_the_paper_says(0.5);
}

#[test]
fn selfish_mining_earns_what_the_paper_says_if_all_follow_it() {
    selfish_mining_earns_what_the_paper_says(1.0);
}

#[test]
fn selfish_mining_pays_from_the_threshold_on() {
    for gamma in [0.0, 0.5, 0.9] {
        let threshold = (1.0 - gamma) / (3.0 - 2.0 * gamma);
        assert!(expected_revenue(threshold - 0.01, gamma) < threshold - 0.01);
        assert!(expected_revenue(threshold + 0.01, gamma) > threshold + 0.01);
    }
    // And with real engines, well on both sides of 1/3.
    assert!(Selfish::revenue(0.27, 0.0, 10_000).0 < 0.27);
    assert!(Selfish::revenue(0.40, 0.0, 10_000).0 > 0.40);
}
