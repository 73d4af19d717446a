//! `cargo xtask stages`: what one value transfer costs, stage by stage, in one process.
//!
//! One thread walks a batch of signed transfers through everything between the wire and the views
//! (the trie alone uses a second thread), so the microseconds are CPU time on a quiet machine.
//! HTTP and JSON are not in it: `landfall bench --pid` measures the whole.

use alloy_consensus::{EthereumTypedTransaction, TxEip1559};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_genesis::{Genesis, GenesisAccount};
use alloy_primitives::{Address, Bytes, TxKind, U256, keccak256};
use landfall_chain::pool::{HeadInfo, Order, Pool, PoolLimits, recover};
use landfall_chain::{Attributes, Chain, ChainOptions, Place};
use landfall_types::{Fork, ForkChoice, Transaction};
use landfall_wallet::Signer;
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SENDERS: usize = 1_000;
const CHAIN_ID: u64 = 31_337;

/// How much.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Arguments {
    /// Transfers in a block; one block is measured after another of the same size.
    #[arg(long, default_value_t = 20_000)]
    transfers: usize,
}

/// Names of the stages, in order.
const STAGES: [&str; 9] = [
    "decode",
    "recover the signature",
    "into the pool",
    "choose and execute",
    "roots of the block, state trie, log record, tree",
    "fork choice: one sync, visible",
    "pool follows the head",
    "flush to the views: rows",
    "flush to the views: memory freed",
];

/// Measures and prints a table.
pub fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from("target/stages");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(&directory)?;
    let keys: Vec<Signer> = (0..SENDERS)
        .map(|index| Signer::new(&keccak256(index.to_be_bytes()).0))
        .collect::<Result<_, _>>()?;
    let place = Place::Directory(directory.clone());
    let mut chain = Chain::open(ChainOptions::new(Some(genesis(&keys)?), place))?;
    let per_sender = arguments.transfers.div_ceil(SENDERS);
    // The first block warms caches and tables; the second counts.
    measure(&mut chain, &wire(&keys, 0, per_sender))?;
    let raw = wire(&keys, per_sender, per_sender);
    let spent = measure(&mut chain, &raw)?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / raw.len() as f64;
    println!("{} transfers from {SENDERS} senders to fresh addresses, in one block", raw.len());
    for (name, time) in STAGES.iter().zip(spent) {
        println!("{:8.2} us  {name}", each(time));
    }
    println!("{:8.2} us  all", each(spent.iter().sum()));
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn genesis(keys: &[Signer]) -> Result<Genesis, Box<dyn Error>> {
    let mut genesis: Genesis = serde_json::from_value(json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
            "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
            "terminalTotalDifficulty": 0, "shanghaiTime": 0,
            "landfall": { "engine": "solo" },
        },
        "gasLimit": "0x77359400", "difficulty": "0x0", "alloc": {},
    }))?;
    for key in keys {
        let rich = GenesisAccount::default().with_balance(U256::from(10u128.pow(24)));
        genesis.alloc.insert(key.address(), rich);
    }
    Ok(genesis)
}

/// Signed transfers as they arrive.
fn wire(keys: &[Signer], first: usize, each: usize) -> Vec<Vec<u8>> {
    let transfer = |nonce: usize, key: &Signer| {
        let to = Address::from_word(keccak256(
            [key.address().as_slice(), &nonce.to_be_bytes()].concat(),
        ));
        let fields = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: nonce as u64,
            gas_limit: 21_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(to),
            value: U256::from(1),
            access_list: Default::default(),
            input: Bytes::new(),
        };
        key.sign_transaction(EthereumTypedTransaction::Eip1559(fields)).encoded_2718()
    };
    (first..first + each)
        .flat_map(|nonce| keys.iter().map(move |key| transfer(nonce, key)))
        .collect()
}

/// One block from the wire to the views: the time of each stage.
fn measure(chain: &mut Chain, raw: &[Vec<u8>]) -> Result<[Duration; 9], Box<dyn Error>> {
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();
    let decoded: Vec<Transaction> = raw
        .iter()
        .map(|bytes| Transaction::decode_2718(&mut bytes.as_slice()))
        .collect::<Result<_, _>>()?;
    let decode = lap();
    let recovered: Vec<_> = decoded
        .into_iter()
        .map(|transaction| recover(transaction, CHAIN_ID))
        .collect::<Result<_, _>>()?;
    let recover = lap();
    let reader = chain.reader();
    let head = reader.head();
    let base_fee = head.block.block.header.base_fee_per_gas.unwrap_or_default();
    let rules =
        HeadInfo { chain_id: CHAIN_ID, fork: Fork::Shanghai, gas_limit: 2_000_000_000, base_fee };
    let mut pool = Pool::new(PoolLimits::default(), Order::Fees);
    let state = reader.latest_state();
    for transaction in recovered {
        pool.add(transaction, &rules, &state)?;
    }
    let add = lap();
    let mut push = Duration::ZERO;
    let attributes = Attributes { gas_limit: 2_000_000_000, ..Attributes::default() };
    let block = chain.build(head.hash(), attributes, |builder| {
        let began = Instant::now();
        let mut best = pool.best(0);
        while let Some(next) = best.next(&pool) {
            builder.push(&next.transaction, next.sender).expect("a transfer of a rich account");
        }
        push = began.elapsed();
    })?;
    assert_eq!(block.senders.len(), raw.len(), "the block takes all transfers");
    let built = lap() - push;
    let hash = block.block.hash();
    chain.adopt(ForkChoice { head: hash, safe: hash, finalized: hash })?;
    let adopt = lap();
    let touched = block.senders.iter().copied().collect::<std::collections::BTreeSet<_>>();
    pool.on_head(touched, Vec::new(), &rules, &reader.latest_state())?;
    assert!(pool.is_empty(), "every transfer is mined");
    let follow = lap();
    let done = chain.begin_flush().ok_or("the block is final")?.run();
    let flush = lap();
    chain.finish_flush(done)?;
    let free = lap();
    Ok([decode, recover, add, push, built, adopt, follow, flush, free])
}
