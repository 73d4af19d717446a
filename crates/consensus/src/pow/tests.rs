use super::*;
use crate::engine::{Context, Input, protocol};
use alloy_consensus::{Header, Sealed};
use alloy_primitives::{B256, Bytes};
use landfall_types::{Anchor, Committee, Extension, Kind, Span};

type Change = fn(&mut Header, &mut Extension);

const MAKER: Address = Address::repeat_byte(7);
const START: u64 = 1_000_000;

fn params() -> PowParams {
    PowParams {
        block_interval: Span(2_000),
        half_life: Span(576_000),
        first_target: U256::MAX >> 5,
        safe_depth: 3,
        final_depth: 6,
        clock_drift: Span(500),
        subsidy: 2_000,
        subsidy_halving: 20,
    }
}

fn epoch() -> Epoch {
    Epoch {
        chain: B256::ZERO,
        number: 3,
        params: Params::Pow(params()),
        committee: Committee::equal([NodeId::repeat_byte(1)]).unwrap(),
        first: Height(11),
        last: Height(u64::MAX),
        anchor: Anchor::Final { hash: B256::repeat_byte(9), time: Time(START) },
    }
}

fn tree() -> Tree {
    Tree::new(TreeBlock {
        hash: B256::repeat_byte(9),
        parent: B256::repeat_byte(8),
        height: Height(10),
        time: Time(START),
        epoch: 2,
        proposer: MAKER,
        difficulty: U256::ZERO,
        data: Bytes::new(),
    })
}

fn block_of(sealed: &SealedHeader) -> TreeBlock {
    TreeBlock {
        hash: sealed.header.hash(),
        parent: sealed.header.parent_hash,
        height: Height(sealed.header.number),
        time: Time(sealed.extension.milliseconds),
        epoch: sealed.extension.epoch,
        proposer: sealed.extension.proposer,
        difficulty: sealed.header.difficulty,
        data: sealed.extension.data.clone(),
    }
}

/// A header on a block, mined, after `change` was made to it.
fn mined(
    parent: &TreeBlock,
    time: u64,
    change: impl FnOnce(&mut Header, &mut Extension),
) -> SealedHeader {
    let number = parent.height.0 + 1;
    let mut extension =
        Extension { milliseconds: time, epoch: 3, proposer: MAKER, data: Bytes::from_static(b"1") };
    let mut header = Header {
        parent_hash: parent.hash,
        number,
        timestamp: time / 1_000,
        beneficiary: MAKER,
        difficulty: difficulty_after(&epoch(), parent),
        withdrawals_root: Some(subsidy::withdrawals_root(&params(), Height(number), MAKER)),
        ..Header::default()
    };
    change(&mut header, &mut extension);
    header.parent_beacon_block_root = Some(Extension::commitment(&extension.to_bytes()));
    if let Some(nonce) = search(&header, 0, 1_000_000) {
        header.nonce = nonce.into();
    }
    SealedHeader { header: Sealed::new(header), extension, sealer: None }
}

fn judge(tree: &Tree, header: &SealedHeader, now: u64) -> Verdict {
    protocol(Kind::Pow).verify(&epoch(), header, tree, Time(now))
}

fn anchor(tree: &Tree) -> &TreeBlock {
    tree.block(&B256::repeat_byte(9))
}

#[test]
fn mined_branch_is_valid_and_its_difficulty_follows_the_schedule() {
    let mut tree = tree();
    let mut parent = anchor(&tree).clone();
    assert_eq!(difficulty_after(&epoch(), &parent), U256::from(32));
    for n in 1..=100 {
        // Twice as fast as scheduled: by the end 100 s ahead, 0.17 half-lives.
        let header = mined(&parent, START + n * 1_000, |_, _| {});
        assert_eq!(judge(&tree, &header, START + n * 1_000), Verdict::Valid);
        parent = block_of(&header);
        tree.insert(parent.clone());
    }
    assert_eq!(difficulty_after(&epoch(), &parent), U256::from(36), "32 * 2^(100/576)");
}

#[test]
fn header_is_refused_for_each_field_of_its_own() {
    let tree = tree();
    let judged =
        |change: Change| judge(&tree, &mined(anchor(&tree), START + 2_000, change), START + 2_000);
    assert_eq!(judged(|_, _| {}), Verdict::Valid);
    let cases: [(Change, &str); 8] = [
        (|header, _| header.difficulty += U256::ONE, "difficulty"),
        (|header, _| header.difficulty -= U256::ONE, "difficulty"),
        (|header, _| header.difficulty = U256::ZERO, "nonce"),
        (|header, _| header.beneficiary = Address::ZERO, "subsidy"),
        (|header, _| header.withdrawals_root = None, "subsidy"),
        (|_, extension| extension.epoch = 2, "epoch"),
        (|_, extension| extension.milliseconds = START, "time"),
        (|_, extension| extension.data = Bytes::from_static(b"123456789"), "data"),
    ];
    for (change, word) in cases {
        let Verdict::Invalid(why) = judged(change) else { panic!("{word} was not judged") };
        assert!(why.contains(word), "{why} says nothing of {word}");
    }
}

