//! What the pool promises, a case at a time.

use super::*;
use alloy_consensus::{EthereumTypedTransaction, SignableTransaction, TxEip1559, TxEip7702};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{B256, Bytes, KECCAK256_EMPTY, Signature, TxKind};
use landfall_types::{Account, Transaction};
use std::collections::BTreeMap;

pub(super) const CHAIN: u64 = 31_337;

#[derive(Clone, Default)]
pub(super) struct State {
    pub accounts: BTreeMap<Address, Account>,
    pub codes: BTreeMap<B256, Bytes>,
    pub broken: bool,
}

impl State {
    pub fn set(&mut self, address: Address, nonce: u64, balance: u64) {
        let account = Account { nonce, balance: U256::from(balance), ..Account::default() };
        self.accounts.insert(address, account);
    }

    fn set_code(&mut self, address: Address, code: &[u8]) {
        let code_hash = alloy_primitives::keccak256(code);
        self.codes.insert(code_hash, Bytes::copy_from_slice(code));
        self.accounts.entry(address).or_default().code_hash = code_hash;
    }
}

impl StateReader for State {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        if self.broken {
            return Err(StateError("bad sector".into()));
        }
        Ok(self.accounts.get(address).copied())
    }
    fn storage(&self, _: &Address, _: U256) -> Result<U256, StateError> {
        Ok(U256::ZERO)
    }
    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        assert_ne!(hash, KECCAK256_EMPTY, "empty code needs no reading");
        Ok(self.codes[&hash].clone())
    }
    fn block_hash(&self, _: u64) -> Result<B256, StateError> {
        Ok(B256::ZERO)
    }
}

pub(super) const HEAD: HeadInfo =
    HeadInfo { chain_id: CHAIN, fork: Fork::Osaka, gas_limit: 30_000_000, base_fee: 0 };

pub(super) fn address(index: u64) -> Address {
    Address::left_padding_from(&(index + 1).to_be_bytes())
}

/// A transfer that pays `fee` as maximum and as tip.
fn transfer(sender: u64, nonce: u64, fee: u128) -> Recovered {
    transaction(sender, TxEip1559 { nonce, max_fee_per_gas: fee, ..base() })
}

fn base() -> TxEip1559 {
    TxEip1559 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 10,
        to: TxKind::Call(Address::ZERO),
        ..TxEip1559::default()
    }
}

/// With a tip as high as the maximum, unless the tip is given.
pub(super) fn transaction(sender: u64, mut tx: TxEip1559) -> Recovered {
    if tx.max_priority_fee_per_gas == 0 {
        tx.max_priority_fee_per_gas = tx.max_fee_per_gas;
    }
    Recovered::impersonated(tx.into(), address(sender))
}

fn rich(senders: u64) -> State {
    let mut state = State::default();
    (0..senders).for_each(|s| state.set(address(s), 0, u64::MAX));
    state
}

fn limited(total: usize, queued: usize) -> Pool {
    let limits = PoolLimits { total, queued, ..PoolLimits::default() };
    Pool::new(limits, Order::Fees)
}

fn drain(pool: &Pool, base_fee: u64) -> Vec<(Address, u64)> {
    let mut best = pool.best(base_fee);
    std::iter::from_fn(|| best.next(pool)).map(|tx| (tx.sender, tx.nonce())).collect()
}

fn refusal(pool: &mut Pool, tx: Recovered, head: &HeadInfo, state: &State) -> String {
    pool.add(tx, head, state).unwrap_err().to_string()
}

#[test]
fn gap_waits_and_is_filled() {
    let (mut pool, state) = (limited(10, 10), rich(1));
    for nonce in [2, 1] {
        let added = pool.add(transfer(0, nonce, 5), &HEAD, &state).unwrap();
        assert!(!added.is_pending());
    }
    assert_eq!(pool.status(), Status { pending: 0, queued: 2 });
    assert_eq!(pool.pending_nonce(&address(0)), None);
    assert!(drain(&pool, 0).is_empty());
    let added = pool.add(transfer(0, 0, 5), &HEAD, &state).unwrap();
    assert_eq!(added.promoted.len(), 3);
    assert_eq!(added.promoted[0], added.hash);
    assert_eq!(pool.pending_nonce(&address(0)), Some(3));
    assert_eq!(pool.pending().count(), 3);
    assert_eq!(drain(&pool, 0), (0..3).map(|n| (address(0), n)).collect::<Vec<_>>());
}

