//! The port for metrics and health, and `landfall doctor`, against real processes.

mod node;

use node::{Directory, FIRST, Node, PATIENCE, SECOND, landfall};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An exchange must be cut off after ten seconds; a busy machine gets a few more.
const CUT_OFF: Duration = Duration::from_secs(25);

fn start(args: &[&str]) -> (Node, String) {
    let all = [&["--ops-port", "0"], args].concat();
    let node = Node::start(&all);
    let line = node.banner.lines().find_map(|line| line.strip_prefix("Metrics and health on "));
    let address = line.expect("the banner names the port").to_owned();
    (node, address)
}

/// One exchange; status, head and body.
fn exchange(address: &str, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(CUT_OFF)).expect("a positive timeout");
    stream.write_all(request.as_bytes()).expect("the request is taken");
    let mut answer = Vec::new();
    // A server that refuses a body may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.unwrap_or_else(|| panic!("no answer: {text:?}")), head.to_owned(), body.to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let (status, _, body) = exchange(address, &request);
    (status, body)
}

fn put(address: &str, path: &str, more: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("PUT {path} HTTP/1.1\r\nHost: {address}\r\n{more}Content-Length: {length}");
    let (status, _, body) = exchange(address, &format!("{head}\r\n\r\n{body}"));
    (status, body)
}

/// The value of a series.
fn series(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in:\n{text}")).parse().expect("a number")
}

#[test]
fn metrics_follow_blocks_transactions_and_requests() {
    let (node, ops) = start(&[]);
    node.send(FIRST, SECOND, 5);
    node.send(FIRST, SECOND, 6);
    assert!(node.try_call("eth_nothing", &json!([])).is_err());
    // Blocks are counted behind the receipt's back.
    let begun = Instant::now();
    let text = loop {
        let (status, text) = get(&ops, "/metrics");
        assert_eq!(status, 200);
        if series(&text, "landfall_chain_blocks_total") >= 2.0 || begun.elapsed() > CUT_OFF {
            break text;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(series(&text, "landfall_chain_blocks_total"), 2.0);
    assert_eq!(series(&text, "landfall_chain_head_number"), 2.0);
    assert_eq!(series(&text, "landfall_chain_transactions_total"), 2.0);
    assert_eq!(series(&text, "landfall_chain_gas_used_total"), 42_000.0);
    assert_eq!(series(&text, "landfall_chain_block_transactions_count"), 2.0);
    assert_eq!(series(&text, "landfall_rpc_requests_total{method=\"eth_sendTransaction\"}"), 2.0);
    assert_eq!(series(&text, "landfall_rpc_errors_total{method=\"other\"}"), 1.0);
    assert!(series(&text, "landfall_process_resident_bytes") > 1_000_000.0);
    assert!(series(&text, "landfall_process_open_files") > 3.0);
    assert!(series(&text, "landfall_storage_log_bytes") > 1_000.0);
    assert_eq!(series(&text, "landfall_storage_log_segments"), 1.0);
    assert!(series(&text, "landfall_storage_disk_free_bytes") > 0.0);
}

#[test]
fn a_healthy_node_says_so_in_every_form() {
    let (_node, ops) = start(&[]);
    for path in ["/livez", "/readyz", "/healthz"] {
        let (status, body) = get(&ops, path);
        assert_eq!((status, body.as_str()), (200, "ok\n"), "{path}");
    }
    for path in ["/liveness", "/readiness"] {
        assert_eq!(get(&ops, path), (200, r#"{"status":"UP"}"#.to_owned()), "{path}");
    }
    let (status, body) = get(&ops, "/readyz?minPeers=1");
    assert_eq!((status, body.as_str()), (503, "peers: 0 connected, 1 wanted\n"));
    assert_eq!(get(&ops, "/readyz?minPeers=x").0, 400);
    let (_, body) = get(&ops, "/healthz?verbose");
    let checks: Value = serde_json::from_str(&body).expect("JSON");
    let names: Vec<&str> = checks
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| it["name"].as_str().expect("text"))
        .collect();
    assert_eq!(names, ["process", "consensus", "peers", "sync", "progress", "disk"]);
    let (_, body) = get(&ops, "/version");
    let version: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&version["version"], &version["chainId"]), (&json!("0.1.0"), &json!(31337)));
    assert_eq!(get(&ops, "/nothing").0, 404);
    let post = exchange(&ops, &format!("POST /metrics HTTP/1.1\r\nHost: {ops}\r\n\r\n"));
    assert_eq!(post.0, 405);
}

#[test]
fn the_log_is_changed_by_an_operator_and_by_no_web_page() {
    let (_node, ops) = start(&[]);
    assert_eq!(get(&ops, "/loglevel"), (200, "warn\n".to_owned()));
    assert_eq!(put(&ops, "/loglevel", "", "info,landfall=debug").0, 200);
    assert_eq!(get(&ops, "/loglevel").1, "info,landfall=debug\n");
    let (status, words) = put(&ops, "/loglevel", "", "loud");
    assert!(status == 400 && words.contains("give a level"), "{status}: {words}");
    assert_eq!(put(&ops, "/loglevel", "Origin: https://example.org\r\n", "trace").0, 403);
    assert_eq!(put(&ops, "/loglevel", "", &"x".repeat(5_000)).0, 413);
    assert_eq!(get(&ops, "/loglevel").1, "info,landfall=debug\n", "none of these changed it");
}

#[test]
fn slow_and_silent_clients_are_cut_off_and_do_not_keep_others_out() {
    let (_node, ops) = start(&[]);
    let begun = Instant::now();
    // More than the port serves at once, all of them silent or half done.
    let mut slow: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(&ops).expect("the system queues it")).collect();
    slow[0].write_all(b"GET /livez HTTP/1.1\r\nHos").expect("half a request");
    assert_eq!(get(&ops, "/livez"), (200, "ok\n".to_owned()), "once the first are cut off");
    slow[0].set_read_timeout(Some(CUT_OFF)).expect("a positive timeout");
    let mut rest = Vec::new();
    let end = slow[0].read_to_end(&mut rest);
    assert!(end.is_ok() || begun.elapsed() < CUT_OFF, "it was cut off: {end:?}");
    assert!(begun.elapsed() < CUT_OFF, "{:?}", begun.elapsed());
    let long = format!("GET /livez HTTP/1.1\r\nHost: {ops}\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    let mut stream = TcpStream::connect(&ops).expect("the port is open");
    stream.set_read_timeout(Some(CUT_OFF)).expect("a positive timeout");
    // The server may stop reading in the middle.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(!text.contains("200 OK"), "{text}");
}

#[test]
fn doctor_finds_a_development_chain_healthy_and_a_dead_node_dead() {
    let (node, ops) = start(&[]);
    let (url, ops) = (format!("http://{}", node.address), format!("http://{ops}"));
    let well = landfall(&["doctor", "--rpc", &url, "--ops", &ops]);
    let text = String::from_utf8_lossy(&well.stdout).into_owned();
    assert_eq!(well.status.code(), Some(0), "{text}");
    assert!(text.contains("a development chain of one sealer"), "{text}");
    // Nobody listens on the port of a node that was stopped.
    let (gone, _) = start(&[]);
    let dead = format!("http://{}", gone.address);
    assert_eq!(gone.terminate(), Some(0));
    let half = landfall(&["doctor", "--json", "--rpc", &url, "--rpc", &dead]);
    assert_eq!(half.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&half.stdout).expect("JSON");
    assert_eq!(json["healthy"], false);
    assert_eq!(json["findings"][0]["severity"], "trouble");
    assert_eq!(json["findings"][0]["about"], dead);
    assert_eq!(json["nodes"][0]["answered"]["status"]["engine"], "solo");
    let nobody = landfall(&["doctor", "--rpc", &dead]);
    assert_eq!(nobody.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&nobody.stdout).contains("does not answer"));
    let uneven = landfall(&["doctor", "--rpc", &url, "--rpc", &dead, "--ops", &ops]);
    assert_eq!(uneven.status.code(), Some(2));
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let (_node, ops) = start(&[]);
    let port = ops.rsplit(':').next().expect("a port");
    let text = node::refusal(&["dev", "--port", "0", "--ops-port", port]);
    assert!(text.contains("for metrics and health") && text.contains("another port"), "{text}");
}

