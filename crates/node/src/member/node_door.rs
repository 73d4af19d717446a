//! What the interface shows of consensus and peers: the observer's view and the network's peers.

use super::observer::Observer;
use crate::clock::wall;
use crate::logging::LogHandle;
use crate::ops::metrics;
use alloy_primitives::{B256, Bytes};
use landfall_network::{Network, PeerAddress, PeerKey};
use landfall_rpc::{
    ConsensusView, ControlError, Direction, Identity, NodeDoor, PeerView, RoundTrace,
};
use landfall_types::{Epoch, Height, NodeId, Time};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// See the module.
pub struct MemberDoor {
    observer: Arc<Observer>,
    network: Network,
    key: PeerKey,
    validator: Option<NodeId>,
    schedule: B256,
    logs: LogHandle,
}

impl MemberDoor {
    /// A door to a running node with this node key, the validator that the genesis binds to it, and
    /// the schedule of engines.
    pub fn new(
        observer: Arc<Observer>,
        network: Network,
        key: PeerKey,
        validator: Option<NodeId>,
        schedule: B256,
        logs: LogHandle,
    ) -> Self {
        Self { observer, network, key, validator, schedule, logs }
    }

    fn name_of(&self, id: &NodeId) -> Option<String> {
        self.observer.view().names.get(id).cloned()
    }
}

impl NodeDoor for MemberDoor {
    fn now(&self) -> Time {
        Time(wall())
    }

    fn consensus(&self) -> Arc<ConsensusView> {
        self.observer.view()
    }

    fn epoch_at(&self, height: Height) -> Option<Epoch> {
        self.observer.epoch_at(height)
    }

    fn identity(&self) -> Identity {
        let id = self.observer.view().me;
        let listening = self.network.listening();
        Identity {
            id,
            validator: self.validator,
            name: self.name_of(&self.validator.unwrap_or(id)),
            key: Bytes::copy_from_slice(self.key.as_bytes()),
            peer: self.key.to_string(),
            addresses: vec![format!("{}@{listening}", self.key)],
            schedule: self.schedule,
        }
    }

    fn transactions(&self) -> u64 {
        metrics().chain.transactions.get()
    }

    fn peers(&self) -> Vec<PeerView> {
        let milliseconds = |time: std::time::SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        };
        let epoch = self.observer.view().epoch.clone();
        let view = |peer: landfall_network::PeerInfo| PeerView {
            id: peer.id,
            key: Bytes::copy_from_slice(peer.key.as_bytes()),
            peer: peer.key.to_string(),
            address: match &peer.listening {
                Some(address) => address.to_string(),
                None => format!("{}@{}", peer.key, peer.address),
            },
            direction: match peer.direction {
                landfall_network::Direction::Inbound => Direction::Inbound,
                landfall_network::Direction::Outbound => Direction::Outbound,
            },
            validator: epoch.has_member(&peer.id),
            name: self.name_of(&peer.id),
            client: peer.client,
            pinned: peer.is_static,
            score: peer.score,
            connected: milliseconds(peer.since),
            bytes_in: peer.bytes_in,
            bytes_out: peer.bytes_out,
            messages_in: peer.messages_in,
            messages_out: peer.messages_out,
            finalized: self.observer.claimed_by(&peer.id),
        };
        self.network.peers().into_iter().map(view).collect()
    }

    fn trace(&self, limit: usize) -> Vec<RoundTrace> {
        self.observer.trace(limit)
    }

    fn add_peer(&self, address: &str) -> Result<bool, ControlError> {
        let address: PeerAddress = address.parse().map_err(wrong)?;
        Ok(self.network.add_peer(address))
    }

    fn remove_peer(&self, address: &str) -> Result<bool, ControlError> {
        let key: PeerKey = match address.split_once('@') {
            Some((key, _)) => key.parse().map_err(wrong)?,
            None => address.parse().map_err(wrong)?,
        };
        Ok(self.network.remove_peer(key))
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), ControlError> {
        self.logs.set(filter).map_err(|error| ControlError(error.to_string()))
    }
}

fn wrong(error: landfall_network::KeyError) -> ControlError {
    ControlError(error.to_string())
}
