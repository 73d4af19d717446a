//! The arrows between the crates and the absences that ARCHITECTURE.md promises, kept by tests.
//!
//! The arrows are read from `cargo metadata`, the absences from the text of the sources without
//! comments and without the unit tests at the end of a file.

use crate::metadata::{Metadata, Package, root};
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate and the crates that it may name in its manifest. xtask may name any.
const ARROWS: &[(&str, &[&str])] = &[
    ("landfall-types", &[]),
    ("landfall-wallet", &[]),
    ("landfall-light", &["landfall-types"]),
    ("landfall-consensus", &["landfall-types", "landfall-light"]),
    ("landfall-evm", &["landfall-types"]),
    ("landfall-chain", &["landfall-types", "landfall-evm"]),
    ("landfall-replica", REPLICA),
    ("landfall-network", &["landfall-types"]),
    ("landfall-sim", SIM),
    ("landfall-rpc", RPC),
    ("landfall", NODE),
];

const RPC: &[&str] =
    &["landfall-types", "landfall-evm", "landfall-chain", "landfall-light", "landfall-wallet"];

const REPLICA: &[&str] =
    &["landfall-types", "landfall-evm", "landfall-chain", "landfall-light", "landfall-consensus"];

const SIM: &[&str] = &[
    "landfall-types",
    "landfall-evm",
    "landfall-chain",
    "landfall-light",
    "landfall-consensus",
    "landfall-replica",
];

const NODE: &[&str] = &[
    "landfall-types",
    "landfall-evm",
    "landfall-chain",
    "landfall-light",
    "landfall-consensus",
    "landfall-replica",
    "landfall-network",
    "landfall-sim",
    "landfall-rpc",
    "landfall-wallet",
];

/// Libraries that only the named crates may depend on. The tests of `landfall` have a peer of their
/// own that speaks the protocol; its sources do not name libp2p, see below.
const RESERVED: &[(&str, &[&str])] = &[
    ("fjall", &["landfall-chain"]),
    ("jsonrpsee", &["landfall-rpc", "landfall"]),
    ("tokio", &["landfall-rpc", "landfall-network", "landfall"]),
    ("libp2p-core", &["landfall-network", "landfall"]),
    ("libp2p-gossipsub", &["landfall-network"]),
    ("libp2p-identity", &["landfall-network", "landfall"]),
    ("libp2p-noise", &["landfall-network", "landfall"]),
    ("libp2p-swarm", &["landfall-network"]),
    ("yamux", &["landfall-network", "landfall"]),
];

/// Words that must not stand in the sources under some directories.
struct Absence {
    under: &'static [&'static str],
    except: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

const RUNTIME: &[&str] =
    &["Runtime::new", "runtime::Builder", "new_multi_thread", "new_current_thread", "tokio::main"];

/// Crates that compute and do nothing else.
const PURE: &[&str] = &["crates/evm/src", "crates/consensus/src", "crates/light/src"];

