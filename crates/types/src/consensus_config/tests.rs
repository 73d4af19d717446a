use super::*;
use crate::{PbftParams, PowParams, RaftParams, Span, parse_genesis, work_of};
use alloy_primitives::b256;

/// Points of the curve, as node keys: the generator, its double and its triple.
const KEYS: [&str; 3] = [
    "0x0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    "0x02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
    "0x02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9",
];

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

fn validators() -> Value {
    let one = |(index, key): (usize, &&str)| {
        json!({
            "id": format!("0x{}", format!("{:02x}", index + 1).repeat(20)),
            "nodeKey": key,
            "address": format!("10.0.0.{}:30303", index + 1),
            "name": NAMES[index],
        })
    };
    KEYS.iter().enumerate().map(one).collect()
}

/// A genesis with these keys in `config.landfall`.
fn genesis(landfall: &Value) -> Value {
    json!({
        "config": {
            "chainId": 7, "homesteadBlock": 0, "londonBlock": 0, "shanghaiTime": 0,
            "cancunTime": 0, "terminalTotalDifficulty": 0, "landfall": landfall,
        },
        "difficulty": "0x0", "gasLimit": "0x5f5e100", "alloc": {},
    })
}

fn read(genesis: &Value) -> Result<ConsensusConfig, GenesisError> {
    ConsensusConfig::from_genesis(&parse_genesis(&genesis.to_string())?)
}

fn config(landfall: &Value) -> ConsensusConfig {
    read(&genesis(landfall)).unwrap()
}

/// What is said of a genesis that is refused.
fn refused(landfall: &Value) -> String {
    read(&genesis(landfall)).expect_err("must be refused").to_string()
}

/// Validators, an engine and its section.
fn with(engine: &str, section: Value) -> Value {
    json!({ "engine": engine, engine: section, "validators": validators() })
}

#[test]
fn an_engine_alone_has_the_documented_defaults() {
    let pbft = config(&json!({ "engine": "pbft", "validators": validators() }));
    let [term] = pbft.schedule.terms() else { panic!("one term") };
    assert_eq!(term.params, Params::Pbft(PbftParams::default()));
    assert_eq!(term.length, None);
    assert_eq!(term.committee.len(), 3);
    assert_eq!(pbft.validators[1].name.as_deref(), Some("beta"));
    assert_eq!(pbft.fees, FeeRules::default());
    let raft = config(&json!({ "engine": "raft", "validators": validators() }));
    assert_eq!(raft.schedule.terms()[0].params, Params::Raft(RaftParams::default()));
    let (Params::Pbft(PbftParams { block_interval, empty_blocks, .. })
    | Params::Raft(RaftParams { block_interval, empty_blocks, .. })) =
        &raft.schedule.terms()[0].params
    else {
        panic!("raft")
    };
    assert_eq!((*block_interval, *empty_blocks), (Span(20), false));
}

#[test]
fn every_parameter_is_read() {
    let pbft = json!({ "blockIntervalMs": 30, "emptyBlocks": true, "roundTimeoutMs": 3_000,
        "roundTimeoutMaxMs": 9_000, "retransmitMs": 700, "clockDriftMs": 5_000 });
    let expected = PbftParams {
        block_interval: Span(30),
        empty_blocks: true,
        round_timeout: Span(3_000),
        round_timeout_max: Span(9_000),
        retransmit: Span(700),
        clock_drift: Span(5_000),
    };
    let read = config(&with("pbft", pbft));
    assert_eq!(read.schedule.terms()[0].params, Params::Pbft(expected));
    let raft = json!({ "blockIntervalMs": 5, "emptyBlocks": true, "heartbeatMs": 50,
        "electionTimeoutMs": 400 });
    let expected = RaftParams {
        heartbeat: Span(50),
        election: Span(400),
        block_interval: Span(5),
        empty_blocks: true,
    };
    let read = config(&with("raft", raft));
    assert_eq!(read.schedule.terms()[0].params, Params::Raft(expected));
    let pow = json!({ "blockIntervalMs": 2_000, "halfLifeMs": 99_000, "firstDifficulty": "0x1000",
        "safeDepth": 3, "finalDepth": 20, "clockDriftMs": 8_000, "subsidyGwei": 7,
        "subsidyHalvingBlocks": 1_000 });
    let expected = PowParams {
        block_interval: Span(2_000),
        half_life: Span(99_000),
        first_target: target_of_work(4_096),
        safe_depth: 3,
        final_depth: 20,
        clock_drift: Span(8_000),
        subsidy: 7,
        subsidy_halving: 1_000,
    };
    let read = config(&with("pow", pow));
    assert_eq!(read.schedule.terms()[0].params, Params::Pow(expected));
}

