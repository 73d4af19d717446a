//! Transcripts: one engine, its inputs and its outputs as text, under `transcripts/<engine>/`.
//!
//! The first line that is no comment names the world: `engine pbft members 4 me 2 last 9` (or
//! `weights 5,1,1` instead of `members 3`). A line `> command` is an input; what stands below it,
//! indented, is what the engine answers. `UPDATE=1 cargo test -p landfall-consensus --test
//! transcripts` rewrites the answers; read the difference before you believe it.
//!
//! Commands: `at 1500`; `tick` (at the engine's deadline), `tick 1500`; `pending yes`;
//! `knows b on a by 2 at 1200` (in the tree, the engine is not told), `block b on a by 2 at 1200`,
//! `built b on a at 1200` (a block of Raft ends with `term 3`), `rejected b`; in a lottery blocks have a weight, `work 5` at the end; `proof b by 1,2,3 round 0`; `own` (the votes of this node
//! come back, signed); `from 3 <words of the engine>`; `restart`; `state`.

#[path = "transcripts/pbft.rs"]
mod pbft_words;
#[path = "transcripts/raft.rs"]
mod raft_words;

use alloy_primitives::{B256, Bytes, U256, keccak256};
use landfall_consensus::pbft::carried;
use landfall_consensus::{
    Body, Context, Engine, FinalityProof, Input, Output, Record, Start, Tree, TreeBlock, protocol,
};
use landfall_types::{
    Anchor, Certificate, Committee, Epoch, Height, Kind, Member, NodeId, Params, PbftParams,
    Position, PowParams, RaftParams, Signature, SignedVote, SignerSignature, Span, Step, Time,
    Vote, Weight,
};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::path::{Path, PathBuf};

const GENESIS: Time = Time(1_000);

/// Member `n`, from 1.
fn id(n: u8) -> NodeId {
    NodeId::repeat_byte(n)
}

fn hash(name: &str) -> B256 {
    keccak256(name)
}

fn sign(n: u8, vote: Vote) -> SignedVote {
    SignedVote { vote, signer: id(n), signature: Signature([n; 65]) }
}

/// `1,2,4`
fn numbers(list: &str) -> Vec<u8> {
    list.split(',').map(|n| n.parse().unwrap_or_else(|_| panic!("no number: {n}"))).collect()
}

fn certificate(signers: &[u8], vote: Vote) -> Certificate {
    let one = |n: &u8| SignerSignature { signer: id(*n), signature: sign(*n, vote).signature };
    Certificate { vote, signatures: signers.iter().map(one).collect() }
}

/// One engine and all that it sees.
struct World {
    epoch: Epoch,
    me: u8,
    now: Time,
    tree: Tree,
    engine: Box<dyn Engine>,
    record: Option<Record>,
    finalized: B256,
    head: B256,
    proof: Option<FinalityProof>,
    /// Votes of this node that have not come back.
    own: VecDeque<(Vote, Body)>,
    /// What hashes are called.
    names: BTreeMap<B256, String>,
    /// Digests that words refer to, by round.
    digests: BTreeMap<u64, B256>,
}

/// The words of a line, taken one after the other.
struct Words<'a>(std::iter::Peekable<std::str::SplitWhitespace<'a>>);

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Self(line.split_whitespace().peekable())
    }

    fn next(&mut self) -> &'a str {
        self.0.next().expect("a word is missing at the end of the line")
    }

    /// The word after a keyword, if that is next.
    fn after(&mut self, keyword: &str) -> Option<&'a str> {
        self.0.next_if_eq(&keyword).map(|_| self.next())
    }

    fn number(&mut self, keyword: &str) -> Option<u64> {
        self.after(keyword).map(|text| text.parse().expect("a number"))
    }

    fn end(&mut self) {
        assert_eq!(self.0.next(), None, "a word too many");
    }
}

