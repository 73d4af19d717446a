//! A node for tests: a development chain in memory behind the real server. Blocks are made when
//! the test says so.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod http;
pub mod ws;

use alloy_primitives::{Address, B256, Signature, TxHash, address};
use landfall_chain::pool::{HeadInfo, Order, Pool, PoolError, PoolLimits, Recovered, recover};
use landfall_chain::{Attributes, Chain, ChainOptions, ChainReader, Place, store::TestDisk};
use landfall_rpc::{Answer, Backend, Event, NodeDoor, PoolDoor, RpcConfig, ServerHandle};
use landfall_types::{Extension, ForkChoice, Transaction, parse_genesis};
use landfall_wallet::{DerivationPath, Keyring, Mnemonic};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::broadcast;

pub const CHAIN_ID: u64 = 31337;
/// The first account of the phrase that everybody uses: its key is unlocked.
pub const FUNDED: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// A contract that reverts with `Error("no")`.
pub const REVERTING: Address = address!("0x00000000000000000000000000000000000000a1");
/// A contract that emits one log with the topic 7.
pub const LOGGING: Address = address!("0x00000000000000000000000000000000000000a2");

const PHRASE: &str = "test test test test test test test test test test test junk";
const REVERT_NO: &str = "0x6064806009\
    5f395ffd\
    08c379a0\
    0000000000000000000000000000000000000000000000000000000000000020\
    0000000000000000000000000000000000000000000000000000000000000002\
    6e6f000000000000000000000000000000000000000000000000000000000000";
const LOG_7: &str = "0x60075f5fa100";

pub struct TestNode {
    pub address: SocketAddr,
    pub backend: Backend,
    door: Arc<Door>,
    chain: Mutex<Chain>,
    _server: ServerHandle,
}

impl TestNode {
    /// Starts on a free port, with one empty block on top of the genesis.
    pub async fn start(config: RpcConfig) -> Self {
        Self::start_on(&genesis(), config, None).await
    }

    /// The same on another genesis, or with a door to consensus and peers.
    pub async fn start_on(
        genesis: &Value,
        config: RpcConfig,
        network: Option<Arc<dyn NodeDoor>>,
    ) -> Self {
        let genesis = parse_genesis(&genesis.to_string()).expect("the genesis is valid");
        let place = Place::Disk(Arc::new(TestDisk::new(1)));
        let chain = Chain::open(ChainOptions::new(Some(genesis), place)).expect("a new chain");
        let door = Arc::new(Door {
            chain: chain.reader(),
            pool: Mutex::new(Pool::new(PoolLimits::default(), Order::Fees)),
            events: broadcast::channel(64).0,
        });
        let mnemonic = Mnemonic::parse(PHRASE).expect("a valid phrase");
        let keys = Keyring::from_mnemonic(&mnemonic, &DerivationPath::default(), 1);
        let backend = Backend {
            chain: chain.reader(),
            pool: door.clone(),
            controls: None,
            node: network,
            keys: Arc::new(keys.expect("a valid path")),
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let served = landfall_rpc::serve(backend.clone(), config, any).await;
        let (address, server) = served.expect("a free port");
        let node = Self { address, backend, door, chain: Mutex::new(chain), _server: server };
        node.mine();
        node
    }

    /// A signature of the funded account.
    pub fn sign(&self, hash: &B256) -> Signature {
        self.backend.keys.signer(&FUNDED).expect("it is unlocked").sign_hash(*hash)
    }

    /// Makes a block of what waits, and tells everybody.
    pub fn mine(&self) -> B256 {
        self.mine_on(self.door.chain.head().hash())
    }

    /// Makes a block on top of any other, and moves the head there.
    pub fn mine_on(&self, parent: B256) -> B256 {
        let mut chain = self.chain.lock();
        let head = self.door.chain.head();
        let milliseconds = (head.block.block.header.timestamp + 1) * 1_000;
        let attributes = Attributes {
            extension: Extension { milliseconds, proposer: FUNDED, ..Extension::default() },
            gas_limit: 30_000_000,
            prev_randao: B256::repeat_byte(head.number() as u8),
            ..Attributes::default()
        };
        let mut pool = self.door.pool.lock();
        let block = chain.build(parent, attributes, |builder| {
            let mut best = pool.best(builder.header().base_fee_per_gas.unwrap_or_default());
            while let Some(next) = best.next(&pool) {
                builder.push(&next.transaction, next.sender).expect("it fits");
            }
        });
        let block = block.expect("a valid block");
        let genesis = self.door.chain.genesis_hash();
        let choice = ForkChoice { head: block.block.hash(), safe: genesis, finalized: genesis };
        chain.adopt(choice).expect("one branch");
        let touched = block.senders.iter().copied();
        let state = self.door.chain.latest_state();
        pool.on_head(touched, Vec::new(), &self.door.next(), &state).expect("a readable state");
        // Nobody may listen.
        _ = self.door.events.send(Event::Head);
        block.block.hash()
    }

    /// Makes a block final, with a proof of an epoch.
    pub fn finalize(&self, block: B256, epoch: u64, proof: Vec<u8>) {
        let mut chain = self.chain.lock();
        let choice =
            ForkChoice { head: self.door.chain.head().hash(), safe: block, finalized: block };
        chain.log_choice(choice, Some((epoch, proof.into()))).expect("it is on the branch");
        chain.sync().expect("the disk is well");
        chain.show(choice).expect("it is durable");
    }

    /// Calls a method over HTTP; the whole answer.
    pub fn call(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, answer) = http::post(self.address, body.to_string().as_bytes());
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{method}: {answer:?}: {e}"))
    }

