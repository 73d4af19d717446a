//! A disk in memory that behaves as badly as a real one may: on a crash it keeps what was synced
//! and a random, possibly torn part of what was not, directory entries included.
//!
//! For tests of this crate and of others. [`TestDisk`] is a handle; clones share the disk. Handles
//! of files die with the process that opened them, at [`TestDisk::crash`] and
//! [`TestDisk::restart`]. Deterministic: all chance comes from the seeds.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    sync::Arc,
};

use parking_lot::Mutex;

use super::disk::{Disk, DiskError, DiskFile, DiskLock};

/// The operations that are counted, and at which the process can be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// A directory is created.
    CreateDir,
    /// A file is created.
    Create,
    /// Bytes are written.
    Write,
    /// A file is cut or extended.
    Truncate,
    /// A file is synced.
    Sync,
    /// A directory is synced.
    SyncDir,
}

/// The disk. See the module.
#[derive(Clone)]
pub struct TestDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Default)]
struct State {
    random: SplitMix,
    /// Counts the processes; a handle of an earlier one is dead.
    process: u64,
    stopped: bool,
    locked: bool,
    operations: u64,
    stop_at: Option<u64>,
    syncs: u64,
    syncs_by_place: BTreeMap<&'static str, u64>,
    fail_sync: Option<(u64, bool)>,
    ignored_sync: Option<u64>,
    ignored_places: BTreeSet<String>,
    refused: BTreeSet<Operation>,
    capacity: Option<u64>,
    files: Vec<Content>,
    entries: BTreeMap<String, Entry>,
    durable_entries: BTreeMap<String, Entry>,
    unsynced_entries: Vec<(String, Entry)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

/// A file: what readers see, what a loss of power leaves, and the changes between the two.
#[derive(Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

impl TestDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let state = State { random: SplitMix(seed), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Another disk with the same content and the same plans, which then goes its own way.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().clone())) }
    }

    /// How many operations there have been since the disk was made.
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Stops the process in the middle of that operation (the first is 1): it and all later ones
    /// fail. [`TestDisk::crash`] or [`TestDisk::restart`] start the next process.
    pub fn stop_at(&self, operation: u64) {
        self.state.lock().stop_at = Some(operation);
    }

    /// The process has been stopped.
    pub fn stopped(&self) -> bool {
        self.state.lock().stopped
    }

    /// Power is lost and comes back.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state.lock();
        let mut random = SplitMix(seed);
        // In some moods all is kept, or nothing: else that is too rare among many changes.
        let mood = random.below(4);
        for file in &mut state.files {
            file.lose_power(&mut random, mood);
        }
        let unsynced = std::mem::take(&mut state.unsynced_entries);
        for (path, entry) in unsynced {
            if keep(&mut random, mood) {
                state.durable_entries.insert(path, entry);
            }
        }
        let orphan = |path: &str| {
            path.rsplit_once('/').is_some_and(|(dir, _)| !state.durable_entries.contains_key(dir))
        };
        let orphans: Vec<String> =
            state.durable_entries.keys().filter(|path| orphan(path)).cloned().collect();
        for path in orphans {
            state.durable_entries.remove(&path);
        }
        state.entries = state.durable_entries.clone();
        state.next_process();
    }

    /// The process is killed and started again; the operating system goes on, so nothing written
    /// is lost yet.
    pub fn restart(&self) {
        self.state.lock().next_process();
    }

    /// Refuses all operations of this kind from now on.
    pub fn refuse(&self, operation: Operation) {
        self.state.lock().refused.insert(operation);
    }

    /// Undoes [`TestDisk::refuse`].
    pub fn accept_all(&self) {
        self.state.lock().refused.clear();
    }

    /// Takes back what [`TestDisk::stop_at`], [`TestDisk::fail_sync`], [`TestDisk::ignore_sync`]
    /// and [`TestDisk::set_capacity`] have planned.
    pub fn no_more_faults(&self) {
        let mut state = self.state.lock();
        (state.stop_at, state.fail_sync) = (None, None);
        (state.ignored_sync, state.capacity) = (None, None);
    }

    /// Limits the bytes in all files together; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// The bytes in all files.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// The paths of the files that a loss of power that keeps nothing unsynced would leave.
    pub fn durable_files(&self) -> Vec<String> {
        let state = self.state.lock();
        let files = state.durable_entries.iter();
        files.filter(|(_, entry)| matches!(entry, Entry::File(_))).map(|(p, _)| p.clone()).collect()
    }

    /// Looks at what a loss of power that keeps nothing unsynced would leave of a file. `None` if
    /// it would leave no such file.
    pub fn with_durable<T>(&self, path: &str, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
        let state = self.state.lock();
        let Some(Entry::File(index)) = state.durable_entries.get(path).copied() else {
            return None;
        };
        Some(look(&state.files[index].durable))
    }

    /// Turns a bit around, both in the cache and on the medium.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip_bit(&self, path: &str, offset: usize, bit: u8) {
        let mut state = self.state.lock();
        let Some(Entry::File(index)) = state.entries.get(path).copied() else {
            panic!("no file {path}");
        };
        let file = &mut state.files[index];
        file.cached[offset] ^= 1 << bit;
        if let Some(byte) = file.durable.get_mut(offset) {
            *byte ^= 1 << bit;
        }
        for change in &mut file.unsynced {
            if let Change::Write { at, bytes } = change
                && let Some(byte) = offset.checked_sub(*at).and_then(|index| bytes.get_mut(index))
            {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Makes the n-th sync from now fail (1 is the next). With `lose`, what it should have written
    /// is still read from the cache but counts as written, as Linux does it, and is gone after a
    /// loss of power, however often it is synced again.
    pub fn fail_sync(&self, nth: u64, lose: bool) {
        let mut state = self.state.lock();
        state.fail_sync = Some((state.syncs + nth, lose));
    }

    /// Makes the n-th sync from now (1 is the next) succeed without effect.
    pub fn ignore_sync(&self, nth: u64) {
        let mut state = self.state.lock();
        state.ignored_sync = Some(state.syncs + nth);
    }

    /// Makes all syncs of this place in the program succeed without effect.
    pub fn ignore_syncs_of(&self, place: &str) {
        self.state.lock().ignored_places.insert(place.to_owned());
    }

    /// How often each place in the program has synced.
    pub fn syncs_by_place(&self) -> BTreeMap<&'static str, u64> {
        self.state.lock().syncs_by_place.clone()
    }

    fn handle(&self, state: &State, index: usize, path: &str) -> Arc<dyn DiskFile> {
        Arc::new(TestFile {
            disk: self.clone(),
            process: state.process,
            index,
            path: path.to_owned(),
        })
    }
}

