//! Links between nodes that can be cut, slowed and mended, without privileges: a TCP proxy for each
//! node and each peer that it dials.
//!
//! Each ordered pair of nodes has a gate, which all bytes from the one to the other pass, whoever
//! opened the connection. A closed gate is what a cut cable is to TCP: nothing arrives, not even the
//! end of a connection, and what was under way arrives when it is mended.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;
/// Chunks under way in one direction of a connection: then the sender waits, as with TCP.
const CHUNKS: usize = 16;
/// Between two looks at a closed gate.
const LOOK: Duration = Duration::from_millis(5);

/// What bytes from one node to another pass.
#[derive(Default)]
struct Gate {
    closed: AtomicBool,
    delay_ms: AtomicU64,
}

impl Gate {
    /// Waits until bytes that were sent at this moment may arrive.
    fn pass(&self, sent: Instant, ended: &AtomicBool) {
        loop {
            let due = sent + Duration::from_millis(self.delay_ms.load(Ordering::Relaxed));
            let left = due.saturating_duration_since(Instant::now());
            let closed = self.closed.load(Ordering::Relaxed);
            if ended.load(Ordering::Relaxed) || (!closed && left.is_zero()) {
                return;
            }
            std::thread::sleep(if closed { LOOK } else { left.min(LOOK) });
        }
    }
}

/// All links of a network.
pub struct Links {
    /// By the node that bytes come from and the one that they go to.
    gates: BTreeMap<(usize, usize), Arc<Gate>>,
    /// Where a node dials another, instead of the other's own address.
    proxies: BTreeMap<(usize, usize), SocketAddr>,
    shared: Arc<Shared>,
}

/// What ends all threads.
#[derive(Default)]
struct Shared {
    ended: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

impl Shared {
    /// Keeps a handle of a connection, to end it with.
    fn keep(&self, stream: &TcpStream) {
        if let Ok(stream) = stream.try_clone() {
            let mut streams = self.streams.lock().expect("nobody panics with it");
            streams.retain(|stream| stream.peer_addr().is_ok());
            streams.push(stream);
        }
    }
}

impl Links {
    /// Opens a proxy for each ordered pair of the nodes that listen there.
    pub fn between(nodes: &[SocketAddr]) -> std::io::Result<Self> {
        let pairs = (0..nodes.len()).flat_map(|from| (0..nodes.len()).map(move |to| (from, to)));
        let pairs: Vec<_> = pairs.filter(|(from, to)| from != to).collect();
        let gates = pairs.iter().map(|pair| (*pair, Arc::default())).collect();
        let mut it = Self { gates, proxies: BTreeMap::new(), shared: Arc::default() };
        for (from, to) in pairs {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            it.proxies.insert((from, to), listener.local_addr()?);
            let (there, back) = (it.gates[&(from, to)].clone(), it.gates[&(to, from)].clone());
            let (address, shared) = (nodes[to], it.shared.clone());
            std::thread::spawn(move || accept(&listener, address, &there, &back, &shared));
        }
        Ok(it)
    }

    /// Where a node must dial another.
    pub fn address(&self, from: usize, to: usize) -> SocketAddr {
        self.proxies[&(from, to)]
    }

    /// Nothing passes from one node to another any more.
    pub fn cut(&self, from: usize, to: usize) {
        self.gates[&(from, to)].closed.store(true, Ordering::Relaxed);
    }

    /// Nothing passes between two groups of nodes, in either direction.
    pub fn part(&self, one: &[usize], other: &[usize]) {
        for from in one {
            for to in other {
                self.cut(*from, *to);
                self.cut(*to, *from);
            }
        }
    }

    /// What passes between a node and all others takes this time.
    pub fn delay(&self, node: usize, time: Duration) {
        let milliseconds = u64::try_from(time.as_millis()).expect("a delay is short");
        for ((from, to), gate) in &self.gates {
            if [*from, *to].contains(&node) {
                gate.delay_ms.store(milliseconds, Ordering::Relaxed);
            }
        }
    }

