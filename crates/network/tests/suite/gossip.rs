//! Gossip goes as far as hosts let it.

use crate::host::{Host, config, host, host_dialling, joined, key, until};
use crate::lanes::slow_link;
use bytes::Bytes;
use landfall_network::{Config, Event, GossipId, Limits, PeerAddress, Rate, Topic, Verdict};
use std::time::Duration;

/// Three nodes in a row: the first knows the second, the second the third.
async fn row() -> [Host; 3] {
    let mut middle = host(config(key(2)));
    let first = joined(1, &mut middle).await;
    let last = joined(3, &mut middle).await;
    [first, middle, last]
}

async fn gossip(host: &mut Host) -> (landfall_types::NodeId, Topic, Vec<u8>, GossipId) {
    host.next("gossip", |event| match event {
        Event::Gossip { from, topic, bytes, id, .. } => Some((from, topic, bytes.to_vec(), id)),
        _ => None,
    })
    .await
}

/// Gossips once the peers have told their topics: before, nobody listens.
async fn say(host: &Host, topic: Topic, bytes: &'static [u8]) {
    let said = |host: &Host| host.network.counters().topic_out(topic).messages;
    let before = said(host);
    until("gossip finds a listener", || {
        host.network.gossip(topic, Bytes::from_static(bytes));
        std::thread::sleep(Duration::from_millis(20));
        said(host) > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_goes_two_hops_after_the_verdict_and_not_before() {
    let [first, mut middle, mut last] = row().await;
    for topic in Topic::ALL {
        say(&first, topic, b"news").await;
        let (from, of, bytes, id) = gossip(&mut middle).await;
        assert_eq!((from, of, bytes.as_slice()), (first.id(), topic, b"news".as_slice()));
        let early = last.all_within(Duration::from_millis(700)).await;
        assert!(!early.iter().any(|event| matches!(event, Event::Gossip { .. })), "{early:?}");
        middle.network.verdict(id, Verdict::Accept);
        let (from, of, bytes, again) = gossip(&mut last).await;
        assert_eq!((from, of, bytes.as_slice()), (middle.id(), topic, b"news".as_slice()));
        assert_eq!(again.hash(), id.hash(), "content is the address");
    }
    assert_eq!(first.network.counters().verdicts_lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_bytes_are_one_message() {
    let [first, mut middle, last] = row().await;
    say(&first, Topic::Transactions, b"same").await;
    let (_, _, _, id) = gossip(&mut middle).await;
    middle.network.verdict(id, Verdict::Accept);
    let mut last = last;
    gossip(&mut last).await;
    last.network.gossip(Topic::Transactions, Bytes::from_static(b"same"));
    first.network.gossip(Topic::Transactions, Bytes::from_static(b"same"));
    let more = middle.all_within(Duration::from_millis(500)).await;
    assert!(!more.iter().any(|event| matches!(event, Event::Gossip { .. })), "{more:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_gossip_goes_no_further_and_its_sender_is_penalised_until_banned() {
    let [mut first, mut middle, mut last] = row().await;
    for bytes in [b"bad 1", b"bad 2", b"bad 3"] {
        say(&first, Topic::Transactions, bytes).await;
        let (_, _, _, id) = gossip(&mut middle).await;
        let before = middle.network.peers();
        middle.network.verdict(id, Verdict::Reject);
        let key = first.key.public();
        let score = |peers: &[landfall_network::PeerInfo]| {
            peers.iter().find(|peer| peer.key == key).map(|peer| peer.score)
        };
        until("the score falls", || score(&middle.network.peers()) < score(&before)).await;
    }
    let banned = middle.next("ban", |event| match event {
        Event::Banned { id, why, .. } => Some((id, why)),
        _ => None,
    });
    assert_eq!(banned.await, (first.id(), "it forwarded invalid gossip".to_owned()));
    assert_eq!(middle.gone().await.0, first.id());
    first.gone().await;
    let why = first.refused().await;
    assert!(why.contains("banned for another") && why.contains("invalid gossip"), "{why}");
    let heard = last.all_within(Duration::from_millis(100)).await;
    assert!(!heard.iter().any(|event| matches!(event, Event::Gossip { .. })), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignored_gossip_goes_no_further_and_is_nobodys_fault() {
    let [first, mut middle, mut last] = row().await;
    say(&first, Topic::Blocks, b"of no use").await;
    let (_, _, _, id) = gossip(&mut middle).await;
    middle.network.verdict(id, Verdict::Ignore);
    let heard = last.all_within(Duration::from_millis(700)).await;
    assert!(!heard.iter().any(|event| matches!(event, Event::Gossip { .. })), "{heard:?}");
    assert!(middle.network.peers().iter().all(|peer| peer.score == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_send_is_passed_on_at_the_rate_of_two() {
    let rate = Rate { per_second: 1, burst: 5 };
    let limits = Limits { gossip_transactions: rate, ..Limits::default() };
    let mut middle = host(Config { limits, ..config(key(2)) });
    let mut last = joined(3, &mut middle).await;
    let mut words = 0..15_u8;
    for spoke in 4..7 {
        let spoke = joined(spoke, &mut middle).await;
        for word in words.by_ref().take(5) {
            say(&spoke, Topic::Transactions, vec![word].leak()).await;
            let (.., id) = gossip(&mut middle).await;
            middle.network.verdict(id, Verdict::Accept);
        }
    }
    let passed = last.all_within(Duration::from_millis(1_500)).await;
    let passed = passed.iter().filter(|event| matches!(event, Event::Gossip { .. })).count();
    assert!((10..15).contains(&passed), "{passed} of 15 were passed on");
    assert!(middle.network.counters().gossip_shed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_block_is_gossiped_whole() {
    let [first, mut middle, mut last] = row().await;
    let block = Bytes::from(vec![5; Topic::Blocks.message_bytes_max()]);
    say(&first, Topic::Blocks, b"warm").await;
    let (_, _, _, warm) = gossip(&mut middle).await;
    middle.network.verdict(warm, Verdict::Ignore);
    first.network.gossip(Topic::Blocks, block.clone());
    let (_, _, bytes, id) = gossip(&mut middle).await;
    assert!(bytes == block);
    middle.network.verdict(id, Verdict::Accept);
    let (_, _, bytes, _) = gossip(&mut last).await;
    assert!(bytes == block);
    first.network.gossip(Topic::Transactions, block);
    assert_eq!(first.network.counters().oversized_out, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_vanished_and_returns_is_heard_and_hears_again() {
    let mut brief = config(key(1));
    brief.limits.handshake_timeout = Duration::from_secs(1);
    let mut first = host(brief);
    let link = slow_link(first.network.listening(), u32::MAX).await;
    let by_link = PeerAddress { port: link.port(), ..first.address() };
    let mut second = host(Config { static_peers: vec![by_link], ..config(key(2)) });
    second.connected().await;
    first.connected().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // Its machine loses power: no goodbye reaches the first node.
    second.task.abort();
    let quiet = first.all_within(Duration::from_millis(300)).await;
    assert!(quiet.is_empty(), "{quiet:?}");
    let mut again = host_dialling(2, &[&first]);
    again.connected().await;
    assert!(first.gone().await.1.contains("replaced by a newer connection"));
    first.connected().await;
    say(&first, Topic::Blocks, b"to the one that is back").await;
    assert_eq!(gossip(&mut again).await.2, b"to the one that is back");
    say(&again, Topic::Blocks, b"from the one that is back").await;
    assert_eq!(gossip(&mut first).await.2, b"from the one that is back");
}
