//! Connections come, stay and come back.

use crate::host::{Host, config, host, host_dialling, key, until};
use bytes::Bytes;
use landfall_network::{Config, Event, Lane, PeerAddress};
use std::time::{Duration, Instant};

fn notices(events: &[Event]) -> Vec<&Event> {
    let is_notice = |event: &&Event| matches!(event, Event::Connected(_) | Event::Gone { .. });
    events.iter().filter(is_notice).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simultaneous_dials_yield_one_connection_without_flapping() {
    for round in 0..10_u8 {
        let mut first = host(config(key(20 + round)));
        let mut second = host(config(key(100 + round)));
        // Both begin within the same tick of their drivers.
        first.network.add_peer(second.address());
        second.network.add_peer(first.address());
        for host in [&mut first, &mut second] {
            let events = host.all_within(Duration::from_millis(1200)).await;
            let seen = notices(&events);
            assert!(matches!(seen.as_slice(), [Event::Connected(_)]), "round {round}: {seen:?}");
            assert_eq!(host.network.peers().len(), 1);
        }
        second.network.broadcast(Lane::Votes, Bytes::from_static(b"one"));
        assert_eq!(first.message(Lane::Votes).await.1, b"one");
        first.stop().await;
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_peer_that_restarts_is_connected_again_within_seconds() {
    let first = host(config(key(1)));
    let mut second = host_dialling(2, &[&first]);
    second.connected().await;
    let listen = first.network.listening();
    first.stop().await;
    second.gone().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begin = Instant::now();
    let again = host(Config { listen, ..config(key(1)) });
    second.connected().await;
    println!("connected {:?} after the restart", begin.elapsed());
    // The pause between two dials of a static peer is at most 5 s and a quarter.
    assert!(begin.elapsed() < Duration::from_secs(20));
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_added_and_removed_while_it_runs() {
    let first = host(config(key(1)));
    let mut second = host(config(key(2)));
    second.network.add_peer(first.address());
    assert!(second.connected().await.is_static);
    second.network.remove_peer(first.key.public());
    assert_eq!(second.gone().await, (first.id(), "removed by the operator".to_owned()));
    let events = second.all_within(Duration::from_secs(1)).await;
    assert!(notices(&events).is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_connects_strangers_who_know_one_node_into_a_triangle() {
    let discovering = |byte, to: Vec<PeerAddress>| {
        host(Config { discovery: true, static_peers: to, ..config(key(byte)) })
    };
    let middle = discovering(2, vec![]);
    let first = discovering(1, vec![middle.address()]);
    let last = discovering(3, vec![middle.address()]);
    let hosts: [&Host; 3] = [&first, &middle, &last];
    until("each has two peers", || hosts.iter().all(|host| host.network.peers().len() == 2)).await;
    let of_first = first.network.peers();
    let found = of_first.iter().find(|peer| peer.id == last.id()).expect("the third node");
    assert_eq!(found.listening, Some(last.address()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_discovery_nobody_is_told() {
    let middle = host(config(key(2)));
    let first = host_dialling(1, &[&middle]);
    let last = host_dialling(3, &[&middle]);
    until("the middle has two peers", || middle.network.peers().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((first.network.peers().len(), last.network.peers().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_validators_and_static_peers_are_kept_when_the_rest_is_full() {
    let validators = [(key(50).public(), key(51).public().id())].into();
    let mut full = Config { validators, ..config(key(1)) };
    full.limits.peers_max = 3;
    full.limits.outbound_reserved = 1;
    let mut hub = host(full);
    let mut strangers = Vec::new();
    for byte in 2..4 {
        strangers.push(host_dialling(byte, &[&hub]));
        hub.connected().await;
    }
    let mut third = host_dialling(4, &[&hub]);
    let why = third.refused().await;
    assert!(why.contains("all slots for incoming peers are taken"), "{why}");
    let validator = host_dialling(50, &[&hub]);
    assert!(hub.connected().await.validator);
    let friend = host(config(key(60)));
    hub.network.add_peer(friend.address());
    assert!(hub.connected().await.is_static);
    assert_eq!(hub.network.peers().len(), 4);
    drop((strangers, validator));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_ip_prefix_does_not_fill_all_slots() {
    let mut narrow = config(key(1));
    narrow.limits.prefix_peers_max = 2;
    narrow.limits.loopback_exempt = false;
    let mut hub = host(narrow);
    let mut strangers = Vec::new();
    for byte in 2..4 {
        strangers.push(host_dialling(byte, &[&hub]));
        hub.connected().await;
    }
    let mut third = host_dialling(4, &[&hub]);
    let why = third.refused().await;
    assert!(why.contains("all slots for peers of its IP prefix are taken"), "{why}");
}
