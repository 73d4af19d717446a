//! The replica: its parts, its start, and what happens to it.

use crate::halt::Halt;
use crate::job::{Done, Effect, Job, JobKind};
use crate::limits::Limits;
use crate::mempool::Mempool;
use crate::outputs::Outbox;
use crate::sync::Sync;
use crate::waiting::Blocks;
use crate::wire::Wire;
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::Decodable;
use landfall_chain::{Chain, ChainReader};
use landfall_consensus::{
    Archive, Context, Engine, FinalityProof, ForkChoice, Input, Output, Progress, Record,
    SealedHeader, Start, Tree, TreeBlock, pbft, planted, protocol,
};
use landfall_types::{Anchor, Block, Epoch, Extension, Height, NodeId, Schedule, Time};
use std::sync::Arc;

/// Blocks of the finalised branch that the tree keeps below the finalised one, at least.
const KEEP_BELOW_FINAL: u64 = 64;

/// How a replica is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// For random timeouts; another one at each start.
    pub seed: u64,
    /// Which epochs follow each other.
    pub schedule: Schedule,
    /// Who gets the fees of blocks made here.
    pub beneficiary: Address,
    /// The gas limit that blocks made here move towards.
    pub gas_limit: u64,
    /// At most 32 bytes for blocks made here.
    pub extra_data: Bytes,
    /// Whether the engine is told by itself when transactions wait. A development chain that seals
    /// on command is not.
    pub automatic: bool,
    /// Whether blocks are made here. In a lottery anybody may, and a node that only follows shall
    /// not; in an agreement it never has the turn.
    pub builds: bool,
    /// There are no peers and never will be: nothing is announced.
    pub alone: bool,
    /// Bounds.
    pub limits: Limits,
}

/// What happens to a replica.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one step; a box would cost an allocation"
)]
pub enum Event {
    /// The deadline has passed.
    Wake,
    /// A peer, authenticated by the connection, said something.
    Wire {
        /// Who.
        from: NodeId,
        /// What.
        wire: Wire,
    },
    /// A job is done.
    Done(Done),
    /// Transactions came into the pool.
    Pending,
    /// Make a block now, whatever waits: development chains.
    Seal,
}

/// One engine, the chain, and sync.
pub struct Replica {
    pub(crate) config: Config,
    pub(crate) chain: Chain,
    pub(crate) reader: ChainReader,
    pub(crate) mempool: Arc<Mempool>,
    /// Every epoch so far, by number.
    pub(crate) epochs: Vec<Epoch>,
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) tree: Tree,
    pub(crate) archive: Archive,
    /// What readers see.
    pub(crate) shown: ForkChoice,
    /// `safe` and `finalized` never pass this height: an open snapshot of a development chain.
    pub(crate) ceiling: Option<Height>,
    pub(crate) outbox: Outbox,
    pub(crate) blocks: Blocks,
    pub(crate) sync: Sync,
    /// What `handle` will return.
    pub(crate) effects: Vec<Effect>,
    starts: u64,
}

impl Replica {
    /// The same call for the first start and every restart: stands on what the chain's log holds,
    /// and starts the instance of the epoch we are in.
    pub fn open(
        chain: Chain,
        mempool: Arc<Mempool>,
        config: Config,
        now: Time,
    ) -> Result<(Self, Vec<Effect>), Halt> {
        let reader = chain.reader();
        let head = reader.head();
        let shown = ForkChoice {
            head: head.block.block.hash(),
            safe: head.safe.1,
            finalized: head.finalized.1,
        };
        let keep = keep_below_final(&config.schedule);
        let tree = grown(&chain, &reader, keep)?;
        let epochs = epochs_so_far(&reader, &config.schedule)?;
        let epoch = epochs.last().expect("there is always an epoch");
        let engine = start(epoch, &chain, &tree, shown, &config, 0, now)?;
        let mut replica = Self {
            archive: Archive::new(config.limits.evidence_window),
            outbox: Outbox::new(&chain),
            blocks: Blocks::default(),
            sync: Sync::new(now),
            chain,
            reader,
            mempool,
            epochs,
            engine: engine.0,
            tree,
            shown,
            ceiling: None,
            effects: Vec::new(),
            starts: 1,
            config,
        };
        let number = replica.epoch().number;
        replica.outputs(now, number, engine.1)?;
        replica.tell_pending(now)?;
        replica.finish(now)?;
        let effects = std::mem::take(&mut replica.effects);
        Ok((replica, effects))
    }

