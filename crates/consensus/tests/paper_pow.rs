//! Proof of work, paper by paper: Nakamoto, *Bitcoin* (2008); Rosenfeld, *Analysis of
//! hashrate-based double-spending* (2012). The difficulty has its specification in `asert.rs`, the
//! selfish miner (Eyal, Sirer 2014) and other statistics are in `pow_statistics.rs`.

mod miner;

use alloy_consensus::Header;
use alloy_primitives::{Address, B64, B256, Bytes, U256};
use landfall_consensus::lottery::outweighs;
use landfall_consensus::{ForkChoice, Input, Output, Random, Start, Tree, TreeBlock};
use landfall_consensus::{pow, protocol};
use landfall_types::{Height, Kind, NodeId, Params, Span, Time};
use miner::{HALF_LIFE, INTERVAL, Node, ROOT, epoch, root};

const STRANGER: NodeId = NodeId::repeat_byte(99);

fn block(name: u64, parent: &TreeBlock, work: u64) -> TreeBlock {
    TreeBlock {
        hash: B256::from(U256::from(name)),
        parent: parent.hash,
        height: parent.height.next(),
        time: parent.time + Span(1),
        epoch: 0,
        proposer: STRANGER,
        difficulty: U256::from(work),
        data: Bytes::new(),
    }
}

/// Blocks one on the other, named from `name` on.
fn branch(name: u64, parent: &TreeBlock, works: &[u64]) -> Vec<TreeBlock> {
    let mut blocks: Vec<TreeBlock> = Vec::new();
    for (name, work) in (name..).zip(works) {
        blocks.push(block(name, blocks.last().unwrap_or(parent), *work));
    }
    blocks
}

fn take_all(node: &mut Node, blocks: &[TreeBlock]) {
    for block in blocks {
        node.take(block.time.0, block);
    }
}

#[test]
fn section_4_block_cannot_be_changed_without_redoing_the_work() {
    let difficulty = U256::from(20_000);
    let mut header = Header { number: 5, difficulty, ..Header::default() };
    header.nonce = pow::search(&header, 0, 10_000_000).expect("a nonce").into();
    assert!(pow::meets(&header));
    let changes: [fn(&mut Header); 9] = [
        |header| header.parent_hash = B256::repeat_byte(1),
        |header| header.transactions_root = B256::repeat_byte(1),
        |header| header.state_root = B256::repeat_byte(1),
        |header| header.beneficiary = Address::repeat_byte(1),
        |header| header.timestamp += 1,
        |header| header.extra_data = Bytes::from_static(b"1"),
        |header| header.mix_hash = B256::repeat_byte(1),
        |header| header.parent_beacon_block_root = Some(B256::ZERO),
        |header| header.nonce = B64::repeat_byte(1),
    ];
    for (n, change) in changes.iter().enumerate() {
        let mut other = header.clone();
        change(&mut other);
        assert!(!pow::meets(&other), "change {n} costs nothing");
    }
    // Nor does a claim of more work come for the same price.
    let boast = Header { difficulty: U256::MAX, ..header };
    assert!(!pow::meets(&boast));
}

#[test]
fn section_4_difficulty_rises_if_blocks_come_too_fast_and_falls_if_too_slowly() {
    let epoch = epoch(6);
    let after = |interval: u64| {
        let at = TreeBlock { height: Height(100), time: Time(100 * interval), ..root() };
        pow::difficulty_after(&epoch, &at)
    };
    let first = pow::difficulty_after(&epoch, &root());
    assert!(after(INTERVAL / 2) > first && after(INTERVAL * 2) < first);
    assert!(after(INTERVAL).abs_diff(first) < first / U256::from(100));
    // One half-life behind schedule, half the work.
    let late = TreeBlock { height: Height(1), time: Time(INTERVAL + HALF_LIFE), ..root() };
    assert_eq!(pow::difficulty_after(&epoch, &late), first / U256::from(2));
}