#[test]
fn free_transactions_of_accounts_without_money_are_executable_where_gas_is_free() {
    let (mut pool, state) = (limited(10, 10), State::default());
    for nonce in [0, 1] {
        let added = pool.add(transfer(0, nonce, 0), &HEAD, &state).unwrap();
        assert!(added.is_pending());
    }
    assert_eq!(drain(&pool, 0), [(address(0), 0), (address(0), 1)]);
    // Should gas have a price some day, they wait for it to vanish; no new ones come in then.
    assert!(drain(&pool, 1).is_empty());
    let priced = HeadInfo { base_fee: 1, ..HEAD };
    let text = refusal(&mut pool, transfer(1, 0, 0), &priced, &state);
    assert!(text.starts_with("transaction underpriced"), "{text}");
    // A replacement has to pay all the same: else one account could replace without end.
    let again = transaction(
        0,
        TxEip1559 { max_fee_per_gas: 0, value: U256::ZERO, gas_limit: 21_001, ..base() },
    );
    assert_eq!(refusal(&mut pool, again, &HEAD, &state), "replacement transaction underpriced");
}

#[test]
fn one_sender_may_queue_5000() {
    let (mut pool, state) = (Pool::new(PoolLimits::default(), Order::Fees), rich(1));
    for nonce in (1..=5_000).rev() {
        pool.add(transfer(0, nonce, 5), &HEAD, &state).unwrap();
    }
    assert_eq!(pool.status(), Status { pending: 0, queued: 5_000 });
    assert_eq!(pool.add(transfer(0, 0, 5), &HEAD, &state).unwrap().promoted.len(), 5_001);
}

#[test]
fn replacement_needs_ten_percent_more_in_both_fees() {
    let (mut pool, state) = (limited(10, 10), rich(1));
    let bid = |max_fee_per_gas, max_priority_fee_per_gas| {
        transaction(0, TxEip1559 { max_fee_per_gas, max_priority_fee_per_gas, ..base() })
    };
    let first = pool.add(bid(1_000, 100), &HEAD, &state).unwrap();
    assert_eq!(refusal(&mut pool, bid(1_000, 100), &HEAD, &state), "already known");
    for (fee, tip) in [(1_099, 110), (1_100, 109), (5_000, 100), (999, 500)] {
        let text = refusal(&mut pool, bid(fee, tip), &HEAD, &state);
        assert_eq!(text, "replacement transaction underpriced", "{fee} {tip}");
    }
    let second = pool.add(bid(1_100, 110), &HEAD, &state).unwrap();
    assert_eq!(second.replaced, Some(first.hash));
    assert_eq!(second.promoted, [second.hash]);
    assert!(!pool.contains(&first.hash) && pool.is_pending(&second.hash));
    assert_eq!(pool.status(), Status { pending: 1, queued: 0 });
    assert_eq!(pool.bytes(), {
        use alloy_eips::eip2718::Encodable2718;
        pool.get(&second.hash).unwrap().transaction.encode_2718_len()
    });
}

#[test]
fn replacement_of_tiny_fees_must_still_rise() {
    let (mut pool, state) = (limited(10, 10), rich(1));
    pool.add(transfer(0, 0, 1), &HEAD, &state).unwrap();
    let raised = TxEip1559 { max_fee_per_gas: 1, value: U256::from(1), ..base() };
    let text = refusal(&mut pool, transaction(0, raised), &HEAD, &state);
    assert_eq!(text, "replacement transaction underpriced");
    pool.add(transfer(0, 0, 2), &HEAD, &state).unwrap();
}

