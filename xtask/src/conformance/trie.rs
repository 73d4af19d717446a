//! Ethereum's trie tests: the root over pairs of keys and values, put and deleted in order.
//!
//! Values are of any form, so only the trie for any keys takes them; the trie of the state, which
//! holds accounts and slots, is under test in the blockchain tests.

use super::{Failure, Options, Tally, archive, for_each_file, read_json};
use alloy_primitives::{B256, hex, keccak256};
use landfall_chain::trie::root;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Runs the trie tests of the archive `eth-misc`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("eth-misc")? else { return Ok(None) };
    let folder = folder.join("eth-misc").join("TrieTests");
    let files = archive::json_files(&folder)?;
    Ok(Some(for_each_file(&files, |file, tally| run_file(file, options, tally))))
}

#[derive(Deserialize)]
struct Test {
    #[serde(rename = "in")]
    input: Value,
    /// Missing in tests of a cursor over the keys, which no trie here has.
    root: Option<B256>,
}

/// A key, and what it is set to; empty deletes it.
type Pair = (Vec<u8>, Vec<u8>);

fn run_file(file: &Path, options: &Options, tally: &mut Tally) {
    let short = file.file_stem().unwrap_or_default().to_string_lossy();
    let tests: BTreeMap<String, Test> = match read_json(file) {
        Ok(tests) => tests,
        Err(reason) => return tally.count(short, Err(reason)),
    };
    let secure = short.to_lowercase().contains("secure");
    for (name, test) in &tests {
        let case = format!("{short} {name}");
        match test.root {
            _ if !options.selects(&case) => {}
            Some(root) => tally.count(case, check(&test.input, root, secure)),
            None => tally.skip(),
        }
    }
}

fn check(input: &Value, want: B256, secure: bool) -> Result<(), String> {
    let mut entries = BTreeMap::new();
    for (key, value) in pairs(input)? {
        let key = if secure { keccak256(key).to_vec() } else { key };
        entries.insert(key, value);
    }
    let have = root(&entries);
    if have != want {
        return Err(format!("root is {have}, want {want}"));
    }
    Ok(())
}

fn pairs(input: &Value) -> Result<Vec<Pair>, String> {
    let malformed = || format!("not a list of pairs: {input}");
    match input {
        Value::Object(pairs) => {
            pairs.iter().map(|(key, value)| Ok((bytes(key)?, text(value)?))).collect()
        }
        Value::Array(pairs) => pairs
            .iter()
            .map(|pair| match pair.as_array().map(Vec::as_slice) {
                Some([key, value]) => Ok((text(key)?, text(value)?)),
                _ => Err(malformed()),
            })
            .collect(),
        _ => Err(malformed()),
    }
}

fn text(value: &Value) -> Result<Vec<u8>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => bytes(text),
        other => Err(format!("neither text nor null: {other}")),
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix("0x") {
        Some(digits) => hex::decode(digits).map_err(|e| format!("{text}: {e}")),
        None => Ok(text.as_bytes().to_vec()),
    }
}
