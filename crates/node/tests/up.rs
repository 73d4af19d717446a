//! `landfall up`: a network with one command, from its start to its end, and again.

mod node;

use node::{Directory, FIRST, PATIENCE, SECOND, post, quantity};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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
        Self::start_with(directory, port, &[&["--port", &port.to_string()], more].concat())
    }

    /// Resumes a network that listens from this port on.
    fn resume(directory: &str, port: u16) -> Self {
        Self::start_with(directory, port, &[])
    }

    fn start_with(directory: &str, port: u16, flags: &[&str]) -> Self {
        let started = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["up", "--stop-with-stdin", "--datadir", directory])
            .args(flags)
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
        for (flag, other) in [("--port", port + 1), ("--validators", 7)] {
            let refused = Command::new(env!("CARGO_BIN_EXE_landfall"))
                .args(["up", "--datadir", &path, flag, &other.to_string()])
                .output()
                .expect("the binary starts");
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains(flag), "{said}");
        }
        let network = Up::resume(&path, port);
        assert!(network.finalized(1) >= block, "what was final is there again");
        assert!(network.transfer(1, 3) > block);
        let status = network.call(0, "landfall_status", json!([]));
        assert_eq!((&status["engine"], &status["node"]["votes"]), (&json!(engine), &json!(true)));
        network.stop();
    }
}

#[test]
fn a_network_that_cannot_be_leaves_nothing_and_a_part_of_one_is_named() {
    let directory = Directory::new("up-refused");
    let path = directory.join("net").display().to_string();
    let refused = |flags: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["up", "--datadir", &path])
            .args(flags)
            .output()
            .expect("the binary starts");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&["--consensus", "pow", "--empty-blocks"]);
    assert!(said.contains("empty"), "{said}");
    assert!(!directory.join("net/node-1").exists(), "{said}");
    std::fs::create_dir_all(directory.join("net/node-1")).expect("it is ours");
    let said = refused(&[]);
    assert!(said.contains("holds a part of a network"), "{said}");
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

/// A node of a prepared network, in a process of its own.
struct Alone {
    child: Child,
    rpc: String,
    ops: String,
}

impl Alone {
    fn start(network: &str, number: u16, port: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["node", "--config", &format!("{network}/node-{number}/node.toml")])
            .args(["--stop-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let at = |range: u16| format!("127.0.0.1:{}", port + range + number - 1);
        Self { child, rpc: at(0), ops: at(2_000) }
    }

    /// The answer, unless the node does not listen yet.
    fn ask(&self, method: &str, params: Value) -> Option<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        post(&self.rpc, &request).ok()
    }

    fn wait_for_block(&self, number: u64) {
        let start = Instant::now();
        let head = || Some(quantity(&self.ask("eth_blockNumber", json!([]))?["result"]));
        while head().is_none_or(|head| head < number) {
            assert!(start.elapsed() < 3 * PATIENCE, "no block {number} is found");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn health(&self, path: &str) -> u16 {
        let mut stream = TcpStream::connect(&self.ops).expect("the port is open");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.ops).expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer[9..12].parse().expect("a status")
    }

    /// Stops it; the exit code.
    fn stop(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().expect("the process is ours").code()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_whose_final_blocks_are_outweighed_stays_and_says_why() {
    let directory = Directory::new("up-halted");
    let path = directory.join("net").display().to_string();
    let port = free_port(2);
    let prepared = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .args(["up", "--prepare", "--consensus", "pow", "--validators", "2"])
        .args(["--block-time", "500ms", "--datadir", &path, "--port", &port.to_string()])
        .output()
        .expect("the binary starts");
    assert!(prepared.status.success(), "{prepared:?}");
    let file = directory.join("net/genesis.json");
    let text = std::fs::read_to_string(&file).expect("a genesis file");
    let mut genesis: Value = serde_json::from_str(&text).expect("JSON");
    let pow = &mut genesis["config"]["landfall"]["pow"];
    (pow["safeDepth"], pow["finalDepth"]) = (json!(1), json!(2));
    pow["firstDifficulty"] = json!("0x8000");
    std::fs::write(&file, genesis.to_string()).expect("the file is ours");

    // Two branches from the genesis on, the first with less work; then they meet.
    let heavier = Alone::start(&path, 2, port);
    heavier.wait_for_block(24);
    assert_eq!(heavier.stop(), Some(0));
    let lighter = Alone::start(&path, 1, port);
    lighter.wait_for_block(6);
    // It does not mine while the other starts: it could overtake.
    assert_eq!(lighter.stop(), Some(0));
    let heavier = Alone::start(&path, 2, port);
    heavier.wait_for_block(24);
    let lighter = Alone::start(&path, 1, port);
    lighter.wait_for_block(6);
    let start = Instant::now();
    let why = loop {
        let status = lighter.ask("landfall_status", json!([])).expect("it stays");
        if let Some(why) = status["result"]["halted"].as_str() {
            break why.to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "it does not halt: {status}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(why.contains("landfall db reorg --datadir"), "{why}");
    assert_eq!((lighter.health("/livez"), lighter.health("/readyz")), (200, 503));
    let transfer = json!([{"from": FIRST, "to": SECOND, "value": "0x7"}]);
    let refused = lighter.ask("eth_sendTransaction", transfer).expect("it answers");
    let said = refused["error"]["message"].as_str().unwrap_or_default();
    assert!(said.contains("takes no transactions any more"), "{refused}");
    assert_eq!(lighter.stop(), Some(74));
    assert_eq!(heavier.stop(), Some(0), "the other goes on");
}
