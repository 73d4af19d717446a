//! Three members of a Raft instance, and everything around them.
//!
//! See `exhaustive_raft.rs` for the bounds and for why each reduction is sound.

mod states;

use super::{Interned, text};
use crate::network::{GENESIS, block_on, epoch, genesis, id, sign};
use alloy_primitives::B256;
use landfall_consensus::raft::{Last, Message, Raft};
use landfall_consensus::{
    Body, Context, Engine, FinalityProof, Input, Output, Recipients, Record, Start, Tree,
};
use landfall_types::{Epoch, Height, NodeId, Params, RaftParams, SignedVote, Span, Time, Vote};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

const MEMBERS: usize = 3;
/// Longer than any timer of the engine.
const LONG: Span = Span(10_000);

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The highest term that anybody stands for.
    pub terms: u64,
    /// The epoch's last height.
    pub heights: u64,
    /// Crashes of all nodes together, each followed by a restart.
    pub crashes: u8,
}

/// The whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [u32; MEMBERS],
    network: u32,
    crashes: u8,
}

/// What a node does or hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Do {
    /// It hears of the term below, seeks election (a leader first finds that it hears no
    /// majority), is granted a pre-vote, and stands for this term.
    Campaign(u64),
    /// It says again what it said last; the signatures are others.
    Repeat,
    /// The block that it asked for is made.
    Built,
    /// A message.
    Hear(u32),
    /// It crashes and starts again.
    Restart,
}

/// What happened, to which node (from zero); if the last is set, it crashed in the middle.
#[derive(Clone, Copy, Debug)]
pub struct Action(pub usize, pub Do, pub Option<usize>);

/// What survives a crash.
#[derive(Clone, Debug, PartialEq)]
struct Durable {
    record: Option<Record>,
    finalized: B256,
    proof: Option<FinalityProof>,
}

#[derive(Clone)]
struct Node {
    me: usize,
    engine: Raft,
    now: Time,
    durable: Durable,
    building: Option<B256>,
}

impl Node {
    fn term(&self) -> u64 {
        self.engine.record().term
    }

    fn is(&self, role: &str) -> bool {
        self.engine.describe().starts_with(&format!("raft {role} "))
    }

    /// What can still change behaviour.
    fn text(&self, ended: bool) -> String {
        let Self { me, engine, durable, building, .. } = self;
        let finalized = durable.finalized;
        if ended {
            return format!("{me} ended in term {} with {finalized}", self.term());
        }
        let debug = format!("{engine:?}");
        let mut engine_text = text::timeless(text::from_field(&debug, " record: Record"));
        let tip_is_final = engine.record().tip == finalized;
        for (open, close) in [(" active: {", "}"), (" proof: ", " pending: ")] {
            engine_text = text::without(&engine_text, open, close);
        }
        if tip_is_final {
            engine_text = text::without(&engine_text, " acks: Tally", " active: {");
        }
        format!("{me} {engine_text} {building:?} {:?} {finalized}", durable.record)
    }
}

/// What the search asks of a local state in every state that holds it.
#[derive(Clone, Copy)]
struct Facts {
    term: u64,
    role: Role,
    builds: bool,
    finalized: (Height, B256),
    tip: B256,
    voted: Option<NodeId>,
    /// The end of the log, if a leader's branch was taken in this term.
    taken: Option<B256>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Follower,
    Candidate,
    Leader,
}

/// Something said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Said {
    /// A vote, to one node or to all.
    Vote { from: usize, to: Option<usize>, vote: Vote, kind: Kind },
    /// A finality proof, by what it proves.
    Proof(Vote),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    Append,
    Ack,
    Candidacy(Last),
    Grant,
}

/// Where a step ends: the local state, and what was said on the way.
type End = (u32, Vec<u32>);

/// A step, and the crashes between its outputs.
#[derive(Debug, PartialEq)]
struct Outcome {
    whole: End,
    cuts: Vec<End>,
    /// The node counted a vote.
    counts: bool,
}

/// A node while it takes a step.
struct Run {
    node: Node,
    said: Vec<u32>,
    inputs: VecDeque<Input>,
    cuts: Vec<(Durable, Vec<u32>)>,
    signatures: u64,
}

/// The search's model.
pub struct Cluster {
    bounds: Bounds,
    epoch: Epoch,
    tree: Tree,
    nodes: Interned<String, (Node, Facts)>,
    messages: Interned<Said, (Said, Option<Input>)>,
    networks: Interned<Vec<u32>, Vec<u32>>,
    steps: HashMap<(u32, Do), Result<Rc<Outcome>, String>>,
    initial: State,
    /// Term and height of every proof that decided something.
    pub proven: BTreeSet<(u64, u64)>,
}