const ABSENCES: &[Absence] = &[
    Absence {
        under: PURE,
        except: &[],
        words: &["std::fs", "fs::", "std::net", "net::", "std::thread", "thread::", "process::"],
        why: "evm, consensus and light do no IO and spawn nothing",
    },
    Absence {
        under: PURE,
        except: &[],
        words: &["Instant", "SystemTime", "f32", "f64", "rand::", "thread_rng"],
        why: "evm, consensus and light read no clock, no randomness and no float",
    },
    Absence {
        under: PURE,
        except: &[],
        words: &["collections::HashMap", "collections::HashSet"],
        why: "evm, consensus and light iterate nothing unordered; for look-ups alone take alloy's maps",
    },
    Absence {
        under: &["crates/consensus/src"],
        except: &[],
        words: &["Mutex", "RwLock", "async", "unsafe"],
        why: "consensus holds no locks",
    },
    Absence {
        under: &["crates/replica/src"],
        except: &[],
        words: &["thread::", "Instant", "SystemTime", "async", "std::fs", "std::net", "f64"],
        why: "a replica has no thread, no clock and no socket: its host has",
    },
    Absence {
        under: &["crates/types/src"],
        except: &[],
        words: &["std::fs", "fs::", "std::net", "thread::", "Instant", "SystemTime", "async"],
        why: "types does no IO and is not async",
    },
    Absence {
        under: &["crates"],
        except: &["crates/chain/src/store"],
        words: &["fjall"],
        why: "only chain::store names the database",
    },
    Absence {
        under: &["crates/chain/src"],
        except: &["crates/chain/src/store"],
        words: &["std::fs", "fs::", "File::"],
        why: "only chain::store touches files",
    },
    Absence {
        under: &["crates"],
        except: &["crates/network/src"],
        words: &[
            "libp2p_core",
            "libp2p_gossipsub",
            "libp2p_identity",
            "libp2p_noise",
            "libp2p_swarm",
        ],
        why: "only network names libp2p",
    },
    Absence {
        under: &["crates/network/src"],
        except: &[],
        words: &["std::fs", "fs::", "thread::", "block_on"],
        why: "network touches no file and blocks no thread",
    },
    Absence {
        under: &["crates/chain/src"],
        except: &[],
        words: &["thread::spawn", "thread::Builder", "async", "tokio", "SystemTime::now"],
        why: "chain hides no thread, is not async and takes the time as an argument",
    },
    Absence {
        under: &[
            "crates/chain/src",
            "crates/network/src",
            "crates/rpc/src",
            "crates/wallet/src",
            "crates/sim/src",
        ],
        except: &[],
        words: RUNTIME,
        why: "only node starts a runtime",
    },
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| package.name != "xtask") {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            wrong.push(format!("{}: has no line in the table of arrows", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if dependency.path.is_some() && !allowed.contains(&name) {
                wrong.push(format!("{} must not depend on {name}", package.name));
            }
            let reserved = RESERVED.iter().find(|(library, _)| *library == name);
            if reserved.is_some_and(|(_, owners)| !owners.contains(&package.name.as_str())) {
                wrong.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    wrong
}

/// The sources of a file without line comments and without its unit tests, which are its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    const TESTS: &str = "#[cfg(test)]\nmod ";
    // A module in another file ends nothing.
    let begins = |start: &usize| {
        let line = text[start + TESTS.len()..].lines().next();
        line.is_some_and(|line| line.contains('{'))
    };
    let end = text.match_indices(TESTS).map(|(start, _)| start).find(begins);
    text[..end.unwrap_or(text.len())]
        .lines()
        .map(|line| line.split_once("//").map_or(line, |(code, _)| code))
        .enumerate()
        .map(|(index, line)| (index + 1, line))
}

/// Whether `word` stands in `line`, not as a part of a longer identifier; or, if it is a path, its last
/// part in braces behind the others.
fn names(line: &str, word: &str) -> bool {
    if let Some((module, item)) = word.rsplit_once("::")
        && !item.is_empty()
        && let Some((_, list)) = line.split_once(&format!("{module}::{{"))
        && names(list, item)
    {
        return true;
    }
    let inside = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let open = word.ends_with(inside) && after.is_some_and(inside);
        !before.is_some_and(inside) && !open
    })
}

fn present(absence: &Absence, path: &Path, text: &str) -> Vec<String> {
    if absence.except.iter().any(|except| path.starts_with(except)) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, code) in code(text) {
        for word in absence.words.iter().filter(|word| names(code, word)) {
            found.push(format!("{}:{line} names {word}: {}", path.display(), absence.why));
        }
    }
    found
}

