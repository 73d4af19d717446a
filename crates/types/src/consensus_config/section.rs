//! Reading JSON objects so that a refusal names the path of the field.

use crate::{GenesisError, did_you_mean};
use alloy_primitives::U256;
use serde_json::{Map, Value};

/// One object of the file and where it stands.
pub(crate) struct Section<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The object at a path.
    pub fn new(path: impl Into<String>, value: &'a Value) -> Result<Self, GenesisError> {
        let path = path.into();
        match value.as_object() {
            Some(map) => Ok(Self { path, map }),
            None => Err(GenesisError::Invalid { field: path, reason: "must be an object".into() }),
        }
    }

    /// A refusal of one of its fields.
    pub fn invalid(&self, key: &str, reason: impl Into<String>) -> GenesisError {
        GenesisError::Invalid { field: self.path_of(key), reason: reason.into() }
    }

    /// The path of one of its fields.
    pub fn path_of(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// Whether a field is there.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Refuses fields that nobody knows.
    pub fn expect_only(&self, known: &[&str]) -> Result<(), GenesisError> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => {
                let suggestion = did_you_mean(key, known.iter().copied());
                let reason = format!("unknown{suggestion} (known: {})", known.join(", "));
                Err(self.invalid(key, reason))
            }
        }
    }

    /// True or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, GenesisError> {
        let flag = |value: &Value| {
            value.as_bool().ok_or_else(|| self.invalid(key, "must be true or false"))
        };
        self.map.get(key).map(flag).transpose()
    }

    /// A whole number, or a string that holds one, in hex after `0x`.
    pub fn number(&self, key: &str) -> Result<Option<U256>, GenesisError> {
        let number = |value: &Value| {
            let parsed = match value {
                Value::Number(number) => number.as_u64().map(U256::from),
                Value::String(text) => text.parse().ok(),
                _ => None,
            };
            parsed.ok_or_else(|| self.invalid(key, format!("{value} is not a whole number")))
        };
        self.map.get(key).map(number).transpose()
    }

    /// A whole number below 2^64.
    pub fn count(&self, key: &str) -> Result<Option<u64>, GenesisError> {
        let narrow =
            |wide: U256| wide.try_into().map_err(|_| self.invalid(key, "must be below 2^64"));
        self.number(key)?.map(narrow).transpose()
    }

    /// A string.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, GenesisError> {
        let text =
            |value: &'a Value| value.as_str().ok_or_else(|| self.invalid(key, "must be a string"));
        self.map.get(key).map(text).transpose()
    }

    /// A string that must be there; `what` says what it is for.
    pub fn required_text(&self, key: &str, what: &str) -> Result<&'a str, GenesisError> {
        self.text(key)?.ok_or_else(|| self.invalid(key, format!("is missing; {what}")))
    }

    /// An object inside.
    pub fn section(&self, key: &str) -> Result<Option<Self>, GenesisError> {
        let inside = |value| Self::new(self.path_of(key), value);
        self.map.get(key).map(inside).transpose()
    }

    /// A list of at most `most` objects; empty if it is not there.
    pub fn list(&self, key: &str, most: usize) -> Result<Vec<Self>, GenesisError> {
        let Some(value) = self.map.get(key) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.invalid(key, "must be a list"))?;
        if list.len() > most {
            return Err(
                self.invalid(key, format!("has {} entries; {most} are allowed", list.len()))
            );
        }
        let entry = |(index, value)| Self::new(format!("{}[{index}]", self.path_of(key)), value);
        list.iter().enumerate().map(entry).collect()
    }
}