fn params(kind: &str) -> Params {
    let block_interval = Span(100);
    match kind {
        "pbft" => Params::Pbft(PbftParams {
            block_interval,
            empty_blocks: false,
            round_timeout: Span(1_000),
            round_timeout_max: Span(4_000),
            retransmit: Span(300),
            clock_drift: Span(500),
        }),
        "raft" => Params::Raft(RaftParams {
            heartbeat: Span(100),
            election: Span(1_000),
            block_interval,
            empty_blocks: false,
        }),
        "pow" => Params::Pow(PowParams {
            block_interval: Span(1_000),
            half_life: Span(100_000),
            first_target: U256::MAX >> 8,
            safe_depth: 2,
            final_depth: 4,
            clock_drift: Span(500),
            subsidy: 0,
            subsidy_halving: 0,
        }),
        other => panic!("no engine {other}"),
    }
}

#[expect(clippy::too_many_arguments, reason = "they are the fields of `Start`")]
fn start(
    epoch: &Epoch,
    me: u8,
    now: Time,
    tree: &Tree,
    finalized: B256,
    head: B256,
    proof: Option<FinalityProof>,
    record: Option<Record>,
) -> (Box<dyn Engine>, Vec<Output>) {
    let start = Start { epoch, me: id(me), now, seed: 1, tree, finalized, head, proof, record };
    let mut out = Vec::new();
    let engine = protocol(epoch.kind()).start(start, &mut out);
    assert!(out.iter().all(|it| matches!(it, Output::Adopt { .. })), "a start acts: {out:?}");
    (engine, out)
}

impl World {
    fn new(line: &str) -> Self {
        let mut words = Words::new(line);
        let params = params(words.after("engine").expect("the first line names the engine"));
        let weights = match words.after("weights") {
            Some(list) => numbers(list),
            None => vec![1; usize::try_from(words.number("members").expect("members")).unwrap()],
        };
        let me = u8::try_from(words.number("me").expect("me")).unwrap();
        let last = Height(words.number("last").expect("last"));
        words.end();
        let member =
            |(n, weight): (u8, &u8)| Member { id: id(n), weight: Weight((*weight).into()) };
        let genesis = block("genesis", B256::ZERO, Height(0), GENESIS, NodeId::ZERO);
        let epoch = Epoch {
            chain: genesis.hash,
            number: 0,
            params,
            committee: Committee::new((1..).zip(&weights).map(member).collect()).unwrap(),
            first: Height(1),
            last,
            anchor: Anchor::Final { hash: genesis.hash, time: GENESIS },
        };
        let (now, finalized) = (GENESIS + Span(1_000), genesis.hash);
        let names = BTreeMap::from([(genesis.hash, "genesis".to_owned())]);
        let tree = Tree::new(genesis);
        let (engine, _) = start(&epoch, me, now, &tree, finalized, finalized, None, None);
        Self {
            epoch,
            me,
            now,
            tree,
            engine,
            record: None,
            finalized,
            head: finalized,
            proof: None,
            own: VecDeque::new(),
            names,
            digests: BTreeMap::new(),
        }
    }

    /// The height that is open.
    fn height(&self) -> Height {
        self.tree.height(&self.finalized).next()
    }

    fn step(&mut self, input: Input, answer: &mut String) {
        let ticked = matches!(input, Input::Tick);
        let mut out = Vec::new();
        self.engine.step(&Context { now: self.now, tree: &self.tree }, input, &mut out);
        self.perform(out, answer);
        let due = self.engine.deadline();
        assert!(!ticked || due.is_none_or(|due| due > self.now), "a timer stays due");
    }

    fn perform(&mut self, out: Vec<Output>, answer: &mut String) {
        for output in out {
            writeln!(answer, "  {}", self.text(&format!("{output:?}"))).unwrap();
            match output {
                Output::Persist(record) => self.record = Some(record),
                Output::Send { vote: Some(vote), body, .. } => {
                    if vote.position.step == Step::Proposal {
                        self.digests.insert(vote.position.round, vote.context);
                    }
                    self.own.push_back((vote, body));
                }
                Output::Adopt { choice, proof } => {
                    self.finalized = choice.finalized;
                    self.head = choice.head;
                    self.proof = proof.or(self.proof.take());
                }
                Output::Build { extension, .. } => {
                    if let Some(it) = carried(&extension) {
                        let carried = self.text(&format!("{:?}", it.signatures));
                        let round = it.vote.position.round;
                        writeln!(answer, "  -- carries commits of round {round}: {carried}")
                            .unwrap();
                    }
                }
                _ => {}
            }
        }
    }

