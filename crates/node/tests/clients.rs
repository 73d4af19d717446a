//! The clients that people use, against a dev chain that each test starts for itself: cast,
//! forge, viem, ethers, web3.py, and viem's test client for the controls.
//!
//! `tests/clients/install` brings them from npm and PyPI into `target/clients`, once. Where that
//! is not possible a test writes `skipped:` and what is missing, and passes; with
//! `LANDFALL_CLIENTS_REQUIRED=1` it fails. `LANDFALL_CLIENTS_NODE=anvil` runs the same scripts
//! against anvil instead, to tell a fault of a script from a fault of the node; anvil itself then
//! fails `txpool`, `dropTransaction` and `reset` of the controls, and `setIntervalMining` in
//! Hardhat's mode.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const START_MAX: Duration = Duration::from_secs(60);
const CLIENT_MAX: Duration = Duration::from_secs(240);

/// The key of the first account of the dev mnemonic.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const FIRST: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const SECOND: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const BEEF: &str = "0x000000000000000000000000000000000000bEEF";
const ETHER: &str = "1000000000000000000";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("workspace root")
}

fn installed() -> PathBuf {
    env::var_os("LANDFALL_CLIENTS").map_or_else(|| root().join("target/clients"), PathBuf::from)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn foundry(name: &str) -> PathBuf {
    let package = format!("npm/node_modules/@foundry-rs/{name}-linux-amd64/bin/{name}");
    installed().join(package)
}

/// Runs the install script once per test process; its complaint is the reason of later skips.
fn install() -> &'static str {
    static COMPLAINT: OnceLock<String> = OnceLock::new();
    COMPLAINT.get_or_init(|| match Command::new(script("install")).stdin(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
        Err(error) => format!("tests/clients/install does not run: {error}"),
    })
}

/// Whether a test can run: every file in `needs` is there after the installation. Says what is
/// missing past the capture of the test harness, which hides the output of tests that pass.
fn available(needs: &[PathBuf]) -> bool {
    let complaint = install();
    let missing: Vec<_> = needs
        .iter()
        .filter(|path| !path.exists())
        .map(|path| path.strip_prefix(root()).unwrap_or(path).display().to_string())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let message = format!("skipped: {} ({complaint})", missing.join(", "));
    assert!(env::var_os("LANDFALL_CLIENTS_REQUIRED").is_none_or(|set| set != "1"), "{message}");
    writeln!(std::io::stderr(), "{message}").expect("stderr");
    false
}

/// A dev chain of its own process, killed when dropped.
struct Chain {
    process: Child,
    address: SocketAddr,
}

impl Chain {
    fn start() -> Self {
        let mut command = match env::var("LANDFALL_CLIENTS_NODE").as_deref() {
            Ok("anvil") => Command::new(foundry("anvil")),
            Ok(other) => panic!("LANDFALL_CLIENTS_NODE is anvil or not set, not {other}"),
            Err(_) => {
                let mut landfall = Command::new(env!("CARGO_BIN_EXE_landfall"));
                landfall.arg("dev");
                landfall
            }
        };
        command.args(["--port", "0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the node starts");
        let lines = BufReader::new(process.stdout.take().expect("stdout")).lines();
        let (sender, listening) = mpsc::channel();
        // Reads on to the end, so that the node never blocks on a full pipe.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some(address) = line.trim().strip_prefix("Listening on ") {
                    let _ = sender.send(address.parse());
                }
            }
        });
        let mut chain = Self { process, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        chain.address = listening
            .recv_timeout(START_MAX)
            .expect("the node prints `Listening on ADDRESS`")
            .expect("`Listening on` is followed by an address");
        chain
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Runs a client to its end and returns what it wrote; a client that fails fails the test.
    fn client(&self, command: &mut Command) -> String {
        command
            .env("LANDFALL_RPC", self.url())
            .env("ETH_RPC_URL", self.url())
            .env("NODE_PATH", installed().join("npm/node_modules"))
            .env("FOUNDRY_SOLC", root().join("contracts/solc"))
            .env("NO_COLOR", "1");
        let output = finish(command);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{:?} ended with {}\n{stdout}{}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        stdout
    }

    /// A script must also say `passed`: leaving early with 0 is no success.
    fn passes(&self, command: &mut Command) {
        let output = self.client(command);
        assert_eq!(output.lines().last(), Some("passed"), "{output}");
    }

    fn cast<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.client(Command::new(foundry("cast")).args(arguments)).trim().to_owned()
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// `Command::output` with an end: a client that hangs is killed.
fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("the client starts");
    let stdout = collect(process.stdout.take().expect("stdout"));
    let stderr = collect(process.stderr.take().expect("stderr"));
    let deadline = Instant::now() + CLIENT_MAX;
    let status = loop {
        if let Some(status) = process.try_wait().expect("wait for the client") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = process.kill();
            break process.wait().expect("wait for the client");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let stdout = stdout.join().expect("reader of stdout");
    let stderr = stderr.join().expect("reader of stderr");
    Output { status, stdout, stderr }
}

fn javascript(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script(name));
    command
}