    /// Calls a method that must succeed.
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let mut answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }
}

/// The genesis of the tests: every fork through Osaka, one funded account, two contracts.
pub fn genesis() -> Value {
    let mut alloc = json!({
        FUNDED.to_string(): { "balance": "0x21e19e0c9bab2400000" },
        REVERTING.to_string(): { "balance": "0x0", "code": REVERT_NO },
        LOGGING.to_string(): { "balance": "0x0", "code": LOG_7 },
    });
    for contract in landfall_evm::system_contracts() {
        alloc[contract.address.to_string()] =
            json!({ "balance": "0x0", "nonce": "0x1", "code": contract.code });
    }
    json!({
        "config": {
            "chainId": CHAIN_ID, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0,
            "eip158Block": 0, "byzantiumBlock": 0, "constantinopleBlock": 0,
            "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0, "londonBlock": 0,
            "terminalTotalDifficulty": 0, "terminalTotalDifficultyPassed": true,
            "shanghaiTime": 0, "cancunTime": 0, "pragueTime": 0, "osakaTime": 0,
            "landfall": { "engine": "solo" },
        },
        "difficulty": "0x0",
        "gasLimit": "0x1c9c380",
        "timestamp": "0x66000000",
        "alloc": alloc,
    })
}

/// The way into the pool, without workers.
struct Door {
    chain: ChainReader,
    pool: Mutex<Pool>,
    events: broadcast::Sender<Event>,
}

impl Door {
    fn next(&self) -> HeadInfo {
        let spec = self.chain.spec();
        let head = self.chain.head();
        let header = &head.block.block.header;
        let (number, time) = (header.number + 1, header.timestamp);
        let base_fee = landfall_evm::next_base_fee(spec, header, number, time, header.difficulty);
        HeadInfo {
            chain_id: spec.chain_id,
            fork: spec.fork_at(number, time, header.difficulty),
            gas_limit: header.gas_limit,
            base_fee: base_fee.unwrap_or_default(),
        }
    }

    fn add(&self, transaction: Recovered) -> Result<TxHash, PoolError> {
        let mut pool = self.pool.lock();
        let added = pool.add(transaction, &self.next(), &self.chain.latest_state())?;
        for waiting in added.promoted.iter().filter_map(|hash| pool.get(hash)) {
            // Nobody may listen.
            _ = self.events.send(Event::Pending(waiting));
        }
        Ok(added.hash)
    }
}

impl PoolDoor for Door {
    fn submit(&self, transaction: Transaction) -> Answer<'_, Result<TxHash, PoolError>> {
        let recovered = recover(transaction, CHAIN_ID);
        Box::pin(async move { self.add(recovered?) })
    }

    fn submit_recovered(&self, transaction: Recovered) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move { self.add(transaction) })
    }

    fn pool(&self) -> &Mutex<Pool> {
        &self.pool
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
