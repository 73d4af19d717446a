//! Who this node is and whom it is connected to: `landfall_peers`, and geth's `admin_*`.

use crate::api::{Api, Registry};
use crate::consensus::milliseconds;
use crate::doors::ControlError;
use crate::errors::{Outcome, server_error};
use crate::node_door::{Direction, Identity, NodeDoor, PeerView};
use alloy_primitives::{B256, U64, keccak256};
use landfall_chain::ChainReader;
use serde_json::{Value, json};

pub(crate) fn register(registry: &mut Registry) {
    registry.quick("landfall_peers", 0, |api, _| {
        let peers = api.backend.node.as_ref().map(|node| node.peers()).unwrap_or_default();
        Ok(peers.iter().map(peer).collect::<Vec<_>>())
    });
}

/// The methods that steer the node: only where the configuration allows them.
pub(crate) fn register_admin(registry: &mut Registry) {
    registry.quick("admin_nodeInfo", 0, |api, _| Ok(node_info(api)));
    registry.quick("admin_peers", 0, |api, _| {
        let peers = api.backend.node.as_ref().map(|node| node.peers()).unwrap_or_default();
        Ok(peers.iter().map(geth_peer).collect::<Vec<_>>())
    });
    registry.long("admin_addPeer", 1, |api, args| {
        let address: String = args.required(0)?;
        steer(api, |node| node.add_peer(&address))
    });
    registry.long("admin_removePeer", 1, |api, args| {
        let address: String = args.required(0)?;
        steer(api, |node| node.remove_peer(&address))
    });
    registry.long("admin_setLogLevel", 1, |api, args| {
        let filter: String = args.required(0)?;
        steer(api, |node| node.set_log_filter(&filter).map(|()| true))
    });
}

fn steer(
    api: &Api,
    run: impl FnOnce(&dyn NodeDoor) -> Result<bool, ControlError>,
) -> Outcome<bool> {
    let Some(node) = api.backend.node.as_deref() else {
        return Err(server_error("this node is in no network"));
    };
    run(node).map_err(|error| server_error(error.to_string()))
}

fn peer(view: &PeerView) -> Value {
    json!({
        "id": view.id,
        "key": view.key,
        "peer": view.peer,
        "address": view.address,
        "direction": match view.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        },
        "validator": view.validator,
        "name": view.name,
        "client": view.client,
        "pinned": view.pinned,
        "score": view.score,
        "connectedMs": milliseconds(view.connected),
        "bytesIn": U64::from(view.bytes_in),
        "bytesOut": U64::from(view.bytes_out),
        "messagesIn": U64::from(view.messages_in),
        "messagesOut": U64::from(view.messages_out),
        "finalized": view.finalized.map(|height| U64::from(height.0)),
    })
}

/// Geth's form; `enode` holds the address as our transport writes it.
fn geth_peer(view: &PeerView) -> Value {
    json!({
        "id": node_key_hash(&view.key),
        "name": view.client,
        "enode": view.address,
        "caps": ["landfall/1"],
        "network": {
            "localAddress": "",
            "remoteAddress": view.address,
            "inbound": view.direction == Direction::Inbound,
            "trusted": view.validator,
            "static": view.pinned,
        },
        "protocols": {
            "landfall": { "version": 1, "finalized": view.finalized.map(|height| height.0) },
        },
    })
}

/// Geth names nodes by a hash of their keys.
fn node_key_hash(key: &[u8]) -> String {
    alloy_primitives::hex::encode(keccak256(key))
}

fn node_info(api: &Api) -> Value {
    let chain = &api.backend.chain;
    let identity = api.backend.node.as_ref().map(|node| node.identity());
    let own = identity.as_ref();
    let address = own.and_then(|own| own.addresses.first());
    let (ip, port) = address.map(|address| ip_and_port(address)).unwrap_or_default();
    json!({
        "id": own.map_or(String::new(), |own| node_key_hash(&own.key)),
        "name": api.config.client_version,
        "enode": address.cloned().unwrap_or_default(),
        "enr": "",
        "ip": ip,
        "ports": { "discovery": 0, "listener": port },
        "listenAddr": if ip.is_empty() { String::new() } else { format!("{ip}:{port}") },
        "protocols": { "landfall": protocol(chain, own) },
    })
}

fn protocol(chain: &ChainReader, own: Option<&Identity>) -> Value {
    json!({
        "network": chain.spec().chain_id,
        "genesis": chain.genesis_hash(),
        "head": chain.head().hash(),
        "config": chain.spec().config(),
        "schedule": own.map(|own| own.schedule).unwrap_or(B256::ZERO),
        "validator": own.map(|own| own.id),
        "peer": own.map(|own| own.peer.as_str()),
        "addresses": own.map(|own| own.addresses.as_slice()).unwrap_or_default(),
    })
}

/// The host and the port of `key@host:port`; nothing of anything else.
fn ip_and_port(address: &str) -> (String, u16) {
    let place = address.split_once('@').and_then(|(_, place)| place.rsplit_once(':'));
    let port = place.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    port.map(|(host, port)| (bare(host), port)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_of_an_address_are_found_and_nonsense_has_none() {
        assert_eq!(ip_and_port("02aa@10.0.0.7:30303"), ("10.0.0.7".into(), 30303));
        assert_eq!(ip_and_port("02aa@[::1]:1"), ("::1".into(), 1));
        for nonsense in ["", "@", "10.0.0.7:1", "02aa@10.0.0.7:99999", "02aa@10.0.0.7"] {
            assert_eq!(ip_and_port(nonsense), (String::new(), 0), "{nonsense}");
        }
    }
}