fn target_of_work(work: u64) -> U256 {
    crate::target_of(U256::from(work)).unwrap()
}

#[test]
fn work_begins_with_its_own_key_or_with_the_difficulty_of_the_genesis() {
    let mut file = genesis(&json!({ "engine": "pow", "validators": validators() }));
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("`config.landfall.pow.firstDifficulty`: is missing"), "{error}");
    file["difficulty"] = json!("0x2710");
    let params = |file: &Value| read(file).unwrap().schedule.terms()[0].params.clone();
    let expected = PowParams::with_interval(PowParams::BLOCK_INTERVAL, target_of_work(10_000));
    assert_eq!(params(&file), Params::Pow(expected));
    file["config"]["landfall"]["pow"] = json!({ "firstDifficulty": 500, "blockIntervalMs": 100 });
    let expected = PowParams::with_interval(Span(100), target_of_work(500));
    assert_eq!(expected.half_life, Span(28_800));
    assert_eq!(work_of(expected.first_target), U256::from(500));
    assert_eq!(params(&file), Params::Pow(expected));
}

#[test]
fn what_no_engine_could_run_with_is_refused_by_name() {
    let table = [
        ("pbft", json!({ "blockIntervalMs": 0 }), "pbft.blockIntervalMs`: must be at least 1 ms"),
        ("pbft", json!({ "clockDriftMs": 0 }), "pbft.clockDriftMs`: must be at least 1 ms"),
        ("pbft", json!({ "roundTimeoutMaxMs": 1_999 }), "pbft.roundTimeoutMaxMs`: is below"),
        ("pbft", json!({ "retransmitMs": 2_000 }), "pbft.retransmitMs`: must be below"),
        ("pbft", json!({ "roundTimeoutMs": u64::MAX }), "roundTimeoutMs`: is longer than a year"),
        ("pbft", json!({ "blockIntervalMs": -1 }), "-1 is not a whole number"),
        ("pbft", json!({ "blockIntervalMs": 1.5 }), "1.5 is not a whole number"),
        ("pbft", json!({ "blockIntervalMs": "0x10000000000000000" }), "must be below 2^64"),
        ("pbft", json!({ "emptyBlocks": "no" }), "pbft.emptyBlocks`: must be true or false"),
        ("pbft", json!([]), "landfall.pbft`: must be an object"),
        ("raft", json!({ "heartbeatMs": 0 }), "raft.heartbeatMs`: must be at least 1 ms"),
        ("raft", json!({ "electionTimeoutMs": 199 }), "raft.heartbeatMs`: must be at most half"),
        ("raft", json!({ "electionTimeoutMs": u64::MAX }), "is longer than a year"),
        ("pow", json!({ "firstDifficulty": 0 }), "pow.firstDifficulty`: must be at least 1"),
        ("pow", json!({ "halfLifeMs": 0 }), "pow.halfLifeMs`: must be at least 1 ms"),
        ("pow", json!({ "blockIntervalMs": 0 }), "pow.blockIntervalMs`: must be at least 1 ms"),
        ("pow", json!({ "halfLifeMs": 3_999 }), "pow.halfLifeMs`: is below blockIntervalMs"),
        ("pow", json!({ "safeDepth": 31 }), "pow.safeDepth`: is above finalDepth (30)"),
        ("pow", json!({ "safeDepth": 0, "finalDepth": 0 }), "pow.finalDepth`: must be at least 1"),
        (
            "pow",
            json!({ "subsidyGwei": 0, "subsidyHalvingBlocks": 9 }),
            "pow.subsidyHalvingBlocks`: has no effect without a subsidy",
        ),
    ];
    for (engine, mut section, expected) in table {
        if engine == "pow" && section.get("firstDifficulty").is_none() {
            section["firstDifficulty"] = json!(100);
        }
        let error = refused(&with(engine, section.clone()));
        assert!(error.contains(expected), "{section}: {error}");
    }
}

