//! What a node in a network tells about consensus, proofs and peers, behind a door of fixed facts;
//! and what a development chain answers to the same questions.

mod support;

use alloy_primitives::{B256, Bytes, keccak256};
use landfall_light::FinalityProof;
use landfall_rpc::{
    Admin, ConsensusView, ControlError, Direction, Identity, LastVote, MemberSeen, Meter, NodeDoor,
    PeerView, RoundTrace, RpcConfig, TracedVote,
};
use landfall_types::{
    Anchor, Certificate, Committee, Epoch, Height, NodeId, Params, PbftParams, Position, Signature,
    SignerSignature, Span, Step, Time, Vote,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use support::{CHAIN_ID, FUNDED, TestNode, http};

fn id(n: u8) -> NodeId {
    NodeId::repeat_byte(n)
}

/// Four members at height 7, round 1: the third is missing, the fourth was never heard.
struct Facts {
    view: Mutex<ConsensusView>,
    pinned: Mutex<Vec<String>>,
    filter: Mutex<String>,
}

impl Facts {
    fn new() -> Arc<Self> {
        let params = PbftParams {
            block_interval: Span(20),
            empty_blocks: false,
            round_timeout: Span(1_000),
            round_timeout_max: Span(8_000),
            retransmit: Span(100),
            clock_drift: Span(500),
        };
        let epoch = Epoch {
            chain: B256::ZERO,
            number: 3,
            params: Params::Pbft(params),
            committee: Committee::equal((1..=4).map(id)).expect("four members"),
            first: Height(1),
            last: Height(u64::MAX),
            anchor: Anchor::Final { hash: B256::ZERO, time: Time(0) },
        };
        let vote = |height, at| LastVote {
            height: Height(height),
            round: 1,
            step: Step::RoundChange,
            at: Time(at),
        };
        let seen = |heard, height| MemberSeen {
            heard: Some(Time(heard)),
            vote: Some(vote(height, heard)),
            missed: 0,
        };
        let view = ConsensusView {
            taken: Time(60_000),
            epoch: Arc::new(epoch),
            names: Arc::new(BTreeMap::from([(id(2), "bank".into()), (id(3), "port".into())])),
            me: id(1),
            height: Height(7),
            height_since: Time(50_000),
            round: 1,
            round_since: Time(51_000),
            leader: Some(id(2)),
            waiting_since: None,
            members: BTreeMap::from([(id(2), seen(59_900, 7)), (id(3), seen(40_000, 5))]),
            claimed: None,
            describe: "pbft at height 7, round 1".into(),
            halted: None,
            silent: Some("no voting key was given".into()),
        };
        let (pinned, filter) = (Mutex::default(), Mutex::default());
        Arc::new(Self { view: Mutex::new(view), pinned, filter })
    }

    fn change(&self, change: impl FnOnce(&mut ConsensusView)) {
        change(&mut self.view.lock());
    }
}

impl NodeDoor for Facts {
    fn now(&self) -> Time {
        Time(60_050)
    }

    fn consensus(&self) -> Arc<ConsensusView> {
        Arc::new(self.view.lock().clone())
    }

    fn epoch_at(&self, height: Height) -> Option<Epoch> {
        let epoch = self.view.lock().epoch.clone();
        let begun = height <= self.view.lock().height;
        begun.then(|| (*epoch).clone())
    }

    fn identity(&self) -> Identity {
        Identity {
            id: id(1),
            validator: Some(id(1)),
            name: Some("mint".into()),
            key: Bytes::from_static(&[2; 33]),
            peer: "02aa".into(),
            addresses: vec!["02aa@127.0.0.1:30303".into()],
            schedule: B256::repeat_byte(0x5c),
        }
    }

    fn transactions(&self) -> u64 {
        900
    }

    fn peers(&self) -> Vec<PeerView> {
        vec![PeerView {
            id: id(2),
            key: Bytes::from_static(&[3; 33]),
            peer: "03bb".into(),
            address: "03bb@10.0.0.2:30303".into(),
            direction: Direction::Inbound,
            validator: true,
            name: Some("bank".into()),
            client: "landfall/v0.1.0".into(),
            pinned: true,
            score: -5,
            connected: Time(10_000),
            bytes_in: 4_096,
            bytes_out: 10,
            messages_in: 40,
            messages_out: 3,
            finalized: Some(Height(6)),
        }]
    }

    fn trace(&self, limit: usize) -> Vec<RoundTrace> {
        let vote = TracedVote {
            signer: id(2),
            step: Step::RoundChange,
            hash: B256::ZERO,
            at: Time(51_000),
        };
        let round = |height, round, decided| RoundTrace {
            height: Height(height),
            round,
            opened: Time(50_000),
            votes: vec![vote],
            decided,
        };
        let all = [round(7, 1, None), round(6, 0, Some((B256::repeat_byte(6), Time(50_000))))];
        all.into_iter().take(limit).collect()
    }

    fn add_peer(&self, address: &str) -> Result<bool, ControlError> {
        if !address.contains('@') {
            return Err(ControlError(format!("{address:?} is no address")));
        }
        let mut pinned = self.pinned.lock();
        let new = !pinned.iter().any(|known| known == address);
        if new {
            pinned.push(address.into());
        }
        Ok(new)
    }

    fn remove_peer(&self, address: &str) -> Result<bool, ControlError> {
        let mut pinned = self.pinned.lock();
        let before = pinned.len();
        pinned.retain(|known| known != address);
        Ok(pinned.len() < before)
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), ControlError> {
        *self.filter.lock() = filter.into();
        Ok(())
    }
}

async fn node(facts: &Arc<Facts>) -> TestNode {
    TestNode::start_on(&support::genesis(), RpcConfig::default(), Some(facts.clone())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_who_is_missing_and_what_is_open() {
    let facts = Facts::new();
    let node = node(&facts).await;
    let status = node.ask("landfall_status", json!([]));
    assert_eq!(status["engine"], "pbft");
    assert_eq!(status["chainId"], format!("{CHAIN_ID:#x}"));
    assert_eq!(
        status["node"],
        json!({ "id": id(1), "name": "mint", "validator": id(1), "votes": true })
    );
    assert_eq!((&status["timeMs"], &status["peers"]), (&json!("0xea92"), &json!("0x1")));
    assert_eq!(status["head"]["number"], "0x1");
    assert_eq!(status["finalized"]["number"], "0x0");
    assert_eq!(status["head"]["timeMs"], format!("{:#x}", 0x66000001_u64 * 1_000));
    assert_eq!(status["syncing"], false);
    assert_eq!(status["halted"], Value::Null);
    assert_eq!(status["transactions"], "0x384");
    assert_eq!(status["silent"], "no voting key was given");
    let consensus = &status["consensus"];
    let fields = ["height", "round", "quorum", "weight", "weightUp", "members"];
    let values = fields.map(|field| consensus[field].clone());
    assert_eq!(json!(values), json!(["0x7", "0x1", "0x3", "0x4", "0x2", "0x4"]));
    assert_eq!(consensus["heightSinceMs"], "0xc350");
    assert_eq!(consensus["leaderName"], "bank");
    assert_eq!(consensus["parameters"]["roundTimeoutMs"], "0x3e8");
    assert_eq!(consensus["epoch"]["last"], Value::Null, "it has no end");
    let missing = consensus["missing"].as_array().expect("a list");
    assert_eq!(missing.len(), 2);
    assert_eq!((&missing[0]["name"], &missing[0]["state"]), (&json!("port"), &json!("missing")));
    assert_eq!(missing[0]["lastVote"]["height"], "0x5");
    assert_eq!(missing[1]["heardMs"], Value::Null, "it was never heard");
    facts.change(|view| view.halted = Some("two blocks are final".into()));
    assert_eq!(node.ask("landfall_status", json!([]))["halted"], "two blocks are final");
}

#[tokio::test(flavor = "multi_thread")]
async fn committees_are_told_in_our_form_and_in_that_of_besu() {
    let node = node(&Facts::new()).await;
    let now = node.ask("landfall_validators", json!([]));
    assert_eq!((&now["engine"], &now["quorum"]), (&json!("pbft"), &json!("0x3")));
    let states: Vec<&Value> =
        now["members"].as_array().expect("a list").iter().map(|member| &member["state"]).collect();
    assert_eq!(json!(states), json!(["self", "up", "missing", "missing"]));
    assert_eq!(node.ask("landfall_validators", json!(["0x1"]))["members"][0]["weight"], "0x1");
    let early = node.call("landfall_validators", json!(["0x8"]));
    assert!(early["error"]["message"].as_str().expect("words").contains("has not begun"));
    let addresses = json!([id(1), id(2), id(3), id(4)]);
    assert_eq!(node.ask("qbft_getValidatorsByBlockNumber", json!(["latest"])), addresses);
    let head = node.ask("eth_getBlockByNumber", json!(["latest", false]));
    assert_eq!(node.ask("qbft_getValidatorsByBlockHash", json!([head["hash"]])), addresses);
    node.mine();
    let metrics = node.ask("qbft_getSignerMetrics", json!([]));
    let maker =
        metrics.as_array().expect("a list").iter().find(|one| one["address"] == json!(FUNDED));
    assert_eq!(maker.expect("it made blocks")["proposedBlockCount"], "0x2");
    assert_eq!(maker.expect("as above")["lastProposedBlockNumber"], "0x2");
    assert_eq!(metrics.as_array().expect("a list").len(), 5, "and members that made none");
    let backwards = node.call("qbft_getSignerMetrics", json!(["0x2", "0x1"]));
    assert_eq!(backwards["error"]["code"], -32602);
}

fn signed(height: u64, hash: B256) -> FinalityProof {
    let position = Position { epoch: 3, step: Step::Commit, height: Height(height), round: 1 };
    let vote = Vote { position, hash, context: B256::ZERO };
    let one = |n| SignerSignature { signer: id(n), signature: Signature([n; 65]) };
    FinalityProof { certificate: Certificate { vote, signatures: vec![one(1), one(2), one(4)] } }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_comes_with_the_headers_that_lead_down_to_the_block_asked_for() {
    let node = node(&Facts::new()).await;
    assert_eq!(node.ask("landfall_finalityProof", json!(["latest"])), Value::Null);
    let (second, third) = (node.mine(), node.mine());
    let fourth = node.mine();
    let proof = signed(3, third);
    let raw = alloy_rlp::encode(&proof);
    node.finalize(third, 3, raw.clone());
    let answer = node.ask("landfall_finalityProof", json!(["0x2"]));
    assert_eq!(answer["block"], json!({ "number": "0x2", "hash": second }));
    assert_eq!(answer["proven"], json!({ "number": "0x3", "hash": third }));
    assert_eq!((&answer["epoch"], &answer["round"]), (&json!("0x3"), &json!("0x1")));
    assert_eq!((&answer["engine"], &answer["step"]), (&json!("pbft"), &json!("commit")));
    assert_eq!((&answer["quorum"], &answer["raw"]), (&json!("0x3"), &json!(Bytes::from(raw))));
    let signers: Vec<&Value> =
        answer["signatures"].as_array().expect("a list").iter().map(|one| &one["signer"]).collect();
    assert_eq!(json!(signers), json!([id(1), id(2), id(4)]));
    assert_eq!(answer["signatures"][1]["name"], "bank");
    // A client that trusts nothing walks from the proven hash down.
    let headers: Vec<Bytes> = serde_json::from_value(answer["headers"].clone()).expect("hex");
    assert_eq!(headers.iter().map(keccak256).collect::<Vec<_>>(), [third, second]);
    assert_eq!(
        node.ask("landfall_finalityProof", json!(["finalized"]))["block"]["hash"],
        json!(third)
    );
    assert_eq!(node.ask("landfall_finalityProof", json!([fourth])), Value::Null, "not final yet");
    let unknown = node.call("landfall_finalityProof", json!([B256::repeat_byte(9)]));
    assert_eq!(unknown["error"]["message"], "header not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_counted_and_described() {
    let node = node(&Facts::new()).await;
    assert_eq!(node.ask("net_peerCount", json!([])), "0x1");
    assert_eq!(node.ask("net_listening", json!([])), true);
    let peer = &node.ask("landfall_peers", json!([]))[0];
    assert_eq!((&peer["direction"], &peer["score"]), (&json!("inbound"), &json!(-5)));
    assert_eq!((&peer["bytesIn"], &peer["finalized"]), (&json!("0x1000"), &json!("0x6")));
    let geth = &node.ask("admin_peers", json!([]))[0];
    assert_eq!(geth["network"]["remoteAddress"], "03bb@10.0.0.2:30303");
    assert_eq!(
        (&geth["network"]["inbound"], &geth["network"]["static"]),
        (&json!(true), &json!(true))
    );
    let own = node.ask("admin_nodeInfo", json!([]));
    assert_eq!((&own["ip"], &own["ports"]["listener"]), (&json!("127.0.0.1"), &json!(30303)));
    assert_eq!(own["protocols"]["landfall"]["network"], CHAIN_ID);
    assert_eq!(own["protocols"]["landfall"]["schedule"], json!(B256::repeat_byte(0x5c)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_steers_the_node_and_a_web_page_does_not() {
    let facts = Facts::new();
    let node = node(&facts).await;
    let address = json!(["03cc@10.0.0.9:30303"]);
    assert_eq!(node.ask("admin_addPeer", address.clone()), true);
    assert_eq!(node.ask("admin_addPeer", address.clone()), false);
    assert_eq!(node.ask("admin_removePeer", address.clone()), true);
    assert_eq!(node.ask("admin_removePeer", address.clone()), false);
    let wrong = node.call("admin_addPeer", json!(["10.0.0.9:30303"]));
    assert!(wrong["error"]["message"].as_str().expect("words").contains("is no address"));
    assert_eq!(node.ask("admin_setLogLevel", json!(["debug"])), true);
    assert_eq!(*facts.filter.lock(), "debug");
    let request =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "admin_addPeer", "params": address });
    let batch = json!([request]).to_string();
    for body in [request.to_string(), batch] {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nOrigin: https://example.org\r\nContent-Type: \
             application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            node.address,
            body.len()
        );
        let (_, answer) = http::exchange(node.address, head.as_bytes(), body.as_bytes());
        assert!(answer.contains("-32601"), "{answer}");
    }
    assert!(facts.pinned.lock().is_empty());
    let off = RpcConfig { admin: Admin::Off, ..RpcConfig::default() };
    let closed = TestNode::start_on(&support::genesis(), off, Some(facts)).await;
    assert_eq!(closed.call("admin_peers", json!([]))["error"]["code"], -32601);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_its_peers_is_syncing_until_it_is_not() {
    let facts = Facts::new();
    let node = node(&facts).await;
    facts.change(|view| view.claimed = Some(Height(3)));
    assert_eq!(node.ask("eth_syncing", json!([])), false, "two blocks are no lag");
    facts.change(|view| view.claimed = Some(Height(100)));
    let syncing = json!({ "startingBlock": "0x0", "currentBlock": "0x1", "highestBlock": "0x64" });
    assert_eq!(node.ask("eth_syncing", json!([])), syncing);
    let status = node.ask("landfall_status", json!([]));
    assert_eq!((&status["syncing"], &status["highest"]), (&json!(true), &json!("0x64")));
    let mut socket = support::ws::WebSocket::open(node.address);
    socket.send(r#"{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["syncing"]}"#);
    let answers = [socket.next(), socket.next()];
    assert!(answers.iter().any(|it| it["params"]["result"] == syncing), "{answers:?}");
    node.mine();
    facts.change(|view| view.claimed = Some(Height(2)));
    node.mine();
    assert_eq!(socket.next()["params"]["result"], false, "said once, when it ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_tells_rounds_and_votes_newest_first() {
    let node = node(&Facts::new()).await;
    let trace = node.ask("landfall_consensusTrace", json!([]));
    assert_eq!((&trace[0]["height"], &trace[0]["round"]), (&json!("0x7"), &json!("0x1")));
    assert_eq!(trace[0]["decided"], Value::Null);
    let vote = &trace[0]["votes"][0];
    assert_eq!((&vote["step"], &vote["name"]), (&json!("roundChange"), &json!("bank")));
    assert_eq!(trace[1]["decided"]["hash"], json!(B256::repeat_byte(6)));
    let one = node.ask("landfall_consensusTrace", json!(["0x1"]));
    assert_eq!(one.as_array().expect("a list").len(), 1);
    assert_eq!(node.call("landfall_consensusTrace", json!(["0x3e9"]))["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_development_chain_answers_for_itself_and_has_no_peers() {
    let node = TestNode::start(RpcConfig::default()).await;
    let status = node.ask("landfall_status", json!([]));
    assert_eq!((&status["engine"], &status["consensus"]), (&json!("solo"), &Value::Null));
    assert_eq!((&status["peers"], &status["syncing"]), (&json!("0x0"), &json!(false)));
    assert_eq!(node.ask("landfall_peers", json!([])), json!([]));
    assert_eq!(node.ask("admin_peers", json!([])), json!([]));
    assert_eq!(node.ask("landfall_consensusTrace", json!([])), json!([]));
    assert_eq!(node.ask("landfall_validators", json!([])), Value::Null);
    assert_eq!(node.ask("landfall_finalityProof", json!(["latest"])), Value::Null);
    assert_eq!(node.ask("net_peerCount", json!([])), "0x0");
    let refused = node.call("admin_addPeer", json!(["03cc@10.0.0.9:1"]));
    assert_eq!(refused["error"]["message"], "this node is in no network");
    let modules = node.ask("rpc_modules", json!([]));
    assert_eq!((&modules["landfall"], &modules["admin"]), (&json!("1.0"), &json!("1.0")));
}

#[derive(Debug, Default)]
struct Counts(Mutex<Vec<(String, Option<i32>)>>);

impl Meter for Counts {
    fn answered(&self, method: &str, error: Option<i32>, _: std::time::Duration) {
        self.0.lock().push((method.into(), error));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_counted_once_in_batches_too() {
    let counts = Arc::new(Counts::default());
    let config = RpcConfig { meter: Some(counts.clone()), ..RpcConfig::default() };
    let node = TestNode::start(config).await;
    node.ask("eth_chainId", json!([]));
    node.call("eth_nothing", json!([]));
    let request =
        |method, params| json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let batch =
        [request("eth_sendRawTransaction", json!(["0x"])), request("eth_syncing", json!([]))];
    http::post(node.address, json!(batch).to_string().as_bytes());
    let counted = counts.0.lock().clone();
    let codes: Vec<(&str, Option<i32>)> =
        counted.iter().map(|(method, code)| (method.as_str(), *code)).collect();
    let send = codes[2].1;
    assert!(send.is_some(), "an empty transaction is an error");
    let want = [
        ("eth_chainId", None),
        ("eth_nothing", Some(-32601)),
        ("eth_sendRawTransaction", send),
        ("eth_syncing", None),
    ];
    assert_eq!(codes, want);
}
