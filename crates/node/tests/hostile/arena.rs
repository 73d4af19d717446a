//! The network under attack: three honest validators of four as processes, and the keys of the
//! fourth, with which the hostile program speaks.

use crate::node::{Directory, landfall, post, quantity};
use alloy_primitives::{B256, hex};
use landfall_replica::KeySigner;
use landfall_types::{ChainSpec, ConsensusConfig, NodeId, parse_genesis};
use landfall_wallet::Keystore;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Honest nodes.
pub const HONEST: usize = 3;
/// How long a node may take to start, or to find the others.
const PATIENCE: Duration = Duration::from_secs(60);
/// From RPC to p2p and on to operations, as `landfall up` counts.
const STEP: u16 = 1_000;
/// Bases that are tried. All ports lie below those that the system gives out by itself.
const BASES: std::ops::Range<u16> = 0..90;
const BASE: u16 = 26_011;

/// An honest node.
pub struct Validator {
    child: Child,
    log: PathBuf,
    /// Where it serves JSON-RPC.
    pub rpc: String,
    /// Where it listens for peers.
    pub p2p: SocketAddr,
}

impl Validator {
    /// A result; the caller has seen that the node lives.
    pub fn call(&self, method: &str, params: Value) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = post(&self.rpc, &request);
        let mut answer = answer.unwrap_or_else(|error| panic!("{method} of {}: {error}", self.rpc));
        assert!(answer.get("error").is_none(), "{method} of {}: {answer}", self.rpc);
        answer["result"].take()
    }

    /// The number of its final block.
    pub fn finalized(&self) -> u64 {
        quantity(&self.call("eth_getBlockByNumber", json!(["finalized", false]))["number"])
    }

    /// What it has printed.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in KiB, as the kernel counts it.
    pub fn resident(pid: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        // One that has ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The keys of the validator that the hostile program is.
pub struct Member {
    /// Signs votes and blocks, contradicting ones too.
    pub voting: KeySigner,
    /// As whom others know it.
    pub id: NodeId,
    /// The secret of its node key.
    pub node_key: [u8; 32],
}

/// See the module. Fields are dropped in order: processes first.
pub struct Arena {
    pub nodes: Vec<Validator>,
    pub member: Member,
    pub genesis: B256,
    pub schedule: B256,
    pub spec: ChainSpec,
    /// When the attack that runs shall end.
    end: Mutex<Instant>,
    strangers: AtomicU64,
    directory: Option<Directory>,
    _guard: TcpListener,
}

impl Arena {
    /// Makes a network of four and starts three.
    pub fn start() -> Self {
        let directory = Directory::new("hostile");
        let (base, guard) = free_ports();
        let place = directory.join("");
        let (place, port) = (place.to_str().expect("text"), base.to_string());
        let output = landfall(&[
            "up",
            "--prepare",
            "--datadir",
            place,
            "--validators",
            "4",
            "--port",
            &port,
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(directory.join("genesis.json")).expect("a genesis");
        let parsed = parse_genesis(&text).expect("the genesis is valid");
        let config = ConsensusConfig::from_genesis(&parsed).expect("it names an engine");
        let start = |number: u16| start(&directory, number, base);
        let mut nodes: Vec<Validator> = (1..=HONEST as u16).map(start).collect();
        nodes.iter_mut().for_each(wait_until_listening);
        let block = nodes[0].call("eth_getBlockByNumber", json!(["0x0", false]));
        let genesis = block["hash"].as_str().and_then(|text| text.parse().ok());
        Self {
            member: member(&directory.join("node-4/keys")),
            genesis: genesis.expect("block 0 has a hash"),
            schedule: config.schedule_id(),
            spec: ChainSpec::new(parsed.config),
            nodes,
            end: Mutex::new(Instant::now()),
            strangers: AtomicU64::new(0),
            directory: Some(directory),
            _guard: guard,
        }
    }

    /// The hello of a node that belongs here.
    pub fn hello(&self) -> Vec<u8> {
        crate::wire::hello(1, self.genesis, self.schedule, self.spec.chain_id)
    }

    /// A node key that nobody has seen.
    pub fn stranger(&self) -> [u8; 32] {
        let number = self.strangers.fetch_add(1, Ordering::Relaxed);
        alloy_primitives::keccak256(format!("a stranger {number}")).0
    }

    /// An attack begins, and shall last so long.
    pub fn begin(&self, length: Duration) {
        *self.end.lock().expect("nobody panics here") = Instant::now() + length;
    }

    /// Whether the attack that runs has lasted long enough.
    pub fn is_over(&self) -> bool {
        Instant::now() >= *self.end.lock().expect("nobody panics here")
    }

    /// Panics, with what a node said last, if one has ended by itself.
    pub fn check_alive(&mut self) {
        for (number, node) in (1..).zip(&mut self.nodes) {
            let ended = node.child.try_wait().expect("the process is ours");
            let Some(status) = ended else { continue };
            panic!("node {number} ended with {status}:\n{}", tail(&node.said()));
        }
    }

    /// All honest nodes have the same block where all of them are final.
    pub fn check_one_chain(&self) {
        let least = self.nodes.iter().map(Validator::finalized).min().expect("there are nodes");
        for number in [least / 2, least] {
            let number = format!("{number:#x}");
            let hash = |node: &Validator| {
                node.call("eth_getBlockByNumber", json!([number, false]))["hash"].clone()
            };
            let first = hash(&self.nodes[0]);
            for node in &self.nodes {
                assert_eq!(hash(node), first, "block {number} of {}", node.rpc);
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in &self.nodes {
            println!("--- {}\n{}", node.log.display(), tail(&node.said()));
        }
        // For whoever looks for the cause.
        std::mem::forget(self.directory.take());
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A base with which all ports are free, and the port in front of it, held.
fn free_ports() -> (u16, TcpListener) {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).ok();
    for number in BASES {
        let base = BASE + 10 * number;
        let Some(guard) = free(base - 1) else { continue };
        let mut all = (0..4).flat_map(|node| (0..3).map(move |kind| base + node + kind * STEP));
        if all.all(|port| free(port).is_some()) {
            return (base, guard);
        }
    }
    panic!("no range of ports above {BASE} is free");
}

fn start(directory: &Directory, number: u16, base: u16) -> Validator {
    let log = directory.join(&format!("node-{number}.log"));
    let out = File::create(&log).expect("the log can be made");
    let child = Command::new(env!("CARGO_BIN_EXE_landfall"))
        .args(["node", "--stop-with-stdin", "--config"])
        .arg(directory.join(&format!("node-{number}/node.toml")))
        // It ends when we do, even if nobody drops it.
        .stdin(Stdio::piped())
        .stderr(out.try_clone().expect("a file handle can be copied"))
        .stdout(out)
        .spawn()
        .expect("the binary starts");
    let port = base + number - 1;
    let p2p = SocketAddr::from(([127, 0, 0, 1], port + STEP));
    Validator { child, log, rpc: format!("127.0.0.1:{port}"), p2p }
}

fn wait_until_listening(node: &mut Validator) {
    let begun = Instant::now();
    while !node.said().lines().any(|line| line.starts_with("Listening on ")) {
        let ended = node.child.try_wait().expect("the process is ours");
        assert!(ended.is_none(), "a node did not start:\n{}", tail(&node.said()));
        assert!(begun.elapsed() < PATIENCE, "a node does not listen:\n{}", tail(&node.said()));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn member(keys: &Path) -> Member {
    let read = |name: &str| fs::read_to_string(keys.join(name)).expect("a key file");
    let keystore = Keystore::from_json(&read("validator.json")).expect("a keystore");
    let signer = keystore.decrypt(read("password").as_bytes()).expect("the password fits");
    let node_key = hex::decode(read("node.key").trim()).expect("hex");
    Member {
        voting: KeySigner::new(signer.secret()).expect("a key"),
        id: signer.address(),
        node_key: node_key.try_into().expect("32 bytes"),
    }
}
