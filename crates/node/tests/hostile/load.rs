//! A steady load of transfers, and what an honest node makes of it: how much is final when, and how
//! long each transfer took.

use crate::arena::{Arena, HONEST, Validator};
use crate::node::{post, quantity};
use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, U256, hex};
use landfall_types::Transaction;
use landfall_wallet::{DerivationPath, Keyring, Mnemonic};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Accounts that send the load; the two after them are the attackers'.
const SENDERS: usize = 8;
/// Transfers in a request, and the time from one to the next.
const BATCH: u64 = 10;
const EVERY: Duration = Duration::from_micros(33_333);
/// Transfers a second.
pub const OFFERED: f64 = 300.0;
/// Between two looks at what is final.
const LOOK: Duration = Duration::from_millis(25);
/// An account of which nothing became final for so long sends again, and not sooner after that: on a
/// slow machine more would make it slower.
const AGAIN: Duration = Duration::from_secs(4);
/// Transfers of one account on their way, at most.
const WINDOW: usize = 4_096;

/// The accounts that every network of `landfall up` funds.
pub fn accounts() -> Keyring {
    let phrase = "test test test test test test test test test test test junk";
    let phrase = Mnemonic::parse(phrase).expect("the phrase is well known");
    Keyring::from_mnemonic(&phrase, &DerivationPath::default(), 10).expect("its keys exist")
}

/// A signed transfer of one wei with this tip, of `input` bytes of data.
pub fn transfer(
    secret: &[u8; 32],
    chain_id: u64,
    nonce: u64,
    tip: u128,
    input: usize,
) -> Transaction {
    let transaction = TxEip1559 {
        chain_id,
        nonce,
        gas_limit: 21_000 + 64 * input as u64,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: tip,
        to: Address::repeat_byte(0x42).into(),
        value: U256::ONE,
        input: vec![7; input].into(),
        ..TxEip1559::default()
    };
    let signature = sign_message(B256::from(*secret), transaction.signature_hash());
    transaction.into_signed(signature.expect("a valid key")).into()
}

/// A batch on its way.
struct Sent {
    /// The nonce after its last transfer.
    end: u64,
    at: Instant,
    raw: Vec<String>,
}

#[derive(Default)]
struct Record {
    waiting: Vec<VecDeque<Sent>>,
    /// Final transfers in all, at moments.
    totals: Vec<(Instant, u64)>,
    /// When a batch was sent, and how long it took.
    latencies: Vec<(Instant, Duration)>,
    /// Resident memory of each node in KiB, at moments.
    resident: Vec<(Instant, [u64; HONEST])>,
}

/// The running load; stopped when dropped.
pub struct Load {
    record: Arc<Mutex<Record>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What happened between two moments.
pub struct Window {
    /// Final transfers per second.
    pub pace: f64,
    /// The median time to finality of what was sent, in milliseconds.
    pub latency_ms: f64,
    /// The most memory of each node, in KiB.
    pub resident_max: [u64; HONEST],
}

impl Load {
    /// Starts it.
    pub fn start(arena: &Arena) -> Self {
        let record = Arc::new(Mutex::new(Record::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let rpc: Vec<String> = arena.nodes.iter().map(|node| node.rpc.clone()).collect();
        let pids: Vec<u32> = arena.nodes.iter().map(Validator::pid).collect();
        let keyring = accounts();
        let addresses: Vec<Address> = keyring.addresses().take(SENDERS).collect();
        record.lock().expect("new").waiting = (0..SENDERS).map(|_| VecDeque::new()).collect();
        let sender = {
            let (record, stopped, rpc) = (record.clone(), stopped.clone(), rpc.clone());
            let chain_id = arena.spec.chain_id;
            std::thread::spawn(move || send(&record, &stopped, &rpc, &keyring, chain_id))
        };
        let watcher = {
            let (record, stopped) = (record.clone(), stopped.clone());
            std::thread::spawn(move || watch(&record, &stopped, &rpc, &addresses, &pids))
        };
        Self { record, stopped, threads: vec![sender, watcher] }
    }

    /// Final transfers in all.
    pub fn transfers(&self) -> u64 {
        let record = self.record.lock().expect("the load does not panic");
        record.totals.last().map_or(0, |(_, total)| *total)
    }

    /// What happened between two moments. What is not final yet counts with the time so far.
    pub fn window(&self, from: Instant, to: Instant) -> Window {
        let record = self.record.lock().expect("the load does not panic");
        let at = |moment: Instant| {
            let seen = record.totals.iter().take_while(|(at, _)| *at <= moment).last();
            seen.map_or(0, |(_, total)| *total)
        };
        let inside = |at: &Instant| (from..to).contains(at);
        let done = record.latencies.iter().filter(|(at, _)| inside(at)).map(|(_, took)| *took);
        let open = record.waiting.iter().flatten().filter(|sent| inside(&sent.at));
        let mut took: Vec<Duration> = done.chain(open.map(|sent| sent.at.elapsed())).collect();
        took.sort_unstable();
        let median = took.get(took.len() / 2).copied().unwrap_or_default();
        let mut resident_max = [0; HONEST];
        for (_, seen) in record.resident.iter().filter(|(at, _)| inside(at)) {
            for (most, now) in resident_max.iter_mut().zip(seen) {
                *most = (*most).max(*now);
            }
        }
        let seconds = to.duration_since(from).as_secs_f64();
        Window {
            pace: (at(to) - at(from)) as f64 / seconds,
            latency_ms: median.as_secs_f64() * 1_000.0,
            resident_max,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the load panicked");
        }
    }
}

fn submit(rpc: &str, raw: &[String]) {
    let call = |(id, raw): (usize, &String)| json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw]});
    let calls: Vec<Value> = raw.iter().enumerate().map(call).collect();
    // What does not arrive is sent again when it does not become final.
    let _ = post(rpc, &Value::Array(calls));
}