/// The exit code of `landfall doctor`, and what it printed.
type Diagnosis = (Option<i32>, String);

/// `landfall up`, stopped when dropped.
struct Up {
    child: Child,
    /// URL and process of each node.
    nodes: Vec<(String, String)>,
}

impl Up {
    fn start(directory: &Path) -> Self {
        // Three ranges of ports follow from it.
        let port = 20_000 + std::process::id() % 10_000;
        let mut child = Command::new(env!("CARGO_BIN_EXE_landfall"))
            .args(["up", "--stop-with-stdin", "--port", &port.to_string(), "--datadir"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut nodes = Vec::new();
        let line = |line: std::io::Result<String>| line.expect("the output is text");
        for line in lines.by_ref().map(line).take_while(|line| !line.starts_with("Ready.")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["node-1" | "node-2" | "node-3" | "node-4", url, "(process", pid] = words[..] {
                nodes.push((url.to_owned(), pid.trim_end_matches(')').to_owned()));
            }
        }
        assert_eq!(nodes.len(), 4, "four nodes are ready");
        // Its lines must go somewhere for as long as it runs.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, nodes }
    }

    fn doctor(&self) -> Diagnosis {
        let urls = self.nodes.iter().flat_map(|(url, _)| ["--rpc", url]);
        let output = landfall(&["doctor"].into_iter().chain(urls).collect::<Vec<_>>());
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn doctor_and_metrics_name_the_validator_that_was_killed() {
    let directory = Directory::new("ops-up");
    let up = Up::start(&directory.join("network"));
    let until = |what: &str, well: &dyn Fn(&Diagnosis) -> bool| {
        let begun = Instant::now();
        loop {
            let found = up.doctor();
            if well(&found) {
                return found.1;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {found:?}");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    let text = until("all four are well", &|(code, _)| *code == Some(0));
    assert!(text.contains("a quorum is up: weight 4 of 4, 3 needed"), "{text}");
    let (url, pid) = &up.nodes[3];
    assert!(Command::new("kill").args(["-9", pid]).status().expect("kill exists").success());
    let missing =
        |(code, text): &Diagnosis| *code == Some(1) && text.contains("is missing: last heard");
    let text = until("one is missing", &missing);
    assert!(text.contains(&format!("{url}: does not answer")), "{text}");
    assert!(text.contains("weight 3 of 4, 3 needed; not one more may fail"), "{text}");
    let first = up.nodes[0].0.trim_start_matches("http://");
    let port: u16 = first.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let ops = format!("127.0.0.1:{}", port + 2_000);
    let (_, text) = get(&ops, "/metrics");
    assert_eq!(series(&text, "landfall_consensus_members_missing"), 1.0);
    assert_eq!(series(&text, "landfall_consensus_members"), 4.0);
    assert_eq!(series(&text, "landfall_consensus_is_member"), 1.0);
    assert!(series(&text, "landfall_network_received_messages_total{lane=\"sync\"}") > 0.0);
    assert!(series(&text, "landfall_jobs_seconds_count{kind=\"sync\"}") >= 0.0);
    assert_eq!(get(&ops, "/readyz?minPeers=2"), (200, "ok\n".to_owned()), "two are left");
}
