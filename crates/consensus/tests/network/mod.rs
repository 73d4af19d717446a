//! A cluster of engines in memory, without replica, chain and disk: for tests of the protocols
//! alone.
//!
//! One tree per node, virtual time, one seed. A record is durable at once, so a crash loses what
//! is in memory and in flight, and nothing else; the simulator has the disks. Every message goes
//! through a network that delays, loses and cuts as it is told. Checked all the time: agreement,
//! proofs, finality that never moves back, no second vote at a position, and timers that end.

#![allow(dead_code, reason = "each test uses its part")]

mod faults;
pub mod member;

use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes, U256, keccak256};
use landfall_consensus::{
    Archive, Body, Context, Engine, Evidence, FinalityProof, Input, Output, Random, Recipients,
    Record, SealedHeader, Start, Tree, TreeBlock, Verdict, protocol,
};
use landfall_types::{
    Anchor, Committee, Epoch, Extension, Height, Kind, NodeId, Params, Signature, SignedVote, Span,
    Time, Vote,
};
use std::collections::{BTreeMap, BTreeSet};

/// Between two announcements of what a node holds as final.
const ANNOUNCE: Span = Span(100);
/// How long a block takes to be made.
const BUILD: u64 = 20;

/// The name of node `n`.
pub fn id(n: u8) -> NodeId {
    NodeId::repeat_byte(n)
}

/// A signature that stands for a real one: it names the signer and the vote, and is one of many
/// that are good.
pub fn sign(signer: NodeId, vote: Vote, nonce: u64) -> SignedVote {
    let mut bytes = [0; 65];
    bytes[..20].copy_from_slice(signer.as_slice());
    bytes[20..52].copy_from_slice(vote.digest(CHAIN).as_slice());
    bytes[52..60].copy_from_slice(&nonce.to_be_bytes());
    SignedVote { vote, signer, signature: Signature(bytes) }
}

/// The hash of block 0.
pub const CHAIN: B256 = B256::repeat_byte(0xcc);
/// The time of block 0.
pub const GENESIS: Time = Time(1_000_000);

/// The block that the instance stands on.
pub fn genesis() -> TreeBlock {
    TreeBlock {
        hash: CHAIN,
        parent: B256::ZERO,
        height: Height(0),
        time: GENESIS,
        epoch: 0,
        proposer: NodeId::ZERO,
        difficulty: U256::ZERO,
        data: Bytes::new(),
    }
}

/// A block on `parent`; equal arguments make equal blocks.
pub fn block_on(parent: &TreeBlock, proposer: NodeId, time: Time, data: Bytes) -> TreeBlock {
    let time = time.max(parent.time + Span(1));
    let height = parent.height.next();
    let content = (parent.hash, proposer, (height, time), data.clone());
    let bytes = format!("{content:?}");
    TreeBlock {
        hash: keccak256(bytes),
        parent: parent.hash,
        height,
        time,
        epoch: 0,
        proposer,
        difficulty: U256::ZERO,
        data,
    }
}

/// The header of such a block, as far as the rules of PBFT look at it.
pub fn header_of(block: &TreeBlock) -> SealedHeader {
    let TreeBlock { parent, height, time, epoch, proposer, data, .. } = block.clone();
    let header = Header { parent_hash: parent, number: height.0, ..Header::default() };
    let extension = Extension { milliseconds: time.0, epoch, proposer, data };
    SealedHeader { header: Sealed::new(header), extension, sealer: Some(proposer) }
}

/// Epoch 0 of members `1..=members`, of weight 1.
pub fn epoch(params: Params, members: u8, last: u64) -> Epoch {
    Epoch {
        chain: CHAIN,
        number: 0,
        params,
        committee: Committee::equal((1..=members).map(id)).unwrap(),
        first: Height(1),
        last: Height(last),
        anchor: Anchor::Final { hash: CHAIN, time: GENESIS },
    }
}

/// What travels.
#[derive(Clone, Debug)]
enum Packet {
    Engine(Box<(Option<SignedVote>, Body)>),
    /// Parents first.
    Blocks(Vec<TreeBlock>),
    /// A block, and its ancestors above a height.
    Get {
        hash: B256,
        above: Height,
    },
    Final(FinalityProof),
}

