//! Inputs that no node must take, and none may fall over: each gets its code and its words, and
//! afterwards the node still answers.

mod support;

use alloy_consensus::{SignableTransaction, TxEip1559, TxLegacy};
use alloy_eips::Encodable2718;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex};
use landfall_rpc::{Admin, RpcConfig};
use landfall_types::Transaction;
use serde_json::{Value, json};
use support::{CHAIN_ID, FUNDED, REVERTING, TestNode, http};

/// What is sent, and what must come back.
struct Bad {
    name: String,
    body: Vec<u8>,
    code: i64,
    words: &'static str,
}

const PARSE: i64 = -32700;
const REQUEST: i64 = -32600;
const METHOD: i64 = -32601;
const PARAMS: i64 = -32602;
const SERVER: i64 = -32000;
const TOO_LARGE: i64 = -32007;
const REVERTED: i64 = 3;

/// Small limits, so that exceeding them is quick.
fn limits() -> RpcConfig {
    RpcConfig {
        admin: Admin::Off,
        max_request_bytes: 2_000_000,
        max_batch: 50,
        max_log_blocks: 1_000,
        max_storage_slots: 16,
        max_filters: 4,
        ..RpcConfig::default()
    }
}

fn raw(name: &str, body: impl Into<Vec<u8>>, code: i64, words: &'static str) -> Bad {
    Bad { name: name.into(), body: body.into(), code, words }
}

fn call(method: &str, params: Value, code: i64, words: &'static str) -> Bad {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut shown = params.to_string();
    shown.truncate(100);
    Bad { name: format!("{method} {shown}"), body: body.to_string().into(), code, words }
}

