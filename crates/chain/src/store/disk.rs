//! The few file operations that the ledger needs, as a trait with two users: [`OsDisk`], which is
//! the operating system, and [`TestDisk`](super::TestDisk), which forgets what was not synced.
//!
//! Paths are relative to the data directory and use `/`; the empty path is the directory itself.
//! Nothing here retries, buffers or caches. A file is written only by the process that holds
//! [`Disk::lock`].

use std::{
    any::Any,
    collections::hash_map::RandomState,
    fs::{self, File, OpenOptions, TryLockError},
    hash::{BuildHasher, Hasher},
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file operation that did not succeed: what was tried, on which path, and why it failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {operation} {path}: {reason}{}", self.advice())]
pub struct DiskError {
    /// What was tried, as a verb phrase: `write`, `sync`.
    pub operation: &'static str,
    /// The file or directory.
    pub path: String,
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The words of the operating system.
    pub reason: String,
}

impl DiskError {
    pub(super) fn new(
        operation: &'static str,
        path: impl Into<String>,
        kind: ErrorKind,
        reason: impl Into<String>,
    ) -> Self {
        Self { operation, path: path.into(), kind, reason: reason.into() }
    }

    fn from_io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::new(operation, path.display().to_string(), error.kind(), error.to_string())
    }

    /// The disk, or the share of it that this user may fill, is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
        )
    }

    /// Another process holds the data directory.
    pub fn is_locked(&self) -> bool {
        self.kind == ErrorKind::WouldBlock
    }

    fn advice(&self) -> &'static str {
        if self.is_full() {
            "; free some space there and start again, nothing acknowledged is lost"
        } else if self.is_locked() {
            "; stop that process, or choose another data directory"
        } else {
            ""
        }
    }
}

/// Holds the data directory against other processes until it is dropped.
pub struct DiskLock(#[expect(dead_code, reason = "held for its Drop")] Box<dyn Any + Send + Sync>);

impl DiskLock {
    pub(super) fn new(held: impl Any + Send + Sync) -> Self {
        Self(Box::new(held))
    }
}

/// A directory of files on something that may lose power.
pub trait Disk: Send + Sync {
    /// Creates a directory; one that exists is left as it is.
    fn create_dir(&self, dir: &str) -> Result<(), DiskError>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;
    /// Creates a file that must not exist. The entry is durable after [`Disk::sync_dir`].
    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Opens a file that must exist, for reading and writing.
    fn open(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError>;
    /// Makes the entries of a directory durable. `why` names the place in the program.
    fn sync_dir(&self, dir: &str, why: &'static str) -> Result<(), DiskError>;
    /// Takes the directory for this process, or says who has it.
    fn lock(&self) -> Result<DiskLock, DiskError>;
    /// A number that nobody outside can guess.
    fn random(&self) -> u64;
    /// The path as a person would write it, for messages.
    fn display(&self, path: &str) -> String;
}

/// An open file. Clones of the handle and other handles of the same file may be used at once.
pub trait DiskFile: Send + Sync {
    /// The length in bytes.
    fn size(&self) -> Result<u64, DiskError>;
    /// Reads until the buffer is full or the file ends; returns the bytes read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;
    /// Writes all bytes. After an error any part of them may be in the file.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Cuts the file, or extends it with zeros.
    fn truncate(&self, len: u64) -> Result<(), DiskError>;
    /// Makes content and length durable (`fdatasync`). `why` names the place in the program.
    fn sync(&self, why: &'static str) -> Result<(), DiskError>;
}

/// A data directory of the operating system.
#[derive(Debug, Clone)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// Opens the data directory; creates it, durably, where it is missing.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, DiskError> {
        let root = root.into();
        let missing: Vec<PathBuf> =
            root.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        fs::create_dir_all(&root)
            .map_err(|error| DiskError::from_io("create directory", &root, &error))?;
        for parent in missing.iter().filter_map(|path| path.parent()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            sync_directory(parent)?;
        }
        Ok(Self { root })
    }

    /// The data directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn open_with(
        &self,
        operation: &'static str,
        path: &str,
        options: &OpenOptions,
    ) -> Result<Arc<dyn DiskFile>, DiskError> {
        let path = self.path(path);
        let file =
            options.open(&path).map_err(|error| DiskError::from_io(operation, &path, &error))?;
        Ok(Arc::new(OsFile { file, path }))
    }
}

fn sync_directory(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| DiskError::from_io("sync directory", path, &error))
}