    /// Takes one event; the effects are to be performed in order.
    pub fn handle(&mut self, now: Time, event: Event) -> Result<Vec<Effect>, Halt> {
        match event {
            Event::Wake => self.wake(now)?,
            Event::Wire { from, wire } => self.receive(now, from, wire)?,
            Event::Done(done) => self.done(now, done)?,
            Event::Pending => self.tell_pending(now)?,
            Event::Seal => self.feed(now, Input::Pending(true))?,
        }
        self.finish(now)?;
        Ok(std::mem::take(&mut self.effects))
    }

    fn wake(&mut self, now: Time) -> Result<(), Halt> {
        if self.engine.deadline().is_some_and(|due| due <= now) {
            let epoch = self.epoch().number;
            self.feed(now, Input::Tick)?;
            let due = self.engine.deadline();
            let moved = self.epoch().number != epoch || due.is_none_or(|due| due > now);
            assert!(moved, "a tick must move the engine's deadline: {}", self.engine.describe());
        }
        self.sync_tick(now)
    }

    fn done(&mut self, now: Time, done: Done) -> Result<(), Halt> {
        match done {
            Done::Executed { hash, result } => self.executed(now, hash, result),
            Done::Built(done) => self.built(now, done),
            Done::Synced(done) => self.synced(done),
            Done::Signed(done) => self.signed(now, done),
            Done::Recovered(done) => self.recovered(now, *done),
            Done::Flushed(done) => {
                self.outbox.flushed = Some(done);
                Ok(())
            }
        }
    }

    /// Performs what may be performed, and starts what the log and the views need.
    fn finish(&mut self, now: Time) -> Result<(), Halt> {
        self.drain(now)?;
        self.settle_views()?;
        self.begin_sync()
    }

    /// Hands the engine an input and takes what it says.
    pub(crate) fn feed(&mut self, now: Time, input: Input) -> Result<(), Halt> {
        let mut out = Vec::new();
        self.engine.step(&Context { now, tree: &self.tree }, input, &mut out);
        let epoch = self.epoch().number;
        self.outputs(now, epoch, out)
    }

    /// Tells the engine whether transactions wait.
    pub(crate) fn tell_pending(&mut self, now: Time) -> Result<(), Halt> {
        if !self.config.automatic {
            return Ok(());
        }
        let waits = self.mempool.something_waits();
        self.feed(now, Input::Pending(waits))
    }

    /// Ends the running instance and starts the next on a block.
    pub(crate) fn next_epoch(&mut self, now: Time, last: B256) -> Result<(), Halt> {
        self.outbox.end_of_epoch();
        let ended = self.epoch();
        let anchor = Anchor::Final { hash: last, time: self.tree.block(&last).time };
        let (number, first) = (ended.number + 1, ended.last.next());
        let next = self.config.schedule.epoch(self.reader.genesis_hash(), number, first, anchor);
        self.epochs.push(next);
        self.restart(now)
    }

    /// Starts an instance of the newest epoch on what is logged: after an epoch's end, or after a
    /// development chain was set back.
    pub(crate) fn restart(&mut self, now: Time) -> Result<(), Halt> {
        let epoch = self.epochs.last().expect("there is always an epoch");
        let started = start(
            epoch,
            &self.chain,
            &self.tree,
            self.outbox.logged,
            &self.config,
            self.starts,
            now,
        )?;
        self.starts += 1;
        self.engine = started.0;
        let number = self.epoch().number;
        self.outputs(now, number, started.1)?;
        self.tell_pending(now)?;
        self.pump(now)
    }

    pub(crate) fn job(&mut self, job: Job) {
        self.effects.push(Effect::Job(job));
    }

