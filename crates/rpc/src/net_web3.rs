//! `net_*`, `web3_*` and `rpc_modules`.

use crate::api::Registry;
use alloy_primitives::{B256, Bytes, U64, keccak256};
use std::collections::BTreeMap;

/// To be called after everything else: `rpc_modules` tells the namespaces that there are.
pub(crate) fn register(registry: &mut Registry) {
    registry.quick("net_version", 0, |api, _| Ok(api.backend.chain.spec().chain_id.to_string()));
    registry.quick("net_listening", 0, |api, _| {
        // A development chain listens to its clients, and tools ask for just that.
        let node = api.backend.node.as_ref();
        Ok(node.is_none_or(|node| !node.identity().addresses.is_empty()))
    });
    registry.quick("net_peerCount", 0, |api, _| {
        Ok(U64::from(api.backend.node.as_ref().map_or(0, |node| node.peers().len())))
    });
    registry.quick("web3_clientVersion", 0, |api, _| Ok(api.config.client_version.clone()));
    registry.quick("web3_sha3", 1, |_, args| {
        let hash: B256 = keccak256(args.required::<Bytes>(0)?);
        Ok(hash)
    });
    let names = registry.module.method_names().chain(["rpc_modules"]);
    let namespaces = names.filter_map(|name| name.split_once('_'));
    let modules: BTreeMap<String, &'static str> =
        namespaces.map(|(namespace, _)| (namespace.to_owned(), "1.0")).collect();
    registry.quick("rpc_modules", 0, move |_, _| Ok(modules.clone()));
}
