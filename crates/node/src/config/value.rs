//! The types of settings: how each is read from a file, a flag or a variable, and how it is shown.

use crate::duration;
use alloy_primitives::{Address, Bytes, hex};
use landfall_types::{NodeKey, check_host_and_port};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// What a source says, before anybody knows what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// A flag or a variable: text that may mean anything.
    Untyped(String),
    /// A string of the file.
    Text(String),
    /// A whole number of the file that is not negative.
    Number(u64),
    /// `true` or `false` of the file.
    Flag(bool),
    /// A list of strings of the file.
    List(Vec<String>),
    /// What no setting is: its type in TOML's words.
    Other(&'static str),
}

/// A type of settings.
pub trait SettingValue: Sized {
    /// Whether it holds several values: a flag may be repeated, commas part the values of a
    /// variable.
    const IS_LIST: bool = false;

    /// Relative paths are taken from `base`.
    fn read(raw: &Raw, base: &Path) -> Result<Self, String>;

    /// As it would stand in the file; `None` if it is not set.
    fn show(&self) -> Option<String>;
}

/// The text of a setting that is a string in the file.
fn text(raw: &Raw) -> Result<&str, String> {
    match raw {
        Raw::Untyped(text) | Raw::Text(text) => Ok(text),
        _ => Err("must be a string".to_owned()),
    }
}

/// A string of TOML: JSON's escapes are TOML's.
fn quoted(text: &str) -> Option<String> {
    Some(serde_json::to_string(text).expect("a string is JSON"))
}

macro_rules! numbers {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            fn read(raw: &Raw, _: &Path) -> Result<Self, String> {
                let number = match raw {
                    Raw::Number(number) => Some(*number),
                    Raw::Untyped(text) => text.parse().ok(),
                    _ => None,
                };
                let fits = number.and_then(|number| Self::try_from(number).ok());
                // Every number here is a bound or a count, and zero would mean nothing at all.
                fits.filter(|number| *number > 0)
                    .ok_or_else(|| format!("must be a whole number from 1 to {}", Self::MAX))
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )+};
}

numbers!(u8, u32, u64, usize);

impl SettingValue for bool {
    fn read(raw: &Raw, _: &Path) -> Result<Self, String> {
        match raw {
            Raw::Flag(flag) => Ok(*flag),
            Raw::Untyped(text) => text.parse().map_err(|_| "must be true or false".to_owned()),
            _ => Err("must be true or false".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl SettingValue for PathBuf {
    fn read(raw: &Raw, base: &Path) -> Result<Self, String> {
        match text(raw)? {
            "" => Err("must name a file or a directory".to_owned()),
            path => Ok(base.join(path)),
        }
    }

    fn show(&self) -> Option<String> {
        quoted(&self.to_string_lossy())
    }
}

impl SettingValue for SocketAddr {
    fn read(raw: &Raw, _: &Path) -> Result<Self, String> {
        let text = text(raw)?;
        text.parse().map_err(|_| format!("`{text}` is no address and port, like 127.0.0.1:8545"))
    }

    fn show(&self) -> Option<String> {
        quoted(&self.to_string())
    }
}

impl SettingValue for Duration {
    fn read(raw: &Raw, _: &Path) -> Result<Self, String> {
        duration::parse(text(raw)?)
    }

    fn show(&self) -> Option<String> {
        quoted(&duration::show(*self))
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const IS_LIST: bool = T::IS_LIST;

    fn read(raw: &Raw, base: &Path) -> Result<Self, String> {
        T::read(raw, base).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref()?.show()
    }
}

impl<T: SettingValue> SettingValue for Vec<T> {
    const IS_LIST: bool = true;

    fn read(raw: &Raw, base: &Path) -> Result<Self, String> {
        let entries: Vec<String> = match raw {
            Raw::List(list) => list.clone(),
            Raw::Untyped(text) if text.is_empty() => Vec::new(),
            Raw::Untyped(text) => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
            _ => return Err("must be a list of strings".to_owned()),
        };
        entries.into_iter().map(|entry| T::read(&Raw::Text(entry), base)).collect()
    }

    fn show(&self) -> Option<String> {
        let entries: Vec<String> = self.iter().filter_map(T::show).collect();
        Some(format!("[{}]", entries.join(", ")))
    }
}

/// Types whose text is all there is to them.
macro_rules! texts {
    ($($type:ty),+) => {$(
        impl SettingValue for $type {
            fn read(raw: &Raw, _: &Path) -> Result<Self, String> {
                let text = text(raw)?;
                text.parse().map_err(|error| format!("`{text}`: {error}"))
            }

            fn show(&self) -> Option<String> {
                quoted(&self.to_string())
            }
        }
    )+};
}

texts!(String, Address, NodeKey, HostPort, Peer, AdminAccess, LogLevel, LogFormat, ExtraData);

/// `host:port`, where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(String);

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_host_and_port(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node that is always dialled: `0x02…@host:port`, its public key and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// By which it is known.
    pub key: NodeKey,
    /// Where it listens.
    pub address: HostPort,
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, address) = text.split_once('@').ok_or("expected KEY@HOST:PORT")?;
        let key = key.parse().map_err(|error: landfall_types::NodeKeyError| error.to_string())?;
        Ok(Self { key, address: address.parse()? })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.address)
    }
}

/// The `extraData` of this node's blocks: at most 32 bytes, as text or in hex after `0x`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtraData(pub Bytes);

impl FromStr for ExtraData {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = match text.strip_prefix("0x") {
            Some(digits) => hex::decode(digits).map_err(|error| error.to_string())?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() > 32 {
            return Err(format!("has {} bytes; 32 are allowed", bytes.len()));
        }
        Ok(Self(bytes.into()))
    }
}

impl fmt::Display for ExtraData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with("0x") => f.write_str(text),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// Types of a few words.
macro_rules! words {
    ($($(#[$doc:meta])* $type:ident { $($(#[$word_doc:meta])* $word:ident = $text:literal,)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($(#[$word_doc])* $word,)+ }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$word),)+
                    _ => Err(format!("must be one of {}", [$($text),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$word => $text,)+ })
            }
        }
    )+};
}

words! {
    /// How much is logged.
    LogLevel {
        /// What stops the node or loses work.
        Error = "error",
        /// What an operator should look at.
        Warn = "warn",
        /// What happened.
        Info = "info",
        /// What was decided, and why.
        Debug = "debug",
        /// Every step.
        Trace = "trace",
    }

    /// Where `admin_*` can be called.
    AdminAccess {
        /// Nowhere.
        Off = "off",
        /// If the RPC listens on an address of this machine.
        Loopback = "loopback",
        /// By whoever reaches the RPC.
        On = "on",
    }

    /// How a line of the log looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One object a line, for programs.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn read<T: SettingValue>(raw: Raw) -> Result<T, String> {
        T::read(&raw, Path::new("/etc/landfall"))
    }

