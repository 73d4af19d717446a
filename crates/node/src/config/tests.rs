use super::value::{LogFormat, LogLevel};
use super::*;
use crate::test_directory::TestDirectory;
use std::collections::BTreeMap;

/// What a file, variables and flags make together.
fn load(
    name: &str,
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<NodeConfig, ConfigError> {
    let directory = TestDirectory::new(&format!("config-{name}"));
    let path = directory.path().join("node.toml");
    std::fs::write(&path, file).unwrap();
    let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
    let variables: BTreeMap<String, String> = variables.iter().map(owned).collect();
    let given = flags.iter().map(owned).collect();
    NodeConfig::load_with(&Flags { config: Some(path), given }, &|name| {
        variables.get(name).cloned()
    })
}

/// The messages, without the directory of the test.
fn refused(name: &str, file: &str) -> Vec<String> {
    let error = load(name, file, &[], &[]).expect_err("must be refused");
    let short = |problem: &Problem| {
        let text = problem.to_string();
        text.find("node.toml").map_or(text.clone(), |at| text[at..].to_owned())
    };
    error.problems.iter().map(short).collect()
}

#[test]
fn flag_goes_before_variable_before_file_before_default() {
    let file = "[rpc]\nlisten = \"127.0.0.1:1\"\nmax_batch = 1\n[log]\nlevel = \"warn\"\n";
    let variables = [("LANDFALL_RPC_LISTEN", "127.0.0.1:2"), ("LANDFALL_RPC_MAX_BATCH", "2")];
    let config = load("precedence", file, &variables, &[("rpc.listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(config.rpc.listen.port(), 3);
    assert_eq!(config.source("rpc.listen").to_string(), "--rpc-listen");
    assert_eq!(config.rpc.max_batch, 2);
    assert_eq!(config.source("rpc.max_batch").to_string(), "LANDFALL_RPC_MAX_BATCH");
    assert_eq!(config.log.level, LogLevel::Warn);
    assert!(config.source("log.level").to_string().ends_with("node.toml:5"));
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.source("log.format"), &Source::Default);
}

#[test]
fn file_of_every_type_is_read() {
    let key = "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let file = format!(
        "datadir = \"chain\"\n[keys]\nvalidator = \"/k/v.json\"\n[p2p]\ndiscovery = false\n\
         external = \"node.example:30303\"\npeers = [\n  \"{key}@10.0.0.1:30303\",\n]\n\
         allow = [\"{key}\"]\nmax_peers = 0x10\n[rpc]\nfilter_lifetime = \"2m\"\n\
         [miner]\nthreads = 2\nextra_data = \"mine\"\n\
         beneficiary = \"0x1111111111111111111111111111111111111111\"\n"
    );
    let config = load("types", &file, &[], &[]).unwrap();
    assert!(
        config.node.datadir.ends_with("landfall-config-types/chain")
            || config.node.datadir.is_absolute()
    );
    assert_eq!(config.keys.validator.as_deref(), Some(std::path::Path::new("/k/v.json")));
    assert_eq!((config.p2p.discovery, config.p2p.max_peers), (false, 16));
    assert_eq!(config.p2p.peers[0].to_string(), format!("{key}@10.0.0.1:30303"));
    assert_eq!(config.p2p.peers[0].key, config.p2p.allow[0]);
    assert_eq!(config.rpc.limits().filter_lifetime.as_secs(), 120);
    assert_eq!(config.miner.threads, Some(2));
    assert_eq!(&config.miner.extra_data.0[..], b"mine");
}

#[test]
fn unknown_keys_are_errors_with_their_line_and_a_suggestion() {
    let file = "datadri = \"x\"\nmax_peers = 5\n\n[rpc]\nlisten = \"127.0.0.1:1\"\n\
                max-batch = 3\n[p2q]\nlisten = \"0.0.0.0:1\"\n[ops]\ncolour = 1\n";
    let mut found = refused("unknown", file);
    found.sort();
    let expected = [
        "node.toml:10: unknown key `colour` in [ops]",
        "node.toml:1: unknown key `datadri`; did you mean `datadir`?",
        "node.toml:2: unknown key `max_peers`; did you mean `p2p.max_peers`?",
        "node.toml:6: unknown key `max-batch` in [rpc]; did you mean `max_batch`?",
        "node.toml:7: unknown section [p2q]; did you mean `p2p`?",
    ];
    assert_eq!(found, expected);
}

#[test]
fn wrong_values_are_errors_with_their_line_and_all_are_told() {
    let file = "genesis = 5\n[rpc]\nmax_batch = -1\nmax_logs = 1.5\ncross_origin = \"yes\"\n\
                listen = \"8545\"\n[p2p]\npeers = [1]\nallow = [\"0x02\"]\n[pool]\ntotal = 0\n";
    let found = refused("wrong", file).join("\n");
    for expected in [
        "node.toml:1: `genesis` must be a string",
        "node.toml:3: `rpc.max_batch` must be a whole number from 1 to",
        "node.toml:4: `rpc.max_logs` must be a whole number",
        "node.toml:5: `rpc.cross_origin` must be true or false",
        "node.toml:6: `rpc.listen` `8545` is no address and port",
        "node.toml:8: `p2p.peers` must be a list of strings",
        "node.toml:9: `p2p.allow` `0x02`: not a compressed secp256k1 public key",
        "node.toml:11: `pool.total` must be a whole number from 1 to",
    ] {
        assert!(found.contains(expected), "{expected} in\n{found}");
    }
    let error = load("variable", "", &[("LANDFALL_LOG_LEVEL", "loud")], &[]).unwrap_err();
    assert!(
        error.to_string().starts_with("LANDFALL_LOG_LEVEL: `log.level` `loud`: must be one of")
    );
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let found = refused("syntax", "datadir = \"x\"\n\n[rpc\nlisten = 5\n");
    assert!(found[0].starts_with("node.toml:3: "), "{found:?}");
    let found = refused("twice", "datadir = \"x\"\ndatadir = \"y\"\n");
    assert!(found[0].starts_with("node.toml:2: duplicate key"), "{found:?}");
    let missing = Flags { config: Some("/nowhere/node.toml".into()), ..Flags::default() };
    let error = NodeConfig::load_with(&missing, &|_| None).unwrap_err().to_string();
    assert!(error.starts_with("--config: /nowhere/node.toml: cannot be read"), "{error}");
}

#[test]
fn two_servers_on_one_port_are_refused_by_name() {
    let found = refused("ports", "[rpc]\nlisten = \"127.0.0.1:30303\"\n");
    assert_eq!(found, ["node.toml:2: `rpc.listen` has port 30303, as has `p2p.listen`"]);
    let any = "[rpc]\nlisten = \"127.0.0.1:0\"\n[ops]\nlisten = \"127.0.0.1:0\"\n";
    assert!(load("any-port", any, &[], &[]).is_ok());
}

#[test]
fn what_is_shown_is_a_file_that_says_the_same() {
    let file = "datadir = \"/srv/chain\"\n[log]\nformat = \"json\"\n[miner]\nextra_data = \"a \\\"b\\\"\"\n";
    let config = load("shown", file, &[("LANDFALL_RPC_MAX_LOGS", "7")], &[]).unwrap();
    let shown = config.show();
    assert!(shown.contains("# LANDFALL_RPC_MAX_LOGS"), "{shown}");
    let again = load("shown-again", &shown, &[], &[]).unwrap();
    let values = |config: &NodeConfig| -> Vec<_> {
        config.origins.iter().map(|(_, value)| value.clone()).collect()
    };
    // Relative defaults become relative to the file.
    let differ = values(&config).into_iter().zip(values(&again)).filter(|(a, b)| a != b).count();
    assert_eq!(differ, 1, "the genesis file alone:\n{shown}");
    assert_eq!(again.rpc.max_logs, 7);
}

#[test]
fn flags_and_variables_are_distinct_and_follow_from_the_key() {
    let mut flags: Vec<String> = SETTINGS.iter().map(|setting| setting.flag()).collect();
    flags.push("config".to_owned());
    flags.sort();
    let count = flags.len();
    flags.dedup();
    assert_eq!(flags.len(), count);
    let batch = SETTINGS.iter().find(|setting| setting.key() == "rpc.max_batch").unwrap();
    assert_eq!(
        (batch.flag(), batch.variable()),
        ("rpc-max-batch".into(), "LANDFALL_RPC_MAX_BATCH".into())
    );
}

#[test]
fn command_line_is_parsed_into_flags() {
    use clap::{Args as _, FromArgMatches as _};
    let command = Flags::augment_args(clap::Command::new("node"));
    let matches = command.get_matches_from([
        "node",
        "--config",
        "n.toml",
        "--rpc-listen",
        "127.0.0.1:1",
        "--p2p-allow",
        "a",
        "--p2p-allow",
        "b",
    ]);
    let flags = Flags::from_arg_matches(&matches).unwrap();
    assert_eq!(flags.config.as_deref(), Some(std::path::Path::new("n.toml")));
    assert_eq!(flags.given["rpc.listen"], "127.0.0.1:1");
    assert_eq!(flags.given["p2p.allow"], "a,b");
    assert_eq!(flags.given.len(), 2);
}

/// The rows of the table in `docs/operating.md`.
fn table() -> String {
    let mut out = String::from("| setting | default | what |\n|---|---|---|\n");
    for setting in SETTINGS {
        let default = (setting.default)().map_or("not set".into(), |value| format!("`{value}`"));
        writeln!(out, "| `{}` | {default} | {} |", setting.key(), setting.doc.trim()).unwrap();
    }
    out
}

/// `UPDATE=1` rewrites it.
#[test]
fn operating_manual_has_the_table_of_settings() {
    const BEGIN: &str = "<!-- settings: made by a test, UPDATE=1 rewrites it -->\n";
    const END: &str = "<!-- end of settings -->";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operating.md");
    let manual = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = manual.split_once(BEGIN).expect("the table's beginning");
    let (found, after) = rest.split_once(END).expect("the table's end");
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
    } else {
        assert_eq!(found, table(), "docs/operating.md lags behind: run the test with UPDATE=1");
    }
}
