//! `landfall node`: a node of a network, from a configuration.

use super::genesis::consensus_config;
use super::import::{opening, read_genesis};
use crate::config::{Flags, NodeConfig};
use crate::failure::Failure;
use crate::key_files::{node_key, read_node_key, unlock};
use crate::keys;
use crate::logging::{self, LogHandle};
use crate::member::{Ended, Member, MemberDoor, Setup, Voter};
use crate::ops::{self, OpsServer, RpcMeter};
use crate::secret_file::{Readers, make_directory, write_new};
use crate::stop::{signalled, stdin_ended};
use alloy_primitives::{B256, hex};
use landfall_chain::{Chain, ChainOptions, Place};
use landfall_network::{Hello, NodeKey, PeerAddress, PeerKey};
use landfall_rpc::{Backend, RpcConfig, ServerHandle};
use landfall_types::{ConsensusConfig, Kind};
use landfall_wallet::{Keyring, Signer};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Accounts of a mnemonic that a node holds unlocked, if it is told to.
const UNLOCKED: u32 = 10;
/// How long answers under way are waited for at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs a node of a network, a validator or one that follows
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Stops when standard input ends: for programs that start nodes
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Runs the node until it is told to stop or cannot go on.
pub fn run(args: &Args) -> Result<(), Failure> {
    let config = NodeConfig::load(&args.flags).map_err(Failure::refused)?;
    let log = logging::init(config.log.format, &config.log.level.to_string())?;
    let plan = Plan::read(&config)?;
    let runtime = super::runtime()?;
    let ended = runtime.block_on(serve(&config, plan, &log, args.stop_with_stdin));
    // Requests that still wait must not hold the process.
    runtime.shutdown_background();
    ended
}

/// What the files say.
struct Plan {
    setup: Setup,
    keyring: Keyring,
    key: PeerKey,
    consensus: ConsensusConfig,
    chain_id: u64,
}

impl Plan {
    fn read(config: &NodeConfig) -> Result<Self, Failure> {
        let path = &config.node.genesis;
        let genesis = read_genesis(path)?;
        let consensus = consensus_config(&genesis, path)?;
        if consensus.schedule.terms()[0].params.kind() == Kind::Solo {
            return Err(Failure::refused(format!(
                "{}: the chain of one sealer; start it with `landfall dev --init`",
                path.display()
            )));
        }
        let keyring = match &config.accounts.mnemonic {
            Some(words) => keys::keyring(words, keys::DERIVATION_PATH, UNLOCKED)?,
            None => Keyring::default(),
        };
        let node = node_signer(config)?;
        let voter = voter(config, &consensus, &node)?;
        let chain_id = genesis.config.chain_id;
        let place = Place::Directory(config.node.datadir.clone());
        let caches = config.cache.sizes();
        let options = ChainOptions { caches, ..ChainOptions::new(Some(genesis), place) };
        let chain = Chain::open(options).map_err(opening)?;
        let key = peer_key(&node_key(&node))?;
        let hello = Hello {
            genesis: chain.reader().genesis_hash(),
            schedule: consensus.schedule_id(),
            chain_id,
            client: RpcConfig::default().client_version,
        };
        let named = |it: &landfall_types::Validator| Some((it.id, it.name.clone()?));
        let setup = Setup {
            directory: config.node.datadir.clone(),
            schedule: consensus.schedule.clone(),
            names: consensus.validators.iter().filter_map(named).collect(),
            voter,
            node_secret: *node.secret(),
            network: network(config, &consensus, &node, hello)?,
            mining_threads: mining_threads(config),
            pool: config.pool.limits(),
            beneficiary: config.miner.beneficiary,
            gas_limit: None,
            extra_data: config.miner.extra_data.0.clone(),
            chain,
        };
        Ok(Self { setup, keyring, key, consensus, chain_id })
    }
}

/// All cores search for work, at a low priority, unless told otherwise; a node that only follows
/// does not.
fn mining_threads(config: &NodeConfig) -> u64 {
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let usual = || if config.keys.validator.is_some() { cores() } else { 0 };
    config.miner.threads.unwrap_or_else(usual) as u64
}

/// The key by which peers know this node; made in the data directory unless given.
fn node_signer(config: &NodeConfig) -> Result<Signer, Failure> {
    if let Some(path) = &config.keys.node {
        return read_node_key(path);
    }
    let path = config.node.datadir.join("node.key");
    if !path.exists() {
        make_directory(&config.node.datadir)?;
        let key = NodeKey::generate();
        let text = Zeroizing::new(hex::encode(&key.to_bytes()[..]) + "\n");
        write_new(&path, text.as_bytes(), Readers::Owner)?;
    }
    read_node_key(&path)
}

/// The voting key, unlocked, if the node has one and both of its keys are of one validator.
fn voter(
    config: &NodeConfig,
    consensus: &ConsensusConfig,
    node: &Signer,
) -> Result<Option<Voter>, Failure> {
    let Some(file) = &config.keys.validator else { return Ok(None) };
    let signer = unlock(file, config.keys.password_file.as_deref())?;
    let (id, node) = (signer.address(), node_key(node));
    let bound = consensus.validators.iter().find(|it| it.id == id);
    match bound {
        Some(validator) if validator.node_key == node => {}
        Some(validator) => {
            return Err(Failure::refused(format!(
                "the genesis binds validator {id} to the node key {}, and this node has {node}; \
                 set keys.node to the file that was made with {}",
                validator.node_key,
                file.display()
            )));
        }
        None => {
            return Err(Failure::refused(format!(
                "{}: {id} is no validator of the genesis; leave keys.validator out to follow",
                file.display()
            )));
        }
    }
    Ok(Some(Voter { secret: *signer.secret(), file: file.clone() }))
}