    /// Debug's text, with the names of this transcript instead of hashes and addresses.
    fn text(&self, debug: &str) -> String {
        let mut text = debug.to_owned();
        for (hash, name) in &self.names {
            text = text.replace(&format!("{hash:?}"), name);
        }
        for n in 1..=u8::try_from(self.epoch.committee.len()).unwrap() {
            text = text.replace(&format!("{:?}", id(n)), &format!("node{n}"));
        }
        for wrapper in ["Height(", "Time(", "Span("] {
            text = unwrap(&text, wrapper);
        }
        text = without_signatures(&text);
        text = signers(&text);
        shorten(&text)
    }

    fn add(&mut self, name: &str, words: &mut Words<'_>, by: Option<u8>) -> B256 {
        let parent = hash(words.after("on").expect("on which block"));
        let by = by.or_else(|| words.number("by").map(|n| n as u8)).expect("by whom");
        let time = words.number("at").map_or(self.now, Time);
        let difficulty = U256::from(words.number("work").unwrap_or(0));
        let term = words.number("term").map(|term| term.to_be_bytes().to_vec());
        let data = term.unwrap_or_default().into();
        words.end();
        let height = self.tree.height(&parent).next();
        let block = TreeBlock { difficulty, data, ..block(name, parent, height, time, id(by)) };
        let hash = block.hash;
        self.names.insert(hash, name.to_owned());
        self.tree.insert(block);
        hash
    }

    fn proof(&self, name: &str, words: &mut Words<'_>) -> FinalityProof {
        let signers = numbers(words.after("by").expect("by whom"));
        let round = words.number("round").expect("in which round");
        words.end();
        let (step, height, context) = match self.epoch.kind() {
            Kind::Raft => (Step::Ack, self.tree.height(&hash(name)), B256::ZERO),
            _ => (Step::Commit, self.tree.height(&hash(name)), B256::ZERO),
        };
        let position = Position { epoch: 0, step, height, round };
        let vote = Vote { position, hash: hash(name), context };
        FinalityProof { certificate: certificate(&signers, vote) }
    }

    fn command(&mut self, line: &str, answer: &mut String) {
        let mut words = Words::new(line);
        let input = match words.next() {
            "at" => {
                self.now = Time(words.next().parse().expect("a time"));
                return;
            }
            "tick" => {
                let wanted = words.0.next().map(|time| Time(time.parse().expect("a time")));
                let due = self.engine.deadline().expect("the engine waits for no time");
                self.now = wanted.unwrap_or(due.max(self.now));
                assert!(due <= self.now, "{line}: nothing is due before {due}");
                writeln!(answer, "  -- {}", self.now).unwrap();
                Input::Tick
            }
            "pending" => Input::Pending(words.next() == "yes"),
            "knows" => {
                let name = words.next();
                self.add(name, &mut words, None);
                return;
            }
            "block" => {
                let name = words.next();
                Input::Block { hash: self.add(name, &mut words, None) }
            }
            "built" => {
                let name = words.next();
                Input::Built { hash: self.add(name, &mut words, Some(self.me)) }
            }
            "rejected" => Input::Rejected { hash: hash(words.next()) },
            "proof" => {
                let name = words.next();
                Input::Proof(self.proof(name, &mut words))
            }
            "own" => return self.own_votes_return(answer),
            "from" => {
                let from: u8 = words.next().parse().expect("a member");
                let (vote, body) = match self.epoch.kind() {
                    Kind::Pbft => pbft_words::message(self, &mut words),
                    Kind::Raft => raft_words::message(self, &mut words),
                    kind => panic!("{} has no messages", kind.name()),
                };
                words.end();
                let vote = vote.map(|vote| sign(from, vote));
                Input::Message { from: id(from), vote, body }
            }
            "restart" => {
                self.own.clear();
                let (record, proof) = (self.record.clone(), self.proof.clone());
                let (engine, out) = start(
                    &self.epoch,
                    self.me,
                    self.now,
                    &self.tree,
                    self.finalized,
                    self.head,
                    proof,
                    record,
                );
                self.engine = engine;
                return self.perform(out, answer);
            }
            "state" => {
                writeln!(answer, "  {}", self.text(&self.engine.describe())).unwrap();
                return;
            }
            other => panic!("no command {other}"),
        };
        self.step(input, answer);
    }

