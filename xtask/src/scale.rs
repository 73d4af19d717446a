//! `cargo xtask scale`: a large state and a long chain, and what the node still does with it.
//!
//! Makes a genesis with many accounts and one contract with as many slots, seals a long chain on
//! it, opens that with the real node, asks for old state, for logs and for one account's history,
//! and compares the rate of transfers with that of a small chain. Prints each figure beside its
//! limit and fails if one does not hold.

use alloy_consensus::{EthereumTypedTransaction, TxEip1559};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, address, hex, keccak256};
use jsonrpsee_core::client::ClientT;
use jsonrpsee_core::params::ArrayParams;
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use landfall_chain::pool::Recovered;
use landfall_chain::store::SplitMix;
use landfall_chain::{Attributes, Chain, ChainOptions, Place};
use landfall_types::{Extension, ForkChoice};
use serde_json::{Value, json};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OPEN_LIMIT: Duration = Duration::from_secs(2);
const QUERY_LIMIT: Duration = Duration::from_secs(1);
const RESIDENT_LIMIT_MIB: u64 = 1_024;
const RATE_LIMIT: f64 = 0.7;
/// Each question is asked this often, at random places; the slowest counts.
const QUERIES: usize = 30;
/// Blocks between two fork choices while the chain is made, and one of logs in so many blocks.
const STRIDE: u64 = 64;
/// Measurements of the rate on each chain, alternating; the best counts, since whatever else the
/// machine does only ever slows one down.
const MEASUREMENTS: usize = 3;

/// `LOG1(0, 0, CALLER)`, then `SSTORE(calldata[32], calldata[0])`; without call data it returns
/// the slot that its number names: `SLOAD(number)`.
const CODE: &[u8] = &hex!("3615601057335f5fa15f3560203555005b43545f5260205ff3");
const CONTRACT: Address = Address::repeat_byte(0xcc);
/// The first account of the development mnemonic, which `landfall bench` spends from.
const FUNDER: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// How much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// A tenth of everything, as CI does it.
    #[arg(long)]
    tenth: bool,
    /// Transfers in each measurement of the rate.
    #[arg(long, default_value_t = 20_000)]
    transfers: u64,
    /// Use the node built with `--release` (build it first).
    #[arg(long)]
    release: bool,
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Makes both chains, asks, compares.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let part = if arguments.tenth { 10 } else { 1 };
    let (accounts, blocks) = (1_000_000 / part, 100_000 / part);
    let root = PathBuf::from("target/scale");
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    let (large, small) = (root.join("large"), root.join("small"));
    let began = Instant::now();
    make(&large, accounts, blocks)?;
    println!("made {accounts} accounts, as many slots, {blocks} blocks in {:.0?}", began.elapsed());
    make(&small, 1_000, 1)?;
    let binary =
        if arguments.release { "target/release/landfall" } else { "target/debug/landfall" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut failed = false;
    let mut check = |what: &str, holds: bool, figure: String| {
        println!("{} {what}: {figure}", if holds { "ok    " } else { "FAILED" });
        failed |= !holds;
    };
    {
        let node = Node::start(binary, &large)?;
        check("opens in under 2 s", node.opened < OPEN_LIMIT, format!("{:.2?}", node.opened));
        for (what, slowest) in runtime.block_on(questions(&node, blocks))? {
            check(what, slowest < QUERY_LIMIT, format!("slowest of {QUERIES}: {slowest:.1?}"));
        }
    }
    let mut rates = [Vec::new(), Vec::new()];
    let mut resident = 0;
    for _ in 0..MEASUREMENTS {
        for (directory, rates) in [&large, &small].into_iter().zip(&mut rates) {
            let node = Node::start(binary, directory)?;
            rates.push(node.rate(binary, arguments.transfers)?);
            if directory == &large {
                resident = node.peak_resident_mib()?.max(resident);
            }
        }
    }
    let [large_rate, small_rate] = rates.map(best);
    let ratio = large_rate / small_rate;
    let figure = format!("{large_rate:.0}/s against {small_rate:.0}/s: {ratio:.2}");
    check("transfers at 70 % of a small chain's rate", ratio >= RATE_LIMIT, figure);
    check("under 1 GiB resident", resident < RESIDENT_LIMIT_MIB, format!("{resident} MiB"));
    if failed { Err("the node does not scale as it should".into()) } else { Ok(()) }
}

