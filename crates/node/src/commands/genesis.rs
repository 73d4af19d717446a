//! `landfall genesis`: from the public parts of several validators to the one file that all of
//! them start from.

use super::dev::DataDirectory;
use super::import::{opening, read_genesis};
use crate::clock::wall;
use crate::duration;
use crate::failure::Failure;
use crate::genesis::{BASE_FEE, ChainGenesis, NETWORK_GAS_LIMIT};
use crate::key_files::read_public;
use crate::secret_file::{Readers, write_new};
use alloy_genesis::Genesis;
use alloy_primitives::utils::{format_ether, parse_ether};
use alloy_primitives::{Address, B256, U256, keccak256};
use landfall_chain::{Chain, ChainOptions, Place};
use landfall_types::{ConsensusConfig, Kind, Validator, parse_genesis};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a proof of work begins unless told otherwise: for one slow machine.
const FIRST_DIFFICULTY: u64 = 1_000_000;

/// Makes and shows the genesis file of a network
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(New),
    Show(Show),
}

/// Assembles a genesis file from the public parts of the validators
#[derive(Debug, clap::Args)]
struct New {
    /// The public part of a validator, as `landfall keys new` writes it; once for each
    #[arg(long = "validator", value_name = "PUBLIC.JSON", required = true)]
    validators: Vec<PathBuf>,
    #[command(flatten)]
    recipe: Recipe,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "genesis.json")]
    out: PathBuf,
}

/// What a network is like, but for its validators.
#[derive(Clone, Debug, clap::Args)]
pub struct Recipe {
    /// The engine
    #[arg(long, value_enum)]
    pub consensus: Consensus,
    /// The chain id; drawn unless given, so that no two networks share one
    #[arg(long, value_name = "N")]
    pub chain_id: Option<u64>,
    /// Money for an account; once for each
    #[arg(long = "alloc", value_name = "ADDRESS=ETHER", value_parser = allocation)]
    pub allocations: Vec<(Address, U256)>,
    /// Gas that a block may use
    #[arg(long, value_name = "GAS", default_value_t = NETWORK_GAS_LIMIT)]
    pub gas_limit: u64,
    /// The least time between two blocks, for proof of work the mean one [default: 20ms, 4s]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub block_interval: Option<Duration>,
    /// Makes blocks without transactions too (pbft, raft)
    #[arg(long)]
    pub empty_blocks: bool,
    /// Gas costs nothing: the base fee is zero in every block
    #[arg(long, conflicts_with_all = ["base_fee_change_denominator", "base_fee"])]
    pub free_gas: bool,
    /// How slowly the base fee moves [default: as fast in time as Ethereum's, at least 8]
    #[arg(long, value_name = "N")]
    pub base_fee_change_denominator: Option<u64>,
    /// The base fee of block 0 in wei
    #[arg(long, value_name = "WEI", default_value_t = BASE_FEE)]
    pub base_fee: u64,
    /// Where a proof of work begins: about hash rate (1/s) * interval (s); rather too low
    #[arg(long, value_name = "N", default_value_t = FIRST_DIFFICULTY)]
    pub first_difficulty: u64,
    /// When the chain begins, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub timestamp: Option<u64>,
}

/// Shows what a genesis file says: operators compare it before they start
#[derive(Debug, clap::Args)]
struct Show {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Consensus {
    /// Byzantine agreement.
    Pbft,
    /// Crash-fault agreement.
    Raft,
    /// Proof of work.
    Pow,
}

impl Consensus {
    fn kind(self) -> Kind {
        match self {
            Self::Pbft => Kind::Pbft,
            Self::Raft => Kind::Raft,
            Self::Pow => Kind::Pow,
        }
    }
}

fn allocation(text: &str) -> Result<(Address, U256), String> {
    let (address, ether) = text.split_once('=').ok_or("expected ADDRESS=ETHER")?;
    let address = address.parse().map_err(|e| format!("`{address}` is no address: {e}"))?;
    let wrong = |why: String| format!("`{ether}` is no amount of ether: {why}");
    // The parser takes a sign, and wraps what is below zero.
    if !ether.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return Err(wrong("expected digits like 1000 or 0.5".to_owned()));
    }
    let wei = parse_ether(ether).map_err(|e| wrong(e.to_string()))?;
    // Sums of balances must not overflow.
    if wei > U256::from(u128::MAX) {
        return Err(wrong("more than 2^128 wei".to_owned()));
    }
    Ok((address, wei))
}

