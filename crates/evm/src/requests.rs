//! Requests of the execution layer (EIP-7685) at the end of a block.

use crate::{ExecutionError, Invalid, environment::BlockEvm, system};
use alloy_eips::{
    eip6110::DEPOSIT_REQUEST_TYPE, eip7002::WITHDRAWAL_REQUEST_TYPE,
    eip7251::CONSOLIDATION_REQUEST_TYPE, eip7685::Requests,
};
use alloy_primitives::{Address, B256, Bytes, U256, b256};
use landfall_types::Receipt;

/// `keccak("DepositEvent(bytes,bytes,bytes,bytes,bytes)")`.
const DEPOSIT_EVENT: B256 =
    b256!("0x649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
/// Where the ABI puts each field of the event, and its length: public key, withdrawal
/// credentials, amount, signature, index.
const DEPOSIT_FIELDS: [(usize, usize); 5] = [(160, 48), (256, 32), (320, 8), (384, 96), (512, 8)];
const DEPOSIT_EVENT_LENGTH: usize = 576;

/// Collects the requests of a block of Prague or later.
pub(crate) fn collect(
    evm: &mut BlockEvm<'_>,
    deposit_contract: Address,
    receipts: &[Receipt],
) -> Result<Requests, ExecutionError> {
    let mut requests = Requests::with_capacity(3);
    let mut push = |kind: u8, data: Bytes| {
        if !data.is_empty() {
            requests.push_request_with_type(kind, data);
        }
    };
    push(DEPOSIT_REQUEST_TYPE, deposits(deposit_contract, receipts)?);
    push(WITHDRAWAL_REQUEST_TYPE, system::withdrawal_requests(evm)?);
    push(CONSOLIDATION_REQUEST_TYPE, system::consolidation_requests(evm)?);
    Ok(requests)
}

fn deposits(contract: Address, receipts: &[Receipt]) -> Result<Bytes, Invalid> {
    let mut out = Vec::new();
    for log in receipts.iter().flat_map(|r| &r.logs) {
        if log.address == contract && log.topics().first() == Some(&DEPOSIT_EVENT) {
            append_deposit(&log.data.data, &mut out)?;
        }
    }
    Ok(out.into())
}

fn append_deposit(data: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    if data.len() != DEPOSIT_EVENT_LENGTH {
        return Err(Invalid::DepositLayout("wrong length"));
    }
    let word = |at: usize| U256::from_be_slice(&data[at..at + 32]);
    for (index, (offset, length)) in DEPOSIT_FIELDS.into_iter().enumerate() {
        if word(index * 32) != U256::from(offset) {
            return Err(Invalid::DepositLayout("wrong offset"));
        }
        if word(offset) != U256::from(length) {
            return Err(Invalid::DepositLayout("wrong size of a field"));
        }
        out.extend_from_slice(&data[offset + 32..offset + 32 + length]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Vec<u8> {
        let mut data = vec![0; DEPOSIT_EVENT_LENGTH];
        for (index, (offset, length)) in DEPOSIT_FIELDS.into_iter().enumerate() {
            data[index * 32..index * 32 + 32]
                .copy_from_slice(&U256::from(offset).to_be_bytes::<32>());
            data[offset..offset + 32].copy_from_slice(&U256::from(length).to_be_bytes::<32>());
            data[offset + 32..offset + 32 + length].fill(index as u8 + 1);
        }
        data
    }

    #[test]
    fn deposit_is_the_event_without_its_padding() {
        let mut out = Vec::new();
        append_deposit(&event(), &mut out).unwrap();
        let want: Vec<u8> = [(1, 48), (2, 32), (3, 8), (4, 96), (5, 8)]
            .into_iter()
            .flat_map(|(byte, length)| std::iter::repeat_n(byte, length))
            .collect();
        assert_eq!(out, want);
    }

    #[test]
    fn rejects_every_other_layout_of_a_deposit() {
        for at in [31, 191, 287, 351, 415, 543] {
            let mut data = event();
            data[at] ^= 1;
            assert!(append_deposit(&data, &mut Vec::new()).is_err(), "byte {at}");
        }
        assert!(append_deposit(&event()[..575], &mut Vec::new()).is_err());
    }
}
