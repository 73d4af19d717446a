//! Lotteries: the heaviest branch of a block tree, whoever may extend it.
//!
//! [`Heaviest`] is the engine of every lottery: which branch is head, how far `safe` and
//! `finalized` trail it, and when this node makes a block. A [`Lottery`] says how much a block
//! weighs, and when this node may extend one. The tree is the replica's; this module keeps of each
//! block above `finalized` its cumulative weight, and nothing else.
//!
//! Rules (Nakamoto 2008, §5):
//! 1. Head is the block of the greatest cumulative weight among all that descend from `finalized`.
//! 2. Of branches that weigh the same, the one seen first stays. After a restart that is the head
//!    logged last; among others, the lower one, then the one of the smaller hash.
//! 3. `safe` and `finalized` trail the head by depths. **`finalized` is probable, never certain**:
//!    there is no proof, and more work than everybody else has contradicts it.
//! 4. `finalized` never moves back, and head always descends from it. A branch that does not is
//!    not weighed here, whatever it weighs: that is [`outweighs`], and the replica stops on it.
//! 5. A block is made at all times, with transactions or without, since depth needs blocks.
//! 6. A block of this node that is no improvement when it comes is kept to itself.
//!
//! It votes for nothing, so it persists no record: blocks and fork choices are in the log anyway.

mod template;

use crate::engine::{Context, Engine, Input, Output, Progress, Start};
use crate::{ForkChoice, Tree, TreeBlock};
use alloy_primitives::{B256, U256, U512};
use landfall_types::{Height, Kind, NodeId, Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use template::Template;

/// Who may extend a block, when, and what that weighs.
pub trait Lottery: Send {
    /// What a block adds to the weight of its branch: the same for everybody, from the block alone.
    fn weight(&self, block: &TreeBlock) -> U256;

    /// What this node needs to extend `parent`; `None` if it may not.
    fn ticket(&self, parent: &TreeBlock, now: Time) -> Option<Ticket>;
}

/// The right to extend a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// From when on. Without work, this is the block's time.
    pub at: Time,
    /// The work that is still to be done. While it is not, the block is begun anew now and then,
    /// so that its time and its transactions stay fresh.
    pub difficulty: Option<U256>,
}

/// How [`Heaviest`] trails the head, and how often it begins a block anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaviestParams {
    /// Blocks on top of a block that make it `safe`.
    pub safe_depth: u64,
    /// Blocks on top of a block that make it `finalized`: probable, never certain.
    pub final_depth: u64,
    /// The mean time between two blocks.
    pub block_interval: Span,
    /// A block is begun anew after `block_interval`, then after twice that, up to this.
    pub renewal_max: Span,
}

/// Whether the blocks of a rival branch weigh more than ours, both counted from above the block
/// where they part. If our part has a finalised block, the node must stop: it cannot go back, and
/// must not go on.
pub fn outweighs(
    rival: impl IntoIterator<Item = U256>,
    ours: impl IntoIterator<Item = U256>,
) -> bool {
    let rival = total(rival);
    let mut sum = U512::ZERO;
    // Ours may be the whole chain, and is read no further than it decides.
    !ours.into_iter().any(|weight| {
        sum += U512::from(weight);
        sum >= rival
    }) && rival > sum
}

fn total(weights: impl IntoIterator<Item = U256>) -> U512 {
    weights.into_iter().fold(U512::ZERO, |sum, weight| sum + U512::from(weight))
}

/// The engine of a lottery.
pub struct Heaviest {
    kind: Kind,
    me: NodeId,
    last: Height,
    params: HeaviestParams,
    lottery: Box<dyn Lottery>,
    /// What `finalized` and every block that descends from it weigh, counted from `finalized` at
    /// the start.
    weights: BTreeMap<(Height, B256), U512>,
    choice: ForkChoice,
    /// A block of this node that may have been made and never published: it crashed between.
    unpublished: Option<B256>,
    template: Template,
}

impl Heaviest {
    /// Weighs what is in the tree, and emits the fork choice that follows from it, if that is not
    /// the one logged last. Builds nothing: the first step does.
    pub fn start(
        start: &Start<'_>,
        params: HeaviestParams,
        lottery: Box<dyn Lottery>,
        out: &mut Vec<Output>,
    ) -> Self {
        assert!(params.safe_depth <= params.final_depth, "`safe` is above `finalized`");
        assert!(params.block_interval > Span(0), "blocks need time");
        let root = start.finalized;
        let floor = start.tree.height(&root);
        let mut engine = Self {
            kind: start.epoch.kind(),
            me: start.me,
            last: start.epoch.last,
            params,
            lottery,
            weights: BTreeMap::from([((floor, root), U512::ZERO)]),
            choice: ForkChoice { head: root, safe: root, finalized: root },
            unpublished: None,
            template: Template::new(params.block_interval, params.renewal_max),
        };
        for block in start.tree.above(floor) {
            engine.weigh(block);
        }
        engine.choice = engine.choice_of(start.tree, engine.heaviest(start.tree, start.head));
        engine.forget_unreachable(start.tree);
        let head = start.tree.block(&engine.choice.head);
        engine.unpublished = (head.proposer == engine.me && head.hash != root).then_some(head.hash);
        let logged = (start.head, start.finalized);
        let found = (engine.choice.head, engine.choice.finalized);
        if found != logged && !crate::planted!(StartSilent) {
            out.push(Output::Adopt { choice: engine.choice, proof: None });
        }
        engine.draw(head, start.now);
        engine
    }

