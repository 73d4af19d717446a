//! Before the measurement: senders with money (and tokens), and the signed transactions.

use super::client::{Client, ReceiptSummary};
use super::token;
use crate::failure::Failure;
use crate::keys::Key;
use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, U256, hex, keccak256};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A transfer of value to an account without code.
const VALUE_GAS: u64 = 21_000;
const GWEI: u128 = 1_000_000_000;
/// How long the transactions that set the stage may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the transactions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// Value to fresh addresses.
    Value,
    /// ERC-20 transfers to fresh addresses.
    Erc20,
    /// One of each in turn.
    Mix,
}

impl Workload {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Erc20 => "erc20",
            Self::Mix => "mix",
        }
    }

    fn is_token(self, index: usize) -> bool {
        match self {
            Self::Value => false,
            Self::Erc20 => true,
            Self::Mix => index % 2 == 1,
        }
    }
}

/// What to prepare.
pub struct Order<'a> {
    /// What the transactions do.
    pub workload: Workload,
    /// How many.
    pub transactions: usize,
    /// Who sends; the first funds the others.
    pub keys: &'a [Key],
    /// Makes the recipients fresh: another seed, other addresses.
    pub seed: u64,
    /// The most that a transaction pays per gas, in gwei.
    pub max_fee_gwei: u64,
}

/// A signed transaction, ready to send.
pub struct Signed {
    /// Its hash.
    pub hash: B256,
    /// Its bytes as hexadecimal, as the call wants them.
    pub raw: String,
}

/// Makes the senders able to pay and signs. The transactions are in the order of sending: one of
/// each sender, then the next of each.
pub async fn prepare(client: &Client, order: &Order<'_>) -> Result<Vec<Signed>, Failure> {
    let chain_id = client.call::<U64>("eth_chainId", &[]).await?.to();
    let stage = Stage { client, chain_id, max_fee: u128::from(order.max_fee_gwei) * GWEI };
    let tokens = order.workload != Workload::Value;
    let senders = &order.keys[..order.keys.len().min(order.transactions.max(1))];
    let rounds = order.transactions.div_ceil(senders.len()) as u64;
    stage.fund(senders, rounds, order.workload).await?;
    let token = if tokens { Some(stage.deploy_token(senders, rounds).await?) } else { None };
    let nonces = stage.nonces(senders).await?;
    let plan = |index: usize| {
        let sender = index % senders.len();
        let nonce = nonces[sender] + (index / senders.len()) as u64;
        let to = recipient(order.seed, index);
        let transaction = match token {
            Some(token) if order.workload.is_token(index) => {
                let input = token::transfer(to, U256::ONE);
                stage.transaction(nonce, token.into(), U256::ZERO, input, token::TRANSFER_GAS)
            }
            _ => stage.transaction(nonce, to.into(), U256::ONE, Bytes::new(), VALUE_GAS),
        };
        sign(transaction, &senders[sender])
    };
    Ok(side_by_side(order.transactions, plan))
}

/// Signing is all the work here: as many threads as cores, each a stretch of the order.
fn side_by_side(count: usize, make: impl Fn(usize) -> Signed + Sync) -> Vec<Signed> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let part = count.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let make = &make;
        let parts: Vec<_> = (0..count)
            .step_by(part)
            .map(|from| {
                scope.spawn(move || (from..count.min(from + part)).map(make).collect::<Vec<_>>())
            })
            .collect();
        parts.into_iter().flat_map(|part| part.join().expect("signing does not panic")).collect()
    })
}

fn sign(transaction: TxEip1559, key: &Key) -> Signed {
    let signature = sign_message(key.secret, transaction.signature_hash())
        .expect("a derived key is a valid secret");
    let signed = transaction.into_signed(signature);
    Signed { hash: *signed.hash(), raw: hex::encode_prefixed(signed.encoded_2718()) }
}

fn recipient(seed: u64, index: usize) -> Address {
    let mut preimage = [0; 16];
    preimage[..8].copy_from_slice(&seed.to_be_bytes());
    preimage[8..].copy_from_slice(&(index as u64).to_be_bytes());
    Address::from_slice(&keccak256(preimage)[12..])
}

struct Stage<'a> {
    client: &'a Client,
    chain_id: u64,
    max_fee: u128,
}