impl Cluster {
    pub fn new(bounds: Bounds) -> Self {
        let params = RaftParams {
            heartbeat: Span(50),
            election: Span(300),
            block_interval: Span(1),
            empty_blocks: false,
        };
        let epoch = epoch(Params::Raft(params), MEMBERS as u8, bounds.heights);
        let nobody = State { nodes: [0; MEMBERS], network: 0, crashes: 0 };
        let mut it = Self {
            bounds,
            epoch,
            tree: Tree::new(genesis()),
            nodes: Interned::new(),
            messages: Interned::new(),
            networks: Interned::new(),
            steps: HashMap::new(),
            initial: nobody,
            proven: BTreeSet::new(),
        };
        let durable = Durable { record: None, finalized: genesis().hash, proof: None };
        for me in 0..MEMBERS {
            let node = it.start(me, durable.clone(), GENESIS + LONG);
            it.initial.nodes[me] = it.local(node);
        }
        it.initial.network = it.networks.number(Vec::new(), Vec::new);
        it
    }

    /// Local states and messages that occurred.
    pub fn parts(&self) -> (usize, usize) {
        (self.nodes.len(), self.messages.len())
    }

    fn start(&self, me: usize, durable: Durable, now: Time) -> Node {
        let start = Start {
            epoch: &self.epoch,
            me: id(me as u8 + 1),
            now,
            seed: 1,
            tree: &self.tree,
            finalized: durable.finalized,
            head: durable.finalized,
            proof: durable.proof.clone(),
            record: durable.record.clone(),
        };
        let mut out = Vec::new();
        let mut engine = Raft::new(&start, &mut out);
        let cx = Context { now, tree: &self.tree };
        engine.step(&cx, Input::Pending(true), &mut out);
        assert_eq!(out, [], "a start says nothing");
        Node { me, engine, now, durable, building: None }
    }

    fn local(&mut self, mut node: Node) -> u32 {
        let role = match (node.is("leader"), node.is("candidate")) {
            (true, _) => Role::Leader,
            (_, true) => Role::Candidate,
            _ => Role::Follower,
        };
        if role != Role::Leader {
            // Its result would be dropped.
            node.building = None;
        }
        let finalized = node.durable.finalized;
        let facts = Facts {
            term: node.term(),
            role,
            builds: node.building.is_some(),
            finalized: (self.tree.height(&finalized), finalized),
            tip: node.engine.record().tip,
            voted: node.engine.record().voted,
            taken: Some(node.engine.record()).filter(|it| it.stamp == it.term).map(|it| it.tip),
        };
        let text = node.text(facts.finalized.0 >= self.epoch.last);
        self.nodes.number_of(text, (node, facts))
    }

    /// Takes every step again from another node with the same text, and says how many there were:
    /// what the text leaves out must not matter.
    pub fn audit(&mut self) -> usize {
        let steps: Vec<_> = self.steps.iter().map(|(key, end)| (*key, end.clone())).collect();
        let mut audited = 0;
        for ((from, what), known) in steps {
            let Some((node, _)) = self.nodes.other(from).cloned() else { continue };
            let again = self.compute(node, what);
            let (known, again) = (known.expect("no step failed"), again.expect("nor again"));
            assert_eq!(known, again, "{what:?} depends on more than the text of {from}");
            audited += 1;
        }
        audited
    }

    fn step(&mut self, from: u32, what: Do) -> Result<Rc<Outcome>, String> {
        if let Some(known) = self.steps.get(&(from, what)) {
            return known.clone();
        }
        let node = self.nodes.get(from).0.clone();
        let outcome = self.compute(node, what);
        self.steps.insert((from, what), outcome.clone());
        outcome
    }

    fn compute(&mut self, node: Node, what: Do) -> Result<Rc<Outcome>, String> {
        let (me, term, now) = (node.me, node.term(), node.now);
        if what == Do::Restart {
            let node = self.start(me, node.durable, now);
            let whole = (self.local(node), Vec::new());
            return Ok(Rc::new(Outcome { whole, cuts: Vec::new(), counts: false }));
        }
        let (said, inputs, cuts) = (Vec::new(), VecDeque::new(), Vec::new());
        let mut run = Run { node, said, inputs, cuts, signatures: 1 };
        match what {
            Do::Campaign(stand) => {
                let other = id(((me + 1) % MEMBERS) as u8 + 1);
                if term + 1 < stand {
                    self.feed(&mut run, plain(other, Message::Heard { term: stand - 1 }))?;
                }
                let led = run.node.is("leader");
                // A leader's first check may find answers to what it said before.
                while run.node.is("leader") {
                    self.tick(&mut run, LONG)?;
                }
                if led {
                    // A heartbeat repeats what was said.
                    run.said.clear();
                    run.cuts.clear();
                }
                self.tick(&mut run, LONG)?;
                self.feed(&mut run, plain(other, Message::PreGrant { term: stand }))?;
            }
            Do::Repeat => {
                run.signatures = 2;
                self.tick(&mut run, Span(0))?;
            }
            Do::Built => {
                let hash = run.node.building.take().expect("a block was asked for");
                self.feed(&mut run, Input::Built { hash })?;
            }
            Do::Hear(message) => {
                let (said, input) = self.messages.get(message).clone();
                if matches!(said, Said::Vote { kind: Kind::Candidacy(_), .. }) {
                    // Whatever leader it heard, it was long ago.
                    run.node.now += LONG;
                }
                self.feed(&mut run, input.expect("a message is an input"))?;
            }
            Do::Restart => unreachable!("handled above"),
        }
        let counts = matches!(what, Do::Hear(message) if self.counts(message));
        self.end(run, counts)
    }

