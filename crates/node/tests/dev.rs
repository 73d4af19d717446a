//! `landfall dev` and the commands around a data directory, as processes.

mod node;

use node::{Directory, FIRST, Node, SECOND, landfall, quantity, refusal, vectors};
use serde_json::json;
use std::net::TcpListener;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

fn wall_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn banner_is_anvils_and_the_first_transaction_is_mined_soon() {
    let start = Instant::now();
    let node = Node::start(&[]);
    let receipt = node.send(FIRST, SECOND, 1);
    let elapsed = start.elapsed();
    println!("from start to the first mined transaction: {elapsed:?}");
    // The promise is one second; a test beside others on a busy machine gets more.
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    assert_eq!(receipt["blockNumber"], "0x1");
    for part in [
        "(0) 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 (10000.000000000000000000 ETH)",
        "(9) 0xa0Ee7A142d267C1f36714E4a8F75612F20a79720",
        "(0) 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "31337",
        "30000000",
    ] {
        assert!(node.banner.contains(part), "{part} is not in {}", node.banner);
    }
    assert_eq!(node.number("eth_chainId", json!([])), 31_337);
    assert_eq!(node.call("eth_accounts", json!([])).as_array().unwrap().len(), 10);
}

#[test]
fn flags_shape_the_chain() {
    let node = Node::start(&[
        "-a",
        "3",
        "--balance",
        "7",
        "--chain-id",
        "99",
        "--gas-limit",
        "50000000",
        "--base-fee",
        "5",
        "--timestamp",
        "1000000000",
        "-m",
        "legal winner thank year wave sausage worth useful legal winner thank yellow",
    ]);
    let accounts = node.call("eth_accounts", json!([]));
    assert_eq!(accounts.as_array().unwrap().len(), 3);
    assert_ne!(accounts[0], FIRST);
    let balance = node.number("eth_getBalance", json!([accounts[0], "latest"]));
    assert_eq!(balance, 7_000_000_000_000_000_000);
    assert_eq!(node.number("eth_chainId", json!([])), 99);
    let genesis = node.block("0x0");
    assert_eq!(quantity(&genesis["gasLimit"]), 50_000_000);
    assert_eq!(quantity(&genesis["baseFeePerGas"]), 5);
    assert_eq!(quantity(&genesis["timestamp"]), 1_000_000_000);
    node.call("evm_mine", json!([]));
    let first = quantity(&node.block("latest")["timestamp"]);
    assert!((1_000_000_000..1_000_000_100).contains(&first), "{first}");
}

#[test]
fn data_directory_keeps_the_chain_and_temporary_one_goes() {
    let directory = Directory::new("keep");
    let path = directory.join("chain");
    let args = ["--datadir", text(&path)];
    let node = Node::start(&args);
    node.send(FIRST, SECOND, 12_345);
    let before = (node.block("latest"), node.call("eth_getBalance", json!([SECOND, "latest"])));
    assert_eq!(node.terminate(), Some(0));
    let node = Node::start(&args);
    let after = (node.block("latest"), node.call("eth_getBalance", json!([SECOND, "latest"])));
    assert_eq!(before, after);
    let receipt = node.send(FIRST, SECOND, 1);
    assert_eq!(receipt["blockNumber"], "0x2");
    drop(node);

    for (flag, value) in
        [("--chain-id", "5"), ("--base-fee", "6"), ("--timestamp", "7"), ("--balance", "8")]
    {
        let message = refusal(&["dev", "--port", "0", "--datadir", text(&path), flag, value]);
        assert!(message.contains(flag) && message.contains("contradicts"), "{message}");
    }

    let node = Node::start(&[]);
    let (_, rest) = node.banner.split_once("Data Directory\n==================\n\n").unwrap();
    let temporary = std::path::PathBuf::from(rest.split_once(" (").unwrap().0);
    assert!(temporary.exists());
    assert_eq!(node.terminate(), Some(0));
    assert!(!temporary.exists(), "{} is left", temporary.display());
}

