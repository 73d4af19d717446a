//! The port: limits, cross-origin requests, and the errors of opening it.

use crate::api::{self, UniqueIds};
use crate::connections::{self, Connection, Connections, LOOK, Messages};
use crate::doors::Backend;
use crate::middleware::{FromWebPage, Geth, Rules};
use crate::socket::Socket;
use hyper::StatusCode;
use hyper::header::UPGRADE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::server::middleware::rpc::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, HttpRequest, HttpResponse, Methods, PingConfig, Server, ServerConfig,
    StopHandle, stop_channel,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::MissedTickBehavior;
use tower::Service;
use tower_http::cors::{Any, CorsLayer};

pub use jsonrpsee::server::ServerHandle;

/// Messages that wait for a slow WebSocket client before it is held back.
const QUEUED_MESSAGES: u32 = 1_024;

/// Where `admin_*` can be called. Web pages never can: a request that says which page it comes
/// from is told that there are no such methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// On an address of this machine only.
    #[default]
    Loopback,
    /// Everywhere.
    On,
}

/// The limits of the interface.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// What `web3_clientVersion` answers.
    pub client_version: String,
    /// Whether web pages of any origin may call.
    pub cross_origin: bool,
    /// Where `admin_*` can be called.
    pub admin: Admin,
    /// The longest request body, in bytes.
    pub max_request_bytes: u32,
    /// The longest response, in bytes; of a batch, all of it.
    pub max_response_bytes: u32,
    /// Requests in one batch.
    pub max_batch: usize,
    /// Connections at once. If there are so many, the one over HTTP that asked nothing for longest
    /// makes room for the next.
    pub max_connections: u32,
    /// Subscriptions of one WebSocket connection.
    pub max_subscriptions: u32,
    /// Open filters of all clients.
    pub max_filters: usize,
    /// A filter that was not polled for so long is closed.
    pub filter_lifetime: Duration,
    /// The most gas that `eth_call` and its kin spend.
    pub gas_cap: u64,
    /// Logs in one answer.
    pub max_logs: usize,
    /// How far apart the first and the last block of a search for logs may be.
    pub max_log_blocks: u64,
    /// Slots in one request for storage values or proofs.
    pub max_storage_slots: usize,
    /// The longest that `eth_sendRawTransactionSync` waits for a receipt.
    pub max_receipt_wait: Duration,
    /// Who counts the answers.
    pub meter: Option<Arc<dyn Meter>>,
}

/// Counts what is asked and how long the answers take.
pub trait Meter: fmt::Debug + Send + Sync + 'static {
    /// A call was answered; `error` is the code of an answer that is one. A method that does not
    /// exist has the code -32601, and its name is whatever the client wrote.
    fn answered(&self, method: &str, error: Option<i32>, took: Duration);
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            client_version: format!("landfall/v{}", env!("CARGO_PKG_VERSION")),
            cross_origin: true,
            admin: Admin::default(),
            max_request_bytes: 15 * 1024 * 1024,
            max_response_bytes: 160 * 1024 * 1024,
            max_batch: 5_000,
            max_connections: 500,
            max_subscriptions: 1_024,
            max_filters: 10_000,
            filter_lifetime: Duration::from_secs(5 * 60),
            gas_cap: 50_000_000,
            max_logs: 20_000,
            max_log_blocks: 100_000,
            max_storage_slots: 1_024,
            max_receipt_wait: Duration::from_secs(30),
            meter: None,
        }
    }
}

/// Why the port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Another process listens there.
    #[error(
        "cannot listen on {address}: the port is in use; stop the other process or choose another \
         port with --port, or --rpc-listen of `landfall node`"
    )]
    PortInUse {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// Anything else that the system says.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// From the end of an exchange to the whole head of the next one.
const IDLE: Duration = Duration::from_secs(120);
/// A WebSocket that says nothing for so long is closed; it is asked every 30 seconds. While many of its
/// calls are answered it is not read, so this is not short.
const SILENT: Duration = Duration::from_secs(300);
/// How long to wait when the system gives no connection.
const PAUSE: Duration = Duration::from_millis(100);
/// What is said to who finds no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\
                      Content-Length: 20\r\n\r\ntoo many connections";

/// Opens the port and serves all methods on it until the handle is stopped; the address tells the
/// port if zero was asked for.
pub async fn serve(
    backend: Backend,
    mut config: RpcConfig,
    address: SocketAddr,
) -> Result<(SocketAddr, ServerHandle), ServeError> {
    let refuse = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortInUse { address },
        _ => ServeError::Listen { address, source },
    };
    if config.admin == Admin::Loopback {
        config.admin = if address.ip().is_loopback() { Admin::On } else { Admin::Off };
    }
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let bound = listener.local_addr().map_err(refuse)?;
    let (stop, handle) = stop_channel();
    tokio::spawn(Port::new(backend, config, stop).accept(listener));
    Ok((bound, handle))
}

