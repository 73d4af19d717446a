//! The handshake: encryption, then a hello and an answer in each direction. Nothing else of a peer
//! is looked at before both have welcomed each other.
//!
//! Both sides send their hello at once and compare. Each then says *welcome* or why not, so that both
//! can name the difference before the connection closes.

use crate::admission::{Admission, Arrival, Place, Seat};
use crate::config::Limits;
use crate::event::Direction;
use crate::key::PeerKey;
use crate::muxer::Muxer;
use crate::refusal::{ConnectError, Refusal};
use crate::socket::{Socket, Traffic};
use crate::wire::{Answer, GREETING_BYTES_MAX, Greeting};
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p_identity::PeerId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use yamux::Mode;

/// How long a node that refuses waits for the other to have read why.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// What every handshake of this node needs.
pub(crate) struct Handshake {
    pub noise: libp2p_noise::Config,
    pub greeting: Greeting,
    pub limits: Limits,
    pub admission: Arc<Admission>,
}

pub(crate) type Connection = (PeerId, StreamMuxerBox);

impl Handshake {
    /// An incoming connection.
    pub(crate) async fn accept(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        mut place: Place,
    ) -> Result<Connection, ConnectError> {
        tokio::select! {
            result = self.in_time(self.secure(stream, remote, Direction::Inbound, None)) => result,
            _ = &mut place.taken_away => Err(ConnectError::Crowded),
        }
    }

    /// A connection that this node made, to a peer whose key it knows.
    pub(crate) async fn dialled(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        key: PeerKey,
    ) -> Result<Connection, ConnectError> {
        self.in_time(self.secure(stream, remote, Direction::Outbound, Some(key))).await
    }

    async fn in_time<T>(
        &self,
        handshake: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let limit = self.limits.handshake_timeout;
        tokio::time::timeout(limit, handshake).await.unwrap_or(Err(ConnectError::Timeout(limit)))
    }

    async fn secure(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        direction: Direction,
        expected: Option<PeerKey>,
    ) -> Result<Connection, ConnectError> {
        let traffic = Arc::new(Traffic::default());
        let socket = Socket::new(stream, &self.limits, Arc::clone(&traffic))?;
        let noise = self.noise.clone();
        let (peer, mut io) = match direction {
            Direction::Inbound => noise.upgrade_inbound(socket, "").await?,
            Direction::Outbound => noise.upgrade_outbound(socket, "").await?,
        };
        let key = PeerKey::from_peer_id(&peer).ok_or(ConnectError::ForeignKey)?;
        if let Some(expected) = expected.filter(|expected| *expected != key) {
            return Err(ConnectError::WrongKey { expected, found: key });
        }
        let seat = self.greet(&mut io, key, remote, direction, traffic).await?;
        let mode = match direction {
            Direction::Inbound => Mode::Server,
            Direction::Outbound => Mode::Client,
        };
        Ok((peer, StreamMuxerBox::new(Muxer::new(io, mode, seat))))
    }

    async fn greet<C: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: &mut C,
        key: PeerKey,
        remote: SocketAddr,
        direction: Direction,
        traffic: Arc<Traffic>,
    ) -> Result<Seat, ConnectError> {
        send(io, &self.greeting.encode()).await?;
        let theirs = receive(io).await?;
        let seat = Refusal::greeting(&theirs).and_then(|greeting| {
            Refusal::compare(&self.greeting.hello, &greeting.hello)?;
            self.admission.admit(Arrival { key, remote, direction, greeting, traffic })
        });
        let answer = match &seat {
            Ok(_) => Answer { code: Answer::WELCOME, text: String::new() },
            Err(refusal) => refusal.answer(),
        };
        send(io, &answer.encode()).await?;
        match seat {
            Ok(seat) => {
                let answer = Answer::decode(&receive(io).await?)
                    .map_err(|error| refused(key, Refusal::Protocol(error)))?;
                match answer.code {
                    Answer::WELCOME => {
                        self.admission.supersede(&key).await;
                        Ok(seat)
                    }
                    _ => Err(ConnectError::RefusedByPeer { key, answer }),
                }
            }
            Err(refusal) => {
                // To close with their answer unread would reset the connection under ours.
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, receive(io)).await;
                Err(refused(key, refusal))
            }
        }
    }
}

const fn refused(key: PeerKey, refusal: Refusal) -> ConnectError {
    ConnectError::Refused { key, refusal }
}

async fn send<C: AsyncWrite + Unpin>(io: &mut C, bytes: &[u8]) -> Result<(), ConnectError> {
    let length = u32::try_from(bytes.len()).expect("a greeting is short");
    io.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    io.flush().await?;
    Ok(())
}

async fn receive<C: AsyncRead + Unpin>(io: &mut C) -> Result<Vec<u8>, ConnectError> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if length as usize > GREETING_BYTES_MAX {
        return Err(ConnectError::Oversized(length));
    }
    let mut bytes = vec![0; length as usize];
    io.read_exact(&mut bytes).await?;
    Ok(bytes)
}
