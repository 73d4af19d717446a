//! The errors of the interface, with geth's codes and words: clients match on both.

use alloy_primitives::{Bytes, U256, hex};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::types::error::{OVERSIZED_RESPONSE_CODE, OVERSIZED_RESPONSE_MSG};
use landfall_chain::{ProofError, pool::PoolError};
use landfall_types::StateError;

/// The outcome of a method.
pub type Outcome<T> = Result<T, ErrorObjectOwned>;

/// Malformed parameters.
pub const INVALID_PARAMS: i32 = -32602;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// A fault of the node, not of the request.
pub const INTERNAL: i32 = -32603;
/// Everything else that geth answers without a code of its own.
pub const SERVER: i32 = -32000;
/// Execution reverted; `data` holds what the contract returned.
pub const REVERTED: i32 = 3;
/// A transaction was sent, but its receipt did not come in time (EIP-7966).
pub const TIMEOUT: i32 = 4;

/// `-32602` with a message.
pub fn invalid_params(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, message.into(), None::<()>)
}

/// `-32602 invalid argument N: reason`, as geth words it.
pub fn invalid_argument(position: usize, reason: impl std::fmt::Display) -> ErrorObjectOwned {
    invalid_params(format!("invalid argument {position}: {reason}"))
}

/// `-32000` with a message.
pub fn server_error(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER, message.into(), None::<()>)
}

/// A fault of the node that is told in its own words.
pub fn internal(error: impl std::fmt::Display) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INTERNAL, error.to_string(), None::<()>)
}

/// The answer has more bytes than one may have; in the library's words.
pub fn too_long(most: usize) -> ErrorObjectOwned {
    let data = format!("Exceeded max limit of {most}");
    ErrorObjectOwned::owned(OVERSIZED_RESPONSE_CODE, OVERSIZED_RESPONSE_MSG, Some(data))
}

/// The connection was cut off; nobody reads this.
pub fn cut_off() -> ErrorObjectOwned {
    server_error("the connection was cut off")
}

/// A block that a state is asked of does not exist.
pub fn header_not_found() -> ErrorObjectOwned {
    server_error("header not found")
}

/// The method exists for development chains only, or not at all.
pub fn method_not_found(method: &str) -> ErrorObjectOwned {
    let message = format!("the method {method} does not exist/is not available");
    ErrorObjectOwned::owned(METHOD_NOT_FOUND, message, None::<()>)
}

/// The ledger or the state could not be read: the node's fault.
pub fn unreadable(error: StateError) -> ErrorObjectOwned {
    tracing::error!(%error, "a request could not be answered");
    internal(error)
}

/// What the pool says about a refused transaction; its words are geth's already.
pub fn refused(error: PoolError) -> ErrorObjectOwned {
    match error {
        PoolError::State(error) => unreadable(error),
        other => server_error(other.to_string()),
    }
}

/// A proof that cannot be made.
pub fn no_proof(error: ProofError) -> ErrorObjectOwned {
    server_error(error.to_string())
}

/// Code 3 with the reason in the message, if the data holds one, and the data itself.
pub fn reverted(output: &Bytes) -> ErrorObjectOwned {
    let message = match revert_reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED, message, Some(hex::encode_prefixed(output)))
}

/// Decodes Solidity's `Error(string)` and `Panic(uint256)`.
pub fn revert_reason(output: &[u8]) -> Option<String> {
    let (selector, body) = output.split_at_checked(4)?;
    match selector {
        [0x08, 0xc3, 0x79, 0xa0] => {
            let offset = word_at(body, 0)?;
            let length = word_at(body, offset)?;
            let start = offset.checked_add(32)?;
            let text = body.get(start..start.checked_add(length)?)?;
            Some(String::from_utf8_lossy(text).into_owned())
        }
        [0x4e, 0x48, 0x7b, 0x71] => {
            let code = U256::from_be_slice(body.get(..32)?);
            Some(match panic_words(u64::try_from(code).ok()) {
                Some(words) => words.to_owned(),
                None => format!("unknown panic code: {code:#x}"),
            })
        }
        _ => None,
    }
}

fn word_at(body: &[u8], offset: usize) -> Option<usize> {
    let word = body.get(offset..offset.checked_add(32)?)?;
    usize::try_from(U256::from_be_slice(word)).ok()
}

fn panic_words(code: Option<u64>) -> Option<&'static str> {
    Some(match code? {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revert_reasons_are_decoded_and_nonsense_is_not() {
        let user = hex!(
            "08c379a0"
            "0000000000000000000000000000000000000000000000000000000000000020"
            "000000000000000000000000000000000000000000000000000000000000000a"
            "75736572206572726f72"
        );
        assert_eq!(revert_reason(&user).as_deref(), Some("user error"));
        let mut panic = hex!("4e487b71").to_vec();
        panic.extend([0; 31]);
        panic.push(0x11);
        assert_eq!(revert_reason(&panic).as_deref(), Some("arithmetic underflow or overflow"));
        for end in 0..user.len() {
            assert_eq!(revert_reason(&user[..end]), None, "{end} bytes had a reason");
        }
        let mut huge = user.to_vec();
        huge[4..36].fill(0xff);
        assert_eq!(revert_reason(&huge), None);
    }
}