#[test]
fn refusals_have_the_words_of_geth() {
    let (mut pool, mut state) = (limited(10, 10), rich(3));
    state.set(address(0), 5, 1_000_000);
    let with = |change: fn(&mut TxEip1559)| {
        let mut tx = TxEip1559 { nonce: 5, ..base() };
        change(&mut tx);
        transaction(0, tx)
    };
    let table: [(Recovered, &str); 12] = [
        (with(|t| t.nonce = 3), "nonce too low: next nonce 5, tx nonce 3"),
        (with(|t| t.nonce = u64::MAX), "nonce has max value"),
        (
            with(|t| t.value = U256::from(800_000)),
            "insufficient funds for gas * price + value: \
             address 0x0000000000000000000000000000000000000001 have 1000000 want 1010000",
        ),
        (
            with(|t| t.value = U256::MAX),
            "insufficient funds for gas * price + value: \
             address 0x0000000000000000000000000000000000000001 have 1000000 want \
             115792089237316195423570985008687907853269984665640564039457584007913129639935",
        ),
        (with(|t| t.gas_limit = 20_999), "intrinsic gas too low: gas 20999, minimum needed 21000"),
        (
            // 5 bytes that are not zero: 21,000 + 5 * 16, but at least 21,000 + 10 * 20.
            with(|t| (t.input, t.gas_limit) = (vec![1; 5].into(), 21_199)),
            "insufficient gas for floor data gas cost: gas 21199, minimum needed 21200",
        ),
        (
            with(|t| t.gas_limit = 30_000_001),
            "transaction gas limit too high (cap: 16777216, tx: 30000001)",
        ),
        (
            with(|t| (t.to, t.input) = (TxKind::Create, vec![0; 49_153].into())),
            "max initcode size exceeded: code size 49153, limit 49152",
        ),
        (
            with(|t| t.max_priority_fee_per_gas = 11),
            "max priority fee per gas higher than max fee per gas",
        ),
        (
            with(|t| t.chain_id = 1),
            "invalid sender: invalid chain id for signer: have 1 want 31337",
        ),
        (
            with(|t| t.input = vec![0; 131_072].into()),
            "oversized data: transaction size 131116, limit 131072",
        ),
        (
            with(|t| (t.to, t.gas_limit) = (TxKind::Create, 52_999)),
            "intrinsic gas too low: gas 52999, minimum needed 53000",
        ),
    ];
    for (tx, expected) in table {
        assert_eq!(refusal(&mut pool, tx, &HEAD, &state), expected);
    }
    let small = HeadInfo { gas_limit: 20_000, ..HEAD };
    assert_eq!(refusal(&mut pool, with(|_| ()), &small, &state), "exceeds block gas limit");
    let old = HeadInfo { fork: Fork::Berlin, ..HEAD };
    assert_eq!(
        refusal(&mut pool, with(|_| ()), &old, &state),
        "transaction type not supported: type 2 rejected, pool not yet in London"
    );
    assert!(pool.is_empty() && pool.senders.is_empty());
    state.broken = true;
    let error = pool.add(with(|_| ()), &HEAD, &state).unwrap_err();
    assert!(matches!(error, PoolError::State(_)), "{error}");
}

#[test]
fn intrinsic_gas_counts_lists_words_and_authorizations() {
    let (mut pool, state) = (limited(10, 10), rich(1));
    let mut needs = |unsigned: EthereumTypedTransaction<_>, needed: u64| {
        let text = refusal(&mut pool, Recovered::impersonated(unsigned, address(0)), &HEAD, &state);
        let tail = format!("minimum needed {needed}");
        assert!(text.starts_with("intrinsic gas too low") && text.ends_with(&tail), "{text}");
    };
    let item = AccessListItem { address: address(7), storage_keys: vec![B256::ZERO; 3] };
    let access_list = AccessList(vec![item.clone(), item]);
    let listed = TxEip1559 { access_list, ..base() };
    needs(listed.into(), 21_000 + 2 * 2_400 + 6 * 1_900);
    let created = TxEip1559 { to: TxKind::Create, input: vec![0; 33].into(), ..base() };
    needs(created.into(), 21_000 + 32_000 + 33 * 4 + 2 * 2);
    let authorization = alloy_eips::eip7702::Authorization {
        chain_id: U256::from(CHAIN),
        address: address(3),
        nonce: 0,
    };
    let signature = Signature::new(U256::from(1), U256::from(1), false);
    let delegating = TxEip7702 {
        chain_id: CHAIN,
        gas_limit: 21_000,
        max_fee_per_gas: 1,
        authorization_list: vec![authorization.into_signed(signature); 2],
        ..TxEip7702::default()
    };
    needs(delegating.clone().into(), 21_000 + 2 * 25_000);
    let empty = TxEip7702 { authorization_list: Vec::new(), ..delegating };
    let text = refusal(&mut pool, Recovered::impersonated(empty.into(), address(0)), &HEAD, &state);
    assert_eq!(text, "set code tx must have at least one authorization tuple");
}

