//! Clients that send: each has an account, a node that it prefers, and transactions on their way.
//!
//! A client remembers what it sent until that is final. It sends it again, to another node, when
//! nothing moves or its own does not answer: so a transaction that a crash took from all pools comes
//! back, and one that only a node has which nobody hears. The other node is drawn: clients that all
//! went to the next one would end up at one node, and when that is cut off the others have no work.

use super::client::Client;
use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, U256, hex};
use landfall_chain::store::SplitMix;
use landfall_wallet::{DerivationPath, Keyring, Mnemonic};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Accounts that send: those that every network funds.
pub const SENDERS: u32 = 10;
/// Transactions of one client that are not final yet.
const WINDOW: usize = 256;
/// Transactions in one request.
const BATCH: usize = 10;
/// When nothing became final for so long, everything is sent again.
const AGAIN: Duration = Duration::from_secs(2);

/// The keys of the accounts that send.
pub fn senders() -> Keyring {
    let phrase = "test test test test test test test test test test test junk";
    let phrase = Mnemonic::parse(phrase).expect("the phrase is well known");
    Keyring::from_mnemonic(&phrase, &DerivationPath::default(), SENDERS).expect("its keys exist")
}

/// What all clients share.
struct Shared {
    stopped: AtomicBool,
    paused: AtomicBool,
    /// Transactions that are not final yet, by client.
    waiting: Vec<AtomicUsize>,
}

/// Running clients; stopped when dropped.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts a client for each account, each with another preferred node. A client sends a request
    /// every `pause` at most.
    pub fn start(nodes: &[Client], chain_id: u64, pause: Duration, seed: u64) -> Self {
        let keyring = senders();
        let waiting = (0..SENDERS).map(|_| AtomicUsize::new(0)).collect();
        let (stopped, paused) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { stopped, paused, waiting });
        let start = |account: usize| {
            let mut sender = Sender {
                account,
                keyring: keyring.clone(),
                chain_id,
                nodes: nodes.to_vec(),
                preferred: account % nodes.len(),
                random: SplitMix(seed ^ account as u64),
                window: VecDeque::new(),
                first: 0,
                moved: Instant::now(),
            };
            let shared = shared.clone();
            std::thread::spawn(move || sender.run(&shared, pause))
        };
        let threads = (0..SENDERS as usize).map(start).collect();
        Self { shared, threads }
    }

    /// No new transactions until [`Load::resume`].
    pub fn pause(&self) {
        self.shared.paused.store(true, Ordering::Relaxed);
    }

    /// Goes on.
    pub fn resume(&self) {
        self.shared.paused.store(false, Ordering::Relaxed);
    }

    /// Transactions that were sent and are not final yet.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.iter().map(|it| it.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client panicked");
        }
    }
}

struct Sent {
    hash: B256,
    raw: String,
}

struct Sender {
    account: usize,
    keyring: Keyring,
    chain_id: u64,
    nodes: Vec<Client>,
    preferred: usize,
    random: SplitMix,
    /// Sent and not final yet, by nonce.
    window: VecDeque<Sent>,
    /// The nonce of the first in the window.
    first: u64,
    /// When something became final last.
    moved: Instant,
}

impl Sender {
    fn run(&mut self, shared: &Shared, pause: Duration) {
        while !shared.stopped.load(Ordering::Relaxed) {
            let answered = self.look().and_then(|()| {
                if self.moved.elapsed() > AGAIN && !self.window.is_empty() {
                    self.moved = Instant::now();
                    self.turn_away();
                    return self.send(0);
                }
                let quiet = shared.paused.load(Ordering::Relaxed);
                if quiet || self.window.len() + BATCH > WINDOW {
                    return Some(());
                }
                let from = self.window.len();
                (0..BATCH).for_each(|_| self.sign_next());
                self.send(from)
            });
            if answered.is_none() {
                self.turn_away();
            }
            shared.waiting[self.account].store(self.window.len(), Ordering::Relaxed);
            std::thread::sleep(pause);
        }
    }

    /// Prefers another node from now on.
    fn turn_away(&mut self) {
        let others = self.nodes.len() as u64 - 1;
        let step = 1 + self.random.below(others) as usize;
        self.preferred = (self.preferred + step) % self.nodes.len();
    }

    fn node(&self) -> &Client {
        &self.nodes[self.preferred]
    }

    /// Forgets what has become final, and asks another node for one of their receipts.
    fn look(&mut self) -> Option<()> {
        let address = self.keyring.signers()[self.account].address();
        let nonce = self.node().final_nonce(self.account, &address)?;
        let count = usize::try_from(nonce.saturating_sub(self.first)).expect("a small number");
        if self.window.is_empty() {
            // At the start too: the account may have sent before.
            self.first = self.first.max(nonce);
            self.moved = Instant::now();
            return Some(());
        }
        let gone: Vec<Sent> = self.window.drain(..count.min(self.window.len())).collect();
        self.first += gone.len() as u64;
        if let Some(last) = gone.last() {
            self.moved = Instant::now();
            let other = self.random.below(self.nodes.len() as u64) as usize;
            // A node that is down or behind has none: that is the checker's to judge.
            let _ = self.nodes[other].receipts(&[last.hash]);
        }
        Some(())
    }

    /// A transfer to another of the accounts, with the next nonce.
    fn sign_next(&mut self) {
        let signers = self.keyring.signers();
        let to: Address = signers[self.random.below(SENDERS.into()) as usize].address();
        let transaction = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.first + self.window.len() as u64,
            gas_limit: 21_000,
            to: to.into(),
            value: U256::from(self.random.below(1_000_000)),
            ..TxEip1559::default()
        };
        let secret = B256::from(*signers[self.account].secret());
        let signature = sign_message(secret, transaction.signature_hash()).expect("a valid key");
        let signed = transaction.into_signed(signature);
        let hash = *signed.hash();
        self.window.push_back(Sent { hash, raw: hex::encode_prefixed(signed.encoded_2718()) });
    }

    /// Sends the window from an index on. That a node knows a transaction already is no matter.
    fn send(&self, from: usize) -> Option<()> {
        let all: Vec<&Sent> = self.window.iter().skip(from).collect();
        for part in all.chunks(super::client::BATCH) {
            let ask = |sent: &&Sent| ("eth_sendRawTransaction", json!([sent.raw]));
            let calls: Vec<_> = part.iter().map(ask).collect();
            self.node().answers(&calls)?;
        }
        Some(())
    }
}
