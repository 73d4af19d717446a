//! Every method with parameters that make no sense together: an answer or an error, never a fault
//! of the node.

mod support;

use landfall_chain::store::SplitMix;
use landfall_rpc::RpcConfig;
use serde_json::{Value, json};
use support::{FUNDED, LOGGING, REVERTING, TestNode};

const CALLS_OF_EACH_METHOD: u64 = 300;

fn values() -> Vec<Value> {
    let word = format!("0x{}", "ff".repeat(32));
    let huge = json!("0xffffffffffffffff");
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("0x"),
        json!("0x0"),
        json!("0x1"),
        json!("latest"),
        json!("earliest"),
        json!("finalized"),
        json!("newHeads"),
        json!("0xzz"),
        json!("\u{0}\u{ffff}é"),
        huge.clone(),
        json!(word),
        json!(FUNDED),
        json!(REVERTING),
        json!([]),
        json!([word, "0x0"]),
        json!([0.0, 50.0, 100.0]),
        json!([[[[]]]]),
        json!({}),
        json!({ "blockNumber": "0x1" }),
        json!({ "fromBlock": "earliest", "toBlock": "latest", "topics": [null, [word]] }),
        json!({ "fromBlock": huge, "address": FUNDED }),
        json!({ FUNDED.to_string(): ["0x0", word] }),
    ]
}

/// Requests for `eth_call` and its kin.
fn calls() -> Vec<Value> {
    let word = format!("0x{}", "ff".repeat(32));
    let huge = json!("0xffffffffffffffff");
    let call = |more: Value| {
        let mut call = json!({ "from": FUNDED, "to": LOGGING });
        call.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        call
    };
    vec![
        call(json!({})),
        call(json!({ "gas": huge, "value": word, "nonce": huge })),
        call(json!({ "gasPrice": format!("0x{}", "f".repeat(32)), "value": "0x1" })),
        call(json!({ "maxFeePerGas": format!("0x{}", "f".repeat(32)), "gas": huge })),
        call(json!({ "to": null, "data": format!("0x{}", "ef".repeat(60_000)) })),
        call(json!({ "to": null, "input": "0x60ef5f5360015ff3" })),
        call(json!({ "blobVersionedHashes": [word], "maxFeePerBlobGas": "0x1" })),
        call(json!({ "blobVersionedHashes": [] , "accessList": [] })),
        call(json!({ "authorizationList": [], "gasPrice": "0x1" })),
        call(json!({ "accessList": [{ "address": FUNDED, "storageKeys": [word, word] }] })),
        call(json!({ "to": "0x0000000000000000000000000000000000000005", "data": word })),
        call(json!({ "type": "0xff", "chainId": huge })),
    ]
}

fn state_overrides() -> Vec<Value> {
    let word = format!("0x{}", "ff".repeat(32));
    vec![
        Value::Null,
        json!({ LOGGING.to_string(): { "code": "0x5f5ffd", "nonce": "0xffffffffffffffff" } }),
        json!({ LOGGING.to_string(): { "code": "0x5b5f56", "balance": word } }),
        json!({ "0x0000000000000000000000000000000000000001": { "code": "0xfe" } }),
    ]
}

fn block_overrides() -> Vec<Value> {
    let word = format!("0x{}", "ff".repeat(32));
    let huge = json!("0xffffffffffffffff");
    vec![
        Value::Null,
        json!({ "number": word, "time": huge, "gasLimit": "0x0", "baseFeePerGas": huge }),
        json!({ "difficulty": word, "random": word, "coinbase": FUNDED, "blobBaseFee": huge }),
    ]
}

/// Calls a method without a socket.
async fn ask(module: &jsonrpsee::RpcModule<()>, name: &str, params: &[Value]) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": name, "params": params });
    let (answer, _) =
        module.raw_json_request(&request.to_string(), 1).await.expect("a valid request");
    serde_json::from_str(answer.get()).expect("a valid answer")
}

fn is_fault(answer: &Value) -> bool {
    answer["error"]["code"] == -32603
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameters_are_a_fault_of_the_node() {
    let node = TestNode::start(RpcConfig::default()).await;
    let module = landfall_rpc::module(node.backend.clone(), RpcConfig::default());
    let names: Vec<&str> = module.method_names().filter(|name| !name.ends_with("scribe")).collect();
    assert!(names.len() > 70, "only {} methods", names.len());
    let values: Vec<Value> = values().into_iter().chain(calls()).collect();
    let mut random = SplitMix(7);
    let mut choose = |count: usize| random.below(count as u64) as usize;
    let mut faults = Vec::new();
    for name in names {
        for _ in 0..CALLS_OF_EACH_METHOD {
            let count = choose(5);
            let params: Vec<Value> =
                (0..count).map(|_| values[choose(values.len())].clone()).collect();
            let answer = ask(&module, name, &params).await;
            if is_fault(&answer) {
                faults.push(format!("{name} {}: {answer}", json!(params)));
            }
        }
    }
    faults.iter_mut().for_each(|fault| fault.truncate(600));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_with_overrides_is_a_fault_of_the_node() {
    let node = TestNode::start(RpcConfig { gas_cap: 1_000_000, ..RpcConfig::default() }).await;
    let module = landfall_rpc::module(node.backend.clone(), RpcConfig::default());
    let (mut answered, mut faults) = (0, Vec::new());
    for method in ["eth_call", "eth_estimateGas", "eth_createAccessList"] {
        for call in calls() {
            for state in state_overrides() {
                for block in block_overrides() {
                    let params = [call.clone(), json!("latest"), state.clone(), block];
                    let answer = ask(&module, method, &params).await;
                    answered += usize::from(answer.get("result").is_some());
                    if is_fault(&answer) {
                        faults.push(format!("{method} {}: {answer}", json!(params)));
                    }
                }
            }
        }
    }
    faults.iter_mut().for_each(|fault| fault.truncate(600));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    assert!(answered > 50, "only {answered} calls ran");
}
