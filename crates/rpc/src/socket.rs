//! A TCP stream whose connection is counted, told what it holds, and cut off from outside.

use crate::connections::{Connection, Connections};
use crate::frames::Frames;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Has its place until it is dropped, whoever holds it then: an upgrade to WebSocket hands it on.
pub(crate) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
    all: Arc<Connections>,
    frames: Frames,
}

impl Socket {
    pub(crate) fn new(
        stream: TcpStream,
        connection: Arc<Connection>,
        all: Arc<Connections>,
    ) -> Self {
        Self { stream, connection, all, frames: Frames::new() }
    }

    /// Bytes of these parts were written.
    fn written<'a>(
        &mut self,
        outcome: &Poll<io::Result<usize>>,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) {
        let bytes = match outcome {
            Poll::Ready(Ok(bytes)) => *bytes,
            // Nobody is there: who waits to be read must see it.
            Poll::Ready(Err(_)) => return self.all.leave(&self.connection),
            Poll::Pending => return self.connection.stuck(),
        };
        let upgraded = self.connection.is_websocket();
        let (mut left, mut messages) = (bytes, 0);
        for part in parts {
            let written = &part[..left.min(part.len())];
            messages += self.frames.wrote(written, upgraded);
            left -= written.len();
        }
        self.connection.wrote(bytes, messages);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.all.leave(&self.connection);
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.connection.poll_reading(context))?;
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.connection.read(buffer.filled().len() - before);
        outcome
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.check_writing(context)?;
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(&outcome, [bytes]);
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.connection.check_writing(context)?;
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(&outcome, parts.iter().map(|part| &**part));
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
