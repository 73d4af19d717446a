//! `landfall bench`: how much a node includes, how soon, and at what cost.

use crate::bench::client::Client;
use crate::bench::load::{self, Plan, Rate};
use crate::bench::prepare::{Order, Workload, prepare};
use crate::bench::process;
use crate::bench::report::{self, Run};
use crate::bench::watch::{self, Counts, Progress};
use crate::failure::Failure;
use crate::keys::{self, Key};
use indicatif::{ProgressBar, ProgressStyle};
use std::convert::Infallible;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Measures nodes under load over their JSON-RPC
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node to measure; give several to measure them in turn and compare them. Several with
    /// commas between them are the nodes of one network: all of them get the load, and a
    /// transaction counts when the first of them says that it is final
    #[arg(long, value_name = "URL[,URL]", default_value = "http://127.0.0.1:8545")]
    rpc: Vec<Target>,
    /// The node's process, for its CPU time; one for each --rpc, in the same order, and with commas
    /// for a network
    #[arg(long, value_name = "PID[,PID]")]
    pid: Vec<Processes>,
    /// How many times to measure each node; the median counts
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// What the transactions do
    #[arg(long, value_enum, default_value = "value")]
    workload: Workload,
    /// How many transactions a run sends
    #[arg(short = 'n', long, default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    transactions: u32,
    /// How many accounts send, derived from the mnemonic; the first funds those that lack money
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    senders: u32,
    /// Transactions per second whatever the node does, or `max` for as fast as it goes
    #[arg(long, default_value = "max")]
    rate: Rate,
    /// Transactions in one request; a request is due when its first transaction is
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Connections side by side
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// The mnemonic of the senders
    #[arg(short, long, default_value = keys::TEST_MNEMONIC)]
    mnemonic: String,
    /// The most that a transaction pays per gas, in gwei; blocks filled to the brim raise the price
    #[arg(long, default_value_t = 500)]
    max_fee_gwei: u64,
    /// How many seconds without a new inclusion end a run
    #[arg(long, default_value_t = 30)]
    patience: u64,
    /// Makes the recipients' addresses; without it each run has new ones
    #[arg(long)]
    seed: Option<u64>,
    /// Prints JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A node, or the nodes of a network.
#[derive(Clone, Debug)]
struct Target(Vec<String>);

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.split(',').map(str::to_owned).collect()))
    }
}

impl Target {
    /// Transactions of a network count when they are final: until then another node need not have
    /// heard of them.
    fn counts(&self) -> Counts {
        if self.0.len() > 1 { Counts::Finalized } else { Counts::Latest }
    }
}

/// Processes of a node, or of the nodes of a network.
#[derive(Clone, Debug)]
struct Processes(Vec<u32>);

impl FromStr for Processes {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.split(',').map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl Processes {
    fn cpu_time(&self) -> Result<Duration, Failure> {
        self.0.iter().map(|pid| process::cpu_time(*pid)).sum()
    }

    fn peak_memory(&self) -> Option<u64> {
        self.0.iter().map(|pid| process::peak_memory(*pid)).max().flatten()
    }
}

/// Runs the load and prints the figures.
pub fn run(args: &Args) -> Result<(), Failure> {
    if !args.pid.is_empty() && args.pid.len() != args.rpc.len() {
        return Err(Failure::refused("give as many --pid as --rpc, in the same order"));
    }
    let keyring = keys::keyring(&args.mnemonic, keys::DERIVATION_PATH, args.senders)?;
    let keys = keys::keys(&keyring);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start: {error}")))?;
    let mut runs = Vec::new();
    for round in 0..args.runs {
        for (place, rpc) in args.rpc.iter().enumerate() {
            let pid = args.pid.get(place);
            let seed = args.seed.unwrap_or_else(crate::clock::wall) + u64::from(round);
            runs.push(runtime.block_on(measure(args, rpc, pid, seed, &keys))?);
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&runs).expect("a report is JSON");
        println!("{text}");
    } else {
        print!("{}", report::table(&runs));
    }
    let lost = runs.iter().any(|run| run.gave_up || run.accepted < run.transactions);
    if lost { Err(Failure::refused("not every transaction was included")) } else { Ok(()) }
}

async fn measure(
    args: &Args,
    rpc: &Target,
    pid: Option<&Processes>,
    seed: u64,
    keys: &[Key],
) -> Result<Run, Failure> {
    let (name_of_all, counts) = (rpc.0.join(","), rpc.counts());
    let client = Client::new(&rpc.0[0])?;
    let name: String = client.call("web3_clientVersion", &[]).await?;
    let transactions = args.transactions as usize;
    let bar = progress(transactions as u64, args.json);
    bar.set_message(format!("{name_of_all}: signing"));
    let (workload, max_fee_gwei) = (args.workload, args.max_fee_gwei);
    let order = Order { workload, transactions, keys, seed, max_fee_gwei };
    let signed = Arc::new(prepare(&client, &order).await?);
    let places: alloy_primitives::map::HashMap<_, _> =
        signed.iter().enumerate().map(|(index, signed)| (signed.hash, index)).collect();
    bar.set_message(format!("{name_of_all}: included"));
    let plan = Plan {
        rate: args.rate,
        batch: args.batch as usize,
        connections: (args.connections as usize).max(rpc.0.len()),
        senders: keys.len().min(transactions),
    };
    let progress = Progress::default();
    let from = client.block_number().await? + 1;
    let patience = Duration::from_secs(args.patience);
    let watching = tokio::spawn(watch::watch(
        client.clone(),
        (from, counts),
        places.clone(),
        progress.clone(),
        patience,
    ));
    let drawing = tokio::spawn(draw(bar.clone(), progress.clone()));
    let cpu_before = pid.map(Processes::cpu_time).transpose()?;
    let sending =
        load::send(&rpc.0, signed.clone(), plan, Instant::now(), progress.accepted.clone()).await;
    progress.all_sent.store(true, Ordering::Release);
    let outcome = sending?;
    let seen = watching.await.expect("watching does not panic")?;
    let cpu_after = pid.map(Processes::cpu_time).transpose()?;
    drawing.abort();
    bar.finish_and_clear();
    let times = report::times(&outcome, &seen);
    let cpu = cpu_before
        .zip(cpu_after)
        .map(|(before, after)| (after - before).as_secs_f64() * 1e6 / times.included.max(1) as f64);
    Ok(Run {
        rpc: name_of_all,
        client: name,
        workload: workload.name(),
        rate: args.rate.to_string(),
        batch: plan.batch,
        connections: plan.connections,
        senders: plan.senders,
        transactions,
        accepted: outcome.sent.iter().filter(|sent| sent.accepted).count(),
        included: times.included,
        failed: watch::failed(&client, &signed, &seen).await?,
        blocks: seen.blocks.len(),
        seconds: times.seconds,
        per_second: times.per_second,
        latency_ms: times.latency,
        cpu_us_per_transaction: cpu,
        peak_memory_bytes: pid.and_then(Processes::peak_memory),
        refusal: outcome.refusal,
        gave_up: seen.gave_up,
    })
}

async fn draw(bar: ProgressBar, progress: Progress) {
    loop {
        bar.set_position(progress.included.load(Ordering::Relaxed) as u64);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn progress(length: u64, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:<40} {bar:30} {pos}/{len} {elapsed}")
        .expect("the template is well-formed");
    ProgressBar::new(length).with_style(style)
}