#[test]
fn contract_cannot_send_unless_impersonated_and_delegated_account_can() {
    let (mut pool, mut state) = (limited(100, 100), rich(2));
    let signed = |sender, nonce| {
        let tx = TxEip1559 { nonce, ..base() };
        let signature = Signature::new(U256::from(9), U256::from(9), false);
        Recovered::new(Transaction::from(tx.into_signed(signature)), address(sender))
    };
    state.set_code(address(0), &[0x60, 0]);
    let text = refusal(&mut pool, signed(0, 0), &HEAD, &state);
    assert!(text.starts_with("sender not an eoa: address 0x"), "{text}");
    assert!(pool.add(transfer(0, 0, 10), &HEAD, &state).unwrap().is_pending());

    let delegation = [&[0xef, 1, 0][..], address(9).as_slice()].concat();
    state.set_code(address(1), &delegation);
    for nonce in 0..16 {
        pool.add(signed(1, nonce), &HEAD, &state).unwrap();
    }
    let text = refusal(&mut pool, signed(1, 16), &HEAD, &state);
    assert!(text.starts_with("in-flight transaction limit reached for delegated accounts"));

    // A patch turns the delegated account into a contract.
    state.set_code(address(1), &[0x60, 0]);
    let moved = pool.on_head([address(1)], Vec::new(), &HEAD, &state).unwrap();
    assert_eq!((moved.dropped.len(), pool.len()), (16, 1));
}

#[test]
fn best_orders_by_effective_tip_then_arrival() {
    let (mut pool, state) = (limited(100, 100), rich(4));
    let bid = |sender, nonce, max_fee_per_gas, max_priority_fee_per_gas| {
        let tx = TxEip1559 { nonce, max_fee_per_gas, max_priority_fee_per_gas, ..base() };
        transaction(sender, tx)
    };
    // At a base fee of 50 the tips are: 5; 50, 1; 5; not minable.
    for tx in [bid(0, 0, 55, 30), bid(1, 0, 100, 60), bid(1, 1, 90, 1), bid(2, 0, 99, 5)] {
        pool.add(tx, &HEAD, &state).unwrap();
    }
    pool.add(bid(3, 0, 49, 49), &HEAD, &state).unwrap();
    pool.add(bid(3, 1, 900, 900), &HEAD, &state).unwrap();
    let expected = [(1, 0), (0, 0), (2, 0), (1, 1)].map(|(s, n)| (address(s), n));
    assert_eq!(drain(&pool, 50), expected);
    assert_eq!(pool.status().pending, 6);

    let mut best = pool.best(50);
    assert_eq!(best.next(&pool).unwrap().sender, address(1));
    best.skip(address(1));
    best.skip(address(2));
    let rest: Vec<_> = std::iter::from_fn(|| best.next(&pool)).map(|tx| tx.sender).collect();
    assert_eq!(rest, [address(0)]);
}

#[test]
fn fifo_ignores_price() {
    let (mut pool, state) = (Pool::new(PoolLimits::default(), Order::Fifo), rich(3));
    for (sender, nonce, fee) in [(0, 1, 99), (1, 0, 1), (0, 0, 5), (2, 0, 50)] {
        pool.add(transfer(sender, nonce, fee), &HEAD, &state).unwrap();
    }
    let expected = [(1, 0), (0, 0), (0, 1), (2, 0)].map(|(s, n)| (address(s), n));
    assert_eq!(drain(&pool, 0), expected);
}

#[test]
fn cursor_passes_over_what_left_and_sees_what_was_replaced() {
    let (mut pool, state) = (limited(100, 100), rich(3));
    let first = pool.add(transfer(0, 0, 30), &HEAD, &state).unwrap();
    pool.add(transfer(1, 0, 20), &HEAD, &state).unwrap();
    pool.add(transfer(2, 0, 10), &HEAD, &state).unwrap();
    let mut best = pool.best(0);
    pool.remove(&first.hash).unwrap();
    pool.add(transfer(2, 0, 90), &HEAD, &state).unwrap();
    assert_eq!(best.next(&pool).unwrap().sender, address(1));
    let replaced = best.next(&pool).unwrap();
    assert_eq!(alloy_consensus::Transaction::max_fee_per_gas(&*replaced.transaction), 90);
    assert!(best.next(&pool).is_none());
}

