//! `landfall config`, over real files that fit together, and that do not.

mod node;

use node::{Directory, without_variables};
use std::path::PathBuf;

/// Two validators and their genesis; the configuration is the first one's.
struct Home {
    directory: Directory,
}

impl Home {
    fn new(name: &str) -> Self {
        let home = Self { directory: Directory::new(name) };
        home.write("password", "secret\n");
        for name in ["alpha", "beta"] {
            home.run(&[
                "keys",
                "new",
                "--out",
                name,
                "--name",
                name,
                "--password-file",
                "password",
            ]);
        }
        home.genesis("genesis.json", &["alpha", "beta"]);
        home.write(
            "node.toml",
            "genesis = \"genesis.json\"\n[keys]\nvalidator = \"alpha/validator.json\"\n\
             node = \"alpha/node.key\"\n",
        );
        home.private("password");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("it is writable");
    }

    fn private(&self, name: &str) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(self.path(name), mode).expect("it is ours");
        }
    }

    fn genesis(&self, out: &str, names: &[&str]) {
        let publics: Vec<String> = names.iter().map(|name| format!("{name}/public.json")).collect();
        let mut args = vec!["genesis", "new", "--consensus", "raft", "--out", out];
        args.extend(publics.iter().flat_map(|path| ["--validator", path]));
        self.run(&args);
    }

    /// The binary in the directory, so that paths are relative to it, with a variable set to `json`.
    fn landfall(&self, args: &[&str], variable: &str) -> (bool, String) {
        let output = without_variables(env!("CARGO_BIN_EXE_landfall"))
            .args(args)
            .current_dir(self.directory.join(""))
            .env(variable, "json")
            .output()
            .expect("the binary starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).expect("UTF-8"))
    }

    fn run(&self, args: &[&str]) {
        let (good, text) = self.landfall(args, "LANDFALL_LOG_FORMAT");
        assert!(good, "{args:?}: {text}");
    }

    /// What `config check` prints, and whether it is content.
    fn check(&self, more: &[&str]) -> (bool, String) {
        self.check_with(more, "LANDFALL_LOG_FORMAT")
    }

    fn check_with(&self, more: &[&str], variable: &str) -> (bool, String) {
        let args = [&["config", "check", "--config", "node.toml"], more].concat();
        self.landfall(&args, variable)
    }

    /// Flags that must make an error of the check, and what it must say.
    fn expect_error(&self, flags: &[&str], expected: &str) {
        let (good, text) = self.check(flags);
        assert!(!good && text.contains(expected), "{flags:?}: {expected} in\n{text}");
        assert!(text.lines().any(|line| line.starts_with("error")), "{text}");
    }
}

