//! `landfall up`: a network with one command, from its start to its end, and again.

mod node;

use node::{Directory, FIRST, PATIENCE, SECOND, post, quantity};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `landfall up` in a process of its own; ended when dropped.
struct Up {
    child: Child,
    port: u16,
    started: Instant,
    /// The processes of the nodes.
    nodes: Vec<u32>,
}

impl Up {
    fn start(directory: &str, port: u16, more: &[&str]) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["up", "--stop-with-stdin", "--datadir", directory])
            .args(["--port", &port.to_string()])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut nodes = Vec::new();
        loop {
            let line = lines.next().expect("the network starts").expect("text");
            if let Some((_, pid)) = line.split_once("(process ") {
                nodes.push(pid.trim_end_matches(')').parse().expect("a process id"));
            }
            if line.starts_with("Ready.") {
                break;
            }
        }
        // What it prints from now on is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port, started, nodes }
    }

    fn call(&self, node: u16, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let address = format!("127.0.0.1:{}", self.port + node);
        let mut answer = post(&address, &request).expect("the node answers");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    fn finalized(&self, node: u16) -> u64 {
        quantity(&self.call(node, "eth_getBlockByNumber", json!(["finalized", false]))["number"])
    }

    /// Sends through one node and waits until another says that it is final; in which block.
    fn transfer(&self, through: u16, seen_by: u16) -> u64 {
        let transaction = json!({"from": FIRST, "to": SECOND, "value": "0x7"});
        let hash = self.call(through, "eth_sendTransaction", json!([transaction]));
        let start = Instant::now();
        loop {
            let receipt = self.call(seen_by, "eth_getTransactionReceipt", json!([hash]));
            if !receipt.is_null() {
                let number = quantity(&receipt["blockNumber"]);
                if number <= self.finalized(seen_by) {
                    return number;
                }
            }
            assert!(start.elapsed() < PATIENCE, "{hash} is not final");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("the process is ours");
        assert!(status.success(), "{status}");
        for pid in &self.nodes {
            let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
            assert!(gone, "node process {pid} stays behind");
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // The nodes end with it: their standard input does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port with free ones behind it and in the other two ranges; another one for each test, and below
/// those that the system gives to connections.
fn free_port(test: u16) -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let start = 12_000 + (std::process::id() % 4_000) as u16 + 5_000 * test;
    let all_free =
        |port: &u16| (0..3).all(|range| (0..4).all(|node| free(port + range * 1_000 + node)));
    (start..60_000).step_by(10).find(all_free).expect("free ports")
}

#[test]
fn a_network_comes_up_finalises_a_transaction_ends_and_goes_on() {
    for engine in ["pbft", "raft"] {
        let directory = Directory::new(&format!("up-{engine}"));
        let path = directory.join("net").display().to_string();
        let port = free_port(0);
        let network = Up::start(&path, port, &["--consensus", engine]);
        assert_eq!(network.nodes.len(), 4);
        let block = network.transfer(2, 0);
        println!("{engine}: from the start to the first final transaction in {:?}", {
            network.started.elapsed()
        });
        network.stop();
        let network = Up::start(&path, port, &[]);
        assert!(network.finalized(1) >= block, "what was final is there again");
        assert!(network.transfer(1, 3) > block);
        let status = network.call(0, "landfall_status", json!([]));
        assert_eq!((&status["engine"], &status["node"]["votes"]), (&json!(engine), &json!(true)));
        network.stop();
    }
}

#[test]
fn proof_of_work_makes_blocks_and_calls_none_of_them_final_too_early() {
    let directory = Directory::new("up-pow");
    let path = directory.join("net").display().to_string();
    let network = Up::start(
        &path,
        free_port(1),
        &["--consensus", "pow", "--validators", "2", "--block-time", "1"],
    );
    let start = Instant::now();
    while quantity(&network.call(0, "eth_blockNumber", json!([]))) < 3 {
        assert!(start.elapsed() < 3 * PATIENCE, "no block of work is found");
        std::thread::sleep(Duration::from_millis(50));
    }
    let block = network.call(1, "eth_getBlockByNumber", json!(["0x1", false]));
    assert_ne!(block["difficulty"], "0x0");
    let (head, finalized) =
        (quantity(&network.call(0, "eth_blockNumber", json!([]))), network.finalized(0));
    assert!(head < 30 + finalized.max(1), "head {head}, finalized {finalized}");
    network.stop();
}