#[test]
fn nonce_that_does_not_meet_the_difficulty_is_invalid_even_without_the_parent() {
    let tree = tree();
    let good = mined(anchor(&tree), START + 1, |_, _| {});
    let orphan = mined(anchor(&tree), START + 1, |header, _| header.parent_hash = B256::ZERO);
    assert_eq!(judge(&tree, &orphan, START + 1), Verdict::NotYet);
    for header in [good, orphan] {
        let mut inner = header.header.inner().clone();
        while meets(&inner) {
            inner.nonce = (u64::from_be_bytes(inner.nonce.0) + 1).into();
        }
        let bad = SealedHeader { header: Sealed::new(inner), ..header };
        assert!(matches!(judge(&tree, &bad, START + 1), Verdict::Invalid(_)));
    }
}

#[test]
fn block_from_the_future_waits_until_the_clock_is_near() {
    let tree = tree();
    let header = mined(anchor(&tree), START + 10_000, |_, _| {});
    assert_eq!(judge(&tree, &header, START), Verdict::NotYet);
    assert_eq!(judge(&tree, &header, START + 9_499), Verdict::NotYet);
    assert_eq!(judge(&tree, &header, START + 9_500), Verdict::Valid);
}

#[test]
fn block_with_the_least_time_after_its_parent_waits_for_no_clock() {
    let tree = tree();
    let [least, later] = [1, 2].map(|ahead| mined(anchor(&tree), START + ahead, |_, _| {}));
    assert_eq!(judge(&tree, &least, 0), Verdict::Valid);
    assert_eq!(judge(&tree, &later, 0), Verdict::NotYet);
}

#[test]
fn own_time_of_a_block_does_not_change_its_difficulty() {
    let tree = tree();
    for time in [START + 1, START + 2_000, START + 500_000] {
        let header = mined(anchor(&tree), time, |_, _| {});
        assert_eq!(header.header.difficulty, U256::from(32));
        assert_eq!(judge(&tree, &header, time), Verdict::Valid);
    }
}

#[test]
fn withdrawals_of_a_block_are_its_subsidy() {
    let pay = |height| protocol(Kind::Pow).withdrawals(&epoch(), Height(height), MAKER);
    let expected = Withdrawal { index: 45, validator_index: 0, address: MAKER, amount: 2_000 >> 2 };
    assert_eq!(pay(45), [expected]);
    assert_eq!(pay(20 * 11), [], "2,000 is halved away");
}

#[test]
fn engine_mines_at_the_difficulty_that_a_verifier_expects() {
    let (mut tree, epoch, mut out) = (tree(), epoch(), Vec::new());
    let start = Start {
        epoch: &epoch,
        me: MAKER,
        now: Time(START),
        seed: 1,
        tree: &tree,
        finalized: epoch.anchor_hash(),
        head: epoch.anchor_hash(),
        proof: None,
        record: None,
    };
    let mut engine = protocol(Kind::Pow).start(start, &mut out);
    assert_eq!(out, []);
    let (mut now, mut input) = (START, Input::Tick);
    for n in 1..=50 {
        engine.step(&Context { now: Time(now), tree: &tree }, input, &mut out);
        let Some(Output::Build { parent, time, extension, difficulty }) = out.pop() else {
            panic!("nothing is made")
        };
        assert_eq!(time, Time(now));
        now += 300;
        let header = mined(tree.block(&parent), now, |header, ours| {
            header.difficulty = difficulty.expect("work has a difficulty");
            ours.data = extension;
        });
        assert_eq!(judge(&tree, &header, now), Verdict::Valid);
        let hash = header.header.hash();
        tree.insert(block_of(&header));
        out.clear();
        input = Input::Built { hash };
        assert_eq!(tree.height(&hash), Height(10 + n));
    }
}

#[test]
fn nothing_proves_a_block_final_and_nobody_can_lie() {
    use crate::{FinalityProof, InvalidProof};
    use landfall_types::{Certificate, Position, Step, Vote};
    let position = Position { epoch: 3, step: Step::Commit, height: Height(11), round: 0 };
    let vote = Vote { position, hash: B256::ZERO, context: B256::ZERO };
    let proof = FinalityProof { certificate: Certificate { vote, signatures: Vec::new() } };
    let checked = protocol(Kind::Pow).verify_proof(&epoch(), &proof);
    assert_eq!(checked, Err(InvalidProof::NoProofs(Kind::Pow)));
}
