//! `landfall dev`: a chain of one's own with one command, in the style of anvil, but it lasts.

use super::import::{opening, read_genesis};
use crate::banner::Banner;
use crate::clock::{Clock, wall};
use crate::door::{Door, Shared};
use crate::failure::Failure;
use crate::genesis::{self, ChainGenesis, WEI_PER_ETHER};
use crate::host::{Host, QUEUED_TASKS, Switches};
use crate::keys::{self, Key};
use crate::logging::{self, LogHandle};
use crate::ops::{self, OpsServer, RpcMeter, Source};
use crate::sealer::{Sealer, parent_time, solo};
use crate::stop::signalled;
use alloy_genesis::Genesis;
use alloy_primitives::U256;
use alloy_primitives::{Address, Bytes};
use landfall_chain::pool::{Order, Pool, PoolLimits};
use landfall_chain::{Chain, ChainOptions, OpenError, Place};
use landfall_replica::{Config, KeySigner, Limits, Mempool, Replica, Signer as _, next_rules};
use landfall_rpc::{Backend, Controls, RpcConfig};
use landfall_types::{ConsensusConfig, Kind, StateReader, Time};
use landfall_wallet::Keyring;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::{mpsc, oneshot};

/// Accounts that may be derived.
const MAX_ACCOUNTS: i64 = 100_000;

/// Starts a development chain with funded accounts; the flags are anvil's
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many accounts to fund and unlock
    #[arg(short, long, help_heading = "Accounts", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(0..=MAX_ACCOUNTS))]
    accounts: u32,
    /// The balance of each account in ether [default: 10000]
    #[arg(long, help_heading = "Accounts", value_name = "ETHER")]
    balance: Option<u64>,
    /// The words that the accounts come from [default: test test ... junk]
    #[arg(short, long, help_heading = "Accounts", conflicts_with = "mnemonic_random")]
    mnemonic: Option<String>,
    /// Makes a new mnemonic of so many words
    #[arg(long, help_heading = "Accounts", value_name = "WORDS", num_args = 0..=1,
        default_missing_value = "12")]
    mnemonic_random: Option<usize>,
    /// Where under the mnemonic the accounts lie
    #[arg(long, help_heading = "Accounts", default_value = keys::DERIVATION_PATH)]
    derivation_path: String,
    /// Lets everybody send from every account, without its key
    #[arg(long, help_heading = "Accounts", visible_alias = "auto-unlock")]
    auto_impersonate: bool,

    /// Seals a block every so many seconds (fractions allowed) instead of for each transaction
    #[arg(short, long, help_heading = "Sealing", visible_alias = "blockTime", value_name = "SECONDS",
        value_parser = seconds)]
    block_time: Option<u64>,
    /// Seals only when told (evm_mine)
    #[arg(
        long,
        help_heading = "Sealing",
        visible_alias = "no-mine",
        conflicts_with = "block_time"
    )]
    no_mining: bool,
    /// Seals no block on the interval when no transaction waits
    #[arg(long, help_heading = "Sealing", requires = "block_time")]
    no_empty_blocks: bool,
    /// Seals on the interval and for each transaction
    #[arg(long, help_heading = "Sealing", requires = "block_time")]
    mixed_mining: bool,
    /// Which waiting transaction comes first
    #[arg(long, help_heading = "Sealing", value_enum, default_value = "fees")]
    order: OrderBy,

    /// The chain id [default: 31337]
    #[arg(long, help_heading = "Chain", value_parser = clap::value_parser!(u64).range(1..))]
    chain_id: Option<u64>,
    /// The gas limit of a block [default: 30000000]
    #[arg(long, help_heading = "Chain", value_parser = clap::value_parser!(u64).range(21_000..))]
    gas_limit: Option<u64>,
    /// The base fee of block 0 in wei [default: 1000000000]
    #[arg(
        long,
        help_heading = "Chain",
        visible_alias = "block-base-fee-per-gas",
        value_name = "WEI"
    )]
    base_fee: Option<u64>,
    /// The time of block 0 in seconds since 1970; the chain's clock starts there [default: now]
    #[arg(long, help_heading = "Chain", value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64 / 1_000))]
    timestamp: Option<u64>,
    /// A genesis file as geth has it, instead of the one that the flags make
    #[arg(long, help_heading = "Chain", visible_alias = "genesis", value_name = "FILE",
        conflicts_with_all = ["chain_id", "base_fee", "timestamp", "balance"])]
    init: Option<PathBuf>,
    /// Keeps the chain in this directory; without it the chain is gone at the end
    #[arg(long, help_heading = "Chain", value_name = "DIR")]
    datadir: Option<PathBuf>,

    /// The address to listen on
    #[arg(long, help_heading = "Server", default_value = "127.0.0.1", env = "ANVIL_IP_ADDR")]
    host: IpAddr,
    /// The port to listen on, HTTP and WebSocket; 0 takes a free one
    #[arg(short, long, help_heading = "Server", default_value_t = 8545)]
    port: u16,
    /// Opens a port for metrics and health; 0 takes a free one
    #[arg(long, help_heading = "Server", value_name = "PORT")]
    ops_port: Option<u16>,
    /// Does not let web pages of other origins call
    #[arg(long, help_heading = "Server")]
    no_cors: bool,
    /// Takes requests of any size
    #[arg(long, help_heading = "Server", conflicts_with = "max_request_bytes")]
    no_request_size_limit: bool,
    /// The longest request body
    #[arg(long, help_heading = "Server", value_name = "BYTES")]
    max_request_bytes: Option<u32>,
    /// The longest answer
    #[arg(long, help_heading = "Server", value_name = "BYTES")]
    max_response_bytes: Option<u32>,
    /// Requests in one batch
    #[arg(long, help_heading = "Server", value_name = "COUNT")]
    max_batch: Option<usize>,
    /// Open connections
    #[arg(long, help_heading = "Server", value_name = "COUNT")]
    max_connections: Option<u32>,
    /// Logs in one answer of eth_getLogs
    #[arg(long, help_heading = "Server", value_name = "COUNT")]
    max_logs: Option<usize>,
    /// The most gas that eth_call and eth_estimateGas spend
    #[arg(long, help_heading = "Server", value_name = "GAS")]
    gas_cap: Option<u64>,
    /// Writes accounts, keys and settings to this file as JSON
    #[arg(long, help_heading = "Server", value_name = "FILE")]
    config_out: Option<PathBuf>,
    /// Prints nothing
    #[arg(short, long, help_heading = "Server", visible_alias = "silent")]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum OrderBy {
    /// The highest fee.
    Fees,
    /// The first to come.
    Fifo,
}

