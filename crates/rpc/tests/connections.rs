//! Clients that take places and do not use them, and clients that ask and do not read.

mod support;

use alloy_primitives::{Address, address, hex};
use landfall_rpc::RpcConfig;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::ws::{self, WebSocket};
use support::{TestNode, http};

/// A contract whose code is long, so that a short call has a long answer.
const LONG: Address = address!("0x00000000000000000000000000000000000000a3");
const LONG_CODE: usize = 24 * 1_024;
/// Time for the node to do what it does at once.
const SOON: Duration = Duration::from_secs(20);

fn genesis() -> Value {
    let mut genesis = support::genesis();
    let code = hex::encode_prefixed([0].repeat(LONG_CODE));
    genesis["alloc"][LONG.to_string()] = json!({ "balance": "0x0", "code": code });
    genesis
}

async fn node(config: RpcConfig) -> TestNode {
    TestNode::start_on(&genesis(), config, None).await
}

fn ask_for_code() -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getCode", "params": [LONG, "latest"] })
        .to_string()
}

/// The status of an answer.
fn status(node: &TestNode) -> u16 {
    let body = br#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#;
    http::post(node.address, body).0
}

/// Whether the node closes a connection, soon.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a positive timeout");
    let (begun, mut buffer) = (Instant::now(), [0; 1 << 16]);
    while begun.elapsed() < SOON {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return true,
            Ok(_) | Err(_) => {}
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_make_room_and_websockets_do_not() {
    let node = node(RpcConfig { max_connections: 4, ..RpcConfig::default() }).await;
    let connect = || TcpStream::connect(node.address).expect("the node listens");
    let mut idle: Vec<_> = (0..4).map(|_| connect()).collect();
    assert_eq!(status(&node), 200);
    assert!(is_closed(&mut idle[0]), "the longest idle one makes room");

    let _sockets: Vec<_> = (0..4).map(|_| WebSocket::open(node.address)).collect();
    assert!(idle[1..].iter_mut().all(is_closed));
    let begun = Instant::now();
    assert_eq!(status(&node), 503);
    drop(_sockets);
    while status(&node) != 200 {
        assert!(begun.elapsed() < SOON, "the places of WebSockets that are gone are free");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_does_not_read_is_read_no_further() {
    let node = node(RpcConfig { max_response_bytes: 1 << 20, ..RpcConfig::default() }).await;
    let mut stream = WebSocket::open(node.address).into_stream();
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a positive timeout");
    // Answers of 48 KiB: were all made, they would take two thousand times that.
    let calls = ws::frame(&ask_for_code()).repeat(2_000);
    let mut sent = 0;
    let refused = (0..100).find_map(|_| {
        let outcome = stream.write_all(&calls);
        sent += calls.len();
        outcome.err()
    });
    let error = refused.unwrap_or_else(|| panic!("{sent} bytes of calls were taken"));
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "it waits, and is not cut off yet");
    assert_eq!(status(&node), 200);
    // It reads after all, and is answered.
    let mut answers = vec![0; 8 << 20];
    stream.read_exact(&mut answers).expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_cannot_hold_more_than_there_is() {
    // Four times a request and an answer are 1 MiB, for all.
    let limits = RpcConfig {
        max_request_bytes: 128 << 10,
        max_response_bytes: 128 << 10,
        ..RpcConfig::default()
    };
    let node = node(limits).await;
    let calls = ws::frame(&ask_for_code()).repeat(1_000);
    let mut streams: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = WebSocket::open(node.address).into_stream();
            // Together well below the time in which a slow client is cut off for that.
            let patience = Duration::from_millis(300);
            stream.set_write_timeout(Some(patience)).expect("a positive timeout");
            // What is not taken is not asked.
            _ = stream.write_all(&calls);
            stream
        })
        .collect();
    let cut_off = |stream: &mut TcpStream| {
        let outcome = stream.write(&[0x89, 0x80, 0, 0, 0, 0]); // a ping
        outcome.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    };
    let begun = Instant::now();
    while !streams.iter_mut().any(cut_off) {
        assert!(begun.elapsed() < SOON, "all sixteen have places and answers that wait");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status(&node), 200, "who reads is served");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_calls_are_not_answered_without_end() {
    let node = node(RpcConfig::default()).await;
    let mut stream = WebSocket::open(node.address).into_stream();
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a positive timeout");
    let junk = ws::frame("{}").repeat(100_000);
    let refused = (0..100).find_map(|_| stream.write_all(&junk).err());
    let error = refused.expect("each message has an answer that waits");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!(status(&node), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_protocol_is_spoken_and_a_failed_upgrade_is_none() {
    let node = node(RpcConfig { max_connections: 1, ..RpcConfig::default() }).await;
    let mut stream = TcpStream::connect(node.address).expect("the node listens");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("it is taken");
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "no HTTP/2: {answer:?}");
    // Two headers of an upgrade make no WebSocket, which would keep its place.
    let mut stream = TcpStream::connect(node.address).expect("the node listens");
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        )
        .expect("it is taken");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_ne!(&answer[..], b"HTTP/1.1 101");
    assert_eq!(status(&node), 200);
}

/// Pools of connections reuse them, also to open WebSockets.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_serves_batches_and_then_becomes_a_websocket() {
    let node = node(RpcConfig::default()).await;
    let call = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "eth_getBalance", "params": [LONG, "latest"] });
    let batch = Value::from_iter((0..200).map(call)).to_string();
    let mut stream = TcpStream::connect(node.address).expect("the node listens");
    stream.set_read_timeout(Some(SOON)).expect("a positive timeout");
    for _ in 0..3 {
        assert_eq!(http::post_on(&mut stream, batch.as_bytes()), 200);
    }
    let mut socket = WebSocket::upgrade(stream, node.address);
    // More than are read at once, in two batches, and subscriptions in one.
    for id in 0..500 {
        socket.send(&call(id).to_string());
    }
    for _ in 0..500 {
        assert_eq!(socket.next()["result"], "0x0");
    }
    let subscribe =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"] });
    socket.send(&Value::from_iter((0..100).map(|_| subscribe.clone())).to_string());
    let answers = (0..101).map(|_| socket.next()).filter(Value::is_array).count();
    assert_eq!(answers, 1);
    socket.send(&call(7).to_string());
    assert_eq!(socket.next()["id"], 7);
}

/// An answer without a call behind it, which echoes what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn long_messages_that_are_no_calls_are_read_no_further() {
    let node = node(RpcConfig { max_request_bytes: 1 << 20, ..RpcConfig::default() }).await;
    let mut stream = WebSocket::open(node.address).into_stream();
    stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a positive timeout");
    let echoed = ws::frame(&json!({ "id": "x".repeat(1_000_000) }).to_string());
    let (mut sent, mut refused) = (0, None);
    while sent < 100 << 20 && refused.is_none() {
        refused = stream.write_all(&echoed).err();
        sent += echoed.len();
    }
    assert_eq!(refused.expect("it is read no further").kind(), ErrorKind::WouldBlock);
    assert!(sent < 40 << 20, "{sent} bytes were taken");
}