#[test]
fn section_5_first_of_two_stays_until_the_other_branch_has_more_work() {
    let mut node = Node::new(1, &epoch(6));
    let (ours, theirs) = (branch(1, &root(), &[5, 5]), branch(11, &root(), &[5, 5, 1]));
    take_all(&mut node, &ours[..1]);
    take_all(&mut node, &theirs[..1]);
    assert_eq!(node.choice.head, ours[0].hash);
    take_all(&mut node, &theirs[1..2]);
    assert_eq!(node.choice.head, theirs[1].hash);
    take_all(&mut node, &ours[1..]);
    assert_eq!(node.choice.head, theirs[1].hash);
    take_all(&mut node, &theirs[2..]);
    assert_eq!(node.choice.head, theirs[2].hash);
}

/// "Work" is the sum of difficulties, not the number of blocks: many cheap blocks are not a chain.
#[test]
fn section_5_longest_means_the_most_work_expended() {
    let mut node = Node::new(1, &epoch(20));
    take_all(&mut node, &branch(1, &root(), &[1; 10]));
    let heavy = branch(100, &root(), &[11]);
    take_all(&mut node, &heavy);
    assert_eq!(node.choice.head, heavy[0].hash);
}

#[test]
fn section_5_nodes_with_the_same_blocks_agree_in_whatever_order_they_came() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut blocks = vec![root()];
        for name in 1..=40 {
            let recent = random.below(blocks.len().min(8) as u64);
            let parent = blocks[blocks.len() - 1 - usize::try_from(recent).unwrap()].clone();
            // The last one outweighs all others: no two heads weigh the same.
            let last = name == 40;
            blocks.push(block(name, &parent, if last { 1_000 } else { 1 + random.below(9) }));
        }
        let heads = [1, 2, 3].map(|n| {
            let mut node = Node::new(n, &epoch(60));
            let mut waiting: Vec<TreeBlock> = blocks[1..].to_vec();
            while !waiting.is_empty() {
                let ready: Vec<usize> =
                    (0..waiting.len()).filter(|i| node.tree.has(&waiting[*i].parent)).collect();
                let pick = usize::try_from(random.below(ready.len() as u64)).unwrap();
                let next = waiting.remove(ready[pick]);
                node.take(1, &next);
            }
            node.choice.head
        });
        assert_eq!(heads, [blocks[40].hash; 3], "seed {seed}");
    }
}

#[test]
fn section_6_maker_of_a_block_is_paid_by_a_schedule_known_beforehand() {
    let mut epoch = epoch(6);
    let Params::Pow(params) = &mut epoch.params else { unreachable!() };
    (params.subsidy, params.subsidy_halving) = (3_000_000_000, 100);
    let maker = Address::repeat_byte(3);
    let mut paid = 0;
    for height in 1..=1_000 {
        let all = protocol(Kind::Pow).withdrawals(&epoch, Height(height), maker);
        assert!(all.iter().all(|one| one.address == maker && one.index == height));
        paid += all.iter().map(|one| u128::from(one.amount)).sum::<u128>();
    }
    let Params::Pow(params) = &epoch.params else { unreachable!() };
    assert_eq!(pow::supply_at(params, Height(1_000)), paid);
    // Almost all that there will ever be: a geometric series.
    assert!(paid < 2 * 100 * 3_000_000_000 && paid > 199 * 3_000_000_000 - 3_000_000_000);
}

/// The chance that a payment `z` blocks deep is undone by a share `q` of the hash rate, if the
/// attacker has one block beforehand (Rosenfeld, equation 1; Nakamoto's is close to it).
fn undone(q: f64, z: i32) -> f64 {
    let p = 1.0 - q;
    let (mut ways, mut sum) = (1.0, 0.0);
    for m in 0..=z {
        sum += ways * (p.powi(z) * q.powi(m) - p.powi(m) * q.powi(z));
        ways *= f64::from(m + z) / f64::from(m + 1);
    }
    1.0 - sum
}

#[test]
fn section_11_payment_is_undone_as_often_as_the_formula_says() {
    let mut random = Random::new(7);
    for (q, z) in [(0.1, 2), (0.25, 3), (0.3, 5)] {
        let (runs, mut successes) = (3_000, 0);
        for _ in 0..runs {
            successes += i32::from(double_spend(&mut random, q, z));
        }
        let (found, expected) = (f64::from(successes) / f64::from(runs), undone(q, z));
        let sigma = (expected * (1.0 - expected) / f64::from(runs)).sqrt();
        assert!((found - expected).abs() < 3.0 * sigma, "q {q}, z {z}: {found}, not {expected}");
    }
}

