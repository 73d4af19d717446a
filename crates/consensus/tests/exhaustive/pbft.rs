//! Four members of a PBFT instance, one of which lies, and everything around them.
//!
//! See `exhaustive_pbft.rs` for the bounds and for why each reduction is sound.

use super::liar::Liar;
use super::{Interned, Model, text};
use crate::network::{GENESIS, block_on, epoch, genesis, id, sign};
use alloy_primitives::{B256, Bytes};
use landfall_consensus::pbft::{Message, Pbft, Turns};
use landfall_consensus::{
    Body, Context, Engine, FinalityProof, Input, Output, Record, Start, Tree, protocol,
};
use landfall_types::{
    Certificate, Epoch, Height, NodeId, Params, PbftParams, SignedVote, Span, Step, Time, Vote,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

const MEMBERS: usize = 4;
/// Longer than the timeout of a round, which is longer than all steps together otherwise.
const LONG: Span = Span(1_000_000_000);
/// Longer than the time to a repetition.
const SHORT: Span = Span(10);

/// How far the search goes. Rounds 0 and 1 of one height, always.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Who lies: 2 leads round 0, 3 leads round 1.
    pub liar: u8,
    /// Crashes of all honest nodes together, each followed by a restart.
    pub crashes: u8,
}

/// The whole; the liar has no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [u32; MEMBERS - 1],
    network: u32,
    crashes: u8,
}

/// What a node does or hears.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// The timeout of round 0 is over.
    Timeout,
    /// It says again what it said last; the signatures are others.
    Repeat,
    /// The block that it asked for is made.
    Built,
    /// Messages of one kind.
    Hear(Vec<u32>),
    /// It crashes and starts again.
    Restart,
}

/// What happened, to which honest node (from zero); if the last is set, it crashed in the middle.
#[derive(Clone, Debug)]
pub struct Action(pub usize, pub Do, pub Option<usize>);

/// What survives a crash.
#[derive(Clone, Debug, PartialEq)]
struct Durable {
    record: Option<Record>,
    finalized: B256,
    proof: Option<FinalityProof>,
    /// Starts before this one.
    crashes: u8,
}

#[derive(Clone)]
struct Node {
    me: u8,
    engine: Pbft,
    now: Time,
    durable: Durable,
    building: Option<B256>,
}

impl Node {
    fn is_in_round_zero(&self) -> bool {
        self.engine.describe().contains(", round 0,")
    }

    /// What can still change behaviour.
    fn text(&self) -> String {
        let Self { me, engine, durable, building, .. } = self;
        if durable.proof.is_some() {
            return format!("{me} decided {}", durable.finalized);
        }
        let debug = format!("{engine:?}");
        let engine = text::timeless(text::from_field(&debug, " finalized: "));
        let mut engine = text::without(&engine, "signatures: [", "]");
        engine = text::without(&engine, " published: ", ",");
        if !self.is_in_round_zero() {
            engine = text::without(&engine, " rounds: ", " justifications: ");
            engine = text::without(&engine, " published: ", "}}");
        }
        let record = text::timeless(&format!("{:?}", durable.record));
        let record = text::without(&record, "signatures: [", "]");
        format!("{me} {engine} {record} {} {building:?}", durable.crashes)
    }
}

/// Something said, in full: a vote and what comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub vote: SignedVote,
    pub message: Message,
}

/// Where a step ends: the local state, and what was said on the way.
type End = (u32, Vec<u32>);

/// A step, and the crashes between its outputs.
#[derive(Debug, PartialEq)]
struct Outcome {
    whole: End,
    cuts: Vec<End>,
    /// It said, wrote or asked for something.
    acts: bool,
}

struct Run {
    node: Node,
    said: Vec<u32>,
    inputs: VecDeque<Input>,
    cuts: Vec<(Durable, Vec<u32>)>,
    signatures: u64,
    acts: bool,
}

