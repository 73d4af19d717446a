//! Keys made at home and the genesis assembled from their public parts, by the real binary.

mod node;

use landfall_types::{ConsensusConfig, parse_genesis};
use node::{Directory, landfall, refusal};
use serde_json::Value;
use std::path::Path;

const ACCOUNT: &str = "0x1111111111111111111111111111111111111111";

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// What a command prints that must succeed.
fn done(args: &[&str]) -> String {
    let output = landfall(args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The value after a name in a printed line.
fn value<'a>(output: &'a str, name: &str) -> &'a str {
    let line = output.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {output}")).trim()
}

struct Home {
    directory: Directory,
}

impl Home {
    fn new(name: &str) -> Self {
        let directory = Directory::new(name);
        std::fs::write(directory.join("password"), "correct horse\n").expect("it is writable");
        Self { directory }
    }

    fn keys(&self, name: &str, port: u16) -> String {
        let (out, password) = (self.directory.join(name), self.directory.join("password"));
        let address = format!("127.0.0.1:{port}");
        let password = text(&password).to_owned();
        let out = text(&out).to_owned();
        done(&[
            "keys",
            "new",
            "--out",
            &out,
            "--name",
            name,
            "--address",
            &address,
            "--password-file",
            &password,
        ])
    }

    /// The path of a file, as an argument.
    fn path(&self, name: &str) -> String {
        text(&self.directory.join(name)).to_owned()
    }
}

#[cfg(unix)]
#[test]
fn keys_are_private_and_encrypted_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("keys");
    let made = home.keys("alpha", 30303);
    for file in ["validator.json", "node.key"] {
        let path = home.directory.join("alpha").join(file);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let read =
        |file: &str| std::fs::read_to_string(home.directory.join("alpha").join(file)).unwrap();
    let public: Value = serde_json::from_str(&read("public.json")).unwrap();
    assert_eq!(public["id"], value(&made, "id"));
    assert_eq!(public["name"], "alpha");
    assert_eq!(public.get("weight"), None);
    let keystore: Value = serde_json::from_str(&read("validator.json")).unwrap();
    assert_eq!((&keystore["version"], &keystore["crypto"]["kdf"]), (&3.into(), &"scrypt".into()));
    let (out, password) = (home.path("alpha"), home.path("password"));
    let before = read("node.key");
    let again = refusal(&["keys", "new", "--out", &out, "--password-file", &password]);
    assert!(again.contains("exists already and is not overwritten"), "{again}");
    assert_eq!(read("node.key"), before);
    let shown = done(&["keys", "show", &out, "--unlock", "--password-file", &password]);
    assert_eq!(value(&shown, "node key"), public["nodeKey"]);
    std::fs::write(home.directory.join("wrong"), "incorrect horse").unwrap();
    let wrong = home.path("wrong");
    let refused = refusal(&["keys", "show", &out, "--unlock", "--password-file", &wrong]);
    assert!(refused.contains("validator.json: keystore: wrong password"), "{refused}");
}

#[test]
fn files_of_two_validators_are_told_apart() {
    let home = Home::new("mixed-keys");
    home.keys("alpha", 1);
    home.keys("beta", 2);
    let (alpha, beta) = (home.directory.join("alpha"), home.directory.join("beta"));
    std::fs::copy(beta.join("node.key"), alpha.join("node.key")).unwrap();
    let refused = refusal(&["keys", "show", text(&alpha)]);
    assert!(refused.contains("nodeKey is not that of"), "{refused}");
}

