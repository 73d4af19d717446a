//! A directory for one test, removed behind it.

use std::path::{Path, PathBuf};

/// Exists until it is dropped.
pub struct TestDirectory(PathBuf);

impl TestDirectory {
    /// An empty directory; `name` is the test's own.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("landfall-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    /// Where.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What a failed test leaves behind, the system clears.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