fn send(
    record: &Mutex<Record>,
    stopped: &AtomicBool,
    rpc: &[String],
    keyring: &Keyring,
    chain_id: u64,
) {
    let mut nonces = [0_u64; SENDERS];
    let begun = Instant::now();
    let mut repeated = [begun; SENDERS];
    for (turn, account) in (0_u32..).zip((0..SENDERS).cycle()) {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep((begun + EVERY * turn).saturating_duration_since(Instant::now()));
        let node = &rpc[account % rpc.len()];
        let late = {
            let mut record = record.lock().expect("the load does not panic");
            let waiting = &mut record.waiting[account];
            assert!(waiting.len() * BATCH as usize <= WINDOW, "nothing becomes final any more");
            let late = repeated[account].elapsed() > AGAIN
                && waiting.front().is_some_and(|first| first.at.elapsed() > AGAIN);
            if late {
                repeated[account] = Instant::now();
            }
            late.then(|| waiting.iter().take(20).flat_map(|sent| sent.raw.clone()).collect())
        };
        late.iter().for_each(|raw: &Vec<String>| submit(node, raw));
        let secret = keyring.signers()[account].secret();
        let sign = |nonce| {
            let transaction = transfer(secret, chain_id, nonce, 1_000_000_000, 0);
            hex::encode_prefixed(transaction.encoded_2718())
        };
        let from = nonces[account];
        nonces[account] += BATCH;
        let raw: Vec<String> = (from..from + BATCH).map(sign).collect();
        let sent = Sent { end: from + BATCH, at: Instant::now(), raw: raw.clone() };
        record.lock().expect("the load does not panic").waiting[account].push_back(sent);
        submit(node, &raw);
    }
}

fn watch(
    record: &Mutex<Record>,
    stopped: &AtomicBool,
    rpc: &[String],
    addresses: &[Address],
    pids: &[u32],
) {
    let call = |(id, address): (usize, &Address)| json!({"jsonrpc": "2.0", "id": id, "method": "eth_getTransactionCount", "params": [address, "finalized"]});
    let calls = Value::Array(addresses.iter().enumerate().map(call).collect());
    for look in 0_usize.. {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        let answer = post(&rpc[0], &calls);
        let now = Instant::now();
        if let Ok(Value::Array(answers)) = answer {
            let mut nonces = [0; SENDERS];
            for answer in &answers {
                let id = answer["id"].as_u64().expect("an id") as usize;
                nonces[id] = quantity(&answer["result"]);
            }
            note(&mut record.lock().expect("the load does not panic"), now, &nonces);
        }
        if look % 4 == 0 {
            let mut seen = [0; HONEST];
            seen.iter_mut().zip(pids).for_each(|(seen, pid)| *seen = Validator::resident(*pid));
            record.lock().expect("the load does not panic").resident.push((now, seen));
        }
        std::thread::sleep(LOOK);
    }
}

fn note(record: &mut Record, now: Instant, nonces: &[u64; SENDERS]) {
    record.totals.push((now, nonces.iter().sum()));
    for (account, nonce) in nonces.iter().enumerate() {
        while record.waiting[account].front().is_some_and(|sent| sent.end <= *nonce) {
            let sent = record.waiting[account].pop_front().expect("looked at above");
            record.latencies.push((sent.at, now - sent.at));
        }
    }
}
