//! Every setting, once: its name, type, default and meaning. Flag and variable follow from the name.

use super::sources::Values;
use super::value::{
    AdminAccess, ExtraData, HostPort, LogFormat, LogLevel, Peer, Raw, SettingValue,
};
use alloy_primitives::Address;
use landfall_chain::Caches;
use landfall_chain::pool::PoolLimits;
use landfall_rpc::{Admin, RpcConfig};
use landfall_types::NodeKey;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is known of a setting without its type.
pub struct Setting {
    /// The table of the file that it stands in; empty at the top.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Whether it holds several values.
    pub is_list: bool,
    /// The default, as it would stand in the file.
    pub default: fn() -> Option<String>,
    /// Reads a value and shows it.
    pub show: fn(&Raw, &Path) -> Result<Option<String>, String>,
}

impl Setting {
    /// As the file and messages name it.
    pub fn key(&self) -> String {
        match self.section {
            "" => self.name.to_owned(),
            section => format!("{section}.{}", self.name),
        }
    }

    /// The flag, without dashes in front.
    pub fn flag(&self) -> String {
        self.key().replace(['.', '_'], "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("LANDFALL_{}", self.key().replace('.', "_").to_uppercase())
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:literal $field:ident: $type:ident {
            $( $(#[doc = $doc:literal])+ $name:ident: $value:ty = $default:expr, )+
        }
    )+) => {
        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $type {
                $( $(#[doc = $doc])+ pub $name: $value, )+
            }
        )+

        /// All settings of a node.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $( $(#[doc = $section_doc])+ pub $field: $type, )+
        }

        /// The table of settings, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$($(
            Setting {
                section: $section,
                name: stringify!($name),
                doc: concat!($($doc),+),
                is_list: <$value as SettingValue>::IS_LIST,
                default: || { let value: $value = $default; value.show() },
                show: |raw, base| <$value as SettingValue>::read(raw, base).map(|it| it.show()),
            },
        )+)+];

        impl Settings {
            /// Reads each from its source; what cannot be read is a problem of `values` and has
            /// its default.
            pub(super) fn read(values: &mut Values) -> Self {
                Self {$(
                    $field: $type {$(
                        $name: values.read($section, stringify!($name)).unwrap_or_else(|| $default),
                    )+},
                )+}
            }
        }
    };
}

