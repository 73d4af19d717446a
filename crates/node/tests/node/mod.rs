//! A running node as a test sees it: a process with its output, and JSON-RPC to it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything that a test waits for may take, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The first account of the well-known mnemonic.
pub const FIRST: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
/// The second one.
pub const SECOND: &str = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8";

/// A directory that goes with the test.
pub struct Directory(PathBuf);

impl Directory {
    /// An empty directory.
    pub fn new(name: &str) -> Self {
        let name = format!("landfall-test-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        Self(path)
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command without the variables that say what tests require: to the binary they are settings
/// that it does not know.
pub fn without_variables(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LANDFALL_") {
            command.env_remove(name);
        }
    }
    command
}

/// The binary with arguments, run to its end.
pub fn landfall(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_landfall")).args(args).output().expect("the binary starts")
}

/// What a refused command says; it must end with code 1 and one line of error.
pub fn refusal(args: &[&str]) -> String {
    let output = landfall(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {text}");
    assert!(text.starts_with("error: "), "{text}");
    text
}

/// `landfall dev` in a process of its own; ended when dropped.
pub struct Node {
    child: Child,
    /// Everything printed up to the address.
    pub banner: String,
    /// Where it listens.
    pub address: String,
    next_id: std::cell::Cell<u64>,
}

impl Node {
    /// Starts it on a free port and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        let mut node = Self::spawn(args);
        assert!(node.wait_until_listening(), "the node ended early: {}", node.banner);
        node
    }

    /// Starts it and does not wait.
    pub fn spawn(args: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["dev", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        Self { child, banner: String::new(), address: String::new(), next_id: 1.into() }
    }

    /// Reads the banner; false if the node ended before it listened.
    pub fn wait_until_listening(&mut self) -> bool {
        let stdout = self.child.stdout.as_mut().expect("stdout is piped");
        let mut lines = BufReader::new(stdout);
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).expect("the banner is text") == 0 {
                return false;
            }
            self.banner.push_str(&line);
            if let Some(address) = line.strip_prefix("Listening on ") {
                self.address = address.trim().to_owned();
                return true;
            }
        }
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().expect("kill exists").success());
        self.child.wait().expect("the process is ours").code()
    }

    /// One call; the result.
    pub fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.try_call(method, &params);
        answer.unwrap_or_else(|error| panic!("{method} {params}: {error}"))
    }

    /// One call; the error object, or what went wrong on the way.
    pub fn try_call(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let mut answer = post(&self.address, &request).map_err(|e| json!(e.to_string()))?;
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }

    /// A number that a call answers.
    pub fn number(&self, method: &str, params: Value) -> u64 {
        quantity(&self.call(method, params))
    }

    /// A block by its number or tag, with hashes.
    pub fn block(&self, which: &str) -> Value {
        self.call("eth_getBlockByNumber", json!([which, false]))
    }

    /// Sends value from an unlocked account and waits for the receipt.
    pub fn send(&self, from: &str, to: &str, value: u64) -> Value {
        let transaction = json!({"from": from, "to": to, "value": format!("{value:#x}")});
        let hash = self.call("eth_sendTransaction", json!([transaction]));
        let start = Instant::now();
        loop {
            let receipt = self.call("eth_getTransactionReceipt", json!([hash]));
            if !receipt.is_null() {
                assert_eq!(receipt["status"], "0x1");
                return receipt;
            }
            assert!(start.elapsed() < PATIENCE, "no receipt of {hash}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGTERM first: so the node takes its temporary directory with it.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        }
        let _ = self.child.wait();
    }
}

/// Reads `0x…`.
pub fn quantity(value: &Value) -> u64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a quantity"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a quantity is hexadecimal")
}

/// One request over a connection of its own.
pub fn post(address: &str, body: &Value) -> std::io::Result<Value> {
    exchange(address, body, PATIENCE)
}

/// One request over a connection of its own; an error if nothing comes for so long.
pub fn exchange(address: &str, body: &Value, limit: Duration) -> std::io::Result<Value> {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let broken = || std::io::Error::other("the answer is cut off");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    serde_json::from_slice(&answer[end + 4..]).map_err(|_| broken())
}

/// The conformance archive of that name, unpacked into a directory; `None`, and a line that says
/// so, if it is not on this machine and not required.
pub fn vectors(archive: &str, into: &Path) -> Option<PathBuf> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let place = std::env::var_os("LANDFALL_VECTORS").map_or(usual, PathBuf::from);
    let file = place.join(format!("{archive}.tar.zst"));
    if !file.exists() {
        let required = std::env::var_os("LANDFALL_VECTORS_REQUIRED").is_some_and(|v| v == "1");
        assert!(!required, "{} is missing", file.display());
        println!("skipped: no vectors ({} is missing)", file.display());
        return None;
    }
    let status =
        Command::new("tar").arg("--zstd").arg("-xf").arg(&file).arg("-C").arg(into).status();
    assert!(status.expect("tar exists").success(), "{} does not unpack", file.display());
    Some(into.to_owned())
}