    /// A header as protocols see it, its signers unknown; `None` if the extension is malformed or
    /// not the one that the header commits to: the hash must not be judged by it.
    pub(crate) fn header_of(block: &Block) -> Option<SealedHeader> {
        let committed = Some(Extension::commitment(&block.extension));
        if block.header.parent_beacon_block_root != committed {
            return None;
        }
        let extension = Extension::from_bytes(&block.extension).ok()?;
        Some(SealedHeader { header: block.header.clone(), extension, sealer: None })
    }

    /// The running epoch.
    pub fn epoch(&self) -> &Epoch {
        self.epochs.last().expect("there is always an epoch")
    }

    /// Every epoch so far.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// When to wake the replica.
    pub fn deadline(&self) -> Option<Time> {
        if self.config.alone {
            return self.engine.deadline();
        }
        let mine = self.sync.due();
        Some(self.engine.deadline().map_or(mine, |due| due.min(mine)))
    }

    /// A handle for reading the chain.
    pub fn reader(&self) -> ChainReader {
        self.reader.clone()
    }

    /// The pool.
    pub fn mempool(&self) -> &Arc<Mempool> {
        &self.mempool
    }

    /// What readers see.
    pub fn choice(&self) -> ForkChoice {
        self.shown
    }

    /// The executed blocks.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Votes seen.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The chain, for what happens outside consensus.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Gives the chain back. A block that is being made is not wanted any more.
    pub fn into_chain(mut self) -> Chain {
        self.stop_building();
        self.chain
    }

    /// Where the engine stands, for people.
    pub fn progress(&self) -> Progress {
        self.engine.progress()
    }

    /// The engine's state in a line, for people.
    pub fn describe(&self) -> String {
        self.engine.describe()
    }

    /// Entries in all queues and caches, the tree's and the archive's left out: bounded.
    pub fn queued(&self) -> usize {
        self.outbox.len() + self.blocks.len() + self.sync.len()
    }

    /// The height of a block in the tree.
    pub(crate) fn height(&self, hash: &B256) -> Height {
        self.tree.height(hash)
    }

    /// Lets go of the tree below what is final, and of old votes.
    pub(crate) fn prune(&mut self) {
        let finalized = self.shown.finalized;
        self.tree.prune(finalized, keep_below_final(&self.config.schedule));
        self.let_go_of_the_late(self.tree.height(&finalized));
        self.archive.prune(self.tree.height(&finalized));
    }

    /// Jobs of a kind may be limited by the host; this one is for tests and metrics.
    pub fn is_syncing(&self) -> bool {
        self.outbox.is_syncing()
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "replica of {} at {:?}: {}", self.config.me, self.shown, self.describe())
    }
}

/// How far below the finalised block the tree reaches: PBFT reads whose turn it is from there.
pub(crate) fn keep_below_final(schedule: &Schedule) -> u64 {
    KEEP_BELOW_FINAL.max(pbft::window(schedule.largest_committee()))
}

/// The tree of what the chain holds in memory and so many blocks of the branch below.
pub(crate) fn grown(chain: &Chain, reader: &ChainReader, keep: u64) -> Result<Tree, Halt> {
    let broken = |error: String| Halt::Broken(error);
    let store = |error: landfall_types::StateError| Halt::Store(error.to_string());
    let top = reader.head().finalized.0;
    let genesis = reader.genesis_number();
    let mut tree: Option<Tree> = None;
    let mut add = |block: &Block| -> Result<(), Halt> {
        let seen = TreeBlock::new(block).map_err(|error| broken(error.to_string()))?;
        match &mut tree {
            None => tree = Some(Tree::new(seen)),
            Some(tree) if !tree.has(&seen.hash) && tree.has(&seen.parent) => tree.insert(seen),
            Some(_) => {}
        }
        Ok(())
    };
    for number in top.saturating_sub(keep).max(genesis)..=top {
        let stored = reader.block_at(number).map_err(store)?;
        add(&stored.ok_or_else(|| broken(format!("block {number} is missing")))?.block)?;
    }
    for stored in chain.live_blocks() {
        add(&stored.block)?;
    }
    Ok(tree.expect("there is a finalised block"))
}

