//! JSON-RPC to a node, with every answer that the checker judges recorded.

use super::history::{Answer, Call, Checker, History, Receipt};
use crate::node::{exchange, quantity};
use alloy_primitives::{Address, B256, U256, keccak256};
use serde_json::{Value, json};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How long a call may take: a frozen node answers none.
const LIMIT: Duration = Duration::from_secs(2);
/// How long it may take of a node that must answer.
const PATIENT: Duration = Duration::from_secs(60);
/// Calls in a batch.
pub const BATCH: usize = 100;

/// The history, written by many.
pub struct Recorder {
    start: Instant,
    history: Mutex<History>,
}

impl Recorder {
    /// Begins a recording.
    pub fn new(checker: Checker) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), history: Mutex::new(History::new(checker)) })
    }

    /// What is recorded so far.
    pub fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("recording does not panic")
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("a recording is short")
    }
}

/// Whose balances are all there is, and who sends.
pub struct Accounts {
    /// Everybody who has or may get anything.
    pub all: Vec<Address>,
    /// Those whose nonces move.
    pub senders: Vec<Address>,
}

/// A client of one node.
#[derive(Clone)]
pub struct Client {
    /// Which node, from 0.
    pub node: usize,
    /// Where it serves.
    pub address: String,
    recorder: Arc<Recorder>,
    limit: Duration,
}

impl Client {
    /// Of a node at an address.
    pub fn new(node: usize, address: String, recorder: &Arc<Recorder>) -> Self {
        Self { node, address, recorder: recorder.clone(), limit: LIMIT }
    }

    /// The same, for a node that is known to be well: it answers in the end.
    pub fn patient(&self) -> Self {
        Self { limit: PATIENT, ..self.clone() }
    }

    /// A result; `None` if there is no answer or it is an error.
    pub fn call(&self, method: &str, params: Value) -> Option<Value> {
        self.batch(&[(method, params)])?.pop()
    }

    /// The results of several calls, in order; `None` unless all have one.
    pub fn batch(&self, calls: &[(&str, Value)]) -> Option<Vec<Value>> {
        self.answers(calls)?
            .into_iter()
            .map(|mut answer| answer.get_mut("result").map(Value::take))
            .collect()
    }

    /// The answers to several calls, in order, results and errors; `None` if they do not come.
    pub fn answers(&self, calls: &[(&str, Value)]) -> Option<Vec<Value>> {
        let request = |(id, (method, params)): (usize, &(&str, Value))| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let body = Value::Array(calls.iter().enumerate().map(request).collect());
        let Value::Array(mut answers) = exchange(&self.address, &body, self.limit).ok()? else {
            return None;
        };
        answers.sort_by_key(|answer| answer["id"].as_u64());
        (answers.len() == calls.len()).then_some(answers)
    }

    /// Records an answer to what was asked at `begun`. The end is taken when it is its turn, so
    /// that calls are recorded in the order of their ends.
    fn record(&self, begun: u64, answer: Answer) {
        let mut history = self.recorder.history();
        history.record(Call { node: self.node, begun, ended: self.recorder.now(), answer });
    }

    /// The final height.
    pub fn finalized(&self) -> Option<u64> {
        let begun = self.recorder.now();
        let block = self.call("eth_getBlockByNumber", json!(["finalized", false]))?;
        let (number, hash) = place(&block)?;
        self.record(begun, Answer::Finalized { number, hash });
        Some(number)
    }

    /// Number and hash of the head.
    pub fn head(&self) -> Option<(u64, B256)> {
        place(&self.call("eth_getBlockByNumber", json!(["latest", false]))?)
    }

    /// Records blocks and all their receipts.
    pub fn blocks(&self, numbers: RangeInclusive<u64>) -> Option<()> {
        let numbers: Vec<u64> = numbers.collect();
        for part in numbers.chunks(BATCH / 2) {
            let ask = |number: &u64| {
                let number = format!("{number:#x}");
                let header = ("eth_getBlockByNumber", json!([number, false]));
                [header, ("eth_getBlockReceipts", json!([number]))]
            };
            let calls: Vec<_> = part.iter().flat_map(ask).collect();
            let begun = self.recorder.now();
            let answers = self.batch(&calls)?;
            for (number, answer) in part.iter().zip(answers.chunks(2)) {
                let (number, found) = (*number, place(&answer[0]).map(|(_, hash)| hash));
                self.record(begun, Answer::Block { number, found });
                let receipts = answer[1].as_array().map(|all| all.iter().map(receipt).collect());
                self.record(begun, Answer::Receipts { number, found: receipts });
            }
        }
        Some(())
    }

    /// Records the receipts of transactions.
    pub fn receipts(&self, transactions: &[B256]) -> Option<()> {
        for part in transactions.chunks(BATCH) {
            let ask = |hash: &B256| ("eth_getTransactionReceipt", json!([hash]));
            let calls: Vec<_> = part.iter().map(ask).collect();
            let begun = self.recorder.now();
            for (transaction, answer) in part.iter().zip(self.batch(&calls)?) {
                let found = (!answer.is_null())
                    .then(|| (quantity(&answer["blockNumber"]), receipt(&answer)));
                self.record(begun, Answer::Receipt { transaction: *transaction, found });
            }
        }
        Some(())
    }

    /// Records all balances and nonces after a block.
    pub fn accounts(&self, number: u64, accounts: &Accounts) -> Option<()> {
        let at = format!("{number:#x}");
        let balance = |address: &Address| ("eth_getBalance", json!([address, at]));
        let nonce = |address: &Address| ("eth_getTransactionCount", json!([address, at]));
        let balances = accounts.all.iter().map(balance);
        let calls: Vec<_> = balances.chain(accounts.senders.iter().map(nonce)).collect();
        let begun = self.recorder.now();
        let answers = self.batch(&calls)?;
        let (balances, nonces) = answers.split_at(accounts.all.len());
        let total = balances.iter().map(amount).sum();
        let nonces = nonces.iter().map(quantity).collect();
        self.record(begun, Answer::Accounts { number, total, nonces });
        Some(())
    }

    /// The nonce of a sender at the final block.
    pub fn final_nonce(&self, account: usize, address: &Address) -> Option<u64> {
        let begun = self.recorder.now();
        let nonce = self.call("eth_getTransactionCount", json!([address, "finalized"]))?;
        let nonce = quantity(&nonce);
        self.record(begun, Answer::Nonce { account, nonce });
        Some(nonce)
    }
}

/// Number and hash of a block; `None` if there is none.
fn place(block: &Value) -> Option<(u64, B256)> {
    (!block.is_null()).then(|| (quantity(&block["number"]), hash(&block["hash"])))
}

/// Reads a hash.
pub fn hash(value: &Value) -> B256 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no hash"));
    text.parse().unwrap_or_else(|error| panic!("{text} is no hash: {error}"))
}

/// Reads an amount of wei.
pub fn amount(value: &Value) -> U256 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no amount"));
    text.parse().unwrap_or_else(|error| panic!("{text} is no amount: {error}"))
}

fn receipt(value: &Value) -> Receipt {
    // The keys of an object are in order, so equal receipts have equal texts.
    let digest = keccak256(value.to_string());
    Receipt {
        transaction: hash(&value["transactionHash"]),
        block: hash(&value["blockHash"]),
        digest: u64::from_be_bytes(digest[..8].try_into().expect("eight bytes")),
    }
}