/// Whether a merchant's node leaves a block that was `z` deep. The attacker gives up 30 behind.
fn double_spend(random: &mut Random, q: f64, z: i32) -> bool {
    let mut merchant = Node::new(1, &epoch(10_000));
    let (mut honest, mut secret) = (root(), block(1_000_000, &root(), 1));
    let (mut hidden, mut name) = (vec![secret.clone()], 0);
    loop {
        name += 1;
        if (random.below(1 << 40) as f64) < q * (1_u64 << 40) as f64 {
            secret = block(1_000_000 + name, &secret, 1);
            hidden.push(secret.clone());
        } else {
            honest = block(name, &honest, 1);
            merchant.take(1, &honest);
        }
        let (ours, theirs) = (honest.height.0, secret.height.0);
        if ours >= z as u64 && theirs > ours {
            take_all(&mut merchant, &hidden);
            assert_eq!(merchant.choice.head, secret.hash, "more work was shown");
            return true;
        }
        if ours > theirs + 30 {
            return false;
        }
    }
}

#[test]
fn finalised_block_is_kept_against_more_work_and_the_rival_is_named() {
    let mut node = Node::new(1, &epoch(6));
    let (ours, rival) = (branch(1, &root(), &[10; 8]), branch(51, &root(), &[11; 9]));
    take_all(&mut node, &ours);
    let before = node.choice;
    assert_eq!(before.finalized, ours[1].hash);
    take_all(&mut node, &rival);
    assert_eq!(node.choice, before);
    let works = |blocks: &[TreeBlock]| blocks.iter().map(|it| it.difficulty).collect::<Vec<_>>();
    assert!(outweighs(works(&rival), works(&ours)), "the replica stops");
    assert!(!outweighs(works(&rival[..7]), works(&ours)), "77 is no more than 80");
}

/// Commonware #3727: the application is ahead of the journal of consensus.
#[test]
fn b25_blocks_ahead_of_the_logged_fork_choice_are_adopted_at_start() {
    let (epoch, blocks) = (epoch(4), branch(1, &root(), &[10; 9]));
    let mut tree = Tree::new(root());
    for block in &blocks {
        tree.insert(block.clone());
    }
    for logged in 0..9 {
        let final_before = logged_finalized(&blocks, logged);
        let start = Start {
            epoch: &epoch,
            me: NodeId::repeat_byte(1),
            now: Time(5),
            seed: 0,
            tree: &tree,
            finalized: final_before,
            head: blocks[logged].hash,
            proof: None,
            record: None,
        };
        let mut out = Vec::new();
        let engine = protocol(Kind::Pow).start(start, &mut out);
        let choice =
            ForkChoice { head: blocks[8].hash, safe: blocks[6].hash, finalized: blocks[4].hash };
        let expected = [Output::Adopt { choice, proof: None }];
        assert_eq!(out, if logged == 8 { &[][..] } else { &expected[..] }, "{logged}");
        assert_eq!(engine.deadline(), Some(Time(5)));
    }
}

fn logged_finalized(blocks: &[TreeBlock], head: usize) -> B256 {
    head.checked_sub(4).map_or(ROOT, |index| blocks[index].hash)
}

/// A node that only follows says nothing: whoever it hears from, nothing is sent, fetched or
/// persisted, and memory is bounded by the blocks above `finalized`.
#[test]
fn lottery_sends_no_message_and_keeps_no_record() {
    let mut node = Node::new(1, &epoch(6));
    let mut parent = root();
    for name in 1..500 {
        parent = block(name, &parent, 1);
        for output in node.take(name, &parent) {
            assert!(matches!(output, Output::Adopt { .. } | Output::Build { .. }), "{output:?}");
        }
        for output in node.step(name, Input::Pending(name % 2 == 0)) {
            assert!(matches!(output, Output::Build { .. }), "{output:?}");
        }
    }
}
