//! The pool beside a naive one that keeps a flat list and looks at all of it every time.

use super::tests::{CHAIN, HEAD, State, address, transaction};
use super::*;
use alloy_consensus::TxEip1559;
use alloy_primitives::TxKind;
use std::collections::BTreeSet;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[derive(Clone)]
struct Held {
    tx: Recovered,
    entry: Entry,
}

struct Naive {
    limits: PoolLimits,
    held: Vec<Held>,
    arrivals: u64,
}

impl Naive {
    fn at(&self, sender: Address, nonce: u64) -> Option<&Held> {
        self.held.iter().find(|h| h.tx.sender == sender && h.tx.nonce() == nonce)
    }

    fn chain(&self, sender: Address, state: &State) -> Vec<&Held> {
        let account = state.accounts[&sender];
        let (mut nonce, mut left, mut chain) = (account.nonce, account.balance, Vec::new());
        while let Some(held) = self.at(sender, nonce).filter(|h| h.entry.cost <= left) {
            left -= held.entry.cost;
            nonce += 1;
            chain.push(held);
        }
        chain
    }

    fn executable(&self, state: &State) -> BTreeSet<TxHash> {
        let senders: BTreeSet<_> = self.held.iter().map(|h| h.tx.sender).collect();
        let chains = senders.into_iter().flat_map(|s| self.chain(s, state));
        chains.map(|h| h.tx.hash()).collect()
    }

    fn queued(&self, state: &State) -> usize {
        self.held.len() - self.executable(state).len()
    }

    fn price(entry: &Entry, base_fee: u64) -> i128 {
        (entry.fees.tip as i128).min(entry.fees.max_fee as i128 - base_fee as i128)
    }

    /// Whether it is executable, its worth, when it came: of the last one of each sender.
    fn tails(&self, state: &State, base_fee: u64) -> Vec<((bool, i128, i64), TxHash)> {
        let last = self.held.iter().filter(|h| {
            let later = |o: &&Held| o.tx.sender == h.tx.sender && o.tx.nonce() > h.tx.nonce();
            !self.held.iter().any(|o| later(&o))
        });
        let mut tails: Vec<_> = last
            .map(|h| {
                let chain = self.chain(h.tx.sender, state);
                let ready = chain.iter().any(|o| o.tx.hash() == h.tx.hash());
                let worth = if ready {
                    chain.iter().map(|o| Self::price(&o.entry, base_fee)).min().unwrap()
                } else {
                    Self::price(&h.entry, base_fee)
                };
                ((ready, worth, -(h.entry.arrival as i64)), h.tx.hash())
            })
            .collect();
        tails.sort_unstable();
        tails
    }

    fn drop(&mut self, hash: TxHash) -> Held {
        let index = self.held.iter().position(|h| h.tx.hash() == hash).unwrap();
        self.held.remove(index)
    }

    fn bytes(&self) -> usize {
        self.held.iter().map(|h| h.entry.size).sum()
    }

    /// `Ok` with what was evicted, or `Err` if it is refused.
    fn add(&mut self, tx: &Recovered, state: &State, base_fee: u64) -> Result<Option<TxHash>, ()> {
        use alloy_eips::eip2718::Encodable2718;
        let entry = Entry::new(tx.clone(), tx.transaction.encode_2718_len(), self.arrivals);
        let account = state.accounts[&tx.sender];
        let old = self.at(tx.sender, tx.nonce()).cloned();
        let others = self.held.iter().filter(|h| {
            h.tx.sender == tx.sender && old.as_ref().is_none_or(|o| o.tx.hash() != h.tx.hash())
        });
        let (count, spent) =
            others.fold((0, U256::ZERO), |(n, sum), h| (n + 1, sum + h.entry.cost));
        let old_cost = old.as_ref().map_or(U256::ZERO, |o| o.entry.cost);
        let funded = spent + entry.cost <= account.balance || entry.cost <= old_cost;
        let outbid = |new: u128, old: u128| new > old && new >= old + old / 10;
        let replaces = old.as_ref().is_none_or(|o| {
            outbid(entry.fees.max_fee, o.entry.fees.max_fee)
                && outbid(entry.fees.tip, o.entry.fees.tip)
        });
        let known = self.held.iter().any(|h| h.tx.hash() == tx.hash());
        let crowded = old.is_none() && count >= self.limits.per_sender;
        let poor = entry.cost > account.balance || !funded;
        if known || tx.nonce() < account.nonce || poor || !replaces || crowded {
            return Err(());
        }
        let evicted = self.room(&entry, old.as_ref(), state, base_fee)?;
        evicted.map(|hash| self.drop(hash));
        old.map(|old| self.drop(old.tx.hash()));
        self.held.push(Held { tx: tx.clone(), entry });
        self.arrivals += 1;
        Ok(evicted)
    }

