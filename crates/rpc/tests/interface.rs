//! The interface over a chain that grows and reorganises: sending, receipts, logs, filters,
//! subscriptions, the address index.

mod support;

use landfall_rpc::RpcConfig;
use serde_json::{Value, json};
use std::time::Duration;
use support::ws::WebSocket;
use support::{CHAIN_ID, FUNDED, LOGGING, TestNode, http};

async fn node() -> TestNode {
    TestNode::start(RpcConfig::default()).await
}

/// The next message of a subscription, which must come soon.
async fn next(subscription: &mut jsonrpsee::Subscription) -> Value {
    let message = tokio::time::timeout(Duration::from_secs(10), subscription.next::<Value>());
    let message = message.await.expect("a message in time").expect("an open subscription");
    message.expect("valid JSON").0
}

#[tokio::test(flavor = "multi_thread")]
async fn unlocked_account_sends_and_the_receipt_tells_it() {
    let node = node().await;
    let to = format!("0x{}", "22".repeat(20));
    let hash =
        node.ask("eth_sendTransaction", json!([{ "from": FUNDED, "to": to, "value": "0x5" }]));
    let waiting = node.ask("eth_getTransactionByHash", json!([hash]));
    assert_eq!(waiting["blockHash"], Value::Null);
    assert_eq!(waiting["type"], "0x2");
    assert_eq!(node.ask("txpool_status", json!([]))["pending"], "0x1");
    assert_eq!(node.ask("eth_getTransactionReceipt", json!([hash])), Value::Null);
    let block = node.mine();
    let receipt = node.ask("eth_getTransactionReceipt", json!([hash]));
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["gasUsed"], "0x5208");
    assert_eq!(receipt["blockHash"], json!(block));
    assert_eq!(node.ask("eth_getBalance", json!([to])), "0x5");
    let at_genesis = json!([to, { "blockNumber": "0x0" }]);
    assert_eq!(node.ask("eth_getBalance", at_genesis), "0x0");
    assert_eq!(node.ask("ots_getTransactionBySenderAndNonce", json!([FUNDED, 0])), hash);
    let page = node.ask("ots_searchTransactionsBefore", json!([to, 0, 25]));
    assert_eq!(page["txs"][0]["hash"], hash);
    assert_eq!((&page["firstPage"], &page["lastPage"]), (&json!(true), &json!(true)));
    assert_eq!(page["receipts"][0]["logs"], Value::Null);
}