    fn own_votes_return(&mut self, answer: &mut String) {
        for (vote, body) in std::mem::take(&mut self.own) {
            let vote = Some(sign(self.me, vote));
            self.step(Input::Message { from: id(self.me), vote, body }, answer);
        }
    }
}

fn block(name: &str, parent: B256, height: Height, time: Time, proposer: NodeId) -> TreeBlock {
    TreeBlock {
        hash: hash(name),
        parent,
        height,
        time,
        epoch: 0,
        proposer,
        difficulty: U256::ZERO,
        data: Bytes::new(),
    }
}

/// `Height(3)` becomes `3`.
fn unwrap(text: &str, wrapper: &str) -> String {
    let mut parts = text.split(wrapper);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += &part.replacen(')', "", 1);
    }
    out
}

fn without_signatures(text: &str) -> String {
    let mut parts = text.split(", signature: Signature([");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += part.split_once("])").expect("a signature ends").1;
    }
    out
}

/// `SignerSignature { signer: node1 }` becomes `node1`.
fn signers(text: &str) -> String {
    let mut parts = text.split("SignerSignature { signer: ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += &part.replacen(" }", "", 1);
    }
    out
}

/// Hashes that have no name: small numbers as numbers, others by their first bytes.
fn shorten(text: &str) -> String {
    let mut parts = text.split("0x");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        let (hex, rest) = part.split_at(digits);
        let small = (hex.len() == 64).then(|| hex.trim_start_matches('0'));
        match small {
            Some(small) if small.len() <= 8 => {
                write!(out, "{}", u64::from_str_radix(small, 16).unwrap_or(0)).unwrap();
            }
            _ => write!(out, "0x{}", &hex[..hex.len().min(6)]).unwrap(),
        }
        out += rest;
    }
    out
}

/// The transcript with the answers that the engine gives.
fn replay(text: &str) -> String {
    let mut out = String::new();
    let mut world = None;
    let mut wakes = None;
    for line in text.lines().filter(|line| !line.starts_with("  ")) {
        out += line;
        out.push('\n');
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let Some(world) = &mut world else {
            world = Some(World::new(line));
            continue;
        };
        let command = line.strip_prefix("> ").unwrap_or_else(|| panic!("no command: {line}"));
        world.command(command, &mut out);
        let next = world.engine.deadline();
        if next != wakes {
            wakes = next;
            let when = next.map_or("never".into(), |time| time.to_string());
            writeln!(out, "  -- wakes: {when}").unwrap();
        }
    }
    out
}

fn transcripts(engine: &str) -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(engine);
    let Ok(files) = std::fs::read_dir(here) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn check(engine: &str) {
    let files = transcripts(engine);
    assert!(!files.is_empty(), "no transcripts of {engine}");
    let mut wrong = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let found = replay(&text);
        if found == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, found).unwrap();
            continue;
        }
        let mut pairs = text.lines().zip(found.lines()).enumerate();
        let (line, (old, new)) =
            pairs.find(|(_, (old, new))| old != new).unwrap_or((0, ("the end", "the end")));
        wrong.push(format!("{}:{}\n  was {old}\n  now {new}", file.display(), line + 1));
    }
    assert!(wrong.is_empty(), "engines answer otherwise than written:\n{}", wrong.join("\n"));
}

#[test]
fn pbft_answers_as_its_transcripts_say() {
    check("pbft");
}

#[test]
fn raft_answers_as_its_transcripts_say() {
    check("raft");
}

#[test]
fn pow_answers_as_its_transcripts_say() {
    check("pow");
}

#[test]
fn a_changed_answer_is_seen() {
    let text = "engine pbft members 4 me 2 last 9\n> pending yes\n  Fetch\n";
    assert_ne!(replay(text), text);
    assert_eq!(replay(&replay(text)), replay(text));
}