#[test]
fn a_gas_limit_whose_receipts_fit_no_record_is_refused() {
    let mut file = genesis(&with("pbft", json!({})));
    file["gasLimit"] = json!("0x3b9aca00");
    assert!(read(&file).is_ok(), "a billion");
    file["gasLimit"] = json!("0x3b9aca01");
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("`gasLimit`: is 1000000001"), "{error}");
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    let error = refused(&with("pbft", json!({ "blockInterval": 20 })));
    let expected = "genesis: field `config.landfall.pbft.blockInterval`: unknown; did you mean \
                    `blockIntervalMs`?";
    assert!(error.starts_with(expected), "{error}");
    let mut landfall = with("pbft", json!({}));
    landfall["freegas"] = json!(true);
    assert!(refused(&landfall).contains("freegas`: unknown; did you mean `freeGas`?"));
    let mut landfall = with("pbft", json!({}));
    landfall["validators"][2]["nodekey"] = json!("0x");
    assert!(
        refused(&landfall).contains("validators[2].nodekey`: unknown; did you mean `nodeKey`?")
    );
    let error = refused(&json!({ "engine": "pfbt" }));
    assert!(error.contains("did you mean `pbft`?"), "{error}");
    let mut landfall = with("pbft", json!({}));
    landfall["raft"] = json!({});
    assert!(refused(&landfall).contains("landfall.raft`: has no effect: the engine is pbft"));
    // Without an engine too, as on a chain that only has our rules.
    assert!(refused(&json!({ "impersonate": true })).contains("did you mean `impersonation`?"));
    assert!(refused(&json!([1])).contains("`config.landfall`: must be an object"));
}

#[test]
fn validators_are_distinct_and_complete() {
    let table = [
        ("id", json!(null), "validators[1].id`: must be a string"),
        ("id", json!("0x12"), "validators[1].id`: not an address"),
        ("nodeKey", json!("0x02"), "validators[1].nodeKey`: not a compressed secp256k1"),
        ("weight", json!(0), "validators[1].weight`: must be at least 1"),
        ("address", json!("10.0.0.1"), "validators[1].address`: `10.0.0.1` has no port"),
        ("name", json!("a b"), "validators[1].name`: must have 1 to 32"),
    ];
    for (key, value, expected) in table {
        let mut landfall = with("pbft", json!({}));
        landfall["validators"][1][key] = value;
        let error = refused(&landfall);
        assert!(error.contains(expected), "{key}: {error}");
    }
    for key in ["id", "nodeKey", "address", "name"] {
        let mut landfall = with("pbft", json!({}));
        landfall["validators"][1][key] = landfall["validators"][0][key].clone();
        let error = refused(&landfall);
        assert!(error.contains("is another validator's"), "{key}: {error}");
        landfall["validators"][1].as_object_mut().unwrap().remove(key);
        let lacking = read(&genesis(&landfall)).map(drop).map_err(|e| e.to_string());
        let optional = matches!(key, "address" | "name");
        assert_eq!(lacking.is_ok(), optional, "{key}: {lacking:?}");
    }
    let error = refused(&json!({ "engine": "raft" }));
    assert!(error.contains("validators`: a committee needs at least one member"), "{error}");
}