    fn counts(&self, message: u32) -> bool {
        matches!(&self.messages.get(message).0, Said::Vote { kind: Kind::Grant | Kind::Ack, .. })
    }

    /// The states that a step and the crashes in it lead to.
    fn end(&mut self, run: Run, counts: bool) -> Result<Rc<Outcome>, String> {
        let (me, now) = (run.node.me, run.node.now);
        let run = if self.bounds.crashes == 0 { Run { cuts: Vec::new(), ..run } } else { run };
        let whole = (self.local(run.node), run.said);
        let mut cuts: Vec<End> = Vec::new();
        for (durable, said) in run.cuts {
            let node = self.start(me, durable, now);
            let end = (self.local(node), said);
            if !cuts.contains(&end) {
                cuts.push(end);
            }
        }
        Ok(Rc::new(Outcome { whole, cuts, counts }))
    }

    /// A tick so long after the last input, and not before the engine's deadline.
    fn tick(&mut self, run: &mut Run, after: Span) -> Result<(), String> {
        let due = run.node.engine.deadline().unwrap_or(run.node.now);
        run.node.now = due.max(run.node.now + after);
        self.feed(run, Input::Tick)
    }

    /// An input, and the own votes and decisions that follow from it.
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
                self.perform(run, output)?;
            }
        }
        Ok(())
    }

    fn perform(&mut self, run: &mut Run, output: Output) -> Result<(), String> {
        let me = run.node.me;
        match output {
            Output::Persist(record) => {
                if !self.keeps_word(run.node.durable.record.as_ref(), &record) {
                    return Err(format!("node {me} takes back its word: {record:?}"));
                }
                run.node.durable.record = Some(record);
            }
            Output::Send { to, vote: Some(vote), body: Body::Raft(message) } => {
                let (kind, message) = match message {
                    Message::Append { .. } => (Kind::Append, Message::Append { proof: None }),
                    Message::Ack => (Kind::Ack, Message::Ack),
                    Message::Candidacy { last } => {
                        (Kind::Candidacy(last), Message::Candidacy { last })
                    }
                    Message::Grant => (Kind::Grant, Message::Grant),
                    other => return Err(format!("a vote with {other:?}")),
                };
                let to = match to {
                    Recipients::All => None,
                    Recipients::One(to) => Some(usize::from(to[0]) - 1),
                };
                let from = id(me as u8 + 1);
                let input = |nonce| Input::Message {
                    from,
                    vote: Some(sign(from, vote, nonce)),
                    body: Body::Raft(message.clone()),
                };
                // Own votes come back, signed.
                run.inputs.extend((0..run.signatures).map(input));
                let said = Said::Vote { from: me, to, vote, kind };
                let value = (said.clone(), Some(input(0)));
                run.said.push(self.messages.number(said, || value));
            }
            Output::Send { .. } => {}
            Output::Build { parent, extension, .. } => {
                let parent = self.tree.block(&parent);
                let block = block_on(parent, id(me as u8 + 1), Time(0), extension);
                run.node.building = Some(block.hash);
                if !self.tree.has(&block.hash) {
                    self.tree.insert(block);
                }
            }
            Output::Adopt { choice, proof } => {
                let proof = proof.ok_or("a decision without a proof")?;
                landfall_light::verify_proof(&self.epoch, &proof)
                    .map_err(|error| format!("node {me} decides with a bad proof: {error}"))?;
                if (proof.hash(), proof.height())
                    != (choice.finalized, self.tree.height(&choice.finalized))
                {
                    return Err(format!("node {me} decides with the proof of another block"));
                }
                if !self.tree.descends(choice.finalized, run.node.durable.finalized) {
                    return Err(format!("node {me} moves finality back"));
                }
                let place = proof.certificate.vote.position;
                self.proven.insert((place.round, place.height.0));
                run.node.durable.finalized = choice.finalized;
                run.node.durable.proof = Some(proof.clone());
                let said = Said::Proof(proof.certificate.vote);
                let value = (said.clone(), Some(Input::Proof(proof)));
                run.said.push(self.messages.number(said, || value));
                run.inputs.push_back(Input::Pending(true));
            }
            Output::Publish { .. } | Output::Fetch { .. } => {}
            Output::Report(evidence) => return Err(format!("an honest node lied: {evidence:?}")),
        }
        Ok(())
    }
}

fn plain(from: NodeId, message: Message) -> Input {
    Input::Message { from, vote: None::<SignedVote>, body: Body::Raft(message) }
}
