//! Nodes that do not belong together part at the handshake, and say why.

use crate::host::{Host, config, hello, host, key};
use alloy_primitives::B256;
use landfall_network::{Config, Event, Hello, NetworkError, PeerKey, start};
use std::collections::BTreeSet;
use std::time::Duration;

/// Starts a node with `listens` and one with `dials` that dials it, and returns what each says of
/// the other.
async fn refusals(listens: Config, dials: Config) -> (String, String) {
    let mut first = host(listens);
    let mut second = host(Config { static_peers: vec![first.address()], ..dials });
    let reasons = (first.refused().await, second.refused().await);
    let connected = |host: &Host| host.network.peers().len();
    assert_eq!((connected(&first), connected(&second)), (0, 0));
    // Such a peer is left alone for long.
    let more = second.all_within(Duration::from_secs(2)).await;
    assert!(more.is_empty(), "{more:?}");
    assert_eq!(second.network.counters().dials, 1);
    reasons
}

fn with(change: impl FnOnce(&mut Hello)) -> Config {
    let mut changed = hello();
    change(&mut changed);
    Config { hello: changed, ..config(key(2)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_genesis_is_refused_by_name_on_both_sides() {
    let other = B256::repeat_byte(0x99);
    let (first, second) = refusals(config(key(1)), with(|it| it.genesis = other)).await;
    let ours = hello().genesis;
    assert!(first.contains(&format!("genesis differs: ours {ours}, theirs {other}")), "{first}");
    assert!(second.contains(&format!("genesis differs: ours {other}, theirs {ours}")), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_schedule_of_engines_is_refused_by_name_on_both_sides() {
    let other = B256::repeat_byte(0x99);
    let (first, second) = refusals(config(key(1)), with(|it| it.schedule = other)).await;
    let ours = hello().schedule;
    for (said, ours, theirs) in [(first, ours, other), (second, other, ours)] {
        let expected = format!("schedule of engines differs: ours {ours}, theirs {theirs}");
        assert!(said.contains(&expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_chain_id_is_refused_by_name_on_both_sides() {
    let (first, second) = refusals(config(key(1)), with(|it| it.chain_id = 2)).await;
    assert!(first.contains("chain id differs: ours 1, theirs 2"), "{first}");
    assert!(second.contains("chain id differs: ours 2, theirs 1"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_that_is_not_allowed_is_refused_by_name_on_both_sides() {
    let allow = Some(BTreeSet::from([key(5).public()]));
    let listens = Config { allow, ..config(key(1)) };
    let (first, second) = refusals(listens, config(key(2))).await;
    let expected = format!("key {} is not on the allow-list", key(2).public());
    assert!(first.contains(&expected), "{first}");
    assert!(second.contains(&format!("refused by the peer: {expected}")), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_of_a_validator_makes_no_validator() {
    // The genesis binds the id that is the address of key 2 to key 3.
    let validators = [(key(3).public(), key(2).public().id())].into();
    let listens = Config { validators, ..config(key(1)) };
    let (first, second) = refusals(listens, config(key(2))).await;
    assert!(first.contains("which the genesis binds to another key"), "{first}");
    assert!(second.contains("which the genesis binds to another key"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_answers_with_another_key_is_refused_by_name() {
    let first = host(config(key(1)));
    let mut address = first.address();
    address.key = key(7).public();
    let mut second = host(Config { static_peers: vec![address], ..config(key(2)) });
    let why = second.refused().await;
    let (expected, found) = (key(7).public(), key(1).public());
    assert!(why.contains(&format!("expected the key of {expected}, found {found}")), "{why}");
    assert!(first.network.peers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_counted_by_reason() {
    let mut first = host(config(key(1)));
    let dials = with(|it| it.genesis = B256::ZERO);
    let second = host(Config { static_peers: vec![first.address()], ..dials });
    let event = first.next("refusal", |event| match event {
        Event::Refused { key, .. } => Some(key),
        _ => None,
    });
    assert_eq!(event.await, Some(second.key.public()));
    assert_eq!(first.network.counters().refused.get("genesis"), Some(&1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_that_contradicts_itself_does_not_start() {
    let id = key(9).public().id();
    let key_of = |byte| -> PeerKey { key(byte).public() };
    let bound = Config { validators: [(key_of(2), id), (key_of(3), id)].into(), ..config(key(1)) };
    assert!(matches!(start(bound), Err(NetworkError::BoundTwice(twice)) if twice == id));
    let first = host(config(key(1)));
    let own = Config { static_peers: vec![first.address()], ..config(key(1)) };
    assert!(matches!(start(own), Err(NetworkError::OwnAddress(_))));
    let taken = Config { listen: first.network.listening(), ..config(key(2)) };
    let Err(error) = start(taken) else { panic!("the port is taken") };
    assert!(error.to_string().contains(&first.network.listening().to_string()), "{error}");
    let mut small = config(key(2));
    small.limits.sync_unreleased_max = 1 << 20;
    assert!(matches!(start(small), Err(NetworkError::Limits("sync_unreleased_max"))));
}
