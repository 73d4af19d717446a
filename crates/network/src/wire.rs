//! The wire format, version 1. It is frozen: a change is another [`VERSION`] and an ADR.
//!
//! A connection is TCP, then Noise XX as libp2p defines it (`/noise`, keys of secp256k1), then,
//! encrypted, one `Hello` and one `Answer` in each direction, then Yamux. Neither Noise nor Yamux is
//! negotiated: there is one of each, and so nothing is parsed before encryption.
//!
//! ```text
//! Hello   length u32 | "landfall" | version u16 | rlp [genesis, schedule, chain id, client, host, port]
//! Answer  length u32 | code u8 | text
//! Frame   length u32 | kind u8 | payload            length counts kind and payload
//! ```
//!
//! Integers are big-endian. The lanes are the substreams `/landfall/1/votes` and `/landfall/1/sync`,
//! opened by the dialler; gossip is libp2p's `/meshsub/1.2.0`.

use crate::config::Hello;
use crate::event::{Lane, Topic};
use crate::key::{PeerAddress, PeerKey, is_host};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};

/// The version of this format.
pub(crate) const VERSION: u16 = 1;
/// What a `Hello` begins with.
const MAGIC: [u8; 8] = *b"landfall";
/// The most bytes of a `Hello` or an `Answer` behind the length.
pub(crate) const GREETING_BYTES_MAX: usize = 1024;
/// The most bytes of the name of a client.
pub(crate) const CLIENT_BYTES_MAX: usize = 128;
/// The most addresses that one `Peers` frame tells.
pub(crate) const ADDRESSES_MAX: usize = 32;
/// The most bytes of a `Peers` frame's payload.
pub(crate) const ADDRESSES_BYTES_MAX: usize = 16 << 10;
/// The bytes of a frame before its payload.
pub(crate) const FRAME_HEADER: usize = 5;

/// What a frame on a lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A message of the host.
    Message = 0,
    /// Eight bytes that come back in a `Pong`.
    Ping = 1,
    /// The answer.
    Pong = 2,
    /// Addresses of peers.
    Peers = 3,
}

impl Kind {
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Message,
            1 => Self::Ping,
            2 => Self::Pong,
            3 => Self::Peers,
            _ => return None,
        })
    }

    /// The most bytes of the payload.
    pub(crate) const fn payload_bytes_max(self, lane: Lane) -> usize {
        match self {
            Self::Message => lane.message_bytes_max(),
            Self::Ping | Self::Pong => 8,
            Self::Peers => ADDRESSES_BYTES_MAX,
        }
    }
}

/// The header of a frame.
pub(crate) fn frame_header(kind: Kind, payload: usize) -> [u8; FRAME_HEADER] {
    let length = u32::try_from(payload + 1).expect("payloads are bounded by their lane");
    let [a, b, c, d] = length.to_be_bytes();
    [a, b, c, d, kind as u8]
}

/// The name of a lane's substream.
pub(crate) const fn lane_protocol(lane: Lane) -> &'static str {
    match lane {
        Lane::Votes => "/landfall/1/votes",
        Lane::Sync => "/landfall/1/sync",
    }
}

/// The name of a gossip topic. It holds the genesis, so that gossip of two chains never meets.
pub(crate) fn topic_name(topic: Topic, genesis: B256) -> String {
    format!("/landfall/{VERSION}/{}/{genesis}", topic.name())
}

/// The content address of a gossiped message.
pub(crate) fn gossip_hash(topic: &str, data: &[u8]) -> B256 {
    keccak256([&keccak256(topic)[..], data].concat())
}

/// A `Hello` as it is on the wire: what must agree, and where the sender listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub hello: Hello,
    /// Empty if the sender does not know; the receiver sees from where it comes.
    pub host: String,
    pub port: u16,
}

#[derive(RlpEncodable, RlpDecodable)]
struct GreetingRlp {
    genesis: B256,
    schedule: B256,
    chain_id: u64,
    client: String,
    host: String,
    port: u16,
}

/// Why the bytes of a peer's greeting are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("it does not speak Landfall's protocol")]
    Magic,
    /// The bytes behind a version are not looked at unless it is ours.
    #[error("wire version {0}")]
    Version(u16),
    #[error("its hello cannot be decoded: {0}")]
    Hello(String),
    #[error("its answer is empty")]
    Answer,
    #[error("its addresses cannot be decoded: {0}")]
    Addresses(String),
}

