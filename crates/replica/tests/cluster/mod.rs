//! A directed cluster: whole replicas over real chains on test disks, a clock that the test moves,
//! and a queue of messages and jobs that it pumps.
//!
//! [`Cluster::run_for`] moves the time from deadline to deadline; at each moment all messages and
//! jobs are handled, in order, and what crosses the network has been bytes. A test parts the
//! network, holds jobs of a kind back, and takes the power from a node between any two things that
//! it does. What nodes signed is kept over all their lives.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::large_enum_variant, reason = "a queue of a test")]

use alloy_primitives::{B256, Bytes};
use landfall_chain::pool::{Order, Pool, PoolLimits};
use landfall_chain::store::{MemoryViews, TestDisk};
use landfall_chain::{Chain, ChainOptions, ChainReader, Place};
use landfall_consensus::ForkChoice;
use landfall_consensus::pbft::Turns;
use landfall_replica::{
    Config, Done, Effect, Event, Halt, Job, JobKind, KeySigner, Limits, Mempool, Refused, Replica,
    Signer, To, Wire, next_rules,
};
use landfall_types::{
    Block, Committee, Height, NodeId, Params, PbftParams, RaftParams, Schedule, Signature, Span,
    Step, Term, Time, Vote, parse_genesis,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The clock at the genesis, in milliseconds.
pub const EPOCH: u64 = 1_700_000_000_000;
/// How long a test waits for what must come.
pub const PATIENCE: Span = Span(20_000);
/// Things that happen in one moment, at most: beyond it, nodes talk in a circle.
const MOST_AT_ONCE: usize = 20_000;

const GENESIS: &str = r#"{
    "config": {
        "chainId": 27182, "landfall": {}, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
        "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0,
        "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0,
        "terminalTotalDifficultyPassed": true, "shanghaiTime": 0, "cancunTime": 0
    },
    "timestamp": "0x6553f100", "gasLimit": "0x1c9c380", "difficulty": "0x0",
    "baseFeePerGas": "0x3b9aca00", "alloc": {}
}"#;

/// The signer of the node of a number; each call is a process without memory.
pub fn key(number: usize) -> KeySigner {
    KeySigner::new(&[u8::try_from(number).expect("few nodes") + 1; 32]).expect("it is a key")
}

/// The identity of the node of a number.
pub fn id(number: usize) -> NodeId {
    key(number).id()
}

pub fn raft() -> Params {
    Params::Raft(RaftParams {
        heartbeat: Span(100),
        election: Span(400),
        block_interval: Span(300),
        empty_blocks: true,
    })
}

pub fn pbft() -> Params {
    Params::Pbft(PbftParams {
        block_interval: Span(300),
        empty_blocks: true,
        round_timeout: Span(600),
        round_timeout_max: Span(4_000),
        retransmit: Span(200),
        clock_drift: Span(15_000),
    })
}

/// A cluster that has finalised some heights.
pub fn settled(params: Params, nodes: usize) -> Cluster {
    let mut it = Cluster::new(params, nodes);
    let all: Vec<usize> = (0..nodes).collect();
    it.expect_final(&all, 2, PATIENCE);
    it
}

/// The other nodes.
pub fn others(nodes: usize, but: &[usize]) -> Vec<usize> {
    (0..nodes).filter(|node| !but.contains(node)).collect()
}

/// The fewest members that survive one crash.
pub fn size(params: &Params) -> usize {
    if matches!(params, Params::Raft(_)) { 3 } else { 4 }
}

/// A key that forgets what it signed when its process ends, and a list that does not.
struct Recorder {
    key: KeySigner,
    signed: Arc<Mutex<Vec<Vote>>>,
    /// Nothing is signed for now.
    away: bool,
}

impl Signer for Recorder {
    fn id(&self) -> NodeId {
        self.key.id()
    }

    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused> {
        if self.away {
            return Err(Refused::Unavailable("it is away".into()));
        }
        let signature = self.key.sign(vote, chain)?;
        self.signed.lock().push(*vote);
        Ok(signature)
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.key.sign_block(hash, chain)
    }
}

