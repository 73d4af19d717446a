//! The session of a peer: reads and writes its two lanes until one breaks, stalls or misbehaves.
//!
//! It runs as one task, so that a peer costs one. A lane that waits, for the host to release bytes
//! or for a rate to allow more, stops that lane of that peer and nothing else.

use crate::bucket::Bucket;
use crate::counters::count;
use crate::directory::is_credible;
use crate::event::{Event, Lane, Offence, Permit};
use crate::outbox::Frame;
use crate::peer::Peer;
use crate::shared::{Command, Shared};
use crate::wire::{FRAME_HEADER, Kind, decode_addresses, encode_addresses, frame_header};
use bytes::Bytes;
use futures_util::io::{BufReader, ReadHalf, WriteHalf};
use futures_util::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use libp2p_swarm::{ConnectionId, Stream};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What a message costs the host beside its bytes.
pub(crate) const MESSAGE_COST: usize = 64;
/// Frames that are queued are written together up to so many bytes.
const BATCH_BYTES: usize = 64 << 10;
/// What is read and allocated at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How often addresses are told; who tells them three times as often floods.
const TELL_INTERVAL: Duration = Duration::from_secs(30);
/// Time that a peer may make us pause, before it is an offence, and again.
const PAUSE_TOLERATED: Duration = Duration::from_secs(1);

/// Why a lane ended.
enum Cut {
    Broken(String),
    Offence(Offence, String),
}

impl From<io::Error> for Cut {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Broken("it closed the connection".to_owned()),
            _ => Self::Broken(format!("the connection broke: {error}")),
        }
    }
}

/// Runs a session to its end, then has the connection closed.
pub(crate) async fn run(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    lanes: mpsc::Receiver<(Lane, Stream)>,
    connection: ConnectionId,
) {
    tokio::select! {
        () = peer.ended.notified() => {}
        cut = serve(&shared, &peer, lanes) => match cut {
            Cut::Broken(why) => shared.end(&peer, &why),
            Cut::Offence(offence, why) => {
                count(&shared.meters.malformed);
                shared.penalise(&peer, offence, &why);
                shared.end(&peer, &why);
            }
        },
    }
    // The driver is gone only when everything is.
    let _ = shared.commands.send(Command::Close(connection)).await;
}

async fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    mut lanes: mpsc::Receiver<(Lane, Stream)>,
) -> Cut {
    let limit = shared.limits.handshake_timeout;
    let Ok((votes, sync)) = timeout(limit, both(&mut lanes)).await else {
        return Cut::Broken(format!("it did not open its lanes within {} s", limit.as_secs_f32()));
    };
    let (votes_in, votes_out) = votes.split();
    let (sync_in, sync_out) = sync.split();
    let cut = tokio::select! {
        cut = Reader::new(shared, peer, Lane::Votes, votes_in).run() => cut,
        cut = Reader::new(shared, peer, Lane::Sync, sync_in).run() => cut,
        cut = write(shared, peer, Lane::Votes, votes_out) => cut,
        cut = write(shared, peer, Lane::Sync, sync_out) => cut,
        cut = keep(shared, peer) => cut,
    };
    match cut {
        Ok(never) => match never {},
        Err(cut) => cut,
    }
}

enum Never {}

async fn both(lanes: &mut mpsc::Receiver<(Lane, Stream)>) -> (Stream, Stream) {
    let (mut votes, mut sync) = (None, None);
    loop {
        match lanes.recv().await {
            Some((Lane::Votes, stream)) => votes = Some(stream),
            Some((Lane::Sync, stream)) => sync = Some(stream),
            // The driver has forgotten the connection; it ends this session too.
            None => std::future::pending().await,
        }
        if votes.is_some() && sync.is_some() {
            return votes.zip(sync).expect("both are there");
        }
    }
}

/// Sends pings, and addresses.
async fn keep(shared: &Shared, peer: &Peer) -> Result<Never, Cut> {
    let mut told: Option<Instant> = None;
    loop {
        let now = Instant::now();
        // The answer carries our time back; nothing needs to be remembered.
        let payload = Bytes::copy_from_slice(&peer.micros().to_be_bytes());
        shared.push(peer, Lane::Votes, Frame { kind: Kind::Ping, payload });
        if shared.discovery && told.is_none_or(|at| now - at >= TELL_INTERVAL) {
            told = Some(now);
            let payload = Bytes::from(encode_addresses(&shared.addresses_for(peer)));
            shared.push(peer, Lane::Sync, Frame { kind: Kind::Peers, payload });
        }
        tokio::time::sleep(shared.limits.idle_timeout / 4).await;
    }
}

