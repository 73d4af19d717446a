//! What is checked when a history is over: every final block once more on a fresh chain, the
//! money, the work; and, where forks are expected, that the liars can be named.

use crate::checker::{Broken, Checker};
use crate::class::Class;
use crate::clock::EPOCH;
use crate::host::{Machine, open_chain};
use crate::report::Stats;
use crate::scenario::{FIRST_DIFFICULTY, SUBSIDY, Setup};
use crate::transactions;
use crate::world::Slot;
use alloy_primitives::{Address, U256};
use landfall_chain::store::{MemoryViews, TestDisk};
use landfall_chain::{ChainReader, StoredBlock};
use landfall_consensus::{Archive, Evidence};
use landfall_types::{Extension, Kind, NodeId, StateReader, Weight};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Final heights after which a transaction must have come in.
const TRANSACTIONS_WITHIN: u64 = 20;
/// A difficulty may be off the exact one by a hundredth: the exact one is a power of two with a
/// fraction, and whole numbers are small here.
const TOLERANCE: f64 = 0.03;

impl Checker {
    /// The end of a history that broke nothing so far.
    pub fn audit(
        &mut self,
        slots: &[Slot],
        setup: &Setup,
        stats: &mut Stats,
    ) -> Result<(), Broken> {
        stats.epochs += self.epochs_begun().saturating_sub(1) as u64;
        if setup.is_third() {
            return self.forensics(setup, stats);
        }
        let honest = slots.iter().filter(|it| it.liar.is_none());
        let hosts: Vec<_> = honest.filter_map(|it| it.host.as_ref()).collect();
        let Some(first) = hosts.first() else { return Err(("L3", "no node runs".into())) };
        let top = hosts.iter().map(|host| host.finalized().0).min().expect("there is a host");
        let (mut blocks, reader) = (Vec::new(), first.reader());
        for height in 1..=top {
            let stored = reader.block_at(height).map_err(|e| ("S3", e.to_string()))?;
            let stored = stored.ok_or_else(|| ("S3", format!("block {height} is missing")))?;
            for host in &hosts {
                let other = host.reader().hash_at(height).map_err(|e| ("S1", e.to_string()))?;
                if other != Some(stored.block.hash()) {
                    return Err(("S1", format!("nodes differ at height {height} at the end")));
                }
            }
            blocks.push(stored);
        }
        stats.heights += top;
        let reader = execute_again(&blocks, setup, slots)?;
        check_transactions(&blocks, stats)?;
        self.check_turns(&blocks, &slots[0].signer)?;
        let with_work = setup.schedule.terms()[0].params.kind() == Kind::Pow;
        if with_work {
            check_difficulty(&blocks, setup)?;
        }
        check_supply(&blocks, &reader, setup, with_work)
    }

    /// After a fork: do the transcripts of the honest name a third of the weight?
    fn forensics(&mut self, setup: &Setup, stats: &mut Stats) -> Result<(), Broken> {
        let Some(height) = self.forked else { return Ok(()) };
        stats.forks += 1;
        let mut archive = Archive::new(u64::MAX);
        let mut named: BTreeMap<u64, BTreeSet<NodeId>> = BTreeMap::new();
        let mut items: Vec<Evidence> = Vec::new();
        for vote in &self.transcript {
            items.extend(archive.note(vote));
        }
        for evidence in &items {
            self.accused(evidence, setup)?;
            let (who, epoch) = evidence.accused();
            named.entry(epoch).or_default().insert(who);
        }
        let enough = named.iter().any(|(number, who)| {
            let epoch = self.epoch(*number).expect("evidence was checked with it");
            epoch.committee.weight_of_all(who) >= epoch.committee.honest_minimum()
        });
        stats.evidence += items.len() as u64;
        if !enough {
            let named: Vec<Weight> = named.values().map(|who| Weight(who.len() as u128)).collect();
            return Err(("A1", format!("a fork at height {height}, and {named:?} are named")));
        }
        stats.named += 1;
        Ok(())
    }
}

