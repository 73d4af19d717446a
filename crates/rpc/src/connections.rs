//! What the clients of the port may take: places, and memory.
//!
//! For a connection is held what was read of a request that is not whole, the requests that are being
//! answered, and the answers that its client has not taken. A client that sends faster than it reads
//! is read no further; one that reads nothing, or sends a request in drops, is cut off after a while. If
//! all together hold too much, the one that holds most is cut off; if all places are taken, the one that
//! asked nothing for longest.
//!
//! Not counted: what a WebSocket's message takes when its header announces it, which the library
//! allocates at once, and what the values of an answer take before they are written as JSON.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// Between two looks at how fast clients take their answers.
pub(crate) const LOOK: Duration = Duration::from_secs(15);
/// Bytes that a client takes between two looks, at least, if it does not take all there is; or sends, if
/// its request is not whole.
const LEAST_MOVED: usize = 64 << 10;
/// Looks in a row at which a client was slow, to be cut off: the system hands on what it buffers in
/// large pieces.
const SLOW_LOOKS: u8 = 2;
/// Messages of one WebSocket at once; it is not read while there are more. The library answers each on a
/// task of its own, which waits until the answer is written.
const MOST_MESSAGES: usize = 64;
/// Calls of one connection that are answered at once when it is not known yet how long its answers are.
const FIRST_CALLS: usize = 16;

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at once.
    pub(crate) places: usize,
    /// Bytes of a request.
    pub(crate) request: usize,
    /// Bytes of an answer; calls of a client for which so many wait, or will, are not looked at.
    pub(crate) answer: usize,
}

impl Limits {
    /// Bytes that are held for all connections together.
    fn all(&self) -> usize {
        4 * (self.request + self.answer)
    }
}