impl Greeting {
    /// The bytes behind the length.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_be_bytes());
        let Hello { genesis, schedule, chain_id, client } = self.hello.clone();
        let (host, port) = (self.host.clone(), self.port);
        GreetingRlp { genesis, schedule, chain_id, client, host, port }.encode(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(WireError::Magic)?;
        let (version, mut rest) = rest.split_first_chunk::<2>().ok_or(WireError::Magic)?;
        if *magic != MAGIC {
            return Err(WireError::Magic);
        }
        let version = u16::from_be_bytes(*version);
        if version != VERSION {
            return Err(WireError::Version(version));
        }
        let wrong = |why: &dyn std::fmt::Display| WireError::Hello(why.to_string());
        let rlp = GreetingRlp::decode(&mut rest).map_err(|error| wrong(&error))?;
        if !rest.is_empty() {
            return Err(wrong(&"bytes follow it"));
        }
        if rlp.client.len() > CLIENT_BYTES_MAX {
            return Err(wrong(&"the client's name is too long"));
        }
        if !rlp.host.is_empty() && !is_host(&rlp.host) {
            return Err(wrong(&"the host is no host"));
        }
        let GreetingRlp { genesis, schedule, chain_id, client, host, port } = rlp;
        let client = printable(&client);
        Ok(Self { hello: Hello { genesis, schedule, chain_id, client }, host, port })
    }
}

/// A peer's text with nothing in it that a terminal or a log obeys.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' })
        .collect()
}

/// What a node says to the other's `Hello`: code 0 is welcome, all others refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: u8,
    pub text: String,
}

impl Answer {
    pub(crate) const WELCOME: u8 = 0;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let text = self.text.as_bytes();
        [&[self.code], &text[..text.len().min(GREETING_BYTES_MAX - 1)]].concat()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (code, text) = bytes.split_first().ok_or(WireError::Answer)?;
        Ok(Self { code: *code, text: printable(&String::from_utf8_lossy(text)) })
    }
}

#[derive(RlpEncodable, RlpDecodable)]
struct AddressRlp {
    key: Bytes,
    host: String,
    port: u16,
}

/// The payload of a `Peers` frame.
pub(crate) fn encode_addresses(addresses: &[PeerAddress]) -> Vec<u8> {
    assert!(addresses.len() <= ADDRESSES_MAX, "callers choose");
    let list: Vec<_> = addresses
        .iter()
        .map(|address| AddressRlp {
            key: Bytes::copy_from_slice(address.key.as_bytes()),
            host: address.host.clone(),
            port: address.port,
        })
        .collect();
    let mut bytes = Vec::new();
    list.encode(&mut bytes);
    bytes
}