/// The epochs up to the one that the finalised block leads into: the last one is running.
///
/// # Errors
/// If the chain cannot be read.
pub fn epochs_so_far(reader: &ChainReader, schedule: &Schedule) -> Result<Vec<Epoch>, Halt> {
    let anchor_at = |number: u64| -> Result<Anchor, Halt> {
        let stored = reader.block_at(number).map_err(|error| Halt::Store(error.to_string()))?;
        let stored = stored.ok_or_else(|| Halt::Broken(format!("block {number} is missing")))?;
        let seen = TreeBlock::new(&stored.block).map_err(|e| Halt::Broken(e.to_string()))?;
        Ok(Anchor::Final { hash: seen.hash, time: seen.time })
    };
    let chain = reader.genesis_hash();
    let genesis = reader.genesis_number();
    let finalized = Height(reader.head().finalized.0);
    let mut epochs = vec![schedule.epoch(chain, 0, Height(genesis + 1), anchor_at(genesis)?)];
    loop {
        let newest = epochs.last().expect("pushed above");
        if finalized < newest.last {
            return Ok(epochs);
        }
        let (number, last) = (newest.number + 1, newest.last);
        epochs.push(schedule.epoch(chain, number, last.next(), anchor_at(last.0)?));
    }
}

type Started = (Box<dyn Engine>, Vec<Output>);

fn start(
    epoch: &Epoch,
    chain: &Chain,
    tree: &Tree,
    logged: ForkChoice,
    config: &Config,
    starts: u64,
    now: Time,
) -> Result<Started, Halt> {
    let record = chain.records().get(&epoch.number).map(|bytes| Record::decode(&mut &bytes[..]));
    let record = record.transpose().map_err(|error| {
        Halt::Store(format!("the record of epoch {} is malformed: {error}", epoch.number))
    })?;
    let proof = chain.finality_proof().filter(|proof| proof.0 == epoch.number);
    let proof = proof.map(|(_, bytes)| FinalityProof::decode(&mut &bytes[..]));
    let proof = proof
        .transpose()
        .map_err(|error| Halt::Store(format!("the newest finality proof is malformed: {error}")))?;
    let finalized =
        if planted!(StartWithoutFinal) { epoch.anchor_hash() } else { logged.finalized };
    let mut out = Vec::new();
    let engine = protocol(epoch.kind()).start(
        Start {
            epoch,
            me: config.me,
            now,
            seed: config.seed.wrapping_add(starts),
            tree,
            finalized,
            head: logged.head,
            proof: proof.filter(|proof| proof.hash() == finalized),
            record,
        },
        &mut out,
    );
    let quiet = out.iter().all(|output| matches!(output, Output::Adopt { .. }));
    assert!(quiet, "a start says nothing but the fork choice that was lost: {out:?}");
    Ok((engine, out))
}

impl JobKind {
    /// In lower case, for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::Build => "build",
            Self::Sync => "sync",
            Self::Sign => "sign",
            Self::Recover => "recover",
            Self::Flush => "flush",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{Committee, Params, PbftParams, Span, Term};

    #[test]
    fn the_tree_reaches_down_by_two_turns_of_the_largest_committee() {
        let term = |members: u8| {
            let committee = Committee::equal((1..=members).map(NodeId::repeat_byte));
            let params = Params::Pbft(PbftParams {
                block_interval: Span(1),
                empty_blocks: false,
                round_timeout: Span(1),
                round_timeout_max: Span(1),
                retransmit: Span(1),
                clock_drift: Span(1),
            });
            Term { params, committee: committee.expect("distinct members"), length: Some(9) }
        };
        let keeps = |sizes: &[u8]| {
            keep_below_final(&Schedule::new(sizes.iter().map(|size| term(*size)).collect()))
        };
        assert_eq!(keeps(&[4, 7]), 64);
        assert_eq!(keeps(&[4, 100, 7]), 200);
    }
}
