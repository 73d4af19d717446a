//! Files that must be there whole, once, and for nobody else: keys.

use crate::failure::Failure;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process;
use zeroize::Zeroizing;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone (mode 0600).
    Owner,
    /// As the umask says.
    Anybody,
}

/// Writes a new file: durable and whole, or not at all. What exists is never touched.
pub fn write_new(path: &Path, content: &[u8], readers: Readers) -> Result<(), Failure> {
    let failed = |what: &str, error: std::io::Error| {
        Failure::refused(format!("cannot {what} {}: {error}", path.display()))
    };
    let mut name = path.file_name().expect("callers name a file").to_owned();
    name.push(format!(".{}.new", process::id()));
    let temporary = path.with_file_name(name);
    let written = write_temporary(&temporary, content, readers).and_then(|()| {
        // Unlike a rename, a link never replaces what is there.
        fs::hard_link(&temporary, path)
    });
    // Whether it was linked or not, this name of the file has to go.
    let removed = fs::remove_file(&temporary);
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::refused(format!(
                "{} exists already and is not overwritten; choose another place, or move it away",
                path.display()
            )));
        }
        Err(error) => return Err(failed("write", error)),
        Ok(()) => removed.map_err(|error| failed("clean up behind", error))?,
    }
    sync_directory(path).map_err(|error| failed("sync the directory of", error))
}

fn write_temporary(path: &Path, content: &[u8], readers: Readers) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = readers;
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a directory that its owner alone may enter, unless it is there.
pub fn make_directory(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| Failure::refused(format!("cannot make {}: {error}", path.display())))
}

/// Whether files can be made in a directory.
pub fn check_writable(directory: &Path) -> std::io::Result<()> {
    let probe = directory.join(format!(".landfall-probe-{}", process::id()));
    // One may be left of a process of that number that was killed.
    File::create(&probe)?;
    match fs::remove_file(&probe) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a file of text of at most `most` bytes, in memory that is erased.
pub fn read(path: &Path, most: usize) -> Result<Zeroizing<String>, Failure> {
    let refused = |what: String| Failure::refused(format!("{}: {what}", path.display()));
    let unreadable = |error: std::io::Error| refused(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mut text = Zeroizing::new(String::new());
    let length = file.take(most as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    if length > most {
        return Err(refused(format!("is longer than {most} bytes; is it the right file?")));
    }
    Ok(text)
}

/// Whether others than its owner may read a file; `None` where that cannot be told.
pub fn others_may_read(path: &Path) -> Option<bool> {
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).ok()?);
        Some(mode & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn new_file_is_whole_and_private_and_what_exists_stays() {
        let directory = TestDirectory::new("secret-file");
        let path = directory.path().join("key");
        write_new(&path, b"first", Readers::Owner).unwrap();
        assert_eq!(others_may_read(&path), Some(false));
        let error = write_new(&path, b"second", Readers::Owner).unwrap_err().to_string();
        assert!(error.contains("exists already and is not overwritten"), "{error}");
        assert_eq!(read(&path, 5).unwrap().as_str(), "first");
        let public = directory.path().join("public");
        write_new(&public, b"x", Readers::Anybody).unwrap();
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 2, "nothing temporary is left");
    }

    #[test]
    fn long_and_missing_files_are_named() {
        let directory = TestDirectory::new("secret-file-long");
        let path = directory.path().join("key");
        assert!(read(&path, 4).unwrap_err().to_string().contains("cannot be read"));
        fs::write(&path, "12345").unwrap();
        assert!(read(&path, 4).unwrap_err().to_string().contains("longer than 4 bytes"));
        assert_eq!(read(&path, 5).unwrap().as_str(), "12345");
    }
}