impl State {
    fn next_process(&mut self) {
        self.process += 1;
        self.stopped = false;
        self.stop_at = None;
        self.locked = false;
    }

    fn alive(&self, process: u64, verb: &'static str, path: &str) -> Result<(), DiskError> {
        if self.stopped || process != self.process {
            return Err(crashed(verb, path));
        }
        Ok(())
    }

    /// Counts an operation. `true`: the process is stopped in the middle of it.
    fn begin(
        &mut self,
        process: u64,
        operation: Operation,
        verb: &'static str,
        path: &str,
    ) -> Result<bool, DiskError> {
        self.alive(process, verb, path)?;
        self.operations += 1;
        if self.refused.contains(&operation) {
            return Err(DiskError::new(verb, path, ErrorKind::PermissionDenied, "refused"));
        }
        self.stopped = self.stop_at == Some(self.operations);
        Ok(self.stopped)
    }

    fn begin_sync(
        &mut self,
        process: u64,
        operation: Operation,
        path: &str,
        why: &'static str,
    ) -> Result<SyncFate, DiskError> {
        if self.begin(process, operation, "sync", path)? {
            return Err(crashed("sync", path));
        }
        self.syncs += 1;
        *self.syncs_by_place.entry(why).or_default() += 1;
        Ok(match self.fail_sync {
            Some((nth, lose)) if nth == self.syncs => SyncFate::Fail { lose },
            _ if self.ignored_sync == Some(self.syncs) => SyncFate::Ignore,
            _ if self.ignored_places.contains(why) => SyncFate::Ignore,
            _ => SyncFate::Perform,
        })
    }