/// What happens to a node.
#[derive(Clone, Debug)]
enum Event {
    Packet { from: NodeId, packet: Packet },
    Own { vote: SignedVote, body: Body, start: u64 },
    Built { block: TreeBlock, start: u64 },
    Announce,
}

/// What was sent, for tests to look at.
#[derive(Clone, Debug)]
pub struct Sent {
    /// When.
    pub time: Time,
    /// By whom.
    pub from: NodeId,
    /// To whom.
    pub to: Recipients,
    /// What it binds itself to.
    pub vote: Option<Vote>,
    /// What else.
    pub body: Body,
}

/// A node: what is durable, and the engine unless it is down.
pub struct Node {
    engine: Option<Box<dyn Engine>>,
    /// Executed blocks.
    pub tree: Tree,
    /// The newest record.
    pub record: Option<Record>,
    /// The head shown.
    pub head: B256,
    /// The final block shown.
    pub finalized: B256,
    /// Why it is final.
    pub proof: Option<FinalityProof>,
    parked: BTreeMap<B256, TreeBlock>,
    building: Option<(B256, Bytes)>,
    starts: u64,
    fuse: Option<u64>,
}

/// The cluster.
pub struct Network {
    /// The instance.
    pub epoch: Epoch,
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Virtual time.
    pub now: Time,
    /// What every node sent, since the test last cleared it.
    pub sent: Vec<Sent>,
    /// What every node knew to be final at each height.
    pub decided: BTreeMap<Height, B256>,
    /// What engines reported.
    pub reports: Vec<Evidence>,
    /// Whether transactions always wait.
    pub load: bool,
    /// Of a hundred packets, these are lost.
    pub loss_percent: u64,
    /// The least and the most that a packet takes.
    pub delay: (u64, u64),
    random: Random,
    queue: BTreeMap<(Time, u64), (NodeId, Event)>,
    numbered: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    archive: Archive,
}

impl Network {
    /// Members `1..=members`, all started.
    pub fn new(params: Params, members: u8, last: u64, seed: u64) -> Self {
        let mut network = Self {
            epoch: epoch(params, members, last),
            nodes: BTreeMap::new(),
            now: GENESIS + Span(1_000),
            sent: Vec::new(),
            decided: BTreeMap::new(),
            reports: Vec::new(),
            load: true,
            loss_percent: 0,
            delay: (1, 10),
            random: Random::new(seed),
            queue: BTreeMap::new(),
            numbered: 0,
            cut: BTreeSet::new(),
            archive: Archive::new(1_000),
        };
        for n in 1..=members {
            let node = Node {
                engine: None,
                tree: Tree::new(genesis()),
                record: None,
                head: CHAIN,
                finalized: CHAIN,
                proof: None,
                parked: BTreeMap::new(),
                building: None,
                starts: 0,
                fuse: None,
            };
            network.nodes.insert(id(n), node);
            network.restart(n);
            network.at(Span(ANNOUNCE.0 + u64::from(n) * 7), id(n), Event::Announce);
        }
        network
    }

    /// The node of number `n`.
    pub fn node(&self, n: u8) -> &Node {
        &self.nodes[&id(n)]
    }

    /// The height that node `n` knows to be final.
    pub fn finalized(&self, n: u8) -> Height {
        let node = self.node(n);
        node.tree.height(&node.finalized)
    }

    /// The greatest final height of any node.
    pub fn highest(&self) -> Height {
        self.decided.last_key_value().map_or(Height(0), |(height, _)| *height)
    }

    /// What the engine of node `n` says of itself; nothing if it is down.
    pub fn describe(&self, n: u8) -> String {
        self.node(n).engine.as_ref().map_or_else(String::new, |engine| engine.describe())
    }

    /// Nodes whose description holds a word.
    pub fn described(&self, word: &str) -> Vec<u8> {
        let all = 1..=u8::try_from(self.nodes.len()).unwrap();
        all.filter(|n| self.describe(*n).contains(word)).collect()
    }

    /// Whether node `n` is up.
    pub fn is_up(&self, n: u8) -> bool {
        self.node(n).engine.is_some()
    }

