//! One file per command: its flags, and what it does.

pub mod bench;
pub mod db;
pub mod dev;
pub mod export;
pub mod import;
mod progress;
pub mod sim;