    fn room(
        &self,
        entry: &Entry,
        old: Option<&Held>,
        state: &State,
        base_fee: u64,
    ) -> Result<Option<TxHash>, ()> {
        let (tx, slots) = (&entry.recovered, usize::from(old.is_none()));
        let chain = self.chain(tx.sender, state);
        let next = state.accounts[&tx.sender].nonce + chain.len() as u64;
        let ready = if old.is_some() { tx.nonce() < next } else { tx.nonce() == next };
        let bytes = self.bytes() + entry.size - old.map_or(0, |o| o.entry.size);
        let full = self.held.len() + slots > self.limits.total || bytes > self.limits.bytes;
        let queue_full = !ready && self.queued(state) + slots > self.limits.queued;
        if !full && !queue_full {
            return Ok(None);
        }
        let worth = chain.iter().filter(|h| ready && h.tx.nonce() < tx.nonce());
        let worth = worth.map(|h| Self::price(&h.entry, base_fee)).min();
        let worth = worth.unwrap_or(i128::MAX).min(Self::price(entry, base_fee));
        let find = |hash: TxHash| self.held.iter().find(|h| h.tx.hash() == hash).unwrap();
        let mut tails = self.tails(state, base_fee).into_iter();
        let tail = tails.find(|(_, hash)| {
            let held = find(*hash);
            held.tx.sender != tx.sender || held.tx.nonce() > tx.nonce()
        });
        let Some(((tail_ready, tail_worth, _), hash)) = tail else { return Err(()) };
        let gives_way = match (tail_ready, ready) {
            (false, true) => true,
            (true, false) => false,
            _ => worth > tail_worth,
        };
        let fits = bytes - find(hash).entry.size <= self.limits.bytes;
        if (full && !ready) || !gives_way || !fits { Err(()) } else { Ok(Some(hash)) }
    }

    fn on_head(&mut self, abandoned: &[Recovered], state: &State, base_fee: u64) {
        self.held.retain(|h| h.tx.nonce() >= state.accounts[&h.tx.sender].nonce);
        for tx in abandoned {
            let _ = self.add(tx, state, base_fee);
        }
        while self.queued(state) > self.limits.queued {
            self.drop(self.tails(state, base_fee)[0].1);
        }
    }

    fn best(&self, state: &State, base_fee: u64) -> Vec<TxHash> {
        let senders: BTreeSet<_> = self.held.iter().map(|h| h.tx.sender).collect();
        let mut chains: Vec<_> = senders.into_iter().map(|s| self.chain(s, state)).collect();
        let mut best = Vec::new();
        loop {
            let heads = chains.iter_mut().filter(|chain| !chain.is_empty());
            let rank = |h: &Held| (Self::price(&h.entry, base_fee), -(h.entry.arrival as i64));
            let top = heads.max_by_key(|chain| rank(chain[0]));
            match top.filter(|chain| rank(chain[0]).0 >= 0) {
                Some(chain) => best.push(chain.remove(0).tx.hash()),
                // Heads that do not pay the base fee block their chains; the dearest does not.
                None => return best,
            }
        }
    }
}

struct Run {
    random: Random,
    pool: Pool,
    naive: Naive,
    state: State,
    base_fee: u64,
    refused: usize,
    evictions: usize,
}

const SENDERS: u64 = 8;

impl Run {
    fn new(seed: u64) -> Self {
        let limits = PoolLimits {
            total: 24,
            queued: 9,
            per_sender: 7,
            bytes: 24 * 100,
            ..PoolLimits::default()
        };
        let mut state = State::default();
        (0..SENDERS).for_each(|s| state.set(address(s), 0, 20_000_000));
        Self {
            random: Random(seed),
            pool: Pool::new(limits, Order::Fees),
            naive: Naive { limits, held: Vec::new(), arrivals: 0 },
            state,
            base_fee: 0,
            refused: 0,
            evictions: 0,
        }
    }

    fn head(&self) -> HeadInfo {
        HeadInfo { base_fee: self.base_fee, ..HEAD }
    }