    fn used(&self) -> u64 {
        self.files.iter().map(|file| file.cached.len() as u64).sum()
    }

    fn add_entry(&mut self, path: &str, entry: Entry) {
        self.entries.insert(path.to_owned(), entry);
        self.unsynced_entries.push((path.to_owned(), entry));
    }
}

enum SyncFate {
    Perform,
    Ignore,
    Fail { lose: bool },
}

fn crashed(verb: &'static str, path: &str) -> DiskError {
    DiskError::new(verb, path, ErrorKind::Other, "crashed")
}

fn io_error(path: &str) -> DiskError {
    let path = if path.is_empty() { "the disk" } else { path };
    DiskError::new("sync", path, ErrorKind::Other, "input/output error")
}

fn keep(random: &mut SplitMix, mood: u64) -> bool {
    match mood {
        0 => true,
        1 => false,
        _ => random.below(2) == 0,
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    fn lose_power(&mut self, random: &mut SplitMix, mood: u64) {
        for change in std::mem::take(&mut self.unsynced) {
            if mood >= 2 && random.below(3) == 0 {
                change.tear(random, &mut self.durable);
            } else if keep(random, mood) {
                change.apply(&mut self.durable);
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Truncate(len) => content.resize(*len, 0),
            Self::Write { at, bytes } => write(content, *at, bytes),
        }
    }

    /// Applies a part: up to a byte, or every other piece of it.
    fn tear(&self, random: &mut SplitMix, content: &mut Vec<u8>) {
        let Self::Write { at, bytes } = self else { return };
        if random.below(2) == 0 {
            let kept = random.below(bytes.len() as u64 + 1) as usize;
            return write(content, *at, &bytes[..kept]);
        }
        let piece = [8, 64, 512][random.below(3) as usize];
        for (index, part) in bytes.chunks(piece).enumerate() {
            if random.below(2) == 0 {
                write(content, at + index * piece, part);
            }
        }
    }
}

fn write(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk for TestDisk {
    fn create_dir(&self, dir: &str) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let process = state.process;
        let stop = state.begin(process, Operation::CreateDir, "create directory", dir)?;
        if !state.entries.contains_key(dir) {
            state.add_entry(dir, Entry::Directory);
        }
        if stop { Err(crashed("create directory", dir)) } else { Ok(()) }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let state = self.state.lock();
        state.alive(state.process, "list directory", dir)?;
        if !dir.is_empty() && state.entries.get(dir) != Some(&Entry::Directory) {
            return Err(DiskError::new("list directory", dir, ErrorKind::NotFound, "not there"));
        }
        let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        let names = state.entries.keys().filter_map(|path| path.strip_prefix(&prefix));
        Ok(names.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let mut state = self.state.lock();
        let process = state.process;
        let stop = state.begin(process, Operation::Create, "create", path)?;
        let failed = |kind, reason| Err(DiskError::new("create", path, kind, reason));
        if state.entries.contains_key(path) {
            return failed(ErrorKind::AlreadyExists, "it exists");
        }
        if let Some((dir, _)) = path.rsplit_once('/')
            && state.entries.get(dir) != Some(&Entry::Directory)
        {
            return failed(ErrorKind::NotFound, "no such directory");
        }
        let index = state.files.len();
        state.files.push(Content::default());
        state.add_entry(path, Entry::File(index));
        if stop { Err(crashed("create", path)) } else { Ok(self.handle(&state, index, path)) }
    }

    fn open(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.state.lock();
        state.alive(state.process, "open", path)?;
        match state.entries.get(path) {
            Some(Entry::File(index)) => Ok(self.handle(&state, *index, path)),
            _ => Err(DiskError::new("open", path, ErrorKind::NotFound, "no such file")),
        }
    }

    fn sync_dir(&self, dir: &str, why: &'static str) -> Result<(), DiskError> {
        let mut state = self.state.lock();
        let process = state.process;
        let fate = state.begin_sync(process, Operation::SyncDir, dir, why)?;
        match fate {
            SyncFate::Ignore => return Ok(()),
            // Entries stand in a journal: they are not lost by the failure.
            SyncFate::Fail { .. } => return Err(io_error(dir)),
            SyncFate::Perform => {}
        }
        let (inside, others): (Vec<_>, Vec<_>) = std::mem::take(&mut state.unsynced_entries)
            .into_iter()
            .partition(|(path, _)| path.rsplit_once('/').map_or("", |(parent, _)| parent) == dir);
        state.unsynced_entries = others;
        state.durable_entries.extend(inside);
        Ok(())
    }

    fn lock(&self) -> Result<DiskLock, DiskError> {
        let mut state = self.state.lock();
        state.alive(state.process, "lock", "disk")?;
        if std::mem::replace(&mut state.locked, true) {
            let reason = "it is in use by another process";
            return Err(DiskError::new("lock", "disk", ErrorKind::WouldBlock, reason));
        }
        Ok(DiskLock::new(Unlock { disk: self.clone(), process: state.process }))
    }

    fn random(&self) -> u64 {
        self.state.lock().random.next()
    }

    fn display(&self, path: &str) -> String {
        path.to_owned()
    }
}

struct Unlock {
    disk: TestDisk,
    process: u64,
}

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if state.process == self.process {
            state.locked = false;
        }
    }
}

struct TestFile {
    disk: TestDisk,
    process: u64,
    index: usize,
    path: String,
}

impl DiskFile for TestFile {
    fn size(&self) -> Result<u64, DiskError> {
        let state = self.disk.state.lock();
        state.alive(self.process, "read the length of", &self.path)?;
        Ok(state.files[self.index].cached.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let state = self.disk.state.lock();
        state.alive(self.process, "read", &self.path)?;
        let content = &state.files[self.index].cached;
        let from = content.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(buffer.len());
        buffer[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.disk.state.lock();
        let stop = state.begin(self.process, Operation::Write, "write", &self.path)?;
        let at = offset as usize;
        let room = state.capacity.map_or(u64::MAX, |capacity| {
            capacity.saturating_sub(state.used()) + state.files[self.index].cached.len() as u64
        });
        let fits = bytes.len().min(room.saturating_sub(offset).try_into().unwrap_or(usize::MAX));
        let written = if stop { state.random.below(fits as u64 + 1) as usize } else { fits };
        let change = Change::Write { at, bytes: bytes[..written].to_vec() };
        if written > 0 {
            state.files[self.index].change(change);
        }
        if stop {
            return Err(crashed("write", &self.path));
        }
        if fits < bytes.len() {
            let reason = "no space left on device";
            return Err(DiskError::new("write", &self.path, ErrorKind::StorageFull, reason));
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        let mut state = self.disk.state.lock();
        let stop = state.begin(self.process, Operation::Truncate, "truncate", &self.path)?;
        state.files[self.index].change(Change::Truncate(len as usize));
        if stop { Err(crashed("truncate", &self.path)) } else { Ok(()) }
    }

    fn sync(&self, why: &'static str) -> Result<(), DiskError> {
        let mut state = self.disk.state.lock();
        let fate = state.begin_sync(self.process, Operation::Sync, &self.path, why)?;
        let file = &mut state.files[self.index];
        match fate {
            SyncFate::Perform => file.sync(),
            SyncFate::Ignore => {}
            SyncFate::Fail { lose } => {
                if lose {
                    file.unsynced.clear();
                }
                return Err(io_error(&self.path));
            }
        }
        Ok(())
    }
}

/// SplitMix64: a small generator for tests, the same on every machine.
#[derive(Debug, Clone, Default)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
