//! Keys of nodes, and addresses at which a node with a key is found.

use alloy_primitives::{Address, hex, keccak256};
use landfall_types::NodeId;
use libp2p_identity::{Keypair, PeerId};
use secp256k1::{PublicKey, SECP256K1, SecretKey};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use zeroize::Zeroizing;

/// What precedes a compressed secp256k1 key in a libp2p `PeerId`: the identity multihash of 37
/// bytes, then the key in protobuf (type 2, 33 bytes).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 37, 0x08, 0x02, 0x12, 33];

/// A key, or an address with a key, that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the bytes of a key.
    #[error("{0} is not a secp256k1 key: {1}")]
    Key(String, &'static str),
    /// Not the address of a peer.
    #[error("{0} is not the address of a peer: {1}; write 0x02…@host:30303")]
    Address(String, &'static str),
}

/// The secp256k1 key of a node, by which peers know it on the wire. It is not a validator's key to
/// vote with: it lies unencrypted on a machine, and to lose it costs a connection, not a chain.
#[derive(Clone)]
pub struct NodeKey(Zeroizing<[u8; 32]>);

impl NodeKey {
    /// The key with these bytes.
    ///
    /// # Errors
    ///
    /// If they are zero or not below the order of the curve.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(bytes);
        match SecretKey::from_slice(bytes.as_slice()) {
            Ok(mut secret) => secret.non_secure_erase(),
            Err(_) => {
                let why = "it is zero or beyond the curve's order";
                return Err(KeyError::Key("the node's key".to_owned(), why));
            }
        }
        Ok(Self(bytes))
    }

    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).expect("the operating system gives randomness");
            if let Ok(key) = Self::from_bytes(bytes) {
                return key;
            }
        }
    }

    /// The secret itself, to be stored.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// The public half.
    pub fn public(&self) -> PeerKey {
        let mut secret =
            SecretKey::from_slice(self.0.as_slice()).expect("checked when it was made");
        let public = secret.public_key(SECP256K1);
        secret.non_secure_erase();
        PeerKey(public.serialize())
    }

    pub(crate) fn identity(&self) -> Keypair {
        let mut bytes = self.0.clone();
        let secret = libp2p_identity::secp256k1::SecretKey::try_from_bytes(bytes.as_mut_slice())
            .expect("checked when it was made");
        libp2p_identity::secp256k1::Keypair::from(secret).into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(of {})", self.public())
    }
}

/// The public key of a node: compressed secp256k1, 33 bytes, always a point of the curve. It is
/// written in hexadecimal with `0x`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey([u8; 33]);

impl PeerKey {
    /// The key with these bytes.
    ///
    /// # Errors
    ///
    /// If they are not a point of the curve.
    pub fn from_bytes(bytes: [u8; 33]) -> Result<Self, KeyError> {
        match PublicKey::from_slice(&bytes) {
            Ok(_) => Ok(Self(bytes)),
            Err(_) => Err(KeyError::Key(hex::encode_prefixed(bytes), "no point of the curve")),
        }
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 33] {
        &self.0
    }

    /// The address of the key: the last 20 bytes of the Keccak hash of the uncompressed point, as
    /// Ethereum computes it.
    pub fn id(&self) -> NodeId {
        let point = PublicKey::from_slice(&self.0).expect("checked when it was made");
        Address::from_slice(&keccak256(&point.serialize_uncompressed()[1..])[12..])
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        let bytes = [PEER_ID_PREFIX.as_slice(), &self.0].concat();
        PeerId::from_bytes(&bytes).expect("an identity multihash")
    }

    /// The key inside libp2p's name of a peer, if it is one of ours.
    pub(crate) fn from_peer_id(peer: &PeerId) -> Option<Self> {
        let bytes = peer.to_bytes();
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        Self::from_bytes(key.try_into().ok()?).ok()
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_prefixed(self.0))
    }
}

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PeerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = |why| KeyError::Key(shortened(text), why);
        let digits = text.strip_prefix("0x").ok_or_else(|| wrong("it does not begin with 0x"))?;
        let bytes: [u8; 33] = hex::decode(digits)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong("it is not 33 bytes in hexadecimal"))?;
        Self::from_bytes(bytes)
    }
}

/// A host and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// An IP address or a DNS name.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let wrong = |why| KeyError::Address(shortened(text), why);
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let port = match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(wrong("its port is not a number from 1 to 65535")),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        if !is_host(host) || inner.is_some() != host.contains(':') {
            return Err(wrong("its host is neither an IP address nor a DNS name"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Whether `host` is an IP address or may be a DNS name.
pub(crate) fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(is_label))
}

/// Where a node with a known key listens. It is written `0x02…@127.0.0.1:30303`, IPv6 addresses in
/// brackets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerAddress {
    /// The node's key; whoever answers without it is refused.
    pub key: PeerKey,
    /// An IP address or a DNS name, resolved at each dial.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl PeerAddress {
    /// The host and the port.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.host.clone(), port: self.port }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.key, self.endpoint())
    }
}

impl FromStr for PeerAddress {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (key, endpoint) = text
            .split_once('@')
            .ok_or_else(|| KeyError::Address(shortened(text), "it has no @ after the key"))?;
        let Endpoint { host, port } = endpoint.parse()?;
        Ok(Self { key: key.parse()?, host, port })
    }
}

/// What an error repeats of what it was given.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> NodeKey {
        NodeKey::from_bytes([byte; 32]).expect("a key")
    }

    #[test]
    fn id_is_the_address_that_ethereum_gives_the_key() {
        // The first account of the mnemonic "test test … junk".
        let secret = hex!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
        let key = NodeKey::from_bytes(secret).expect("a key").public();
        assert_eq!(key.id().to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    }

    #[test]
    fn name_in_libp2p_is_derived_without_arithmetic_and_leads_back() {
        let node = key(7);
        assert_eq!(node.public().peer_id(), node.identity().public().to_peer_id());
        assert_eq!(PeerKey::from_peer_id(&node.public().peer_id()), Some(node.public()));
        assert_eq!(PeerKey::from_peer_id(&PeerId::random()), None);
    }

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for host in ["127.0.0.1", "[::1]", "node-1.example.org"] {
            let text = format!("{}@{host}:30303", key(1).public());
            let address: PeerAddress = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn wrong_addresses_are_refused_with_the_reason() {
        let key = key(1).public();
        let no_key = "0x02@127.0.0.1:1".parse::<PeerAddress>().expect_err("short key");
        assert!(no_key.to_string().contains("33 bytes"), "{no_key}");
        for (rest, why) in [
            ("127.0.0.1", "no port"),
            ("127.0.0.1:0", "1 to 65535"),
            ("127.0.0.1:70000", "1 to 65535"),
            ("a b:1", "neither an IP address"),
            ("::1:30303", "neither an IP address"),
            (":30303", "neither an IP address"),
        ] {
            let error = format!("{key}@{rest}").parse::<PeerAddress>().expect_err(rest);
            assert!(error.to_string().contains(why), "{rest}: {error}");
        }
        assert!(PeerKey::from_bytes([2; 33]).is_ok() || PeerKey::from_bytes([3; 33]).is_ok());
        assert!(PeerKey::from_bytes([0xff; 33]).is_err());
    }

    #[test]
    fn secret_is_not_shown() {
        let shown = format!("{:?}", key(0x11));
        assert!(!shown.contains("1111111111"), "{shown}");
        assert!(NodeKey::from_bytes([0; 32]).is_err());
    }
}