/// How power is lost: what is kept of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// As little as the disk may keep.
    Nothing,
    /// The process ends and the machine goes on: all is kept.
    All,
    /// A random, possibly torn part is kept.
    Some(u64),
}

pub struct Node {
    pub disk: TestDisk,
    views: MemoryViews,
    signer: Recorder,
    pub replica: Option<Replica>,
    /// Everything that was signed in all lives.
    pub signed: Arc<Mutex<Vec<Vote>>>,
    /// Every fork choice that was shown in all lives.
    pub shown: Vec<ForkChoice>,
    pub halt: Option<Halt>,
    /// What its peers were held guilty of.
    pub penalties: Vec<String>,
    /// Whom it held guilty.
    pub guilty: Vec<NodeId>,
    /// Who was reported, with evidence.
    pub accused: Vec<NodeId>,
    life: u64,
}

enum Work {
    Wire { from: usize, to: usize, bytes: Vec<u8> },
    Job { node: usize, life: u64, job: Job },
}

/// See the file.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub now: Time,
    schedule: Schedule,
    work: VecDeque<Work>,
    cut: BTreeSet<(usize, usize)>,
    holding: BTreeSet<(usize, JobKind)>,
    held: Vec<(usize, u64, Job)>,
    /// How long it takes to sync a log; what runs until then.
    pub slow_disks: Span,
    slow: VecDeque<(Time, usize, u64, Job)>,
    /// Which node loses power after how many more things that it does.
    fuse: Option<(usize, usize, Kept)>,
    turn: usize,
}

impl Cluster {
    /// Members of equal weight, all started.
    pub fn new(params: Params, nodes: usize) -> Self {
        let committee = Committee::equal((0..nodes).map(id)).expect("distinct members");
        let schedule = Schedule::new(vec![Term { params, committee, length: None }]);
        let fresh = |number| {
            let signed: Arc<Mutex<Vec<Vote>>> = Arc::default();
            Node {
                disk: TestDisk::new(number as u64),
                views: MemoryViews::default(),
                signer: Recorder { key: key(number), signed: signed.clone(), away: false },
                replica: None,
                signed,
                shown: Vec::new(),
                halt: None,
                penalties: Vec::new(),
                guilty: Vec::new(),
                accused: Vec::new(),
                life: 0,
            }
        };
        let mut it = Self {
            nodes: (0..nodes).map(fresh).collect(),
            now: Time(EPOCH + 1_000),
            schedule,
            work: VecDeque::new(),
            cut: BTreeSet::new(),
            holding: BTreeSet::new(),
            held: Vec::new(),
            slow_disks: Span(0),
            slow: VecDeque::new(),
            fuse: None,
            turn: 0,
        };
        for node in 0..nodes {
            it.start(node);
        }
        it
    }

    /// Starts a node on what its disk holds.
    pub fn start(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        assert!(it.replica.is_none(), "it runs");
        it.life += 1;
        it.signer.key = key(node);
        let place = Place::Kept(Arc::new(it.disk.clone()), it.views.clone());
        let genesis = parse_genesis(GENESIS).expect("it is a genesis");
        let chain = Chain::open(ChainOptions::new(Some(genesis), place)).expect("the log is sound");
        let pool = Pool::new(PoolLimits::default(), Order::default());
        let mempool = Arc::new(Mempool::new(pool, next_rules(&chain.reader(), self.now)));
        let config = Config {
            me: id(node),
            seed: it.life << 8 | node as u64,
            schedule: self.schedule.clone(),
            beneficiary: id(node),
            gas_limit: 30_000_000,
            extra_data: Bytes::new(),
            automatic: true,
            builds: true,
            alone: false,
            limits: Limits::default(),
        };
        let (replica, effects) =
            Replica::open(chain, mempool, config, self.now).expect("the log can be stood on");
        it.shown.push(replica.choice());
        it.replica = Some(replica);
        self.perform(node, effects);
    }