/// The search's model.
pub struct Cluster {
    bounds: Bounds,
    epoch: Epoch,
    tree: Tree,
    liar: Liar,
    nodes: Interned<String, Node>,
    messages: Interned<Vec<u8>, Said>,
    networks: Interned<Vec<u32>, Vec<u32>>,
    /// The first of those that prove the same by as many signers.
    certificates: HashMap<(Vote, usize), Certificate>,
    /// Of each network, with the liar's messages, by kind and content.
    heard: HashMap<u32, Rc<Vec<Vec<u32>>>>,
    #[allow(clippy::type_complexity, reason = "a cache")]
    steps: HashMap<(u32, Do), Result<Rc<Outcome>, String>>,
    initial: State,
    /// The round of every proof that decided something.
    pub proven: BTreeSet<u64>,
}

impl Cluster {
    pub fn new(bounds: Bounds) -> Self {
        let params = PbftParams {
            block_interval: Span(1),
            empty_blocks: false,
            round_timeout: Span(LONG.0 / 2),
            round_timeout_max: Span(LONG.0 / 2),
            retransmit: Span(1),
            clock_drift: Span(500),
        };
        let epoch = epoch(Params::Pbft(params), MEMBERS as u8, 1);
        let mut tree = Tree::new(genesis());
        let liar = Liar::new(&epoch, id(bounds.liar), &mut tree);
        let mut it = Self {
            bounds,
            epoch,
            tree,
            liar,
            nodes: Interned::new(),
            messages: Interned::new(),
            networks: Interned::new(),
            certificates: HashMap::new(),
            heard: HashMap::new(),
            steps: HashMap::new(),
            initial: State { nodes: [0; MEMBERS - 1], network: 0, crashes: 0 },
            proven: BTreeSet::new(),
        };
        let finalized = genesis().hash;
        let honest = (1..=MEMBERS as u8).filter(|n| *n != bounds.liar);
        for (place, me) in honest.enumerate() {
            let durable = Durable { record: None, finalized, proof: None, crashes: 0 };
            let node = it.start(me, durable, GENESIS + SHORT);
            it.initial.nodes[place] = it.nodes.number_of(node.text(), node);
        }
        it.initial.network = it.networks.number(Vec::new(), Vec::new);
        it
    }

    /// Local states, messages and sets of messages that occurred.
    pub fn parts(&self) -> (usize, usize, usize) {
        (self.nodes.len(), self.messages.len(), self.networks.len())
    }

    fn start(&mut self, me: u8, durable: Durable, now: Time) -> Node {
        let start = Start {
            epoch: &self.epoch,
            me: id(me),
            now,
            seed: 1,
            tree: &self.tree,
            finalized: durable.finalized,
            head: durable.finalized,
            proof: durable.proof.clone(),
            record: durable.record.clone(),
        };
        let mut out = Vec::new();
        let mut engine = Pbft::new(&start, &mut out);
        assert_eq!(out, [], "a start says nothing");
        let cx = Context { now, tree: &self.tree };
        engine.step(&cx, Input::Pending(true), &mut out);
        let mut node = Node { me, engine, now, durable, building: None };
        for output in out {
            match output {
                Output::Build { parent, .. } => self.build(&mut node, parent),
                Output::Fetch { .. } => {}
                other => panic!("it waits for a tick or a message, and does {other:?}"),
            }
        }
        node
    }

    /// After a crash it is another block: time went on.
    fn build(&mut self, node: &mut Node, parent: B256) {
        let time = Time(u64::from(node.durable.crashes));
        let parent = self.tree.block(&parent);
        let time = parent.time + Span(1 + time.0);
        let block = block_on(parent, id(node.me), time, Bytes::new());
        node.building = Some(block.hash);
        if !self.tree.has(&block.hash) {
            self.tree.insert(block);
        }
    }

    /// Takes every step again from another node with the same text, and says how many there were:
    /// what the text leaves out must not matter.
    pub fn audit(&mut self) -> usize {
        let steps: Vec<_> =
            self.steps.iter().map(|(key, end)| (key.clone(), end.clone())).collect();
        let mut audited = 0;
        for ((from, what), known) in steps {
            let Some(node) = self.nodes.other(from).cloned() else { continue };
            let again = self.compute(node, &what);
            let (known, again) = (known.expect("no step failed"), again.expect("nor again"));
            assert_eq!(known, again, "{what:?} depends on more than the text of {from}");
            audited += 1;
        }
        audited
    }