fn peer_key(key: &landfall_types::NodeKey) -> Result<PeerKey, Failure> {
    PeerKey::from_bytes(*key.bytes()).map_err(Failure::refused)
}

fn network(
    config: &NodeConfig,
    consensus: &ConsensusConfig,
    node: &Signer,
    hello: Hello,
) -> Result<landfall_network::Config, Failure> {
    let own = peer_key(&node_key(node))?;
    let mut validators = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for validator in &consensus.validators {
        let key = peer_key(&validator.node_key)?;
        validators.insert(key, validator.id);
        if let Some(address) = &validator.address {
            addresses.insert(key, address.clone());
        }
    }
    // What the operator says of a peer goes before what the genesis says.
    for peer in &config.p2p.peers {
        addresses.insert(peer_key(&peer.key)?, peer.address.to_string());
    }
    addresses.remove(&own);
    let dialled = addresses.into_iter().map(|(key, address)| {
        format!("{key}@{address}").parse::<PeerAddress>().map_err(Failure::refused)
    });
    let external = config.p2p.external.as_ref().map(|it| it.to_string().parse());
    let allow = config.p2p.allow.iter().map(peer_key).collect::<Result<Vec<_>, _>>()?;
    let allowed = || allow.iter().copied().chain(validators.keys().copied()).collect();
    Ok(landfall_network::Config {
        key: NodeKey::from_bytes(*node.secret()).map_err(Failure::refused)?,
        listen: config.p2p.listen,
        external: external.transpose().map_err(Failure::refused)?,
        static_peers: dialled.collect::<Result<_, _>>()?,
        discovery: config.p2p.discovery,
        allow: (!allow.is_empty()).then(allowed),
        validators,
        hello,
        limits: landfall_network::Limits {
            peers_max: config.p2p.max_peers,
            ..landfall_network::Limits::default()
        },
    })
}

async fn serve(
    config: &NodeConfig,
    plan: Plan,
    log: &LogHandle,
    stop_with_stdin: bool,
) -> Result<(), Failure> {
    let Plan { setup, keyring, key, consensus, chain_id } = plan;
    let directory = setup.directory.clone();
    let mut member = Member::start(setup)?;
    let (observer, network) = (member.observer.clone(), member.network.clone());
    let schedule = consensus.schedule_id();
    let bound = consensus.validators.iter().find(|it| peer_key(&it.node_key).ok() == Some(key));
    let bound = bound.map(|validator| validator.id);
    let node = MemberDoor::new(observer, network.clone(), key, bound, schedule, log.clone());
    let backend = Backend {
        chain: member.reader.clone(),
        pool: member.door.clone(),
        controls: None,
        node: Some(Arc::new(node)),
        keys: Arc::new(keyring),
    };
    let source = ops::Source {
        backend: backend.clone(),
        network: Some(network),
        data_directory: directory.clone(),
    };
    let opened = open_ports(config, backend, source, log.clone()).await;
    let (address, server, ops) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            member.stop().await?;
            return Err(failure);
        }
    };
    announce(&member, &consensus, chain_id, key, &directory);
    super::say(format_args!("ops         {}", ops.address));
    super::say(format_args!("Listening on {address}"));
    let told = async {
        tokio::select! {
            () = signalled() => {}
            () = stdin_ended(), if stop_with_stdin => {}
        }
    };
    tokio::pin!(told);
    let ended = tokio::select! {
        ended = member.ended() => Some(ended),
        () = &mut told => None,
    };
    if let Some(Err(Ended::Halted(halt))) = &ended
        && halt.is_for_people()
    {
        // Started anew it would halt anew: it stays, to say why to whoever asks.
        member.leave();
        tracing::error!("{halt}. This node takes no part any more; it answers until it is stopped");
        told.await;
    }
    // Fails only when it has stopped already.
    let _ = server.stop();
    let ended = match ended {
        Some(ended) => ended.map_err(Failure::from),
        None => member.stop().await,
    };
    // A client that holds its connection must not keep the process.
    let _ = tokio::time::timeout(GOODBYE, server.stopped()).await;
    ended
}

async fn open_ports(
    config: &NodeConfig,
    backend: Backend,
    source: ops::Source,
    log: LogHandle,
) -> Result<(SocketAddr, ServerHandle, OpsServer), Failure> {
    let ops = ops::serve(source, log, config.ops.listen).await?;
    let limits = RpcConfig { meter: Some(Arc::new(RpcMeter)), ..config.rpc.limits() };
    let served = landfall_rpc::serve(backend, limits, config.rpc.listen).await;
    let (address, server) = served.map_err(Failure::refused)?;
    Ok((address, server, ops))
}

fn announce(
    member: &Member,
    consensus: &ConsensusConfig,
    chain_id: u64,
    key: PeerKey,
    directory: &Path,
) {
    let view = member.observer.view();
    let head = member.reader.head();
    let genesis: B256 = member.reader.genesis_hash();
    super::say(format_args!("landfall {}", env!("CARGO_PKG_VERSION")));
    super::say(format_args!("chain       {chain_id}, genesis {genesis}"));
    super::say(format_args!(
        "engine      {}, schedule {}",
        view.epoch.kind().name(),
        consensus.schedule_id()
    ));
    match member.observer.silent() {
        None => super::say(format_args!("validator   {}", view.me)),
        Some(why) => super::say(format_args!("follows     {why}")),
    }
    super::say(format_args!("peers       {key}@{}", member.network.listening()));
    super::say(format_args!(
        "ledger      {} (newest block {})",
        directory.display(),
        head.number()
    ));
}