impl Stage<'_> {
    fn transaction(
        &self,
        nonce: u64,
        to: TxKind,
        value: U256,
        input: Bytes,
        gas_limit: u64,
    ) -> TxEip1559 {
        TxEip1559 {
            chain_id: self.chain_id,
            nonce,
            gas_limit,
            max_fee_per_gas: self.max_fee,
            max_priority_fee_per_gas: GWEI.min(self.max_fee),
            to,
            value,
            input,
            ..TxEip1559::default()
        }
    }

    async fn nonces(&self, senders: &[Key]) -> Result<Vec<u64>, Failure> {
        let nonces: Vec<U64> =
            self.client.call_many("eth_getTransactionCount", &of_latest(senders)).await?;
        Ok(nonces.into_iter().map(|nonce| nonce.to()).collect())
    }

    /// Sends from the first key to whoever cannot pay what it is going to send.
    async fn fund(&self, senders: &[Key], rounds: u64, load: Workload) -> Result<(), Failure> {
        let gas = if load == Workload::Value { VALUE_GAS } else { token::TRANSFER_GAS };
        let need = U256::from(self.max_fee) * U256::from(gas * rounds) + U256::from(rounds);
        let balances: Vec<U256> =
            self.client.call_many("eth_getBalance", &of_latest(senders)).await?;
        let poor: Vec<(Address, U256)> = senders
            .iter()
            .zip(&balances)
            .skip(1)
            .filter(|(_, balance)| **balance < need)
            .map(|(key, balance)| (key.address, need - balance))
            .collect();
        let total: U256 = poor.iter().map(|(_, missing)| *missing).sum();
        let fees = U256::from(self.max_fee) * U256::from(VALUE_GAS * poor.len() as u64);
        if balances[0] < total + fees + need {
            let ether = alloy_primitives::utils::format_ether(total + fees + need);
            let first = senders[0].address;
            return Err(Failure::refused(format!(
                "the funding account {first} needs {ether} ETH; give it more (--balance in dev), \
                 choose another --mnemonic, or lower --max-fee-gwei, --transactions or --senders"
            )));
        }
        let mut nonce = self.nonces(&senders[..1]).await?[0];
        let mut signed = Vec::with_capacity(poor.len());
        for (address, missing) in poor {
            let pay = self.transaction(nonce, address.into(), missing, Bytes::new(), VALUE_GAS);
            signed.push(sign(pay, &senders[0]));
            nonce += 1;
        }
        self.settle(&signed).await.map(|_| ())
    }

    async fn deploy_token(&self, senders: &[Key], rounds: u64) -> Result<Address, Failure> {
        let key = &senders[0];
        let mut nonce = self.nonces(&senders[..1]).await?[0];
        let code = token::deployment(U256::ZERO);
        let deploy = self.transaction(nonce, TxKind::Create, U256::ZERO, code, token::DEPLOY_GAS);
        let receipts = self.settle(&[sign(deploy, key)]).await?;
        let address = receipts[0]
            .contract_address
            .ok_or_else(|| Failure::refused("the deployed token has no address in its receipt"))?;
        let mut mints = Vec::new();
        for holders in senders.chunks(token::HOLDERS_AT_ONCE) {
            nonce += 1;
            let holders: Vec<Address> = holders.iter().map(|key| key.address).collect();
            let input = token::mint_each(&holders, U256::from(rounds));
            let mint = self.transaction(nonce, address.into(), U256::ZERO, input, token::MINT_GAS);
            mints.push(sign(mint, key));
        }
        self.settle(&mints).await?;
        Ok(address)
    }

    /// Sends and waits until all are included and successful.
    async fn settle(&self, signed: &[Signed]) -> Result<Vec<ReceiptSummary>, Failure> {
        for part in signed.chunks(200) {
            let raw: Vec<String> = part.iter().map(|signed| signed.raw.clone()).collect();
            for outcome in self.client.send_raw(&raw).await? {
                outcome.map_err(|e| Failure::refused(format!("setting the stage: {e}")))?;
            }
        }
        let asked: Vec<Vec<Value>> =
            signed.iter().map(|signed| vec![Value::from(signed.hash.to_string())]).collect();
        let start = Instant::now();
        loop {
            let receipts: Vec<Option<ReceiptSummary>> =
                self.client.call_many("eth_getTransactionReceipt", &asked).await?;
            if let Some(receipts) = receipts.into_iter().collect::<Option<Vec<_>>>() {
                if receipts.iter().any(|receipt| receipt.status != U64::ONE) {
                    return Err(Failure::refused("setting the stage: a transaction failed"));
                }
                return Ok(receipts);
            }
            if start.elapsed() > PATIENCE {
                return Err(Failure::refused(
                    "setting the stage: the node included no transaction for two minutes; \
                     does it seal blocks?",
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn of_latest(keys: &[Key]) -> Vec<Vec<Value>> {
    keys.iter()
        .map(|key| vec![Value::from(key.address.to_string()), Value::from("latest")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_all_threads_come_back_in_order() {
        for count in [0, 1, 2, 7, 100] {
            let made = side_by_side(count, |index| Signed {
                hash: B256::with_last_byte(index as u8),
                raw: String::new(),
            });
            let order: Vec<u8> = made.iter().map(|signed| signed.hash[31]).collect();
            assert_eq!(order, (0..count as u8).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_seed_has_other_recipients() {
        assert_ne!(recipient(1, 0), recipient(2, 0));
        assert_ne!(recipient(1, 0), recipient(1, 1));
        assert_eq!(recipient(1, 0), recipient(1, 0));
    }
}