#[test]
fn epochs_follow_each_other_and_only_the_last_one_lasts() {
    let epochs = |epochs: Value| json!({ "epochs": epochs, "validators": validators() });
    let raft = json!({ "engine": "raft", "lengthBlocks": 100 });
    let pbft = json!({ "engine": "pbft", "pbft": { "retransmitMs": 500 } });
    let good = config(&epochs(json!([raft, pbft])));
    let lengths: Vec<_> = good.schedule.terms().iter().map(|term| term.length).collect();
    assert_eq!(lengths, [Some(100), None]);
    let table = [
        (json!([]), "epochs`: must have an entry"),
        (json!([pbft, raft]), "epochs[0].lengthBlocks`: is missing"),
        (json!([{ "engine": "raft", "lengthBlocks": 0 }]), "epochs[0].lengthBlocks`: must be"),
        (json!([raft, { "engine": "solo" }]), "epochs`: solo seals alone"),
        (
            json!([{ "engine": "pow", "pow": { "firstDifficulty": 9 }, "lengthBlocks": 5 }, pbft]),
            "epochs[0].lengthBlocks`: pow has no certain end",
        ),
        (json!([{ "engine": "raft", "lengthBlock": 1 }]), "did you mean `lengthBlocks`?"),
    ];
    for (list, expected) in table {
        let error = refused(&epochs(list.clone()));
        assert!(error.contains(expected), "{list}: {error}");
    }
    let mut both = epochs(json!([pbft]));
    both["engine"] = json!("pbft");
    assert!(refused(&both).contains("landfall.engine`: stands in each of `epochs`"));
    let mut length = with("pbft", json!({}));
    length["lengthBlocks"] = json!(5);
    assert!(refused(&length).contains("lengthBlocks`: unknown"));
}

#[test]
fn a_network_needs_cancun_and_refuses_impersonation() {
    let mut file = genesis(&with("pbft", json!({})));
    file["config"].as_object_mut().unwrap().remove("cancunTime");
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains("`config.cancunTime`: Cancun must hold from block 0"), "{error}");
    let mut landfall = with("pbft", json!({}));
    landfall["impersonation"] = json!(true);
    assert!(refused(&landfall).contains("impersonation`: lets anybody send for anybody"));
    let mut file = genesis(&with("pbft", json!({})));
    file["number"] = json!("0x5");
    assert!(read(&file).unwrap_err().to_string().contains("`number`: block 0"));
}

#[test]
fn a_development_chain_is_sealed_by_its_coinbase() {
    let dev = config(&json!({ "engine": "solo", "impersonation": true }));
    assert_eq!(dev.schedule.terms()[0].params, Params::Solo(crate::SoloParams::default()));
    assert_eq!(dev.schedule.terms()[0].committee.members()[0].id, alloy_primitives::Address::ZERO);
    assert!(dev.validators.is_empty());
}

#[test]
fn fees_are_read_and_contradictions_refused() {
    let mut landfall = with("pbft", json!({}));
    landfall["baseFeeChangeDenominator"] = json!(400);
    let slow = config(&landfall);
    assert_eq!(slow.fees, FeeRules { base_fee_change_denominator: 400, free_gas: false });
    for few in [0, 1] {
        landfall["baseFeeChangeDenominator"] = json!(few);
        assert!(refused(&landfall).contains("baseFeeChangeDenominator`: must be at least 2"));
    }
    landfall["baseFeeChangeDenominator"] = json!(8);
    landfall["freeGas"] = json!(true);
    assert!(refused(&landfall).contains("baseFeeChangeDenominator`: has no effect"));
    landfall.as_object_mut().unwrap().remove("baseFeeChangeDenominator");
    assert!(config(&landfall).fees.free_gas);
    let mut file = genesis(&landfall);
    file["baseFeePerGas"] = json!("0x1");
    assert!(read(&file).unwrap_err().to_string().contains("`baseFeePerGas`: must be 0"));
}