/// The addresses of a `Peers` frame: all or none.
pub(crate) fn decode_addresses(mut bytes: &[u8]) -> Result<Vec<PeerAddress>, WireError> {
    let wrong = |why: &dyn std::fmt::Display| WireError::Addresses(why.to_string());
    let list = Vec::<AddressRlp>::decode(&mut bytes).map_err(|error| wrong(&error))?;
    if !bytes.is_empty() {
        return Err(wrong(&"bytes follow them"));
    }
    if list.len() > ADDRESSES_MAX {
        return Err(wrong(&"there are too many"));
    }
    let address = |AddressRlp { key, host, port }: AddressRlp| {
        let key = key[..].try_into().map_err(|_| wrong(&"a key is not 33 bytes"))?;
        let key = PeerKey::from_bytes(key).map_err(|error| wrong(&error))?;
        if !is_host(&host) || port == 0 {
            return Err(wrong(&"a host or a port is none"));
        }
        Ok(PeerAddress { key, host, port })
    };
    list.into_iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;

    const KEY: [u8; 33] =
        hex!("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

    fn greeting() -> Greeting {
        Greeting {
            hello: Hello {
                genesis: B256::repeat_byte(0x11),
                schedule: B256::repeat_byte(0x22),
                chain_id: 31337,
                client: "landfall/0.1.0".to_owned(),
            },
            host: "127.0.0.1".to_owned(),
            port: 30303,
        }
    }

    #[test]
    fn bytes_of_a_hello_are_frozen() {
        let frozen = hex!(
            "6c616e6466616c6c 0001 f861"
            "a01111111111111111111111111111111111111111111111111111111111111111"
            "a02222222222222222222222222222222222222222222222222222222222222222"
            "827a69 8e6c616e6466616c6c2f302e312e30 893132372e302e302e31 82765f"
        );
        assert_eq!(hex::encode(greeting().encode()), hex::encode(frozen));
        assert_eq!(Greeting::decode(&frozen), Ok(greeting()));
    }

    #[test]
    fn bytes_of_an_answer_are_frozen() {
        let answer = Answer { code: 3, text: "no".to_owned() };
        assert_eq!(answer.encode(), hex!("03 6e6f"));
        assert_eq!(Answer::decode(&hex!("03 6e6f")), Ok(answer));
        let bell = Answer::decode(&hex!("03 6e1b07")).expect("an answer");
        assert_eq!(bell.text, "n??", "what a terminal obeys is not passed on");
        assert_eq!(Answer::decode(&[]), Err(WireError::Answer));
    }

    #[test]
    fn bytes_of_frames_are_frozen() {
        assert_eq!(frame_header(Kind::Message, 2), hex!("00000003 00"));
        assert_eq!(frame_header(Kind::Ping, 8), hex!("00000009 01"));
        assert_eq!(frame_header(Kind::Pong, 8), hex!("00000009 02"));
        assert_eq!(frame_header(Kind::Peers, 12 << 20), hex!("00c00001 03"));
        assert_eq!(Kind::from_byte(4), None);
        assert_eq!(Lane::ALL.map(lane_protocol), ["/landfall/1/votes", "/landfall/1/sync"]);
    }

    #[test]
    fn bytes_of_addresses_are_frozen() {
        let key = PeerKey::from_bytes(KEY).expect("a key");
        let address = PeerAddress { key, host: "10.0.0.1".to_owned(), port: 30303 };
        let frozen = hex!(
            "ef ee a10279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
            "8831302e302e302e31 82765f"
        );
        assert_eq!(
            hex::encode(encode_addresses(std::slice::from_ref(&address))),
            hex::encode(frozen)
        );
        assert_eq!(decode_addresses(&frozen), Ok(vec![address]));
    }

    #[test]
    fn gossip_names_are_frozen_and_hold_the_genesis() {
        let genesis = B256::repeat_byte(0x11);
        let name = topic_name(Topic::Blocks, genesis);
        assert_eq!(name, format!("/landfall/1/blocks/0x{}", "11".repeat(32)));
        assert_eq!(gossip_hash("t", b"data"), keccak256([&keccak256(b"t")[..], b"data"].concat()));
    }

    #[test]
    fn strange_greetings_are_refused_by_kind() {
        let good = greeting().encode();
        assert_eq!(Greeting::decode(b"GET / HTTP/1.1"), Err(WireError::Magic));
        assert_eq!(Greeting::decode(&good[..9]), Err(WireError::Magic));
        let mut newer = good.clone();
        newer[9] = 2;
        newer.truncate(11);
        assert_eq!(Greeting::decode(&newer), Err(WireError::Version(2)));
        for end in 10..good.len() {
            assert!(matches!(Greeting::decode(&good[..end]), Err(WireError::Hello(_))), "{end}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert!(matches!(Greeting::decode(&longer), Err(WireError::Hello(_))));
        let mut chatty = greeting();
        chatty.hello.client = "x".repeat(CLIENT_BYTES_MAX + 1);
        assert!(matches!(Greeting::decode(&chatty.encode()), Err(WireError::Hello(_))));
        let mut spaced = greeting();
        spaced.host = "a b".to_owned();
        assert!(matches!(Greeting::decode(&spaced.encode()), Err(WireError::Hello(_))));
    }

    #[test]
    fn no_bytes_panic_a_decoder() {
        // A fixed linear congruence: every run sees the same bytes.
        let mut state = 1_u64;
        let mut byte = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        let key = PeerKey::from_bytes(KEY).expect("a key");
        let addresses =
            encode_addresses(&vec![
                PeerAddress { key, host: "example.org".to_owned(), port: 1 };
                ADDRESSES_MAX
            ]);
        let greeting = greeting().encode();
        for round in 0..20_000 {
            let noise: Vec<u8> = (0..round % 90).map(|_| byte()).collect();
            let mut bent = greeting.clone();
            let mut swapped = addresses.clone();
            let (first, second) = (usize::from(byte()), usize::from(byte()));
            bent[10 + first % (greeting.len() - 10)] = byte();
            swapped[(first << 8 | second) % addresses.len()] = byte();
            for bytes in [noise, bent, swapped] {
                let _ = Greeting::decode(&bytes);
                let _ = Answer::decode(&bytes);
                let _ = decode_addresses(&bytes);
            }
        }
    }
}