settings! {
    /// What stands at the top of the file.
    "" node: NodeSettings {
        /// Where the chain is kept
        datadir: PathBuf = "data".into(),
        /// The genesis file of the network
        genesis: PathBuf = "genesis.json".into(),
    }

    /// Who this node is.
    "keys" keys: KeySettings {
        /// The keystore of the voting key; a node without one follows and never votes
        validator: Option<PathBuf> = None,
        /// A file with the password of that keystore; without it LANDFALL_PASSWORD or the terminal
        password_file: Option<PathBuf> = None,
        /// The node key, in hex; without it the node makes one in its data directory
        node: Option<PathBuf> = None,
    }

    /// The network of nodes.
    "p2p" p2p: P2pSettings {
        /// Where it listens for peers
        listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 30_303)),
        /// Where peers reach it, if that is not where it listens: HOST:PORT
        external: Option<HostPort> = None,
        /// Nodes that it always dials, beside the validators of the genesis: KEY@HOST:PORT
        peers: Vec<Peer> = Vec::new(),
        /// Whether it learns of more nodes from its peers
        discovery: bool = true,
        /// If any is named, only these node keys and the validators' may connect
        allow: Vec<NodeKey> = Vec::new(),
        /// Connections to other nodes
        max_peers: usize = 50,
    }

    /// JSON-RPC over HTTP and WebSocket.
    "rpc" rpc: RpcSettings {
        /// Where it listens for clients
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8_545)),
        /// Whether web pages of any origin may call
        cross_origin: bool = RpcConfig::default().cross_origin,
        /// Where admin_* can be called: off, loopback (if rpc.listen is an address of this machine), on
        admin: AdminAccess = AdminAccess::Loopback,
        /// Bytes of a request
        max_request_bytes: u32 = RpcConfig::default().max_request_bytes,
        /// Bytes of a response; of a batch, of all its responses
        max_response_bytes: u32 = RpcConfig::default().max_response_bytes,
        /// Requests in a batch
        max_batch: usize = RpcConfig::default().max_batch,
        /// Connections of clients; the HTTP one that was idle for longest makes room
        max_connections: u32 = RpcConfig::default().max_connections,
        /// Subscriptions of a WebSocket connection
        max_subscriptions: u32 = RpcConfig::default().max_subscriptions,
        /// Open filters of all clients
        max_filters: usize = RpcConfig::default().max_filters,
        /// After so long without a poll a filter is closed
        filter_lifetime: Duration = RpcConfig::default().filter_lifetime,
        /// Gas of a call
        gas_cap: u64 = RpcConfig::default().gas_cap,
        /// Logs in an answer
        max_logs: usize = RpcConfig::default().max_logs,
        /// Blocks that a search for logs may span
        max_log_blocks: u64 = RpcConfig::default().max_log_blocks,
        /// Storage slots in a request
        max_storage_slots: usize = RpcConfig::default().max_storage_slots,
        /// How long a client may wait for a receipt
        max_receipt_wait: Duration = RpcConfig::default().max_receipt_wait,
    }

    /// Metrics and health.
    "ops" ops: OpsSettings {
        /// Where metrics and health are served
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9_545)),
    }

    /// The log of the process, on standard error.
    "log" log: LogSettings {
        /// How much: error, warn, info, debug, trace
        level: LogLevel = LogLevel::Info,
        /// For people (text) or for programs (json)
        format: LogFormat = LogFormat::Text,
    }

    /// The transactions that wait.
    "pool" pool: PoolSettings {
        /// Transactions in all
        total: usize = PoolLimits::default().total,
        /// Transactions that wait for one before them
        queued: usize = PoolLimits::default().queued,
        /// Transactions of an account
        per_sender: usize = PoolLimits::default().per_sender,
        /// Transactions of an account that has a delegation (EIP-7702)
        per_delegated_sender: usize = PoolLimits::default().per_delegated_sender,
        /// Bytes of all transactions
        bytes: usize = PoolLimits::default().bytes,
        /// Bytes of a transaction
        transaction_bytes: usize = PoolLimits::default().transaction_bytes,
        /// Per cent that a replacement bids more
        price_bump_percent: u8 = PoolLimits::default().price_bump_percent,
    }

    /// Memory for what is read often; it fills by use.
    "cache" cache: CacheSettings {
        /// MiB for nodes of the state trie; with room for new ones it takes up to three times as much
        trie_mib: usize = Caches::default().trie >> 20,
        /// MiB for rows of the database
        views_mib: usize = Caches::default().views >> 20,
    }

    /// Accounts whose keys this node holds unlocked: on a chain for trying things out only.
    "accounts" accounts: AccountSettings {
        /// Words whose first ten accounts clients may send from without a key
        mnemonic: Option<String> = None,
    }

    /// The blocks that this node makes.
    "miner" miner: MinerSettings {
        /// Threads that search for work; without it one for each core
        threads: Option<usize> = None,
        /// Who gets fees and subsidies; without it the validator
        beneficiary: Option<Address> = None,
        /// extraData of its blocks: at most 32 bytes, as text or in hex
        extra_data: ExtraData = ExtraData::default(),
    }
}

impl RpcSettings {
    /// As the server takes them.
    pub fn limits(&self) -> RpcConfig {
        RpcConfig {
            cross_origin: self.cross_origin,
            admin: match self.admin {
                AdminAccess::Off => Admin::Off,
                AdminAccess::Loopback => Admin::Loopback,
                AdminAccess::On => Admin::On,
            },
            max_request_bytes: self.max_request_bytes,
            max_response_bytes: self.max_response_bytes,
            max_batch: self.max_batch,
            max_connections: self.max_connections,
            max_subscriptions: self.max_subscriptions,
            max_filters: self.max_filters,
            filter_lifetime: self.filter_lifetime,
            gas_cap: self.gas_cap,
            max_logs: self.max_logs,
            max_log_blocks: self.max_log_blocks,
            max_storage_slots: self.max_storage_slots,
            max_receipt_wait: self.max_receipt_wait,
            ..RpcConfig::default()
        }
    }
}

impl CacheSettings {
    /// As the chain takes them.
    pub fn sizes(&self) -> Caches {
        Caches { trie: self.trie_mib << 20, views: self.views_mib << 20 }
    }
}

impl PoolSettings {
    /// As the pool takes them.
    pub fn limits(&self) -> PoolLimits {
        PoolLimits {
            total: self.total,
            queued: self.queued,
            per_sender: self.per_sender,
            per_delegated_sender: self.per_delegated_sender,
            bytes: self.bytes,
            transaction_bytes: self.transaction_bytes,
            price_bump_percent: self.price_bump_percent,
        }
    }
}
