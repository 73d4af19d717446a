//! `cargo xtask dependencies`: what Landfall stands on has a free licence, comes from crates.io,
//! brings one TLS stack at most, and one version of what must be one.

use crate::metadata::{Metadata, Package, root};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

/// Licences that ask nothing of a user beyond a notice, and MPL-2.0, which binds its own files
/// only.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Libraries of the system, C++ or CMake builds, and TLS stacks beside rustls with ring.
const FORBIDDEN: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "boring-sys",
    "librocksdb-sys",
    "mbedtls",
    "native-tls",
    "openssl",
    "openssl-sys",
    "s2n-tls",
];

/// Two versions of these would be two runtimes, two stacks or two kinds of one noun.
const SINGLE: &[&str] = &[
    "alloy-consensus",
    "alloy-evm",
    "alloy-primitives",
    "fjall",
    "hyper",
    "jsonrpsee-core",
    "revm",
    "rustls",
    "tokio",
];

/// Checks every dependency and prints how many there are.
pub(crate) fn run() -> Result<(), Box<dyn Error>> {
    let metadata = Metadata::all()?;
    let found = violations(&metadata.packages);
    if !found.is_empty() {
        return Err(found.join("\n       ").into());
    }
    println!("dependencies: {} packages, licences and sources allowed", metadata.packages.len());
    Ok(())
}

fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.license {
            None => found.push(format!("{name}: names no licence")),
            Some(licence) => match allowed(licence) {
                Ok(true) => {}
                Ok(false) => found.push(format!("{name}: licence {licence} is not in the list")),
                Err(what) => found.push(format!("{name}: licence {licence}: {what}")),
            },
        }
        match &package.source {
            None if package.manifest_path.starts_with(root()) => {}
            Some(source)
                if source.starts_with("registry+") && source.ends_with("/crates.io-index") => {}
            None => found.push(format!("{name}: its path leads out of the workspace")),
            Some(source) => found.push(format!("{name}: comes from {source}, not from crates.io")),
        }
        if FORBIDDEN.contains(&package.name.as_str()) {
            found.push(format!(
                "{name}: is forbidden (cargo tree -i {} names who brings it)",
                package.name
            ));
        }
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for name in SINGLE {
        if let Some(several) = versions.get(name).filter(|versions| versions.len() > 1) {
            found.push(format!("{name}: versions {several:?}, one is allowed (cargo tree -d)"));
        }
    }
    found
}

/// Whether the list satisfies an SPDX expression. `A/B` is the older way to write `A OR B`.
fn allowed(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let verdict = any(&mut rest)?;
    if let [token, ..] = rest { Err(format!("unexpected {token}")) } else { Ok(verdict) }
}

/// `all OR all OR …`
fn any(rest: &mut &[&str]) -> Result<bool, String> {
    let mut verdict = all(rest)?;
    while let ["OR", tail @ ..] = rest {
        *rest = tail;
        verdict |= all(rest)?;
    }
    Ok(verdict)
}

/// `one AND one AND …`
fn all(rest: &mut &[&str]) -> Result<bool, String> {
    let mut verdict = one(rest)?;
    while let ["AND", tail @ ..] = rest {
        *rest = tail;
        verdict &= one(rest)?;
    }
    Ok(verdict)
}

/// A licence, a licence with an exception, or an expression in parentheses.
fn one(rest: &mut &[&str]) -> Result<bool, String> {
    match **rest {
        ["(", ref tail @ ..] => {
            *rest = tail;
            let verdict = any(rest)?;
            let [")", tail @ ..] = rest else { return Err("a parenthesis stays open".to_owned()) };
            *rest = tail;
            Ok(verdict)
        }
        [name, "WITH", exception, ref tail @ ..] => {
            *rest = tail;
            Ok(LICENCES.contains(&format!("{name} WITH {exception}").as_str()))
        }
        [name, ref tail @ ..] => {
            *rest = tail;
            Ok(LICENCES.contains(&name))
        }
        [] => Err("ends too early".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRATES_IO: &str = "registry+any/crates.io-index";

    fn package(name: &str, version: &str, license: &str, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            license: Some(license.to_owned()),
            source: source.map(str::to_owned),
            manifest_path: root().join("crates").join(name),
            dependencies: Vec::new(),
        }
    }

    fn found(packages: &[Package]) -> String {
        violations(packages).join("\n")
    }

    #[test]
    fn reads_licence_expressions() {
        for free in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0-only",
        ] {
            assert_eq!(allowed(free), Ok(true), "{free}");
        }
        for bound in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR ISC) AND AGPL-3.0", "mit"] {
            assert_eq!(allowed(bound), Ok(false), "{bound}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT ISC", "MIT)"] {
            assert!(allowed(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn accepts_a_free_crate_and_a_member() {
        let packages = [
            package("serde", "1.0.0", "MIT OR Apache-2.0", Some(CRATES_IO)),
            package("landfall-types", "0.1.0", "Apache-2.0", None),
        ];
        assert_eq!(found(&packages), "");
    }

    #[test]
    fn reports_a_licence_that_binds_or_is_not_named() {
        let mut packages = [package("a", "1.0.0", "AGPL-3.0", Some(CRATES_IO))];
        assert!(found(&packages).contains("a 1.0.0: licence AGPL-3.0 is not in the list"));
        packages[0].license = None;
        assert!(found(&packages).contains("a 1.0.0: names no licence"));
    }

    #[test]
    fn reports_a_foreign_source() {
        let git = [package("a", "1.0.0", "MIT", Some("git+https://example.org/a"))];
        assert!(found(&git).contains("not from crates.io"));
        let mut path = [package("a", "1.0.0", "MIT", None)];
        path[0].manifest_path = "/elsewhere/Cargo.toml".into();
        assert!(found(&path).contains("out of the workspace"));
    }

    #[test]
    fn reports_a_forbidden_crate_and_a_second_version() {
        let packages = [
            package("openssl-sys", "0.9.0", "MIT", Some(CRATES_IO)),
            package("tokio", "1.0.0", "MIT", Some(CRATES_IO)),
            package("tokio", "0.2.0", "MIT", Some(CRATES_IO)),
        ];
        let found = found(&packages);
        assert!(found.contains("openssl-sys 0.9.0: is forbidden"), "{found}");
        assert!(found.contains("tokio: versions"), "{found}");
    }
}