    /// Takes the power from a node.
    pub fn crash(&mut self, node: usize, power: Kept) {
        let it = &mut self.nodes[node];
        it.replica = None;
        it.life += 1;
        let disk = &it.disk;
        let kept = |seed: &u64| {
            let trial = disk.fork();
            trial.crash(*seed);
            trial.used()
        };
        match power {
            Kept::All => disk.restart(),
            Kept::Some(seed) => disk.crash(seed),
            Kept::Nothing => disk.crash((0..24).min_by_key(kept).expect("there are some")),
        }
        let life = self.nodes[node].life;
        self.held.retain(|(of, lived, _)| *of != node || *lived == life);
    }

    /// The node loses its disk, and comes back under its old name.
    pub fn wipe(&mut self, node: usize) {
        self.crash(node, Kept::All);
        self.nodes[node].disk = TestDisk::new(1_000 + node as u64);
        self.nodes[node].views = MemoryViews::default();
    }

    /// Nothing passes between these nodes and all others.
    pub fn part(&mut self, island: &[usize]) {
        for a in 0..self.nodes.len() {
            for b in 0..self.nodes.len() {
                if island.contains(&a) != island.contains(&b) {
                    self.cut.insert((a, b));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Keeps jobs of a kind of a node from running.
    pub fn hold(&mut self, node: usize, kind: JobKind) {
        self.holding.insert((node, kind));
    }

    pub fn holds(&self, node: usize) -> usize {
        self.held.iter().filter(|(of, ..)| *of == node).count()
    }

    /// Runs the jobs that were held back.
    pub fn release(&mut self, node: usize) {
        self.holding.retain(|(of, _)| *of != node);
        let (now, later) = std::mem::take(&mut self.held).into_iter().partition(|it| it.0 == node);
        self.held = later;
        let now: Vec<(usize, u64, Job)> = now;
        self.work.extend(now.into_iter().map(|(node, life, job)| Work::Job { node, life, job }));
        self.settle();
    }

    /// The node will lose power before the thing of that number that it does from now on.
    pub fn set_fuse(&mut self, node: usize, after: usize, power: Kept) {
        self.fuse = Some((node, after, power));
    }

    /// Whether the fuse did not burn down; it is taken out.
    pub fn take_fuse(&mut self) -> bool {
        self.fuse.take().is_some()
    }

    /// True if the node has just lost power.
    fn burns(&mut self, node: usize) -> bool {
        let Some((at, left, power)) = &mut self.fuse else { return false };
        if *at != node || self.nodes[node].replica.is_none() {
            return false;
        }
        if *left > 0 {
            *left -= 1;
            return false;
        }
        let power = *power;
        self.fuse = None;
        self.crash(node, power);
        true
    }

    /// Handles an event at a node and performs what it wants.
    pub fn step(&mut self, node: usize, event: Event) {
        let now = self.now;
        let it = &mut self.nodes[node];
        let Some(replica) = &mut it.replica else { return };
        let before = replica.choice();
        match replica.handle(now, event) {
            Ok(effects) => {
                let shown = replica.choice();
                if shown != before {
                    it.shown.push(shown);
                }
                self.perform(node, effects);
            }
            Err(halt) => {
                it.replica = None;
                it.life += 1;
                it.halt = Some(halt);
                it.disk.restart();
            }
        }
    }

    fn perform(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if self.burns(node) {
                return;
            }
            match effect {
                Effect::Send { to, wire } => self.send(node, to, &wire),
                Effect::Job(job) if self.holding.contains(&(node, job.kind())) => {
                    self.held.push((node, self.nodes[node].life, job));
                }
                Effect::Job(job) if job.kind() == JobKind::Sync && self.slow_disks > Span(0) => {
                    let end = self.now + self.slow_disks;
                    self.slow.push_back((end, node, self.nodes[node].life, job));
                }
                Effect::Job(job) => {
                    let life = self.nodes[node].life;
                    self.work.push_back(Work::Job { node, life, job });
                }
                Effect::Shown { .. } => {}
                Effect::Report(evidence) => self.nodes[node].accused.push(evidence.accused().0),
                Effect::Penalise { peer, why } => {
                    self.nodes[node].guilty.push(peer);
                    self.nodes[node].penalties.push(why);
                }
                Effect::Unsigned { why, .. } => assert!(why.contains("it is away"), "{why}"),
            }
        }
    }

    fn send(&mut self, from: usize, to: To, wire: &Wire) {
        let others = (0..self.nodes.len()).filter(|other| *other != from);
        let chosen: Vec<usize> = match to {
            To::Everyone | To::Members => others.collect(),
            To::One(one) => others.filter(|other| id(*other) == one).collect(),
            To::Any => {
                self.turn += 1;
                others.cycle().skip(self.turn % (self.nodes.len() - 1)).take(1).collect()
            }
        };
        for to in chosen {
            self.work.push_back(Work::Wire { from, to, bytes: wire.encode() });
        }
    }

    /// From now on a node can sign nothing, or everything again.
    pub fn take_signer(&mut self, node: usize, away: bool) {
        self.nodes[node].signer.away = away;
    }

    /// A message of the test's own.
    pub fn inject(&mut self, from: usize, to: usize, wire: &Wire) {
        self.work.push_back(Work::Wire { from, to, bytes: wire.encode() });
        self.settle();
    }

    /// A message of somebody who is none of the nodes.
    pub fn inject_as(&mut self, from: NodeId, to: usize, wire: Wire) {
        self.step(to, Event::Wire { from, wire });
        self.settle();
    }

    /// Handles everything that can be handled without time passing.
    pub fn settle(&mut self) {
        for _ in 0..MOST_AT_ONCE {
            let Some(work) = self.work.pop_front() else { return };
            match work {
                Work::Wire { from, to, bytes } => {
                    if !self.cut.contains(&(from, to)) {
                        let wire = Wire::decode(&bytes).expect("it was encoded");
                        self.step(to, Event::Wire { from: id(from), wire });
                    }
                }
                Work::Job { node, life, job } => self.run_job(node, life, job),
            }
        }
        panic!("{MOST_AT_ONCE} things happen in one moment, and no end");
    }

    fn run_job(&mut self, node: usize, life: u64, job: Job) {
        if self.nodes[node].life != life || self.burns(node) {
            return;
        }
        let done: Done = job.run(&self.nodes[node].signer);
        if !self.burns(node) {
            self.step(node, Event::Done(done));
        }
    }

    /// Lets time pass.
    pub fn run_for(&mut self, span: Span) {
        self.run_until(span, |_| false);
    }

    /// Lets time pass until something holds; false if it does not within the span.
    pub fn run_until(&mut self, span: Span, holds: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        loop {
            self.settle();
            if holds(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            let due = |node: &Node| node.replica.as_ref().and_then(Replica::deadline);
            let synced = self.slow.iter().map(|slow| slow.0);
            let next = self.nodes.iter().filter_map(due).chain(synced).min().unwrap_or(end);
            // A millisecond passes in any case: messages and disks take as long.
            self.now = next.max(self.now + Span(1)).min(end);
            while self.slow.front().is_some_and(|slow| slow.0 <= self.now) {
                let (_, node, life, job) = self.slow.pop_front().expect("looked at above");
                self.work.push_back(Work::Job { node, life, job });
            }
            for node in 0..self.nodes.len() {
                if due(&self.nodes[node]).is_some_and(|due| due <= self.now) {
                    self.step(node, Event::Wake);
                }
            }
        }
    }

    /// Fails unless all of these nodes show a height as final in time.
    pub fn expect_final(&mut self, nodes: &[usize], height: u64, within: Span) {
        let done = self.run_until(within, |it| nodes.iter().all(|n| it.finalized(*n) >= height));
        assert!(done, "height {height} is not final at {nodes:?}: {}", self.describe());
    }

    pub fn replica(&self, node: usize) -> &Replica {
        self.nodes[node].replica.as_ref().expect("it runs")
    }

    pub fn reader(&self, node: usize) -> ChainReader {
        self.replica(node).reader()
    }

    /// The height that a node shows as final; 0 if it is down.
    pub fn finalized(&self, node: usize) -> u64 {
        let height = |replica: &Replica| replica.tree().height(&replica.choice().finalized).0;
        self.nodes[node].replica.as_ref().map_or(0, height)
    }

    /// The block of a node's branch at a height.
    pub fn block_at(&self, node: usize, height: u64) -> Block {
        let stored = self.reader(node).block_at(height).expect("the store can be read");
        stored.expect("there is such a block").block.clone()
    }

    /// What a node has executed and not finalised.
    pub fn open_blocks(&self, node: usize) -> Vec<B256> {
        let tree = self.replica(node).tree();
        tree.above(Height(self.finalized(node))).map(|block| block.hash).collect()
    }

    /// Whose turn it is at the height that is open at a node, in round 0 of PBFT.
    pub fn proposer(&self, node: usize) -> usize {
        let (replica, height) = (self.replica(node), Height(self.finalized(node)));
        let turns = Turns::above(replica.epoch(), replica.tree(), replica.choice().finalized);
        let turn = turns.leader(height.next(), 0);
        (0..self.nodes.len()).find(|number| id(*number) == turn).expect("a member")
    }

    /// The leader of Raft, if one is known to itself.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|node| {
            let replica = self.nodes[*node].replica.as_ref();
            replica.is_some_and(|replica| replica.describe().contains("raft leader"))
        })
    }

    /// All that a node signed of a step.
    pub fn signed(&self, node: usize, step: Step) -> Vec<Vote> {
        let signed = self.nodes[node].signed.lock();
        signed.iter().filter(|vote| vote.position.step == step).copied().collect()
    }

    /// No node ever signed two digests at one position, and what was shown as final anywhere at
    /// any time is one branch, which every node that runs still shows.
    pub fn check(&self) {
        self.check_but(&[]);
    }

    /// The same where some nodes have forgotten what they said: they, and only they, may have
    /// contradicted themselves.
    pub fn check_but(&self, forgetful: &[usize]) {
        for (number, node) in self.nodes.iter().enumerate() {
            let mut said = BTreeMap::new();
            for vote in node.signed.lock().iter().filter(|_| !forgetful.contains(&number)) {
                let first = said.entry(vote.position).or_insert(*vote);
                assert_eq!(first, vote, "node {number} contradicts itself");
            }
            let framed = |who: &NodeId| forgetful.iter().all(|forgetful| id(*forgetful) != *who);
            let framed = node.accused.iter().find(|who| framed(who));
            assert_eq!(framed, None, "node {number} accuses an honest member");
            assert_eq!(node.halt, None, "node {number} stopped");
            assert!(node.penalties.is_empty(), "node {number} blames {:?}", node.penalties);
        }
        let up = (0..self.nodes.len()).filter(|node| self.nodes[*node].replica.is_some());
        let up: Vec<usize> = up.collect();
        let best = *up.iter().max_by_key(|node| self.finalized(**node)).expect("one runs");
        for (number, node) in self.nodes.iter().enumerate() {
            for shown in &node.shown {
                let canonical = self.reader(best).is_canonical(shown.finalized);
                assert!(
                    canonical.expect("the store can be read"),
                    "what node {number} showed as final is gone from node {best}"
                );
            }
        }
        for node in up {
            let shown = self.nodes[node].shown.iter().map(|shown| shown.finalized);
            for hash in shown {
                let canonical = self.reader(node).is_canonical(hash);
                assert!(canonical.expect("the store can be read"), "node {node} took back {hash}");
            }
        }
    }

    pub fn describe(&self) -> String {
        let line = |(number, node): (usize, &Node)| match &node.replica {
            Some(replica) => format!("[{number}: {replica:?}]"),
            None => format!("[{number}: down, {:?}]", node.halt),
        };
        self.nodes.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }
}