/// Every block is valid to a node that has nothing but the blocks before.
fn execute_again(
    blocks: &[Arc<StoredBlock>],
    setup: &Setup,
    slots: &[Slot],
) -> Result<ChainReader, Broken> {
    let (disk, views) = (TestDisk::new(0), MemoryViews::default());
    let machine = Machine { disk: &disk, views: &views, signer: &slots[0].signer, id: slots[0].id };
    let mut chain = open_chain(&machine, setup).map_err(|error| ("S4", error))?;
    for stored in blocks {
        let again = chain.import(stored.block.clone());
        if let Err(error) = again {
            return Err(("S4", format!("block {} is invalid: {error}", stored.block.number())));
        }
    }
    if let Some(last) = blocks.last() {
        let hash = last.block.hash();
        let choice = landfall_types::ForkChoice { head: hash, safe: hash, finalized: hash };
        chain.adopt(choice).map_err(|error| ("S4", error.to_string()))?;
    }
    Ok(chain.reader())
}

fn check_transactions(blocks: &[Arc<StoredBlock>], stats: &mut Stats) -> Result<(), Broken> {
    let mut empty = 0;
    for stored in blocks {
        let count = stored.block.body.transactions.len() as u64;
        stats.transactions += count;
        stats.heights_with_transactions += u64::from(count > 0);
        empty = if count == 0 { empty + 1 } else { 0 };
        if empty > TRANSACTIONS_WITHIN {
            let number = stored.block.number();
            return Err(("L2", format!("{empty} blocks without transactions up to {number}")));
        }
    }
    Ok(())
}

/// The difficulty of every block is that of aserti3-2d, computed another way.
fn check_difficulty(blocks: &[Arc<StoredBlock>], setup: &Setup) -> Result<(), Broken> {
    let interval = setup.interval as f64;
    let half_life = interval * 288.0;
    let mut parent_time = EPOCH as f64;
    for stored in blocks {
        let number = stored.block.number();
        let extension = Extension::from_bytes(&stored.block.extension);
        let time = extension.map_err(|e| ("S10", e.to_string()))?.milliseconds as f64;
        let behind = parent_time - EPOCH as f64 - interval * (number - 1) as f64;
        let exact = FIRST_DIFFICULTY as f64 / (behind / half_life).exp2();
        let found = stored.block.header.difficulty.saturating_to::<u64>() as f64;
        // Whole numbers below a hundred are coarser than the tolerance.
        if (found - exact).abs() > exact * TOLERANCE + 1.0 {
            let what = format!("block {number} has difficulty {found}, the rule gives {exact:.1}");
            return Err(("S10", what));
        }
        parent_time = time;
    }
    Ok(())
}

/// No wei comes or goes but by the schedule, which pays for work alone, and the base fee.
fn check_supply(
    blocks: &[Arc<StoredBlock>],
    reader: &ChainReader,
    setup: &Setup,
    with_work: bool,
) -> Result<(), Broken> {
    let mut expected = transactions::genesis_supply();
    let mut owners: BTreeSet<Address> =
        (0..transactions::ACCOUNTS).map(transactions::account).collect();
    owners.extend((0..=setup.nodes).map(crate::keys::node));
    owners.extend(transactions::genesis().alloc.keys());
    for stored in blocks {
        let header = stored.block.header.inner();
        let subsidy = if with_work { SUBSIDY.0 >> (header.number / SUBSIDY.1).min(63) } else { 0 };
        let withdrawals = stored.block.body.withdrawals.iter().flat_map(|list| list.iter());
        let paid: u64 = withdrawals.map(|one| one.amount).sum();
        if paid != subsidy {
            let what = format!("block {} pays {paid} gwei, not {subsidy}", header.number);
            return Err(("supply", what));
        }
        let burnt =
            u128::from(header.gas_used) * u128::from(header.base_fee_per_gas.unwrap_or_default());
        expected =
            expected + U256::from(subsidy) * U256::from(1_000_000_000_u64) - U256::from(burnt);
    }
    let state = reader.latest_state();
    let mut found = U256::ZERO;
    for owner in owners {
        let account = state.account(&owner).map_err(|e| ("supply", e.to_string()))?;
        found += account.map_or(U256::ZERO, |account| account.balance);
    }
    if found == expected {
        Ok(())
    } else {
        Err(("supply", format!("{found} wei are there, {expected} should be")))
    }
}

impl Setup {
    /// Whether so many lie that forks are expected.
    pub(crate) fn is_third(&self) -> bool {
        self.classes.contains(&Class::Twins) && !self.is_safe()
    }
}
