//! `landfall up`: a network on this machine, with one command.

use super::genesis::Consensus;
use crate::bench::client::Client;
use crate::clock::wall;
use crate::config::{Flags, NodeConfig};
use crate::duration;
use crate::failure::Failure;
use crate::keys;
use crate::stop::{signalled, stdin_ended};
use crate::up::{Layout, Process, Screen, Wish, line};
use landfall_types::NodeId;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(500);
/// A node that does not answer for so long is shown as silent.
const ANSWER: Duration = Duration::from_secs(2);
/// How long the nodes may take to answer first.
const STARTING: Duration = Duration::from_secs(30);
/// The distance between the ports of one kind and of the next.
const PORTS_APART: u16 = 1_000;
/// The RPC port of the first node, unless told otherwise.
const PORT: u16 = 8_545;
/// How many nodes there are, unless told otherwise.
const VALIDATORS: u16 = 4;

/// Starts a network of validators on this machine, each a process of its own
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many validators [default: 4]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    validators: Option<u16>,
    /// The engine [default: pbft]
    #[arg(long, value_enum)]
    consensus: Option<Consensus>,
    /// The least time between two blocks, for proof of work the mean one: seconds, or 500ms, 2s
    #[arg(long, value_name = "TIME", value_parser = duration::parse_or_seconds)]
    block_time: Option<Duration>,
    /// Makes blocks without transactions too (pbft, raft)
    #[arg(long)]
    empty_blocks: bool,
    /// Gas costs nothing
    #[arg(long)]
    free_gas: bool,
    /// Keeps the network in this directory, to stop and resume it; without it it is gone at the end
    #[arg(long, value_name = "DIR")]
    datadir: Option<PathBuf>,
    /// The RPC port of the first node; the others follow [default: 8545]
    #[arg(short, long)]
    port: Option<u16>,
    /// The first port for peers [default: 1000 above --port]
    #[arg(long)]
    p2p_port: Option<u16>,
    /// The first port for metrics and health [default: 2000 above --port]
    #[arg(long)]
    ops_port: Option<u16>,
    /// Writes the files of the network and starts nothing
    #[arg(long, requires = "datadir")]
    prepare: bool,
    /// Stops when standard input ends: for programs that start networks
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs the network until it is told to stop or no node is left.
pub fn run(args: &Args) -> Result<(), Failure> {
    let wish = wish(args)?;
    let place = Directory::new(args.datadir.clone());
    let layout = Layout::new(&place.path);
    if layout.exists() {
        check_same(args, &layout)?;
    } else {
        layout.create(&wish)?;
    }
    if args.prepare {
        super::say(format_args!("{}: {} nodes", place.path.display(), layout.count()));
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start: {error}")))?;
    let mut nodes = Vec::new();
    for number in 1..=layout.count() {
        nodes.push(Node::start(&layout, number)?);
    }
    let ended = runtime.block_on(watch(&mut nodes, args, &place));
    for node in &mut nodes {
        node.process.stop();
    }
    for node in &mut nodes {
        node.process.wait();
    }
    ended
}

fn wish(args: &Args) -> Result<Wish, Failure> {
    let (first, validators) = (args.port.unwrap_or(PORT), args.validators.unwrap_or(VALIDATORS));
    let above = |given: Option<u16>, distance: u16| {
        let port = given.or_else(|| first.checked_add(distance));
        port.filter(|port| port.checked_add(validators).is_some()).ok_or_else(|| {
            Failure::refused("the ports of the nodes end above 65535; choose a lower --port")
        })
    };
    Ok(Wish {
        consensus: args.consensus.unwrap_or(Consensus::Pbft),
        validators,
        port: above(args.port, 0)?,
        p2p_port: above(args.p2p_port, PORTS_APART)?,
        ops_port: above(args.ops_port, 2 * PORTS_APART)?,
        block_time: args.block_time,
        free_gas: args.free_gas,
        empty_blocks: args.empty_blocks,
    })
}

/// A network that exists is resumed as it is.
fn check_same(args: &Args, layout: &Layout) -> Result<(), Failure> {
    let asked =
        args.consensus.is_some() || args.block_time.is_some() || args.free_gas || args.empty_blocks;
    if asked {
        return Err(Failure::refused(format!(
            "{} holds a network already, and it is what its genesis says; leave --consensus, \
             --block-time, --free-gas and --empty-blocks out to resume it, or choose another \
             --datadir",
            layout.genesis().display()
        )));
    }
    let listens = listens(layout, 1)?;
    let given = [
        ("--validators", args.validators, layout.count()),
        ("--port", args.port, listens.rpc.listen.port()),
        ("--p2p-port", args.p2p_port, listens.p2p.listen.port()),
        ("--ops-port", args.ops_port, listens.ops.listen.port()),
    ];
    for (flag, asked, is) in given {
        if asked.is_some_and(|asked| asked != is) {
            return Err(Failure::refused(format!(
                "{} holds a network already, with {flag} {is}: leave {flag} out to resume it, \
                 change its node.toml files, or choose another --datadir",
                layout.genesis().display()
            )));
        }
    }
    Ok(())
}

/// How a node is configured; its ports are what its file says, or a variable of the environment.
fn listens(layout: &Layout, number: u16) -> Result<NodeConfig, Failure> {
    let flags = Flags { config: Some(layout.config(number)), ..Flags::default() };
    NodeConfig::load(&flags).map_err(Failure::refused)
}

struct Node {
    process: Process,
    client: Client,
    url: String,
    name: String,
    /// Whose it is: another program may hold its port.
    id: NodeId,
    /// Transactions in blocks at the last look, and when that was.
    counted: Option<(u64, Instant)>,
}

impl Node {
    fn start(layout: &Layout, number: u16) -> Result<Self, Failure> {
        let url = format!("http://{}", listens(layout, number)?.rpc.listen);
        Ok(Self {
            process: Process::start(&layout.config(number))?,
            client: Client::new(&url)?,
            url,
            name: format!("node-{number}"),
            id: layout.validator(number)?.id,
            counted: None,
        })
    }

    async fn status(&self) -> Option<Value> {
        let asked = self.client.call("landfall_status", &[]);
        tokio::time::timeout(ANSWER, asked).await.ok()?.ok()
    }

    /// What is shown of it now.
    async fn look(&mut self) -> String {
        if let Some(how) = self.process.ended() {
            return format!("DOWN: {how}");
        }
        let Some(status) = self.status().await else { return "does not answer".into() };
        let now = Instant::now();
        let total = quantity(&status["transactions"]);
        let per_second = self.counted.map(|(before, at)| {
            total.saturating_sub(before) as f64 / now.duration_since(at).as_secs_f64()
        });
        self.counted = Some((total, now));
        line(&status, per_second)
    }
}

fn is_of(status: &Value, id: NodeId) -> bool {
    status["node"]["validator"].as_str().and_then(|text| text.parse().ok()) == Some(id)
}

fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or("0x0");
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_default()
}

