//! What a peer may send, and what it does to the node: nothing.

use crate::host::{Host, PATIENCE, config, hello, host, host_dialling, joined, key, until};
use crate::hostile::{
    Hostile, Tcp, frame, gossip_frame, greet, ihave_frame, read_block, secure, subscribe_frame,
    topic, varint_block, write_block,
};
use alloy_primitives::B256;
use bytes::Bytes;
use futures_util::{AsyncReadExt, AsyncWriteExt};
use landfall_network::{Event, Lane, NodeKey, Rate, Topic, Verdict};
use std::time::Duration;
use tokio::time::timeout;

const EVIL: [u8; 32] = [0xee; 32];

fn good_hello() -> Vec<u8> {
    let ours = hello();
    crate::hostile::hello(1, ours.genesis, ours.schedule, ours.chain_id)
}

async fn attacker(victim: &mut Host) -> Hostile {
    let attacker = Hostile::connect(victim.network.listening(), EVIL, &good_hello()).await;
    let attacker = attacker.expect("the hostile peer begins politely");
    victim.connected().await;
    attacker
}

/// A new peer gets in and is heard.
async fn still_serves(victim: &mut Host) {
    let friend = joined(0x60, victim).await;
    friend.network.send(victim.id(), Lane::Votes, Bytes::from_static(b"hello"));
    assert_eq!(victim.message(Lane::Votes).await.1, b"hello");
    friend.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_wire_version_is_refused_by_name_and_the_peer_is_told() {
    let mut victim = host(config(key(1)));
    let mut io = secure(victim.network.listening(), EVIL).await.expect("encryption");
    let (code, text) =
        greet(&mut io, &crate::hostile::hello(7, B256::ZERO, B256::ZERO, 1)).await.expect("answer");
    assert_eq!(code, 2);
    assert!(text.contains("wire version differs: ours 1, theirs 7"), "{text}");
    assert!(victim.refused().await.contains("wire version differs: ours 1, theirs 7"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_a_hello_is_refused() {
    let mut victim = host(config(key(1)));
    for garbage in
        [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &[0xff; 900], &[], b"landfall\x00\x01\xc0"]
    {
        let mut io = secure(victim.network.listening(), EVIL).await.expect("encryption");
        let (code, _) = greet(&mut io, garbage).await.expect("an answer");
        assert_eq!(code, 1, "{garbage:?}");
        victim.refused().await;
    }
    still_serves(&mut victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_that_announces_gigabytes_is_refused_unread() {
    let mut victim = host(config(key(1)));
    let mut io = secure(victim.network.listening(), EVIL).await.expect("encryption");
    io.write_all(&[0xff; 4]).await.expect("a length");
    io.flush().await.expect("it is sent");
    assert!(victim.refused().await.contains("a hello of 4294967295 bytes"));
    still_serves(&mut victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_looked_at_before_both_have_welcomed_each_other() {
    let mut victim = host(config(key(1)));
    // A hello, no answer to the node's own, and at once a multiplexer with lanes.
    let mut io = secure(victim.network.listening(), EVIL).await.expect("encryption");
    write_block(&mut io, &good_hello()).await.expect("hello");
    read_block(&mut io).await.expect("its hello");
    let early = Hostile::multiplex(io);
    assert!(timeout(PATIENCE, early.lanes()).await.expect("it is cut").is_err());
    let events = victim.all_within(Duration::from_millis(300)).await;
    assert!(!events.iter().any(|event| matches!(event, Event::Connected(_))), "{events:?}");
    still_serves(&mut victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_frame_is_cut_by_its_header() {
    let lengths = [
        (Lane::Votes, (256 << 10) + 2),
        (Lane::Sync, (12 << 20) + 2),
        (Lane::Votes, u32::MAX),
        (Lane::Sync, 0),
    ];
    for (lane, length) in lengths {
        let mut victim = host(config(key(1)));
        let attacker = attacker(&mut victim).await;
        let (mut votes, mut sync) = attacker.lanes().await.expect("lanes");
        let stream = if lane == Lane::Votes { &mut votes } else { &mut sync };
        // The header alone: there is nothing that could be allocated for.
        stream.write_all(&[&u32::to_be_bytes(length)[..], &[0]].concat()).await.expect("a header");
        stream.flush().await.expect("it is sent");
        let (_, why) = victim.gone().await;
        assert!(why.contains(&format!("a frame of {length} bytes on the {lane} lane")), "{why}");
        let counters = victim.network.counters();
        assert_eq!((counters.malformed, counters.bans), (1, 1));
        let again = Hostile::connect(victim.network.listening(), EVIL, &good_hello()).await;
        assert!(again.err().expect("banned").to_string().contains("banned for another"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_frames_and_malformed_addresses_are_cut() {
    let frames = [frame(4, b"?"), frame(1, &[0; 9]), frame(3, b"not rlp"), frame(3, &[0xc1, 0x80])];
    for bytes in frames {
        let mut victim = host(config(key(1)));
        let attacker = attacker(&mut victim).await;
        let (_votes, mut sync) = attacker.lanes().await.expect("lanes");
        sync.write_all(&bytes).await.expect("a frame");
        sync.flush().await.expect("it is sent");
        victim.gone().await;
        assert_eq!(victim.network.counters().malformed, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_that_comes_too_slowly_is_cut() {
    let mut patient = config(key(1));
    patient.limits.progress_timeout = Duration::from_millis(500);
    let mut victim = host(patient);
    let attacker = attacker(&mut victim).await;
    let (_votes, mut sync) = attacker.lanes().await.expect("lanes");
    sync.write_all(&frame(0, &[7; 1 << 20])[..10]).await.expect("a beginning");
    let trickle = tokio::spawn(async move {
        loop {
            // The node may have cut already.
            let _ = sync.write_all(&[7]).await;
            let _ = sync.flush().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let (_, why) = victim.gone().await;
    assert!(why.contains("it wrote too slowly"), "{why}");
    trickle.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_holds_neither_memory_nor_others_and_is_cut() {
    let mut bounded = config(key(1));
    bounded.limits.progress_timeout = Duration::from_secs(2);
    let mut victim = host(bounded);
    let attacker = attacker(&mut victim).await;
    let _lanes = attacker.lanes().await.expect("lanes that are never read");
    let evil = victim.network.peers()[0].id;
    let mut friend = joined(2, &mut victim).await;
    let block = Bytes::from(vec![1; 4 << 20]);
    for _ in 0..20 {
        victim.network.send(evil, Lane::Sync, block.clone());
    }
    let dropped = victim.network.counters().dropped[1];
    assert!(dropped >= 12, "at most 32 MiB are queued: {dropped} dropped");
    victim.network.send(friend.id(), Lane::Sync, block.clone());
    assert!(friend.message(Lane::Sync).await.1 == block);
    let (id, why) = victim.gone().await;
    assert_eq!(id, evil);
    assert!(why.contains("it read too slowly"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peer_is_cut_and_so_is_one_without_lanes() {
    let mut impatient = config(key(1));
    impatient.limits.idle_timeout = Duration::from_secs(2);
    impatient.limits.handshake_timeout = Duration::from_secs(5);
    let mut victim = host(impatient);
    let silent = attacker(&mut victim).await;
    let _lanes = silent.lanes().await.expect("lanes");
    let (_, why) = victim.gone().await;
    assert!(why.contains("it was silent for 2 s"), "{why}");
    let idle = attacker(&mut victim).await;
    let (_, why) = victim.gone().await;
    assert!(why.contains("it did not open its lanes within 5 s"), "{why}");
    drop(idle);
    // Two honest nodes with such limits keep each other awake.
    let mut quiet = config(key(2));
    quiet.static_peers = vec![victim.address()];
    quiet.limits.idle_timeout = Duration::from_secs(2);
    let mut quiet = host(quiet);
    quiet.connected().await;
    let events = quiet.all_within(Duration::from_secs(5)).await;
    assert!(events.is_empty(), "{events:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_gossip_frames_is_not_looked_at_and_banned() {
    let mut strict = config(key(1));
    strict.limits.gossip_frames = Rate { per_second: 50, burst: 50 };
    strict.limits.offence_half_life = Duration::from_secs(600);
    let mut victim = host(strict);
    let attacker = attacker(&mut victim).await;
    let _lanes = attacker.lanes().await.expect("lanes");
    let mut gossip = attacker.protocol("/meshsub/1.2.0").await.expect("gossip");
    let name = topic("transactions", hello().genesis);
    // Duplicates and control messages, which gossipsub itself never reports.
    let flood = tokio::spawn(async move {
        for seed in 0.. {
            let frames = [gossip_frame(&name, b"the same"), ihave_frame(&name, seed * 100, 100)];
            if gossip.write_all(&frames.concat()).await.is_err() || gossip.flush().await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    let why = victim.next("ban", |event| match event {
        Event::Banned { why, .. } => Some(why),
        _ => None,
    });
    assert_eq!(why.await, "too many gossip frames");
    timeout(PATIENCE, flood).await.expect("it is cut").expect("it does not panic");
    still_serves(&mut victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_new_gossip_is_shed_and_whoever_forwards_it_stays() {
    let mut strict = config(key(1));
    strict.limits.gossip_transactions = Rate { per_second: 1, burst: 20 };
    let mut victim = host(strict);
    let attacker = attacker(&mut victim).await;
    let _lanes = attacker.lanes().await.expect("lanes");
    let mut gossip = attacker.protocol("/meshsub/1.2.0").await.expect("gossip");
    let name = topic("transactions", hello().genesis);
    for number in 0..40_u32 {
        gossip.write_all(&gossip_frame(&name, &number.to_be_bytes())).await.expect("gossip");
    }
    gossip.flush().await.expect("it is sent");
    let mut received = 0;
    let twenty = victim.next("twenty messages", |event| match event {
        Event::Gossip { .. } => {
            received += 1;
            (received == 20).then_some(())
        }
        other => {
            assert!(!matches!(other, Event::Banned { .. }), "it may forward for others");
            None
        }
    });
    twenty.await;
    still_serves(&mut victim).await;
    let counters = victim.network.counters();
    assert!(counters.gossip_shed >= 15, "{} were shed", counters.gossip_shed);
    assert_eq!(counters.bans, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_longer_than_its_topic_allows_is_not_handed_on() {
    for excess in [1, 2048] {
        let mut victim = host(config(key(1)));
        let attacker = attacker(&mut victim).await;
        let _lanes = attacker.lanes().await.expect("lanes");
        let mut gossip = attacker.protocol("/meshsub/1.2.0").await.expect("gossip");
        let name = topic("transactions", hello().genesis);
        let long = vec![1; Topic::Transactions.message_bytes_max() + excess];
        gossip.write_all(&gossip_frame(&name, &long)).await.expect("gossip");
        gossip.write_all(&gossip_frame(&name, b"a mark")).await.expect("gossip");
        gossip.flush().await.expect("it is sent");
        let (bytes, why) = victim
            .next("gossip or ban", |event| match event {
                Event::Gossip { bytes, .. } => Some((bytes, String::new())),
                Event::Banned { why, .. } => Some((Bytes::new(), why)),
                _ => None,
            })
            .await;
        // Just above, we ban; far above, gossipsub has dropped it before.
        let expected =
            if excess == 1 { ("", "gossip longer than its topic allows") } else { ("a mark", "") };
        assert_eq!((&bytes[..], why.as_str()), (expected.0.as_bytes(), expected.1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_of_other_topics_and_malformed_frames_reach_nobody() {
    let mut victim = host(config(key(1)));
    let attacker = attacker(&mut victim).await;
    let _lanes = attacker.lanes().await.expect("lanes");
    let name = topic("blocks", hello().genesis);
    let mut state = 1_u64;
    let mut byte = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let mut gossip = attacker.protocol("/meshsub/1.2.0").await.expect("gossip");
    gossip
        .write_all(&gossip_frame(&topic("blocks", B256::ZERO), b"other chain"))
        .await
        .expect("sent");
    gossip.write_all(&gossip_frame("", b"no topic")).await.expect("sent");
    gossip.flush().await.expect("sent");
    // Bent frames: gossipsub closes the stream at the first that is no protobuf.
    for _ in 0..3 {
        let Ok(mut gossip) = attacker.protocol("/meshsub/1.2.0").await else { break };
        let noise: Vec<u8> = (0..300).map(|_| byte()).collect();
        let _ = gossip.write_all(&varint_block(&noise)).await;
        let _ = gossip.write_all(&[0xff; 10]).await;
        let _ = gossip.flush().await;
    }
    let events = victim.all_within(Duration::from_millis(500)).await;
    assert!(!events.iter().any(|event| matches!(event, Event::Gossip { .. })), "{events:?}");
    // An honest message still goes through it.
    let mut friend = joined(2, &mut victim).await;
    until("gossip is heard", || {
        friend.network.gossip(Topic::Blocks, Bytes::from_static(b"a block"));
        std::thread::sleep(Duration::from_millis(20));
        friend.network.counters().topic_out(Topic::Blocks).messages > 0
    })
    .await;
    let id = victim.next("gossip", |event| match event {
        Event::Gossip { id, .. } => Some(id),
        _ => None,
    });
    let id = id.await;
    victim.network.verdict(id, Verdict::Accept);
    friend.network.stop();
    friend.gone().await;
    drop(name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_handshakes_do_not_keep_honest_peers_out() {
    let mut victim = host(config(key(1)));
    let mut half_open = Vec::new();
    for number in 0..1000_u32 {
        let mut stream = Tcp::connect(victim.network.listening()).await.expect("a connection");
        // Nothing, a length without a message, a message of the first step.
        let bytes =
            [&[][..], &[0, 32], &[&[0, 32][..], &[9; 32]].concat()][number as usize % 3].to_vec();
        stream.write_all(&bytes).await.expect("a beginning");
        half_open.push(stream);
    }
    still_serves(&mut victim).await;
    assert!(victim.network.counters().refused["crowded"] >= 800);
    drop(half_open);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshake_that_stalls_ends_in_time_at_every_step() {
    let mut impatient = config(key(1));
    impatient.limits.handshake_timeout = Duration::from_millis(700);
    let mut victim = host(impatient);
    let to = victim.network.listening();
    let mut silent = Tcp::connect(to).await.expect("a connection");
    let mut encrypted = secure(to, EVIL).await.expect("encryption");
    let mut greeted = secure(to, EVIL).await.expect("encryption");
    write_block(&mut greeted, &good_hello()).await.expect("hello");
    for _ in 0..3 {
        assert!(victim.refused().await.contains("no handshake within 0.7 s"));
    }
    let mut rest = Vec::new();
    let closed = async {
        // Closed or reset, but not open.
        let _ = silent.read_to_end(&mut rest).await;
        let _ = encrypted.read_to_end(&mut rest).await;
        let _ = greeted.read_to_end(&mut rest).await;
    };
    timeout(PATIENCE, closed).await.expect("the node has closed them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_connection_of_a_key_is_refused_while_the_first_is_new_and_replaces_an_old_one() {
    let theirs = NodeKey::from_bytes(EVIL).expect("a key").public();
    // The lower key decides.
    for decides in [false, true] {
        let below = |byte: &u8| (key(*byte).public() < theirs) == decides;
        let byte = (1..0xee).find(below).expect("both kinds of key");
        let mut brief = config(key(byte));
        brief.limits.handshake_timeout = Duration::from_secs(2);
        let mut victim = host(brief);
        let first = attacker(&mut victim).await;
        let _lanes = first.lanes().await.expect("lanes");
        let second = Hostile::connect(victim.network.listening(), EVIL, &good_hello()).await;
        let newer = if decides {
            assert!(second.err().expect("refused").to_string().contains("already connected"));
            tokio::time::sleep(Duration::from_millis(2100)).await;
            Hostile::connect(victim.network.listening(), EVIL, &good_hello()).await
        } else {
            second
        };
        let _kept = newer.expect("the newer connection is let in");
        let (_, why) = victim.gone().await;
        assert!(why.contains("replaced by a newer connection"), "{why}");
        victim.connected().await;
        assert_eq!(victim.network.peers().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_does_not_read_gossip_is_cut() {
    let mut victim = host(config(key(1)));
    let attacker = attacker(&mut victim).await;
    let (mut votes, _sync) = attacker.lanes().await.expect("lanes");
    let mut gossip = attacker.protocol("/meshsub/1.2.0").await.expect("gossip");
    let name = topic("transactions", hello().genesis);
    gossip.write_all(&subscribe_frame(&name)).await.expect("a subscription");
    gossip.flush().await.expect("it is sent");
    let network = victim.network.clone();
    let say = tokio::spawn(async move {
        for number in 0_u32.. {
            network.gossip(Topic::Transactions, Bytes::from(number.to_be_bytes().to_vec()));
            // It keeps awake, so that it is not cut for silence.
            if number % 100 == 0 && votes.write_all(&frame(1, &[0; 8])).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let (_, why) = victim.gone().await;
    assert_eq!(why, "it read gossip too slowly");
    assert!(victim.network.counters().gossip_dropped > 0);
    say.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_the_socket_and_behind_encryption_do_not_stop_the_node() {
    let mut victim = host(config(key(1)));
    let to = victim.network.listening();
    let mut state = 42_u64;
    let mut byte = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    for round in 0..200 {
        let bytes: Vec<u8> = (0..round * 3).map(|_| byte()).collect();
        let mut stream = Tcp::connect(to).await.expect("a connection");
        let _ = stream.write_all(&bytes).await;
    }
    for round in 0..30 {
        // A fresh key each time, as an attacker would.
        let mut io = secure(to, [round + 1; 32]).await.expect("encryption");
        greet(&mut io, &good_hello()).await.expect("an answer");
        let bytes: Vec<u8> = (0..2000).map(|_| byte()).collect();
        let _ = io.write_all(&bytes).await;
        let _ = io.flush().await;
        let cut = timeout(PATIENCE, io.read_to_end(&mut Vec::new())).await;
        assert!(cut.is_ok(), "round {round}: still connected");
    }
    for round in 0..30 {
        let attacker = Hostile::connect(to, [round + 100; 32], &good_hello()).await.expect("in");
        let mut stream = attacker.stream().await.expect("a substream");
        let bytes: Vec<u8> = (0..500).map(|_| byte()).collect();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let (mut votes, mut sync) = attacker.lanes().await.expect("lanes");
        for stream in [&mut votes, &mut sync] {
            let bytes: Vec<u8> = (0..500).map(|_| byte()).collect();
            let _ = stream.write_all(&bytes).await;
            let _ = stream.flush().await;
        }
        let mut rest = Vec::new();
        let cut = timeout(PATIENCE, votes.read_to_end(&mut rest)).await;
        assert!(cut.is_ok(), "round {round}: still connected");
    }
    assert!(!victim.task.is_finished());
    still_serves(&mut victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_opens_many_streams_harms_itself_only() {
    let mut victim = host(config(key(1)));
    let mut friend = host_dialling(2, &[&victim]);
    friend.connected().await;
    victim.connected().await;
    let attacker = attacker(&mut victim).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        match timeout(Duration::from_secs(1), attacker.stream()).await {
            Ok(Ok(mut stream)) => {
                let _ = stream.write_all(b"\x13/multistream/1.0.0\n").await;
                streams.push(stream);
            }
            _ => break,
        }
    }
    let (id, _) = victim.gone().await;
    assert_ne!(id, friend.id());
    victim.network.send(friend.id(), Lane::Votes, Bytes::from_static(b"still here"));
    assert_eq!(friend.message(Lane::Votes).await.1, b"still here");
}