/// The connections that are open.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    /// Bytes held for all that are not cut off.
    held: AtomicUsize,
    open: Mutex<BTreeMap<u32, Arc<Connection>>>,
    next: AtomicU32,
    /// Counts admissions and calls, to tell who was quiet for longest.
    turn: AtomicU64,
    /// Since the last look: who found no place, and who was cut off.
    refused: AtomicUsize,
    cut_off: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u32,
    all: Arc<Connections>,
    state: Mutex<State>,
    /// Its client took something, an answer was made, or it was cut off.
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes read since the last request was whole; of a WebSocket, since no message waited.
    read: usize,
    /// Bytes of requests that are being answered.
    asked: usize,
    /// Bytes of answers that are not written.
    unsent: usize,
    /// It is a WebSocket: it keeps its place when it is quiet.
    stays: bool,
    /// Messages of a WebSocket whose answers are not written: calls, what is none, and news.
    messages: usize,
    /// Requests that are being answered, or wait for that.
    calls: usize,
    /// Requests that are being answered, and what the answer to one takes: as much as the last one.
    running: usize,
    expected: usize,
    /// Since the last look: bytes written, bytes read, and whether nothing was left to write.
    taken: usize,
    sent: usize,
    kept_up: bool,
    /// The system takes no more bytes for now.
    stuck: bool,
    /// Looks in a row at which it was slow.
    slow: u8,
    /// When it was admitted or asked last, by [`Connections::turn`].
    turn: u64,
    cut_off: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn held(&self) -> usize {
        if self.cut_off { 0 } else { self.read + self.asked + self.unsent }
    }

    /// Whether it is not to be read for now: what it asked must be answered first. Answers may echo what
    /// was sent, so bytes count as well.
    fn is_full(&self, most: usize) -> bool {
        self.messages >= MOST_MESSAGES || (self.messages > 0 && self.stays && self.read >= most)
    }

    /// What will wait to be written when all that is being answered is.
    fn awaited(&self) -> usize {
        self.unsent.saturating_add(self.running.saturating_mul(self.expected))
    }

    /// So many messages need no answer any more.
    fn forget(&mut self, messages: usize) {
        self.messages = self.messages.saturating_sub(messages);
        if self.messages == 0 && self.stays {
            self.read = 0;
        }
    }

    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: AtomicUsize::new(0),
            open: Mutex::default(),
            next: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            refused: AtomicUsize::new(0),
            cut_off: AtomicUsize::new(0),
        })
    }

    /// A place for a new connection; that of the one that was quiet for longest if all are taken, and of
    /// one that is sending its request only if all that are quiet are. Nothing if nobody is quiet.
    pub(crate) fn admit(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut open = self.open.lock();
        if open.len() >= self.limits.places {
            let quiet = open.values().filter_map(|it| Some((it.quiet_since()?, it.clone())));
            let Some((_, longest)) = quiet.min_by_key(|(since, _)| *since) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            open.remove(&longest.id);
            longest.cut_off();
        }
        let mut id = self.next.fetch_add(1, Ordering::Relaxed);
        while open.contains_key(&id) {
            id = self.next.fetch_add(1, Ordering::Relaxed);
        }
        let turn = self.turn();
        let expected = self.limits.answer / FIRST_CALLS;
        let state = Mutex::new(State { turn, expected, kept_up: true, ..State::default() });
        let connection = Connection { id, all: self.clone(), state, room: Notify::new() };
        let connection = Arc::new(connection);
        open.insert(id, connection.clone());
        Some(connection)
    }

    fn turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// The socket of a connection is gone.
    pub(crate) fn leave(&self, connection: &Connection) {
        self.open.lock().remove(&connection.id);
        connection.cut_off();
    }

    /// Cuts off who takes its answers too slowly, and tells the log about all who were since the last
    /// look. To be called every [`LOOK`].
    pub(crate) fn look(&self) {
        let open: Vec<_> = self.open.lock().values().cloned().collect();
        let slow = open.iter().filter(|connection| connection.is_slow());
        let slow = slow.map(|connection| self.leave(connection)).count();
        let refused = self.refused.swap(0, Ordering::Relaxed);
        let most = self.cut_off.swap(0, Ordering::Relaxed);
        if slow + most > 0 {
            tracing::warn!(slow, most, "cut off clients of the RPC that do not take their answers");
        }
        if refused > 0 {
            let places = self.limits.places;
            tracing::warn!(refused, places, "no place for clients of the RPC: max_connections");
        }
    }

    /// Cuts off the connection that holds most, and again until the others have room.
    fn make_room(&self) {
        let mut open = self.open.lock();
        while self.held.load(Ordering::Relaxed) > self.limits.all() {
            let Some((&id, _)) = open.iter().max_by_key(|(_, it)| it.state.lock().held()) else {
                return;
            };
            open.remove(&id).expect("it was found").cut_off();
            self.cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Connection {
    /// A number that no other open connection has.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Changes what is held for it.
    fn change<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let most = self.all.limits.request;
        let (before, full) = (state.held(), state.is_full(most));
        let result = with(&mut state);
        let after = state.held();
        // Only who was not read for that waits for it.
        if full
            && !state.is_full(most)
            && let Some(reader) = state.reader.take()
        {
            reader.wake();
        }
        if after >= before {
            self.all.held.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.all.held.fetch_sub(before - after, Ordering::Relaxed);
        }
        drop(state);
        if after > before && self.all.held.load(Ordering::Relaxed) > self.all.limits.all() {
            self.all.make_room();
        }
        result
    }

    fn cut_off(&self) {
        self.change(|state| {
            state.cut_off = true;
            state.wake();
        });
        self.room.notify_waiters();
    }

    /// Whether it is sending a request, and its turn; if it could lose its place.
    fn quiet_since(&self) -> Option<(bool, u64)> {
        let state = self.state.lock();
        let quiet = state.calls == 0 && state.unsent == 0 && !state.stays;
        quiet.then_some((state.read > 0, state.turn))
    }

    /// Whether it took or sent too little for long enough.
    fn is_slow(&self) -> bool {
        let mut state = self.state.lock();
        let waits = state.unsent > 0 || state.stuck;
        let takes = !waits || state.kept_up || state.taken >= LEAST_MOVED;
        // Of a WebSocket it is not known how much of what was read is no call.
        let is_whole = state.read == 0 || state.calls > 0 || state.stays;
        let sends = is_whole || state.sent >= LEAST_MOVED;
        state.slow = if takes && sends { 0 } else { state.slow + 1 };
        (state.taken, state.sent, state.kept_up) = (0, 0, !waits);
        state.slow >= SLOW_LOOKS
    }

    /// It becomes a WebSocket.
    pub(crate) fn stays(&self) {
        self.state.lock().stays = true;
    }

    /// Whether it became one.
    pub(crate) fn is_websocket(&self) -> bool {
        self.state.lock().stays
    }

    /// Whether more may be read; an error if it was cut off.
    pub(crate) fn poll_reading(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.lock();
        if state.cut_off {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        keep(&mut state.reader, context);
        if state.is_full(self.all.limits.request) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// An error if it was cut off.
    pub(crate) fn check_writing(&self, context: &Context<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        keep(&mut state.writer, context);
        if state.cut_off { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Bytes were read. Longer requests than may be are refused, and not kept.
    pub(crate) fn read(&self, bytes: usize) {
        let most = self.all.limits.request;
        self.change(|state| {
            state.read = (state.read + bytes).min(most);
            state.sent = state.sent.saturating_add(bytes);
        });
    }

    /// The system takes no more bytes for now.
    pub(crate) fn stuck(&self) {
        self.state.lock().stuck = true;
    }

    /// Bytes were written, in which so many messages end.
    pub(crate) fn wrote(&self, bytes: usize, messages: usize) {
        self.change(|state| {
            state.unsent = state.unsent.saturating_sub(bytes);
            state.taken = state.taken.saturating_add(bytes);
            state.kept_up |= state.unsent == 0;
            // What was read was no call, and was refused.
            if state.calls == 0 && !state.stays {
                state.read = 0;
            }
            state.stuck = false;
            state.forget(messages);
        });
        self.room.notify_waiters();
    }

    /// News wait to be written.
    pub(crate) fn owes(&self, bytes: usize) {
        self.change(|state| {
            state.unsent += bytes;
            state.messages += 1;
        });
    }

    /// News that waited are not written after all.
    pub(crate) fn forgets(&self, bytes: usize) {
        self.change(|state| {
            state.unsent = state.unsent.saturating_sub(bytes);
            state.forget(1);
        });
        self.room.notify_waiters();
    }

    /// What was read is answered by nothing.
    pub(crate) fn ignored(&self) {
        self.change(|state| {
            if !state.stays {
                state.read = 0;
            }
            state.forget(1);
        });
    }

    /// A request of so many bytes came. It waits until the client has taken of its answers what it
    /// must; nothing if the connection was cut off.
    pub(crate) async fn call(self: &Arc<Self>, bytes: usize) -> Option<Call> {
        let mut call = Call { connection: self.clone(), bytes, runs: false };
        let turn = self.all.turn();
        self.change(|state| {
            if !state.stays {
                state.read = 0;
            }
            state.turn = turn;
            state.asked += bytes;
            state.calls += 1;
        });
        loop {
            let room = self.room.notified();
            {
                let mut state = self.state.lock();
                if state.cut_off {
                    return None;
                }
                if state.awaited() < self.all.limits.answer {
                    state.running += 1;
                    call.runs = true;
                }
            }
            if call.runs {
                return Some(call);
            }
            room.await;
        }
    }
}

/// Remembers whom to wake.
fn keep(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(known) if known.will_wake(context.waker()) => {}
        _ => *waker = Some(context.waker().clone()),
    }
}

/// What a request that opens a WebSocket brings with it. The library clones it once for the WebSocket,
/// the clone for each message that it reads, before it reads the next one, and those for what is made of
/// the message; so the clones of the clone are the messages.
#[derive(Debug)]
pub(crate) enum Messages {
    /// Of the request.
    Request(Arc<Connection>),
    /// Of the WebSocket.
    Socket(Arc<Connection>),
    /// Of a message.
    Message,
}

impl Clone for Messages {
    fn clone(&self) -> Self {
        match self {
            Self::Request(connection) => Self::Socket(connection.clone()),
            Self::Socket(connection) => {
                let mut state = connection.state.lock();
                state.messages += usize::from(state.stays);
                Self::Message
            }
            Self::Message => Self::Message,
        }
    }
}

/// A request that is being answered, or waits for that, until this is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    connection: Arc<Connection>,
    bytes: usize,
    runs: bool,
}

impl Call {
    /// So much more is held for it: a part of its answer. False if the connection was cut off.
    pub(crate) fn grows(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.connection.change(|state| state.asked += bytes);
        !self.connection.state.lock().cut_off
    }

    /// The answer is made and waits to be written; the request and the parts are gone.
    pub(crate) fn answered(mut self, bytes: usize) {
        let gone = std::mem::take(&mut self.bytes);
        self.connection.change(|state| {
            state.asked -= gone;
            state.unsent += bytes;
            state.expected = bytes;
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.connection.change(|state| {
            state.asked -= self.bytes;
            state.calls -= 1;
            state.running -= usize::from(self.runs);
        });
        self.connection.room.notify_waiters();
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