async fn watch(nodes: &mut [Node], args: &Args, place: &Directory) -> Result<(), Failure> {
    let stopped = async {
        tokio::select! {
            () = signalled() => {}
            () = stdin_ended(), if args.stop_with_stdin => {}
        }
    };
    tokio::pin!(stopped);
    tokio::select! {
        () = &mut stopped => return Ok(()),
        started = until_all_answer(nodes) => started?,
    }
    announce(nodes, place)?;
    let mut screen = Screen::new(nodes.iter().map(|node| node.name.clone()).collect());
    let mut first = true;
    loop {
        let mut lines = Vec::new();
        for node in nodes.iter_mut() {
            lines.push(node.look().await);
        }
        screen.show(&lines, first);
        first = false;
        if lines.iter().all(|line| line.starts_with("DOWN")) {
            return Err(Failure::refused("no node is left; their logs say why"));
        }
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Waits until every node answers, or one has ended.
async fn until_all_answer(nodes: &mut [Node]) -> Result<(), Failure> {
    let start = Instant::now();
    for node in nodes {
        loop {
            if let Some(how) = node.process.ended() {
                return Err(Failure::refused(format!("{} did not start: {how}", node.name)));
            }
            if node.status().await.is_some_and(|status| is_of(&status, node.id)) {
                break;
            }
            if start.elapsed() > STARTING {
                let name = &node.name;
                return Err(Failure::refused(format!("{name} does not answer at {}", node.url)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

fn announce(nodes: &[Node], place: &Directory) -> Result<(), Failure> {
    let keyring = keys::keyring(keys::TEST_MNEMONIC, keys::DERIVATION_PATH, 10)?;
    super::say("Accounts with 10000 ether each, unlocked on every node:");
    for (index, key) in keys::keys(&keyring).iter().enumerate() {
        super::say(format_args!("({index}) {} {}", key.address, key.secret));
    }
    super::say(format_args!("Mnemonic:   {}", keys::TEST_MNEMONIC));
    super::say(format_args!("Chain id:   {}", crate::genesis::CHAIN_ID));
    super::say(format_args!("Directory:  {}", place.describe()));
    for node in nodes {
        super::say(format_args!(
            "{:<10}  {}  (process {})",
            node.name,
            node.url,
            node.process.pid()
        ));
    }
    super::say("Ready. Ctrl-C stops all of them.\n");
    Ok(())
}

/// Where the network is kept; a temporary directory goes with this value.
struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    fn new(given: Option<PathBuf>) -> Self {
        let temporary = given.is_none();
        let path = given.unwrap_or_else(|| {
            let name = format!("landfall-up-{}-{}", std::process::id(), wall());
            std::env::temp_dir().join(name)
        });
        Self { path, temporary }
    }

    fn describe(&self) -> String {
        let path = self.path.display();
        if self.temporary {
            format!("{path} (removed at the end; keep a network with --datadir)")
        } else {
            path.to_string()
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing is lost if it stays: the system clears its temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
