//! A peer that speaks the protocol and means no good: each layer can be left early, and every byte
//! above it is the attacker's. It shares no code with the crate, so that it says what it wants.

#![allow(dead_code, reason = "a program of attacks uses what a test does not")]

use alloy_primitives::{B256, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_core::upgrade::OutboundConnectionUpgrade;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A TCP stream with futures' traits.
pub struct Tcp(pub TcpStream);

impl Tcp {
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(to).await.map(Self)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.0), cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.0), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

/// An encrypted stream, before any hello.
pub type Secure = libp2p_noise::Output<Tcp>;

/// Connects and encrypts with the secp256k1 key of these bytes.
pub async fn secure(to: SocketAddr, mut key: [u8; 32]) -> io::Result<Secure> {
    let key = libp2p_identity::secp256k1::SecretKey::try_from_bytes(&mut key).expect("a key");
    let key = libp2p_identity::secp256k1::Keypair::from(key).into();
    let tcp = Tcp::connect(to).await?;
    let noise = libp2p_noise::Config::new(&key).expect("a key that signs");
    let (_, io) = noise.upgrade_outbound(tcp, "").await.map_err(io::Error::other)?;
    Ok(io)
}

#[derive(RlpEncodable)]
struct Hello {
    genesis: B256,
    schedule: B256,
    chain_id: u64,
    client: String,
    host: String,
    port: u16,
}

/// The bytes of a hello of wire version `version`, without their length.
pub fn hello(version: u16, genesis: B256, schedule: B256, chain_id: u64) -> Vec<u8> {
    let mut bytes = b"landfall".to_vec();
    bytes.extend(version.to_be_bytes());
    let (client, host) = ("hostile/1".to_owned(), String::new());
    Hello { genesis, schedule, chain_id, client, host, port: 0 }.encode(&mut bytes);
    bytes
}

/// Writes a length of four bytes and `bytes`.
pub async fn write_block(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    io.write_all(&u32::try_from(bytes.len()).expect("short").to_be_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

/// Reads a length of four bytes, and as many bytes.
pub async fn read_block(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Says `hello` and *welcome*, and returns the node's answer: its code and its words.
pub async fn greet(io: &mut Secure, hello: &[u8]) -> io::Result<(u8, String)> {
    write_block(io, hello).await?;
    read_block(io).await?;
    write_block(io, &[0]).await?;
    let answer = read_block(io).await?;
    Ok((answer[0], String::from_utf8_lossy(&answer[1..]).into_owned()))
}

/// A connection with substreams. Dropped, it is gone without a goodbye.
pub struct Hostile {
    open: mpsc::Sender<oneshot::Sender<yamux::Stream>>,
    /// Substreams that the node opens: gossip.
    pub inbound: mpsc::Receiver<yamux::Stream>,
    task: JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hostile {
    /// Connects, greets as a peer that belongs here, and runs Yamux.
    pub async fn connect(to: SocketAddr, key: [u8; 32], hello: &[u8]) -> io::Result<Self> {
        let mut io = secure(to, key).await?;
        let (code, text) = greet(&mut io, hello).await?;
        if code != 0 {
            return Err(io::Error::other(format!("refused: {code} {text}")));
        }
        Ok(Self::multiplex(io))
    }

    /// Runs Yamux on an encrypted stream, whatever was said on it before.
    pub fn multiplex(io: Secure) -> Self {
        let mut connection =
            yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Client);
        let (open, mut asked) = mpsc::channel::<oneshot::Sender<yamux::Stream>>(64);
        let (accepted, inbound) = mpsc::channel(64);
        let task = tokio::spawn(async move {
            let mut waiting: Option<oneshot::Sender<yamux::Stream>> = None;
            poll_fn(|cx| {
                loop {
                    if waiting.is_none()
                        && let Poll::Ready(Some(next)) = asked.poll_recv(cx)
                    {
                        waiting = Some(next);
                    }
                    if waiting.is_some()
                        && let Poll::Ready(Ok(stream)) = connection.poll_new_outbound(cx)
                    {
                        let _ = waiting.take().expect("somebody waits").send(stream);
                        continue;
                    }
                    match ready!(connection.poll_next_inbound(cx)) {
                        Some(Ok(stream)) => drop(accepted.try_send(stream)),
                        _ => return Poll::Ready(()),
                    }
                }
            })
            .await;
        });
        Self { open, inbound, task }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.open.is_closed()
    }

    /// A substream on which nothing was said yet.
    pub async fn stream(&self) -> io::Result<yamux::Stream> {
        let (sender, receiver) = oneshot::channel();
        self.open.send(sender).await.map_err(|_| closed())?;
        receiver.await.map_err(|_| closed())
    }

    /// A substream of a protocol, negotiated with multistream-select.
    pub async fn protocol(&self, name: &str) -> io::Result<yamux::Stream> {
        let mut stream = self.stream().await?;
        for line in ["/multistream/1.0.0", name] {
            stream.write_all(&varint_block(format!("{line}\n").as_bytes())).await?;
        }
        stream.flush().await?;
        for expected in ["/multistream/1.0.0", name] {
            let mut length = [0];
            stream.read_exact(&mut length).await?;
            let mut line = vec![0; length[0] as usize];
            stream.read_exact(&mut line).await?;
            if line.strip_suffix(b"\n") != Some(expected.as_bytes()) {
                let line = String::from_utf8_lossy(&line).into_owned();
                return Err(io::Error::other(format!("{expected} was answered with {line}")));
            }
        }
        Ok(stream)
    }

    /// Both lanes, votes first.
    pub async fn lanes(&self) -> io::Result<(yamux::Stream, yamux::Stream)> {
        let votes = self.protocol("/landfall/1/votes").await?;
        Ok((votes, self.protocol("/landfall/1/sync").await?))
    }
}

fn closed() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionAborted)
}

/// A frame of a lane.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("short").to_be_bytes();
    [length.as_slice(), &[kind], payload].concat()
}

/// Protobuf's variable length, then the bytes.
pub fn varint_block(bytes: &[u8]) -> Vec<u8> {
    let (mut block, mut rest) = (Vec::new(), bytes.len());
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
    block.extend_from_slice(bytes);
    block
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint_block(bytes)].concat()
}

/// The name of a gossip topic.
pub fn topic(name: &str, genesis: B256) -> String {
    format!("/landfall/1/{name}/{genesis}")
}

/// A gossip frame with one message.
pub fn gossip_frame(topic: &str, data: &[u8]) -> Vec<u8> {
    let message = [field(2, data), field(4, topic.as_bytes())].concat();
    varint_block(&field(2, &message))
}

/// A gossip frame that asks for a topic.
pub fn subscribe_frame(topic: &str) -> Vec<u8> {
    let subscription = [vec![1 << 3, 1], field(2, topic.as_bytes())].concat();
    varint_block(&field(1, &subscription))
}

/// A gossip frame that claims to have messages with random ids.
pub fn ihave_frame(topic: &str, seed: u64, ids: u64) -> Vec<u8> {
    let ids = (0..ids).flat_map(|id| field(2, keccak256((seed + id).to_be_bytes()).as_slice()));
    let ihave = [field(1, topic.as_bytes()), ids.collect()].concat();
    varint_block(&field(3, &field(1, &ihave)))
}
