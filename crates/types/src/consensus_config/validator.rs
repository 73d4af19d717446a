//! A validator as the genesis knows it: who votes, and which node speaks for it.

use super::section::Section;
use crate::{GenesisError, NodeId, Weight};
use alloy_primitives::hex;
use alloy_rlp::{RlpDecodableWrapper, RlpEncodableWrapper};
use secp256k1::PublicKey;
use serde_json::{Value, json};
use std::fmt;
use std::str::FromStr;

/// Not the public key of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a compressed secp256k1 public key: 33 bytes in hex that begin with 02 or 03")]
pub struct NodeKeyError;

/// The public key by which a node is known on the network: secp256k1, compressed. Not the key
/// that signs votes, which a network node need not hold.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, RlpEncodableWrapper, RlpDecodableWrapper,
)]
pub struct NodeKey([u8; 33]);

impl NodeKey {
    /// Checks that the bytes are a point of the curve.
    pub fn new(bytes: [u8; 33]) -> Result<Self, NodeKeyError> {
        PublicKey::from_slice(&bytes).map_err(|_| NodeKeyError)?;
        Ok(Self(bytes))
    }

    /// The compressed point.
    pub fn bytes(&self) -> &[u8; 33] {
        &self.0
    }
}

impl fmt::Display for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({self})")
    }
}

/// Hex, with or without `0x`.
impl FromStr for NodeKey {
    type Err = NodeKeyError;

    fn from_str(text: &str) -> Result<Self, NodeKeyError> {
        let mut bytes = [0; 33];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NodeKeyError)?;
        Self::new(bytes)
    }
}

/// One validator of the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The address of the key that signs its votes.
    pub id: NodeId,
    /// The key of the node that speaks for it on the network.
    pub node_key: NodeKey,
    /// How much its votes weigh; at least 1.
    pub weight: Weight,
    /// `host:port`, where its node can be reached.
    pub address: Option<String>,
    /// What people call it.
    pub name: Option<String>,
}

impl Validator {
    const KEYS: [&str; 5] = ["id", "nodeKey", "weight", "address", "name"];

    /// Reads what `landfall keys new` writes as the public part.
    pub fn from_json(text: &str) -> Result<Self, GenesisError> {
        let value: Value =
            serde_json::from_str(text).map_err(|e| GenesisError::Malformed(e.to_string()))?;
        Self::read(&Section::new("validator", &value)?)
    }

    pub(super) fn read(section: &Section<'_>) -> Result<Self, GenesisError> {
        section.expect_only(&Self::KEYS)?;
        let id = section.required_text("id", "the address of the key that votes")?;
        let id = id.parse().map_err(|e| section.invalid("id", format!("not an address: {e}")))?;
        let key = section.required_text("nodeKey", "the public key of its node")?;
        let node_key =
            key.parse().map_err(|e: NodeKeyError| section.invalid("nodeKey", e.to_string()))?;
        let weight = section.count("weight")?.unwrap_or(1);
        if weight == 0 {
            return Err(section.invalid("weight", "must be at least 1; leave the validator out"));
        }
        let address = section.text("address")?.map(str::to_owned);
        if let Some(address) = &address {
            check_host_and_port(address).map_err(|reason| section.invalid("address", reason))?;
        }
        let name = section.text("name")?.map(str::to_owned);
        if let Some(name) = &name {
            check_name(name).map_err(|reason| section.invalid("name", reason))?;
        }
        Ok(Self { id, node_key, weight: Weight(weight.into()), address, name })
    }

    /// As it stands in a genesis file; read back by [`Self::from_json`].
    pub fn to_json(&self) -> Value {
        let weight = u64::try_from(self.weight.0).expect("a committee's weights are below 2^64");
        let mut value = json!({
            "id": self.id.to_string(),
            "nodeKey": self.node_key.to_string(),
            "weight": weight,
        });
        if let Some(address) = &self.address {
            value["address"] = json!(address);
        }
        if let Some(name) = &self.name {
            value["name"] = json!(name);
        }
        value
    }
}

/// Checks `host:port` with a host name, an IPv4 address, or an IPv6 address in brackets; the error
/// says what is wrong.
pub fn check_host_and_port(address: &str) -> Result<(), String> {
    let wrong = |reason| Err(format!("`{address}` {reason}, expected one like 10.0.0.1:30303"));
    let Some((host, port)) = address.rsplit_once(':') else { return wrong("has no port") };
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return wrong("has no port between 1 and 65535");
    }
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let legal = match in_brackets {
        Some(host) => host.contains(':') && host.chars().all(|c| c.is_ascii_hexdigit() || c == ':'),
        None => host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-'),
    };
    if host.is_empty() || host.len() > 253 || !legal {
        return wrong("names no host");
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=32).contains(&name.len()) && name.chars().all(legal) {
        return Ok(());
    }
    Err("must have 1 to 32 letters, digits, dots, dashes or underscores".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator of the curve.
    const KEY: &str = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn node_key_must_be_a_point() {
        let key: NodeKey = KEY.parse().unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(KEY[2..].parse::<NodeKey>().unwrap(), key);
        let x_without_point = format!("02{}", "ff".repeat(32));
        for wrong in ["", "0x02", &KEY[..66], &format!("04{}", &KEY[4..]), &x_without_point] {
            assert_eq!(wrong.parse::<NodeKey>(), Err(NodeKeyError), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["10.0.0.1:30303", "node-1.example.org:1", "[::1]:65535", "localhost:80"] {
            assert_eq!(check_host_and_port(good), Ok(()), "{good}");
        }
        for wrong in ["", "host", "host:", "host:0", "host:65536", ":1", "::1:80", "a b:1", "[]:1"]
        {
            let error = check_host_and_port(wrong).unwrap_err();
            assert!(error.starts_with(&format!("`{wrong}`")), "{error}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        assert_eq!(check_name("alpha-1.eu_west"), Ok(()));
        for wrong in ["", "a b", "ä", "\u{1b}[2J", &"x".repeat(33)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn validator_survives_its_json() {
        let text = format!(r#"{{"id":"0x{}","nodeKey":"{KEY}"}}"#, "11".repeat(20));
        let plain = Validator::from_json(&text).unwrap();
        assert_eq!((plain.weight, &plain.address, &plain.name), (Weight(1), &None, &None));
        let full = Validator {
            weight: Weight(7),
            address: Some("[fe80::1]:30303".into()),
            name: Some("alpha".into()),
            ..plain.clone()
        };
        for validator in [plain, full] {
            let text = validator.to_json().to_string();
            assert_eq!(Validator::from_json(&text).unwrap(), validator);
        }
    }
}