/// What the connections share.
struct Port {
    connections: Arc<Connections>,
    limits: ServerConfig,
    cors: Option<CorsLayer>,
    rules: Rules,
    methods: Methods,
    stop: StopHandle,
}

impl Port {
    fn new(backend: Backend, config: RpcConfig, stop: StopHandle) -> Self {
        let limits = ServerConfig::builder()
            .max_request_body_size(config.max_request_bytes)
            .max_response_body_size(config.max_response_bytes)
            .max_connections(config.max_connections)
            .max_subscriptions_per_connection(config.max_subscriptions)
            .set_message_buffer_capacity(QUEUED_MESSAGES)
            // `Geth` has the limit, and geth's words; this is for what would take much memory.
            .set_batch_request_config(BatchRequestConfig::Limit(
                config.max_batch.saturating_mul(2).try_into().unwrap_or(u32::MAX),
            ))
            .set_id_provider(UniqueIds::default())
            .enable_ws_ping(PingConfig::new().inactive_limit(SILENT))
            .build();
        let cors = config
            .cross_origin
            .then(|| CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any));
        let rules = Rules {
            pool: backend.pool.clone(),
            most: config.max_batch,
            longest: config.max_response_bytes as usize,
            meter: config.meter.clone(),
        };
        let connections = Connections::new(connections::Limits {
            places: config.max_connections as usize,
            request: config.max_request_bytes as usize,
            answer: config.max_response_bytes as usize,
        });
        let methods = api::module(backend, config).into();
        Self { connections, limits, cors, rules, methods, stop }
    }

    /// Takes connections until the port is closed.
    async fn accept(self, listener: TcpListener) {
        let stopped = self.stop.clone().shutdown();
        tokio::pin!(stopped);
        let mut look = tokio::time::interval(LOOK);
        // Two looks at once would find everybody slow.
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => return,
                _ = look.tick() => {
                    self.connections.look();
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => match self.connections.admit() {
                    Some(connection) => self.converse(stream, connection),
                    // The answer fits into the empty buffer of a new connection.
                    None => _ = stream.try_write(FULL),
                },
                Err(error) => {
                    tracing::warn!(%error, "no connection for the RPC");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection, on a task of its own.
    fn converse(&self, stream: TcpStream, connection: Arc<Connection>) {
        // Answers are written whole. If this fails the connection is gone, and reading tells.
        _ = stream.set_nodelay(true);
        let (rules, geths) = (self.rules.clone(), connection.clone());
        let geth = RpcServiceBuilder::new()
            .layer_fn(move |service| Geth::new(service, rules.clone(), geths.clone()));
        let (asked, upgraded) = (connection.clone(), connection.clone());
        let http = tower::ServiceBuilder::new()
            .map_request(move |request| mark(request, &asked))
            .map_response(move |response| note_upgrade(response, &upgraded))
            .option_layer(self.cors.clone());
        let service = Server::builder()
            .set_config(self.limits.clone())
            .set_http_middleware(http)
            .set_rpc_middleware(geth)
            .to_service_builder()
            .connection_id(connection.id())
            .build(self.methods.clone(), self.stop.clone());
        let service = service_fn(move |request| {
            let answer = service.clone().call(request);
            async move { answer.await.map_err(io::Error::other) }
        });
        let socket = Socket::new(stream, connection, self.connections.clone());
        let stopped = self.stop.clone().shutdown();
        tokio::spawn(async move {
            // No HTTP/2: its streams share a window, so that who does not read one of them would hold
            // up the others, and what is written says nothing about what was taken.
            let conversation = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades();
            tokio::pin!(conversation);
            let ended = tokio::select! {
                ended = &mut conversation => ended,
                () = stopped => {
                    conversation.as_mut().graceful_shutdown();
                    conversation.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the RPC broke off");
            }
        });
    }
}

/// Notes that a request comes from a web page: browsers name the page's origin, nobody else does; and
/// makes that messages count, should this become a WebSocket.
fn mark<B>(mut request: HttpRequest<B>, connection: &Arc<Connection>) -> HttpRequest<B> {
    if request.headers().contains_key("origin") {
        request.extensions_mut().insert(FromWebPage);
    }
    if request.headers().contains_key(UPGRADE) {
        request.extensions_mut().insert(Messages::Request(connection.clone()));
    }
    request
}

/// Notes that a connection becomes a WebSocket.
fn note_upgrade<B>(response: HttpResponse<B>, connection: &Connection) -> HttpResponse<B> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        connection.stays();
    }
    response
}