impl Disk for OsDisk {
    fn create_dir(&self, dir: &str) -> Result<(), DiskError> {
        let path = self.path(dir);
        match fs::create_dir(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            result => result.map_err(|error| DiskError::from_io("create directory", &path, &error)),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        let path = self.path(dir);
        let failed = |error: io::Error| DiskError::from_io("list directory", &path, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(failed)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn create(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.open_with("create", path, OpenOptions::new().read(true).write(true).create_new(true))
    }

    fn open(&self, path: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.open_with("open", path, OpenOptions::new().read(true).write(true))
    }

    fn sync_dir(&self, dir: &str, _why: &'static str) -> Result<(), DiskError> {
        sync_directory(&self.path(dir))
    }

    fn lock(&self) -> Result<DiskLock, DiskError> {
        let path = self.path("LOCK");
        let failed = |error: io::Error| DiskError::from_io("lock", &path, &error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                let reason = format!("it is in use by {holder}");
                let path = self.root.display().to_string();
                return Err(DiskError::new("lock", path, ErrorKind::WouldBlock, reason));
            }
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(DiskLock::new(file))
    }

    fn random(&self) -> u64 {
        // The keys of the standard hasher come from the operating system.
        RandomState::new().build_hasher().finish()
    }

    fn display(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

struct OsFile {
    file: File,
    path: PathBuf,
}

impl OsFile {
    fn failed(&self, operation: &'static str) -> impl Fn(io::Error) -> DiskError {
        move |error| DiskError::from_io(operation, &self.path, &error)
    }
}

impl DiskFile for OsFile {
    fn size(&self) -> Result<u64, DiskError> {
        Ok(self.file.metadata().map_err(self.failed("read the length of"))?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    fn truncate(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(self.failed("truncate"))
    }

    fn sync(&self, _why: &'static str) -> Result<(), DiskError> {
        self.file.sync_data().map_err(self.failed("sync"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("landfall-disk-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn keeps_what_is_written_and_lists_it_sorted() {
        let root = directory("keeps").join("deep/er");
        let disk = OsDisk::open(&root).unwrap();
        disk.create_dir("log").unwrap();
        disk.create_dir("log").unwrap();
        for name in ["log/b", "log/a"] {
            disk.create(name).unwrap().write_at(3, b"xyz").unwrap();
        }
        assert_eq!(disk.list("log").unwrap(), ["a", "b"]);
        let file = disk.open("log/a").unwrap();
        let mut buffer = [9; 8];
        assert_eq!(file.read_at(1, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0\0xyz");
        file.truncate(4).unwrap();
        file.sync("test").unwrap();
        disk.sync_dir("log", "test").unwrap();
        assert_eq!(file.size().unwrap(), 4);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn errors_name_the_path_and_the_operation() {
        let root = directory("errors");
        let disk = OsDisk::open(&root).unwrap();
        disk.create("there").unwrap();
        let error = disk.create("there").err().unwrap().to_string();
        assert!(error.starts_with("cannot create ") && error.contains("there: "), "{error}");
        let error = disk.open("missing").err().unwrap();
        assert_eq!(error.kind, ErrorKind::NotFound);
        assert!(error.to_string().contains("missing"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn second_lock_names_the_process_that_holds_the_first() {
        let root = directory("lock");
        let disk = OsDisk::open(&root).unwrap();
        let held = disk.lock().unwrap();
        let error = OsDisk::open(&root).unwrap().lock().err().unwrap();
        assert!(error.is_locked());
        let holder = format!("in use by process {};", std::process::id());
        assert!(error.to_string().contains(&holder), "{error}");
        drop(held);
        drop(disk.lock().unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn full_disk_is_named() {
        let error = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .and_then(|file| file.write_all_at(b"x", 0))
            .map_err(|error| DiskError::from_io("write", Path::new("/dev/full"), &error))
            .unwrap_err();
        assert!(error.is_full());
        assert!(error.to_string().contains("free some space"), "{error}");
    }
}
