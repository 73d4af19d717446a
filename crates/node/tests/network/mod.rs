//! A network of real nodes on this machine: processes, disks, and links that fail when a test says
//! so, and clients that write down what they see.
//!
//! ```text
//!   Load, Watchers ──> Client ──> node 1 ── Links ── node 2 ...
//!                         └────> Recorder (history, checker)
//! ```

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod client;
mod disk;
pub mod fault;
pub mod history;
mod link;
pub mod load;
mod ports;
mod process;
pub mod watch;

use crate::node::{Directory, landfall};
use alloy_genesis::Genesis;
use alloy_primitives::{Address, U256};
use client::{Accounts, Client, Recorder};
use disk::SmallDisk;
use history::Checker;
use landfall_types::{ConsensusConfig, Height, Params, parse_genesis};
use link::Links;
use ports::{Ports, STEP};
use process::{PATIENCE, Process, tail};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nodes of a network.
pub const NODES: usize = 4;
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// A protocol, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Pbft,
    Raft,
    Pow,
}

impl Engine {
    pub const ALL: [Self; 3] = [Self::Pbft, Self::Raft, Self::Pow];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pbft => "pbft",
            Self::Raft => "raft",
            Self::Pow => "pow",
        }
    }

    /// Whether three of four nodes decide, and what they decided is certain.
    pub fn is_agreement(self) -> bool {
        self != Self::Pow
    }
}

/// How to make a network.
pub struct Order {
    pub engine: Engine,
    /// For `landfall up --prepare`, beside those that the network needs itself.
    pub flags: Vec<&'static str>,
    /// Whether links that can be cut lie between the nodes.
    pub links: bool,
    /// The node whose disk is small.
    pub small_disk: Option<usize>,
    /// Changes the genesis that `up` has made.
    pub edit: fn(&mut Value),
}

/// See the module. Fields are dropped in order: processes first.
pub struct Network {
    nodes: Vec<Option<Process>>,
    /// What each node is started with beside its configuration.
    flags: Vec<Vec<String>>,
    links: Option<Links>,
    disk: Option<(usize, SmallDisk)>,
    pub engine: Engine,
    /// The mean time between blocks of a lottery.
    pub interval: Option<Duration>,
    pub chain_id: u64,
    pub clients: Vec<Client>,
    pub recorder: Arc<Recorder>,
    pub accounts: Arc<Accounts>,
    directory: Option<Directory>,
    _ports: Ports,
}

impl Network {
    /// Writes its files. Nothing runs yet.
    pub fn prepare(name: &str, order: &Order) -> Self {
        let directory = Directory::new(name);
        let ports = Ports::reserve(NODES as u16);
        up_prepare(&directory, order, ports.base);
        let p2p = |node: usize| SocketAddr::from(([127, 0, 0, 1], ports.base + STEP + node as u16));
        let addresses: Vec<SocketAddr> = (0..NODES).map(p2p).collect();
        let links = || Links::between(&addresses).expect("loopback has free ports");
        let links = order.links.then(links);
        let mut genesis = read_json(&directory.join("genesis.json"));
        (order.edit)(&mut genesis);
        let text = genesis.to_string();
        std::fs::write(directory.join("genesis.json"), &text).expect("the file can be written");
        let parsed = parse_genesis(&text).expect("the genesis is valid");
        let config = ConsensusConfig::from_genesis(&parsed).expect("it names an engine");
        let flags = |node| links.as_ref().map(|links| behind(links, node, &config));
        let flags = (0..NODES).map(|node| flags(node).unwrap_or_default()).collect();
        let recorder = Recorder::new(Checker::new(NODES, supply(&parsed, &config)));
        let rpc = |node: usize| format!("127.0.0.1:{}", ports.base + node as u16);
        let disk = order.small_disk.and_then(|node| {
            let path = directory.join(&format!("node-{}/data", node + 1));
            Some((node, SmallDisk::mount(&path)?))
        });
        Self {
            nodes: (0..NODES).map(|_| None).collect(),
            flags,
            links,
            disk,
            engine: order.engine,
            interval: interval(&config),
            chain_id: parsed.config.chain_id,
            clients: (0..NODES).map(|node| Client::new(node, rpc(node), &recorder)).collect(),
            recorder,
            accounts: Arc::new(accounts(&parsed, &config)),
            directory: Some(directory),
            _ports: ports,
        }
    }

    fn path(&self, node: usize, name: &str) -> PathBuf {
        let directory = self.directory.as_ref().expect("it is there until the end");
        directory.join(&format!("node-{}/{name}", node + 1))
    }

    /// Starts a node that does not run; with a clock that is wrong by so many milliseconds. Does
    /// not wait.
    pub fn start(&mut self, node: usize, offset: i64) {
        assert!(self.nodes[node].is_none(), "node {} runs already", node + 1);
        let (config, log) = (self.path(node, "node.toml"), self.path(node, "test.log"));
        self.nodes[node] = Some(Process::start(&config, &self.flags[node], &log, offset));
    }

