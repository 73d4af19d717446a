//! The transaction pool: what waits to be mined, by sender and nonce.
//!
//! A passive structure: no thread, no clock, no lock. The host recovers signatures on its workers
//! ([`recover`]), offers transactions ([`Pool::add`]), draws blocks from [`Pool::best`], and after
//! every change of the head tells which accounts moved ([`Pool::on_head`]). The pool remembers the
//! accounts of its senders between heads, so every touched address must be told.
//!
//! Executable ("pending") are the transactions of a sender that follow its nonce without a gap
//! and together cost no more than its balance; all others are queued. However full it is, a
//! queued transaction never pushes out an executable one, an admission never makes an executable
//! one of any sender queued, and an executable one leaves only for one that pays strictly more.

mod best;
mod error;
#[cfg(test)]
mod model;
mod recovered;
mod room;
mod rules;
mod sender;

pub use best::Best;
pub use error::PoolError;
pub use recovered::{Recovered, impersonated_sender, recover};

use alloy_primitives::map::{AddressMap, B256Map};
use alloy_primitives::{Address, TxHash, U256};
use landfall_types::{Fork, StateError, StateReader};
use room::{Tail, Tails};
use sender::{Code, Entry, Sender, SenderAccount};

/// The bounds of the pool.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Transactions in all.
    pub total: usize,
    /// Transactions in all that are not executable.
    pub queued: usize,
    /// Transactions of one account.
    pub per_sender: usize,
    /// Transactions of one account that has a delegation (EIP-7702): others than its owner can
    /// empty it, and so make all of them fail at once.
    pub per_delegated_sender: usize,
    /// Bytes of all encoded transactions.
    pub bytes: usize,
    /// Bytes of one encoded transaction.
    pub transaction_bytes: usize,
    /// How much more a replacement must bid, in both fees.
    pub price_bump_percent: u8,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            total: 262_144,
            queued: 65_536,
            per_sender: 16_384,
            per_delegated_sender: 16,
            bytes: 256 << 20,
            transaction_bytes: 128 << 10,
            price_bump_percent: 10,
        }
    }
}

/// The order of transactions in a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The highest effective tip first; equal ones in order of arrival.
    #[default]
    Fees,
    /// In order of arrival.
    Fifo,
}

/// The rules of the block after the head.
#[derive(Clone, Copy, Debug)]
pub struct HeadInfo {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The newest fork that holds.
    pub fork: Fork,
    /// Gas of a whole block.
    pub gas_limit: u64,
    /// Base fee per gas.
    pub base_fee: u64,
}

/// What taking a transaction did.
#[derive(Clone, Debug)]
pub struct Added {
    /// The hash of the transaction.
    pub hash: TxHash,
    /// The one of the same sender and nonce that it replaced.
    pub replaced: Option<TxHash>,
    /// The one that made room for it.
    pub evicted: Option<TxHash>,
    /// What became executable, in order of nonce: the transaction itself, and those that waited
    /// for it. Empty if it is queued.
    pub promoted: Vec<TxHash>,
}

impl Added {
    /// Whether the transaction is executable.
    pub fn is_pending(&self) -> bool {
        self.promoted.contains(&self.hash)
    }
}

/// What a new head did to the pool.
#[derive(Clone, Debug, Default)]
pub struct Moved {
    /// What became executable.
    pub promoted: Vec<TxHash>,
    /// What left: mined, overtaken by a transaction of the same nonce, or without room.
    pub dropped: Vec<TxHash>,
}

/// How many transactions are in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Executable ones.
    pub pending: usize,
    /// All others.
    pub queued: usize,
}

/// The transactions of one sender, in order of nonce.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Executable ones.
    pub pending: Vec<Recovered>,
    /// All others.
    pub queued: Vec<Recovered>,
}

