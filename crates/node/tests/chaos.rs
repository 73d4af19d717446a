//! Networks of four real nodes under load, while processes, disks, links and clocks fail.
//!
//! A cycle is one fault (`network/fault.rs`), drawn by a seed: it strikes, it is mended, the network
//! goes on within its bound, and all nodes come to one head. Meanwhile clients write down every
//! answer, and the checker (`network/history.rs`) judges each of them: nothing acknowledged is lost
//! or changed. At the end all transactions are final, every final block is read again at every
//! node, and the ledgers are verified.
//!
//! `LANDFALL_CHAOS_SECONDS` (for all protocols together), `_SEED`, `_ENGINE` (one protocol alone) and
//! `_RESTARTS` (cycles with restarts below which the test fails); `cargo xtask chaos` sets them.

mod network;
mod node;

use landfall_chain::store::SplitMix;
use network::client::Client;
use network::fault::Fault;
use network::load::Load;
use network::watch::Watchers;
use network::{Engine, NODES, Network, Order, wait_for};
use node::landfall;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds for all protocols where nothing else is said, and for the end of each.
const USUAL_SECONDS: u64 = 60;
const ENDING: Duration = Duration::from_secs(25);
/// Depth of `finalized` in the lottery: longer than any cut lasts.
const FINAL_DEPTH: u64 = 20;
/// Hashes for the first block of the lottery: rather too easy, for a slow machine.
const FIRST_DIFFICULTY: u64 = 100_000;
/// So far behind its schedule, the lottery halves its difficulty: the processors are shared, and what
/// is left for the search changes all the time.
const HALF_LIFE_MS: u64 = 5_000;
/// Final blocks, and transactions, that are read again at each node after each cycle.
const BLOCKS_AGAIN: u64 = 100;
const RECEIPTS_AGAIN: usize = 200;
/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(250);
/// Until everything that was sent is final: repetitions, and blocks on top of the last one.
const DRAINED: Duration = Duration::from_secs(120);

/// One network at a time: they share the processors.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that another would see.
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// How many cycles of each kind there were.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<Fault, u32>,
    restarts: u32,
    acknowledged: usize,
    calls: usize,
}

impl Tally {
    fn cycles(&self) -> u32 {
        self.kinds.values().sum()
    }

    fn with_restarts(&self) -> u32 {
        self.kinds.iter().filter(|(fault, _)| fault.restarts()).map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        for (fault, count) in &other.kinds {
            *self.kinds.entry(*fault).or_default() += count;
        }
        self.restarts += other.restarts;
        self.acknowledged += other.acknowledged;
        self.calls += other.calls;
    }