    /// Waits until nodes that were started serve; when each did, the earliest first.
    pub fn wait_until_listening(&mut self, nodes: &[usize]) -> Vec<Instant> {
        let (start, mut open) = (Instant::now(), nodes.to_vec());
        let mut moments = Vec::new();
        while !open.is_empty() {
            open.retain(|node| {
                let listens = self.process(*node).listens();
                if listens {
                    moments.push(Instant::now());
                }
                !listens
            });
            assert!(start.elapsed() < PATIENCE, "nodes {open:?} (from 0) do not listen");
            std::thread::sleep(LOOK);
        }
        moments
    }

    fn process(&mut self, node: usize) -> &mut Process {
        self.nodes[node].as_mut().expect("the node runs")
    }

    fn take(&mut self, node: usize) -> Process {
        self.nodes[node].take().expect("the node runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self, node: usize) {
        self.take(node).kill();
    }

    /// SIGSTOP.
    pub fn freeze(&mut self, node: usize) {
        self.process(node).freeze();
    }

    /// SIGCONT.
    pub fn thaw(&mut self, node: usize) {
        self.process(node).thaw();
    }

    /// Waits until a node ends by itself; how, and what it said.
    pub fn wait_for_end(&mut self, node: usize) -> (ExitStatus, String) {
        self.take(node).wait_for_end()
    }

    /// What lies between the nodes.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the network was made with links")
    }

    /// The small disk and the node that has it.
    pub fn small_disk(&self) -> Option<(usize, &SmallDisk)> {
        self.disk.as_ref().map(|(node, disk)| (*node, disk))
    }

    /// The processes that run, in the order of the nodes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().flatten().map(Process::pid).collect()
    }

    /// Stops all nodes in order and checks their ledgers.
    pub fn stop_and_verify(&mut self) {
        for node in 0..NODES {
            self.take(node).stop();
        }
        for node in 0..NODES {
            let data = self.path(node, "data");
            let output = landfall(&["db", "verify", "--datadir", data.to_str().expect("text")]);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "the ledger of node {}: {said}", node + 1);
        }
    }

    /// What shows that the network moves: what is final, and in a lottery the head.
    pub fn height(&self, node: usize) -> Option<u64> {
        if self.engine.is_agreement() {
            self.clients[node].finalized()
        } else {
            self.clients[node].head().map(|(number, _)| number)
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for node in 0..NODES {
            let log = self.path(node, "test.log");
            println!("--- {}\n{}", log.display(), tail(&log));
        }
        // For whoever looks for the cause.
        std::mem::forget(self.directory.take());
    }
}

/// Waits for something; how long it took, or an error if it took too long since a moment.
pub fn wait_for(
    since: Instant,
    limit: Duration,
    mut happened: impl FnMut() -> bool,
) -> Result<Duration, String> {
    loop {
        let asked = since.elapsed();
        if happened() {
            return Ok(asked);
        }
        if asked > limit {
            return Err(format!("not within {:.1} s", limit.as_secs_f64()));
        }
        std::thread::sleep(LOOK);
    }
}

fn up_prepare(directory: &Directory, order: &Order, port: u16) {
    let (datadir, port) = (directory.join(""), port.to_string());
    let nodes = NODES.to_string();
    let mut arguments = vec!["up", "--prepare", "--datadir", datadir.to_str().expect("text")];
    arguments.extend(["--validators", &nodes, "--consensus", order.engine.name(), "--port", &port]);
    arguments.extend(&order.flags);
    let output = landfall(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

fn read_json(path: &std::path::Path) -> Value {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What makes a node dial the links instead of the addresses of the genesis.
fn behind(links: &Links, node: usize, config: &ConsensusConfig) -> Vec<String> {
    let peer = |other: usize| {
        let name = format!("node-{}", other + 1);
        let mut validators = config.validators.iter();
        let validator = validators.find(|it| it.name.as_ref() == Some(&name));
        let key = validator.expect("up names its validators").node_key;
        format!("{key}@{}", links.address(node, other))
    };
    let peers: Vec<String> = (0..NODES).filter(|other| *other != node).map(peer).collect();
    vec!["--p2p-peers".to_owned(), peers.join(",")]
}

fn interval(config: &ConsensusConfig) -> Option<Duration> {
    match &config.schedule.terms()[0].params {
        Params::Pow(pow) => Some(Duration::from_millis(pow.block_interval.0)),
        _ => None,
    }
}

/// Everybody who has or may get anything: block rewards go to the validators.
fn accounts(genesis: &Genesis, config: &ConsensusConfig) -> Accounts {
    let rich = genesis.alloc.keys().copied();
    let all: BTreeSet<Address> = rich.chain(config.validators.iter().map(|it| it.id)).collect();
    Accounts { all: all.into_iter().collect(), senders: load::senders().addresses().collect() }
}

/// The sum of all balances after a block: what the genesis gave, and what was mined since.
fn supply(genesis: &Genesis, config: &ConsensusConfig) -> impl Fn(u64) -> U256 + Send + 'static {
    let given: U256 = genesis.alloc.values().map(|account| account.balance).sum();
    let params = config.schedule.terms()[0].params.clone();
    move |number| match &params {
        Params::Pow(pow) => {
            let gwei = landfall_consensus::pow::supply_at(pow, Height(number));
            given + U256::from(gwei) * U256::from(1_000_000_000)
        }
        _ => given,
    }
}
