//! The controls of a development chain: each is a task for the sealer, or a switch.

use crate::clock::wall;
use crate::host::Host;
use crate::sealer::Trouble;
use alloy_primitives::{Address, B256, TxHash};
use landfall_rpc::{Answer, ControlError, Controls, Patch};
use std::sync::atomic::Ordering::Relaxed;

impl Controls for Host {
    fn snapshot(&self) -> Answer<'_, Result<u64, ControlError>> {
        self.ask(|sealer| sealer.snapshot())
    }

    fn revert(&self, snapshot: u64) -> Answer<'_, Result<bool, ControlError>> {
        self.ask(move |sealer| sealer.revert(snapshot))
    }

    fn mine(
        &self,
        blocks: u64,
        interval: Option<u64>,
        timestamp: Option<u64>,
    ) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| sealer.mine(blocks, interval, timestamp))
    }

    fn increase_time(&self, seconds: u64) -> Answer<'_, Result<i64, ControlError>> {
        self.ask(move |sealer| {
            sealer.clock.advance(seconds.saturating_mul(1_000));
            Ok(sealer.clock.offset() / 1_000)
        })
    }

    fn set_next_block_timestamp(&self, timestamp: u64) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| sealer.set_next_block_timestamp(timestamp))
    }

    fn set_time(&self, timestamp: u64) -> Answer<'_, Result<i64, ControlError>> {
        self.ask(move |sealer| sealer.set_time(timestamp))
    }

    fn set_automine(&self, on: bool) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| {
            sealer.set_automine(on);
            Ok(())
        })
    }

    fn automine(&self) -> bool {
        self.switches.automine.load(Relaxed)
    }

    fn set_interval_mining(&self, milliseconds: u64) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| {
            sealer.set_interval(milliseconds);
            Ok(())
        })
    }

    fn interval_mining(&self) -> Option<u64> {
        Some(self.switches.interval.load(Relaxed)).filter(|interval| *interval > 0)
    }

    fn patch(&self, patch: Patch) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| sealer.patch(patch))
    }

    fn impersonate(&self, address: Address, on: bool) {
        let mut impersonated = self.switches.impersonated.write();
        if on {
            impersonated.insert(address);
        } else {
            impersonated.remove(&address);
        }
    }

    fn auto_impersonate(&self, on: bool) {
        self.switches.impersonate_all.store(on, Relaxed);
    }

    fn is_impersonated(&self, address: Address) -> bool {
        self.switches.impersonate_all.load(Relaxed)
            || self.switches.impersonated.read().contains(&address)
    }

    fn reset(&self) -> Answer<'_, Result<(), ControlError>> {
        self.ask(|sealer| sealer.reset())
    }

    fn drop_transaction(&self, hash: TxHash) -> Answer<'_, Result<bool, ControlError>> {
        let dropped = self.shared.mempool.pool.lock().remove(&hash).is_some();
        Box::pin(async move { Ok(dropped) })
    }

    fn set_coinbase(&self, address: Address) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| {
            sealer.replica().set_beneficiary(address);
            Ok(())
        })
    }

    fn set_block_gas_limit(&self, gas: u64) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| sealer.set_gas_limit(gas))
    }

    fn set_next_block_base_fee(&self, fee: u64) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| {
            let next = sealer.next_base_fee();
            if fee == next {
                return Ok(());
            }
            Err(Trouble::refused(format!(
                "the base fee of the next block follows from its parent (EIP-1559) and is {next}; \
                 every block of this chain must pass its own import, so it cannot be set to {fee}. \
                 Start the chain with --base-fee instead"
            )))
        })
    }

    fn set_prev_randao(&self, value: B256) -> Answer<'_, Result<(), ControlError>> {
        self.ask(move |sealer| {
            sealer.replica().set_prev_randao(value);
            Ok(())
        })
    }
}

impl crate::sealer::Sealer {
    fn set_time(&mut self, timestamp: u64) -> Result<i64, Trouble> {
        let milliseconds = crate::sealer::milliseconds(timestamp)?;
        let (now, wall) = (self.clock.now(wall()), wall());
        self.clock = crate::clock::Clock::showing(milliseconds, wall);
        Ok((i128::from(milliseconds) - i128::from(now)).div_euclid(1_000) as i64)
    }
}