    /// The head, `safe` and `finalized` as this engine has them.
    pub fn choice(&self) -> ForkChoice {
        self.choice
    }

    /// The number of blocks whose weight is kept.
    pub fn weighed(&self) -> usize {
        self.weights.len()
    }

    /// Notes what a block weighs, if it descends from `finalized`.
    fn weigh(&mut self, block: &TreeBlock) -> Option<U512> {
        let below = (Height(block.height.0.checked_sub(1)?), block.parent);
        let weight = *self.weights.get(&below)? + U512::from(self.lottery.weight(block));
        self.weights.insert((block.height, block.hash), weight);
        Some(weight)
    }

    /// The heaviest of all weighed blocks; of several, `logged`, then the first in order.
    fn heaviest(&self, tree: &Tree, logged: B256) -> B256 {
        let most = self.weights.values().max().expect("the finalised block is weighed");
        let weight = tree.get(&logged).and_then(|it| self.weights.get(&(it.height, logged)));
        if weight == Some(most) {
            return logged;
        }
        let first = self.weights.iter().find(|(_, weight)| *weight == most);
        first.expect("one block weighs the most").0.1
    }

    /// The fork choice that a head makes.
    fn choice_of(&self, tree: &Tree, head: B256) -> ForkChoice {
        let height = tree.height(&head).0;
        let under = |depth: u64, floor: Height| {
            let height = Height(height.saturating_sub(depth)).max(floor);
            tree.ancestor(head, height).expect("the tree reaches down to finalized")
        };
        let mut floor = tree.height(&self.choice.finalized);
        if crate::planted!(AdoptBelowFinalized) {
            floor = Height(0);
        }
        let finalized = under(self.params.final_depth, floor);
        ForkChoice { head, safe: under(self.params.safe_depth, tree.height(&finalized)), finalized }
    }

    /// Takes a block that is in the tree; whether it is the new head.
    fn consider(&mut self, cx: &Context<'_>, hash: B256, own: bool, out: &mut Vec<Output>) {
        // What the tree dropped, or hangs on nothing weighed, stands beside `finalized`.
        let Some(block) = cx.tree.get(&hash) else { return };
        let Some(weight) = self.weigh(block) else { return };
        if weight <= self.head_weight(cx.tree) {
            return;
        }
        if own {
            out.push(Output::Publish { hash });
        }
        let before = self.choice.finalized;
        self.choice = self.choice_of(cx.tree, hash);
        out.push(Output::Adopt { choice: self.choice, proof: None });
        if self.choice.finalized != before {
            self.forget_unreachable(cx.tree);
        }
        self.draw(block, cx.now);
    }

    fn head_weight(&self, tree: &Tree) -> U512 {
        self.weights[&(tree.height(&self.choice.head), self.choice.head)]
    }

    /// Forgets the weights of all but `finalized` and what descends from it.
    fn forget_unreachable(&mut self, tree: &Tree) {
        if crate::planted!(AdoptBelowFinalized) {
            return;
        }
        let mut height = tree.height(&self.choice.finalized);
        self.weights = self.weights.split_off(&(height, B256::ZERO));
        let mut gone = self.level(height);
        gone.remove(&self.choice.finalized);
        while !gone.is_empty() {
            for hash in &gone {
                self.weights.remove(&(height, *hash));
            }
            height = height.next();
            let orphan = |it: &TreeBlock| gone.contains(&it.parent);
            let next = self.level(height).into_iter();
            gone = next.filter(|hash| tree.get(hash).is_none_or(orphan)).collect();
        }
    }

    /// The weighed blocks of a height.
    fn level(&self, height: Height) -> BTreeSet<B256> {
        let all = (height, B256::ZERO)..=(height, B256::repeat_byte(0xff));
        self.weights.range(all).map(|((_, hash), _)| *hash).collect()
    }

    /// What this node makes next, on a new head.
    fn draw(&mut self, head: &TreeBlock, now: Time) {
        let ticket = (head.height < self.last).then(|| self.lottery.ticket(head, now)).flatten();
        self.template.restart(ticket);
    }

    /// Begins a block, if it is time to.
    fn make(&mut self, cx: &Context<'_>, out: &mut Vec<Output>) {
        if !self.template.is_due(cx.now) {
            return;
        }
        let parent = self.choice.head;
        if let Some((time, extension, difficulty)) = self.template.begin(cx.now) {
            out.push(Output::Build { parent, time, extension, difficulty });
        }
    }
}

impl Engine for Heaviest {
    fn step(&mut self, cx: &Context<'_>, input: Input, out: &mut Vec<Output>) {
        if let Some(hash) = self.unpublished.take() {
            out.push(Output::Publish { hash });
        }
        match input {
            Input::Block { hash } => self.consider(cx, hash, false, out),
            Input::Built { hash } => self.consider(cx, hash, true, out),
            Input::Pending(pending) => self.template.pending(pending),
            // Nobody votes, so nobody proves; an invalid block was never weighed.
            Input::Tick | Input::Message { .. } | Input::Rejected { .. } | Input::Proof(_) => {}
        }
        self.make(cx, out);
    }

    fn deadline(&self) -> Option<Time> {
        self.template.deadline()
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn describe(&self) -> String {
        let ForkChoice { head, safe, finalized } = self.choice;
        let kind = self.kind.name();
        let making = self.template.describe();
        format!("{kind} on {head}, safe {safe}, probably final {finalized}; {making}")
    }
}

#[cfg(test)]
mod tests;
