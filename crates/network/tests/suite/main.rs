//! Networks that talk over real sockets on loopback, and peers that do not mean well.

#[path = "../hostile/mod.rs"]
mod hostile;

mod attacks;
mod bounds;
mod gossip;
mod handshake;
mod host;
mod lanes;
mod peers;
