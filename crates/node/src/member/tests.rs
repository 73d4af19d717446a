//! Whole nodes in one process, over real sockets and real directories.

use super::{Member, Setup, Voter};
use crate::genesis::{self, ChainGenesis};
use crate::keys;
use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use landfall_chain::pool::PoolLimits;
use landfall_chain::{Chain, ChainOptions, Place};
use landfall_network::{Config, Hello, Limits, NodeKey, PeerAddress};
use landfall_replica::{KeySigner, Signer as _};
use landfall_rpc::PoolDoor as _;
use landfall_types::{
    Committee, NodeId, Params, PbftParams, Schedule, Span, StateReader as _, Term, Transaction,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const NODES: u8 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn secret(number: u8) -> [u8; 32] {
    [number + 1; 32]
}

fn node_secret(number: u8) -> [u8; 32] {
    [number + 101; 32]
}

fn id(number: u8) -> NodeId {
    KeySigner::new(&secret(number)).unwrap().id()
}

fn schedule() -> Schedule {
    let params = Params::Pbft(PbftParams {
        block_interval: Span(20),
        empty_blocks: false,
        round_timeout: Span(1_000),
        round_timeout_max: Span(8_000),
        retransmit: Span(400),
        clock_drift: Span(4_000),
    });
    let committee = Committee::equal((0..NODES).map(id)).unwrap();
    Schedule::new(vec![Term { params, committee, length: None }])
}

/// Directories and ports of a network; gone with the value.
struct Network {
    directory: PathBuf,
    ports: Vec<u16>,
}

impl Network {
    fn new(name: &str) -> Self {
        let name = format!("landfall-member-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&directory);
        let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let held: Vec<_> = (0..NODES).map(free).collect();
        let ports = held.iter().map(|it| it.local_addr().unwrap().port()).collect();
        Self { directory, ports }
    }

    fn directory_of(&self, number: u8) -> PathBuf {
        self.directory.join(format!("node-{number}"))
    }

    fn address(&self, number: u8) -> PeerAddress {
        let key = NodeKey::from_bytes(node_secret(number)).unwrap().public();
        let port = self.ports[usize::from(number)];
        PeerAddress { key, host: "127.0.0.1".into(), port }
    }

    fn start(&self, number: u8) -> Member {
        let accounts = keys::keyring(keys::TEST_MNEMONIC, keys::DERIVATION_PATH, 1).unwrap();
        let genesis = ChainGenesis {
            chain_id: genesis::CHAIN_ID,
            timestamp: 1_700_000_000,
            gas_limit: genesis::GAS_LIMIT,
            base_fee: genesis::BASE_FEE,
            accounts: vec![(keys::keys(&accounts)[0].address, U256::from(10).pow(U256::from(20)))],
            landfall: genesis::development(),
        };
        let directory = self.directory_of(number);
        let place = Place::Directory(directory.join("data"));
        let chain = Chain::open(ChainOptions::new(Some(genesis.build()), place)).unwrap();
        let hello = Hello {
            genesis: chain.reader().genesis_hash(),
            schedule: B256::ZERO,
            chain_id: genesis::CHAIN_ID,
            client: "test".into(),
        };
        let key = |number| NodeKey::from_bytes(node_secret(number)).unwrap();
        let others = (0..NODES).filter(|other| *other != number);
        let network = Config {
            key: key(number),
            listen: SocketAddr::from(([127, 0, 0, 1], self.ports[usize::from(number)])),
            external: None,
            static_peers: others.map(|other| self.address(other)).collect(),
            discovery: false,
            validators: (0..NODES).map(|it| (key(it).public(), id(it))).collect(),
            allow: None,
            hello,
            limits: Limits::default(),
        };
        let key_file = directory.join("validator.json");
        std::fs::write(&key_file, "{}").unwrap();
        let setup = Setup {
            chain,
            directory: directory.join("data"),
            schedule: schedule(),
            names: BTreeMap::new(),
            voter: Some(Voter { secret: secret(number), file: key_file }),
            node_secret: node_secret(number),
            network,
            mining_threads: 0,
            pool: PoolLimits::default(),
            beneficiary: None,
            gas_limit: None,
            extra_data: Bytes::new(),
        };
        Member::start(setup).unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn transfer(nonce: u64, to: Address) -> Transaction {
    let accounts = keys::keyring(keys::TEST_MNEMONIC, keys::DERIVATION_PATH, 1).unwrap();
    let unsigned = TxEip1559 {
        chain_id: genesis::CHAIN_ID,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(to),
        value: U256::from(7),
        ..TxEip1559::default()
    };
    let signature = sign_message(keys::keys(&accounts)[0].secret, unsigned.signature_hash());
    unsigned.into_signed(signature.unwrap()).into()
}

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn balance(member: &Member, address: Address) -> U256 {
    let account = member.reader.latest_state().account(&address).unwrap();
    account.unwrap_or_default().balance
}

fn finalized(member: &Member) -> u64 {
    member.reader.head().finalized.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_make_a_transaction_final_and_go_on_after_a_restart() {
    let network = Network::new("four");
    let mut members: Vec<Member> = (0..NODES).map(|number| network.start(number)).collect();
    let to = Address::repeat_byte(0xbe);
    for nonce in 0..3 {
        // Each to another node: they are spread to whoever proposes.
        members[nonce as usize].door.submit(transfer(nonce, to)).await.unwrap();
        let want = U256::from(7 * (nonce + 1));
        wait_until("the transfer is final on all nodes", || {
            members.iter().all(|it| balance(it, to) == want && finalized(it) > 0)
        })
        .await;
    }
    let before = finalized(&members[3]);
    members.pop().unwrap().stop().await.unwrap();
    members[0].door.submit(transfer(3, to)).await.unwrap();
    wait_until("three of four go on", || {
        members.iter().all(|it| balance(it, to) == U256::from(28))
    })
    .await;
    members.push(network.start(3));
    assert_eq!(finalized(&members[3]), before, "it stands where it stopped");
    wait_until("the fourth has caught up", || balance(&members[3], to) == U256::from(28)).await;
    for member in members {
        member.stop().await.unwrap();
    }
}