#[test]
fn a_key_that_exists_is_taken_over() {
    let home = Home::new("import-key");
    let (out, password, key) = (home.path("a"), home.path("password"), home.path("key"));
    let secret = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
    std::fs::write(&key, format!("0x{secret}\n")).unwrap();
    let import =
        ["keys", "import", "--out", &out, "--private-key-file", &key, "--password-file", &password];
    assert_eq!(value(&done(&import), "id"), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    std::fs::write(&key, "no key").unwrap();
    let other = home.path("b");
    let import = [
        "keys",
        "import",
        "--out",
        &other,
        "--private-key-file",
        &key,
        "--password-file",
        &password,
    ];
    let refused = refusal(&import);
    assert!(refused.contains("private key: must be 64 hex digits"), "{refused}");
    assert!(!Path::new(&other).exists(), "nothing is made for a key that is none");
}

#[test]
fn passwords_are_asked_for_on_a_terminal_only() {
    let home = Home::new("no-terminal");
    let out = home.path("a");
    let refused = refusal(&["keys", "new", "--out", &out]);
    assert!(refused.contains("no password: name a file"), "{refused}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn genesis_is_assembled_from_public_parts_and_every_operator_sees_the_same() {
    let home = Home::new("genesis-new");
    let publics = ["alpha", "beta", "gamma", "delta"].map(|name| {
        home.keys(name, 30303 + name.len() as u16 * 10 + u16::from(name.as_bytes()[0]));
        home.path(&format!("{name}/public.json"))
    });
    let out = home.path("genesis.json");
    let mut args = vec!["genesis", "new", "--consensus", "pbft", "--out", &out];
    for public in &publics {
        args.extend(["--validator", public]);
    }
    let allocation = format!("{ACCOUNT}=1000");
    args.extend(["--chain-id", "4242", "--alloc", &allocation, "--block-interval", "50ms"]);
    let made = done(&args);
    assert!(made.contains("4, weight 4; 3 decide, 1 may fail or lie"), "{made}");
    assert!(made.contains("Next: give "), "{made}");
    assert!(made.contains("weight 1 at 127.0.0.1:"), "{made}");
    let shown = done(&["genesis", "show", &out]);
    for name in ["chain id", "genesis hash", "schedule id"] {
        assert_eq!(value(&shown, name), value(&made, name));
    }
    let genesis = parse_genesis(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!((genesis.config.chain_id, genesis.gas_limit), (4_242, 100_000_000));
    let config = ConsensusConfig::from_genesis(&genesis).unwrap();
    assert_eq!(config.schedule_id().to_string(), value(&shown, "schedule id"));
    let names: Vec<_> = config.validators.iter().filter_map(|it| it.name.as_deref()).collect();
    assert_eq!(names, ["alpha", "beta", "gamma", "delta"]);
    assert_eq!(config.fees.base_fee_change_denominator, 96_000 / 50);
    let again = refusal(&args);
    assert!(again.contains("exists already and is not overwritten"), "{again}");
    let dev = refusal(&["dev", "--port", "0", "--init", &out]);
    assert!(dev.contains("the genesis of a network (pbft)"), "{dev}");
}

#[test]
fn what_makes_no_network_is_refused_by_name() {
    let home = Home::new("genesis-refused");
    home.keys("alpha", 1);
    let (public, out) = (home.path("alpha/public.json"), home.path("genesis.json"));
    let new = |consensus: &str, more: &[&str]| {
        let mut args = vec!["genesis", "new", "--consensus", consensus, "--out", &out];
        args.extend(["--validator", &public]);
        args.extend(more);
        refusal(&args)
    };
    let twice = new("pbft", &["--validator", &public]);
    assert!(
        twice.contains("validators[1].id`") && twice.contains("another validator's"),
        "{twice}"
    );
    assert!(new("pbft", &["--block-interval", "0ms"]).contains("blockIntervalMs`: must be"));
    assert!(new("pow", &["--first-difficulty", "0"]).contains("firstDifficulty`: must be"));
    assert!(new("pow", &["--empty-blocks"]).contains("pow always makes blocks"));
    let few = new("raft", &["--base-fee-change-denominator", "1"]);
    assert!(few.contains("baseFeeChangeDenominator`: must be at least 2"), "{few}");
    let keystore = home.path("alpha/validator.json");
    assert!(new("raft", &["--validator", &keystore]).contains("validator.json: "));
    assert!(!Path::new(&out).exists(), "no file of a network that cannot be");
    // One validator makes a network all the same: with a warning.
    let args = ["genesis", "new", "--consensus", "raft", "--out", &out, "--validator", &public];
    assert!(done(&[&args[..], &["--free-gas"]].concat()).contains("the first failure stops"));
    let genesis: Value = serde_json::from_str(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(genesis["config"]["landfall"]["freeGas"], true);
    assert_eq!(genesis["baseFeePerGas"], "0x0");
}
