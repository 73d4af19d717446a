//! What a voting key may forget, and what it must not.
//!
//! A validator that has lost its records could contradict a vote that it does not remember, and
//! would count as a liar. So the key itself remembers from where it votes: before the first vote of
//! an epoch, a note beside the key file is made durable that names the chain, the epoch and the
//! data directory. A node whose records are not those does not vote in that epoch. In a later one
//! it may: votes of different epochs never contradict each other.
//!
//! What this does not see: a data directory that was put back to an older copy of itself.

use crate::secret_file;
use alloy_primitives::B256;
use landfall_replica::{KeySigner, Refused, Signer};
use landfall_types::{NodeId, Signature, Vote};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// From where a key votes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Note {
    /// The hash of block 0.
    pub genesis: B256,
    /// The newest epoch in which the key may have voted.
    pub epoch: u64,
    /// The identity of the data directory.
    pub records: B256,
    /// Where that was, for people.
    pub directory: PathBuf,
}

impl Note {
    /// Whether a node with these records, in this epoch, may vote with the key of this note.
    ///
    /// # Errors
    /// Why not, and how to return.
    pub fn allows(&self, genesis: B256, records: B256, epoch: u64) -> Result<(), String> {
        let Self { directory, .. } = self;
        let directory = directory.display();
        if self.genesis != genesis {
            return Err(format!(
                "this key votes on the chain {} from {directory}, and this is the chain {genesis}: \
                 make another key with `landfall keys new`",
                self.genesis
            ));
        }
        if self.records == records || epoch > self.epoch {
            return Ok(());
        }
        Err(format!(
            "this key has voted in epoch {} from {directory}, and the records of those votes are \
             not here: voting without them could contradict them. Start the node on that \
             directory. If it is lost, so is this validator's vote in this epoch: the node follows \
             and does not vote",
            self.epoch
        ))
    }

    /// The note beside a key file; `None` if the key has never voted.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn beside(key: &Path) -> Result<Option<Self>, String> {
        let path = path_beside(key);
        let unreadable = |why: String| {
            format!(
                "{}: {why}; it says from where the key has voted, so do not remove it: put it back \
                 from a copy, or make another key",
                path.display()
            )
        };
        match fs::read(&path) {
            Ok(bytes) => {
                let note = serde_json::from_slice(&bytes);
                Ok(Some(note.map_err(|error| unreadable(error.to_string()))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }
}

fn path_beside(key: &Path) -> PathBuf {
    name_beside(key, ".voting")
}

fn name_beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// The right to note from where a key votes. No other process of this machine has it.
pub struct Notebook {
    path: PathBuf,
    _lock: File,
}

impl Notebook {
    /// Of the key in a file.
    ///
    /// # Errors
    /// If another process has it, or if no note could be written beside the key.
    pub fn open(key: &Path) -> Result<Self, String> {
        check_writable(key)?;
        // A file of its own: the key may be replaced by another file of its name, and network file
        // systems lock only what is open for writing.
        let path = name_beside(key, ".lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => format!(
                "another process votes with the key {}: stop it, or give each node a key of its own",
                key.display()
            ),
            TryLockError::Error(error) => format!("cannot lock {}: {error}", path.display()),
        })?;
        Ok(Self { path: path_beside(key), _lock: file })
    }
}

/// Whether a note could be written beside a key.
///
/// # Errors
/// Why not.
pub fn check_writable(key: &Path) -> Result<(), String> {
    let directory = directory_of(key);
    secret_file::check_writable(directory).map_err(|error| {
        format!(
            "cannot write to {}: {error}; a node notes beside its key from where it votes",
            directory.display()
        )
    })
}

/// A key in this process that notes from where it votes.
pub struct NotingSigner {
    signer: KeySigner,
    notebook: Notebook,
    /// What the next note says, but for its epoch.
    next: Note,
    noted: Mutex<Option<Note>>,
}

impl NotingSigner {
    /// A key on the chain and the records that `next` names; `noted` is what lies beside it.
    pub fn new(signer: KeySigner, notebook: Notebook, noted: Option<Note>, next: Note) -> Self {
        Self { signer, notebook, next, noted: Mutex::new(noted) }
    }

    /// Notes an epoch durably, unless that was done.
    fn note(&self, epoch: u64) -> io::Result<()> {
        let mut noted = self.noted.lock();
        let next = Note { epoch, ..self.next.clone() };
        // A vote of an epoch that has ended is repeated at most: it was noted then.
        let newest = Note { epoch: noted.as_ref().map_or(epoch, |it| it.epoch.max(epoch)), ..next };
        if noted.as_ref() == Some(&newest) {
            return Ok(());
        }
        write_durably(
            &self.notebook.path,
            &serde_json::to_vec_pretty(&newest).expect("a note is JSON"),
        )?;
        *noted = Some(newest);
        Ok(())
    }
}

impl Signer for NotingSigner {
    fn id(&self) -> NodeId {
        self.signer.id()
    }