/// Every Rust source under a directory of the workspace, as paths from its root.
fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(root().join(under))
        .unwrap_or_else(|error| panic!("{}: {error}", under.display()));
    for entry in entries {
        let entry = entry.expect("directory entry");
        let path = under.join(entry.file_name());
        if entry.file_type().expect("file type").is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Tests and benches use what they need, in files of their own too.
fn is_test(path: &Path) -> bool {
    let in_src = path.iter().nth(2).is_some_and(|part| part == "src");
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    !in_src || stem == "tests" || stem.ends_with("_tests")
}

#[test]
fn crates_depend_along_the_arrows_only() {
    let members = Metadata::members().expect("cargo metadata");
    assert!(members.packages.len() > ARROWS.len(), "every crate of the table and xtask");
    let wrong = wrong_arrows(&members.packages);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_architecture_says_is_absent_is_absent() {
    let mut found = Vec::new();
    for (absence, under) in ABSENCES.iter().flat_map(|it| it.under.iter().map(move |u| (it, u))) {
        let files = sources(Path::new(under));
        assert!(!files.is_empty(), "{under} has sources");
        for path in files {
            if !is_test(&path) {
                let text = fs::read_to_string(root().join(&path)).expect("a source file");
                found.extend(present(absence, &path, &text));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_module_has_an_empty_name() {
    let empty: Vec<_> = [sources(Path::new("crates")), sources(Path::new("xtask/src"))]
        .concat()
        .into_iter()
        .filter(|path| {
            path.with_extension("").iter().any(|part| EMPTY_NAMES.iter().any(|name| part == *name))
        })
        .collect();
    assert!(empty.is_empty(), "{empty:?}");
}

mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn member(name: &str, dependency: &str, path: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: PathBuf::new(),
            dependencies: vec![Dependency {
                name: dependency.to_owned(),
                path: path.map(PathBuf::from),
            }],
        }
    }

    #[test]
    fn reports_an_arrow_in_the_wrong_direction() {
        let wrong = wrong_arrows(&[member("landfall-evm", "landfall-chain", Some("crates/chain"))]);
        assert_eq!(wrong, ["landfall-evm must not depend on landfall-chain"]);
        assert!(
            wrong_arrows(&[member("landfall-chain", "landfall-evm", Some("crates/evm"))])
                .is_empty()
        );
    }

    #[test]
    fn reports_a_crate_without_a_line_and_a_reserved_library() {
        let wrong = wrong_arrows(&[member("landfall-new", "serde", None)]);
        assert_eq!(wrong, ["landfall-new: has no line in the table of arrows"]);
        let wrong = wrong_arrows(&[member("landfall-chain", "tokio", None)]);
        assert_eq!(wrong, ["landfall-chain must not depend on tokio"]);
    }

    #[test]
    fn finds_each_forbidden_word_in_code_alone() {
        for absence in ABSENCES {
            for word in absence.words {
                let text = format!("use a::b;\nlet x = {word};\n");
                let path = Path::new(absence.under[0]).join("x.rs");
                let found = present(absence, &path, &text);
                assert!(found.iter().any(|line| line.contains(":2 names")), "{word}: {found:?}");
                let quiet = format!(
                    "// {word}\nlet my_{word}x = 1;\n#[cfg(test)]\nmod tests {{ {word} }}\n"
                );
                let found = present(absence, &path, &quiet);
                assert!(found.is_empty(), "{word}: {found:?}");
                for except in absence.except {
                    assert!(present(absence, &Path::new(except).join("y.rs"), &text).is_empty());
                }
            }
        }
    }

    #[test]
    fn sees_through_lists_and_behind_modules_in_other_files() {
        let absence =
            ABSENCES.iter().find(|it| it.words.contains(&"collections::HashMap")).unwrap();
        let path = Path::new("crates/evm/src/x.rs");
        let listed = "use std::collections::{BTreeMap, HashMap};\n";
        assert_eq!(present(absence, path, listed).len(), 1);
        assert!(
            present(absence, path, "use std::collections::{BTreeMap, HashMapped};\n").is_empty()
        );
        assert!(present(absence, path, "use alloy::map::{B256Map, HashMap};\n").is_empty());
        let below =
            format!("#[cfg(test)]\nmod model;\n{listed}#[cfg(test)]\nmod tests {{\n{listed}}}\n");
        assert_eq!(present(absence, path, &below).len(), 1);
    }
}