    fn step(&mut self, from: u32, what: &Do) -> Result<Rc<Outcome>, String> {
        let key = (from, what.clone());
        if let Some(known) = self.steps.get(&key) {
            return known.clone();
        }
        let node = self.nodes.get(from).clone();
        let outcome = self.compute(node, what);
        self.steps.insert(key, outcome.clone());
        outcome
    }

    fn compute(&mut self, node: Node, what: &Do) -> Result<Rc<Outcome>, String> {
        let (said, inputs, cuts) = (Vec::new(), VecDeque::new(), Vec::new());
        let mut run = Run { node, said, inputs, cuts, signatures: 1, acts: false };
        match what {
            Do::Timeout => {
                run.node.now += LONG;
                self.feed(&mut run, Input::Tick)?;
            }
            Do::Repeat => {
                run.signatures = 2;
                let due = run.node.engine.deadline();
                if due.is_some_and(|due| due <= run.node.now + SHORT) {
                    run.node.now += SHORT;
                    self.feed(&mut run, Input::Tick)?;
                }
            }
            Do::Built => {
                let hash = run.node.building.take().expect("a block was asked for");
                self.feed(&mut run, Input::Built { hash })?;
            }
            Do::Hear(messages) => {
                for message in messages {
                    let input = input(self.messages.get(*message));
                    self.feed(&mut run, input)?;
                }
            }
            Do::Restart => {
                let durable = run.node.durable.clone();
                run.node = self.restart(run.node.me, durable, run.node.now);
            }
        }
        let (me, now, acts) = (run.node.me, run.node.now, run.acts);
        if run.node.durable.crashes == self.bounds.crashes {
            run.cuts.clear();
        }
        let node = run.node;
        let whole = (self.nodes.number_of(node.text(), node), run.said);
        let mut cuts: Vec<End> = Vec::new();
        for (durable, said) in run.cuts {
            let node = self.restart(me, durable, now);
            let end = (self.nodes.number_of(node.text(), node), said);
            if !cuts.contains(&end) {
                cuts.push(end);
            }
        }
        Ok(Rc::new(Outcome { whole, cuts, acts }))
    }

    fn restart(&mut self, me: u8, durable: Durable, now: Time) -> Node {
        self.start(me, Durable { crashes: durable.crashes + 1, ..durable }, now)
    }