fn requests() -> Vec<Bad> {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let with_params = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":{params}}}"#)
    };
    let batch = vec![r#"{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}"#; 51].join(",");
    vec![
        raw("an empty body", "", PARSE, "Parse error"),
        raw("no JSON", "hello", PARSE, "Parse error"),
        raw("half an object", r#"{"jsonrpc":"2.0","id":1,"#, PARSE, "Parse error"),
        raw("half a batch", r#"[{"jsonrpc":"2.0","id":1,"#, PARSE, "Parse error"),
        raw("bytes that are no text", [b'{', 0xff, 0xfe, b'}'], PARSE, "Parse error"),
        raw("unclosed nesting", "[".repeat(100_000), PARSE, "Parse error"),
        raw("an empty object", "{}", PARSE, "Parse error"),
        raw("an object with nothing but an id", r#"{"id":1}"#, REQUEST, "Invalid request"),
        raw("no version", r#"{"id":1,"method":"eth_chainId"}"#, REQUEST, "Invalid request"),
        raw(
            "an old version",
            r#"{"jsonrpc":"1.0","id":1,"method":"eth_chainId"}"#,
            REQUEST,
            "Invalid request",
        ),
        raw("no method", r#"{"jsonrpc":"2.0","id":1}"#, REQUEST, "Invalid request"),
        raw(
            "a method that is a number",
            r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
            REQUEST,
            "Invalid request",
        ),
        raw("an empty batch", "[]", REQUEST, "empty batch"),
        raw("a batch beyond the limit", format!("[{batch}]"), REQUEST, "batch too large"),
        raw("a body beyond the limit", vec![b' '; 2_000_001], TOO_LARGE, "too big"),
        raw("deep parameters", with_params(&deep(100_000)), PARAMS, "invalid argument 0"),
        raw(
            "a deep block object",
            with_params(&format!(r#"["{FUNDED}",{{"x":{}}}]"#, deep(100_000))),
            PARAMS,
            "invalid argument 1",
        ),
        raw("named parameters", with_params(r#"{"address":"0x1"}"#), PARAMS, "non-array args"),
        raw("a string of parameters", with_params(r#""0x1""#), PARAMS, "invalid params"),
        call("eth_chainID", json!([]), METHOD, "the method eth_chainID does not exist"),
        call("engine_newPayloadV4", json!([{}]), METHOD, "does not exist/is not available"),
        // The controls are there on a development chain only, and this host has none.
        call("evm_mine", json!([]), METHOD, "does not exist/is not available"),
        call("anvil_setBalance", json!([FUNDED, "0x1"]), METHOD, "does not exist/is not"),
        call("hardhat_reset", json!([]), METHOD, "does not exist/is not available"),
        call("admin_addPeer", json!(["enode://"]), METHOD, "does not exist/is not available"),
        call("", json!([]), METHOD, "does not exist/is not available"),
        call("eth_subscribe", json!(["newHeads"]), METHOD, "notifications not supported"),
    ]
}

fn parameters() -> Vec<Bad> {
    let zero = Address::ZERO;
    let invalid_0 = "invalid argument 0";
    let slots = vec!["0x0"; 17];
    let many = vec![zero; 1_001];
    let hash = format!("0x{}", "11".repeat(32));
    vec![
        call("eth_blockNumber", json!([1]), PARAMS, "too many arguments, want at most 0"),
        call("eth_getBalance", json!([]), PARAMS, "missing value for required argument 0"),
        call("eth_getBalance", json!([null, "latest"]), PARAMS, "missing value for required"),
        call("eth_getBalance", json!(["0x12"]), PARAMS, invalid_0),
        call("eth_getBalance", json!([7]), PARAMS, invalid_0),
        call("eth_getBalance", json!([zero, "newest"]), PARAMS, "hex string without 0x prefix"),
        call("eth_getBalance", json!([zero, "0x"]), PARAMS, "invalid argument 1: hex string"),
        call("eth_getBalance", json!([zero, "0x01"]), PARAMS, "leading zero digits"),
        call("eth_getBalance", json!([zero, "0x1ffffffffffffffff"]), PARAMS, "> 64 bits"),
        call("eth_getBalance", json!([zero, {}]), PARAMS, "neither block nor hash specified"),
        call(
            "eth_getBalance",
            json!([zero, { "blockHash": hash, "blockNumber": "0x0" }]),
            PARAMS,
            "cannot specify both BlockHash and BlockNumber",
        ),
        call("eth_getBalance", json!([zero, "0xffff"]), SERVER, "header not found"),
        call("eth_getBalance", json!([zero, hash]), SERVER, "header not found"),
        call("eth_getBlockByNumber", json!([]), PARAMS, "missing value for required argument 0"),
        call("eth_getBlockByNumber", json!(["0x0", "yes"]), PARAMS, "invalid argument 1"),
        call("eth_getBlockByHash", json!(["0x00", true]), PARAMS, invalid_0),
        call("eth_getTransactionByHash", json!(["1000"]), PARAMS, invalid_0),
        call("eth_getTransactionReceipt", json!([{}]), PARAMS, invalid_0),
        call("eth_getStorageAt", json!([zero, "0xasdf"]), PARAMS, "invalid hex in storage key"),
        call(
            "eth_getStorageAt",
            json!([zero, format!("0x{}", "0".repeat(65))]),
            PARAMS,
            "storage key too long",
        ),
        call("eth_getStorageValues", json!([{}]), PARAMS, "empty request"),
        call("eth_getStorageValues", json!([{ "0x1": ["0x0"] }]), PARAMS, invalid_0),
        call(
            "eth_getStorageValues",
            json!([{ zero.to_string(): slots }]),
            PARAMS,
            "too many slots",
        ),
        call("eth_getProof", json!([zero, slots]), PARAMS, "too many slots"),
        call("eth_getProof", json!([zero, [], "0xffff"]), SERVER, "header not found"),
        call("eth_getLogs", json!([]), PARAMS, "missing value for required argument 0"),
        call("eth_getLogs", json!([{ "address": "0x1" }]), PARAMS, invalid_0),
        call("eth_getLogs", json!([{ "address": many }]), PARAMS, "exceed max addresses"),
        call("eth_getLogs", json!([{ "topics": [[], [], [], [], []] }]), PARAMS, "max topics"),
        call(
            "eth_getLogs",
            json!([{ "fromBlock": "0x0", "toBlock": "0xffff" }]),
            PARAMS,
            "block range extends beyond current head block",
        ),
        call(
            "eth_getLogs",
            json!([{ "fromBlock": "latest", "toBlock": "earliest" }]),
            PARAMS,
            "invalid block range params",
        ),
        call(
            "eth_getLogs",
            json!([{ "blockHash": hash, "toBlock": "latest" }]),
            PARAMS,
            "cannot specify both BlockHash and FromBlock/ToBlock",
        ),
        call("eth_getLogs", json!([{ "blockHash": hash }]), SERVER, "unknown block"),
        call("eth_getFilterChanges", json!(["0x1"]), SERVER, "filter not found"),
        call("eth_getFilterLogs", json!(["nonsense"]), SERVER, "filter not found"),
        call("eth_newFilter", json!([[]]), PARAMS, invalid_0),
        call("eth_feeHistory", json!(["0x1", "latest", [101]]), SERVER, "reward percentile"),
        call("eth_feeHistory", json!(["0x1", "latest", [9, 3]]), SERVER, "reward percentile"),
        call("eth_feeHistory", json!(["0x1", "0xffff", []]), SERVER, "beyond head block"),
        call("eth_feeHistory", json!(["many", "latest"]), PARAMS, invalid_0),
        call("debug_getRawBlock", json!(["2"]), PARAMS, "hex string without 0x prefix"),
        call("debug_getRawHeader", json!(["0xffff"]), SERVER, "block not found"),
        call("web3_sha3", json!(["68656c6c6f zz"]), PARAMS, invalid_0),
        call("ots_searchTransactionsBefore", json!([zero, 0, 0]), PARAMS, "page size"),
        call("txpool_contentFrom", json!(["me"]), PARAMS, invalid_0),
    ]
}

fn calls() -> Vec<Bad> {
    let state = |overrides: Value| json!([{ "to": FUNDED }, "latest", overrides]);
    let word = format!("0x{}", "00".repeat(32));
    let both = json!({ FUNDED.to_string(): { "state": { &word: &word }, "stateDiff": {} } });
    vec![
        call("eth_call", json!([]), PARAMS, "missing value for required argument 0"),
        call("eth_call", json!(["0x"]), PARAMS, "invalid argument 0"),
        call("eth_call", json!([{ "to": "0x12" }]), PARAMS, "invalid argument 0"),
        call("eth_call", json!([{ "to": FUNDED }, "0xffff"]), SERVER, "header not found"),
        call("eth_call", json!([{ "to": REVERTING }]), REVERTED, "execution reverted: no"),
        call("eth_estimateGas", json!([{ "to": REVERTING }]), REVERTED, "execution reverted: no"),
        call(
            "eth_call",
            json!([{ "to": FUNDED, "data": "0x01", "input": "0x02" }]),
            SERVER,
            "both \"data\" and \"input\" are set and not equal",
        ),
        call(
            "eth_call",
            json!([{ "from": REVERTING, "to": FUNDED, "value": "0xffffffffff" }]),
            SERVER,
            "insufficient funds",
        ),
        call("eth_call", json!([{ "to": FUNDED, "gas": "0x1" }]), SERVER, "intrinsic gas too low"),
        call("eth_call", state(json!({ "0x1": {} })), PARAMS, "invalid argument 2"),
        call("eth_call", state(both), SERVER, "stateDiff"),
    ]
}

fn senders() -> Vec<Bad> {
    let stranger = Address::repeat_byte(0x77);
    let typed = |types: Value, message: Value| {
        let data = json!({ "types": types, "primaryType": "A", "domain": {}, "message": message });
        call("eth_signTypedData_v4", json!([FUNDED, data]), PARAMS, "invalid argument 1")
    };
    let field = |kind: &str| json!({ "A": [{ "name": "x", "type": kind }] });
    let circle =
        json!({ "A": [{ "name": "x", "type": "B" }], "B": [{ "name": "x", "type": "A" }] });
    vec![
        typed(circle, json!({ "x": { "x": {} } })),
        typed(field("uint257"), json!({ "x": 1 })),
        typed(field("bytes33"), json!({ "x": "0x" })),
        typed(field("uint8[18446744073709551616]"), json!({ "x": [] })),
        typed(field(&format!("uint8{}", "[1]".repeat(2_000))), json!({ "x": [] })),
        typed(field("Missing"), json!({ "x": 1 })),
        typed(field("uint8"), json!({ "x": "0x100" })),
        typed(field("address"), json!({})),
        call("eth_sign", json!([stranger, "0x01"]), SERVER, "unknown account"),
        call("eth_sign", json!([FUNDED, "text"]), PARAMS, "invalid argument 1"),
        call("eth_signTransaction", json!([{ "from": stranger }]), SERVER, "unknown account"),
        call("eth_sendTransaction", json!([{ "to": FUNDED }]), SERVER, "unknown account"),
        call(
            "eth_sendTransaction",
            json!([{ "from": FUNDED, "to": FUNDED, "gasPrice": "0x1", "maxFeePerGas": "0x1" }]),
            SERVER,
            "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified",
        ),
        call(
            "eth_sendTransaction",
            json!([{ "from": FUNDED, "to": FUNDED, "chainId": "0x1" }]),
            SERVER,
            "chainId does not match node's",
        ),
        call(
            "eth_sendTransaction",
            json!([{ "from": FUNDED }]),
            SERVER,
            "contract creation without any data provided",
        ),
        call("eth_signTypedData_v4", json!([FUNDED, { "types": 1 }]), PARAMS, "invalid argument 1"),
    ]
}

/// A transaction that would be fine, before `spoil` has its way.
fn signed(node: &TestNode, spoil: impl FnOnce(&mut TxEip1559)) -> String {
    let mut transaction = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(Address::repeat_byte(1)),
        ..TxEip1559::default()
    };
    spoil(&mut transaction);
    let signature = node.sign(&transaction.signature_hash());
    hex::encode_prefixed(Transaction::from(transaction.into_signed(signature)).encoded_2718())
}

fn transactions(node: &TestNode) -> Vec<Bad> {
    let send = |name: &str, raw: String, words: &'static str| {
        let bad = call("eth_sendRawTransaction", json!([raw]), SERVER, words);
        Bad { name: format!("eth_sendRawTransaction {name}"), ..bad }
    };
    let fine = signed(node, |_| {});
    let forged = |r: U256, s: U256| {
        let transaction = TxLegacy { chain_id: Some(CHAIN_ID), ..TxLegacy::default() };
        let signature = Signature::new(r, s, false);
        hex::encode_prefixed(Transaction::from(transaction.into_signed(signature)).encoded_2718())
    };
    let code = Bytes::from(vec![0; 49_153]);
    vec![
        call("eth_sendRawTransaction", json!([]), PARAMS, "missing value for required"),
        call("eth_sendRawTransaction", json!(["f8"]), PARAMS, "without 0x prefix"),
        call("eth_sendRawTransaction", json!(["0xf"]), PARAMS, "invalid argument 0"),
        send("of no bytes", "0x".into(), "typed transaction too short"),
        send("of nonsense", "0xdeadbeef".into(), "not a signed transaction"),
        send("of an unknown type", "0x05c0".into(), "not a signed transaction"),
        send("with blobs", "0x03c0".into(), "transaction type not supported"),
        send("cut short", fine[..fine.len() - 2].into(), "not a signed transaction"),
        send("with a tail", format!("{fine}00"), "1 bytes follow it"),
        send("for another chain", signed(node, |tx| tx.chain_id = 1), "invalid chain id"),
        send("with a zero signature", forged(U256::ZERO, U256::ZERO), "invalid sender"),
        send("with a huge signature", forged(U256::MAX, U256::ONE), "invalid sender"),
        send("with a high s", forged(U256::ONE, U256::MAX >> 1), "invalid sender"),
        send(
            "above the gas of any transaction",
            signed(node, |tx| tx.gas_limit = 100_000_000),
            "transaction gas limit too high",
        ),
        send(
            "with too little gas",
            signed(node, |tx| tx.gas_limit = 20_999),
            "intrinsic gas too low",
        ),
        send(
            "beyond the balance",
            signed(node, |tx| tx.value = U256::MAX >> 8),
            "insufficient funds for gas * price + value",
        ),
        send(
            "with more tip than fee",
            signed(node, |tx| tx.max_priority_fee_per_gas = 3_000_000_000),
            "max priority fee per gas higher than max fee per gas",
        ),
        send(
            "with too long a constructor",
            signed(node, |tx| {
                (tx.to, tx.input, tx.gas_limit) = (TxKind::Create, code, 10_000_000);
            }),
            "max initcode size exceeded",
        ),
        send("too far ahead", signed(node, |tx| tx.nonce = u64::MAX), "nonce"),
    ]
}

fn check(node: &TestNode, bad: &Bad) -> Result<(), String> {
    let (status, body) = http::post(node.address, &bad.body);
    let answer: Value =
        serde_json::from_str(&body).map_err(|e| format!("HTTP {status}, {body:?}: {e}"))?;
    let code = answer["error"]["code"].as_i64();
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    if code != Some(bad.code) || !message.contains(bad.words) {
        return Err(format!("want {} {:?}, have HTTP {status} {answer}", bad.code, bad.words));
    }
    Ok(())
}

fn answers(node: &TestNode) -> bool {
    let ask = br#"{"jsonrpc":"2.0","id":7,"method":"eth_chainId"}"#;
    let (status, body) = http::post(node.address, ask);
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    status == 200 && answer["result"] == format!("{CHAIN_ID:#x}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_input_gets_its_error_and_the_node_lives() {
    let node = TestNode::start(limits()).await;
    let mut table = requests();
    table.extend(parameters());
    table.extend(calls());
    table.extend(senders());
    table.extend(transactions(&node));
    assert!(table.len() >= 60, "the table has only {} inputs", table.len());
    let mut wrong = Vec::new();
    for bad in &table {
        if let Err(reason) = check(&node, bad) {
            wrong.push(format!("{}: {reason}", bad.name));
        }
        assert!(answers(&node), "the node does not answer after {}", bad.name);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_request_in_order_though_some_are_bad() {
    let node = TestNode::start(limits()).await;
    let fine = signed(&node, |_| {});
    let next = signed(&node, |tx| tx.nonce = 1);
    let ask = |id: u64, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let body = json!([
        ask(1, "eth_chainId", json!([])),
        ask(2, "eth_sendRawTransaction", json!(["0xdead"])),
        ask(3, "eth_sendRawTransaction", json!([fine])),
        ask(4, "eth_sendRawTransaction", json!([next])),
        ask(5, "eth_getTransactionCount", json!([FUNDED, "pending"])),
        7,
        ask(6, "nonsense", json!([])),
    ]);
    let (_, answer) = http::post(node.address, body.to_string().as_bytes());
    let answers: Vec<Value> = serde_json::from_str(&answer).expect("a batch is answered by a list");
    assert_eq!(answers.len(), 7, "{answer}");
    assert_eq!(answers[0]["result"], format!("{CHAIN_ID:#x}"));
    assert_eq!(answers[1]["error"]["code"], SERVER);
    for index in [2, 3] {
        assert_eq!(answers[index]["id"], index + 1, "{answer}");
        assert!(answers[index]["result"].is_string(), "{answer}");
    }
    assert_eq!(answers[4]["result"], "0x2", "the batch's own transactions count");
    assert_eq!(answers[5]["error"]["code"], REQUEST);
    assert_eq!(answers[6]["error"]["code"], METHOD);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_bounded() {
    let node = TestNode::start(limits()).await;
    let open = br#"{"jsonrpc":"2.0","id":1,"method":"eth_newBlockFilter"}"#;
    for _ in 0..4 {
        assert!(http::post(node.address, open).1.contains("\"result\":\"0x"));
    }
    assert!(http::post(node.address, open).1.contains("too many filters"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_origin_may_ask_and_others_are_told_how() {
    let node = TestNode::start(limits()).await;
    let preflight = format!(
        "OPTIONS / HTTP/1.1\r\nHost: {}\r\nOrigin: http://example.org\r\n\
         Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\
         Connection: close\r\n\r\n",
        node.address
    );
    assert_eq!(http::exchange(node.address, preflight.as_bytes(), b"").0, 200);
    let get = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", node.address);
    assert_eq!(http::exchange(node.address, get.as_bytes(), b"").0, 405);
    let text = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\
         Connection: close\r\n\r\n",
        node.address
    );
    assert_eq!(http::exchange(node.address, text.as_bytes(), b"{}").0, 415);
}