    /// One line for everything; violations would have ended the test before it.
    fn line(&self) -> String {
        let kind = |(fault, count): (&Fault, &u32)| format!("{} {count}", fault.name());
        let kinds: Vec<String> = self.kinds.iter().map(kind).collect();
        format!(
            "{} cycles, {} with restarts ({} processes), {}; {} calls judged, \
             {} acknowledged transactions, 0 lost",
            self.cycles(),
            self.with_restarts(),
            self.restarts,
            kinds.join(", "),
            self.calls,
            self.acknowledged
        )
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_processes_disks_links_and_clocks_fail() {
    let _alone = alone();
    let seconds = setting("LANDFALL_CHAOS_SECONDS", USUAL_SECONDS);
    let seed = setting("LANDFALL_CHAOS_SEED", 1);
    let named = env::var("LANDFALL_CHAOS_ENGINE").ok();
    let engines: Vec<Engine> = Engine::ALL
        .into_iter()
        .filter(|engine| named.as_ref().is_none_or(|name| name == engine.name()))
        .collect();
    assert!(!engines.is_empty(), "LANDFALL_CHAOS_ENGINE: {named:?} is none of pbft, raft, pow");
    println!("seed {seed}");
    let each = Duration::from_secs(seconds) / engines.len() as u32;
    let least = setting("LANDFALL_CHAOS_RESTARTS", engines.len() as u64);
    let share = least.div_ceil(engines.len() as u64);
    let mut all = Tally::default();
    for engine in &engines {
        let tally = run(*engine, seed, each, share);
        println!("{}: {}", engine.name(), tally.line());
        all.add(&tally);
    }
    println!("chaos: {}", all.line());
    let done = u64::from(all.with_restarts());
    assert!(done >= least, "{done} cycles with restarts; {least} were wanted in {seconds} s");
    assert!(all.acknowledged > 0, "nothing was acknowledged: the load did not reach the nodes");
}

/// Cycles for some time; longer, but not twice as long, until nodes were restarted in so many.
fn run(engine: Engine, seed: u64, time: Duration, share: u64) -> Tally {
    let begin = Instant::now();
    let mut random = SplitMix(seed);
    let small_disk = Some(random.below(NODES as u64) as usize);
    let mut network =
        Network::prepare(&format!("chaos-{}", engine.name()), &order(engine, small_disk));
    let all: Vec<usize> = (0..NODES).collect();
    all.iter().for_each(|node| network.start(*node, 0));
    network.wait_until_listening(&all);
    let watchers = Watchers::start(&network.clients, &network.accounts, seed);
    let load = Load::start(&network.clients, network.chain_id, PAUSE, seed);
    let first = wait_for(Instant::now(), DRAINED, || acknowledged(&network) > 0);
    first.unwrap_or_else(|error| panic!("{}: no first receipt: {error}", engine.name()));
    let mut tally = Tally::default();
    let mut deck = Vec::new();
    let goes_on = |tally: &Tally| {
        let spent = begin.elapsed() + ENDING;
        let wanting = tally.cycles() == 0 || u64::from(tally.with_restarts()) < share;
        spent < time || (wanting && spent < 2 * time)
    };
    while tally.cycles() == 0 || goes_on(&tally) {
        if deck.is_empty() {
            deck = Fault::shuffled(&mut random);
            deck.retain(|fault| *fault != Fault::FillDisk || network.small_disk().is_some());
            deck.reverse();
        }
        let fault = deck.pop().expect("it was filled above");
        let number = tally.cycles() + 1;
        let told = cycle(&mut network, &load, fault, &mut random, &mut tally);
        let told = told.unwrap_or_else(|error| {
            panic!("{} seed {seed} cycle {number}, {}: {error}", engine.name(), fault.name())
        });
        println!("{} {number}: {}: {told}", engine.name(), fault.name());
    }
    end(&mut network, load, watchers);
    tally.acknowledged = acknowledged(&network);
    tally.calls = network.recorder.history().calls();
    tally
}

/// The lottery has a block every half second, and a finality that can be waited for.
fn order(engine: Engine, small_disk: Option<usize>) -> Order {
    let (flags, edit): (_, fn(&mut Value)) = match engine {
        Engine::Pow => (vec!["--free-gas", "--block-time", "500ms"], shorten_lottery),
        Engine::Pbft | Engine::Raft => (vec!["--free-gas"], |_| ()),
    };
    Order { engine, flags, links: true, small_disk, edit }
}

fn shorten_lottery(genesis: &mut Value) {
    let section = &mut genesis["config"]["landfall"]["pow"];
    section["finalDepth"] = json!(FINAL_DEPTH);
    section["safeDepth"] = json!(FINAL_DEPTH / 2);
    section["firstDifficulty"] = json!(FIRST_DIFFICULTY);
    section["halfLifeMs"] = json!(HALF_LIFE_MS);
}

fn acknowledged(network: &Network) -> usize {
    network.recorder.history().checker().acknowledged().len()
}

/// One fault from strike to calm; what happened.
fn cycle(
    network: &mut Network,
    load: &Load,
    fault: Fault,
    random: &mut SplitMix,
    tally: &mut Tally,
) -> Result<String, String> {
    load.resume();
    std::thread::sleep(Duration::from_millis(500 + random.below(1_000)));
    let struck = fault.strike(network, random)?;
    *tally.kinds.entry(fault).or_default() += 1;
    tally.restarts += struck.restarts;
    let progress = network.resumes(&struck)?;
    load.pause();
    let one_head = network.one_head()?;
    look_again(network, random)?;
    Ok(format!(
        "{}; progress after {:.1} s, one head after {:.1} s, {} acknowledged",
        struck.told,
        progress.as_secs_f64(),
        one_head.as_secs_f64(),
        acknowledged(network)
    ))
}

/// Reads a part of what was acknowledged again, at every node, and has the checker speak.
fn look_again(network: &Network, random: &mut SplitMix) -> Result<(), String> {
    let mut known: Vec<_> = {
        let history = network.recorder.history();
        history.checker().acknowledged().keys().copied().collect()
    };
    known.sort_unstable();
    let many = known.len() as u64;
    let sample: Vec<_> =
        (0..RECEIPTS_AGAIN.min(known.len())).map(|_| known[random.below(many) as usize]).collect();
    for client in network.clients.iter().map(Client::patient) {
        let answers = client.finalized().and_then(|finalized| {
            client.blocks(finalized.saturating_sub(BLOCKS_AGAIN).max(1)..=finalized)?;
            client.accounts(finalized, &network.accounts)?;
            client.receipts(&sample)
        });
        answers.ok_or_else(|| format!("node {} does not answer", client.node + 1))?;
    }
    network.recorder.history().complaint().map_or(Ok(()), Err)
}

/// Everything that was sent becomes final; every final block is read again; every ledger is sound.
fn end(network: &mut Network, load: Load, watchers: Watchers) {
    load.pause();
    let drained = wait_for(Instant::now(), DRAINED, || load.waiting() == 0);
    drained.unwrap_or_else(|error| panic!("{} transactions do not end: {error}", load.waiting()));
    drop((load, watchers));
    network.one_head().unwrap_or_else(|error| panic!("{error}"));
    for client in network.clients.iter().map(Client::patient) {
        let finalized = client.finalized().expect("the node answers");
        client.blocks(1..=finalized).expect("the node answers");
    }
    if let Some(complaint) = network.recorder.history().complaint() {
        panic!("{complaint}");
    }
    network.stop_and_verify();
}

/// Of these, the best window of the healthy network and the best without one node are compared.
const WINDOWS: usize = 3;
/// The node that dies.
const DEAD: usize = 3;
/// Five hundred transfers: a window has many blocks, full ones.
const GAS_LIMIT: u64 = 500 * 21_000;
/// Transactions of a window.
const MEASURED: u32 = 15_000;
/// Blocks before a window, and the transactions that each few of them take: agreed data, the
/// certificates in twice as many blocks as there are nodes, must first show who is dead and who is
/// back.
const BEFORE: u64 = 2 * NODES as u64 + 4;
const FEW: u32 = 50;

#[test]
fn one_of_four_dead_leaves_seven_tenths_of_the_rate() {
    let _alone = alone();
    let edit = |genesis: &mut Value| genesis["gasLimit"] = json!(format!("{GAS_LIMIT:#x}"));
    let engine = Engine::Pbft;
    let order = Order { engine, flags: vec![], links: false, small_disk: None, edit };
    let mut network = Network::prepare("dead", &order);
    (0..NODES).for_each(|node| network.start(node, 0));
    network.wait_until_listening(&(0..NODES).collect::<Vec<_>>());
    let (mut healthy, mut without) = (0_f64, 0_f64);
    for window in 1..=WINDOWS {
        let all = settled_rate(&network);
        network.kill(DEAD);
        let three = settled_rate(&network);
        println!("window {window}: {all:.0} transactions/s with four, {three:.0} with three");
        (healthy, without) = (healthy.max(all), without.max(three));
        network.start(DEAD, 0);
        network.wait_until_listening(&[DEAD]);
        network.one_head().unwrap_or_else(|error| panic!("{error}"));
    }
    let ratio = without / healthy;
    println!("one of four dead: {without:.0} of {healthy:.0} transactions/s, ratio {ratio:.2}");
    assert!(ratio >= 0.7, "with one of four dead the rate is {ratio:.2} of the healthy one");
}

/// The rate once the blocks show who lives.
fn settled_rate(network: &Network) -> f64 {
    let height = || network.height(0).expect("the node answers");
    let from = height();
    while height() < from + BEFORE {
        rate(network, FEW);
    }
    rate(network, MEASURED)
}

/// Final transactions per second at full load, all of it brought to the nodes that live throughout.
fn rate(network: &Network, transactions: u32) -> f64 {
    let urls = network.clients[..DEAD].iter().map(|client| format!("http://{}", client.address));
    let urls = urls.collect::<Vec<_>>().join(",");
    let count = transactions.to_string();
    let output = landfall(&["bench", "--rpc", &urls, "-n", &count, "--senders", "500", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the measurement failed: {said}");
    let runs: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    runs[0]["per_second"].as_f64().expect("the report has a rate")
}
