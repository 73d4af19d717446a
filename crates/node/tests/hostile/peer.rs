//! A hostile peer with both lanes and gossip open. What the node says is read and decoded; a write
//! that the node does not take in time is given up, since to be read slower is a defence too.

use crate::arena::Arena;
use crate::wire::{Hostile, frame, gossip_frame, topic};
use futures_util::io::{ReadHalf, WriteHalf};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use landfall_replica::Wire;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a write may be held up.
const WRITE: Duration = Duration::from_secs(3);
/// How long a handshake may take on a busy machine.
const JOIN: Duration = Duration::from_secs(5);
/// Messages of the node that are kept; more are read and dropped.
const HEARD: usize = 4_096;

/// A lane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Votes,
    Sync,
}

/// See the module.
pub struct Peer {
    /// The node that it speaks to.
    pub node: usize,
    /// Its key.
    pub key: [u8; 32],
    pub hostile: Hostile,
    votes: WriteHalf<yamux::Stream>,
    sync: WriteHalf<yamux::Stream>,
    gossip: Option<yamux::Stream>,
    heard: mpsc::Receiver<Wire>,
    closed: Arc<AtomicBool>,
    bytes_in: Arc<AtomicU64>,
    reading: Vec<JoinHandle<()>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reading.iter().for_each(JoinHandle::abort);
    }
}

impl Peer {
    /// Connects to a node.
    pub async fn join(arena: &Arena, node: usize, key: [u8; 32]) -> io::Result<Self> {
        let to = arena.nodes[node].p2p;
        let joined = async {
            let hostile = Hostile::connect(to, key, &arena.hello()).await?;
            let (votes, sync) = hostile.lanes().await?;
            Ok::<_, io::Error>((hostile, votes, sync))
        };
        let (hostile, votes, sync) = timeout(JOIN, joined).await.map_err(|_| slow())??;
        let (sender, heard) = mpsc::channel(HEARD);
        let (closed, bytes_in) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let ((votes_in, votes), (sync_in, sync)) = (votes.split(), sync.split());
        let reading = [votes_in, sync_in].map(|stream| {
            let (sender, closed, bytes) = (sender.clone(), closed.clone(), bytes_in.clone());
            tokio::spawn(async move {
                let _ = read(stream, sender, &bytes).await;
                closed.store(true, Ordering::Relaxed);
            })
        });
        let reading = reading.into();
        let gossip = None;
        Ok(Self { node, key, hostile, votes, sync, gossip, heard, closed, bytes_in, reading })
    }

    /// Connects as nobody that is known.
    pub async fn stranger(arena: &Arena, node: usize) -> Self {
        let joined = Self::join(arena, node, arena.stranger()).await;
        joined.expect("a stranger is let in before it does harm")
    }

    /// Connects as the validator, to the first node from this one on at which it is not banned. A
    /// ban of a validator lasts half a minute; the attack begins after it.
    pub async fn member(arena: &Arena, node: usize) -> Self {
        let nodes = arena.nodes.len();
        let mut refused = String::new();
        for number in (0..nodes).map(|turn| (node + turn) % nodes).cycle().take(40 * nodes) {
            match Self::join(arena, number, arena.member.node_key).await {
                Ok(peer) => {
                    arena.begin(crate::ATTACK);
                    return peer;
                }
                Err(error) => refused = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        panic!("the validator is refused by all nodes: {refused}");
    }

    /// Whether the node has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Bytes that came on both lanes.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Writes bytes on a lane as they are.
    pub async fn raw(&mut self, lane: Lane, bytes: &[u8]) -> io::Result<()> {
        let stream = match lane {
            Lane::Votes => &mut self.votes,
            Lane::Sync => &mut self.sync,
        };
        within(async {
            stream.write_all(bytes).await?;
            stream.flush().await
        })
        .await
    }

    /// Sends a message on a lane.
    pub async fn send(&mut self, lane: Lane, wire: &Wire) -> io::Result<()> {
        self.raw(lane, &frame(0, &wire.encode())).await
    }

    /// Gossips a message on `blocks` or `transactions`.
    pub async fn gossip(&mut self, arena: &Arena, name: &str, data: &[u8]) -> io::Result<()> {
        let bytes = gossip_frame(&topic(name, arena.genesis), data);
        if self.gossip.is_none() {
            let opened = timeout(JOIN, self.hostile.protocol("/meshsub/1.2.0")).await;
            self.gossip = Some(opened.map_err(|_| slow())??);
        }
        let stream = self.gossip.as_mut().expect("opened above");
        within(async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await
    }

    /// The next message of the node.
    pub async fn hear(&mut self, limit: Duration) -> Option<Wire> {
        timeout(limit, self.heard.recv()).await.ok().flatten()
    }

    /// Forgets what was heard so far.
    pub fn forget(&mut self) {
        while self.heard.try_recv().is_ok() {}
    }

    /// Waits a little for the node to close the connection.
    pub async fn wait_for_end(&self) {
        for _ in 0..50 {
            if self.is_closed() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn slow() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

async fn within(write: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(WRITE, write).await.map_err(|_| slow())?
}

async fn read(
    mut stream: ReadHalf<yamux::Stream>,
    heard: mpsc::Sender<Wire>,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        let message = crate::wire::read_block(&mut stream).await?;
        bytes.fetch_add(message.len() as u64 + 4, Ordering::Relaxed);
        let Some((0, payload)) = message.split_first() else { continue };
        let wire = Wire::decode(payload).expect("an honest node speaks well");
        // Full: the attacker has no need of it.
        let _ = heard.try_send(wire);
    }
}
