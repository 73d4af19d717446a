//! The positional parameters of a call, read one by one with geth's words for what is wrong.

use crate::errors::{Outcome, invalid_argument, invalid_params};
use alloy_primitives::{Address, B256};
use jsonrpsee::types::Params;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

/// The parameters of one call, not yet decoded.
pub struct Arguments<'a> {
    values: Vec<&'a RawValue>,
}

impl<'a> Arguments<'a> {
    /// Splits the parameters; no parameters at all are an empty list. More than `most` are an
    /// error.
    pub fn new(params: &'a Params<'_>, most: usize) -> Outcome<Self> {
        let Some(text) = params.as_str() else {
            return Ok(Self { values: Vec::new() });
        };
        Self::from_json(text, most)
    }

    /// The same from the JSON text of the parameters.
    pub fn from_json(text: &'a str, most: usize) -> Outcome<Self> {
        if text.trim_start().starts_with('{') {
            return Err(invalid_params("non-array args"));
        }
        let values: Option<Vec<&RawValue>> = serde_json::from_str(text)
            .map_err(|e| invalid_params(format!("invalid params: {}", words(&e))))?;
        let values = values.unwrap_or_default();
        if values.len() > most {
            return Err(invalid_params(format!("too many arguments, want at most {most}")));
        }
        Ok(Self { values })
    }

    /// A parameter that must be there.
    pub fn required<T: Deserialize<'a>>(&self, position: usize) -> Outcome<T> {
        self.optional(position)?.ok_or_else(|| {
            invalid_params(format!("missing value for required argument {position}"))
        })
    }

    /// A hash that must be there.
    pub fn hash(&self, position: usize) -> Outcome<B256> {
        self.required::<Prefixed<B256>>(position).map(|hash| hash.0)
    }

    /// An address that must be there.
    pub fn address(&self, position: usize) -> Outcome<Address> {
        self.required::<Prefixed<Address>>(position).map(|address| address.0)
    }

    /// A parameter that may be missing or null.
    pub fn optional<T: Deserialize<'a>>(&self, position: usize) -> Outcome<Option<T>> {
        let Some(value) = self.values.get(position) else { return Ok(None) };
        serde_json::from_str(value.get()).map_err(|e| invalid_argument(position, words(&e)))
    }
}

/// Hex of a fixed length, which must say that it is hex: the type's own reader does not mind.
struct Prefixed<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Prefixed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        if !text.starts_with("0x") && !text.starts_with("0X") {
            return Err(D::Error::custom("hex string without 0x prefix"));
        }
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// What serde says, without the place inside the parameter, which the caller never sees.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T>(outcome: Outcome<T>) -> String {
        outcome.err().expect("must be refused").message().to_owned()
    }

    #[test]
    fn names_the_argument_that_is_wrong() {
        let arguments = Arguments::from_json(r#"["0x12", null]"#, 2).unwrap();
        let wrong = message(arguments.required::<Address>(0));
        assert!(wrong.starts_with("invalid argument 0: "), "{wrong}");
        assert!(!wrong.contains("line"), "{wrong}");
        assert_eq!(
            message(arguments.required::<Address>(1)),
            "missing value for required argument 1"
        );
        let bare = format!("[\"{}\"]", "ab".repeat(32));
        let bare = Arguments::from_json(&bare, 1).unwrap();
        assert!(message(bare.hash(0)).contains("hex string without 0x prefix"));
        assert_eq!(arguments.optional::<Address>(1).unwrap(), None);
        assert_eq!(arguments.optional::<Address>(2).unwrap(), None);
    }

    #[test]
    fn refuses_objects_and_superfluous_arguments() {
        assert_eq!(message(Arguments::from_json("{}", 2)), "non-array args");
        assert_eq!(
            message(Arguments::from_json("[1,2,3]", 2)),
            "too many arguments, want at most 2"
        );
        assert!(Arguments::from_json("null", 0).is_ok());
    }
}