/// Does what the subcommand says.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::New(new) => make(new),
        Command::Show(show) => {
            let genesis = read_genesis(&show.file)?;
            let config = consensus_config(&genesis, &show.file)?;
            print!("{}", describe(&genesis, &config, genesis_hash(&genesis)?));
            Ok(())
        }
    }
}

/// The consensus configuration of a genesis file.
pub fn consensus_config(genesis: &Genesis, path: &Path) -> Result<ConsensusConfig, Failure> {
    ConsensusConfig::from_genesis(genesis)
        .map_err(|error| Failure::refused(format!("{}: {error}", path.display())))
}

/// The hash of block 0, by making the chain in a directory that is gone afterwards.
pub fn genesis_hash(genesis: &Genesis) -> Result<B256, Failure> {
    let directory = DataDirectory::new(None);
    let place = Place::Directory(directory.path().to_owned());
    let chain = Chain::open(ChainOptions::new(Some(genesis.clone()), place)).map_err(opening)?;
    Ok(chain.reader().genesis_hash())
}

fn make(args: &New) -> Result<(), Failure> {
    let validators = args.validators.iter().map(|path| read_public(path));
    let validators = validators.collect::<Result<Vec<_>, _>>()?;
    let genesis = args.recipe.assemble(&validators)?;
    let config = consensus_config(&genesis, &args.out)?;
    let hash = genesis_hash(&genesis)?;
    let text = serde_json::to_string_pretty(&genesis).expect("a genesis is JSON") + "\n";
    write_new(&args.out, text.as_bytes(), Readers::Anybody)?;
    print!("{}", describe(&genesis, &config, hash));
    let out = args.out.display();
    println!();
    println!("Next: give {out} to every operator. Each compares hash and schedule id with");
    println!("`landfall genesis show {out}`, writes node.toml, checks it with");
    println!("`landfall config check --config node.toml`, and starts");
    println!("`landfall node --config node.toml`.");
    Ok(())
}

impl Recipe {
    /// A network with this engine, and everything else as usual.
    pub fn of(consensus: Consensus) -> Self {
        Self {
            consensus,
            chain_id: None,
            allocations: Vec::new(),
            gas_limit: NETWORK_GAS_LIMIT,
            block_interval: None,
            empty_blocks: false,
            free_gas: false,
            base_fee_change_denominator: None,
            base_fee: BASE_FEE,
            first_difficulty: FIRST_DIFFICULTY,
            timestamp: None,
        }
    }

    /// The checked genesis, with every parameter written out.
    pub fn assemble(&self, validators: &[Validator]) -> Result<Genesis, Failure> {
        let kind = self.consensus.kind();
        let timestamp = self.timestamp.unwrap_or_else(|| wall() / 1_000);
        let mut chain = ChainGenesis {
            chain_id: self.chain_id.unwrap_or_else(|| draw_chain_id(validators, timestamp)),
            timestamp,
            gas_limit: self.gas_limit,
            base_fee: if self.free_gas { 0 } else { self.base_fee },
            accounts: self.allocations.clone(),
            landfall: landfall(self, kind, validators)?,
        };
        let checked = check(&chain)?;
        let config = ConsensusConfig::from_genesis(&checked).map_err(Failure::refused)?;
        chain.landfall = config.to_json();
        check(&chain)
    }
}

/// The same checks that a node makes of the file.
fn check(chain: &ChainGenesis) -> Result<Genesis, Failure> {
    let json = serde_json::to_string(&chain.build()).expect("a genesis is JSON");
    parse_genesis(&json).map_err(Failure::refused)
}

fn landfall(args: &Recipe, kind: Kind, validators: &[Validator]) -> Result<Value, Failure> {
    let mut section = json!({});
    let default_interval = if kind == Kind::Pow { 4_000 } else { 20 };
    let interval = args.block_interval.map_or(default_interval, |it| it.as_millis() as u64);
    section["blockIntervalMs"] = json!(interval);
    if kind == Kind::Pow {
        section["firstDifficulty"] = json!(args.first_difficulty);
        if args.empty_blocks {
            return Err(Failure::refused("--empty-blocks: pow always makes blocks; leave it out"));
        }
    } else {
        section["emptyBlocks"] = json!(args.empty_blocks);
    }
    let validators: Vec<Value> = validators.iter().map(Validator::to_json).collect();
    let mut own = json!({
        "engine": kind.name(), kind.name(): section, "validators": validators,
    });
    if args.free_gas {
        own["freeGas"] = json!(true);
    } else {
        let denominator = args.base_fee_change_denominator;
        own["baseFeeChangeDenominator"] =
            json!(denominator.unwrap_or_else(|| denominator_for(interval)));
    }
    Ok(own)
}

