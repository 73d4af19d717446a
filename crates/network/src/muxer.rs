//! Yamux with the bounds that libp2p's wrapper does not set: the receive window of a whole
//! connection, few streams, and a close that ends. The muxer holds the connection's seat, so that
//! the seat is free exactly when the connection is gone.

use crate::admission::Seat;
use futures_util::{AsyncRead, AsyncWrite};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::Sleep;
use yamux::{Connection, ConnectionError, Mode, Stream};

/// The bytes of one connection that may lie unread on our side, all streams together. One stream
/// grows to it only while it is read as fast as it comes.
pub(crate) const RECEIVE_WINDOW: usize = 16 << 20;
/// Two lanes, two directions of gossip, and the attempts that libp2p makes to reopen gossip.
const STREAMS_MAX: usize = 16;
/// Streams that the peer opened and nobody took yet. More are reset.
const WAITING_STREAMS_MAX: usize = 8;
/// How long a peer that does not read may keep its connection from closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    waiting: VecDeque<Stream>,
    waker: Option<Waker>,
    closing: Option<Pin<Box<Sleep>>>,
    seat: Seat,
    evicted: bool,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    pub(crate) fn new(io: C, mode: Mode, seat: Seat) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW));
        let connection = Connection::new(io, config, mode);
        Self {
            connection,
            waiting: VecDeque::new(),
            waker: None,
            closing: None,
            seat,
            evicted: false,
        }
    }

    /// Whether a newer connection replaces this one: then it ends without ceremony.
    fn is_evicted(&mut self, cx: &mut Context<'_>) -> bool {
        self.evicted = self.evicted || Pin::new(&mut self.seat.evicted).poll(cx).is_ready();
        self.evicted
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        if self.is_evicted(cx) {
            return Poll::Ready(Err(ConnectionError::Closed));
        }
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let next = self.poll_next(cx);
        if next.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        if self.is_evicted(cx) {
            return Poll::Ready(Ok(()));
        }
        let closed = self.connection.poll_close(cx);
        if closed.is_ready() {
            return closed;
        }
        let pause = self.closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_TIMEOUT)));
        pause.as_mut().poll(cx).map(Ok)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        // Yamux moves only when asked for inbound streams: those that come meanwhile wait here.
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < WAITING_STREAMS_MAX {
            self.waiting.push_back(stream);
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
