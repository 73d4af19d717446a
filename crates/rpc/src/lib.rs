//! Landfall's interface to the world: Ethereum's JSON-RPC on HTTP and WebSocket.
//!
//! [`serve`] opens one port for both over a [`Backend`]; [`module`] gives the same methods without
//! a socket, for tests. Reading goes through the chain's read-only handle, transactions through
//! the door to the pool, and a development chain's controls through a door of their own; a node in
//! a network tells about consensus and its peers through [`NodeDoor`].
//! Errors have geth's codes and words, because clients match on both.
//!
//! This crate never writes to the chain and never starts a runtime. Bodies, batches, answers,
//! connections, subscriptions, filters and searches have limits in [`RpcConfig`]; what is held for
//! clients that send faster than they read has one that follows from them.

mod api;
mod arguments;
mod block_ref;
mod connections;
mod consensus;
mod cursor;
mod debug;
mod dev;
mod doors;
mod errors;
mod eth_blocks;
mod eth_call;
mod eth_logs;
mod eth_sign;
mod eth_state;
mod eth_transactions;
mod fees;
mod filters;
mod finality;
mod fork_config;
mod frames;
mod middleware;
mod net_web3;
mod node_door;
mod ots;
mod peers;
mod server;
mod socket;
mod subscriptions;
mod txpool;
mod types;

pub use api::module;
pub use doors::{Answer, Backend, ControlError, Controls, Event, Patch, PoolDoor};
pub use node_door::{
    ConsensusView, Direction, Identity, LastVote, MemberSeen, MemberState, NodeDoor, PeerView,
    RoundTrace, SILENCE, TracedVote, credible_height,
};
pub use server::{Admin, Meter, RpcConfig, ServeError, ServerHandle, serve};
