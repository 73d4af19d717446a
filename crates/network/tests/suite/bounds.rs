//! Slow and loud hosts and peers: who is slow pays alone.

use crate::host::{config, host, host_dialling, joined, key, until};
use bytes::Bytes;
use landfall_network::{Event, Lane, Rate};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_that_does_not_release_stops_only_the_sender() {
    let mut slow = host(config(key(1)));
    let loud = joined(2, &mut slow).await;
    let calm = joined(3, &mut slow).await;
    // Twice what may be unreleased, and what the socket, the window and the queue hold beside.
    let block = Bytes::from(vec![1; 4 << 20]);
    for _ in 0..20 {
        loud.network.send(slow.id(), Lane::Sync, block.clone());
    }
    let mut held = Vec::new();
    until("the loud peer has reached its bound", || {
        while let Ok(event) = slow.events.try_recv() {
            if let Event::Message { .. } = &event {
                held.push(event);
            }
        }
        held.len() == 3
    })
    .await;
    let more = slow.all_within(Duration::from_millis(500)).await;
    assert!(more.is_empty(), "three of 4 MiB are within 13 MiB, four are not: {more:?}");
    assert!(loud.network.counters().dropped[1] > 0, "its queue is bounded too");
    // Neither another peer nor the other lane of the same one is stopped.
    calm.network.send(slow.id(), Lane::Sync, block.clone());
    assert_eq!(slow.message(Lane::Sync).await.0, calm.id());
    loud.network.send(slow.id(), Lane::Votes, Bytes::from_static(b"vote"));
    assert_eq!(slow.message(Lane::Votes).await.1, b"vote");
    drop(held);
    assert_eq!(slow.message(Lane::Sync).await.0, loud.id(), "released bytes let the next in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_burst_of_votes_is_neither_slowed_nor_punished() {
    let mut first = host(config(key(1)));
    let second = joined(2, &mut first).await;
    let vote = Bytes::from(vec![3; 200]);
    for _ in 0..4_000 {
        second.network.send(first.id(), Lane::Votes, vote.clone());
    }
    for _ in 0..4_000 {
        first.message(Lane::Votes).await;
    }
    let counters = first.network.counters();
    assert_eq!((counters.rate_limited, counters.offences), (0, 0));
    assert_eq!(second.network.counters().dropped, [0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_is_read_slower_then_the_peer_is_banned() {
    let mut strict = config(key(1));
    strict.limits.votes_messages = Rate { per_second: 100, burst: 100 };
    strict.limits.offence_half_life = Duration::from_secs(600);
    let mut first = host(strict);
    let mut second = joined(2, &mut first).await;
    let (network, to) = (second.network.clone(), first.id());
    let flood = tokio::spawn(async move {
        loop {
            network.send(to, Lane::Votes, Bytes::from_static(b"flood"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let mut received = 0_u32;
    let begin = std::time::Instant::now();
    let (seconds, why) = first
        .next("ban", |event| match event {
            Event::Message { .. } => {
                received += 1;
                None
            }
            Event::Banned { duration, why, .. } => Some((duration.as_secs(), why)),
            _ => None,
        })
        .await;
    assert_eq!((seconds, why.as_str()), (600, "too much on the votes lane"));
    let allowed = 100 + 100 * (begin.elapsed().as_secs() as u32 + 1);
    assert!(received <= allowed, "{received} in {:?}", begin.elapsed());
    second.gone().await;
    let why = second.refused().await;
    assert!(why.contains("banned for another"), "{why}");
    let counters = first.network.counters();
    assert!(counters.bans == 1 && counters.rate_limited >= 5, "{counters:?}");
    until("the refusal is counted", || first.network.counters().refused.contains_key("banned"))
        .await;
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validator_is_banned_for_a_shorter_time_and_comes_back() {
    let mut config = config(key(1));
    config.validators = [(key(2).public(), key(40).public().id())].into();
    config.limits.ban_static = Duration::from_secs(2);
    let mut first = host(config);
    let mut second = host_dialling(2, &[&first]);
    let validator = first.connected().await.id;
    first.network.penalise(validator, landfall_network::Offence::Malformed, "a test");
    let banned = first.next("ban", |event| match event {
        Event::Banned { id, duration, .. } => Some((id, duration)),
        _ => None,
    });
    assert_eq!(banned.await, (validator, Duration::from_secs(2)));
    assert_eq!(first.gone().await, (validator, "banned for 2 s: a test".to_owned()));
    second.gone().await;
    assert_eq!(first.connected().await.id, validator);
    assert_eq!(second.connected().await.id, first.id());
}
