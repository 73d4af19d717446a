//! `eth_getLogs`: which logs a filter wants, and the search for them within limits.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::block_ref::BlockNumber;
use crate::errors::{Outcome, invalid_params, server_error, unreadable};
use crate::types;
use alloy_primitives::{Address, B256};
use alloy_rpc_types_eth::Log;
use landfall_chain::StoredBlock;
use serde::{Deserialize, Deserializer, de::Error as _};

/// Addresses in one filter, and hashes in one of its topics (geth's limit).
const MOST_ALTERNATIVES: usize = 1_000;
/// Topics that a log can have.
const MOST_TOPICS: usize = 4;

pub(crate) fn register(registry: &mut Registry) {
    registry.long("eth_getLogs", 1, |api: &Api, args: &Arguments<'_>| {
        find(api, &args.required::<LogFilter>(0)?)
    });
}

/// The blocks that a filter covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// One block, on whatever branch.
    Block(B256),
    /// From one to the other, both included; `None` is the head.
    Range(Option<BlockNumber>, Option<BlockNumber>),
}

/// Which logs are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter {
    /// In which blocks.
    pub span: Span,
    /// Of which contracts; of any, if empty.
    pub addresses: Vec<Address>,
    /// Which hashes each topic may have; any, if empty.
    pub topics: Vec<Vec<B256>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a value or a list of values of 0x-prefixed hex")]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    from_block: Option<BlockNumber>,
    to_block: Option<BlockNumber>,
    block_hash: Option<B256>,
    address: Option<OneOrMany<Address>>,
    topics: Option<Vec<Option<OneOrMany<Option<B256>>>>>,
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Raw::deserialize(deserializer)?;
        let span = match (raw.block_hash, raw.from_block, raw.to_block) {
            (Some(hash), None, None) => Span::Block(hash),
            (None, from, to) => Span::Range(from, to),
            _ => {
                return Err(D::Error::custom(
                    "cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other",
                ));
            }
        };
        let addresses = raw.address.map(OneOrMany::into_vec).unwrap_or_default();
        // A null among alternatives matches everything, and so does the whole position.
        let alternatives = |topic: Option<OneOrMany<Option<B256>>>| {
            let hashes = topic.map(OneOrMany::into_vec).unwrap_or_default();
            hashes.into_iter().collect::<Option<Vec<B256>>>().unwrap_or_default()
        };
        let topics: Vec<Vec<B256>> =
            raw.topics.unwrap_or_default().into_iter().map(alternatives).collect();
        if topics.len() > MOST_TOPICS {
            return Err(D::Error::custom("exceed max topics"));
        }
        if addresses.len() > MOST_ALTERNATIVES {
            return Err(D::Error::custom("exceed max addresses"));
        }
        if topics.iter().any(|topic| topic.len() > MOST_ALTERNATIVES) {
            return Err(D::Error::custom("exceed max topics"));
        }
        Ok(Self { span, addresses, topics })
    }
}

impl LogFilter {
    /// Whether a log is wanted, wherever it is.
    pub fn wants(&self, log: &alloy_primitives::Log) -> bool {
        let topics = log.topics();
        (self.addresses.is_empty() || self.addresses.contains(&log.address))
            && self.topics.len() <= topics.len()
            && self
                .topics
                .iter()
                .zip(topics)
                .all(|(wanted, topic)| wanted.is_empty() || wanted.contains(topic))
    }

    /// The wanted logs of one block.
    pub fn in_block<'a>(
        &'a self,
        block: &'a StoredBlock,
        removed: bool,
    ) -> impl Iterator<Item = Log> + 'a {
        let bloom = &block.block.header.logs_bloom;
        let hopeless = !self.addresses.is_empty()
            && !self.addresses.iter().any(|address| {
                bloom.contains_input(alloy_primitives::BloomInput::Raw(address.as_slice()))
            });
        let logs = (!hopeless).then(|| types::logs(block, removed));
        logs.into_iter().flatten().filter(|log| self.wants(&log.inner))
    }
}