/// The pool.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    order: Order,
    senders: AddressMap<Sender>,
    by_hash: B256Map<(Address, u64)>,
    executable: usize,
    bytes: usize,
    arrivals: u64,
    /// Kept only while the pool is full.
    tails: Option<Tails>,
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits, order: Order) -> Self {
        Self {
            limits,
            order,
            senders: AddressMap::default(),
            by_hash: B256Map::default(),
            executable: 0,
            bytes: 0,
            arrivals: 0,
            tails: None,
        }
    }

    /// Takes a transaction, or says why not. `state` is that of the head; it is read for senders
    /// that have nothing in the pool yet.
    pub fn add(
        &mut self,
        tx: Recovered,
        head: &HeadInfo,
        state: &dyn StateReader,
    ) -> Result<Added, PoolError> {
        let (hash, address) = (tx.hash(), tx.sender);
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        let size = rules::check(&tx, head, &self.limits)?;
        let entry = Entry::new(tx, size, self.arrivals);
        let fresh;
        let sender = match self.senders.get(&address) {
            Some(sender) => sender,
            None => {
                fresh = Sender::new(SenderAccount::read(state, &address)?);
                &fresh
            }
        };
        let account = sender.account;
        admit(sender, &entry, &self.limits)?;
        let evicted = self.make_room(sender.place(&entry), &entry, head.base_fee)?;
        let evicted = evicted.map(|tail| self.evict(tail));

        self.arrivals += 1;
        self.bytes += size;
        self.by_hash.insert(hash, (address, entry.recovered.nonce()));
        let sender = self.senders.entry(address).or_insert_with(|| Sender::new(account));
        let before = sender.ready();
        let nonce = entry.recovered.nonce();
        let old = sender.insert(entry);
        let promoted = sender.settle();
        let mut promoted: Vec<_> =
            sender.entries.range(promoted).map(|(_, entry)| entry.recovered.hash()).collect();
        if old.is_some() && sender.executable(nonce).is_some() && !promoted.contains(&hash) {
            promoted.push(hash);
        }
        self.executable = self.executable - before + sender.ready();
        if let Some(tails) = &mut self.tails {
            tails.note(address, sender);
        }
        let replaced = old.map(|old| {
            let hash = old.recovered.hash();
            self.by_hash.remove(&hash);
            self.bytes -= old.size;
            hash
        });
        Ok(Added { hash, replaced, evicted, promoted })
    }

    /// Who has to go for this entry: nobody while there is room.
    fn make_room(
        &mut self,
        place: Place,
        entry: &Entry,
        base_fee: u64,
    ) -> Result<Option<Tail>, PoolError> {
        let slots = usize::from(place.replaced_size.is_none());
        let bytes = self.bytes + entry.size - place.replaced_size.unwrap_or(0);
        let full = self.len() + slots > self.limits.total || bytes > self.limits.bytes;
        let queue_full = !place.executable && self.queued() + slots > self.limits.queued;
        if !full && !queue_full {
            return Ok(None);
        }
        if full && !place.executable {
            return Err(PoolError::FutureReplacesPending);
        }
        let (address, nonce) = (entry.recovered.sender, entry.recovered.nonce());
        let worn = |t: &Tails| t.base_fee != base_fee || t.is_worn(self.senders.len());
        if self.tails.as_ref().is_none_or(worn) {
            self.tails = Some(Tails::new(&mut self.senders, base_fee));
        }
        let tails = self.tails.as_mut().expect("made above");
        // Nobody loses what the newcomer itself builds on.
        let may = |tail: &Tail| tail.sender != address || tail.nonce > nonce;
        let Some(tail) = tails.first(&self.senders, may) else {
            return Err(PoolError::Full);
        };
        // A proposer has to take what stands before it too.
        let before = self.senders.get(&address).and_then(|s| s.floor_before(nonce));
        let before = before.filter(|_| place.executable).map(|fees| fees.effective(base_fee));
        let price = entry.fees.effective(base_fee).min(before.unwrap_or(i128::MAX));
        let pays_more = price > tail.price;
        if tail.executable && !place.executable {
            return Err(PoolError::Full);
        }
        if tail.executable == place.executable && !pays_more {
            return Err(PoolError::Underpriced);
        }
        // One in, one out: a large newcomer does not cost many small ones their place.
        let freed = self.senders[&tail.sender].entries[&tail.nonce].size;
        if bytes - freed > self.limits.bytes {
            return Err(PoolError::Full);
        }
        Ok(Some(tail))
    }

    fn evict(&mut self, tail: Tail) -> TxHash {
        let entry = self.take(&tail.sender, tail.nonce).expect("the tail was looked up just now");
        if let (Some(tails), Some(sender)) = (&mut self.tails, self.senders.get(&tail.sender)) {
            tails.note(tail.sender, sender);
        }
        entry.recovered.hash()
    }

    /// Takes one entry out of everything but the tails.
    fn take(&mut self, address: &Address, nonce: u64) -> Option<Entry> {
        let sender = self.senders.get_mut(address)?;
        let before = sender.ready();
        let entry = sender.remove(nonce)?;
        self.executable = self.executable - before + sender.ready();
        if sender.entries.is_empty() {
            self.senders.remove(address);
        }
        self.by_hash.remove(&entry.recovered.hash());
        self.bytes -= entry.size;
        Some(entry)
    }

    /// Follows the chain to a new head, or to a patched state of the same one.
    ///
    /// `touched` holds every address whose account changed between the two: of all blocks left
    /// and all blocks entered. `abandoned` are the transactions of the blocks that were left, in
    /// order; those that can still be mined come back. The work grows with `touched`, not with
    /// the pool.
    pub fn on_head(
        &mut self,
        touched: impl IntoIterator<Item = Address>,
        abandoned: Vec<Recovered>,
        head: &HeadInfo,
        state: &dyn StateReader,
    ) -> Result<Moved, StateError> {
        self.tails = None;
        let mut moved = Moved::default();
        for address in touched {
            self.follow(&address, state, &mut moved)?;
        }
        for tx in abandoned {
            match self.add(tx, head, state) {
                Ok(added) => {
                    moved.promoted.extend(added.promoted);
                    moved.dropped.extend(added.replaced.into_iter().chain(added.evicted));
                }
                Err(PoolError::State(error)) => return Err(error),
                // Mined on the new branch too, or no longer possible on it.
                Err(_) => {}
            }
        }
        while self.queued() > self.limits.queued {
            let senders = &mut self.senders;
            let tails = self.tails.get_or_insert_with(|| Tails::new(senders, head.base_fee));
            let tail = tails.first(&self.senders, |_| true);
            let tail = tail.expect("what is queued stands at the end of some sender's chain");
            moved.dropped.push(self.evict(tail));
        }
        Ok(moved)
    }

    fn follow(
        &mut self,
        address: &Address,
        state: &dyn StateReader,
        moved: &mut Moved,
    ) -> Result<(), StateError> {
        let Some(sender) = self.senders.get_mut(address) else { return Ok(()) };
        let account = SenderAccount::read(state, address)?;
        let before = sender.ready();
        let mut gone = sender.follow(account);
        if account.code == Code::Contract {
            let unable = |entry: &&Entry| !entry.recovered.impersonated;
            let nonces: Vec<_> =
                sender.entries.values().filter(unable).map(|e| e.recovered.nonce()).collect();
            gone.extend(nonces.into_iter().filter_map(|nonce| sender.remove(nonce)));
        }
        let promoted = sender.settle();
        moved.promoted.extend(sender.entries.range(promoted).map(|(_, e)| e.recovered.hash()));
        self.executable = self.executable - before + sender.ready();
        if sender.entries.is_empty() {
            self.senders.remove(address);
        }
        for entry in gone {
            self.bytes -= entry.size;
            let hash = entry.recovered.hash();
            self.by_hash.remove(&hash);
            moved.dropped.push(hash);
        }
        Ok(())
    }

    /// Whether an executable transaction pays this base fee: without putting them in an order, as
    /// this is asked whenever something comes.
    pub fn has_executable(&self, base_fee: u64) -> bool {
        let pays = |sender: &Sender| {
            let first = sender.executable(sender.account.nonce);
            first.is_some_and(|entry| entry.fees.effective(base_fee) >= 0)
        };
        self.senders.values().any(pays)
    }

    /// A cursor over the executable transactions that pay this base fee, in the pool's order.
    pub fn best(&self, base_fee: u64) -> Best {
        Best::new(self, self.order, base_fee)
    }

    /// A transaction by its hash.
    pub fn get(&self, hash: &TxHash) -> Option<Recovered> {
        let (address, nonce) = self.by_hash.get(hash)?;
        self.by_sender_and_nonce(address, *nonce)
    }

    /// Whether a transaction is in the pool.
    pub fn contains(&self, hash: &TxHash) -> bool {
        self.by_hash.contains_key(hash)
    }

    /// Whether a transaction is in the pool and executable.
    pub fn is_pending(&self, hash: &TxHash) -> bool {
        let place = self.by_hash.get(hash);
        place.is_some_and(|(address, nonce)| self.senders[address].executable(*nonce).is_some())
    }

    /// A transaction by its sender and nonce.
    pub fn by_sender_and_nonce(&self, sender: &Address, nonce: u64) -> Option<Recovered> {
        Some(self.senders.get(sender)?.entries.get(&nonce)?.recovered.clone())
    }

    /// Takes out a transaction; those of its sender that follow it are queued then.
    pub fn remove(&mut self, hash: &TxHash) -> Option<Recovered> {
        let (address, nonce) = *self.by_hash.get(hash)?;
        self.tails = None;
        self.take(&address, nonce).map(|entry| entry.recovered)
    }

    /// Takes out all transactions of a sender.
    pub fn remove_sender(&mut self, address: &Address) -> Vec<TxHash> {
        self.tails = None;
        let Some(sender) = self.senders.remove(address) else { return Vec::new() };
        self.executable -= sender.ready();
        let forget = |entry: Entry| {
            self.bytes -= entry.size;
            let hash = entry.recovered.hash();
            self.by_hash.remove(&hash);
            hash
        };
        sender.entries.into_values().map(forget).collect()
    }

    /// Takes out everything.
    pub fn clear(&mut self) -> Vec<TxHash> {
        let hashes = self.by_hash.keys().copied().collect();
        *self = Self { arrivals: self.arrivals, ..Self::new(self.limits, self.order) };
        hashes
    }

    /// How many transactions are executable, and how many are not.
    pub fn status(&self) -> Status {
        Status { pending: self.executable, queued: self.queued() }
    }

    fn queued(&self) -> usize {
        self.len() - self.executable
    }

    /// How many transactions there are.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is no transaction.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// The bytes of all encoded transactions.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The nonce after the executable transactions of a sender; `None` if it has none here, and
    /// so the nonce of its account is meant.
    pub fn pending_nonce(&self, sender: &Address) -> Option<u64> {
        let sender = self.senders.get(sender)?;
        (sender.ready() > 0).then_some(sender.ready_end)
    }

    /// Everybody who has something in the pool, in order of addresses.
    pub fn senders(&self) -> Vec<Address> {
        let mut senders: Vec<_> = self.senders.keys().copied().collect();
        senders.sort_unstable();
        senders
    }

    /// The transactions of one sender.
    pub fn content_of(&self, sender: &Address) -> Content {
        let Some(sender) = self.senders.get(sender) else { return Content::default() };
        let list = |nonces: std::ops::Range<u64>| {
            sender.entries.range(nonces).map(|(_, entry)| entry.recovered.clone()).collect()
        };
        Content { pending: list(0..sender.ready_end), queued: list(sender.ready_end..u64::MAX) }
    }

    /// All executable transactions; in order of nonce within a sender.
    pub fn pending(&self) -> impl Iterator<Item = &Recovered> {
        self.senders
            .values()
            .flat_map(|sender| sender.entries.range(..sender.ready_end))
            .map(|(_, entry)| &entry.recovered)
    }
}

