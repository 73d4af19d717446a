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