fn seconds(text: &str) -> Result<u64, String> {
    let milliseconds = text.parse::<f64>().map_or(f64::NAN, |seconds| seconds * 1_000.0);
    // Not a number is in no range.
    if (1.0..=86_400_000.0 * 365.0).contains(&milliseconds) {
        Ok(milliseconds.round() as u64)
    } else {
        Err("give seconds, at least 0.001 and at most a year".into())
    }
}

/// Runs the node until it is told to stop or its store fails.
pub fn run(args: &Args) -> Result<(), Failure> {
    let log = logging::init_from_environment()?;
    let mnemonic = mnemonic(args)?;
    let keyring = keys::keyring(&mnemonic, &args.derivation_path, args.accounts)?;
    let keys = keys::keys(&keyring);
    let place = DataDirectory::new(args.datadir.as_deref());
    let chain = open(args, &keys, place.path())?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(serve(args, &mnemonic, keyring, chain, (&place, &log)));
    // Requests that still wait must not hold the process.
    runtime.shutdown_background();
    ended
}

fn mnemonic(args: &Args) -> Result<String, Failure> {
    match (&args.mnemonic, args.mnemonic_random) {
        (Some(given), _) => Ok(given.clone()),
        (None, Some(words)) => keys::random_mnemonic(words),
        (None, None) => Ok(keys::TEST_MNEMONIC.into()),
    }
}

/// Opens the chain of the directory, or makes one as the flags say.
fn open(args: &Args, keys: &[Key], directory: &Path) -> Result<Chain, Failure> {
    let place = || Place::Directory(directory.to_owned());
    let given = args.init.as_deref().map(read_genesis).transpose()?;
    if let Some(genesis) = &given {
        check_sealable(genesis, args.init.as_deref())?;
    }
    let existing = match given {
        // Another chain in the directory is refused by the open.
        Some(genesis) => return create(genesis, place()),
        None => Chain::open(ChainOptions::new(None, place())),
    };
    match existing {
        Ok(chain) => check_flags(args, keys, chain, directory),
        Err(OpenError::Nothing(_)) => create(from_flags(args, keys), place()),
        Err(error) => Err(opening(error)),
    }
}

