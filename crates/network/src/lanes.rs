//! Opens the two lanes of a connection: the dialler opens a substream for each, the other side
//! accepts one of each. What flows in them is the session's business.

use crate::event::Lane;
use crate::wire::lane_protocol;
use futures_util::future::{Ready, ready};
use libp2p_core::transport::PortUse;
use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p_swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

/// A lane of a connection is open, or will never be.
#[derive(Debug)]
pub(crate) struct LaneEvent {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub lane: Lane,
    pub stream: Result<Stream, String>,
}

/// At most two events of each connection wait here.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    events: VecDeque<LaneEvent>,
}

impl NetworkBehaviour for Lanes {
    type ConnectionHandler = Handler;
    type ToSwarm = LaneEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler {
            to_open: VecDeque::new(),
            to_accept: Lane::ALL.to_vec(),
            open: VecDeque::new(),
        })
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler { to_open: Lane::ALL.into(), to_accept: Vec::new(), open: VecDeque::new() })
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (lane, stream): THandlerOutEvent<Self>,
    ) {
        self.events.push_back(LaneEvent { peer, connection, lane, stream });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LaneEvent, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}

/// The lanes of one connection.
pub(crate) struct Handler {
    to_open: VecDeque<Lane>,
    to_accept: Vec<Lane>,
    open: VecDeque<(Lane, Result<Stream, String>)>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = (Lane, Result<Stream, String>);
    type InboundProtocol = Offered;
    type OutboundProtocol = Offered;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<Offered> {
        SubstreamProtocol::new(Offered(self.to_accept.clone()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offered, Lane, Self::ToBehaviour>> {
        if let Some(lane) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(Offered(vec![lane]), lane);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.open.pop_front() {
            Some(lane) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(lane)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offered, Offered, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (lane, stream),
                ..
            }) => {
                // Two streams of one lane may be negotiated at once: the first counts.
                if let Some(index) = self.to_accept.iter().position(|open| *open == lane) {
                    self.to_accept.remove(index);
                    self.open.push_back((lane, Ok(stream)));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (lane, stream),
                ..
            }) => self.open.push_back((lane, Ok(stream))),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info: lane }) => {
                self.open.push_back((lane, Err(error.to_string())));
            }
            _ => {}
        }
    }
}

/// The lanes that one side of a substream offers.
#[derive(Debug, Clone)]
pub(crate) struct Offered(Vec<Lane>);

#[derive(Debug, Clone)]
pub(crate) struct LaneName(Lane);

impl AsRef<str> for LaneName {
    fn as_ref(&self) -> &str {
        lane_protocol(self.0)
    }
}

impl UpgradeInfo for Offered {
    type Info = LaneName;
    type InfoIter = Vec<LaneName>;

    fn protocol_info(&self) -> Vec<LaneName> {
        self.0.iter().copied().map(LaneName).collect()
    }
}

impl InboundUpgrade<Stream> for Offered {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<(Lane, Stream), Infallible>>;

    fn upgrade_inbound(self, stream: Stream, lane: LaneName) -> Self::Future {
        ready(Ok((lane.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for Offered {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<(Lane, Stream), Infallible>>;

    fn upgrade_outbound(self, stream: Stream, lane: LaneName) -> Self::Future {
        ready(Ok((lane.0, stream)))
    }
}
