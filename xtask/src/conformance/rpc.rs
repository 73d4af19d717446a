//! `rpc`: the request and response cases of the execution APIs, against the chain that comes with
//! them, by the rules of the reference runner (hive's rpc-compat).

use super::{Failure, Options, Tally, archive, schema};
use alloy_primitives::TxHash;
use landfall_chain::pool::{HeadInfo, Order, Pool, PoolError, PoolLimits, Recovered, recover};
use landfall_chain::{Chain, ChainOptions, ChainReader, Place, store::TestDisk};
use landfall_rpc::{Answer, Backend, Event, PoolDoor, RpcConfig};
use landfall_types::{Block, ForkChoice, Transaction, parse_genesis};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Methods that are no part of the interface yet.
const LATER: [&str; 5] = [
    "debug_traceBlockByHash",
    "debug_traceBlockByNumber",
    "debug_traceTransaction",
    "eth_simulateV1",
    "testing_buildBlockV1",
];

/// Cases of methods that are there, and why they do not apply.
const NOT_OURS: [(&str, &str); 1] =
    [("eth_sendRawTransaction/send-blob-tx", "no blob transactions are taken")];

/// Messages that may wait for a subscriber: none of the cases subscribes.
const BUFFERED: usize = 1;

/// Runs the archive `rpc-compat`.
pub fn run(options: &Options) -> Result<Option<Tally>, Failure> {
    let Some(folder) = archive::unpack("rpc-compat")? else { return Ok(None) };
    let folder = folder.join("rpc-compat");
    let schemas = schemas(&folder).map_err(Failure)?;
    let chain = imported(&folder).map_err(Failure)?;
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure(e.to_string()))?;
    let module = landfall_rpc::module(backend(&chain), RpcConfig::default());
    let mut tally = Tally::default();
    let mut later = BTreeMap::<String, usize>::new();
    for path in cases(&folder).map_err(Failure)? {
        let case = Case::read(&path).map_err(Failure)?;
        if !options.selects(&case.name) {
            continue;
        }
        if LATER.contains(&case.method.as_str()) {
            *later.entry(case.method).or_default() += 1;
            tally.skip();
        } else if let Some((name, why)) = NOT_OURS.iter().find(|(name, _)| *name == case.name) {
            println!("skipped: {name}: {why}");
            tally.skip();
        } else {
            let ask = |sent: &str| {
                let answer = runtime.block_on(module.raw_json_request(sent, BUFFERED));
                let (answer, _) = answer.map_err(|e| e.to_string())?;
                serde_json::from_str(answer.get()).map_err(|e| e.to_string())
            };
            tally.count(&case.name, check(&case, &schemas, ask));
        }
    }
    for (method, count) in later {
        println!("skipped: {method}: {count} cases of a method that comes later");
    }
    Ok(Some(tally))
}

/// All `.io` files: by method, then by name.
fn cases(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let list = |folder: &Path| -> Result<BTreeSet<PathBuf>, String> {
        let entries =
            std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        entries.map(|entry| entry.map(|e| e.path()).map_err(|e| e.to_string())).collect()
    };
    let mut found = Vec::new();
    for method in list(folder)?.into_iter().filter(|path| path.is_dir()) {
        found.extend(
            list(&method)?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "io")),
        );
    }
    Ok(found)
}

fn check(
    case: &Case,
    schemas: &Schemas,
    ask: impl Fn(&str) -> Result<Value, String>,
) -> Result<(), String> {
    for (sent, want) in &case.exchanges {
        let have = ask(sent)?;
        if let Some(difference) = difference(case, schemas, sent, want, &have) {
            return Err(difference);
        }
    }
    Ok(())
}

/// The chain of the archive in memory, its last block head, safe and finalised.
fn imported(folder: &Path) -> Result<Chain, String> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let genesis = String::from_utf8(read("genesis.json")?).map_err(|e| e.to_string())?;
    let genesis = parse_genesis(&genesis).map_err(|e| e.to_string())?;
    let place = Place::Disk(Arc::new(TestDisk::new(0)));
    let options = ChainOptions::new(Some(genesis), place);
    let mut chain = Chain::open(options).map_err(|e| e.to_string())?;
    let bytes = read("chain.rlp")?;
    let mut rest = bytes.as_slice();
    let mut head = chain.reader().genesis_hash();
    while !rest.is_empty() {
        let block = Block::decode_ethereum(&mut rest).map_err(|e| e.to_string())?;
        let number = block.number();
        head = chain.import(block).map_err(|e| format!("block {number}: {e}"))?;
    }
    chain
        .adopt(ForkChoice { head, safe: head, finalized: head })
        .map_err(|e| format!("block {head}: {e}"))?;
    Ok(chain)
}

fn backend(chain: &Chain) -> Backend {
    let pool = Mutex::new(Pool::new(PoolLimits::default(), Order::Fees));
    let door = Door { chain: chain.reader(), pool, events: broadcast::channel(BUFFERED).0 };
    Backend {
        chain: chain.reader(),
        pool: Arc::new(door),
        controls: None,
        node: None,
        keys: Arc::new(landfall_wallet::Keyring::default()),
    }
}

/// A pool on a chain that never grows.
struct Door {
    chain: ChainReader,
    pool: Mutex<Pool>,
    events: broadcast::Sender<Event>,
}