async fn write(
    shared: &Shared,
    peer: &Peer,
    lane: Lane,
    mut io: WriteHalf<Stream>,
) -> Result<Never, Cut> {
    let mut buffer = Vec::new();
    loop {
        let frames = peer.outbox(lane).take(BATCH_BYTES).await;
        if frames.is_empty() {
            // The node stops. The peer sees the end, and closes when it has read what precedes it.
            io.close().await?;
            std::future::pending().await
        }
        buffer.clear();
        for Frame { kind, payload } in &frames {
            buffer.extend(frame_header(*kind, payload.len()));
            if payload.len() <= BATCH_BYTES {
                buffer.extend_from_slice(payload);
            } else {
                advance(shared, &mut io, &buffer).await?;
                advance(shared, &mut io, payload).await?;
                buffer.clear();
            }
        }
        advance(shared, &mut io, &buffer).await?;
        timeout(shared.limits.progress_timeout, io.flush())
            .await
            .map_err(|_| stalled(shared))??;
        for frame in frames.iter().filter(|frame| frame.kind == Kind::Message) {
            shared.meters.lanes_out[lane.index()].add(frame.payload.len());
            count(&peer.messages_out);
        }
    }
}

fn stalled(shared: &Shared) -> Cut {
    let seconds = shared.limits.progress_timeout.as_secs_f32();
    Cut::Broken(format!("it read too slowly: a write made no progress in {seconds} s"))
}

/// Writes all, and each `progress_bytes` of it in time.
async fn advance(shared: &Shared, io: &mut WriteHalf<Stream>, bytes: &[u8]) -> Result<(), Cut> {
    for chunk in bytes.chunks(shared.limits.progress_bytes) {
        let written = timeout(shared.limits.progress_timeout, io.write_all(chunk)).await;
        written.map_err(|_| stalled(shared))??;
    }
    Ok(())
}

