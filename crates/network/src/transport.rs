//! TCP for libp2p: listens, accepts, dials. Our own and not `libp2p-tcp`, since a host wants to know
//! the port before anything runs, an incoming connection must find a place before its first byte is
//! read, and the machine's interfaces need not be watched.

use crate::handshake::{Connection, Handshake};
use crate::key::{PeerAddress, PeerKey};
use crate::refusal::ConnectError;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

/// The pause after an accept that failed: the process has no descriptors left, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Tcp {
    handshake: Arc<Handshake>,
    listener: Option<TcpListener>,
    id: Option<ListenerId>,
    announce: Option<Multiaddr>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Tcp {
    pub(crate) fn new(handshake: Arc<Handshake>, listener: TcpListener) -> Self {
        Self { handshake, listener: Some(listener), id: None, announce: None, pause: None }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match &self.listener {
            Some(listener) => listener.poll_accept(cx),
            None => Poll::Pending,
        }
    }
}

impl Transport for Tcp {
    type Output = Connection;
    type Error = ConnectError;
    type ListenerUpgrade = BoxFuture<'static, Result<Connection, ConnectError>>;
    type Dial = BoxFuture<'static, Result<Connection, ConnectError>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<ConnectError>> {
        self.id = Some(id);
        self.announce = Some(address);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let ours = self.id == Some(id);
        if ours {
            self.listener = None;
        }
        ours
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<ConnectError>> {
        let Some(target) = from_multiaddr(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let handshake = Arc::clone(&self.handshake);
        Ok(async move {
            let limit = handshake.limits.handshake_timeout;
            let (stream, remote) = tokio::time::timeout(limit, connect(&target))
                .await
                .unwrap_or(Err(ConnectError::Timeout(limit)))?;
            handshake.dialled(stream, remote, target.key).await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, ConnectError>> {
        let Some(listener_id) = self.id else { return Poll::Pending };
        if let Some(listen_addr) = self.announce.take() {
            return Poll::Ready(TransportEvent::NewAddress { listener_id, listen_addr });
        }
        match std::task::ready!(self.poll_accept(cx)) {
            Ok((stream, remote)) => {
                let place = self.handshake.admission.enter(remote.ip());
                let local = stream.local_addr().unwrap_or(remote);
                Poll::Ready(TransportEvent::Incoming {
                    listener_id,
                    upgrade: Arc::clone(&self.handshake).accept(stream, remote, place).boxed(),
                    local_addr: socket_multiaddr(local),
                    send_back_addr: socket_multiaddr(remote),
                })
            }
            Err(error) => {
                self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                let error = ConnectError::Io(error);
                Poll::Ready(TransportEvent::ListenerError { listener_id, error })
            }
        }
    }
}

/// Resolves the host and tries its addresses in turn.
async fn connect(target: &PeerAddress) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let name = (target.host.as_str(), target.port);
    let addresses = tokio::net::lookup_host(name).await.map_err(ConnectError::Connect)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Connect(last))
}

/// A peer's address in libp2p's words.
pub(crate) fn to_multiaddr(address: &PeerAddress) -> Multiaddr {
    let host = match address.host.parse::<IpAddr>() {
        Ok(ip) => Protocol::from(ip),
        Err(_) => Protocol::Dns(address.host.as_str().into()),
    };
    let host = Multiaddr::empty().with(host.acquire());
    host.with(Protocol::Tcp(address.port)).with(Protocol::P2p(address.key.peer_id()))
}

pub(crate) fn socket_multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip().to_canonical()).with(Protocol::Tcp(address.port()))
}

/// The socket address in libp2p's words, for people.
pub(crate) fn describe(address: &Multiaddr) -> String {
    let mut parts = address.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) => format!("{ip}:{port}"),
        (Some(Protocol::Ip6(ip)), Some(Protocol::Tcp(port))) => format!("[{ip}]:{port}"),
        (Some(Protocol::Dns(name)), Some(Protocol::Tcp(port))) => format!("{name}:{port}"),
        _ => address.to_string(),
    }
}

fn from_multiaddr(address: &Multiaddr) -> Option<PeerAddress> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => ip.to_string(),
        Protocol::Dns(name) => name.into_owned(),
        _ => return None,
    };
    let (Protocol::Tcp(port), Protocol::P2p(peer)) = (parts.next()?, parts.next()?) else {
        return None;
    };
    Some(PeerAddress { key: PeerKey::from_peer_id(&peer)?, host, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NodeKey;

    #[test]
    fn addresses_survive_libp2p() {
        let key = NodeKey::generate().public();
        for host in ["127.0.0.1", "::1", "node.example.org"] {
            let address = PeerAddress { key, host: host.to_owned(), port: 30303 };
            let there = to_multiaddr(&address);
            assert_eq!(from_multiaddr(&there).as_ref(), Some(&address));
            assert_eq!(describe(&there), address.endpoint().to_string());
        }
    }
}
