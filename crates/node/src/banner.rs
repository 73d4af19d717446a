//! What `landfall dev` prints at its start, in anvil's order: scripts and people look for the
//! accounts and for the last line.

use crate::keys::Key;
use alloy_primitives::U256;
use alloy_primitives::utils::format_ether;
use serde_json::json;
use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

const LOGO: &str = r"
  _                    _  __       _ _
 | |    __ _ _ __   __| |/ _| __ _| | |
 | |   / _` | '_ \ / _` | |_ / _` | | |
 | |__| (_| | | | | (_| |  _| (_| | | |
 |_____\__,_|_| |_|\__,_|_|  \__,_|_|_|   落地
";

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit that it was built from, if the build said so.
pub const COMMIT: Option<&str> = option_env!("LANDFALL_COMMIT");

/// Everything that the banner tells.
pub struct Banner<'a> {
    /// Accounts with their balances in wei.
    pub accounts: &'a [(Key, U256)],
    /// The words that the keys come from.
    pub mnemonic: &'a str,
    /// Where under the mnemonic.
    pub derivation_path: &'a str,
    /// EIP-155.
    pub chain_id: u64,
    /// Of the next block, in wei.
    pub base_fee: u64,
    /// Of a block.
    pub gas_limit: u64,
    /// Seconds since the Unix epoch.
    pub genesis_timestamp: u64,
    /// The number of block 0, usually 0.
    pub genesis_number: u64,
    /// Where the chain is kept, or that it is not.
    pub data_directory: String,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl Banner<'_> {
    /// The same for programs, in the form of anvil's `--config-out`.
    pub fn json(&self) -> serde_json::Value {
        let addresses: Vec<_> = self.accounts.iter().map(|(key, _)| key.address).collect();
        let keys: Vec<_> = self.accounts.iter().map(|(key, _)| key.secret).collect();
        json!({
            "available_accounts": addresses,
            "private_keys": keys,
            "wallet": { "mnemonic": self.mnemonic, "derivation_path": self.derivation_path },
            "chain_id": self.chain_id,
            "base_fee": self.base_fee.to_string(),
            "gas_limit": self.gas_limit.to_string(),
            "genesis_timestamp": self.genesis_timestamp.to_string(),
            "genesis_number": self.genesis_number.to_string(),
            "data_directory": self.data_directory,
            "rpc": format!("http://{}", self.address),
        })
    }
}

impl Display for Banner<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{LOGO}\n    {VERSION} ({})\n", COMMIT.unwrap_or("unknown commit"))?;
        heading(f, "Available Accounts")?;
        for (index, (key, balance)) in self.accounts.iter().enumerate() {
            writeln!(f, "({index}) {} ({} ETH)", key.address, format_ether(*balance))?;
        }
        writeln!(f)?;
        heading(f, "Private Keys")?;
        for (index, (key, _)) in self.accounts.iter().enumerate() {
            writeln!(f, "({index}) {}", key.secret)?;
        }
        writeln!(f)?;
        heading(f, "Wallet")?;
        writeln!(f, "Mnemonic:          {}", self.mnemonic)?;
        writeln!(f, "Derivation path:   {}\n", self.derivation_path)?;
        let numbers = [
            ("Chain ID", self.chain_id),
            ("Base Fee", self.base_fee),
            ("Gas Limit", self.gas_limit),
            ("Genesis Timestamp", self.genesis_timestamp),
            ("Genesis Number", self.genesis_number),
        ];
        for (name, number) in numbers {
            heading(f, name)?;
            writeln!(f, "{number}\n")?;
        }
        heading(f, "Data Directory")?;
        writeln!(f, "{}\n", self.data_directory)?;
        writeln!(f, "Listening on {}", self.address)
    }
}

fn heading(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    writeln!(f, "{name}\n==================\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn banner_has_the_order_of_anvil() {
        let ring = keys::keyring(keys::TEST_MNEMONIC, keys::DERIVATION_PATH, 2).unwrap();
        let accounts: Vec<(Key, U256)> =
            keys::keys(&ring).into_iter().map(|key| (key, U256::from(10u128.pow(22)))).collect();
        let banner = Banner {
            accounts: &accounts,
            mnemonic: keys::TEST_MNEMONIC,
            derivation_path: keys::DERIVATION_PATH,
            chain_id: 31_337,
            base_fee: 1,
            gas_limit: 2,
            genesis_timestamp: 3,
            genesis_number: 0,
            data_directory: "temporary".into(),
            address: "127.0.0.1:8545".parse().unwrap(),
        };
        let text = banner.to_string();
        let order = [
            VERSION,
            "Available Accounts",
            "(0) 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 (10000.000000000000000000 ETH)",
            "(1) 0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "Private Keys",
            "(0) 0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
            "Mnemonic:          test test",
            "Derivation path:   m/44'/60'/0'/0/",
            "Chain ID",
            "Base Fee",
            "Gas Limit",
            "Genesis Timestamp",
            "Genesis Number",
            "Data Directory",
            "Listening on 127.0.0.1:8545",
        ];
        let mut rest = text.as_str();
        for part in order {
            let (_, behind) = rest.split_once(part).unwrap_or_else(|| panic!("{part} in {text}"));
            rest = behind;
        }
        assert_eq!(banner.json()["available_accounts"].as_array().unwrap().len(), 2);
    }
}