fn best(values: Vec<f64>) -> f64 {
    values.into_iter().fold(0.0, f64::max)
}

fn holder(index: u64) -> Address {
    Address::from_word(keccak256(index.to_be_bytes()))
}

fn genesis(accounts: u64) -> Outcome<Genesis> {
    let mut genesis: Genesis = serde_json::from_value(json!({
        "config": {
            "chainId": 31_337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
            "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0,
            "landfall": { "engine": "solo", "impersonation": true },
        },
        "gasLimit": "0x3b9aca00", "difficulty": "0x0", "alloc": {},
    }))?;
    for contract in landfall_evm::system_contracts() {
        let account =
            GenesisAccount::default().with_nonce(Some(1)).with_storage(Some(contract.storage));
        genesis.alloc.insert(contract.address, account.with_code(Some(contract.code)));
    }
    let with = |wei: u128| GenesisAccount::default().with_balance(U256::from(wei));
    for index in 0..accounts {
        genesis.alloc.insert(holder(index), with(10u128.pow(20)));
    }
    genesis.alloc.insert(FUNDER, with(10u128.pow(27)));
    let slots =
        (0..accounts).map(|slot| (B256::from(U256::from(slot)), B256::from(U256::from(slot + 1))));
    let contract = GenesisAccount::default()
        .with_code(Some(Bytes::from_static(CODE)))
        .with_storage(Some(slots.collect()));
    genesis.alloc.insert(CONTRACT, contract);
    Ok(genesis)
}

/// A chain in a directory: each block has a transfer between random holders, and one in
/// [`STRIDE`] a call that logs and writes a random slot.
fn make(directory: &Path, accounts: u64, blocks: u64) -> Outcome<()> {
    std::fs::create_dir_all(directory)?;
    let place = Place::Directory(directory.into());
    let mut chain = Chain::open(ChainOptions::new(Some(genesis(accounts)?), place))?;
    let mut random = SplitMix(accounts);
    let mut head = chain.reader().genesis_hash();
    let mut finalized = head;
    let started = 1_700_000_000_000;
    // Holders send in turn, so each nonce is the number of rounds so far.
    for number in 1..=blocks {
        let attributes = Attributes {
            gas_limit: 1_000_000_000,
            extension: Extension { milliseconds: started + number * 1_000, ..Extension::default() },
            ..Attributes::default()
        };
        let sender = holder(number % accounts);
        let to = holder(random.below(accounts));
        let call = number % STRIDE == 0;
        let slot = U256::from(random.below(accounts));
        let block = chain.build(head, attributes, |builder| {
            let input = [U256::from(number).to_be_bytes::<32>(), slot.to_be_bytes::<32>()].concat();
            let (to, input) = if call { (CONTRACT, input.into()) } else { (to, Bytes::new()) };
            let fields = TxEip1559 {
                chain_id: 31_337,
                nonce: number / accounts,
                gas_limit: 100_000,
                max_fee_per_gas: 10_000_000_000,
                max_priority_fee_per_gas: 1,
                to: TxKind::Call(to),
                value: U256::from(u8::from(!call)),
                access_list: Default::default(),
                input,
            };
            let sent = Recovered::impersonated(EthereumTypedTransaction::Eip1559(fields), sender);
            builder.push(&sent.transaction, sender).expect("a rich holder can pay");
        })?;
        head = block.block.hash();
        if number % STRIDE == 0 || number == blocks {
            chain.adopt(ForkChoice { head, safe: finalized, finalized })?;
            finalized = head;
            if chain.flush_due() {
                chain.flush()?;
            }
        }
    }
    chain.flush()?;
    Ok(())
}

