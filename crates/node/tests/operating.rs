//! `docs/operating.md`, followed word for word: its `sh` blocks in one shell, in an empty directory.

mod node;

use node::{Directory, without_variables};
use std::path::Path;

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

/// Runs a script in an empty directory; what it printed.
fn run(script: &str, name: &str) -> String {
    let directory = Directory::new(name);
    let binary = Path::new(env!("CARGO_BIN_EXE_landfall"));
    let path = std::env::var("PATH").expect("a path");
    let beside = binary.parent().expect("a directory").display();
    let output = without_variables("sh")
        // What goes wrong ends the script.
        .args(["-e", "-c", script])
        .current_dir(directory.join(""))
        .env("PATH", format!("{beside}:{path}"))
        .output()
        .expect("a shell");
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{errors}");
    printed.into_owned()
}

fn manual() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join("docs/operating.md")).expect("the manual")
}

/// One test, since the manual names its ports.
#[test]
fn four_operators_make_start_stop_and_resume_a_network_as_the_manual_says() {
    let manual = manual();
    let files = blocks(&manual, "### 1. Each makes keys", "### 4. Start");
    let nodes = blocks(&manual, "### 4. Start", "### 7. Stop all");
    let stop = blocks(&manual, "### 7. Stop all", "## The genesis file");
    // Whatever goes wrong, no node stays behind. Once delta is back, all four see three peers.
    let script = format!(
        "trap 'kill $(cat */pid) 2> /dev/null || true' EXIT\n{files}{nodes}
        for port in 8545 8546 8547 8548; do
            tries=0
            until landfall doctor --json --rpc http://127.0.0.1:$port > doctor.$port &&
                test $(grep -c '\"direction\"' doctor.$port) = 3; do
                tries=$((tries + 1))
                test $tries -lt 100 || {{ cat doctor.$port; exit 1; }}
                sleep 0.2
            done
            echo \"$port is well\"
        done
        {stop}for name in alpha beta gamma delta; do cat $name/log; done"
    );
    let printed = run(&script, "operating");
    for name in ["alpha", "beta", "gamma", "delta"] {
        let line = format!("validator {name} of the genesis, with its node key");
        assert!(printed.contains(&line), "{line} in\n{printed}");
    }
    let lines = |start: &str| printed.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((lines("error"), lines("warning")), (0, 0), "{printed}");
    // Shown twice: to who assembled the file, and to everybody.
    assert_eq!((lines("genesis hash"), lines("schedule id")), (2, 2), "{printed}");
    let answers = printed.lines().filter(|line| line.contains("\"jsonrpc\"")).count();
    assert_eq!(answers, 4, "{printed}");
    assert_eq!(printed.lines().filter(|line| line.ends_with(" is well")).count(), 4, "{printed}");
    // Four starts and one more.
    assert_eq!(lines("Listening on 127.0.0.1:854"), 5, "{printed}");
}
