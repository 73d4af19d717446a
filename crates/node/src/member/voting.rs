//! What a voting key may forget, and what it must not.
//!
//! A validator that has lost its records could contradict a vote that it does not remember, and
//! would count as a liar. So the key itself remembers from where it votes: before the first vote of
//! an epoch, a note beside the key file is made durable that names the chain, the epoch and the
//! data directory. A node whose records are not those does not vote in that epoch. In a later one
//! it may: votes of different epochs never contradict each other.
//!
//! What this does not see: a data directory that was put back to an older copy of itself.

use alloy_primitives::B256;
use landfall_replica::{KeySigner, Refused, Signer};
use landfall_types::{NodeId, Signature, Vote};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
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
             directory, or let the others take this validator out of the committee and join again \
             with another key (`landfall keys new`). Until then this node follows and does not \
             vote",
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
    let mut name = key.file_name().unwrap_or_default().to_owned();
    name.push(".voting");
    key.with_file_name(name)
}

/// A key in this process that notes from where it votes.
pub struct NotingSigner {
    signer: KeySigner,
    path: PathBuf,
    /// What the next note says, but for its epoch.
    next: Note,
    noted: Mutex<Option<Note>>,
}

impl NotingSigner {
    /// The key of the file `key` on the chain and the records that `next` names; `noted` is what
    /// lies beside it.
    pub fn new(signer: KeySigner, key: &Path, noted: Option<Note>, next: Note) -> Self {
        Self { signer, path: path_beside(key), next, noted: Mutex::new(noted) }
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
        write_durably(&self.path, &serde_json::to_vec_pretty(&newest).expect("a note is JSON"))?;
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
            Refused::Unavailable(format!("cannot note at {}: {error}", self.path.display()))
        })?;
        self.signer.sign(vote, chain)
    }

    fn sign_block(&self, hash: B256, chain: B256) -> Signature {
        self.signer.sign_block(hash, chain)
    }
}

/// Replaces a file: after a crash it holds the old content or the new one.
fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The identity of a data directory: random, made once, gone with the directory.
///
/// # Errors
/// If it cannot be read or made; the message names the file.
pub fn identity(directory: &Path) -> Result<B256, String> {
    let path = directory.join("identity");
    let failed = |why: String| format!("{}: {why}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| failed("it holds no identity".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| failed(error.to_string()))?;
            let identity = B256::from(bytes);
            fs::create_dir_all(directory).map_err(|error| failed(error.to_string()))?;
            write_durably(&path, format!("{identity}\n").as_bytes())
                .map_err(|error| failed(error.to_string()))?;
            Ok(identity)
        }
        Err(error) => Err(failed(error.to_string())),
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
        let key = place.join("validator.json");
        assert_eq!(Note::beside(&key), Ok(None));
        let signer = KeySigner::new(&[9; 32]).unwrap();
        let signer = NotingSigner::new(signer, &key, None, note(HERE, 0));
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
        let key = place.join("validator.json");
        let signer = KeySigner::new(&[9; 32]).unwrap();
        let signer = NotingSigner::new(signer, &key, None, note(HERE, 0));
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