    fn untyped<T: SettingValue>(text: &str) -> Result<T, String> {
        read(Raw::Untyped(text.to_owned()))
    }

    fn typed<T: SettingValue>(text: &str) -> Result<T, String> {
        read(Raw::Text(text.to_owned()))
    }

    #[test]
    fn flags_and_variables_are_text_and_the_file_has_types() {
        assert_eq!(untyped::<u32>("7"), Ok(7));
        assert_eq!(read::<u32>(Raw::Number(7)), Ok(7));
        assert!(typed::<u32>("7").unwrap_err().contains("whole number from 1 to 4294967295"));
        assert!(read::<u8>(Raw::Number(256)).unwrap_err().contains("from 1 to 255"));
        assert!(untyped::<u64>("0").is_err());
        assert_eq!(untyped::<bool>("true"), Ok(true));
        assert!(typed::<bool>("true").is_err());
        assert!(read::<LogLevel>(Raw::Number(1)).unwrap_err().contains("must be a string"));
        assert!(read::<u64>(Raw::Other("float")).is_err());
    }

    #[test]
    fn lists_come_as_lists_or_with_commas() {
        let expected: Vec<NodeKey> = vec![KEY.parse().unwrap(); 2];
        assert_eq!(untyped::<Vec<NodeKey>>(&format!("{KEY}, {KEY}")), Ok(expected.clone()));
        assert_eq!(read(Raw::List(vec![KEY.to_owned(); 2])), Ok(expected.clone()));
        assert_eq!(untyped::<Vec<NodeKey>>(""), Ok(Vec::new()));
        assert!(typed::<Vec<NodeKey>>(KEY).unwrap_err().contains("must be a list"));
        assert_eq!(expected.show(), Some(format!("[\"{KEY}\", \"{KEY}\"]")));
    }

    #[test]
    fn paths_of_a_file_are_relative_to_it() {
        assert_eq!(typed::<PathBuf>("keys/a"), Ok(PathBuf::from("/etc/landfall/keys/a")));
        assert_eq!(typed::<PathBuf>("/srv/a"), Ok(PathBuf::from("/srv/a")));
        assert!(typed::<PathBuf>("").is_err());
    }

    #[test]
    fn what_is_shown_can_be_read() {
        fn again<T: SettingValue + PartialEq + fmt::Debug>(text: &str) {
            let value: T = typed(text).unwrap();
            let shown: String = serde_json::from_str(&value.show().unwrap()).unwrap();
            assert_eq!(typed::<T>(&shown), Ok(value), "{text}");
        }
        again::<SocketAddr>("[::1]:1");
        again::<Duration>("90s");
        again::<HostPort>("node.example:30303");
        again::<Peer>(&format!("{KEY}@10.0.0.1:30303"));
        again::<AdminAccess>("off");
        again::<LogLevel>("warn");
        again::<LogFormat>("json");
        for extra in ["", "landfall \"1\"", "0x00ff", "0x307831"] {
            again::<ExtraData>(extra);
        }
    }

    #[test]
    fn nonsense_is_named() {
        assert!(typed::<Peer>(KEY).unwrap_err().contains("expected KEY@HOST:PORT"));
        assert!(typed::<Peer>("0x02@h:1").unwrap_err().contains("not a compressed secp256k1"));
        assert!(typed::<Peer>(&format!("{KEY}@h")).unwrap_err().contains("has no port"));
        assert!(typed::<SocketAddr>("8545").unwrap_err().contains("like 127.0.0.1:8545"));
        assert!(typed::<LogFormat>("xml").unwrap_err().contains("one of text, json"));
        assert!(typed::<ExtraData>(&"x".repeat(33)).unwrap_err().contains("has 33 bytes"));
        assert!(typed::<Duration>("5").unwrap_err().contains("no length of time"));
    }
}