fn create(genesis: Genesis, place: Place) -> Result<Chain, Failure> {
    Chain::open(ChainOptions::new(Some(genesis), place)).map_err(opening)
}

fn from_flags(args: &Args, keys: &[Key]) -> Genesis {
    let balance = U256::from(args.balance.unwrap_or(10_000)) * U256::from(WEI_PER_ETHER);
    let dev = ChainGenesis {
        chain_id: args.chain_id.unwrap_or(genesis::CHAIN_ID),
        timestamp: args.timestamp.unwrap_or_else(|| wall() / 1_000),
        gas_limit: args.gas_limit.unwrap_or(genesis::GAS_LIMIT),
        base_fee: args.base_fee.unwrap_or(genesis::BASE_FEE),
        accounts: keys.iter().map(|key| (key.address, balance)).collect(),
        landfall: genesis::development(),
    };
    dev.build()
}

/// A chain without the merge has blocks of work, which this node does not make, and a network's
/// chain has blocks that several agreed on.
fn check_sealable(genesis: &Genesis, path: Option<&Path>) -> Result<(), Failure> {
    let engine = ConsensusConfig::from_genesis(genesis).ok();
    let engine = engine.map(|own| own.schedule.terms()[0].params.kind());
    if let Some(kind) = engine.filter(|kind| *kind != Kind::Solo) {
        return Err(Failure::refused(format!(
            "{}: the genesis of a network ({}); start it with `landfall node`",
            path.unwrap_or(Path::new("genesis")).display(),
            kind.name()
        )));
    }
    let config = &genesis.config;
    let merged = config.terminal_total_difficulty.is_some_and(|total| total <= genesis.difficulty)
        || config.terminal_total_difficulty_passed;
    if merged {
        return Ok(());
    }
    let path = path.unwrap_or(Path::new("genesis"));
    Err(Failure::refused(format!(
        "{}: field `config.terminalTotalDifficulty` must be 0: this node seals no blocks of work",
        path.display()
    )))
}

/// A chain that exists has its genesis already: flags that say otherwise are refused.
fn check_flags(
    args: &Args,
    keys: &[Key],
    chain: Chain,
    directory: &Path,
) -> Result<Chain, Failure> {
    let reader = chain.reader();
    let unreadable = |error| Failure::storage(format!("{}: {error}", directory.display()));
    let hash = reader.genesis_hash();
    let block = reader.block(hash).map_err(unreadable)?;
    let block = block.ok_or_else(|| Failure::storage("block 0 is missing"))?;
    let header = block.block.header.inner();
    let numbers = [
        ("--chain-id", args.chain_id, reader.spec().chain_id),
        ("--timestamp", args.timestamp, header.timestamp),
        ("--base-fee", args.base_fee, header.base_fee_per_gas.unwrap_or_default()),
    ];
    let refuse = |flag: &str, given: String, has: String| {
        Err(Failure::refused(format!(
            "{flag} {given} contradicts the chain in {}, which was made with {has}; leave the \
             flag out, or choose another --datadir",
            directory.display()
        )))
    };
    for (flag, given, has) in numbers {
        if let Some(given) = given.filter(|given| *given != has) {
            return refuse(flag, given.to_string(), has.to_string());
        }
    }
    if args.mnemonic.is_some() || args.mnemonic_random.is_some() || args.balance.is_some() {
        let state = reader.state(hash).map_err(unreadable)?;
        let want = args.balance.map(|ether| U256::from(ether) * U256::from(WEI_PER_ETHER));
        for Key { address, .. } in keys {
            let has = state.account(address).map_err(unreadable)?.unwrap_or_default().balance;
            if want.is_some_and(|want| want != has) {
                return refuse(
                    "--balance",
                    args.balance.unwrap_or(0).to_string(),
                    format!("{has} wei"),
                );
            }
            if has.is_zero() && want.is_none() {
                return refuse(
                    "--mnemonic",
                    format!("(account {address})"),
                    "other accounts".into(),
                );
            }
        }
    }
    Ok(chain)
}