/// Ethereum lets the base fee move by an eighth in 12 seconds: by as much in the same time.
fn denominator_for(interval_ms: u64) -> u64 {
    (8 * 12_000 / interval_ms.max(1)).max(8)
}

/// From keys that nobody else has, and the time: above the ids that are taken, below what wallets
/// allow.
fn draw_chain_id(validators: &[Validator], timestamp: u64) -> u64 {
    let mut bytes = timestamp.to_be_bytes().to_vec();
    for validator in validators {
        bytes.extend_from_slice(validator.node_key.bytes());
    }
    let drawn = U256::from_be_bytes(keccak256(bytes).0) % U256::from(2_000_000_000_u64);
    drawn.to::<u64>() + 1_000_000_000
}

fn describe(genesis: &Genesis, config: &ConsensusConfig, hash: B256) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(out, "{name:<13} {value}").expect("a string takes everything");
    };
    line("chain id", genesis.config.chain_id.to_string());
    line("genesis hash", hash.to_string());
    line("schedule id", config.schedule_id().to_string());
    let json = config.to_json();
    let epochs = json["epochs"].as_array().cloned().unwrap_or_else(|| vec![json.clone()]);
    for epoch in &epochs {
        let engine = epoch["engine"].as_str().expect("an epoch has an engine");
        let blocks = epoch["lengthBlocks"].as_u64();
        let until = blocks.map_or(String::new(), |blocks| format!(" for {blocks} blocks"));
        line("engine", format!("{engine}{until} {}", epoch[engine]));
    }
    line("gas", gas(genesis, config));
    line("validators", quorum(config));
    for Validator { id, weight, name, address, .. } in &config.validators {
        let name = name.as_deref().unwrap_or("-");
        let place = address.as_ref().map_or_else(
            || "without an address: name it in the peers of every node.toml".to_owned(),
            |address| format!("at {address}"),
        );
        line("", format!("{name:<10} {id} weight {} {place}", weight.0));
    }
    for (account, entry) in genesis.alloc.iter().filter(|(_, entry)| !entry.balance.is_zero()) {
        line("account", format!("{account} has {} ether", format_ether(entry.balance)));
    }
    out
}

fn gas(genesis: &Genesis, config: &ConsensusConfig) -> String {
    let limit = genesis.gas_limit;
    if config.fees.free_gas {
        return format!("{limit} for a block, free");
    }
    let fee = genesis.base_fee_per_gas.unwrap_or_default();
    let denominator = config.fees.base_fee_change_denominator;
    format!("{limit} for a block, at {fee} wei; the fee moves by 1/{denominator} at most")
}

/// How many must agree, of the last epoch.
fn quorum(config: &ConsensusConfig) -> String {
    let terms = config.schedule.terms();
    let last = terms.last().expect("a schedule has an epoch");
    let (count, total) = (last.committee.len(), last.committee.total().0);
    let (needed, fault) = match last.params.kind() {
        Kind::Pbft => (last.committee.byzantine_quorum().0, "fail or lie"),
        Kind::Raft => (last.committee.majority().0, "fail"),
        Kind::Pow | Kind::Solo => return format!("{count}; the engine counts no votes"),
    };
    let spare = total - needed;
    let warning = if spare == 0 { "; the first failure stops the chain" } else { "" };
    format!("{count}, weight {total}; {needed} decide, {spare} may {fault}{warning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_fee_moves_as_fast_in_time_as_on_ethereum() {
        let table = [(12_000, 8), (60_000, 8), (4_000, 24), (20, 4_800), (1, 96_000), (0, 96_000)];
        for (interval, expected) in table {
            assert_eq!(denominator_for(interval), expected, "{interval} ms");
        }
    }

    #[test]
    fn allocations_are_an_address_and_ether() {
        let address = Address::repeat_byte(0x11);
        let (account, wei) = allocation(&format!("{address}=1.5")).unwrap();
        assert_eq!((account, format_ether(wei)), (address, "1.500000000000000000".into()));
        for wrong in [
            "",
            "0x11",
            "0x11=1",
            &format!("{address}=much"),
            &format!("{address}=-1"),
            &format!("{address}=+1"),
            &format!("{address}=1e3"),
            &format!("{address}={}", "9".repeat(40)),
        ] {
            assert!(allocation(wrong).is_err(), "{wrong}");
        }
    }
}
