//! Ethereum's state tests: one transaction on a given state, under every fork.

use super::{Failure, Options, Tally, archive, for_each_file, read_json};
use alloy_consensus::{Header, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_trie::{TrieAccount, root};
use landfall_evm::execute_transaction;
use landfall_types::{
    Account, ChainSpec, Fork, Receipt, StateChanges, StateError, StateReader, Transaction,
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path};

/// Runs the archive `statetests`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("statetests")? else { return Ok(None) };
    let files = archive::json_files(&folder)?;
    Ok(Some(for_each_file(&files, |file, tally| run_file(file, &folder, options, tally))))
}

#[derive(Deserialize)]
struct Test {
    env: Env,
    pre: BTreeMap<Address, PreAccount>,
    post: BTreeMap<String, Vec<Post>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_gas_limit: U256,
    current_number: U256,
    current_timestamp: U256,
    current_difficulty: U256,
    current_base_fee: Option<U256>,
    current_random: Option<B256>,
    current_excess_blob_gas: Option<U256>,
}

#[derive(Deserialize)]
struct PreAccount {
    nonce: U256,
    balance: U256,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post {
    hash: B256,
    logs: B256,
    txbytes: Bytes,
    indexes: BTreeMap<String, u64>,
    expect_exception: Option<String>,
}

fn run_file(file: &Path, folder: &Path, options: &Options, tally: &mut Tally) {
    let short = file.strip_prefix(folder).unwrap_or(file).display();
    let tests: BTreeMap<String, Test> = match read_json(file) {
        Ok(tests) => tests,
        Err(reason) => return tally.count(short, Err(reason)),
    };
    for (name, test) in &tests {
        for (network, posts) in &test.post {
            for post in posts {
                let case = format!("{short} {name} {network} {:?}", post.indexes);
                if options.selects(&case) {
                    tally.count(case, check(test, network, post));
                }
            }
        }
    }
}

fn check(test: &Test, network: &str, post: &Post) -> Result<(), String> {
    let fork = fork(network)?;
    let spec = spec(fork);
    let header = header(&test.env, fork)?;
    let mut state = State::new(&test.pre)?;
    let executed = execute(&spec, &header, &post.txbytes, &state)?;
    let logs = match (executed, &post.expect_exception) {
        (Ok((receipt, changes)), None) => {
            state.apply(&changes)?;
            receipt.logs
        }
        (Err(_), Some(_)) => Vec::new(),
        (Ok(_), Some(want)) => return Err(format!("accepted, but it breaks {want}")),
        (Err(reason), None) => return Err(format!("refused: {reason}")),
    };
    let hash = keccak256(alloy_rlp::encode(&logs));
    if hash != post.logs {
        return Err(format!("hash of logs is {hash}, want {}", post.logs));
    }
    let root = state.root();
    if root != post.hash {
        return Err(format!("state root is {root}, want {}", post.hash));
    }
    Ok(())
}

/// Decodes, recovers and runs: the outer error is a fault of ours, the inner a refusal.
fn execute(
    spec: &ChainSpec,
    header: &Header,
    bytes: &[u8],
    state: &State,
) -> Result<Result<(Receipt, StateChanges), String>, String> {
    let transaction = match Transaction::decode_2718_exact(bytes) {
        Ok(transaction) => transaction,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let sender = match transaction.recover_signer() {
        Ok(sender) => sender,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let done = execute_transaction(spec, header, &transaction, sender, state);
    Ok(done.map_err(|e| e.to_string())?.map_err(|e| e.to_string()))
}

fn header(env: &Env, fork: Fork) -> Result<Header, String> {
    let narrow = |value: U256| u64::try_from(value).map_err(|_| format!("{value} is too large"));
    let merged = fork >= Fork::Paris;
    let base_fee = env.current_base_fee.map(narrow).transpose()?;
    let excess = env.current_excess_blob_gas.map(narrow).transpose()?;
    Ok(Header {
        beneficiary: env.current_coinbase,
        number: narrow(env.current_number)?,
        timestamp: narrow(env.current_timestamp)?,
        gas_limit: env.current_gas_limit.saturating_to(),
        difficulty: if merged { U256::ZERO } else { env.current_difficulty },
        mix_hash: env.current_random.unwrap_or_default(),
        base_fee_per_gas: base_fee.filter(|_| fork >= Fork::London),
        excess_blob_gas: (fork >= Fork::Cancun).then_some(excess.unwrap_or_default()),
        ..Header::default()
    })
}

/// A fork by its name in the tests.
pub fn fork(network: &str) -> Result<Fork, String> {
    Ok(match network {
        "Frontier" => Fork::Frontier,
        "Homestead" => Fork::Homestead,
        "EIP150" => Fork::Tangerine,
        "EIP158" => Fork::SpuriousDragon,
        "Byzantium" => Fork::Byzantium,
        "Constantinople" => Fork::Constantinople,
        "ConstantinopleFix" => Fork::Petersburg,
        "Istanbul" => Fork::Istanbul,
        "Berlin" => Fork::Berlin,
        "London" => Fork::London,
        "Paris" => Fork::Paris,
        "Shanghai" => Fork::Shanghai,
        "Cancun" => Fork::Cancun,
        "Prague" => Fork::Prague,
        "Osaka" => Fork::Osaka,
        other => return Err(format!("unknown fork {other}")),
    })
}

/// A chain with id 1 on which a fork holds from block 0.
pub fn spec(newest: Fork) -> ChainSpec {
    let since = |fork| (newest >= fork).then_some(0);
    ChainSpec::new(ChainConfig {
        chain_id: 1,
        homestead_block: since(Fork::Homestead),
        eip150_block: since(Fork::Tangerine),
        eip155_block: since(Fork::SpuriousDragon),
        eip158_block: since(Fork::SpuriousDragon),
        byzantium_block: since(Fork::Byzantium),
        constantinople_block: since(Fork::Constantinople),
        petersburg_block: since(Fork::Petersburg),
        istanbul_block: since(Fork::Istanbul),
        berlin_block: since(Fork::Berlin),
        london_block: since(Fork::London),
        terminal_total_difficulty: (newest >= Fork::Paris).then_some(U256::ZERO),
        shanghai_time: since(Fork::Shanghai),
        cancun_time: since(Fork::Cancun),
        prague_time: since(Fork::Prague),
        osaka_time: since(Fork::Osaka),
        ..ChainConfig::default()
    })
}

/// The state of a test.
struct State {
    accounts: BTreeMap<Address, Account>,
    storage: BTreeMap<Address, BTreeMap<U256, U256>>,
    codes: BTreeMap<B256, Bytes>,
}

impl State {
    fn new(pre: &BTreeMap<Address, PreAccount>) -> Result<Self, String> {
        let mut state =
            Self { accounts: BTreeMap::new(), storage: BTreeMap::new(), codes: BTreeMap::new() };
        for (address, account) in pre {
            let code_hash = keccak256(&account.code);
            state.codes.insert(code_hash, account.code.clone());
            let nonce = u64::try_from(account.nonce).map_err(|e| e.to_string())?;
            let entry = Account { nonce, balance: account.balance, code_hash };
            state.accounts.insert(*address, entry);
            let slots = account.storage.iter().filter(|(_, value)| !value.is_zero());
            state.storage.insert(*address, slots.map(|(key, value)| (*key, *value)).collect());
        }
        Ok(state)
    }

    /// Applies the changes, each of which must start from what is here.
    fn apply(&mut self, changes: &StateChanges) -> Result<(), String> {
        for (address, change) in &changes.accounts {
            let here = self.accounts.get(address).copied();
            if here != change.account.before {
                let reported = change.account.before;
                return Err(format!("{address} was {here:?}, reported as {reported:?}"));
            }
            let slots = self.storage.entry(*address).or_default();
            for (key, slot) in &change.storage {
                let before = slots.get(key).copied().unwrap_or_default();
                if before != slot.before || (before == slot.after && !change.wiped) {
                    return Err(format!("{address} slot {key} was {before}, reported as {slot:?}"));
                }
            }
            let unchanged = here == change.account.after && change.storage.is_empty();
            if unchanged && !change.wiped {
                return Err(format!("{address} is reported without a change"));
            }
            if change.wiped {
                slots.clear();
            }
            slots.extend(change.storage.iter().map(|(key, slot)| (*key, slot.after)));
            slots.retain(|_, value| !value.is_zero());
            match change.account.after {
                Some(account) => self.accounts.insert(*address, account),
                None => self.accounts.remove(address),
            };
        }
        for (hash, code) in &changes.codes {
            if keccak256(code) != *hash {
                return Err(format!("code is reported under the wrong hash {hash}"));
            }
            self.codes.insert(*hash, code.clone());
        }
        let codes = self.accounts.values().map(|account| account.code_hash);
        for hash in codes.filter(|hash| *hash != KECCAK256_EMPTY) {
            if !self.codes.contains_key(&hash) {
                return Err(format!("code {hash} is not reported"));
            }
        }
        Ok(())
    }

    fn root(&self) -> B256 {
        let accounts = self.accounts.iter().map(|(address, account)| {
            let slots = self.storage.get(address).into_iter().flatten();
            let storage_root =
                root::storage_root_unhashed(slots.map(|(key, value)| (B256::from(*key), *value)));
            let Account { nonce, balance, code_hash } = *account;
            (*address, TrieAccount { nonce, balance, storage_root, code_hash })
        });
        root::state_root_unhashed(accounts)
    }
}

impl StateReader for State {
    fn account(&self, address: &Address) -> Result<Option<Account>, StateError> {
        Ok(self.accounts.get(address).copied())
    }

    fn storage(&self, address: &Address, slot: U256) -> Result<U256, StateError> {
        let slots = self.storage.get(address);
        Ok(slots.and_then(|slots| slots.get(&slot)).copied().unwrap_or_default())
    }

    fn code(&self, hash: B256) -> Result<Bytes, StateError> {
        self.codes.get(&hash).cloned().ok_or_else(|| StateError(format!("no code {hash}")))
    }

    fn block_hash(&self, number: u64) -> Result<B256, StateError> {
        Ok(keccak256(number.to_string()))
    }

    fn has_orphaned_storage(&self, address: &Address) -> Result<bool, StateError> {
        Ok(self.storage.get(address).is_some_and(|slots| !slots.is_empty()))
    }
}
