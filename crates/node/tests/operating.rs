//! `docs/operating.md`, followed word for word: its `sh` blocks in one shell, in an empty directory.

mod node;

use node::Directory;
use std::path::Path;
use std::process::Command;

/// The shell blocks of a part of the manual, one after the other.
fn blocks(manual: &str, from: &str, until: &str) -> String {
    let start = manual.find(from).unwrap_or_else(|| panic!("no heading {from}"));
    let part = &manual[start..];
    let part = &part[..part.find(until).unwrap_or_else(|| panic!("no heading {until}"))];
    let blocks = part.split("```sh\n").skip(1);
    let blocks: Vec<&str> =
        blocks.map(|rest| rest.split_once("```").expect("a block ends").0).collect();
    assert!(!blocks.is_empty(), "{from} has shell blocks");
    blocks.concat()
}

#[test]
fn keys_genesis_and_configuration_of_four_operators_come_out_as_the_manual_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manual = std::fs::read_to_string(root.join("docs/operating.md")).expect("the manual");
    let script = blocks(&manual, "### 1. Each makes keys", "### 4. Start");
    let directory = Directory::new("operating");
    let binary = Path::new(env!("CARGO_BIN_EXE_landfall"));
    let path = std::env::var("PATH").expect("a path");
    let beside = binary.parent().expect("a directory").display();
    let output = Command::new("sh")
        // What goes wrong ends the script.
        .args(["-e", "-c", &script])
        .current_dir(directory.join(""))
        .env("PATH", format!("{beside}:{path}"))
        .output()
        .expect("a shell");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    for name in ["alpha", "beta", "gamma", "delta"] {
        let line = format!("validator {name} of the genesis, with its node key");
        assert!(printed.contains(&line), "{line} in\n{printed}");
    }
    let lines = |start: &str| printed.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((lines("error"), lines("warning")), (0, 0), "{printed}");
    // Shown twice: to who assembled the file, and to everybody.
    assert_eq!((lines("genesis hash"), lines("schedule id")), (2, 2), "{printed}");
}
