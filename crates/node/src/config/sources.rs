//! Where values come from: flags, then variables, then the file, then defaults.

use super::settings::{SETTINGS, Setting};
use super::value::{Raw, SettingValue};
use super::{ConfigError, Problem};
use crate::secret_file;
use landfall_types::did_you_mean;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The longest configuration file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag(String),
    /// A variable of the environment.
    Variable(String),
    /// A line of the file.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value that somebody gave.
#[derive(Clone, Debug)]
struct Given {
    raw: Raw,
    source: Source,
    /// Relative paths are taken from here.
    base: PathBuf,
}

/// What was given for each setting, and what is wrong with it.
#[derive(Default)]
pub(super) struct Values {
    given: BTreeMap<String, Given>,
    pub(super) problems: Vec<Problem>,
}

impl Values {
    /// Collects the values of a file, the environment and the flags; a later one wins.
    pub fn collect(
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
        flags: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut values = Self::default();
        if let Some(path) = file {
            let text = secret_file::read(path, FILE_BYTES_MAX)
                .map_err(|error| ConfigError::of("--config", error.to_string()))?;
            values.add_file(path, &text)?;
        }
        for setting in SETTINGS {
            if let Some(value) = variable(&setting.variable()) {
                values.add(setting, Raw::Untyped(value), Source::Variable(setting.variable()), "");
            }
            if let Some(value) = flags.get(&setting.key()) {
                let source = Source::Flag(setting.flag());
                values.add(setting, Raw::Untyped(value.clone()), source, "");
            }
        }
        Ok(values)
    }

    fn add(&mut self, setting: &Setting, raw: Raw, source: Source, base: impl Into<PathBuf>) {
        self.given.insert(setting.key(), Given { raw, source, base: base.into() });
    }

    /// Takes in the text of a file. Only what is no TOML at all ends it.
    fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let at = |offset: usize| Source::File(path.to_owned(), line_of(text, offset));
        let table = DeTable::parse(text).map_err(|error| {
            let source = at(error.span().map_or(0, |span| span.start));
            ConfigError::of(source, error.message().to_owned())
        })?;
        for (key, value) in table.get_ref() {
            let (name, line) = (key.get_ref().as_ref(), at(key.span().start));
            match value.get_ref() {
                DeValue::Table(section) if SETTINGS.iter().any(|it| it.section == name) => {
                    for (key, value) in section {
                        let line = at(key.span().start);
                        self.add_entry(path, name, key.get_ref(), value.get_ref(), line);
                    }
                }
                value => self.add_entry(path, "", name, value, line),
            }
        }
        Ok(())
    }

    fn add_entry(
        &mut self,
        path: &Path,
        section: &str,
        name: &str,
        value: &DeValue<'_>,
        line: Source,
    ) {
        let found = SETTINGS.iter().find(|it| it.section == section && it.name == name);
        match found {
            Some(setting) => {
                let base = path.parent().unwrap_or(Path::new(""));
                self.add(setting, raw(value), line, base);
            }
            None => self.problems.push(Problem::at(line, unknown(section, name, value))),
        }
    }

    /// The value of a setting; `None` if nobody gave one, or it cannot be read.
    pub fn read<T: SettingValue>(&mut self, section: &str, name: &str) -> Option<T> {
        let setting = SETTINGS.iter().find(|it| it.section == section && it.name == name);
        let key = setting.expect("it is in the table").key();
        let given = self.given.get(&key)?;
        match T::read(&given.raw, &given.base) {
            Ok(value) => Some(value),
            Err(reason) => {
                let message = format!("`{key}` {reason}");
                self.problems.push(Problem::at(given.source.clone(), message));
                None
            }
        }
    }

    /// Where the value of a setting comes from, and how it is shown.
    pub fn origin(&self, setting: &Setting) -> (Source, Option<String>) {
        match self.given.get(&setting.key()) {
            None => (Source::Default, (setting.default)()),
            Some(given) => {
                let shown = (setting.show)(&given.raw, &given.base).unwrap_or_default();
                (given.source.clone(), shown)
            }
        }
    }
}

fn unknown(section: &str, name: &str, value: &DeValue<'_>) -> String {
    if value.is_table() {
        let sections = SETTINGS.iter().map(|it| it.section).filter(|section| !section.is_empty());
        let suggestion = did_you_mean(name, sections);
        return format!("unknown section [{name}]{suggestion}");
    }
    let keys: Vec<String> = SETTINGS.iter().map(Setting::key).collect();
    // Nearest in its own section, then anywhere: it may stand in the wrong one.
    let own = SETTINGS.iter().filter(|it| it.section == section).map(|it| it.name);
    let mut suggestion = did_you_mean(name, own);
    if suggestion.is_empty() {
        let same = keys.iter().find(|key| key.ends_with(&format!(".{name}")));
        let all = keys.iter().map(String::as_str);
        suggestion = match same {
            Some(key) => format!("; did you mean `{key}`?"),
            None => did_you_mean(name, all),
        };
    }
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    format!("unknown key `{name}`{place}{suggestion}")
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Integer(number) => {
            let parsed = u64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Raw::Other("integer"), Raw::Number)
        }
        DeValue::Array(list) => {
            let texts = list.iter().map(|entry| entry.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>().map_or(Raw::Other("array"), Raw::List)
        }
        other => Raw::Other(other.type_str()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
