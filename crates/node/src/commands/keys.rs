//! `landfall keys`: the two keys of a validator, made where they will be used.

use crate::failure::Failure;
use crate::key_files::{KeyDirectory, node_key, read_node_key, unlock};
use crate::password;
use landfall_types::{Validator, Weight};
use landfall_wallet::{ScryptCost, Signer};
use std::path::PathBuf;

/// Makes and shows the keys of a validator
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    New(New),
    Import(Import),
    Show(Show),
}

/// Makes a voting key (an encrypted V3 keystore) and a node key
#[derive(Debug, clap::Args)]
struct New {
    #[command(flatten)]
    place: Place,
}

/// Takes over a voting key that exists, and makes a node key
#[derive(Debug, clap::Args)]
struct Import {
    #[command(flatten)]
    place: Place,
    /// A file with the private key: 64 hex digits
    #[arg(long, value_name = "FILE")]
    private_key_file: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The directory for validator.json, node.key and public.json
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What people call the validator
    #[arg(long)]
    name: Option<String>,
    /// Where peers reach its node
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// A file with the password of the keystore; without it, and without LANDFALL_PASSWORD, the
    /// terminal asks
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

/// Shows the public part of a directory of keys, and whether its files belong together
#[derive(Debug, clap::Args)]
struct Show {
    /// A directory that `keys new` made
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Decrypts the voting key too, to see that the password is right
    #[arg(long)]
    unlock: bool,
    /// A file with the password, for --unlock; else LANDFALL_PASSWORD or the terminal
    #[arg(long, value_name = "FILE", requires = "unlock")]
    password_file: Option<PathBuf>,
}

/// Does what the subcommand says.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::New(new) => make(&new.place, || Signer::random().map_err(Failure::refused)),
        Command::Import(import) => make(&import.place, || read_node_key(&import.private_key_file)),
        Command::Show(show) => {
            let directory = KeyDirectory::new(&show.directory);
            let public = directory.read()?;
            if show.unlock {
                let voting = unlock(&directory.validator(), show.password_file.as_deref())?;
                if voting.address() != public.id {
                    return Err(Failure::refused(format!(
                        "{} holds the key of {}, {} says {}",
                        directory.validator().display(),
                        voting.address(),
                        directory.public().display(),
                        public.id
                    )));
                }
            }
            print(&public);
            Ok(())
        }
    }
}

fn make(place: &Place, voting: impl FnOnce() -> Result<Signer, Failure>) -> Result<(), Failure> {
    let directory = KeyDirectory::new(&place.out);
    directory.expect_empty()?;
    let voting = voting()?;
    let node = Signer::random().map_err(Failure::refused)?;
    let public = Validator {
        id: voting.address(),
        node_key: node_key(&node),
        weight: Weight(1),
        address: place.address.clone(),
        name: place.name.clone(),
    };
    // What others could not read later is refused now.
    Validator::from_json(&public.to_json().to_string()).map_err(Failure::refused)?;
    let password = password::new(place.password_file.as_deref())?;
    directory.create(&voting, &node, (&password, ScryptCost::STANDARD), &public)?;
    print(&public);
    println!();
    println!("{}  the voting key, encrypted; keep a copy", directory.validator().display());
    println!("{}  the node key; readable by you alone", directory.node().display());
    println!("{}  give this one to whoever assembles the genesis", directory.public().display());
    Ok(())
}

fn print(validator: &Validator) {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    println!("name      {}", or_none(&validator.name));
    println!("id        {}", validator.id);
    println!("node key  {}", validator.node_key);
    println!("address   {}", or_none(&validator.address));
}
