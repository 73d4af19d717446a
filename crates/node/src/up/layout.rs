//! The files of a network on this machine: a genesis, and for each node its keys, its configuration
//! and its ledger. They are those of `landfall keys new`, `genesis new` and `config`, so that a
//! network that was made here can be run by hand as well.

use crate::commands::genesis::{Consensus, Recipe};
use crate::failure::Failure;
use crate::key_files::{KeyDirectory, node_key};
use crate::keys;
use crate::secret_file::{Readers, make_directory, write_new};
use alloy_consensus::Header;
use alloy_primitives::U256;
use landfall_consensus::pow;
use landfall_types::{Validator, Weight};
use landfall_wallet::{ScryptCost, Signer};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Accounts with money, those of `dev`.
const ACCOUNTS: u32 = 10;
/// What each has, in ether.
const ETHER: u64 = 10_000;
/// Opens the keystores of a network that is for trying things out; who reads it reads the keys too.
const PASSWORD: &str = "a network on one machine";

/// The mean time between two blocks of work, unless given.
const POW_INTERVAL: Duration = Duration::from_secs(4);
/// How long it is measured how fast this machine searches.
const MEASURED: Duration = Duration::from_millis(50);
/// Nonces between two looks at the clock.
const TRIES: u64 = 4_096;

/// What is asked of a network.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The engine.
    pub consensus: Consensus,
    /// How many nodes, all of them validators.
    pub validators: u16,
    /// The RPC port of the first node; the others follow.
    pub port: u16,
    /// The first port for peers.
    pub p2p_port: u16,
    /// The first port for metrics and health.
    pub ops_port: u16,
    /// The least time between two blocks, for proof of work the mean one; the engine's own unless
    /// given.
    pub block_time: Option<Duration>,
    /// Gas costs nothing.
    pub free_gas: bool,
    /// Blocks are made without transactions too.
    pub empty_blocks: bool,
}

/// A network's directory.
pub struct Layout(PathBuf);

impl Layout {
    /// Whether it exists or not.
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The genesis file.
    pub fn genesis(&self) -> PathBuf {
        self.0.join("genesis.json")
    }

    /// The directory of a node, counted from 1.
    pub fn node(&self, number: u16) -> PathBuf {
        self.0.join(format!("node-{number}"))
    }

    /// The configuration of a node.
    pub fn config(&self, number: u16) -> PathBuf {
        self.node(number).join("node.toml")
    }

    /// The public part of a node's keys.
    pub fn validator(&self, number: u16) -> Result<Validator, Failure> {
        KeyDirectory::new(&self.node(number).join("keys")).read()
    }

    /// Whether there is a network.
    pub fn exists(&self) -> bool {
        self.genesis().exists()
    }

    /// How many nodes it has.
    pub fn count(&self) -> u16 {
        let exists = |number: &u16| self.config(*number).exists();
        (1..u16::MAX).take_while(exists).count() as u16
    }

    /// Makes a network. A wish that no network can meet leaves nothing behind.
    pub fn create(&self, wish: &Wish) -> Result<(), Failure> {
        if self.node(1).exists() {
            let place = self.0.display();
            return Err(Failure::refused(format!(
                "{place} holds a part of a network: making it was interrupted. Remove {place}, or \
                 choose another place"
            )));
        }
        let members: Vec<_> = (1..=wish.validators)
            .map(|number| Keys::new(number, wish))
            .collect::<Result<_, _>>()?;
        let genesis = recipe(wish)?
            .assemble(&members.iter().map(|it| it.validator.clone()).collect::<Vec<_>>())?;
        make_directory(&self.0)?;
        for (number, keys) in (1..).zip(&members) {
            keys.write(&self.node(number).join("keys"))?;
            let path = self.config(number);
            write_new(&path, configuration(number, wish).as_bytes(), Readers::Anybody)?;
        }
        // Last: a directory with a genesis holds a whole network.
        let text = serde_json::to_string_pretty(&genesis).expect("a genesis is JSON") + "\n";
        write_new(&self.genesis(), text.as_bytes(), Readers::Anybody)
    }
}

/// What the genesis is made from, beside the validators.
fn recipe(wish: &Wish) -> Result<Recipe, Failure> {
    let accounts = keys::keyring(keys::TEST_MNEMONIC, keys::DERIVATION_PATH, ACCOUNTS)?;
    let balance = U256::from(ETHER) * U256::from(crate::genesis::WEI_PER_ETHER);
    let usual = Recipe::of(wish.consensus);
    Ok(Recipe {
        chain_id: Some(crate::genesis::CHAIN_ID),
        allocations: keys::keys(&accounts).iter().map(|key| (key.address, balance)).collect(),
        block_interval: wish.block_time,
        empty_blocks: wish.empty_blocks,
        free_gas: wish.free_gas,
        first_difficulty: match wish.consensus {
            Consensus::Pow => first_difficulty(wish),
            Consensus::Pbft | Consensus::Raft => usual.first_difficulty,
        },
        ..usual
    })
}

/// The keys of a node.
struct Keys {
    voting: Signer,
    node: Signer,
    validator: Validator,
}

impl Keys {
    fn new(number: u16, wish: &Wish) -> Result<Self, Failure> {
        let key = || Signer::random().map_err(Failure::refused);
        let (voting, node) = (key()?, key()?);
        let validator = Validator {
            id: voting.address(),
            node_key: node_key(&node),
            weight: Weight(1),
            address: Some(format!("127.0.0.1:{}", wish.p2p_port + number - 1)),
            name: Some(format!("node-{number}")),
        };
        Ok(Self { voting, node, validator })
    }

    fn write(&self, directory: &Path) -> Result<(), Failure> {
        let Self { voting, node, validator } = self;
        let files = KeyDirectory::new(directory);
        files.create(voting, node, (PASSWORD, ScryptCost::LIGHT), validator)?;
        write_new(&directory.join("password"), PASSWORD.as_bytes(), Readers::Owner)
    }
}

/// Where a proof of work begins, so that blocks come at their interval from the start: what this
/// machine searches in that time. The threshold follows only slowly.
fn first_difficulty(wish: &Wish) -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let miners = cores.min(wish.validators.into());
    let interval = wish.block_time.unwrap_or(POW_INTERVAL).as_secs_f64();
    // Nothing meets this, so all nonces are tried.
    let hopeless = Header { difficulty: U256::MAX, ..Header::default() };
    let (start, mut tried) = (Instant::now(), 0_u64);
    while start.elapsed() < MEASURED {
        pow::search(&hopeless, tried, TRIES);
        tried += TRIES;
    }
    let per_second = tried as f64 / start.elapsed().as_secs_f64();
    ((per_second * miners as f64 * interval) as u64).max(1_000)
}

/// Paths are relative to the file: the network can be moved.
fn configuration(number: u16, wish: &Wish) -> String {
    let port = |first: u16| first + number - 1;
    format!(
        r#"# Node {number} of a network on one machine, made by `landfall up`.
datadir = "data"
genesis = "../genesis.json"

[keys]
validator = "keys/validator.json"
password_file = "keys/password"
node = "keys/node.key"

[p2p]
listen = "127.0.0.1:{p2p}"
discovery = false

[rpc]
listen = "127.0.0.1:{rpc}"

[ops]
listen = "127.0.0.1:{ops}"

# Several nodes share this machine.
[cache]
trie_mib = 16
views_mib = 32

[miner]
threads = 1

[accounts]
mnemonic = "{words}"
"#,
        p2p = port(wish.p2p_port),
        rpc = port(wish.port),
        ops = port(wish.ops_port),
        words = keys::TEST_MNEMONIC,
    )
}