#[test]
fn port_in_use_is_a_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let message = refusal(&["dev", "--port", &port]);
    assert!(message.contains("in use") && message.contains(&port), "{message}");
}

#[test]
fn locked_and_foreign_data_directories_are_refused() {
    let directory = Directory::new("locked");
    let path = directory.join("chain");
    let node = Node::start(&["--datadir", text(&path)]);
    let message = refusal(&["dev", "--port", "0", "--datadir", text(&path)]);
    assert!(message.contains(text(&path)) && message.contains("another"), "{message}");
    node.send(FIRST, SECOND, 1);
    assert_eq!(node.terminate(), Some(0));
    let genesis = directory.join("genesis.json");
    let file = json!({
        "config": {"chainId": 5, "terminalTotalDifficulty": 0, "londonBlock": 0,
            "shanghaiTime": 0, "landfall": {"engine": "solo"}},
        "difficulty": "0x0", "gasLimit": "0x1c9c380", "alloc": {},
    });
    std::fs::write(&genesis, file.to_string()).unwrap();
    let message =
        refusal(&["dev", "--port", "0", "--init", text(&genesis), "--datadir", text(&path)]);
    assert!(message.contains("belongs to another chain"), "{message}");
    let missing = directory.join("nothing");
    let message = refusal(&["db", "stats", "--datadir", text(&missing)]);
    assert!(message.contains("holds no chain"), "{message}");
}

