//! One node of proof of work: a real engine over a tree of its own, for tests without a replica.

#![allow(dead_code, reason = "each test uses its part")]

use alloy_primitives::{B256, Bytes, U256};
use landfall_consensus::{
    Context, Engine, ForkChoice, Input, Output, Start, Tree, TreeBlock, pow, protocol,
};
use landfall_types::{
    Anchor, Committee, Epoch, Height, Kind, NodeId, Params, PowParams, Span, Time,
};

/// The interval that is aimed at, in milliseconds.
pub const INTERVAL: u64 = 10_000;
/// Of the difficulty.
pub const HALF_LIFE: u64 = 288 * INTERVAL;
/// Tries in a millisecond at which `INTERVAL` passes between two blocks of the first target.
pub const RATE: f64 = 1_000.0;
/// The block that the epoch stands on.
pub const ROOT: B256 = B256::ZERO;

/// An epoch for ever.
pub fn epoch(final_depth: u64) -> Epoch {
    let params = PowParams {
        block_interval: Span(INTERVAL),
        half_life: Span(HALF_LIFE),
        first_target: pow::target_of(U256::from(RATE as u64 * INTERVAL)).unwrap(),
        safe_depth: final_depth / 2,
        final_depth,
        clock_drift: Span(INTERVAL),
        subsidy: 1,
        subsidy_halving: 0,
    };
    Epoch {
        chain: ROOT,
        number: 0,
        params: Params::Pow(params),
        committee: Committee::equal([NodeId::repeat_byte(1)]).unwrap(),
        first: Height(1),
        last: Height(u64::MAX),
        anchor: Anchor::Final { hash: ROOT, time: Time(0) },
    }
}

/// The block that the epoch stands on.
pub fn root() -> TreeBlock {
    TreeBlock {
        hash: ROOT,
        parent: B256::repeat_byte(0xff),
        height: Height(0),
        time: Time(0),
        epoch: 0,
        proposer: NodeId::ZERO,
        difficulty: U256::ZERO,
        data: Bytes::new(),
    }
}

/// A real engine over a tree of its own.
pub struct Node {
    pub id: NodeId,
    pub tree: Tree,
    pub engine: Box<dyn Engine>,
    pub choice: ForkChoice,
    /// Of finalised blocks, who made them and when.
    pub finalized: Vec<(NodeId, Time)>,
}

impl Node {
    /// On nothing but the root.
    pub fn new(n: u8, epoch: &Epoch) -> Self {
        let (id, tree, mut out) = (NodeId::repeat_byte(n), Tree::new(root()), Vec::new());
        let start = Start {
            epoch,
            me: id,
            now: Time(0),
            seed: 0,
            tree: &tree,
            finalized: ROOT,
            head: ROOT,
            proof: None,
            record: None,
        };
        let engine = protocol(Kind::Pow).start(start, &mut out);
        let choice = ForkChoice { head: ROOT, safe: ROOT, finalized: ROOT };
        Self { id, tree, engine, choice, finalized: Vec::new() }
    }

    /// Takes an input, and adopts what the engine says.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.step(&Context { now: Time(now), tree: &self.tree }, input, &mut out);
        for output in &out {
            if let Output::Adopt { choice, .. } = output {
                self.adopt(*choice);
            }
        }
        out
    }

    fn adopt(&mut self, choice: ForkChoice) {
        let (before, mut made) = (self.choice.finalized, Vec::new());
        let mut at = choice.finalized;
        while at != before {
            let block = self.tree.block(&at);
            made.push((block.proposer, block.time));
            at = block.parent;
        }
        self.finalized.extend(made.into_iter().rev());
        self.choice = choice;
        if self.tree.len() > 1_500 {
            self.tree.prune(choice.finalized, 1);
        }
    }

    /// A block from elsewhere.
    pub fn take(&mut self, now: u64, block: &TreeBlock) -> Vec<Output> {
        self.tree.insert(block.clone());
        self.step(now, Input::Block { hash: block.hash })
    }

    /// What it stands on.
    pub fn head(&self) -> &TreeBlock {
        self.tree.block(&self.choice.head)
    }
}
