//! The ERC-20 token of the load: deployed for a run, minted to the senders, transferred by them.

use alloy_primitives::{Address, B256, Bytes, U256, hex, keccak256};
use serde::Deserialize;

/// `contracts/src/BenchToken.sol`, compiled.
const ARTIFACT: &str = include_str!("../../../../contracts/artifacts/BenchToken.json");

/// Holders in one call of `mintEach`: under the cap on a transaction's gas (EIP-7825).
pub const HOLDERS_AT_ONCE: usize = 200;
/// Gas for deploying the token.
pub const DEPLOY_GAS: u64 = 3_000_000;
/// Gas for minting to [`HOLDERS_AT_ONCE`] holders.
pub const MINT_GAS: u64 = 8_000_000;
/// Gas for a transfer to a fresh holder.
pub const TRANSFER_GAS: u64 = 65_000;

#[derive(Deserialize)]
struct Artifact {
    bytecode: String,
}

/// The input of the transaction that deploys the token; the supply goes to its sender.
pub fn deployment(supply: U256) -> Bytes {
    let artifact: Artifact = serde_json::from_str(ARTIFACT).expect("the artifact is well-formed");
    let mut input = hex::decode(artifact.bytecode).expect("bytecode is hexadecimal");
    input.extend_from_slice(&supply.to_be_bytes::<32>());
    input.into()
}

/// `mintEach(address[],uint256)`.
pub fn mint_each(holders: &[Address], value: U256) -> Bytes {
    let mut input = selector("mintEach(address[],uint256)");
    input.extend_from_slice(&U256::from(64).to_be_bytes::<32>());
    input.extend_from_slice(&value.to_be_bytes::<32>());
    input.extend_from_slice(&U256::from(holders.len()).to_be_bytes::<32>());
    for holder in holders {
        input.extend_from_slice(holder.into_word().as_slice());
    }
    input.into()
}

/// `transfer(address,uint256)`.
pub fn transfer(to: Address, value: U256) -> Bytes {
    let mut input = selector("transfer(address,uint256)");
    input.extend_from_slice(B256::from(to.into_word()).as_slice());
    input.extend_from_slice(&value.to_be_bytes::<32>());
    input.into()
}

fn selector(signature: &str) -> Vec<u8> {
    keccak256(signature)[..4].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfer_has_the_known_selector_and_two_words() {
        let input = transfer(Address::repeat_byte(7), U256::from(5));
        assert_eq!(&input[..4], hex!("a9059cbb"));
        assert_eq!(input.len(), 68);
        assert_eq!(input[67], 5);
    }

    #[test]
    fn deployment_ends_in_the_supply() {
        let input = deployment(U256::from(1));
        assert!(input.len() > 1_000);
        assert_eq!(input[input.len() - 1], 1);
    }
}
