//! The flags of a node: one for each setting, made from the table.

use super::settings::{SETTINGS, Setting};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Values by key; those of a list with commas between them.
    pub given: BTreeMap<String, String>,
}

/// clap keeps names for as long as the program runs.
static NAMES: LazyLock<Vec<String>> =
    LazyLock::new(|| SETTINGS.iter().map(Setting::flag).collect());

fn arguments() -> impl Iterator<Item = Arg> {
    SETTINGS.iter().zip(NAMES.iter()).map(|(setting, name)| {
        let default = (setting.default)().filter(|_| !setting.is_list);
        let default = default.map_or(String::new(), |default| format!(" [default: {default}]"));
        Arg::new(name.as_str())
            .long(name.as_str())
            .value_name("VALUE")
            .action(if setting.is_list { ArgAction::Append } else { ArgAction::Set })
            .help_heading("Settings")
            .help(format!("{}{default}", setting.doc.trim()))
    })
}

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("The configuration file (or LANDFALL_CONFIG); flags and variables go before it");
        command.arg(config).args(arguments())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        for (setting, name) in SETTINGS.iter().zip(NAMES.iter()) {
            if let Some(values) = matches.get_many::<String>(name) {
                let values: Vec<&str> = values.map(String::as_str).collect();
                self.given.insert(setting.key(), values.join(","));
            }
        }
        Ok(())
    }
}
