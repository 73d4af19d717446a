//! Attacks on the connection: none of them needs to know what a blockchain is.

use crate::arena::{Arena, HONEST};
use crate::attack::{Met, met};
use crate::peer::{Lane, Peer};
use crate::wire::{Hostile, Tcp, frame, greet, hello, secure};
use alloy_primitives::{B256, Bytes, keccak256};
use alloy_rlp::{Encodable, RlpEncodable};
use futures_util::{AsyncReadExt, AsyncWriteExt};
use landfall_replica::Wire;
use landfall_types::Height;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// One step of a loop that shall not fill a core.
const STEP: Duration = Duration::from_millis(1);

async fn oversized(arena: &Arena, lane: Lane, length: u32) -> Met {
    let mut peer = Peer::stranger(arena, 0).await;
    let _ = peer.raw(lane, &[&length.to_be_bytes()[..], &[0]].concat()).await;
    met(arena, peer).await
}

pub async fn oversized_vote(arena: &Arena) -> Met {
    oversized(arena, Lane::Votes, (256 << 10) + 2).await
}

pub async fn oversized_sync(arena: &Arena) -> Met {
    oversized(arena, Lane::Sync, (12 << 20) + 2).await
}

pub async fn unknown_frame(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 1).await;
    let _ = peer.raw(Lane::Sync, &frame(9, b"?")).await;
    met(arena, peer).await
}

pub async fn malformed_message(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 2).await;
    let _ = peer.raw(Lane::Votes, &frame(0, &[0xc2, 0x01, 0x80])).await;
    met(arena, peer).await
}

async fn polite(arena: &Arena, node: usize) -> (Hostile, yamux::Stream, yamux::Stream) {
    let connected = Hostile::connect(arena.nodes[node].p2p, arena.stranger(), &arena.hello()).await;
    let hostile = connected.expect("it begins politely");
    let (votes, sync) = hostile.lanes().await.expect("lanes");
    (hostile, votes, sync)
}

/// Writes if the node takes it soon.
async fn write(stream: &mut yamux::Stream, bytes: &[u8]) -> bool {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    matches!(timeout(STEP * 300, written).await, Ok(Ok(())))
}

/// Asks for everything and reads nothing; it is looked at again at the end of the test.
pub async fn slow_reader(arena: &Arena) -> Met {
    let (hostile, votes, mut sync) = polite(arena, 0).await;
    let ask = frame(0, &Wire::Range { after: Height(0) }.encode());
    for _ in 0..200 {
        if arena.is_over() || !write(&mut sync, &ask).await {
            break;
        }
    }
    Met::later(hostile, [votes, sync])
}

/// Begins a long frame and goes on with a byte at a time.
pub async fn slow_writer(arena: &Arena) -> Met {
    let (hostile, votes, mut sync) = polite(arena, 1).await;
    let mut going = write(&mut sync, &frame(0, &[7; 1 << 20])[..10]).await;
    while going && !arena.is_over() {
        going = write(&mut sync, &[7]).await;
        sleep(STEP * 50).await;
    }
    Met::later(hostile, [votes, sync])
}

pub async fn half_open(arena: &Arena) -> Met {
    let mut held = Vec::new();
    for number in 0..200_usize {
        let to = arena.nodes[number % HONEST].p2p;
        let mut stream = Tcp::connect(to).await.expect("loopback has descriptors left");
        let beginning = [&[][..], &[0, 32], &[0, 32, 9, 9, 9]][number / HONEST % 3];
        let _ = stream.write_all(beginning).await;
        held.push(stream);
    }
    while !arena.is_over() {
        sleep(STEP * 20).await;
    }
    Met::note("200 connections held".into())
}

async fn refused(arena: &Arena, bytes: Vec<u8>, why: &str) -> Met {
    let mut times = 0;
    while !arena.is_over() && times < 100 {
        let to = arena.nodes[times % HONEST].p2p;
        let mut io = secure(to, arena.stranger()).await.expect("encryption");
        let (code, text) = greet(&mut io, &bytes).await.expect("an answer");
        assert!(code != 0 && text.contains(why), "{code} {text}");
        times += 1;
        sleep(STEP * 10).await;
    }
    Met::refused(format!("refused {times} times: {why}"))
}

