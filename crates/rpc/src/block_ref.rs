//! Which block a request means: a tag, a number, or a hash as EIP-1898 has it.

use crate::errors::{Outcome, header_not_found, server_error, unreadable};
use alloy_primitives::B256;
use landfall_chain::{ChainReader, StateView, StoredBlock};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::{fmt, sync::Arc};

/// A tag or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BlockNumber {
    /// The newest block that is durable.
    #[default]
    Latest,
    /// The newest block and what the pool would put on it; the state is that of `Latest`.
    Pending,
    /// The newest block that is expected never to be left.
    Safe,
    /// The newest block that can never be left.
    Finalized,
    /// The genesis block.
    Earliest,
    /// A height.
    Number(u64),
}

/// A tag, a number or a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockRef {
    /// By tag or height.
    Number(BlockNumber),
    /// By hash.
    Hash {
        /// The block's hash.
        hash: B256,
        /// Refuse the block if it is on a fork.
        require_canonical: bool,
    },
}

impl Default for BlockRef {
    fn default() -> Self {
        Self::Number(BlockNumber::Latest)
    }
}

impl BlockNumber {
    fn parse(text: &str) -> Result<Self, &'static str> {
        Ok(match text {
            "latest" | "" => Self::Latest,
            "pending" => Self::Pending,
            "safe" => Self::Safe,
            "finalized" => Self::Finalized,
            "earliest" => Self::Earliest,
            _ => Self::Number(parse_quantity(text)?),
        })
    }

    /// The height that is meant; it need not exist.
    pub fn height(self, chain: &ChainReader) -> u64 {
        match self {
            Self::Latest | Self::Pending => chain.head().block.block.number(),
            Self::Safe => chain.head().safe.0,
            Self::Finalized => chain.head().finalized.0,
            Self::Earliest => 0,
            Self::Number(number) => number,
        }
    }
}

/// A hexadecimal quantity in geth's words for what can be wrong with it.
pub fn parse_quantity(text: &str) -> Result<u64, &'static str> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        return Err(if text.is_empty() {
            "empty hex string"
        } else {
            "hex string without 0x prefix"
        });
    };
    if digits.is_empty() {
        return Err("hex string \"0x\"");
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err("hex number with leading zero digits");
    }
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("invalid hex string");
    }
    u64::from_str_radix(digits, 16).map_err(|_| "hex number > 64 bits")
}

impl<'de> Deserialize<'de> for BlockNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = BlockNumber;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block number or tag as a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BlockNumber, E> {
                BlockNumber::parse(text.trim()).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for BlockRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RefVisitor)
    }
}

struct RefVisitor;

impl<'de> Visitor<'de> for RefVisitor {
    type Value = BlockRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a block number, tag or hash, or an object with blockNumber or blockHash")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<BlockRef, E> {
        if text.len() == 66 {
            let hash = text.parse().map_err(|_| E::custom("invalid hex string"))?;
            return Ok(BlockRef::Hash { hash, require_canonical: false });
        }
        BlockNumber::parse(text.trim()).map(BlockRef::Number).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BlockRef, A::Error> {
        let (mut number, mut hash, mut require_canonical) = (None, None, false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "blockNumber" => number = map.next_value::<Option<BlockNumber>>()?,
                "blockHash" => hash = map.next_value::<Option<B256>>()?,
                "requireCanonical" => {
                    require_canonical = map.next_value::<Option<bool>>()?.unwrap_or_default();
                }
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        match (number, hash) {
            (Some(_), Some(_)) => Err(A::Error::custom(
                "cannot specify both BlockHash and BlockNumber, choose one or the other",
            )),
            (Some(number), None) => Ok(BlockRef::Number(number)),
            (None, Some(hash)) => Ok(BlockRef::Hash { hash, require_canonical }),
            (None, None) => {
                Err(A::Error::custom("invalid arguments; neither block nor hash specified"))
            }
        }
    }
}

impl BlockRef {
    /// The block, if there is one.
    pub fn find(self, chain: &ChainReader) -> Outcome<Option<Arc<StoredBlock>>> {
        let number = match self {
            Self::Hash { hash, require_canonical } => {
                let found = chain.block(hash).map_err(unreadable)?;
                if found.is_some()
                    && require_canonical
                    && !chain.is_canonical(hash).map_err(unreadable)?
                {
                    return Err(server_error("hash is not currently canonical"));
                }
                return Ok(found);
            }
            Self::Number(number) => number,
        };
        let head = chain.head();
        let at_head = match number {
            BlockNumber::Latest | BlockNumber::Pending => true,
            BlockNumber::Number(number) => number == head.block.block.number(),
            _ => false,
        };
        if at_head {
            return Ok(Some(head.block.clone()));
        }
        chain.block_at(number.height(chain)).map_err(unreadable)
    }

    /// The block, or `header not found`.
    pub fn block(self, chain: &ChainReader) -> Outcome<Arc<StoredBlock>> {
        self.find(chain)?.ok_or_else(header_not_found)
    }

    /// The block and the state after it; at `latest` with the changes made outside transactions.
    pub fn state(self, chain: &ChainReader) -> Outcome<(Arc<StoredBlock>, StateView)> {
        let block = self.block(chain)?;
        let state = match self {
            Self::Number(BlockNumber::Latest | BlockNumber::Pending) => chain.latest_state(),
            _ => chain.state(block.block.hash()).map_err(|e| server_error(e.to_string()))?,
        };
        Ok((block, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<BlockRef, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    #[test]
    fn reads_tags_numbers_hashes_and_objects() {
        let number = |n| BlockRef::Number(BlockNumber::Number(n));
        assert_eq!(parse(r#""latest""#).unwrap(), BlockRef::default());
        assert_eq!(parse(r#""0x1b""#).unwrap(), number(0x1b));
        assert_eq!(parse(r#"{"blockNumber":"0x1b"}"#).unwrap(), number(0x1b));
        let hash = B256::repeat_byte(7);
        assert_eq!(
            parse(&format!(r#""{hash}""#)).unwrap(),
            BlockRef::Hash { hash, require_canonical: false }
        );
        assert_eq!(
            parse(&format!(r#"{{"blockHash":"{hash}","requireCanonical":true}}"#)).unwrap(),
            BlockRef::Hash { hash, require_canonical: true }
        );
    }

    #[test]
    fn refuses_what_geth_refuses_in_its_words() {
        for (json, words) in [
            (r#""2""#, "hex string without 0x prefix"),
            (r#""0x""#, "hex string \"0x\""),
            (r#""0x01""#, "hex number with leading zero digits"),
            (r#""0xzz""#, "invalid hex string"),
            (r#""0x10000000000000000""#, "hex number > 64 bits"),
            (r#""newest""#, "hex string without 0x prefix"),
            (r#"{}"#, "neither block nor hash specified"),
            (r#"7"#, "a block number, tag or hash"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(words), "{json}: {error}");
        }
        let hash = B256::ZERO;
        let both = format!(r#"{{"blockHash":"{hash}","blockNumber":"0x1"}}"#);
        assert!(parse(&both).unwrap_err().contains("cannot specify both"));
    }
}
