//! Each rule of the checker fails on a history that was doctored in one place.

use super::*;

const SUPPLY: u64 = 1_000;

fn hash(n: u8) -> B256 {
    B256::repeat_byte(n)
}

fn receipt(n: u8, block: u8) -> Receipt {
    Receipt { transaction: hash(n), block: hash(block), digest: n.into() }
}

fn call(node: usize, begun: u64, answer: Answer) -> Call {
    Call { node, begun, ended: begun + 5, answer }
}

fn finalized(number: u64) -> Answer {
    Answer::Finalized { number, hash: hash(number as u8) }
}

fn receipts(number: u64, all: &[Receipt]) -> Answer {
    Answer::Receipts { number, found: Some(all.into()) }
}

fn accounts(number: u64, nonces: [u64; 2]) -> Answer {
    Answer::Accounts { number, total: U256::from(SUPPLY + number), nonces: nonces.into() }
}

/// Two nodes; block 1 holds transactions 11 and 12, block 2 holds 13; each block mints one.
fn sound() -> Vec<Call> {
    let one = (1, receipt(11, 1));
    vec![
        call(0, 0, finalized(1)),
        call(0, 10, receipts(1, &[receipt(11, 1), receipt(12, 1)])),
        call(0, 20, accounts(1, [1, 1])),
        // Node 1 is behind: it may not know the transaction.
        call(1, 30, Answer::Receipt { transaction: hash(11), found: None }),
        call(1, 40, finalized(2)),
        call(1, 50, Answer::Block { number: 2, found: Some(hash(2)) }),
        call(1, 60, receipts(2, &[receipt(13, 2)])),
        call(1, 70, receipts(1, &[receipt(11, 1), receipt(12, 1)])),
        call(1, 80, Answer::Receipt { transaction: hash(11), found: Some(one) }),
        call(1, 90, accounts(2, [2, 1])),
        call(0, 100, Answer::Nonce { account: 0, nonce: 1 }),
        call(0, 110, finalized(2)),
        call(0, 120, Answer::Nonce { account: 0, nonce: 2 }),
        call(0, 130, accounts(2, [2, 1])),
    ]
}

fn judge(calls: Vec<Call>) -> Result<usize, Violation> {
    let mut checker = Checker::new(2, |number| U256::from(SUPPLY + number));
    for mut call in calls {
        checker.judge(&mut call)?;
    }
    Ok(checker.acknowledged().len())
}

/// The sound history and one call more.
fn doctored(node: usize, begun: u64, answer: Answer) -> Violation {
    let mut calls = sound();
    calls.push(call(node, begun, answer));
    judge(calls).expect_err("the doctored call breaks a rule")
}

#[test]
fn sound_history_passes_and_each_transaction_is_acknowledged_once() {
    assert_eq!(judge(sound()), Ok(3));
}

#[test]
fn finalized_that_goes_back_is_seen_over_restarts_too() {
    let expected = Violation::FinalizedWentBack { node: 0, from: 2, to: 1 };
    assert_eq!(doctored(0, 200, finalized(1)), expected);
}

#[test]
fn of_calls_that_overlap_nothing_is_concluded() {
    let mut calls = sound();
    // Asked before the answer above it had come.
    calls.push(Call { node: 0, begun: 111, ended: 140, answer: finalized(1) });
    assert_eq!(judge(calls), Ok(3));
}

#[test]
fn second_hash_of_a_final_height_is_seen_whoever_shows_it() {
    let shown_again = doctored(0, 200, Answer::Finalized { number: 2, hash: hash(9) });
    let (first, second) = ((1, hash(2)), (0, hash(9)));
    assert_eq!(shown_again, Violation::TwoHashes { number: 2, first, second });
    let (first, second) = ((0, hash(1)), (1, hash(9)));
    let expected = Violation::TwoHashes { number: 1, first, second };
    let block = Answer::Block { number: 1, found: Some(hash(9)) };
    assert_eq!(doctored(1, 200, block), expected);
    assert_eq!(doctored(1, 200, receipts(1, &[receipt(11, 9)])), expected);
    let unknown = Answer::Receipt { transaction: hash(14), found: Some((1, receipt(14, 9))) };
    assert_eq!(doctored(1, 200, unknown), expected);
}

#[test]
fn final_block_that_is_gone_is_seen() {
    for answer in
        [Answer::Block { number: 1, found: None }, Answer::Receipts { number: 1, found: None }]
    {
        assert_eq!(doctored(1, 200, answer), Violation::BlockVanished { node: 1, number: 1 });
    }
    let above = Answer::Block { number: 3, found: None };
    let mut calls = sound();
    calls.push(call(1, 200, above));
    assert_eq!(judge(calls), Ok(3), "height 3 is not final yet");
}