/// Where an entry would stand.
#[derive(Clone, Copy, Debug)]
struct Place {
    executable: bool,
    /// The bytes of the one that it would replace.
    replaced_size: Option<usize>,
}

impl Sender {
    fn place(&self, entry: &Entry) -> Place {
        let nonce = entry.recovered.nonce();
        let replaced = self.entries.get(&nonce);
        let executable = nonce < self.ready_end + u64::from(replaced.is_none());
        Place { executable, replaced_size: replaced.map(|old| old.size) }
    }
}

/// The checks that need the sender's account and its other transactions.
fn admit(sender: &Sender, entry: &Entry, limits: &PoolLimits) -> Result<(), PoolError> {
    let (account, tx) = (&sender.account, &entry.recovered);
    if account.code == Code::Contract && !tx.impersonated {
        return Err(PoolError::SenderNotEoa(tx.sender));
    }
    let nonce = tx.nonce();
    if nonce < account.nonce {
        return Err(PoolError::NonceTooLow { next: account.nonce, nonce });
    }
    let (balance, cost) = (account.balance, entry.cost);
    // The cost is capped where it does not fit, and then no balance covers it.
    if cost > balance || cost == U256::MAX {
        return Err(PoolError::Funds { address: tx.sender, balance, cost });
    }
    let old = sender.entries.get(&nonce);
    if let Some(old) = old {
        if !entry.fees.outbids(old.fees, limits.price_bump_percent) {
            return Err(PoolError::ReplacementUnderpriced);
        }
    } else if sender.entries.len() >= limits.per_sender {
        return Err(PoolError::AccountLimit { limit: limits.per_sender });
    } else if account.code == Code::Delegation
        && sender.entries.len() >= limits.per_delegated_sender
    {
        return Err(PoolError::DelegatedLimit { limit: limits.per_delegated_sender });
    }
    let old_cost = old.map_or(U256::ZERO, |old| old.cost);
    let queued = sender.cost - old_cost;
    let after = queued.checked_add(cost);
    if after.is_none_or(|after| after > balance) && cost > old_cost {
        return Err(PoolError::CumulativeFunds { balance, queued, cost });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