#[test]
fn head_drops_the_mined_and_demotes_the_overdrawn() {
    let (mut pool, mut state) = (limited(100, 100), rich(2));
    for nonce in 0..5 {
        pool.add(transfer(0, nonce, 10), &HEAD, &state).unwrap();
    }
    // Two mined, and what is left pays for one and a half.
    state.set(address(0), 2, 315_000);
    let moved = pool.on_head([address(0), address(1)], Vec::new(), &HEAD, &state).unwrap();
    assert_eq!(moved.dropped.len(), 2);
    assert_eq!(pool.status(), Status { pending: 1, queued: 2 });
    let text = refusal(&mut pool, transfer(0, 5, 10), &HEAD, &state);
    assert_eq!(
        text,
        "insufficient funds for gas * price + value: balance 315000, queued cost 630000, \
         tx cost 210000, overshot 525000"
    );
    state.set(address(0), 2, 630_000);
    let moved = pool.on_head([address(0)], Vec::new(), &HEAD, &state).unwrap();
    assert_eq!((moved.promoted.len(), pool.status().pending), (2, 3));
    // All of them were overtaken by others.
    state.set(address(0), 9, 0);
    pool.on_head([address(0)], Vec::new(), &HEAD, &state).unwrap();
    assert!(pool.is_empty() && pool.senders.is_empty() && pool.bytes() == 0);
}

#[test]
fn reorganisation_brings_the_abandoned_back_before_those_that_follow() {
    let (mut pool, mut state) = (limited(8, 2), rich(2));
    let all: Vec<_> = (0..8).map(|nonce| transfer(0, nonce, 10)).collect();
    for tx in &all {
        pool.add(tx.clone(), &HEAD, &state).unwrap();
    }
    let before = state.clone();
    state.set(address(0), 3, u64::MAX);
    pool.on_head([address(0)], Vec::new(), &HEAD, &state).unwrap();
    assert_eq!(pool.len(), 5);
    // More wait behind the gap than may be queued, until the abandoned ones fill it.
    let moved = pool.on_head([address(0)], all[..3].to_vec(), &HEAD, &before).unwrap();
    assert_eq!(pool.status(), Status { pending: 8, queued: 0 });
    assert_eq!((moved.promoted.len(), moved.dropped.len()), (8, 0));
    // Without them the queue is cut to its bound.
    pool.on_head([address(0)], Vec::new(), &HEAD, &state).unwrap();
    let moved = pool.on_head([address(0)], Vec::new(), &HEAD, &before).unwrap();
    assert_eq!(pool.status(), Status { pending: 0, queued: 2 });
    assert_eq!(moved.dropped.len(), 3);
    assert_eq!(pool.content_of(&address(0)).queued[1].nonce(), 4);
}

#[test]
fn removal_queues_what_follows() {
    let (mut pool, state) = (limited(10, 10), rich(2));
    let hashes: Vec<_> =
        (0..3).map(|nonce| pool.add(transfer(0, nonce, 10), &HEAD, &state).unwrap().hash).collect();
    pool.add(transfer(1, 0, 10), &HEAD, &state).unwrap();
    assert_eq!(pool.remove(&hashes[1]).unwrap().nonce(), 1);
    assert!(pool.remove(&hashes[1]).is_none());
    assert_eq!(pool.status(), Status { pending: 2, queued: 1 });
    assert!(pool.is_pending(&hashes[0]) && !pool.is_pending(&hashes[2]));
    let content = pool.content_of(&address(0));
    assert_eq!((content.pending.len(), content.queued.len()), (1, 1));
    assert_eq!(pool.remove_sender(&address(0)).len(), 2);
    assert_eq!(pool.senders(), [address(1)]);
    assert_eq!(pool.clear().len(), 1);
    assert_eq!((pool.status(), pool.bytes()), (Status { pending: 0, queued: 0 }, 0));
}

/// DETER-X: a flood of future transactions, at any price.
#[test]
fn future_flood_pushes_out_nothing() {
    let (mut pool, state) = (limited(100, 40), rich(300));
    for sender in 0..80 {
        pool.add(transfer(sender, 0, 1), &HEAD, &state).unwrap();
    }
    for sender in 100..300 {
        let _ = pool.add(transfer(sender, 1 + sender % 7, 1_000_000), &HEAD, &state);
    }
    assert_eq!(pool.status(), Status { pending: 80, queued: 20 });
    let text = refusal(&mut pool, transfer(200, 500, 100_000_000), &HEAD, &state);
    assert_eq!(text, "future transaction tries to replace pending");
    // What can be mined takes the place of what cannot, however little it pays.
    for sender in 80..100 {
        assert!(pool.add(transfer(sender, 0, 1), &HEAD, &state).unwrap().evicted.is_some());
    }
    assert_eq!(pool.status(), Status { pending: 100, queued: 0 });
}