#[test]
fn acknowledged_receipt_that_changes_is_seen() {
    let changed = |n| Violation::ReceiptChanged { node: 0, number: 1, transaction: hash(n) };
    let other = Receipt { digest: 99, ..receipt(11, 1) };
    let alone = |found| Answer::Receipt { transaction: hash(11), found: Some(found) };
    assert_eq!(doctored(0, 200, alone((1, other))), changed(11), "its content");
    assert_eq!(doctored(0, 200, alone((2, receipt(11, 2)))), changed(11), "its block");
    assert_eq!(doctored(0, 200, receipts(1, &[other, receipt(12, 1)])), changed(11));
    let swapped = receipts(1, &[receipt(12, 1), receipt(11, 1)]);
    assert_eq!(doctored(0, 200, swapped), changed(11), "their order");
    assert_eq!(doctored(0, 200, receipts(1, &[receipt(11, 1)])), changed(12), "one is missing");
    let more = receipts(1, &[receipt(11, 1), receipt(12, 1), receipt(15, 1)]);
    assert_eq!(doctored(0, 200, more), changed(15), "one is new");
    let new = Answer::Receipt { transaction: hash(15), found: Some((1, receipt(15, 1))) };
    assert_eq!(doctored(0, 200, new), changed(15), "one is new, asked for alone");
}

#[test]
fn acknowledged_receipt_that_vanishes_is_seen() {
    let gone = Answer::Receipt { transaction: hash(11), found: None };
    let expected = Violation::ReceiptVanished { node: 1, number: 1, transaction: hash(11) };
    assert_eq!(doctored(1, 200, gone), expected);
    // Acknowledged alone, then absent among all receipts of its block.
    let calls = vec![
        call(0, 0, finalized(1)),
        call(0, 10, Answer::Receipt { transaction: hash(11), found: Some((1, receipt(11, 1))) }),
        call(0, 20, receipts(1, &[receipt(12, 1)])),
    ];
    let expected = Violation::ReceiptVanished { node: 0, number: 1, transaction: hash(11) };
    assert_eq!(judge(calls), Err(expected));
}

#[test]
fn transaction_in_two_final_blocks_is_seen() {
    let calls = vec![
        call(0, 0, finalized(2)),
        call(0, 10, receipts(1, &[receipt(11, 1)])),
        call(0, 20, receipts(2, &[receipt(11, 2)])),
    ];
    let expected = Violation::ReceiptChanged { node: 0, number: 1, transaction: hash(11) };
    assert_eq!(judge(calls), Err(expected));
}

#[test]
fn balances_that_do_not_sum_up_to_the_supply_are_seen() {
    let (expected, found) = (U256::from(SUPPLY + 2), U256::from(SUPPLY + 3));
    let answer = Answer::Accounts { number: 2, total: found, nonces: [2, 1].into() };
    let violation = Violation::TotalNotConserved { node: 0, number: 2, expected, found };
    assert_eq!(doctored(0, 200, answer), violation);
}

#[test]
fn nonce_that_goes_back_is_seen_in_time_and_in_height() {
    let back = |node, from, to| Violation::NonceWentBack { node, account: 0, from, to };
    let by_tag = Answer::Nonce { account: 0, nonce: 1 };
    assert_eq!(doctored(0, 200, by_tag), back(0, 2, 1));
    assert_eq!(doctored(0, 200, accounts(2, [1, 1])), back(0, 2, 1), "other than at node 1");
    assert_eq!(doctored(1, 200, accounts(1, [3, 1])), back(1, 3, 1), "other than at node 0");
    let mut calls = sound();
    calls.remove(2);
    calls.push(call(1, 200, accounts(1, [3, 1])));
    assert_eq!(judge(calls), Err(back(1, 3, 2)), "above those of block 2");
}

#[test]
fn complaint_names_the_rule_and_tells_the_calls_about_it() {
    let mut history = History::new(Checker::new(2, |number| U256::from(SUPPLY + number)));
    for call in sound() {
        history.record(call);
    }
    assert_eq!(history.complaint(), None);
    history.record(call(0, 200, finalized(1)));
    let complaint = history.complaint().expect("finalized went back");
    assert!(complaint.contains("finalized went back at node 1: from 2 to 1"), "{complaint}");
    assert!(complaint.contains("0.000..0.000 node 1: Finalized { number: 2"), "{complaint}");
}