#[test]
fn faulty_genesis_is_refused_with_the_field_named() {
    let directory = Directory::new("genesis");
    let path = directory.join("genesis.json");
    let config = r#""config":{"chainId":1,"terminalTotalDifficulty":0,"landfall":{}}"#;
    let cases = [
        ("{".to_owned(), "genesis"),
        ("{}".to_owned(), "`config`"),
        (format!("{{{config}}}"), "`alloc`"),
        (format!(r#"{{{config},"alloc":{{"0x12":{{}}}}}}"#), "`alloc.0x12`"),
        (format!(r#"{{{config},"alloc":{{}},"gasLimit":"much"}}"#), "`gasLimit`"),
        (
            r#"{"config":{"chainId":1},"alloc":{},"gasLimit":"0x1c9c380","difficulty":"0x1"}"#
                .into(),
            "`config.terminalTotalDifficulty`",
        ),
    ];
    for (file, field) in cases {
        std::fs::write(&path, &file).unwrap();
        let message = refusal(&["dev", "--port", "0", "--init", text(&path)]);
        assert!(message.contains(field) && message.contains(text(&path)), "{file}: {message}");
    }
    let message = refusal(&["dev", "--port", "0", "--init", text(&directory.join("absent"))]);
    assert!(message.contains("cannot read"), "{message}");
}

#[test]
fn ethereum_chain_goes_in_and_out_unchanged() {
    let directory = Directory::new("import");
    let Some(vectors) = vectors("rpc-compat", &directory.join("")) else { return };
    let find = |name: &str| {
        let mut stack = vec![vectors.clone()];
        while let Some(path) = stack.pop() {
            for entry in std::fs::read_dir(path).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().is_some_and(|file| file == name) {
                    return path;
                }
                if path.is_dir() {
                    stack.push(path);
                }
            }
        }
        panic!("{name} is not in the archive");
    };
    let (genesis, chain) = (find("genesis.json"), find("chain.rlp"));
    let (first, second) = (directory.join("first"), directory.join("second"));
    let out = directory.join("out.rlp");
    let run = |args: &[&str]| {
        let output = landfall(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let import = |datadir: &std::path::Path, file: &std::path::Path| {
        run(&["import", "--genesis", text(&genesis), "--datadir", text(datadir), text(file)])
    };
    let said = import(&first, &chain);
    assert!(said.contains("head is block 54 "), "{said}");
    run(&["export", "--datadir", text(&first), text(&out)]);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&chain).unwrap());
    assert_eq!(import(&second, &out), said);
    let again = import(&second, &out);
    assert!(again.contains("head is block 54 "), "{again}");
    let stats = run(&["db", "stats", "--datadir", text(&second)]);
    let rebuilt = run(&["db", "rebuild", "--datadir", text(&second)]);
    assert!(rebuilt.contains("54 blocks"), "{rebuilt}");
    let root =
        |stats: &str| stats.lines().find(|l| l.starts_with("state root")).unwrap().to_owned();
    assert_eq!(root(&run(&["db", "stats", "--datadir", text(&second)])), root(&stats));
    let message = refusal(&["export", "--datadir", text(&first), text(&out)]);
    assert!(message.contains("exists"), "{message}");
    std::fs::write(&out, [0xf9, 0x01]).unwrap();
    let message = refusal(&["import", "--datadir", text(&first), text(&out)]);
    assert!(message.contains("byte 0"), "{message}");
}

#[test]
fn verify_passes_an_honest_ledger_names_a_patched_one_and_refuses_a_damaged_one() {
    let directory = Directory::new("verify");
    let path = directory.join("chain");
    let args = ["--datadir", text(&path)];
    let verify = ["db", "verify", "--datadir", text(&path)];
    let node = Node::start(&args);
    node.send(FIRST, SECOND, 1);
    node.call("anvil_mine", json!(["0x190"]));
    node.send(FIRST, SECOND, 1);
    assert_eq!(node.terminate(), Some(0));
    let honest = landfall(&verify);
    let said = String::from_utf8_lossy(&honest.stdout).into_owned();
    assert!(honest.status.success(), "{}", String::from_utf8_lossy(&honest.stderr));
    assert!(said.contains("402 blocks up to 402") && said.contains("2 transactions"), "{said}");
    assert!(!said.contains("patched"), "{said}");

    let node = Node::start(&args);
    node.call("anvil_setBalance", json!([SECOND, "0x5"]));
    node.call("evm_mine", json!([]));
    assert_eq!(node.terminate(), Some(0));
    let said = landfall(&verify);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("patched: 1 changes"), "{said}");

    let segment = largest_file(&path, &["views"]);
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = landfall(&verify);
    let said = String::from_utf8_lossy(&damaged.stderr).into_owned();
    assert_eq!(damaged.status.code(), Some(74), "{said}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name), "{name} is not named: {said}");
}

fn largest_file(path: &std::path::Path, without: &[&str]) -> std::path::PathBuf {
    let (mut stack, mut largest) = (vec![path.to_owned()], (0, path.to_owned()));
    while let Some(path) = stack.pop() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            if without.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let size = entry.metadata().unwrap().len();
            if entry.path().is_dir() {
                stack.push(entry.path());
            } else if size > largest.0 {
                largest = (size, entry.path());
            }
        }
    }
    largest.1
}

#[test]
fn revert_goes_back_over_ten_thousand_blocks() {
    let node = Node::start(&[]);
    node.send(FIRST, SECOND, 1);
    let before = node.block("latest");
    let balance = node.call("eth_getBalance", json!([SECOND, "latest"]));
    let snapshot = node.call("evm_snapshot", json!([]));
    node.call("anvil_setBalance", json!([SECOND, "0x5"]));
    node.send(FIRST, SECOND, 7);
    node.call("anvil_mine", json!(["0x2710"]));
    assert_eq!(node.number("eth_blockNumber", json!([])), 10_002);
    assert!(quantity(&node.block("finalized")["number"]) <= 1);
    assert_eq!(node.number("eth_getBalance", json!([SECOND, "latest"])), 12);
    assert_eq!(node.call("evm_revert", json!([snapshot])), true);
    assert_eq!(node.block("latest"), before);
    assert_eq!(node.call("eth_getBalance", json!([SECOND, "latest"])), balance);
    assert_eq!(node.call("evm_revert", json!([snapshot])), false, "a snapshot is used once");
    let receipt = node.send(FIRST, SECOND, 1);
    assert_eq!(receipt["blockNumber"], "0x2");
}

#[test]
fn safe_and_finalized_trail_and_reset_needs_an_open_genesis() {
    let node = Node::start(&[]);
    node.call("anvil_mine", json!(["0x14"]));
    node.call("anvil_reset", json!([]));
    assert_eq!(node.number("eth_blockNumber", json!([])), 0);
    node.call("anvil_mine", json!(["0x64"]));
    assert_eq!(quantity(&node.block("safe")["number"]), 68);
    assert_eq!(quantity(&node.block("finalized")["number"]), 36);
    let error = node.try_call("anvil_reset", &json!([])).unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("final"), "{error}");
    assert_eq!(node.number("eth_blockNumber", json!([])), 100);
}

