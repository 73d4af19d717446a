use super::*;
use crate::Random;
use alloy_primitives::Bytes;
use landfall_types::{Anchor, Committee, Epoch, Params, PowParams};

const ME: NodeId = NodeId::repeat_byte(1);
const OTHER: NodeId = NodeId::repeat_byte(2);
const PARAMS: HeaviestParams = HeaviestParams {
    safe_depth: 2,
    final_depth: 4,
    block_interval: Span(1_000),
    renewal_max: Span(8_000),
};

/// Blocks weigh their difficulty; the next costs 7.
struct Toll;

impl Lottery for Toll {
    fn weight(&self, block: &TreeBlock) -> U256 {
        block.difficulty
    }

    fn ticket(&self, _: &TreeBlock, now: Time) -> Option<Ticket> {
        Some(Ticket { at: now, difficulty: Some(U256::from(7)) })
    }
}

/// One block each full second; it is enough to be there.
struct Slots;

impl Lottery for Slots {
    fn weight(&self, _: &TreeBlock) -> U256 {
        U256::ONE
    }

    fn ticket(&self, parent: &TreeBlock, now: Time) -> Option<Ticket> {
        let slot = parent.time.0.max(now.0) / 1_000 + 1;
        Some(Ticket { at: Time(slot * 1_000), difficulty: None })
    }
}