pub async fn other_genesis(arena: &Arena) -> Met {
    let bytes = hello(1, B256::ZERO, arena.schedule, arena.spec.chain_id);
    refused(arena, bytes, "genesis differs").await
}

pub async fn other_schedule(arena: &Arena) -> Met {
    let bytes = hello(1, arena.genesis, B256::ZERO, arena.spec.chain_id);
    refused(arena, bytes, "schedule").await
}

pub async fn other_version(arena: &Arena) -> Met {
    let bytes = hello(7, arena.genesis, arena.schedule, arena.spec.chain_id);
    refused(arena, bytes, "wire version differs").await
}

/// Bytes of a fixed linear congruence: every run sees the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut byte = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

pub async fn random_bytes(arena: &Arena) -> Met {
    let mut cut = 0;
    for round in 0..60 {
        let mut io = secure(arena.nodes[0].p2p, arena.stranger()).await.expect("encryption");
        let (code, _) = greet(&mut io, &arena.hello()).await.expect("an answer");
        assert_eq!(code, 0);
        let _ = io.write_all(&noise(round, 2_000)).await;
        let _ = io.flush().await;
        let rest = timeout(STEP * 5_000, io.read_to_end(&mut Vec::new())).await;
        assert!(rest.is_ok(), "round {round}: still connected");
        cut += 1;
        if arena.is_over() {
            break;
        }
    }
    Met::refused(format!("cut {cut} times"))
}

pub async fn many_streams(arena: &Arena) -> Met {
    let peer = Peer::stranger(arena, 2).await;
    let mut streams = Vec::new();
    for _ in 0..200 {
        match timeout(STEP * 300, peer.hostile.stream()).await {
            Ok(Ok(mut stream)) => {
                let _ = timeout(STEP * 300, stream.write_all(b"\x13/multistream/1.0.0\n")).await;
                streams.push(stream);
            }
            _ => break,
        }
    }
    met(arena, peer).await
}

pub async fn churn(arena: &Arena) -> Met {
    let mut times = 0_usize;
    while times < 500 && !arena.is_over() {
        let to = arena.nodes[times % HONEST].p2p;
        if let Ok(hostile) = Hostile::connect(to, arena.stranger(), &arena.hello()).await {
            drop(hostile);
        }
        times += 1;
    }
    Met::note(format!("{times} connections made and dropped"))
}

#[derive(RlpEncodable)]
struct Address {
    key: Bytes,
    host: String,
    port: u16,
}

/// Addresses with keys that exist and nodes that do not.
pub async fn false_addresses(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 1).await;
    let mut told = 0_u64;
    while !arena.is_over() && !peer.is_closed() && told < 10_000 {
        let address = |number: u64| {
            let secret = keccak256(number.to_be_bytes()).0;
            let signer = landfall_wallet::Signer::new(&secret).expect("a key");
            let host = format!("127.1.{}.{}", number / 256 % 256, number % 256);
            let key = Bytes::copy_from_slice(&signer.public_key());
            Address { key, host, port: 9 }
        };
        let mut bytes = Vec::new();
        (told..told + 32).map(address).collect::<Vec<_>>().encode(&mut bytes);
        if peer.raw(Lane::Sync, &frame(3, &bytes)).await.is_err() {
            break;
        }
        told += 32;
        sleep(STEP * 5).await;
    }
    met(arena, peer).await.noting(format!("{told} told"))
}

pub async fn repeated_gossip(arena: &Arena) -> Met {
    let mut peer = Peer::stranger(arena, 0).await;
    let mut frames = 0;
    while !arena.is_over() && !peer.is_closed() {
        if peer.gossip(arena, "transactions", b"\xc2\x01\xc0").await.is_err() {
            break;
        }
        frames += 1;
        if frames % 8 == 0 {
            sleep(STEP).await;
        }
    }
    met(arena, peer).await.noting(format!("{frames} frames"))
}
