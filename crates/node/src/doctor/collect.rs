//! Asks nodes for facts. Each is asked on its own; none can hold up the others for long.

use super::facts::{Answered, FailedCheck, NodeFacts, Ops, Peer, Seen, Status};
use crate::clock::wall;
use alloy_primitives::{B256, U64};
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use jsonrpsee::core::ClientError;
use jsonrpsee::core::client::ClientT;
use jsonrpsee::core::params::ArrayParams;
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use serde::Deserialize;
use std::error::Error;
use std::time::Duration;
use tokio::net::TcpStream;

/// How long a node may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer of the port for operations.
const LONGEST_ANSWER: usize = 64 * 1_024;
/// Where the port for operations may lie, counted from that of the RPC: in `landfall up`, and by
/// default.
const OPS_OFFSETS: [u16; 2] = [2_000, 1_000];
/// The code of an answer to a method that does not exist.
const NO_SUCH_METHOD: i32 = -32601;

/// Asks nodes at RPC addresses, and their ports for operations: those in `ops`, one for each in the
/// same order, or those that lie where they lie by default.
pub async fn collect(rpc: &[String], ops: &[String]) -> Vec<NodeFacts> {
    let all = rpc.iter().enumerate().map(|(place, url)| one(url, ops.get(place)));
    let mut nodes = join_all(all).await;
    compare(&mut nodes).await;
    nodes
}

async fn one(url: &str, ops: Option<&String>) -> NodeFacts {
    let ops = match ops {
        Some(given) => health(given).await.unwrap_or_else(Ops::Unreachable),
        None => guessed(url).await,
    };
    NodeFacts { url: url.to_owned(), seen: ask(url).await, ops }
}

/// Nobody said where the port is, nor that there is one.
async fn guessed(rpc: &str) -> Ops {
    for guess in usual_ops(rpc) {
        if let Ok(found) = health(&guess).await {
            return found;
        }
    }
    Ops::Unknown
}

fn client(url: &str) -> Result<HttpClient, ClientError> {
    HttpClientBuilder::default().request_timeout(PATIENCE).build(url)
}

async fn ask(url: &str) -> Seen {
    let client = match client(url) {
        Ok(client) => client,
        Err(error) => return Seen::Unreachable(whole(&error)),
    };
    let before = wall();
    let status = client.request::<Status, _>("landfall_status", ArrayParams::new()).await;
    let after = wall();
    let status = match status {
        Ok(status) => status,
        Err(ClientError::Call(error)) if error.code() == NO_SUCH_METHOD => {
            return Seen::Foreign(error.message().to_owned());
        }
        Err(ClientError::ParseError(error)) => return Seen::Foreign(error.to_string()),
        Err(error) => return Seen::Unreachable(whole(&error)),
    };
    let peers = client.request::<Vec<Peer>, _>("landfall_peers", ArrayParams::new()).await;
    let round_trip_ms = after.saturating_sub(before);
    let middle = before + round_trip_ms / 2;
    let signed = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
    let ahead_ms = signed(middle).saturating_sub(signed(status.time_ms.saturating_to()));
    match peers {
        Ok(peers) => {
            Seen::Answered(Answered { status, peers, ahead_ms, round_trip_ms, common: None })
        }
        Err(error) => {
            Seen::Unreachable(format!("it answered once, and then not: {}", whole(&error)))
        }
    }
}

/// An error and its causes: the first alone says little.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

#[derive(Deserialize)]
struct Hash {
    hash: B256,
}

/// Looks at the newest height that is final on all nodes.
async fn compare(nodes: &mut [NodeFacts]) {
    let answered = nodes.iter().filter_map(|node| match &node.seen {
        Seen::Answered(facts) => Some(facts.status.finalized.number),
        _ => None,
    });
    let Some(number) = answered.min() else { return };
    join_all(nodes.iter_mut().map(|node| fill(node, number))).await;
}

async fn fill(node: &mut NodeFacts, number: U64) {
    if let Seen::Answered(facts) = &mut node.seen {
        facts.common = hash_at(&node.url, number).await;
    }
}

/// Who does not say is not compared.
async fn hash_at(url: &str, number: U64) -> Option<B256> {
    let client = client(url).ok()?;
    let mut params = ArrayParams::new();
    params.insert(number).ok()?;
    params.insert(false).ok()?;
    let found = client.request::<Option<Hash>, _>("eth_getBlockByNumber", params);
    Some(found.await.ok()??.hash)
}

fn usual_ops(rpc: &str) -> Vec<String> {
    let uri: Uri = rpc.parse().unwrap_or_default();
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Vec::new() };
    let ports = OPS_OFFSETS.into_iter().filter_map(|offset| port.checked_add(offset));
    ports.map(|port| format!("http://{host}:{port}")).collect()
}

async fn health(url: &str) -> Result<Ops, String> {
    let answer = tokio::time::timeout(PATIENCE, get(url, "/healthz?verbose")).await;
    let body = answer.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))??;
    let checks: Vec<FailedCheck> =
        serde_json::from_slice(&body).map_err(|error| format!("not a list of checks: {error}"))?;
    Ok(Ops::Failing(checks.into_iter().filter(|check| !check.ok).collect()))
}

/// The body of an answer, whatever its status.
async fn get(url: &str, path: &str) -> Result<Bytes, String> {
    let text = |error: hyper::Error| error.to_string();
    let uri: Uri = url.parse().map_err(|error| format!("{url} is no address: {error}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url} does not begin with http://"));
    }
    let host = uri.host().ok_or_else(|| format!("{url} names no host"))?;
    let port = uri.port_u16().unwrap_or(80);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let driving = tokio::spawn(connection);
    let request = Request::get(path).header("host", format!("{host}:{port}"));
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(text)?;
    let body = Limited::new(answer.into_body(), LONGEST_ANSWER).collect().await;
    driving.abort();
    Ok(body.map_err(|error| error.to_string())?.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_ports_for_operations_lie_above_that_of_the_rpc() {
        let (up, node) = ("http://127.0.0.1:10545", "http://127.0.0.1:9545");
        assert_eq!(usual_ops("http://127.0.0.1:8545"), [up, node]);
        assert_eq!(usual_ops("http://[::1]:64000/"), ["http://[::1]:65000"]);
        for none in ["http://example.org", "nonsense with spaces", "http://a:65000"] {
            assert_eq!(usual_ops(none), [""; 0], "{none}");
        }
    }
}
