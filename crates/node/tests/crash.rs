//! SIGKILL at random moments under load: what was acknowledged is there afterwards.
//!
//! A receipt that a client has seen is an acknowledgement. After each kill the node starts again
//! on the same directory, and every transaction acknowledged so far must stand in the same block,
//! with the same state root. `LANDFALL_CRASH_ROUNDS` and `LANDFALL_CRASH_SEED` say how often and
//! with which moments; `cargo xtask crash` sets them.

mod node;

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, U256, hex};
use landfall_chain::store::SplitMix;
use landfall_wallet::{DerivationPath, Keyring, Mnemonic};
use node::{Directory, Node, post, quantity};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ACCOUNTS: u32 = 20;
const PER_ACCOUNT: u64 = 150;
const BATCH: usize = 25;

/// What a client has seen of a block.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    hash: Value,
    state_root: Value,
    transactions: Vec<Value>,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn killed_node_loses_nothing_that_was_acknowledged() {
    let rounds = setting("LANDFALL_CRASH_ROUNDS", 5);
    let mut random = SplitMix(setting("LANDFALL_CRASH_SEED", 1));
    let directory = Directory::new("crash");
    let path = directory.join("chain");
    let count = ACCOUNTS.to_string();
    let args = ["--datadir", path.to_str().unwrap(), "--accounts", &count];
    let mut acknowledged: BTreeMap<u64, Seen> = BTreeMap::new();
    let mut lost = 0;
    for round in 0..rounds {
        if round > 0 && random.below(4) == 0 {
            // The kill may also come while the node opens what the last one left.
            let mut node = Node::spawn(&args);
            std::thread::sleep(Duration::from_millis(random.below(60)));
            node.kill();
        }
        let mut node = Node::start(&args);
        lost += missing(&node, &acknowledged);
        let load = sign_load(&node);
        let moment = Duration::from_millis(20 + random.below(600));
        let stop = AtomicBool::new(false);
        let address = node.address.clone();
        let from = acknowledged.keys().last().map_or(1, |number| number + 1);
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| send(&address, &load, &stop));
            let watching = scope.spawn(|| watch(&address, from, &stop));
            std::thread::sleep(moment);
            node.kill();
            stop.store(true, Ordering::Relaxed);
            sending.join().expect("sending does not panic");
            acknowledged.append(&mut watching.join().expect("watching does not panic"));
        });
    }
    let node = Node::start(&args);
    lost += missing(&node, &acknowledged);
    let transactions: usize = acknowledged.values().map(|seen| seen.transactions.len()).sum();
    assert!(transactions > 0, "nothing was acknowledged: the load did not reach the node");
    println!("crash: {rounds} rounds, {transactions} acknowledged transactions, {lost} lost");
    assert_eq!(lost, 0);
}

/// How many acknowledged transactions are not where they were.
fn missing(node: &Node, acknowledged: &BTreeMap<u64, Seen>) -> usize {
    let mut missing = 0;
    for (number, seen) in acknowledged {
        let now = look(&node.address, *number);
        if now.as_ref() != Some(seen) {
            println!("block {number} was acknowledged as {seen:?} and now is {now:?}");
            missing += seen.transactions.len();
        }
    }
    missing
}

/// Transfers from every account, from its present nonce on.
fn sign_load(node: &Node) -> Vec<Value> {
    let mnemonic = "test test test test test test test test test test test junk";
    let mnemonic = Mnemonic::parse(mnemonic).unwrap();
    let keys = Keyring::from_mnemonic(&mnemonic, &DerivationPath::default(), ACCOUNTS).unwrap();
    let chain_id = node.number("eth_chainId", json!([]));
    let nonce = |address: Address| {
        node.number("eth_getTransactionCount", json!([address.to_string(), "latest"]))
    };
    let nonces: Vec<u64> = keys.addresses().map(nonce).collect();
    let mut load = Vec::new();
    for step in 0..PER_ACCOUNT {
        for (key, first) in keys.signers().iter().zip(&nonces) {
            let transaction = TxEip1559 {
                chain_id,
                nonce: first + step,
                gas_limit: 21_000,
                max_fee_per_gas: 100_000_000_000,
                to: Address::with_last_byte(step as u8 | 0x80).into(),
                value: U256::from(step),
                ..TxEip1559::default()
            };
            let hash = transaction.signature_hash();
            let signature = sign_message(B256::from(*key.secret()), hash).unwrap();
            let raw = transaction.into_signed(signature).encoded_2718();
            load.push(json!(hex::encode_prefixed(raw)));
        }
    }
    load
}

fn send(address: &str, load: &[Value], stop: &AtomicBool) {
    for batch in load.chunks(BATCH) {
        let call = |(id, raw): (usize, &Value)| json!({"jsonrpc": "2.0", "id": id, "method": "eth_sendRawTransaction", "params": [raw]});
        let batch: Vec<Value> = batch.iter().enumerate().map(call).collect();
        // An error is the kill.
        if stop.load(Ordering::Relaxed) || post(address, &Value::Array(batch)).is_err() {
            return;
        }
    }
}

/// Collects all receipts of all blocks until the node is gone.
fn watch(address: &str, from: u64, stop: &AtomicBool) -> BTreeMap<u64, Seen> {
    let mut seen = BTreeMap::new();
    let mut number = from;
    while !stop.load(Ordering::Relaxed) {
        match look(address, number) {
            Some(block) => {
                seen.insert(number, block);
                number += 1;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    seen
}

/// A block and all its receipts, if the node has them and lives.
fn look(address: &str, number: u64) -> Option<Seen> {
    let ask = |method: &str, params: Value| {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let mut answer = post(address, &request).ok()?;
        Some(answer["result"].take()).filter(|result| !result.is_null())
    };
    let number = format!("{number:#x}");
    let receipts = ask("eth_getBlockReceipts", json!([number]))?;
    let block = ask("eth_getBlockByNumber", json!([number, false]))?;
    let receipts = receipts.as_array().expect("receipts are a list");
    for receipt in receipts {
        assert_eq!(receipt["blockHash"], block["hash"], "the canonical chain moved");
        assert_eq!(quantity(&receipt["status"]), 1);
    }
    let transactions = receipts.iter().map(|receipt| receipt["transactionHash"].clone()).collect();
    let (hash, state_root) = (block["hash"].clone(), block["stateRoot"].clone());
    Some(Seen { hash, state_root, transactions })
}