    /// An input, and the own votes that follow from it.
    fn feed(&mut self, run: &mut Run, input: Input) -> Result<(), String> {
        run.inputs.push_back(input);
        while let Some(input) = run.inputs.pop_front() {
            let mut out = Vec::new();
            let cx = Context { now: run.node.now, tree: &self.tree };
            run.node.engine.step(&cx, input, &mut out);
            for output in out {
                let before = (run.node.durable.clone(), run.said.clone());
                if run.cuts.last() != Some(&before) {
                    run.cuts.push(before);
                }
                run.acts |= !matches!(output, Output::Fetch { .. });
                self.perform(run, output)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, run: &mut Run, output: Output) -> Result<(), String> {
        let me = run.node.me;
        match output {
            Output::Persist(record) => run.node.durable.record = Some(record),
            Output::Send { vote: Some(vote), body: Body::Pbft(message), .. } => {
                let message = self.represented(message);
                let signed = |nonce| sign(id(me), vote, nonce);
                let said = |nonce| Said { vote: signed(nonce), message: message.clone() };
                // Own votes come back, signed.
                run.inputs.extend((0..run.signatures).map(|nonce| input(&said(nonce))));
                run.said.push(self.number(said(0)));
            }
            Output::Send { .. } => return Err(format!("node {me} says what is no vote")),
            Output::Build { parent, .. } => self.build(&mut run.node, parent),
            Output::Adopt { choice, proof } => {
                let proof = proof.ok_or("a decision without a proof")?;
                landfall_light::verify_proof(&self.epoch, &proof)
                    .map_err(|error| format!("node {me} decides with a bad proof: {error}"))?;
                if (proof.hash(), proof.height())
                    != (choice.finalized, self.tree.height(&choice.finalized))
                {
                    return Err(format!("node {me} decides with the proof of another block"));
                }
                self.proven.insert(proof.certificate.vote.position.round);
                run.node.durable.finalized = choice.finalized;
                run.node.durable.proof = Some(proof);
            }
            Output::Publish { .. } | Output::Fetch { .. } => {}
            Output::Report(evidence) => {
                let accused = protocol(self.epoch.kind()).verify_evidence(&self.epoch, &evidence);
                if accused != Ok(id(self.bounds.liar)) {
                    return Err(format!("node {me} accuses {accused:?}"));
                }
            }
        }
        Ok(())
    }

    /// A round change with the first certificate known that proves the same.
    fn represented(&mut self, message: Message) -> Message {
        let Message::RoundChange { prepared: Some(prepared) } = message else { return message };
        let key = (prepared.vote, prepared.signatures.len());
        let prepared = Some(self.certificates.entry(key).or_insert(prepared).clone());
        Message::RoundChange { prepared }
    }

    fn number(&mut self, said: Said) -> u32 {
        let mut key = alloy_rlp::encode(said.vote);
        key.extend(alloy_rlp::encode(Body::Pbft(said.message.clone())));
        self.messages.number(key, || said)
    }

    /// The sets of messages that a node may be given at once: one proposal, the prepares or the
    /// commits that say the same, all round changes.
    fn sets(&mut self, network: u32) -> Rc<Vec<Vec<u32>>> {
        if let Some(known) = self.heard.get(&network) {
            return known.clone();
        }
        let mut all = self.networks.get(network).clone();
        let honest: Vec<_> = all.iter().map(|said| self.messages.get(*said).clone()).collect();
        for mut said in self.liar.menu(&self.epoch, &honest) {
            said.message = self.represented(said.message);
            all.push(self.number(said));
        }
        let mut sets: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for message in all {
            let said = self.messages.get(message);
            let step = said.vote.vote.position.step;
            let key = match step {
                Step::Proposal => (step, None, message),
                Step::RoundChange => (step, None, 0),
                _ => (step, Some(said.vote.vote), 0),
            };
            sets.entry(key).or_default().push(message);
        }
        let sets = Rc::new(sets.into_values().collect::<Vec<_>>());
        self.heard.insert(network, sets.clone());
        sets
    }

    /// The smallest parts of a set that make a node act. Of votes that say the same, any part
    /// stands for all of its size.
    fn hear(&mut self, local: u32, set: &[u32]) -> Result<Vec<Do>, (Do, String)> {
        let me = id(self.nodes.get(local).me);
        let signer = |it: &Self, message: u32| it.messages.get(message).vote.signer;
        let mut others: Vec<u32> =
            set.iter().copied().filter(|message| signer(self, *message) != me).collect();
        others.sort_by_key(|message| (signer(self, *message) != id(self.bounds.liar), *message));
        let changes = others.first().is_some_and(|one| {
            self.messages.get(*one).vote.vote.position.step == Step::RoundChange
        });
        let turns = || Turns::above(&self.epoch, &self.tree, genesis().hash);
        if changes && turns().leader(Height(1), 1) != me {
            return Ok(Vec::new());
        }
        let mut parts: Vec<u32> = (1..1 << others.len()).collect();
        parts.sort_by_key(|part| (part.count_ones(), *part));
        let (mut acting, mut found) = (Vec::new(), Vec::new());
        for part in parts {
            if acting.iter().any(|smaller| part & smaller == *smaller) {
                continue;
            }
            let chosen: Vec<u32> =
                (0..others.len()).filter(|n| part >> n & 1 == 1).map(|n| others[n]).collect();
            let signers: BTreeSet<NodeId> =
                chosen.iter().map(|message| signer(self, *message)).collect();
            if signers.len() < chosen.len() {
                continue;
            }
            let what = Do::Hear(chosen);
            if self.step(local, &what).map_err(|it| (what.clone(), it))?.acts {
                acting.push(part);
                found.push(what);
                if !changes {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn choices(&mut self, state: State, place: usize) -> Result<Vec<Do>, (Do, String)> {
        let local = state.nodes[place];
        let node = self.nodes.get(local);
        let mut choices = Vec::new();
        if node.durable.proof.is_some() {
            return Ok(choices);
        }
        choices.push(Do::Repeat);
        if node.is_in_round_zero() {
            choices.push(Do::Timeout);
        }
        if node.building.is_some() {
            choices.push(Do::Built);
        }
        for set in self.sets(state.network).iter() {
            choices.extend(self.hear(local, set)?);
        }
        if state.crashes < self.bounds.crashes {
            choices.push(Do::Restart);
        }
        Ok(choices)
    }

    /// The state after a node came to `end`, if no invariant breaks.
    fn arrive(
        &mut self,
        state: State,
        place: usize,
        end: &End,
        crash: bool,
    ) -> Result<State, String> {
        let mut after = State { crashes: state.crashes + u8::from(crash), ..state };
        after.nodes[place] = end.0;
        let decided: Vec<B256> = after
            .nodes
            .iter()
            .map(|local| &self.nodes.get(*local).durable)
            .filter(|durable| durable.proof.is_some())
            .map(|durable| durable.finalized)
            .collect();
        if decided.iter().any(|hash| *hash != decided[0]) {
            return Err("two blocks are final at height 1".into());
        }
        let mut network = self.networks.get(state.network).clone();
        for fresh in &end.1 {
            if let Err(at) = network.binary_search(fresh) {
                self.check_said(&network, *fresh)?;
                network.insert(at, *fresh);
            }
        }
        after.network = self.networks.number(network.clone(), || network);
        Ok(after)
    }

    /// One vote of an honest node at a position, in all its lives.
    fn check_said(&self, network: &[u32], fresh: u32) -> Result<(), String> {
        let fresh = self.messages.get(fresh).vote;
        let known = network.iter().map(|said| self.messages.get(*said).vote);
        for known in known.filter(|known| known.signer == fresh.signer) {
            if known.vote.contradicts(&fresh.vote) {
                let place = fresh.vote.position;
                return Err(format!("{} says two things at {place:?}", fresh.signer));
            }
        }
        Ok(())
    }
}

fn input(said: &Said) -> Input {
    let body = Body::Pbft(said.message.clone());
    Input::Message { from: said.vote.signer, vote: Some(said.vote), body }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        self.initial
    }

    fn next(&mut self, state: State) -> Result<Vec<(Action, State)>, (Action, String)> {
        let mut all = Vec::new();
        for place in 0..MEMBERS - 1 {
            let named = |(what, error)| (Action(place, what, None), error);
            for what in self.choices(state, place).map_err(named)? {
                let outcome = self.step(state.nodes[place], &what);
                let outcome = outcome.map_err(|it| (Action(place, what.clone(), None), it))?;
                let whole = [(None, &outcome.whole)].into_iter();
                let cuts = outcome.cuts.iter().enumerate().map(|(n, end)| (Some(n), end));
                for (cut, end) in whole.chain(cuts) {
                    let action = Action(place, what.clone(), cut);
                    let crash = cut.is_some() || what == Do::Restart;
                    if crash && state.crashes == self.bounds.crashes {
                        continue;
                    }
                    match self.arrive(state, place, end, crash) {
                        Ok(after) => all.push((action, after)),
                        Err(error) => return Err((action, error)),
                    }
                }
            }
        }
        Ok(all)
    }

    fn show(&self, state: State) -> String {
        let node = |local: &u32| {
            let node = self.nodes.get(*local);
            format!("{} {}", node.me, node.engine.describe())
        };
        let nodes: Vec<_> = state.nodes.iter().map(node).collect();
        nodes.join("; ")
    }
}