/// DETER-Z: a chain of transactions of which only the first is covered.
#[test]
fn overdrawn_chain_is_refused_at_the_door() {
    let (mut pool, mut state) = (limited(100, 40), rich(100));
    for sender in 0..99 {
        pool.add(transfer(sender, 0, 1), &HEAD, &state).unwrap();
    }
    state.set(address(99), 0, 21_000 * 1_000 + 20_999 * 1_000);
    for nonce in 0..50 {
        let result = pool.add(transfer(99, nonce, 1_000), &HEAD, &state);
        assert_eq!(result.is_ok(), nonce == 0, "{nonce}");
    }
    assert_eq!(pool.status(), Status { pending: 100, queued: 0 });
    assert!((0..99).all(|sender| pool.pending_nonce(&address(sender)) == Some(1)));
}

#[test]
fn full_pool_gives_way_only_at_the_end_of_a_chain_and_for_more() {
    let (mut pool, state) = (limited(4, 4), rich(10));
    // The cheapest of all stands in front of a dear one: neither may leave a gap, and the dear
    // one is worth no more than what stands before it.
    for (sender, nonce, fee) in [(0, 0, 10), (0, 1, 500), (1, 0, 20), (2, 0, 30)] {
        pool.add(transfer(sender, nonce, fee), &HEAD, &state).unwrap();
    }
    let text = refusal(&mut pool, transfer(3, 0, 10), &HEAD, &state);
    assert_eq!(text, "transaction underpriced: the pool is full");
    let tail = pool.by_sender_and_nonce(&address(0), 1).unwrap().hash();
    let added = pool.add(transfer(3, 0, 11), &HEAD, &state).unwrap();
    assert_eq!(added.evicted, Some(tail));
    assert_eq!(pool.status(), Status { pending: 4, queued: 0 });
    // Nobody pushes out what it builds on, even where that is the cheapest.
    let added = pool.add(transfer(0, 1, 900), &HEAD, &state);
    assert!(matches!(added, Err(PoolError::Underpriced)), "{added:?}");
}

#[test]
fn large_newcomer_does_not_cost_many_their_place() {
    let limits = PoolLimits { bytes: 1_000, ..PoolLimits::default() };
    let (mut pool, state) = (Pool::new(limits, Order::Fees), rich(20));
    let mut sender = 0;
    while pool.add(transfer(sender, 0, 1), &HEAD, &state).is_ok() {
        sender += 1;
    }
    let (full, count) = (pool.bytes(), pool.len());
    assert!(full <= 1_000 && count > 8, "{full} {count}");
    let tx =
        TxEip1559 { input: vec![0; 400].into(), gas_limit: 50_000, max_fee_per_gas: 99, ..base() };
    assert_eq!(refusal(&mut pool, transaction(19, tx), &HEAD, &state), "txpool is full");
    assert_eq!(pool.len(), count);
    pool.add(transfer(19, 0, 2), &HEAD, &state).unwrap();
    assert_eq!(pool.len(), count);
}

#[test]
fn account_has_its_own_bound() {
    let limits = PoolLimits { per_sender: 3, ..PoolLimits::default() };
    let (mut pool, state) = (Pool::new(limits, Order::Fees), rich(2));
    for nonce in 0..3 {
        pool.add(transfer(0, nonce, 10), &HEAD, &state).unwrap();
    }
    let text = refusal(&mut pool, transfer(0, 3, 10), &HEAD, &state);
    assert_eq!(text, "account limit exceeded: limit 3");
    pool.add(transfer(0, 2, 20), &HEAD, &state).unwrap();
    pool.add(transfer(1, 0, 10), &HEAD, &state).unwrap();
}

#[test]
fn balance_of_the_greatest_number_does_not_overflow() {
    let (mut pool, mut state) = (limited(10, 10), State::default());
    let account = Account { balance: U256::MAX, ..Account::default() };
    state.accounts.insert(address(0), account);
    let half = TxEip1559 { value: U256::MAX >> 1, ..base() };
    pool.add(transaction(0, half.clone()), &HEAD, &state).unwrap();
    let text = refusal(&mut pool, transaction(0, TxEip1559 { nonce: 1, ..half }), &HEAD, &state);
    assert!(text.starts_with("insufficient funds for gas * price + value: balance"), "{text}");
}