impl Door {
    fn add(&self, transaction: Recovered) -> Result<TxHash, PoolError> {
        let spec = self.chain.spec();
        let head = self.chain.head();
        let header = &head.block.block.header;
        let (number, time) = (header.number + 1, header.timestamp);
        let base_fee = landfall_evm::next_base_fee(spec, header, number, time, header.difficulty);
        let next = HeadInfo {
            chain_id: spec.chain_id,
            fork: spec.fork_at(number, time, header.difficulty),
            gas_limit: header.gas_limit,
            base_fee: base_fee.unwrap_or_default(),
        };
        let state = self.chain.latest_state();
        self.pool.lock().add(transaction, &next, &state).map(|added| added.hash)
    }
}

impl PoolDoor for Door {
    fn submit(&self, transaction: Transaction) -> Answer<'_, Result<TxHash, PoolError>> {
        let recovered = recover(transaction, self.chain.spec().chain_id);
        Box::pin(async move { self.add(recovered?) })
    }

    fn submit_recovered(&self, transaction: Recovered) -> Answer<'_, Result<TxHash, PoolError>> {
        Box::pin(async move { self.add(transaction) })
    }

    fn pool(&self) -> &Mutex<Pool> {
        &self.pool
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// One `.io` file: what is sent and what comes back, in turn.
struct Case {
    name: String,
    method: String,
    schema_only: bool,
    exchanges: Vec<(String, Value)>,
}

impl Case {
    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let part = |path: Option<&std::ffi::OsStr>| {
            path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let method = part(path.parent().and_then(Path::file_name));
        let name = format!("{method}/{}", part(path.file_stem()));
        let mut exchanges = Vec::new();
        let mut request = None;
        for line in text.lines() {
            if let Some(sent) = line.strip_prefix(">> ") {
                request = Some(sent.to_owned());
            } else if let Some(answer) = line.strip_prefix("<< ") {
                let answer = serde_json::from_str(answer).map_err(|e| format!("{name}: {e}"))?;
                let request = request.take().ok_or_else(|| format!("{name}: no request"))?;
                exchanges.push((request, answer));
            }
        }
        if exchanges.is_empty() {
            return Err(format!("{name}: nothing is sent"));
        }
        let schema_only = text.lines().any(|line| line.starts_with("// speconly:"));
        Ok(Self { name, method, schema_only, exchanges })
    }
}

/// What is wrong with an answer, by the reference runner's rules.
fn difference(
    case: &Case,
    schemas: &Schemas,
    sent: &str,
    want: &Value,
    have: &Value,
) -> Option<String> {
    if case.schema_only && have.get("error").is_none() {
        let request: Value = serde_json::from_str(sent).ok()?;
        let method = request["method"].as_str().unwrap_or_default();
        return match schemas.get(method) {
            Some(schema) => schema::violation(schema, &have["result"]),
            None => Some(format!("openrpc.json has no {method}")),
        };
    }
    let (mut want, mut have) = (want.clone(), have.clone());
    if want["error"]["message"].is_string() && have["error"]["message"].is_string() {
        for side in [&mut want, &mut have] {
            if let Some(error) = side["error"].as_object_mut() {
                error.remove("message");
            }
        }
    }
    (!same(&want, &have)).then(|| format!("want {want}\n    have {have}"))
}

/// Equality of JSON with numbers compared by value.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

type Schemas = BTreeMap<String, Value>;

/// The schema of each method's result.
fn schemas(folder: &Path) -> Result<Schemas, String> {
    let path = folder.join("openrpc.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let document: Value = serde_json::from_str(&text).map_err(|e| format!("openrpc.json: {e}"))?;
    let methods = document["methods"].as_array().ok_or("openrpc.json has no methods")?;
    let entry = |method: &Value| {
        Some((method["name"].as_str()?.to_owned(), method["result"]["schema"].clone()))
    };
    Ok(methods.iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn case(schema_only: bool) -> Case {
        let (name, method) = ("m/c".to_owned(), "m".to_owned());
        Case { name, method, schema_only, exchanges: Vec::new() }
    }

    #[test]
    fn answers_are_compared_as_the_reference_runner_does() {
        let schemas = Schemas::from([("m".to_owned(), json!({ "type": "string" }))]);
        let differs = |schema_only, want: Value, have: Value| {
            let sent = r#"{"method":"m"}"#;
            difference(&case(schema_only), &schemas, sent, &want, &have).is_some()
        };
        assert!(!differs(false, json!({ "result": 1 }), json!({ "result": 1.0 })));
        assert!(differs(false, json!({ "result": 1 }), json!({ "result": 2 })));
        assert!(differs(false, json!({ "result": {} }), json!({ "result": { "more": 1 } })));
        let error =
            |code: i64, message: &str| json!({ "error": { "code": code, "message": message } });
        assert!(!differs(false, error(3, "a"), error(3, "b")));
        assert!(differs(false, error(3, "a"), error(4, "a")));
        assert!(differs(false, error(3, "a"), json!({ "error": { "code": 3 } })));
        assert!(!differs(true, json!({ "result": "a" }), json!({ "result": "b" })));
        assert!(differs(true, json!({ "result": "a" }), json!({ "result": 1 })));
        assert!(differs(true, json!({ "result": "a" }), error(3, "a")));
    }
}
