//! What `cargo metadata` says about the workspace, as far as the checks read it.

use serde::Deserialize;
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The output of `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

/// One package: a member of the workspace or a dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// An SPDX expression, or the older `A/B`.
    pub(crate) license: Option<String>,
    /// Absent for a package that is found by its path.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
    #[cfg(test)]
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a manifest's `[dependencies]`, of whatever kind (normal, dev, build).
#[cfg(test)]
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Set for a dependency that is found by its path.
    pub(crate) path: Option<PathBuf>,
}

/// The directory of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

impl Metadata {
    /// The members only; needs neither network nor downloaded crates.
    #[cfg(test)]
    pub(crate) fn members() -> Result<Self, Box<dyn Error>> {
        Self::read(&["--no-deps", "--offline"])
    }

    /// The members and every dependency on every platform.
    pub(crate) fn all() -> Result<Self, Box<dyn Error>> {
        Self::read(&["--locked"])
    }

    fn read(arguments: &[&str]) -> Result<Self, Box<dyn Error>> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1"])
            .args(arguments)
            .current_dir(root())
            .output()?;
        if !output.status.success() {
            return Err(
                format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into()
            );
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