fn all_engines() -> Vec<ConsensusConfig> {
    let free = json!({ "engine": "raft", "validators": validators(), "freeGas": true });
    let mixed = json!({ "validators": validators(), "epochs": [
        { "engine": "raft", "lengthBlocks": 9 }, { "engine": "pbft" } ] });
    [
        with("pbft", json!({ "blockIntervalMs": 25 })),
        with("raft", json!({ "heartbeatMs": 7 })),
        with("pow", json!({ "firstDifficulty": 12_345 })),
        json!({ "engine": "solo" }),
        free,
        mixed,
    ]
    .iter()
    .map(config)
    .collect()
}

#[test]
fn configuration_survives_its_json() {
    for one in all_engines() {
        let json = one.to_json();
        let again = config(&json);
        assert_eq!(again, one, "{json}");
        assert_eq!(again.to_json(), json);
    }
}

/// Peers compare these: a change of any of them is a change of the handshake.
#[test]
fn schedule_ids_are_frozen() {
    let ids: Vec<B256> = all_engines().iter().map(ConsensusConfig::schedule_id).collect();
    let frozen = [
        b256!("b13f19833c2d807f8842444e87c294d33849cc95026489937c48a191044d6658"),
        b256!("6b9e89e6de2f2866d5515b303acb8888bd06e4ba1ba9aa88f4036460efe3e837"),
        b256!("d043c3faddf8e2ff6cbc057be59bc8d44de0faba533d98eb0825bc4a25507a85"),
        b256!("4620ce048ce5df147023691e4c036c42cc6046af31c057d7d020c133fbde2782"),
        b256!("2e42302fba7e2b5f132085317d3db924c72efd886d6937e220dae6ef8defce7e"),
        b256!("778fc96c7747f813859a4f98a80c549d64e07ac93daffd16037d7c86b61df53f"),
    ];
    assert_eq!(ids, frozen);
}

#[test]
fn schedule_id_covers_what_nodes_must_agree_on_and_nothing_else() {
    let base = with("pbft", json!({}));
    let id = |landfall: &Value| config(landfall).schedule_id();
    let changes: [fn(&mut Value); 8] = [
        |it| it["pbft"]["blockIntervalMs"] = json!(21),
        |it| it["pbft"]["emptyBlocks"] = json!(true),
        |it| it["validators"][0]["weight"] = json!(2),
        |it| it["validators"][0]["id"] = json!(format!("0x{}", "77".repeat(20))),
        |it| drop(it["validators"].as_array_mut().unwrap().pop()),
        |it| it["baseFeeChangeDenominator"] = json!(9),
        |it| it["freeGas"] = json!(true),
        |it| {
            let key = it["validators"][0]["nodeKey"].take();
            it["validators"][0]["nodeKey"] = it["validators"][1]["nodeKey"].take();
            it["validators"][1]["nodeKey"] = key;
        },
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        assert_ne!(id(&other), id(&base), "{other}");
    }
    let mut file = genesis(&base);
    for (key, value) in [("chainId", 8), ("pragueTime", 5)] {
        file["config"][key] = json!(value);
        assert_ne!(read(&file).unwrap().schedule_id(), id(&base), "{key}");
        file = genesis(&base);
    }
    let same: [fn(&mut Value); 4] = [
        |it| it["validators"][0]["name"] = json!("other"),
        |it| it["validators"][0]["address"] = json!("10.9.9.9:1"),
        |it| it["pbft"] = json!({ "roundTimeoutMs": 2_000 }),
        |it| it["validators"].as_array_mut().unwrap().reverse(),
    ];
    for change in same {
        let mut other = base.clone();
        change(&mut other);
        assert_eq!(id(&other), id(&base), "{other}");
    }
}