#[test]
fn thousand_blocks_leave_the_clock_at_the_wall_and_controls_move_it() {
    let node = Node::start(&[]);
    for _ in 0..10 {
        node.call("anvil_mine", json!(["0x64"]));
    }
    let ahead = quantity(&node.block("latest")["timestamp"]).saturating_sub(wall_seconds());
    assert!(ahead <= 1, "the chain is {ahead} s ahead of the wall clock");
    node.call("evm_increaseTime", json!([1_000]));
    node.call("evm_mine", json!([]));
    let later = quantity(&node.block("latest")["timestamp"]);
    assert!((999..1_100).contains(&(later - wall_seconds())), "{later}");
    node.call("evm_setNextBlockTimestamp", json!([later + 5_000]));
    node.call("evm_mine", json!([]));
    assert_eq!(quantity(&node.block("latest")["timestamp"]), later + 5_000);
    let error = node.try_call("evm_setNextBlockTimestamp", &json!([later])).unwrap_err();
    assert!(error["message"].as_str().unwrap().contains("lower"), "{error}");
    node.call("anvil_mine", json!(["0x3", "0x64"]));
    let newest = quantity(&node.block("latest")["timestamp"]);
    assert!((later + 5_200..later + 5_300).contains(&newest), "{newest}");
}

#[test]
fn sealing_modes_follow_the_flags_and_the_controls() {
    let node = Node::start(&["--no-mining"]);
    let sent = json!([{"from": FIRST, "to": SECOND, "value": "0x1"}]);
    let hash = node.call("eth_sendTransaction", sent.clone());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(node.number("eth_blockNumber", json!([])), 0);
    node.call("evm_mine", json!([]));
    assert_eq!(node.call("eth_getTransactionReceipt", json!([hash]))["blockNumber"], "0x1");
    node.call("evm_setAutomine", json!([true]));
    assert_eq!(node.send(FIRST, SECOND, 1)["blockNumber"], "0x2");
    drop(node);

    let node = Node::start(&["--block-time", "0.05"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(node.number("eth_blockNumber", json!([])) >= 3, "empty blocks come on the interval");
    node.send(FIRST, SECOND, 1);
    drop(node);

    let node = Node::start(&["--block-time", "0.05", "--no-empty-blocks"]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(node.number("eth_blockNumber", json!([])), 0);
    assert_eq!(node.send(FIRST, SECOND, 1)["blockNumber"], "0x1");
}

#[test]
fn bench_measures_a_node_and_all_of_it_is_included() {
    let node = Node::start(&["--block-time", "0.1"]);
    let url = format!("http://{}", node.address);
    let pid = node.pid().to_string();
    for workload in ["value", "mix"] {
        let output = landfall(&[
            "bench",
            "--rpc",
            &url,
            "--pid",
            &pid,
            "-n",
            "300",
            "--senders",
            "20",
            "--workload",
            workload,
            "--batch",
            "10",
            "--json",
        ]);
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
        let runs: serde_json::Value = serde_json::from_str(&report).unwrap();
        let run = &runs[0];
        assert_eq!(run["included"], 300, "{run}");
        assert_eq!(run["failed"], 0, "{run}");
        assert!(run["latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{run}");
    }
    let output = landfall(&[
        "bench",
        "--rpc",
        &url,
        "-n",
        "50",
        "--senders",
        "5",
        "--rate",
        "500",
        "--batch",
        "1",
    ]);
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && table.contains("p99 ms"), "{table}");
}
