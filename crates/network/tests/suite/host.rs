//! A host of a network, as a test sees it.

use alloy_primitives::B256;
use landfall_network::{
    Config, Event, Hello, Lane, Limits, Network, NodeKey, PeerAddress, PeerInfo, start,
};
use landfall_types::NodeId;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Generous: machines are shared. Nothing is measured against it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Host {
    pub key: NodeKey,
    pub network: Network,
    pub events: mpsc::Receiver<Event>,
    pub task: JoinHandle<()>,
}

/// The key whose bytes are all `byte`.
pub fn key(byte: u8) -> NodeKey {
    NodeKey::from_bytes([byte; 32]).expect("a key")
}

pub fn hello() -> Hello {
    Hello {
        genesis: B256::repeat_byte(0x11),
        schedule: B256::repeat_byte(0x22),
        chain_id: 1,
        client: "test/1".to_owned(),
    }
}

/// A configuration that listens on a free port of loopback and dials nobody.
pub fn config(key: NodeKey) -> Config {
    Config {
        key,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        external: None,
        static_peers: Vec::new(),
        discovery: false,
        validators: BTreeMap::new(),
        allow: None,
        hello: hello(),
        limits: Limits::default(),
    }
}

/// Starts a host with `config`.
pub fn host(config: Config) -> Host {
    let key = config.key.clone();
    let (network, events, future) = start(config).expect("a network");
    Host { key, network, events, task: tokio::spawn(future) }
}

/// Starts a host that dials `to`.
pub fn host_dialling(byte: u8, to: &[&Host]) -> Host {
    let static_peers = to.iter().map(|host| host.address()).collect();
    host(Config { static_peers, ..config(key(byte)) })
}

/// Starts a host that dials `hub`, and waits until both are connected.
pub async fn joined(byte: u8, hub: &mut Host) -> Host {
    let mut host = host_dialling(byte, &[hub]);
    host.connected().await;
    hub.next("that peer", |event| match event {
        Event::Connected(peer) if peer.key == host.key.public() => Some(()),
        _ => None,
    })
    .await;
    host
}

impl Host {
    pub fn id(&self) -> NodeId {
        self.key.public().id()
    }

    pub fn address(&self) -> PeerAddress {
        let listening = self.network.listening();
        PeerAddress {
            key: self.key.public(),
            host: listening.ip().to_string(),
            port: listening.port(),
        }
    }

    /// The first event of which `select` makes something; others are dropped.
    pub async fn next<T>(&mut self, what: &str, mut select: impl FnMut(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = select(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, search).await.unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
    }

    pub async fn connected(&mut self) -> PeerInfo {
        self.next("peer", |event| match event {
            Event::Connected(peer) => Some(peer),
            _ => None,
        })
        .await
    }

    pub async fn gone(&mut self) -> (NodeId, String) {
        self.next("departure", |event| match event {
            Event::Gone { id, why } => Some((id, why)),
            _ => None,
        })
        .await
    }

    pub async fn refused(&mut self) -> String {
        self.next("refusal", |event| match event {
            Event::Refused { why, .. } => Some(why),
            _ => None,
        })
        .await
    }

    pub async fn message(&mut self, on: Lane) -> (NodeId, Vec<u8>) {
        self.next("message", |event| match event {
            Event::Message { from, lane, bytes, .. } if lane == on => Some((from, bytes.to_vec())),
            _ => None,
        })
        .await
    }

    /// All events that are there within `time`.
    pub async fn all_within(&mut self, time: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        let end = tokio::time::Instant::now() + time;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            events.push(event);
        }
        events
    }

    pub async fn stop(self) {
        self.network.stop();
        timeout(PATIENCE, self.task).await.expect("it stops").expect("it does not panic");
    }
}

/// Waits until `holds`.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}