/// All logs that a filter wants.
pub(crate) fn find(api: &Api, filter: &LogFilter) -> Outcome<Vec<Log>> {
    let chain = &api.backend.chain;
    let (from, to) = match filter.span {
        Span::Block(hash) => {
            let block = chain.block(hash).map_err(unreadable)?;
            let block = block.ok_or_else(|| server_error("unknown block"))?;
            let logs: Vec<Log> = filter.in_block(&block, false).collect();
            return Ok(logs);
        }
        Span::Range(from, to) => (from.unwrap_or_default(), to.unwrap_or_default()),
    };
    let head = chain.head().block.block.number();
    let (from, to) = (from.height(chain), to.height(chain));
    if to > head {
        return Err(invalid_params("block range extends beyond current head block"));
    }
    if from > to {
        return Err(invalid_params("invalid block range params"));
    }
    if to - from > api.config.max_log_blocks {
        let most = api.config.max_log_blocks;
        return Err(invalid_params(format!("exceed maximum block range: {most}")));
    }
    search(api, filter, from, to)
}

fn search(api: &Api, filter: &LogFilter, from: u64, to: u64) -> Outcome<Vec<Log>> {
    let chain = &api.backend.chain;
    let most = api.config.max_logs;
    let mut logs = Vec::new();
    let candidates =
        chain.log_blocks(from, to, &filter.addresses, &filter.topics).map_err(unreadable)?;
    for number in candidates {
        // A reorganisation during the search can take the block away.
        let Some(block) = chain.block_at(number).map_err(unreadable)? else { break };
        logs.extend(filter.in_block(&block, false));
        if logs.len() > most && number > from {
            return Err(invalid_params(format!(
                "query exceeds max results {most}, retry with the range {from}-{}",
                number - 1
            )));
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Bytes, LogData};

    fn filter(json: &str) -> Result<LogFilter, String> {
        serde_json::from_str(json).map_err(|e| e.to_string())
    }

    fn log(address: u8, topics: &[u8]) -> alloy_primitives::Log {
        let topics = topics.iter().map(|byte| B256::repeat_byte(*byte)).collect();
        alloy_primitives::Log {
            address: Address::repeat_byte(address),
            data: LogData::new_unchecked(topics, Bytes::new()),
        }
    }

    #[test]
    fn topics_match_by_position_with_wildcards() {
        let (a, b) = (B256::repeat_byte(1), B256::repeat_byte(2));
        let wants = |topics: &str, log: &alloy_primitives::Log| {
            filter(&format!(r#"{{"topics":{topics}}}"#)).unwrap().wants(log)
        };
        let found = log(9, &[1, 2]);
        assert!(wants("[]", &found));
        assert!(wants(&format!(r#"["{a}"]"#), &found));
        assert!(wants(&format!(r#"[null,"{b}"]"#), &found));
        assert!(wants(&format!(r#"[[],["{a}","{b}"]]"#), &found));
        assert!(wants("[[null]]", &found));
        assert!(!wants(&format!(r#"["{b}"]"#), &found));
        assert!(!wants("[null,null,null]", &found), "a third topic was asked for");
        assert!(wants("[null,null]", &found));
    }

    #[test]
    fn refuses_contradictory_and_oversized_filters() {
        let hash = B256::ZERO;
        let both = format!(r#"{{"blockHash":"{hash}","fromBlock":"0x1"}}"#);
        assert!(filter(&both).unwrap_err().contains("cannot specify both"));
        assert!(filter(r#"{"topics":[null,null,null,null,null]}"#).is_err());
        let many = vec![format!("\"{}\"", Address::ZERO); MOST_ALTERNATIVES + 1].join(",");
        let wide = format!(r#"{{"address":[{many}]}}"#);
        assert!(filter(&wide).unwrap_err().contains("exceed max addresses"));
    }
}
