//! Ethereum's blockchain tests: a genesis and blocks as RLP, valid and invalid, through `import`.
//!
//! What decides are the tests of the newest release from Paris on; the rest, older networks and
//! older collections, runs with `--all` and is reported beside them.

use super::exceptions::Refusal;
use super::networks::{BlobSchedule, Network};
use super::{Failure, Options, SHOWN_FAILURES, Tally, archive, for_each_file, read_json};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, B64, B256, Bytes, U256, keccak256};
use landfall_chain::store::TestDisk;
use landfall_chain::{Chain, ChainOptions, Place};
use landfall_types::{Block, BlockError, ForkChoice, StateReader};
use serde::{Deserialize, de::IgnoredAny};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of the archive that decides.
const DECIDING: &str = "eest-v5.4.0";

/// Runs the archive `blockchaintests`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("blockchaintests")? else { return Ok(None) };
    let folder = folder.join("blockchaintests");
    let (deciding, other): (Vec<PathBuf>, Vec<PathBuf>) = archive::json_files(&folder)?
        .into_iter()
        .partition(|file| file.starts_with(folder.join(DECIDING)));
    if options.all {
        let all: Vec<_> = deciding.iter().chain(&other).cloned().collect();
        let run = |file: &Path, tally: &mut Tally| run_file(file, &folder, options, false, tally);
        report_other(for_each_file(&all, run));
    }
    let mut tally =
        for_each_file(&deciding, |file, tally| run_file(file, &folder, options, true, tally));
    tally.absorb(for_each_file(&other, |file, tally| skip_file(file, &folder, options, tally)));
    Ok(Some(tally))
}

/// Prints what does not decide.
fn report_other(mut tally: Tally) {
    tally.failures.sort();
    for failure in tally.failures.iter().take(SHOWN_FAILURES) {
        println!("failed, not deciding: {failure}");
    }
    let (passed, failed) = (tally.passed, tally.failures.len());
    println!("older networks and collections: {passed} passed, {failed} failed");
}

/// Counts the cases of a file that does not decide.
fn skip_file(file: &Path, folder: &Path, options: &Options, tally: &mut Tally) {
    let short = file.strip_prefix(folder).unwrap_or(file).display();
    match read_json::<BTreeMap<String, IgnoredAny>>(file) {
        Ok(tests) => {
            let names = tests.keys().map(|name| format!("{short} {name}"));
            names.filter(|case| options.selects(case)).for_each(|_| tally.skip());
        }
        Err(reason) => tally.count(short, Err(reason)),
    }
}

