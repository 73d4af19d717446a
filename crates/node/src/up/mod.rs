//! A network on this machine: its files, its processes, and what is seen of them.

mod layout;
mod process;
mod screen;

pub use layout::{Layout, Wish};
pub use process::Process;
pub use screen::{Screen, line};
