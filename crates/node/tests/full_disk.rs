//! A disk that is full: the node stops by itself, says so, and goes on at the next start.

mod node;

use node::{Directory, FIRST, Node, PATIENCE, SECOND, post};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Kilobytes that a file may have; writes beyond it fail as on a full disk.
const LIMIT: u32 = 6_000;

#[test]
fn full_disk_stops_the_node_and_what_was_acknowledged_is_there_afterwards() {
    let directory = Directory::new("full");
    let path = directory.join("chain");
    let path = path.to_str().unwrap();
    // Made without the limit: the files of the views are larger from the start.
    assert_eq!(Node::start(&["--datadir", path]).terminate(), Some(0));
    let script =
        format!("trap '' XFSZ; ulimit -f {LIMIT}; exec \"$0\" dev --port 0 --datadir \"$1\"",);
    let mut limited = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_landfall"), path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(limited.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines
        .filter_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
        .next()
        .expect("the node starts below the limit");
    let mut acknowledged = Vec::new();
    let start = Instant::now();
    while limited.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "the node does not stop");
        if let Some(receipt) = send_much(&address) {
            acknowledged.push(receipt);
        }
    }
    let mut said = String::new();
    limited.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(limited.wait().unwrap().code(), Some(74), "{said}");
    assert!(said.contains("the node stops") && said.contains("free some space"), "{said}");
    assert!(acknowledged.len() > 10, "only {} transactions", acknowledged.len());

    let node = Node::start(&["--datadir", path]);
    for receipt in &acknowledged {
        let hash = &receipt["transactionHash"];
        assert_eq!(&node.call("eth_getTransactionReceipt", json!([hash])), receipt);
    }
    node.send(FIRST, SECOND, 1);
}

/// A transaction of a hundred kilobytes; its receipt, unless the node is gone.
fn send_much(address: &str) -> Option<Value> {
    let call = |method: &str, params: Value| -> Option<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Some(post(address, &request).ok()?["result"].take()).filter(|result| !result.is_null())
    };
    let data = format!("0x{}", "00".repeat(100_000));
    let transaction = json!({"from": FIRST, "to": SECOND, "data": data, "gas": "0x200000"});
    let hash = call("eth_sendTransaction", json!([transaction]))?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(receipt) = call("eth_getTransactionReceipt", json!([hash])) {
            return Some(receipt);
        }
        // Without an answer at all the node is gone.
        call("eth_blockNumber", json!([]))?;
    }
    None
}