/// Reads one lane.
struct Reader<'a> {
    shared: &'a Arc<Shared>,
    peer: &'a Arc<Peer>,
    lane: Lane,
    io: BufReader<ReadHalf<Stream>>,
    messages: Bucket,
    bytes: Option<Bucket>,
    /// How long the peer made us pause since this was last held against it.
    paused: Duration,
    told: Option<Instant>,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Arc<Shared>, peer: &'a Arc<Peer>, lane: Lane, io: ReadHalf<Stream>) -> Self {
        let (limits, now) = (&shared.limits, Instant::now());
        let (messages, bytes) = match lane {
            Lane::Votes => (limits.votes_messages, Some(limits.votes_bytes)),
            Lane::Sync => (limits.sync_messages, None),
        };
        Self {
            shared,
            peer,
            lane,
            io: BufReader::new(io),
            messages: Bucket::new(messages, now),
            bytes: bytes.map(|rate| Bucket::new(rate, now)),
            paused: Duration::ZERO,
            told: None,
        }
    }

    async fn run(mut self) -> Result<Never, Cut> {
        loop {
            self.wait_for_frame().await?;
            let (kind, length) = self.header().await?;
            self.pace(length).await;
            self.frame(kind, length).await?;
        }
    }

    /// Waits for the first byte of a frame. Only the votes lane must never be silent: pings are on
    /// it.
    async fn wait_for_frame(&mut self) -> Result<(), Cut> {
        let idle = self.shared.limits.idle_timeout;
        let first = match self.lane {
            Lane::Votes => match timeout(idle, self.io.fill_buf()).await {
                Ok(first) => first?,
                Err(_) => {
                    let why = format!("it was silent for {} s", idle.as_secs_f32());
                    return Err(Cut::Broken(why));
                }
            },
            Lane::Sync => self.io.fill_buf().await?,
        };
        match first.is_empty() {
            true => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            false => Ok(()),
        }
    }

    /// Reads and checks a header. Nothing is allocated for a payload that is too long.
    async fn header(&mut self) -> Result<(Kind, usize), Cut> {
        let lane = self.lane;
        let malformed = |why: String| Cut::Offence(Offence::Malformed, why);
        let header = self.read(FRAME_HEADER).await?;
        let &[a, b, c, d, kind] = header.as_slice() else { unreachable!("five bytes were read") };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let Some(kind) = Kind::from_byte(kind) else {
            return Err(malformed(format!("a frame of unknown kind {kind} on the {lane} lane")));
        };
        let max = kind.payload_bytes_max(lane);
        match length.checked_sub(1) {
            Some(payload) if payload <= max => Ok((kind, payload)),
            _ => Err(malformed(format!(
                "a frame of {length} bytes on the {lane} lane; its kind has 1 to {}",
                max + 1
            ))),
        }
    }

    /// Waits until the peer's rates allow a frame. To make us wait again and again is an offence.
    async fn pace(&mut self, length: usize) {
        let now = Instant::now();
        let bytes = self.bytes.as_mut().map_or(Duration::ZERO, |it| it.take(length as u64, now));
        let wait = self.messages.take(1, now).max(bytes);
        if wait.is_zero() {
            return;
        }
        count(&self.shared.meters.rate_limited);
        tokio::time::sleep(wait).await;
        self.paused += wait;
        if self.paused >= PAUSE_TOLERATED {
            self.paused = Duration::ZERO;
            let why = format!("too much on the {} lane", self.lane);
            self.shared.penalise(self.peer, Offence::Flood, &why);
        }
    }

    async fn frame(&mut self, kind: Kind, length: usize) -> Result<(), Cut> {
        match kind {
            Kind::Message => self.message(length).await,
            Kind::Ping => {
                let payload = self.read(length).await?.into();
                let pong = Frame { kind: Kind::Pong, payload };
                self.shared.push(self.peer, Lane::Votes, pong);
                Ok(())
            }
            Kind::Pong => {
                let payload = self.read(length).await?;
                let sent = <[u8; 8]>::try_from(payload.as_slice()).map(u64::from_be_bytes);
                let passed = sent.ok().and_then(|sent| self.peer.micros().checked_sub(sent));
                if let Some(passed) = passed {
                    self.peer.round_trip.store(passed.max(1), Ordering::Relaxed);
                }
                Ok(())
            }
            Kind::Peers => self.addresses(length).await,
        }
    }

    async fn message(&mut self, length: usize) -> Result<(), Cut> {
        // The host's release is awaited before the bytes are taken from the peer.
        let cost = u32::try_from(length + MESSAGE_COST).expect("messages are bounded");
        let unreleased = Arc::clone(self.peer.unreleased(self.lane));
        let permit = unreleased.acquire_many_owned(cost).await.expect("never closed");
        let bytes = Bytes::from(self.read(length).await?);
        self.shared.meters.lanes_in[self.lane.index()].add(length);
        count(&self.peer.messages_in);
        let permit = Permit(permit);
        let event = Event::Message { from: self.peer.id, lane: self.lane, bytes, permit };
        let sent = self.shared.events.send(event).await;
        sent.map_err(|_| Cut::Broken("the host is gone".to_owned()))
    }

    async fn addresses(&mut self, length: usize) -> Result<(), Cut> {
        let payload = self.read(length).await?;
        let mut addresses = decode_addresses(&payload)
            .map_err(|error| Cut::Offence(Offence::Malformed, error.to_string()))?;
        let teller = self.peer.remote.ip();
        addresses.retain(|address| is_credible(address, teller));
        let now = Instant::now();
        let soon = self.told.replace(now).is_some_and(|at| now - at < TELL_INTERVAL / 3);
        if soon {
            self.shared.penalise(self.peer, Offence::Flood, "addresses told too often");
        } else if self.shared.discovery {
            let command = Command::Learn { from: self.peer.key, addresses };
            // Addresses are told again; a driver that is behind need not have these.
            let _ = self.shared.commands.try_send(command);
        }
        Ok(())
    }

    /// Reads `length` bytes. Memory grows as they come, and they must come: `progress_bytes` or the
    /// rest in each `progress_timeout`.
    async fn read(&mut self, length: usize) -> Result<Vec<u8>, Cut> {
        let limits = &self.shared.limits;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let begin = bytes.len();
            if bytes.capacity() == begin {
                bytes.reserve_exact((length - begin).min(CHUNK_BYTES.max(begin)));
            }
            let end = bytes.capacity().min(length).min(begin + limits.progress_bytes);
            bytes.resize(end, 0);
            match timeout(limits.progress_timeout, self.io.read_exact(&mut bytes[begin..])).await {
                Ok(read) => read?,
                Err(_) => {
                    let seconds = limits.progress_timeout.as_secs_f32();
                    let why = format!("it wrote too slowly: no progress in {seconds} s");
                    return Err(Cut::Broken(why));
                }
            }
        }
        Ok(bytes)
    }
}
