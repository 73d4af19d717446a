//! The configuration of `landfall node`: a file, variables, flags, and one table of settings that
//! all of them share.
//!
//! A value is taken from a flag (`--rpc-listen`), else a variable (`LANDFALL_RPC_LISTEN`), else the
//! file (`listen` in `[rpc]`), else it is the default. Relative paths of the file are relative to
//! the file, all others to the working directory. Unknown keys are errors.
//! [`NodeConfig::load`] reads and judges values alone; [`check`](check::check) looks at the files,
//! too.

pub mod check;
mod flags;
mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod value;

pub use flags::Flags;
pub use settings::Settings;
pub use sources::Source;
pub use value::LogFormat;

use settings::SETTINGS;
use sources::Values;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;

/// The variable that names the file.
const FILE_VARIABLE: &str = "LANDFALL_CONFIG";

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: String,
    message: String,
}

impl Problem {
    fn at(place: impl fmt::Display, message: String) -> Self {
        Self { place: place.to_string(), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    fn of(place: impl fmt::Display, message: String) -> Self {
        Self { problems: vec![Problem::at(place, message)] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n       " };
            write!(f, "{line}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The settings of a node, and where each came from.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    settings: Settings,
    /// In the order of the table: the source, and the value as the file would have it.
    origins: Vec<(Source, Option<String>)>,
}

impl Deref for NodeConfig {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl NodeConfig {
    /// From the flags, the environment of the process, and the file that one of them names.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        Self::load_with(flags, &|name| std::env::var(name).ok())
    }

    fn load_with(
        flags: &Flags,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let file = flags.config.clone().or_else(|| variable(FILE_VARIABLE).map(PathBuf::from));
        let mut values = Values::collect(file.as_deref(), variable, &flags.given)?;
        let settings = Settings::read(&mut values);
        let origins = SETTINGS.iter().map(|setting| values.origin(setting)).collect();
        let config = Self { settings, origins };
        let mut problems = values.problems;
        problems.extend(config.same_ports());
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
    }

    /// Where a setting came from.
    pub fn source(&self, key: &str) -> &Source {
        let index = SETTINGS.iter().position(|setting| setting.key() == key);
        &self.origins[index.expect("callers name a setting")].0
    }

    /// Two servers on one port: the second would fail, after the first was reached.
    fn same_ports(&self) -> Vec<Problem> {
        let servers: [(&str, SocketAddr); 3] = [
            ("p2p.listen", self.p2p.listen),
            ("rpc.listen", self.rpc.listen),
            ("ops.listen", self.ops.listen),
        ];
        let mut problems = Vec::new();
        for (index, (key, address)) in servers.iter().enumerate() {
            let before = servers[..index].iter();
            // Port 0 is any free one.
            let same = |(_, other): &&(&str, SocketAddr)| {
                address.port() != 0 && other.port() == address.port()
            };
            if let Some((other, _)) = before.clone().find(same) {
                let message = format!("`{key}` has port {}, as has `{other}`", address.port());
                problems.push(Problem::at(self.source(key), message));
            }
        }
        problems
    }

    /// The effective configuration as a file, with the source of each value.
    pub fn show(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for (setting, (source, shown)) in SETTINGS.iter().zip(&self.origins) {
            if setting.section != section {
                section = setting.section;
                write!(out, "\n[{section}]\n").expect("a string takes everything");
            }
            let line = match shown {
                Some(value) => format!("{} = {value}", setting.name),
                None => format!("# {} is not set", setting.name),
            };
            writeln!(out, "{line:<40} # {source}").expect("a string takes everything");
        }
        out
    }
}