async fn serve(
    args: &Args,
    mnemonic: &str,
    keyring: Keyring,
    chain: Chain,
    (place, log): (&DataDirectory, &LogHandle),
) -> Result<(), Failure> {
    let reader = chain.reader();
    let newest = parent_time(&reader.head().block.block);
    let clock = if args.timestamp.is_some() && reader.head().number() == 0 {
        Clock::showing(newest, wall())
    } else {
        Clock::resuming(newest, wall())
    };
    let order = match args.order {
        OrderBy::Fees => Order::Fees,
        OrderBy::Fifo => Order::Fifo,
    };
    let pool = Pool::new(PoolLimits::default(), order);
    let now = Time(clock.now(wall()));
    let mempool = Arc::new(Mempool::new(pool, next_rules(&reader, now)));
    let shared = Arc::new(Shared::new(mempool.clone()));
    let switches = Arc::new(Switches::default());
    let automine = !args.no_mining && args.block_time.is_none_or(|_| args.mixed_mining);
    switches.automine.store(automine, Relaxed);
    switches.interval.store(args.block_time.unwrap_or(0), Relaxed);
    let signer = block_signer(&keyring);
    let (tasks, queue) = mpsc::channel(QUEUED_TASKS);
    let host = Arc::new(Host::new(shared.clone(), switches.clone(), tasks));
    host.auto_impersonate(args.auto_impersonate);
    let keys = keys::keys(&keyring);
    let backend = Backend {
        chain: reader.clone(),
        pool: Arc::new(Door::new(shared.clone(), reader.clone(), None)),
        controls: Some(host.clone()),
        node: None,
        keys: Arc::new(keyring),
    };
    let _ops = watched(args, &backend, place, log).await?;
    let rpc = RpcConfig { meter: Some(Arc::new(RpcMeter)), ..limits(args) };
    let asked = SocketAddr::new(args.host, args.port);
    let (address, server) =
        landfall_rpc::serve(backend, rpc, asked).await.map_err(Failure::refused)?;
    let config = Config {
        me: signer.id(),
        seed: 0,
        schedule: solo(signer.id()),
        beneficiary: Address::ZERO,
        gas_limit: args.gas_limit.unwrap_or(reader.head().block.block.header.gas_limit),
        extra_data: Bytes::new(),
        automatic: false,
        builds: true,
        alone: true,
        limits: Limits::default(),
    };
    let replica = Replica::open(chain, mempool, config, now).map_err(Failure::storage)?;
    let sealer =
        Sealer::new(replica, signer, (shared, switches), queue, clock, !args.no_empty_blocks);
    let ended = start(sealer)?;
    announce(args, mnemonic, keys, &reader, place, address)?;
    let ended = until_stopped(&host, ended).await;
    // Fails only when it has stopped already.
    let _ = server.stop();
    ended.map_err(|error| {
        Failure::storage(format!(
            "the node stops: {error}. Nothing that was acknowledged is lost; start it again when \
             the cause is gone"
        ))
    })
}

/// Opens the port for metrics and health, if one is wanted.
async fn watched(
    args: &Args,
    backend: &Backend,
    place: &DataDirectory,
    log: &LogHandle,
) -> Result<Option<OpsServer>, Failure> {
    let Some(port) = args.ops_port else { return Ok(None) };
    let (backend, data_directory) = (backend.clone(), place.path().to_owned());
    let source = Source { backend, network: None, data_directory };
    let address = SocketAddr::new(args.host, port);
    let server = ops::serve(source, log.clone(), address).await?;
    if !args.quiet {
        use std::io::Write;
        // A closed pipe is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "Metrics and health on {}", server.address);
    }
    Ok(Some(server))
}

/// The key that seals blocks: the first account's, so that its owner can be told from the block.
fn block_signer(keyring: &Keyring) -> KeySigner {
    let first = keyring.signers().first().map(|signer| *signer.secret());
    let secret = first.unwrap_or([1; 32]);
    KeySigner::new(&secret).expect("a wallet's key is one")
}

