//! The controls of a development chain under the names that Foundry, Hardhat and Ganache gave
//! them: `evm_*`, `anvil_*`, `hardhat_*`. Registered only where the host has controls.

use crate::api::{Api, Registry};
use crate::arguments::Arguments;
use crate::doors::{Answer, ControlError, Controls, Patch};
use crate::errors::{Outcome, invalid_argument, server_error};
use crate::fees;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use landfall_types::StateReader;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn register(registry: &mut Registry) {
    register_snapshots(registry);
    register_mining(registry);
    register_time(registry);
    register_patches(registry);
    register_senders(registry);
    register_next_block(registry);
    register_pool(registry);
    register_about(registry);
}

/// The second name of a method, by its namespace.
fn also(registry: &mut Registry, names: &[&'static str], existing: &'static str) {
    for name in names {
        registry.alias(name, existing);
    }
}

fn controls(api: &Api) -> &dyn Controls {
    &**api.backend.controls.as_ref().expect("registered only with controls")
}

fn failed(error: ControlError) -> jsonrpsee::types::ErrorObjectOwned {
    server_error(error.0)
}

/// A number in any of the forms that tools send.
fn number(args: &Arguments<'_>, position: usize) -> Outcome<u64> {
    optional_number(args, position)?.ok_or_else(|| {
        crate::errors::invalid_params(format!("missing value for required argument {position}"))
    })
}

fn optional_number(args: &Arguments<'_>, position: usize) -> Outcome<Option<u64>> {
    let value: Option<U256> = args.optional(position)?;
    value
        .map(|value| {
            u64::try_from(value).map_err(|_| invalid_argument(position, "more than 64 bits"))
        })
        .transpose()
}

/// A control without an answer of its own.
fn plain<P, R, F>(registry: &mut Registry, name: &'static str, most: usize, read: R, run: F)
where
    P: Send + 'static,
    R: Fn(&Arguments<'_>) -> Outcome<P> + Clone + Send + Sync + 'static,
    F: for<'a> Fn(&'a dyn Controls, P) -> Answer<'a, Result<(), ControlError>>
        + Clone
        + Send
        + Sync
        + 'static,
{
    registry.waits(name, most, read, move |api: Arc<Api>, decoded| {
        let run = run.clone();
        async move { run(controls(&api), decoded).await.map_err(failed) }
    });
}

fn register_snapshots(registry: &mut Registry) {
    registry.waits(
        "evm_snapshot",
        0,
        |_| Ok(()),
        |api: Arc<Api>, ()| async move {
            controls(&api).snapshot().await.map(U64::from).map_err(failed)
        },
    );
    registry.waits(
        "evm_revert",
        1,
        |args| number(args, 0),
        |api: Arc<Api>, id| async move { controls(&api).revert(id).await.map_err(failed) },
    );
    also(registry, &["anvil_snapshot"], "evm_snapshot");
    also(registry, &["anvil_revert"], "evm_revert");
    // viem always names a fork and leaves its fields null when none is meant.
    let read = |args: &Arguments<'_>| match args.optional::<Value>(0)? {
        Some(options)
            if ["/forking/jsonRpcUrl", "/forking/blockNumber"]
                .into_iter()
                .any(|field| options.pointer(field).is_some_and(|value| !value.is_null())) =>
        {
            Err(server_error("this chain cannot fork another; call without `forking`"))
        }
        _ => Ok(()),
    };
    plain(registry, "anvil_reset", 1, read, |controls, ()| controls.reset());
    also(registry, &["hardhat_reset"], "anvil_reset");
}

#[derive(Deserialize)]
struct MineOptions {
    timestamp: Option<U64>,
    blocks: Option<U64>,
}

/// `evm_mine` takes nothing, a timestamp, or `{timestamp, blocks}`.
fn mine_options(args: &Arguments<'_>) -> Outcome<(u64, Option<u64>)> {
    match args.optional::<Value>(0)? {
        Some(Value::Object(_)) => {
            let options: MineOptions = args.required(0)?;
            let blocks = options.blocks.map_or(1, |blocks| blocks.to());
            Ok((blocks, options.timestamp.map(|timestamp| timestamp.to())))
        }
        _ => Ok((1, optional_number(args, 0)?)),
    }
}

/// Anvil counts an interval in seconds, which may be fractions, and Hardhat in milliseconds, both
/// under one name. From 1,000 on it can only be Hardhat's.
fn interval_milliseconds(args: &Arguments<'_>) -> Outcome<u64> {
    let interval = match args.required::<Value>(0)? {
        Value::Number(number) => number.as_f64().filter(|number| number.is_finite()),
        Value::String(_) => Some(number(args, 0)? as f64),
        _ => None,
    };
    match interval {
        Some(interval) if interval >= 1_000.0 => Ok(interval as u64),
        Some(interval) if interval >= 0.0 => Ok((interval * 1_000.0) as u64),
        _ => Err(invalid_argument(0, "expected a number of seconds")),
    }
}

fn register_mining(registry: &mut Registry) {
    registry.waits("evm_mine", 1, mine_options, |api: Arc<Api>, (blocks, timestamp)| async move {
        controls(&api).mine(blocks, None, timestamp).await.map_err(failed)?;
        Ok("0x0")
    });
    plain(
        registry,
        "anvil_mine",
        2,
        |args| Ok((optional_number(args, 0)?.unwrap_or(1), optional_number(args, 1)?)),
        |controls, (blocks, interval)| controls.mine(blocks, interval, None),
    );
    also(registry, &["hardhat_mine"], "anvil_mine");
    plain(
        registry,
        "evm_setAutomine",
        1,
        |args| args.required::<bool>(0),
        |controls, on| controls.set_automine(on),
    );
    also(registry, &["anvil_setAutomine"], "evm_setAutomine");
    plain(registry, "evm_setIntervalMining", 1, interval_milliseconds, |controls, milliseconds| {
        controls.set_interval_mining(milliseconds)
    });
    also(registry, &["anvil_setIntervalMining"], "evm_setIntervalMining");
    registry.quick("anvil_getAutomine", 0, |api, _| Ok(controls(api).automine()));
    also(registry, &["hardhat_getAutomine"], "anvil_getAutomine");
    registry.quick("anvil_getIntervalMining", 0, |api, _| {
        Ok(controls(api).interval_mining().map(|milliseconds| milliseconds / 1_000))
    });
}

fn register_time(registry: &mut Registry) {
    registry.waits(
        "evm_increaseTime",
        1,
        |args| number(args, 0),
        |api: Arc<Api>, s| async move { controls(&api).increase_time(s).await.map_err(failed) },
    );
    also(registry, &["anvil_increaseTime"], "evm_increaseTime");
    plain(
        registry,
        "evm_setNextBlockTimestamp",
        1,
        |args| number(args, 0),
        |controls, time| controls.set_next_block_timestamp(time),
    );
    also(registry, &["anvil_setNextBlockTimestamp"], "evm_setNextBlockTimestamp");
    registry.waits(
        "evm_setTime",
        1,
        |args| number(args, 0),
        |api: Arc<Api>, time| async move { controls(&api).set_time(time).await.map_err(failed) },
    );
    also(registry, &["anvil_setTime"], "evm_setTime");
}

fn register_patches(registry: &mut Registry) {
    plain(
        registry,
        "anvil_setBalance",
        2,
        |args| Ok(Patch::Balance { address: args.address(0)?, balance: args.required(1)? }),
        |controls, patch| controls.patch(patch),
    );
    also(registry, &["hardhat_setBalance", "evm_setAccountBalance"], "anvil_setBalance");
    plain(
        registry,
        "anvil_setNonce",
        2,
        |args| Ok(Patch::Nonce { address: args.address(0)?, nonce: number(args, 1)? }),
        |controls, patch| controls.patch(patch),
    );
    also(registry, &["hardhat_setNonce", "evm_setAccountNonce"], "anvil_setNonce");
    plain(
        registry,
        "anvil_setCode",
        2,
        |args| Ok(Patch::Code { address: args.address(0)?, code: args.required::<Bytes>(1)? }),
        |controls, patch| controls.patch(patch),
    );
    also(registry, &["hardhat_setCode", "evm_setAccountCode"], "anvil_setCode");
    registry.waits(
        "anvil_setStorageAt",
        3,
        |args| {
            let (address, slot, value) = (args.address(0)?, args.required(1)?, args.required(2)?);
            Ok(Patch::Storage { address, slot, value })
        },
        |api: Arc<Api>, patch| async move {
            controls(&api).patch(patch).await.map_err(failed)?;
            Ok(true)
        },
    );
    also(registry, &["hardhat_setStorageAt", "evm_setAccountStorageAt"], "anvil_setStorageAt");
    registry.waits(
        "anvil_addBalance",
        2,
        |args| Ok((args.address(0)?, args.required::<U256>(1)?)),
        |api: Arc<Api>, (address, more)| async move {
            let found = api.backend.chain.latest_state().account(&address);
            let balance = found.map_err(crate::errors::unreadable)?.unwrap_or_default().balance;
            let Some(balance) = balance.checked_add(more) else {
                return Err(server_error("the balance would exceed 256 bits"));
            };
            let patch = Patch::Balance { address, balance };
            controls(&api).patch(patch).await.map_err(failed)
        },
    );
    also(registry, &["hardhat_addBalance"], "anvil_addBalance");
}

fn register_senders(registry: &mut Registry) {
    registry.quick("anvil_impersonateAccount", 1, |api, args| {
        controls(api).impersonate(args.address(0)?, true);
        Ok(())
    });
    also(registry, &["hardhat_impersonateAccount"], "anvil_impersonateAccount");
    registry.quick("anvil_stopImpersonatingAccount", 1, |api, args| {
        controls(api).impersonate(args.address(0)?, false);
        Ok(())
    });
    also(registry, &["hardhat_stopImpersonatingAccount"], "anvil_stopImpersonatingAccount");
    registry.quick("anvil_autoImpersonateAccount", 1, |api, args| {
        controls(api).auto_impersonate(args.required(0)?);
        Ok(())
    });
    also(registry, &["hardhat_autoImpersonateAccount"], "anvil_autoImpersonateAccount");
}

fn register_next_block(registry: &mut Registry) {
    plain(
        registry,
        "anvil_setCoinbase",
        1,
        |args| args.address(0),
        |controls, address| controls.set_coinbase(address),
    );
    also(registry, &["hardhat_setCoinbase"], "anvil_setCoinbase");
    plain(
        registry,
        "anvil_setNextBlockBaseFeePerGas",
        1,
        |args| number(args, 0),
        |controls, fee| controls.set_next_block_base_fee(fee),
    );
    also(registry, &["hardhat_setNextBlockBaseFeePerGas"], "anvil_setNextBlockBaseFeePerGas");
    plain(
        registry,
        "hardhat_setPrevRandao",
        1,
        |args| Ok(B256::from(args.required::<U256>(0)?)),
        |controls, value| controls.set_prev_randao(value),
    );
    also(registry, &["anvil_setPrevRandao"], "hardhat_setPrevRandao");
    registry.waits(
        "evm_setBlockGasLimit",
        1,
        |args| number(args, 0),
        |api: Arc<Api>, gas| async move {
            controls(&api).set_block_gas_limit(gas).await.map_err(failed)?;
            Ok(true)
        },
    );
    also(registry, &["anvil_setBlockGasLimit"], "evm_setBlockGasLimit");
}

fn register_pool(registry: &mut Registry) {
    registry.waits(
        "hardhat_dropTransaction",
        1,
        |args| args.hash(0),
        |api: Arc<Api>, hash| async move {
            controls(&api).drop_transaction(hash).await.map_err(failed)
        },
    );
    registry.waits(
        "anvil_dropTransaction",
        1,
        |args| args.hash(0),
        |api: Arc<Api>, hash| async move {
            let dropped = controls(&api).drop_transaction(hash).await.map_err(failed)?;
            Ok(dropped.then_some(hash))
        },
    );
    registry.waits(
        "anvil_dropAllTransactions",
        0,
        |_| Ok(()),
        |api: Arc<Api>, ()| async move { drop_where(&api, |_| true).await },
    );
    registry.waits(
        "anvil_removePoolTransactions",
        1,
        |args| args.address(0),
        |api: Arc<Api>, sender| async move { drop_where(&api, move |from| from == sender).await },
    );
}

/// Takes all transactions of some senders out of the pool.
async fn drop_where(api: &Api, chosen: impl Fn(Address) -> bool) -> Outcome<()> {
    let hashes: Vec<B256> = {
        let pool = api.backend.pool.pool().lock();
        let senders = pool.senders().into_iter().filter(|sender| chosen(*sender));
        let all = senders.flat_map(|sender| {
            let content = pool.content_of(&sender);
            content.pending.into_iter().chain(content.queued)
        });
        all.map(|waiting| waiting.hash()).collect()
    };
    for hash in hashes {
        controls(api).drop_transaction(hash).await.map_err(failed)?;
    }
    Ok(())
}

fn register_about(registry: &mut Registry) {
    registry.quick("anvil_nodeInfo", 0, |api, _| {
        let spec = api.backend.chain.spec();
        let head = api.backend.chain.head();
        let header = &head.block.block.header;
        let base_fee = fees::next_base_fee(spec, &head.block).unwrap_or_default();
        let fork = spec.fork_at(header.number, header.timestamp, header.difficulty);
        Ok(json!({
            "currentBlockNumber": U64::from(header.number),
            "currentBlockTimestamp": header.timestamp,
            "currentBlockHash": head.block.block.hash(),
            "hardFork": fork.to_string(),
            "transactionOrder": "fees",
            "environment": {
                "baseFee": U64::from(base_fee),
                "chainId": spec.chain_id,
                "gasLimit": U64::from(header.gas_limit),
                "gasPrice": U256::from(fees::suggested_tip(api)? + u128::from(base_fee)),
            },
            "forkConfig": { "forkUrl": null, "forkBlockNumber": null, "forkRetryBackoff": null },
        }))
    });
    registry.quick("anvil_metadata", 0, |api, _| {
        let head = api.backend.chain.head();
        Ok(json!({
            "clientVersion": api.config.client_version,
            "chainId": api.backend.chain.spec().chain_id,
            "instanceId": api.backend.chain.genesis_hash(),
            "latestBlockNumber": head.block.block.number(),
            "latestBlockHash": head.block.block.hash(),
            "forkedNetwork": null,
            "snapshots": {},
        }))
    });
    also(registry, &["hardhat_metadata"], "anvil_metadata");
    registry.quick("anvil_setLoggingEnabled", 1, |_, args| {
        args.required::<bool>(0)?;
        Ok(())
    });
    also(registry, &["hardhat_setLoggingEnabled"], "anvil_setLoggingEnabled");
    registry.quick("anvil_setMinGasPrice", 1, |_, _| -> Outcome<()> {
        Err(server_error("setMinGasPrice is not supported when EIP-1559 is active"))
    });
    also(registry, &["hardhat_setMinGasPrice"], "anvil_setMinGasPrice");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(json: &str, read: impl Fn(&Arguments<'_>) -> Outcome<T>) -> Option<T> {
        read(&Arguments::from_json(json, 9).unwrap()).ok()
    }

    #[test]
    fn numbers_come_in_every_form_that_tools_send() {
        for json in ["[255]", r#"["0xff"]"#, r#"["255"]"#, r#"["0x00ff"]"#] {
            assert_eq!(read(json, |args| number(args, 0)), Some(255), "{json}");
        }
        for json in ["[-1]", "[1.5]", r#"["x"]"#, "[]", r#"["0x10000000000000000"]"#] {
            assert_eq!(read(json, |args| number(args, 0)), None, "{json}");
        }
    }

    #[test]
    fn intervals_are_seconds_below_a_thousand() {
        for (json, expected) in [
            ("[0]", Some(0)),
            ("[0.25]", Some(250)),
            ("[12]", Some(12_000)),
            (r#"["0x2"]"#, Some(2_000)),
            ("[5000]", Some(5_000)),
            ("[-1]", None),
            ("[true]", None),
        ] {
            assert_eq!(read(json, interval_milliseconds), expected, "{json}");
        }
    }

    #[test]
    fn mine_takes_nothing_a_timestamp_or_options() {
        assert_eq!(read("[]", mine_options), Some((1, None)));
        assert_eq!(read(r#"["0x5"]"#, mine_options), Some((1, Some(5))));
        assert_eq!(read(r#"[{"blocks":3}]"#, mine_options), Some((3, None)));
        let both = r#"[{"blocks":"0x3","timestamp":9}]"#;
        assert_eq!(read(both, mine_options), Some((3, Some(9))));
        assert_eq!(read("[[]]", mine_options), None);
    }
}