    /// Nothing passes between two nodes.
    pub fn cut(&mut self, a: u8, b: u8) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Nothing passes from one node to another.
    pub fn cut_one_way(&mut self, from: u8, to: u8) {
        self.cut.insert((id(from), id(to)));
    }

    /// Nothing passes to or from a node.
    pub fn isolate(&mut self, n: u8) {
        for other in 1..=u8::try_from(self.nodes.len()).unwrap() {
            if other != n {
                self.cut(n, other);
            }
        }
    }

    /// Everything passes.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss_percent = 0;
    }

    /// The node loses its memory.
    pub fn crash(&mut self, n: u8) {
        let node = self.nodes.get_mut(&id(n)).unwrap();
        node.engine = None;
        node.parked.clear();
        node.building = None;
        node.fuse = None;
    }

    /// The node crashes after so many outputs more.
    pub fn crash_after(&mut self, n: u8, outputs: u64) {
        self.nodes.get_mut(&id(n)).unwrap().fuse = Some(outputs);
    }

    /// Starts a node from what is durable.
    pub fn restart(&mut self, n: u8) {
        let me = id(n);
        let seed = self.random.next_u64();
        let node = self.nodes.get_mut(&me).unwrap();
        assert!(node.engine.is_none(), "node {n} is up");
        node.starts += 1;
        let start = Start {
            epoch: &self.epoch,
            me,
            now: self.now,
            seed,
            tree: &node.tree,
            finalized: node.finalized,
            head: node.head,
            proof: node.proof.clone(),
            record: node.record.clone(),
        };
        let mut out = Vec::new();
        node.engine = Some(protocol(self.epoch.kind()).start(start, &mut out));
        let only_adopts = out.iter().all(|output| matches!(output, Output::Adopt { .. }));
        assert!(only_adopts, "a start acts: {out:?}");
        self.perform(me, out);
        self.step(me, Input::Pending(self.load));
    }

    /// Runs until a time.
    pub fn run_for(&mut self, span: Span) {
        let end = self.now + span;
        self.run_until(end, |_| false);
    }

    /// Runs until something holds; says whether it did in time.
    pub fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            let event = self.queue.first_key_value().map(|((time, _), _)| *time);
            let timer = self
                .nodes
                .iter()
                .filter_map(|(me, node)| Some((node.engine.as_ref()?.deadline()?, *me)))
                .min();
            let next = event.into_iter().chain(timer.map(|(due, _)| due)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return done(self);
            };
            self.now = self.now.max(next);
            match timer {
                Some((due, me)) if event.is_none_or(|event| due <= event) => self.tick(me),
                _ => {
                    let (_, (me, event)) = self.queue.pop_first().expect("an event is next");
                    self.happen(me, event);
                }
            }
        }
    }

    /// Runs until the cluster has decided so many heights more; panics after `span`.
    pub fn expect_progress(&mut self, heights: u64, span: Span) {
        let goal = Height((self.highest().0 + heights).min(self.epoch.last.0));
        let end = self.now + span;
        if !self.run_until(end, |network| network.highest() >= goal) {
            let states: Vec<_> = (1..=self.nodes.len()).map(|n| self.describe(n as u8)).collect();
            panic!("no progress to {goal} in {span}: {} at {states:#?}", self.highest());
        }
    }

    fn tick(&mut self, me: NodeId) {
        self.step(me, Input::Tick);
        if let Some(engine) = &self.nodes[&me].engine {
            assert!(engine.deadline().is_none_or(|due| due > self.now), "a timer stays due");
        }
    }

    /// Gives an engine an input, and does what it says.
    pub fn step(&mut self, me: NodeId, input: Input) {
        let node = self.nodes.get_mut(&me).unwrap();
        let Some(engine) = &mut node.engine else { return };
        let mut out = Vec::new();
        engine.step(&Context { now: self.now, tree: &node.tree }, input, &mut out);
        self.perform(me, out);
    }

    fn perform(&mut self, me: NodeId, out: Vec<Output>) {
        for output in out {
            let node = self.nodes.get_mut(&me).unwrap();
            if node.engine.is_none() {
                return;
            }
            match &mut node.fuse {
                Some(0) => {
                    node.fuse = None;
                    node.engine = None;
                    node.parked.clear();
                    node.building = None;
                    return;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            self.perform_one(me, output);
        }
    }

    fn perform_one(&mut self, me: NodeId, output: Output) {
        let node = self.nodes.get_mut(&me).unwrap();
        match output {
            Output::Persist(record) => node.record = Some(record),
            Output::Send { to, vote, body } => {
                let seen = Sent { time: self.now, from: me, to, vote, body: body.clone() };
                self.sent.push(seen);
                // Another signature each time, as a signer may give.
                let vote = vote.map(|vote| sign(me, vote, self.numbered));
                if let Some(vote) = vote {
                    assert_eq!(self.archive.note(&vote), None, "a member contradicts itself");
                    let start = node.starts;
                    self.at(Span(0), me, Event::Own { vote, body: body.clone(), start });
                }
                self.post(me, to, &Packet::Engine(Box::new((vote, body))));
            }
            Output::Build { parent, time, extension, .. } => {
                let wanted = (parent, extension.clone());
                if node.building.as_ref() != Some(&wanted) {
                    node.building = Some(wanted);
                    let block = block_on(node.tree.block(&parent), me, time, extension);
                    let start = node.starts;
                    self.at(Span(BUILD), me, Event::Built { block, start });
                }
            }
            Output::Publish { hash } => {
                let block = node.tree.block(&hash).clone();
                self.post(me, Recipients::All, &Packet::Blocks(vec![block]));
            }
            Output::Fetch { hash, from } => self.fetch(me, hash, from),
            Output::Adopt { choice, proof } => self.adopt(me, choice, proof),
            Output::Report(evidence) => self.reports.push(evidence),
        }
    }

    fn adopt(
        &mut self,
        me: NodeId,
        choice: landfall_consensus::ForkChoice,
        proof: Option<FinalityProof>,
    ) {
        let node = self.nodes.get_mut(&me).unwrap();
        let (tree, before) = (&node.tree, node.finalized);
        assert!(tree.descends(choice.finalized, before), "{me}: finality moved back");
        assert!(tree.descends(choice.head, choice.safe), "the head holds what is safe");
        assert!(tree.descends(choice.safe, choice.finalized), "safe holds what is final");
        let height = tree.height(&choice.finalized);
        assert!(height <= self.epoch.last, "decided above the epoch's last height");
        if choice.finalized != before && self.epoch.kind().is_agreement() {
            let proof = proof.as_ref().expect("a decision has a proof");
            landfall_light::verify_proof(&self.epoch, proof).expect("the proof is good");
            assert_eq!((proof.hash(), proof.height()), (choice.finalized, height));
            let mut at = tree.block(&choice.finalized);
            while at.hash != before {
                let first = *self.decided.entry(at.height).or_insert(at.hash);
                assert_eq!(first, at.hash, "two blocks are final at height {}", at.height);
                at = tree.block(&at.parent);
            }
        }
        node.head = choice.head;
        node.finalized = choice.finalized;
        node.proof = proof.or(node.proof.take());
        // Some of what lies below stays, for nodes that are late.
        node.tree.prune(choice.finalized, 10_000);
        if height < self.epoch.last && self.load {
            self.step(me, Input::Pending(true));
        }
    }

    fn happen(&mut self, me: NodeId, event: Event) {
        let node = &self.nodes[&me];
        match event {
            Event::Announce => {
                let announced = node.proof.clone().filter(|_| node.engine.is_some());
                self.at(ANNOUNCE, me, Event::Announce);
                if let Some(proof) = announced {
                    self.post(me, Recipients::All, &Packet::Final(proof));
                }
            }
            _ if node.engine.is_none() => {}
            Event::Own { vote, body, start } if start == node.starts => {
                self.step(me, Input::Message { from: me, vote: Some(vote), body });
            }
            Event::Built { block, start } if start == node.starts => {
                let node = self.nodes.get_mut(&me).unwrap();
                let wanted = (block.parent, block.data.clone());
                // A later request superseded this one.
                if node.building.take_if(|building| *building == wanted).is_some()
                    && node.tree.has(&block.parent)
                    && !node.tree.has(&block.hash)
                {
                    if self.epoch.kind() == Kind::Pbft {
                        let header = header_of(&block);
                        let verdict =
                            protocol(Kind::Pbft).verify(&self.epoch, &header, &node.tree, self.now);
                        assert_eq!(verdict, Verdict::Valid, "a block of an honest member");
                    }
                    let hash = block.hash;
                    node.tree.insert(block);
                    self.step(me, Input::Built { hash });
                }
            }
            Event::Own { .. } | Event::Built { .. } => {}
            Event::Packet { from, packet } => self.arrive(me, from, packet),
        }
    }

    fn arrive(&mut self, me: NodeId, from: NodeId, packet: Packet) {
        let node = self.nodes.get_mut(&me).unwrap();
        match packet {
            Packet::Engine(message) => {
                let (vote, body) = *message;
                self.step(me, Input::Message { from, vote, body });
            }
            Packet::Get { hash, above } => {
                let mut blocks = Vec::new();
                let mut at = node.tree.get(&hash);
                while let Some(block) = at.filter(|block| block.height > above) {
                    blocks.push(block.clone());
                    at = node.tree.get(&block.parent);
                }
                blocks.reverse();
                if !blocks.is_empty() {
                    self.post(me, Recipients::One(from), &Packet::Blocks(blocks));
                }
            }
            Packet::Blocks(blocks) => {
                for block in blocks {
                    self.take_block(me, from, block);
                }
            }
            Packet::Final(proof) => {
                if node.tree.height(&node.finalized) >= proof.height() {
                    return;
                }
                if node.tree.has(&proof.hash()) {
                    self.step(me, Input::Proof(proof));
                } else {
                    self.fetch(me, proof.hash(), Some(from));
                }
            }
        }
    }

    fn take_block(&mut self, me: NodeId, from: NodeId, block: TreeBlock) {
        let node = self.nodes.get_mut(&me).unwrap();
        let floor = node.tree.height(&node.finalized);
        if node.tree.has(&block.hash) || block.height <= floor {
            return;
        }
        let parent = block.parent;
        node.parked.insert(block.hash, block);
        if !node.tree.has(&parent) {
            return self.fetch(me, parent, Some(from));
        }
        loop {
            let Some(node) = self.nodes.get_mut(&me).filter(|node| node.engine.is_some()) else {
                return;
            };
            let ready =
                node.parked.values().find(|block| node.tree.has(&block.parent)).map(|b| b.hash);
            let Some(hash) = ready else { return };
            let block = node.parked.remove(&hash).expect("it is parked");
            if block.height > node.tree.height(&node.finalized) && !node.tree.has(&hash) {
                node.tree.insert(block);
                self.step(me, Input::Block { hash });
            }
        }
    }

    fn fetch(&mut self, me: NodeId, hash: B256, from: Option<NodeId>) {
        let to = from.map_or(Recipients::All, Recipients::One);
        let node = &self.nodes[&me];
        let above = node.tree.height(&node.finalized);
        self.post(me, to, &Packet::Get { hash, above });
    }

    /// Hands a message to the network as if `from` had sent it.
    pub fn inject(&mut self, from: NodeId, to: NodeId, vote: Option<SignedVote>, body: Body) {
        self.at(
            Span(1),
            to,
            Event::Packet { from, packet: Packet::Engine(Box::new((vote, body))) },
        );
    }

    fn post(&mut self, from: NodeId, to: Recipients, packet: &Packet) {
        let all: Vec<_> = match to {
            Recipients::All => self.nodes.keys().copied().filter(|to| *to != from).collect(),
            Recipients::One(to) => vec![to],
        };
        for to in all {
            let lost = self.random.chance(self.loss_percent);
            let (least, most) = self.delay;
            let delay = Span(least + self.random.below(most - least + 1));
            if !lost && !self.cut.contains(&(from, to)) {
                self.at(delay, to, Event::Packet { from, packet: packet.clone() });
            }
        }
    }

    fn at(&mut self, after: Span, me: NodeId, event: Event) {
        self.numbered += 1;
        self.queue.insert((self.now + after, self.numbered), (me, event));
    }
}
