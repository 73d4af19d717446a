//! Ethereum's RLP tests: valid ones survive decoding and encoding, invalid ones are refused.

use super::{Failure, Options, Tally, archive, read_json};
use alloy_primitives::{Bytes, U256};
use alloy_rlp::{Encodable, Header};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Deeper nesting than any test has.
const MAX_DEPTH: usize = 1_024;

/// Runs the folder `RLPTests` of the archive `eth-misc`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("eth-misc")? else { return Ok(None) };
    let folder = folder.join("eth-misc/RLPTests");
    let mut tally = Tally::default();
    for file in archive::json_files(&folder)? {
        let tests: BTreeMap<String, Test> = read_json(&file).map_err(|e| Failure::at(&file, &e))?;
        for (name, test) in tests {
            if options.selects(&name) {
                tally.count(&name, check(&test));
            }
        }
    }
    Ok(Some(tally))
}

#[derive(Deserialize)]
struct Test {
    #[serde(rename = "in")]
    input: Value,
    out: String,
}

/// An RLP item: bytes or a list.
#[derive(Debug, PartialEq)]
enum Item {
    Bytes(Vec<u8>),
    List(Vec<Item>),
}

impl Encodable for Item {
    fn encode(&self, out: &mut dyn alloy_rlp::BufMut) {
        match self {
            Self::Bytes(bytes) => bytes.as_slice().encode(out),
            Self::List(items) => {
                let payload_length = items.iter().map(Encodable::length).sum();
                Header { list: true, payload_length }.encode(out);
                items.iter().for_each(|item| item.encode(out));
            }
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_slice().length(),
            Self::List(items) => {
                let payload = items.iter().map(Encodable::length).sum();
                payload + alloy_rlp::length_of_length(payload)
            }
        }
    }
}

fn decode(bytes: &mut &[u8], depth: usize) -> alloy_rlp::Result<Item> {
    if depth == MAX_DEPTH {
        return Err(alloy_rlp::Error::Custom("nested too deeply"));
    }
    let header = Header::decode(bytes)?;
    let (mut payload, rest) =
        bytes.split_at_checked(header.payload_length).ok_or(alloy_rlp::Error::InputTooShort)?;
    *bytes = rest;
    if !header.list {
        return Ok(Item::Bytes(payload.to_vec()));
    }
    let mut items = Vec::new();
    while !payload.is_empty() {
        items.push(decode(&mut payload, depth + 1)?);
    }
    Ok(Item::List(items))
}

fn decode_exact(bytes: &str) -> Result<Item, String> {
    let bytes: Bytes = bytes.parse().map_err(|e| format!("{e}"))?;
    let mut rest = bytes.as_ref();
    let item = decode(&mut rest, 0).map_err(|e| e.to_string())?;
    if rest.is_empty() { Ok(item) } else { Err("bytes are left over".into()) }
}

/// The item that `in` describes: `#` begins a decimal number of any size.
fn item(value: &Value) -> Result<Item, String> {
    Ok(match value {
        Value::Array(values) => Item::List(values.iter().map(item).collect::<Result<_, _>>()?),
        Value::String(text) if text.starts_with('#') => number(&text[1..])?,
        Value::String(text) => Item::Bytes(text.as_bytes().to_vec()),
        Value::Number(digits) => number(&digits.to_string())?,
        other => return Err(format!("what is {other}?")),
    })
}

fn number(digits: &str) -> Result<Item, String> {
    // The largest is 2^256: one more than fits.
    let bytes = match U256::from_str_radix(digits, 10) {
        Ok(value) => value.to_be_bytes_trimmed_vec(),
        Err(_) => alloy_primitives::U512::from_str_radix(digits, 10)
            .map_err(|e| e.to_string())?
            .to_be_bytes_trimmed_vec(),
    };
    Ok(Item::Bytes(bytes))
}

fn check(test: &Test) -> Result<(), String> {
    let decoded = decode_exact(&test.out);
    match test.input.as_str() {
        Some("INVALID") => decoded.map_or(Ok(()), |item| Err(format!("accepted as {item:?}"))),
        Some("VALID") => round_trip(&decoded?, &test.out),
        _ => {
            let (want, have) = (item(&test.input)?, decoded?);
            if want != have {
                return Err(format!("is {have:?}, want {want:?}"));
            }
            round_trip(&have, &test.out)
        }
    }
}

fn round_trip(item: &Item, want: &str) -> Result<(), String> {
    let bytes = Bytes::from(alloy_rlp::encode(item));
    if bytes.to_string() == want.to_lowercase() {
        Ok(())
    } else {
        Err(format!("encodes as {bytes}"))
    }
}