    /// All links work at once again.
    pub fn mend(&self) {
        for gate in self.gates.values() {
            gate.delay_ms.store(0, Ordering::Relaxed);
            gate.closed.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for stream in self.shared.streams.lock().expect("nobody panics with it").iter() {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for address in self.proxies.values() {
            // Wakes the thread that accepts, which looks at `ended`.
            let _ = TcpStream::connect(address);
        }
    }
}

/// Takes connections to a proxy until the links end.
fn accept(
    listener: &TcpListener,
    address: SocketAddr,
    there: &Arc<Gate>,
    back: &Arc<Gate>,
    shared: &Arc<Shared>,
) {
    for stream in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (there, back, shared) = (there.clone(), back.clone(), shared.clone());
        std::thread::spawn(move || connect(stream, address, there, back, &shared));
    }
}

/// The other half of a connection, and what carries its bytes.
fn connect(
    dialler: TcpStream,
    address: SocketAddr,
    there: Arc<Gate>,
    back: Arc<Gate>,
    shared: &Arc<Shared>,
) {
    // The first packet of a connection passes the gate like all others.
    there.pass(Instant::now(), &shared.ended);
    // A node that is down refuses: then the dialler is cut off as well.
    let Ok(listener) = TcpStream::connect(address) else { return };
    for stream in [&dialler, &listener] {
        shared.keep(stream);
        // Fails only where the connection has just ended.
        let _ = stream.set_nodelay(true);
    }
    let ends = dialler.try_clone().and_then(|it| Ok((it, listener.try_clone()?)));
    let Ok((dialler_too, listener_too)) = ends else { return };
    let back_shared = shared.clone();
    std::thread::spawn(move || carry(listener_too, dialler_too, back, &back_shared));
    carry(dialler, listener, there, shared);
}

/// Carries bytes from one end to the other, through the gate.
fn carry(mut from: TcpStream, to: TcpStream, gate: Arc<Gate>, shared: &Arc<Shared>) {
    let (queue, chunks) = sync_channel(CHUNKS);
    let Ok(source) = from.try_clone() else { return };
    let writing = shared.clone();
    std::thread::spawn(move || deliver(&chunks, &source, to, &gate, &writing));
    let mut buffer = vec![0; CHUNK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if queue.send((Instant::now(), buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn deliver(
    chunks: &Receiver<(Instant, Vec<u8>)>,
    source: &TcpStream,
    mut to: TcpStream,
    gate: &Gate,
    shared: &Shared,
) {
    for (sent, bytes) in chunks {
        gate.pass(sent, &shared.ended);
        if to.write_all(&bytes).is_err() {
            // Whoever writes to a closed connection hears of it.
            let _ = source.shutdown(Shutdown::Both);
            return;
        }
    }
    gate.pass(Instant::now(), &shared.ended);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two nodes of which the second answers each byte with itself; a connection from the first.
    fn echo() -> (Links, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let links = Links::between(&[address, address]).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                stream.write_all(&byte).unwrap();
            }
        });
        let stream = TcpStream::connect(links.address(0, 1)).unwrap();
        (links, stream)
    }

    fn answer(stream: &mut TcpStream, wait: Duration) -> Option<u8> {
        stream.set_read_timeout(Some(wait)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    const SHORT: Duration = Duration::from_millis(150);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn closed_gate_holds_bytes_of_its_direction_until_it_is_mended() {
        for (from, to) in [(0, 1), (1, 0)] {
            let (links, mut stream) = echo();
            stream.write_all(&[1]).unwrap();
            assert_eq!(answer(&mut stream, LONG), Some(1));
            links.cut(from, to);
            stream.write_all(&[2]).unwrap();
            assert_eq!(answer(&mut stream, SHORT), None);
            links.mend();
            assert_eq!(answer(&mut stream, LONG), Some(2));
        }
    }

    #[test]
    fn delay_holds_bytes_for_its_time_in_each_direction() {
        let (links, mut stream) = echo();
        links.delay(0, Duration::from_millis(100));
        let start = Instant::now();
        stream.write_all(&[1]).unwrap();
        assert_eq!(answer(&mut stream, LONG), Some(1));
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[test]
    fn connection_ends_on_both_sides_with_the_links() {
        let (links, mut stream) = echo();
        stream.write_all(&[1]).unwrap();
        assert_eq!(answer(&mut stream, LONG), Some(1));
        drop(links);
        stream.set_read_timeout(Some(LONG)).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
}
