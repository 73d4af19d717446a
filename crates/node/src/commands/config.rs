//! `landfall config`: what a node would run with, and what is wrong with that.

use crate::config::check::{Level, check};
use crate::config::{Flags, NodeConfig};
use crate::failure::Failure;

/// Checks and shows the configuration of a node
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Says what is wrong with a configuration and the files that it names
    Check(Flags),
    /// Prints the effective configuration, and where each value came from
    Show(Flags),
}

/// Does what the subcommand says.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Show(flags) => {
            print!("{}", NodeConfig::load(flags).map_err(Failure::refused)?.show());
            Ok(())
        }
        Command::Check(flags) => {
            let config = NodeConfig::load(flags).map_err(Failure::refused)?;
            let findings = check(&config);
            for finding in &findings {
                println!("{finding}");
            }
            let errors = findings.iter().filter(|it| it.level == Level::Error).count();
            match errors {
                0 => Ok(()),
                1 => Err(Failure::refused("a node would not start with this: 1 error, above")),
                _ => Err(Failure::refused(format!(
                    "a node would not start with this: {errors} errors, above"
                ))),
            }
        }
    }
}