fn viem_stamp() -> PathBuf {
    installed().join("npm/.stamp")
}

#[test]
fn cast_sends_value_and_reads_it_back() {
    if !available(&[foundry("cast")]) {
        return;
    }
    let chain = Chain::start();
    assert_eq!(chain.cast(["chain-id"]), "31337");
    assert_eq!(chain.cast(["balance", BEEF]), "0");
    let sent = chain.cast(["send", "--json", "--private-key", KEY, "--value", "1ether", BEEF]);
    let receipt: serde_json::Value = serde_json::from_str(&sent).expect("cast prints a receipt");
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(chain.cast(["balance", BEEF]), ETHER);
    let hash = receipt["transactionHash"].as_str().expect("the receipt names its transaction");
    assert_eq!(chain.cast(["tx", hash, "value"]), ETHER);
    assert_eq!(chain.cast(["receipt", hash, "blockNumber"]), "1");
    assert_eq!(chain.cast(["nonce", FIRST]), "1");
    // An account of the node, signed there.
    chain.cast(["send", "--unlocked", "--from", SECOND, "--value", "2ether", BEEF]);
    assert_eq!(chain.cast(["balance", "--ether", BEEF]), "3.000000000000000000");
    assert_eq!(chain.cast(["block-number"]), "2");
}

#[test]
fn forge_deploys_openzeppelins_erc20_and_calls_it() {
    let modules = root().join("contracts/node_modules/.stamp");
    if !available(&[foundry("forge"), foundry("cast"), modules]) {
        return;
    }
    let chain = Chain::start();
    let forge = || {
        let mut command = Command::new(foundry("forge"));
        command.current_dir(root().join("contracts"));
        command
    };
    let balance = |token: &str, holder: &str| {
        let printed = chain.cast(["call", token, "balanceOf(address)(uint256)", holder]);
        printed.split(' ').next().expect("a number").to_owned()
    };

    let mut create = forge();
    create.args(["create", "--json", "--broadcast", "--private-key", KEY]);
    create.args(["--rpc-url", &chain.url(), "src/BenchToken.sol:BenchToken"]);
    create.args(["--constructor-args", ETHER]);
    let printed = chain.client(&mut create);
    let created: serde_json::Value = serde_json::from_str(&printed).expect("forge prints JSON");
    let token = created["deployedTo"].as_str().expect("forge names the contract").to_owned();
    assert_eq!(chain.cast(["call", &token, "symbol()(string)"]), "\"BENCH\"");
    assert_eq!(balance(&token, FIRST), ETHER);

    // The same from a script: it deploys another and sends a transfer.
    let mut run = forge();
    run.args(["script", "--broadcast", "--private-key", KEY]);
    run.args(["--rpc-url", &chain.url(), "script/DeployToken.s.sol"]);
    let printed = chain.client(&mut run);
    let token = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("token: address "))
        .unwrap_or_else(|| panic!("forge names the contract:\n{printed}"));
    assert_eq!(balance(token, BEEF), "5000000000000000000");
}

#[test]
fn viem_deploys_sends_reads_logs_and_subscribes() {
    if available(&[viem_stamp()]) {
        Chain::start().passes(&mut javascript("viem.js"));
    }
}

#[test]
fn ethers_deploys_sends_reads_logs_and_subscribes() {
    if available(&[viem_stamp()]) {
        Chain::start().passes(&mut javascript("ethers.js"));
    }
}

#[test]
fn web3py_deploys_sends_reads_logs_and_subscribes() {
    let python = installed().join("python/bin/python");
    if available(&[installed().join("python/.stamp"), python.clone()]) {
        Chain::start().passes(Command::new(python).arg(script("web3_client.py")));
    }
}

#[test]
fn viem_drives_every_control_in_mode_anvil() {
    if available(&[viem_stamp()]) {
        Chain::start().passes(javascript("controls.js").env("LANDFALL_MODE", "anvil"));
    }
}

#[test]
fn viem_drives_every_control_in_mode_hardhat() {
    if available(&[viem_stamp()]) {
        Chain::start().passes(javascript("controls.js").env("LANDFALL_MODE", "hardhat"));
    }
}
