//! The port: limits, cross-origin requests, and the errors of opening it.

use crate::api::{self, UniqueIds};
use crate::doors::Backend;
use crate::middleware::{FromWebPage, Geth, Rules};
use jsonrpsee::server::middleware::rpc::RpcServiceBuilder;
use jsonrpsee::server::{BatchRequestConfig, HttpRequest, PingConfig, Server, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
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
    /// HTTP requests under way and open WebSockets together. Idle HTTP connections are not counted, so
    /// that whoever can reach the port can take all file descriptors.
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

/// Notes that a request comes from a web page: browsers name the page's origin, nobody else does.
fn mark<B>(mut request: HttpRequest<B>) -> HttpRequest<B> {
    if request.headers().contains_key("origin") {
        request.extensions_mut().insert(FromWebPage);
    }
    request
}

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
    let limits = ServerConfig::builder()
        .max_request_body_size(config.max_request_bytes)
        .max_response_body_size(config.max_response_bytes)
        .max_connections(config.max_connections)
        .max_subscriptions_per_connection(config.max_subscriptions)
        .set_message_buffer_capacity(QUEUED_MESSAGES)
        .set_batch_request_config(BatchRequestConfig::Unlimited) // `Geth` has the limit
        .set_id_provider(UniqueIds::default())
        .enable_ws_ping(PingConfig::new())
        .set_tcp_no_delay(true)
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
    let geth = RpcServiceBuilder::new().layer_fn(move |service| Geth::new(service, rules.clone()));
    let server = Server::builder()
        .set_config(limits)
        .set_http_middleware(tower::ServiceBuilder::new().map_request(mark).option_layer(cors))
        .set_rpc_middleware(geth)
        .build(address)
        .await
        .map_err(refuse)?;
    let bound = server.local_addr().map_err(refuse)?;
    Ok((bound, server.start(api::module(backend, config))))
}