    fn sign(&self, vote: &Vote, chain: B256) -> Result<Signature, Refused> {
        self.note(vote.position.epoch).map_err(|error| {
            Refused::Unavailable(format!(
                "cannot note at {}: {error}",
                self.notebook.path.display()
            ))
        })?;
        self.signer.sign(vote, chain)
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.signer.sign_block(hash, chain)
    }
}

/// Replaces a file: after a crash it holds the old content or the new one.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = name_beside(path, ".new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The identity of a data directory: random, made once, gone with the directory.
///
/// # Errors
/// If it cannot be read or made; the message names the file.
pub fn identity(directory: &Path) -> Result<B256, String> {
    if let Some(identity) = stored_identity(directory)? {
        return Ok(identity);
    }
    let path = directory.join(IDENTITY);
    let failed = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
    let identity = B256::from(bytes);
    fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    write_durably(&path, format!("{identity}\n").as_bytes()).map_err(|error| failed(&error))?;
    Ok(identity)
}

/// The name of the file with the identity.
const IDENTITY: &str = "identity";

/// The identity that a data directory has, if it has one.
///
/// # Errors
/// If it cannot be read; the message names the file.
pub fn stored_identity(directory: &Path) -> Result<Option<B256>, String> {
    let path = directory.join(IDENTITY);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(identity) => Ok(Some(identity)),
            Err(_) => Err(format!("{}: it holds no identity", path.display())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfall_types::{Height, Position, Step};

    const CHAIN: B256 = B256::repeat_byte(1);
    const HERE: B256 = B256::repeat_byte(2);
    const ELSEWHERE: B256 = B256::repeat_byte(3);

    fn note(records: B256, epoch: u64) -> Note {
        Note { genesis: CHAIN, epoch, records, directory: "/srv/alpha".into() }
    }

    fn vote(epoch: u64, round: u64) -> Vote {
        let position = Position { epoch, step: Step::Prepare, height: Height(5), round };
        Vote { position, hash: B256::repeat_byte(9), context: B256::ZERO }
    }

    fn directory(name: &str) -> PathBuf {
        let name = format!("landfall-voting-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn key_file(place: &Path) -> PathBuf {
        let key = place.join("validator.json");
        fs::write(&key, "{}").unwrap();
        key
    }

    fn signer(key: &Path) -> NotingSigner {
        let notebook = Notebook::open(key).unwrap();
        NotingSigner::new(KeySigner::new(&[9; 32]).unwrap(), notebook, None, note(HERE, 0))
    }

    #[test]
    fn a_key_votes_in_one_process_and_where_it_can_note_that() {
        let place = directory("lock");
        let key = key_file(&place);
        let first = signer(&key);
        let why = Notebook::open(&key).err().expect("it is taken");
        assert!(why.contains("another process votes with the key"), "{why}");
        drop(first);
        drop(Notebook::open(&key).unwrap());
        // As in a directory that cannot be written: the name of the probe is taken.
        fs::create_dir(place.join(format!(".landfall-probe-{}", std::process::id()))).unwrap();
        let why = Notebook::open(&key).err().expect("no note could be written");
        assert!(why.contains("notes beside its key"), "{why}");
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn other_records_vote_in_a_later_epoch_only_and_another_chain_never() {
        let noted = note(HERE, 4);
        assert!(noted.allows(CHAIN, HERE, 4).is_ok());
        assert!(noted.allows(CHAIN, HERE, 0).is_ok());
        let refused = noted.allows(CHAIN, ELSEWHERE, 4).unwrap_err();
        assert!(refused.contains("epoch 4 from /srv/alpha"), "{refused}");
        assert!(noted.allows(CHAIN, ELSEWHERE, 5).is_ok());
        let refused = noted.allows(B256::ZERO, HERE, 9).unwrap_err();
        assert!(refused.contains("landfall keys new"), "{refused}");
    }

    #[test]
    fn the_note_is_on_disk_before_the_first_signature_of_an_epoch() {
        let place = directory("note");
        let key = key_file(&place);
        assert_eq!(Note::beside(&key), Ok(None));
        let signer = signer(&key);
        signer.sign(&vote(3, 0), CHAIN).unwrap();
        assert_eq!(Note::beside(&key), Ok(Some(note(HERE, 3))));
        signer.sign(&vote(7, 0), CHAIN).unwrap();
        signer.sign(&vote(3, 1), CHAIN).unwrap();
        assert_eq!(Note::beside(&key), Ok(Some(note(HERE, 7))));
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn nothing_is_signed_while_the_note_cannot_be_written() {
        let place = directory("full");
        let signer = signer(&key_file(&place));
        fs::remove_dir_all(&place).unwrap();
        let refused = signer.sign(&vote(3, 0), CHAIN).unwrap_err();
        assert!(matches!(refused, Refused::Unavailable(_)), "{refused}");
        fs::create_dir_all(&place).unwrap();
        assert!(signer.sign(&vote(3, 0), CHAIN).is_ok());
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn a_directory_keeps_its_identity_and_a_new_one_has_another() {
        let (one, two) = (directory("one"), directory("two"));
        let first = identity(&one).unwrap();
        assert_eq!(identity(&one), Ok(first));
        assert_ne!(identity(&two), Ok(first));
        fs::write(two.join("identity"), "nothing").unwrap();
        assert!(identity(&two).unwrap_err().contains("holds no identity"));
        for place in [one, two] {
            fs::remove_dir_all(place).unwrap();
        }
    }
}