/// A running node; ends with its handle.
struct Node {
    process: Child,
    url: String,
    opened: Duration,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Only our own child, by its handle.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    fn start(binary: &str, directory: &Path) -> Outcome<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let began = Instant::now();
        let mut process = Command::new(binary)
            .args(["dev", "--block-time", "1", "--gas-limit", "1000000000"])
            .args(["--port", &port.to_string(), "--datadir"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or("no output")?;
        let mut node =
            Self { process, url: format!("http://127.0.0.1:{port}"), opened: Duration::MAX };
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = lines.next().ok_or("the node ended before it listened")??;
            if line.contains("Listening on") {
                node.opened = began.elapsed();
                // The node must not block on a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(node);
            }
        }
    }

    fn peak_resident_mib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no VmHWM")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib / 1_024)
    }

    /// Transfers per second by `landfall bench`.
    fn rate(&self, binary: &str, transfers: u64) -> Outcome<f64> {
        let output = Command::new(binary)
            .args(["bench", "--rpc", &self.url, "--rate", "max", "--json"])
            .args(["--transactions", &transfers.to_string(), "--senders", "1000"])
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("landfall bench failed: {error}").into());
        }
        let report: Value = serde_json::from_str(&text)?;
        let run = report.as_array().and_then(|runs| runs.first()).unwrap_or(&report);
        run["per_second"].as_f64().ok_or_else(|| format!("no rate in {text}").into())
    }
}

/// The slowest answer to each kind of question.
async fn questions(node: &Node, blocks: u64) -> Outcome<Vec<(&'static str, Duration)>> {
    let client = HttpClientBuilder::default()
        .max_response_size(200 << 20)
        .request_timeout(Duration::from_secs(60))
        .build(&node.url)?;
    let mut random = SplitMix(7);
    let tag = |number: u64| format!("{number:#x}");
    let mut slowest = vec![
        ("eth_getBalance at random old heights", Duration::ZERO),
        ("eth_call at random old heights", Duration::ZERO),
        ("eth_getLogs over all blocks", Duration::ZERO),
        ("one account's transactions", Duration::ZERO),
    ];
    for _ in 0..QUERIES {
        let height = 1 + random.below(blocks);
        let who = holder(random.below(blocks));
        let asked = [
            ("eth_getBalance", json!([who, tag(height)])),
            ("eth_call", json!([{ "to": CONTRACT }, tag(height)])),
            (
                "eth_getLogs",
                json!([{ "fromBlock": "0x0", "toBlock": "latest", "address": CONTRACT }]),
            ),
            ("ots_searchTransactionsBefore", json!([who, 0, 25])),
        ];
        for ((method, arguments), slowest) in asked.into_iter().zip(&mut slowest) {
            let began = Instant::now();
            let answer = ask(&client, method, arguments).await?;
            slowest.1 = slowest.1.max(began.elapsed());
            expect(method, &answer, blocks)?;
        }
    }
    Ok(slowest)
}

async fn ask(client: &HttpClient, method: &str, arguments: Value) -> Outcome<Value> {
    let mut params = ArrayParams::new();
    for argument in arguments.as_array().ok_or("arguments are a list")? {
        params.insert(argument)?;
    }
    Ok(client.request(method, params).await?)
}

/// An answer that is quick and wrong does not count.
fn expect(method: &str, answer: &Value, blocks: u64) -> Outcome<()> {
    let right = match method {
        "eth_getBalance" => answer.as_str().is_some_and(|wei| wei.len() > 12),
        "eth_call" => {
            let word = answer.as_str().and_then(|word| word.parse::<B256>().ok());
            word.is_some_and(|word| !word.is_zero())
        }
        "eth_getLogs" => answer.as_array().map(|logs| logs.len() as u64) == Some(blocks / STRIDE),
        _ => answer["txs"].as_array().is_some_and(|list| !list.is_empty()),
    };
    if right { Ok(()) } else { Err(format!("{method} answered {answer}").into()) }
}
