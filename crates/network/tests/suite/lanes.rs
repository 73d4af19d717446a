//! Direct messages.

use crate::host::{Host, config, host, host_dialling, joined, key};
use crate::hostile::Tcp;
use bytes::Bytes;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use landfall_network::{Config, Direction, Event, Lane, PeerAddress};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

async fn pair() -> (Host, Host) {
    let mut first = host(config(key(1)));
    let mut second = host_dialling(2, &[&first]);
    let (at_first, at_second) = (first.connected().await, second.connected().await);
    assert_eq!((at_first.id, at_second.id), (second.id(), first.id()));
    assert_eq!(at_first.direction, Direction::Inbound);
    assert_eq!(at_second.direction, Direction::Outbound);
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_talk_on_both_lanes_in_order() {
    let (mut first, mut second) = pair().await;
    for lane in Lane::ALL {
        for number in 0..100_u8 {
            first.network.send(second.id(), lane, Bytes::from(vec![number; 200]));
            second.network.send(first.id(), lane, Bytes::from(vec![number; 200]));
        }
        for number in 0..100_u8 {
            assert_eq!(first.message(lane).await, (second.id(), vec![number; 200]));
            assert_eq!(second.message(lane).await, (first.id(), vec![number; 200]));
        }
    }
    let sent = first.network.counters();
    assert_eq!(sent.lane_out(Lane::Votes).messages, 100);
    assert_eq!(sent.lane_out(Lane::Sync).bytes, 20_000);
    assert_eq!(sent.lane_in(Lane::Sync).bytes, 20_000);
    assert_eq!(sent.dropped, [0, 0]);
    let peers = first.network.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!((peers[0].client.as_str(), peers[0].score), ("test/1", 0));
    assert!(peers[0].bytes_in > 40_000 && peers[0].messages_in == 200);
    first.stop().await;
    let (id, _) = second.gone().await;
    assert_eq!(id, key(1).public().id());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_messages_arrive_whole_and_larger_ones_are_not_sent() {
    let (first, mut second) = pair().await;
    for lane in Lane::ALL {
        let largest: Vec<u8> = (0..lane.message_bytes_max()).map(|byte| byte as u8).collect();
        first.network.send(second.id(), lane, Bytes::from(largest.clone()));
        assert!(second.message(lane).await.1 == largest);
        first.network.send(second.id(), lane, Bytes::from(vec![0; largest.len() + 1]));
    }
    assert_eq!(first.network.counters().oversized_out, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_reaches_all_and_send_to_any_takes_turns() {
    let mut hub = host(config(key(1)));
    let mut others = Vec::new();
    for byte in 2..5 {
        others.push(joined(byte, &mut hub).await);
    }
    hub.network.broadcast(Lane::Votes, Bytes::from_static(b"all"));
    for other in &mut others {
        assert_eq!(other.message(Lane::Votes).await.1, b"all");
    }
    let mut taken: Vec<_> = (0..3)
        .filter_map(|_| hub.network.send_to_any(Lane::Sync, Bytes::from_static(b"one")))
        .collect();
    for other in &mut others {
        assert_eq!(other.message(Lane::Sync).await.1, b"one");
    }
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_to_nobody_are_dropped_and_counted() {
    let alone = host(config(key(1)));
    alone.network.send(key(9).public().id(), Lane::Votes, Bytes::from_static(b"?"));
    assert_eq!(alone.network.send_to_any(Lane::Sync, Bytes::from_static(b"?")), None);
    alone.network.broadcast(Lane::Votes, Bytes::from_static(b"?"));
    assert_eq!(alone.network.counters().dropped, [1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_queued_when_a_node_stops_still_goes_out() {
    let (first, mut second) = pair().await;
    for _ in 0..50 {
        first.network.send(second.id(), Lane::Votes, Bytes::from_static(b"last words"));
    }
    first.stop().await;
    for _ in 0..50 {
        assert_eq!(second.message(Lane::Votes).await.1, b"last words");
    }
}

/// Prints the round trip of a vote of 200 bytes, and of one while a block is on the sync lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn round_trip_of_a_vote_is_printed() {
    let (first, mut second) = pair().await;
    let (network, to) = (first.network.clone(), first.id());
    let vote = Bytes::from(vec![7; 200]);
    let mut other = first;
    let echo = tokio::spawn(async move {
        while let Some(event) = other.events.recv().await {
            if let Event::Message { from, lane: Lane::Votes, bytes, .. } = event {
                network.send(from, Lane::Votes, bytes);
            }
        }
    });
    for (name, block) in [("idle", 0), ("with 10 MiB on the sync lane each time", 10 << 20)] {
        let mut times = Vec::new();
        for _ in 0..if block == 0 { 1000 } else { 20 } {
            if block > 0 {
                second.network.send(to, Lane::Sync, Bytes::from(vec![0; block]));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let begin = Instant::now();
            second.network.send(to, Lane::Votes, vote.clone());
            assert_eq!(second.message(Lane::Votes).await.1, vote);
            times.push(begin.elapsed());
        }
        times.sort();
        let at = |part: usize| times[times.len() * part / 100];
        println!(
            "round trip of a vote, {name}: p50 {:?}, p90 {:?}, p99 {:?}",
            at(50),
            at(90),
            at(99)
        );
    }
    assert!(second.network.peers()[0].round_trip.is_some(), "the ping was answered");
    echo.abort();
}

/// Carries connections to `to` at so many bytes per second in the direction of the listener, and
/// holds few bytes itself, as a slow link does. When the dialler is gone, the listener does not hear
/// of it.
pub async fn slow_link(to: SocketAddr, bytes_per_second: u32) -> SocketAddr {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a small buffer");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let listener = socket.listen(8).expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = Tcp::connect(to).await.expect("the listener");
            let (mut from_near, mut to_near) = Tcp(near).split();
            let (mut from_far, mut to_far) = far.split();
            tokio::spawn(async move { futures_util::io::copy(&mut from_far, &mut to_near).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                loop {
                    let read = from_near.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 || to_far.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                    let pause = Duration::from_secs(1) * read as u32 / bytes_per_second;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vote_passes_a_block_on_a_slow_link() {
    let mut first = host(config(key(1)));
    let link = slow_link(first.network.listening(), 4 << 20).await;
    let address = PeerAddress { port: link.port(), ..first.address() };
    let mut second = host(Config { static_peers: vec![address], ..config(key(2)) });
    second.connected().await;
    first.connected().await;
    let begin = Instant::now();
    second.network.send(first.id(), Lane::Sync, Bytes::from(vec![1; 8 << 20]));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let sent = Instant::now();
    second.network.send(first.id(), Lane::Votes, Bytes::from_static(b"vote"));
    let (mut vote, mut block) = (None, None);
    while vote.is_none() || block.is_none() {
        let lane = first.next("message", |event| match event {
            Event::Message { lane, .. } => Some(lane),
            _ => None,
        });
        match lane.await {
            Lane::Votes => vote = Some(sent.elapsed()),
            Lane::Sync => block = Some(begin.elapsed()),
        }
    }
    let (vote, block) = (vote.expect("a vote"), block.expect("a block"));
    println!("on a link of 4 MiB/s: 8 MiB of sync in {block:?}, a vote amid them in {vote:?}");
    assert!(vote < block / 5, "the vote waited behind the block");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_is_known_by_the_key_that_the_genesis_binds() {
    let validator = key(0x77).public().id();
    let validators = [(key(2).public(), validator)].into();
    let mut first = host(Config { validators, ..config(key(1)) });
    let mut second = host_dialling(2, &[&first]);
    let peer = first.connected().await;
    second.connected().await;
    assert_eq!((peer.id, peer.key, peer.validator), (validator, key(2).public(), true));
    second.network.send(first.id(), Lane::Votes, Bytes::from_static(b"vote"));
    assert_eq!(first.message(Lane::Votes).await.0, validator);
    let third = host_dialling(3, &[&first]);
    let peer = first.connected().await;
    assert_eq!((peer.id, peer.validator), (third.id(), false));
}
