//! The archives of public test data, unpacked once into the target directory.

use super::Failure;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::UNIX_EPOCH,
};

/// The folder that an archive unpacks to; `None` without vectors, unless
/// `LANDFALL_VECTORS_REQUIRED` is `1`.
pub fn unpack(name: &str) -> Result<Option<PathBuf>, Failure> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let vectors = match std::env::var_os("LANDFALL_VECTORS") {
        Some(folder) => PathBuf::from(folder),
        None => workspace.join("../shared/vectors"),
    };
    let archive = vectors.join(format!("{name}.tar.zst"));
    let Ok(metadata) = fs::metadata(&archive) else {
        if std::env::var("LANDFALL_VECTORS_REQUIRED").is_ok_and(|v| v == "1") {
            let place = archive.display();
            return Err(Failure(format!("{place} is missing; set LANDFALL_VECTORS to its folder")));
        }
        return Ok(None);
    };
    let modified = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let stamp = format!("{} {}", metadata.len(), modified.map_or(0, |t| t.as_nanos()));
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), PathBuf::from);
    let folder = target.join("vectors").join(name);
    let stamp_file = target.join("vectors").join(format!("{name}.stamp"));
    if fs::read_to_string(&stamp_file).is_ok_and(|s| s == stamp) && folder.is_dir() {
        return Ok(Some(folder));
    }
    extract(&archive, &folder)?;
    fs::write(&stamp_file, stamp).map_err(|e| Failure::at(&stamp_file, &e))?;
    Ok(Some(folder))
}

/// Unpacks beside the folder and renames, so that a half of an archive is never taken for it.
fn extract(archive: &Path, folder: &Path) -> Result<(), Failure> {
    let part = folder.with_extension(format!("{}.part", std::process::id()));
    fs::create_dir_all(&part).map_err(|e| Failure::at(&part, &e))?;
    let output = Command::new("tar")
        .arg("--zstd")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(&part)
        .output()
        .map_err(|e| Failure(format!("cannot run `tar`: {e}; install tar and zstd")))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        let reason = reason.trim();
        return Err(Failure(format!(
            "`tar --zstd -xf {}` failed: {reason}; is `zstd` installed?",
            archive.display()
        )));
    }
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|e| Failure::at(folder, &e))?;
    }
    fs::rename(&part, folder).map_err(|e| Failure::at(folder, &e))
}

/// All files below a folder whose names end in `.json`, sorted.
pub fn json_files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Failure::at(&folder, &e))? {
            let path = entry.map_err(|e| Failure::at(&folder, &e))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "json") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