/// Starts the thread that owns the chain; the receiver hears how it ended.
fn start(sealer: Sealer) -> Result<oneshot::Receiver<Result<(), String>>, Failure> {
    let (report, ended) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name("sealer".into())
        .spawn(move || {
            let outcome = sealer.run(&runtime);
            // Who listens is waiting for just this, or the process is ending anyway.
            let _ = report.send(outcome);
        })
        .map_err(|error| Failure::refused(format!("cannot start a thread: {error}")))?;
    Ok(ended)
}

/// Waits for a signal and then for the sealer to end, or for the sealer to end by itself.
async fn until_stopped(
    host: &Host,
    mut ended: oneshot::Receiver<Result<(), String>>,
) -> Result<(), String> {
    let died = || Err("the thread that owns the chain has died".to_string());
    tokio::select! {
        outcome = &mut ended => return outcome.unwrap_or_else(|_| died()),
        () = signalled() => {}
    }
    let stop = host.ask(|sealer| {
        sealer.stop();
        Ok(())
    });
    // An error means that it is ending already.
    let _ = stop.await;
    ended.await.unwrap_or_else(|_| died())
}

fn limits(args: &Args) -> RpcConfig {
    let usual = RpcConfig::default();
    let request = if args.no_request_size_limit { Some(u32::MAX) } else { args.max_request_bytes };
    RpcConfig {
        cross_origin: !args.no_cors,
        max_request_bytes: request.unwrap_or(usual.max_request_bytes),
        max_response_bytes: args.max_response_bytes.unwrap_or(usual.max_response_bytes),
        max_batch: args.max_batch.unwrap_or(usual.max_batch),
        max_connections: args.max_connections.unwrap_or(usual.max_connections),
        max_logs: args.max_logs.unwrap_or(usual.max_logs),
        gas_cap: args.gas_cap.unwrap_or(usual.gas_cap),
        ..usual
    }
}

fn announce(
    args: &Args,
    mnemonic: &str,
    keys: Vec<Key>,
    reader: &landfall_chain::ChainReader,
    place: &DataDirectory,
    address: SocketAddr,
) -> Result<(), Failure> {
    let unreadable = |error: landfall_types::StateError| Failure::storage(error);
    let state = reader.latest_state();
    let mut accounts = Vec::with_capacity(keys.len());
    for key in keys {
        let account = state.account(&key.address).map_err(unreadable)?;
        accounts.push((key, account.unwrap_or_default().balance));
    }
    let genesis = reader.block(reader.genesis_hash()).map_err(unreadable)?;
    let genesis = genesis.ok_or_else(|| Failure::storage("block 0 is missing"))?;
    let head = reader.head();
    let header = &head.block.block.header;
    let banner = Banner {
        accounts: &accounts,
        mnemonic,
        derivation_path: &args.derivation_path,
        chain_id: reader.spec().chain_id,
        base_fee: header.base_fee_per_gas.unwrap_or_default(),
        gas_limit: header.gas_limit,
        genesis_timestamp: genesis.block.header.timestamp,
        genesis_number: genesis.block.number(),
        data_directory: place.describe(head.number()),
        address,
    };
    if let Some(path) = &args.config_out {
        let json = serde_json::to_string_pretty(&banner.json()).expect("a banner is JSON");
        std::fs::write(path, json).map_err(|error| {
            Failure::refused(format!("--config-out: cannot write {}: {error}", path.display()))
        })?;
    }
    if !args.quiet {
        use std::io::Write;
        // A closed pipe is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "{banner}");
    }
    Ok(())
}

/// Where the chain is kept; a temporary directory goes with this value.
pub struct DataDirectory {
    path: PathBuf,
    temporary: bool,
}

impl DataDirectory {
    /// The given one, or one of its own.
    pub fn new(given: Option<&Path>) -> Self {
        match given {
            Some(path) => Self { path: path.to_owned(), temporary: false },
            None => {
                let name = format!("landfall-dev-{}-{}", std::process::id(), wall());
                Self { path: std::env::temp_dir().join(name), temporary: true }
            }
        }
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn describe(&self, head: u64) -> String {
        let path = self.path.display();
        if self.temporary {
            format!("{path} (removed at the end; keep a chain with --datadir)")
        } else {
            format!("{path} (newest block {head})")
        }
    }
}

impl Drop for DataDirectory {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing is lost if it stays: the system clears its temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