/// A chain with its own rules for fees, after a block with a transfer.
async fn node_with(landfall: Value) -> TestNode {
    let mut genesis = support::genesis();
    genesis["config"]["landfall"] = landfall;
    TestNode::start_on(&genesis, RpcConfig::default(), None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn free_gas_asks_nothing_and_takes_a_transaction_without_a_price() {
    let node = node_with(json!({ "engine": "solo", "freeGas": true })).await;
    for method in ["eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_baseFee"] {
        assert_eq!(node.ask(method, json!([])), "0x0", "{method}");
    }
    let balance = node.ask("eth_getBalance", json!([FUNDED, "latest"]));
    let to = format!("0x{}", "22".repeat(20));
    let filled = node.ask("eth_fillTransaction", json!([{ "from": FUNDED, "to": to }]));
    assert_eq!(filled["tx"]["maxFeePerGas"], "0x0");
    let send = |price: Value| {
        let mut request = json!({ "from": FUNDED, "to": to });
        request.as_object_mut().unwrap().extend(price.as_object().unwrap().clone());
        node.ask("eth_sendTransaction", json!([request]))
    };
    let hashes = [send(json!({ "gasPrice": "0x0" })), send(json!({}))];
    assert_eq!(node.ask("txpool_status", json!([]))["pending"], "0x2");
    node.mine();
    for hash in hashes {
        let receipt = node.ask("eth_getTransactionReceipt", json!([hash]));
        assert_eq!(
            (&receipt["status"], &receipt["effectiveGasPrice"]),
            (&json!("0x1"), &json!("0x0"))
        );
    }
    assert_eq!(node.ask("eth_getBalance", json!([FUNDED, "latest"])), balance);
    let history = node.ask("eth_feeHistory", json!(["0x3", "latest", [50]]));
    assert_eq!(history["baseFeePerGas"], json!(["0x0", "0x0", "0x0", "0x0"]));
    assert_eq!(history["reward"], json!([["0x0"], ["0x0"], ["0x0"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn fee_history_follows_the_denominator_of_the_genesis() {
    let gwei = 1_000_000_000_u64;
    for (denominator, next) in [(8, gwei - gwei / 8), (400, gwei - gwei / 400)] {
        let landfall = json!({ "engine": "solo", "baseFeeChangeDenominator": denominator });
        let node = node_with(landfall).await;
        let history = node.ask("eth_feeHistory", json!(["0x1", "0x0", []]));
        let expected = [format!("{gwei:#x}"), format!("{next:#x}")];
        assert_eq!(history["baseFeePerGas"], json!(expected));
        let block = node.ask("eth_getBlockByNumber", json!(["0x1", false]));
        assert_eq!(block["baseFeePerGas"], expected[1], "the block has what was foretold");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sends_at_once_get_different_nonces() {
    let node = node().await;
    let send = || node.ask("eth_sendTransaction", json!([{ "from": FUNDED, "to": FUNDED }]));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| [send(), send(), send()])).collect();
        threads.into_iter().for_each(|thread| {
            thread.join().expect("all are taken");
        });
    });
    let status = node.ask("txpool_status", json!([]));
    assert_eq!(status, json!({ "pending": "0x18", "queued": "0x0" }));
    assert_eq!(node.ask("eth_getTransactionCount", json!([FUNDED, "pending"])), "0x18");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_methods_sign_what_others_verify() {
    let node = node().await;
    let text = json!([FUNDED, "0x68656c6c6f"]);
    let signature = node.ask("eth_sign", text);
    let swapped = node.ask("personal_sign", json!(["0x68656c6c6f", FUNDED, ""]));
    assert_eq!(signature, swapped);
    let bytes: alloy_primitives::Bytes = serde_json::from_value(signature).expect("hex");
    let signature = alloy_primitives::Signature::from_raw(&bytes).expect("65 bytes");
    assert_eq!(signature.recover_address_from_msg("hello").expect("it recovers"), FUNDED);
    let raw = node.ask("eth_signTransaction", json!([{ "from": FUNDED, "to": FUNDED }]));
    let hash = node.ask("eth_sendRawTransaction", json!([raw]));
    assert_eq!(node.ask("eth_getRawTransactionByHash", json!([hash])), raw);
    let filled = node.ask("eth_fillTransaction", json!([{ "from": FUNDED, "to": FUNDED }]));
    assert_eq!(filled["tx"]["nonce"], "0x1", "after the one in the pool");
    assert_eq!(filled["tx"]["gas"], "0x5208");
    let data = json!({
        "types": {
            "EIP712Domain": [{ "name": "name", "type": "string" }],
            "Mail": [{ "name": "body", "type": "string" }],
        },
        "primaryType": "Mail",
        "domain": { "name": "test" },
        "message": { "body": "hello" },
    });
    let object = node.ask("eth_signTypedData_v4", json!([FUNDED, data]));
    assert_eq!(node.ask("eth_signTypedData_v4", json!([FUNDED, data.to_string()])), object);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_subscriptions_follow_the_chain_and_its_reorganisation() {
    let node = node().await;
    let module = landfall_rpc::module(node.backend.clone(), RpcConfig::default());
    let subscribe = |params: Value| module.subscribe_unbounded("eth_subscribe", rpc_params(params));
    let mut heads = subscribe(json!(["newHeads"])).await.expect("a subscription");
    let mut logs = subscribe(json!(["logs", { "address": LOGGING }])).await.expect("one");
    let mut pending = subscribe(json!(["newPendingTransactions"])).await.expect("one");
    let mut full = subscribe(json!(["newPendingTransactions", true])).await.expect("one");
    let blocks = node.ask("eth_newBlockFilter", json!([]));
    let found = node.ask("eth_newFilter", json!([{ "address": LOGGING }]));
    let arrivals = node.ask("eth_newPendingTransactionFilter", json!([]));

    let parent = node.backend.chain.head().hash();
    let hash = node.ask("eth_sendTransaction", json!([{ "from": FUNDED, "to": LOGGING }]));
    let block = node.mine();
    assert_eq!(next(&mut pending).await, hash);
    assert_eq!(next(&mut full).await["hash"], hash);
    assert_eq!(next(&mut heads).await["hash"], json!(block));
    let log = next(&mut logs).await;
    assert_eq!((&log["transactionHash"], &log["removed"]), (&hash, &json!(false)));
    assert_eq!(node.ask("eth_getFilterChanges", json!([blocks])), json!([block]));
    assert_eq!(node.ask("eth_getFilterChanges", json!([blocks])), json!([]));
    assert_eq!(node.ask("eth_getFilterChanges", json!([arrivals])), json!([hash]));
    assert_eq!(node.ask("eth_getFilterChanges", json!([found])), json!([log]));
    let all =
        json!([{ "fromBlock": "earliest", "toBlock": "latest", "topics": [log["topics"][0]] }]);
    assert_eq!(node.ask("eth_getLogs", all.clone()), json!([log]));

    // Two blocks on the block before: the first is a fork, the second moves the head again.
    let other = node.mine_on(parent);
    assert_eq!(next(&mut heads).await["hash"], json!(other));
    let gone = next(&mut logs).await;
    assert_eq!((&gone["transactionHash"], &gone["removed"]), (&hash, &json!(true)));
    assert_eq!(node.ask("eth_getFilterChanges", json!([blocks])), json!([other]));
    assert_eq!(node.ask("eth_getFilterChanges", json!([found])), json!([gone]));
    assert_eq!(node.ask("eth_getLogs", all), json!([]));
    let last = node.mine();
    assert_eq!(next(&mut heads).await["hash"], json!(last));
    assert_eq!(node.ask("eth_uninstallFilter", json!([blocks])), true);
    assert_eq!(node.ask("eth_uninstallFilter", json!([blocks])), false);
}

fn rpc_params(params: Value) -> Vec<Value> {
    params.as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn send_and_wait_gives_the_receipt_or_the_hash() {
    let node = node().await;
    let raw = node.ask("eth_signTransaction", json!([{ "from": FUNDED, "to": FUNDED }]));
    let late = node.call("eth_sendRawTransactionSync", json!([raw, "0x64"]));
    assert_eq!(late["error"]["code"], 4, "{late}");
    let hash = late["error"]["data"].clone();
    node.mine();
    assert_eq!(node.ask("eth_getTransactionReceipt", json!([hash]))["status"], "0x1");
    let raw = node.ask("eth_signTransaction", json!([{ "from": FUNDED, "to": FUNDED }]));
    std::thread::scope(|scope| {
        let receipt = scope.spawn(|| node.ask("eth_sendRawTransactionSync", json!([raw])));
        while node.ask("txpool_status", json!([]))["pending"] != "0x1" {}
        node.mine();
        assert_eq!(receipt.join().expect("a receipt")["status"], "0x1");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_change_what_a_call_sees() {
    let node = node().await;
    // Returns its balance and the number of the block.
    let code = "0x475f52436020526040 5ff3".replace(' ', "");
    let overrides = json!({ LOGGING.to_string(): { "code": code, "balance": "0x7" } });
    let params = json!([{ "to": LOGGING }, "latest", overrides, { "number": "0x63" }]);
    let answer = node.ask("eth_call", params);
    assert_eq!(answer, format!("0x{:064x}{:064x}", 7, 0x63));
    let list = node.ask("eth_createAccessList", json!([{ "from": FUNDED, "to": LOGGING }]));
    assert_eq!(list["accessList"], json!([]));
    assert_eq!(node.ask("eth_call", json!([{ "to": LOGGING }])), "0x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_thousand_transactions_is_taken_whole() {
    let node = node().await;
    let batch: Vec<Value> = (0..1_000)
        .map(|nonce| {
            let request = json!([{ "from": FUNDED, "to": FUNDED, "gas": "0x5208", "nonce": format!("{nonce:#x}"),
                "maxFeePerGas": "0x77359400", "maxPriorityFeePerGas": "0x1" }]);
            let raw = node.ask("eth_signTransaction", request);
            json!({ "jsonrpc": "2.0", "id": nonce, "method": "eth_sendRawTransaction", "params": [raw] })
        })
        .collect();
    let (_, answer) = http::post(node.address, json!(batch).to_string().as_bytes());
    let answers: Vec<Value> = serde_json::from_str(&answer).expect("a list");
    for (nonce, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], nonce);
        assert!(answer["result"].is_string(), "{answer}");
    }
    assert_eq!(node.ask("txpool_status", json!([]))["pending"], "0x3e8");
    node.mine();
    assert_eq!(node.ask("eth_getTransactionCount", json!([FUNDED])), "0x3e8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_with_the_way_out() {
    let node = node().await;
    let again = landfall_rpc::serve(node.backend.clone(), RpcConfig::default(), node.address).await;
    let error = again.expect_err("the port is taken").to_string();
    assert!(error.contains("the port is in use") && error.contains("--port"), "{error}");
    assert_eq!(node.ask("eth_chainId", json!([])), format!("{CHAIN_ID:#x}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_takes_calls_batches_and_subscriptions_within_limits() {
    let limits = RpcConfig { max_subscriptions: 2, ..RpcConfig::default() };
    let node = TestNode::start(limits).await;
    let mut socket = WebSocket::open(node.address);
    socket.send(r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}"#);
    let id = socket.next()["result"].clone();
    assert!(id.as_str().is_some_and(|id| id.starts_with("0x") && id.len() == 34), "{id}");
    let block = node.mine();
    let news = socket.next();
    assert_eq!(news["method"], "eth_subscription");
    assert_eq!(news["params"]["subscription"], id);
    assert_eq!(news["params"]["result"]["hash"], json!(block));
    socket.send(r#"{"jsonrpc":"2.0","id":2,"method":"eth_subscribe","params":["sideways"]}"#);
    assert_eq!(socket.next()["error"]["code"], -32602);
    socket.send(r#"{"jsonrpc":"2.0","id":3,"method":"eth_subscribe","params":["syncing"]}"#);
    let answers = [socket.next(), socket.next()];
    assert!(answers.iter().any(|answer| answer["params"]["result"] == false), "{answers:?}");
    socket.send(r#"{"jsonrpc":"2.0","id":4,"method":"eth_subscribe","params":["logs"]}"#);
    assert_eq!(socket.next()["error"]["code"], -32006, "the third is one too many");
    socket.send(&format!(
        r#"[{{"jsonrpc":"2.0","id":5,"method":"eth_unsubscribe","params":[{id}]}},
            {{"jsonrpc":"2.0","id":6,"method":"eth_nothing"}}]"#
    ));
    let answers = socket.next();
    assert_eq!(answers[0]["result"], true);
    assert_eq!(answers[1]["error"]["code"], -32601);
    socket.send("no JSON");
    assert_eq!(socket.next()["error"]["code"], -32700);
    node.mine();
    socket.send(r#"{"jsonrpc":"2.0","id":7,"method":"eth_blockNumber"}"#);
    assert_eq!(socket.next()["result"], "0x3", "and no news after unsubscribing");
}