fn name(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn block(n: u8, parent: u8, height: u64, weight: u64) -> TreeBlock {
    TreeBlock {
        hash: name(n),
        parent: name(parent),
        height: Height(height),
        time: Time(height * 1_000),
        epoch: 0,
        proposer: OTHER,
        difficulty: U256::from(weight),
        data: Bytes::new(),
    }
}

fn epoch(last: u64) -> Epoch {
    let params = PowParams {
        block_interval: PARAMS.block_interval,
        half_life: Span(1),
        first_target: U256::MAX,
        safe_depth: 2,
        final_depth: 4,
        clock_drift: Span(0),
        subsidy: 0,
        subsidy_halving: 0,
    };
    Epoch {
        chain: name(0),
        number: 0,
        params: Params::Pow(params),
        committee: Committee::equal([ME]).unwrap(),
        first: Height(1),
        last: Height(last),
        anchor: Anchor::Final { hash: name(0), time: Time(0) },
    }
}

struct Node {
    tree: Tree,
    engine: Heaviest,
    now: Time,
}

fn start(
    tree: &Tree,
    finalized: B256,
    head: B256,
    lottery: impl Lottery + 'static,
    last: u64,
) -> (Heaviest, Vec<Output>) {
    let (epoch, mut out) = (epoch(last), Vec::new());
    let start = Start {
        epoch: &epoch,
        me: ME,
        now: Time(0),
        seed: 0,
        tree,
        finalized,
        head,
        proof: None,
        record: None,
    };
    let engine = Heaviest::start(&start, PARAMS, Box::new(lottery), &mut out);
    (engine, out)
}

impl Node {
    fn new(lottery: impl Lottery + 'static) -> Self {
        let tree = Tree::new(block(0, 0xff, 0, 0));
        let (engine, out) = start(&tree, name(0), name(0), lottery, u64::MAX);
        assert_eq!(out, [], "nothing follows from a block that is final");
        Self { tree, engine, now: Time(0) }
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.engine.step(&Context { now: self.now, tree: &self.tree }, input, &mut out);
        out
    }

    /// Whether the block became head.
    fn take(&mut self, block: TreeBlock) -> bool {
        let hash = block.hash;
        self.tree.insert(block);
        let outputs = self.step(Input::Block { hash });
        outputs.iter().any(|it| matches!(it, Output::Adopt { choice, .. } if choice.head == hash))
    }

    fn build(&mut self, input: Input) -> Option<(B256, Time, Bytes)> {
        let outputs = self.step(input);
        outputs.into_iter().find_map(|it| match it {
            Output::Build { parent, time, extension, .. } => Some((parent, time, extension)),
            _ => None,
        })
    }

    fn choice(&self) -> [B256; 3] {
        let ForkChoice { head, safe, finalized } = self.engine.choice();
        [head, safe, finalized]
    }
}

#[test]
fn heaviest_branch_wins_not_the_longest() {
    let mut node = Node::new(Toll);
    assert!(node.take(block(1, 0, 1, 3)) && node.take(block(2, 1, 2, 3)));
    assert!(node.take(block(11, 0, 1, 7)), "7 is more than 3 and 3");
    assert!(!node.take(block(3, 2, 3, 1)), "7 was first");
    assert!(node.take(block(4, 3, 4, 1)));
    assert_eq!(node.engine.choice().head, name(4));
}

#[test]
fn first_seen_wins_a_tie_and_after_a_restart_the_logged_head() {
    let mut node = Node::new(Toll);
    assert!(node.take(block(9, 0, 1, 5)));
    assert!(!node.take(block(1, 0, 1, 5)));
    let (engine, out) = start(&node.tree, name(0), name(9), Toll, u64::MAX);
    assert_eq!((engine.choice().head, out.len()), (name(9), 0));
    let (engine, out) = start(&node.tree, name(0), name(0), Toll, u64::MAX);
    assert_eq!((engine.choice().head, out.len()), (name(1), 1), "by hash");
}

#[test]
fn safe_and_finalized_trail_the_head_and_finalized_never_moves_back() {
    let mut node = Node::new(Toll);
    for n in 1..=6 {
        assert!(node.take(block(n, n - 1, n.into(), 10)));
    }
    assert_eq!(node.choice(), [name(6), name(4), name(2)]);
    // Lower, and heavier.
    assert!(node.take(block(14, 3, 4, 100)));
    assert_eq!(node.choice(), [name(14), name(2), name(2)]);
    assert!(node.take(block(15, 14, 5, 1)));
    assert_eq!(node.choice(), [name(15), name(3), name(2)]);
}

#[test]
fn branch_beside_finalized_is_not_weighed_whatever_it_weighs() {
    let mut node = Node::new(Toll);
    assert!(!node.take(block(11, 0, 1, 0)));
    for n in 1..=6 {
        node.take(block(n, n - 1, n.into(), 10));
    }
    assert_eq!(node.choice()[2], name(2));
    assert!(!node.take(block(12, 11, 2, 10_000)));
    assert!(!node.take(block(13, 1, 2, 10_000)));
    assert_eq!(node.engine.weighed(), 5, "2 to 6");
}

#[test]
fn rival_outweighs_only_with_more_work() {
    let work = |list: &[u64]| list.iter().map(|n| U256::from(*n)).collect::<Vec<_>>();
    assert!(outweighs(work(&[1, 5]), work(&[2, 3])));
    assert!(!outweighs(work(&[1, 4]), work(&[2, 3])));
    assert!(!outweighs(work(&[]), work(&[])));
    assert!(outweighs([U256::MAX, U256::MAX], [U256::MAX, U256::from(9)]), "sums have room");
}

#[test]
fn start_adopts_what_was_never_logged_and_builds_nothing() {
    let mut node = Node::new(Toll);
    for n in 1..=6 {
        node.take(block(n, n - 1, n.into(), 10));
    }
    let (engine, out) = start(&node.tree, name(1), name(5), Toll, u64::MAX);
    let choice = ForkChoice { head: name(6), safe: name(4), finalized: name(2) };
    assert_eq!(out, [Output::Adopt { choice, proof: None }]);
    assert_eq!(engine.deadline(), Some(Time(0)), "due at once");
    assert_eq!(engine.weighed(), 5);
    let (_, out) = start(&node.tree, name(2), name(6), Toll, u64::MAX);
    assert_eq!(out, [], "all of it was logged");
}

#[test]
fn own_block_that_a_crash_kept_from_the_network_is_published_after_the_restart() {
    let mut tree = Tree::new(block(0, 0xff, 0, 0));
    tree.insert(TreeBlock { proposer: ME, ..block(1, 0, 1, 7) });
    let (engine, _) = start(&tree, name(0), name(0), Toll, u64::MAX);
    let mut node = Node { tree, engine, now: Time(1) };
    let outputs = node.step(Input::Tick);
    assert_eq!(outputs[0], Output::Publish { hash: name(1) });
    assert!(matches!(outputs[1], Output::Build { parent, .. } if parent == name(1)));
    assert_eq!(node.step(Input::Tick), [], "once");
}

#[test]
fn own_block_is_published_and_adopted_and_the_next_one_begun() {
    let mut node = Node::new(Toll);
    node.now = Time(50);
    assert_eq!(node.build(Input::Tick).unwrap().0, name(0));
    node.tree.insert(block(1, 0, 1, 7));
    let outputs = node.step(Input::Built { hash: name(1) });
    assert_eq!(outputs[0], Output::Publish { hash: name(1) });
    assert!(matches!(outputs[1], Output::Adopt { choice, .. } if choice.head == name(1)));
    let Output::Build { parent, time, difficulty, .. } = &outputs[2] else { panic!("no block") };
    assert_eq!((*parent, *time, *difficulty), (name(1), Time(50), Some(U256::from(7))));
    assert_eq!(outputs.len(), 3);
}

#[test]
fn own_block_that_came_too_late_is_kept_to_itself() {
    let mut node = Node::new(Toll);
    node.take(block(1, 0, 1, 7));
    node.tree.insert(block(2, 0, 1, 7));
    assert_eq!(node.step(Input::Built { hash: name(2) }), []);
}

#[test]
fn empty_block_is_begun_anew_once_when_transactions_come() {
    let mut node = Node::new(Toll);
    let (_, _, first) = node.build(Input::Tick).unwrap();
    node.now = Time(10);
    assert!(node.build(Input::Pending(true)).is_none(), "not before a quarter of the interval");
    assert_eq!(node.engine.deadline(), Some(Time(250)));
    node.now = Time(250);
    let (parent, time, second) = node.build(Input::Tick).unwrap();
    assert_eq!((parent, time), (name(0), Time(250)));
    assert_ne!(first, second);
    for pending in [false, true] {
        assert!(node.build(Input::Pending(pending)).is_none());
    }
    node.now = Time(600);
    assert!(node.build(Input::Tick).is_none());
}

#[test]
fn transactions_are_waited_for_anew_on_each_head() {
    let mut node = Node::new(Toll);
    node.step(Input::Pending(true));
    node.take(block(1, 0, 1, 7));
    assert_eq!(node.engine.deadline(), Some(Time(1_000)), "no quarter: nothing is known to wait");
    node.now = Time(250);
    assert_eq!(node.build(Input::Pending(true)).unwrap().0, name(1));
}

#[test]
fn block_is_begun_anew_ever_more_seldom_so_that_a_slow_build_ends() {
    let mut node = Node::new(Toll);
    let mut begun = Vec::new();
    while begun.len() < 7 {
        node.now = node.engine.deadline().unwrap();
        begun.push(node.build(Input::Tick).unwrap().1.0);
        assert!(node.engine.deadline().unwrap() > node.now);
    }
    let spans: Vec<u64> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(spans, [1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
}

#[test]
fn tick_that_comes_late_or_after_a_jump_back_leaves_a_deadline_ahead() {
    let mut node = Node::new(Toll);
    for now in [5_000_000, 5_000_001, 17, 3, 9_000_000_000, u64::MAX - 20_000] {
        node.now = Time(now);
        node.step(Input::Tick);
        assert!(node.engine.deadline().unwrap() > node.now, "at {now}");
    }
}

#[test]
fn nothing_is_made_above_the_last_height() {
    let tree = Tree::new(block(0, 0xff, 0, 0));
    let (engine, _) = start(&tree, name(0), name(0), Toll, 1);
    let mut node = Node { tree, engine, now: Time(0) };
    assert!(node.build(Input::Tick).is_some());
    assert!(node.take(block(1, 0, 1, 7)));
    assert_eq!(node.engine.deadline(), None);
    assert_eq!(node.step(Input::Pending(true)), []);
}

#[test]
fn ticket_without_work_is_used_once_and_at_its_time() {
    let mut node = Node::new(Slots);
    assert!(node.build(Input::Tick).is_none());
    assert_eq!(node.engine.deadline(), Some(Time(1_000)));
    node.now = Time(1_300);
    assert_eq!(node.build(Input::Tick).unwrap().1, Time(1_000), "the slot's time, not the clock's");
    assert_eq!(node.engine.deadline(), None);
    assert!(node.build(Input::Pending(true)).is_none(), "a slot has one block");
}

#[test]
fn blocks_of_strangers_and_repeated_ones_change_nothing() {
    let mut node = Node::new(Toll);
    assert!(node.take(block(1, 0, 1, 7)));
    assert_eq!(node.step(Input::Block { hash: name(1) }), []);
    assert_eq!(node.step(Input::Block { hash: name(77) }), []);
    assert_eq!(node.step(Input::Rejected { hash: name(1) }), []);
    assert_eq!(node.choice()[0], name(1));
}

/// Random trees, in random order: the rules of the module against a second way to say them.
#[test]
fn head_is_a_heaviest_block_above_finalized_in_random_trees() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut node = Node::new(Toll);
        let mut weights = BTreeMap::from([(name(0), 0)]);
        let mut last = node.engine.choice();
        for n in 1..=60 {
            let open: Vec<B256> = weights.keys().copied().collect();
            let parent = open[usize::try_from(random.below(open.len() as u64)).unwrap()];
            // Mostly on the head, so that something gets deep.
            let parent = if random.chance(70) { last.head } else { parent };
            let weight = 1 + random.below(4);
            let height = node.tree.height(&parent).0 + 1;
            node.take(TreeBlock { parent, ..block(n, 0, height, weight) });
            weights.insert(name(n), weights[&parent] + weight);

            let now = node.engine.choice();
            let tree = &node.tree;
            assert!(tree.descends(now.finalized, last.finalized), "seed {seed}");
            assert!(tree.descends(now.safe, now.finalized) && tree.descends(now.head, now.safe));
            let eligible = |hash: &B256| tree.descends(*hash, now.finalized);
            let most = weights.iter().filter(|(hash, _)| eligible(hash)).map(|it| it.1).max();
            assert_eq!(Some(&weights[&now.head]), most, "seed {seed}");
            let above = weights.keys().filter(|hash| eligible(hash)).count();
            assert_eq!(node.engine.weighed(), above, "seed {seed}");
            last = now;

            let (again, out) = start(tree, last.finalized, last.head, Toll, u64::MAX);
            assert_eq!((again.choice(), out), (last, vec![]), "seed {seed}");
        }
        assert!(last.finalized != name(0), "seed {seed} never got deep");
    }
}