    fn add(&mut self) {
        let random = &mut self.random;
        let sender = random.below(SENDERS);
        let nonce = self.state.accounts[&address(sender)].nonce + random.below(6);
        let max_fee_per_gas = 1 + u128::from(random.below(60));
        let tx = TxEip1559 {
            chain_id: CHAIN,
            nonce: nonce.saturating_sub(random.below(2)),
            gas_limit: 25_000,
            max_fee_per_gas,
            max_priority_fee_per_gas: 1 + u128::from(random.below(max_fee_per_gas as u64)),
            to: TxKind::Call(Address::ZERO),
            value: U256::from(random.below(5) * random.below(3_000_000)),
            input: vec![0; random.below(90) as usize].into(),
            ..TxEip1559::default()
        };
        let tx = transaction(sender, tx);
        let before = self.naive.executable(&self.state);
        let expected = self.naive.add(&tx, &self.state, self.base_fee);
        let result = self.pool.add(tx.clone(), &self.head(), &self.state);
        let after = self.naive.executable(&self.state);
        match (expected, result) {
            (Ok(evicted), Ok(added)) => {
                assert_eq!(evicted, added.evicted);
                self.evictions += usize::from(evicted.is_some());
                let gone: Vec<_> = before.difference(&after).copied().collect();
                let allowed: Vec<_> = evicted.into_iter().chain(added.replaced).collect();
                assert!(gone.iter().all(|hash| allowed.contains(hash)), "a valid one was lost");
                assert!(gone.is_empty() || added.is_pending(), "a future one pushed out another");
                let risen: BTreeSet<_> = after.difference(&before).copied().collect();
                assert_eq!(risen, added.promoted.iter().copied().collect());
            }
            (Err(()), Err(_)) => self.refused += 1,
            (expected, result) => panic!("naive {expected:?}, pool {result:?} for {tx:?}"),
        }
    }

    /// Mines some of the best, or anything else that moves accounts; half of the time the
    /// chain then goes back and leaves what was mined.
    fn head_moves(&mut self) {
        let before = self.state.clone();
        let (mut best, mut mined) = (self.pool.best(self.base_fee), Vec::new());
        for _ in 0..self.random.below(6) {
            mined.extend(best.next(&self.pool));
        }
        for tx in &mined {
            let cost = Entry::new(tx.clone(), 0, 0).cost;
            let account = self.state.accounts.get_mut(&tx.sender).unwrap();
            assert_eq!(account.nonce, tx.nonce());
            account.nonce += 1;
            account.balance -= cost;
        }
        let lucky = address(self.random.below(SENDERS));
        let account = self.state.accounts.get_mut(&lucky).unwrap();
        account.balance = U256::from(self.random.below(12) * 2_000_000);
        self.follow(Vec::new());
        if self.random.below(2) == 0 {
            self.state = before;
            if self.random.below(4) == 0 {
                mined.clear();
            }
            self.follow(mined);
        }
    }

    fn follow(&mut self, abandoned: Vec<Recovered>) {
        self.base_fee = self.random.below(25);
        self.naive.on_head(&abandoned, &self.state, self.base_fee);
        let (touched, head) = ((0..SENDERS).map(address), self.head());
        self.pool.on_head(touched, abandoned, &head, &self.state).unwrap();
        assert!(self.pool.status().queued <= self.naive.limits.queued);
    }

    fn remove(&mut self) {
        if let Some(held) = self.naive.held.first().cloned() {
            self.naive.drop(held.tx.hash());
            assert_eq!(self.pool.remove(&held.tx.hash()).unwrap().hash(), held.tx.hash());
        }
    }

    fn compare(&self) {
        let limits = &self.naive.limits;
        let hashes: BTreeSet<_> = self.naive.held.iter().map(|h| h.tx.hash()).collect();
        assert_eq!(hashes, self.pool.by_hash.keys().copied().collect());
        let executable = self.naive.executable(&self.state);
        assert_eq!(executable, self.pool.pending().map(Recovered::hash).collect());
        assert_eq!(self.pool.status().pending, executable.len());
        assert_eq!(self.pool.bytes(), self.naive.bytes());
        assert!(self.pool.len() <= limits.total && self.pool.bytes() <= limits.bytes);
        let entries = self.pool.senders.values().map(|s| s.entries.len());
        assert_eq!(entries.sum::<usize>(), self.pool.len());
        assert!(self.pool.senders.values().all(|s| !s.entries.is_empty()));
        let mut best = self.pool.best(self.base_fee);
        let best: Vec<_> = std::iter::from_fn(|| best.next(&self.pool)).map(|t| t.hash()).collect();
        assert_eq!(best, self.naive.best(&self.state, self.base_fee));
        assert_eq!(self.pool.has_executable(self.base_fee), !best.is_empty());
    }
}

#[test]
fn pool_does_what_the_naive_one_does() {
    let (mut refused, mut evictions) = (0, 0);
    for seed in 0..60 {
        let mut run = Run::new(seed);
        for _ in 0..400 {
            match run.random.below(20) {
                0 => run.head_moves(),
                1 => run.remove(),
                _ => run.add(),
            }
            run.compare();
        }
        (refused, evictions) = (refused + run.refused, evictions + run.evictions);
    }
    // The seeds reach the interesting cases.
    assert!(refused > 5_000 && evictions > 1_000, "{refused} refused, {evictions} evicted");
}
