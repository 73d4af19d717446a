//! HTTP for operators on a port of its own: `/metrics`, `/livez`, `/readyz`, `/healthz`,
//! `/version`, `/loglevel`, and Besu's `/liveness` and `/readiness`.
//!
//! Connections, the size of a request and the time of an exchange are bounded. One connection
//! carries one exchange.

use super::health::{self, Check, Facts, Wanted};
use super::metrics::metrics;
use super::process;
use super::scrape::Source;
use crate::failure::Failure;
use crate::logging::LogHandle;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, ORIGIN};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use landfall_types::Span;
use serde_json::json;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at once.
const MOST_CONNECTIONS: usize = 32;
/// From the first byte of a request to the last of its answer.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(10);
/// Bytes of the head of a request.
const LONGEST_HEAD: usize = 16 * 1_024;
/// Bytes of the body of a request: a filter for the log.
const LONGEST_BODY: usize = 4 * 1_024;
/// How long to wait when the system gives no connection.
const PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// The port while it is open.
pub struct OpsServer {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for OpsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the answers are made from.
struct Ops {
    source: Source,
    log: LogHandle,
}

/// Opens the port.
pub async fn serve(
    source: Source,
    log: LogHandle,
    address: SocketAddr,
) -> Result<OpsServer, Failure> {
    let refuse = |error: std::io::Error| {
        Failure::refused(format!(
            "cannot listen on {address} for metrics and health: {error}; stop the other process, \
             or choose another port"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    metrics().process.started.set(crate::clock::wall() as f64 / 1_000.0);
    let ops = Arc::new(Ops { source, log });
    let accepting = tokio::spawn(accept(listener, ops));
    Ok(OpsServer { address, accepting })
}

async fn accept(listener: TcpListener, ops: Arc<Ops>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let place = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let ops = ops.clone();
                tokio::spawn(async move {
                    exchange(stream, ops).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection for operations");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn exchange(stream: TcpStream, ops: Arc<Ops>) {
    let service = service_fn(move |request| {
        let ops = ops.clone();
        async move { Ok::<_, Infallible>(ops.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_EXCHANGE)
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(LONGEST_EXCHANGE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an exchange for operations broke off"),
        Err(_) => tracing::debug!("an exchange for operations took too long"),
    }
}

type Answer = Response<Full<Bytes>>;

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, kind.parse().expect("a valid content type"));
    answer
}

fn not_allowed(methods: &'static str) -> Answer {
    let mut answer = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("use {methods}\n"));
    answer.headers_mut().insert(ALLOW, methods.parse().expect("valid names of methods"));
    answer
}

impl Ops {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if path == "/loglevel" {
            return self.log_level(request).await;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return not_allowed("GET");
        }
        let query = request.uri().query().unwrap_or_default();
        match path.as_str() {
            "/metrics" => {
                self.source.read_into(metrics());
                respond(StatusCode::OK, PROMETHEUS, metrics().text())
            }
            "/livez" => verdict(&health::live(&self.facts()), has(query, "verbose")),
            "/readyz" => self.judged(query, health::ready, verdict),
            "/healthz" => self.judged(query, health::all, verdict),
            "/liveness" => besu(&health::live(&self.facts())),
            "/readiness" => self.judged(query, health::ready, |checks, _| besu(checks)),
            "/version" => {
                let version = json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "chainId": self.source.backend.chain.spec().chain_id,
                    "genesisHash": self.source.backend.chain.genesis_hash(),
                });
                respond(StatusCode::OK, JSON, version.to_string())
            }
            _ => respond(StatusCode::NOT_FOUND, TEXT, INDEX),
        }
    }

    fn judged(
        &self,
        query: &str,
        judge: fn(&Facts, &Wanted) -> Vec<Check>,
        show: fn(&[Check], bool) -> Answer,
    ) -> Answer {
        match wanted(query) {
            Ok(wanted) => show(&judge(&self.facts(), &wanted), has(query, "verbose")),
            Err(what) => respond(StatusCode::BAD_REQUEST, TEXT, format!("{what}\n")),
        }
    }

    fn facts(&self) -> Facts {
        let backend = &self.source.backend;
        let head = backend.chain.head().number();
        let disk = process::disk_of(&self.source.data_directory);
        let Some(node) = &backend.node else {
            let (halted, silent, claimed) = (None, None, None);
            // A development chain makes blocks when it is told to.
            let patience = Span(u64::MAX);
            let (alone, peers, waited) = (true, 0, Span(0));
            return Facts { halted, silent, alone, peers, head, claimed, waited, patience, disk };
        };
        let view = node.consensus();
        Facts {
            halted: view.halted.clone(),
            silent: Some(node.now().since(view.taken)),
            alone: view.epoch.committee.len() == 1 && view.votes(),
            peers: node.peers().len() as u64,
            head,
            claimed: view.claimed.map(|height| height.0),
            waited: view.stalled_since().map_or(Span(0), |since| node.now().since(since)),
            patience: health::patience(&view.epoch.params),
            disk,
        }
    }

    async fn log_level(&self, request: Request<Incoming>) -> Answer {
        match *request.method() {
            Method::GET => respond(StatusCode::OK, TEXT, format!("{}\n", self.log.filter())),
            Method::PUT => {
                // Browsers say which page a request comes from; no operator's tool does.
                if request.headers().contains_key(ORIGIN) {
                    return respond(StatusCode::FORBIDDEN, TEXT, "not for web pages\n");
                }
                let body = Limited::new(request.into_body(), LONGEST_BODY).collect().await;
                let Ok(body) = body else {
                    let words = format!("at most {LONGEST_BODY} bytes: a filter such as `info`\n");
                    return respond(StatusCode::PAYLOAD_TOO_LARGE, TEXT, words);
                };
                let bytes = body.to_bytes();
                let filter = String::from_utf8_lossy(&bytes);
                match self.log.set(filter.trim()) {
                    Ok(()) => respond(StatusCode::OK, TEXT, format!("{}\n", self.log.filter())),
                    Err(error) => respond(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
                }
            }
            _ => not_allowed("GET, PUT"),
        }
    }
}

const INDEX: &str = "there are: /metrics /livez /readyz?minPeers=&maxBlocksBehind= \
                     /healthz?verbose /version /loglevel\n";

fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').unwrap_or((part, "")))
}

fn has(query: &str, name: &str) -> bool {
    pairs(query).any(|(key, value)| key == name && value != "false" && value != "0")
}

/// The conditions in a query; what is not understood is refused, since a probe that does not ask
/// what it means to ask is worse than none.
fn wanted(query: &str) -> Result<Wanted, String> {
    let mut wanted = Wanted::default();
    for (key, value) in pairs(query).filter(|(key, _)| *key != "verbose") {
        let number = || {
            let parsed = value.parse::<u64>();
            parsed.map_err(|_| format!("{key}={value}: give a whole number"))
        };
        match key {
            "minPeers" => wanted.peers_min = Some(number()?),
            "maxBlocksBehind" => wanted.blocks_behind_max = number()?,
            _ => return Err(format!("{key} is not known; there are minPeers, maxBlocksBehind")),
        }
    }
    Ok(wanted)
}

fn status(checks: &[Check]) -> StatusCode {
    match checks.iter().all(|check| check.ok) {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `ok`, or what is wrong; all checks as JSON if that is wanted.
fn verdict(checks: &[Check], verbose: bool) -> Answer {
    if verbose {
        let body = serde_json::to_string(checks).expect("checks are JSON");
        return respond(status(checks), JSON, body);
    }
    let wrong = checks.iter().filter(|check| !check.ok);
    let wrong: String = wrong.map(|check| format!("{}: {}\n", check.name, check.detail)).collect();
    respond(status(checks), TEXT, if wrong.is_empty() { "ok\n".to_owned() } else { wrong })
}

fn besu(checks: &[Check]) -> Answer {
    let status = status(checks);
    let word = if status == StatusCode::OK { "UP" } else { "DOWN" };
    respond(status, JSON, json!({ "status": word }).to_string())
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
