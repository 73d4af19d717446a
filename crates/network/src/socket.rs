//! A TCP stream as libp2p reads it: counted, and slowed when the peer sends too much.

use crate::bucket::Bucket;
use crate::config::Limits;
use futures_util::{AsyncRead, AsyncWrite};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// Bytes that the kernel takes before they can be sent.
#[cfg(target_os = "linux")]
const KERNEL_QUEUE_BYTES: u32 = 128 << 10;

/// Bytes that one connection carried.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

pub(crate) struct Socket {
    stream: TcpStream,
    traffic: Arc<Traffic>,
    bucket: Bucket,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    /// Takes a connected stream, turns Nagle's delay off, and bounds what the kernel queues: a vote
    /// passes a block in our queues, but never in the kernel's.
    pub(crate) fn new(
        stream: TcpStream,
        limits: &Limits,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&stream).set_tcp_notsent_lowat(KERNEL_QUEUE_BYTES)?;
        let bucket = Bucket::new(limits.bytes, Instant::now());
        Ok(Self { stream, traffic, bucket, pause: None })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let mut buffer = ReadBuf::new(buffer);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(&mut self.stream), cx, &mut buffer))?;
        let read = buffer.filled().len();
        self.traffic.bytes_in.fetch_add(read as u64, Ordering::Relaxed);
        let wait = self.bucket.take(read as u64, Instant::now());
        if !wait.is_zero() {
            self.pause = Some(Box::pin(tokio::time::sleep(wait)));
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let written = ready!(tokio::io::AsyncWrite::poll_write(stream, cx, bytes))?;
        self.traffic.bytes_out.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx)
    }
}
