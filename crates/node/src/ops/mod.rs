//! Operations: what a node tells the people who run it, and the machines that watch it.
//!
//! [`metrics`] is the table of all numbers of this process; `feed.rs` has the calls that fill what
//! cannot be read; [`serve`] opens the port for metrics and health. Nothing here waits for
//! consensus, and consensus waits for nothing here.

mod feed;
mod health;
mod metrics;
mod process;
mod registry;
mod scrape;
mod server;

pub use metrics::{RpcMeter, metrics};
pub use scrape::Source;
pub use server::{OpsServer, serve};
