//! One file per command: its flags, and what it does.

pub mod bench;
pub mod config;
pub mod db;
pub mod dev;
pub mod doctor;
pub mod export;
pub mod genesis;
pub mod import;
pub mod keys;
pub mod node;
mod progress;
pub mod sim;
pub mod up;

use crate::failure::Failure;
use std::fmt::Display;
use std::io::Write;
use tokio::runtime::Runtime;

/// Tells whoever reads the standard output. That nobody does is no reason to end.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The threads of a node's doors.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("cannot start threads: {error}")))
}
