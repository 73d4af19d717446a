//! A small disk of one node, which can be filled and freed: a file system in memory with a bound.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the disk.
const CAPACITY: u64 = 512 << 20;

/// See the module.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts it on a directory. Without the privilege to mount there is none: then a line says so,
    /// unless `LANDFALL_ROOT_REQUIRED=1`, where it is an error.
    pub fn mount(path: &Path) -> Option<Self> {
        std::fs::create_dir_all(path).expect("the directory can be made");
        let options = format!("size={CAPACITY}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "landfall-test"])
            .arg(path)
            .output();
        let problem = match mount {
            Ok(output) if output.status.success() => return Some(Self { path: path.to_owned() }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let required = std::env::var_os("LANDFALL_ROOT_REQUIRED").is_some_and(|it| it == "1");
        assert!(!required, "no small disk can be mounted: {problem}");
        println!("skipped: filling a disk needs the privilege to mount one ({problem})");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) {
        let mut file = File::create(self.ballast()).expect("an empty file fits");
        let zeros = vec![0; 1 << 16];
        let mut written = 0;
        // Smaller and smaller, until not a byte fits.
        for size in [1 << 16, 1 << 12, 1] {
            while written <= CAPACITY && file.write_all(&zeros[..size]).is_ok() {
                written += size as u64;
            }
        }
        assert!(written <= CAPACITY, "the disk takes more than it has");
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still uses it keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