#[test]
fn files_that_fit_together_pass_and_those_that_do_not_are_named() {
    let home = Home::new("config-check");
    let (good, output) = home.check(&["--keys-password-file", "password"]);
    assert!(good, "{output}");
    assert!(output.contains(", it opens"), "{output}");
    assert!(output.contains("validator alpha of the genesis, with its node key"), "{output}");
    assert!(output.contains("raft with 2 validators"), "{output}");
    assert!(!output.contains("warning"), "{output}");

    home.expect_error(&["--genesis", "none.json"], "error    genesis (--genesis): cannot read");
    home.expect_error(&["--keys-node", "beta/node.key"], "but the genesis binds validator alpha");
    home.expect_error(&["--keys-node", "password"], "private key: must be 64 hex digits");
    home.expect_error(&["--keys-validator", "beta/public.json"], "public.json: keystore: ");
    home.write("wrong", "other");
    home.expect_error(&["--keys-password-file", "wrong"], "keystore: wrong password");
    home.write("file", "");
    home.expect_error(&["--datadir", "file/chain"], "error    datadir (--datadir): cannot write");
    let note = |genesis: &str| {
        let records = "22".repeat(32);
        format!(
            r#"{{"genesis":"{genesis}","epoch":0,"records":"0x{records}","directory":"/srv/a"}}"#
        )
    };
    home.write("alpha/validator.json.voting", &note(&format!("0x{}", "11".repeat(32))));
    home.expect_error(&[], "this key votes on the chain 0x1111");
    home.write("alpha/validator.json.voting", "");
    home.expect_error(&[], "it says from where the key has voted");
    let (_, shown) = home.landfall(&["genesis", "show", "genesis.json"], "LANDFALL_LOG_FORMAT");
    let hash = shown.split_whitespace().find(|word| word.starts_with("0x") && word.len() == 66);
    home.write("alpha/validator.json.voting", &note(hash.expect("the hash of block 0")));
    let (good, output) = home.check(&[]);
    assert!(good && output.contains("warning  keys.validator"), "{output}");
    assert!(output.contains("has voted in epoch 0 from /srv/a"), "{output}");
    std::fs::remove_file(home.path("alpha/validator.json.voting")).unwrap();
    home.genesis("other.json", &["beta"]);
    home.expect_error(&["--genesis", "other.json"], "is no validator of the genesis");

    let solo = std::fs::read_to_string(home.path("genesis.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&solo).unwrap();
    file["alloc"] = serde_json::json!({});
    home.write("bare.json", &file.to_string());
    home.expect_error(&["--genesis", "bare.json"], "`alloc` lacks the contract");
    file["config"]["landfall"] = serde_json::json!({ "engine": "solo" });
    home.write("solo.json", &file.to_string());
    home.expect_error(&["--genesis", "solo.json"], "start it with `landfall dev --init`");
    file["config"]["landfall"] = serde_json::json!({ "engine": "pfbt" });
    home.write("typo.json", &file.to_string());
    home.expect_error(&["--genesis", "typo.json"], "did you mean `pbft`?");
}

#[cfg(unix)]
#[test]
fn what_would_run_and_should_be_looked_at_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("config-warnings");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(home.path("alpha/node.key"), open).unwrap();
    let (good, output) = home.check(&[]);
    assert!(good && output.contains("node.key can be read by others; `chmod 600"), "{output}");
    home.private("alpha/node.key");
    home.write("node.toml", "genesis = \"genesis.json\"\n[keys]\nnode = \"alpha/node.key\"\n");
    let (good, output) = home.check(&[]);
    let expected = "node.toml:3): is that of validator alpha, who votes with keys.validator";
    assert!(good && output.contains(expected), "{output}");
    let key: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("alpha/public.json")).unwrap()).unwrap();
    let peer = format!("{}@10.0.0.1:1", key["nodeKey"].as_str().unwrap());
    let (good, output) = home.check_with(&["--p2p-peers", &peer], "LANDFALL_RPC_MAXBATCH");
    let misspelt = "environment (LANDFALL_RPC_MAXBATCH): names no setting; did you mean \
                    `LANDFALL_RPC_MAX_BATCH`?";
    assert!(output.contains(misspelt), "{output}");
    assert!(good && output.contains("one of them is this node itself"), "{output}");
}

#[test]
fn mistakes_of_the_file_are_told_with_their_lines() {
    let home = Home::new("config-lines");
    home.write("node.toml", "[rpc]\nlisten = \"127.0.0.1:9545\"\nmax_bach = 5\n[log]\nlevel = 1\n");
    let (good, output) = home.check(&[]);
    assert!(!good);
    for expected in [
        "node.toml:3: unknown key `max_bach` in [rpc]; did you mean `max_batch`?",
        "node.toml:5: `log.level` must be a string",
        "`ops.listen` has port 9545, as has `rpc.listen`",
    ] {
        assert!(output.contains(expected), "{expected} in\n{output}");
    }
}

#[test]
fn effective_configuration_is_shown_with_its_sources() {
    let home = Home::new("config-show");
    let show = ["config", "show", "--rpc-max-batch", "7", "--config", "node.toml"];
    let (good, shown) = home.landfall(&show, "LANDFALL_LOG_FORMAT");
    assert!(good, "{shown}");
    let line = |start: &str| {
        let mut lines = shown.lines();
        lines.find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {shown}"))
    };
    assert!(line("max_batch = 7").ends_with("# --rpc-max-batch"));
    assert!(line("format = \"json\"").ends_with("# LANDFALL_LOG_FORMAT"));
    assert!(line("validator = ").ends_with("node.toml:3"));
    assert!(line("max_logs = 20000").ends_with("# default"));
    assert!(line("# external is not set").ends_with("# default"));
}
