//! Three members of a Raft instance, and everything around them.
//!
//! See `exhaustive_raft.rs` for the bounds and for why each reduction is sound.

use super::{Interned, Model, text};
use crate::network::{GENESIS, block_on, epoch, genesis, id, sign};
use alloy_primitives::B256;
use landfall_consensus::raft::{Last, Message, Raft};
use landfall_consensus::{
    Body, Context, Engine, FinalityProof, Input, Output, Recipients, Record, Start, Tree,
};
use landfall_types::{Epoch, Height, Params, RaftParams, SignedVote, Span, Time, Vote};
use std::collections::{HashMap, VecDeque};
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
    /// It seeks election (a leader first finds that it hears no majority), is granted a pre-vote,
    /// and stands for the next term.
    Campaign,
    /// It says again what it said last; the signatures are others.
    Repeat,
    /// The block that it asked for is made.
    Built,
    /// Somebody is at this term.
    Heard(u64),
    /// A message.
    Hear(u32),
    /// It crashes and starts again.
    Restart,
}

/// What happened, to node `.0` (from zero); `.2` outputs-wide cuts ended in a crash if set.
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
        for (open, close) in [(" leader: ", ","), (" active: {", "}"), (" proof: ", " pending: ")] {
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
struct Outcome {
    whole: End,
    cuts: Vec<End>,
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
            taken: Some(node.engine.record()).filter(|it| it.stamp == it.term).map(|it| it.tip),
        };
        let text = node.text(facts.finalized.0 >= self.epoch.last);
        self.nodes.number(text, || (node, facts))
    }

    fn step(&mut self, from: u32, what: Do) -> Result<Rc<Outcome>, String> {
        if let Some(known) = self.steps.get(&(from, what)) {
            return known.clone();
        }
        let outcome = self.compute(from, what);
        self.steps.insert((from, what), outcome.clone());
        outcome
    }

    fn compute(&mut self, from: u32, what: Do) -> Result<Rc<Outcome>, String> {
        let node = self.nodes.get(from).0.clone();
        let (me, term, now) = (node.me, node.term(), node.now);
        if what == Do::Restart {
            let node = self.start(me, node.durable, now);
            let whole = (self.local(node), Vec::new());
            return Ok(Rc::new(Outcome { whole, cuts: Vec::new() }));
        }
        let (said, inputs, cuts) = (Vec::new(), VecDeque::new(), Vec::new());
        let mut run = Run { node, said, inputs, cuts, signatures: 1 };
        match what {
            Do::Campaign => {
                // A leader's first check may find answers to what it said before.
                while run.node.is("leader") {
                    self.tick(&mut run, LONG)?;
                }
                self.tick(&mut run, LONG)?;
                let other = id(((me + 1) % MEMBERS) as u8 + 1);
                self.feed(&mut run, plain(other, Message::PreGrant { term: term + 1 }))?;
            }
            Do::Repeat => {
                run.signatures = 2;
                self.tick(&mut run, Span(0))?;
            }
            Do::Built => {
                let hash = run.node.building.take().expect("a block was asked for");
                self.feed(&mut run, Input::Built { hash })?;
            }
            Do::Heard(term) => {
                let other = id(((me + 1) % MEMBERS) as u8 + 1);
                self.feed(&mut run, plain(other, Message::Heard { term }))?;
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
        self.end(run)
    }

    /// The states that a step and the crashes in it lead to.
    fn end(&mut self, run: Run) -> Result<Rc<Outcome>, String> {
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
        Ok(Rc::new(Outcome { whole, cuts }))
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
                if let (Some(Record::Raft(old)), Record::Raft(new)) =
                    (&run.node.durable.record, &record)
                    && new.term < old.term
                {
                    return Err(format!("node {me} forgets term {}", old.term));
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

    fn has_ended(&self, facts: &Facts) -> bool {
        facts.finalized.0 >= self.epoch.last
    }

    /// Whether a message may change this node.
    fn concerns(&self, said: &Said, me: usize, local: u32) -> bool {
        let facts = self.nodes.get(local).1;
        if self.has_ended(&facts) {
            return false;
        }
        match said {
            Said::Proof(vote) => facts.finalized.0 < vote.position.height,
            Said::Vote { from, to, vote, kind } => {
                let term = vote.position.round;
                *from != me
                    && to.is_none_or(|to| to == me)
                    && match kind {
                        Kind::Append => match facts.taken.filter(|_| facts.term == term) {
                            Some(tip) => self.tree.descends(vote.hash, tip),
                            None => facts.term <= term,
                        },
                        Kind::Candidacy(_) => facts.term <= term,
                        Kind::Grant => facts.term == term && facts.role == Role::Candidate,
                        Kind::Ack => {
                            facts.term == term
                                && facts.role == Role::Leader
                                && facts.finalized.1 != vote.hash
                        }
                    }
            }
        }
    }

    /// The state after `node` came to `end`, if no invariant breaks.
    fn arrive(
        &mut self,
        state: State,
        node: usize,
        end: &End,
        crash: bool,
    ) -> Result<State, String> {
        let mut after = State { crashes: state.crashes + u8::from(crash), ..state };
        after.nodes[node] = end.0;
        let mut network = self.networks.get(state.network).clone();
        for fresh in &end.1 {
            if let Err(place) = network.binary_search(fresh) {
                self.check_said(&network, *fresh)?;
                network.insert(place, *fresh);
            }
        }
        let (_, now) = self.nodes.get(after.nodes[node]);
        for other in after.nodes {
            let there = self.nodes.get(other).1.finalized;
            let (low, high) = if there.0 < now.finalized.0 {
                (there, now.finalized)
            } else {
                (now.finalized, there)
            };
            if !self.tree.descends(high.1, low.1) {
                return Err(format!("two blocks are final at height {}", low.0));
            }
        }
        network.retain(|message| self.is_live(*message, &after.nodes));
        after.network = self.networks.number(network.clone(), || network);
        Ok(after)
    }

    /// Whether a message can still be heard with effect, or contradicted by its sender.
    fn is_live(&self, message: u32, nodes: &[u32; MEMBERS]) -> bool {
        let (said, _) = self.messages.get(message);
        let own = match said {
            Said::Vote { from, vote, .. } => {
                let sender = self.nodes.get(nodes[*from]).1;
                !self.has_ended(&sender) && sender.term <= vote.position.round
            }
            Said::Proof(_) => false,
        };
        own || (0..MEMBERS).any(|me| self.concerns(said, me, nodes[me]))
    }

    /// One vote at a position, and one leader of a term.
    fn check_said(&self, network: &[u32], fresh: u32) -> Result<(), String> {
        let Said::Vote { from, vote, kind, .. } = &self.messages.get(fresh).0 else {
            return Ok(());
        };
        for other in network {
            let Said::Vote { from: by, vote: known, kind: of, .. } = &self.messages.get(*other).0
            else {
                continue;
            };
            if from == by && vote.contradicts(known) {
                return Err(format!("node {from} says two things at {:?}", vote.position));
            }
            let leads = (*kind, *of) == (Kind::Append, Kind::Append);
            if leads && from != by && vote.position.round == known.position.round {
                return Err(format!("two leaders in term {}", vote.position.round));
            }
        }
        Ok(())
    }

    /// Everything that node `me` may do or hear.
    fn choices(&self, state: State, me: usize) -> Vec<Do> {
        let facts = self.nodes.get(state.nodes[me]).1;
        let mut choices = Vec::new();
        if self.has_ended(&facts) {
            return choices;
        }
        if facts.role != Role::Follower {
            choices.push(Do::Repeat);
        }
        if facts.term < self.bounds.terms {
            choices.push(Do::Campaign);
        }
        if facts.builds {
            choices.push(Do::Built);
        }
        let highest = state.nodes.iter().map(|node| self.nodes.get(*node).1.term).max();
        choices.extend((facts.term + 1..=highest.expect("three")).map(Do::Heard));
        for message in self.networks.get(state.network) {
            if self.concerns(&self.messages.get(*message).0, me, state.nodes[me]) {
                choices.push(Do::Hear(*message));
            }
        }
        choices
    }

    /// Nothing was ever heard of it, and it has heard nothing.
    fn is_fresh(&self, state: State, me: usize) -> bool {
        let network = self.networks.get(state.network);
        let said = |message: &u32| match &self.messages.get(*message).0 {
            Said::Vote { from, to, .. } => *from == me || *to == Some(me),
            Said::Proof(_) => false,
        };
        state.nodes[me] == self.initial.nodes[me] && !network.iter().any(said)
    }
}

fn plain(from: landfall_types::NodeId, message: Message) -> Input {
    Input::Message { from, vote: None::<SignedVote>, body: Body::Raft(message) }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn initial(&self) -> State {
        self.initial
    }

    fn next(&mut self, state: State) -> Result<Vec<(Action, State)>, (Action, String)> {
        // A crash that changes nothing else leads to no more than its absence does.
        let is_news = |after: State| State { crashes: state.crashes, ..after } != state;
        let mut all = Vec::new();
        let mut seen_fresh = false;
        for me in 0..MEMBERS {
            let fresh = self.is_fresh(state, me);
            if fresh && std::mem::replace(&mut seen_fresh, true) {
                // The same as the first that is fresh, by another name.
                continue;
            }
            let local = state.nodes[me];
            for what in self.choices(state, me) {
                let outcome = self.step(local, what).map_err(|it| (Action(me, what, None), it))?;
                let ends = [(None, &outcome.whole)].into_iter();
                let cuts = outcome.cuts.iter().enumerate().map(|(n, end)| (Some(n), end));
                for (cut, end) in ends.chain(cuts) {
                    let action = Action(me, what, cut);
                    let crash = cut.is_some();
                    if crash && state.crashes == self.bounds.crashes {
                        continue;
                    }
                    let after = self.arrive(state, me, end, crash).map_err(|it| (action, it))?;
                    if !crash || is_news(after) {
                        all.push((action, after));
                    }
                }
            }
            if state.crashes < self.bounds.crashes && !fresh {
                let action = Action(me, Do::Restart, None);
                let outcome = self.step(local, Do::Restart).map_err(|it| (action, it))?;
                let after = self.arrive(state, me, &outcome.whole, true);
                let after = after.map_err(|it| (action, it))?;
                if is_news(after) {
                    all.push((action, after));
                }
            }
        }
        Ok(all)
    }

    fn show(&self, state: State) -> String {
        let node = |local: &u32| {
            let node = &self.nodes.get(*local).0;
            format!("{} {}", node.me, node.engine.describe())
        };
        let network = self.networks.get(state.network).iter();
        let said = network.map(|message| format!("{:?}", self.messages.get(*message).0));
        let nodes: Vec<_> = state.nodes.iter().map(node).collect();
        format!("{}\n  {}", nodes.join("; "), said.collect::<Vec<_>>().join("\n  "))
    }
}