fn run_file(file: &Path, folder: &Path, options: &Options, deciding: bool, tally: &mut Tally) {
    let path = file.strip_prefix(folder).unwrap_or(file);
    let short = path.display();
    let tests: BTreeMap<String, Test> = match read_json(file) {
        Ok(tests) => tests,
        Err(reason) => return tally.count(short, Err(reason)),
    };
    for (name, test) in &tests {
        let case = format!("{short} {name}");
        if !options.selects(&case) {
            continue;
        }
        let network = match Network::parse(&test.network) {
            Ok(network) => network,
            Err(reason) => {
                tally.count(case, Err(reason));
                continue;
            }
        };
        if (path.starts_with(DECIDING) && network.is_merged()) == deciding {
            tally.count(case, check(test, network));
        } else {
            tally.skip();
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Test {
    network: String,
    genesis_block_header: GenesisHeader,
    pre: BTreeMap<Address, TestAccount>,
    blocks: Vec<TestBlock>,
    lastblockhash: B256,
    post_state: Option<BTreeMap<Address, TestAccount>>,
    post_state_hash: Option<B256>,
    #[serde(default)]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    chainid: Option<U256>,
    #[serde(default)]
    blob_schedule: BTreeMap<String, BlobSchedule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GenesisHeader {
    hash: B256,
    parent_hash: B256,
    coinbase: Address,
    difficulty: U256,
    number: U256,
    gas_limit: U256,
    timestamp: U256,
    extra_data: Bytes,
    mix_hash: B256,
    nonce: B64,
    base_fee_per_gas: Option<U256>,
    blob_gas_used: Option<U256>,
    excess_blob_gas: Option<U256>,
}

#[derive(Deserialize)]
struct TestAccount {
    nonce: U256,
    balance: U256,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TestBlock {
    rlp: Bytes,
    /// Only a valid block has one.
    block_header: Option<ValidHeader>,
    expect_exception: Option<String>,
}

#[derive(Deserialize)]
struct ValidHeader {
    hash: B256,
}

fn check(test: &Test, network: Network) -> Result<(), String> {
    let genesis = genesis(test, network)?;
    let place = Place::Disk(Arc::new(TestDisk::new(0)));
    let mut chain =
        Chain::open(ChainOptions::new(Some(genesis), place)).map_err(|e| e.to_string())?;
    let hash = chain.reader().genesis_hash();
    let want = test.genesis_block_header.hash;
    if hash != want {
        return Err(format!("genesis has hash {hash}, want {want}"));
    }
    let mut branches = Branches::new(hash, test.genesis_block_header.difficulty);
    for (index, block) in test.blocks.iter().enumerate() {
        let outcome = import(&mut chain, &block.rlp);
        match judge(block, outcome) {
            Ok(Some(valid)) => branches.follow(&mut chain, &valid, network)?,
            Ok(None) => {}
            Err(reason) => return Err(format!("block at index {index}: {reason}")),
        }
    }
    branches.settle(&mut chain, test.lastblockhash, network)?;
    check_end(&chain, test)
}

fn genesis(test: &Test, network: Network) -> Result<Genesis, String> {
    let header = &test.genesis_block_header;
    let chain_id = test.config.chainid.unwrap_or(U256::ONE);
    let optional = |value: Option<U256>| value.map(narrow).transpose();
    Ok(Genesis {
        slot_number: None,
        config: network.config(narrow(chain_id)?, &test.config.blob_schedule),
        nonce: u64::from_be_bytes(header.nonce.0),
        timestamp: narrow(header.timestamp)?,
        extra_data: header.extra_data.clone(),
        gas_limit: narrow(header.gas_limit)?,
        difficulty: header.difficulty,
        mix_hash: header.mix_hash,
        coinbase: header.coinbase,
        alloc: test
            .pre
            .iter()
            .map(|(address, account)| Ok((*address, genesis_account(account)?)))
            .collect::<Result<_, String>>()?,
        base_fee_per_gas: optional(header.base_fee_per_gas)?.map(u128::from),
        excess_blob_gas: optional(header.excess_blob_gas)?,
        blob_gas_used: optional(header.blob_gas_used)?,
        number: Some(narrow(header.number)?),
        parent_hash: Some(header.parent_hash),
    })
}

fn genesis_account(account: &TestAccount) -> Result<GenesisAccount, String> {
    let slots = account.storage.iter().map(|(slot, value)| ((*slot).into(), (*value).into()));
    Ok(GenesisAccount {
        nonce: Some(narrow(account.nonce)?),
        balance: account.balance,
        code: Some(account.code.clone()),
        storage: Some(slots.collect()),
        private_key: None,
    })
}

fn narrow(value: U256) -> Result<u64, String> {
    u64::try_from(value).map_err(|_| format!("{value} is too large"))
}

/// What a block weighs in the choice of the head.
struct Imported {
    hash: B256,
    parent: B256,
    difficulty: U256,
}

fn import(chain: &mut Chain, mut rlp: &[u8]) -> Result<Imported, Refusal> {
    let block = Block::decode_ethereum(&mut rlp).map_err(Refusal::Rlp)?;
    if !rlp.is_empty() {
        return Err(Refusal::Rlp(BlockError::Rlp(alloy_rlp::Error::UnexpectedLength)));
    }
    let (parent, difficulty) = (block.parent(), block.header.difficulty);
    let hash = chain.import(block).map_err(Refusal::Import)?;
    Ok(Imported { hash, parent, difficulty })
}

/// The block, if it is valid as it should be; `None` if it was refused for the right reason.
fn judge(
    block: &TestBlock,
    outcome: Result<Imported, Refusal>,
) -> Result<Option<Imported>, String> {
    match (outcome, &block.expect_exception, &block.block_header) {
        (Ok(valid), None, Some(header)) if valid.hash == header.hash => Ok(Some(valid)),
        (Ok(valid), None, Some(header)) => {
            Err(format!("its hash is {}, want {}", valid.hash, header.hash))
        }
        (Ok(_), Some(want), _) => Err(format!("accepted, but it breaks {want}")),
        (Ok(_), None, None) => Err("accepted, but it is invalid".into()),
        (Err(refusal), Some(want), _) if !refusal.is(want) => {
            Err(format!("refused for another reason than {want}: {refusal}"))
        }
        (Err(Refusal::Import(error)), ..) if error.is_fatal() => Err(error.to_string()),
        (Err(_), Some(_), _) | (Err(_), None, None) => Ok(None),
        (Err(refusal), None, Some(_)) => Err(format!("refused: {refusal}")),
    }
}

/// The choice of the head, as a consensus client would make it.
struct Branches {
    genesis: B256,
    head: B256,
    /// Of each valid block, all the difficulty down to the genesis.
    difficulty: HashMap<B256, U256>,
    forked: bool,
}

impl Branches {
    fn new(genesis: B256, difficulty: U256) -> Self {
        let difficulty = HashMap::from([(genesis, difficulty)]);
        Self { genesis, head: genesis, difficulty, forked: false }
    }

    /// Takes the newest valid block for the head; before the merge only if it is heavier.
    fn follow(
        &mut self,
        chain: &mut Chain,
        block: &Imported,
        network: Network,
    ) -> Result<(), String> {
        let below = self.difficulty.get(&block.parent);
        let below = *below.ok_or("accepted, but its parent is unknown")?;
        let total = below + block.difficulty;
        let heavier = total > self.difficulty[&self.head];
        self.difficulty.insert(block.hash, total);
        self.forked |= block.parent != self.head;
        if network.is_merged() || block.difficulty.is_zero() || heavier {
            self.adopt(chain, block.hash)?;
        }
        Ok(())
    }

    /// Among branches after the merge, the test says which one consensus has chosen.
    fn settle(&mut self, chain: &mut Chain, last: B256, network: Network) -> Result<(), String> {
        let chosen = network.is_merged() && self.forked && self.difficulty.contains_key(&last);
        if chosen && self.head != last {
            self.adopt(chain, last)?;
        }
        Ok(())
    }

    fn adopt(&mut self, chain: &mut Chain, head: B256) -> Result<(), String> {
        let choice = ForkChoice { head, safe: self.genesis, finalized: self.genesis };
        chain.adopt(choice).map_err(|e| format!("head {head} is not adopted: {e}"))?;
        self.head = head;
        Ok(())
    }
}

fn check_end(chain: &Chain, test: &Test) -> Result<(), String> {
    let head = chain.reader().head();
    if head.hash() != test.lastblockhash {
        return Err(format!("head is {}, want {}", head.hash(), test.lastblockhash));
    }
    let root = head.block.block.header.state_root;
    if test.post_state_hash.is_some_and(|want| root != want) {
        return Err(format!("state root is {root}, want {:?}", test.post_state_hash));
    }
    let Some(post) = &test.post_state else {
        return if test.post_state_hash.is_some() { Ok(()) } else { Err("no post state".into()) };
    };
    let state = chain.reader().latest_state();
    for (address, want) in post {
        check_account(&state, address, want, test.pre.get(address))?;
    }
    for address in test.pre.keys().filter(|address| !post.contains_key(*address)) {
        if state.account(address).map_err(|e| e.to_string())?.is_some() {
            return Err(format!("{address} is there, but should be gone"));
        }
    }
    Ok(())
}

/// Compares an account, its code and its slots; those of `before` that are not named are zero.
fn check_account(
    state: &impl StateReader,
    address: &Address,
    want: &TestAccount,
    before: Option<&TestAccount>,
) -> Result<(), String> {
    let account = state.account(address).map_err(|e| e.to_string())?;
    let account = account.ok_or_else(|| format!("{address} is missing"))?;
    if account.balance != want.balance || U256::from(account.nonce) != want.nonce {
        let (nonce, balance) = (want.nonce, want.balance);
        return Err(format!("{address} is {account:?}, want nonce {nonce}, balance {balance}"));
    }
    let code = state.code(account.code_hash).map_err(|e| e.to_string())?;
    if code != want.code || keccak256(&code) != account.code_hash {
        return Err(format!("{address} has code {code}, want {}", want.code));
    }
    let before = before.into_iter().flat_map(|account| account.storage.keys());
    for slot in want.storage.keys().chain(before) {
        let have = state.storage(address, *slot).map_err(|e| e.to_string())?;
        let want = want.storage.get(slot).copied().unwrap_or_default();
        if have != want {
            return Err(format!("{address} has {have} in slot {slot}, want {want}"));
        }
    }
    Ok(())
}
